//! What one connection publishes: in the order in which it came, and each event on behalf of whoever the connection was when
//! it was read, whoever it has become since.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use newswire_core::session::Ticket;
use newswire_core::{Principal, Published};
use newswire_protocol::codes::{ErrorCode, Refusal};
use newswire_protocol::event::Draft;

use crate::auth::{AuthError, Identity};
use crate::traces::Origin;
use crate::{Feed, audit};

pub(super) type Answers = Vec<(Ticket, Result<Published, Refusal>)>;

/// Publishes under way, and those that wait for them, so that one connection's events keep their order.
#[derive(Default)]
pub(super) struct Publishing {
    under_way: Option<BoxFuture<'static, Answers>>,
    waiting: VecDeque<Batch>,
}

/// What came while the connection was the same somebody.
struct Batch {
    principal: Principal,
    /// What that one stands on, where credentials count and the batch has to wait: it may be taken back meanwhile.
    identity: Option<Arc<Identity>>,
    drafts: Vec<(Ticket, Box<Draft>)>,
    /// Nothing more joins it: what comes now is of another identity.
    sealed: bool,
}

impl Publishing {
    pub(super) fn is_nothing(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }

    /// What comes from now on is of another identity.
    pub(super) fn seal(&mut self) {
        if let Some(last) = self.waiting.back_mut() {
            last.sealed = true;
        }
    }

    /// Puts an event behind those that wait. `principal` is who the connection is, and `identity` what that stands on.
    pub(super) fn push(
        &mut self,
        ticket: Ticket,
        draft: Box<Draft>,
        principal: &Principal,
        identity: impl FnOnce() -> Option<Arc<Identity>>,
    ) {
        let is_next = self.is_nothing();
        match self.waiting.back_mut().filter(|last| !last.sealed) {
            Some(last) => last.drafts.push((ticket, draft)),
            None => {
                let identity = if is_next { None } else { identity() };
                let (principal, drafts) = (principal.clone(), vec![(ticket, draft)]);
                self.waiting.push_back(Batch { principal, identity, drafts, sealed: false });
            }
        }
    }

    /// Begins with what waits as soon as nothing is under way. Pending also where there is nothing at all.
    pub(super) fn poll_answers(&mut self, feed: &Feed, cx: &mut Context<'_>) -> Poll<Answers> {
        if self.under_way.is_none() {
            let Some(batch) = self.waiting.pop_front() else { return Poll::Pending };
            match batch.author(feed) {
                Ok(principal) => {
                    self.under_way = Some(Box::pin(publish(feed.clone(), principal, batch.drafts)));
                }
                Err(error) => return Poll::Ready(batch.refused(&error, feed)),
            }
        }
        let Some(under_way) = &mut self.under_way else { return Poll::Pending };
        let answers = std::task::ready!(under_way.as_mut().poll(cx));
        self.under_way = None;
        Poll::Ready(answers)
    }
}

impl Batch {
    /// Who it is from, judged again if it had to wait: the connection may be somebody else by now, and then nobody ends it
    /// when this one is revoked.
    fn author(&self, feed: &Feed) -> Result<Principal, AuthError> {
        let judged = match (feed.authenticator(), &self.identity) {
            (Some(authenticator), Some(identity)) => authenticator.recheck(identity)?,
            _ => None,
        };
        Ok(judged.map_or_else(|| self.principal.clone(), |identity| identity.principal))
    }

    fn refused(self, error: &AuthError, feed: &Feed) -> Answers {
        let refusal = Refusal::because(ErrorCode::Forbidden, error.told());
        let refused = vec![Err(refusal); self.drafts.len()];
        feed.count_published(&refused);
        audit::published(&self.principal, &refused);
        self.drafts.into_iter().map(|(ticket, _)| ticket).zip(refused).collect()
    }
}

async fn publish(feed: Feed, principal: Principal, drafts: Vec<(Ticket, Box<Draft>)>) -> Answers {
    let (tickets, drafts): (Vec<Ticket>, Vec<Draft>) =
        drafts.into_iter().map(|(ticket, draft)| (ticket, *draft)).unzip();
    let results = feed.publish_parsed(&principal, Origin::Request(None), drafts.into_iter().map(Ok)).await;
    tickets.into_iter().zip(results).collect()
}
