//! Where `make bench-peers` put the peers, and what all of them need to be started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use newswire_street_tests::binary;

/// What brings a peer that is not there.
const HOW: &str = "`make bench-peers` installs it, or says what it needs";

/// The committed configuration of a peer: `bench/peers/<path>`.
pub(crate) fn configuration(path: &str) -> PathBuf {
    binary::workspace_root().join("bench/peers").join(path)
}

/// What the installation script made: `bench/peers/.installed/<path>`.
pub(crate) fn file(path: &str) -> PathBuf {
    configuration(".installed").join(path)
}

/// What a command prints about its version: the first word with a digit in it and a dot, without what stands around it.
///
/// # Errors
/// When it cannot be run, with what to do about it.
pub(crate) fn version_of(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String, String> {
    let name = program.as_ref().display().to_string();
    let output = Command::new(&program).args(arguments).output();
    let output = output.map_err(|error| format!("{name}: {error}; {HOW}"))?;
    // nginx says it on standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let numbers = |word: &str| {
        let word = word.trim_start_matches(|first: char| !first.is_ascii_digit());
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(word.len());
        (word[..end].contains('.')).then(|| word[..end].to_owned())
    };
    let found = text.split_ascii_whitespace().find_map(numbers);
    found.filter(|_| output.status.success()).ok_or_else(|| format!("{name} does not say its version; {HOW}"))
}

/// Writes a committed configuration into the directory of an instance, its `@NAME@` replaced.
///
/// # Errors
/// When it cannot be read or written.
pub(crate) fn write_configuration(
    source: &str,
    dir: &Path,
    values: &[(&str, &str)],
) -> anyhow::Result<PathBuf> {
    let source = configuration(source);
    let mut text = std::fs::read_to_string(&source).with_context(|| source.display().to_string())?;
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    let written = dir.join(source.file_name().context("a configuration is a file")?);
    std::fs::write(&written, text)?;
    Ok(written)
}

/// Tries a peer that is installed; where it is not, says so and leaves it.
#[cfg(test)]
pub(crate) fn try_out(peer: &dyn newswire_load::peer::Peer) {
    match peer.version() {
        Err(why) => eprintln!("{} was not tried: {why}", peer.name()),
        Ok(_) => newswire_load::trial::run(peer).expect("every part of the trial"),
    }
}
