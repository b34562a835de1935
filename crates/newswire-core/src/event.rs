//! Committed events, shared by log, ring and sockets.
//!
//! A batch holds the events of one commit (or of one page read) as one contiguous buffer of WebSocket frames, so
//! that many events leave in one write and nobody encodes them again.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use newswire_protocol::frame::text_header;
use newswire_protocol::{Encoded, UnixMicros};

use crate::meta::{DamagedMeta, EventHead, MetaView, Scalars, move_payload};
use crate::variant::Variant;

/// Committed events in offset order, immutable. Offsets may have holes. Below 4 GiB.
#[derive(Clone, Debug)]
pub struct Batch {
    frames: Bytes,
    /// The heads, wherever each stands in it.
    metas: Bytes,
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    stored_at: UnixMicros,
    frame_end: u32,
    meta_start: u32,
    meta_end: u32,
    /// Bytes of the frame before its JSON.
    header: u8,
}

impl Batch {
    /// Offset of the first event; 0 if there is none.
    pub fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.offset)
    }

    /// Offset of the last event; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.offset)
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the batch keeps alive.
    pub fn footprint(&self) -> usize {
        self.frames.len() + self.metas.len() + size_of_val(&*self.entries) + size_of::<Self>()
    }

    /// The event at this index.
    ///
    /// # Panics
    /// If there is no such event.
    pub fn get(&self, index: usize) -> EventView<'_> {
        let entry = &self.entries[index];
        let frame = &self.frames[self.frame_range(index)];
        let meta = self.meta(index);
        EventView {
            offset: entry.offset,
            stored_at: entry.stored_at,
            channel: meta.channel(),
            event_type: meta.event_type(),
            frame,
            json: &frame[usize::from(entry.header)..],
            meta,
        }
    }

    /// The stored head of the event at this index.
    ///
    /// # Panics
    /// If there is no such event.
    pub fn meta(&self, index: usize) -> MetaView<'_> {
        MetaView::stored(self.meta_bytes(index))
    }

    fn meta_bytes(&self, index: usize) -> &[u8] {
        let entry = &self.entries[index];
        &self.metas[entry.meta_start as usize..entry.meta_end as usize]
    }

    /// The events in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = EventView<'_>> + ExactSizeIterator {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The offset of the event at this index, without looking at the rest.
    pub fn offset(&self, index: usize) -> u64 {
        self.entries[index].offset
    }

    /// When the event at this index was stored, without looking at the rest.
    pub fn stored_at(&self, index: usize) -> UnixMicros {
        self.entries[index].stored_at
    }

    /// The index of the first event beyond `offset`; [`Batch::len`] if there is none.
    pub fn index_after(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset <= offset)
    }

    /// Events at these ascending indexes as a variant shows them, by the same offsets, in a batch of their own.
    pub(crate) fn shown(&self, indexes: impl ExactSizeIterator<Item = usize>, variant: &Variant) -> Self {
        let mut builder = BatchBuilder::with_capacity(indexes.len(), indexes.len() * 256);
        let mut payload = Vec::new();
        for index in indexes {
            let event = self.get(index);
            payload.clear();
            variant.write(&mut payload, event.payload());
            builder.push_shown(self, index, &payload);
        }
        builder.finish()
    }

    /// All frames, in order, without anything between them.
    pub fn frames(&self) -> &Bytes {
        &self.frames
    }

    /// Where the frame of this event stands in [`Batch::frames`].
    pub fn frame_range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].frame_end as usize);
        start..self.entries[index].frame_end as usize
    }

    /// The bytes of this event's frame.
    pub fn frame_len(&self, index: usize) -> usize {
        self.frame_range(index).len()
    }
}

/// One event, read in place without allocation.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// Its position in the log.
    pub offset: u64,
    /// When the server stored it.
    pub stored_at: UnixMicros,
    /// The channel's name.
    pub channel: &'a str,
    /// Its type.
    pub event_type: &'a str,
    /// The whole WebSocket text frame.
    pub frame: &'a [u8],
    /// The event as JSON, UTF-8.
    pub json: &'a [u8],
    meta: MetaView<'a>,
}

impl<'a> EventView<'a> {
    /// Canonical bytes of what the filter key `agent` compares.
    pub fn agents(&self) -> Scalars<'a> {
        self.meta.agents()
    }

    /// Canonical bytes of what the filter key `project` compares.
    pub fn projects(&self) -> Scalars<'a> {
        self.meta.projects()
    }

    /// The envelope's `source`.
    pub fn source(&self) -> Option<&'a str> {
        self.meta.source()
    }

    /// The envelope's `correlation_id`.
    pub fn correlation_id(&self) -> Option<&'a str> {
        self.meta.correlation_id()
    }

    /// The envelope's `causation_id`.
    pub fn causation_id(&self) -> Option<&'a str> {
        self.meta.causation_id()
    }

    /// The payload, a JSON object; `{}` where stored bytes do not hold one.
    pub fn payload(&self) -> &'a str {
        self.json.get(self.meta.payload()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("{}")
    }
}

/// Puts a batch together. Events must come in ascending offset order.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    frames: Vec<u8>,
    metas: Vec<u8>,
    entries: Vec<Entry>,
}

impl BatchBuilder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with room for so many events and bytes of frames.
    pub fn with_capacity(events: usize, frame_bytes: usize) -> Self {
        Self {
            frames: Vec::with_capacity(frame_bytes),
            metas: Vec::with_capacity(events * 64),
            entries: Vec::with_capacity(events),
        }
    }

    /// Adds an event that is being stored: frames it and fills in its offset. Returns where its frame stands in
    /// [`BatchBuilder::frames`] and its head in [`BatchBuilder::metas`], for a log that writes them.
    pub fn push_encoded(
        &mut self,
        offset: u64,
        stored_at: UnixMicros,
        head: &EventHead,
        encoded: &Encoded,
    ) -> (Range<usize>, Range<usize>) {
        let starts = (self.frames.len(), self.metas.len());
        let (before, behind) = encoded.json.split_at(encoded.offset_at);
        let header_len = encode_frame(&mut self.frames, offset, before, behind);
        head.encode_meta(&mut self.metas);
        self.end_event(offset, stored_at, header_len, starts.1);
        (starts.0..self.frames.len(), starts.1..self.metas.len())
    }

    /// Adds an event as it was stored: copies its head and its frame.
    ///
    /// # Errors
    /// [`DamagedMeta`] if head or frame header cannot be what [`BatchBuilder::push_encoded`] made; then nothing is
    /// added.
    pub fn push_stored(
        &mut self,
        offset: u64,
        stored_at: UnixMicros,
        meta: &[u8],
        frame: &[u8],
    ) -> Result<(), DamagedMeta> {
        MetaView::decode(meta)?;
        let header_len = header_len(frame).ok_or(DamagedMeta)?;
        let meta_start = self.metas.len();
        self.frames.extend_from_slice(frame);
        self.metas.extend_from_slice(meta);
        self.end_event(offset, stored_at, header_len, meta_start);
        Ok(())
    }

    /// Adds an event of another batch.
    pub fn push_event(&mut self, batch: &Batch, index: usize) {
        let entry = batch.entries[index];
        let meta_start = self.metas.len();
        self.frames.extend_from_slice(&batch.frames[batch.frame_range(index)]);
        self.metas.extend_from_slice(batch.meta_bytes(index));
        self.end_event(entry.offset, entry.stored_at, entry.header, meta_start);
    }

    /// Adds an event of another batch with this payload in place of its own.
    fn push_shown(&mut self, batch: &Batch, index: usize, payload: &[u8]) {
        let (entry, event) = (batch.entries[index], batch.get(index));
        let own = event.meta.payload();
        let (before, behind) = match (event.json.get(..own.start), event.json.get(own.end..)) {
            (Some(before), Some(behind)) if own.start <= own.end => (before, behind),
            // What is damaged is not shown.
            _ => (&b"{}"[..], &b""[..]),
        };
        let payload = if before == b"{}" { b"" } else { payload };
        let (header, header_len) = text_header(before.len() + payload.len() + behind.len());
        for part in [&header[..header_len], before, payload, behind] {
            self.frames.extend_from_slice(part);
        }
        let meta_start = self.metas.len();
        let at = u32::try_from(before.len()).expect("an event is bounded far below 4 GiB");
        let end = at + u32::try_from(payload.len()).expect("an event is bounded far below 4 GiB");
        self.metas.extend_from_slice(batch.meta_bytes(index));
        move_payload(&mut self.metas[meta_start..], at..end);
        let header = u8::try_from(header_len).expect("a frame header has at most ten bytes");
        self.end_event(entry.offset, entry.stored_at, header, meta_start);
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The frames so far.
    pub fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The stored heads so far.
    pub fn metas(&self) -> &[u8] {
        &self.metas
    }

    /// The batch.
    pub fn finish(self) -> Batch {
        Batch { frames: self.frames.into(), metas: self.metas.into(), entries: self.entries.into() }
    }

    fn end_event(&mut self, offset: u64, stored_at: UnixMicros, header: u8, meta_start: usize) {
        let (frame_end, meta) = (self.frames.len(), meta_start..self.metas.len());
        add_entry(&mut self.entries, offset, stored_at, header, frame_end, meta);
    }
}

/// A batch whose bytes already lie where they stay, so that nothing is copied: frames without anything between them, and
/// heads anywhere in a second piece, in any distance. Events must come in ascending offset order.
#[derive(Debug, Default)]
pub struct PlacedBatch {
    entries: Vec<Entry>,
    frames_len: usize,
}

impl PlacedBatch {
    /// An empty one with room for so many events.
    pub fn with_capacity(events: usize) -> Self {
        Self { entries: Vec::with_capacity(events), frames_len: 0 }
    }

    /// Adds an event whose frame follows the last one's directly, and whose head stands at `meta` of the piece that holds
    /// the heads. The head is not looked at: whoever pushes made it or has verified a checksum of it, and a reader of the
    /// batch takes a head that is none for one of an event without a channel.
    ///
    /// # Errors
    /// [`DamagedMeta`] if the frame's header cannot be what [`encode_frame`] made; then nothing is added.
    pub fn push(
        &mut self,
        offset: u64,
        stored_at: UnixMicros,
        meta: Range<usize>,
        frame: &[u8],
    ) -> Result<(), DamagedMeta> {
        let header = header_len(frame).ok_or(DamagedMeta)?;
        self.frames_len += frame.len();
        add_entry(&mut self.entries, offset, stored_at, header, self.frames_len, meta);
        Ok(())
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The batch over the bytes that [`PlacedBatch::push`] was shown.
    ///
    /// # Panics
    /// If the pieces are not as long as what was pushed.
    pub fn finish(self, frames: Bytes, metas: Bytes) -> Batch {
        assert_eq!(frames.len(), self.frames_len, "the frames that were pushed");
        let metas_end = self.entries.iter().map(|entry| entry.meta_end as usize).max().unwrap_or(0);
        assert!(metas_end <= metas.len(), "the heads that were pushed");
        Batch { frames, metas, entries: self.entries.into() }
    }
}

fn add_entry(
    entries: &mut Vec<Entry>,
    offset: u64,
    stored_at: UnixMicros,
    header: u8,
    frame_end: usize,
    meta: Range<usize>,
) {
    debug_assert!(entries.last().is_none_or(|before| before.offset < offset), "offsets must ascend");
    let narrow =
        |length: usize| u32::try_from(length).expect("whoever builds batches keeps them far below 4 GiB");
    let (frame_end, meta_start, meta_end) = (narrow(frame_end), narrow(meta.start), narrow(meta.end));
    entries.push(Entry { offset, stored_at, frame_end, meta_start, meta_end, header });
}

/// Bytes before the JSON of a frame that can be one of [`encode_frame`].
pub fn frame_header_len(frame: &[u8]) -> Option<usize> {
    header_len(frame).map(usize::from)
}

fn header_len(frame: &[u8]) -> Option<u8> {
    let len = match frame.get(1)? {
        0..=125 => 2,
        126 => 4,
        127 => 10,
        _ => return None,
    };
    (frame.len() >= usize::from(len)).then_some(len)
}

/// Appends the WebSocket frame of an event that is being stored: its JSON, with its offset between the two parts. Returns
/// the bytes of the frame before the JSON.
pub fn encode_frame(out: &mut Vec<u8>, offset: u64, before: &[u8], behind: &[u8]) -> u8 {
    let mut digits = [0; 20];
    let digits = decimal(offset, &mut digits);
    let (header, header_len) = text_header(before.len() + digits.len() + behind.len());
    for part in [&header[..header_len], before, digits, behind] {
        out.extend_from_slice(part);
    }
    u8::try_from(header_len).expect("a frame header has at most ten bytes")
}

fn decimal(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(number % 10).expect("a remainder of ten is a digit");
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

/// Events of one batch that somebody wants, in offset order, at least one.
#[derive(Clone, Debug)]
pub struct Run {
    /// Shared with everybody who wants any of them.
    pub batch: Arc<Batch>,
    /// Which of them.
    pub picks: Picks,
}

/// Indexes of events in a batch, ascending. Shared between subscribers who want the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picks {
    /// Every event.
    All,
    /// These.
    Some(Arc<[u32]>),
}

impl Run {
    /// Every event of the batch.
    pub fn all(batch: Arc<Batch>) -> Self {
        Self { batch, picks: Picks::All }
    }

    /// The events for which `wanted` holds; `None` if there is none.
    pub fn matching(batch: &Arc<Batch>, mut wanted: impl FnMut(&EventView<'_>) -> bool) -> Option<Self> {
        let picked: Vec<u32> = (0..batch.len())
            .filter(|&index| wanted(&batch.get(index)))
            .map(|index| u32::try_from(index).expect("a batch below 4 GiB has fewer events than that"))
            .collect();
        Self::of_indexes(batch, &picked)
    }

    /// The events at these ascending indexes; `None` if there is none.
    pub fn of_indexes(batch: &Arc<Batch>, picked: &[u32]) -> Option<Self> {
        match picked.len() {
            0 => None,
            all if all == batch.len() => Some(Self::all(Arc::clone(batch))),
            _ => Some(Self { batch: Arc::clone(batch), picks: Picks::Some(picked.into()) }),
        }
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        match &self.picks {
            Picks::All => self.batch.len(),
            Picks::Some(picked) => picked.len(),
        }
    }

    /// Whether there is no event; runs in use have at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index in the batch of the n-th event of the run.
    pub fn index(&self, nth: usize) -> usize {
        match &self.picks {
            Picks::All => nth,
            Picks::Some(picked) => picked[nth] as usize,
        }
    }

    /// The events in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = EventView<'_>> + ExactSizeIterator {
        (0..self.len()).map(|nth| self.batch.get(self.index(nth)))
    }

    /// The same events, in the same order, as a variant shows them.
    #[must_use]
    pub fn shown(self, variant: &Variant) -> Self {
        if *variant == Variant::Full {
            return self;
        }
        let picked: Vec<usize> = (0..self.len()).map(|nth| self.index(nth)).collect();
        let mut ascending = picked.clone();
        ascending.sort_unstable();
        let batch = Arc::new(self.batch.shown(ascending.iter().copied(), variant));
        let place = |index: &usize| {
            let at = ascending.binary_search(index).expect("it was picked");
            u32::try_from(at).expect("picks are 32 bits wide")
        };
        let picks =
            if picked == ascending { Picks::All } else { Picks::Some(picked.iter().map(place).collect()) };
        Self { batch, picks }
    }

    /// Bytes of the frames.
    pub fn bytes(&self) -> usize {
        match &self.picks {
            Picks::All => self.batch.frames.len(),
            Picks::Some(picked) => picked.iter().map(|&index| self.batch.frame_len(index as usize)).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use newswire_protocol::{Draft, Limits, Scalar};

    fn build(events: &[(u64, &str)]) -> Batch {
        let mut builder = BatchBuilder::new();
        for (offset, text) in events {
            let draft = Draft::parse(text, &Limits::default()).unwrap();
            let encoded = draft.encode("id-1", UnixMicros(7));
            builder.push_encoded(*offset, UnixMicros(*offset), &EventHead::of(&draft, &encoded), &encoded);
        }
        builder.finish()
    }

    #[test]
    fn events_are_framed_once_and_read_in_place() {
        let large = format!(
            r#"{{"channel":"agents","event_type":"agent.hired","source":"s","payload":{{"agent":"a","project":1.0,"x":"{}"}}}}"#,
            "y".repeat(300)
        );
        let batch = build(&[(9, r#"{"channel":"tasks","event_type":"t"}"#), (12, &large)]);
        assert_eq!((batch.first(), batch.last(), batch.len()), (9, 12, 2));
        let (small, large) = (batch.get(0), batch.get(1));
        assert_eq!((small.channel, small.event_type, small.payload()), ("tasks", "t", "{}"));
        assert_eq!(small.frame.len(), small.json.len() + if small.json.len() < 126 { 2 } else { 4 });
        assert_eq!((large.source(), large.stored_at), (Some("s"), UnixMicros(12)));
        assert_eq!(large.agents().collect::<Vec<_>>(), [Scalar::string("a").as_bytes()]);
        assert_eq!(large.projects().collect::<Vec<_>>(), [Scalar::number("1").unwrap().as_bytes()]);
        assert_eq!(large.frame[0], 0x81);
        assert!(large.payload().starts_with(r#"{"agent":"a","project":1.0"#));
        let parsed: serde_json::Value = serde_json::from_slice(large.json).unwrap();
        assert_eq!((&parsed["offset"], &parsed["version"]), (&12.into(), &1.into()));
        assert_eq!([small.frame, large.frame].concat(), batch.frames()[..]);
        assert_eq!((batch.index_after(8), batch.index_after(9), batch.index_after(12)), (0, 1, 2));
    }

    #[test]
    fn stored_events_make_the_same_batch() {
        let draft = Draft::parse(r#"{"channel":"tasks","event_type":"t"}"#, &Limits::default()).unwrap();
        let encoded = draft.encode("id", UnixMicros(1));
        let mut builder = BatchBuilder::new();
        let (frame, meta) =
            builder.push_encoded(3, UnixMicros(4), &EventHead::of(&draft, &encoded), &encoded);
        let (frame, meta) = (builder.frames()[frame].to_vec(), builder.metas()[meta].to_vec());
        let mut again = BatchBuilder::new();
        again.push_stored(3, UnixMicros(4), &meta, &frame).unwrap();
        assert_eq!(again.push_stored(4, UnixMicros(4), &meta[1..], &frame), Err(DamagedMeta));
        assert_eq!(again.push_stored(4, UnixMicros(4), &meta, &frame[..1]), Err(DamagedMeta));
        let (batch, again) = (builder.finish(), again.finish());
        assert_eq!((batch.frames(), &batch.metas, again.len()), (again.frames(), &again.metas, 1));
        let mut copied = BatchBuilder::new();
        copied.push_event(&batch, 0);
        assert_eq!(copied.finish().get(0).json, batch.get(0).json);
    }

    #[test]
    fn offsets_are_written_in_decimal() {
        for number in [0, 9, 10, 1234, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn runs_pick_in_order() {
        let event = r#"{"channel":"tasks","event_type":"t"}"#;
        let batch = Arc::new(build(&[(1, event), (2, event), (5, event)]));
        let run = Run::matching(&batch, |event| event.offset != 2).unwrap();
        assert_eq!(run.iter().map(|event| event.offset).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(run.bytes(), batch.frame_len(0) + batch.frame_len(2));
        assert_eq!(Run::matching(&batch, |_| true).unwrap().picks, Picks::All);
        assert!(Run::matching(&batch, |_| false).is_none());
    }
}
