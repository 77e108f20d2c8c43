//! The one SQLite file behind the embedded store and its timers: who owns it, who writes it, and when a caller is answered.
//!
//! Guarantees
//! - *Durable before answered.* One thread does all writing. It takes what is queued, runs it in one transaction, commits
//!   with the log flushed to disk, and only then answers each caller: the disk's wait is shared by all of them.
//! - *All or nothing, each for itself.* An operation of several statements is never half applied. One that fails undoes the
//!   batch, and the batch is then run again one by one, so that nobody pays for another's failure.
//! - *Reads see what was answered.* Reading has a connection and a thread of its own and never waits for the disk's flush.
//!   A read that began after a write was answered begins after its commit, so it sees it.
//! - *One owner.* A lock file beside the database, held by the operating system for as long as the process lives, turns a
//!   second process away: timers that two processes took from the same file would not be safe, nor would numbers.
//! - *Numbers never come again.* Each opening of the file is counted, and a write number holds that count, so that a
//!   version or receipt from before a restart can fit nothing written after it.
//!
//! Knowingly accepted: a caller that gives up waiting does not undo its operation, as with any remote store. A batch of
//! nothing but receives is committed without the flush: losing it loses a lease, and the message merely comes sooner.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension, ffi};
use tokio::sync::{mpsc, oneshot, watch};

use super::Failure;
use super::file::{adopt, at_open, connect, fault, own};
use super::reserved::Reservations;
use crate::clock::Instant;
use crate::limits;

/// Bits of a write number below the count of openings: 2^40 writes for each of 2^23 openings.
const NUMBER_BITS: u32 = 40;

/// Bits of a slot below its milliseconds.
const TIE_BITS: u32 = 20;
const TIES: i64 = 1 << TIE_BITS;

/// The first of the 2^20 slots of an instant. Slots sort by time; instants before 1691 or after 2248 share the outermost.
pub(crate) fn slot(at: Instant) -> i64 {
    at.timestamp_millis().clamp(-(1 << 43), (1 << 43) - 1) << TIE_BITS
}

/// The instant of a slot.
pub(crate) fn instant(slot: i64) -> Instant {
    Instant::from_timestamp_millis(slot >> TIE_BITS).unwrap_or(Instant::MAX_UTC)
}

/// The slot of an instant that is tried first for `tie`.
pub(crate) fn first_slot(at: Instant, tie: i64) -> i64 {
    slot(at) | (tie & (TIES - 1))
}

/// Calls `occupy` with one slot of an instant after the other, beginning at `tie`, until it takes one.
pub(crate) fn occupy<T>(
    at: Instant,
    tie: i64,
    mut occupy: impl FnMut(i64) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<T> {
    for step in 0..TIES {
        if let Some(done) = occupy(first_slot(at, tie + step))? {
            return Ok(done);
        }
    }
    let full = Some("more than a million entries in one millisecond".to_owned());
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), full))
}

/// What writing has to hand, on the writer's thread only.
pub(crate) struct Writer {
    /// The writing connection, inside the batch's transaction.
    pub(crate) connection: Connection,
    numbers: Numbers,
    flushing: bool,
}

/// Write numbers, also for what is decided before it is written.
#[derive(Clone)]
struct Numbers(Arc<AtomicI64>);

impl Numbers {
    fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Writer {
    /// A number that no write of this file ever had.
    pub(crate) fn number(&mut self) -> i64 {
        self.numbers.next()
    }
}

/// An operation on its way to a thread, and the way back to its caller.
trait Task<C>: Send {
    fn run(&mut self, context: &mut C) -> rusqlite::Result<()>;
    fn flush(&self) -> bool;
    fn answer(self: Box<Self>, end: Result<(), Failure>);
}

struct Call<F, T> {
    work: F,
    flush: bool,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<C, T: Send, F: FnMut(&mut C) -> rusqlite::Result<T> + Send> Task<C> for Call<F, T> {
    fn run(&mut self, context: &mut C) -> rusqlite::Result<()> {
        self.result = Some((self.work)(context)?);
        Ok(())
    }

    fn flush(&self) -> bool {
        self.flush
    }

    fn answer(self: Box<Self>, end: Result<(), Failure>) {
        let Self { result, reply, .. } = *self;
        let answer = end.and_then(|()| result.ok_or_else(ended));
        // A caller that gave up has nobody to tell.
        let _ = reply.send(answer);
    }
}

type Queue<C> = mpsc::Sender<Box<dyn Task<C>>>;
type Waiting<C> = mpsc::Receiver<Box<dyn Task<C>>>;

/// The open file. Dropping it lets queued operations finish, closes the file and waits for both.
pub(crate) struct Database {
    writes: Option<Queue<Writer>>,
    reads: Option<Queue<Connection>>,
    threads: Vec<JoinHandle<()>>,
    next_timer: watch::Receiver<Option<Instant>>,
    numbers: Numbers,
    pub(crate) reservations: Reservations,
    /// Held until both threads have ended.
    _owner: File,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Database {
    /// Opens the file, or creates it in a folder that exists, and becomes its owner.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        // Two names of one file must meet at one lock.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let owner = own(&path)?;
        let name = path.display().to_string();
        let fail = |error: rusqlite::Error| at_open(&name, &error);
        let connection = connect(&path).map_err(fail)?;
        adopt(&connection, &name)?;
        connection.pragma_update(None, "wal_autocheckpoint", limits::EMBEDDED_LOG_PAGES).map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        let openings: i64 = connection
            .query_row("UPDATE openings SET count = count + 1 RETURNING count", [], |row| row.get(0))
            .map_err(fail)?;
        let reader = connect(&path).map_err(fail)?;
        reader.pragma_update(None, "query_only", true).map_err(fail)?;

        let (next, next_timer) = watch::channel(next_timer(&connection).map_err(fail)?);
        let numbers = Numbers(Arc::new(AtomicI64::new(openings << NUMBER_BITS)));
        let writer = Writer { connection, numbers: numbers.clone(), flushing: true };
        let (writes, waiting_writes) = mpsc::channel(limits::EMBEDDED_QUEUE_MAX);
        let (reads, waiting_reads) = mpsc::channel(limits::EMBEDDED_QUEUE_MAX);
        let for_reader = name.clone();
        let threads = vec![
            spawn("embedded-writer", move || write_all(writer, waiting_writes, &next, &name))?,
            spawn("embedded-reader", move || read_all(reader, waiting_reads, &for_reader))?,
        ];
        let reservations = Reservations::default();
        Ok(Self { writes: Some(writes), reads: Some(reads), threads, next_timer, numbers, reservations, _owner: owner })
    }

    /// A number that no write of this file ever had.
    pub(crate) fn number(&self) -> i64 {
        self.numbers.next()
    }

    /// Runs `work` in the next batch. It may be run again from the start when another operation of the batch fails.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Writer) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        ask(self.writes.as_ref(), true, work).await
    }

    /// As [`Database::write`], but not necessarily flushed: the work may be undone if the machine stops.
    pub(crate) async fn write_unflushed<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Writer) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        ask(self.writes.as_ref(), false, work).await
    }

    /// Runs `work` on the reading connection.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        ask(self.reads.as_ref(), false, work).await
    }

    /// When the next timer becomes visible; changes before the write that changed it is answered.
    pub(crate) fn next_timer(&self) -> watch::Receiver<Option<Instant>> {
        self.next_timer.clone()
    }
}

async fn ask<C, T: Send + 'static>(
    queue: Option<&Queue<C>>,
    flush: bool,
    work: impl FnMut(&mut C) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let (reply, answer) = oneshot::channel();
    let call = Box::new(Call { work, flush, result: None, reply });
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
}

fn read_all(mut reader: Connection, mut queue: Waiting<Connection>, name: &str) {
    while let Some(mut task) = queue.blocking_recv() {
        let end = task.run(&mut reader).map_err(|e| fault(name, &e));
        task.answer(end);
    }
}

impl Writer {
    /// Runs a batch in one transaction; leaves none open.
    fn run(&mut self, batch: &mut [Box<dyn Task<Self>>]) -> Result<(), Stop> {
        let end = self.run_inside(batch);
        if end.is_err() && !self.connection.is_autocommit() {
            // Fails only when the error has ended the transaction already.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        end
    }

    fn run_inside(&mut self, batch: &mut [Box<dyn Task<Self>>]) -> Result<(), Stop> {
        let flush = batch.iter().any(|task| task.flush());
        if flush != self.flushing {
            let level = if flush { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level).map_err(Stop::Transaction)?;
            self.flushing = flush;
        }
        self.execute("BEGIN IMMEDIATE").map_err(Stop::Transaction)?;
        for task in batch {
            task.run(self).map_err(Stop::Operation)?;
        }
        self.execute("COMMIT").map_err(Stop::Transaction)
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Tells waiting receivers when the next timer is due. When that cannot be read they are told to come at once, and
    /// then learn the cause.
    fn publish(&self, next: &watch::Sender<Option<Instant>>) {
        let at = next_timer(&self.connection).unwrap_or(Some(Instant::MIN_UTC));
        next.send_if_modified(|known| std::mem::replace(known, at) != at);
    }
}

impl Stop {
    fn fault(self, name: &str) -> Failure {
        match self {
            Self::Operation(error) => fault(name, &error),
            Self::Transaction(error) => {
                Failure::Unavailable(format!("{name}: the write could not be committed: {error}"))
            }
        }
    }
}

fn next_timer(connection: &Connection) -> rusqlite::Result<Option<Instant>> {
    let mut first = connection.prepare_cached("SELECT slot FROM timers ORDER BY slot LIMIT 1")?;
    Ok(first.query_row([], |row| row.get(0)).optional()?.map(instant))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite calls them: 2 waits for the disk at every commit, 1 does not.
    const FULL: i64 = 2;
    const NORMAL: i64 = 1;

    fn level(writer: &mut Writer) -> rusqlite::Result<(i64, String)> {
        let level = writer.connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        Ok((level, writer.connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?))
    }

    #[tokio::test]
    async fn what_is_answered_was_waited_for_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("store.db")).unwrap();
        for _ in 0..2 {
            assert_eq!(database.write(level).await.unwrap(), (FULL, "wal".into()));
            assert_eq!(database.write_unflushed(level).await.unwrap(), (NORMAL, "wal".into()));
        }
        // In one batch with others, the wait is for all of them. The first holds the writer until the others are queued.
        let (begin, begun) = oneshot::channel();
        let (queued, wait) = std::sync::mpsc::channel::<()>();
        let mut begin = Some(begin);
        let first = database
            .write_unflushed(move |_| Ok(begin.take().is_some_and(|b| b.send(()).is_ok()) && wait.recv().is_ok()));
        let others = async {
            begun.await.unwrap();
            let (unflushed, flushed) = (database.write_unflushed(level), database.write(level));
            tokio::join!(unflushed, flushed, async { queued.send(()) })
        };
        let (first, (unflushed, flushed, told)) = tokio::join!(first, others);
        assert!(first.unwrap() && told.is_ok());
        assert_eq!((unflushed.unwrap().0, flushed.unwrap().0), (FULL, FULL));
    }
}
