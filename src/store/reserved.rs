//! Timers that wait for the write of the row that names them, so that both are one operation of the embedded store: the
//! timer is never later than the row, and the caller waits for the disk once instead of twice.
//!
//! Guarantee: what is reserved is applied with the first write of a row that names it, in the same transaction, or never.
//! Races handled: a write that conflicts applies nothing and gives the reservation back, to be disarmed. Any other write takes
//! it along, also one that fails or whose caller gave up, so that a later write of a row that names the timer cannot place
//! it again.
//!
//! Knowingly accepted: the reservation of a call that gave up stays in memory until [`KEPT_MAX`] has passed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::limits;
use crate::timers::embedded::Place;

/// Far longer than any call, after which nobody writes a row that names the timer.
const KEPT_MAX: Duration = limits::TIMER_CALL_BUDGET.saturating_mul(4);

/// So many reservations are looked through for old ones only once.
const SWEPT_MIN: usize = 256;

/// A timer to place with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// When it becomes visible.
    pub(crate) visible: Instant,
    /// Its message.
    pub(crate) text: String,
    /// The timer that it takes over from.
    pub(crate) replaces: Option<Place>,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<i64, (Instant, Reserved)>,
    /// Old ones are looked for when there are this many.
    sweep_at: usize,
}

/// Reservations by the id that the timer will have.
#[derive(Default)]
pub(crate) struct Reservations(Mutex<Inner>);

impl Reservations {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, id: i64, reserved: Reserved, now: Instant) {
        self.with(|inner| {
            if inner.waiting.len() >= inner.sweep_at.max(SWEPT_MIN) {
                inner.waiting.retain(|_, (since, _)| clock::until(*since, now) < KEPT_MAX);
                inner.sweep_at = 2 * inner.waiting.len();
            }
            inner.waiting.insert(id, (now, reserved));
        });
    }

    /// Takes one out. While it waits here, nothing of it is in the file.
    pub(crate) fn take(&self, id: i64) -> Option<Reserved> {
        self.with(|inner| inner.waiting.remove(&id).map(|(_, reserved)| reserved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_writes_is_forgotten() {
        let reservations = Reservations::default();
        let reserved = |at| Reserved { visible: at, text: String::new(), replaces: None };
        let start = Instant::UNIX_EPOCH;
        for id in 0..1000 {
            reservations.add(id, reserved(start), start);
        }
        let later = clock::after(start, KEPT_MAX);
        for id in 1000..3000 {
            reservations.add(id, reserved(later), later);
        }
        assert_eq!((reservations.take(0), reservations.take(2999)), (None, Some(reserved(later))));
        assert_eq!(reservations.take(2999), None);
    }
}
