//! The only place that reads the time or waits for it. The simulation replaces it.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};

/// An instant in UTC with millisecond resolution, as rows and timers keep it.
pub type Instant = DateTime<Utc>;

/// Source of instants and waits.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The present instant, cut to whole milliseconds.
    fn now(&self) -> Instant;

    /// Returns once `wait` has passed.
    async fn sleep(&self, wait: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Instant {
        Utc::now().trunc_subsecs(3)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }
}

/// `from` plus `by`; saturates at the end of the calendar.
#[must_use]
pub fn after(from: Instant, by: Duration) -> Instant {
    chrono::Duration::from_std(by).ok().and_then(|by| from.checked_add_signed(by)).unwrap_or(Instant::MAX_UTC)
}

/// Time from `from` until `until`; zero when that has passed.
#[must_use]
pub fn until(from: Instant, until: Instant) -> Duration {
    (until - from).to_std().unwrap_or(Duration::ZERO)
}
