//! No spans: what stands in their place where the feature is off.

use newswire_core::Batch;
use newswire_core::Published;
use newswire_log::NewEvents;
use newswire_protocol::codes::Refusal;
use newswire_protocol::event::Draft;

use super::Origin;

#[derive(Debug, Default)]
pub(crate) struct Traces {}

#[derive(Debug)]
pub(crate) struct Publish;

#[derive(Clone, Debug)]
pub(crate) struct Dispatch;

impl Traces {
    pub(crate) fn publish(&self, _: Origin<'_>) -> Publish {
        Publish
    }

    pub(crate) fn dispatch(&self, _: &Batch) -> Dispatch {
        Dispatch
    }
}

impl Publish {
    pub(crate) fn saw(&mut self, _: &Draft) {}

    #[expect(clippy::unused_self, reason = "as the one with spans")]
    pub(crate) fn commit(&mut self, events: NewEvents) -> (NewEvents, Commit) {
        (events, Commit)
    }

    pub(crate) fn end(self, _: &[Result<Published, Refusal>]) {}
}

pub(crate) struct Commit;

impl Commit {
    pub(crate) fn failed(&mut self, _: &dyn std::error::Error) {}
}

impl Dispatch {
    pub(crate) fn sent(&self, _connections: usize, _writes: u64, _bytes: u64) {}
}
