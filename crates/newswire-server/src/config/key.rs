//! What a key can hold: one kind of value each, how it is read, and how that is said to people.

use std::time::Duration;

use newswire_core::ADMINS;
use newswire_protocol::names::is_channel_name;
use newswire_protocol::time::{format_duration, format_size, parse_duration, parse_size};
use toml::Value;

/// One row of the table of keys.
#[derive(Debug)]
pub struct Key {
    /// Dotted path; a segment `<channel>` stands for any channel name.
    pub path: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// As one would write it; `None` for a key that is unset unless somebody sets it.
    pub default: Option<&'static str>,
    /// What SIGHUP does about a new value.
    pub reload: Reload,
    /// What it does, in one or two sentences of Markdown.
    pub help: &'static str,
}

/// From when on a changed value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// From the reload on, for everybody.
    AtOnce,
    /// For connections that are made after the reload; those that are there keep the old value.
    NewConnections,
    /// From the next start on.
    Restart,
}

/// What values a key takes.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A duration within bounds, both inclusive.
    Duration(Duration, Duration),
    /// A number of bytes within bounds, both inclusive.
    Size(u64, u64),
    /// A plain number within bounds, both inclusive.
    Count(u64, u64),
    /// As the inner kind, or the word `none`, which unsets it.
    OrNone(&'static Kind),
    /// As the inner kind, and never shown to anybody.
    Secret(&'static Kind),
    /// One of these words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// Host and port.
    Address,
    /// A path in the file system.
    Path,
    /// An address of a service over HTTP.
    Url,
    /// A part of the whole, from 0 to 1.
    Ratio,
    /// Any text that is not empty.
    Text,
    /// `info`, or levels per module.
    LogFilter,
    /// The address of a service: https, or http of this machine.
    SecureUrl,
    /// Any words, but none that is empty.
    Words,
    /// A list of channel names.
    Channels,
    /// The name of a channel for administrators.
    AdminChannel,
    /// A list of web origins.
    Origins,
    /// A list of host names without port.
    Hosts,
    /// A list of networks or addresses.
    Networks,
}

/// What stands in place of a secret.
const REDACTED: &str = "(secret)";

/// A value as a source holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// A string of the file.
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Raw>),
    /// A value of the file of a type no key takes, as written.
    Other(String),
    /// Untyped text of a flag, an environment variable or the table of defaults.
    Written(String),
}

impl Raw {
    /// What stands in the place of a secret.
    pub(crate) fn hidden() -> Self {
        Self::Text(REDACTED.to_owned())
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Written(text) => Some(text.trim()),
            _ => None,
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Written(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }

    fn fraction(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Other(text) | Self::Written(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A list of the file, or text separated by commas.
    fn texts(&self) -> Option<Vec<String>> {
        match self {
            Self::List(items) => items.iter().map(|item| item.text().map(str::to_owned)).collect(),
            Self::Written(text) => {
                Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Into::into).collect())
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) | Self::Written(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Other(written) => f.write_str(written),
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl Kind {
    /// Reads a value into the form that [`Config`](super::Config) is built from: durations as integer
    /// milliseconds, sizes as integer bytes. `Ok(None)` unsets the key.
    ///
    /// # Errors
    /// When the value is none of this kind; [`Kind::expected`] says what would be.
    pub(crate) fn read(&self, raw: &Raw) -> Result<Option<Value>, NotOfThisKind> {
        let value = match self {
            Self::OrNone(_) if raw.text() == Some("none") => return Ok(None),
            Self::OrNone(inner) | Self::Secret(inner) => return inner.read(raw),
            Self::Bool => read_bool(raw).map(Value::Boolean),
            Self::Duration(least, most) => read_duration(raw, *least, *most),
            Self::Size(least, most) => read_size(raw, *least, *most),
            Self::Count(least, most) => raw.number().and_then(|count| bounded(count, *least, *most)),
            Self::Choice(words) => {
                raw.text().filter(|text| words.iter().any(|(word, _)| word == text)).map(Value::from)
            }
            Self::Address => {
                raw.text().filter(|text| super::ListenAddress::parse(text).is_some()).map(Value::from)
            }
            Self::Url => raw.text().filter(|text| is_url(text)).map(Value::from),
            Self::Ratio => raw.fraction().filter(|ratio| (0.0..=1.0).contains(ratio)).map(Value::Float),
            Self::SecureUrl => raw.text().filter(|text| is_secure_url(text)).map(Value::from),
            Self::Words => read_list(raw, |word| !word.is_empty()),
            Self::Path | Self::Text => raw.text().filter(|text| !text.is_empty()).map(Value::from),
            Self::LogFilter => raw.text().filter(|text| is_log_filter(text)).map(Value::from),
            Self::Channels => read_list(raw, is_channel_name),
            Self::AdminChannel => raw.text().filter(|text| is_admin_channel(text)).map(Value::from),
            Self::Origins => read_list(raw, is_origin),
            Self::Hosts => read_list(raw, is_host_name),
            Self::Networks => read_list(raw, |text| crate::server::proxy::network(text).is_some()),
        };
        value.map(Some).ok_or(NotOfThisKind)
    }

    /// What a value must be, as the end of a sentence that begins with "expected".
    pub fn expected(&self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Duration(least, most) => {
                let (least, most) = (format_duration(*least), format_duration(*most));
                format!("a duration from {least} to {most}, such as 250ms, 10s, 5m or 7d")
            }
            Self::Size(least, most) => {
                format!(
                    "a size from {} to {}, such as 64KiB or 1GiB",
                    format_size(*least),
                    format_size(*most)
                )
            }
            Self::Count(least, most) => format!("a number from {least} to {most}"),
            Self::OrNone(inner) => format!("{}, or none", inner.expected()),
            Self::Secret(inner) => inner.expected(),
            Self::Choice(words) => words_joined(words),
            Self::Address => "host:port, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080".into(),
            Self::SecureUrl => {
                "an address that begins with https://, or with http:// for this machine".into()
            }
            Self::Words => "a list of words".into(),
            Self::Path => "a path".into(),
            Self::Url => "an address such as http://127.0.0.1:4318, without credentials or query".into(),
            Self::Ratio => "a number from 0 to 1".into(),
            Self::Text => "a text".into(),
            Self::LogFilter => "error, warn, info, debug, trace or off, or levels per module such as \
                 info,newswire_log=debug"
                .into(),
            Self::Channels => {
                "a list of channel names of 1 to 128 characters of A-Z a-z 0-9 _ . : # @ -".into()
            }
            Self::AdminChannel => "the name of a channel that begins with admin:, such as admin:audit".into(),
            Self::Origins => {
                "a list of origins such as https://app.example or http://localhost:5173, without path \
                 or wildcard"
                    .into()
            }
            Self::Networks => "a list of networks or addresses, such as 10.0.0.0/8 or ::1".into(),
            Self::Hosts => {
                "a list of host names such as feed.example, without scheme, port or wildcard".into()
            }
        }
    }

    /// Whether no message, page or output may hold a value of this kind.
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::OrNone(inner) => inner.is_secret(),
            _ => false,
        }
    }

    /// A value as a source holds it, as TOML for people to read; of a secret only that there is one, and of an address
    /// nothing that may be one.
    pub(crate) fn shown(&self, raw: &Raw) -> String {
        let shown = self.shown_whole(raw);
        match shown.find(['@', '?']).filter(|_| self.is_address()) {
            Some(at) if shown[at..].starts_with('@') => Raw::hidden().to_string(),
            Some(at) => format!("{}?{REDACTED}\"", &shown[..at]),
            None => shown,
        }
    }

    /// Whether it is the address of something.
    fn is_address(&self) -> bool {
        match self {
            Self::Url | Self::SecureUrl => true,
            Self::OrNone(inner) => inner.is_address(),
            _ => false,
        }
    }

    /// A value that is not of this kind, as it was written; of a secret or an address as [`Kind::shown`].
    pub(crate) fn told(&self, raw: &Raw) -> String {
        if self.is_secret() || self.is_address() { self.shown(raw) } else { raw.to_string() }
    }

    fn shown_whole(&self, raw: &Raw) -> String {
        match raw {
            _ if self.is_secret() => Raw::hidden().to_string(),
            Raw::Written(written) => self.as_toml(written.trim()),
            typed => typed.to_string(),
        }
    }

    /// A value of this kind as TOML, given as in the table of keys.
    pub(crate) fn as_toml(&self, written: &str) -> String {
        match self {
            Self::Bool | Self::Ratio => written.to_owned(),
            Self::Count(..) => written.replace('_', ""),
            Self::Channels | Self::Origins | Self::Hosts | Self::Words | Self::Networks => {
                Raw::List(Raw::Written(written.into()).texts().into_iter().flatten().map(Raw::Text).collect())
                    .to_string()
            }
            Self::OrNone(inner) if written != "none" => inner.as_toml(written),
            Self::Secret(inner) => inner.as_toml(written),
            Self::Size(..) if written.bytes().all(|byte| byte.is_ascii_digit()) => written.to_owned(),
            _ => format!("{written:?}"),
        }
    }
}

/// The value is none of the key's kind.
#[derive(Debug)]
pub(crate) struct NotOfThisKind;

fn words_joined(words: &[(&str, &str)]) -> String {
    match words {
        [(only, _)] => (*only).to_owned(),
        [rest @ .., (last, _)] => {
            let rest: Vec<_> = rest.iter().map(|(word, _)| *word).collect();
            format!("{} or {last}", rest.join(", "))
        }
        [] => String::new(),
    }
}

fn read_bool(raw: &Raw) -> Option<bool> {
    match raw {
        Raw::Bool(truth) => Some(*truth),
        Raw::Written(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn read_duration(raw: &Raw, least: Duration, most: Duration) -> Option<Value> {
    let duration = parse_duration(raw.text()?)?;
    let millis = u64::try_from(duration.as_millis()).ok()?;
    (least..=most).contains(&duration).then_some(millis).and_then(integer)
}

fn read_size(raw: &Raw, least: u64, most: u64) -> Option<Value> {
    let size = raw.number().or_else(|| parse_size(raw.text()?))?;
    bounded(size, least, most)
}

fn bounded(number: u64, least: u64, most: u64) -> Option<Value> {
    (least..=most).contains(&number).then_some(number).and_then(integer)
}

fn integer(number: u64) -> Option<Value> {
    i64::try_from(number).ok().map(Value::Integer)
}

fn read_list(raw: &Raw, valid: fn(&str) -> bool) -> Option<Value> {
    let items = raw.texts()?;
    items
        .iter()
        .all(|item| valid(item))
        .then(|| items.into_iter().map(Value::from).collect::<Vec<_>>().into())
}

/// Whoever stands between could put other keys in the place of those that are fetched.
fn is_secure_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let is_here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    plain && (uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && is_here))
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let written_without_path = !text.ends_with('/') && uri.path_and_query().is_none_or(|path| path == "/");
    let plain_authority = uri.authority().is_some_and(|authority| !authority.as_str().contains(['*', '@']));
    matches!(uri.scheme_str(), Some("http" | "https")) && plain_authority && written_without_path
}

fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let plain_authority = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    uri.scheme_str() == Some("http") && plain_authority && uri.query().is_none()
}

fn is_host_name(text: &str) -> bool {
    let Ok(authority) = text.parse::<http::uri::Authority>() else { return false };
    authority.port().is_none() && authority.host() == text && !text.contains('*')
}

/// `EnvFilter` takes a misspelt level for a module name and then logs everything, so levels are checked here.
fn is_log_filter(text: &str) -> bool {
    let is_level = |word: &str| {
        ["error", "warn", "info", "debug", "trace", "off"]
            .iter()
            .any(|level| word.eq_ignore_ascii_case(level))
    };
    !text.is_empty()
        && text.split(',').map(str::trim).all(|part| match part.split_once('=') {
            Some((module, level)) => !module.trim().is_empty() && is_level(level.trim()),
            None => is_level(part),
        })
}

/// Only administrators see what is so named.
fn is_admin_channel(text: &str) -> bool {
    is_channel_name(text) && text.len() > ADMINS.len() && text.starts_with(ADMINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_hosts_are_told_from_look_alikes() {
        for good in ["https://app.example", "http://localhost:5173", "http://[::1]:3000"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "*",
            "app.example",
            "https://app.example/",
            "https://*.example",
            "https://a@b",
            "null",
            "ftp://x",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
        for good in ["feed.example", "10.0.0.5", "[fd00::1]"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["feed.example:80", "http://feed.example", "*.example", "", "a b"] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_read_and_never_shown() {
        static TOKEN: Kind = Kind::Path;
        for kind in [&Kind::Secret(&TOKEN), &Kind::OrNone(&Kind::Secret(&Kind::Path))] {
            for raw in [Raw::Written("hunter2".into()), Raw::Text("hunter2".into())] {
                assert_eq!(kind.read(&raw).unwrap(), Some(Value::from("hunter2")));
                assert_eq!(kind.shown(&raw), "\"(secret)\"");
            }
        }
        assert_eq!(Kind::Path.shown(&Raw::Written("a dir".into())), "\"a dir\"");
    }

    #[test]
    fn a_misspelt_log_level_is_no_filter() {
        assert!(is_log_filter("info") && is_log_filter("warn,newswire_log=debug, hyper=off"));
        for bad in ["", "loud", "info,", "newswire_log", "newswire_log=loud", "=info"] {
            assert!(!is_log_filter(bad), "{bad}");
        }
    }
}
