//! Reading along with the stream of changes, for those who watch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use newswire_protocol::UnixMicros;
use tokio::time::sleep;

use super::{Inner, number, scripts};
use crate::meta::{Change, Entry};
use crate::redis::connect::Again;
use crate::redis::follow;
use crate::remote::Sequenced;

/// Between two attempts to read along.
const PAUSE: Duration = Duration::from_millis(200);

/// Shows changes for ever. A lost connection is ridden out; where a change was missed, watches end.
pub(super) async fn read_along(inner: Arc<Inner>) {
    let mut incarnation = String::new();
    loop {
        let reason = read(&inner, &mut incarnation).await;
        inner.watchers.set_live(false);
        tracing::debug!(%reason, "shared state in Redis is not read along");
        sleep(PAUSE).await;
    }
}

/// Reads until something is wrong; returns what.
async fn read(inner: &Inner, incarnation: &mut String) -> String {
    let watchers = &inner.watchers;
    let mut after = watchers.version();
    let (found, newest): (String, u64) = match inner.call(&scripts::OPEN, vec![], Again::Reads).await {
        Ok(found) => found,
        Err(error) => return error.to_string(),
    };
    if newest < after || (!incarnation.is_empty() && *incarnation != found) {
        // Made anew, or without its end.
        after = newest;
        watchers.begin_anew(newest);
    }
    *incarnation = found;
    let followed = follow::follow(&inner.connection, inner.source(), after, inner.timeout).await;
    let mut followed = match followed {
        Ok(followed) => std::pin::pin!(followed),
        Err(error) => return error.to_string(),
    };
    watchers.set_live(true);
    loop {
        match followed.next().await {
            Some(Ok(message)) => {
                let version = message.place.offset;
                let Some((before, change)) = change(&message) else {
                    return format!("change {version} cannot be read");
                };
                if before != after {
                    // Changes in between were removed before they were seen here.
                    watchers.end();
                }
                after = version;
                watchers.show(version, Some(&change));
            }
            Some(Err(error)) => return error.to_string(),
            None => return "it ended".to_owned(),
        }
    }
}

/// A change, and the version of the one before it.
fn change(message: &Sequenced) -> Option<(u64, Change)> {
    let version = message.place.offset;
    let mut parts = message.body.splitn(4, |byte| *byte == b':');
    let before = number(parts.next()?)?;
    let ends = number(parts.next()?)?;
    let length = usize::try_from(number(parts.next()?)?).ok()?;
    let (key, rest) = parts.next()?.split_at_checked(length)?;
    let key = Arc::from(std::str::from_utf8(key).ok()?);
    let change = match rest.split_first()? {
        (b'=', value) => {
            let expires_at = (ends > 0).then_some(UnixMicros(ends));
            let value = Bytes::copy_from_slice(value);
            Change::Put { key, entry: Entry { value, version, expires_at } }
        }
        _ => Change::Deleted { key, version },
    };
    Some((before, change))
}
