//! The pure heart of Newswire: channels, filters, index, hub, backlog and session, without I/O.

pub mod channel;
pub mod event;
pub mod filter;
pub mod meta;
pub mod principal;
pub mod read;
pub mod selector;
pub mod view;

pub use channel::{ChannelPattern, ChannelPolicy};
pub use event::{Batch, BatchBuilder, EventView, Picks, Run};
pub use filter::{Clause, Filter, Key};
pub use meta::{DamagedMeta, EventHead, MetaView};
pub use principal::{Principal, RowRule, VariantId};
pub use read::{Direction, Page, ReadRequest};
pub use selector::{Selector, SelectorEntry};
pub use view::{LogView, Lost};
