//! What was: pages of history, and single events.

use std::sync::Arc;

use newswire_core::{
    ADMINS, Access, ChannelPattern, Direction, Filter, OWN, Page, Principal, ReadRequest, Role, Run,
    Selector, SelectorEntry,
};
use newswire_log::ReadError;
use newswire_protocol::limits::MAX_OFFSET;
use newswire_protocol::{Epoch, ErrorCode, Order, Query, Refusal, SinceSpec};

use crate::{Event, Feed, Interest, ingest};

/// Events of one page, at most.
pub const MAX_HISTORY_EVENTS: usize = 1_000;

/// Frames one page may have, in bytes.
const PAGE_BYTES: usize = 8 << 20;

/// Bytes of the log one page may look at: a filter that matches rarely gives short pages, not long waits.
const SCAN_BYTES: usize = 16 << 20;

/// Which part of the past is wanted. The start option of its [`Interest`] is not asked.
#[derive(Clone, Debug)]
#[must_use = "it does nothing before it is given to Feed::history"]
pub struct History {
    interest: Interest,
    order: Order,
    after: Option<u64>,
    before: u64,
    since: Option<SinceSpec>,
    limit: usize,
}

/// A page of history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// Matching events, in the order asked for. A rare filter may give few or none although there are more: see `next`.
    pub events: Vec<Event>,
    /// The epoch of all offsets here.
    pub epoch: Epoch,
    /// The last offset of the log when the page was asked for.
    pub end: u64,
    /// Where the next page begins, for [`History::after`] or, newest first, [`History::before`]; `None` at the end.
    pub next: Option<u64>,
    /// Whether everything behind [`History::after`] is still there: `false` where an event of the channels asked for, behind
    /// that offset, has been trimmed, as of this page. `None` without such an offset, and newest first.
    pub recovered: Option<bool>,
}

/// Why there is no page.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// An unknown channel, a filter beyond its bounds.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log could not be read.
    #[error("reading the log failed: {0}")]
    LogFailed(#[from] ReadError),
}

impl History {
    /// All retained events of this interest, the oldest first, up to 100 a page.
    pub fn of(interest: impl Into<Interest>) -> Self {
        Self {
            interest: interest.into(),
            order: Order::Asc,
            after: None,
            before: MAX_OFFSET + 1,
            since: None,
            limit: 100,
        }
    }

    /// Only offsets greater than this.
    pub fn after(mut self, offset: u64) -> Self {
        self.after = Some(offset);
        self
    }

    /// Only offsets smaller than this.
    pub fn before(mut self, offset: u64) -> Self {
        self.before = offset;
        self
    }

    /// Only events stored at or after this time.
    pub fn since(mut self, since: SinceSpec) -> Self {
        self.since = Some(since);
        self
    }

    /// The newest first.
    pub fn newest_first(mut self) -> Self {
        self.order = Order::Desc;
        self
    }

    /// So many events a page: 1 to [`MAX_HISTORY_EVENTS`], beyond which it is taken for the nearest of them.
    pub fn limit(mut self, events: usize) -> Self {
        self.limit = events.clamp(1, MAX_HISTORY_EVENTS);
        self
    }

    /// What the query of `GET /events` asks for, but for its `limit`.
    pub(crate) fn from_query(query: Query, principal: Principal) -> Self {
        let (order, after, before, since) =
            (query.order.unwrap_or_default(), query.after, query.before, query.since);
        let all = Self::of(Interest::from(query).or_everything().principal(principal));
        Self { order, after, before: before.unwrap_or(all.before), since, ..all }
    }

    fn request(&self, feed: &Feed) -> Result<ReadRequest, Refusal> {
        let ask = self.interest.ask()?;
        let filter = Filter::compile(&self.interest.filters);
        let Interest { filters, principal, .. } = &self.interest;
        let patterns = feed.inner.channels.permitted(&ask.channels, filters, principal, Access::Past)?;
        let patterns = patterns.into_iter();
        let entries = patterns.map(|pattern| SelectorEntry::new(pattern, Arc::clone(&filter))).collect();
        let after = self.after.unwrap_or(0);
        let (direction, from, until) = match self.order {
            Order::Asc => (Direction::Forward, after, self.before.saturating_sub(1)),
            Order::Desc => (Direction::Backward, self.before, after + 1),
        };
        Ok(ReadRequest {
            selector: Arc::new(Selector::new(entries, self.interest.principal.clone())),
            direction,
            from,
            since: self.since.map(|since| since.resolve(ingest::now())),
            until,
            max_bytes: PAGE_BYTES,
            max_events: self.limit,
            max_scan_bytes: SCAN_BYTES,
        })
    }
}

impl Feed {
    /// A page of history. Reads off the async threads, in line with the other readers (`limits.log_readers`). Cancel-safe.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn history(&self, history: History) -> Result<HistoryPage, HistoryError> {
        if let Some(after) = history.after
            && !self.inner.log.settle(None, after).await
        {
            return Err(HistoryError::Refused(Refusal::because(
                ErrorCode::Unavailable,
                "this node is behind the log",
            )));
        }
        let end = self.inner.log.tail() - 1;
        let page = self.inner.reader.read(history.request(self)?).await?;
        let resumes = history.after.is_some() && history.order == Order::Asc;
        Ok(HistoryPage {
            epoch: page.epoch,
            end,
            next: (!page.end).then_some(page.reached),
            recovered: resumes.then_some(page.lost.is_empty()),
            events: events(&page),
        })
    }

    /// One event by its offset; `None` if there is none, not any more, or not for this principal. Cancel-safe.
    ///
    /// # Errors
    /// The log could not be read.
    pub async fn event(&self, offset: u64, principal: &Principal) -> Result<Option<Event>, HistoryError> {
        let Some(before) = offset.checked_sub(1) else { return Ok(None) };
        // No pattern stands for what is somebody's own, so that has to be named.
        let own =
            ChannelPattern::parse(&format!("{OWN}{}", principal.id)).filter(|_| !principal.is_anonymous());
        // The same holds for what is for administrators; the log knows its names.
        let reserved = principal.role == Role::Admin;
        let named = if reserved { self.inner.log.channels() } else { Vec::new() };
        let admins = named.into_iter().filter(|name| name.starts_with(ADMINS)).map(ChannelPattern::Exact);
        let patterns = [ChannelPattern::Prefix("".into())].into_iter().chain(own).chain(admins);
        let entries = patterns.map(|pattern| SelectorEntry::new(pattern, Filter::all())).collect();
        let request = ReadRequest {
            selector: Arc::new(Selector::new(entries, principal.clone())),
            direction: Direction::Forward,
            from: before,
            since: None,
            until: offset,
            max_bytes: PAGE_BYTES,
            max_events: 1,
            max_scan_bytes: SCAN_BYTES,
        };
        let page = self.inner.reader.read(request).await?;
        Ok(events(&page).pop())
    }
}

fn events(page: &Page) -> Vec<Event> {
    let of_run = |run: &Run| {
        let batch = Arc::clone(&run.batch);
        let indexes: Vec<usize> = (0..run.len()).map(|nth| run.index(nth)).collect();
        indexes.into_iter().map(move |index| Event::new(Arc::clone(&batch), index))
    };
    page.runs.iter().flat_map(of_run).collect()
}

impl HistoryError {
    /// As a refusal of the wire.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::LogFailed(error) => {
                tracing::error!(%error, "reading the log failed");
                Refusal::because(ErrorCode::Unavailable, error.to_string())
            }
        }
    }
}
