//! What it costs a fan-out that its readers are somebody: the same connections and the same deliveries, once to anybody,
//! once to principals with row rules in three redacted variants of the payload.
//!
//! In this process, over loopback TCP: a delivery is the write of a real socket, as in the server. Who a principal is was
//! found out when it connected, so nothing of that is part of a delivery.

use std::io::{self, IoSlice, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use newswire_core::{
    Batch, DirectSink, Filter, Grants, Hub, HubConfig, LogView as _, Principal, RowRule, Session,
    SessionConfig, Variant,
};
use newswire_protocol::FilterSpec;
use parking_lot::Mutex;

use crate::filtered::drain;
use crate::in_process::{NOW, Unread, commit};
use crate::report::{Report, add_pairs};

/// Connections, all of which want every event.
const CONNECTIONS: usize = 300;

/// Publishes of one measurement.
const PUBLISHES: usize = 300;

/// Projects that events are of; every row rule lets all of them through, so that both sides deliver the same.
const PROJECTS: usize = 10;

/// Measures and reports.
///
/// # Errors
/// When there are no sockets, or an event does not reach everybody.
pub fn measure(report: &mut Report, rounds: usize, event_bytes: usize) -> anyhow::Result<()> {
    let mut off = Audience::of(|_| Principal::anonymous())?;
    let mut on = Audience::of(somebody)?;
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        // Whoever is first is so half the times.
        let pair = if round % 2 == 0 {
            let off = off.deliveries_a_second(event_bytes)?;
            (off, on.deliveries_a_second(event_bytes)?)
        } else {
            let on = on.deliveries_a_second(event_bytes)?;
            (off.deliveries_a_second(event_bytes)?, on)
        };
        // The first round warms up.
        if round > 0 {
            pairs.push(pair);
        }
    }
    let what = format!("security, {CONNECTIONS} connections");
    add_pairs(report, &what, ["anybody", "row rules and three redactions"], "deliveries a second", &pairs);
    Ok(())
}

/// One of four row rules and three redactions.
fn somebody(place: usize) -> Principal {
    let projects: Vec<String> = (0..PROJECTS)
        .map(|project| format!("proj-{project}"))
        .chain([format!("other-{}", place % 4)])
        .collect();
    let rule = serde_json::json!({ "project": projects }).to_string();
    let rule = FilterSpec::parse(&rule).expect("a rule of few values");
    let masked: &[&str] = match place % 3 {
        0 => &["cost"],
        1 => &["prompt"],
        _ => &["cost", "prompt"],
    };
    let grants = Grants::none().with(newswire_core::Action::Subscribe, ["tasks", "agents*"]);
    Principal::new(format!("user-{place}"))
        .with_grants(grants.expect("channels and patterns"))
        .with_row_rule(RowRule::only(Filter::compile(&rule)))
        .with_variant(Variant::masking(masked.iter().copied()))
}

#[derive(Debug)]
struct Socket(TcpStream);

impl DirectSink for Socket {
    fn try_write(&self, slices: &[&[u8]]) -> usize {
        let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        (&self.0).write_vectored(&slices).unwrap_or(0)
    }
}

/// A hub and the connections that listen to it.
struct Audience {
    hub: Mutex<Hub>,
    connections: Vec<(Session, Arc<Socket>, TcpStream)>,
    offset: u64,
}

impl Audience {
    fn of(principal: impl Fn(usize) -> Principal) -> anyhow::Result<Self> {
        let hub = Mutex::new(Hub::new(HubConfig::default(), Unread.epoch(), 0));
        let config = Arc::new(SessionConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for place in 0..CONNECTIONS {
            let far = TcpStream::connect(listener.local_addr()?)?;
            let (near, _) = listener.accept()?;
            for socket in [&near, &far] {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
            }
            let mut session = Session::open(&hub, Arc::clone(&config), principal(place), 1.0, NOW);
            session.handle(r#"{"action":"subscribe","channels":["tasks"]}"#, NOW, &hub, &Unread);
            drain(&mut session, &hub);
            connections.push((session, Arc::new(Socket(near)), far));
        }
        Ok(Self { hub, connections, offset: 0 })
    }

    fn deliveries_a_second(&mut self, event_bytes: usize) -> anyhow::Result<f64> {
        let mut took = Duration::ZERO;
        for _ in 0..PUBLISHES {
            for (session, near, _) in &mut self.connections {
                let _ = session.resume(Waker::noop());
                drain(session, &self.hub);
                session.arm(|| Some(Arc::clone(near) as Arc<dyn DirectSink>));
            }
            self.offset += 1;
            let batch = event(self.offset, event_bytes);
            let begun = Instant::now();
            let mut wakes = self.hub.lock().publish(batch);
            let mut writes = 0;
            while !wakes.is_done() {
                writes += wakes.flush(64).writes;
            }
            took += begun.elapsed();
            anyhow::ensure!(writes == CONNECTIONS as u64, "{writes} of {CONNECTIONS} were written to");
            self.connections.iter_mut().try_for_each(|(_, _, far)| read_all(far))?;
        }
        Ok((CONNECTIONS * PUBLISHES) as f64 / took.as_secs_f64())
    }
}

fn read_all(far: &mut TcpStream) -> anyhow::Result<()> {
    let mut bytes = [0; 16 << 10];
    loop {
        match far.read(&mut bytes) {
            Ok(0) => anyhow::bail!("a connection ended"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn event(offset: u64, event_bytes: usize) -> Arc<Batch> {
    let project = offset as usize % PROJECTS;
    let text = format!(
        r#"{{"channel":"tasks","event_type":"task.status_changed","payload":{{"agent_id":"sarah_chen","project":"proj-{project}","cost":0.25,"prompt":"short","text":"{}"}}}}"#,
        "x".repeat(event_bytes.saturating_sub(260))
    );
    commit(offset, &text, "id-1")
}
