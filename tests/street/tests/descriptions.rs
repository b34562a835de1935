//! What the server says of itself to programs and to people, judged by the tools that read such descriptions.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;

use newswire_street_tests::tools::{node_script, python_tool, succeeds};
use newswire_street_tests::{Browser, Server, binary, data};
use serde_json::{Value, json};

/// Calls of a description: `GET /events`.
fn calls(openapi: &Value) -> BTreeSet<(String, String)> {
    let paths = openapi["paths"].as_object().unwrap();
    let methods = |path: &Value| path.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    paths
        .iter()
        .flat_map(|(path, item)| {
            methods(item).into_iter().map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect()
}

#[tokio::test]
async fn each_description_is_served_with_a_tag_and_is_the_file_in_schemas() {
    let server = Server::start();
    let http = server.http();
    for name in ["openapi.json", "asyncapi.json"] {
        let path = format!("/{name}");
        let whole = http.get(&path).await;
        assert_eq!((whole.status, &*whole.content_type), (200, "application/json"));
        let file = binary::workspace_root().join("schemas").join(name);
        let stored: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert!(whole.json() == stored, "schemas/{name} is not what is served: run `make schemas`");

        let tag = whole.headers["etag"].to_str().unwrap().to_owned();
        let client = reqwest::Client::new();
        let url = format!("http://{}/api/v1{path}", server.addr);
        let again = client.get(&url).header("If-None-Match", &tag).send().await.unwrap();
        assert_eq!(again.status(), 304);
        assert_eq!(again.headers()["etag"], tag.as_str());
        assert_eq!(again.bytes().await.unwrap().len(), 0);
        let head = client.head(&url).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.headers()["etag"].to_str().unwrap()), (200, &*tag));
    }
}

/// What is described answers, and refuses with the methods that are described: the other way round of the test that
/// compares the table of routes with the table of operations.
#[tokio::test]
async fn every_described_address_allows_exactly_the_described_methods() {
    let server = Server::start();
    let openapi = server.http().get("/openapi.json").await.json();
    let calls = calls(&openapi);
    let paths: BTreeSet<&String> = calls.iter().map(|(path, _)| path).collect();
    for path in paths {
        let address = path.replace("{offset}", "1").replace("{channel}", "tasks").replace("{id}", "1");
        let url = format!("http://{}/api/v1{address}", server.addr);
        let request = reqwest::Client::new().request(reqwest::Method::from_bytes(b"BREW").unwrap(), url);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        let allow = answer.headers()["allow"].to_str().unwrap();
        let allowed: BTreeSet<&str> = allow.split(", ").filter(|method| *method != "HEAD").collect();
        let described = calls.iter().filter(|(known, _)| known == path).map(|(_, method)| method.as_str());
        assert_eq!(allowed, described.collect(), "{path}");
    }
}

/// Random requests, good and bad, as the description allows and forbids them: no answer is a failure of the server, none
/// has a status, a type or a body that the description does not know.
async fn keeps_what_its_openapi_says(server: &Server, token: Option<&str>) {
    let home = tempfile::tempdir().unwrap();
    for file in ["schemathesis.toml", "schemathesis_hooks.py"] {
        let tools = binary::workspace_root().join("tests/tools");
        std::fs::copy(tools.join(file), home.path().join(file)).unwrap();
    }
    let mut schemathesis = python_tool("schemathesis");
    schemathesis
        .current_dir(&home)
        .args(["run", &format!("http://{}/api/v1/openapi.json", server.addr)])
        .args(["--url", &format!("http://{}/api/v1", server.addr)])
        // The same cases each time, a bounded number of them.
        .args(["--generation-deterministic", "--max-examples", "60"])
        // A stream does not end, so it has tests of its own.
        .args(["--exclude-path", "/events/stream", "--exclude-path", "/connections/{id}"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-failures", "5"])
        .args(["--request-timeout", "10", "--no-color"]);
    if let Some(token) = token {
        schemathesis.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let said = tokio::task::spawn_blocking(move || succeeds(&mut schemathesis, "")).await.unwrap();
    assert!(said.contains("/events"), "{said}");
}

#[tokio::test]
async fn an_open_server_keeps_what_its_openapi_says() {
    let server = Server::start();
    server.http().publish(&(1..=50).map(data::task).collect::<Vec<_>>()).await;
    keeps_what_its_openapi_says(&server, None).await;
}

/// An API key of an administrator, and its hash.
const KEY: (&str, &str) =
    ("nw_ci_let-me-in", "sha256:a3ee786b5707c27d42570785081ec17f5c7db9262a01366af362a1aa61a420b9");

fn server_that_asks() -> Server {
    Server::options().set("auth.keys.ci.hash", KEY.1).set("auth.keys.ci.role", "admin").start()
}

#[tokio::test]
async fn a_server_that_asks_keeps_what_its_openapi_says_to_one_with_credentials() {
    keeps_what_its_openapi_says(&server_that_asks(), Some(KEY.0)).await;
}

#[tokio::test]
async fn a_server_that_asks_keeps_what_its_openapi_says_to_one_without() {
    keeps_what_its_openapi_says(&server_that_asks(), None).await;
}

#[tokio::test]
async fn the_asyncapi_is_what_its_own_parser_reads() {
    let server = Server::start();
    let asyncapi = server.http().get("/asyncapi.json").await.body;
    let said = succeeds(&mut node_script("asyncapi.js"), &asyncapi);
    assert!(said.contains("2 channels"), "{said}");
    // The judge can say no.
    let broken = asyncapi.replace("\"action\":\"receive\"", "\"action\":\"overhear\"");
    let refused = std::panic::catch_unwind(|| succeeds(&mut node_script("asyncapi.js"), broken));
    assert!(refused.is_err(), "the parser takes an unknown kind of operation");
}

/// Leaves one kind of each body: given several, the generator tells them apart by Python's `isinstance`, which knows no
/// `list[…]`, and takes the first that it could be for an answer.
fn only_json(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !name.starts_with("application/cloudevents") && name != "application/x-ndjson"
            });
            fields.values_mut().for_each(only_json);
        }
        Value::Array(items) => items.iter_mut().for_each(only_json),
        _ => {}
    }
}

/// A client that a public generator writes from the OpenAPI publishes, pages through history, and understands problems.
#[tokio::test]
async fn a_generated_client_publishes_and_pages() {
    let server = Server::start();
    let mut openapi = server.http().get("/openapi.json").await.json();
    only_json(&mut openapi);
    let openapi = openapi.to_string();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("openapi.json"), openapi).unwrap();
    std::fs::write(
        home.path().join("config.yml"),
        "package_name_override: newswire_client\npost_hooks: []\n",
    )
    .unwrap();
    let mut generate = python_tool("openapi-python-client");
    generate.current_dir(&home).args(["generate", "--path", "openapi.json", "--config", "config.yml"]);
    generate.args(["--meta", "none", "--output-path", "newswire_client"]);
    let script = binary::workspace_root().join("tests/tools/generated_client.py");
    let mut python = python_tool("python");
    python
        .current_dir(&home)
        .arg(script)
        .arg(format!("http://{}/api/v1", server.addr))
        .env("PYTHONPATH", home.path());
    let said = tokio::task::spawn_blocking(move || {
        succeeds(&mut generate, "");
        succeeds(&mut python, "")
    });
    assert!(said.await.unwrap().contains("250 events in 3 pages"));
    assert_eq!(server.http().history("channels=tasks").await.len(), 250);
}

/// Addresses of everything that the page has loaded.
const LOADED: &str = "return performance.getEntriesByType('resource').map(entry => entry.name)";

#[tokio::test]
async fn the_documents_load_nothing_from_another_host() {
    let server = Server::start();
    let browser = Browser::start().await;
    let origin = format!("http://{}/", server.addr);

    browser.open(&format!("{origin}docs")).await;
    browser.until("return document.querySelectorAll('.opblock').length > 5").await;
    let from_here = |loaded: &Value| {
        let loaded = loaded.as_array().unwrap();
        !loaded.is_empty()
            && loaded.iter().all(|url| {
                let url = url.as_str().unwrap();
                url.starts_with(&origin) || url.starts_with("data:")
            })
    };
    let loaded = browser.run(LOADED).await;
    assert!(from_here(&loaded), "{loaded}");
    // A call from the page: the address it uses is the server's own, wherever the description is.
    browser
        .run("document.querySelector('#operations-channels-channels .opblock-summary-control').click()")
        .await;
    browser.until("return document.querySelector('#operations-channels-channels .execute') !== null").await;
    browser.run("document.querySelector('#operations-channels-channels .execute').click()").await;
    let answered = "const shown = document.querySelector('#operations-channels-channels .live-responses-table .response .response-col_status'); \
                    return shown && shown.innerText.trim().slice(0, 3)";
    assert_eq!(browser.until(answered).await, json!("200"));

    browser.open(&format!("{origin}docs/live")).await;
    browser.until("return document.querySelector('#subscribe') !== null").await;
    assert!(from_here(&browser.run(LOADED).await));
    let heading = browser.run("return document.querySelector('h3#caught_up').innerText").await;
    assert!(heading.as_str().unwrap().contains("server → client"), "{heading}");
    // What the policy forbids, or is not found, would stand there.
    assert_eq!(browser.console().await, Vec::<String>::new());
}
