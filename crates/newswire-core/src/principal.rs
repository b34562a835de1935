//! On whose behalf events are read.

use std::fmt;
use std::sync::Arc;

use newswire_protocol::{ErrorCode, Refusal};

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
    /// What it may do.
    pub role: Role,
}

impl Principal {
    /// Anybody: sees everything, whole, and may publish.
    pub fn anonymous() -> Self {
        Self {
            id: Arc::from(ANONYMOUS),
            row_rule: RowRule::AlwaysTrue,
            variant: VariantId::FULL,
            role: Role::default(),
        }
    }

    /// The same by another name.
    pub fn named(self, id: &str) -> Self {
        Self { id: Arc::from(id), ..self }
    }

    /// The same with another role.
    pub fn with_role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// Whether nobody said who this is.
    pub fn is_anonymous(&self) -> bool {
        &*self.id == ANONYMOUS
    }

    /// The one place that asks what a role may.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`] where its role is less than this one.
    pub fn require(&self, role: Role) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        Err(Refusal::because(ErrorCode::Forbidden, format!("{} may not do this: it is for {role}s", self.id)))
    }
}

const ANONYMOUS: &str = "anonymous";

/// What a principal may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read.
    Observer,
    /// Publish.
    #[default]
    Publisher,
    /// See and close connections, trim the log.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observer => "observer",
            Self::Publisher => "publisher",
            Self::Admin => "administrator",
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_what_those_before_it_may() {
        let observer = Principal::anonymous().with_role(Role::Observer);
        assert!(observer.require(Role::Observer).is_ok());
        assert_eq!(observer.require(Role::Publisher).unwrap_err().code, ErrorCode::Forbidden);
        assert!(Principal::anonymous().require(Role::Publisher).is_ok());
        assert!(Principal::anonymous().require(Role::Admin).is_err());
        assert!(Principal::anonymous().with_role(Role::Admin).require(Role::Observer).is_ok());
    }
}
