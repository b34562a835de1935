//! One subscriber over many connections: what it has in the end is everything once, whatever broke in between.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use newswire_core::{BacklogPolicy, LogView};
use serde_json::Value;

use crate::client::{Client, Filter, Start};
use crate::rule::pattern_matches;
use crate::world::{Seed, World};

/// Two sets with a position each, as a client library keeps them.
struct Subscriber {
    sets: [(Option<&'static str>, &'static str, Filter); 2],
    /// The offset behind which each set resumes.
    positions: [u64; 2],
    /// Which sets a replay is still running for.
    replaying: [bool; 2],
    read: usize,
    /// Copies of each event, in all connections together.
    received: BTreeMap<u64, usize>,
}

impl Subscriber {
    fn connect(&mut self, world: &World) -> Client {
        let mut client = Client::connect(world);
        for (index, (sub, pattern, filter)) in self.sets.clone().into_iter().enumerate() {
            let start = Start::After(self.positions[index]);
            let epoch = Some(world.era().id);
            client.subscribe_from(world, sub, vec![pattern], false, Some(filter), start, epoch);
        }
        (self.replaying, self.read) = ([true; 2], 0);
        client
    }

    /// Takes note of what came, as a library would: events move the sets that match them and do not replay, the end
    /// of a replay and a checkpoint move what they speak of.
    fn take(&mut self, client: &Client, world: &World) {
        for message in &client.received[self.read..] {
            let offset = message["offset"].as_u64();
            match (message["action"].as_str(), offset) {
                (None, Some(offset)) => {
                    let event = world.era().find(offset).unwrap();
                    let mut wanted = false;
                    for (index, (_, pattern, filter)) in self.sets.iter().enumerate() {
                        if pattern_matches(pattern, event.channel) && filter.matches(event) {
                            wanted |= offset > self.positions[index];
                            if !self.replaying[index] {
                                self.positions[index] = offset.max(self.positions[index]);
                            }
                        }
                    }
                    if wanted {
                        *self.received.entry(offset).or_default() += 1;
                    }
                }
                (Some("caught_up"), Some(offset)) => {
                    let index =
                        self.sets.iter().position(|(sub, ..)| *sub == message["sub"].as_str()).unwrap();
                    self.replaying[index] = false;
                    self.positions[index] = offset.max(self.positions[index]);
                }
                (Some("checkpoint"), Some(offset)) => {
                    self.positions.iter_mut().for_each(|position| *position = offset.max(*position));
                }
                (Some("gap"), _) => panic!("nothing is ever lost here: {message}"),
                (Some("subscribed"), _) => assert_eq!(message["recovered"], Value::Bool(true)),
                _ => {}
            }
        }
        self.read = client.received.len();
    }
}

fn seed(rng: &mut Rng) -> Seed {
    Seed {
        channel: rng.u8(..),
        event_type: rng.u8(..),
        agent: rng.u8(..),
        number: rng.u8(..),
        size: rng.u16(..200),
        hole: rng.u8(..20) / 19,
    }
}

/// Broken off at random moments, resumed from the position of each set or the last checkpoint.
#[test]
fn a_subscriber_that_resumes_has_everything() {
    let mut connections = 0;
    for number in 0..150 {
        let mut rng = Rng::with_seed(number);
        let mut world = World::new(BacklogPolicy::CatchUp, rng.bool());
        let mut subscriber = Subscriber {
            sets: [(None, "t*", Filter::of(rng.u8(..))), (Some("s1"), "*", Filter::of(rng.u8(..)))],
            positions: [0; 2],
            replaying: [true; 2],
            read: 0,
            received: BTreeMap::new(),
        };
        let mut client = subscriber.connect(&world);
        for _ in 0..rng.usize(50..300) {
            match rng.u8(..24) {
                19..21 => world.flush(rng.usize(..2), rng.usize(..3)),
                21..23 => client.make_room(rng.usize(..4_000)),
                0..8 => world.append(&(0..rng.usize(1..6)).map(|_| seed(&mut rng)).collect::<Vec<_>>()),
                8..11 => world.dispatch_to(rng.usize(..2), rng.usize(1..4)),
                11..15 => drop(client.pump(&world, rng.usize(1..2_000))),
                15..17 => drop(client.answer_read(&world)),
                17..19 => world.advance(Duration::from_secs(6)),
                _ => {
                    // What had reached the client counts, what had not is lost with the connection.
                    subscriber.take(&client, &world);
                    client.close(&world);
                    // The other hub may be behind the one that served it: who subscribes waits until it has what is
                    // durable.
                    world.dispatch();
                    client = subscriber.connect(&world);
                    connections += 1;
                }
            }
        }
        world.dispatch();
        world.flush_all();
        client.settle(&world);
        subscriber.take(&client, &world);
        assert_eq!(world.dispatched() + 1, world.tail());
        for event in &world.era().events {
            let wanted = subscriber
                .sets
                .iter()
                .any(|(_, pattern, filter)| pattern_matches(pattern, event.channel) && filter.matches(event));
            let copies = subscriber.received.get(&event.offset).copied().unwrap_or_default();
            assert!(
                (copies > 0) == wanted,
                "seed {number}: {event:?} received {copies} times, wanted: {wanted}"
            );
            // An event that both sets match comes once live, and at most once more for each replay of a set.
            assert!(copies <= 2 + connections, "seed {number}: {event:?} received {copies} times");
        }
    }
    assert!(connections > 500, "too few connections broke: {connections}");
}
