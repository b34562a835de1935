//! What a payload holds at its top level, read at most twice an event however many filters ask.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};

use newswire_protocol::{Scalar, json, payload_scalar};

use crate::event::EventView;

/// The top-level scalars of one event's payload.
///
/// The first question is answered by a look-up that stops at its key: most events are asked once or never. The second
/// reads the whole payload into a table, which serves all others: hundreds of filters on a large payload must not
/// read it hundreds of times.
pub(crate) struct PayloadFields<'a> {
    event: EventView<'a>,
    asked: Cell<bool>,
    table: OnceCell<Vec<(Cow<'a, str>, Scalar)>>,
}

impl<'a> PayloadFields<'a> {
    pub(crate) fn of(event: &EventView<'a>) -> Self {
        Self { event: *event, asked: Cell::new(false), table: OnceCell::new() }
    }

    /// Whether the payload has a scalar under this key for which `accepted` holds.
    pub(crate) fn has(&self, key: &str, accepted: impl FnOnce(&[u8]) -> bool) -> bool {
        if self.table.get().is_none() && !self.asked.replace(true) {
            return payload_scalar(self.event.payload(), key).is_some_and(|value| accepted(value.as_bytes()));
        }
        let table = self.table();
        table
            .binary_search_by(|(name, _)| (**name).cmp(key))
            .is_ok_and(|place| accepted(table[place].1.as_bytes()))
    }

    /// Every key with a scalar, sorted by key.
    pub(crate) fn table(&self) -> &[(Cow<'a, str>, Scalar)] {
        self.table.get_or_init(|| {
            let mut table = Vec::new();
            // The payload was checked to be JSON when it was published; in what is not, nothing is found.
            let _ = json::members(self.event.payload(), |key, raw| {
                table.extend(key.unescape().zip(Scalar::from_raw_json(raw)));
            });
            table.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            table
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use newswire_protocol::{Draft, Limits, UnixMicros};

    use super::*;
    use crate::event::{Batch, BatchBuilder};
    use crate::meta::EventHead;

    fn batch(payload: &str) -> Arc<Batch> {
        let event = format!(r#"{{"channel":"tasks","event_type":"t","payload":{payload}}}"#);
        let draft = Draft::parse(&event, &Limits::default()).unwrap();
        let encoded = draft.encode("id", UnixMicros(1));
        let mut builder = BatchBuilder::new();
        builder.push_encoded(1, UnixMicros(1), &EventHead::of(&draft, &encoded), &encoded);
        Arc::new(builder.finish())
    }

    #[test]
    fn every_question_gets_the_answer_of_a_single_look_up() {
        let payload = r#"{"b":1.0,"a":"x","\u0063":true,"n":null,"o":{"a":"y"},"l":[1],"":2}"#;
        let batch = batch(payload);
        let keys = ["a", "b", "c", "n", "o", "l", "", "missing"];
        for first in keys {
            let fields = PayloadFields::of(&batch.get(0));
            // The first question looks up, the others ask the table.
            for key in std::iter::once(first).chain(keys) {
                let expected = payload_scalar(payload, key);
                let mut found = None;
                let has = fields.has(key, |value| {
                    found = Some(value.to_vec());
                    true
                });
                assert_eq!(has, expected.is_some(), "{key:?} after {first:?}");
                assert_eq!(found.as_deref(), expected.as_ref().map(Scalar::as_bytes));
                assert!(!fields.has(key, |_| false));
            }
        }
    }
}
