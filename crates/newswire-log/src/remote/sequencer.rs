//! [`Sequencer`]: what a node needs of an engine that keeps the log of several nodes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::event_log::Place;

/// Gives events of all nodes one order, keeps them, and tells them to whoever follows.
///
/// An engine is given messages it does not look into: what is in them is decided by the nodes, all alike. It may be as
/// dumb as a list: repeats, epochs and retention by channel are not its business.
///
/// **Ordering.** Offsets ascend over all channels, beginning at 1; [`Self::follow`] brings messages by offset. Two appends
/// that are under way at the same time may be stored in either order.
///
/// **Atomicity.** The messages of one append are stored as a whole or not at all, lie next to each other, and keep their
/// order.
///
/// **Durability.** An append resolves with an offset only after the engine acknowledged it, as durable as the engine is
/// set up to be. What was acknowledged may be lost with an engine that loses its disk: then what is at its offsets
/// changes, which whoever follows compares ([`Self::extent`], [`Self::at`]).
///
/// **Answers in time.** Every call resolves within the time its implementation was given, whatever the engine does;
/// [`Self::follow`]'s stream ends with an error, within a like time, whenever it can no longer vouch that nothing was
/// missed (connection lost, engine silent). It never skips a message that the engine still holds.
///
/// **Cancel-safety.** Nothing happens before the first poll; dropping the future of an append later leaves open whether
/// it happened. Dropping a stream ends the following.
pub trait Sequencer: Send + Sync + 'static {
    /// What people call the engine: `jetstream`.
    fn name(&self) -> &'static str;

    /// Stores messages as one piece. At most [`Self::max_messages`] of them; none is no error and never asked.
    fn append(&self, messages: Vec<Message>) -> BoxFuture<'static, Result<Accepted, SequenceError>>;

    /// The most messages that one append may have.
    fn max_messages(&self) -> usize;

    /// Fewer messages than this are stored sooner one after the other than as one piece. 0 where a piece costs nothing more.
    fn gathers_from(&self) -> usize {
        0
    }

    /// Every message beyond `after` that the engine holds, and then every one that comes, by offset. Offsets that were
    /// removed, or never used, are left out. Resolves once the engine has agreed to send.
    fn follow(&self, after: u64) -> BoxFuture<'static, Result<Following, SequenceError>>;

    /// What the engine holds now; not older than what was acknowledged to anybody before the call.
    fn extent(&self) -> BoxFuture<'static, Result<Extent, SequenceError>>;

    /// Stores messages at offsets of their own, for a log that is moved here: ascending, all beyond `last`, the newest that the
    /// engine gave. Nobody else appends meanwhile; refused where somebody did. A failure may leave the first of them stored.
    /// Nothing is to be read before [`Self::placed`].
    fn place(
        &self,
        last: u64,
        messages: Vec<(u64, Message)>,
    ) -> BoxFuture<'static, Result<(), SequenceError>>;

    /// What was placed is all: the engine, whose newest offset is `last`, gives no offset below `next` any more, and offsets
    /// for which there was no message have none.
    fn placed(&self, last: u64, next: u64) -> BoxFuture<'static, Result<(), SequenceError>>;

    /// The message at an offset; `None` if there is none (any more).
    fn at(&self, offset: u64) -> BoxFuture<'static, Result<Option<Sequenced>, SequenceError>>;
}

/// Messages as they come; ends behind the first error.
pub type Following = BoxStream<'static, Result<Sequenced, SequenceError>>;

/// One event on its way to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its channel, for engines that keep a subject for each.
    pub channel: Arc<str>,
    /// Two messages of the same id are the same event. An engine may use it to store a repeat only once, for as long as
    /// it likes.
    pub id: MessageId,
    /// The event, as `remote::message` writes it.
    pub body: Bytes,
}

/// Who a message is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId(pub [u8; 16]);

/// 32 hexadecimal digits.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An event as the engine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// Where and when the engine stored it.
    pub place: Place,
    /// As it was given.
    pub body: Bytes,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Offset of the first message; those behind it have the offsets that follow.
    pub first: u64,
    /// The engine had the message already, there, and stored nothing. Only for appends of one message.
    pub repeated: bool,
}

/// What the engine holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Names this log among all that the engine ever held under its name: another one where it was deleted and made
    /// again, or restored.
    pub incarnation: String,
    /// The oldest offset it may still hold: everything before is gone. `last + 1` where it holds nothing.
    pub first: u64,
    /// The newest offset it ever gave in this incarnation; 0 before the first.
    pub last: u64,
}

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// It cannot be reached; nothing was stored of what was asked.
    #[error("{engine} cannot be reached: {reason}")]
    Unreachable {
        /// Its name.
        engine: &'static str,
        /// What was seen.
        reason: Arc<str>,
    },
    /// It was asked and did not answer in time: whether it stored anything is unknown.
    #[error("{engine} did not answer: {reason}")]
    Unanswered {
        /// Its name.
        engine: &'static str,
        /// What was seen.
        reason: Arc<str>,
    },
    /// It has no space, by its own limits or the machine's; nothing was stored.
    #[error("{engine} is full: {reason}")]
    Full {
        /// Its name.
        engine: &'static str,
        /// What it said.
        reason: Arc<str>,
    },
    /// It refused: set up otherwise than was asked for, not permitted, too large. Nothing was stored.
    #[error("{engine} refused: {reason}")]
    Refused {
        /// Its name.
        engine: &'static str,
        /// What it said.
        reason: Arc<str>,
    },
}
