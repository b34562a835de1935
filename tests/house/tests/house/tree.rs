//! The files of the repository, without what builds and runs leave behind.

use std::path::{Path, PathBuf};

/// Directories, but for `.git`, which is a file in a second work tree.
const LEFT_OUT: &[&str] = &[".git", "target", "newswire-data", "node_modules", "artifacts", ".installed"];

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("this crate lies in the tree")
}

/// Every file below `under` (relative to the root), as sorted paths relative to the root with `/` between the parts.
pub(crate) fn files(under: &str) -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(under)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if let Ok(relative) = path.strip_prefix(&root) {
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// [`files`] whose name ends in `ending`.
pub(crate) fn files_ending(under: &str, ending: &str) -> Vec<String> {
    files(under).into_iter().filter(|path| path.ends_with(ending)).collect()
}

/// The directories directly in `under`, sorted.
pub(crate) fn directories(under: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root().join(under)) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The text of a file of the tree.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn exists(path: &str) -> bool {
    root().join(path).exists()
}
