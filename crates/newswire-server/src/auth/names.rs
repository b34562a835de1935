//! What identities are called, so that nobody becomes somebody else by choosing a name: whoever shows a key, whoever signed a
//! browser in, and whoever shows a token are named in spaces of their own.

use super::BadCredentials;

/// Whoever signed a browser in: whoever can read what the server prints.
pub(super) const BROWSER: &str = "browser:operator";

/// How names begin that this server gives itself, and one that it gives to nobody in particular.
const OF_KEYS: &str = "key:";
const OF_BROWSERS: &str = "browser:";
const OF_NOBODY: &str = "anonymous";

/// Longest name in a token, in bytes.
const MAX_BYTES: usize = 256;

/// Whoever shows this key. It names the credential, too.
pub(super) fn of_key(key: &str) -> String {
    format!("{OF_KEYS}{key}")
}

/// The session of one browser, as a credential, by the hash that it is kept under.
pub(super) fn of_session(hash: &str) -> String {
    format!("{OF_BROWSERS}{hash}")
}

/// The hash in it.
pub(super) fn session_of(name: &str) -> Option<&str> {
    name.strip_prefix(OF_BROWSERS)
}

/// Whether a token may call its bearer (`sub`) or itself (`jti`) so.
///
/// # Errors
/// Why not.
pub(crate) fn check(name: &str) -> Result<(), BadCredentials> {
    let bad = |what: &str| Err(BadCredentials(what.to_owned()));
    if name.is_empty() || name.len() > MAX_BYTES || name.chars().any(char::is_control) {
        return bad("a name has 1 to 256 bytes and no control characters");
    }
    if name == OF_NOBODY || name.starts_with(OF_KEYS) || name.starts_with(OF_BROWSERS) {
        return bad("anonymous, key:… and browser:… are names that only the server itself gives");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_takes_no_name_of_another_space() {
        for good in ["sarah_chen", "auth0|5f7c", "key", "keys:ci", "Anonymous", "é", &"x".repeat(256)] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(257);
        for bad in ["", "anonymous", &of_key("ci"), BROWSER, "browser:x", "a\nb", "\u{1b}[2J", &long] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
