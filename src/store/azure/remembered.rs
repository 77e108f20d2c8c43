//! Records that this process wrote last, so that a process alone reads little.
//!
//! Guarantee: bounded memory. What is remembered may be out of date; it may lead to a write, which the version guards, but
//! never to an answer without one.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use super::parts::Versioned;
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::{Key, Phase};
use crate::store::Which;

/// See the module.
pub(super) struct Remembered {
    rows: Mutex<LruCache<Key, Known>>,
    /// When each was last in doubt.
    doubts: Mutex<LruCache<(Key, Doubt), Instant>>,
}

/// A record of this process.
struct Known {
    stored: Versioned,
    /// Nobody had opened a later round when it was written: it was read as the newest, or follows one that was. A later round
    /// writes it again, so its version guards that too.
    newest: bool,
}

/// What may have landed, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Doubt {
    /// A write of a row.
    Write,
    /// A timer that was armed.
    Timer,
}

impl Default for Remembered {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant above zero")]
        let size = NonZeroUsize::new(limits::REMEMBERED_ROWS_MAX).expect("not zero");
        Self { rows: Mutex::new(LruCache::new(size)), doubts: Mutex::new(LruCache::new(size)) }
    }
}

impl Remembered {
    fn with<T>(&self, f: impl FnOnce(&mut LruCache<Key, Known>) -> T) -> T {
        f(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that it is not known whether a write, or a timer, landed.
    pub(super) fn doubt(&self, key: &Key, what: Doubt, now: Instant) {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).put((key.clone(), what), now);
    }

    /// Whether that was noted within `span`.
    pub(super) fn in_doubt(&self, key: &Key, what: Doubt, now: Instant, span: Duration) -> bool {
        let doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.peek(&(key.clone(), what)).is_some_and(|at| clock::until(*at, now) < span)
    }

    pub(super) fn recall(&self, which: &Which, now: Instant) -> Option<Versioned> {
        self.with(|rows| {
            let Known { stored, newest } = rows.get(which.key())?;
            let row = &stored.record.row;
            let fits = match which {
                // Later, another process may have opened the next round.
                Which::Newest(_) => *newest && matches!(row.phase, Phase::Waiting { .. }) && now < row.deadline,
                Which::Push(id) => row.id == *id,
            };
            fits.then(|| stored.clone())
        })
    }

    /// Keeps a record that was just written upon `base`, which was found by `which`; unless it owes nothing, is large, or a
    /// later round is known.
    pub(super) fn keep(&self, written: &Versioned, base: Option<&Versioned>, which: &Which) {
        let row = &written.record.row;
        let useful = row.wake().is_some() && row.payload.len() <= limits::REMEMBERED_PAYLOAD_BYTES_MAX;
        self.with(|rows| {
            let known = rows.peek(&row.id.key);
            if known.is_some_and(|known| known.stored.record.row.id.round > row.id.round) {
                return;
            }
            let follows = |base: &Versioned| known.is_some_and(|k| k.newest && k.stored.version == base.version);
            let newest = matches!(which, Which::Newest(_)) || base.is_some_and(follows);
            if useful {
                rows.put(row.id.key.clone(), Known { stored: written.clone(), newest });
            } else {
                rows.pop(&row.id.key);
            }
        });
    }

    pub(super) fn forget(&self, key: &Key) {
        self.with(|rows| rows.pop(key));
    }
}
