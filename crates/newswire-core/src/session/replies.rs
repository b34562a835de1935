//! Answers that may overtake events: pongs, errors, `published`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::writer::Writer;

/// Replies that wait before the session wants no more commands.
const MAX_REPLIES: usize = 128;
/// Bytes of them.
const MAX_REPLY_BYTES: usize = 256 << 10;

/// Keeps the order of the commands: a reply waits for the in-stream answers of commands before its own.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    ordered: VecDeque<Ordered>,
    /// Of no order: answers to publishes.
    loose: VecDeque<Bytes>,
    bytes: usize,
}

#[derive(Debug)]
struct Ordered {
    /// The in-stream answer that must be out before.
    after_answer: u64,
    frame: Bytes,
}

impl Replies {
    pub(crate) fn push(&mut self, after_answer: u64, frame: Bytes) {
        self.bytes += frame.len();
        self.ordered.push_back(Ordered { after_answer, frame });
    }

    pub(crate) fn push_loose(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.loose.push_back(frame);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ordered.len() + self.loose.len() >= MAX_REPLIES || self.bytes >= MAX_REPLY_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.loose.is_empty()
    }

    /// Writes what may go once this in-stream answer is out.
    pub(crate) fn flush(&mut self, answered: u64, writer: &mut Writer<'_>) {
        while let Some(frame) = self.loose.pop_front() {
            self.bytes -= frame.len();
            writer.bytes(frame);
        }
        while self.ordered.front().is_some_and(|reply| reply.after_answer <= answered) {
            let Some(reply) = self.ordered.pop_front() else { break };
            self.bytes -= reply.frame.len();
            writer.bytes(reply.frame);
        }
    }
}
