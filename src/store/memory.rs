//! Rows in a map: the plainest reading of the contract. For tests and measurements; nothing survives the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Expected, Failure, Page, Put, Store, Version, Versioned};
use crate::clock::Instant;
use crate::push::state::Row;
use crate::push::{Key, PushId};

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Rounds of each key, in boxes, since a map's node has room for many.
    rows: HashMap<Key, BTreeMap<u32, Box<(Row, u64)>>>,
    index: BTreeMap<(Instant, PushId), ()>,
    writes: u64,
}

impl MemoryStore {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn versioned(stored: &(Row, u64)) -> Versioned {
    Versioned { row: stored.0.clone(), version: Version(stored.1.to_string()) }
}

#[async_trait]
impl Store for MemoryStore {
    async fn latest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        Ok(self.with(|inner| inner.rows.get(key)?.last_key_value().map(|(_, stored)| versioned(stored.as_ref()))))
    }

    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        Ok(self.with(|inner| inner.rows.get(&id.key)?.get(&id.round).map(|stored| versioned(stored))))
    }

    async fn index(&self, id: &PushId, opened: Instant) -> Result<(), Failure> {
        self.with(|inner| inner.index.insert((opened, id.clone()), ()));
        Ok(())
    }

    async fn put(&self, row: &Row, expected: &Expected) -> Result<Put, Failure> {
        Ok(self.with(|inner| {
            let rounds = inner.rows.entry(row.id.key.clone()).or_default();
            let stored = rounds.get(&row.id.round).map(|stored| Version(stored.1.to_string()));
            let fits = match (expected, stored) {
                (Expected::Absent, None) => true,
                (Expected::Version(version), Some(stored)) => *version == stored,
                (Expected::Absent, Some(_)) | (Expected::Version(_), None) => false,
            };
            if !fits {
                return Put::Conflict;
            }
            inner.writes += 1;
            rounds.insert(row.id.round, Box::new((row.clone(), inner.writes)));
            Put::Written(Version(inner.writes.to_string()))
        }))
    }

    async fn remove(&self, row: &Row, version: &Version) -> Result<bool, Failure> {
        Ok(self.with(|inner| {
            let rounds = inner.rows.entry(row.id.key.clone()).or_default();
            let fits = rounds.get(&row.id.round).is_some_and(|stored| stored.1.to_string() == version.0);
            if fits {
                rounds.remove(&row.id.round);
                inner.index.remove(&(row.opened, row.id.clone()));
            }
            fits
        }))
    }

    async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<Page, Failure> {
        let limit = limit.clamp(1, 1000);
        Ok(self.with(|inner| {
            let before = cursor.and_then(|c| {
                let (millis, id) = c.split_once(' ')?;
                Some((chrono::DateTime::from_timestamp_millis(millis.parse().ok()?)?, id.parse().ok()?))
            });
            let range = match before {
                Some(before) => inner.index.range(..before),
                None => inner.index.range(..),
            };
            let mut pushes: Vec<(PushId, Instant)> =
                range.rev().take(limit + 1).map(|((opened, id), ())| (id.clone(), *opened)).collect();
            let more = pushes.len() > limit;
            pushes.truncate(limit);
            let next = pushes.last().filter(|_| more).map(|(id, opened)| format!("{} {id}", opened.timestamp_millis()));
            Page { pushes, next }
        }))
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}
