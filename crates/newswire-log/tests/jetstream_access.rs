//! Who is let in to NATS and who is not, by every way there is; and what a node says that may not do something.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use newswire_log::jetstream::{JetStream, JetStreamError, JetStreamOptions, NatsCredentials};
use newswire_log::testing::sequencer_suite::{append, numbered};
use newswire_log::{SequenceError, Sequencer};
use newswire_street_tests::{Authority, NatsOptions, NatsServer};
use nkeys::KeyPair;
use serde_json::{Value, json};

fn options(server: &NatsServer, credentials: NatsCredentials) -> JetStreamOptions {
    JetStreamOptions {
        servers: vec![server.url()],
        credentials,
        timeout: Duration::from_secs(2),
        ..JetStreamOptions::default()
    }
}

/// Opens, appends and follows.
async fn works(options: JetStreamOptions) {
    let node = JetStream::connect(options).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(append(&node, 1).await.map(|accepted| accepted.first), Ok(1));
    assert!(node.follow(0).await.is_ok());
}

/// Is not let in; returns what is said about it.
async fn is_refused(options: JetStreamOptions) -> String {
    let Err(error) = JetStream::connect(options).await else { panic!("it was let in") };
    assert!(matches!(error, JetStreamError::Connect { .. }), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    let server = NatsOptions::default().password("newswire", "right").start();
    let password = |word: &str| NatsCredentials::Password("newswire".to_owned(), word.to_owned());
    works(options(&server, password("right"))).await;
    for credentials in [password("wrong"), NatsCredentials::None, NatsCredentials::Token("right".to_owned())]
    {
        let said = is_refused(options(&server, credentials)).await;
        assert!(said.contains("authorization violation") && !said.contains("wrong"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let server = NatsOptions::default().line("authorization { token: \"s3cr3t\" }").start();
    works(options(&server, NatsCredentials::Token("s3cr3t".to_owned()))).await;
    is_refused(options(&server, NatsCredentials::Token("other".to_owned()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nkeys_of_users() {
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key());
    let server = NatsOptions::default().line(&users).start();
    let nkey = |of: &KeyPair| NatsCredentials::Nkey(of.seed().expect("a new key has its seed"));
    works(options(&server, nkey(&user))).await;
    is_refused(options(&server, nkey(&other))).await;
    is_refused(options(&server, NatsCredentials::Nkey("no seed".to_owned()))).await;
}

/// A JSON Web Token as NATS has them.
fn token(name: &str, of: &KeyPair, by: &KeyPair, nats: &Value) -> String {
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "name": name, "sub": of.public_key(), "nats": nats,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&claims));
    let signature = by.sign(signed.as_bytes()).expect("a new key signs");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn account_token(name: &str, account: &KeyPair, operator: &KeyPair, disk: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": disk, "disk_storage": disk, "streams": disk, "consumer": disk,
    });
    token(name, account, operator, &json!({"limits": limits, "type": "account", "version": 2}))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_files() {
    let (operator, system, account) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let user = KeyPair::new_user();
    let lines = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        token("operator", &operator, &operator, &json!({"type": "operator", "version": 2})),
        system.public_key(),
        system.public_key(),
        account_token("system", &system, &operator, 0),
        account.public_key(),
        account_token("account", &account, &operator, -1),
    );
    let server = NatsOptions::default().line(&lines).start();
    let credentials = |by: &KeyPair| {
        let nats = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
        let (token, seed) =
            (token("newswire", &user, by, &nats), user.seed().expect("a new key has its seed"));
        NatsCredentials::Credentials(format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        ))
    };
    works(options(&server, credentials(&account))).await;
    is_refused(options(&server, credentials(&KeyPair::new_account()))).await;
    is_refused(options(&server, NatsCredentials::Credentials("nothing".to_owned()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_of_both_sides() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (authority, other) = (Authority::new(home.path(), "ours"), Authority::new(home.path(), "theirs"));
    authority.server("server");
    authority.client("client");
    other.client("stranger");
    let path = |file: &str| home.path().join(file);
    let lines = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ours.pem")
    );
    let server = NatsOptions::default().line(&lines).start();
    let tls = |ca: &str, identity: Option<&str>| JetStreamOptions {
        tls_ca: Some(path(ca)),
        tls_identity: identity.map(|name| (path(&format!("{name}.pem")), path(&format!("{name}.key")))),
        ..options(&server, NatsCredentials::None)
    };
    works(tls("ours.pem", Some("client"))).await;
    is_refused(tls("theirs.pem", Some("client"))).await;
    is_refused(tls("ours.pem", Some("stranger"))).await;
    is_refused(tls("ours.pem", None)).await;
}

/// NATS does not answer what it forbids; it says so beside.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_is_said() {
    let users = r#"authorization { users: [
        { user: all, password: all },
        { user: reads, password: reads, permissions: { publish: { deny: ["newswire.*"] } } },
        { user: nothing, password: nothing, permissions: { publish: { deny: ["$JS.API.>"] } } },
    ] }"#;
    let server = NatsOptions::default().line(users).start();
    let as_user = |name: &str| options(&server, NatsCredentials::Password(name.to_owned(), name.to_owned()));
    let node = JetStream::connect(as_user("all")).await.unwrap_or_else(|error| panic!("{error}"));
    append(&node, 1).await.unwrap_or_else(|error| panic!("{error}"));
    let reads = JetStream::connect(as_user("reads")).await.unwrap_or_else(|error| panic!("{error}"));
    let (one, several) = tokio::join!(append(&reads, 2), reads.append(vec![numbered(3), numbered(4)]));
    for refused in [one, several] {
        let Err(SequenceError::Refused { reason, .. }) = &refused else { panic!("{refused:?}") };
        assert!(reason.to_lowercase().contains("permissions violation"), "{reason}");
    }
    assert_eq!(node.extent().await.map(|extent| extent.last), Ok(1));
    let Err(error) = JetStream::connect(as_user("nothing")).await else { panic!("it opened") };
    assert!(error.to_string().to_lowercase().contains("permissions violation"), "{error}");
}
