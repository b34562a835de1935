//! On whose behalf clients read: what of the log exists for them.

use newswire_core::{Action, Grants, Principal, RowRule, Variant};
use serde_json::json;

use crate::client::Filter;
use crate::world::{CHANNELS, OWN_CHANNEL};

/// Whom a client reads for: which events exist for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub filter: Filter,
    /// Channels it may read; all without.
    pub granted: Option<Vec<&'static str>>,
    /// It is not shown the padding.
    pub masked: bool,
}

impl Rule {
    /// Half of the clients see everything.
    pub fn of(seed: u16) -> Self {
        if seed.is_multiple_of(2) {
            return Self::default();
        }
        let [kind, grant] = seed.to_le_bytes();
        let granted = match grant % 3 {
            0 => None,
            1 => Some(vec!["tasks", "tests"]),
            _ => Some(vec!["agents", "a.b"]),
        };
        Self { filter: Filter::of(kind / 8), granted, masked: kind & 2 != 0 }
    }

    pub fn may(&self, channel: &str) -> bool {
        channel == OWN_CHANNEL || self.granted.as_ref().is_none_or(|granted| granted.contains(&channel))
    }

    /// Whether it may subscribe so: a pattern that stands for something, or a name.
    pub fn may_ask(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(beginning) => self
                .granted
                .as_ref()
                .is_none_or(|granted| granted.iter().any(|channel| channel.starts_with(beginning))),
            None => self.may(pattern),
        }
    }

    /// Whether it may know which channels had events that were trimmed.
    pub fn knows_trims(&self) -> bool {
        self.filter == Filter::default()
    }

    pub fn principal(&self) -> Principal {
        let text = json!({"action": "subscribe", "channels": [], "filters": self.filter.json()}).to_string();
        let spec = match newswire_protocol::parse_command(&text, &newswire_protocol::Limits::default()) {
            Ok(newswire_protocol::CommandFrame {
                command:
                    newswire_protocol::Command::Subscribe(newswire_protocol::Subscribe {
                        filters: newswire_protocol::FilterChange::Replace(spec),
                        ..
                    }),
                ..
            }) => spec,
            other => panic!("{other:?}"),
        };
        let rule = RowRule::only(newswire_core::Filter::compile(&spec));
        let mut principal = Principal::new("somebody").with_row_rule(rule);
        if let Some(granted) = &self.granted {
            let both = Grants::none().with(Action::Subscribe, granted).unwrap();
            principal = principal.with_grants(both.with(Action::History, granted).unwrap());
        }
        if self.masked { principal.with_variant(Variant::masking(["pad"])) } else { principal }
    }
}

pub fn pattern_matches(pattern: &str, channel: &str) -> bool {
    let begins = |prefix| channel != OWN_CHANNEL && channel.starts_with(prefix);
    pattern.strip_suffix('*').map_or(pattern == channel, begins)
}

/// Keeps the list of channels in one place.
pub fn channels_of(pattern: &str) -> impl Iterator<Item = &'static str> {
    let pattern = pattern.to_owned();
    CHANNELS.into_iter().filter(move |channel| pattern_matches(&pattern, channel))
}
