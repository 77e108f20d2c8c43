//! Timers in the embedded store's file, taken by the same process: a queue with milliseconds.
//!
//! Guarantees, beside those of [`Timers`] and [`Inbox`]: an armed timer survives a kill and a power cut; a shift, a release,
//! a move to the poison queue and back are each one step, so that a message is never in two places; [`Inbox::ready`] returns
//! when the next message becomes visible and not a poll later.
//!
//! Races handled: the receipt of a message is the write that last placed it, and every move compares it in the statement
//! that moves, so of two that move one message the second finds nothing. A message armed while `ready` waits wakes it if
//! it is due sooner.
//!
//! Knowingly accepted: a receive need not reach the disk. A machine that stops right after it forgets the lease and the
//! count, and the message comes again at once instead of when the lease ends. A killed process forgets neither.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use futures_util::pin_mut;
use rusqlite::{ErrorCode, params};

use super::{Armed, Failure, Inbox, Message, Received, Timers};
use crate::clock::{self, Clock, Instant};
use crate::limits;
use crate::store::database::{Database, Writer, first_slot, occupy, slot};
use crate::store::reserved::Reserved;

/// See the module.
pub struct EmbeddedTimers {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
}

/// Where a message is and which write put it there; its text is the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    id: i64,
    slot: i64,
    receipt: i64,
}

impl Place {
    /// `None` for a handle that this queue never gave out.
    fn parse(handle: &Armed) -> Option<Self> {
        let (slot, receipt) = handle.receipt.split_once('.')?;
        Some(Self { id: handle.id.parse().ok()?, slot: slot.parse().ok()?, receipt: receipt.parse().ok()? })
    }

    fn handle(self) -> Armed {
        Armed { id: self.id.to_string(), receipt: format!("{}.{}", self.slot, self.receipt) }
    }
}

impl EmbeddedTimers {
    pub(crate) fn new(database: Arc<Database>, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }

    fn visible(&self, delay: Duration) -> Instant {
        clock::after(self.clock.now(), delay.min(limits::TIMER_DELAY_MAX))
    }

    /// A timer that the write of its row will place. Its handle names the first slot it will try; in the very rare case that
    /// another message has that one, the timer fires as it should, and the handle can neither move nor disarm it.
    fn reserve(&self, message: &Message, delay: Duration, replaces: Option<Place>) -> Armed {
        let (number, visible) = (self.database.number(), self.visible(delay));
        let reserved = Reserved { visible, text: message.text(), replaces };
        self.database.reservations.add(number, reserved, self.clock.now());
        Place { id: number, slot: first_slot(visible, number), receipt: number }.handle()
    }

    /// Texts in the poison queue, oldest first, at most `limit`.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn poisoned(&self, limit: usize) -> Result<Vec<String>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT text FROM poison ORDER BY place LIMIT ?1")?
                    .query_map([limit], |record| record.get(0))?
                    .collect()
            })
            .await
    }
}

/// Places a timer with its row, see [`crate::store::reserved`]. That the one it replaces is gone already, or being handled, is
/// fine: whoever handles it finds another one in charge.
pub(crate) fn place(writer: &mut Writer, number: i64, reserved: &Reserved) -> rusqlite::Result<()> {
    if let Some(at) = reserved.replaces {
        delete(writer, at)?;
    }
    insert(writer, number, &reserved.text, reserved.visible).map(drop)
}

fn arm(writer: &mut Writer, text: &str, visible: Instant) -> rusqlite::Result<Place> {
    let number = writer.number();
    insert(writer, number, text, visible)
}

fn insert(writer: &mut Writer, number: i64, text: &str, visible: Instant) -> rusqlite::Result<Place> {
    let mut insert = writer.connection.prepare_cached(
        "INSERT INTO timers (slot, id, receipt, dequeues, text) VALUES (?1, ?2, ?2, 0, ?3) ON CONFLICT DO NOTHING",
    )?;
    occupy(visible, number, |slot| {
        let inserted = insert.execute(params![slot, number, text])? == 1;
        Ok(inserted.then_some(Place { id: number, slot, receipt: number }))
    })
}

/// Moves a message to another instant under a new receipt; `text` replaces its own, `taken` counts as another dequeue.
/// `None` when it is not where `from` says.
fn replace(
    writer: &mut Writer,
    from: Place,
    text: Option<&str>,
    taken: bool,
    visible: Instant,
) -> rusqlite::Result<Option<Place>> {
    let number = writer.number();
    let mut update = writer.connection.prepare_cached(
        "UPDATE timers SET slot = ?1, receipt = ?2, dequeues = dequeues + ?3, text = coalesce(?4, text)
         WHERE slot = ?5 AND id = ?6 AND receipt = ?7",
    )?;
    occupy(visible, number, |slot| {
        match update.execute(params![slot, number, taken, text, from.slot, from.id, from.receipt]) {
            Ok(0) => Ok(Some(None)),
            Ok(_) => Ok(Some(Some(Place { slot, receipt: number, ..from }))),
            // Another message has this slot.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(None),
            Err(error) => Err(error),
        }
    })
}

fn delete(writer: &Writer, at: Place) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM timers WHERE slot = ?1 AND id = ?2 AND receipt = ?3";
    Ok(writer.connection.prepare_cached(sql)?.execute(params![at.slot, at.id, at.receipt])? == 1)
}

#[async_trait]
impl Timers for EmbeddedTimers {
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        let (text, visible) = (message.text(), self.visible(delay));
        Ok(self.database.write(move |writer| arm(writer, &text, visible)).await?.handle())
    }

    async fn shift(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure> {
        let Some(from) = Place::parse(timer) else { return Ok(None) };
        let (text, visible) = (message.text(), self.visible(delay));
        let moved = self.database.write(move |writer| replace(writer, from, Some(&text), false, visible)).await?;
        Ok(moved.map(Place::handle))
    }

    async fn arm_for_row(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        Ok(self.reserve(message, delay, None))
    }

    async fn shift_for_row(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure> {
        let Some(from) = Place::parse(timer) else { return Ok(None) };
        let replaces = match self.database.reservations.take(from.id) {
            Some(waiting) => waiting.replaces,
            None => Some(from),
        };
        Ok(Some(self.reserve(message, delay, replaces)))
    }

    async fn disarm(&self, timer: &Armed) -> Result<(), Failure> {
        let Some(at) = Place::parse(timer) else { return Ok(()) };
        if self.database.reservations.take(at.id).is_some() {
            return Ok(());
        }
        self.database.write(move |writer| delete(writer, at).map(drop)).await
    }

    async fn set_aside(&self, text: &str) -> Result<(), Failure> {
        let text = text.to_owned();
        self.database
            .write(move |writer| {
                let sql = "INSERT INTO poison (text) VALUES (?1)";
                writer.connection.prepare_cached(sql)?.execute([&text]).map(drop)
            })
            .await
    }

    async fn revive(&self) -> Result<usize, Failure> {
        let mut revived = 0;
        let mut after = 0;
        loop {
            let visible = self.visible(Duration::ZERO);
            let page = self.database.write(move |writer| revive_after(writer, after, visible)).await?;
            revived += page.revived;
            match page.last {
                Some(last) => after = last,
                None => return Ok(revived),
            }
        }
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let sql = "SELECT 1 FROM timers LIMIT 1";
        self.database.write_unflushed(|writer| writer.connection.prepare_cached(sql)?.exists([]).map(drop)).await
    }
}

/// One operation's worth of looking through the poison queue.
struct Revived {
    revived: usize,
    /// Where to go on; `None` at the end.
    last: Option<i64>,
}

fn revive_after(writer: &mut Writer, after: i64, visible: Instant) -> rusqlite::Result<Revived> {
    let found: Vec<(i64, String)> = writer
        .connection
        .prepare_cached("SELECT place, text FROM poison WHERE place > ?1 ORDER BY place LIMIT ?2")?
        .query_map(params![after, i64::try_from(limits::EMBEDDED_REVIVE_BATCH_MAX).unwrap_or(i64::MAX)], |record| {
            Ok((record.get(0)?, record.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut revived = 0;
    for (place, text) in &found {
        if let Some(message) = Message::parse(text) {
            arm(writer, &message.revived().text(), visible)?;
            writer.connection.prepare_cached("DELETE FROM poison WHERE place = ?1")?.execute([place])?;
            revived += 1;
        }
    }
    let full = found.len() == limits::EMBEDDED_REVIVE_BATCH_MAX;
    Ok(Revived { revived, last: found.last().filter(|_| full).map(|(place, _)| *place) })
}

#[async_trait]
impl Inbox for EmbeddedTimers {
    async fn receive(&self, max: usize, lease: Duration) -> Result<Vec<Received>, Failure> {
        let now = self.clock.now();
        if self.database.next_timer().borrow().is_none_or(|next| next > now) {
            return Ok(Vec::new());
        }
        let hidden = clock::after(now, lease);
        let max = i64::try_from(max.clamp(1, 32)).unwrap_or(1);
        // The first slot of the next millisecond bounds what is visible now.
        let bound = slot(clock::after(now, Duration::from_millis(1)));
        self.database.write_unflushed(move |writer| receive(writer, max, bound, hidden)).await
    }

    async fn release(&self, received: &Received, delay: Duration) -> Result<(), Failure> {
        let Some(from) = Place::parse(&received.handle) else { return Ok(()) };
        let visible = self.visible(delay);
        self.database.write(move |writer| replace(writer, from, None, false, visible).map(drop)).await
    }

    async fn poison(&self, received: &Received) -> Result<(), Failure> {
        let Some(at) = Place::parse(&received.handle) else { return Ok(()) };
        self.database
            .write(move |writer| {
                let sql =
                    "INSERT INTO poison (text) SELECT text FROM timers WHERE slot = ?1 AND id = ?2 AND receipt = ?3";
                writer.connection.prepare_cached(sql)?.execute(params![at.slot, at.id, at.receipt])?;
                delete(writer, at).map(drop)
            })
            .await
    }

    async fn ready(&self, longest: Duration) {
        let end = clock::after(self.clock.now(), longest);
        let mut next = self.database.next_timer();
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
                // The writer's thread has ended; whoever receives next is told.
                sleep.await;
                return;
            }
        }
    }
}

fn receive(writer: &mut Writer, max: i64, bound: i64, hidden: Instant) -> rusqlite::Result<Vec<Received>> {
    let due: Vec<(Place, u32, String)> = writer
        .connection
        .prepare_cached("SELECT slot, id, receipt, dequeues, text FROM timers WHERE slot < ?1 ORDER BY slot LIMIT ?2")?
        .query_map(params![bound, max], |record| {
            let place = Place { slot: record.get(0)?, id: record.get(1)?, receipt: record.get(2)? };
            Ok((place, record.get(3)?, record.get(4)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut received = Vec::with_capacity(due.len());
    for (place, dequeues, text) in due {
        if let Some(place) = replace(writer, place, None, true, hidden)? {
            received.push(Received { handle: place.handle(), text: Some(text), dequeue_count: dequeues + 1 });
        }
    }
    Ok(received)
}
