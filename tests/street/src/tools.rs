//! Tools of other languages that judge what the server says of itself; `scripts/setup-tests.sh` brings them.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::binary;

/// A tool of the Python environment of the tests.
///
/// # Panics
/// When it is not there, saying how to set up.
pub fn python_tool(name: &str) -> Command {
    let tool = installed(&format!("python/bin/{name}"));
    let mut command = Command::new(tool);
    // What a user has set for Python is not to change what the test sees.
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A script of `tests/tools` for Node.js.
///
/// # Panics
/// When what it needs is not there, saying how to set up.
pub fn node_script(name: &str) -> Command {
    installed("node_modules");
    let mut command = Command::new("node");
    command.arg(binary::workspace_root().join("tests/tools").join(name));
    command
}

fn installed(path: &str) -> PathBuf {
    let found = binary::workspace_root().join("tests/tools/.installed").join(path);
    assert!(found.exists(), "{} is missing; scripts/setup-tests.sh installs it", found.display());
    found
}

/// Runs it to its end with this text as its input; what it wrote, both streams together.
///
/// # Panics
/// When it fails, with what it wrote.
pub fn succeeds(command: &mut Command, input: impl AsRef<OsStr>) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let text = input.as_ref().as_encoded_bytes().to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&text));
    let output = child.wait_with_output().unwrap();
    let _ = writing.join();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ends with {}:\n{said}", output.status);
    said
}
