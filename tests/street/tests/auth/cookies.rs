//! Browsers that sign in with the address that the server prints.

use newswire_street_tests::{Raw, Server, Socket};

use crate::support::*;

/// The address as the server printed it, from the root.
async fn sign_in(server: &Server, path: &str) -> String {
    let code = path.split_once("code=").unwrap().1.to_owned();
    let (addr, body) = (server.addr, format!("code={code}"));
    // By hand: a client that follows the answer elsewhere would not show its cookie.
    let request = format!(
        "POST /signin HTTP/1.1\r\nHost: {addr}\r\nOrigin: http://{addr}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (head, _) = Raw::request(addr, &request).await;
    assert!(head.starts_with("HTTP/1.1 303"), "{head}");
    let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    set.unwrap_or_else(|| panic!("no cookie: {head}")).to_owned()
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
