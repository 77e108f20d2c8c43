//! Rows in one file on this machine: the store of `serve` when nothing is configured.
//!
//! Guarantees, beside those of [`Store`]: what was answered survives a kill and a power cut (see the database's module),
//! and a row and its place in the time index are one record, so that there are no orphans and [`Store::index`] has nothing
//! to do. A timer reserved for a row is written in the row's own transaction: there is never one without the other.
//!
//! Races handled: two writers of one row meet on the writer's thread, where the comparison and the write are one
//! statement. A write whose answer is lost with its caller is simply there; the next attempt of that caller conflicts.
//!
//! Knowingly accepted: pushes opened in the same millisecond are listed in an order of their own.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row as Record, params};

use super::database::{Database, Writer, instant, occupy};
use super::{Expected, Failure, Page, Put, Store, Version, Versioned};
use crate::clock::{Clock, Instant};
use crate::push::state::Row;
use crate::push::{Key, PushId, hex, record};
use crate::timers::embedded::{EmbeddedTimers, place};

/// Marks this store's own cursors.
const CURSOR_PREFIX: &str = "s";

/// See the module.
pub struct EmbeddedStore {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
}

impl EmbeddedStore {
    /// Opens the store and the timers of the file at `path`, or creates them in a folder that exists. The file stays
    /// locked until both are dropped, which waits for what is queued.
    ///
    /// # Errors
    /// [`Failure::Corrupt`] when an operator has to act: another process has the file open, a newer version of this
    /// program or another program wrote it, it is damaged, or it cannot be created there. [`Failure::Unavailable`] when
    /// another program keeps it busy.
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<(Self, EmbeddedTimers), Failure> {
        let database = Arc::new(Database::open(path.as_ref())?);
        let store = Self { database: Arc::clone(&database), clock: Arc::clone(&clock) };
        Ok((store, EmbeddedTimers::new(database, clock)))
    }

    async fn find(
        &self,
        mut query: impl FnMut(&mut Connection) -> rusqlite::Result<Stored> + Send + 'static,
    ) -> Result<Option<Versioned>, Failure> {
        let found = self.database.read(move |connection| query(connection).optional()).await?;
        let Some(Stored { write, body }) = found else { return Ok(None) };
        let row = record::decode(&body).map_err(Failure::Corrupt)?;
        Ok(Some(Versioned { row, version: Version(write.to_string()) }))
    }
}

struct Stored {
    write: i64,
    body: String,
}

impl Stored {
    fn of(record: &Record<'_>) -> rusqlite::Result<Self> {
        Ok(Self { write: record.get(0)?, body: record.get(1)? })
    }
}

/// A push id as bytes that sort by key, then round: the 20 bytes of the key and 4 of the round.
type Id = [u8; 24];

fn packed(key: &Key, round: u32) -> Id {
    let mut id = [0; 24];
    for (at, byte) in id[..20].iter_mut().enumerate() {
        let digits = key.as_str().get(2 * at..2 * at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // A key is 40 hex digits by construction.
        *byte = digits.unwrap_or(0);
    }
    id[20..].copy_from_slice(&round.to_be_bytes());
    id
}

fn unpacked(id: &Id) -> Option<PushId> {
    let (key, round) = id.split_at(20);
    let round = u32::from_be_bytes(round.try_into().ok()?);
    format!("{}-{round}", hex(key)).parse().ok()
}

fn insert(writer: &mut Writer, id: &Id, opened: Instant, body: &str) -> rusqlite::Result<Put> {
    let number = writer.number();
    let connection = &writer.connection;
    let mut insert = connection
        .prepare_cached("INSERT INTO pushes (slot, id, write, body) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?;
    // The order of ties follows the id, near enough.
    let tie = i64::from(id[0]) << 12 | i64::from(id[1]) << 4 | i64::from(id[2] >> 4);
    occupy(opened, tie, |slot| {
        if insert.execute(params![slot, id, number, body])? == 1 {
            return Ok(Some(Put::Written(Version(number.to_string()))));
        }
        let known = connection.prepare_cached("SELECT 1 FROM pushes WHERE id = ?1")?.exists([id])?;
        Ok(known.then_some(Put::Conflict))
    })
}

fn update(writer: &mut Writer, id: &Id, expected: i64, body: &str) -> rusqlite::Result<Put> {
    let number = writer.number();
    let changed = writer
        .connection
        .prepare_cached("UPDATE pushes SET write = ?1, body = ?2 WHERE id = ?3 AND write = ?4")?
        .execute(params![number, body, id, expected])?;
    Ok(if changed == 1 { Put::Written(Version(number.to_string())) } else { Put::Conflict })
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn latest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        let (first, last) = (packed(key, 0), packed(key, u32::MAX));
        self.find(move |connection| {
            connection
                .prepare_cached("SELECT write, body FROM pushes WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1")?
                .query_row(params![first, last], Stored::of)
        })
        .await
    }

    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        let id = packed(&id.key, id.round);
        self.find(move |connection| {
            connection.prepare_cached("SELECT write, body FROM pushes WHERE id = ?1")?.query_row([id], Stored::of)
        })
        .await
    }

    async fn index(&self, _id: &PushId, _opened: Instant) -> Result<(), Failure> {
        Ok(())
    }

    async fn put(&self, row: &Row, expected: &Expected) -> Result<Put, Failure> {
        let expected = match expected {
            Expected::Absent => None,
            // A version that is no number of ours fits no row.
            Expected::Version(Version(text)) => match text.parse::<i64>() {
                Ok(write) => Some(write),
                Err(_) => return Ok(Put::Conflict),
            },
        };
        let (id, opened, body) = (packed(&row.id.key, row.id.round), row.opened, record::encode(row));
        let timer = row.timer.as_ref().and_then(|timer| timer.id.parse().ok());
        let reserved = timer.and_then(|timer| Some((timer, Arc::new(self.database.reservations.take(timer)?))));
        let with = reserved.clone();
        let put = self.database.write(move |writer| {
            let put = match expected {
                None => insert(writer, &id, opened, &body)?,
                Some(write) => update(writer, &id, write, &body)?,
            };
            if let (Put::Written(_), Some((timer, reserved))) = (&put, &with) {
                place(writer, *timer, reserved)?;
            }
            Ok(put)
        });
        let put = put.await;
        // After a conflict its caller disarms it, which costs nothing as long as it is only reserved. After a failure, whether it
        // was placed is as unknown as the row.
        if let (Ok(Put::Conflict), Some((timer, reserved))) = (&put, reserved) {
            self.database.reservations.add(timer, Arc::unwrap_or_clone(reserved), self.clock.now());
        }
        put
    }

    async fn remove(&self, row: &Row, version: &Version) -> Result<bool, Failure> {
        let Ok(write) = version.0.parse::<i64>() else { return Ok(false) };
        let id = packed(&row.id.key, row.id.round);
        self.database
            .write(move |writer| {
                let sql = "DELETE FROM pushes WHERE id = ?1 AND write = ?2";
                Ok(writer.connection.prepare_cached(sql)?.execute(params![id, write])? == 1)
            })
            .await
    }

    async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<Page, Failure> {
        let limit = limit.clamp(1, 1000);
        let own = cursor.and_then(|text| text.strip_prefix(CURSOR_PREFIX)?.parse().ok());
        let before: i64 = own.unwrap_or(i64::MAX);
        let mut found: Vec<(i64, Id)> = self
            .database
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT slot, id FROM pushes WHERE slot < ?1 ORDER BY slot DESC LIMIT ?2")?
                    .query_map(params![before, i64::try_from(limit + 1).unwrap_or(i64::MAX)], |record| {
                        Ok((record.get(0)?, record.get(1)?))
                    })?
                    .collect()
            })
            .await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(slot, _)| format!("{CURSOR_PREFIX}{slot}"));
        let pushes = found.iter().filter_map(|(slot, id)| Some((unpacked(id)?, instant(*slot)))).collect();
        Ok(Page { pushes, next })
    }

    async fn prepare(&self) -> Result<(), Failure> {
        self.database
            .read(|connection| connection.prepare_cached("SELECT 1 FROM pushes LIMIT 1")?.exists([]).map(drop))
            .await
    }
}
