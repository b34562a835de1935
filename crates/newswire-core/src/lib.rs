//! The pure heart of Newswire: channels, filters, index, hub, backlog and session, without I/O.

pub mod channel;
pub mod config;
pub mod event;
mod fields;
pub mod filter;
pub mod heartbeat;
pub mod hub;
mod index;
pub mod meta;
mod outbox;
pub mod principal;
pub mod read;
mod reader;
mod ring;
pub mod seeded;
pub mod selector;
pub mod session;
mod slab;
mod subscriptions;
pub mod view;

pub use channel::{ChannelPattern, ChannelPolicy};
pub use config::{Backlog, BacklogPolicy, HubConfig, Now, SessionConfig};
pub use event::{Batch, BatchBuilder, EventView, Picks, Run};
pub use filter::{Clause, Filter, Key};
pub use heartbeat::{Beat, Heartbeat, HeartbeatConfig};
pub use hub::{ConnId, ConnectionInfo, Hub, HubStats, SubscriptionInfo, Wakes};
pub use meta::{DamagedMeta, EventHead, MetaView};
pub use outbox::MAX_PENDING_ANSWERS;
pub use principal::{Principal, RowRule, VariantId};
pub use read::{Direction, Page, ReadRequest};
pub use selector::{Selector, SelectorEntry};
pub use session::{Output, Published, Session, Ticket};
pub use view::{LogView, Lost};
