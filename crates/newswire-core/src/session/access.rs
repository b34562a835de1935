//! Whose session it is: credentials that are checked outside, how long they count, and what happens until then and after.

use std::time::Duration;

use newswire_protocol::command::{CommandId, Credential};
use newswire_protocol::{CloseCode, UnixMicros, reply};
use parking_lot::Mutex;

use super::Session;
use crate::config::Now;
use crate::hub::Hub;
use crate::principal::Principal;

/// What is known of a peer whose credentials count, when its session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: its first frame has to be an `auth`, before this time of the shell's clock.
    Unknown {
        /// Monotonic, as in [`Now::mono`].
        until: Duration,
    },
    /// It came with credentials, which were checked.
    Known {
        /// When they cease to count.
        expires_at: Option<UnixMicros>,
    },
}

/// Who a peer is, as whoever checked its credentials says.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// On whose behalf everything is done from now on.
    pub principal: Principal,
    /// When that ends; `None` for never.
    pub expires_at: Option<UnixMicros>,
}

/// Of a session whose credentials count.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// By when the first `auth` must have come; `None` once it has been answered.
    due: Option<Duration>,
    expires_at: Option<UnixMicros>,
    /// What is to be checked next.
    offered: Option<Credential>,
    /// The `auth` that waits for its answer.
    asked: Option<Option<CommandId>>,
}

impl Access {
    fn ends(&self) -> bool {
        self.due.is_some() || self.expires_at.is_some()
    }
}

/// What a session closes with when nobody says in time who it is.
const NOBODY: (CloseCode, &str) =
    (CloseCode::AuthFailed, "the first frame must be an auth, within the time for it");
const EXPIRED: (CloseCode, &str) = (CloseCode::NotPermitted, "the credentials have expired");

impl Session {
    /// From now on credentials count: an `auth` is handed out as [`super::Output::Authenticate`] instead of being welcome
    /// whatever it holds, and a session of [`Standing::Unknown`] takes nothing else before one was answered well.
    pub fn check_credentials(&mut self, standing: Standing) {
        let access = match standing {
            Standing::Unknown { until } => Access { due: Some(until), ..Access::default() },
            Standing::Known { expires_at } => Access { expires_at, ..Access::default() },
        };
        self.access = Some(Box::new(access));
    }

    /// The answer to [`super::Output::Authenticate`]. A refusal ends the session with 4001; its reason is sent to the peer.
    pub fn on_authenticated(&mut self, outcome: Result<Admitted, &'static str>, hub: &Mutex<Hub>) {
        let Some(access) = &mut self.access else { return };
        let Some(id) = access.asked.take() else { return };
        match outcome {
            Ok(Admitted { principal, expires_at }) => {
                (access.due, access.expires_at) = (None, expires_at);
                self.set_principal(principal, hub);
                self.reply(|out| reply::auth_ok(out, id.as_ref()));
            }
            Err(reason) => {
                self.closing.get_or_insert((CloseCode::AuthFailed, reason));
            }
        }
    }

    /// As if it had shown what it has shown anew: somebody looked at it again, and it comes to this now.
    ///
    /// Returns why the session is over, where it has other permissions now than what it subscribed by: the shell lets go of
    /// all that waits, which was chosen by the old ones.
    pub fn readmit(
        &mut self,
        Admitted { principal, expires_at }: Admitted,
        hub: &Mutex<Hub>,
    ) -> Option<(CloseCode, &'static str)> {
        if let Some(access) = &mut self.access {
            access.expires_at = expires_at;
        }
        self.set_principal(principal, hub);
        self.closing.filter(|(code, _)| *code == CloseCode::NotPermitted)
    }

    /// Gives the session another principal. The same one with the same view takes over everything as it is, whatever its
    /// role is now; for any other the session ends with 4003 if it has subscriptions, because they were subscribed by other
    /// rules.
    pub fn set_principal(&mut self, principal: Principal, hub: &Mutex<Hub>) {
        let goes_on = principal.id == self.principal.id && principal.has_same_view(&self.principal);
        let has_some = self.sets.total() > 0 || self.lag.is_some() || !self.jobs.is_empty();
        if has_some && !goes_on {
            self.closing.get_or_insert((CloseCode::NotPermitted, "the permissions have changed"));
            return;
        }
        let mut hub = hub.lock();
        hub.admit(self.id, &principal);
        self.is_shown = hub.shows(self.id);
        drop(hub);
        self.principal = principal;
    }

    /// Why the session is over at this moment by the clock alone, whatever it is doing: the shell lets go of all that waits.
    /// Nothing where no credentials count, and then the clock is not read.
    pub fn is_over(&self, now: impl FnOnce() -> Now) -> Option<(CloseCode, &'static str)> {
        let access = self.access.as_deref().filter(|access| access.ends())?;
        let now = now();
        if access.expires_at.is_some_and(|at| at <= now.wall) {
            return Some(EXPIRED);
        }
        access.due.filter(|due| *due <= now.mono).map(|_| NOBODY)
    }

    /// When to ask [`Session::is_over`] next, on the monotonic clock.
    pub fn over_at(&self, now: Now) -> Duration {
        let Some(access) = self.access.as_deref() else { return Duration::MAX };
        let left = |at: UnixMicros| Duration::from_micros(at.0.saturating_sub(now.wall.0));
        let expires = access.expires_at.map_or(Duration::MAX, |at| now.mono.saturating_add(left(at)));
        expires.min(access.due.unwrap_or(Duration::MAX))
    }

    /// Whether nobody has said yet whose session it is.
    pub fn is_unknown(&self) -> bool {
        self.access.as_deref().is_some_and(|access| access.due.is_some())
    }

    /// Whether an `auth` waits for its answer: nothing behind it is looked at before.
    pub(super) fn is_asking(&self) -> bool {
        self.access.as_deref().is_some_and(|access| access.asked.is_some())
    }

    /// An `auth` came.
    pub(super) fn on_auth(&mut self, credential: Credential, id: Option<CommandId>) {
        match &mut self.access {
            // Without credentials to check, everybody is who they are.
            None => self.reply(|out| reply::auth_ok(out, id.as_ref())),
            Some(access) => {
                access.asked = Some(id);
                access.offered = Some(credential);
            }
        }
    }

    /// Anything but an `auth` came, from one of whom nothing is known.
    pub(super) fn refuse_unknown(&mut self) {
        self.closing.get_or_insert(NOBODY);
    }

    pub(super) fn take_offered(&mut self) -> Option<Credential> {
        self.access.as_mut()?.offered.take()
    }

    pub(super) fn has_offered(&self) -> bool {
        self.access.as_deref().is_some_and(|access| access.offered.is_some())
    }
}
