//! What the server says when a whole request fails (RFC 9457), and what people should read of lower errors.

use std::fmt;

/// A refusal of a whole HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Its short name.
    pub title: String,
    /// What is wrong with this very request.
    pub detail: Option<String>,
    /// Machine-readable, snake_case.
    pub code: Option<String>,
}

impl Problem {
    /// Reads a problem document; whatever else the body holds, the status remains.
    pub(crate) fn read(status: http::StatusCode, body: &[u8]) -> Self {
        let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| document.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        Self {
            status: status.as_u16(),
            title: text("title").unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_owned()),
            detail: text("detail"),
            code: text("code"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.title)?;
        match &self.detail {
            Some(detail) if *detail != self.title => write!(f, ": {detail}"),
            _ => Ok(()),
        }
    }
}

/// The cause at the bottom of an error, in words a person can use: the layers above repeat the address and themselves.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return io_in_words(io);
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return cause.to_string(),
        }
    }
}

/// Why an HTTP request has no answer.
pub(crate) fn of_request(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    // Once connected, what HTTP says of a connection that ended in the middle helps nobody.
    if error.is_connect() { innermost(error) } else { "the connection broke".to_owned() }
}

fn io_in_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "nobody answers there (connection refused)".to_owned(),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            "the connection broke".to_owned()
        }
        Kind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_read_and_said_once() {
        let body = br#"{"type":"about:blank","title":"Storage full","status":507,"detail":"0 bytes free","code":"storage_full"}"#;
        let problem = Problem::read(http::StatusCode::INSUFFICIENT_STORAGE, body);
        assert_eq!(problem.to_string(), "507 Storage full: 0 bytes free");
        assert_eq!(problem.code.as_deref(), Some("storage_full"));
        let plain = Problem::read(http::StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(plain.to_string(), "502 Bad Gateway");
    }

    #[test]
    fn the_innermost_cause_is_in_words() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(innermost(&refused), "nobody answers there (connection refused)");
    }
}
