//! Replays the inputs of the fuzz target of tokens.

use std::fs;
use std::path::Path;

#[test]
fn token() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/token");
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is part of the repository") {
        let path = entry.expect("a readable directory").path();
        eprintln!("{}", path.display());
        newswire_server::fuzzing::token(&fs::read(&path).expect("a readable input"));
        inputs += 1;
    }
    assert!(inputs > 5, "{} is nearly empty", corpus.display());
}
