//! On whose behalf events are read and published, and what that one may do and see.

use std::fmt;
use std::sync::Arc;

use newswire_protocol::{ErrorCode, Refusal};

use crate::event::EventView;
use crate::fields::PayloadFields;
use crate::filter::{Filter, Key};
use crate::grants::{Action, Grants, OWN};
use crate::variant::Variant;

/// Who reads and publishes: what it may do, which events exist for it, and how they look to it. Every read carries one:
/// live, replay, history, single events. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Names it to people, and says whose `user:` channel is its own.
    pub id: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// On which channels.
    pub grants: Grants,
    /// Which events exist for it.
    pub row_rule: RowRule,
    /// How payloads look to it.
    pub variant: Variant,
}

impl Principal {
    /// Anybody, where nobody is asked who they are: sees everything, whole, and may publish everywhere.
    pub fn anonymous() -> Self {
        Self {
            id: Arc::from(ANONYMOUS),
            role: Role::default(),
            grants: Grants::open(),
            row_rule: RowRule::AlwaysTrue,
            variant: Variant::Full,
        }
    }

    /// Somebody by name: reads everything, whole, but the `user:` channels of others, and is an [`Role::Observer`].
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self { id: id.into(), role: Role::Observer, grants: Grants::all(), ..Self::anonymous() }
    }

    /// The same by another name. Who has a name has no part in the `user:` channels of others.
    #[must_use]
    pub fn named(self, id: &str) -> Self {
        Self { id: Arc::from(id), grants: self.grants.of_somebody(), ..self }
    }

    /// The same with another role.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// The same on other channels.
    #[must_use]
    pub fn with_grants(self, grants: Grants) -> Self {
        Self { grants, ..self }
    }

    /// The same, for whom other events exist.
    #[must_use]
    pub fn with_row_rule(self, row_rule: RowRule) -> Self {
        Self { row_rule, ..self }
    }

    /// The same, to whom payloads look otherwise.
    #[must_use]
    pub fn with_variant(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// Whether nobody said who this is.
    pub fn is_anonymous(&self) -> bool {
        &*self.id == ANONYMOUS
    }

    /// Whether both may do and see the same, whoever they are. Their own channels are not compared.
    pub fn has_same_view(&self, other: &Self) -> bool {
        (&self.grants, &self.row_rule, &self.variant) == (&other.grants, &other.row_rule, &other.variant)
    }

    /// Whether every event of every channel that is not somebody else's exists for it: figures over all events tell it
    /// nothing that it may not know.
    pub fn sees_all_rows(&self) -> bool {
        self.row_rule == RowRule::AlwaysTrue && self.grants.is_unlimited()
    }

    /// Whether it may be told that an undeclared channel is there: not one for whom some events never existed, unless its
    /// permissions name the channel, or the channel is its own.
    pub fn may_know(&self, channel: &str) -> bool {
        let listed = |action| self.grants.name(action, channel);
        self.row_rule == RowRule::AlwaysTrue
            || listed(Action::Subscribe)
            || listed(Action::History)
            || channel.strip_prefix(OWN) == Some(&*self.id)
    }

    /// [`Principal::require`] for what concerns everybody's events.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`] where its role is less than this one, or where it sees only some events.
    pub fn require_of_all(&self, role: Role) -> Result<(), Refusal> {
        self.require(role)?;
        if self.sees_all_rows() {
            return Ok(());
        }
        let detail = format!("{} may not do this: it concerns events that it may not see", self.id);
        Err(Refusal::because(ErrorCode::Forbidden, detail))
    }

    /// Whether it may do this on a channel.
    pub fn may(&self, action: Action, channel: &str) -> bool {
        self.grants.allows(action, channel, &self.id, self.role)
    }

    /// [`Principal::may`] as a refusal.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`].
    pub fn permit(&self, action: Action, channel: &str) -> Result<(), Refusal> {
        if self.may(action, channel) {
            return Ok(());
        }
        Err(self.forbids(action, channel))
    }

    /// What a refusal says to it.
    pub(crate) fn forbids(&self, action: Action, channels: impl fmt::Display) -> Refusal {
        Refusal::because(ErrorCode::Forbidden, format!("{} may not {action} {channels}", self.id))
    }

    /// Refuses a filter that would tell what is masked.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`] naming the field.
    pub fn permit_filter(&self, filter: &Filter) -> Result<(), Refusal> {
        let fields = filter.clauses().iter().flat_map(|clause| clause.key.fields());
        match fields.into_iter().find(|field| self.variant.hides(field)) {
            None => Ok(()),
            Some(field) => Err(Refusal::because(
                ErrorCode::Forbidden,
                format!("{field} is masked for {}, and cannot be filtered on", self.id),
            )),
        }
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
    /// See who is connected.
    Operator,
    /// Close connections, trim the log, take credentials back.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observer => "observer",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "administrator",
        })
    }
}

/// Which events exist for a principal. Evaluated where a selector admits an event, and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowRule {
    /// All.
    #[default]
    AlwaysTrue,
    /// Those that pass the filter; so none that lacks a key of it.
    Only(Arc<Filter>),
}

impl RowRule {
    /// The events that pass a filter.
    pub fn only(filter: Arc<Filter>) -> Self {
        if filter.is_all() { Self::AlwaysTrue } else { Self::Only(filter) }
    }

    /// What the rule asks, if it asks anything.
    pub fn filter(&self) -> Option<&Arc<Filter>> {
        match self {
            Self::AlwaysTrue => None,
            Self::Only(filter) => Some(filter),
        }
    }

    /// Whether the event, whose payload `fields` reads, exists for the principal.
    pub(crate) fn allows(&self, event: &EventView<'_>, fields: &PayloadFields<'_>) -> bool {
        self.filter().is_none_or(|filter| filter.matches_with(event, fields))
    }
}

impl Key {
    /// The fields of the payload that the key compares; none for the envelope's.
    fn fields(&self) -> Vec<&str> {
        match self {
            Self::Agent => newswire_protocol::AGENT_FIELDS.to_vec(),
            Self::Project => newswire_protocol::PROJECT_FIELDS.to_vec(),
            Self::Payload(name) => vec![name],
            Self::CorrelationId | Self::CausationId | Self::Source | Self::EventType => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use newswire_protocol::{FilterSpec, Scalar};

    use super::*;

    #[test]
    fn a_role_may_what_those_before_it_may() {
        let observer = Principal::anonymous().with_role(Role::Observer);
        assert!(observer.require(Role::Observer).is_ok());
        assert_eq!(observer.require(Role::Publisher).unwrap_err().code, ErrorCode::Forbidden);
        assert!(Principal::anonymous().require(Role::Publisher).is_ok());
        assert!(Principal::anonymous().require(Role::Admin).is_err());
        assert!(Principal::anonymous().with_role(Role::Admin).require(Role::Operator).is_ok());
        assert!(Principal::new("olga").with_role(Role::Operator).require(Role::Admin).is_err());
    }

    #[test]
    fn who_sees_some_rows_knows_no_channel_that_it_was_not_named() {
        let filter = |name: &str| {
            let clauses = vec![(name.to_owned(), vec![Scalar::string("x")])];
            Filter::compile(&FilterSpec { clauses: clauses.into_iter().collect() })
        };
        let rita = Principal::new("rita").with_row_rule(RowRule::only(filter("project")));
        assert!(Principal::new("bob").may_know("secret") && !rita.may_know("secret"));
        assert!(rita.may_know("user:rita") && !rita.may_know("user:bob"));
        let named = Grants::none().with(Action::History, ["secret", "other*"]).unwrap();
        let rita = rita.with_grants(named);
        assert!(rita.may_know("secret") && !rita.may_know("others"));
        let boss = Principal::new("boss").with_role(Role::Admin);
        assert!(boss.require_of_all(Role::Admin).is_ok() && boss.require_of_all(Role::Operator).is_ok());
        for less in [rita.with_role(Role::Admin), boss.with_role(Role::Operator)] {
            assert_eq!(less.require_of_all(Role::Admin).unwrap_err().code, ErrorCode::Forbidden);
        }
    }

    #[test]
    fn a_channel_of_a_user_is_its_owners_alone() {
        let bob = Principal::new("bob");
        for action in [Action::Subscribe, Action::Publish, Action::History] {
            assert!(bob.may(action, "user:bob") && bob.may(action, "tasks"));
            for other in ["user:", "user:eve", "user:bobby", "user:bo"] {
                assert!(!bob.may(action, other), "{other}");
                assert!(Principal::anonymous().may(action, other));
                assert!(!Principal::anonymous().named("bob").may(action, other));
            }
        }
        assert!(!bob.clone().with_role(Role::Admin).may(Action::Subscribe, "user:eve"));
        let wide = Grants::none().with(Action::Subscribe, ["*", "user:*", "user:eve"]).unwrap();
        assert!(!bob.with_grants(wide).may(Action::Subscribe, "user:eve"));
    }

    #[test]
    fn what_is_masked_cannot_be_filtered_on() {
        let filter = |key: &str| {
            let clauses = vec![(key.to_owned(), vec![Scalar::string("x")])];
            Filter::compile(&FilterSpec { clauses: clauses.into_iter().collect() })
        };
        let masked = |field: &str| Principal::new("bob").with_variant(Variant::masking([field]));
        assert!(masked("cost").permit_filter(&filter("agent")).is_ok());
        let refused = masked("cost").permit_filter(&filter("cost")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert!(refused.detail.unwrap().contains("cost is masked"));
        assert!(masked("assigned_to").permit_filter(&filter("agent")).is_err());
        assert!(masked("project_id").permit_filter(&filter("project")).is_err());
        assert!(masked("event_type").permit_filter(&filter("event_type")).is_ok());
        let blind = Principal::new("bob").with_variant(Variant::None);
        assert!(blind.permit_filter(&filter("x")).is_err() && blind.permit_filter(&filter("source")).is_ok());
    }
}
