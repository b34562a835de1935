//! How a connection ended, and whether another is worth trying.

use std::time::Duration;

use newswire_protocol::CloseCode;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use crate::item::SubscribeError;
use crate::problem::{Problem, innermost};
use crate::publish::retry_after;
use crate::tls;

/// No server may keep a client away for longer by a close reason or a `Retry-After`.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(600);

/// Why there is no connection any more.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Try again; after `wait` where the server said so, else after a drawn backoff.
    Reconnect { reason: String, wait: Option<Duration> },
    /// The two sides do not trust, or do not understand, each other's TLS.
    Distrust { reason: String },
    /// Trying again would end the same way.
    Over(SubscribeError),
    /// Nobody listens to this subscription any more.
    ConsumerGone,
}

impl Ending {
    pub(crate) fn reconnect(reason: impl Into<String>) -> Self {
        Self::Reconnect { reason: reason.into(), wait: None }
    }

    /// The server closed with this code (None: without one) and reason.
    pub(crate) fn of_close(code: Option<u16>, text: &str) -> Self {
        let Some(code) = code else { return Self::reconnect("the server closed the connection") };
        let is = |known: CloseCode| known.number() == code;
        let wait = retry_after_ms(text);
        let reason = match () {
            () if is(CloseCode::ShuttingDown) => "the server is shutting down".to_owned(),
            () if is(CloseCode::TooSlow) => "the server closed: this side read too slowly".to_owned(),
            () if is(CloseCode::NoHeartbeat) => {
                "the server closed: it heard nothing from this side".to_owned()
            }
            () if is(CloseCode::TooMany) => "the server has too many connections or commands".to_owned(),
            () if text.is_empty() => format!("the server closed with {code}"),
            () => format!("the server closed with {code}: {text}"),
        };
        if is(CloseCode::AuthFailed) || is(CloseCode::NotPermitted) {
            return Self::Over(SubscribeError::NotAdmitted { reason });
        }
        if is(CloseCode::Protocol) || is(CloseCode::NotUtf8) || is(CloseCode::TooBig) {
            return Self::Over(SubscribeError::Protocol { reason });
        }
        Self::Reconnect { reason, wait }
    }

    /// Connecting, reading or writing failed.
    pub(crate) fn of_error(error: &Error) -> Self {
        if let Some(reason) = tls::in_words(error) {
            return Self::Distrust { reason };
        }
        match error {
            Error::Http(response) => Self::of_refused_upgrade(
                response.status(),
                response.headers(),
                response.body().as_deref().unwrap_or_default(),
            ),
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake
                | ProtocolError::HandshakeIncomplete
                | ProtocolError::ReceivedAfterClosing
                | ProtocolError::SendAfterClosing,
            ) => Self::reconnect("the connection broke"),
            Error::Io(_) | Error::WriteBufferFull(_) => Self::reconnect(innermost(error)),
            Error::Tls(_)
            | Error::Capacity(_)
            | Error::Protocol(_)
            | Error::Utf8(_)
            | Error::AttackAttempt
            | Error::Url(_)
            | Error::HttpFormat(_) => Self::Over(SubscribeError::Protocol { reason: error.to_string() }),
        }
    }

    fn of_refused_upgrade(status: http::StatusCode, headers: &http::HeaderMap, body: &[u8]) -> Self {
        let problem = Problem::read(status, body).to_string();
        match status.as_u16() {
            408 | 425 | 429 | 500..=599 => Self::Reconnect {
                reason: format!("the server answered {problem}"),
                wait: retry_after(headers).map(|wait| wait.min(LONGEST_ASKED_WAIT)),
            },
            401 | 403 => Self::Over(SubscribeError::NotAdmitted { reason: problem }),
            _ => Self::Over(SubscribeError::Protocol { reason: format!("no feed there: {problem}") }),
        }
    }
}

/// `retry_after_ms=N` in a close reason. The server spreads N over its clients, so it is taken as it is.
fn retry_after_ms(reason: &str) -> Option<Duration> {
    let digits = reason.split("retry_after_ms=").nth(1)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let wait = Duration::from_millis(digits[..end].parse().ok()?);
    Some(wait.min(LONGEST_ASKED_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(ending: Ending) -> Option<Duration> {
        match ending {
            Ending::Reconnect { wait, .. } => wait,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn close_codes_say_whether_to_come_back() {
        for code in [1000, 1001, 1006, 1011, 1012, 4008, 4009, 4029, 4999] {
            assert!(matches!(Ending::of_close(Some(code), ""), Ending::Reconnect { .. }), "{code}");
        }
        for code in [1002, 1007, 1009] {
            let ending = Ending::of_close(Some(code), "");
            assert!(matches!(ending, Ending::Over(SubscribeError::Protocol { .. })), "{code}");
        }
        for code in [4001, 4003] {
            let ending = Ending::of_close(Some(code), "");
            assert!(matches!(ending, Ending::Over(SubscribeError::NotAdmitted { .. })), "{code}");
        }
        assert_eq!(wait_of(Ending::of_close(None, "")), None);
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        let wait = |text| wait_of(Ending::of_close(Some(1001), text));
        assert_eq!(wait("shutting down; retry_after_ms=1250"), Some(Duration::from_millis(1250)));
        assert_eq!(wait("retry_after_ms=7, bye"), Some(Duration::from_millis(7)));
        assert_eq!(wait("retry_after_ms=99999999999"), Some(LONGEST_ASKED_WAIT));
        for none in ["", "retry_after_ms=", "retry_after_ms=x"] {
            assert_eq!(wait(none), None, "{none:?}");
        }
    }

    #[test]
    fn refused_upgrades() {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("3"));
        let of = |status: u16| {
            Ending::of_refused_upgrade(http::StatusCode::from_u16(status).unwrap(), &headers, b"")
        };
        assert_eq!(wait_of(of(503)), Some(Duration::from_secs(3)));
        assert_eq!(wait_of(of(429)), Some(Duration::from_secs(3)));
        assert!(matches!(of(404), Ending::Over(SubscribeError::Protocol { .. })));
        assert!(matches!(of(401), Ending::Over(SubscribeError::NotAdmitted { .. })));
    }

    #[test]
    fn a_killed_server_is_worth_waiting_for() {
        let killed = Error::Protocol(ProtocolError::ResetWithoutClosingHandshake);
        assert!(matches!(Ending::of_error(&killed), Ending::Reconnect { .. }));
        let down = Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert!(matches!(Ending::of_error(&down), Ending::Reconnect { .. }));
        let nonsense = Error::Protocol(ProtocolError::NonZeroReservedBits);
        assert!(matches!(Ending::of_error(&nonsense), Ending::Over(_)));
    }
}
