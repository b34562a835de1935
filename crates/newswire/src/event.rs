//! A committed event, as readers in this process hold it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use newswire_core::{Batch, EventView};
use newswire_protocol::UnixMicros;
use serde::de::DeserializeOwned;

/// A durable event: a reference into the batch it was committed or read with, shared with everybody who has it.
///
/// Cloning is cheap. Kept, it keeps its whole batch alive (up to some MiB): who collects events for long keeps what
/// [`Event::decode`] gives, or a copy of [`Event::json`].
#[derive(Clone)]
pub struct Event {
    batch: Arc<Batch>,
    index: usize,
}

impl Event {
    /// The event at this index, which must be there.
    pub(crate) fn new(batch: Arc<Batch>, index: usize) -> Self {
        debug_assert!(index < batch.len());
        Self { batch, index }
    }

    fn view(&self) -> EventView<'_> {
        self.batch.get(self.index)
    }

    /// Its position in the log.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.batch.offset(self.index)
    }

    /// Its channel.
    #[must_use]
    pub fn channel(&self) -> &str {
        self.view().channel
    }

    /// Its type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.view().event_type
    }

    /// When the feed stored it; when it happened stands in [`Event::decode`].
    #[must_use]
    pub fn stored_at(&self) -> UnixMicros {
        self.view().stored_at
    }

    /// Who or what said so.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.view().source()
    }

    /// The conversation it belongs to.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.view().correlation_id()
    }

    /// The event that led to it.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.view().causation_id()
    }

    /// The whole event as JSON: the very bytes that every subscriber is sent.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        self.view().json
    }

    /// [`Event::json`] to be kept or sent: shares the memory of the batch.
    #[must_use]
    pub fn json_bytes(&self) -> Bytes {
        self.batch.frames().slice_ref(self.json())
    }

    /// The payload, the text of a JSON object, byte for byte as it was published.
    #[must_use]
    pub fn payload(&self) -> &str {
        self.view().payload()
    }

    /// The payload as a value of yours.
    ///
    /// # Errors
    /// It has another shape.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload())
    }

    /// The whole event with all its fields, by itself.
    ///
    /// # Errors
    /// The stored bytes are no event, which a log that verifies its checksums does not hand out.
    pub fn decode(&self) -> Result<newswire_protocol::Event, serde_json::Error> {
        serde_json::from_slice(self.json())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.json()))
    }
}
