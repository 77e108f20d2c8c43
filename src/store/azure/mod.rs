//! Pushes in a table and their timers in a queue: how two services that share no transaction make one durable step.
//!
//! Guarantees
//! - *Arm before commit.* A row that owes something is written only after a durable timer that covers what it owes. A spare
//!   timer is harmless: its ticket is not the row's, and it dies.
//! - *Same, newer, older.* A timer says which write armed it; the row says which write armed its timer. The same: act. The
//!   timer's is newer: the write may still land, look once more in 15 s. Older: die.
//! - *One after the other.* Steps on one push in this process take turns, so they cost no conflicts; those of other processes
//!   meet at the row's version.
//!
//! Races
//! - *Two writers of one row.* 1. Both read version 1. 2. Both arm a timer for revision 2, each with a ticket of its own.
//!   3. One write lands. 4. The other conflicts, its timer is deleted, and it starts again.
//! - *A write whose answer is lost.* 1. The write is sent. 2. It lands. 3. Its answer is lost. 4. Somebody writes on top.
//!   5. The repeat meets a foreign version: in doubt. Its timer stays, since the row may name it, and the step starts again.
//! - *A write that lands late.* 1. A timer is armed and the write sent. 2. The caller gives up. 3. The timer fires and finds an
//!   older row: it is newer, and looks once more in 15 s. 4. The write has landed by then, and the timer acts.
//! - *A timer moved for a write that fails.* Timers are only ever moved to an earlier instant, so the stored row is looked at
//!   too soon rather than too late. To wait longer, another one is armed and the old one deleted afterwards.
//! - *The next round.* 1. A reads round 1 and inserts round 2. 2. B has read round 1 before, and would add to it. So A writes
//!   round 1 again, unchanged. 3a. A is first: B's write conflicts, B reads, and finds round 2. 3b. B was first: A's write
//!   conflicts, A takes round 2 back, of which nobody was told yet, and starts again.
//! - *A purge while the next round opens.* 1. A reads round 1. 2. B purges it. 3. A inserts round 2. 4. C must not find
//!   nothing and open round 1. So a purged row stays for an hour, and whoever opens the round after it first writes it again,
//!   which lets it stay for another.
//! - *A removal while something is reported.* 1. A reads a spent row (nothing was a repeat of it for an hour, nobody wrote it,
//!   and it owes nothing). 2. B reads it too, to add a late region or an operator's word. 3a. A deletes it at the version that
//!   it read; B's write conflicts, B finds nothing, and opens the first round. 3b. B writes; A's delete conflicts, and the row
//!   stays. Either is as if one had come after the other. What B remembers of the row leads to a write, which conflicts alike.
//! - *A removal while the next round opens.* 1. A reads round 1, which is spent, or will be within half an hour. 2. C removes it.
//!   3. A inserts round 2. 4. D must not find nothing and open round 1 beside it. So A first writes round 1 again, as changed
//!   now: 2a. C was first: A's write conflicts, and A finds what D finds. 2b. A was first: C's delete conflicts, and for an hour
//!   nobody else's step removes it. Then A goes on as in *the next round*.
//! - *A delete that lands late* lands at the version that was read, or not at all. Its entry is that of one instant, and the next
//!   push of the same name has another.
//! - *Two who remove.* Both read the row; one deletes it and counts it, the other conflicts. An entry that is gone is gone.
//!
//! Knowingly accepted: a process killed between the two writes of *the next round*, or one whose round 2 somebody has added to
//! before it could take it back, leaves B as it was: B's report is in round 1, as if it had come before; and in round 2 as
//! well, if the same webhook was under way twice at that instant, doubled by its sender or both to its row and over the queue.
//! Whoever asks meanwhile whether the tag has moved finds round 2, which is taken back: true of the tag, and A opens it anew.
//! And nobody can tell any more that a tag has moved, or that a region reported before, by a push that was removed.

pub mod apply;
mod apps;
mod census;
pub mod connection;
mod entity;
pub mod fired;
mod identity;
mod lists;
pub mod look;
pub mod message;
mod names;
pub mod parts;
mod policies;
pub mod queue;
mod remembered;
mod removal;
pub mod table;
mod transport;
mod turns;
pub mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::future::join;

use self::apps::Apps;
use self::census::Owing;
use self::message::{Message, Spill, Upkeep};
pub use self::names::{Names, QUEUE, TABLE};
use self::parts::{Queue, Rows, Ticket};
use self::remembered::Remembered;
use self::turns::Turns;
use super::{Applied, Census, Decide, Failure, Health, Page, Removed, Search, Store, Which};
use crate::clock::{Clock, Instant};
use crate::limits;
use crate::push::{Arrival, Key, Row};

/// Rows read at the same time, for one page or one look.
const READS_AT_ONCE: usize = 16;

/// See the module.
pub struct AzureStore {
    rows: Arc<dyn Rows>,
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    apps: Apps,
    remembered: Remembered,
    turns: Turns,
    owing: Owing,
    /// Numbers the writes of this process, from a start of its own.
    writes: AtomicU64,
}

impl AzureStore {
    /// Pushes in `rows` and `queue`. `app` is whose they are; `seed` must differ between processes.
    #[must_use]
    pub fn new(rows: Arc<dyn Rows>, queue: Arc<dyn Queue>, clock: Arc<dyn Clock>, app: String, seed: u64) -> Self {
        Self {
            rows,
            queue,
            clock,
            apps: Apps::new(app),
            remembered: Remembered::default(),
            turns: Turns::default(),
            owing: Owing::default(),
            writes: AtomicU64::new(seed),
        }
    }

    fn ticket(&self, revision: u64) -> Ticket {
        Ticket { revision, writer: self.writes.fetch_add(1, Ordering::Relaxed) }
    }

    /// Copies a text of the queue that is not ours to the poison queue.
    ///
    /// # Errors
    /// As for [`Queue::set_aside`].
    pub async fn set_aside(&self, text: &str) -> Result<(), Failure> {
        self.queue.set_aside(text).await
    }
}

#[async_trait]
impl Store for AzureStore {
    async fn apply(&self, which: &Which, step: Arc<dyn Decide>) -> Result<Applied, Failure> {
        self.run(which, &*step).await
    }

    async fn spill(&self, arrival: &Arrival) -> Result<(), Failure> {
        let message = Message::Spill(Spill::of(arrival, self.apps.own()));
        if message.text().len() > limits::MESSAGE_BYTES_MAX {
            return Err(Failure::Corrupt("the webhook is too large for the queue".into()));
        }
        // The note is what keeps a push from timing out while this waits.
        let (noted, armed) =
            join(self.queue.note_spill(self.clock.now()), self.queue.arm(&message, limits::TIMER_DELAY_MIN)).await;
        if let (Err(cause), Ok(_)) = (noted, &armed) {
            tracing::warn!(%cause, "an arrival is on the queue, but that one waits there could not be noted; its push may time out before");
        }
        armed.map(drop)
    }

    async fn get(&self, which: &Which) -> Result<Option<Arc<Row>>, Failure> {
        Ok(self.read(which).await?.and_then(|stored| apply::shown(&stored.record.row)))
    }

    async fn newest_at(&self, place: &str, since: Option<Instant>) -> Result<Option<Arc<Row>>, Failure> {
        self.newest_of(place, since).await
    }

    async fn list(&self, search: &Search) -> Result<Page, Failure> {
        self.search(search).await
    }

    fn is_cursor(&self, text: &str) -> bool {
        lists::is_cursor(text)
    }

    async fn remove_settled(
        &self,
        span: (Instant, Instant),
        max: usize,
        step: Arc<dyn Decide>,
    ) -> Result<Removed, Failure> {
        self.remove_oldest(span, max, &*step).await
    }

    async fn prepare(&self) -> Health {
        let rows = async {
            self.rows.prepare().await?;
            self.apps.sign(&*self.rows, self.clock.now()).await
        };
        let queue = async {
            self.queue.prepare().await?;
            // No write is called so: should its deletion be lost, it dies.
            let probe = Message::Upkeep(Upkeep { ticket: Ticket { revision: 0, writer: u64::MAX }, first: false });
            let handle = self.queue.arm(&probe, limits::SECOND_LOOK).await?;
            self.queue.disarm(&handle).await
        };
        let (rows, queue) = join(rows, queue).await;
        let others = match &rows {
            Ok(()) => self.apps.others(&*self.rows, self.clock.now()).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        Health { rows, queue, others }
    }

    async fn census(&self) -> Result<Option<Census>, Failure> {
        Ok(Some(self.owing.census(self.clock.now())))
    }
}

/// A short pause that grows with the conflicts lost and differs between writers, without chance.
fn conflict_pause(key: &Key, writer: u64, conflicts: u32) -> std::time::Duration {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hash = DefaultHasher::new();
    (key, writer, conflicts).hash(&mut hash);
    std::time::Duration::from_millis(hash.finish() % (4 * u64::from(conflicts.min(16))))
}
