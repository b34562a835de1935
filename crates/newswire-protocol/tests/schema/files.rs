//! What stands in `schemas/` is what the code says, and each schema is one.

use std::collections::BTreeSet;

use newswire_protocol::schema::{self, WELL_KNOWN};
use serde_json::Value;

use crate::{faults, root, validator};

#[test]
fn the_files_are_what_the_code_says() {
    let mut expected = BTreeSet::new();
    for (path, schema) in schema::files() {
        let file = root().join("schemas").join(format!("{path}.json"));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let stored: Value = serde_json::from_str(&text).unwrap_or_default();
        assert!(stored == schema, "schemas/{path}.json is not what the code says: run `make schemas`");
        expected.insert(file.canonicalize().unwrap());
    }
    for directory in ["commands", "messages", "http", "payloads"] {
        for entry in std::fs::read_dir(root().join("schemas").join(directory)).unwrap() {
            let file = entry.unwrap().path().canonicalize().unwrap();
            assert!(expected.contains(&file), "{} is of no schema: delete it", file.display());
        }
    }
}

#[test]
fn every_schema_is_one_and_takes_its_own_examples() {
    for (path, schema) in schema::files() {
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{path}: {error}"));
        let validator = validator(&path);
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_eq!(faults(&validator, example), "", "{path}: {example}");
        }
    }
}

/// Every message and every field is explained: descriptions are what the documents for programs are read for.
#[test]
fn everything_is_described() {
    for (path, schema) in schema::files() {
        let shapes =
            schema["$defs"].as_object().into_iter().flatten().map(|(name, shape)| (name.as_str(), shape));
        for (name, shape) in shapes.chain([(path.as_str(), &schema)]) {
            assert!(shape["description"].is_string(), "{path}: {name} has no description");
        }
    }
}

#[test]
fn the_page_names_the_same_event_types() {
    let page = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let list = page.split("Well-known types:").nth(1).unwrap().split("`.").next().unwrap();
    let list = format!("{list}`");
    let on_page: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
    let known: BTreeSet<&str> = WELL_KNOWN.iter().map(|known| known.event_type).collect();
    assert_eq!(on_page, known);
}
