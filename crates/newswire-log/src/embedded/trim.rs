//! Trimming: floors of channels rise, and segments go once nothing above a floor is left in them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use newswire_protocol::UnixMicros;

use super::format::{INDEX_EXTENSION, key_hash};
use super::ids;
use super::index::{ChannelSummary, TAG_CHANNEL};
use super::manifest::Manifest;
use super::segment_file::Segment;
use super::store::{ChannelState, Store};
use crate::event_log::{Place, ReadError, TrimError};
use crate::floors::Floor;
use crate::retention::RetentionOptions;
use crate::shared::Shared;

/// Applies the retention policy; returns how many events went.
pub(crate) fn retain(store: &Store, shared: &Shared) -> Result<u64, TrimError> {
    ids::remove_expired(store, shared);
    let retention = store.retention();
    if retention.is_unbounded() {
        return Ok(0);
    }
    let _one_at_a_time = store.trimming.lock();
    let (now, tail) = (shared.clock.now(), shared.tail());
    let segments = store.segments();
    let whole = whole_cut(&retention, &segments, tail);
    let mut cuts = BTreeMap::new();
    let channels = store.read_catalog(|catalog| catalog.channels.clone());
    let mut age_cuts = BTreeMap::new();
    for (channel, state) in channels {
        let mut cut = whole;
        if let Some(max_age) = retention.max_age_of(&channel) {
            let oldest = now.saturating_sub(max_age);
            let by_age = match age_cuts.get(&oldest) {
                Some(known) => *known,
                None => *age_cuts.entry(oldest).or_insert(last_before(&segments, oldest)?),
            };
            cut = cut.max(by_age);
        }
        cut = cut.max(channel_cut(&retention, &segments, &channel, &state)?).min(tail - 1);
        if cut >= state.first {
            cuts.insert(channel, cut);
        }
    }
    raise_floors(store, shared, &segments, &cuts)
}

/// Trims by hand.
pub(crate) fn trim(
    store: &Store,
    shared: &Shared,
    channel: Option<&str>,
    up_to: u64,
) -> Result<u64, TrimError> {
    let _one_at_a_time = store.trimming.lock();
    let cut = up_to.min(shared.tail() - 1);
    let segments = store.segments();
    let cuts = store.read_catalog(|catalog| {
        let meant = catalog
            .channels
            .iter()
            .filter(|(name, state)| state.first <= cut && channel.is_none_or(|only| only == &***name));
        meant.map(|(name, _)| (name.clone(), cut)).collect()
    });
    raise_floors(store, shared, &segments, &cuts)
}

fn unwritten(store: &Store, error: &io::Error) -> TrimError {
    TrimError::Io { file: store.dir.display().to_string(), error: error.to_string() }
}

/// Notes in an empty log that everything before this place is gone elsewhere, on channels that nobody here may know.
pub(crate) fn begin_at(store: &Store, shared: &Shared, place: Place) -> Result<(), TrimError> {
    let Place { offset, stored_at } = place;
    let _one_at_a_time = store.trimming.lock();
    let (old, _) = store.floors_and_head();
    let mut floors = (*old).clone();
    floors.raise_all(Floor { to: offset.saturating_sub(1), stored_at });
    let tail = shared.tail().max(offset);
    let note = |manifest: &mut Manifest| {
        manifest.floors = floors.clone();
        manifest.next_offset = manifest.next_offset.max(tail);
    };
    let io = |error: io::Error| unwritten(store, &error);
    store.change_manifest(note).map_err(io)?;
    store.change_catalog(|catalog| catalog.floors = Arc::new(floors));
    shared.advance(tail);
    Ok(())
}

/// See [`super::EmbeddedLog::note_gone`].
pub(crate) fn note_gone(store: &Store, gone: &[(Arc<str>, Place)]) -> Result<(), TrimError> {
    let _one_at_a_time = store.trimming.lock();
    let (old, _) = store.floors_and_head();
    let mut floors = (*old).clone();
    for (channel, place) in gone {
        floors.raise(channel, Floor { to: place.offset, stored_at: place.stored_at });
    }
    let note = |manifest: &mut Manifest| manifest.floors = floors.clone();
    store.change_manifest(note).map_err(|error| unwritten(store, &error))?;
    store.change_catalog(|catalog| catalog.floors = Arc::new(floors));
    Ok(())
}

/// Whether the segment that is written to holds events, but none that is retained.
pub(crate) fn is_active_segment_trimmed(store: &Store) -> bool {
    let segments = store.segments();
    let Some(active) = segments.last() else { return false };
    let (floors, _) = store.floors_and_head();
    active.summary(|summary| {
        summary.events > 0 && summary.channels.iter().all(|(name, channel)| channel.last <= floors.of(name))
    })
}

/// The offset up to which the bounds of the whole log let events go.
fn whole_cut(retention: &RetentionOptions, segments: &[Arc<Segment>], tail: u64) -> u64 {
    let policy = &retention.all;
    let mut cut = policy.max_events.map_or(0, |max| (tail - 1).saturating_sub(max));
    if let Some(max) = policy.max_bytes {
        let mut bytes = 0;
        let mut newest_first = segments.iter().rev();
        // The segment that is written to stays, whatever it holds.
        bytes += newest_first.next().map_or(0, |active| active.bytes());
        for segment in newest_first {
            bytes += segment.bytes();
            if bytes > max {
                cut = cut.max(segment.summary(|summary| summary.last));
                break;
            }
        }
    }
    cut
}

/// The last offset stored before a time; 0 if there is none.
fn last_before(segments: &[Arc<Segment>], oldest: UnixMicros) -> Result<u64, ReadError> {
    let mut last = 0;
    for segment in segments {
        let Some((first, end, last_at)) = segment.summary(|summary| {
            (summary.events > 0).then_some((summary.first, summary.last, summary.last_at))
        }) else {
            continue;
        };
        if last_at < oldest {
            last = end;
            continue;
        }
        return last_before_in(segment, oldest, first).map(|found| found.unwrap_or(last));
    }
    Ok(last)
}

fn last_before_in(segment: &Segment, oldest: UnixMicros, first: u64) -> Result<Option<u64>, ReadError> {
    // The entries before the first young one begin pieces of which only the last may hold young events.
    let piece = segment.sparse(|sparse| {
        let young = sparse.partition_point(|entry| entry.stored_at < oldest);
        let until = sparse.get(young).map_or(u64::MAX, |entry| entry.position);
        young.checked_sub(1).map(|old| (sparse[old].position, until))
    })?;
    let Some((start, until)) = piece else { return Ok(None) };
    let until = until.min(segment.end());
    let mut last = first;
    ids::walk_records(segment, start, until, &mut |record| {
        if record.stored_at < oldest {
            last = record.offset;
        }
    })?;
    Ok(Some(last))
}

/// The offset up to which a channel's own bounds on number and bytes let its events go.
fn channel_cut(
    retention: &RetentionOptions,
    segments: &[Arc<Segment>],
    channel: &Arc<str>,
    state: &ChannelState,
) -> Result<u64, ReadError> {
    let Some(policy) = retention.channels.get(&**channel) else { return Ok(0) };
    let average = (state.bytes / state.events.max(1)).max(1);
    let by_bytes = policy.max_bytes.map(|max| max / average);
    let Some(keep) = policy.max_events.into_iter().chain(by_bytes).min() else { return Ok(0) };
    if state.events <= keep {
        return Ok(0);
    }
    let mut room = keep;
    for segment in segments.iter().rev() {
        let Some(summary) = of_channel(segment, channel) else { continue };
        if summary.events <= room {
            room -= summary.events;
            continue;
        }
        let positions = channel_positions(segment, channel)?;
        let gone = (positions.len() as u64).saturating_sub(room);
        return match gone.checked_sub(1) {
            Some(last) => offset_at(segment, positions[last as usize]),
            None => Ok(0),
        };
    }
    Ok(0)
}

fn of_channel(segment: &Segment, channel: &str) -> Option<ChannelSummary> {
    segment.summary(|summary| summary.channels.get(channel).copied())
}

fn channel_positions(segment: &Segment, channel: &str) -> Result<Vec<u64>, ReadError> {
    segment.positions_of(key_hash(TAG_CHANNEL, channel.as_bytes()))
}

fn offset_at(segment: &Segment, position: u64) -> Result<u64, ReadError> {
    Ok(floor_at(segment, position)?.to)
}

fn floor_at(segment: &Segment, position: u64) -> Result<Floor, ReadError> {
    let read = segment.read_record(position)?;
    let record = segment.decode_record(&read)?;
    Ok(Floor { to: record.offset, stored_at: record.stored_at })
}

/// How many of these records have offsets at or below `cut`.
fn count_up_to(segment: &Segment, positions: &[u64], cut: u64) -> Result<usize, ReadError> {
    let (mut low, mut high) = (0, positions.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if offset_at(segment, positions[middle])? <= cut {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// What a channel loses, and what is left, when events up to an offset go.
struct ChannelTrim {
    /// The newest event that goes.
    floor: Option<Floor>,
    events: u64,
    bytes: u64,
    /// The oldest that stays.
    first: Option<u64>,
}

fn trim_channel(
    segments: &[Arc<Segment>],
    channel: &str,
    old: u64,
    cut: u64,
) -> Result<ChannelTrim, ReadError> {
    let mut trimmed = ChannelTrim { floor: None, events: 0, bytes: 0, first: None };
    for segment in segments {
        let Some(summary) = of_channel(segment, channel) else { continue };
        if summary.last <= old {
            continue;
        }
        if summary.first > cut {
            trimmed.first = Some(summary.first);
            break;
        }
        if summary.first > old && summary.last <= cut {
            trimmed.floor = Some(Floor { to: summary.last, stored_at: summary.last_at });
            trimmed.events += summary.events;
            trimmed.bytes += summary.bytes;
            continue;
        }
        let positions = channel_positions(segment, channel)?;
        let from = if summary.first > old { 0 } else { count_up_to(segment, &positions, old)? };
        let to = count_up_to(segment, &positions, cut)?;
        if to > from {
            trimmed.floor = Some(floor_at(segment, positions[to - 1])?);
            trimmed.events += (to - from) as u64;
            trimmed.bytes += summary.bytes * (to - from) as u64 / summary.events.max(1);
        }
        if let Some(next) = positions.get(to) {
            trimmed.first = Some(offset_at(segment, *next)?);
            break;
        }
    }
    Ok(trimmed)
}

fn raise_floors(
    store: &Store,
    shared: &Shared,
    segments: &[Arc<Segment>],
    cuts: &BTreeMap<Arc<str>, u64>,
) -> Result<u64, TrimError> {
    let (old, _) = store.floors_and_head();
    let mut floors = (*old).clone();
    let mut trims = Vec::new();
    for (channel, cut) in cuts {
        let trimmed = trim_channel(segments, channel, old.of(channel), *cut)?;
        if let Some(floor) = trimmed.floor {
            floors.raise(channel, floor);
            trims.push((channel, trimmed));
        }
    }
    let gone = gone_segments(segments, |channel| floors.of(channel));
    if trims.is_empty() && gone.is_empty() {
        return Ok(0);
    }
    let io = |error: io::Error| unwritten(store, &error);
    for segment in &gone {
        ids::save(store, shared, segment).map_err(io)?;
    }
    // Durable before anything is removed: a reader must be told of what is gone even if we crash in the middle.
    let note = |manifest: &mut Manifest| {
        manifest.floors = floors.clone();
        manifest.next_offset = manifest.next_offset.max(shared.tail());
        gone.iter().for_each(|segment| manifest.note_removed(segment.header.sequence));
    };
    let noted = store.change_manifest(note).or_else(|error| {
        if error.kind() != io::ErrorKind::StorageFull || gone.is_empty() {
            return Err(error);
        }
        // A full disk must not keep us from making room. Indexes can be made again, should we get no further.
        gone.iter()
            .for_each(|segment| drop(store.disk.remove(&segment.path.with_extension(INDEX_EXTENSION))));
        store.change_manifest(note)
    });
    noted.map_err(io)?;
    let events = apply(store, floors, &trims)?;
    remove_files(store, &gone);
    if let Some(observer) = &shared.observer
        && events > 0
    {
        observer.on_trim(events);
    }
    Ok(events)
}

/// Makes a trim visible; returns how many events went.
fn apply(
    store: &Store,
    floors: crate::floors::Floors,
    trims: &[(&Arc<str>, ChannelTrim)],
) -> Result<u64, ReadError> {
    let floors = Arc::new(floors);
    store.change_catalog(|catalog| {
        catalog.floors = floors.clone();
        let mut events = 0;
        for (channel, trimmed) in trims {
            events += trimmed.events;
            let Some(state) = catalog.channels.get_mut(*channel) else { continue };
            let floor = floors.of(channel);
            let first = match trimmed.first {
                // Something was appended to the channel since we looked.
                None if state.last > floor => {
                    let again = trim_channel(&store.segments(), channel, floor, floor)?;
                    again.first.or(Some(state.last))
                }
                known => known,
            };
            match first {
                Some(first) => {
                    state.first = first;
                    state.events = state.events.saturating_sub(trimmed.events);
                    state.bytes = state.bytes.saturating_sub(trimmed.bytes);
                }
                None => drop(catalog.channels.remove(*channel)),
            }
        }
        catalog.find_head();
        Ok(events)
    })
}

/// Full segments in which no event is retained.
fn gone_segments(segments: &[Arc<Segment>], floor_of: impl Fn(&str) -> u64) -> Vec<Arc<Segment>> {
    let full = segments.split_last().map_or(&[][..], |(_, full)| full);
    let is_gone = |segment: &&Arc<Segment>| {
        segment
            .summary(|summary| summary.channels.iter().all(|(name, channel)| channel.last <= floor_of(name)))
    };
    full.iter().filter(is_gone).cloned().collect()
}

fn remove_files(store: &Store, gone: &[Arc<Segment>]) {
    store.drop_segments(|sequence| gone.iter().any(|segment| segment.header.sequence == sequence));
    for segment in gone {
        let index = segment.path.with_extension(INDEX_EXTENSION);
        for path in [&index, &segment.path] {
            match store.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // Removed at the next opening: the manifest says that it is gone.
                    tracing::warn!(%error, file = %path.display(), "a trimmed file was not removed");
                }
                _ => {}
            }
        }
    }
    if !gone.is_empty()
        && let Err(error) = store.disk.sync_dir(&store.dir)
    {
        tracing::warn!(%error, "the removal of trimmed files is not durable");
    }
}

/// What a segment still holds of a channel above its floor.
pub(crate) fn retained_in(
    segment: &Segment,
    channel: &str,
    summary: &ChannelSummary,
    floor: u64,
) -> Result<Option<ChannelState>, ReadError> {
    if summary.last <= floor {
        return Ok(None);
    }
    let ChannelSummary { first, last, events, bytes, .. } = *summary;
    if first > floor {
        return Ok(Some(ChannelState { first, last, events, bytes }));
    }
    let positions = channel_positions(segment, channel)?;
    let gone = count_up_to(segment, &positions, floor)?;
    let Some(position) = positions.get(gone) else { return Ok(None) };
    let left = (positions.len() - gone) as u64;
    let first = offset_at(segment, *position)?;
    Ok(Some(ChannelState { first, last, events: left, bytes: bytes * left / events.max(1) }))
}
