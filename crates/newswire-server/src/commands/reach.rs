//! Asking a server that may not be there yet.

use std::time::Duration;

use newswire_client::{Backoff, RequestError};

/// Asks until the server can be reached; `waiting` is told the reason and the wait before each further attempt. What the
/// server then answers is the result, be it a refusal.
pub(crate) async fn until_reached<T>(
    mut ask: impl AsyncFnMut() -> Result<T, RequestError>,
    mut waiting: impl FnMut(&str, Duration),
) -> Result<T, RequestError> {
    let mut backoff = Backoff::default();
    let mut random = fastrand::Rng::new();
    loop {
        match ask().await {
            Err(RequestError::Unreachable(reason)) => {
                let wait = backoff.next(&mut random);
                waiting(&reason, wait);
                tokio::time::sleep(wait).await;
            }
            answered => return answered,
        }
    }
}
