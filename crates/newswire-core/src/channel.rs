//! Which channels there are, and patterns over their names.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use newswire_protocol::limits::MAX_NAME_BYTES;
use newswire_protocol::names::is_channel_name;

use crate::principal::Principal;

/// A channel by name, or all channels whose names begin alike, those of the future too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelPattern {
    /// This channel.
    Exact(Arc<str>),
    /// All channels that begin so; the text before the `*`, possibly empty.
    Prefix(Arc<str>),
}

impl ChannelPattern {
    /// Reads a channel name, or the beginning of one followed by `*`. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            None => is_channel_name(text).then(|| Self::Exact(text.into())),
            Some("") => Some(Self::Prefix("".into())),
            Some(prefix) => (prefix.len() < MAX_NAME_BYTES && is_channel_name(prefix))
                .then(|| Self::Prefix(prefix.into())),
        }
    }

    /// Whether the channel is meant.
    pub fn matches(&self, channel: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *channel,
            Self::Prefix(prefix) => channel.starts_with(&**prefix),
        }
    }

    /// Whether some channel is meant by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), b) => b.matches(a),
            (a, Self::Exact(b)) => a.matches(b),
            (Self::Prefix(a), Self::Prefix(b)) => a.starts_with(&**b) || b.starts_with(&**a),
        }
    }

    /// The pattern of the channels that are meant by both; `None` where there are none.
    pub(crate) fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            _ if !self.overlaps(other) => None,
            (Self::Exact(_), _) => Some(self.clone()),
            (_, Self::Exact(_)) => Some(other.clone()),
            // Of two beginnings that meet, the longer one is what both mean.
            (Self::Prefix(a), Self::Prefix(b)) => {
                Some(if a.len() >= b.len() { self.clone() } else { other.clone() })
            }
        }
    }

    /// Whether every channel that `other` means is meant.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Prefix(a), Self::Exact(b) | Self::Prefix(b)) => b.starts_with(&**a),
        }
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Which channels may be published to and subscribed.
#[derive(Clone, Debug)]
pub struct ChannelPolicy {
    /// These always.
    pub declared: BTreeSet<Arc<str>>,
    /// Any valid name too.
    pub arbitrary_allowed: bool,
    /// These were not declared, but hold events: for whoever may be told so ([`Principal::may_know`]).
    pub stored: BTreeSet<Arc<str>>,
}

impl Default for ChannelPolicy {
    /// The five that every deployment has.
    fn default() -> Self {
        let declared =
            ["tasks", "agents", "budget", "messages", "system"].into_iter().map(Arc::from).collect();
        Self { declared, arbitrary_allowed: false, stored: BTreeSet::new() }
    }
}

impl ChannelPolicy {
    /// Whether there is, or may be, such a channel.
    pub fn allows(&self, channel: &str) -> bool {
        self.declared.contains(channel) || (self.arbitrary_allowed && is_channel_name(channel))
    }

    /// Reads a name or pattern as a subscriber gave it; `None` if it is to be refused as unknown. A pattern is
    /// never unknown: it stands for channels of the future too.
    pub fn parse(&self, text: &str, principal: &Principal) -> Option<ChannelPattern> {
        ChannelPattern::parse(text).filter(|pattern| match pattern {
            ChannelPattern::Exact(name) => {
                self.allows(name) || (self.stored.contains(name) && principal.may_know(name))
            }
            ChannelPattern::Prefix(_) => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_or_prefixes() {
        for bad in ["", "a b", "a*b", "**", "é*", &"x".repeat(129), &format!("{}*", "x".repeat(128))] {
            assert_eq!(ChannelPattern::parse(bad), None, "{bad:?}");
        }
        let matches = |pattern: &str, channel: &str| ChannelPattern::parse(pattern).unwrap().matches(channel);
        assert!(matches("tasks", "tasks") && !matches("tasks", "tasks2"));
        assert!(
            matches("t*", "tasks") && matches("t*", "t") && !matches("t*", "agents") && matches("*", "x")
        );
        assert_eq!(ChannelPattern::parse("t*").unwrap().to_string(), "t*");
    }

    #[test]
    fn patterns_overlap_if_some_name_is_both() {
        let overlaps = |a: &str, b: &str| {
            let (a, b) = (ChannelPattern::parse(a).unwrap(), ChannelPattern::parse(b).unwrap());
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        assert!(
            overlaps("tasks", "tasks")
                && overlaps("t*", "tasks")
                && overlaps("t*", "tas*")
                && overlaps("*", "a*")
        );
        assert!(!overlaps("tasks", "agents") && !overlaps("a*", "tasks") && !overlaps("ta*", "te*"));
    }

    #[test]
    fn what_two_patterns_mean_both() {
        let parse = |text| ChannelPattern::parse(text).unwrap();
        let both = |a, b| parse(a).meet(&parse(b)).map(|pattern| pattern.to_string());
        assert_eq!(both("t*", "tasks").as_deref(), Some("tasks"));
        assert_eq!(both("tasks", "*").as_deref(), Some("tasks"));
        assert_eq!(both("ta*", "t*").as_deref(), Some("ta*"));
        assert_eq!((both("a*", "t*"), both("t", "tasks")), (None, None));
        let covers = |a, b| parse(a).covers(&parse(b));
        assert!(covers("t*", "tasks") && covers("t*", "ta*") && covers("t*", "t*") && covers("t", "t"));
        assert!(!covers("ta*", "t*") && !covers("tasks", "tasks*") && !covers("t*", "a"));
    }

    #[test]
    fn policy() {
        let (mut policy, anybody) = (ChannelPolicy::default(), Principal::anonymous());
        let parses = |policy: &ChannelPolicy, text| policy.parse(text, &anybody).is_some();
        assert!(parses(&policy, "tasks") && parses(&policy, "x*"));
        assert!(!parses(&policy, "other") && !parses(&policy, "a b"));
        policy.stored.insert("other".into());
        assert!(parses(&policy, "other") && !parses(&policy, "others"));
        policy.arbitrary_allowed = true;
        assert!(parses(&policy, "others") && !parses(&policy, "a b"));
    }
}
