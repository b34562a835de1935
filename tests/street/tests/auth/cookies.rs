//! Browsers that sign in with the address that the server prints.

use newswire_street_tests::sign_in::{named, sign_in};
use newswire_street_tests::{Browser, Heard, Socket};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_code_signs_one_browser_in_and_pages_of_others_have_nothing_of_it() {
    let (_home, server) = server();
    let path = server.printed("sign a browser in").await;
    let path = &path[path.find("/signin").unwrap()..];
    assert_eq!(
        server.http().send("GET", path, &[], "").await.status,
        200,
        "looking at it does not use it up"
    );
    let origin = format!("http://{}", server.addr);
    let set = sign_in(&server, &origin, "").await;
    assert!(set.starts_with(&format!("newswire_session_{}=", server.addr.port())), "{set}");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = named(&set);
    let own = [("cookie", cookie), ("origin", origin.as_str())];
    assert_eq!(server.http().send("GET", "/api/v1/connections", &[("cookie", cookie)], "").await.status, 200);
    let mut socket = Socket::try_open_with(server.addr, "/api/v1/ws", &own).await.unwrap();
    socket.subscribe(&["tasks"]).await;
    // Cross-site requests: a form, an upgrade, one that hides where it comes from.
    for headers in [
        &[("cookie", cookie)][..],
        &[("cookie", cookie), ("origin", "https://evil.example")],
        &[("cookie", cookie), ("origin", "null")],
        &[("cookie", cookie), ("origin", origin.as_str()), ("sec-fetch-site", "cross-site")],
        // Browsers send cookies to all ports of a host, whichever port the page is from.
        &[("cookie", cookie), ("origin", "http://127.0.0.1:9")],
        &[("cookie", cookie), ("origin", "http://localhost:9")],
        &[("cookie", cookie), ("origin", origin.as_str()), ("sec-fetch-site", "same-site")],
    ] {
        let answer = server.http().send("POST", "/api/v1/admin/compact", headers, "").await;
        assert_eq!(answer.problem(403), "forbidden_origin", "{headers:?}");
        // Either it does not get that far, or the cookie counts for nothing.
        match Socket::try_open_with(server.addr, "/api/v1/ws", headers).await {
            Err(refused) => assert!(refused.contains("403"), "{headers:?}: {refused}"),
            Ok(mut stranger) => {
                stranger.send(&json!({"action": "subscribe", "channels": ["tasks"]})).await;
                assert!(matches!(stranger.ending().await, Heard::Close(4001, _)), "{headers:?}");
            }
        }
    }
    // A page of another port, to which the browser adds the cookie, shows a credential of its own.
    let other_port = [("cookie", cookie), ("origin", "http://127.0.0.1:9")];
    let mut other = Socket::try_open_with(server.addr, "/api/v1/ws", &other_port).await.unwrap();
    other.send(&json!({"action": "auth", "token": good("sarah", "observer")})).await;
    other.expect("auth_ok").await;
    other.subscribe(&["tasks"]).await;
    let connected = server.http().send("GET", "/api/v1/connections", &[("cookie", cookie)], "").await.data();
    let is_hers = |one: &serde_json::Value| one["identity"] == "sarah";
    assert!(connected.as_array().unwrap().iter().any(is_hers), "whom the credential says: {connected}");
    // What only reads is answered as if there were no cookie.
    for headers in [
        &[("cookie", cookie), ("origin", "http://127.0.0.1:9")][..],
        &[("cookie", cookie), ("sec-fetch-site", "same-site")],
        &[("cookie", cookie), ("sec-fetch-site", "cross-site")],
    ] {
        let answer = server.http().send("GET", "/api/v1/connections", headers, "").await;
        assert_eq!(answer.problem(401), "unauthorized", "{headers:?}");
    }
    assert_eq!(server.http().send("POST", "/api/v1/admin/compact", &own, "").await.status, 200);
    let again = [("origin", origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let code = path.split_once('?').unwrap().1.to_owned();
    assert_eq!(server.http().send("POST", "/signin", &again, code).await.problem(401), "unauthorized");
    let made_up = [("cookie", format!("newswire_session_{}=nonsense", server.addr.port()))];
    let made_up = made_up.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(server.http().send("GET", "/api/v1/events", &made_up, "").await.problem(401), "unauthorized");
}

#[tokio::test]
async fn a_cookie_over_tls_is_secure_and_of_one_host() {
    // A proxy of ours ended TLS, and says so; from anybody else it says nothing.
    let home = tempfile::tempdir().unwrap();
    for (trusted, expected) in [("127.0.0.1", true), ("10.0.0.1", false)] {
        let server = options(&home).set("server.trusted_proxies", trusted).start();
        let port = server.addr.port();
        let origin = if expected { "https" } else { "http" };
        let origin = format!("{origin}://{}", server.addr);
        let set = sign_in(&server, &origin, "X-Forwarded-Proto: https\r\n").await;
        let name = format!("{}newswire_session_{port}=", if expected { "__Host-" } else { "" });
        assert!(set.starts_with(&name) && set.contains("; Secure") == expected, "{set}");
        let headers = [("cookie", named(&set)), ("x-forwarded-proto", "https")];
        assert_eq!(server.http().send("GET", "/api/v1/connections", &headers, "").await.status, 200);
        // The same cookie where the browser spoke no TLS has another name, and counts nothing.
        let plain = [("cookie", named(&set)), ("x-forwarded-proto", "http")];
        let status = server.http().send("GET", "/api/v1/connections", &plain, "").await.status;
        assert_eq!(status, if expected { 401 } else { 200 });
    }
}

#[tokio::test]
async fn a_cookie_of_a_server_that_speaks_tls_is_secure_too() {
    let home = tempfile::tempdir().unwrap();
    let given = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let server = options(&home).set("tls.cert", given("one.pem").display());
    let server = server.set("tls.key", given("one.key").display()).start();
    let code = server.printed("sign a browser in").await.split_once("code=").unwrap().1.trim().to_owned();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(given("ca.pem")).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).resolve("localhost", server.addr);
    let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let base = format!("https://localhost:{}", server.addr.port());
    let post = async |origin: &str| {
        let request = client.post(format!("{base}/signin")).header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(format!("code={code}")).send().await.unwrap()
    };
    // A page without TLS on the very same host and port is another origin, and whoever is on the way can write one.
    assert_eq!(post(&base.replace("https", "http")).await.status(), 403);
    let answer = post(&base).await;
    let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(set.starts_with(&format!("__Host-newswire_session_{}=", server.addr.port())), "{set}");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{set}");
    let asked = client.get(format!("{base}/api/v1/connections")).header("cookie", named(&set));
    assert_eq!(asked.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn whoever_signs_out_takes_along_what_stands_on_the_session() {
    let (_home, server) = server();
    let origin = format!("http://{}", server.addr);
    let set = sign_in(&server, &origin, "").await;
    let own = [("cookie", named(&set)), ("origin", origin.as_str())];
    let mut socket = Socket::try_open_with(server.addr, "/api/v1/ws", &own).await.unwrap();
    socket.subscribe(&["tasks"]).await;
    let mut other = socket_as(&server, &good("sarah", "observer")).await;
    other.subscribe(&["tasks"]).await;
    let ticket = server.http().send("POST", "/api/v1/auth/ws-ticket", &own, "").await.data();
    let foreign = [("cookie", named(&set)), ("origin", "http://127.0.0.1:9")];
    server.http().send("POST", "/api/v1/auth/sign-out", &foreign, "").await.problem(403);
    assert!(server.http().send("GET", "/signin", &own, "").await.body.contains("/api/v1/auth/sign-out"));
    let answer = server.http().send("POST", "/api/v1/auth/sign-out", &own, "").await;
    assert_eq!(answer.data(), json!({"closed": 1}));
    let forgotten = answer.headers["set-cookie"].to_str().unwrap();
    assert!(forgotten.starts_with(named(&set).split_once('=').unwrap().0), "{forgotten}");
    assert!(forgotten.contains("; Max-Age=0"), "{forgotten}");
    assert!(matches!(socket.ending().await, Heard::Close(4003, _)));
    assert_eq!(server.http().send("GET", "/api/v1/events", &own, "").await.problem(401), "unauthorized");
    let path = format!("/api/v1/ws?ticket={}", ticket["ticket"].as_str().unwrap());
    assert!(Socket::try_open(server.addr, &path).await.err().unwrap().contains("401"));
    assert_eq!(other.ask(&json!({"action": "ping"})).await["action"], "pong", "others stand");
    // Tokens and keys are no sessions.
    let answer = post_as(&server, &good("sarah", "observer"), "/api/v1/auth/sign-out", &json!({})).await;
    assert_eq!(answer.problem(404), "not_found");
}

#[tokio::test]
async fn a_real_browser_signs_in_and_out_by_the_buttons() {
    let (_home, server) = server();
    let printed = server.printed("sign a browser in").await;
    let browser = Browser::start().await;
    browser.open(printed[printed.find("http://").unwrap()..].trim()).await;
    let press = "document.querySelector('button').click()";
    let asks = "return fetch('/api/v1/connections').then(answer => answer.status)";
    browser.run(press).await;
    browser.until("return location.pathname.startsWith('/docs')").await;
    assert_eq!(browser.run(asks).await, 200);
    browser.open(&format!("http://{}/signin", server.addr)).await;
    browser.run(press).await;
    browser.until("return document.body.innerText.includes('closed')").await;
    assert_eq!(browser.run(asks).await, 401);
}
