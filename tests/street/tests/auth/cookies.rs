//! Browsers that sign in with the address that the server prints.

use newswire_street_tests::{Server, Socket};

use crate::support::*;

/// The address as the server printed it, from the root.
async fn sign_in(server: &Server, path: &str) -> String {
    let code = path.split_once("code=").unwrap().1.to_owned();
    let origin = format!("http://{}", server.addr);
    let headers = [("origin", origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let answer = server.http().send("POST", "/signin", &headers, format!("code={code}")).await;
    assert!(answer.headers.contains_key("set-cookie"), "{} {}", answer.status, answer.body);
    answer.headers["set-cookie"].to_str().unwrap().to_owned()
}

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
    let set = sign_in(&server, path).await;
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().unwrap();
    let origin = format!("http://{}", server.addr);
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
    ] {
        let answer = server.http().send("POST", "/api/v1/admin/compact", headers, "").await;
        assert_eq!(answer.problem(403), "forbidden_origin", "{headers:?}");
        let refused = Socket::try_open_with(server.addr, "/api/v1/ws", headers).await.err().unwrap();
        assert!(refused.contains("403"), "{headers:?}: {refused}");
    }
    assert_eq!(server.http().send("POST", "/api/v1/admin/compact", &own, "").await.status, 200);
    let again = [("origin", origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let code = path.split_once('?').unwrap().1.to_owned();
    assert_eq!(server.http().send("POST", "/signin", &again, code).await.problem(401), "unauthorized");
    let made_up = [("cookie", "newswire_session=nonsense")];
    assert_eq!(server.http().send("GET", "/api/v1/events", &made_up, "").await.problem(401), "unauthorized");
}
