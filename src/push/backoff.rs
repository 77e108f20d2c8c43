//! When the next attempt at a notification is due. Jitter is derived from the push and the attempt, not from chance, so
//! that a run can be replayed and two processes agree.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::PushId;
use crate::limits;

/// Waits after the 1st, 2nd, … failed attempt unless `WebhookRetrySchedule` says otherwise: about 32 hours in all.
pub const SCHEDULE: [Duration; 9] = {
    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }
    [
        Duration::from_secs(5),
        Duration::from_secs(30),
        minutes(2),
        minutes(10),
        minutes(30),
        minutes(120),
        minutes(300),
        minutes(600),
        minutes(840),
    ]
};

/// The wait after failure number `failures` (from 1): the schedule's, ±20 %, or the receiver's own wish, of which no more than
/// [`limits::RETRY_AFTER_MAX`] counts, when that is longer. `None` when the schedule is used up.
#[must_use]
pub fn delay(
    schedule: &[Duration],
    push: &PushId,
    target: &str,
    failures: u32,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    let base = *schedule.get(usize::try_from(failures).ok()?.checked_sub(1)?)?;
    let hash = Sha256::digest(format!("{push} {target} {failures}"));
    let spread = f64::from(u16::from_be_bytes([hash[0], hash[1]])) / f64::from(u16::MAX);
    let jittered = base.mul_f64(0.8 + 0.4 * spread);
    let delay = jittered.max(retry_after.unwrap_or_default().min(limits::RETRY_AFTER_MAX));
    // Instants have whole milliseconds.
    Some(Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Key;

    #[test]
    fn delays_stay_within_a_fifth_and_end() {
        let push = PushId { key: Key::of(&["x"], &[]), round: 1 };
        for (i, base) in SCHEDULE.iter().enumerate() {
            let failures = u32::try_from(i).unwrap() + 1;
            let d = delay(&SCHEDULE, &push, "t", failures, None).unwrap();
            assert!(d >= base.mul_f64(0.799) && d <= base.mul_f64(1.201), "{d:?} for {base:?}");
            assert_eq!(Some(d), delay(&SCHEDULE, &push, "t", failures, None), "the same question has the same answer");
        }
        assert_eq!(delay(&SCHEDULE, &push, "t", 10, None), None);
        assert_eq!(delay(&SCHEDULE, &push, "t", 0, None), None);
        assert_ne!(delay(&SCHEDULE, &push, "t", 5, None), delay(&SCHEDULE, &push, "u", 5, None));
    }

    #[test]
    fn the_receivers_wish_is_honoured_and_clamped() {
        let push = PushId { key: Key::of(&["x"], &[]), round: 1 };
        let ask = |secs| delay(&SCHEDULE, &push, "t", 1, Some(Duration::from_secs(secs))).unwrap();
        assert_eq!(ask(100), Duration::from_secs(100));
        assert_eq!(ask(u64::MAX), limits::RETRY_AFTER_MAX);
        assert!(ask(0) >= Duration::from_secs(4));
    }
}
