//! Gathers what is to be written in one turn.

use bytes::Bytes;
use newswire_protocol::frame::encode_text;
use newswire_protocol::reply::{self, Echo, Gap};

use crate::outbox::{QueuedRun, Told};

/// Slices of shared buffers and small frames of one's own, in order, up to a budget.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<Bytes>,
    budget: usize,
    used: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<Bytes>, budget: usize) -> Self {
        out.clear();
        Self { out, budget, used: 0 }
    }

    pub(crate) fn room(&self) -> usize {
        self.budget.saturating_sub(self.used)
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub(crate) fn bytes(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.used += bytes.len();
            self.out.push(bytes);
        }
    }

    /// Neighbouring frames leave as one slice.
    pub(crate) fn run(&mut self, run: &QueuedRun) {
        for stretch in run.stretches() {
            self.bytes(run.run.batch.frames().slice(stretch));
        }
    }
}

/// One message as a whole text frame.
pub(crate) fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frames = Vec::new();
    add_frame(&mut frames, write);
    frames.into()
}

/// Adds one message as a whole text frame.
pub(crate) fn add_frame(frames: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::with_capacity(128);
    write(&mut text);
    encode_text(frames, &text);
}

/// Adds a gap message, and counts it: the one way in which gaps are told.
pub(crate) fn add_gap<C: AsRef<str>>(frames: &mut Vec<u8>, told: &Told, sub: Option<&str>, gap: &Gap<'_, C>) {
    told.gap(gap.reason);
    add_frame(frames, |out| reply::gap(out, Echo { id: None, sub }, gap));
}
