//! Reading along with the bucket, for those who watch it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime::DateTime;
use futures_util::StreamExt;
use tokio::time::sleep;

use super::bucket::Bucket;
use super::record;
use crate::jetstream::follow::{self, Followed};
use crate::meta::Change;
use crate::meta::watchers::Watchers;

/// Between two attempts to read along.
const PAUSE: Duration = Duration::from_millis(200);

/// Shows changes for ever. A lost connection is ridden out; where a change was missed, watches end.
pub(super) async fn read_along(bucket: Arc<Bucket>, watchers: Arc<Watchers>) {
    let mut created = bucket.stream.cached_info().created;
    loop {
        let reason = read(&bucket, &watchers, &mut created).await;
        watchers.set_live(false);
        tracing::debug!(%reason, "shared state in NATS is not read along");
        sleep(PAUSE).await;
    }
}

/// Reads until something is wrong; returns what.
async fn read(bucket: &Bucket, watchers: &Watchers, created: &mut DateTime) -> String {
    let mut after = watchers.version();
    match bucket.stream.get_info().await {
        Err(error) => return error.to_string(),
        Ok(info) if info.created != *created || info.state.last_sequence < after => {
            // Another bucket, or one that lost its end.
            *created = info.created;
            after = info.state.last_sequence;
            watchers.begin_anew(after);
        }
        Ok(_) => {}
    }
    let followed = follow::follow(&bucket.connection, &bucket.stream, after, bucket.timeout).await;
    let mut followed = match followed {
        Ok(followed) => std::pin::pin!(followed),
        Err(error) => return error.to_string(),
    };
    watchers.set_live(true);
    loop {
        match followed.next().await {
            Some(Ok(followed)) => take(bucket, watchers, &mut after, &followed),
            Some(Err(error)) => return error.to_string(),
            None => return "it ended".to_owned(),
        }
    }
}

fn take(bucket: &Bucket, watchers: &Watchers, after: &mut u64, followed: &Followed) {
    let revision = followed.place.offset;
    if revision != *after + 1 {
        // Versions in between were removed before they were seen here.
        watchers.end();
    }
    *after = revision;
    let message = &followed.message;
    let key = message.subject.strip_prefix(&bucket.prefix).and_then(record::key_of);
    let change = key.map(|key| match record::entry(message.headers.as_ref(), &message.payload, revision) {
        Some(entry) => Change::Put { key: key.into(), entry },
        None => Change::Deleted { key: key.into(), version: revision },
    });
    watchers.show(revision, change.as_ref());
}
