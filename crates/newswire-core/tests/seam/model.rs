//! What a client must have received, worked out from what was published and said, and nothing else.
//!
//! The stream is walked once: answers and `caught_up` say when which subscription was live, or being replayed, and
//! thus which sources may, and which must, have sent each event. Then every event is counted against them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::client::{Client, Command, Filter, Start, What};
use crate::rule::{channels_of, pattern_matches};
use crate::world::{Era, Event, World};

type Key = (Option<&'static str>, &'static str);

/// A stretch of the stream in which a pattern of a set was live.
#[derive(Debug)]
struct Live {
    key: Key,
    filter: Filter,
    /// Offsets: behind `from`, up to `to`.
    from: u64,
    to: u64,
    /// Places in the list of messages: behind `begin`, before `end`.
    begin: usize,
    end: usize,
}

/// One pattern of a replay.
#[derive(Debug)]
struct Part {
    pattern: &'static str,
    filter: Filter,
    /// Where another command took it away.
    taken: usize,
}

#[derive(Debug)]
struct Replay {
    id: u64,
    sub: Option<&'static str>,
    parts: Vec<Part>,
    start: Start,
    /// The answer's offset and place.
    at: u64,
    begin: usize,
    /// `caught_up`: its place and offset.
    end: Option<(usize, u64)>,
    cut: usize,
}

#[derive(Debug)]
struct GapTold {
    sub: Option<&'static str>,
    channels: Vec<String>,
    from: u64,
    to: u64,
    reason: String,
    place: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Live(usize),
    Replayed(usize),
}

/// What was received in one epoch.
struct Chapter<'w> {
    era: &'w Era,
    lives: Vec<Live>,
    replays: Vec<Replay>,
    gaps: Vec<GapTold>,
    checkpoints: Vec<(usize, u64)>,
    /// Place and offset of each event.
    events: Vec<(usize, u64)>,
    /// Offsets that have a place in the stream of the live path.
    marks: Vec<(usize, u64)>,
    subs: BTreeMap<Key, (State, Filter)>,
    /// How far the live path must be complete at the end.
    until: Option<u64>,
    /// Another epoch began: what a slow subscriber had not read yet of this one is gone, and the new gap says so.
    cut: bool,
}

pub type Verdict = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// Checks everything that one connection received. `settled`: it has read until nothing came any more.
pub fn check(client: &Client, world: &World, settled: bool) -> Verdict {
    let mut walk = Walk {
        client,
        world,
        era: client.era,
        answers: 0,
        published: Vec::new(),
        chapter: Chapter::new(&world.eras[client.era]),
        gap_due: None,
        caught_up_due: None,
    };
    for (place, message) in client.received.iter().enumerate() {
        walk.step(place, message).map_err(|why| format!("message {place}: {message}: {why}"))?;
    }
    ensure!(walk.gap_due.is_none() && walk.caught_up_due.is_none(), "something is missing behind an answer");
    if settled && client.closed.is_none() {
        ensure!(walk.answers == client.commands.len(), "answers are missing");
        while walk.era + 1 < world.eras.len() && walk.chapter.subs.is_empty() {
            walk.next_chapter(usize::MAX)?;
        }
        ensure!(walk.era + 1 == world.eras.len(), "a new epoch was not told");
        let open = walk.chapter.replays.iter().find(|replay| replay.is_open());
        ensure!(open.is_none(), "a replay never caught up: {open:?}");
        walk.chapter.until = Some(client.hub(world).lock().dispatched());
    }
    // Commands whose answers are still to come hold from their places on all the same.
    for command in client.commands[walk.answers..].iter().filter(|command| command.era == walk.era) {
        if let What::Subscribe { channels, .. } | What::Unsubscribe { channels } = &command.what {
            for channel in channels {
                walk.chapter.end((command.sub, channel), command.at, usize::MAX);
            }
        }
    }
    walk.chapter.cut = walk.era + 1 < world.eras.len();
    walk.chapter.check(client)
}

struct Walk<'w> {
    client: &'w Client,
    world: &'w World,
    era: usize,
    answers: usize,
    published: Vec<u64>,
    chapter: Chapter<'w>,
    /// The last answer said that something was lost: so and so must follow.
    gap_due: Option<(&'static str, Option<&'static str>, u64)>,
    /// The last answer began a replay of nothing: this `caught_up` must follow.
    caught_up_due: Option<Value>,
}

impl<'w> Walk<'w> {
    fn step(&mut self, place: usize, message: &Value) -> Verdict {
        let action = message["action"].as_str();
        if let Some(due) = self.caught_up_due.take() {
            ensure!(*message == due, "{due} should follow");
            return Ok(());
        }
        if let Some((reason, sub, head)) = self.gap_due.take() {
            ensure!(
                action == Some("gap") && message["reason"] == reason,
                "a gap ({reason}) should follow the answer"
            );
            ensure!(message["sub"].as_str() == sub, "the gap is of another set");
            if reason == "epoch" {
                ensure!(
                    message["from"] == 0 && message["to"] == head - 1,
                    "the gap should end before {head}"
                );
                self.chapter.gaps.push(GapTold::read(place, message));
                return Ok(());
            }
        }
        match action {
            None => self.event(place, message),
            Some("subscribed" | "unsubscribed" | "pong" | "error") => self.answer(place, message),
            Some("caught_up") => self.caught_up(place, message),
            Some("gap") => self.gap(place, message),
            Some("checkpoint") => {
                let offset = message["offset"].as_u64().unwrap();
                let last = self.chapter.checkpoints.last().map_or(0, |(_, offset)| *offset);
                ensure!(offset > last, "a checkpoint must move on");
                self.chapter.checkpoints.push((place, offset));
                Ok(())
            }
            Some("published") => {
                self.published.push(message["id"].as_u64().unwrap());
                Ok(())
            }
            Some(other) => Err(format!("unknown message {other}")),
        }
    }

    fn event(&mut self, place: usize, message: &Value) -> Verdict {
        let offset = message["offset"].as_u64().unwrap();
        let Some(event) = self.chapter.era.find(offset) else { return Err("no such event".into()) };
        ensure!(
            message["channel"] == event.channel
                && message["event_type"] == event.event_type
                && message["payload"]["agent_id"] == event.agent,
            "the event is another"
        );
        let rule = &self.client.rule;
        ensure!(rule.may(event.channel) && rule.filter.matches(event), "it does not exist for this client");
        let pad = &message["payload"]["pad"];
        ensure!(if rule.masked { pad.is_null() } else { pad.is_string() }, "the padding is shown otherwise");
        self.chapter.events.push((place, offset));
        Ok(())
    }

    fn answer(&mut self, place: usize, message: &Value) -> Verdict {
        let Some(command) = self.client.commands.get(self.answers) else {
            return Err("nothing was asked".into());
        };
        self.answers += 1;
        // Who has subscribed nothing is not told of a new epoch.
        while command.era > self.era && self.chapter.subs.is_empty() {
            self.next_chapter(place)?;
        }
        ensure!(message["id"] == command.id, "the answer to {} should come first", command.id);
        match &command.what {
            What::Ping => ensure!(message["action"] == "pong", "not a pong"),
            What::Nonsense => ensure!(message["error"] == "Unknown action", "not the error"),
            What::Unsubscribe { channels } => {
                ensure!(message["action"] == "unsubscribed", "not unsubscribed");
                for channel in channels {
                    self.chapter.end((command.sub, channel), command.at, place);
                }
                ensure!(message["channels"] == self.chapter.names(command.sub), "wrong channels remain");
                self.chapter.marks.push((place, command.at));
            }
            What::Subscribe { .. } => self.subscribed(place, message, command)?,
        }
        Ok(())
    }

    fn subscribed(&mut self, place: usize, message: &Value, command: &'w Command) -> Verdict {
        let What::Subscribe { channels, rejected, filter, start, recovered, gap, head } = &command.what
        else {
            return Err("not subscribed".into());
        };
        ensure!(message["action"] == "subscribed", "not subscribed");
        ensure!(command.era == self.era, "the answer belongs to another epoch");
        ensure!(message["offset"] == command.at, "the answer's offset should be {}", command.at);
        ensure!(message["epoch"] == self.chapter.era.id.to_string(), "wrong epoch");
        ensure!(message["sub"].as_str() == command.sub, "wrong set");
        let said = message.get("recovered").and_then(Value::as_bool);
        ensure!(said == *recovered, "recovered should be {recovered:?}");
        let refused = rejected.then(|| json!([{"channel": "not a channel", "reason": "unknown_channel"}]));
        ensure!(message.get("rejected") == refused.as_ref(), "rejected should be {refused:?}");
        let start = match (start, gap) {
            (Start::After(_), Some("epoch")) => &Start::After(0),
            (start, _) => start,
        };
        let mut parts = Vec::new();
        for channel in channels {
            let key = (command.sub, *channel);
            let kept = self.chapter.subs.get(&key).map(|(_, filter)| filter.clone()).unwrap_or_default();
            let filter = filter.clone().unwrap_or(kept);
            let filter = Filter { rule: Some(Arc::clone(&self.client.rule)), ..filter };
            self.chapter.end(key, command.at, place);
            if *start == Start::Live {
                self.chapter.begin_live(key, filter, command.at, place);
            } else {
                parts.push(Part { pattern: channel, filter: filter.clone(), taken: usize::MAX });
                self.chapter.subs.insert(key, (State::Replayed(self.chapter.replays.len()), filter));
            }
        }
        if !parts.is_empty() {
            self.chapter.replays.push(Replay {
                id: command.id,
                sub: command.sub,
                parts,
                start: start.clone(),
                at: command.at,
                begin: place,
                end: None,
                cut: usize::MAX,
            });
        }
        ensure!(message["channels"] == self.chapter.names(command.sub), "wrong channels");
        self.chapter.marks.push((place, command.at));
        if channels.is_empty() && *start != Start::Live {
            let mut due =
                json!({"action": "caught_up", "channels": [], "offset": command.at, "id": command.id});
            if let Some(sub) = command.sub {
                due["sub"] = json!(sub);
            }
            self.caught_up_due = Some(due);
        }
        self.gap_due = gap.map(|reason| (reason, command.sub, *head));
        Ok(())
    }

    fn caught_up(&mut self, place: usize, message: &Value) -> Verdict {
        let id = message["id"].as_u64().unwrap();
        let offset = message["offset"].as_u64().unwrap();
        let Some(index) = self.chapter.replays.iter().position(|replay| replay.id == id && replay.is_open())
        else {
            return Err("no such replay runs".into());
        };
        let replay = &mut self.chapter.replays[index];
        ensure!(message["sub"].as_str() == replay.sub, "wrong set");
        // A command takes its channels from a replay when it comes; its answer may wait for its place.
        let sent =
            self.client.commands[self.answers..].iter().take_while(|command| command.received <= place);
        let sub = replay.sub;
        let taken = |pattern: &str| sent.clone().any(|command| command.concerns(sub, pattern));
        let said: Vec<String> = serde_json::from_value(message["channels"].clone()).unwrap();
        let mut left = Vec::new();
        for part in replay.parts.iter_mut().filter(|part| part.taken == usize::MAX) {
            let is_said = said.iter().any(|name| name == part.pattern);
            ensure!(is_said || taken(part.pattern), "caught_up should be of {} too", part.pattern);
            if is_said {
                left.push(part.pattern);
            } else {
                part.taken = place;
            }
        }
        ensure!(said.len() == left.len() && said.is_sorted(), "caught_up should be of {left:?}");
        replay.end = Some((place, offset));
        for pattern in left {
            let filter = self.chapter.subs[&(sub, pattern)].1.clone();
            self.chapter.begin_live((sub, pattern), filter, offset, place);
        }
        self.chapter.marks.push((place, offset));
        Ok(())
    }

    fn gap(&mut self, place: usize, message: &Value) -> Verdict {
        let text = |key: &str| message[key].as_str().map(str::to_owned);
        let gap = GapTold::read(place, message);
        ensure!(gap.channels.is_sorted() && !gap.channels.is_empty(), "channels should be sorted");
        if gap.reason != "epoch" {
            ensure!(text("epoch") == Some(self.chapter.era.id.to_string()), "wrong epoch");
            self.chapter.gaps.push(gap);
            return Ok(());
        }
        if text("epoch") != Some(self.chapter.era.id.to_string()) {
            self.next_chapter(place)?;
        }
        ensure!(text("epoch") == Some(self.chapter.era.id.to_string()), "wrong epoch");
        self.chapter.epoch_gap(&gap)
    }

    /// The log began anew: what was live goes on behind its beginning, replays begin again.
    fn next_chapter(&mut self, place: usize) -> Verdict {
        ensure!(self.era + 1 < self.world.eras.len(), "there is no new epoch");
        self.era += 1;
        let era = &self.world.eras[self.era];
        let mut next = Chapter::new(era);
        for (key, (state, filter)) in std::mem::take(&mut self.chapter.subs) {
            match state {
                State::Live(_) => next.begin_live(key, filter, era.began.1, place),
                State::Replayed(index) => {
                    let old = &mut self.chapter.replays[index];
                    old.cut = place;
                    let part = Part { pattern: key.1, filter: filter.clone(), taken: usize::MAX };
                    let known = next.replays.iter().position(|replay| replay.id == old.id);
                    let index = known.unwrap_or_else(|| {
                        next.replays.push(Replay {
                            id: old.id,
                            sub: old.sub,
                            parts: Vec::new(),
                            start: Start::After(0),
                            at: era.began.1,
                            begin: place,
                            end: None,
                            cut: usize::MAX,
                        });
                        next.replays.len() - 1
                    });
                    next.replays[index].parts.push(part);
                    next.subs.insert(key, (State::Replayed(index), filter));
                }
            }
        }
        next.marks.push((place, era.began.1));
        let mut old = std::mem::replace(&mut self.chapter, next);
        old.cut = true;
        old.check(self.client).map_err(|why| format!("in the epoch before: {why}"))
    }
}

impl Replay {
    fn is_open(&self) -> bool {
        self.end.is_none() && self.cut == usize::MAX && self.parts.iter().any(|part| part.taken == usize::MAX)
    }

    /// Whether the event lies in what was asked for.
    fn asked(&self, part: &Part, event: &Event, era: &Era) -> bool {
        if !pattern_matches(part.pattern, event.channel) || !part.filter.matches(event) {
            return false;
        }
        match self.start {
            Start::Live => false,
            Start::After(after) => event.offset > after,
            Start::Since(time) => event.stored_at >= time,
            Start::History(count) => {
                let last = era.events.iter().rev().filter(|other| {
                    other.offset <= self.at && other.channel == event.channel && part.filter.matches(other)
                });
                event.offset > self.at
                    || last.take(usize::try_from(count).unwrap()).any(|other| other.offset == event.offset)
            }
        }
    }
}

impl<'w> Chapter<'w> {
    fn new(era: &'w Era) -> Self {
        Self {
            era,
            lives: Vec::new(),
            replays: Vec::new(),
            gaps: Vec::new(),
            checkpoints: Vec::new(),
            events: Vec::new(),
            marks: Vec::new(),
            subs: BTreeMap::new(),
            until: None,
            cut: false,
        }
    }

    fn names(&self, sub: Option<&str>) -> Value {
        json!(self.subs.keys().filter(|(of, _)| *of == sub).map(|(_, name)| *name).collect::<Vec<_>>())
    }

    fn begin_live(&mut self, key: Key, filter: Filter, from: u64, place: usize) {
        let live = Live { key, filter: filter.clone(), from, to: u64::MAX, begin: place, end: usize::MAX };
        self.subs.insert(key, (State::Live(self.lives.len()), filter));
        self.lives.push(live);
    }

    fn end(&mut self, key: Key, at: u64, place: usize) {
        match self.subs.remove(&key) {
            Some((State::Live(index), _)) => {
                self.lives[index].to = at;
                self.lives[index].end = place;
            }
            Some((State::Replayed(index), _)) => {
                let parts = &mut self.replays[index].parts;
                for part in parts.iter_mut().filter(|part| part.pattern == key.1 && part.taken == usize::MAX)
                {
                    part.taken = place;
                }
            }
            None => {}
        }
    }

    /// One set's share of the message that the log began anew.
    fn epoch_gap(&self, gap: &GapTold) -> Verdict {
        let (head, dispatched) = self.era.began;
        for live in [true, false] {
            let of = |(key, (state, _)): (&Key, &(State, Filter))| {
                (key.0 == gap.sub && matches!(state, State::Live(_)) == live).then(|| key.1.to_owned())
            };
            let mut names: Vec<String> = self.subs.iter().filter_map(of).collect();
            names.sort();
            let to = if live { dispatched } else { head - 1 };
            let both = dispatched == head - 1;
            if (names == gap.channels || both) && gap.from == 0 && gap.to == to {
                return Ok(());
            }
        }
        Err("the gap of the new epoch does not fit".into())
    }

    fn is_live(live: &Live, event: &Event) -> bool {
        event.offset > live.from
            && event.offset <= live.to
            && pattern_matches(live.key.1, event.channel)
            && live.filter.matches(event)
    }

    /// A gap of this set that was told behind a place of the stream covers the event.
    fn excused(&self, sub: Option<&str>, event: &Event, behind: usize) -> bool {
        // A gap of retention is no excuse for withholding what is still there.
        let late = |gap: &GapTold| match &*gap.reason {
            "retention" => self.era.is_trimmed(event),
            _ => gap.place > behind,
        };
        self.gaps.iter().any(|gap| gap.sub == sub && late(gap) && gap.covers(event))
    }

    /// The set had the event live through another pattern while the replay ran.
    fn had_live(&self, replay: &Replay, event: &Event) -> bool {
        let beside = |live: &Live| {
            live.key.0 == replay.sub
                && event.offset > replay.at
                && live.end > replay.begin
                && Self::is_live(live, event)
                && replay.end.is_none_or(|(place, _)| live.begin < place)
        };
        self.lives.iter().any(beside)
    }

    fn check(&self, client: &Client) -> Verdict {
        let mut received: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (place, offset) in &self.events {
            received.entry(*offset).or_default().push(*place);
        }
        let none = Vec::new();
        let reached = self.live_path(&received)?;
        for event in &self.era.events {
            let places = received.get(&event.offset).unwrap_or(&none);
            self.count(event, places, reached)
                .map_err(|why| format!("{event:?}, received at {places:?}: {why}"))?;
        }
        self.orders(&received)?;
        self.overtaken(&received)?;
        for gap in self.gaps.iter().filter(|gap| gap.reason != "epoch") {
            self.gap_is_true(gap, &received, client).map_err(|why| format!("{gap:?}: {why}"))?;
        }
        for (place, offset) in &self.checkpoints {
            self.is_safe(*place, *offset, &received)
                .map_err(|why| format!("checkpoint {offset} at {place}: {why}"))?;
        }
        Ok(())
    }

    /// Replays that may have sent the event at this place.
    fn replays_at<'a>(&'a self, event: &'a Event, place: usize) -> impl Iterator<Item = &'a Replay> {
        self.replays.iter().filter(move |replay| {
            place > replay.begin
                && replay.end.is_none_or(|(end, _)| place < end)
                && place < replay.cut
                && !self.had_live(replay, event)
                && replay.parts.iter().any(|part| place < part.taken && replay.asked(part, event, self.era))
        })
    }

    fn live_at(&self, event: &Event, place: usize) -> bool {
        self.lives.iter().any(|live| place > live.begin && place < live.end && Self::is_live(live, event))
    }

    /// Events that only the live path can have sent, and all marks, stand in one order. Returns how far it came.
    fn live_path(&self, received: &BTreeMap<u64, Vec<usize>>) -> Result<u64, String> {
        let mut steps: Vec<(usize, u64, bool)> =
            self.marks.iter().map(|(place, at)| (*place, *at, true)).collect();
        for (offset, places) in received {
            let event = self.era.find(*offset).unwrap();
            for place in places {
                if self.live_at(event, *place) && self.replays_at(event, *place).next().is_none() {
                    steps.push((*place, *offset, false));
                }
            }
        }
        steps.extend(
            self.gaps.iter().filter(|gap| gap.reason == "backlog").map(|gap| (gap.place, gap.to, true)),
        );
        steps.sort_unstable();
        let (mut at, mut before_gaps, mut last_event) = (0, 0, 0);
        for (place, offset, mark) in steps {
            let gap = self.gaps.iter().find(|gap| gap.place == place);
            if let Some(gap) = gap {
                ensure!(
                    gap.from > before_gaps,
                    "{gap:?} should come before the live path reached {before_gaps}"
                );
                at = offset.max(at);
                continue;
            }
            ensure!(
                if mark { offset >= at } else { offset > at },
                "message {place} ({offset}) stands behind {at}"
            );
            at = offset;
            before_gaps = at;
            last_event = if mark { last_event } else { offset };
        }
        Ok(if self.cut { last_event } else { self.until.unwrap_or(at) })
    }

    /// As many copies as there were sources that had to send it, at most as many as there were that could, and each
    /// at a place where one of them could.
    fn count(&self, event: &Event, places: &[usize], reached: u64) -> Verdict {
        let lives: Vec<_> = self.lives.iter().filter(|live| Self::is_live(live, event)).collect();
        let missed = |live: &&&Live| !self.excused(live.key.0, event, live.begin);
        let live_must = event.offset <= reached && lives.iter().any(|live| missed(&live));
        let (mut must, mut may) = (usize::from(live_must), usize::from(!lives.is_empty()));
        for replay in &self.replays {
            if self.had_live(replay, event) {
                continue;
            }
            let asked = |part: &&Part| replay.asked(part, event, self.era);
            let within = replay.end.is_none_or(|(_, until)| event.offset <= until);
            if within && replay.parts.iter().any(|part| asked(&part)) {
                may += 1;
            }
            let Some((_, until)) = replay.end else { continue };
            let due = replay.parts.iter().any(|part| part.taken == usize::MAX && asked(&part));
            let gone = self.era.is_trimmed(event) && matches!(replay.start, Start::History(_));
            if due && event.offset <= until && !gone && !self.excused(replay.sub, event, replay.begin) {
                must += 1;
            }
        }
        for place in places {
            let possible = self.live_at(event, *place) || self.replays_at(event, *place).next().is_some();
            ensure!(possible, "nothing could have sent it at {place}");
        }
        ensure!(places.len() >= must, "{must} times due");
        ensure!(places.len() <= may, "at most {may} times allowed");
        Ok(())
    }

    /// No replay overtakes the live path: an event that only that can have sent has a higher offset than all before.
    fn overtaken(&self, received: &BTreeMap<u64, Vec<usize>>) -> Verdict {
        let mut highest = 0;
        for (place, offset) in &self.events {
            let event = self.era.find(*offset).unwrap();
            let repeated = received[offset].len() > 1;
            if !repeated && self.live_at(event, *place) && self.replays_at(event, *place).next().is_none() {
                ensure!(*offset > highest, "{event:?} at {place} comes after {highest}");
            }
            highest = highest.max(*offset);
        }
        Ok(())
    }

    /// What only one replay can have sent is in order.
    fn orders(&self, received: &BTreeMap<u64, Vec<usize>>) -> Verdict {
        for replay in &self.replays {
            let mut last = 0;
            for (offset, places) in received {
                let event = self.era.find(*offset).unwrap();
                for place in places {
                    let mut sources = self.replays_at(event, *place);
                    let only = sources.next().is_some_and(|one| std::ptr::eq(one, replay))
                        && sources.next().is_none();
                    if only && !self.live_at(event, *place) {
                        ensure!(*place > last, "{event:?} at {place} stands before {last}: {replay:?}");
                        last = *place;
                    }
                }
            }
        }
        Ok(())
    }

    /// Something is missing in every gap, and nothing that is not.
    fn gap_is_true(&self, gap: &GapTold, received: &BTreeMap<u64, Vec<usize>>, client: &Client) -> Verdict {
        ensure!(gap.from <= gap.to, "it is empty");
        if gap.reason == "retention" && !client.rule.knows_trims() {
            return self.gap_names_what_was_asked(gap, client);
        }
        let within = |event: &&Event| gap.covers(event);
        let events: Vec<&Event> = self.era.events.iter().filter(within).collect();
        for channel in &gap.channels {
            let mut of = events.iter().filter(|event| event.channel == channel);
            let real = |event: &&&Event| gap.reason == "backlog" || self.era.is_trimmed(event);
            ensure!(of.any(|event| real(&event)), "nothing of {channel} is missing");
        }
        if gap.reason == "backlog" {
            let live = |event: &&&Event| {
                self.lives.iter().any(|live| {
                    live.key.0 == gap.sub
                        && live.begin < gap.place
                        && live.end > gap.place
                        && Self::is_live(live, event)
                })
            };
            let dropped: Vec<_> = events.iter().filter(|event| live(event)).collect();
            for offset in [gap.from, gap.to] {
                ensure!(dropped.iter().any(|event| event.offset == offset), "{offset} was not dropped");
            }
            for event in dropped {
                let places = received.get(&event.offset).map_or(&[][..], Vec::as_slice);
                let live = places.iter().filter(|place| {
                    self.live_at(event, **place) && self.replays_at(event, **place).next().is_none()
                });
                ensure!(live.count() == 0, "{event:?} was received");
            }
        } else {
            let retained = events.iter().filter(|event| !self.era.is_trimmed(event));
            let matching = retained.filter(|event| {
                self.lives.iter().any(|live| {
                    live.key.0 == gap.sub
                        && live.begin < gap.place
                        && live.end > gap.place
                        && Self::is_live(live, event)
                })
            });
            let dropped = |event: &Event| {
                let backlog =
                    self.gaps.iter().filter(|other| other.reason == "backlog" && other.sub == gap.sub);
                backlog.clone().any(|other| other.covers(event))
            };
            let missing = matching.filter(|event| !received.contains_key(&event.offset) && !dropped(event));
            let unlucky = missing.count();
            ensure!(unlucky == 0 || self.until.is_none(), "retained events are missing");
        }
        Ok(())
    }

    /// Something was trimmed, whatever it was, and no channel is named that the client did not name itself.
    fn gap_names_what_was_asked(&self, gap: &GapTold, client: &Client) -> Verdict {
        let of = |event: &&Event| (gap.from..=gap.to).contains(&event.offset) && self.era.is_trimmed(event);
        ensure!(self.era.events.iter().any(|event| of(&event)), "nothing was trimmed");
        for name in &gap.channels {
            let asked = client.commands.iter().any(|command| command.concerns(gap.sub, name));
            ensure!(asked, "nobody asked for {name}");
        }
        Ok(())
    }

    /// Resuming everything behind this offset would miss nothing.
    fn is_safe(&self, place: usize, offset: u64, received: &BTreeMap<u64, Vec<usize>>) -> Verdict {
        let had = |event: &Event| {
            received.get(&event.offset).is_some_and(|places| places.iter().any(|at| *at < place))
        };
        for event in self.era.events.iter().filter(|event| event.offset <= offset) {
            for live in &self.lives {
                if live.begin < place && live.end > place && Self::is_live(live, event) {
                    let told = self.excused(live.key.0, event, live.begin);
                    ensure!(had(event) || told, "{event:?} had not been sent");
                }
            }
            for replay in &self.replays {
                let runs = replay.begin < place
                    && replay.end.is_none_or(|(end, _)| end > place)
                    && replay.cut > place;
                let asked = |part: &Part| part.taken > place && replay.asked(part, event, self.era);
                if runs && replay.parts.iter().any(asked) && !self.had_live(replay, event) {
                    let told = self.excused(replay.sub, event, replay.begin) || self.era.is_trimmed(event);
                    ensure!(had(event) || told, "{event:?} had not been replayed");
                }
            }
        }
        Ok(())
    }
}

impl GapTold {
    fn read(place: usize, message: &Value) -> Self {
        let sub = crate::client::SUBS.into_iter().find(|sub| *sub == message["sub"].as_str()).unwrap();
        Self {
            sub,
            channels: serde_json::from_value(message["channels"].clone()).unwrap(),
            from: message["from"].as_u64().unwrap(),
            to: message["to"].as_u64().unwrap(),
            reason: message["reason"].as_str().unwrap().to_owned(),
            place,
        }
    }

    fn covers(&self, event: &Event) -> bool {
        event.offset >= self.from
            && event.offset <= self.to
            && self.channels.iter().any(|name| channels_of(name).any(|channel| channel == event.channel))
    }
}
