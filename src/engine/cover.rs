//! The durable timer behind a row: armed or shifted before the commit that relies on it, made good or disarmed after it.
//!
//! Invariant kept here: a committed row that owes something names a live timer, or one whose successor is armed, and it fires
//! no later than about the row's `wake`. The races are those in the header of the engine.

use futures_util::future::join;
use tracing::warn;

use super::Engine;
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::state::{Row, TimerRef};
use crate::store::{Expected, Failure};
use crate::timers::{Armed, Message, Reason, Timer};

/// A timer armed or shifted for a commit that has not happened yet.
pub(super) struct Held {
    timer: TimerRef,
    /// Not named in any row yet, so nobody can rely on it.
    new: bool,
}

impl Engine {
    /// Sees to it that a live timer covers `wake` before the row is committed, names it in the row, and indexes a new row.
    /// Returns the timer that is not needed any more once the commit is through. When it fails, no row will name what is held.
    pub(super) async fn cover(
        &self,
        next: &mut Row,
        wake: Option<Instant>,
        rearm: bool,
        held: &mut Option<Held>,
        expected: &Expected,
        now: Instant,
    ) -> Result<Option<TimerRef>, Failure> {
        let index = async {
            match expected {
                Expected::Absent => self.store.index(&next.id, next.opened).await,
                Expected::Version(_) => Ok(()),
            }
        };
        let Some(wake) = wake else {
            index.await?;
            return Ok(next.timer.take());
        };
        let current = next.timer.clone().filter(|t| !rearm && t.due > now);
        if let Some(timer) = &current {
            // Close enough: it fires no later than needed and not so early that firing costs more than replacing it.
            if timer.due <= wake && clock::until(timer.due, wake) <= limits::LEASE {
                return Ok(None);
            }
        }
        let reason = if next.settled().is_some() { Reason::Delivery } else { Reason::Deadline };
        let message =
            Message::Timer(Timer { push: next.id.clone(), due: wake, reason, revision: next.revision, of: None });
        let delay = clock::until(now, wake);
        let due = wake.min(clock::after(now, limits::TIMER_DELAY_MAX));
        if let Some(timer) = current.filter(|t| t.due > wake) {
            let handle = Armed { id: timer.id, receipt: timer.receipt };
            if let Some(Armed { id, receipt }) = self.timers.shift_for_row(&handle, &message, delay).await? {
                // Where rows and timers are written together it is another one, and the old one stays until then.
                let new = id != handle.id;
                let timer = TimerRef { id, receipt, due };
                next.timer = Some(timer.clone());
                let spare = held.replace(Held { timer, new });
                self.drop_spare(spare).await;
                return Ok(None);
            }
        }
        let (armed, indexed) = join(self.timers.arm_for_row(&message, delay), index).await;
        let Armed { id, receipt } = armed?;
        let timer = TimerRef { id, receipt, due };
        // A timer that is used up or due by now is left to whoever handles it.
        let replaced = next.timer.replace(timer.clone()).filter(|old| !rearm && old.due > now);
        let spare = held.replace(Held { timer, new: true });
        self.drop_spare(spare).await;
        indexed?;
        Ok(replaced)
    }

    /// After a commit: a timer that may have fired before the row named it gets a successor, then what the commit replaced is
    /// disarmed.
    ///
    /// When that successor cannot be armed, the call fails although it committed: then the message being handled, or the
    /// timer that was not disarmed, comes again, and acts if the named one is still overdue after
    /// [`limits::SPARE_PATIENCE`].
    pub(super) async fn committed(
        &self,
        held: &mut Option<Held>,
        row: &Row,
        replaced: Option<TimerRef>,
    ) -> Result<(), Failure> {
        let held = held.take();
        let named = |h: &&Held| row.timer.as_ref().is_some_and(|t| t.id == h.timer.id);
        if let Some(Held { timer, .. }) = held.as_ref().filter(named) {
            // It found no row, or the one before, and looks again only in a while. The queue fires up to a second early, so
            // "may have" begins that long before it is due.
            let delay = clock::until(self.clock.now(), timer.due);
            if delay <= limits::EARLY_TIMER_WAIT {
                // After the first one rather than with it, which would only make two of every one.
                let (push, due, revision) = (row.id.clone(), timer.due, row.revision);
                let of = Some(timer.id.clone());
                let message = Message::Timer(Timer { push, due, reason: Reason::Unseen, revision, of });
                self.timers.arm(&message, delay + 2 * limits::EARLY_TIMER_WAIT).await?;
            }
        }
        if let Some(old) = replaced {
            self.disarm(old).await;
        }
        self.drop_spare(held.filter(|h| !named(&h))).await;
        Ok(())
    }

    /// Disarms a timer that was armed for a commit that did not happen. A shifted one stays: the stored row may rely on it.
    pub(super) async fn drop_spare(&self, held: Option<Held>) {
        if let Some(Held { timer, new: true, .. }) = held {
            self.disarm(timer).await;
        }
    }

    /// Best effort: a timer left behind finds nothing to do.
    async fn disarm(&self, timer: TimerRef) {
        if let Err(cause) = self.timers.disarm(&Armed { id: timer.id, receipt: timer.receipt }).await {
            warn!(%cause, "a timer that is not needed any more could not be deleted; it will find nothing to do");
        }
    }
}
