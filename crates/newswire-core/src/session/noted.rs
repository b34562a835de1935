//! What commands about subscriptions came to, for whoever keeps a record; and such commands without a frame.

use newswire_protocol::command::{CommandId, Subscribe, Unsubscribe};
use newswire_protocol::{ErrorCode, Refusal, RejectReason};
use parking_lot::Mutex;

use super::Session;
use crate::config::Now;
use crate::hub::Hub;
use crate::view::LogView;

/// What the last command about subscriptions came to, for whoever keeps a record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// These names were subscribed, and those were not.
    Subscribed {
        /// Channels and patterns, as they are called.
        channels: Vec<String>,
        /// As the client wrote them.
        rejected: Vec<(String, RejectReason)>,
    },
    /// These names were asked to be subscribed no more.
    Unsubscribed {
        /// As the client wrote them.
        channels: Vec<String>,
    },
    /// Nothing of it was done.
    Refused {
        /// As the client wrote them.
        channels: Vec<String>,
        /// Why.
        code: ErrorCode,
    },
}

impl Session {
    /// What the last subscribe or unsubscribe came to; once. To be asked for behind each [`Session::handle`],
    /// [`Session::subscribe`] and [`Session::unsubscribe`]: the next one forgets it.
    pub fn take_noted(&mut self) -> Option<Box<Noted>> {
        self.noted.take()
    }

    /// Subscribes without a frame, for what the request's path and query asked. Answered like a command.
    ///
    /// # Errors
    /// A bound is exceeded; nothing was changed then.
    pub fn subscribe(
        &mut self,
        ask: &Subscribe,
        now: Now,
        hub: &Mutex<Hub>,
        log: &dyn LogView,
    ) -> Result<(), Refusal> {
        self.note_subscribe(ask, None, now, hub, log)
    }

    pub(super) fn note_subscribe(
        &mut self,
        ask: &Subscribe,
        id: Option<CommandId>,
        now: Now,
        hub: &Mutex<Hub>,
        log: &dyn LogView,
    ) -> Result<(), Refusal> {
        let subscribed = self.on_subscribe(ask, id, now, hub, log);
        if let Err(refusal) = &subscribed {
            self.noted =
                Some(Box::new(Noted::Refused { channels: ask.channels.clone(), code: refusal.code }));
        }
        subscribed
    }

    /// Unsubscribes without a frame. Answered like a command.
    pub fn unsubscribe(&mut self, ask: &Unsubscribe, hub: &Mutex<Hub>) {
        self.on_unsubscribe(ask, None, hub);
    }
}
