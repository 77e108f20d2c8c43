//! What operators look at and take away: rows, the list of pushes, and their end.
//!
//! Guarantee: a push is listed once and only while its row is there and can be read. The index may name more: a process that
//! loses the race for a first row has written an entry for it before, and one that dies between the two writes leaves one
//! behind.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tracing::{error, info};

use super::Engine;
use crate::clock::Instant;
use crate::limits;
use crate::push::state::Row;
use crate::push::{Key, Outcome, PushId};
use crate::store::Failure;

/// Rows read at the same time for one page.
const READS_AT_ONCE: usize = 16;

/// A push as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: PushId,
    /// When its first arrival was received.
    pub opened: Instant,
    /// When its row last changed.
    pub updated: Instant,
    /// What was pushed, as people write it.
    pub image: String,
    /// How it settled; `None` while it waits.
    pub outcome: Option<Outcome>,
}

/// What became of a request to purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// The row is gone.
    Purged,
    /// The push still waits or owes a notification, or it is the first round of a key that has later ones.
    Owing,
}

impl Engine {
    /// The row of a push.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn row(&self, id: &PushId) -> Result<Option<Row>, Failure> {
        let get = async { Ok(self.store.get(id).await?.map(|stored| stored.row)) };
        self.within(limits::OPERATOR_CALL_BUDGET, get).await
    }

    /// The newest round of a key.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn newest(&self, key: &Key) -> Result<Option<Row>, Failure> {
        let get = async { Ok(self.store.latest(key).await?.map(|stored| stored.row)) };
        self.within(limits::OPERATOR_CALL_BUDGET, get).await
    }

    /// A page of pushes, newest first, and where the next page begins; `None` at the end. At most `limit` (1 to 1000); there
    /// may be fewer, or none, before the end. Costs one request for the index and one for each entry of the page.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<(Vec<Listed>, Option<String>), Failure> {
        let list = async {
            let page = self.store.list(limit, cursor).await?;
            let looks = page.pushes.into_iter().map(|(id, indexed)| async move {
                let stored = match self.store.get(&id).await {
                    // One that cannot be read must not hide all that are older.
                    Err(Failure::Corrupt(cause)) => {
                        error!(push.id = %id, cause, "a row cannot be read and is left out of the list");
                        None
                    }
                    other => other?,
                };
                // An entry of another instant is that of a writer who lost the race for this row.
                Ok::<_, Failure>(stored.map(|stored| stored.row).filter(|row| row.opened == indexed).map(Listed::of))
            });
            let listed: Vec<Option<Listed>> = stream::iter(looks).buffered(READS_AT_ONCE).try_collect().await?;
            Ok((listed.into_iter().flatten().collect(), page.next))
        };
        self.within(limits::OPERATOR_CALL_BUDGET, list).await
    }

    /// Removes a push that owes nothing; the row that stands in the way otherwise, `None` for an unknown push.
    ///
    /// # Errors
    /// The store could not be asked in time; the row may be gone all the same.
    pub async fn purge(&self, id: &PushId) -> Result<Option<Purge>, Failure> {
        let purge = async {
            loop {
                let Some(stored) = self.store.get(id).await? else { return Ok(None) };
                if stored.row.wake().is_some() {
                    return Ok(Some(Purge::Owing));
                }
                // Round 1 stands for its key: with it gone, a process that inserts without reading would open it again.
                let newest = if id.round == 1 { self.store.latest(&id.key).await? } else { None };
                if newest.is_some_and(|newest| newest.row.id.round > 1) {
                    return Ok(Some(Purge::Owing));
                }
                self.remembered.forget(&id.key);
                if self.store.remove(&stored.row, &stored.version).await? {
                    info!(push.id = %id, input = "purge", outcome = "purged");
                    return Ok(Some(Purge::Purged));
                }
            }
        };
        self.within(limits::OPERATOR_CALL_BUDGET, purge).await
    }
}

impl Listed {
    fn of(row: Row) -> Self {
        let (image, outcome) = (row.subject.image(), row.settled().map(|settled| settled.outcome));
        Self { id: row.id, opened: row.opened, updated: row.updated, image, outcome }
    }
}
