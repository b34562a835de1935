//! `newswire check`, and what `serve` does with the same damage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use support::{Served, files, run, stderr};

async fn filled(data: &Path) {
    let server = Served::start(data, &[]);
    for number in 0..20 {
        let event = format!(
            r#"{{"channel":"tasks","event_type":"t","payload":{{"word":"corrigible","n":{number}}}}}"#
        );
        assert_eq!(server.publish(&event).await.0, 200);
    }
    server.signal("TERM");
    assert!(server.ended().0.success());
}

#[tokio::test]
async fn a_sound_log_is_called_sound_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    filled(&data).await;
    let before = files(&data);
    let output = run(&["check", data.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    assert!(said.contains("20 events") && said.contains("Sound"), "{said}");
    assert!(files(&data) == before, "checking changed something");
}

#[tokio::test]
async fn damage_is_named_by_file_and_byte_and_neither_served_nor_touched() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    filled(&data).await;
    let word = b"corrigible";
    let holds_events = |bytes: &[u8]| bytes.windows(word.len()).position(|window| window == word);
    let (victim, mut bytes) =
        files(&data).into_iter().find(|(_, bytes)| holds_events(bytes).is_some()).unwrap();
    let at = holds_events(&bytes).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let before = files(&data);

    let checked = run(&["check", data.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(4), "{said}{}", stderr(&checked));
    assert!(said.contains(&format!("Damaged: {} at byte", victim.display())), "{said}");

    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(4));
    let said = stderr(&refused);
    assert!(said.contains(&victim.display().to_string()) && said.contains("newswire check"), "{said}");
    assert!(files(&data) == before, "refusing changed something");
}

#[test]
fn what_is_no_log_cannot_be_checked() {
    let home = tempfile::tempdir().unwrap();
    let output = run(&["check", home.path().join("nothing").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing"), "{}", stderr(&output));
    let output = run(&["check", home.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "an empty directory is no sound log");
    assert!(stderr(&output).contains("holds no log"), "{}", stderr(&output));
}
