//! The table of credentials that are no good, each by header, upgrade and first frame; and those that are.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use newswire_street_tests::{Heard, Server, Socket, data};
use serde_json::{Value, json};

use crate::support::*;

/// What an attacker tries: its name and the token.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let (good, hs256) = (claims("sarah", "admin"), Header::new(Algorithm::HS256));
    let changed = |changes: Value| token(&with(good.clone(), &changes));
    let by = |secret: &[u8]| sign(&hs256, &good, &EncodingKey::from_secret(secret));
    let (rsa, ec) = (pem("rsa.pub.pem"), pem("ec.pub.pem"));
    let unknown = Header { kid: Some("nobody".into()), ..Header::new(Algorithm::RS256) };
    let other_rsa = EncodingKey::from_rsa_pem(&pem("rsa-other.pem")).unwrap();
    let signed = token(&good);
    let flipped =
        format!("{}{}", &signed[..signed.len() - 2], if signed.ends_with("AA") { "BB" } else { "AA" });
    let (head, rest) = signed.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let elevated = token(&claims("mallory", "admin"));
    let swapped = format!("{head}.{}.{signature}", elevated.split('.').nth(1).unwrap());
    let critical = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    vec![
        ("nonsense", "nonsense".into()),
        ("the wrong secret", by(b"another-secret-that-is-long-enough-too")),
        ("a flipped signature", flipped),
        ("claims of another token", swapped),
        ("no signature", format!("{}.", signed.rsplit_once('.').unwrap().0)),
        ("expired", changed(json!({"exp": now() - 1}))),
        ("without an expiry", changed(json!({"exp": null}))),
        ("an expiry that is a text", changed(json!({"exp": "tomorrow"}))),
        ("not valid yet", changed(json!({"nbf": now() + 30}))),
        ("another audience", changed(json!({"aud": "another"}))),
        ("no audience", changed(json!({"aud": null}))),
        ("another issuer", changed(json!({"iss": "https://evil.example"}))),
        ("no issuer", changed(json!({"iss": null}))),
        ("without a subject", changed(json!({"sub": null}))),
        ("of nobody in particular", changed(json!({"sub": "anonymous"}))),
        ("a role that nobody knows", changed(json!({"newswire": {"role": "emperor"}}))),
        ("a permission that nobody knows", changed(json!({"newswire": {"everything": true}}))),
        ("the id of a key for its own", changed(json!({"jti": "key:ci"}))),
        ("the name of a key", changed(json!({"sub": "key:ci"}))),
        ("the name of whoever signed a browser in", changed(json!({"sub": "browser:operator"}))),
        ("a name over two lines", changed(json!({"sub": "sarah\nroot"}))),
        ("alg none", raw_token(&json!({"alg": "none"}), &good, b"")),
        ("alg nOnE", raw_token(&json!({"alg": "nOnE"}), &good, b"")),
        (
            "alg HS512",
            sign(&Header::new(Algorithm::HS512), &good, &EncodingKey::from_secret(SECRET.as_bytes())),
        ),
        ("HS256 by the public RSA key", by(&rsa)),
        ("HS256 by the public RSA key, trimmed", by(rsa.trim_ascii())),
        ("HS256 by the public EC key", by(&ec)),
        ("RS256 of a key that nobody knows", sign(&Header::new(Algorithm::RS256), &good, &other_rsa)),
        ("an unknown kid", sign(&unknown, &good, &other_rsa)),
        ("RS256 named over an HS256", raw_token(&json!({"alg": "RS256"}), &good, b"0123456789")),
        ("extensions that must be understood", raw_token(&critical, &good, b"0123456789")),
        ("a key of an id that nobody has", "nw_cd_let-me-in".into()),
        ("a key with another secret", "nw_ci_let-me-on".into()),
        ("a key without a secret", "nw_ci_".into()),
        ("the hash in the place of the key", format!("nw_ci_{KEY_HASH}")),
        ("very long", "x".repeat(9_000)),
    ]
}

fn server_with_all_keys() -> (tempfile::TempDir, Server) {
    let home = tempfile::tempdir().unwrap();
    let keys: String = ["rsa.pub.pem", "ec.pub.pem", "ed.pub.pem"]
        .map(|name| String::from_utf8(pem(name)).unwrap())
        .concat();
    let path = home.path().join("keys.pem");
    std::fs::write(&path, keys).unwrap();
    let options = options(&home).set("auth.jwt.keys_file", path.display()).set("auth.keys.ci.hash", KEY_HASH);
    let options = options.set("limits.auth_failures_per_minute", "none");
    let server = options.start();
    (home, server)
}

#[tokio::test]
async fn bad_credentials_open_no_door_and_stand_in_no_log() {
    let (_home, server) = server_with_all_keys();
    for (name, token) in bad_tokens() {
        let answer = get_as(&server, &token, "/api/v1/events").await;
        assert_eq!(answer.problem(401), "unauthorized", "{name}: {}", answer.body);
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{name}");
        assert!(!answer.body.contains(&token), "{name} is repeated");
        let upgrade = [("authorization", bearer(&token))];
        let upgrade: Vec<(&str, &str)> =
            upgrade.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let refused = Socket::try_open_with(server.addr, "/api/v1/ws", &upgrade).await.err().unwrap();
        assert!(refused.contains("401"), "{name}: {refused}");
        if token.len() < 4_000 {
            let mut socket = server.socket_at("/api/v1/ws?channels=tasks").await;
            socket.send(&json!({"action": "auth", "token": token})).await;
            assert!(matches!(socket.hear().await, Heard::Close(4001, _)), "{name}");
        }
        assert!(!server.stderr().contains(&token), "{name} stands in the log");
    }
    let failures = get_as(&server, &good("watcher", "admin"), "/metrics").await.body;
    assert!(failures.contains("newswire_auth_failures_total{reason=\"expired\"}"), "{failures}");
}

#[tokio::test]
async fn a_token_for_longer_than_any_may_count_is_none() {
    let home = tempfile::tempdir().unwrap();
    let server = options(&home).set("auth.jwt.max_lifetime", "1h").start();
    for (seconds, status) in [(3_000, 200), (7_200, 401)] {
        let token = token(&with(claims("sarah", "observer"), &json!({"exp": now() + seconds})));
        assert_eq!(get_as(&server, &token, "/api/v1/events").await.status, status, "{seconds}");
    }
}

#[tokio::test]
async fn good_credentials_of_every_kind_do() {
    let (_home, server) = server_with_all_keys();
    let of = |algorithm, key: EncodingKey| sign(&Header::new(algorithm), &claims("sarah", "publisher"), &key);
    let tokens = [
        ("HS256", good("sarah", "publisher")),
        ("RS256", of(Algorithm::RS256, EncodingKey::from_rsa_pem(&pem("rsa.pem")).unwrap())),
        ("ES256", of(Algorithm::ES256, EncodingKey::from_ec_pem(&pem("ec.pem")).unwrap())),
        ("EdDSA", of(Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem("ed.pem")).unwrap())),
        ("an API key", KEY.to_owned()),
        ("aud in a list", token(&with(claims("sarah", "publisher"), &json!({"aud": ["x", AUDIENCE]})))),
    ];
    for (name, token) in &tokens {
        let published = publish_as(&server, token, &data::task(1)).await.data();
        assert!(published["results"][0]["offset"].is_u64(), "{name}: {published}");
        let mut socket = socket_as(&server, token).await;
        assert_eq!(socket.subscribe(&["tasks"]).await["action"], "subscribed", "{name}");
        let mut socket = server.socket().await;
        socket.send(&json!({"action": "auth", "token": token, "id": 7})).await;
        socket.send(&json!({"action": "subscribe", "channels": ["tasks"], "history": 1})).await;
        assert_eq!(socket.expect("auth_ok").await["id"], 7, "{name}");
        socket.expect("subscribed").await;
        socket.event().await;
    }
}

#[tokio::test]
async fn without_credentials_only_what_is_public_is_answered() {
    let (_home, server) = server();
    for path in ["/health/live", "/health/ready", "/openapi.json", "/asyncapi.json"] {
        assert_eq!(server.http().get(path).await.status, 200, "{path}");
    }
    for path in ["/events", "/events/1", "/events/stream", "/channels", "/connections", "/health", "/metrics"]
    {
        assert_eq!(server.http().get(path).await.problem(401), "unauthorized", "{path}");
    }
    for (path, body) in [
        ("/metrics", ""),
        ("/api/v1/auth/ws-ticket", ""),
        ("/api/v1/events", "{}"),
        ("/api/v1/admin/revoke", "{}"),
    ] {
        let method = if path == "/metrics" { "GET" } else { "POST" };
        let answer = server.http().send(method, path, &[("content-type", "application/json")], body).await;
        assert_eq!(answer.problem(401), "unauthorized", "{path}");
    }
    for header in ["Basic c2FyYWg6cHc=", "Bearer", "Token x"] {
        let answer = server.http().send("GET", "/api/v1/events", &[("authorization", header)], "").await;
        assert_eq!(answer.problem(401), "unauthorized", "{header}");
    }
    let token = bearer(&good("sarah", "observer"));
    let twice = [("authorization", token.as_str()), ("authorization", token.as_str())];
    assert_eq!(server.http().send("GET", "/api/v1/events", &twice, "").await.problem(401), "unauthorized");
}

#[tokio::test]
async fn credentials_in_an_address_are_refused_also_by_an_open_server() {
    let (_home, closed) = server();
    let open = Server::start();
    let token = good("sarah", "observer");
    for server in [&closed, &open] {
        for name in ["token", "access_token", "api_key", "Authorization", "jwt"] {
            for path in ["/events", "/events/stream", "/channels", "/ws"] {
                let answer = server.http().get(&format!("{path}?{name}={token}")).await;
                assert_eq!(answer.problem(400), "invalid_parameter", "{path}?{name}");
                assert!(!answer.body.contains(&token));
            }
        }
        assert!(!server.stderr().contains(&token));
    }
}

#[tokio::test]
async fn whoever_says_nothing_or_anything_else_first_is_closed() {
    let home = tempfile::tempdir().unwrap();
    let server = options(&home).set("auth.timeout", "300ms").start();
    for first in [
        r#"{"action":"subscribe","channels":["tasks"]}"#,
        r#"{"action":"ping"}"#,
        "{",
        "[]",
        r#"{"action":"auth"}"#,
    ] {
        let mut socket = server.socket().await;
        socket.send_text(first).await;
        assert!(matches!(socket.hear().await, Heard::Close(4001, _)), "{first}");
    }
    let mut binary = server.socket().await;
    binary.send_binary(vec![1, 2, 3]).await;
    assert!(matches!(binary.hear().await, Heard::Close(4001, _)));
    let mut silent = server.socket_at("/api/v1/ws/tasks").await;
    assert!(matches!(silent.hear().await, Heard::Close(4001, _)), "nothing came in time");
    // Which channels there are is told to nobody who has not said who it is.
    let mut curious = server.socket_at("/api/v1/ws/no_such_channel").await;
    assert!(matches!(curious.hear().await, Heard::Close(4001, _)));
}

#[tokio::test]
async fn roles_hold() {
    let (_home, server) = server();
    let (observer, publisher, admin) = (good("o", "observer"), good("p", "publisher"), good("a", "admin"));
    let plain = token(&with(claims("plain", "observer"), &json!({"newswire": null})));
    for reader in [&observer, &plain] {
        assert_eq!(get_as(&server, reader, "/api/v1/events").await.status, 200);
        // An event that may not be published is refused alone, as any other bad one.
        let answer = publish_as(&server, reader, &data::task(1)).await.data();
        assert_eq!(answer["results"][0]["code"], "forbidden", "{answer}");
    }
    let published = publish_as(&server, &publisher, &data::task(1)).await.data();
    assert!(published["results"][0]["offset"].is_u64(), "{published}");
    let operator = good("op", "operator");
    for (token, sees, does) in
        [(&observer, 403, 403), (&publisher, 403, 403), (&operator, 200, 403), (&admin, 200, 200)]
    {
        assert_eq!(get_as(&server, token, "/api/v1/connections").await.status, sees);
        let revoke = post_as(&server, token, "/api/v1/admin/revoke", &json!({"token_id": "no-such"})).await;
        assert_eq!(revoke.status, does);
        assert_eq!(post_as(&server, token, "/api/v1/admin/compact", &json!({})).await.status, does);
    }
}

#[tokio::test]
async fn pages_of_other_origins_stay_out_whatever_they_show() {
    let (_home, server) = server();
    let token = bearer(&good("sarah", "observer"));
    let foreign = [("authorization", token.as_str()), ("origin", "https://evil.example")];
    assert_eq!(
        server.http().send("GET", "/api/v1/events", &foreign, "").await.problem(403),
        "forbidden_origin"
    );
    let refused = Socket::try_open_with(server.addr, "/api/v1/ws", &foreign).await.err().unwrap();
    assert!(refused.contains("403"), "{refused}");
    // A name of the attacker's that leads here: the page's own origin, and no credential that a browser would send along.
    let rebound = format!("rebound.example:{}", server.addr.port());
    let origin = format!("http://{rebound}");
    let headers = [("host", rebound.as_str()), ("origin", origin.as_str())];
    assert_eq!(server.http().send("GET", "/api/v1/events", &headers, "").await.problem(401), "unauthorized");
    // Against an open server the same page does not even come so far.
    let open = Server::start();
    let rebound = format!("rebound.example:{}", open.addr.port());
    let origin = format!("http://{rebound}");
    let headers = [("host", rebound.as_str()), ("origin", origin.as_str())];
    assert_eq!(open.http().send("GET", "/api/v1/events", &headers, "").await.problem(403), "forbidden_host");
}
