//! One subscription's side of the protocol: server messages in, items out. No socket, no clock.

use std::time::Duration;

use newswire_protocol::{Echoed, ServerMessage, parse_server_message};
use newswire_protocol::{Epoch, ErrorCode};

use crate::history::Received;
use crate::interest::Interest;
use crate::item::{Gap, GapCause, Item, SubscribeError};
use crate::resume::{CutHistory, Position, Resume, Verdict};

/// What to do about a message.
#[derive(Debug)]
pub(crate) enum Step {
    Yield(Item),
    /// Nothing the consumer needs to know.
    Quiet,
    /// This connection is of no use; another may be.
    Reconnect(String),
    End(SubscribeError),
}

/// The state of one subscription over all its connections.
#[derive(Debug)]
pub(crate) struct Conversation {
    interests: Vec<Interest>,
    resume: Resume,
    answered: usize,
}

impl Conversation {
    pub(crate) fn new(interests: Vec<Interest>) -> Self {
        let resume = Resume::new(interests.iter().map(|interest| interest.start.clone()));
        Self { interests, resume, answered: 0 }
    }

    /// A connection stands: the commands to send, and what the consumer should hear before anything else.
    pub(crate) fn open(&mut self, since_begin: Duration) -> (Vec<String>, Vec<Item>) {
        self.answered = 0;
        let (starts, cuts) = self.resume.connect(since_begin);
        let commands = self
            .interests
            .iter()
            .zip(&starts)
            .enumerate()
            .map(|(index, (interest, start))| interest.command(index, start))
            .collect();
        (commands, cuts.into_iter().map(|cut| self.cut_history(cut)).collect())
    }

    /// From where everything can be resumed after what has been yielded so far.
    pub(crate) fn position(&self) -> Option<Position> {
        self.resume.position()
    }

    /// Whether the server has answered every command of this connection.
    pub(crate) fn is_established(&self) -> bool {
        self.answered == self.interests.len()
    }

    /// A text frame arrived.
    pub(crate) fn receive(&mut self, text: &str) -> Step {
        match parse_server_message(text) {
            Ok(message) => self.message(message, text),
            // Passing over it could pass over an event, which nobody would ever notice.
            Err(error) => Step::End(SubscribeError::Protocol {
                reason: format!("unreadable message from the server: {error}"),
            }),
        }
    }

    fn message(&mut self, message: ServerMessage, text: &str) -> Step {
        match message {
            ServerMessage::Event(event) => match self.resume.event(event.offset) {
                Verdict::Deliver => {
                    Step::Yield(Item::Event(Box::new(Received { event: *event, text: text.to_owned() })))
                }
                Verdict::Repeat => Step::Quiet,
            },
            ServerMessage::Subscribed { channels, offset, epoch, rejected, echo, .. } => {
                let Ok(epoch) = epoch.parse::<Epoch>() else {
                    let reason = format!("the server gave {epoch:?} as the log's epoch");
                    return Step::End(SubscribeError::Protocol { reason });
                };
                let Some(set) = self.set_of(&echo) else { return Step::Quiet };
                self.answered += 1;
                self.resume.subscribed(set, offset, epoch);
                let rejected = rejected.into_iter().map(|name| (name.channel, name.reason)).collect();
                Step::Yield(Item::Subscribed { sub: echo.sub, channels, offset, epoch, rejected })
            }
            ServerMessage::CaughtUp { offset, echo, .. } => {
                let Some(set) = self.set_of(&echo) else { return Step::Quiet };
                self.resume.caught_up(set, offset);
                Step::Yield(Item::CaughtUp { sub: echo.sub, offset })
            }
            ServerMessage::Checkpoint { offset } => {
                self.resume.checkpoint(offset);
                Step::Yield(Item::Checkpoint { offset })
            }
            ServerMessage::Gap { channels, from, to, reason, epoch, echo } => {
                let epoch = epoch.and_then(|epoch| epoch.parse().ok());
                if reason == "epoch" {
                    self.resume.epoch_gap(self.set_of(&echo), epoch, to);
                }
                let cause = gap_cause(reason, epoch);
                Step::Yield(Item::Gap(Gap { sub: echo.sub, channels, from, to, cause }))
            }
            ServerMessage::Error { error, code, detail, .. } if code == ErrorCode::Unavailable.code() => {
                Step::Reconnect(detail.map_or(error.clone(), |detail| format!("{error}: {detail}")))
            }
            ServerMessage::Error { error, code, detail, .. } => {
                Step::End(SubscribeError::Refused { error, code, detail })
            }
            ServerMessage::Unsubscribed { .. }
            | ServerMessage::Published { .. }
            | ServerMessage::Pong { .. }
            | ServerMessage::AuthOk { .. }
            | ServerMessage::Unknown => Step::Quiet,
        }
    }

    /// The set that a message speaks of: by the command's id, else by the set's name, else the only one.
    fn set_of(&self, echo: &Echoed) -> Option<usize> {
        if let Some(id) = &echo.id {
            return id.get().parse().ok().filter(|index| *index < self.interests.len());
        }
        self.interests.iter().position(|interest| interest.sub == echo.sub)
    }

    fn cut_history(&self, cut: CutHistory) -> Item {
        let interest = self.interests.get(cut.set);
        Item::Gap(Gap {
            sub: interest.and_then(|interest| interest.sub.clone()),
            channels: interest.map(|interest| interest.channels.clone()).unwrap_or_default(),
            from: cut.from,
            to: cut.to,
            cause: GapCause::HistoryCut,
        })
    }
}

fn gap_cause(reason: String, epoch: Option<Epoch>) -> GapCause {
    match reason.as_str() {
        "backlog" => GapCause::Backlog,
        "retention" => GapCause::Retention,
        "forbidden" => GapCause::Forbidden,
        "epoch" => GapCause::Epoch(epoch),
        _ => GapCause::Other(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::Start;

    const EPOCH: &str = "0197a6b0-0000-4000-8000-000000000000";

    fn event(offset: u64) -> String {
        format!(
            r#"{{"event_type":"t","channel":"tasks","timestamp":"2026-11-22T15:24:00Z","payload":{{}},"event_id":"e{offset}","offset":{offset},"version":1}}"#
        )
    }

    fn one_set(start: Start) -> Conversation {
        Conversation::new(vec![Interest::in_channels(["tasks"]).start(start)])
    }

    #[test]
    fn a_conversation_resumes_where_the_last_connection_ended() {
        let mut talk = one_set(Start::Live);
        let (commands, items) = talk.open(Duration::ZERO);
        assert_eq!(commands, [r#"{"action":"subscribe","id":0,"channels":["tasks"]}"#]);
        assert!(items.is_empty() && !talk.is_established());
        let answer =
            format!(r#"{{"action":"subscribed","channels":["tasks"],"offset":4,"epoch":"{EPOCH}","id":0}}"#);
        assert!(matches!(talk.receive(&answer), Step::Yield(Item::Subscribed { offset: 4, .. })));
        assert!(talk.is_established());
        let Step::Yield(Item::Event(received)) = talk.receive(&event(5)) else { panic!("no event") };
        assert_eq!((received.event.offset, received.text), (5, event(5)));
        assert!(matches!(talk.receive(&event(5)), Step::Quiet));
        assert!(matches!(talk.receive(r#"{"action":"checkpoint","offset":9}"#), Step::Yield(_)));
        assert_eq!(talk.position().unwrap().offset, 9);
        let expected =
            format!(r#"{{"action":"subscribe","id":0,"channels":["tasks"],"after":9,"epoch":"{EPOCH}"}}"#);
        assert_eq!(talk.open(Duration::ZERO).0, [expected]);
    }

    #[test]
    fn refusals_end_it_and_a_passing_trouble_reconnects() {
        let mut talk = one_set(Start::Live);
        talk.open(Duration::ZERO);
        let refused = talk.receive(
            r#"{"action":"error","error":"Filter bounds exceeded","code":"filter_bounds_exceeded","detail":"11 keys","id":0}"#,
        );
        let Step::End(error) = refused else { panic!("{refused:?}") };
        assert_eq!(error.to_string(), "Filter bounds exceeded: 11 keys");
        let text = format!(r#"{{"action":"error","error":"x","code":"{}"}}"#, ErrorCode::Unavailable.code());
        assert!(matches!(talk.receive(&text), Step::Reconnect(_)));
        assert!(matches!(talk.receive("{"), Step::End(SubscribeError::Protocol { .. })));
    }

    #[test]
    fn what_is_new_to_this_version_is_passed_over() {
        let mut talk = one_set(Start::Live);
        talk.open(Duration::ZERO);
        assert!(matches!(talk.receive(r#"{"action":"weather","offset":"sunny"}"#), Step::Quiet));
        let gap = talk.receive(r#"{"action":"gap","channels":["tasks"],"from":3,"to":4,"reason":"moths"}"#);
        let Step::Yield(Item::Gap(gap)) = gap else { panic!("{gap:?}") };
        assert_eq!(gap.cause, GapCause::Other("moths".into()));
    }

    #[test]
    fn sets_are_told_apart_by_id_and_by_name() {
        let mut talk = Conversation::new(vec![
            Interest::in_channels(["tasks"]).named("a").start(Start::After { offset: 1, epoch: None }),
            Interest::in_channels(["budget"]).named("b").start(Start::After { offset: 2, epoch: None }),
        ]);
        talk.open(Duration::ZERO);
        for (id, sub) in [(1, "b"), (0, "a")] {
            talk.receive(&format!(
                r#"{{"action":"subscribed","channels":[],"offset":9,"epoch":"{EPOCH}","id":{id},"sub":"{sub}"}}"#
            ));
        }
        talk.receive(r#"{"action":"caught_up","channels":[],"offset":9,"sub":"b"}"#);
        assert_eq!(talk.position().unwrap().offset, 1);
        talk.receive(r#"{"action":"caught_up","channels":[],"offset":8,"id":0}"#);
        assert_eq!(talk.position().unwrap().offset, 8);
    }

    /// The shared vectors of the protocol: what a server may say is understood, and what none says is reported.
    #[test]
    fn every_message_of_the_conformance_vectors() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/messages.json");
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(vectors.len() > 10);
        for vector in &vectors {
            let (name, message) = (&vector["name"], vector["message"].as_str().unwrap());
            let mut talk = one_set(Start::History(5));
            talk.open(Duration::ZERO);
            let step = talk.receive(message);
            let kind = vector["means"]["kind"].as_str();
            let expected = match kind {
                None => matches!(step, Step::End(SubscribeError::Protocol { .. })),
                Some("event") => {
                    matches!(&step, Step::Yield(Item::Event(received)) if received.text == message)
                }
                Some("error") => {
                    matches!(step, Step::End(SubscribeError::Refused { .. }) | Step::Reconnect(_))
                }
                Some("checkpoint") => matches!(step, Step::Yield(Item::Checkpoint { .. })),
                Some("gap") => matches!(step, Step::Yield(Item::Gap(_))),
                // Answers to commands with ids or sets that this conversation did not give are not for it.
                Some("subscribed") => matches!(step, Step::Yield(Item::Subscribed { .. }) | Step::Quiet),
                Some("caught_up") => matches!(step, Step::Yield(Item::CaughtUp { .. }) | Step::Quiet),
                Some(_) => matches!(step, Step::Quiet),
            };
            assert!(expected, "{name}: {message} came to {step:?}");
        }
    }
}
