//! The resume memory against a naive server: random publishes, sends, lost connections and epochs. Every event owed is
//! delivered, none twice, in order where one set is alone.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

fn epoch(number: u8) -> Epoch {
    Epoch::from_bytes([number; 16])
}

#[derive(Clone, Copy, Debug)]
enum Message {
    Subscribed { set: usize, end: u64, epoch: Epoch },
    EpochGap { set: usize, epoch: Epoch },
    CaughtUp { set: usize, offset: u64 },
    Checkpoint(u64),
    Event(u64),
}

/// How far the server has got with one set.
#[derive(Clone, Debug)]
struct Served {
    /// Offsets of an unfinished history replay; empty for other replays.
    picks: VecDeque<u64>,
    sent: u64,
    replaying: bool,
    history_end: u64,
}

/// A server with one connection. Bit s of an event's mask: set s matches it.
struct Server {
    epoch: u8,
    masks: Vec<u8>,
    sets: Vec<Served>,
    live: u64,
    /// Sent, not yet received.
    wire: VecDeque<Message>,
}

impl Server {
    fn end(&self) -> u64 {
        self.masks.len() as u64
    }

    fn matches(&self, set: usize, offset: u64) -> bool {
        self.masks[usize::try_from(offset).unwrap() - 1] & (1 << set) != 0
    }

    fn accept(&mut self, starts: &[Start]) {
        self.wire.clear();
        self.sets.clear();
        self.live = self.end();
        for (set, start) in starts.iter().enumerate() {
            let (end, now) = (self.end(), epoch(self.epoch));
            self.wire.push_back(Message::Subscribed { set, end, epoch: now });
            let mut served = Served { picks: VecDeque::new(), sent: end, replaying: true, history_end: 0 };
            match start {
                Start::Live => served.replaying = false,
                Start::After { offset, epoch: given } => {
                    served.sent = *offset;
                    if given.is_some_and(|given| given != now) || *offset > end {
                        served.sent = 0;
                        self.wire.push_back(Message::EpochGap { set, epoch: now });
                    }
                }
                Start::SinceAgo(_) | Start::SinceTime(_) => served.sent = 0,
                Start::History(events) => {
                    let all: Vec<u64> = (1..=end).filter(|offset| self.matches(set, *offset)).collect();
                    let skip = all.len().saturating_sub(usize::try_from(*events).unwrap());
                    served.picks = all[skip..].iter().copied().collect();
                    served.history_end = end;
                }
            }
            self.sets.push(served);
        }
    }

    /// One step of one set's replay.
    fn replay(&mut self, set: usize) {
        let (end, count) = (self.end(), self.sets.len());
        if count == 0 || !self.sets[set % count].replaying {
            return;
        }
        let set = set % count;
        if self.sets[set].history_end > 0 {
            match self.sets[set].picks.pop_front() {
                Some(pick) => self.wire.push_back(Message::Event(pick)),
                None => {
                    self.sets[set].sent = self.sets[set].history_end;
                    self.sets[set].history_end = 0;
                }
            }
            return;
        }
        let next = self.sets[set].sent + 1;
        if next <= end {
            self.sets[set].sent = next;
            if self.matches(set, next) {
                self.wire.push_back(Message::Event(next));
            }
        } else {
            self.sets[set].replaying = false;
            self.wire.push_back(Message::CaughtUp { set, offset: end });
        }
    }

    /// One step of the live path, sent once for all live sets that match.
    fn live(&mut self) {
        if self.live == self.end() {
            return;
        }
        self.live += 1;
        let offset = self.live;
        let wanted: Vec<bool> = (0..self.sets.len()).map(|set| self.matches(set, offset)).collect();
        let mut send = false;
        for (set, served) in self.sets.iter_mut().enumerate().filter(|(_, served)| !served.replaying) {
            send |= wanted[set] && served.sent < offset;
            served.sent = served.sent.max(offset);
        }
        if send {
            self.wire.push_back(Message::Event(offset));
        }
    }

    fn checkpoint(&mut self) {
        let safe_of = |served: &Served| if served.history_end > 0 { 0 } else { served.sent };
        if let Some(safe) = self.sets.iter().map(safe_of).min() {
            self.wire.push_back(Message::Checkpoint(safe));
        }
    }
}

/// The consumer's side: what it was owed and what it got.
struct Consumer {
    resume: Resume,
    asked: Vec<Start>,
    /// Per set: from where on everything is owed; None while not known.
    owed_after: Vec<Option<u64>>,
    delivered: Vec<u64>,
}

impl Consumer {
    fn new(starts: Vec<Start>) -> Self {
        let owed_after = starts
            .iter()
            .map(|start| match start {
                Start::After { offset, .. } => Some(*offset),
                Start::SinceAgo(_) | Start::SinceTime(_) => Some(0),
                _ => None,
            })
            .collect();
        Self { resume: Resume::new(starts), asked: Vec::new(), owed_after, delivered: Vec::new() }
    }

    fn connect(&mut self, server: &mut Server) {
        self.asked = self.resume.connect(Duration::ZERO).0;
        server.accept(&self.asked);
    }

    fn receive(&mut self, server: &mut Server) -> Result<(), TestCaseError> {
        let Some(message) = server.wire.pop_front() else { return Ok(()) };
        match message {
            Message::Subscribed { set, end, epoch } => {
                let before = self.resume.epoch;
                self.resume.subscribed(set, end, epoch);
                if before.is_some_and(|before| before != epoch) {
                    self.epoch_changed();
                }
                // Asked for again because nothing had come of it: the subscription begins with this answer.
                if matches!(self.asked[set], Start::Live | Start::History(_)) {
                    self.owed_after[set] = Some(end);
                }
            }
            Message::EpochGap { set, epoch } => self.resume.epoch_gap(Some(set), Some(epoch), 0),
            Message::CaughtUp { set, offset } => self.resume.caught_up(set, offset),
            Message::Checkpoint(offset) => self.resume.checkpoint(offset),
            Message::Event(offset) => {
                if self.resume.event(offset) == Verdict::Deliver {
                    self.delivered.push(offset);
                }
            }
        }
        // A position handed to the consumer is a promise: nothing owed at or before it is still missing.
        if let Some(position) = self.resume.position() {
            self.nothing_missing(server, position.offset.min(server.end()))?;
        }
        Ok(())
    }

    fn epoch_changed(&mut self) {
        self.delivered.clear();
        self.owed_after.iter_mut().for_each(|owed| *owed = Some(0));
    }

    fn nothing_missing(&self, server: &Server, up_to: u64) -> Result<(), TestCaseError> {
        if self.resume.epoch != Some(epoch(server.epoch)) {
            return Ok(());
        }
        let had: BTreeSet<u64> = self.delivered.iter().copied().collect();
        for (set, owed) in self.owed_after.iter().enumerate() {
            for offset in owed.map_or(1, |owed| owed + 1)..=up_to {
                let owed = owed.is_some() && server.matches(set, offset);
                prop_assert!(!owed || had.contains(&offset), "set {set} misses {offset}, up to {up_to}");
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Act {
    Publish(u8),
    Replay(usize),
    Live,
    Checkpoint,
    Receive(usize),
    Drop,
    NewEpoch(u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0_u8..8).prop_map(Act::Publish),
        8 => (0_usize..3).prop_map(Act::Replay),
        6 => Just(Act::Live),
        1 => Just(Act::Checkpoint),
        6 => (1_usize..6).prop_map(Act::Receive),
        2 => Just(Act::Drop),
        1 => (0_u8..4).prop_map(Act::NewEpoch),
    ];
    prop::collection::vec(act, 0..160)
}

fn starts() -> impl Strategy<Value = Vec<Start>> {
    let start = prop_oneof![
        Just(Start::Live),
        (0_u64..6).prop_map(|offset| Start::After { offset, epoch: None }),
        (0_u64..6).prop_map(|offset| Start::After { offset, epoch: Some(epoch(1)) }),
        Just(Start::SinceAgo(Duration::from_secs(60))),
        (0_u64..4).prop_map(Start::History),
    ];
    prop::collection::vec(start, 1..=3)
}

fn run(starts: Vec<Start>, before: Vec<u8>, acts: &[Act]) -> Result<(), TestCaseError> {
    let alone = starts.len() == 1;
    let end = before.len() as u64;
    // An offset beyond the end is another story (the server answers with a gap); it has its own test.
    let starts: Vec<Start> = starts
        .into_iter()
        .map(|start| match start {
            Start::After { offset, epoch } => Start::After { offset: offset.min(end), epoch },
            other => other,
        })
        .collect();
    let mut server = Server { epoch: 1, masks: before, sets: Vec::new(), live: 0, wire: VecDeque::new() };
    let mut consumer = Consumer::new(starts);
    consumer.connect(&mut server);
    for act in acts {
        match act {
            Act::Publish(mask) => server.masks.push(*mask),
            Act::Replay(set) => server.replay(*set),
            Act::Live => server.live(),
            Act::Checkpoint => server.checkpoint(),
            Act::Receive(messages) => {
                for _ in 0..*messages {
                    consumer.receive(&mut server)?;
                }
            }
            Act::Drop => consumer.connect(&mut server),
            Act::NewEpoch(events) => {
                server.epoch += 1;
                server.masks = (0..*events).map(|event| event | 1).collect();
                consumer.connect(&mut server);
            }
        }
    }
    // Let everything arrive.
    for _ in 0..server.end() + 8 {
        for set in 0..3 {
            server.replay(set);
        }
        server.live();
    }
    while !server.wire.is_empty() {
        consumer.receive(&mut server)?;
    }
    consumer.nothing_missing(&server, server.end())?;
    let had: BTreeSet<u64> = consumer.delivered.iter().copied().collect();
    prop_assert_eq!(had.len(), consumer.delivered.len(), "delivered twice");
    if alone {
        prop_assert!(consumer.delivered.is_sorted(), "out of order: {:?}", consumer.delivered);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_event_owed_is_delivered_once_over_lost_connections(
        starts in starts(),
        before in prop::collection::vec(0_u8..8, 0..12),
        acts in acts(),
    ) {
        run(starts, before, &acts)?;
    }
}

#[test]
fn the_interrupted_rest_of_a_history_is_told_and_what_followed_is_not_lost() {
    let mut resume = Resume::new([Start::History(3)]);
    assert_eq!(resume.connect(Duration::ZERO).0, [Start::History(3)]);
    resume.subscribed(0, 100, epoch(1));
    assert_eq!(resume.event(40), Verdict::Deliver);
    assert_eq!(resume.position(), None);
    let (starts, cuts) = resume.connect(Duration::ZERO);
    assert_eq!(starts, [Start::After { offset: 100, epoch: Some(epoch(1)) }]);
    assert_eq!(cuts, [CutHistory { set: 0, from: 41, to: 100 }]);
}

#[test]
fn an_untouched_history_or_stretch_of_time_is_asked_for_again() {
    let mut resume = Resume::new([Start::History(3), Start::SinceAgo(Duration::from_secs(10))]);
    resume.connect(Duration::ZERO);
    resume.subscribed(0, 100, epoch(1));
    let (starts, cuts) = resume.connect(Duration::from_secs(5));
    assert_eq!(starts, [Start::History(3), Start::SinceAgo(Duration::from_secs(15))]);
    assert!(cuts.is_empty());
}

#[test]
fn an_offset_beyond_the_end_of_the_same_epoch_begins_at_the_oldest() {
    let mut resume = Resume::new([Start::After { offset: 500, epoch: None }]);
    resume.connect(Duration::ZERO);
    resume.subscribed(0, 100, epoch(1));
    resume.epoch_gap(Some(0), Some(epoch(1)), 0);
    assert_eq!(resume.event(1), Verdict::Deliver);
    assert_eq!(resume.position(), Some(Position { epoch: epoch(1), offset: 1 }));
}

#[test]
fn an_epoch_that_begins_under_a_live_connection_is_taken_over() {
    let mut resume = Resume::new([Start::Live]);
    resume.connect(Duration::ZERO);
    resume.subscribed(0, 100, epoch(1));
    assert_eq!(resume.event(101), Verdict::Deliver);
    assert_eq!(resume.event(101), Verdict::Repeat);
    resume.epoch_gap(None, Some(epoch(2)), 7);
    assert_eq!(resume.event(8), Verdict::Deliver);
    assert_eq!(resume.connect(Duration::ZERO).0, [Start::After { offset: 8, epoch: Some(epoch(2)) }]);
}

#[test]
fn several_live_sets_need_no_checkpoints() {
    let mut resume = Resume::new([Start::Live, Start::After { offset: 3, epoch: None }]);
    resume.connect(Duration::ZERO);
    resume.subscribed(0, 10, epoch(1));
    resume.subscribed(1, 10, epoch(1));
    assert_eq!(resume.event(11), Verdict::Deliver);
    // Whose event that was is not known: the second set may still have all of its own before it.
    assert_eq!(resume.position().unwrap().offset, 3);
    resume.caught_up(1, 11);
    assert_eq!(resume.event(12), Verdict::Deliver);
    assert_eq!(resume.position().unwrap().offset, 12);
    assert!(resume.remembered.is_empty());
}

#[test]
fn the_memory_of_delivered_offsets_is_bounded() {
    let mut resume = Resume::new([Start::Live, Start::History(1)]);
    resume.connect(Duration::ZERO);
    for offset in 0..MAX_REMEMBERED as u64 + 10 {
        resume.event(offset + 1);
    }
    assert_eq!(resume.remembered.len(), MAX_REMEMBERED);
    resume.subscribed(0, 1, epoch(1));
    resume.subscribed(1, 1, epoch(1));
    resume.caught_up(1, 1);
    resume.checkpoint(MAX_REMEMBERED as u64 + 10);
    assert!(resume.remembered.is_empty());
}
