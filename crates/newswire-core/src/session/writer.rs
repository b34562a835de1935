//! Gathers what is to be written in one turn.

use std::ops::Range;

use bytes::Bytes;

use crate::event::Run;
use crate::notice::{Messages, Notice, add_frame};
use crate::outbox::QueuedRun;

/// What a session hands to a reader in the same process.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Events of a run: those with these places in it, in order, at least one. Shared with everybody who gets them.
    Events(Run, Range<usize>),
    /// A message.
    Notice(Notice),
}

/// Slices of shared buffers and small frames of one's own, or the same as values; in order, up to a budget.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: Out<'a>,
    budget: usize,
    used: usize,
}

#[derive(Debug)]
enum Out<'a> {
    Frames(&'a mut Vec<Bytes>),
    Pieces(&'a mut Vec<Piece>),
}

impl<'a> Writer<'a> {
    pub(crate) fn of_frames(out: &'a mut Vec<Bytes>, budget: usize) -> Self {
        out.clear();
        Self { out: Out::Frames(out), budget, used: 0 }
    }

    pub(crate) fn of_pieces(out: &'a mut Vec<Piece>, budget: usize) -> Self {
        out.clear();
        Self { out: Out::Pieces(out), budget, used: 0 }
    }

    pub(crate) fn room(&self) -> usize {
        self.budget.saturating_sub(self.used)
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn is_empty(&self) -> bool {
        match &self.out {
            Out::Frames(slices) => slices.is_empty(),
            Out::Pieces(pieces) => pieces.is_empty(),
        }
    }

    /// Frames of which there is no other form.
    pub(crate) fn bytes(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.used += bytes.len();
        match &mut self.out {
            Out::Frames(slices) => slices.push(bytes),
            Out::Pieces(_) => debug_assert!(false, "a reader in the process sends nothing to be answered so"),
        }
    }

    pub(crate) fn messages(&mut self, messages: Messages) {
        let weight = messages.weight();
        match (messages, &mut self.out) {
            (Messages::Frames(frames), _) => self.bytes(frames.into()),
            (Messages::Values(values), Out::Pieces(pieces)) => {
                self.used += weight;
                pieces.extend(values.into_iter().map(Piece::Notice));
            }
            (Messages::Values(_), Out::Frames(_)) => {
                debug_assert!(weight == 0, "a session speaks in one form");
            }
        }
    }

    /// Neighbouring frames leave as one slice.
    pub(crate) fn run(&mut self, run: &QueuedRun) {
        if let Out::Pieces(pieces) = &mut self.out {
            self.used += run.bytes;
            pieces.push(Piece::Events(run.run.clone(), run.next..run.end));
            return;
        }
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
