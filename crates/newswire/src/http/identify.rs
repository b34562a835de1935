//! Who asks: the one place where a request gets its identity and its principal.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap};
use http::{Extensions, Uri};
use newswire_core::Principal;
use newswire_protocol::query::is_credential;
use newswire_protocol::{ErrorCode, Refusal};

use super::problem::Problem;
use super::query_pairs;
use crate::auth::{AuthError, Comer, Credential, Identity};
use crate::{Authenticate, Feed};

/// What an address asks of those who come without credentials, where credentials count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nothing: what it answers is no secret.
    Public,
    /// They are refused.
    Credentials,
    /// They are refused, and a ticket in the query is a credential too: for what a browser opens without headers.
    Ticket,
    /// As [`Admission::Ticket`], but who has none may come in and say so in the first frame.
    FirstFrame,
}

/// Gives a request its [`Principal`] and, where credentials count, its [`Identity`]. What an outer layer has put there
/// already stands.
pub(crate) async fn identify(
    State((feed, admission)): State<(Feed, Admission)>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = no_secrets_in(request.uri()) {
        return problem.into_response();
    }
    let known = request.extensions().get::<Identity>().map(|identity| identity.principal.clone());
    if let Some(principal) = known {
        request.extensions_mut().insert(principal);
    } else if request.extensions().get::<Principal>().is_none()
        && let Err(problem) = find(&feed, admission, &mut request).await
    {
        return problem.into_response();
    }
    next.run(request).await
}

async fn find(feed: &Feed, admission: Admission, request: &mut Request) -> Result<(), Problem> {
    if feed.authenticator().is_none() {
        request.extensions_mut().insert(Principal::anonymous());
        return Ok(());
    }
    let offered = offered(request.headers(), request.uri(), admission);
    let address = address(request.extensions());
    let checked = match &offered {
        Ok(Some(credential)) => match request.extensions_mut().remove::<Refused>() {
            Some(Refused(error)) => Err(error),
            None => feed.check(credential.as_credential(), address).await,
        },
        Ok(None) if matches!(admission, Admission::Public | Admission::FirstFrame) => return Ok(()),
        Ok(None) => return Err(Problem::unauthorized(None)),
        Err(reason) => {
            let error = AuthError::Invalid { reason };
            feed.count_refused(&error);
            Err(error)
        }
    };
    match checked {
        Ok(identity) => {
            request.extensions_mut().insert(identity.principal.clone());
            request.extensions_mut().insert(identity);
            Ok(())
        }
        Err(error) => {
            tracing::debug!(%error, "a request is refused: its credentials were not taken");
            Err(error.into())
        }
    }
}

/// What was shown is no good: found out ahead of the routes, which need not look again.
#[derive(Clone)]
struct Refused(AuthError);

/// Where a request comes from, as far as whoever accepted it says so.
fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|address| address.0.ip())
}

impl Feed {
    /// Finds out who asks, ahead of the routes: for middleware that wants to know, such as a limit on each identity. Looks at
    /// `Authorization: Bearer …` alone, and puts the [`Identity`] into the request's extensions, where the routes find it
    /// and do not ask again. Nothing happens where somebody did so before, where nobody is asked, and where the credential is
    /// not taken: what to answer then is for the routes.
    pub async fn recognize(&self, request: &mut Request) {
        let extensions = request.extensions();
        let is_known = extensions.get::<Identity>().is_some() || extensions.get::<Principal>().is_some();
        if is_known || self.authenticator().is_none() {
            return;
        }
        // A ticket beside it is one credential too many, also for routes that take none.
        let offered = offered(request.headers(), request.uri(), Admission::Ticket);
        let Ok(Some(credential @ Offered::Bearer(_))) = offered else { return };
        let address = address(extensions);
        match self.check(credential.as_credential(), address).await {
            Ok(identity) => {
                request.extensions_mut().insert(identity.principal.clone());
                request.extensions_mut().insert(identity);
            }
            Err(error) => {
                request.extensions_mut().insert(Refused(error));
            }
        }
    }
}

/// A credential of a request, taken out of it.
enum Offered {
    Bearer(String),
    Ticket(String),
}

impl Offered {
    fn as_credential(&self) -> Credential<'_> {
        match self {
            Self::Bearer(token) => Credential::Bearer(token),
            Self::Ticket(ticket) => Credential::Ticket(ticket),
        }
    }
}

/// The one credential of a request. More than one, or one that cannot be read, is none that anybody should believe.
fn offered(headers: &HeaderMap, uri: &Uri, admission: Admission) -> Result<Option<Offered>, &'static str> {
    let takes_tickets = matches!(admission, Admission::Ticket | Admission::FirstFrame);
    let pairs = if takes_tickets { query_pairs(uri).unwrap_or_default() } else { Vec::new() };
    let mut tickets = pairs.into_iter().filter(|(name, _)| name == "ticket").map(|(_, ticket)| ticket);
    let mut bearers = headers.get_all(header::AUTHORIZATION).into_iter();
    match (bearers.next(), tickets.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("a header and a ticket at once"),
        _ if bearers.next().is_some() || tickets.next().is_some() => Err("several credentials at once"),
        (None, Some(ticket)) => Ok(Some(Offered::Ticket(ticket))),
        (Some(value), None) => {
            let value = value.to_str().map_err(|_| "the header is no text")?;
            bearer(value)
                .map(|token| Some(Offered::Bearer(token.to_owned())))
                .ok_or("the header is no bearer token")
        }
    }
}

/// The token of `Bearer …`; the scheme in any case, as HTTP has it.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim_start();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

/// What stands in an address stands in logs, histories and referrers: nothing that lives longer than a ticket may.
fn no_secrets_in(uri: &Uri) -> Result<(), Problem> {
    let pairs = query_pairs(uri).unwrap_or_default();
    match pairs.iter().find(|(name, _)| is_credential(name)) {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::because(
            ErrorCode::InvalidParameter,
            format!(
                "{name} is a credential, and must not stand in an address, which ends in logs: send it in the header \
                 Authorization, or ask for a ticket"
            ),
        )
        .into()),
    }
}

/// Whose a connection is that this request begins.
pub(crate) fn comer(feed: &Feed, extensions: &Extensions) -> Comer {
    match (extensions.get::<Identity>(), extensions.get::<Principal>()) {
        (Some(identity), _) => Comer::Identity(Arc::new(identity.clone())),
        (None, Some(principal)) => Comer::Principal(principal.clone()),
        (None, None) if feed.authenticator().is_some() => Comer::Unknown,
        (None, None) => Comer::Principal(Principal::anonymous()),
    }
}

/// The authenticator, for calls that make no sense without one.
pub(crate) fn required(feed: &Feed) -> Result<&Arc<dyn Authenticate>, Problem> {
    let detail = "credentials do not count here: this server asks nobody who they are";
    feed.authenticator().ok_or_else(|| Problem::not_found(detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_bearer_token_is_one_word() {
        for good in ["Bearer abc", "bearer abc", "BEARER   abc"] {
            assert_eq!(bearer(good), Some("abc"), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "abc", "Bearerabc"] {
            assert_eq!(bearer(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_has_one_credential_or_none() {
        let offer = |headers: &[&str], uri: &str, admission| {
            let mut map = HeaderMap::new();
            for value in headers {
                map.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            match offered(&map, &uri.parse().unwrap(), admission) {
                Ok(Some(Offered::Bearer(token))) => format!("bearer {token}"),
                Ok(Some(Offered::Ticket(ticket))) => format!("ticket {ticket}"),
                Ok(None) => "none".to_owned(),
                Err(_) => "refused".to_owned(),
            }
        };
        assert_eq!(offer(&[], "/ws", Admission::FirstFrame), "none");
        assert_eq!(offer(&["Bearer a"], "/ws", Admission::Credentials), "bearer a");
        assert_eq!(offer(&[], "/ws?ticket=t%2B", Admission::FirstFrame), "ticket t+");
        assert_eq!(offer(&[], "/events?ticket=t", Admission::Credentials), "none");
        for (headers, uri) in [
            (&["Bearer a", "Bearer a"][..], "/ws"),
            (&["Bearer a"][..], "/ws?ticket=t"),
            (&[][..], "/ws?ticket=t&ticket=t"),
            (&["Basic YTpi"][..], "/ws"),
        ] {
            assert_eq!(offer(headers, uri, Admission::FirstFrame), "refused", "{headers:?} {uri}");
        }
    }

    #[test]
    fn secrets_do_not_belong_into_addresses() {
        for bad in
            ["/ws?token=a", "/events?x=1&access_token=a", "/events?api_key", "/x?%74oken=a", "/x?API_KEY=a"]
        {
            let problem = no_secrets_in(&bad.parse().unwrap()).unwrap_err();
            assert_eq!(problem.into_response().status(), 400, "{bad}");
        }
        assert!(no_secrets_in(&"/ws?ticket=t&tokens=3&channels=tasks".parse().unwrap()).is_ok());
    }
}
