//! The project's documents, whose commands and files the tests run as a reader would.

use crate::binary;

/// Where the documents expect a server.
pub const PRINTED_ADDRESS: &str = "127.0.0.1:8080";

/// A document of the project.
///
/// # Panics
/// When there is none at this path.
pub fn read(path: &str) -> String {
    let file = binary::workspace_root().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Every block of code: what stands behind its fence, and its lines.
pub fn blocks(document: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = document;
    while let Some((_, block)) = rest.split_once("```")
        && let Some((info, block)) = block.split_once('\n')
        && let Some((text, behind)) = block.split_once("```\n")
    {
        found.push((info, text));
        rest = behind;
    }
    found
}

/// The first block with this behind its fence.
///
/// # Panics
/// When there is none.
pub fn block<'a>(document: &'a str, info: &str) -> &'a str {
    let wanted = blocks(document).into_iter().find(|(found, _)| *found == info);
    wanted.unwrap_or_else(|| panic!("no block of {info}")).1
}
