//! A browser that signs in, by hand.

use crate::{Raw, Server};

/// Signs a browser in with what the server printed, and gives what it is told of its cookie. `headers` stand beside the usual.
///
/// # Panics
/// If it is not signed in.
pub async fn sign_in(server: &Server, origin: &str, headers: &str) -> String {
    let path = server.printed("sign a browser in").await;
    let code = path.split_once("code=").expect("an address with a code").1.trim().to_owned();
    let (addr, body) = (server.addr, format!("code={code}"));
    // By hand: a client that follows the answer elsewhere would not show its cookie.
    let request = format!(
        "POST /signin HTTP/1.1\r\nHost: {addr}\r\nOrigin: {origin}\r\n{headers}Connection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (head, _) = Raw::request(addr, &request).await;
    assert!(head.starts_with("HTTP/1.1 303"), "{head}");
    let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    set.unwrap_or_else(|| panic!("no cookie: {head}")).to_owned()
}

/// The name and the value of a cookie, as a browser sends them back.
pub fn named(set: &str) -> &str {
    set.split(';').next().unwrap_or_default()
}
