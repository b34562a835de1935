//! The bucket itself: how it has to be, a look at one key, a change of one key.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, Stream,
};
use async_nats::{HeaderMap, header};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::record;
use crate::clock::Clock;
use crate::jetstream::connect::Connection;
use crate::jetstream::options::JetStreamOptions;
use crate::jetstream::{append, patiently};
use crate::meta::{Entry, Expect, MetaError};
use crate::remote::SequenceError;

/// Versions of one key that the bucket keeps: while a node reads along it may be so many behind.
pub(super) const HISTORY: i64 = 64;
/// How long marks of deletions stay, so that whoever was cut off for less sees them.
const MARKS_STAY: Duration = Duration::from_secs(600);
/// How long the server keeps what has expired: clocks of nodes may differ.
const EXPIRED_STAYS: Duration = Duration::from_secs(60);
/// The server answers for so long about a message that is sent again.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Keys that are read at once for a list.
const READS: usize = 64;

pub(super) struct Bucket {
    pub(super) connection: Connection,
    pub(super) stream: Stream,
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    /// `$KV.<bucket>.`
    pub(super) prefix: String,
}

/// What stands in the bucket at a key.
pub(super) struct Found {
    /// 0 if nothing stands there, not even a mark.
    pub(super) revision: u64,
    /// What is live.
    pub(super) entry: Option<Entry>,
}

/// The name of the bucket beside a stream.
pub(super) fn name(options: &JetStreamOptions) -> String {
    format!("{}-meta", options.stream)
}

/// How it has to be: as the tools of NATS make a bucket, but read only where it is surely new.
pub(super) fn config(options: &JetStreamOptions) -> Config {
    let name = name(options);
    Config {
        subjects: vec![format!("$KV.{name}.>")],
        name: format!("KV_{name}"),
        description: Some("The shared state of Newswire".to_owned()),
        storage: super::super::stream::storage(options),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        num_replicas: options.replicas,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: HISTORY,
        duplicate_window: DUPLICATE_WINDOW,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: false,
        allow_message_ttl: true,
        // How long the server's own marks stay, of what it removed; it lets no message live shorter than these.
        subject_delete_marker_ttl: Some(EXPIRED_STAYS),
        ..Config::default()
    }
}

impl Bucket {
    /// What the leader of the bucket has.
    pub(super) async fn look(&self, stored: &str) -> Result<Found, MetaError> {
        let subject = format!("{}{stored}", self.prefix);
        let (stream, subject) = (&self.stream, subject.as_str());
        let ask = || async move {
            match stream.get_last_raw_message_by_subject(subject).await {
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                asked => asked.map(Some),
            }
        };
        let message = patiently(self.timeout, ask).await.map_err(failed)?;
        let Some(message) = message else { return Ok(Found { revision: 0, entry: None }) };
        let entry = record::entry(Some(&message.headers), &message.payload, message.sequence);
        Ok(Found { revision: message.sequence, entry: entry.filter(|entry| self.is_live(entry)) })
    }

    fn is_live(&self, entry: &Entry) -> bool {
        entry.expires_at.is_none_or(|at| at > self.clock.now())
    }

    /// Writes if the bucket is at this revision of the key (0: nothing), or in any case without one; returns the revision,
    /// `None` if it is at another.
    pub(super) async fn write(
        &self,
        stored: &str,
        expected: Option<u64>,
        change: Write<'_>,
    ) -> Result<Option<u64>, MetaError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_ID, uuid::Uuid::new_v4().simple().to_string());
        if let Some(expected) = expected {
            headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        let (stays, body) = match change {
            Write::Put(value, ttl) => {
                let expires_at = ttl.map(|ttl| self.clock.now().saturating_add(ttl));
                (ttl.map(|ttl| ttl.saturating_add(EXPIRED_STAYS)), record::value(expires_at, value))
            }
            Write::Delete => {
                headers.insert("KV-Operation", "DEL");
                (Some(MARKS_STAY), Bytes::new())
            }
        };
        // One that is so far off that the server cannot count it is as good as none.
        if let Some(stays) = stays.filter(|stays| stays.as_secs() < u64::from(u32::MAX)) {
            headers.insert(header::NATS_MESSAGE_TTL, format!("{}s", stays.as_secs().max(1)));
        }
        let subject = format!("{}{stored}", self.prefix);
        let published = append::publish(&self.connection, &subject, &headers, &body, self.timeout).await;
        Ok(published.map_err(failed)?.map(|ack| ack.seq))
    }

    /// All that is live under a prefix, sorted. Each entry is as it was at some moment of the call.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<(Arc<str>, Entry)>, MetaError> {
        let beginning = format!("{}{}", self.prefix, record::beginning(prefix));
        let (bucket, subjects) = (&self.stream, beginning.as_str());
        let ask = || async move {
            let subjects = bucket.info_with_subjects(subjects).await?;
            subjects.map_ok(|(subject, _)| subject).try_collect::<Vec<String>>().await
        };
        let subjects = patiently(self.timeout, ask).await.map_err(failed)?;
        let meant = subjects.into_iter().filter_map(|subject| {
            let stored = subject.strip_prefix(&self.prefix)?;
            let key = record::key_of(stored)?;
            key.starts_with(prefix).then(|| (key, stored.to_owned()))
        });
        let read = meant.map(|(key, stored)| async move {
            let found = self.look(&stored).await?;
            Ok(found.entry.map(|entry| (Arc::from(key), entry)))
        });
        let found = stream::iter(read.collect::<Vec<_>>()).buffer_unordered(READS);
        let found: Vec<Option<(Arc<str>, Entry)>> = found.try_collect().await?;
        let mut entries: Vec<_> = found.into_iter().flatten().collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(entries)
    }
}

/// A change of one key.
#[derive(Clone, Copy)]
pub(super) enum Write<'a> {
    /// A value, and how long it is to live.
    Put(&'a [u8], Option<Duration>),
    Delete,
}

pub(super) fn check(expect: Expect, found: &Found) -> Result<(), MetaError> {
    expect.check(found.entry.as_ref().map(|entry| entry.version))
}

#[allow(clippy::needless_pass_by_value, reason = "it stands where results are mapped")]
pub(super) fn failed(error: SequenceError) -> MetaError {
    MetaError::Storage { error: error.to_string().into() }
}
