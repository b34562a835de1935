//! Readers in the same process, held to the same model as sockets: what they are handed as values is written down as the
//! message that a socket would have been sent.

use newswire_core::{Notice, Output, Piece};
use newswire_protocol::{Command as Asked, Limits, parse_command};
use serde_json::{Value, json};

use crate::client::{Client, What};
use crate::world::World;

/// What turns values into messages.
#[derive(Default)]
pub struct InProcess {
    pieces: Vec<Piece>,
    /// Commands that were answered.
    answered: usize,
}

impl Client {
    /// Subscribes or unsubscribes without a frame.
    pub fn ask_in_process(&mut self, text: &str, world: &World) {
        match parse_command(text, &Limits::default()).unwrap().command {
            Asked::Subscribe(ask) => {
                self.session.subscribe(&ask, world.now, &world.hubs[self.shard], world).unwrap();
            }
            Asked::Unsubscribe(ask) => self.session.unsubscribe(&ask, &world.hubs[self.shard]),
            other => panic!("{other:?} is not for readers in the process"),
        }
    }

    pub fn pump_in_process(&mut self, world: &World, budget: usize) -> bool {
        let mut in_process = self.in_process.take().unwrap();
        let hub = &world.hubs[self.shard];
        let output = self.session.next_pieces(world.now, hub, &mut in_process.pieces, budget);
        let moved = match output {
            Output::Write => {
                assert!(!in_process.pieces.is_empty());
                for piece in std::mem::take(&mut in_process.pieces) {
                    self.take_piece(piece, &mut in_process.answered);
                }
                true
            }
            Output::Read(request) => {
                assert!(self.reading.replace(request).is_none(), "two reads under way");
                true
            }
            Output::Close(code, _) => {
                self.closed = Some(code.number());
                false
            }
            Output::Yield => true,
            Output::Idle(until) => {
                self.rest_until(until, false);
                false
            }
            Output::Publish(..) | Output::Authenticate(_) => panic!("nobody publishes or says who it is"),
        };
        self.in_process = Some(in_process);
        moved
    }

    fn take_piece(&mut self, piece: Piece, answered: &mut usize) {
        match piece {
            Piece::Events(run, places) => {
                assert!(places.start < places.end && places.end <= run.len());
                for nth in places {
                    let event = run.batch.get(run.index(nth));
                    self.received.push(serde_json::from_slice(event.json).unwrap());
                }
            }
            Piece::Notice(notice) => {
                let message = self.message(notice, answered);
                self.received.push(message);
            }
        }
    }

    fn message(&self, notice: Notice, answered: &mut usize) -> Value {
        match notice {
            Notice::Subscribed(answer) => {
                let mut message = json!({
                    "action": "subscribed",
                    "channels": answer.channels,
                    "offset": answer.offset,
                    "epoch": answer.epoch.to_string(),
                    "id": self.next_answered(answered),
                });
                if let Some(recovered) = answer.recovered {
                    message["recovered"] = json!(recovered);
                }
                let rejected = answer.rejected.iter();
                let rejected: Vec<Value> = rejected
                    .map(|(channel, reason)| json!({"channel": channel, "reason": reason.text()}))
                    .collect();
                if !rejected.is_empty() {
                    message["rejected"] = json!(rejected);
                }
                message
            }
            Notice::Unsubscribed { channels } => {
                json!({"action": "unsubscribed", "channels": channels, "id": self.next_answered(answered)})
            }
            Notice::CaughtUp { channels, offset } => {
                let id = self.replay_of(&channels, *answered);
                json!({"action": "caught_up", "channels": channels, "offset": offset, "id": id})
            }
            Notice::Checkpoint { offset } => json!({"action": "checkpoint", "offset": offset}),
            Notice::Gap(gap) => json!({
                "action": "gap",
                "channels": gap.channels,
                "from": gap.from,
                "to": gap.to,
                "reason": gap.reason.text(),
                "epoch": gap.epoch.to_string(),
            }),
        }
    }

    /// Answers come in the order of the commands.
    fn next_answered(&self, answered: &mut usize) -> u64 {
        *answered += 1;
        self.commands[*answered - 1].id
    }

    /// The command whose replay is over: the last one answered that subscribed to the channel, as every later one takes it
    /// away from the earlier; the very last one, where nothing was to be replayed.
    fn replay_of(&self, channels: &[String], answered: usize) -> u64 {
        let subscribes = |command: &&crate::client::Command| {
            matches!(command.what, What::Subscribe { .. })
                && channels.first().is_none_or(|channel| command.concerns(None, channel))
        };
        self.commands[..answered].iter().rev().find(subscribes).expect("somebody asked for it").id
    }
}
