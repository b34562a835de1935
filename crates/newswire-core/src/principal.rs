//! On whose behalf events are read.

use std::sync::Arc;

use crate::event::EventView;

/// Who reads: what it may see, and in which variant. Every read carries one: live, replay, history, single events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Names it to people.
    pub id: Arc<str>,
    /// Which events exist for it.
    pub row_rule: RowRule,
    /// How payloads look to it.
    pub variant: VariantId,
}

impl Principal {
    /// Anybody: sees everything, whole.
    pub fn anonymous() -> Self {
        Self { id: Arc::from("anonymous"), row_rule: RowRule::AlwaysTrue, variant: VariantId::FULL }
    }
}

/// Which events exist for a principal. Evaluated by [`RowRule::allows`] and nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowRule {
    /// All.
    #[default]
    AlwaysTrue,
}

impl RowRule {
    /// Whether the event exists for the principal.
    pub fn allows(self, _event: &EventView<'_>) -> bool {
        match self {
            Self::AlwaysTrue => true,
        }
    }
}

/// One of the ways in which a payload is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantId(pub u16);

impl VariantId {
    /// The payload as published.
    pub const FULL: Self = Self(0);
}
