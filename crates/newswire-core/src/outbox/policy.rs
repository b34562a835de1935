//! What happens in an outbox in which no more events find room.

use std::collections::VecDeque;

use super::{GapMark, Inner, Item, Mode, QueuedRun};
use crate::seeded::seeded_bug;

impl Inner {
    /// Leaves the live path: events go, answers keep their place.
    pub(super) fn fall_behind(&mut self, arriving: &QueuedRun) {
        // Events before a change of epoch cannot be read again: they stay, within the bound they were accepted under.
        let fixed = self.items.iter().rposition(|item| matches!(item, Item::Epoch(_))).map_or(0, |at| at + 1);
        let first_unsent = self.items.range(fixed..).find_map(|item| match item {
            Item::Run(run) => Some(run.first_offset()),
            _ => None,
        });
        self.mode = Mode::Lagging { from: first_unsent.unwrap_or_else(|| arriving.first_offset()) - 1 };
        let kept: VecDeque<Item> = std::mem::take(&mut self.items)
            .into_iter()
            .enumerate()
            .filter(|(at, item)| *at < fixed || !matches!(item, Item::Run(_)))
            .map(|(_, item)| item)
            .collect();
        self.items = kept;
        let runs = |item: &Item| match item {
            Item::Run(run) => Some(run.bytes),
            _ => None,
        };
        self.queued_bytes = self.items.iter().filter_map(runs).sum();
        self.runs = self.items.iter().filter_map(runs).count();
    }

    pub(super) fn give_up(&mut self) {
        self.mode = Mode::TooSlow;
        self.items = VecDeque::new();
        (self.queued_bytes, self.runs, self.epochs) = (0, 0, 0);
    }

    pub(super) fn push_dropping_newest(&mut self, mut run: QueuedRun, max_bytes: usize) -> u64 {
        // Full is full until half of it has gone: not a gap for each event that happens to fit.
        if self.dropping && self.queued_bytes > max_bytes / 2 {
            return self.drop_rest(run);
        }
        self.dropping = false;
        if self.queued_bytes == 0 || self.queued_bytes + run.bytes <= max_bytes {
            self.enqueue(run);
            return 0;
        }
        let room = max_bytes.saturating_sub(self.queued_bytes);
        if run.run.batch.frame_len(run.run.index(run.next)) <= room {
            let fitting = run.split(room);
            self.enqueue(fitting);
        }
        self.drop_rest(run)
    }

    fn drop_rest(&mut self, mut run: QueuedRun) -> u64 {
        self.dropping = true;
        if !matches!(self.items.back(), Some(Item::Gap(_))) {
            self.items.push_back(Item::Gap(Box::default()));
        }
        let Some(Item::Gap(gap)) = self.items.back_mut() else { return 0 };
        let mut dropped = 0;
        while !run.is_done() {
            run.drop_first(gap);
            dropped += 1;
        }
        dropped
    }

    pub(super) fn drop_oldest(&mut self, max_bytes: usize) -> u64 {
        let mut dropped = 0;
        while self.queued_bytes > max_bytes {
            let Some(at) = self.items.iter().position(|item| matches!(item, Item::Run(_))) else { break };
            let merges = at > 0 && matches!(self.items[at - 1], Item::Gap(_));
            let mut mark = Box::<GapMark>::default();
            if merges && let Item::Gap(before) = &mut self.items[at - 1] {
                mark = std::mem::take(before);
            }
            let Item::Run(run) = &mut self.items[at] else { break };
            while self.queued_bytes > max_bytes && !run.is_done() {
                self.queued_bytes -= run.drop_first(&mut mark);
                dropped += 1;
            }
            let emptied = run.is_done();
            self.place_gap(at, mark, merges, emptied);
        }
        dropped
    }

    /// Puts the gap before the run at `at`, or in its place if it is empty.
    fn place_gap(&mut self, at: usize, mark: Box<GapMark>, merges: bool, emptied: bool) {
        if emptied {
            self.items.remove(at);
            self.runs -= 1;
        }
        if merges {
            self.items[at - 1] = Item::Gap(mark);
        } else {
            let place = if seeded_bug!(AnswerLosesPlace) { 0 } else { at };
            self.items.insert(place, Item::Gap(mark));
        }
    }
}
