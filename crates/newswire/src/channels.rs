//! Which channels there are, as publishing and subscribing see it.

use std::collections::HashSet;
use std::sync::Arc;

use newswire_core::{Access, Action, ChannelPattern, ChannelPolicy, Filter, Principal};
use newswire_protocol::FilterSpec;
use newswire_protocol::codes::{ErrorCode, Refusal};
use newswire_protocol::names::is_channel_name;
use parking_lot::RwLock;

/// The declared channels and, where arbitrary ones are allowed, those that were published to.
#[derive(Debug)]
pub(crate) struct Channels {
    policy: ChannelPolicy,
    /// Channels beyond the declared ones that hold or held events.
    found: RwLock<HashSet<Arc<str>>>,
    /// Declared and found ones together may be so many.
    max: usize,
}

impl Channels {
    /// `stored` are the channels that the log holds already: they stay readable and count against `max`.
    pub(crate) fn new(
        declared: &[String],
        arbitrary_allowed: bool,
        max: usize,
        stored: &[Arc<str>],
    ) -> Result<Self, String> {
        if let Some(bad) = declared.iter().find(|name| !is_channel_name(name)) {
            return Err(bad.clone());
        }
        let policy = ChannelPolicy {
            declared: declared.iter().map(|name| Arc::from(name.as_str())).collect(),
            arbitrary_allowed,
            ..ChannelPolicy::default()
        };
        let channels = Self { policy, found: RwLock::default(), max };
        *channels.found.write() = channels.beyond_declared(stored);
        Ok(channels)
    }

    fn beyond_declared(&self, stored: &[Arc<str>]) -> HashSet<Arc<str>> {
        stored.iter().filter(|name| !self.policy.declared.contains(&***name)).cloned().collect()
    }

    /// Whether the channel was declared: that it is there tells nothing of what was published.
    pub(crate) fn is_declared(&self, channel: &str) -> bool {
        self.policy.declared.contains(channel)
    }

    /// What sessions go by: the declared channels and those that held events when the feed started.
    pub(crate) fn readable(&self) -> ChannelPolicy {
        let stored = self.found.read().iter().cloned().collect();
        ChannelPolicy { stored, ..self.policy.clone() }
    }

    pub(crate) fn count(&self) -> usize {
        self.policy.declared.len() + self.found.read().len()
    }

    /// Lets an event into the channel, a new one if that is allowed and there is room for it. `stored` tells the
    /// channels that hold events now: where there is no room, those that were trimmed away make some.
    ///
    /// `principal` is told of those channels only to which it may publish.
    pub(crate) fn admit(
        &self,
        channel: &str,
        principal: &Principal,
        stored: impl FnOnce() -> Vec<Arc<str>>,
    ) -> Result<(), Refusal> {
        if self.policy.declared.contains(channel) {
            return Ok(());
        }
        if !self.policy.allows(channel) {
            return Err(Refusal::because(
                ErrorCode::UnknownChannel,
                format!(
                    "{channel:?} is not declared; declared are {}",
                    self.declared(|name| principal.permit(Action::Publish, name).is_ok())
                ),
            ));
        }
        if self.found.read().contains(channel) {
            return Ok(());
        }
        let mut found = self.found.write();
        let is_full = |found: &HashSet<Arc<str>>| self.policy.declared.len() + found.len() >= self.max;
        if is_full(&found) {
            *found = self.beyond_declared(&stored());
        }
        if is_full(&found) && !found.contains(channel) {
            return Err(Refusal::because(
                ErrorCode::UnknownChannel,
                format!(
                    "{channel:?} would be a new channel and there are {} already (limits.channels)",
                    self.max
                ),
            ));
        }
        found.insert(channel.into());
        Ok(())
    }

    /// Reads the names and patterns of a request, if the principal may read them so, by this filter.
    pub(crate) fn permitted(
        &self,
        names: &[String],
        filters: &FilterSpec,
        principal: &Principal,
        access: Access,
    ) -> Result<Vec<ChannelPattern>, Refusal> {
        principal.permit_filter(&Filter::compile(filters))?;
        // First: whoever may not read a channel is not told whether there is one.
        let named = names.iter().filter_map(|name| ChannelPattern::parse(name));
        named.into_iter().try_for_each(|pattern| access.permit(principal, &pattern))?;
        self.patterns(names, principal, |name| {
            ChannelPattern::parse(name).is_some_and(|pattern| access.permit(principal, &pattern).is_ok())
        })
    }

    /// Reads names and patterns; tells only of channels that `may` be told.
    fn patterns(
        &self,
        names: &[String],
        principal: &Principal,
        may: impl Fn(&str) -> bool,
    ) -> Result<Vec<ChannelPattern>, Refusal> {
        let stored = |name: &String| self.found_pattern(name).filter(|_| principal.may_know(name));
        let parse = |name: &String| {
            self.policy.parse(name, principal).or_else(|| stored(name)).ok_or_else(|| {
                Refusal::because(
                    ErrorCode::UnknownChannel,
                    format!("{name:?}; declared are {}, and names may end in *", self.declared(&may)),
                )
            })
        };
        names.iter().map(parse).collect()
    }

    /// A channel that is no longer declared but still holds events stays readable.
    fn found_pattern(&self, name: &str) -> Option<ChannelPattern> {
        self.found.read().get(name).map(|name| ChannelPattern::Exact(Arc::clone(name)))
    }

    fn declared(&self, may: impl Fn(&str) -> bool) -> String {
        let told = self.policy.declared.iter().map(|name| &**name).filter(|name| may(name));
        told.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use newswire_core::{Grants, RowRule};

    use super::*;

    fn channels(arbitrary: bool, max: usize, stored: &[&str]) -> Channels {
        let stored: Vec<Arc<str>> = stored.iter().map(|name| Arc::from(*name)).collect();
        Channels::new(&["tasks".into(), "agents".into()], arbitrary, max, &stored).unwrap()
    }

    #[test]
    fn undeclared_channels_need_permission_and_room() {
        let (closed, somebody) = (channels(false, 10, &[]), Principal::anonymous());
        assert!(closed.admit("tasks", &somebody, Vec::new).is_ok());
        assert_eq!(closed.admit("other", &somebody, Vec::new).unwrap_err().code, ErrorCode::UnknownChannel);
        let open = channels(true, 4, &["old"]);
        assert!(["new", "old", "new"].into_iter().all(|name| open.admit(name, &somebody, Vec::new).is_ok()));
        let stored = || vec!["old".into(), "new".into()];
        assert_eq!(open.admit("newer", &somebody, stored).unwrap_err().code, ErrorCode::UnknownChannel);
        assert_eq!(open.count(), 4);
        // Once a channel has been trimmed away, its place is free.
        assert!(open.admit("newer", &somebody, || vec!["new".into()]).is_ok());
        assert_eq!(open.count(), 4);
    }

    #[test]
    fn what_is_stored_stays_readable() {
        let (closed, somebody) = (channels(false, 10, &["old"]), Principal::new("bob"));
        let read = |name: &str, who| closed.patterns(&[name.into(), "a*".into()], who, |_| true);
        assert!(read("old", &somebody).is_ok() && closed.readable().parse("old", &somebody).is_some());
        assert_eq!(read("new", &somebody).unwrap_err().code, ErrorCode::UnknownChannel);
        // Who sees some rows only is told no more of it than of a channel that never was.
        let filter = Filter::compile(&FilterSpec::parse(r#"{"project":"p"}"#).unwrap());
        let rita = Principal::new("rita").with_row_rule(RowRule::only(filter));
        assert_eq!(read("old", &rita).unwrap_err().code, ErrorCode::UnknownChannel);
        assert!(read("tasks", &rita).is_ok() && closed.readable().parse("old", &rita).is_none());
        let named = Grants::none().with(Action::History, ["old"]).unwrap();
        assert!(read("old", &rita.clone().with_grants(named)).is_ok());
    }

    #[test]
    fn a_refusal_names_only_what_its_reader_may_have() {
        let closed = channels(false, 10, &[]);
        let grants = Grants::none().with(Action::Publish, ["tasks"]).unwrap();
        let bob = Principal::new("bob").with_grants(grants.with(Action::History, ["tasks"]).unwrap());
        let published = closed.admit("user:bob", &bob, Vec::new).unwrap_err().to_string();
        let read = closed.permitted(&["!".into()], &FilterSpec::default(), &bob, Access::Past);
        for said in [published, read.unwrap_err().to_string()] {
            assert!(said.contains("declared are tasks") && !said.contains("agents"), "{said}");
        }
    }

    #[test]
    fn a_declared_name_must_be_one() {
        assert_eq!(Channels::new(&["a b".into()], false, 1, &[]).unwrap_err(), "a b");
    }
}
