//! Subscribes that wait until the hub has what was durable when they came, and what their peer may have seen elsewhere.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use newswire_protocol::command::{Command, CommandFrame, Start, Subscribe, parse_command};

use super::super::transport::Transport;
use super::Connection;

/// What is to be handled once everything durable before it is known here.
pub(super) enum Held {
    /// What the address of the request asked for.
    Address(Box<Subscribe>),
    Command(String),
}

impl<S: Transport> Connection<S> {
    /// Whether a frame may be a subscribe and the hub has not got everything that is durable.
    pub(super) fn must_settle(&self, frame: &str) -> bool {
        frame.len() <= self.session.limits().command_bytes
            && frame.contains("subscribe")
            && (*self.shard.dispatched.borrow() + 1 < self.feed.log().tail()
                || (self.feed.log().is_copy() && frame.contains("after")))
    }

    pub(super) fn hold(&mut self, held: Held) {
        self.doing().held = Some(self.held(held));
    }

    pub(super) fn held(&self, held: Held) -> (Held, BoxFuture<'static, bool>) {
        let (feed, shard) = (self.feed.clone(), Arc::clone(&self.shard));
        let start = match &held {
            Held::Address(subscribe) => subscribe.start.clone(),
            // What cannot be read is told so when its turn comes.
            Held::Command(frame) => match parse_command(frame, self.session.limits()) {
                Ok(CommandFrame { command: Command::Subscribe(subscribe), .. }) => subscribe.start,
                _ => Start::Live,
            },
        };
        (held, Box::pin(async move { feed.caught_up_with(&start, &shard).await }))
    }
}
