//! The wire of Newswire: events, commands, replies, codes and limits.
//!
//! The only place that knows the JSON and the frames. Everything here is a pure function of its input: no clock,
//! no sockets, no randomness. Parsing never recurses and never reads a number as floating point.

pub mod cloudevents;
pub mod codes;
pub mod command;
mod command_text;
pub mod deflate;
pub mod event;
pub mod filter;
pub mod frame;
pub mod json;
pub mod limits;
pub mod names;
pub mod payload;
pub mod query;
pub mod reply;
pub mod scalar;
#[cfg(feature = "schema")]
pub mod schema;
pub mod server_message;
pub mod time;

pub use codes::{CloseCode, Epoch, ErrorCode, GapReason, Refusal, RejectReason};
pub use command::{
    Command, CommandFrame, CommandId, Credential, FilterChange, Start, Subscribe, Unsubscribe, parse_command,
};
pub use event::{AGENT_FIELDS, Draft, Encoded, Event, PROJECT_FIELDS, Parts, Routing};
pub use filter::FilterSpec;
pub use frame::FrameDecoder;
pub use limits::Limits;
pub use payload::payload_scalar;
pub use query::{Order, Query};
pub use scalar::Scalar;
pub use server_message::{Echoed, Rejected, ServerMessage, parse_server_message};
pub use time::{SinceSpec, UnixMicros};
