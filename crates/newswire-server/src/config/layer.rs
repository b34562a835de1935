//! Where values come from: defaults, file, environment, flags. Each layer becomes a list of entries with one shape.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::key::{Key, Raw};
use super::keys::KEYS;
use super::problem::{Problem, nearest_key};

/// Where a value was written, the way one would look for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In the table of keys.
    Default,
    /// In the configuration file, at this line.
    File(PathBuf, usize),
    /// In this environment variable.
    Environment(String),
    /// In this flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A key of the table, found in a source: `path` has channel names in place of `<channel>`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<String>,
    pub(crate) key: &'static Key,
    pub(crate) raw: Raw,
    pub(crate) source: Source,
}

/// The dotted form of a path.
pub(crate) fn dotted(path: &[String]) -> String {
    path.join(".")
}

/// The defaults of the table.
pub(crate) fn defaults() -> impl Iterator<Item = Entry> {
    KEYS.iter().filter_map(|key| {
        let raw = Raw::Written(key.default?.into());
        Some(Entry { path: segments(key.path), key, raw, source: Source::Default })
    })
}

/// The keys of a TOML text.
pub(crate) fn file(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut walk = FileWalk { file: path, text, entries: Vec::new(), problems };
    match DeTable::parse(text) {
        Ok(table) => walk.table(&mut Vec::new(), table.get_ref()),
        Err(error) => {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            let source = Source::File(path.to_owned(), line);
            walk.problems.push(Problem::NotToml { source, reason: error.message().to_owned() });
        }
    }
    walk.entries
}

struct FileWalk<'a> {
    file: &'a Path,
    text: &'a str,
    entries: Vec<Entry>,
    problems: &'a mut Vec<Problem>,
}

impl FileWalk<'_> {
    fn table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            let source = Source::File(self.file.to_owned(), line_at(self.text, name.span().start));
            match (find(path), value.get_ref()) {
                (Some(key), value) => {
                    self.entries.push(Entry { path: path.clone(), key, raw: raw(value), source });
                }
                (None, DeValue::Table(inner)) if is_group(path) => self.table(path, inner),
                (None, value) if is_group(path) => {
                    let value = if holds_secrets(path) { Raw::hidden() } else { raw(value) };
                    self.problems.push(Problem::NotATable { key: dotted(path), value, source });
                }
                (None, _) => self.problems.push(unknown(path, source)),
            }
            path.pop();
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or_else(|_| Raw::Other(digits.to_string()), Raw::Integer),
        DeValue::Boolean(truth) => Raw::Bool(*truth),
        DeValue::Float(digits) => Raw::Other(digits.as_str().to_owned()),
        DeValue::Datetime(moment) => Raw::Other(moment.to_string()),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(_) => Raw::Other("a table".into()),
    }
}

fn line_at(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() + 1
}

const PREFIX: &str = "NEWSWIRE_";

/// Variables with the prefix that are no keys: flags of the commands, and `NEWSWIRE_TEST_*` for test suites.
const FLAG_VARIABLES: [&str; 6] = ["CONFIG", "URL", "TOKEN", "CA", "CERT", "CERT_KEY"];

/// The keys among environment variables. An empty variable counts as absent, as compose files write them.
pub(crate) fn environment(
    variables: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if value.is_empty() || is_no_key(name) {
            continue;
        }
        let path: Vec<String> = name.split("__").map(str::to_lowercase).collect();
        let source = Source::Environment(variable.clone());
        match find(&path) {
            Some(key) => entries.push(Entry { path, key, raw: Raw::Written(value), source }),
            None => problems.push(unknown(&path, source)),
        }
    }
    // The order of an environment is nobody's choice; messages should not depend on it.
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
}

/// Kubernetes describes a service named "newswire" to its pods in variables of its own.
fn is_no_key(name: &str) -> bool {
    let of_kubernetes = name == "SERVICE_HOST"
        || name.starts_with("SERVICE_PORT")
        || name == "PORT"
        || name.starts_with("PORT_");
    of_kubernetes || name.starts_with("TEST_") || FLAG_VARIABLES.contains(&name)
}

/// One `--set key=value`, or a flag that stands for it.
pub(crate) fn flag(
    flag: &'static str,
    path: &str,
    value: &str,
    problems: &mut Vec<Problem>,
) -> Option<Entry> {
    let path = segments(path);
    let source = Source::Flag(flag);
    let Some(key) = find(&path) else {
        problems.push(unknown(&path, source));
        return None;
    };
    Some(Entry { path, key, raw: Raw::Written(value.to_owned()), source })
}

const CHANNEL_GROUP: &str = "retention.channels.";

/// Splits at the dots, but not those inside a channel name.
fn segments(path: &str) -> Vec<String> {
    let owned = |parts: &[&str]| parts.iter().map(ToString::to_string).collect();
    match path.strip_prefix(CHANNEL_GROUP).and_then(|rest| rest.rsplit_once('.')) {
        Some((channel, limit)) => owned(&["retention", "channels", channel, limit]),
        None => path.split('.').map(Into::into).collect(),
    }
}

fn find(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        let pattern = segments(key.path);
        pattern.len() == path.len() && fits(&pattern, path)
    })
}

fn is_group(path: &[String]) -> bool {
    keys_in(path).next().is_some()
}

/// Whether what stands here may be a secret in the wrong place.
fn holds_secrets(path: &[String]) -> bool {
    keys_in(path).any(|key| key.kind.is_secret())
}

fn keys_in(path: &[String]) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| {
        let pattern = segments(key.path);
        pattern.len() > path.len() && fits(&pattern, path)
    })
}

fn fits(pattern: &[String], path: &[String]) -> bool {
    pattern.iter().zip(path).all(|(wanted, given)| wanted == given || wanted.starts_with('<'))
}

fn unknown(path: &[String], source: Source) -> Problem {
    let key = dotted(path);
    Problem::UnknownKey { suggestion: nearest_key(&key), key, source }
}
