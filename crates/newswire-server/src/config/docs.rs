//! The page of keys and the example file, written from the table of keys.

use std::fmt::Write;

use super::key::{Key, Kind, Reload};
use super::keys::{KEYS, SECTIONS};

const INTRODUCTION: &str = "\
<!-- Written by `newswire serve --print-config-docs > docs/configuration.md`; edit crates/newswire-server/src/config/keys.rs. -->
# Configuration

`newswire serve` works without any configuration. What it is told comes from four places; the first that says something
about a key wins:

1. flags: `--listen`, `--data-dir`, and `--set key=value` for every key, as often as needed;
2. environment variables: `NEWSWIRE_` and the key in capitals, with two underscores for each dot (`NEWSWIRE_LOG__SYNC` is
   `log.sync`); an empty variable counts as not set;
3. the file named by `--config` or `NEWSWIRE_CONFIG`, otherwise `newswire.toml` in the working directory if it is there;
4. the defaults on this page.

An unknown key or a value that a key does not take stops the start with exit code 2 and a message that names the key, the
value, the place where it was written and what is expected. All such mistakes are reported at once.

Durations are written `250ms`, `10s`, `5m`, `36h`, `7d`; sizes `64KiB`, `1MiB`, `10GiB`, or as a plain number of bytes. In
the environment and with `--set` a list is written with commas (`--set channels=tasks,agents,builds`). The word `none`
unsets a limit that has a default. `newswire.example.toml` has every key with its default.

`newswire serve --print-config` prints what all of it comes to, as TOML, and where each value was said; it takes the
arguments that the server would. `newswire config check` only says whether the server would start with it.

SIGHUP makes the server read the file again, below the flags and the environment it was started with. Keys marked reloadable below
take their new value, the others keep theirs until a restart; the log names both. Where anything is wrong with the new
configuration, all of the old one stays.

Some environment variables belong to commands and are no keys: `NEWSWIRE_CONFIG`, `NEWSWIRE_URL`, `NEWSWIRE_TOKEN`,
`NEWSWIRE_CA`, `NEWSWIRE_CERT` and `NEWSWIRE_CERT_KEY`.
`NEWSWIRE_TEST_*` and what Kubernetes sets for a service named `newswire` (`NEWSWIRE_SERVICE_HOST`, `NEWSWIRE_PORT_…`) are
left alone.

";

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for (section, about) in SECTIONS {
        let title = if section.is_empty() { "The server".to_owned() } else { format!("`[{section}]`") };
        let _ = writeln!(page, "## {title}\n\n{about}\n");
        for key in keys_of(section) {
            describe(&mut page, key);
        }
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn describe(page: &mut String, key: &Key) {
    let default = match key.default {
        Some("") => "empty".into(),
        Some(written) => format!("`{}`", key.kind.as_toml(written)),
        None => "not set".into(),
    };
    let _ = writeln!(page, "### `{}`\n\n{}\n", key.path, key.help);
    if let Some(words) = choices(&key.kind) {
        for (word, meaning) in words {
            let _ = writeln!(page, "- `{word}`: {meaning}");
        }
        page.push('\n');
    } else {
        let _ = writeln!(page, "Takes {}.", key.kind.expected());
    }
    let _ =
        writeln!(page, "Default: {default}. Environment: `{}`. {}\n", variable(key.path), reload(key.reload));
}

fn reload(reload: Reload) -> &'static str {
    match reload {
        Reload::AtOnce => "Reloadable.",
        Reload::NewConnections => "Reloadable, for new connections.",
        Reload::Restart => "Needs a restart.",
    }
}

fn choices(kind: &Kind) -> Option<&'static [(&'static str, &'static str)]> {
    match kind {
        Kind::Choice(words) => Some(words),
        _ => None,
    }
}

/// The environment variable of a key.
fn variable(path: &str) -> String {
    let parts: Vec<String> = path.split('.').map(str::to_uppercase).collect();
    format!("NEWSWIRE_{}", parts.join("__"))
}

/// `newswire.example.toml`: every key, commented out, with its default.
pub fn example_file() -> String {
    let mut file = String::from(
        "# Every key with its default; what each does stands in docs/configuration.md.\n\
         # Written by `newswire serve --print-config-example > newswire.example.toml`.\n",
    );
    for (section, _) in SECTIONS {
        file.push('\n');
        if !section.is_empty() {
            let _ = writeln!(file, "[{section}]");
        }
        for key in keys_of(section) {
            if key.path.contains('<') {
                continue;
            }
            let name = key.path.split_once('.').map_or(key.path, |(_, name)| name);
            let line = match key.default {
                Some(written) => format!("{name} = {}", key.kind.as_toml(written)),
                None => format!("{name} = {}", first_choice(&key.kind)),
            };
            let _ = writeln!(file, "# {line}");
        }
        file.push_str(named(section));
    }
    file
}

/// An example of those keys of a section that are there once a name.
fn named(section: &str) -> &'static str {
    match section {
        "retention" => {
            "\n# [retention.channels.tasks]\n# max_age = \"7d\"\n# max_bytes = \"1GiB\"\n# max_events = 1000000\n"
        }
        "auth" => {
            "\n# `newswire token key NAME` prints what a key needs here.\n\
             # [auth.roles.viewer]\n# role = \"observer\"\n# subscribe = [\"tasks\", \"agents\"]\n"
        }
        _ => "",
    }
}

fn first_choice(kind: &Kind) -> String {
    match kind {
        Kind::Choice([(word, _), ..]) => format!("{word:?}"),
        _ => "\"\"".into(),
    }
}

/// The keys with their defaults, a line each, for `--help`.
pub fn help() -> String {
    let mut text =
        String::from("Keys for --set, with their defaults (docs/configuration.md says what each does):\n");
    for key in KEYS {
        let default = key.default.filter(|default| !default.is_empty()).unwrap_or("-");
        let _ = writeln!(text, "  {:<42} {default}", key.path);
    }
    text
}

fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.path.split_once('.').map_or("", |(first, _)| first) == section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_a_section() {
        let listed: usize = SECTIONS.iter().map(|(section, _)| keys_of(section).count()).sum();
        assert_eq!(listed, KEYS.len());
    }

    #[test]
    fn the_example_file_is_read_as_the_defaults() {
        let is_toml = |rest: &&str| rest.contains(" = ") || rest.starts_with('[');
        let uncommented: String = example_file()
            .lines()
            .map(|line| line.strip_prefix("# ").filter(is_toml).unwrap_or(line).to_owned() + "\n")
            .collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("all.toml");
        std::fs::write(&path, uncommented).unwrap();
        let inputs = super::super::Inputs { file: Some(path), ..Default::default() };
        let from_file = super::super::load(&inputs).unwrap();
        assert_eq!(from_file.retention.channels["tasks"].max_events, Some(1_000_000));
        assert_eq!(from_file.auth.roles["viewer"].subscribe.as_ref().map(Vec::len), Some(2));
        assert_eq!(from_file.limits.connections, 20_000);
        assert_eq!(from_file.channels.len(), 5);
    }
}
