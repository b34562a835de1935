//! Removing the oldest: every node does it, each time in one piece.

use std::sync::Weak;
use std::time::Duration;

use super::connect::Again;
use super::{Inner, scripts};
use crate::remote::SequenceError;

/// How often.
const PERIOD: Duration = Duration::from_secs(1);
/// What goes in one piece, so that Redis serves others in between.
const AT_ONCE: u64 = 10_000;

/// Goes on until the engine's last handle is dropped.
pub(super) async fn run(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = trim(&inner).await {
            tracing::debug!(%error, "nothing was removed from the stream in Redis");
        }
    }
}

/// Removes what is beyond the bounds now.
pub(super) async fn trim(inner: &Inner) -> Result<(), SequenceError> {
    let bounds = inner.options.retention;
    let age = bounds.max_age.map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(0));
    let numbers = [age, bounds.max_bytes.unwrap_or(0), bounds.max_events.unwrap_or(0), AT_ONCE];
    let numbers = numbers.map(|number| number.to_string());
    loop {
        let args = numbers.iter().map(String::as_bytes).collect();
        let gone: u64 = inner.ask(&scripts::TRIM, None, args, Again::Reads).await?;
        if gone < AT_ONCE {
            return Ok(());
        }
    }
}
