//! The only place that reads the time or waits for it. The simulation replaces it.
//!
//! Guarantee: while a process lives, time goes on evenly, whatever is done to the machine's clock: [`SystemClock`] reads that
//! once, and counts on from there. Where there is a storage account, its time is the one that counts: it is the same for all
//! processes, and [`StorageClock`] follows it wherever the difference is more than seconds.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use tracing::{info, warn};

use crate::limits;

/// An instant in UTC with millisecond resolution, as rows and timers keep it.
pub type Instant = DateTime<Utc>;

/// Source of instants and waits.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The present instant, cut to whole milliseconds.
    fn now(&self) -> Instant;

    /// Returns once `wait` has passed.
    async fn sleep(&self, wait: Duration);

    /// How much later [`Clock::now`] is than this machine alone would say; `None` as long as nobody has told, and instants that are
    /// read are this machine's.
    fn ahead(&self) -> Option<TimeDelta> {
        Some(TimeDelta::zero())
    }
}

/// The machine's clock as it was when the process first asked, and the time that has passed since, sleep of the machine
/// included.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Time since some beginning that no one can set.
#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn uptime() -> Duration {
    static FIRST: OnceLock<std::time::Instant> = OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn wall() -> Instant {
    Utc::now()
}

impl SystemClock {
    /// By how much the machine's clock has been set forward (above zero) or back since the process first asked for the time.
    #[must_use]
    pub fn set_by(self) -> TimeDelta {
        wall() - self.now()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Instant {
        static FIRST: OnceLock<(Instant, Duration)> = OnceLock::new();
        let (then, up) = FIRST.get_or_init(|| (wall(), uptime()));
        after(*then, uptime().saturating_sub(*up)).trunc_subsecs(3)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }
}

/// The storage has not said yet what time it is.
const UNKNOWN: i64 = i64::MIN;

/// A clock that is set right by what the storage says in its answers.
pub struct StorageClock {
    base: Arc<dyn Clock>,
    /// What is added to the base, in milliseconds, or [`UNKNOWN`].
    offset: AtomicI64,
}

impl StorageClock {
    /// The base's time, until the storage says otherwise.
    #[must_use]
    pub fn new(base: Arc<dyn Clock>) -> Self {
        Self { base, offset: AtomicI64::new(UNKNOWN) }
    }

    /// What the base says.
    #[must_use]
    pub fn base_now(&self) -> Instant {
        self.base.now()
    }

    /// Takes note of the storage's `date`, which has whole seconds, in an answer to a request that was sent when the base's
    /// clock said `sent`. One that took long says too little.
    pub fn observe(&self, date: Instant, sent: Instant) {
        let took = until(sent, self.base.now());
        if took > limits::CLOCK_DIFFERENCE_MAX {
            return;
        }
        let here = after(sent, took / 2);
        let difference = (date - here).num_milliseconds() + 500;
        let bound = i64::try_from(limits::CLOCK_DIFFERENCE_MAX.as_millis()).unwrap_or(i64::MAX);
        let offset = if difference.abs() <= bound { 0 } else { difference };
        let known = self.ahead();
        let before = known.unwrap_or_default().num_milliseconds();
        if (offset - before).abs() <= bound && (offset == 0) == (before == 0) {
            if known.is_none() {
                self.offset.store(offset, Ordering::Relaxed);
            }
            return;
        }
        self.offset.store(offset, Ordering::Relaxed);
        if offset == 0 {
            info!("the machine's clock agrees with the storage's again");
        } else {
            warn!(
                difference_ms = difference,
                "the machine's clock differs from the storage's, whose time counts; see to the time service of this machine"
            );
        }
    }
}

#[async_trait]
impl Clock for StorageClock {
    fn now(&self) -> Instant {
        moved(self.base.now(), self.ahead().unwrap_or_default())
    }

    async fn sleep(&self, wait: Duration) {
        self.base.sleep(wait).await;
    }

    fn ahead(&self) -> Option<TimeDelta> {
        let offset = self.offset.load(Ordering::Relaxed);
        (offset != UNKNOWN).then(|| TimeDelta::milliseconds(offset))
    }
}

/// `call`, unless `budget` is over first.
pub async fn within<T>(clock: &dyn Clock, budget: Duration, call: impl Future<Output = T>) -> Option<T> {
    let expiry = clock.sleep(budget);
    pin_mut!(call, expiry);
    match select(call, expiry).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

/// `from` plus `by`; saturates at the end of the calendar.
#[must_use]
pub fn after(from: Instant, by: Duration) -> Instant {
    TimeDelta::from_std(by).ok().and_then(|by| from.checked_add_signed(by)).unwrap_or(Instant::MAX_UTC)
}

/// `from` plus `by`, which may be less than nothing; saturates at the end of the calendar.
#[must_use]
pub fn moved(from: Instant, by: TimeDelta) -> Instant {
    from.checked_add_signed(by).unwrap_or(Instant::MAX_UTC)
}

/// Time from `from` until `until`; zero when that has passed.
#[must_use]
pub fn until(from: Instant, until: Instant) -> Duration {
    (until - from).to_std().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A clock that stands where it is put.
    pub(crate) struct Set(pub(crate) Mutex<Instant>);

    #[async_trait]
    impl Clock for Set {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }

        async fn sleep(&self, _: Duration) {}
    }

    fn at(millis: i64) -> Instant {
        Instant::from_timestamp_millis(millis).unwrap()
    }

    #[test]
    fn the_storages_time_counts_where_the_difference_is_more_than_seconds() {
        let base = Arc::new(Set(Mutex::new(at(10_000_000))));
        let clock = StorageClock::new(base.clone());
        assert_eq!((clock.ahead(), clock.now()), (None, at(10_000_000)));
        for (date, now) in [
            (10_001_000, 10_000_000),
            (9_998_500, 10_000_000),
            // An hour ahead of us, an hour behind, and right again.
            (13_600_000, 13_600_500),
            (13_601_000, 13_600_500),
            (6_400_000, 6_400_500),
            (10_000_000, 10_000_000),
        ] {
            clock.observe(at(date), at(10_000_000));
            assert_eq!(clock.now(), at(now), "{date}");
            assert_eq!(clock.ahead(), Some(at(now) - at(10_000_000)), "{date}");
        }
        // An answer that took three seconds says nothing.
        clock.observe(at(99_000_000), at(9_997_000));
        assert_eq!(clock.now(), at(10_000_000));
    }

    #[test]
    fn time_goes_on() {
        let before = SystemClock.now();
        assert!(SystemClock.now() >= before && SystemClock.set_by().num_seconds() == 0);
    }
}
