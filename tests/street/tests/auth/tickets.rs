//! Tickets: once, soon, by whoever has it, for whoever asked for it.

use newswire_street_tests::{Heard, Server, Socket};
use serde_json::{Value, json};

use crate::support::*;

async fn ticket(server: &Server, token: &str) -> String {
    let answer = post_as(server, token, "/api/v1/auth/ws-ticket", &Value::Null).await;
    assert_eq!(answer.data()["expires_in"], 30, "{}", answer.body);
    answer.data()["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_lets_one_connection_in() {
    let (_home, server) = server();
    let token = good("sarah", "observer");
    let first = ticket(&server, &token).await;
    let mut socket = server.socket_at(&format!("/api/v1/ws?ticket={first}&channels=tasks")).await;
    socket.expect("subscribed").await;
    let replayed = Socket::try_open(server.addr, &format!("/api/v1/ws?ticket={first}")).await.err().unwrap();
    assert!(replayed.contains("401"), "{replayed}");
    let second = ticket(&server, &token).await;
    let mut socket = server.socket_at("/api/v1/ws/tasks").await;
    socket.send(&json!({"action": "auth", "ticket": second})).await;
    socket.expect("auth_ok").await;
    socket.expect("subscribed").await;
    let mut replayed = server.socket().await;
    replayed.send(&json!({"action": "auth", "ticket": second})).await;
    assert!(matches!(replayed.hear().await, Heard::Close(4001, _)));
    let connected = get_as(&server, &good("boss", "admin"), "/api/v1/connections").await.data();
    let identities: Vec<&Value> = connected.as_array().unwrap().iter().map(|one| &one["identity"]).collect();
    assert_eq!(identities, ["sarah", "sarah"]);
    let third = ticket(&server, &token).await;
    assert_eq!(server.http().open(&format!("/api/v1/events/stream?ticket={third}"), &[]).await.status(), 200);
    let fourth = ticket(&server, &token).await;
    assert_eq!(server.http().get(&format!("/events?ticket={fourth}")).await.problem(401), "unauthorized");
    assert!(!server.stderr().contains(&fourth));
}

#[tokio::test]
async fn tickets_are_few_and_nobody_elses() {
    let (_home, server) = server();
    let (sarah, tom) = (good("sarah", "observer"), good("tom", "observer"));
    let mut pending = Vec::new();
    for _ in 0..5 {
        pending.push(ticket(&server, &sarah).await);
    }
    let sixth = post_as(&server, &sarah, "/api/v1/auth/ws-ticket", &Value::Null).await;
    assert_eq!(sixth.problem(429), "too_many_requests");
    let toms = ticket(&server, &tom).await;
    // The place of one's ticket with the secret of another's.
    let at = |ticket: &str| ticket.match_indices('_').nth(2).unwrap().0;
    let crossed = format!("{}{}", &toms[..at(&toms)], &pending[0][at(&pending[0])..]);
    let with_header = [("authorization", bearer(&sarah))];
    let with_header: Vec<(&str, &str)> =
        with_header.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for (name, path, headers) in [
        ("crossed", format!("/api/v1/ws?ticket={crossed}"), &[][..]),
        ("another's, with one's own token", format!("/api/v1/ws?ticket={toms}"), &with_header[..]),
        ("twice", format!("/api/v1/ws?ticket={toms}&ticket={toms}"), &[][..]),
        ("made up", "/api/v1/ws?ticket=nwt_0123456789abcdef0123456789abcdef_0_x".to_owned(), &[][..]),
    ] {
        let refused = Socket::try_open_with(server.addr, &path, headers).await.err().unwrap();
        assert!(refused.contains("401"), "{name}: {refused}");
    }
    // None of that has used it up.
    let mut socket = server.socket_at(&format!("/api/v1/ws?ticket={toms}")).await;
    socket.subscribe(&["tasks"]).await;
    // A ticket of somebody who was revoked in between is worth nothing.
    let revoked =
        post_as(&server, &good("boss", "admin"), "/api/v1/admin/revoke", &json!({"identity": "sarah"})).await;
    assert_eq!(revoked.data()["revoked"], true);
    let refused =
        Socket::try_open(server.addr, &format!("/api/v1/ws?ticket={}", pending[0])).await.err().unwrap();
    assert!(refused.contains("401"), "{refused}");
}

#[tokio::test]
async fn an_open_server_gives_tickets_to_clients_that_want_one() {
    let server = Server::start();
    let answer = server.http().send("POST", "/api/v1/auth/ws-ticket", &[], "").await;
    let ticket = answer.data()["ticket"].as_str().unwrap().to_owned();
    let mut socket = server.socket_at(&format!("/api/v1/ws?ticket={ticket}")).await;
    assert_eq!(socket.ask(&json!({"action": "auth", "ticket": ticket})).await["action"], "auth_ok");
}
