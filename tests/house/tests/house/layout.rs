//! `ARCHITECTURE.md` names exactly the crates that there are.

use std::collections::BTreeSet;

use cargo_metadata::MetadataCommand;

use crate::markdown::Document;
use crate::tree;

/// The directories of the tree in the first `text tree` block, as paths: `crates/newswire-core`.
fn drawn(document: &Document) -> BTreeSet<String> {
    let block = document.blocks_of("text tree").next().expect("there is a block marked `text tree`");
    let mut found = BTreeSet::new();
    let mut above = String::new();
    for line in block.text.lines() {
        let Some(name) = line.split_whitespace().next().filter(|name| name.ends_with('/')) else { continue };
        let name = name.trim_end_matches('/');
        if line.starts_with(' ') {
            found.insert(format!("{above}/{name}"));
        } else {
            name.clone_into(&mut above);
            found.insert(above.clone());
        }
    }
    found
}

#[test]
fn the_tree_in_architecture_is_the_tree_on_disk() {
    let drawn = drawn(&Document::parse("ARCHITECTURE.md", &tree::read("ARCHITECTURE.md")));
    for path in &drawn {
        assert!(tree::exists(path), "ARCHITECTURE.md draws {path}/, which does not exist");
    }
    let metadata = MetadataCommand::new()
        .manifest_path(tree::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    for package in metadata.workspace_packages() {
        let home = package.manifest_path.parent().expect("a manifest lies in a directory");
        let path =
            home.strip_prefix(&metadata.workspace_root).expect("members lie in the workspace").as_str();
        assert!(drawn.contains(path), "ARCHITECTURE.md does not draw {path}/");
    }
    for name in tree::directories("crates") {
        assert!(drawn.contains(&format!("crates/{name}")), "ARCHITECTURE.md does not draw crates/{name}/");
    }
}

#[test]
fn a_drawn_tree_is_read_with_its_parents() {
    let text = "```text tree\nREADME.md\ncrates/\n  newswire/   words with a slash/ in them\ndocs/\n```\n";
    let found: Vec<String> = drawn(&Document::parse("x.md", text)).into_iter().collect();
    assert_eq!(found, ["crates", "crates/newswire", "docs"]);
}
