//! What is owed, as far as this process knows without walking over all pushes: of those that it wrote, and of those that it found
//! owing something when it went round for upkeep, the first time right after the start.
//!
//! Level-triggered: what a push owes is what its row said last. One that another process brought to its end is forgotten
//! [`FORGOTTEN`] after this one expected to look at it; if it still owes something then, upkeep finds it again before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::limits;
use crate::push::{PushId, Row};
use crate::store::Census;

/// More than the time between two rounds of upkeep.
const FORGOTTEN: Duration = Duration::from_secs(20 * 60);
const _: () = assert!(FORGOTTEN.as_secs() > limits::UPKEEP_INTERVAL.as_secs());

/// Pushes that owe something, with when they are looked at next. At most [`limits::COUNTED_PUSHES_MAX`]; more are not counted.
#[derive(Default)]
pub(super) struct Owing(Mutex<HashMap<PushId, (Instant, Census)>>);

impl Owing {
    /// Notes what a row says.
    pub(super) fn note(&self, row: &Row) {
        let mut owing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match row.wake().filter(|_| !row.is_purged()) {
            None => drop(owing.remove(&row.id)),
            Some(wake) if owing.len() < limits::COUNTED_PUSHES_MAX || owing.contains_key(&row.id) => {
                owing.insert(row.id.clone(), (wake, Census::of(row)));
            }
            Some(_) => {}
        }
    }

    /// What they owe together.
    pub(super) fn census(&self, now: Instant) -> Census {
        let mut owing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owing.retain(|_, (wake, _)| clock::until(*wake, now) < FORGOTTEN);
        owing.values().fold(Census::default(), |all, (_, one)| all.with(*one))
    }
}
