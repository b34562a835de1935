//! The rules that a payload keeps beyond being a JSON object, and the lazy look into it.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::event::{Routing, RoutingKey};
use crate::json::{self, Kind, RawString, Visitor};
use crate::limits::MAX_PAYLOAD_DEPTH;
use crate::scalar::Scalar;

/// The value of a top-level key of a payload, if it is a string, number or boolean.
///
/// The payload is taken to be a valid JSON object; in anything else nothing is found.
pub fn payload_scalar(payload: &str, key: &str) -> Option<Scalar> {
    json::member(payload, key).and_then(Scalar::from_raw_json)
}

/// Watches a payload go by: checks the rules and takes out what routing needs.
///
/// Syntax comes first: a broken rule is remembered, and counts only once the whole text has proved to be JSON.
#[derive(Default)]
pub(crate) struct PayloadWatch<'a> {
    broken: Option<&'static str>,
    depth: usize,
    objects: KeySets<'a>,
    /// What the present top-level key is to routing.
    routes_to: Option<RoutingKey>,
    routing: Routing,
}

impl PayloadWatch<'_> {
    /// What routing reads, or the rule that was broken first.
    pub(crate) fn finish(self) -> Result<Routing, &'static str> {
        self.broken.map_or(Ok(self.routing), Err)
    }

    fn breaks(&mut self, rule: &'static str) {
        self.broken.get_or_insert(rule);
    }
}

impl<'a> Visitor<'a> for PayloadWatch<'a> {
    fn open(&mut self, kind: Kind) {
        self.depth += 1;
        if self.depth > MAX_PAYLOAD_DEPTH {
            self.breaks("is nested deeper than 64 levels");
        }
        if self.broken.is_none() {
            self.objects.open(kind);
        }
    }

    fn key(&mut self, key: RawString<'a>) {
        if self.broken.is_some() {
            return;
        }
        let Some(name) = key.unescape() else {
            return self.breaks("holds half a surrogate pair");
        };
        if self.depth == 1 {
            self.routes_to = RoutingKey::of(&name);
        }
        if !self.objects.add(name) {
            self.breaks("names a key twice in one object");
        }
    }

    fn string(&mut self, string: RawString<'a>) {
        if string.has_lone_surrogate() {
            self.breaks("holds half a surrogate pair");
        }
    }

    fn close(&mut self) {
        self.depth -= 1;
        if self.broken.is_none() {
            self.objects.close();
        }
    }

    fn member(&mut self, raw: &'a str) {
        if let Some(key) = self.routes_to.take()
            && self.broken.is_none()
        {
            self.routing.add(key, raw);
        }
    }
}

/// The keys seen so far in each open object. Few are compared one by one, many through a hash set, so that no
/// payload makes this quadratic.
#[derive(Default)]
struct KeySets<'a> {
    keys: Vec<Cow<'a, str>>,
    open: Vec<OpenObject<'a>>,
}

struct OpenObject<'a> {
    first_key: usize,
    many: Option<HashSet<Cow<'a, str>>>,
}

const FEW_KEYS: usize = 16;

impl<'a> KeySets<'a> {
    fn open(&mut self, _kind: Kind) {
        if self.keys.capacity() == 0 {
            self.keys.reserve(FEW_KEYS);
        }
        self.open.push(OpenObject { first_key: self.keys.len(), many: None });
    }

    /// `false` if the innermost object has the key already.
    fn add(&mut self, key: Cow<'a, str>) -> bool {
        let Some(object) = self.open.last_mut() else {
            return true;
        };
        if let Some(many) = &mut object.many {
            return many.insert(key);
        }
        let few = &self.keys[object.first_key..];
        if few.contains(&key) {
            return false;
        }
        if few.len() < FEW_KEYS {
            self.keys.push(key);
            return true;
        }
        let mut many: HashSet<_> = self.keys.drain(object.first_key..).collect();
        many.insert(key);
        object.many = Some(many);
        true
    }

    fn close(&mut self) {
        if let Some(object) = self.open.pop() {
            self.keys.truncate(object.first_key);
        }
    }
}
