//! Rows that this process wrote last, so that a process alone reads nothing.
//!
//! Guarantee: bounded memory. What is remembered may be out of date; it may lead to a write, which the version guards, but
//! never to an answer without one.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::Of;
use crate::limits;
use crate::push::Key;
use crate::push::state::Row;
use crate::store::{Version, Versioned};

/// After this many unremembered keys in a row that turned out to have no row, this process takes itself for the only one
/// and inserts a first row without reading before. One that was there after all costs a conflict and begins the count anew.
const ALONE_AFTER: u32 = 16;

/// A row as it was read or written last, shared with whoever answers or delivers from it.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) row: Arc<Row>,
    pub(super) version: Version,
}

impl From<Versioned> for Known {
    fn from(Versioned { row, version }: Versioned) -> Self {
        Self { row: Arc::new(row), version }
    }
}

/// See the module.
pub(super) struct Remembered {
    rows: Mutex<LruCache<Key, Known>>,
    /// How many keys in a row that were not remembered were not stored either.
    strangers_absent: AtomicU32,
}

impl Default for Remembered {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant above zero")]
        let size = NonZeroUsize::new(limits::REMEMBERED_ROWS_MAX).expect("not zero");
        Self { rows: Mutex::new(LruCache::new(size)), strangers_absent: AtomicU32::new(0) }
    }
}

impl Remembered {
    fn with<T>(&self, f: impl FnOnce(&mut LruCache<Key, Known>) -> T) -> T {
        f(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a key that is not remembered is taken to have no row.
    pub(super) fn guesses_absent(&self, of: Of<'_>) -> bool {
        matches!(of, Of::Newest(key) if self.with(|rows| !rows.contains(key)))
            && self.strangers_absent.load(Ordering::Relaxed) >= ALONE_AFTER
    }

    /// Notes whether a key that was not remembered had a row when an arrival looked for it. That timers and results find
    /// theirs says nothing of other processes.
    pub(super) fn learn(&self, of: Of<'_>, found: bool) {
        if self.with(|rows| rows.contains(of.key())) {
            return;
        }
        match (of, found) {
            (Of::Newest(_), true) => self.strangers_absent.store(0, Ordering::Relaxed),
            (Of::Newest(_), false) => {
                self.strangers_absent.fetch_add(1, Ordering::Relaxed);
            }
            (Of::Spilled(_) | Of::Push(_), _) => {}
        }
    }

    pub(super) fn recall(&self, of: Of<'_>) -> Option<Known> {
        self.with(|rows| {
            let stored = rows.get(of.key())?;
            match of {
                // A round that is closed stands for its own notifications only: another may have opened the next.
                Of::Newest(_) => stored.row.settled().is_none_or(|s| !s.superseded).then(|| stored.clone()),
                Of::Spilled(_) => None,
                Of::Push(id) => (stored.row.id == *id).then(|| stored.clone()),
            }
        })
    }

    /// Keeps a row that was just written, unless it owes nothing, is large, or a later round is known.
    pub(super) fn keep(&self, stored: &Known) {
        let key = &stored.row.id.key;
        let useful = stored.row.wake().is_some() && stored.row.payload.len() <= limits::REMEMBERED_PAYLOAD_BYTES_MAX;
        self.with(|rows| {
            if rows.peek(key).is_some_and(|r| r.row.id.round > stored.row.id.round) {
                return;
            }
            if useful {
                rows.put(key.clone(), stored.clone());
            } else {
                rows.pop(key);
            }
        });
    }

    pub(super) fn forget(&self, key: &Key) {
        self.with(|rows| rows.pop(key));
    }

    /// A write conflicted: somebody else writes too.
    pub(super) fn lost(&self, key: &Key) {
        self.forget(key);
        self.strangers_absent.store(0, Ordering::Relaxed);
    }
}
