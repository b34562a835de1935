//! Secrets: how they are made, hashed and compared.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The SHA-256 of a secret that nobody can guess: what is kept in its place.
pub(super) type Hash = [u8; 32];

/// 256 bits of the system's randomness, as letters that stand in headers and addresses alike.
///
/// # Errors
/// Where the system gives none.
pub(crate) fn random_text() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// In hexadecimal.
pub(super) fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_hex(text: &str) -> Option<Hash> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate().filter(|_| is_hex) {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    is_hex.then_some(hash)
}

/// Compares in a time that does not depend on where they differ.
pub(super) fn is_same(a: &Hash, b: &Hash) -> bool {
    blake3::Hash::from(*a) == blake3::Hash::from(*b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_and_read() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&hash("abc")), known);
        assert_eq!(from_hex(known), Some(hash("abc")));
        assert!(is_same(&hash("abc"), &hash("abc")) && !is_same(&hash("abc"), &hash("abd")));
        for bad in ["", "ba78", &known[1..], &format!("{known}0"), &known.replace('b', "é")] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
        assert_ne!(random_text().unwrap(), random_text().unwrap());
    }
}
