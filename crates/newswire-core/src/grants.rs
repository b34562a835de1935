//! On which channels a principal may do what.

use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::channel::ChannelPattern;
use crate::principal::Role;

/// What is done on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Be sent what comes.
    Subscribe,
    /// Store events.
    Publish,
    /// Read what was: replays and pages.
    History,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subscribe => "subscribe to",
            Self::Publish => "publish to",
            Self::History => "read the past of",
        })
    }
}

/// Channels for each [`Action`]. Cheap to clone.
///
/// A channel `user:<id>` is that user's alone, whatever is granted: nobody else may do anything on it, and no pattern of
/// anybody stands for it. A channel `admin:…` is for administrators to read, those whom all channels or this one are granted;
/// nobody publishes to it but the application itself, and no pattern of anybody stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants(Arc<Granted>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    subscribe: Channels,
    publish: Channels,
    history: Channels,
}

/// What somebody's own channel begins with; their id follows.
pub const OWN: &str = "user:";

/// What the channels begin with that only administrators see.
pub const ADMINS: &str = "admin:";

/// Whether a channel, or all that a beginning means, has to be named by those who may.
fn is_reserved(name: &str) -> bool {
    name.starts_with(OWN) || name.starts_with(ADMINS)
}

/// The channels that are meant where somebody names a pattern. Equal for all who were granted the same, so that their
/// subscriptions share an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Channels {
    /// Every one.
    All,
    /// Every one that is neither somebody's own nor for administrators.
    Unowned,
    /// Of those, what any of these means. Sorted.
    Listed(Arc<[ChannelPattern]>),
}

/// A text that is neither a channel's name nor the beginning of one with a `*` behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no channel, and no beginning of one followed by *")]
pub struct BadPattern(pub String);

impl Grants {
    /// Everything, the channels of all users too: where nobody is asked who they are, and for the application itself.
    pub fn open() -> Self {
        static OPEN: LazyLock<Grants> = LazyLock::new(|| Grants::alike(&Channels::All));
        OPEN.clone()
    }

    /// Every action on every channel that is not somebody else's own.
    pub fn all() -> Self {
        static ALL: LazyLock<Grants> = LazyLock::new(|| Grants::alike(&Channels::Unowned));
        ALL.clone()
    }

    /// Nothing, but on one's own channel.
    pub fn none() -> Self {
        Self::alike(&Channels::none())
    }

    fn alike(channels: &Channels) -> Self {
        let [subscribe, publish, history] = [channels.clone(), channels.clone(), channels.clone()];
        Self(Arc::new(Granted { subscribe, publish, history }))
    }

    /// The same, but this action on these channels and patterns only.
    ///
    /// # Errors
    /// [`BadPattern`] for the first text that is none.
    pub fn with<T: AsRef<str>>(
        mut self,
        action: Action,
        patterns: impl IntoIterator<Item = T>,
    ) -> Result<Self, BadPattern> {
        let read = |text: T| {
            ChannelPattern::parse(text.as_ref()).ok_or_else(|| BadPattern(text.as_ref().to_owned()))
        };
        let patterns: Vec<ChannelPattern> = patterns.into_iter().map(read).collect::<Result<_, _>>()?;
        *self.of_mut(action) = Channels::listed(patterns);
        Ok(self)
    }

    /// The same for somebody who has a name.
    pub(crate) fn of_somebody(mut self) -> Self {
        for action in [Action::Subscribe, Action::Publish, Action::History] {
            if *self.of(action) == Channels::All {
                *self.of_mut(action) = Channels::Unowned;
            }
        }
        self
    }

    /// Whether who is named `id` and has this role may do this on the channel.
    pub fn allows(&self, action: Action, channel: &str, id: &str, role: Role) -> bool {
        let channels = self.of(action);
        if *channels == Channels::All {
            return true;
        }
        if channel.starts_with(ADMINS) {
            return role == Role::Admin && action != Action::Publish && channels.name(channel);
        }
        channel.strip_prefix(OWN).map_or_else(|| channels.have(channel), |owner| owner == id)
    }

    /// Whether the channel is listed by its name.
    pub(crate) fn name(&self, action: Action, channel: &str) -> bool {
        let is_it = |one: &ChannelPattern| matches!(one, ChannelPattern::Exact(name) if **name == *channel);
        matches!(self.of(action), Channels::Listed(patterns) if patterns.iter().any(is_it))
    }

    /// Whether reading is restricted to no channels but those of others.
    pub(crate) fn is_unlimited(&self) -> bool {
        let is_limited = |action| matches!(self.of(action), Channels::Listed(_));
        ![Action::Subscribe, Action::History].into_iter().any(is_limited)
    }

    pub(crate) fn of(&self, action: Action) -> &Channels {
        match action {
            Action::Subscribe => &self.0.subscribe,
            Action::Publish => &self.0.publish,
            Action::History => &self.0.history,
        }
    }

    fn of_mut(&mut self, action: Action) -> &mut Channels {
        let granted = Arc::make_mut(&mut self.0);
        match action {
            Action::Subscribe => &mut granted.subscribe,
            Action::Publish => &mut granted.publish,
            Action::History => &mut granted.history,
        }
    }
}

impl Channels {
    pub(crate) fn none() -> Self {
        Self::Listed([].into())
    }

    fn listed(mut patterns: Vec<ChannelPattern>) -> Self {
        let everything =
            |pattern: &ChannelPattern| matches!(pattern, ChannelPattern::Prefix(prefix) if prefix.is_empty());
        if patterns.iter().any(everything) {
            return Self::Unowned;
        }
        patterns.sort_unstable();
        patterns.dedup();
        Self::Listed(patterns.into())
    }

    /// Whether a pattern that matches this channel stands for it.
    pub(crate) fn have(&self, channel: &str) -> bool {
        match self {
            Self::All => true,
            Self::Unowned | Self::Listed(_) => !is_reserved(channel) && self.name(channel),
        }
    }

    /// Whether the channel is among what was granted, be it reserved or not.
    fn name(&self, channel: &str) -> bool {
        match self {
            Self::All | Self::Unowned => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(channel)),
        }
    }

    /// Whether what was subscribed by this pattern means the channel: a name, itself; any other, what was granted.
    pub(crate) fn mean_by(&self, pattern: &ChannelPattern, channel: &str) -> bool {
        pattern.matches(channel) && (matches!(pattern, ChannelPattern::Exact(_)) || self.have(channel))
    }

    /// Whether the pattern stands for any channel, now or later.
    pub(crate) fn meet(&self, pattern: &ChannelPattern) -> bool {
        let reserved = match pattern {
            ChannelPattern::Exact(text) | ChannelPattern::Prefix(text) => is_reserved(text),
        };
        match self {
            Self::All => true,
            Self::Unowned => !reserved,
            Self::Listed(patterns) => !reserved && patterns.iter().any(|granted| granted.overlaps(pattern)),
        }
    }

    /// Whether every channel that a pattern stands for among the `granted` is one of these.
    pub(crate) fn have_all(&self, granted: &Self, pattern: &ChannelPattern) -> bool {
        let all = |here: &[ChannelPattern], meant: &ChannelPattern| here.iter().any(|one| one.covers(meant));
        match (self, granted) {
            (Self::All, _) | (Self::Unowned, Self::Unowned | Self::Listed(_)) => true,
            (Self::Unowned, Self::All) => false,
            (Self::Listed(here), Self::Listed(granted)) => {
                granted.iter().filter_map(|one| one.meet(pattern)).all(|meant| all(here, &meant))
            }
            (Self::Listed(here), _) => all(here, pattern),
        }
    }

    /// The channels of both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Listed(some), Self::Listed(others)) if some == others => self.clone(),
            (Self::Listed(some), Self::Listed(others)) => {
                let pairs =
                    some.iter().flat_map(|one| others.iter().filter_map(move |other| one.meet(other)));
                Self::listed(pairs.collect())
            }
            // In their order, each kind means fewer than the one before.
            _ => self.max(other).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(patterns: &[&str]) -> Channels {
        Grants::none().with(Action::History, patterns).unwrap().of(Action::History).clone()
    }

    #[test]
    fn an_action_is_for_the_channels_that_were_granted_for_it() {
        let grants = Grants::none()
            .with(Action::Subscribe, ["tasks", "agents*"])
            .and_then(|grants| grants.with(Action::Publish, ["*"]))
            .unwrap();
        assert!(grants.allows(Action::Subscribe, "tasks", "bob", Role::Observer));
        assert!(grants.allows(Action::Subscribe, "agents.eu", "bob", Role::Observer));
        assert!(!grants.allows(Action::Subscribe, "tasks2", "bob", Role::Observer));
        assert!(!grants.allows(Action::History, "tasks", "bob", Role::Observer));
        assert!(grants.allows(Action::Publish, "anything", "bob", Role::Observer));
        assert!(!grants.allows(Action::Publish, "user:eve", "bob", Role::Observer));
        assert!(grants.allows(Action::History, "user:bob", "bob", Role::Observer));
        assert_eq!(Grants::all().with(Action::Publish, ["a b"]), Err(BadPattern("a b".to_owned())));
    }

    #[test]
    fn what_is_for_administrators_is_read_by_them_by_name_and_written_by_nobody() {
        let may = |grants: &Grants, action, role| grants.allows(action, "admin:audit", "ada", role);
        let listed = |patterns: &[&str]| Grants::all().with(Action::Subscribe, patterns).unwrap();
        assert!(may(&Grants::all(), Action::Subscribe, Role::Admin));
        assert!(may(&Grants::all(), Action::History, Role::Admin));
        assert!(!may(&Grants::all(), Action::Publish, Role::Admin));
        assert!(!may(&listed(&["*", "admin:*", "admin:audit"]), Action::Subscribe, Role::Operator));
        assert!(may(&listed(&["admin:*"]), Action::Subscribe, Role::Admin));
        assert!(!may(&listed(&["tasks"]), Action::Subscribe, Role::Admin));
        let parse = |text| ChannelPattern::parse(text).unwrap();
        for channels in [&Channels::Unowned, &channels(&["admin:*", "a*"])] {
            assert!(!channels.have("admin:audit") && !channels.meet(&parse("admin:*")));
        }
        assert!(may(&Grants::open(), Action::Publish, Role::Publisher), "the application itself");
    }

    #[test]
    fn a_pattern_stands_for_what_was_granted_and_for_no_ones_own() {
        let parse = |text| ChannelPattern::parse(text).unwrap();
        let some = channels(&["tasks", "agents*", "user:bob"]);
        assert!(
            some.have("tasks") && some.have("agents.x") && !some.have("budget") && !some.have("user:bob")
        );
        assert!(some.meet(&parse("*")) && some.meet(&parse("agents.eu*")) && some.meet(&parse("t*")));
        assert!(!some.meet(&parse("b*")) && !some.meet(&parse("user:*")));
        assert!(!Channels::Unowned.meet(&parse("user:b*")) && Channels::Unowned.have("tasks"));
        assert!(Channels::All.have("user:bob"));
    }

    #[test]
    fn whether_a_pattern_stands_for_nothing_else() {
        let parse = |text| ChannelPattern::parse(text).unwrap();
        let granted = channels(&["tasks", "agents*"]);
        let whole = |past: &[&str], pattern| channels(past).have_all(&granted, &parse(pattern));
        assert!(whole(&["tasks", "a*"], "*") && whole(&["*"], "*") && whole(&["tasks"], "t*"));
        assert!(whole(&["agents.eu*"], "agents.eu*") && whole(&[], "b*"));
        assert!(!whole(&["tasks"], "*") && !whole(&["tasks", "agents.*"], "*") && !whole(&[], "ta*"));
        assert!(!channels(&["tasks"]).have_all(&Channels::Unowned, &parse("t*")));
        assert!(channels(&["t*"]).have_all(&Channels::Unowned, &parse("ta*")));
        assert!(Channels::All.have_all(&Channels::All, &parse("*")));
    }

    #[test]
    fn what_two_lists_mean_both() {
        let some = channels(&["tasks", "agents*", "x.*"]);
        assert_eq!(
            some.and(&channels(&["agents.eu*", "t*", "x.*", "z"])),
            channels(&["tasks", "agents.eu*", "x.*"])
        );
        assert_eq!(some.and(&Channels::Unowned), some);
        assert_eq!(Channels::All.and(&some), some);
        assert_eq!(channels(&["*"]), Channels::Unowned);
    }
}
