//! A client: a session, a socket that may be slow, and everything that was said in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress};
use newswire_core::{DirectSink, Hub, MAX_SLICES, Output, Published, ReadRequest, Session, TURN_BYTES};
use newswire_protocol::Epoch;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::in_process::InProcess;
use crate::rule::{Rule, pattern_matches};
use crate::world::{AGENTS, Event, OWN_CHANNEL, TYPES, World};

/// A filter as the model knows it; `None` in all is the empty one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub agents: Option<Vec<&'static str>>,
    pub types: Option<Vec<&'static str>>,
    pub number: Option<u8>,
    /// What holds beside it, whoever asks.
    pub rule: Option<Arc<Rule>>,
}

impl Filter {
    pub fn of(seed: u8) -> Self {
        let agent = |n: u8| AGENTS[usize::from(n) % AGENTS.len()];
        match seed % 7 {
            0 => Self::default(),
            1 => Self { agents: Some(vec![agent(seed / 7)]), ..Self::default() },
            2 => Self { agents: Some(vec![agent(seed / 7), agent(seed / 14 + 1)]), ..Self::default() },
            3 => Self { types: Some(vec!["task.*"]), ..Self::default() },
            4 => Self {
                types: Some(vec![TYPES[usize::from(seed / 7) % TYPES.len()], "oth*"]),
                ..Self::default()
            },
            5 => Self { number: Some(seed / 7 % 4), ..Self::default() },
            _ => Self { agents: Some(vec![agent(seed / 7)]), types: Some(vec!["task.*"]), ..Self::default() },
        }
    }

    pub fn json(&self) -> Value {
        let mut object = serde_json::Map::new();
        if let Some(agents) = &self.agents {
            object.insert("agent".into(), json!(agents));
        }
        if let Some(types) = &self.types {
            object.insert("event_type".into(), json!(types));
        }
        if let Some(number) = self.number {
            object.insert("n".into(), json!(f64::from(number)));
        }
        object.into()
    }

    pub fn matches(&self, event: &Event) -> bool {
        let of_type = |wanted: &&str| match wanted.strip_suffix('*') {
            Some(prefix) => event.event_type.starts_with(prefix),
            None => event.event_type == *wanted,
        };
        self.agents.as_ref().is_none_or(|agents| agents.contains(&event.agent))
            && self.types.as_ref().is_none_or(|types| types.iter().any(of_type))
            && self.number.is_none_or(|number| number == event.number)
            && self.rule.as_ref().is_none_or(|rule| rule.may(event.channel) && rule.filter.matches(event))
    }
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    Live,
    After(u64),
    Since(u64),
    History(u64),
}

/// A command with what the model knows about its moment.
#[derive(Clone, Debug)]
pub struct Command {
    pub id: u64,
    pub sub: Option<&'static str>,
    pub what: What,
    /// The last offset dispatched, and the epoch, when the session handled it.
    pub at: u64,
    pub era: usize,
    /// Messages received before it was sent.
    pub received: usize,
}

#[derive(Clone, Debug)]
pub enum What {
    Subscribe {
        channels: Vec<&'static str>,
        rejected: bool,
        /// `None` keeps what is there.
        filter: Option<Filter>,
        start: Start,
        recovered: Option<bool>,
        /// The answer is followed by a gap of this reason.
        gap: Option<&'static str>,
        /// The oldest retained offset at that moment.
        head: u64,
    },
    Unsubscribe {
        channels: Vec<&'static str>,
    },
    Ping,
    Nonsense,
}

/// A seed of a command: numbers to be read as the moment allows.
#[derive(Clone, Copy, Debug)]
pub struct CommandSeed {
    pub kind: u8,
    pub sub: u8,
    pub channels: u8,
    pub filter: u8,
    pub start: u8,
    pub amount: u8,
}

pub const PATTERNS: [&str; 8] = ["tasks", "tests", "agents", "a.b", OWN_CHANNEL, "t*", "te*", "*"];
pub const SUBS: [Option<&str>; 4] = [None, Some("s1"), Some("s2"), None];

/// What a client's end of the connection has received. Others may write to it beside the session.
#[derive(Debug, Default)]
struct Socket {
    state: Mutex<Wire>,
}

#[derive(Debug)]
struct Wire {
    bytes: Vec<u8>,
    /// Bytes it still takes from who writes beside the session.
    room: usize,
    closed: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self { bytes: Vec::new(), room: usize::MAX, closed: false }
    }
}

/// Writes beside sessions of which the socket took all, a part, and nothing: that all of it happens is tested too.
pub static DIRECT_WRITES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

impl DirectSink for Socket {
    fn try_write(&self, slices: &[&[u8]]) -> usize {
        let mut wire = self.state.lock();
        assert!(!wire.closed, "somebody writes to a connection that is gone");
        assert!(slices.len() <= MAX_SLICES && slices.iter().all(|slice| !slice.is_empty()));
        let all = slices.concat();
        assert!(all.len() <= TURN_BYTES);
        let taken = all.len().min(wire.room);
        wire.room -= taken;
        wire.bytes.extend(&all[..taken]);
        let outcome = usize::from(taken < all.len()) + usize::from(taken == 0);
        DIRECT_WRITES[outcome].fetch_add(1, Ordering::Relaxed);
        taken
    }
}

/// Whether the task was woken.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct Client {
    pub session: Session,
    socket: Arc<Socket>,
    bell: Arc<Bell>,
    /// The end of a frame that somebody else began to write.
    rest: Option<Bytes>,
    /// After the last poll the session had nothing to do until then, and nothing has happened to it since.
    quiet: Option<Duration>,
    /// The hub it belongs to.
    pub shard: usize,
    /// What compressed messages may refer to, where they were agreed on.
    window: Option<Decompress>,
    pub commands: Vec<Command>,
    pub received: Vec<Value>,
    /// The epoch when it connected.
    pub era: usize,
    pub closed: Option<u16>,
    pub reading: Option<ReadRequest>,
    out: Vec<Bytes>,
    pub next_id: u64,
    /// Reads in the same process: is handed values, and compares as they would have been sent.
    pub in_process: Option<InProcess>,
    /// On whose behalf it reads.
    pub rule: Arc<Rule>,
}

impl Command {
    /// Whether it changes this subscription.
    pub fn concerns(&self, sub: Option<&str>, pattern: &str) -> bool {
        let (What::Subscribe { channels, .. } | What::Unsubscribe { channels }) = &self.what else {
            return false;
        };
        self.sub == sub && channels.contains(&pattern)
    }
}

impl Client {
    pub fn connect(world: &World) -> Self {
        Self::connect_as(world, Rule::default())
    }

    pub fn connect_as(world: &World, rule: Rule) -> Self {
        let shard = world.next_shard();
        let config = Arc::clone(&world.config);
        let mut session = Session::open(&world.hubs[shard], config, rule.principal(), 1.0, world.now);
        let window = world.is_compressed().then(|| {
            session.accept_compressed(&world.hubs[shard]);
            Decompress::new(false)
        });
        Self {
            shard,
            session,
            socket: Arc::default(),
            bell: Arc::default(),
            rest: None,
            quiet: None,
            window,
            commands: Vec::new(),
            received: Vec::new(),
            era: world.eras.len() - 1,
            closed: None,
            reading: None,
            out: Vec::new(),
            next_id: 1,
            in_process: None,
            rule: Arc::new(rule),
        }
    }

    pub fn connect_in_process(world: &World, rule: Rule) -> Self {
        let mut client = Self::connect_as(world, rule);
        client.session.close(&world.hubs[client.shard]);
        let config = Arc::clone(&world.config);
        let hub = &world.hubs[client.shard];
        client.session = Session::in_process(hub, config, client.rule.principal(), None, world.now);
        client.window = None;
        client.in_process = Some(InProcess::default());
        client
    }

    pub fn hub<'w>(&self, world: &'w World) -> &'w Mutex<Hub> {
        &world.hubs[self.shard]
    }

    pub fn close(&mut self, world: &World) {
        self.session.close(&world.hubs[self.shard]);
        self.socket.state.lock().closed = true;
    }

    /// So many bytes are taken from now on from who writes beside the session.
    pub fn make_room(&self, bytes: usize) {
        self.socket.state.lock().room = bytes;
    }

    /// The task is polled.
    fn resume(&mut self) {
        self.bell.0.store(false, Ordering::Relaxed);
        self.quiet = None;
        let rest = self.session.resume(&Waker::from(Arc::clone(&self.bell)));
        assert!(self.rest.is_none() || rest.is_none(), "one frame is begun at a time");
        self.rest = rest.or(self.rest.take());
        self.receive();
    }

    /// The task found nothing to do.
    pub fn rest_until(&mut self, until: Duration, arms: bool) {
        self.quiet = Some(until);
        if arms {
            self.session.arm(|| Some(Arc::clone(&self.socket) as Arc<dyn DirectSink>));
        }
    }

    /// Takes the whole messages off the wire.
    fn receive(&mut self) {
        let mut wire = self.socket.state.lock();
        let read = messages(&wire.bytes, self.window.as_mut(), &mut self.received);
        wire.bytes.drain(..read);
    }

    /// Who was promised to be woken and was not has nothing to do. To be asked when everything was flushed.
    pub fn check_quiet(&mut self, world: &World) -> Result<(), String> {
        let promised = self.quiet.is_some_and(|until| world.now.mono < until);
        if self.closed.is_some()
            || !promised
            || self.bell.0.load(Ordering::Relaxed)
            || self.reads_behind(world)
        {
            return Ok(());
        }
        self.receive();
        let before = self.received.len();
        let moved = self.pump(world, 4_000);
        if moved || self.rest.is_some() || self.received.len() != before {
            return Err(format!("nobody woke it for {:?}", &self.received[before..]));
        }
        Ok(())
    }

    /// What is read is not pushed, and comes with no waking.
    fn reads_behind(&self, world: &World) -> bool {
        self.reading.is_some()
            || self.hub(world).lock().connection(self.session.id()).is_some_and(|info| info.lagging)
    }

    pub fn command(&mut self, seed: CommandSeed, world: &World) {
        if self.closed.is_some() || !self.session.wants_commands() {
            return;
        }
        self.resume();
        // A reader in the process has one set, and nothing to say but what it subscribes.
        let sub = if self.in_process.is_some() { None } else { SUBS[usize::from(seed.sub) % SUBS.len()] };
        if self.in_process.is_some() && seed.kind % 16 < 2 {
            return;
        }
        let channels: Vec<&'static str> = PATTERNS
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| seed.channels & (1 << bit) != 0)
            .map(|(_, name)| name)
            .filter(|name| self.rule.may_ask(name))
            .collect();
        match seed.kind % 16 {
            0 => self.send(world, sub, What::Ping, json!({"action": "ping"})),
            1 => self.send(world, sub, What::Nonsense, json!({"action": "dance"})),
            2..=4 => {
                let text = json!({"action": "unsubscribe", "channels": channels});
                self.send(world, sub, What::Unsubscribe { channels }, text);
            }
            kind => self.subscribe(world, sub, channels, kind == 5, seed),
        }
    }

    fn subscribe(
        &mut self,
        world: &World,
        sub: Option<&'static str>,
        channels: Vec<&'static str>,
        rejected: bool,
        seed: CommandSeed,
    ) {
        let filter = (!seed.filter.is_multiple_of(3)).then(|| Filter::of(seed.filter / 3));
        let era = world.era();
        let dispatched = self.hub(world).lock().dispatched();
        let tail = newswire_core::LogView::tail(world);
        let epoch_given = seed.start / 16;
        let start = match seed.start % 8 {
            0 | 1 => Start::Live,
            2 => Start::After(dispatched * u64::from(seed.amount) / 255),
            3 => Start::After(0),
            4 => Start::After((tail + 1).saturating_sub(u64::from(seed.amount % 4))),
            5 => Start::Since(world.now.wall.0.saturating_sub(u64::from(seed.amount) * 100_000)),
            6 => Start::History(u64::from(seed.amount % 6)),
            _ => Start::History(1_000),
        };
        let epoch = if epoch_given == 1 { Epoch::from_bytes([99; 16]) } else { era.id };
        let given = (!epoch_given.is_multiple_of(4)).then_some(epoch);
        self.subscribe_from(world, sub, channels, rejected, filter, start, given);
    }

    #[expect(clippy::too_many_arguments, reason = "a command has that many fields")]
    pub fn subscribe_from(
        &mut self,
        world: &World,
        sub: Option<&'static str>,
        channels: Vec<&'static str>,
        rejected: bool,
        filter: Option<Filter>,
        start: Start,
        epoch: Option<Epoch>,
    ) {
        let era = world.era();
        let rule = Arc::clone(&self.rule);
        let wanted = |channel: &str| {
            let asked = channels.iter().any(|pattern| pattern_matches(pattern, channel));
            // Who sees some rows only is told of every trim as if it were of what it asked for.
            if rule.knows_trims() { rule.may(channel) && asked } else { !channels.is_empty() }
        };
        let mut text = json!({"action": "subscribe", "channels": channels});
        if rejected {
            text["channels"].as_array_mut().unwrap().push(json!("not a channel"));
        }
        if let Some(filter) = &filter {
            text["filters"] = filter.json();
        }
        let (mut recovered, mut gap) = (None, None);
        match &start {
            Start::Live => {}
            Start::After(after) => {
                text["after"] = json!(after);
                let mut other = *after >= newswire_core::LogView::tail(world);
                if let Some(epoch) = epoch {
                    text["epoch"] = json!(epoch.to_string());
                    other |= epoch != era.id;
                }
                let lost = era.trimmed.iter().any(|(channel, to)| wanted(channel) && to > after);
                recovered = Some(!other && !lost);
                gap = if channels.is_empty() {
                    None
                } else if other {
                    Some("epoch")
                } else {
                    lost.then_some("retention")
                };
            }
            Start::Since(time) => {
                text["since"] = json!(newswire_protocol::UnixMicros(*time).to_string());
                let lost = era.trimmed.iter().any(|(channel, to)| {
                    wanted(channel) && era.find(*to).is_some_and(|event| event.stored_at >= *time)
                });
                (recovered, gap) = (Some(!lost), lost.then_some("retention"));
            }
            Start::History(count) => text["history"] = json!(count),
        }
        let head = newswire_core::LogView::head(world);
        self.send(
            world,
            sub,
            What::Subscribe { channels, rejected, filter, start, recovered, gap, head },
            text,
        );
    }

    fn send(&mut self, world: &World, sub: Option<&'static str>, what: What, mut text: Value) {
        let id = self.next_id;
        self.next_id += 1;
        text["id"] = json!(id);
        if let Some(sub) = sub {
            text["sub"] = json!(sub);
        }
        let (at, epoch) = {
            let hub = self.hub(world).lock();
            (hub.dispatched(), hub.epoch())
        };
        let era = world.eras.iter().position(|era| era.id == epoch).unwrap();
        let received = self.received.len();
        self.commands.push(Command { id, sub, what, at, era, received });
        if self.in_process.is_some() {
            return self.ask_in_process(&text.to_string(), world);
        }
        self.session.handle(&text.to_string(), world.now, &world.hubs[self.shard], world);
    }

    /// Lets the session write once into a socket with this much room. `false` if it has nothing to write.
    pub fn pump(&mut self, world: &World, budget: usize) -> bool {
        if self.closed.is_some() {
            return false;
        }
        self.resume();
        if let Some(rest) = &self.rest {
            // A budget that is odd stands for a socket that takes nothing at present.
            if budget % 2 == 1 {
                return false;
            }
            self.socket.state.lock().bytes.extend(rest);
            self.rest = None;
            self.receive();
        }
        if self.in_process.is_some() {
            return self.pump_in_process(world, budget);
        }
        let arms = !budget.is_multiple_of(3);
        match self.session.next_output(world.now, &world.hubs[self.shard], &mut self.out, budget) {
            Output::Write => {
                self.socket.state.lock().bytes.extend(self.out.iter().flatten());
                self.receive();
                if let Some(promised) = self.session.idle_after_write() {
                    let asked =
                        self.session.next_output(world.now, &world.hubs[self.shard], &mut self.out, budget);
                    let Output::Idle(until) = asked else {
                        panic!("promised to be idle, and came with {asked:?}")
                    };
                    assert_eq!(until, promised);
                    self.rest_until(until, arms);
                }
                true
            }
            Output::Read(request) => {
                assert!(self.reading.is_none(), "two reads under way");
                self.reading = Some(request);
                true
            }
            Output::Publish(ticket, _) => {
                let event_id = "e".to_owned();
                self.session.on_published(ticket, Ok(Published { offset: 1, event_id, duplicate: false }));
                true
            }
            Output::Authenticate(_) => panic!("nobody asks who it is"),
            Output::Close(code, _) => {
                self.closed = Some(code.number());
                false
            }
            Output::Yield => true,
            Output::Idle(until) => {
                assert!(until > Duration::ZERO);
                self.rest_until(until, arms);
                false
            }
        }
    }

    /// Performs the read under way, if there is one.
    pub fn answer_read(&mut self, world: &World) -> bool {
        match self.reading.take() {
            Some(request) => {
                self.resume();
                self.session.on_page(world.read(&request));
                true
            }
            None => false,
        }
    }

    /// Shows what was said, where `NEWSWIRE_SEAM_SHOW` asks for it.
    pub fn show(&self) {
        if std::env::var_os("NEWSWIRE_SEAM_SHOW").is_some() {
            println!("---");
            for (place, message) in self.received.iter().enumerate() {
                for command in self.commands.iter().filter(|command| command.received == place) {
                    println!("    > {command:?}");
                }
                let short = match message["action"].as_str() {
                    None => format!(
                        "{} {} {} {}",
                        message["offset"],
                        message["channel"],
                        message["event_type"],
                        message["payload"]["agent_id"]
                    ),
                    Some(_) => message.to_string(),
                };
                println!("  {place:3} {short}");
            }
        }
    }

    /// Reads until nothing comes any more.
    pub fn settle(&mut self, world: &World) {
        let mut idle = 0;
        for _ in 0..200_000 {
            let moved = self.pump(world, 4_000);
            let read = self.answer_read(world);
            idle = if moved || read { 0 } else { idle + 1 };
            if idle > 2 {
                return;
            }
        }
        panic!("a session never came to rest");
    }
}

/// Adds the JSON of the whole unmasked text frames at the start of `bytes`, and tells how many bytes they have; control
/// frames are left out. Compressed ones are read as a strict client does, with one window for the whole connection.
fn messages(bytes: &[u8], mut window: Option<&mut Decompress>, messages: &mut Vec<Value>) -> usize {
    let mut read = 0;
    while let Some((header, length)) = frame_at(&bytes[read..]) {
        let Some(body) = bytes[read + header..].get(..length) else { break };
        match bytes[read] {
            0x81 => messages.push(serde_json::from_slice(body).unwrap()),
            0xc1 => {
                let window = window.as_deref_mut().expect("compressed, and that was not agreed on");
                let (mut text, body) = (Vec::with_capacity(4096), [body, &[0x00, 0x00, 0xff, 0xff]].concat());
                window.decompress_vec(&body, &mut text, FlushDecompress::Sync).expect("the window fits");
                messages.push(serde_json::from_slice(&text).expect("the window fits"));
            }
            0x89 | 0x8a => {}
            other => panic!("no frame begins with {other:#x}"),
        }
        read += header + length;
    }
    read
}

/// The lengths of header and body of the frame that begins here; `None` if not even its header is there.
fn frame_at(bytes: &[u8]) -> Option<(usize, usize)> {
    Some(match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            (10, usize::try_from(length).unwrap())
        }
        short => (2, usize::from(short)),
    })
}
