//! Steps on one push take turns within this process: regions that report at the same instant would otherwise lose writes to
//! each other, and each loss costs a read, a timer and a write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::push::Key;

/// See the module.
#[derive(Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>);

/// A turn; the next in line has it when this is dropped.
pub(super) struct Turn {
    all: Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until it is our turn.
    pub(super) async fn take(&self, key: &Key) -> Turn {
        let line = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key.clone()).or_default())
        };
        let mut turn = Turn { all: Arc::clone(&self.0), key: key.clone(), guard: None };
        turn.guard = Some(line.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // Whoever waits holds the line too, and so does the map.
        if all.get(&self.key).is_some_and(|line| Arc::strong_count(line) == 1) {
            all.remove(&self.key);
        }
    }
}
