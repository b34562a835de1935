//! Query parameters: of `/api/v1/ws`, of `/api/v1/ws/{channel}`, of history and of the event stream.

use crate::codes::{ErrorCode, Refusal};
use crate::command::Start;
use crate::filter::FilterSpec;
use crate::limits::{MAX_FILTER_KEYS, MAX_NAME_BYTES, MAX_OFFSET};
use crate::time::SinceSpec;

/// Which end of the log a page of history begins at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

impl Order {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Asc, Self::Desc];

    /// The word on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

/// Everything that any of the calls takes. What a call has no use for is left alone, and is no filter key either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// From `channels`: names or patterns, not checked to be channel names.
    pub channels: Vec<String>,
    /// From every parameter that has no meaning of its own, `event_type` among them.
    pub filters: FilterSpec,
    /// Exclusive.
    pub after: Option<u64>,
    /// Exclusive.
    pub before: Option<u64>,
    /// The epoch of `after`.
    pub epoch: Option<String>,
    /// The last so many of each channel.
    pub history: Option<u64>,
    /// From this time on.
    pub since: Option<SinceSpec>,
    /// At most so many; not bounded here beyond being an offset.
    pub limit: Option<u64>,
    /// Oldest or newest first.
    pub order: Option<Order>,
    /// The set.
    pub sub: Option<String>,
    /// A single-use ticket.
    pub ticket: Option<String>,
}

/// Whether a parameter of this name holds what nobody may write into an address: a credential that lives longer than a
/// ticket.
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Names under which clients of other services put credentials into addresses.
pub const CREDENTIALS: [&str; 10] = [
    "token",
    "access_token",
    "id_token",
    "refresh_token",
    "api_key",
    "apikey",
    "api-key",
    "authorization",
    "bearer",
    "jwt",
];

impl Query {
    /// Reads decoded name and value pairs. Lists are written with commas, by repetition, or both.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidParameter`] with a detail that names the parameter, or
    /// [`ErrorCode::FilterBoundsExceeded`].
    pub fn parse<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, Refusal>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut query = Self::default();
        let mut filters: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            match name {
                "channels" => {
                    query
                        .channels
                        .extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
                }
                "after" => once(name, &mut query.after, unsigned(name, value)?)?,
                "before" => once(name, &mut query.before, unsigned(name, value)?)?,
                "history" => once(name, &mut query.history, unsigned(name, value)?)?,
                "limit" => once(name, &mut query.limit, unsigned(name, value)?)?,
                "since" => once(name, &mut query.since, since(value)?)?,
                "order" => once(name, &mut query.order, order(value)?)?,
                "sub" => once(name, &mut query.sub, set(value)?)?,
                "epoch" => once(name, &mut query.epoch, value.to_owned())?,
                "ticket" => once(name, &mut query.ticket, value.to_owned())?,
                _ if is_credential(name) => {
                    return Err(bad(name, "is a credential, and must not stand in an address"));
                }
                _ => {
                    let values = value.split(',').map(str::to_owned);
                    let is_full = filters.len() >= MAX_FILTER_KEYS;
                    match filters.iter_mut().find(|(known, _)| known == name) {
                        Some((_, list)) => list.extend(values),
                        // Before the list is searched for each of very many names.
                        None if is_full => {
                            return Err(ErrorCode::FilterBoundsExceeded.into());
                        }
                        None => filters.push((name.to_owned(), values.collect())),
                    }
                }
            }
        }
        for (key, values) in &filters {
            query.filters.add_query(key, values.iter().map(String::as_str))?;
        }
        Ok(query)
    }

    /// Where the events begin: `after` wins over `since` over `history`.
    pub fn start(&self) -> Start {
        match (self.after, self.since, self.history) {
            (Some(offset), _, _) => Start::After { offset, epoch: self.epoch.clone() },
            (None, Some(since), _) => Start::Since(since),
            (None, None, Some(count)) => Start::History(count),
            (None, None, None) => Start::Live,
        }
    }
}

fn once<T>(name: &str, slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(name, "may be given only once")),
    }
}

fn unsigned(name: &str, value: &str) -> Result<u64, Refusal> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits && number <= MAX_OFFSET => Ok(number),
        _ => Err(bad(name, &format!("must be an integer from 0 to {MAX_OFFSET}"))),
    }
}

fn since(value: &str) -> Result<SinceSpec, Refusal> {
    SinceSpec::parse(value)
        .ok_or_else(|| bad("since", "must be RFC 3339 with an offset, or a duration like 10m"))
}

fn order(value: &str) -> Result<Order, Refusal> {
    Order::ALL
        .into_iter()
        .find(|order| order.text() == value)
        .ok_or_else(|| bad("order", "must be asc or desc"))
}

fn set(value: &str) -> Result<String, Refusal> {
    if (1..=MAX_NAME_BYTES).contains(&value.chars().count()) {
        Ok(value.to_owned())
    } else {
        Err(bad("sub", "must have 1 to 128 characters"))
    }
}

fn bad(name: &str, rule: &str) -> Refusal {
    Refusal::because(ErrorCode::InvalidParameter, format!("{name} {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::Scalar;

    fn parse(pairs: &[(&str, &str)]) -> Result<Query, Refusal> {
        Query::parse(pairs.iter().copied())
    }

    #[test]
    fn lists_by_comma_and_repetition() {
        let query =
            parse(&[("channels", "a,b,"), ("agent", "x,1"), ("channels", "c"), ("agent", "true")]).unwrap();
        assert_eq!(query.channels, ["a", "b", "c"]);
        let values = [
            Scalar::string("x"),
            Scalar::string("1"),
            Scalar::number("1").unwrap(),
            Scalar::string("true"),
            Scalar::bool(true),
        ];
        assert_eq!(query.filters.clauses, [("agent".to_owned(), values.to_vec())]);
        assert_eq!(query.start(), Start::Live);
    }

    #[test]
    fn parameter_names_are_no_filter_keys() {
        let names = ["channels", "after", "before", "epoch", "history", "since", "limit", "order", "ticket"];
        let values = ["a", "1", "2", "e", "3", "10m", "4", "desc", "t"];
        let query = Query::parse(names.into_iter().zip(values).chain([("sub", "s")])).unwrap();
        assert_eq!(query.filters, FilterSpec::default());
        assert_eq!(query.start(), Start::After { offset: 1, epoch: Some("e".into()) });
        assert_eq!(query.order, Some(Order::Desc));
        assert_eq!(parse(&[("id", "task-7")]).unwrap().filters.clauses[0].0, "id");
        assert_eq!(parse(&[("event_type", "task.*")]).unwrap().filters.clauses[0].0, "event_type");
    }

    #[test]
    fn bad_values_name_their_parameter() {
        let bad = [
            ("token", "a.b.c"),
            ("api_key", "x"),
            ("after", ""),
            ("after", "-1"),
            ("after", "+1"),
            ("after", "1.0"),
            ("after", "9007199254740992"),
            ("before", "x"),
            ("history", "99999999999999999999999"),
            ("limit", "ten"),
            ("since", "yesterday"),
            ("since", "2026-11-22T15:24:00"),
            ("order", "up"),
            ("sub", ""),
        ];
        for (name, value) in bad {
            let refusal = parse(&[(name, value)]).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidParameter);
            assert!(refusal.detail.unwrap().starts_with(name), "{name}={value}");
        }
        assert!(parse(&[("after", "1"), ("after", "1")]).is_err());
        assert!(parse(&[("after", "9007199254740991")]).is_ok());
    }

    #[test]
    fn filters_are_bounded() {
        let eleven: Vec<_> = (0..11).map(|i| (format!("k{i}"), "v")).collect();
        assert!(Query::parse(eleven[..10].iter().map(|(k, v)| (k, v))).is_ok());
        let refusal = Query::parse(eleven.iter().map(|(k, v)| (k, v))).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::FilterBoundsExceeded);
        let list = |count: usize| vec!["1"; count].join(",");
        assert!(parse(&[("k", &list(64))]).is_ok() && parse(&[("k", &list(65))]).is_err());
        assert!(parse(&[("k", &"é".repeat(256))]).is_ok() && parse(&[("k", &"é".repeat(257))]).is_err());
    }
}
