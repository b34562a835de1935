//! Sends prepared lines in order, in batches, again until the server answers.

use std::time::Duration;

use anyhow::Context;
use newswire_client::{Backoff, Client, Outcome, PublishError, RequestError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::commands::reach::{backoff, until_reached};
use crate::terminal::{Outage, grouped, spoken};

use super::journal::{Journal, Mark};
use super::line::Prepared;
use super::pace::Schedule;
use super::progress::{Progress, Tally};

/// A request stays below what servers take in one body.
const MAX_BATCH_BYTES: usize = 768 * 1024;
/// A longer pause in the recording is told, for a screen that stands still.
const TELL_PAUSE: Duration = Duration::from_secs(5);

/// So often what is left of it is shown.
const COUNTDOWN: Duration = Duration::from_secs(1);

/// A line with its number, counted from 1.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) prepared: Prepared,
}

/// An event that waits to be sent.
#[derive(Debug)]
struct Waiting {
    line: u64,
    text: String,
}

pub(crate) struct Sender {
    client: Client,
    journal: Option<Journal>,
    pub(crate) progress: Progress,
    pub(crate) tally: Tally,
    batch_events: usize,
    batch: Vec<Waiting>,
    batch_bytes: usize,
    /// The last line that was read.
    read: u64,
    /// Every line before this one is published, or rejected for good.
    pub(crate) next_line: u64,
    backoff: Backoff,
    outage: Outage,
}

impl Sender {
    pub(crate) fn new(
        client: Client,
        progress: Progress,
        journal: Option<Journal>,
        batch_events: usize,
    ) -> Self {
        Self {
            client,
            journal,
            progress,
            tally: Tally::default(),
            batch_events,
            batch: Vec::new(),
            batch_bytes: 0,
            read: 0,
            next_line: 1,
            backoff: backoff(),
            outage: Outage::default(),
        }
    }

    /// What the journal says, if the server's log has that very event at that offset.
    pub(crate) async fn checked_mark(&mut self) -> anyhow::Result<Option<Mark>> {
        let Some(mark) = self.journal.as_ref().and_then(Journal::read) else { return Ok(None) };
        let (client, progress, outage) = (&self.client, &self.progress, &mut self.outage);
        let found = until_reached(
            async || client.event_at(mark.offset).await,
            |reason| tell(outage, progress, client, reason),
        )
        .await;
        match found {
            Ok(found) => Ok(found.filter(|found| found.event.event_id == mark.event_id).map(|_| mark)),
            // Then the ids must do.
            Err(RequestError::Refused(_)) => Ok(None),
            Err(error) => Err(error).context("cannot see what was published before"),
        }
    }

    /// Publishes all lines, the first of which has the number `first`, each when it is due. Not cancel-safe for the batch under way: whether that was stored is not
    /// known, and `next_line` is before it.
    pub(crate) async fn send_all(
        &mut self,
        mut lines: mpsc::Receiver<anyhow::Result<Numbered>>,
        first: u64,
        mut schedule: Schedule,
    ) -> anyhow::Result<()> {
        (self.read, self.next_line) = (first - 1, first);
        self.progress.skip(first - 1);
        let begun = Instant::now();
        loop {
            let line = match lines.try_recv() {
                Ok(line) => line,
                // Nothing more for now: what is there does not wait for company.
                Err(_) => {
                    self.flush().await?;
                    match lines.recv().await {
                        Some(line) => line,
                        None => return Ok(()),
                    }
                }
            };
            let Numbered { number, prepared } = match line {
                Ok(line) => line,
                Err(error) => {
                    self.flush().await?;
                    return Err(error);
                }
            };
            match prepared {
                Prepared::Event { text, timestamp } => {
                    if let Some(due) = schedule.due(timestamp) {
                        self.wait_until(begun + due, number).await?;
                    }
                    self.add(Waiting { line: number, text }).await?;
                }
                Prepared::Rejected(reason) => self.reject(number, &reason),
                Prepared::Blank => {}
            }
            self.read = number;
            self.advance();
        }
    }

    async fn add(&mut self, event: Waiting) -> anyhow::Result<()> {
        if self.batch_bytes + event.text.len() > MAX_BATCH_BYTES {
            self.flush().await?;
        }
        self.batch_bytes += event.text.len();
        self.batch.push(event);
        if self.batch.len() >= self.batch_events { self.flush().await } else { Ok(()) }
    }

    async fn wait_until(&mut self, due: Instant, line: u64) -> anyhow::Result<()> {
        let pause = due.saturating_duration_since(Instant::now());
        if pause.is_zero() {
            return Ok(());
        }
        self.flush().await?;
        let mut told = false;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if pause >= TELL_PAUSE {
                let next = format!(
                    "line {} is due in {} (--max-wait 2s cuts such pauses)",
                    grouped(line),
                    spoken(left)
                );
                self.progress.waiting(&next, !told);
                told = true;
            }
            sleep_until(due.min(Instant::now() + COUNTDOWN)).await;
        }
    }

    /// Sends the batch and returns when every event of it has its place or its refusal.
    async fn flush(&mut self) -> anyhow::Result<()> {
        let mut rest = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let mut share = rest.len();
        while !rest.is_empty() {
            share = share.min(rest.len());
            match self.send(&rest[..share]).await {
                Ok(outcomes) => {
                    let sent: Vec<Waiting> = rest.drain(..share).collect();
                    let put_off = self.book(sent, outcomes);
                    if !put_off.is_empty() {
                        self.pause("the server cannot store events now").await;
                        rest.splice(..0, put_off);
                    }
                }
                Err(PublishError::TooLarge) if share == 1 => {
                    let event = rest.remove(0);
                    self.reject(event.line, "larger than the server takes");
                }
                Err(PublishError::TooLarge) => share = share.div_ceil(2),
                Err(error) => {
                    let line = rest.first().map_or(self.next_line, |event| event.line);
                    self.next_line = line;
                    return Err(error).with_context(|| format!("cannot publish from line {line} on"));
                }
            }
            self.next_line = rest.first().map_or(self.read + 1, |event| event.line);
            self.progress.at(self.next_line - 1, &self.tally);
        }
        Ok(())
    }

    async fn send(&mut self, events: &[Waiting]) -> Result<Vec<Outcome>, PublishError> {
        let texts: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
        let (client, progress, outage) = (&self.client, &self.progress, &mut self.outage);
        let waiting = |reason: &str, _wait| tell(outage, progress, client, reason);
        let answered = client.publish_until_answered(&texts, &mut self.backoff, waiting).await;
        if answered.is_ok()
            && let Some(away) = self.outage.over()
        {
            self.progress
                .aside(&format!("the server is back after {}; nothing is lost or doubled", spoken(away)));
        }
        answered
    }

    /// Counts the results; gives back what is to be sent again.
    fn book(&mut self, sent: Vec<Waiting>, outcomes: Vec<Outcome>) -> Vec<Waiting> {
        let mut put_off = Vec::new();
        let mut mark = None;
        for (event, outcome) in sent.into_iter().zip(outcomes) {
            if outcome.is_temporary() {
                put_off.push(event);
                continue;
            }
            match outcome {
                Outcome::Stored { offset, event_id } => {
                    self.tally.published += 1;
                    mark = Some(Mark { line: event.line, offset, event_id });
                }
                Outcome::Duplicate { offset, event_id } => {
                    self.tally.duplicates += 1;
                    mark = Some(Mark { line: event.line, offset, event_id });
                }
                Outcome::Refused { error, detail, .. } => {
                    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
                    self.reject(event.line, &format!("{error}{detail}"));
                }
            }
        }
        // With some put off, the lines before the mark are not all done.
        if let (Some(mark), Some(journal), true) = (mark, &mut self.journal, put_off.is_empty()) {
            journal.note(mark);
        }
        put_off
    }

    async fn pause(&mut self, reason: &str) {
        let wait = self.backoff.next(&mut fastrand::Rng::new());
        tell(&mut self.outage, &self.progress, &self.client, reason);
        tokio::time::sleep(wait).await;
    }

    fn reject(&mut self, line: u64, reason: &str) {
        self.tally.rejected += 1;
        self.progress.rejected(line, reason);
    }

    /// Lines that need no sending are done once everything before them is.
    fn advance(&mut self) {
        if self.batch.is_empty() {
            self.next_line = self.read + 1;
            self.progress.at(self.read, &self.tally);
        }
    }
}

fn tell(outage: &mut Outage, progress: &Progress, client: &Client, reason: &str) {
    if let Some(told) = outage.failed(reason) {
        progress.aside(&format!("{}: {told}", client.base_url().as_str().trim_end_matches('/')));
    }
}
