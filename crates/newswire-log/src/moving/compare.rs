//! Reads a log from both sides at once, and finds where they are not the same.

use futures_util::StreamExt;

use super::item::{Item, What};
use super::source::{Facts, Pages, Source};
use super::{Doing, MoveError};
use crate::dedup::DedupOptions;
use crate::remote::{Following, Sequencer};

/// What was found to be the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Events.
    pub events: u64,
    /// One beyond the last offset.
    pub tail: u64,
    /// BLAKE3 over offset, time and frame of each event, in hexadecimal.
    pub digest: String,
}

/// Where the other events come from.
enum Side {
    /// An engine, and the oldest offset that it may hold.
    Engine(Following, u64),
    /// Files.
    Files(FilePages),
}

/// Pages of another source.
struct FilePages {
    pages: Pages,
    page: std::vec::IntoIter<Item>,
}

pub(super) async fn with_engine(
    source: &Source,
    facts: &Facts,
    engine: &dyn Sequencer,
    told: &mut (dyn FnMut(Doing, u64) + Send),
) -> Result<Compared, MoveError> {
    let extent = engine.extent().await?;
    if let Some(last) = facts.last
        && (extent.last < last || engine.at(last).await?.is_none())
    {
        // Nobody would say that it does not come.
        let what = format!("is missing: {} ends at {}", engine.name(), extent.last);
        return Err(MoveError::Differs { offset: last, what });
    }
    let side = Side::Engine(engine.follow(extent.first.saturating_sub(1)).await?, extent.first);
    compare(source, facts, side, told).await
}

pub(super) async fn with_files(
    source: &Source,
    other: &Source,
    told: &mut (dyn FnMut(Doing, u64) + Send),
) -> Result<Compared, MoveError> {
    let (facts, theirs) =
        (source.look(DedupOptions::default()).await?, other.look(DedupOptions::default()).await?);
    let pages = FilePages { pages: other.items(0, &theirs), page: Vec::new().into_iter() };
    compare(source, &facts, Side::Files(pages), told).await
}

impl Side {
    /// What comes next; `Err` inside: the offset of something that is none of ours.
    async fn next(&mut self) -> Result<Option<Result<Item, u64>>, MoveError> {
        match self {
            Self::Engine(following, _) => match following.next().await {
                None => Ok(None),
                Some(sequenced) => {
                    let sequenced = sequenced?;
                    Ok(Some(Item::read(&sequenced).ok_or(sequenced.place.offset)))
                }
            },
            Self::Files(FilePages { pages, page }) => loop {
                if let Some(item) = page.next() {
                    return Ok(Some(Ok(item)));
                }
                match pages.recv().await {
                    None => return Ok(None),
                    Some(more) => *page = more?.into_iter(),
                }
            },
        }
    }

    /// Why it lacks this.
    fn missing(&self, offset: u64) -> String {
        match self {
            Self::Engine(_, first) if offset < *first => format!(
                "is gone: the engine has let go of everything before {first} already, by its own limits; they have to leave \
                 room for the whole log"
            ),
            _ => "is missing".to_owned(),
        }
    }
}

async fn compare(
    source: &Source,
    facts: &Facts,
    mut side: Side,
    told: &mut (dyn FnMut(Doing, u64) + Send),
) -> Result<Compared, MoveError> {
    let (mut events, mut digest) = (0, blake3::Hasher::new());
    let mut pages = source.items(0, facts);
    while let Some(page) = pages.recv().await {
        let page = page?;
        for item in &page {
            same(item, &mut side).await?;
            if let What::Event { frame, .. } = &item.what {
                events += 1;
                digest
                    .update(&item.offset.to_le_bytes())
                    .update(&item.stored_at.0.to_le_bytes())
                    .update(frame);
            }
        }
        told(Doing::Comparing, page.last().map_or(0, |item| item.offset));
    }
    Ok(Compared { events, tail: source.tail(), digest: digest.finalize().to_hex().to_string() })
}

/// Takes the next one from the other side, which has to be this.
async fn same(item: &Item, side: &mut Side) -> Result<(), MoveError> {
    let differs = |offset, what| Err(MoveError::Differs { offset, what });
    let found = side.next().await?;
    let offset = match &found {
        None => u64::MAX,
        Some(Ok(found)) => found.offset,
        Some(Err(offset)) => *offset,
    };
    match found {
        _ if offset > item.offset => differs(item.offset, side.missing(item.offset)),
        _ if offset < item.offset => differs(offset, "is there, but not where the log comes from".to_owned()),
        Some(Ok(found)) => match item.difference(&found) {
            Some(what) => differs(item.offset, what.to_owned()),
            None => Ok(()),
        },
        _ => differs(item.offset, "has something that was not moved there".to_owned()),
    }
}
