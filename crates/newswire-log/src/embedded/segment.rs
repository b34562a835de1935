//! The header of a segment file.
//!
//! ```text
//! magic 8 | version u32 | flags u32 | epoch 16 | sequence u64 | base offset u64 | created_at u64 µs |
//! previous length u64 | crc32c u32 | zeros to 128
//! ```

use newswire_protocol::{Epoch, UnixMicros};

use super::format::{FORMAT_VERSION, Fields, SEGMENT_MAGIC, Salt, crc32c, epoch_bytes, epoch_from};

pub(crate) const SEGMENT_HEADER_BYTES: u64 = 128;
const CHECKED_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) epoch: Epoch,
    /// Ascending by one, without holes.
    pub(crate) sequence: u64,
    /// The next offset to be written when the segment began.
    pub(crate) base_offset: u64,
    pub(crate) created_at: UnixMicros,
    /// Bytes of the segment before this one, all of them durable; 0 if there was none.
    pub(crate) previous_len: u64,
}

/// Why a header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn salt(&self) -> Salt {
        Salt::new(self.epoch, self.sequence)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&epoch_bytes(self.epoch));
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.base_offset.to_le_bytes());
        out.extend_from_slice(&self.created_at.0.to_le_bytes());
        out.extend_from_slice(&self.previous_len.to_le_bytes());
        out.extend_from_slice(&crc32c(0, &out).to_le_bytes());
        out.resize(SEGMENT_HEADER_BYTES as usize, 0);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let checked = bytes.get(..CHECKED_BYTES).ok_or(HeaderFault::Damaged)?;
        let rest = bytes.get(CHECKED_BYTES..SEGMENT_HEADER_BYTES as usize).ok_or(HeaderFault::Damaged)?;
        let mut checksum = [0; SEGMENT_HEADER_BYTES as usize - CHECKED_BYTES];
        checksum[..4].copy_from_slice(&crc32c(0, checked).to_le_bytes());
        if checked[..8] != SEGMENT_MAGIC || rest != checksum {
            return Err(HeaderFault::Damaged);
        }
        Self::fields(Fields(&checked[8..])).ok_or(HeaderFault::Damaged)?
    }

    fn fields(mut fields: Fields<'_>) -> Option<Result<Self, HeaderFault>> {
        let version = fields.u32()?;
        if version != FORMAT_VERSION {
            return Some(Err(HeaderFault::Version(version)));
        }
        let _flags = fields.u32()?;
        Some(Ok(Self {
            epoch: epoch_from(fields.array()?),
            sequence: fields.u64()?,
            base_offset: fields.u64()?,
            created_at: UnixMicros(fields.u64()?),
            previous_len: fields.u64()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_no_damaged_one_does() {
        let header = SegmentHeader {
            epoch: Epoch::from_bytes([9; 16]),
            sequence: 3,
            base_offset: 77,
            created_at: UnixMicros(5),
            previous_len: 4096,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for len in 0..bytes.len() {
            assert_eq!(SegmentHeader::decode(&bytes[..len]), Err(HeaderFault::Damaged));
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Err(HeaderFault::Damaged));
        }
    }

    #[test]
    fn another_version_is_named() {
        let header = SegmentHeader {
            epoch: Epoch::from_bytes([9; 16]),
            sequence: 1,
            base_offset: 1,
            created_at: UnixMicros(5),
            previous_len: 0,
        };
        let mut bytes = header.encode();
        bytes[8] = 9;
        let checksum = crc32c(0, &bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderFault::Version(9)));
    }
}
