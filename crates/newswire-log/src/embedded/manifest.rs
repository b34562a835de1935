//! The log's small state, replaced atomically: which epoch it is in, how it was last run, what has been trimmed.

use std::collections::BTreeMap;
use std::sync::Arc;

use newswire_protocol::{Epoch, UnixMicros};

use super::batch::Position;
use super::format::{
    FORMAT_VERSION, Fields, MANIFEST_MAGIC, epoch_bytes, epoch_from, put_checksum, put_string, verified,
};
use super::segment::HeaderFault;
use crate::floors::{Floor, Floors};

/// An epoch the log has been in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// The first offset written in it.
    pub first_offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Oldest first; the last one is current. Never empty.
    pub(crate) epochs: Vec<EpochStart>,
    /// Whether the last run synced each batch before acknowledging it.
    pub(crate) synced_always: bool,
    /// Set by a clean close: the log ends exactly here, durably.
    pub(crate) clean_end: Option<Position>,
    /// Sequences of removed segments: inclusive ranges, ascending, not touching. All others up to `last_sequence` must
    /// be there.
    pub(crate) removed: Vec<(u64, u64)>,
    /// The newest segment when this was written; 0 before the first.
    pub(crate) last_sequence: u64,
    /// No offset below this one is ever given again, even if every segment is gone.
    pub(crate) next_offset: u64,
    pub(crate) floors: Floors,
}

/// Epochs remembered; beyond, the oldest is forgotten.
const MAX_EPOCHS: usize = 1000;

impl Manifest {
    pub(crate) fn new(epoch: Epoch, synced_always: bool) -> Self {
        Self {
            epochs: vec![EpochStart { epoch, first_offset: 1 }],
            synced_always,
            clean_end: None,
            removed: Vec::new(),
            last_sequence: 0,
            next_offset: 1,
            floors: Floors::default(),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epochs[self.epochs.len() - 1].epoch
    }

    pub(crate) fn begin_epoch(&mut self, epoch: Epoch, first_offset: u64) {
        self.epochs.push(EpochStart { epoch, first_offset });
        if self.epochs.len() > MAX_EPOCHS {
            self.epochs.remove(0);
        }
    }

    pub(crate) fn is_removed(&self, sequence: u64) -> bool {
        let range = self.removed.partition_point(|(_, to)| *to < sequence);
        self.removed.get(range).is_some_and(|(from, _)| *from <= sequence)
    }

    pub(crate) fn note_removed(&mut self, sequence: u64) {
        self.removed.push((sequence, sequence));
        self.removed.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.removed.len());
        for (from, to) in self.removed.drain(..) {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        self.removed = merged;
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MANIFEST_MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(u8::from(self.synced_always));
        out.push(u8::from(self.clean_end.is_some()));
        let end = self.clean_end.unwrap_or_default();
        for number in [end.sequence, end.byte, self.last_sequence, self.next_offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.removed.len() as u32).to_le_bytes());
        for (from, to) in &self.removed {
            out.extend_from_slice(&from.to_le_bytes());
            out.extend_from_slice(&to.to_le_bytes());
        }
        out.extend_from_slice(&(self.epochs.len() as u32).to_le_bytes());
        for start in &self.epochs {
            out.extend_from_slice(&epoch_bytes(start.epoch));
            out.extend_from_slice(&start.first_offset.to_le_bytes());
        }
        out.extend_from_slice(&(self.floors.len() as u32).to_le_bytes());
        for (channel, floor) in self.floors.iter() {
            put_string(&mut out, channel);
            out.extend_from_slice(&floor.to.to_le_bytes());
            out.extend_from_slice(&floor.stored_at.0.to_le_bytes());
        }
        put_checksum(&mut out, 0);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut fields = Fields(verified(bytes).ok_or(HeaderFault::Damaged)?);
        if fields.bytes(8) != Some(&MANIFEST_MAGIC) {
            return Err(HeaderFault::Damaged);
        }
        match fields.u32() {
            Some(FORMAT_VERSION) => Self::fields(fields).ok_or(HeaderFault::Damaged),
            Some(version) => Err(HeaderFault::Version(version)),
            None => Err(HeaderFault::Damaged),
        }
    }

    fn fields(mut fields: Fields<'_>) -> Option<Self> {
        let synced_always = fields.u8()? != 0;
        let clean = fields.u8()? != 0;
        let end = Position { sequence: fields.u64()?, byte: fields.u64()? };
        let last_sequence = fields.u64()?;
        let next_offset = fields.u64()?;
        let mut removed = Vec::new();
        for _ in 0..fields.u32()? {
            removed.push((fields.u64()?, fields.u64()?));
        }
        let mut epochs = Vec::new();
        for _ in 0..fields.u32()? {
            epochs.push(EpochStart { epoch: epoch_from(fields.array()?), first_offset: fields.u64()? });
        }
        let mut floors = BTreeMap::new();
        for _ in 0..fields.u32()? {
            let channel: Arc<str> = fields.string()?.into();
            floors.insert(channel, Floor { to: fields.u64()?, stored_at: UnixMicros(fields.u64()?) });
        }
        let sound = !epochs.is_empty() && fields.0.is_empty();
        sound.then_some(Self {
            epochs,
            synced_always,
            clean_end: clean.then_some(end),
            removed,
            last_sequence,
            next_offset,
            floors: Floors::from(floors),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::new(Epoch::from_bytes([7; 16]), true);
        manifest.begin_epoch(Epoch::from_bytes([8; 16]), 12);
        manifest.clean_end = Some(Position { sequence: 3, byte: 4096 });
        manifest.floors.raise(&"tasks".into(), Floor { to: 9, stored_at: UnixMicros(5) });
        for sequence in [4, 2, 1, 3, 7] {
            manifest.note_removed(sequence);
        }
        manifest
    }

    #[test]
    fn it_reads_back() {
        let manifest = sample();
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        assert_eq!(manifest.removed, [(1, 4), (7, 7)]);
        let removed: Vec<_> = (0..9).filter(|sequence| manifest.is_removed(*sequence)).collect();
        assert_eq!(removed, [1, 2, 3, 4, 7]);
    }

    #[test]
    fn damage_never_passes() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..len]), Err(HeaderFault::Damaged));
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&flipped), Err(HeaderFault::Damaged));
        }
    }
}
