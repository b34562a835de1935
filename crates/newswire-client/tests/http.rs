//! Publishing and asking over real sockets, against a server that gives canned answers.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::time::Duration;

use newswire_client::{Backoff, Client, HistoryQuery, Outcome, PublishError, RequestError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const EVENT: &str = r#"{"channel":"tasks","event_type":"t","event_id":"a"}"#;

/// Gives these answers, one a connection (an empty one: hangs up); yields the requests it read.
async fn server(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            let mut buffer = [0; 4096];
            while !is_whole(&request) {
                let read = stream.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "the client hung up");
                request += std::str::from_utf8(&buffer[..read]).unwrap();
            }
            requests.push(request);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (client, requests)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn stored() -> String {
    answer("200 OK", "", r#"{"data":{"results":[{"offset":7,"event_id":"a"}]}}"#)
}

#[tokio::test]
async fn a_batch_is_sent_again_to_the_letter_until_it_is_answered() {
    let full = r#"{"title":"Storage full","status":507,"detail":"0 bytes free","code":"storage_full"}"#;
    let (client, requests) =
        server(vec![answer("507 Insufficient Storage", "retry-after: 0\r\n", full), String::new(), stored()])
            .await;
    let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    let mut told = Vec::new();
    let outcomes = client
        .publish_until_answered(&[EVENT], &mut backoff, |reason, _wait| told.push(reason.to_owned()))
        .await
        .unwrap();
    assert_eq!(outcomes, [Outcome::Stored { offset: 7, event_id: "a".into() }]);
    assert_eq!(told, ["507 Storage full: 0 bytes free", "the connection broke"]);
    let requests = requests.await.unwrap();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert!(request.starts_with("POST /api/v1/events HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-type: application/x-ndjson\r\n"), "{request}");
        assert!(request.ends_with(&format!("\r\n\r\n{EVENT}\n")), "{request}");
    }
}

#[tokio::test]
async fn the_server_says_how_long_to_wait() {
    let (client, _requests) = server(vec![answer("429 Too Many Requests", "retry-after: 7\r\n", "")]).await;
    let error = client.publish_batch(&[EVENT]).await.unwrap_err();
    assert!(error.is_retryable());
    let PublishError::Retryable { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn what_waiting_cannot_mend_is_not_tried_again() {
    let refused = r#"{"title":"Forbidden","status":403,"code":"forbidden"}"#;
    let (client, _requests) = server(vec![
        answer("403 Forbidden", "", refused),
        answer("413 Content Too Large", "", ""),
        answer("200 OK", "", "<html>a captive portal</html>"),
    ])
    .await;
    let mut backoff = Backoff::default();
    let mut publish =
        async || client.publish_until_answered(&[EVENT], &mut backoff, |_, _| panic!("waits")).await;
    assert!(
        matches!(publish().await, Err(PublishError::Refused(problem)) if problem.code.as_deref() == Some("forbidden"))
    );
    assert!(matches!(publish().await, Err(PublishError::TooLarge)));
    assert!(matches!(publish().await, Err(PublishError::Unreadable { .. })));
}

#[tokio::test]
async fn questions_and_their_answers() {
    let event = r#"{"event_type":"t","channel":"tasks","timestamp":"2026-11-22T15:24:00Z","payload":{},"event_id":"a","offset":7,"version":1}"#;
    let page = format!(
        r#"{{"data":[{event}],"epoch":"0197a6b0-0000-4000-8000-000000000000","offset":9,"next":null}}"#
    );
    let (client, requests) = server(vec![
        answer("200 OK", "", &page),
        answer("200 OK", "", &format!(r#"{{"data":{event}}}"#)),
        answer("404 Not Found", "", "{}"),
        answer("503 Service Unavailable", "", r#"{"data":{"status":"degraded"}}"#),
    ])
    .await;
    let query = HistoryQuery::new().channels(&["tasks"]).with("agent", "a b&c").limit(5);
    let history = client.history(&query).await.unwrap();
    assert_eq!((history.events[0].text.as_str(), history.next), (event, None));
    assert_eq!(client.event_at(7).await.unwrap().unwrap().event.event_id, "a");
    assert!(client.event_at(8).await.unwrap().is_none());
    assert!(!client.health().await.unwrap().healthy);
    assert!(matches!(client.health().await, Err(RequestError::Unreachable(_))));
    let requests = requests.await.unwrap();
    assert!(
        requests[0].starts_with("GET /api/v1/events?channels=tasks&agent=a+b%26c&limit=5 "),
        "{}",
        requests[0]
    );
    assert!(requests[1].starts_with("GET /api/v1/events/7 "), "{}", requests[1]);
}
