//! Pushes in one file on this machine: the store of `serve` when nothing is configured.
//!
//! Guarantees, beside those of [`Store`]
//! - A step is one transaction on the writer's thread: it reads the row, decides, and writes the row and when it must be looked
//!   at next, which is a column of the same record. So there is no timer without its row, no orphan in the time index, no
//!   conflict, and nothing to make good.
//! - What was answered survives a kill and a power cut (see the database's module).
//! - What is old goes a few at a time, each few as one operation among the arrivals': it shares their commits, and none of
//!   them waits for more than that. The pages that it leaves are those that the next pushes are written to.
//!
//! Knowingly accepted: an arrival has no other place than its row, so one that cannot be written is refused. Pushes opened in
//! the same millisecond are listed in an order of their own.

mod database;
mod file;
mod lists;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use rusqlite::{Connection, OptionalExtension, Row as Columns, params};

use self::database::{Database, Writer, instant, occupy, slot};
use self::lists::{list, newest_at, parse_cursor};
use super::{Applied, Census, Decide, Failure, Health, Page, Removed, Search, Store, Wakes, Which};
use crate::clock::{self, Clock, Instant};
use crate::limits;
use crate::metrics::Requests;
use crate::push::names::{half, hex};
use crate::push::{Answer, Arrival, Change, Decision, Did, Key, PushId, Question, Row, record};

/// How long a step that could not be written counts against the store's health.
const FAILED_LATELY: Duration = Duration::from_secs(60);

/// See the module.
pub struct EmbeddedStore {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
    /// When a step could last not be written, and why: a small write may still have room where a row has none.
    failed: Mutex<Option<(Instant, Failure)>>,
}

impl EmbeddedStore {
    /// Opens the file at `path`, or creates it in a folder that exists. It stays locked until the store is dropped, which waits
    /// for what is queued, or closed. Its folder may be reached over links, the file itself may be none.
    ///
    /// # Errors
    /// [`Failure::Corrupt`] when an operator has to act: another process has the file open, a newer version of this
    /// program or another program wrote it, it is damaged, or it cannot be created there. [`Failure::Unavailable`] when
    /// another program keeps it busy.
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let database = Arc::new(Database::open(path.as_ref())?);
        Ok(Self { database, clock, failed: Mutex::default() })
    }

    /// Reads and writes are counted there.
    pub(crate) fn requests(&self) -> Requests {
        self.database.requests.clone()
    }
}

/// A push id as bytes that sort by place, then content, then round: 16 bytes, 16 bytes and 4.
type Id = [u8; 36];

fn packed(key: &Key, round: u32) -> Id {
    let mut id = [0; 36];
    for (at, byte) in id[..32].iter_mut().enumerate() {
        let digits = key.as_str().get(2 * at..2 * at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // A key is 64 hex digits by construction.
        *byte = digits.unwrap_or(0);
    }
    id[32..].copy_from_slice(&round.to_be_bytes());
    id
}

fn unpacked(id: &Id) -> Option<PushId> {
    let (key, round) = id.split_at(32);
    let round = u32::from_be_bytes(round.try_into().ok()?);
    format!("{}-{round}", hex(key)).parse().ok()
}

/// The stored row that `which` names.
fn find(connection: &Connection, which: &Which) -> rusqlite::Result<Option<Result<Row, String>>> {
    let read = |columns: &Columns<'_>| Ok(record::decode(columns.get_ref(0)?.as_str()?, columns.get(1)?));
    match which {
        Which::Push(id) => connection
            .prepare_cached("SELECT body, payload FROM pushes WHERE id = ?1")?
            .query_row([packed(&id.key, id.round)], read),
        Which::Newest(key) => connection
            .prepare_cached("SELECT body, payload FROM pushes WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1")?
            .query_row(params![packed(key, 0), packed(key, u32::MAX)], read),
    }
    .optional()
}

/// When the last push of the same place with another digest was opened, between two instants.
fn moved(connection: &Connection, row: &Row, (after, before): (Instant, Instant)) -> rusqlite::Result<Option<Instant>> {
    let (mut first, mut last) = (packed(&row.id.key, 0), packed(&row.id.key, u32::MAX));
    first[16..].fill(0);
    last[16..].fill(u8::MAX);
    let newest: Option<i64> = connection
        .prepare_cached(
            "SELECT max(slot) FROM pushes WHERE id BETWEEN ?1 AND ?2 AND digest <> ?3 AND slot >= ?4 AND slot < ?5",
        )?
        .query_row(
            params![
                first,
                last,
                half(&[&row.subject.digest]),
                slot(clock::after(after, Duration::from_millis(1))),
                slot(before)
            ],
            |columns| columns.get(0),
        )?;
    Ok(newest.map(instant))
}

/// Applies a step inside the writer's transaction.
fn apply(writer: &mut Writer, which: &Which, step: &dyn Decide) -> rusqlite::Result<Result<Applied, Failure>> {
    let row = match writer.known(which) {
        Some(row) => Some(row),
        None => match find(&writer.connection, which)? {
            Some(Ok(row)) => Some(Arc::new(row)),
            Some(Err(cause)) => return Ok(Err(Failure::Corrupt(cause))),
            None => None,
        },
    };
    let mut answer = None;
    let step = loop {
        // A panic must not end the thread that everybody's writes go through.
        let decided = catch_unwind(AssertUnwindSafe(|| step.decide(row.as_deref(), answer)));
        match (decided, &row) {
            (Ok(Decision::Step(step)), _) => break *step,
            (Ok(Decision::Ask(Question { moved: Some(span), .. })), Some(row)) => {
                answer = Some(Answer { moved: moved(&writer.connection, row, span)?, pending: false });
            }
            (Ok(Decision::Ask(_)), _) => answer = Some(Answer::default()),
            (Err(_), _) => return Ok(Err(Failure::Corrupt("a step ended in a panic; please report it".into()))),
        }
    };
    let row = match (step.change, row) {
        (Change::None, row) => row,
        (Change::Remove, row) => {
            if let Some(row) = row {
                writer.forget(&row.id.key);
                writer.owes(Some(&row), None);
                let sql = "DELETE FROM pushes WHERE id = ?1";
                writer.connection.prepare_cached(sql)?.execute([packed(&row.id.key, row.id.round)])?;
            }
            None
        }
        (Change::Put(next), row) => {
            writer.owes(row.as_deref().filter(|row| row.id == next.id), Some(&next));
            if row.is_some_and(|row| row.id == next.id) {
                update(writer, &next)?;
            } else {
                insert(writer, &next)?;
            }
            let next = Arc::new(next);
            writer.remember(which, &next);
            Some(next)
        }
    };
    let row = row.filter(|row| !row.is_purged());
    Ok(Ok(Applied { did: step.did, row, claims: step.claims }))
}

fn wake(row: &Row) -> Option<i64> {
    row.wake().map(|at| at.timestamp_millis())
}

fn insert(writer: &Writer, row: &Row) -> rusqlite::Result<()> {
    let id = packed(&row.id.key, row.id.round);
    let mut insert = writer.connection.prepare_cached(
        "INSERT INTO pushes (slot, id, digest, wake, body, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (slot) DO NOTHING",
    )?;
    let (digest, body) = (half(&[&row.subject.digest]), record::encode(row));
    // The order of ties follows the id, near enough.
    let tie = i64::from(id[0]) << 12 | i64::from(id[1]) << 4 | i64::from(id[2] >> 4);
    occupy(row.opened, tie, |slot| Ok(insert.execute(params![slot, id, digest, wake(row), body, row.payload])? == 1))
}

fn update(writer: &Writer, row: &Row) -> rusqlite::Result<()> {
    let id = packed(&row.id.key, row.id.round);
    let body = record::encode(row);
    if row.is_purged() {
        writer.connection.prepare_cached("UPDATE pushes SET payload = '' WHERE id = ?1")?.execute([id])?;
    }
    let sql = "UPDATE pushes SET wake = ?1, body = ?2 WHERE id = ?3";
    writer.connection.prepare_cached(sql)?.execute(params![wake(row), body, id]).map(drop)
}

/// The oldest pushes of a span by their slots, with the names of those that owe nothing.
fn oldest(
    connection: &Connection,
    (from, to): (Instant, Instant),
    limit: usize,
) -> rusqlite::Result<Vec<(i64, Option<PushId>)>> {
    connection
        .prepare_cached("SELECT slot, id, wake FROM pushes WHERE slot >= ?1 AND slot < ?2 ORDER BY slot LIMIT ?3")?
        .query_map(params![slot(from), slot(to), i64::try_from(limit).unwrap_or(i64::MAX)], |columns| {
            let (slot, id, wake): (i64, Id, Option<i64>) = (columns.get(0)?, columns.get(1)?, columns.get(2)?);
            Ok((slot, if wake.is_none() { unpacked(&id) } else { None }))
        })?
        .collect()
}

/// Applies a step that purges to each push; how many are gone.
fn purge(writer: &mut Writer, pushes: &[PushId], step: &dyn Decide) -> rusqlite::Result<usize> {
    let mut gone = 0;
    for push in pushes {
        // One that cannot be read stays.
        let applied = apply(writer, &Which::Push(push.clone()), step)?;
        gone += usize::from(applied.is_ok_and(|applied| applied.did == Did::Purged));
    }
    Ok(gone)
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn apply(&self, which: &Which, step: Arc<dyn Decide>) -> Result<Applied, Failure> {
        let which = which.clone();
        let applied = self.database.write(move |writer| apply(writer, &which, &*step)).await;
        let failed = applied.as_ref().err().map(|cause| (self.clock.now(), cause.clone()));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        applied?
    }

    async fn spill(&self, _: &Arrival) -> Result<(), Failure> {
        Err(Failure::Unavailable("the embedded store has no other place for an arrival".into()))
    }

    async fn get(&self, which: &Which) -> Result<Option<Arc<Row>>, Failure> {
        let which = which.clone();
        let found = self.database.read(move |connection| find(connection, &which)).await?;
        let row = found.transpose().map_err(Failure::Corrupt)?;
        Ok(row.filter(|row| !row.is_purged()).map(Arc::new))
    }

    async fn newest_at(&self, place: &str, since: Option<Instant>) -> Result<Option<Arc<Row>>, Failure> {
        let Ok(key) = format!("{place}{}", "0".repeat(32)).parse() else { return Ok(None) };
        let newest = move |connection: &mut Connection| newest_at(connection, &key, since);
        let found = self.database.list(newest).await?;
        Ok(found.transpose().map_err(Failure::Corrupt)?.map(Arc::new))
    }

    async fn list(&self, search: &Search) -> Result<Page, Failure> {
        let search = search.clone();
        self.database.list(move |connection| list(connection, &search)).await
    }

    fn is_cursor(&self, text: &str) -> bool {
        parse_cursor(text).is_some()
    }

    async fn remove_settled(
        &self,
        (from, to): (Instant, Instant),
        max: usize,
        step: Arc<dyn Decide>,
    ) -> Result<Removed, Failure> {
        let mut found = self.database.read(move |connection| oldest(connection, (from, to), max + 1)).await?;
        let rest = if found.len() > max { found.pop() } else { None };
        let at_rest: Vec<PushId> = found.into_iter().filter_map(|(_, id)| id).collect();
        let mut count = 0;
        for some in at_rest.chunks(limits::EMBEDDED_REMOVED_MAX) {
            let (some, step) = (some.to_vec(), Arc::clone(&step));
            count += self.database.write(move |writer| purge(writer, &some, &*step)).await?;
        }
        Ok(Removed::of(count, from, rest.map(|(slot, _)| instant(slot))))
    }

    async fn prepare(&self) -> Health {
        // It is that already, but a page is written all the same.
        let rows = self
            .database
            .write(|writer| writer.connection.pragma_update(None, "user_version", file::SCHEMA_VERSION))
            .await;
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lately = failed.filter(|(at, _)| clock::until(*at, self.clock.now()) < FAILED_LATELY);
        let rows = rows.and_then(|()| lately.map_or(Ok(()), |(_, cause)| Err(cause)));
        Health { queue: rows.clone(), rows, others: Vec::new() }
    }

    async fn census(&self) -> Result<Option<Census>, Failure> {
        self.database.write(Writer::census).await.map(Some)
    }
}

#[async_trait]
impl Wakes for EmbeddedStore {
    async fn due(&self, max: usize) -> Result<Vec<PushId>, Failure> {
        let now = self.clock.now();
        if self.database.next_wake().borrow().is_none_or(|next| next > now) {
            return Ok(Vec::new());
        }
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let found: Vec<Id> = self
            .database
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT id FROM pushes WHERE wake <= ?1 ORDER BY wake LIMIT ?2")?
                    .query_map(params![now.timestamp_millis(), max], |columns| columns.get(0))?
                    .collect()
            })
            .await?;
        Ok(found.iter().filter_map(unpacked).collect())
    }

    async fn put_off(&self, push: &PushId, delay: Duration) -> Result<(), Failure> {
        let later = clock::after(self.clock.now(), delay.min(limits::PUT_BACK_WAIT_MAX)).timestamp_millis();
        let id = packed(&push.key, push.round);
        let sql = "UPDATE pushes SET wake = ?1 WHERE id = ?2 AND wake < ?1";
        self.database
            .write(move |writer| writer.connection.prepare_cached(sql)?.execute(params![later, id]).map(drop))
            .await
    }

    async fn close(&self) {
        let database = Arc::clone(&self.database);
        if let Err(panic) = tokio::task::spawn_blocking(move || database.close()).await {
            tracing::warn!(%panic, "the embedded store was not closed");
        }
    }

    async fn ready(&self, longest: Duration) {
        let end = clock::after(self.clock.now(), longest);
        let mut next = self.database.next_wake();
        loop {
            let now = self.clock.now();
            let due = next.borrow_and_update().map_or(end, |at| at.min(end));
            if due <= now {
                return;
            }
            let sleep = self.clock.sleep(clock::until(now, due));
            let changed = next.changed();
            pin_mut!(sleep, changed);
            if let Either::Right((Err(_), sleep)) = select(sleep, changed).await {
                // The writer's thread has ended; whoever asks next is told.
                sleep.await;
                return;
            }
        }
    }
}
