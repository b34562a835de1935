//! What all files of the log have in common: magics, the format version, checksums, and reading of little-endian
//! fields that never panics. The shapes are described in `docs/decisions/log-format.md`.

use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, Digest};
use newswire_protocol::Epoch;

/// The version in every file. A reader refuses others; it is raised when a shape changes.
pub(crate) const FORMAT_VERSION: u32 = 2;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"NWSEGMNT";
pub(crate) const INDEX_MAGIC: [u8; 8] = *b"NWINDEX\0";
pub(crate) const IDS_MAGIC: [u8; 8] = *b"NWIDS\0\0\0";
pub(crate) const MANIFEST_MAGIC: [u8; 8] = *b"NWMANIF\0";

/// Starts a batch. No text holds these bytes: the last of them would have to continue a character that the one before
/// does not begin.
pub(crate) const BATCH_MAGIC: u32 = 0xB47C_4E57;

/// The largest record, and so the largest event with its keys: what is longer is damage, not data.
pub(crate) const MAX_RECORD_BYTES: usize = 32 << 20;

/// The largest batch behind its header.
pub(crate) const MAX_BATCH_BYTES: usize = 4 * MAX_RECORD_BYTES;

pub(crate) const LOCK_FILE: &str = "LOCK";
pub(crate) const MANIFEST_FILE: &str = "manifest";
pub(crate) const SEGMENT_EXTENSION: &str = "seg";
pub(crate) const INDEX_EXTENSION: &str = "idx";
pub(crate) const IDS_EXTENSION: &str = "ids";

/// The path of the segment that begins at `base`.
pub(crate) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.{SEGMENT_EXTENSION}"))
}

/// `base` of a name like `00000000000000000001.seg`.
pub(crate) fn base_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The CRC-32C of `bytes` behind others whose sum is `before`; 0 is the sum of nothing.
pub(crate) fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    digest.finalize() as u32
}

/// The start value of every checksum in a segment, so that bytes of another segment or another epoch (a reused block,
/// a restored file) never pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(u32);

impl Salt {
    pub(crate) fn new(epoch: Epoch, sequence: u64) -> Self {
        Self(crc32c(crc32c(0, &epoch_bytes(epoch)), &sequence.to_le_bytes()))
    }

    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c(self.0, bytes)
    }

    /// What tells one salt from another in files that do not use it.
    pub(crate) fn start(self) -> u32 {
        self.0
    }
}

/// The hash of an index key. Part of the format, the same for ever on every machine: folded multiplication of eight
/// bytes at a time, because every event is hashed several times on the writer.
pub(crate) fn key_hash(tag: u8, bytes: &[u8]) -> u64 {
    let mut hash = fold(u64::from(tag) ^ 0x9e37_79b9_7f4a_7c15, bytes.len() as u64 ^ 0xd6e8_feb8_6659_fd93);
    let (words, rest) = bytes.as_chunks::<8>();
    let last = (!rest.is_empty()).then(|| short_word(rest));
    for word in words.iter().map(|word| u64::from_le_bytes(*word)).chain(last) {
        hash = fold(hash ^ word, 0xa076_1d64_78bd_642f);
    }
    fold(hash, 0xe703_7ed1_a0b4_28db)
}

/// One to seven bytes as the low ones of a number; without a copy of a length that the compiler does not know.
fn short_word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << ((bytes.len() - 4) * 8);
    }
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Reads little-endian fields; every read past the end is `None`.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string behind its length in two bytes.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let len = self.u16()?;
        std::str::from_utf8(self.bytes(usize::from(len))?).ok()
    }

    /// An unsigned LEB128 number.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

/// Appends an unsigned LEB128 number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    let (mut bytes, mut len) = ([0; 10], 1);
    while value >= 0x80 {
        bytes[len - 1] = (value as u8) | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len - 1] = value as u8;
    out.extend_from_slice(&bytes[..len]);
}

/// Appends a string of at most 65,535 bytes behind its length; names are bounded far below.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let len = text.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(len as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..len]);
}

/// Appends the plain CRC32C of `out[from..]`.
pub(crate) fn put_checksum(out: &mut Vec<u8>, from: usize) {
    let checksum = crc32c(0, &out[from..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The bytes before a trailing checksum that fits them.
pub(crate) fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (crc32c(0, body).to_le_bytes() == checksum).then_some(body)
}

/// The file format's view of an epoch.
pub(crate) fn epoch_bytes(epoch: Epoch) -> [u8; 16] {
    *epoch.0.as_bytes()
}

pub(crate) fn epoch_from(bytes: [u8; 16]) -> Epoch {
    Epoch::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_crc32c() {
        // The check value of the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let bitwise = |sum: u32, byte: &u8| {
            (0..8)
                .fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
        };
        for len in [0, 1, 79, 127, 128, 255, 256, 480, 1023, 5000] {
            let expected = !bytes[..len].iter().fold(!0x1234_5678, bitwise);
            assert_eq!(crc32c(0x1234_5678, &bytes[..len]), expected, "{len} bytes");
        }
    }

    #[test]
    fn hashes_of_keys_are_those_that_files_hold() {
        let text = b"task.status_changed.by_somebody";
        for len in 0..text.len() {
            let mut expected =
                fold(u64::from(b't') ^ 0x9e37_79b9_7f4a_7c15, len as u64 ^ 0xd6e8_feb8_6659_fd93);
            for piece in text[..len].chunks(8) {
                let mut word = [0; 8];
                word[..piece.len()].copy_from_slice(piece);
                expected = fold(expected ^ u64::from_le_bytes(word), 0xa076_1d64_78bd_642f);
            }
            assert_eq!(key_hash(b't', &text[..len]), fold(expected, 0xe703_7ed1_a0b4_28db), "{len} bytes");
        }
        assert_eq!(key_hash(b'a', b"ssarah"), 0x4fb3_9629_10fa_3e5b);
    }
}
