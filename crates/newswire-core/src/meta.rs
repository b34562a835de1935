//! What is known of an event beside its bytes: channel, type and filter keys, in a compact stored form.

use std::ops::Range;

use newswire_protocol::{Draft, Encoded, Scalar};

/// What filters and indexes read of one event; made once when it is published and stored beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHead {
    /// A channel name, at most 128 bytes.
    pub channel: String,
    /// Its type, at most 128 bytes.
    pub event_type: String,
    /// What the filter key `agent` compares.
    pub agents: Vec<Scalar>,
    /// What the filter key `project` compares.
    pub projects: Vec<Scalar>,
    /// The envelope's `source`.
    pub source: Option<String>,
    /// The envelope's `correlation_id`.
    pub correlation_id: Option<String>,
    /// The envelope's `causation_id`.
    pub causation_id: Option<String>,
    /// Where the payload stands in the event's JSON.
    pub payload: Range<u32>,
}

const SOURCE: u8 = 1;
const CORRELATION: u8 = 2;
const CAUSATION: u8 = 4;
/// Flags, lengths of channel and type, counts of agents and projects, start and end of the payload.
const FIXED: usize = 5 + 8;

impl EventHead {
    /// The head of an event that is about to be stored.
    pub fn of(draft: &Draft, encoded: &Encoded) -> Self {
        let routing = draft.routing();
        Self {
            channel: draft.channel.clone(),
            event_type: draft.event_type.clone(),
            agents: routing.agents,
            projects: routing.projects,
            source: draft.source.clone(),
            correlation_id: draft.correlation_id.clone(),
            causation_id: draft.causation_id.clone(),
            payload: narrow(encoded.payload.start)..narrow(encoded.payload.end),
        }
    }

    /// Appends the stored form, which [`MetaView::decode`] reads. All numbers are little-endian:
    ///
    /// | bytes | what |
    /// | --- | --- |
    /// | 1 | flags: 1 source, 2 correlation id, 4 causation id follow |
    /// | 1, 1 | length of the channel, of the type |
    /// | 1, 1 | number of agents, of projects |
    /// | 4, 4 | start and end of the payload in the JSON |
    /// | … | channel, type |
    /// | 2 + … each | agents, then projects: canonical scalars |
    /// | 4 + … each | the strings that the flags name |
    pub fn encode_meta(&self, out: &mut Vec<u8>) {
        let optional =
            [(SOURCE, &self.source), (CORRELATION, &self.correlation_id), (CAUSATION, &self.causation_id)];
        let flags =
            optional.iter().filter(|(_, text)| text.is_some()).fold(0, |flags, (flag, _)| flags | flag);
        out.push(flags);
        out.push(byte(self.channel.len()));
        out.push(byte(self.event_type.len()));
        out.push(byte(self.agents.len()));
        out.push(byte(self.projects.len()));
        out.extend_from_slice(&self.payload.start.to_le_bytes());
        out.extend_from_slice(&self.payload.end.to_le_bytes());
        out.extend_from_slice(self.channel.as_bytes());
        out.extend_from_slice(self.event_type.as_bytes());
        for scalar in self.agents.iter().chain(&self.projects) {
            let length =
                u16::try_from(scalar.as_bytes().len()).expect("a routing value has at most 256 characters");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(scalar.as_bytes());
        }
        for text in optional.iter().filter_map(|(_, text)| text.as_deref()) {
            out.extend_from_slice(&narrow(text.len()).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Writes into a stored head where the payload stands.
pub(crate) fn move_payload(stored: &mut [u8], payload: Range<u32>) {
    if let Some(fixed) = stored.first_chunk_mut::<FIXED>() {
        fixed[5..9].copy_from_slice(&payload.start.to_le_bytes());
        fixed[9..13].copy_from_slice(&payload.end.to_le_bytes());
    }
}

fn byte(length: usize) -> u8 {
    u8::try_from(length).expect("names and routing counts are bounded far below 256")
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("an event is bounded far below 4 GiB")
}

/// The stored form of a head is damaged or of another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored head of an event is damaged")]
pub struct DamagedMeta;

/// A stored head, read in place.
#[derive(Clone, Copy, Debug)]
pub struct MetaView<'a> {
    channel: &'a str,
    event_type: &'a str,
    flags: u8,
    agent_count: u8,
    project_count: u8,
    payload: (u32, u32),
    /// Agents and projects, then the optional strings, each behind its length.
    rest: &'a [u8],
}

impl<'a> MetaView<'a> {
    /// Reads a stored head. Whatever the bytes, it returns; and what it returns can be read without further checks.
    ///
    /// # Errors
    /// [`DamagedMeta`] where a length leads out of the bytes, text is not UTF-8, or bytes are left over.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DamagedMeta> {
        let view = Self::read(bytes).ok_or(DamagedMeta)?;
        let mut left = view.strings().ok_or(DamagedMeta)?;
        for _ in 0..view.flags.count_ones() {
            let text = take_long(&mut left).ok_or(DamagedMeta)?;
            std::str::from_utf8(text).map_err(|_| DamagedMeta)?;
        }
        let known = view.flags <= (SOURCE | CORRELATION | CAUSATION);
        if left.is_empty() && known && view.payload.0 <= view.payload.1 { Ok(view) } else { Err(DamagedMeta) }
    }

    /// Reads a head whose checksum was verified, or that was made in this process, without looking through its lists:
    /// matching events against filters reads each head many times. One that is no head all the same is that of an event
    /// without a channel, which nobody subscribes to by name.
    pub(crate) fn stored(bytes: &'a [u8]) -> Self {
        const NONE: MetaView<'static> = MetaView {
            channel: "",
            event_type: "",
            flags: 0,
            agent_count: 0,
            project_count: 0,
            payload: (0, 0),
            rest: &[],
        };
        Self::read(bytes).unwrap_or(NONE)
    }

    /// Reads the fixed part, channel and type.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>()?;
        let [flags, channel, event_type, agent_count, project_count, s0, s1, s2, s3, e0, e1, e2, e3] = *fixed;
        let (channel, rest) = rest.split_at_checked(channel.into())?;
        let (event_type, rest) = rest.split_at_checked(event_type.into())?;
        Some(Self {
            channel: std::str::from_utf8(channel).ok()?,
            event_type: std::str::from_utf8(event_type).ok()?,
            flags,
            agent_count,
            project_count,
            payload: (u32::from_le_bytes([s0, s1, s2, s3]), u32::from_le_bytes([e0, e1, e2, e3])),
            rest,
        })
    }

    /// The channel's name.
    pub fn channel(&self) -> &'a str {
        self.channel
    }

    /// The event's type.
    pub fn event_type(&self) -> &'a str {
        self.event_type
    }

    /// Canonical bytes of what the filter key `agent` compares.
    pub fn agents(&self) -> Scalars<'a> {
        Scalars { left: self.agent_count, bytes: self.rest }
    }

    /// Canonical bytes of what the filter key `project` compares.
    pub fn projects(&self) -> Scalars<'a> {
        let mut agents = self.agents();
        while agents.next().is_some() {}
        Scalars { left: self.project_count, bytes: agents.bytes }
    }

    /// The envelope's `source`.
    pub fn source(&self) -> Option<&'a str> {
        self.string(SOURCE)
    }

    /// The envelope's `correlation_id`.
    pub fn correlation_id(&self) -> Option<&'a str> {
        self.string(CORRELATION)
    }

    /// The envelope's `causation_id`.
    pub fn causation_id(&self) -> Option<&'a str> {
        self.string(CAUSATION)
    }

    /// Where the payload stands in the event's JSON.
    pub fn payload(&self) -> Range<usize> {
        self.payload.0 as usize..self.payload.1 as usize
    }

    /// What stands behind the lists.
    fn strings(&self) -> Option<&'a [u8]> {
        let mut bytes = self.rest;
        for _ in 0..u16::from(self.agent_count) + u16::from(self.project_count) {
            take_short(&mut bytes)?;
        }
        Some(bytes)
    }

    fn string(&self, flag: u8) -> Option<&'a str> {
        if self.flags & flag == 0 {
            return None;
        }
        let mut bytes = self.strings()?;
        for _ in 0..(self.flags & (flag - 1)).count_ones() {
            take_long(&mut bytes)?;
        }
        std::str::from_utf8(take_long(&mut bytes)?).ok()
    }
}

/// Canonical scalars of a stored head, in the order of the payload.
#[derive(Clone, Copy, Debug)]
pub struct Scalars<'a> {
    left: u8,
    bytes: &'a [u8],
}

impl<'a> Iterator for Scalars<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        take_short(&mut self.bytes)
    }
}

/// Takes bytes behind a two-byte length.
fn take_short<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (taken, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    *bytes = rest;
    Some(taken)
}

/// Takes bytes behind a four-byte length.
fn take_long<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (taken, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> EventHead {
        EventHead {
            channel: "tasks".into(),
            event_type: "task.created".into(),
            agents: vec![Scalar::string("sarah"), Scalar::bool(true)],
            projects: vec![Scalar::string("p1")],
            source: Some("sögar".into()),
            correlation_id: None,
            causation_id: Some("c".repeat(70_000)),
            payload: 7..90,
        }
    }

    fn encoded(head: &EventHead) -> Vec<u8> {
        let mut bytes = Vec::new();
        head.encode_meta(&mut bytes);
        bytes
    }

    #[test]
    fn a_head_is_read_back() {
        let bytes = encoded(&head());
        let view = MetaView::decode(&bytes).unwrap();
        assert_eq!((view.channel(), view.event_type()), ("tasks", "task.created"));
        assert_eq!(view.agents().collect::<Vec<_>>(), [b"ssarah".as_slice(), b"btrue"]);
        assert_eq!(view.projects().collect::<Vec<_>>(), [b"sp1"]);
        assert_eq!((view.source(), view.correlation_id()), (Some("sögar"), None));
        assert_eq!(view.causation_id().map(str::len), Some(70_000));
        assert_eq!(view.payload(), 7..90);
    }

    #[test]
    fn truncated_and_flipped_bytes_never_panic_and_short_ones_are_refused() {
        let bytes = encoded(&EventHead { causation_id: Some("c1".into()), ..head() });
        for length in 0..bytes.len() {
            assert_eq!(MetaView::decode(&bytes[..length]).unwrap_err(), DamagedMeta, "{length}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(view) = MetaView::decode(&flipped) {
                    let _ = (view.agents().count(), view.projects().count(), view.source(), view.payload());
                    let _ = (view.correlation_id(), view.causation_id(), view.channel(), view.event_type());
                }
            }
        }
        assert!(MetaView::decode(&[&bytes[..], b"x"].concat()).is_err());
    }
}
