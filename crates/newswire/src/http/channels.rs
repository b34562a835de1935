//! `GET /channels`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use newswire_core::{Action, ChannelPattern, ConnId, Principal, RowRule};
use serde_json::{Value, json};

use super::Caller;
use super::problem::Problem;
use crate::Feed;

/// Every channel declared or ever used that the caller may subscribe or read, sorted by name.
pub(super) async fn channels(State(feed): State<Feed>, caller: Caller) -> Result<Json<Value>, Problem> {
    // Thousands of channels and subscriptions take a while to count: not on a thread that others wait for.
    let listed = tokio::task::spawn_blocking(move || list(&feed, &caller.0)).await;
    let data = listed.map_err(|_| Problem::unavailable("the channels could not be counted"))?;
    Ok(Json(json!({ "data": data })))
}

fn list(feed: &Feed, caller: &Principal) -> Vec<Value> {
    let mut stored: BTreeMap<String, _> =
        feed.log().channel_stats().into_iter().map(|stats| (stats.name.to_string(), Some(stats))).collect();
    for declared in &feed.settings().channels {
        stored.entry(declared.clone()).or_insert(None);
    }
    let sees_all_rows = caller.row_rule == RowRule::AlwaysTrue;
    let is_named = |name: &str| {
        let may = [Action::Subscribe, Action::History].into_iter().any(|action| caller.may(action, name));
        // That an undeclared one is there tells of an event in it.
        may && (sees_all_rows || feed.inner.channels.is_declared(name))
    };
    stored.retain(|name, _| is_named(name));
    let interests = feed.inner.shards.iter().map(|shard| shard.hub.lock().interests());
    let interests = Interests::of(interests.flatten().collect());
    let describe = |(name, stats): (String, Option<newswire_log::ChannelStats>)| {
        if !sees_all_rows || !caller.may(Action::History, &name) {
            // What was counted are events that the caller may not see, and who else waits for them.
            return json!({
                "channel": name, "first_offset": null, "last_offset": null, "events": null, "subscribers": null,
            });
        }
        let stats = stats.filter(|stats| stats.events > 0);
        json!({
            "channel": name,
            "first_offset": stats.as_ref().map(|stats| stats.first),
            "last_offset": stats.as_ref().map(|stats| stats.last),
            "events": stats.as_ref().map_or(0, |stats| stats.events),
            "subscribers": interests.subscribers(&name),
        })
    };
    stored.into_iter().map(describe).collect()
}

/// Connections by what they subscribed.
#[derive(Default)]
struct Interests {
    exact: HashMap<Arc<str>, HashSet<ConnId>>,
    prefixes: HashMap<Arc<str>, HashSet<ConnId>>,
}

impl Interests {
    fn of(interests: Vec<(ConnId, ChannelPattern)>) -> Self {
        let mut by_pattern = Self::default();
        for (connection, pattern) in interests {
            let connections = match pattern {
                ChannelPattern::Exact(name) => by_pattern.exact.entry(name),
                ChannelPattern::Prefix(prefix) => by_pattern.prefixes.entry(prefix),
            };
            connections.or_default().insert(connection);
        }
        by_pattern
    }

    /// Connections with an interest in the channel, each counted once.
    fn subscribers(&self, channel: &str) -> usize {
        let beginnings = (0..=channel.len()).filter_map(|end| channel.get(..end));
        let by_prefix = beginnings.filter_map(|beginning| self.prefixes.get(beginning));
        let mut interested: Vec<&HashSet<ConnId>> = by_prefix.chain(self.exact.get(channel)).collect();
        match interested.pop() {
            None => 0,
            Some(only) if interested.is_empty() => only.len(),
            Some(last) => interested.into_iter().chain([last]).flatten().collect::<HashSet<_>>().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_counts_once() {
        let interests = [(1, "tasks"), (1, "t*"), (2, "*"), (3, "task*"), (4, "agents")];
        let interests = Interests::of(
            interests
                .into_iter()
                .map(|(id, pattern)| (ConnId(id), ChannelPattern::parse(pattern).unwrap()))
                .collect(),
        );
        assert_eq!(interests.subscribers("tasks"), 3);
        assert_eq!(interests.subscribers("agents"), 2);
        assert_eq!(interests.subscribers("budget"), 1);
        assert_eq!(Interests::default().subscribers("tasks"), 0);
    }
}
