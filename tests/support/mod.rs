//! What the integration tests stand on.

pub mod azurite;
pub mod cost;
pub mod host;
pub mod http;
pub mod recorder;
pub mod service;
pub mod wire;

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Waits for `time`: between two looks at a condition, never in the hope that something has happened meanwhile.
#[expect(clippy::disallowed_methods, reason = "tests run in real time")]
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "tests run in real time")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold within `limit`; `what` says what was waited for.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        pause(Duration::from_millis(20)).await;
    }
}
