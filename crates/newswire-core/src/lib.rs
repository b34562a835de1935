//! The pure heart of Newswire: channels, filters, index, hub, backlog and session, without I/O.
//!
//! No clock, no randomness, no sockets, no runtime: time and jitter are passed in, and what has to be done outside
//! comes out as an effect. A shell drives it (`newswire::socket`), property tests drive it (`tests/seam`).
//!
//! # The parts
//!
//! - [`Batch`]: the events of one commit, as one contiguous buffer of WebSocket frames. Everybody shares it; a [`Run`]
//!   picks events out of it.
//! - [`Hub`]: one for a feed, in one mutex. [`Hub::publish`] takes each committed batch, finds the connections that want
//!   any of its events through an index whose cost follows the matches, and puts runs into their outboxes. It also keeps
//!   the ring: the most recent batches, for those who are a little behind.
//! - [`Session`]: one for a connection, owned by its task. Commands go in ([`Session::handle`]), outputs come out
//!   ([`Session::next_output`]).
//! - [`LogView`]: what a session may ask of the log at once. What needs reading is an effect, [`Output::Read`].
//!
//! # The stream of a connection
//!
//! Each connection has one **live path**: the events that any of its live subscriptions matches, each once, in offset
//! order. The hub pushes them into the outbox; the session hands them on. In between stand messages with a **place**,
//! an offset `D`: behind every live event up to `D`, before every later one. These are the answers to `subscribe` and
//! `unsubscribe` (placed where the hub was when it took the command) and `caught_up`.
//!
//! A **slow** subscriber under [`BacklogPolicy::CatchUp`] leaves the live path when its outbox is full: waiting events
//! are dropped, the placed messages stay. The session reads on from where the queue was cut, out of the ring or the log,
//! with the subscriptions that held there; stops at the place of each message that waits, hands it on, and goes on with
//! what holds behind it; and takes the last step back onto the live path under the hub's lock. Nothing is lost and
//! nothing comes twice, whatever was commanded meanwhile.
//!
//! A **replay** (a `subscribe` with `after`, `since` or `history`) is a job beside the live path. Its subscriptions are
//! withheld from the live path while it reads. It takes turns with the live path by bytes, and never overtakes it: the
//! highest offset received is always a safe position for what is live. Its last step is taken under the hub's lock too:
//! the events up to `D` and `caught_up` are placed, and from the next batch on its channels are pushed. Where the live
//! path is being read instead of pushed, the two meet at an equal offset. Another command for a channel takes it away
//! from the replay at once; a replay that lost all its channels ends without `caught_up`.
//!
//! In one set, an event behind the answer's offset comes twice only if two replays of that set overlap: what the set has
//! live by another pattern is left out of a replay.
//!
//! # Writing beside the session
//!
//! A session that has nothing to do and expects only live events may arm its outbox ([`Session::arm`]): then whoever
//! publishes writes them to its socket ([`Wakes::flush`], [`DirectSink`]), and its task sleeps on. [`Session::resume`] begins
//! every poll of the task and ends that: only one writes at a time.
//!
//! # Bounds
//!
//! | what | bound | overflow |
//! | --- | --- | --- |
//! | events in an outbox | [`Backlog::max_bytes`]; one commit is always taken where nothing waits | the policy |
//! | sparse runs that keep their batch alive | 16 an outbox | copied out |
//! | in-stream answers | [`MAX_PENDING_ANSWERS`] | [`Session::wants_commands`] says no: the shell stops reading |
//! | pongs, errors, `published` | 128, 256 KiB | the same |
//! | publishes not answered | [`SessionConfig::max_publishes`], 1 MiB | the same |
//! | pages in hand | two a session, of [`SessionConfig::page_bytes`] | reading waits |
//! | replays | one a subscription, [`SessionConfig::max_subscriptions`] | the command is refused |
//! | ring | [`HubConfig::ring_bytes`] | the oldest batches leave; who needs them reads the log |
//!
//! # Driving a session
//!
//! ```
//! use std::sync::Arc;
//! use std::task::Waker;
//! use std::time::Duration;
//!
//! use newswire_core::{
//!     BatchBuilder, EventHead, Hub, HubConfig, LogView, Lost, Now, Output, Principal, Selector, Session, SessionConfig,
//! };
//! use newswire_protocol::{Draft, Epoch, Limits, UnixMicros};
//! use parking_lot::Mutex;
//!
//! struct Log; // Stands for the real one: empty, so nobody ever has to read it.
//! # const EPOCH: Epoch = Epoch::from_bytes([1; 16]);
//! impl LogView for Log {
//!     // …
//! #   fn epoch(&self) -> Epoch { EPOCH }
//! #   fn head(&self) -> u64 { 1 }
//! #   fn tail(&self) -> u64 { 1 }
//! #   fn channels(&self) -> Vec<Arc<str>> { Vec::new() }
//! #   fn lost(&self, _: &Selector, _: u64) -> Vec<Lost> { Vec::new() }
//! #   fn lost_since(&self, _: &Selector, _: UnixMicros) -> Vec<Lost> { Vec::new() }
//! }
//!
//! let hub = Mutex::new(Hub::new(HubConfig::default(), Log.epoch(), Log.tail() - 1));
//! let now = Now { mono: Duration::ZERO, wall: UnixMicros(0) }; // read before every call
//! let config = Arc::new(SessionConfig::default());
//! let mut session = Session::open(&hub, config, Principal::anonymous(), 1.0, now);
//!
//! // A frame came. Ask `wants_commands` first, and leave the socket unread while it says no.
//! session.on_received(now);
//! assert!(session.wants_commands());
//! session.handle(r#"{"action":"subscribe","channels":["tasks"]}"#, now, &hub, &Log);
//!
//! // The follower of the log publishes what was committed, and behind the hub's lock sees to whom it concerns: writes to
//! // the sockets of those who have everything, a few at a time, and wakes the tasks of all others.
//! let draft = Draft::parse(r#"{"channel":"tasks","event_type":"task.created"}"#, &Limits::default())?;
//! let encoded = draft.encode("id-1", now.wall);
//! let mut batch = BatchBuilder::new();
//! batch.push_encoded(1, now.wall, &EventHead::of(&draft, &encoded), &encoded);
//! let mut wakes = hub.lock().publish(Arc::new(batch.finish()));
//! while !wakes.is_done() {
//!     wakes.flush(64);
//! }
//!
//! // The connection's task: register the waker, write what was begun, then ask for outputs until there is nothing to do.
//! let mut out = Vec::new();
//! let mut written: Vec<u8> = session.resume(Waker::noop()).into_iter().flatten().collect();
//! loop {
//!     match session.next_output(now, &hub, &mut out, 64 << 10) {
//!         // Write all of it before asking again; meanwhile tell `write_blocked` and `write_progress`.
//!         Output::Write => written.extend(out.drain(..).flatten()),
//!         Output::Read(_request) => { /* read off the async threads, then `on_page` */ }
//!         Output::Publish(_ticket, _draft) => { /* store it, then `on_published` */ }
//!         Output::Authenticate(_credential) => { /* only where credentials count: check it, then `on_authenticated` */ }
//!         Output::Close(_code, _reason) => break,
//!         Output::Yield => { /* let others run, ask again */ }
//!         // Arm, then wait for a frame, the waker, an answer that is awaited, or that time.
//!         Output::Idle(_until) => break,
//!     }
//! }
//! let text = String::from_utf8_lossy(&written);
//! assert!(text.contains(r#"{"action":"subscribed","channels":["tasks"],"offset":0"#));
//! assert!(text.contains(r#""event_type":"task.created","channel":"tasks""#));
//! session.close(&hub);
//! # Ok::<(), newswire_protocol::Refusal>(())
//! ```

pub mod channel;
pub mod config;
pub mod event;
mod fields;
mod figures;
pub mod filter;
pub mod grants;
pub mod heartbeat;
pub mod hub;
mod index;
pub mod meta;
pub mod notice;
mod outbox;
mod packed;
pub mod principal;
pub mod read;
mod reader;
mod ring;
pub mod seeded;
pub mod selector;
pub mod session;
mod slab;
mod subscriptions;
mod told;
pub mod variant;
pub mod view;

pub use channel::{ChannelPattern, ChannelPolicy};
pub use config::{Backlog, BacklogPolicy, HubConfig, Now, SessionConfig};
pub use event::{Batch, BatchBuilder, EventView, Picks, PlacedBatch, Run, encode_frame, frame_header_len};
pub use figures::{ConnectionInfo, HubStats, SubscriptionInfo};
pub use filter::{Clause, Filter, Key};
pub use grants::{ADMINS, Action, BadPattern, Grants, OWN};
pub use heartbeat::{Beat, Heartbeat, HeartbeatConfig};
pub use hub::{ConnId, Hub, MAX_VARIANTS, Wakes};
pub use meta::{DamagedMeta, EventHead, MetaView};
pub use notice::{Answer, Missing, Notice};
pub use outbox::{DirectSink, Flushed, MAX_PENDING_ANSWERS, MAX_SLICES, TURN_BYTES};
pub use packed::MAX_STREAMS;
pub use principal::{Principal, Role, RowRule};
pub use read::{Direction, Page, ReadRequest};
pub use selector::{Access, Selector, SelectorEntry};
pub use session::{Admitted, Noted, Output, Piece, Published, Session, Standing, Ticket};
pub use variant::{Masked, Variant, VariantId};
pub use view::{LogView, Lost};
