//! When the messages put by this process become visible, so that its own poller need not find out by asking. A hint only:
//! what other processes put is found by polling, and a message moved or deleted meanwhile costs one look for nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{self, Clock, Instant};

/// Instants kept; the farthest are dropped first.
const INSTANTS_MAX: usize = 4096;

/// A second look this much later: the queue's clock has whole seconds and is not ours.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    due: Mutex<BTreeSet<Instant>>,
    changed: Notify,
}

impl Known {
    /// A message was put or moved, to be visible after `delay`.
    pub(super) fn note(&self, clock: &dyn Clock, delay: Duration) {
        let now = clock.now();
        let at = clock::after(now, delay);
        self.with(|due| {
            due.insert(at);
            due.insert(clock::after(at, SECOND_LOOK));
            if due.len() > INSTANTS_MAX {
                // Where nobody polls, what has passed is still here.
                *due = due.split_off(&now);
            }
            while due.len() > INSTANTS_MAX {
                due.pop_last();
            }
        });
        self.changed.notify_one();
    }

    /// Returns when a message becomes visible, at the latest after `longest`.
    pub(super) async fn wait(&self, clock: &dyn Clock, longest: Duration) {
        let end = clock::after(clock.now(), longest);
        loop {
            let now = clock.now();
            let (passed, next) = self.with(|due| {
                let later = due.split_off(&clock::after(now, Duration::from_nanos(1)));
                let passed = !std::mem::replace(due, later).is_empty();
                (passed, due.first().copied())
            });
            if passed || now >= end {
                return;
            }
            let wait = clock::until(now, next.map_or(end, |next| next.min(end)));
            tokio::select! {
                () = clock.sleep(wait) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeSet<Instant>) -> T) -> T {
        f(&mut self.due.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn a_message_ends_the_wait_and_a_far_one_does_not() {
        let known = Known::default();
        let began = std::time::Instant::now();
        known.note(&SystemClock, Duration::from_secs(3600));
        known.wait(&SystemClock, Duration::from_millis(50)).await;
        let (waited, ()) = tokio::join!(known.wait(&SystemClock, Duration::from_secs(600)), async {
            known.note(&SystemClock, Duration::from_millis(50));
        });
        let () = waited;
        known.wait(&SystemClock, Duration::from_secs(600)).await;
        assert!(began.elapsed() >= Duration::from_millis(1050), "the second look came too early");
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn only_so_many_are_kept() {
        let known = Known::default();
        for n in 0..10_000 {
            known.note(&SystemClock, Duration::from_secs(n));
        }
        assert!(known.with(|due| due.len()) <= INSTANTS_MAX);
    }
}
