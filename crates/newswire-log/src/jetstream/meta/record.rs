//! How keys and values are written in a bucket.
//!
//! NATS allows few characters in a key, so each part of one, between slashes, is `x` and its bytes in hexadecimal digits;
//! parts stay parts, so that the server can pick keys by the parts that they begin with. In front stands `k`, or `l` for a
//! lease. A value is `expires_at u64 µs, 0 for never | value`, of a lease `expires_at | token u64, 0 for its own version |
//! owner`.

use std::fmt::Write;

use async_nats::HeaderMap;
use bytes::Bytes;
use newswire_protocol::UnixMicros;

use crate::meta::Entry;

/// What a stored key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    Lease,
}

impl Kind {
    fn token(self) -> &'static str {
        match self {
            Self::Key => "k",
            Self::Lease => "l",
        }
    }
}

/// The name of a key in the bucket.
pub(super) fn stored(kind: Kind, key: &str) -> String {
    let mut stored = kind.token().to_owned();
    for part in key.split('/') {
        push(&mut stored, part);
    }
    stored
}

fn push(stored: &mut String, part: &str) {
    stored.push_str(".x");
    for byte in part.bytes() {
        let _ = write!(stored, "{byte:02x}");
    }
}

/// The names that keys with this prefix have, and maybe others.
pub(super) fn beginning(prefix: &str) -> String {
    let mut subject = Kind::Key.token().to_owned();
    let whole = prefix.rsplit_once('/').map_or("", |(whole, _)| whole);
    if prefix.contains('/') {
        whole.split('/').for_each(|part| push(&mut subject, part));
    }
    subject.push_str(".>");
    subject
}

/// The key of a name, if it is one; not of leases.
pub(super) fn key_of(stored: &str) -> Option<String> {
    let parts = stored.strip_prefix(Kind::Key.token())?.strip_prefix('.')?;
    let parts: Option<Vec<String>> = parts.split('.').map(|part| unhex(part.strip_prefix('x')?)).collect();
    Some(parts?.join("/"))
}

fn unhex(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

pub(super) fn value(expires_at: Option<UnixMicros>, value: &[u8]) -> Bytes {
    let expires_at = expires_at.map_or(0, |at| at.0.max(1));
    [&expires_at.to_le_bytes()[..], value].concat().into()
}

/// What a message of the bucket says of its key; `None` if it is gone.
pub(super) fn entry(headers: Option<&HeaderMap>, payload: &Bytes, version: u64) -> Option<Entry> {
    // By a node, and by the server for what it removed.
    let is_mark = |headers: &HeaderMap| {
        headers.get("KV-Operation").is_some() || headers.get("Nats-Marker-Reason").is_some()
    };
    if headers.is_some_and(is_mark) {
        return None;
    }
    let expires_at = u64::from_le_bytes(*payload.first_chunk()?);
    Some(Entry {
        value: payload.slice(size_of::<u64>()..),
        version,
        expires_at: (expires_at > 0).then_some(UnixMicros(expires_at)),
    })
}

/// The value of a lease.
pub(super) fn lease(token: u64, owner: &str) -> Vec<u8> {
    [&token.to_le_bytes()[..], owner.as_bytes()].concat()
}

/// Token and owner of a lease.
pub(super) fn holder(entry: &Entry) -> Option<(u64, &[u8])> {
    let (token, owner) = entry.value.split_first_chunk()?;
    let token = u64::from_le_bytes(*token);
    Some((if token == 0 { entry.version } else { token }, owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_keep_their_parts() {
        for key in ["", "a", "a/b", "/", "a//b", "ä b", "*.>", "revoked/x.y"] {
            let stored = stored(Kind::Key, key);
            assert_eq!(key_of(&stored).as_deref(), Some(key), "{stored}");
            assert!(stored.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'), "{stored}");
        }
        assert_eq!(stored(Kind::Key, "ab/c"), "k.x6162.x63");
        assert_eq!(key_of(&stored(Kind::Lease, "a")), None);
        assert_eq!((beginning(""), beginning("ab")), ("k.>".to_owned(), "k.>".to_owned()));
        assert_eq!((beginning("ab/"), beginning("ab/c")), ("k.x6162.>".to_owned(), "k.x6162.>".to_owned()));
        assert_eq!(beginning("/"), "k.x.>");
    }
}
