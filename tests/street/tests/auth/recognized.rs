//! Limits count whom a token names, wherever it is shown.

use std::net::IpAddr;

use newswire_street_tests::Server;

use crate::support::*;

/// What is left after a request of somebody with this token, from another address of this machine.
async fn left(server: &Server, token: &str, address: [u8; 4]) -> u32 {
    let client = reqwest::Client::builder().local_address(IpAddr::from(address)).build().unwrap();
    let url = format!("http://{}/api/v1/events", server.addr);
    let answer = client.get(url).header("authorization", bearer(token)).send().await.unwrap();
    let header = answer.headers()["ratelimit"].to_str().unwrap().to_owned();
    let left = header.split(';').find_map(|part| part.strip_prefix("r="));
    left.unwrap_or_else(|| panic!("{header}")).parse().unwrap()
}

#[tokio::test]
async fn an_identity_has_one_bucket_at_all_its_addresses() {
    let home = tempfile::tempdir().unwrap();
    let options = options(&home).set("limits.requests_per_second", 1).set("limits.requests_burst", 10_000);
    let server = options.start();
    let (sarah, tom) = (good("sarah", "observer"), good("tom", "observer"));
    for _ in 0..200 {
        left(&server, &sarah, [127, 0, 0, 1]).await;
    }
    let elsewhere = left(&server, &sarah, [127, 0, 0, 2]).await;
    let toms = left(&server, &tom, [127, 0, 0, 3]).await;
    assert!(elsewhere + 100 < toms, "{elsewhere}, {toms}: what she asked for there counts here");
    // One that is not taken is nobody's: only its address pays.
    let stranger = left(&server, "made-up", [127, 0, 0, 4]).await;
    assert!(stranger >= toms, "{stranger}, {toms}");
}
