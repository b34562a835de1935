//! What all files of the log have in common: magics, the format version, checksums, and reading of little-endian
//! fields that never panics. The shapes are described in `docs/decisions/log-format.md`.

use std::path::{Path, PathBuf};

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

/// The start value of every checksum in a segment, so that bytes of another segment or another epoch (a reused block,
/// a restored file) never pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(u32);

impl Salt {
    pub(crate) fn new(epoch: Epoch, sequence: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&epoch_bytes(epoch)), &sequence.to_le_bytes()))
    }

    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
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
    for piece in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        hash = fold(hash ^ u64::from_le_bytes(word), 0xa076_1d64_78bd_642f);
    }
    fold(hash, 0xe703_7ed1_a0b4_28db)
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
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a string of at most 65,535 bytes behind its length; names are bounded far below.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let len = text.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(len as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..len]);
}

/// Appends the plain CRC32C of `out[from..]`.
pub(crate) fn put_checksum(out: &mut Vec<u8>, from: usize) {
    let checksum = crc32c::crc32c(&out[from..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The bytes before a trailing checksum that fits them.
pub(crate) fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (crc32c::crc32c(body).to_le_bytes() == checksum).then_some(body)
}

/// The file format's view of an epoch.
pub(crate) fn epoch_bytes(epoch: Epoch) -> [u8; 16] {
    *epoch.0.as_bytes()
}

pub(crate) fn epoch_from(bytes: [u8; 16]) -> Epoch {
    Epoch::from_bytes(bytes)
}
