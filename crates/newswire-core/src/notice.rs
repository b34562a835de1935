//! What a session says beside events: frames for a socket, values for a reader in the same process.
//!
//! Both are made in the same places, from the same parts; which of the two is decided when the session is opened.

use newswire_protocol::frame::encode_text;
use newswire_protocol::reply::{self, Echo, Gap, Subscribed};
use newswire_protocol::{Epoch, GapReason, RejectReason};

use crate::told::Told;

/// Bytes of a turn that one value counts for, so that turns of few events and many values end too.
const VALUE_WEIGHT: usize = 128;

/// A message as a value. Names are sorted and each stands once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The answer to a subscribe, at its exact place in the stream.
    Subscribed(Answer),
    /// The answer to an unsubscribe, at its exact place in the stream.
    Unsubscribed {
        /// What remains subscribed.
        channels: Vec<String>,
    },
    /// The replay of one subscribe is over.
    CaughtUp {
        /// Its channels and patterns.
        channels: Vec<String>,
        /// How far it went.
        offset: u64,
    },
    /// Everything that matches up to here has been handed on.
    Checkpoint {
        /// Safe to resume from.
        offset: u64,
    },
    /// Matching events may be missing.
    Gap(Missing),
}

/// What a subscribe was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// All channels and patterns now subscribed.
    pub channels: Vec<String>,
    /// The last offset dispatched at that moment: events up to here follow the old subscriptions.
    pub offset: u64,
    /// The log's epoch.
    pub epoch: Epoch,
    /// For `after` and `since`: whether nothing that was asked for is lost.
    pub recovered: Option<bool>,
    /// Refused names.
    pub rejected: Vec<(String, RejectReason)>,
}

/// Matching events with `from` ≤ offset ≤ `to` that may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Of these channels and patterns.
    pub channels: Vec<String>,
    /// First offset that may be missing.
    pub from: u64,
    /// Last offset that may be missing.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
    /// The log's epoch; with [`GapReason::Epoch`] the new one.
    pub epoch: Epoch,
}

/// In which form a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Frames,
    Values,
}

impl Form {
    pub(crate) fn nothing(self) -> Messages {
        match self {
            Self::Frames => Messages::Frames(Vec::new()),
            Self::Values => Messages::Values(Vec::new()),
        }
    }
}

/// Messages in order, in the form of their session.
#[derive(Clone, Debug)]
pub(crate) enum Messages {
    /// Whole text frames.
    Frames(Vec<u8>),
    Values(Vec<Notice>),
}

impl Messages {
    /// What they count for in a turn.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.len(),
            Self::Values(values) => values.len() * VALUE_WEIGHT,
        }
    }

    /// Puts those of the same session behind these.
    pub(crate) fn append(&mut self, others: Self) {
        match (self, others) {
            (Self::Frames(frames), Self::Frames(others)) => frames.extend(others),
            (Self::Values(values), Self::Values(others)) => values.extend(others),
            _ => debug_assert!(false, "a session speaks in one form"),
        }
    }

    pub(crate) fn subscribed(&mut self, echo: Echo<'_>, answer: &Subscribed<'_, String>) {
        match self {
            Self::Frames(frames) => add_frame(frames, |out| reply::subscribed(out, echo, answer)),
            Self::Values(values) => values.push(Notice::Subscribed(Answer {
                channels: names(answer.channels),
                offset: answer.offset,
                epoch: answer.epoch,
                recovered: answer.recovered,
                rejected: answer.rejected.to_vec(),
            })),
        }
    }

    pub(crate) fn unsubscribed(&mut self, echo: Echo<'_>, remaining: &[String]) {
        match self {
            Self::Frames(frames) => add_frame(frames, |out| reply::unsubscribed(out, echo, remaining)),
            Self::Values(values) => values.push(Notice::Unsubscribed { channels: names(remaining) }),
        }
    }

    pub(crate) fn caught_up(&mut self, echo: Echo<'_>, of: &[String], offset: u64) {
        match self {
            Self::Frames(frames) => add_frame(frames, |out| reply::caught_up(out, echo, of, offset)),
            Self::Values(values) => values.push(Notice::CaughtUp { channels: names(of), offset }),
        }
    }

    pub(crate) fn checkpoint(&mut self, offset: u64) {
        match self {
            Self::Frames(frames) => add_frame(frames, |out| reply::checkpoint(out, offset)),
            Self::Values(values) => values.push(Notice::Checkpoint { offset }),
        }
    }

    /// Tells a gap, and counts it: the one way in which gaps are told.
    pub(crate) fn gap<C: AsRef<str>>(
        &mut self,
        told: &Told,
        sub: Option<&str>,
        epoch: Epoch,
        gap: &Gap<'_, C>,
    ) {
        told.gap(gap.reason);
        match self {
            Self::Frames(frames) => {
                add_frame(frames, |out| reply::gap(out, Echo { id: None, sub }, gap));
            }
            Self::Values(values) => values.push(Notice::Gap(Missing {
                channels: names(gap.channels),
                from: gap.from,
                to: gap.to,
                reason: gap.reason,
                epoch,
            })),
        }
    }
}

/// Adds one message as a whole text frame.
pub(crate) fn add_frame(frames: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::with_capacity(128);
    write(&mut text);
    encode_text(frames, &text);
}

fn names<C: AsRef<str>>(names: &[C]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
