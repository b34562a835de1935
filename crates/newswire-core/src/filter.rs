//! Filters, compiled: which events of a channel a subscription wants.

use std::sync::{Arc, LazyLock};

use newswire_protocol::{FilterSpec, Scalar};

use crate::event::EventView;
use crate::fields::PayloadFields;

/// A filter: every clause must hold. Equal filters are equal values, however they were written, so that
/// subscriptions with the same filter share one evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter {
    clauses: Box<[Clause]>,
    footprint: usize,
}

/// One key and what it may be: any of the values, or (types only) beginning with any of the prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clause {
    /// What is compared.
    pub key: Key,
    /// Accepted values, sorted.
    pub values: Box<[Scalar]>,
    /// Accepted beginnings of the event type, sorted; empty for other keys. An empty one accepts every type.
    pub prefixes: Box<[Box<str>]>,
}

/// What a clause compares. The order is the order of selectivity: the earlier, the fewer events have a given value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The envelope's `correlation_id`.
    CorrelationId,
    /// The envelope's `causation_id`.
    CausationId,
    /// Any of the payload's `agent_id`, `agent`, `from`, `to`, `assigned_to`.
    Agent,
    /// A top-level key of the payload.
    Payload(Box<str>),
    /// The payload's `project` or `project_id`.
    Project,
    /// The envelope's `source`.
    Source,
    /// The event's type.
    EventType,
}

impl Key {
    /// As filters write it.
    pub fn name(&self) -> &str {
        match self {
            Self::CorrelationId => "correlation_id",
            Self::CausationId => "causation_id",
            Self::Agent => "agent",
            Self::Project => "project",
            Self::Source => "source",
            Self::EventType => "event_type",
            Self::Payload(name) => name,
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            "correlation_id" => Self::CorrelationId,
            "causation_id" => Self::CausationId,
            "agent" => Self::Agent,
            "project" => Self::Project,
            "source" => Self::Source,
            "event_type" => Self::EventType,
            _ => Self::Payload(name.into()),
        }
    }
}

impl Clause {
    fn compile(name: &str, accepted: &[Scalar]) -> Self {
        let key = Key::parse(name);
        let mut values = Vec::with_capacity(accepted.len());
        let mut prefixes = Vec::new();
        for value in accepted {
            match value.as_str().and_then(|text| text.strip_suffix('*')) {
                Some(prefix) if key == Key::EventType => prefixes.push(Box::from(prefix)),
                _ => values.push(value.clone()),
            }
        }
        values.sort_unstable();
        values.dedup();
        prefixes.sort_unstable();
        prefixes.dedup();
        Self { key, values: values.into(), prefixes: prefixes.into() }
    }

    /// Whether the event, whose payload `fields` reads, has an accepted value.
    pub(crate) fn matches(&self, event: &EventView<'_>, fields: &PayloadFields<'_>) -> bool {
        match &self.key {
            Key::EventType => {
                self.has_text(event.event_type)
                    || self.prefixes.iter().any(|prefix| event.event_type.starts_with(&**prefix))
            }
            Key::Agent => event.agents().any(|agent| self.has(agent)),
            Key::Project => event.projects().any(|project| self.has(project)),
            Key::Source => event.source().is_some_and(|text| self.has_text(text)),
            Key::CorrelationId => event.correlation_id().is_some_and(|text| self.has_text(text)),
            Key::CausationId => event.causation_id().is_some_and(|text| self.has_text(text)),
            Key::Payload(name) => !self.values.is_empty() && fields.has(name, |value| self.has(value)),
        }
    }

    fn has(&self, canonical: &[u8]) -> bool {
        self.values.binary_search_by(|value| value.as_bytes().cmp(canonical)).is_ok()
    }

    fn has_text(&self, text: &str) -> bool {
        // A string's canonical form is its text behind the tag `s`; compared in two parts, so that nothing is copied.
        self.values
            .binary_search_by(|value| match value.as_bytes() {
                [b's', rest @ ..] => rest.cmp(text.as_bytes()),
                [tag, ..] => tag.cmp(&b's'),
                [] => std::cmp::Ordering::Less,
            })
            .is_ok()
    }
}

impl Filter {
    /// The filter that every event passes.
    pub fn all() -> Arc<Self> {
        static ALL: LazyLock<Arc<Filter>> =
            LazyLock::new(|| Arc::new(Filter { clauses: Box::default(), footprint: 0 }));
        Arc::clone(&ALL)
    }

    /// Compiles what came in.
    pub fn compile(spec: &FilterSpec) -> Arc<Self> {
        if spec.clauses.is_empty() {
            return Self::all();
        }
        let mut clauses: Vec<_> =
            spec.clauses.iter().map(|(name, values)| Clause::compile(name, values)).collect();
        clauses.sort_unstable();
        let value = |value: &Scalar| size_of::<Scalar>() + value.as_bytes().len();
        let prefix = |prefix: &str| size_of::<Box<str>>() + prefix.len();
        let clause = |clause: &Clause| {
            let values: usize = clause.values.iter().map(value).sum();
            size_of::<Clause>() + values + clause.prefixes.iter().map(|text| prefix(text)).sum::<usize>()
        };
        let footprint = clauses.iter().map(clause).sum();
        Arc::new(Self { clauses: clauses.into(), footprint })
    }

    /// About how many bytes it takes, of which an index takes as many again.
    pub fn footprint(&self) -> usize {
        self.footprint
    }

    /// Whether every event passes.
    pub fn is_all(&self) -> bool {
        self.clauses.is_empty()
    }

    /// Whether the event passes.
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        self.matches_with(event, &PayloadFields::of(event))
    }

    /// [`Filter::matches`] for an event of which several filters ask.
    pub(crate) fn matches_with(&self, event: &EventView<'_>, fields: &PayloadFields<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches(event, fields))
    }

    /// The clauses, the most selective key first: for whoever plans how to find matching events without looking at
    /// all of them.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }
}
