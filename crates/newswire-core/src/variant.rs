//! How payloads look to a principal: whole, with fields masked, or not at all.

use std::sync::Arc;

use newswire_protocol::json::write_masked;

/// How payloads are shown. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// As published.
    #[default]
    Full,
    /// With these fields masked: wherever in the payload a member has one of these names, its value is `null`.
    Redacted(Masked),
    /// As `{}`.
    None,
}

/// Names of fields, sorted, at least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Masked(Arc<[Box<str>]>);

/// A [`Variant`] in use by subscribers of one hub: what groups and outboxes compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantId(pub u16);

impl VariantId {
    /// The payload as published.
    pub const FULL: Self = Self(0);
}

impl Variant {
    /// The payload with these fields masked; whole where there are none.
    pub fn masking<T: Into<Box<str>>>(fields: impl IntoIterator<Item = T>) -> Self {
        let mut fields: Vec<Box<str>> = fields.into_iter().map(Into::into).collect();
        fields.sort_unstable();
        fields.dedup();
        if fields.is_empty() { Self::Full } else { Self::Redacted(Masked(fields.into())) }
    }

    /// Whether the value of a field of the payload is not shown.
    pub fn hides(&self, field: &str) -> bool {
        match self {
            Self::Full => false,
            Self::Redacted(masked) => masked.has(field),
            Self::None => true,
        }
    }

    /// Appends a payload as it looks to the principal. What is no JSON object is not shown at all.
    pub(crate) fn write(&self, out: &mut Vec<u8>, payload: &str) {
        let start = out.len();
        let shown = match self {
            Self::Full => {
                out.extend_from_slice(payload.as_bytes());
                true
            }
            Self::Redacted(masked) => write_masked(out, payload, |field| masked.has(field)).is_ok(),
            Self::None => false,
        };
        if !shown {
            out.truncate(start);
            out.extend_from_slice(b"{}");
        }
    }
}

impl Masked {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    fn has(&self, field: &str) -> bool {
        self.0.binary_search_by(|name| (**name).cmp(field)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(variant: &Variant, payload: &str) -> String {
        let mut out = b"x".to_vec();
        variant.write(&mut out, payload);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    #[test]
    fn payloads_are_whole_masked_or_empty() {
        let payload = r#"{"cost":1,"b":{"cost":{"x":1}}}"#;
        assert_eq!(shown(&Variant::Full, payload), payload);
        assert_eq!(shown(&Variant::masking(["cost"]), payload), r#"{"cost":null,"b":{"cost":null}}"#);
        assert_eq!(shown(&Variant::None, payload), "{}");
        assert_eq!(shown(&Variant::masking(["cost"]), r#"{"a":1"#), "{}", "what cannot be read is not shown");
        assert_eq!(Variant::masking::<&str>([]), Variant::Full);
        assert_eq!(Variant::masking(["b", "a", "b"]), Variant::masking(["a", "b"]));
        assert!(Variant::masking(["a"]).hides("a") && !Variant::masking(["a"]).hides("b"));
    }
}
