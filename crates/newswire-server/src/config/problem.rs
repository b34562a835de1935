//! What can be wrong with a configuration, in words that name the key, the value, the place and the remedy.

use std::fmt;

use super::key::Raw;
use super::keys::KEYS;
use super::layer::Source;

/// Everything that is wrong with a configuration; shown whole, so that one round is enough to put it right.
#[derive(Debug)]
pub struct ConfigError {
    pub(crate) problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "configuration: {only}"),
            several => {
                write!(f, "configuration: {} problems", several.len())?;
                several.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The file is there but cannot be read.
    Unreadable { file: String, reason: String },
    /// The file is no TOML.
    NotToml { source: Source, reason: String },
    /// Nobody knows this key.
    UnknownKey { key: String, source: Source, suggestion: Option<String> },
    /// A group of keys was given a plain value.
    NotATable { key: String, value: Raw, source: Source },
    /// A `--set` without `=`.
    NotAnAssignment { given: String },
    /// A known key with a value it does not take.
    BadValue { key: String, value: String, source: Source, expected: String },
    /// Values that are each fine and do not go together; says which, and what to do.
    Conflict(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, reason } => write!(f, "cannot read {file}: {reason}"),
            Self::NotToml { source, reason } => write!(f, "not TOML ({source}): {reason}"),
            Self::UnknownKey { key, source, suggestion } => {
                write!(f, "unknown key `{key}` ({source})")?;
                match suggestion {
                    Some(known) => write!(f, "; did you mean `{known}`?"),
                    None => f.write_str("; `newswire serve --help` lists the keys"),
                }
            }
            Self::NotATable { key, value, source } => {
                write!(f, "`{key}` = {value} ({source}): expected a table, [{key}], with keys in it")
            }
            Self::NotAnAssignment { given } => {
                // What stands behind the key may be a secret.
                let is_of_key = |letter: &char| letter.is_ascii_alphanumeric() || "._-".contains(*letter);
                let key: String = given.chars().take_while(is_of_key).collect();
                write!(f, "`--set {key}`: expected key=value, such as --set log.sync=interval")
            }
            Self::BadValue { key, value, source, expected } => {
                write!(f, "`{key}` = {value} ({source}): expected {expected}")
            }
            Self::Conflict(text) => f.write_str(text),
        }
    }
}

/// The key somebody probably meant: one a few letters away, or the only one with the same last word.
pub(crate) fn nearest_key(given: &str) -> Option<String> {
    let given = given.replace('-', "_");
    // A channel's name is not misspelt by our lights: put it where the table says `<channel>`.
    let channel = given.strip_prefix("retention.channels.").and_then(|rest| Some(rest.rsplit_once('.')?.0));
    let known = || {
        let named = |path: &str| match channel {
            Some(channel) => path.replace("<channel>", channel),
            None => path.to_owned(),
        };
        KEYS.iter().map(move |key| named(key.path)).filter(|path| !path.contains('<'))
    };
    let (distance, close) = known().map(|path| (edits(&given.to_lowercase(), &path), path)).min()?;
    if distance <= 1 + given.len() / 8 {
        return Some(close);
    }
    let last_word = |path: &str| path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let mut same_word = known().filter(|path| last_word(path) == last_word(&given));
    same_word.next().filter(|_| same_word.next().is_none())
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_find_the_one_that_was_meant() {
        for (given, meant) in [
            ("log.snyc", Some("log.sync")),
            ("hearbeat.interval", Some("heartbeat.interval")),
            ("listn", Some("listen")),
            ("data-dir", Some("data_dir")),
            ("max_age", Some("retention.max_age")),
            ("policy", Some("backlog.policy")),
            ("origins", Some("cors.origins")),
            ("database.password", None),
        ] {
            assert_eq!(nearest_key(given).as_deref(), meant, "{given}");
        }
    }
}
