//! Reads the layers and what they come to.

use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::{Config, ConfigError, Settings, layer};

/// The file that is read when `--config` names none and it is there.
pub const DEFAULT_FILE: &str = "newswire.toml";

/// What the layers are read from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file of `--config`, which must exist; `None` reads [`DEFAULT_FILE`] if it is there.
    pub file: Option<PathBuf>,
    /// All environment variables; those that do not begin with `NEWSWIRE_` are left alone.
    pub environment: Vec<(String, String)>,
    /// `--set key=value`, in order.
    pub set: Vec<String>,
    /// Flags that stand for a key: their name, the key and the value. They win over `--set`.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Inputs {
    /// Inputs with this process's environment. A variable that is not UTF-8 cannot name a key or a value and is skipped.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, environment: std::env::vars_os().filter_map(utf8).collect(), ..Self::default() }
    }
}

/// Reads all layers.
///
/// # Errors
/// Everything that is wrong with them at once: unknown keys, values a key does not take, values that do not go
/// together; each with the place where it was written and what is expected instead.
pub fn load(inputs: &Inputs) -> Result<Config, ConfigError> {
    load_with_settings(inputs).map(|(config, _)| config)
}

/// As [`load`], with what each key is set to and where.
///
/// # Errors
/// As [`load`].
pub fn load_with_settings(inputs: &Inputs) -> Result<(Config, Settings), ConfigError> {
    let (mut settings, mut problems) = read(inputs);
    let config = settings.build(&mut problems);
    match config {
        Some(config) if problems.is_empty() => Ok((config, settings)),
        _ => Err(ConfigError { problems }),
    }
}

/// What each key is set to, for [`Settings::reloaded`], which sees whether all of it goes together.
///
/// # Errors
/// Unknown keys, and values that a key does not take.
pub fn load_settings(inputs: &Inputs) -> Result<Settings, ConfigError> {
    let (settings, problems) = read(inputs);
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
}

fn read(inputs: &Inputs) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut settings = Settings::default();
    let mut entries: Vec<layer::Entry> = layer::defaults().collect();
    entries.extend(file_entries(inputs.file.as_deref(), &mut problems));
    entries.extend(layer::environment(inputs.environment.iter().cloned(), &mut problems));
    entries.extend(flag_entries(inputs, &mut problems));
    for entry in entries {
        settings.put(entry, &mut problems);
    }
    (settings, problems)
}

fn file_entries(file: Option<&Path>, problems: &mut Vec<Problem>) -> Vec<layer::Entry> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => layer::file(path, &text, problems),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems
                .push(Problem::Unreadable { file: path.display().to_string(), reason: error.to_string() });
            Vec::new()
        }
    }
}

fn flag_entries(inputs: &Inputs, problems: &mut Vec<Problem>) -> Vec<layer::Entry> {
    let mut entries = Vec::new();
    for assignment in &inputs.set {
        match assignment.split_once('=') {
            Some((key, value)) => entries.extend(layer::flag("--set", key.trim(), value, problems)),
            None => problems.push(Problem::NotAnAssignment { given: assignment.clone() }),
        }
    }
    for (name, key, value) in &inputs.flags {
        entries.extend(layer::flag(name, key, value, problems));
    }
    entries
}
