//! `GET /connections` and `DELETE /connections/{id}`: who is connected, for operators; and how to be rid of one, for
//! administrators.

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use newswire_core::{ConnId, ConnectionInfo, Filter, Principal, Role, SubscriptionInfo, Variant};
use newswire_protocol::json::write_string;
use newswire_protocol::limits::MAX_OFFSET;

use super::problem::Problem;
use super::{Caller, Segment, json_response, next_json, page_limit, read_query, segment};
use crate::connections::Visitor;
use crate::{Feed, audit};

/// A page of the connections, by id, which is the order in which they came.
pub(super) async fn list(State(feed): State<Feed>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    caller.0.require(Role::Operator)?;
    let query = read_query(&uri)?;
    let after = query.after.unwrap_or(0);
    let limit = page_limit(&query)?;
    // Thousands of connections take a while to look at: not on a thread that others wait for.
    let body = tokio::task::spawn_blocking(move || page(&feed, &caller.0, after, limit)).await;
    Ok(json_response(body.map_err(|_| Problem::unavailable("the connections could not be listed"))?))
}

/// Closes one connection: a WebSocket with 4003, an event stream by its end.
pub(super) async fn kick(State(feed): State<Feed>, caller: Caller, id: Segment) -> Result<Response, Problem> {
    caller.0.require(Role::Admin)?;
    let Ok(id @ 0..=MAX_OFFSET) = segment(id)?.parse::<u64>() else {
        return Err(Problem::bad_request("the id of a connection is a whole number"));
    };
    let connection = || feed.inner.shards.iter().find_map(|shard| shard.hub.lock().connection(ConnId(id)));
    // Who may not be told of a connection is told that there is none.
    let is_told = sees_all(&caller.0) || connection().is_some_and(|one| one.principal == caller.0.id);
    if !is_told || !feed.inner.connections.kick(ConnId(id)) {
        return Err(Problem::not_found(format!("there is no connection {id}")));
    }
    audit::administered(&caller.0, "close a connection");
    tracing::info!(connection = id, by = %caller.0.id, "a connection is closed by an administrator");
    Ok(json_response(format!("{{\"data\":{{\"id\":{id},\"closed\":true}}}}").into_bytes()))
}

/// What others were sent, and ask for by their filters, is of events that somebody else may not see, who is told of their own
/// connections only.
fn sees_all(caller: &Principal) -> bool {
    caller.sees_all_rows() && caller.variant == Variant::Full
}

fn page(feed: &Feed, caller: &Principal, after: u64, limit: usize) -> Vec<u8> {
    let visitors = feed.inner.connections.visitors();
    let mut connections: Vec<ConnectionInfo> =
        feed.inner.shards.iter().flat_map(|shard| shard.hub.lock().connections()).collect();
    connections.retain(|connection| connection.id.0 > after && visitors.contains_key(&connection.id));
    if !sees_all(caller) {
        connections.retain(|connection| connection.principal == caller.id);
    }
    connections.sort_unstable_by_key(|connection| connection.id);
    let next = (connections.len() > limit).then(|| connections[limit - 1].id.0);
    connections.truncate(limit);
    let mut body = b"{\"data\":[".to_vec();
    for (place, connection) in connections.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        write_connection(&mut body, connection, &visitors[&connection.id]);
    }
    let next = next_json(next);
    body.extend_from_slice(format!("],\"next\":{next}}}").as_bytes());
    body
}

fn write_connection(body: &mut Vec<u8>, connection: &ConnectionInfo, visitor: &Visitor) {
    body.extend_from_slice(
        format!("{{\"id\":{},\"kind\":\"{}\"", connection.id.0, visitor.peer.kind).as_bytes(),
    );
    body.extend_from_slice(b",\"identity\":");
    write_string(body, &connection.principal);
    body.extend_from_slice(b",\"address\":");
    match visitor.peer.address {
        Some(address) => write_string(body, &address.to_string()),
        None => body.extend_from_slice(b"null"),
    }
    let ConnectionInfo { lagging, last_sent, lag, queued_bytes, dropped, .. } = connection;
    let figures = format!(
        ",\"since\":\"{}\",\"last_offset\":{last_sent},\"lagging\":{lagging},\"lag\":{lag},\
         \"queued_bytes\":{queued_bytes},\"dropped\":{dropped},\"subscriptions\":[",
        visitor.since
    );
    body.extend_from_slice(figures.as_bytes());
    for (place, subscription) in connection.subscriptions.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        write_subscription(body, subscription);
    }
    body.extend_from_slice(b"]}");
}

fn write_subscription(body: &mut Vec<u8>, subscription: &SubscriptionInfo) {
    body.extend_from_slice(b"{\"channel\":");
    write_string(body, &subscription.pattern.to_string());
    if let Some(sub) = &subscription.sub {
        body.extend_from_slice(b",\"sub\":");
        write_string(body, sub);
    }
    body.extend_from_slice(b",\"filters\":");
    write_filter(body, &subscription.filter);
    let state: &[u8] =
        if subscription.replaying { b",\"state\":\"replay\"}" } else { b",\"state\":\"live\"}" };
    body.extend_from_slice(state);
}

/// As a subscribe would write it; every key with a list.
fn write_filter(body: &mut Vec<u8>, filter: &Filter) {
    body.push(b'{');
    for (place, clause) in filter.clauses().iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        write_string(body, clause.key.name());
        body.extend_from_slice(b":[");
        let mut separate = false;
        let mut separator = |body: &mut Vec<u8>| {
            if std::mem::replace(&mut separate, true) {
                body.push(b',');
            }
        };
        for value in &clause.values {
            separator(body);
            value.write(body);
        }
        for prefix in &clause.prefixes {
            separator(body);
            write_string(body, &format!("{prefix}*"));
        }
        body.push(b']');
    }
    body.push(b'}');
}
