//! Finds the binary under test, and builds it when it is missing or older than its sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The `newswire` binary: what `NEWSWIRE_BIN` names, else the one in this build's target directory, built on demand.
///
/// # Panics
/// When the build fails, with the compiler's words.
pub fn newswire() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("NEWSWIRE_BIN") {
            return PathBuf::from(named);
        }
        let binary = profile_dir().join("newswire");
        if is_stale(&binary) {
            build();
        }
        assert!(binary.exists(), "cargo built no {}", binary.display());
        binary
    })
}

/// The root of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// `target/<profile>`: binaries lie there, test executables one below, in `deps`.
fn profile_dir() -> PathBuf {
    let executable = std::env::current_exe().expect("a running test knows its own path");
    let dir = executable.parent().expect("an executable lies in a directory");
    let profile = if dir.ends_with("deps") { dir.parent() } else { Some(dir) };
    profile.expect("deps lies in the profile's directory").to_path_buf()
}

fn build() {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace_root()).args(["build", "--quiet", "-p", "newswire-server"]);
    if profile_dir().ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo starts");
    assert!(
        output.status.success(),
        "the server does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn is_stale(binary: &Path) -> bool {
    let Ok(built) = binary.metadata().and_then(|data| data.modified()) else { return true };
    let crates = std::fs::read_dir(workspace_root().join("crates")).into_iter().flatten().flatten();
    crates.map(|krate| newest(&krate.path().join("src"))).max().is_some_and(|changed| changed > built)
}

/// The latest change of any source below `dir`.
fn newest(dir: &Path) -> SystemTime {
    let mut latest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let time = if path.is_dir() {
            newest(&path)
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            entry.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
        } else {
            continue;
        };
        latest = latest.max(time);
    }
    latest
}
