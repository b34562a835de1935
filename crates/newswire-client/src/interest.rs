//! What a subscriber wants: channels, filters, and where to begin.

use newswire_protocol::{Scalar, json};

use crate::resume::Start;

/// One set of subscriptions: channels with the same filters and the same start.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    pub(crate) sub: Option<String>,
    pub(crate) channels: Vec<String>,
    filters: Vec<(String, Vec<String>)>,
    pub(crate) start: Start,
}

impl Interest {
    /// Interest in these channels; a name ending in `*` stands for all channels so named, `*` for all there are.
    pub fn in_channels(channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { channels: channels.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// A name for the set, needed to tell several apart.
    #[must_use]
    pub fn named(mut self, sub: impl Into<String>) -> Self {
        self.sub = Some(sub.into());
        self
    }

    /// Only events whose `key` is the string `text`. Keys are ANDed, values of one key ORed.
    #[must_use]
    pub fn filter(self, key: &str, text: &str) -> Self {
        self.filter_json(key, string(text))
    }

    /// Only events whose `key` is `text`, or the number or boolean that `text` looks like, as on a command line.
    #[must_use]
    pub fn filter_like(self, key: &str, text: &str) -> Self {
        // Two meanings, so the text is a number or a boolean just as it stands.
        let also_unquoted = Scalar::from_query(text).len() > 1;
        let set = self.filter_json(key, string(text));
        if also_unquoted { set.filter_json(key, text.to_owned()) } else { set }
    }

    /// Where to begin; [`Start::Live`] where this is not called.
    #[must_use]
    pub fn start(mut self, start: impl Into<Start>) -> Self {
        self.start = start.into();
        self
    }

    fn filter_json(mut self, key: &str, value: String) -> Self {
        match self.filters.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(value),
            None => self.filters.push((key.to_owned(), vec![value])),
        }
        self
    }

    /// The subscribe command, beginning at `start`.
    pub(crate) fn command(&self, id: usize, start: &Start) -> String {
        let channels = self.channels.iter().map(|name| string(name)).collect::<Vec<_>>().join(",");
        let mut command = format!(r#"{{"action":"subscribe","id":{id},"channels":[{channels}]"#);
        if let Some(sub) = &self.sub {
            command += &format!(r#","sub":{}"#, string(sub));
        }
        if !self.filters.is_empty() {
            let clauses: Vec<String> = self
                .filters
                .iter()
                .map(|(key, values)| format!("{}:[{}]", string(key), values.join(",")))
                .collect();
            command += &format!(r#","filters":{{{}}}"#, clauses.join(","));
        }
        match start {
            Start::Live => {}
            Start::After { offset, epoch } => {
                command += &format!(r#","after":{offset}"#);
                if let Some(epoch) = epoch {
                    command += &format!(r#","epoch":"{epoch}""#);
                }
            }
            Start::SinceAgo(ago) => command += &format!(r#","since":"{}ms""#, ago.as_millis()),
            Start::SinceTime(time) => command += &format!(r#","since":{}"#, string(time)),
            Start::History(events) => command += &format!(r#","history":{events}"#),
        }
        command.push('}');
        command
    }
}

/// `text` as a JSON string.
fn string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use newswire_protocol::{Limits, parse_command};
    use std::time::Duration;

    #[test]
    fn commands_say_what_was_asked() {
        let set = Interest::in_channels(["tasks", "x\"y"])
            .named("s1")
            .filter("agent", "ada")
            .filter_like("agent", "7")
            .filter_like("done", "true")
            .filter_like("note", "07");
        let command = set.command(3, &Start::After { offset: 9, epoch: None });
        assert_eq!(
            command,
            concat!(
                r#"{"action":"subscribe","id":3,"channels":["tasks","x\"y"],"sub":"s1","#,
                r#""filters":{"agent":["ada","7",7],"done":["true",true],"note":["07"]},"after":9}"#
            )
        );
        assert!(parse_command(&command, &Limits::default()).is_ok());
        let plain = Interest::in_channels(["*"]);
        let starts = [
            (Start::Live, ""),
            (Start::History(5), r#","history":5"#),
            (Start::SinceAgo(Duration::from_secs(90)), r#","since":"90000ms""#),
            (Start::SinceTime("2026-11-22T15:00:00Z".into()), r#","since":"2026-11-22T15:00:00Z""#),
        ];
        for (start, tail) in starts {
            let expected = format!(r#"{{"action":"subscribe","id":0,"channels":["*"]{tail}}}"#);
            assert_eq!(plain.command(0, &start), expected);
            assert!(parse_command(&expected, &Limits::default()).is_ok(), "{expected}");
        }
    }
}
