//! `POST /auth/ws-ticket`, `POST /auth/sign-out` and `POST /admin/revoke`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use newswire_core::Role;
use newswire_protocol::json::write_string;
use newswire_protocol::{ErrorCode, Refusal, UnixMicros};
use serde_json::Value;
use uuid::Uuid;

use super::problem::Problem;
use super::{Caller, admin, identify, json_response};
use crate::auth::{Identity, IssuedTicket, Revocation};
use crate::{AuthError, Feed, audit};

/// Longest identity or token id that can be revoked, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// After which a pending ticket makes room, at the latest.
const TICKET_WAIT: Duration = Duration::from_secs(30);
/// What tickets of an open server say: nobody asks for them, but clients that know no open servers want one.
const OPEN_SECONDS: u64 = 30;

/// A ticket for one connection of whoever asks.
pub(super) async fn ticket(
    State(feed): State<Feed>,
    caller: Caller,
    identity: Option<Extension<Identity>>,
) -> Result<Response, Problem> {
    let IssuedTicket { ticket, expires_in } = match feed.authenticator() {
        Some(authenticator) => {
            let identity = identity.map_or_else(|| Identity::of(caller.0), |identity| identity.0);
            let issued = authenticator.issue_ticket(&identity).await?;
            // Whoever shows it is let in, whatever others do at the same address.
            feed.inner.failures.is_good(&issued.ticket);
            issued
        }
        None => IssuedTicket { ticket: format!("open-{}", Uuid::new_v4()), expires_in: OPEN_SECONDS },
    };
    let mut body = b"{\"data\":{\"ticket\":".to_vec();
    write_string(&mut body, &ticket);
    body.extend_from_slice(format!(",\"expires_in\":{expires_in}}}}}").as_bytes());
    let mut response = json_response(body);
    let no_store = http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(http::header::CACHE_CONTROL, no_store);
    Ok(response)
}

/// Ends the session that the request came with, and all that stands on it.
pub(super) async fn sign_out(
    State(feed): State<Feed>,
    caller: Caller,
    identity: Option<Extension<Identity>>,
) -> Result<Response, Problem> {
    let authenticator = identify::required(&feed)?;
    let identity = identity.map_or_else(|| Identity::of(caller.0.clone()), |identity| identity.0);
    let ended = authenticator.sign_out(&identity).await;
    if ended == Err(AuthError::Unsupported) {
        return Err(Problem::not_found(
            "this request came with no session: a token or a key counts until it expires or is revoked",
        ));
    }
    // What could not be kept still ends what is live here.
    let session = identity.token_id.clone().map(Revocation::Token);
    let closed = session.map_or(0, |session| feed.revoke(&session));
    ended?;
    audit::administered(&caller.0, "sign out");
    Ok(json_response(format!("{{\"data\":{{\"closed\":{closed}}}}}").into_bytes()))
}

/// Takes credentials back, or lifts that.
pub(super) async fn revoke(
    State(feed): State<Feed>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    caller.0.require_of_all(Role::Admin)?;
    let authenticator = identify::required(&feed)?;
    let wanted = admin::read(&headers, body)?;
    let (revocation, revoked, until) = read(&wanted)?;
    let kept = authenticator.set_revoked(revocation.clone(), revoked, until).await;
    // What may not last still holds here and now, and what there is no room for ends at least what is live.
    let holds = revoked && kept != Err(AuthError::Unsupported);
    let closed = if holds { feed.revoke(&revocation) } else { 0 };
    kept?;
    audit::administered(&caller.0, if revoked { "revoke" } else { "lift a revocation" });
    tracing::info!(by = %caller.0.id, ?revocation, revoked, closed, "credentials are revoked by an administrator");
    Ok(json_response(format!("{{\"data\":{{\"revoked\":{revoked},\"closed\":{closed}}}}}").into_bytes()))
}

/// `{"identity":"…"}` or `{"token_id":"…"}`, `"revoked":false` to lift it, and `"expires_at":1795449600` where it ends by itself.
fn read(wanted: &Value) -> Result<(Revocation, bool, Option<UnixMicros>), Problem> {
    let name = |field: &str| match wanted.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if (1..=MAX_NAME_BYTES).contains(&name.len()) => {
            Ok(Some(Arc::from(name.as_str())))
        }
        Some(_) => {
            Err(Problem::bad_request(format!("{field} must be a string of 1 to {MAX_NAME_BYTES} bytes")))
        }
    };
    let revocation = match (name("identity")?, name("token_id")?) {
        (Some(identity), None) => Revocation::Identity(identity),
        (None, Some(token)) => Revocation::Token(token),
        _ => return Err(Problem::bad_request("name an identity or a token_id, one of them")),
    };
    let revoked = match wanted.get("revoked") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(revoked)) => *revoked,
        Some(_) => return Err(Problem::bad_request("revoked must be true or false")),
    };
    let until = match wanted.get("expires_at") {
        None | Some(Value::Null) => None,
        Some(given) => match given.as_f64().filter(|seconds| *seconds >= 0.0) {
            Some(seconds) => Some(UnixMicros((seconds * 1e6) as u64)),
            None => return Err(Problem::bad_request("expires_at must be a number, in seconds since 1970")),
        },
    };
    Ok((revocation, revoked, until))
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match &error {
            AuthError::Invalid { .. } | AuthError::Expired | AuthError::Revoked => {
                Self::unauthorized(Some(error.told()))
            }
            AuthError::Unavailable { .. } => Self::unavailable(error.told()),
            AuthError::TooManyTickets { .. } => Self::too_many_requests(error.told(), TICKET_WAIT),
            AuthError::TooManyFailures { wait } => Self::too_many_requests(error.told(), *wait),
            AuthError::TooManyRevocations { .. } => {
                Refusal::because(ErrorCode::StorageFull, error.told()).into()
            }
            AuthError::Unsupported => Self::not_found(error.told()),
        }
    }
}
