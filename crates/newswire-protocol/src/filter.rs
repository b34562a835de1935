//! Filters as they come in: parsed and bounded, not yet compiled.

use crate::codes::{ErrorCode, Refusal};
use crate::json::{self, Kind};
use crate::limits::{MAX_FILTER_CHARS, MAX_FILTER_KEYS, MAX_FILTER_VALUES};
use crate::scalar::Scalar;

/// Keys that must all match, each with the values of which one must be equal.
///
/// No clauses match everything; a clause without values matches nothing. Keys are distinct and in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterSpec {
    /// Key and accepted values.
    pub clauses: Vec<(String, Vec<Scalar>)>,
}

impl FilterSpec {
    /// Parses a JSON object `{"key": value | [values]}`.
    ///
    /// # Errors
    /// [`ErrorCode::FiltersNotObject`], [`ErrorCode::FilterBoundsExceeded`], or
    /// [`ErrorCode::InvalidControlMessage`] for a value that is no scalar or a key given twice; the first in the
    /// order of the text.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let mut spec = Self::default();
        let mut outcome = Ok(());
        let is_object = json::members(raw, |key, value| {
            if outcome.is_ok() {
                outcome = key
                    .unescape()
                    .ok_or_else(|| wrong("filters: a key holds half a surrogate pair"))
                    .and_then(|key| spec.add(key.into_owned(), |values| push_values(values, value)));
            }
        });
        match is_object {
            Err(_) => Err(ErrorCode::InvalidJson.into()),
            Ok(false) => Err(ErrorCode::FiltersNotObject.into()),
            Ok(true) => outcome.map(|()| spec),
        }
    }

    /// Accepts one more value of this key, of a filter that is put together from parts.
    ///
    /// # Errors
    /// [`ErrorCode::FilterBoundsExceeded`]; then nothing was changed.
    pub fn accept(&mut self, key: &str, value: Scalar) -> Result<(), Refusal> {
        if !value.fits_filter() {
            return Err(beyond(format!("a key or value of more than {MAX_FILTER_CHARS} characters")));
        }
        match self.clauses.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => {
                within_values(values.len())?;
                values.push(value);
                Ok(())
            }
            None => self.add(key.to_owned(), |values| {
                values.push(value);
                Ok(())
            }),
        }
    }

    fn add(
        &mut self,
        key: String,
        values: impl FnOnce(&mut Vec<Scalar>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        within_chars(&key)?;
        if self.clauses.len() == MAX_FILTER_KEYS {
            return Err(beyond(format!("more than {MAX_FILTER_KEYS} keys")));
        }
        if self.clauses.iter().any(|(known, _)| *known == key) {
            return Err(wrong(format!("filters: the key {key:?} is given twice")));
        }
        let mut accepted = Vec::new();
        values(&mut accepted)?;
        self.clauses.push((key, accepted));
        Ok(())
    }

    /// Adds the values of one query parameter, each given as text. Values may mean several scalars.
    ///
    /// # Errors
    /// [`ErrorCode::FilterBoundsExceeded`].
    pub fn add_query<'v>(
        &mut self,
        key: &str,
        texts: impl IntoIterator<Item = &'v str>,
    ) -> Result<(), Refusal> {
        self.add(key.to_owned(), |values| {
            for (count, text) in texts.into_iter().enumerate() {
                within_chars(text)?;
                within_values(count)?;
                values.extend(Scalar::from_query(text));
            }
            Ok(())
        })
    }
}

fn push_values(values: &mut Vec<Scalar>, raw: &str) -> Result<(), Refusal> {
    if json::kind(raw) != Kind::Array {
        values.push(scalar(raw)?);
        return Ok(());
    }
    let elements = json::elements(raw).ok().flatten().unwrap_or_default();
    for (count, element) in elements.into_iter().enumerate() {
        within_values(count)?;
        values.push(scalar(element)?);
    }
    Ok(())
}

fn scalar(raw: &str) -> Result<Scalar, Refusal> {
    let Some(scalar) = Scalar::from_raw_json(raw) else {
        return Err(wrong("filters: a value must be a string, a number, a boolean or a list of them"));
    };
    match scalar.as_str() {
        Some(text) => within_chars(text)?,
        None => within_chars(raw)?,
    }
    Ok(scalar)
}

fn within_chars(text: &str) -> Result<(), Refusal> {
    if text.len() > MAX_FILTER_CHARS && text.chars().count() > MAX_FILTER_CHARS {
        return Err(beyond(format!("a key or value of more than {MAX_FILTER_CHARS} characters")));
    }
    Ok(())
}

fn within_values(already: usize) -> Result<(), Refusal> {
    if already == MAX_FILTER_VALUES {
        return Err(beyond(format!("more than {MAX_FILTER_VALUES} values for a key")));
    }
    Ok(())
}

fn beyond(detail: String) -> Refusal {
    Refusal::because(ErrorCode::FilterBoundsExceeded, detail)
}

fn wrong(detail: impl Into<String>) -> Refusal {
    Refusal::because(ErrorCode::InvalidControlMessage, detail)
}
