//! The WebSocket layer against RFC 6455, section by section as the Autobahn suite divides it, with frames made by hand.
//!
//! The feed echoes no messages, but a `ping` command repeats its `id`, so that text travels both ways. Every case names
//! the bytes sent and all that must come back; a case that leaves the connection open proves it with a last command.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod cases;
mod closing;
mod limits;
mod text;

use std::collections::VecDeque;

use newswire_street_tests::raw::{CLOSE, PONG, TEXT};
use newswire_street_tests::{Frame, Server};

/// One thing the server must say.
#[derive(Debug, Clone)]
enum Say {
    /// A `pong` command answer with this id, byte for byte.
    Echo(String),
    /// An error answer with this text.
    Error(&'static str),
    /// A pong frame with this payload.
    Pong(Vec<u8>),
    /// A close frame with one of these codes, and then the end of the connection.
    Close(&'static [u16]),
}

/// Bytes to send, in pieces that are written one by one, and what must come back.
struct Case {
    name: String,
    pieces: Vec<Vec<u8>>,
    says: Vec<Say>,
}

impl Case {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), pieces: Vec::new(), says: Vec::new() }
    }

    fn frame(mut self, frame: &Frame) -> Self {
        self.pieces.push(frame.encode());
        self
    }

    fn bytes(mut self, bytes: Vec<u8>) -> Self {
        self.pieces.push(bytes);
        self
    }

    /// Cuts all bytes given so far into pieces of this size.
    fn chopped(mut self, size: usize) -> Self {
        self.pieces = self.pieces.concat().chunks(size).map(<[u8]>::to_vec).collect();
        self
    }

    fn says(mut self, say: Say) -> Self {
        self.says.push(say);
        self
    }

    fn closes(self, codes: &'static [u16]) -> Self {
        self.says(Say::Close(codes))
    }

    async fn run(mut self, server: &Server) {
        let mut raw = server.raw().await;
        for piece in &self.pieces {
            raw.write(piece).await;
        }
        let closes = matches!(self.says.last(), Some(Say::Close(_)));
        if !closes {
            raw.send(&Frame::text(echo("the end"))).await;
            self.says.push(Say::Echo("the end".into()));
        }
        // Pong frames may overtake texts; among themselves both keep their order, and a close comes last.
        let is_pong = |say: &Say| matches!(say, Say::Pong(_));
        let mut pongs: VecDeque<Say> = self.says.iter().filter(|say| is_pong(say)).cloned().collect();
        let mut others: VecDeque<Say> = self.says.iter().filter(|say| !is_pong(say)).cloned().collect();
        while let Some(awaited) = others.front().or(pongs.front()).cloned() {
            let Some(frame) = raw.next().await else {
                panic!("{}: the connection ended before {awaited:?}", self.name)
            };
            let say = if frame.opcode == PONG {
                // Of pings that came close together, the RFC lets a server answer only the latest.
                let answered = pongs
                    .iter()
                    .position(|say| matches!(say, Say::Pong(payload) if *payload == frame.payload));
                answered.and_then(|at| pongs.drain(..=at).next_back())
            } else {
                others.pop_front()
            };
            let Some(say) = say else { panic!("{}: unexpected {frame:?}", self.name) };
            self.check(&frame, &say);
        }
        if closes {
            raw.shutdown().await;
            assert_eq!(raw.next().await, None, "{}: something follows the close", self.name);
        }
    }

    fn check(&self, frame: &Frame, say: &Say) {
        let name = &self.name;
        assert!(frame.fin && frame.rsv == 0, "{name}: {frame:?}");
        let answer = || -> serde_json::Value {
            assert_eq!(frame.opcode, TEXT, "{name}: {frame:?} instead of {say:?}");
            serde_json::from_str(frame.as_text()).unwrap()
        };
        match say {
            Say::Echo(id) => {
                let answer = answer();
                assert_eq!(
                    (&answer["action"], &answer["id"]),
                    (&"pong".into(), &id.as_str().into()),
                    "{name}"
                );
            }
            Say::Error(text) => {
                let answer = answer();
                assert_eq!(
                    (&answer["action"], &answer["error"]),
                    (&"error".into(), &(*text).into()),
                    "{name}"
                );
            }
            Say::Pong(payload) => assert_eq!(&frame.payload, payload, "{name}"),
            Say::Close(codes) => {
                assert_eq!(frame.opcode, CLOSE, "{name}: {frame:?}");
                assert!(codes.contains(&frame.close_code()), "{name}: closed with {}", frame.close_code());
                assert!(frame.payload.len() <= 125, "{name}: {frame:?}");
            }
        }
    }
}

/// A ping command whose answer repeats `id`, which must need no escapes.
fn echo(id: &str) -> String {
    format!(r#"{{"action":"ping","id":"{id}"}}"#)
}

/// The same command, filled up with spaces to `length` bytes.
fn echo_of_length(id: &str, length: usize) -> String {
    let command = echo(id);
    format!("{command}{}", " ".repeat(length - command.len()))
}

/// Runs cases side by side, a few at a time, against one server.
async fn run(cases: Vec<Case>) {
    let server = std::sync::Arc::new(Server::start());
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        let server = std::sync::Arc::clone(&server);
        running.spawn(async move { case.run(&server).await });
        while running.len() >= 16 {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}
