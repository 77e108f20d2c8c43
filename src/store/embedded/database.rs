//! The one SQLite file behind the embedded store: who owns it, who writes it, and when a caller is answered.
//!
//! Guarantees
//! - *Durable before answered.* One thread does all writing. It takes what is queued, runs it in one transaction, commits
//!   with the log flushed to disk, and only then answers each caller: the disk's wait is shared by all of them.
//! - *All or nothing, each for itself.* An operation of several statements is never half applied. One that fails undoes the
//!   batch, and the batch is then run again one by one, so that nobody pays for another's failure.
//! - *Reads see what was answered.* Reading has a connection and a thread of its own and never waits for the disk's flush; lists
//!   have another, so that nobody who looks through many pushes holds up what is due.
//!   A read that began after a write was answered begins after its commit, so it sees it.
//! - *One owner.* A lock file beside the database, held by the operating system for as long as the process lives, turns a
//!   second process away. So what the writer remembers of the file is what is in it.
//!
//! Knowingly accepted: a caller that gives up waiting does not undo its operation, as with any remote store.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lru::LruCache;
use rusqlite::{Connection, OptionalExtension, ffi};
use tokio::sync::{mpsc, oneshot, watch};

use super::file::{adopt, at_open, complete, connect, fault, own, place, prepare, tighten};
use crate::clock::Instant;
use crate::limits;
use crate::metrics::{Answered, Requests};
use crate::push::{Key, Row};
use crate::store::{Census, Failure, Which};

/// Bits of a slot below its milliseconds.
const TIE_BITS: u32 = 20;
const TIES: i64 = 1 << TIE_BITS;

/// The first of the 2^20 slots of an instant. Slots sort by time; instants before 1691 or after 2248 share the outermost.
pub(super) fn slot(at: Instant) -> i64 {
    at.timestamp_millis().clamp(-(1 << 43), (1 << 43) - 1) << TIE_BITS
}

/// The instant of a slot.
pub(super) fn instant(slot: i64) -> Instant {
    Instant::from_timestamp_millis(slot >> TIE_BITS).unwrap_or(Instant::MAX_UTC)
}

/// Calls `occupy` with one slot of an instant after the other, beginning at `tie`, until it takes one.
pub(super) fn occupy(
    at: Instant,
    tie: i64,
    mut occupy: impl FnMut(i64) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    for step in 0..TIES {
        if occupy(slot(at) | ((tie + step) & (TIES - 1)))? {
            return Ok(());
        }
    }
    let full = Some("more than a million pushes in one millisecond".to_owned());
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), full))
}

/// What writing has to hand, on the writer's thread only.
pub(super) struct Writer {
    /// The writing connection, inside the batch's transaction.
    pub(super) connection: Connection,
    /// The newest rounds of the keys written last, the batch's own included. Emptied when a batch is undone.
    newest: LruCache<Key, Arc<Row>>,
    /// What all rows owe, once somebody has asked for it. Counted anew after a batch is undone.
    census: Option<Census>,
}

impl Writer {
    fn new(connection: Connection) -> Self {
        let size = NonZeroUsize::new(limits::REMEMBERED_ROWS_MAX).unwrap_or(NonZeroUsize::MIN);
        Self { connection, newest: LruCache::new(size), census: None }
    }

    /// The row, if it is at hand.
    pub(super) fn known(&mut self, which: &Which) -> Option<Arc<Row>> {
        let row = self.newest.get(which.key())?;
        match which {
            Which::Newest(_) => Some(Arc::clone(row)),
            Which::Push(id) => (row.id == *id).then(|| Arc::clone(row)),
        }
    }

    /// Remembers a row that was just written, if it is known to be the newest of its key and not large.
    pub(super) fn remember(&mut self, which: &Which, row: &Arc<Row>) {
        let key = &row.id.key;
        let newest = matches!(which, Which::Newest(_)) || self.newest.peek(key).is_some_and(|known| known.id == row.id);
        if !newest {
            return;
        }
        if row.wake().is_some() && row.payload.len() <= limits::REMEMBERED_PAYLOAD_BYTES_MAX {
            self.newest.put(key.clone(), Arc::clone(row));
        } else {
            self.newest.pop(key);
        }
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.newest.pop(key);
    }

    /// Keeps count of what is owed, where a row is written over another, or one of the two is none.
    pub(super) fn owes(&mut self, before: Option<&Row>, after: Option<&Row>) {
        let of = |row: Option<&Row>| row.map(Census::of).unwrap_or_default();
        self.census = self.census.map(|all| all.with(of(after)).without(of(before)));
    }

    /// What all rows owe: counted over those that owe something when it is first asked for, then kept. The counting takes some
    /// microseconds for each of them.
    pub(super) fn census(&mut self) -> rusqlite::Result<Census> {
        if let Some(known) = self.census {
            return Ok(known);
        }
        let counted = self.connection.query_row(
            "SELECT count(*) FILTER (WHERE waits), coalesce(sum(CASE WHEN waits THEN 0 ELSE
                 (SELECT count(value -> '$.delivery.owed') FROM json_each(body, '$.row.phase.settled.outbox')) END), 0)
             FROM (SELECT body, body -> '$.row.phase.waiting' IS NOT NULL AS waits FROM pushes WHERE wake IS NOT NULL)",
            [],
            |columns| {
                let count = |at| columns.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
                Ok(Census { waiting: count(0)?, owed: count(1)? })
            },
        )?;
        self.census = Some(counted);
        Ok(counted)
    }
}

/// An operation on its way to a thread, and the way back to its caller.
trait Task<C>: Send {
    fn run(&mut self, context: &mut C) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, end: Result<(), Failure>);
    /// Whether its caller still waits.
    fn is_wanted(&self) -> bool;
}

struct Call<F, T> {
    work: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<C, T: Send, F: FnMut(&mut C) -> rusqlite::Result<T> + Send> Task<C> for Call<F, T> {
    fn run(&mut self, context: &mut C) -> rusqlite::Result<()> {
        self.result = Some((self.work)(context)?);
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<(), Failure>) {
        let Self { result, reply, .. } = *self;
        let answer = end.and_then(|()| result.ok_or_else(ended));
        // A caller that gave up has nobody to tell.
        let _ = reply.send(answer);
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }
}

type Queue<C> = mpsc::Sender<Box<dyn Task<C>>>;
type Waiting<C> = mpsc::Receiver<Box<dyn Task<C>>>;

/// The open file. Dropping it closes it.
pub(super) struct Database {
    /// `None` once it is closed.
    open: Mutex<Option<Open>>,
    next_wake: watch::Receiver<Option<Instant>>,
    /// Operations by kind and result.
    pub(super) requests: Requests,
    /// Held until all threads have ended.
    _owner: File,
}

struct Open {
    writes: Queue<Writer>,
    reads: Queue<Connection>,
    /// Begun with the first list: until then it would only cost memory.
    lists: Option<Queue<Connection>>,
    path: PathBuf,
    threads: Vec<JoinHandle<()>>,
}

impl Open {
    /// The way to the thread for lists, which begins with the first.
    fn lists(&mut self) -> Result<Queue<Connection>, Failure> {
        if let Some(lists) = &self.lists {
            return Ok(lists.clone());
        }
        let name = self.path.display().to_string();
        let lister = reading(&self.path).map_err(|error| fault(&name, &error))?;
        let (lists, waiting) = mpsc::channel(limits::EMBEDDED_QUEUE_MAX);
        self.threads.push(spawn("embedded-lists", move || read_all(lister, waiting, &name))?);
        self.lists = Some(lists.clone());
        Ok(lists)
    }
}

/// A connection that cannot write.
fn reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}

impl Database {
    /// Opens the file, or creates it in a folder that exists, and becomes its owner.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        // Two names of one file must meet at one lock.
        let path = place(path)?;
        let owner = own(&path)?;
        prepare(&path)?;
        let name = path.display().to_string();
        let fail = |error: rusqlite::Error| at_open(&name, &error);
        let connection = connect(&path).map_err(fail)?;
        adopt(&connection, &name)?;
        tighten(&path)?;
        connection.pragma_update(None, "wal_autocheckpoint", limits::EMBEDDED_LOG_PAGES).map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        let reader = reading(&path).map_err(fail)?;

        let (next, next_wake) = watch::channel(first_wake(&connection).map_err(fail)?);
        let writer = Writer::new(connection);
        let (writes, waiting_writes) = mpsc::channel(limits::EMBEDDED_QUEUE_MAX);
        let (reads, waiting_reads) = mpsc::channel(limits::EMBEDDED_QUEUE_MAX);
        let for_reader = name.clone();
        let threads = vec![
            spawn("embedded-writer", move || write_all(writer, waiting_writes, &next, &name))?,
            spawn("embedded-reader", move || read_all(reader, waiting_reads, &for_reader))?,
        ];
        let open = Mutex::new(Some(Open { writes, reads, lists: None, path, threads }));
        Ok(Self { open, next_wake, requests: Requests::new(&["read", "write"]), _owner: owner })
    }

    /// Lets queued operations finish, closes the file, complete in itself, and waits for its threads. Later operations fail.
    pub(super) fn close(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Open { writes, reads, lists, threads, .. }) = open else { return };
        drop((writes, reads, lists));
        for thread in threads {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }

    /// The way to one of the threads, while the file is open.
    fn queue<C>(&self, of: impl Fn(&Open) -> &Queue<C>) -> Option<Queue<C>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|open| of(open).clone())
    }

    /// Runs `work` in the next batch. It may be run again from the start when another operation of the batch fails.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Writer) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.counted("write", ask(self.queue(|open| &open.writes), work).await)
    }

    /// Runs `work` on the reading connection.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.counted("read", ask(self.queue(|open| &open.reads), work).await)
    }

    /// Runs `work`, which looks through many rows, on the connection for lists.
    pub(super) async fn list<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let lists = self.open.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(Open::lists).transpose()?;
        self.counted("read", ask(lists, work).await)
    }

    fn counted<T>(&self, kind: &str, end: Result<T, Failure>) -> Result<T, Failure> {
        self.requests.count(kind, if end.is_ok() { Answered::Ok } else { Answered::Failed });
        end
    }

    /// When a push is due next; changes before the write that changed it is answered.
    pub(super) fn next_wake(&self) -> watch::Receiver<Option<Instant>> {
        self.next_wake.clone()
    }
}

async fn ask<C, T: Send + 'static>(
    queue: Option<Queue<C>>,
    work: impl FnMut(&mut C) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let (reply, answer) = oneshot::channel();
    let call = Box::new(Call { work, result: None, reply });
    queue.ok_or_else(ended)?.send(call).await.map_err(|_| ended())?;
    answer.await.unwrap_or_else(|_| Err(ended()))
}

fn ended() -> Failure {
    Failure::Unavailable("the embedded store's thread has ended; restart the service".into())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| Failure::Unavailable(format!("a thread of the embedded store could not be started: {e}")))
}

/// How a batch failed.
enum Stop {
    /// An operation of it did.
    Operation(rusqlite::Error),
    /// The transaction could not begin or be committed, whatever was in it.
    Transaction(rusqlite::Error),
}

fn write_all(mut writer: Writer, mut queue: Waiting<Writer>, next: &watch::Sender<Option<Instant>>, name: &str) {
    let mut batch = Vec::with_capacity(limits::EMBEDDED_BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, limits::EMBEDDED_BATCH_MAX) > 0 {
        match writer.run(&mut batch) {
            Err(Stop::Operation(_)) if batch.len() > 1 => {
                for mut task in batch.drain(..) {
                    let end = writer.run(std::slice::from_mut(&mut task));
                    writer.publish(next);
                    task.answer(end.map_err(|stop| stop.fault(name)));
                }
            }
            end => {
                writer.publish(next);
                let end = end.map_err(|stop| stop.fault(name));
                for task in batch.drain(..) {
                    task.answer(end.clone());
                }
            }
        }
    }
    complete(&writer.connection, name);
}

fn read_all(mut reader: Connection, mut queue: Waiting<Connection>, name: &str) {
    while let Some(mut task) = queue.blocking_recv() {
        if !task.is_wanted() {
            continue;
        }
        let end = task.run(&mut reader).map_err(|e| fault(name, &e));
        task.answer(end);
    }
}

impl Writer {
    /// Runs a batch in one transaction; leaves none open.
    fn run(&mut self, batch: &mut [Box<dyn Task<Self>>]) -> Result<(), Stop> {
        let end = self.run_inside(batch);
        if end.is_err() {
            self.newest.clear();
            self.census = None;
            if !self.connection.is_autocommit() {
                // Fails only when the error has ended the transaction already.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        }
        end
    }

    fn run_inside(&mut self, batch: &mut [Box<dyn Task<Self>>]) -> Result<(), Stop> {
        self.execute("BEGIN IMMEDIATE").map_err(Stop::Transaction)?;
        for task in batch {
            task.run(self).map_err(Stop::Operation)?;
        }
        self.execute("COMMIT").map_err(Stop::Transaction)
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Tells who waits when a push is due next. When that cannot be read they are told to come at once, and then learn the
    /// cause.
    fn publish(&self, next: &watch::Sender<Option<Instant>>) {
        let at = first_wake(&self.connection).unwrap_or(Some(Instant::MIN_UTC));
        next.send_if_modified(|known| std::mem::replace(known, at) != at);
    }
}

impl Stop {
    fn fault(self, name: &str) -> Failure {
        match self {
            Self::Operation(error) => fault(name, &error),
            Self::Transaction(error) => match fault(name, &error) {
                Failure::Unavailable(cause) | Failure::Corrupt(cause) => {
                    Failure::Unavailable(format!("{cause} (the write could not be committed)"))
                }
            },
        }
    }
}

fn first_wake(connection: &Connection) -> rusqlite::Result<Option<Instant>> {
    let mut first =
        connection.prepare_cached("SELECT wake FROM pushes WHERE wake IS NOT NULL ORDER BY wake LIMIT 1")?;
    let wake: Option<i64> = first.query_row([], |columns| columns.get(0)).optional()?;
    Ok(wake.map(|millis| Instant::from_timestamp_millis(millis).unwrap_or(Instant::MAX_UTC)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_answered_was_waited_for_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("store.db")).unwrap();
        let level = |writer: &mut Writer| {
            let level: i64 = writer.connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            let mode: String = writer.connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            Ok((level, mode))
        };
        // What SQLite calls it: 2 waits for the disk at every commit.
        assert_eq!(database.write(level).await.unwrap(), (2, "wal".into()));
    }
}
