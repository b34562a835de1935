//! Where the events come from: a server's history, or the files of a log.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use newswire_client::HistoryQuery;
use newswire_core::{ChannelPattern, EventView, Filter};
use newswire_log::{OpenError, OsDisk, Snapshot};
use newswire_protocol::{FilterSpec, UnixMicros};
use tokio::sync::mpsc;

use super::{Args, Row};
use crate::commands::{EXIT_DAMAGED, EXIT_OVERTAKEN, Failure};

/// Events of one request; the most that a server gives.
const PAGE_EVENTS: u32 = 1_000;

/// Hands every wanted event to `pages`; ends early where nobody takes them any more.
pub(super) async fn read(args: &Args, pages: mpsc::Sender<Vec<Row>>) -> anyhow::Result<()> {
    match &args.data_dir {
        None => from_server(args, pages).await,
        Some(directory) => {
            let (directory, wanted) = (directory.clone(), Wanted::of(args)?);
            let read = tokio::task::spawn_blocking(move || from_files(&directory, &wanted, &pages));
            read.await.context("reading the log")?
        }
    }
}

async fn from_server(args: &Args, pages: mpsc::Sender<Vec<Row>>) -> anyhow::Result<()> {
    let client = args.reach.client(&args.url)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut after, mut epoch, mut is_first) = (Some(args.after), None, true);
    let mut since = args.since.as_ref().map(|(text, _)| text.as_str());
    while let Some(from) = after.filter(|_| left > 0) {
        let limit = u32::try_from(left).unwrap_or(PAGE_EVENTS).min(PAGE_EVENTS);
        let mut query = HistoryQuery::new().limit(limit);
        query = match since.take() {
            Some(since) => query.with("since", since),
            None => query.after(from),
        };
        if !args.channels.is_empty() {
            query = query.channels(&args.channels);
        }
        query = args.filters.iter().fold(query, |query, (key, value)| query.also(key, value));
        let page = client.history(&query).await.with_context(|| format!("cannot read from {}", args.url))?;
        anyhow::ensure!(
            *epoch.get_or_insert(page.epoch) == page.epoch,
            "the log began a new epoch in the middle; begin again"
        );
        if page.recovered == Some(false) {
            overtaken(from, std::mem::replace(&mut is_first, false))?;
        }
        is_first = false;
        after = page.next;
        left -= (page.events.len() as u64).min(left);
        let rows = page.events.into_iter().map(|found| Row { event: found.event, text: found.text });
        if pages.send(rows.collect()).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What was to be read next is no longer there. In the middle nobody could tell the file from a whole one; at the beginning
/// somebody asked for what the server no longer has.
fn overtaken(after: u64, is_first: bool) -> anyhow::Result<()> {
    match (is_first, after) {
        (true, 0) => Ok(()),
        (true, _) => {
            anstream::eprintln!("newswire: events after offset {after} are no longer kept; the export begins behind them");
            Ok(())
        }
        (false, _) => Err(Failure::new(
            EXIT_OVERTAKEN,
            format!(
                "retention has removed events after offset {after} before they were read, so the export would have a \
                 hole: begin again, or export from the data directory, where what is read cannot go"
            ),
        )
        .into()),
    }
}

/// What to take of a log's files.
struct Wanted {
    channels: Vec<ChannelPattern>,
    filter: std::sync::Arc<Filter>,
    after: u64,
    since: Option<UnixMicros>,
    limit: u64,
}

impl Wanted {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let read = |name: &String| {
            ChannelPattern::parse(name).with_context(|| format!("{name:?} cannot be the name of a channel"))
        };
        let channels = args.channels.iter().map(read).collect::<anyhow::Result<_>>()?;
        let mut spec = FilterSpec::default();
        let mut keys: Vec<&str> = args.filters.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let values =
                args.filters.iter().filter(|(other, _)| other == key).map(|(_, value)| value.as_str());
            spec.add_query(key, values).map_err(|refusal| anyhow::anyhow!("--filter {key}: {refusal:?}"))?;
        }
        let now = UnixMicros::from(SystemTime::now());
        Ok(Self {
            channels,
            filter: Filter::compile(&spec),
            after: args.after,
            since: args.since.as_ref().map(|(_, since)| since.resolve(now)),
            limit: args.limit.unwrap_or(u64::MAX),
        })
    }

    fn takes(&self, event: &EventView<'_>) -> bool {
        let in_channel =
            self.channels.is_empty() || self.channels.iter().any(|pattern| pattern.matches(event.channel));
        in_channel && self.since.is_none_or(|since| event.stored_at >= since) && self.filter.matches(event)
    }
}

fn from_files(directory: &Path, wanted: &Wanted, pages: &mpsc::Sender<Vec<Row>>) -> anyhow::Result<()> {
    let snapshot = Snapshot::open(&OsDisk, directory).map_err(|error| match error {
        OpenError::Damaged { .. } => Failure::new(EXIT_DAMAGED, error.to_string()).into(),
        other => anyhow::Error::new(other),
    })?;
    let snapshot = snapshot.with_context(|| format!("{} holds no log", directory.display()))?;
    let (mut left, mut failed) = (wanted.limit, None);
    snapshot.visit(wanted.after, &mut |batch| {
        let events = batch.iter().filter(|event| wanted.takes(event));
        let rows: Result<Vec<Row>, _> =
            events.take(usize::try_from(left).unwrap_or(usize::MAX)).map(|event| row(&event)).collect();
        match rows {
            Ok(rows) => {
                left -= rows.len() as u64;
                // Refused where the writing side has failed, which tells why.
                (rows.is_empty() || pages.blocking_send(rows).is_ok()) && left > 0
            }
            Err(error) => {
                failed = Some(error);
                false
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

fn row(event: &EventView<'_>) -> anyhow::Result<Row> {
    let text = String::from_utf8(event.json.to_vec()).context("an event that is not UTF-8")?;
    let event = serde_json::from_str(&text).context("an event that cannot be read")?;
    Ok(Row { event, text })
}
