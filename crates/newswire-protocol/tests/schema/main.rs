//! The schemas are those of the files in `schemas/`, of the vectors, of the protocol page, and of the parsers.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod builders;
mod files;
mod parsers;
mod random;
mod vectors;

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use newswire_protocol::schema;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The validator of the schema at this path.
fn validator(path: &str) -> Validator {
    let schema = schema::by_path(path).unwrap_or_else(|| panic!("there is no schema {path}"));
    jsonschema::draft202012::new(&schema).unwrap()
}

/// What is wrong with a value, in words; empty where nothing is.
fn faults(validator: &Validator, value: &Value) -> String {
    let faults: Vec<String> =
        validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    faults.join("\n")
}
