//! An OpenTelemetry collector of the tests: takes spans over HTTP, keeps them, and can be told to refuse.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its name.
    pub name: String,
    /// The trace, in hexadecimal digits.
    pub trace: String,
    /// Itself, in hexadecimal digits.
    pub id: String,
    /// Its parent, in hexadecimal digits; empty if it is a root.
    pub parent: String,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    /// Attributes that are integers.
    pub counts: BTreeMap<String, i64>,
    /// `service.name` of its resource.
    pub service: String,
    /// Whether it failed, and why.
    pub failure: Option<String>,
    /// Nanoseconds since the Unix epoch, begin and end.
    pub time: (u64, u64),
}

#[derive(Default)]
struct State {
    spans: Mutex<Vec<Received>>,
    requests: AtomicUsize,
    refusing: AtomicBool,
    silent: AtomicBool,
}

/// A collector on a port of its own.
pub struct Collector {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts listening.
    ///
    /// # Panics
    /// Where there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound address");
        let state = Arc::new(State::default());
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { addr, state, task }
    }

    /// What `telemetry.endpoint` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers 400 from now on, or takes spans again.
    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Reads requests and answers none of them, until it is no longer silent.
    pub fn be_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// Every span it took.
    pub fn spans(&self) -> Vec<Received> {
        self.state.spans.lock().unwrap().clone()
    }

    /// How often it was spoken to.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((peer, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move { answer(peer, &state).await });
    }
}

/// Answers requests until the peer leaves.
async fn answer(peer: TcpStream, state: &State) -> std::io::Result<()> {
    let mut peer = BufReader::new(peer);
    loop {
        let Some(body) = read_request(&mut peer).await? else { return Ok(()) };
        state.requests.fetch_add(1, Ordering::SeqCst);
        while state.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let refused = state.refusing.load(Ordering::SeqCst);
        let status = if refused { "400 Bad Request" } else { "200 OK" };
        if !refused {
            let request = ExportTraceServiceRequest::decode(&body[..]).expect("an OTLP request for spans");
            state.spans.lock().unwrap().extend(received(request));
        }
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n");
        peer.get_mut().write_all(head.as_bytes()).await?;
    }
}

/// The body of a `POST /v1/traces` of protobuf; nothing once the peer has left.
async fn read_request(peer: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if peer.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_ascii_lowercase());
    }
    assert_eq!(head[0], "post /v1/traces http/1.1");
    assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a content length")];
    peer.read_exact(&mut body).await?;
    Ok(Some(body))
}

fn received(request: ExportTraceServiceRequest) -> Vec<Received> {
    let mut all = Vec::new();
    for of_resource in request.resource_spans {
        let attributes = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.into_iter().find(|attribute| attribute.key == "service.name");
        let service = match service.and_then(|service| service.value?.value) {
            Some(AnyValue::StringValue(name)) => name,
            _ => String::new(),
        };
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            all.push(read(span, &service));
        }
    }
    all
}

fn read(span: Span, service: &str) -> Received {
    let count = |value| match value {
        Some(AnyValue::IntValue(count)) => Some(count),
        _ => None,
    };
    Received {
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        counts: span
            .attributes
            .into_iter()
            .filter_map(|attribute| Some((attribute.key, count(attribute.value?.value)?)))
            .collect(),
        service: service.to_owned(),
        failure: span.status.filter(|status| status.code == 2).map(|status| status.message),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
