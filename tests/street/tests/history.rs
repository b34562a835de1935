//! The judge of histories is judged: sound ones pass, and wherever one is spoilt it is found.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::Path;
use std::process::{Command, Output};

use newswire_street_tests::check::{Kind, check};
use newswire_street_tests::history::plant::{Fault, plant};
use newswire_street_tests::history::{Answer, Record, Writer, content, read};
use newswire_street_tests::naive;
use proptest::prelude::*;
use serde_json::{Value, json};

const CHANNELS: [&str; 3] = ["tasks", "agents", "budget"];
const EPOCH: &str = "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52";

fn event(number: u64, random: &mut fastrand::Rng) -> Value {
    json!({
        "event_id": format!("e-{number}"),
        "channel": random.choice(CHANNELS).unwrap(),
        "event_type": "task.updated",
        "payload": {"agent": format!("agent-{}", random.u64(..3)), "n": number},
    })
}

/// A subscriber of a made-up run.
struct Subscriber {
    number: u64,
    channels: Vec<String>,
    filters: Value,
    position: Option<u64>,
    connected: bool,
}

impl Subscriber {
    fn join(&mut self, log: &[Value], records: &mut Vec<Record>) {
        let end = log.len() as u64;
        records.push(Record::Asks {
            subscriber: self.number,
            node: 0,
            channels: self.channels.clone(),
            filters: self.filters.clone(),
            after: self.position,
            epoch: self.position.map(|_| EPOCH.to_owned()),
        });
        records.push(Record::Joined {
            subscriber: self.number,
            offset: end,
            epoch: EPOCH.to_owned(),
            recovered: self.position.map(|_| true),
        });
        self.position.get_or_insert(end);
        self.connected = true;
    }

    /// Receives at most `most` of what it has not got.
    fn read(&mut self, log: &[Value], most: usize, records: &mut Vec<Record>) {
        let channels: Vec<&str> = self.channels.iter().map(String::as_str).collect();
        let from = self.position.unwrap();
        for (offset, event) in (1..).zip(log).skip(from as usize).take(most) {
            self.position = Some(offset);
            let record = if naive::wants(&channels, &self.filters, event) {
                Record::Event {
                    subscriber: self.number,
                    offset,
                    epoch: EPOCH.to_owned(),
                    event_id: event["event_id"].as_str().unwrap().to_owned(),
                    content: content(event),
                }
            } else {
                Record::Position { subscriber: self.number, offset }
            };
            records.push(record);
        }
    }
}

/// A sound run: publishers that are answered, refused or not answered and ask again, subscribers that come and go.
fn sound(seed: u64, steps: usize) -> Vec<Record> {
    let random = &mut fastrand::Rng::with_seed(seed);
    let mut records = vec![Record::Run { seed, new_epochs: false, about: "made up".to_owned() }];
    let mut log: Vec<Value> = Vec::new();
    let mut open: Vec<(Value, Option<u64>)> = Vec::new();
    let (mut events, mut asks) = (0, 0);
    let mut subscribers: Vec<Subscriber> = (0..4)
        .map(|number| Subscriber {
            number,
            channels: vec![if number == 0 { "*" } else { random.choice(CHANNELS).unwrap() }.to_owned()],
            filters: if number % 2 == 1 { json!({"agent": "agent-1"}) } else { Value::Null },
            position: (number < 3).then_some(0),
            connected: false,
        })
        .collect();
    for step in 0..steps {
        let who = random.usize(..4);
        match random.u64(..6) {
            0..3 => {
                // A new event, or one whose publisher does not know whether it is stored.
                let (asked, stored) = if open.is_empty() || random.bool() {
                    events += 1;
                    (event(events, random), None)
                } else {
                    open.swap_remove(random.usize(..open.len()))
                };
                asks += 1;
                let id = asked["event_id"].as_str().unwrap().to_owned();
                records.push(Record::Asked { ask: asks, publisher: 0, node: 0, event: asked.clone() });
                let duplicate = stored.is_some();
                let offset = stored.or_else(|| {
                    (random.u64(..4) > 0).then(|| {
                        log.push(asked.clone());
                        log.len() as u64
                    })
                });
                let answer = match offset {
                    Some(offset) if random.u64(..4) > 0 => Answer::Stored { offset, duplicate },
                    _ => {
                        open.push((asked, offset));
                        Answer::Unknown("no answer".to_owned())
                    }
                };
                records.push(Record::Answered { ask: asks, event_id: id, answer });
            }
            3 if subscribers[who].connected => {
                subscribers[who].connected = false;
                records.push(Record::Left { subscriber: who as u64, why: "it left".to_owned() });
            }
            3 => subscribers[who].join(&log, &mut records),
            _ if subscribers[who].connected => subscribers[who].read(&log, step % 7, &mut records),
            _ => {}
        }
    }
    for subscriber in &mut subscribers {
        subscriber.join(&log, &mut records);
        subscriber.read(&log, usize::MAX, &mut records);
        records.push(Record::Done { subscriber: subscriber.number, offset: log.len() as u64 });
    }
    records
}

/// What a planted fault must at least be called.
fn called(fault: Fault) -> &'static [Kind] {
    match fault {
        Fault::Loss => &[Kind::Loss],
        Fault::Repeat | Fault::StoredTwice => &[Kind::Repeat],
        Fault::Reorder => &[Kind::Order],
        Fault::WrongOffset => &[Kind::Disagreement, Kind::Offset],
        Fault::WrongAnswer => &[Kind::Offset, Kind::Disagreement],
        Fault::Disagreement => &[Kind::Disagreement],
        Fault::Invented => &[Kind::Invented],
        Fault::Gap => &[Kind::Gap],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_sound_history_passes_and_a_spoilt_one_does_not(seed: u64, steps in 40usize..300, which in 0..Fault::ALL.len()) {
        let records = sound(seed, steps);
        let report = check(&records);
        // Very short ones may show nothing, which is said.
        prop_assume!(report.counts.acknowledged > 0 && report.counts.deliveries > 0);
        prop_assert!(report.is_sound(), "{}", report.text(&records));

        let (name, fault) = Fault::ALL[which];
        let mut spoilt = records;
        let Some(line) = plant(&mut spoilt, fault, &mut fastrand::Rng::with_seed(seed)) else { return Ok(()) };
        let report = check(&spoilt);
        let found = report.violations.iter().any(|violation| called(fault).contains(&violation.kind));
        prop_assert!(found, "{name} at line {} is not found:\n{}", line + 1, report.text(&spoilt));
    }
}

/// One event, acknowledged, seen by one subscriber who comes to the end.
fn smallest() -> Vec<Record> {
    let event = json!({"event_id": "a", "channel": "tasks", "event_type": "task.created", "payload": {}});
    let channels = vec!["tasks".to_owned()];
    vec![
        Record::Run { seed: 0, new_epochs: false, about: String::new() },
        Record::Asks { subscriber: 0, node: 0, channels, filters: Value::Null, after: Some(0), epoch: None },
        Record::Joined { subscriber: 0, offset: 0, epoch: EPOCH.to_owned(), recovered: Some(true) },
        Record::Asked { ask: 1, publisher: 0, node: 0, event: event.clone() },
        Record::Answered {
            ask: 1,
            event_id: "a".to_owned(),
            answer: Answer::Stored { offset: 1, duplicate: false },
        },
        Record::Event {
            subscriber: 0,
            offset: 1,
            epoch: EPOCH.to_owned(),
            event_id: "a".to_owned(),
            content: content(&event),
        },
        Record::Done { subscriber: 0, offset: 1 },
    ]
}

fn kinds(records: &[Record]) -> Vec<Kind> {
    check(records).violations.iter().map(|violation| violation.kind).collect()
}

#[test]
fn who_does_not_come_to_the_end_is_named_and_nothing_shown_is_nothing_proven() {
    assert_eq!(kinds(&smallest()), []);
    let mut unfinished = smallest();
    unfinished.pop();
    assert_eq!(kinds(&unfinished), [Kind::Unfinished]);
    assert_eq!(kinds(&smallest()[..1]), [Kind::Unsound]);
}

#[test]
fn an_answered_event_stands_before_what_is_asked_for_later() {
    let mut records = smallest();
    let later = json!({"event_id": "b", "channel": "agents", "event_type": "task.created", "payload": {}});
    records.push(Record::Asked { ask: 2, publisher: 1, node: 1, event: later });
    let with_answer = |offset, duplicate| {
        let mut records = records.clone();
        records.push(Record::Answered {
            ask: 2,
            event_id: "b".to_owned(),
            answer: Answer::Stored { offset, duplicate },
        });
        kinds(&records)
    };
    assert_eq!(with_answer(2, false), []);
    assert_eq!(with_answer(0, false), [Kind::Order]);
    assert_eq!(with_answer(1, true), [Kind::Offset]);
}

#[test]
fn asking_again_for_what_was_answered_is_a_duplicate_at_the_same_offset() {
    let mut again = smallest();
    let Record::Asked { event, .. } = again[3].clone() else { panic!("an ask") };
    again.push(Record::Asked { ask: 2, publisher: 0, node: 0, event });
    for (offset, duplicate, expected) in
        [(1, true, vec![]), (1, false, vec![Kind::Offset]), (2, true, vec![Kind::Offset])]
    {
        let mut records = again.clone();
        records.push(Record::Answered {
            ask: 2,
            event_id: "a".to_owned(),
            answer: Answer::Stored { offset, duplicate },
        });
        assert_eq!(kinds(&records), expected, "{offset} {duplicate}");
    }
}

#[test]
fn a_new_epoch_is_a_loss_unless_the_run_allows_it() {
    let mut records = smallest();
    let done = records.pop().unwrap();
    records.push(Record::Gap {
        subscriber: 0,
        from: 1,
        to: 1,
        reason: "epoch".to_owned(),
        epoch: Some("another".to_owned()),
    });
    records.push(done);
    assert_eq!(kinds(&records), [Kind::Gap]);
    records[0] = Record::Run { seed: 0, new_epochs: true, about: String::new() };
    assert_eq!(kinds(&records), []);
    if let Record::Gap { reason, .. } = &mut records[6] {
        *reason = "backlog".to_owned();
    }
    assert_eq!(kinds(&records), [Kind::Gap]);
}

fn run(arguments: &[&str], file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_check-history")).args(arguments).arg(file).output().expect("it starts")
}

#[test]
fn the_program_says_what_it_checked_what_is_wrong_and_by_which_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.jsonl");
    let writer = Writer::create(&file);
    let records = sound(7, 200);
    records.iter().for_each(|record| writer.write(record));
    writer.flush();
    assert!(read(&file).unwrap() == records, "what is read is what was written");

    let sound = run(&[], &file);
    let text = String::from_utf8_lossy(&sound.stdout).into_owned();
    assert_eq!(sound.status.code(), Some(0), "{text}");
    assert!(text.contains("4 subscribers") && text.contains("sound: every promise was kept"), "{text}");

    for (name, _) in Fault::ALL {
        let spoilt = run(&["--plant", name, "--seed", "3"], &file);
        let text = String::from_utf8_lossy(&spoilt.stdout).into_owned();
        assert_eq!(spoilt.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains("NOT SOUND") && text.contains("    line "), "{name}: {text}");
    }

    std::fs::write(&file, "{\"record\":\"done\"}\n").unwrap();
    let unreadable = run(&[], &file);
    assert_eq!(unreadable.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unreadable.stderr).contains("history.jsonl:1: "));
}
