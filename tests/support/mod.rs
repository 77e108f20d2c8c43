//! What the integration tests stand on.

pub mod azurite;
pub mod browser;
pub mod caller;
pub mod command;
pub mod cost;
pub mod dice;
pub mod gate;
pub mod history;
pub mod host;
pub mod http;
pub mod otlp;
pub mod ports;
pub mod recorder;
pub mod refusing;
pub mod service;
pub mod wire;

use std::time::Duration;

pub use ports::free_port;

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

/// The number in the environment under `name`, for the long form of a test; else the `short` one.
///
/// # Panics
/// When it is not a number.
pub fn number(name: &str, short: u64) -> u64 {
    std::env::var(name).ok().map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Most memory a process has had resident, in KiB.
pub fn peak_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
