//! Where rows live: the written contract of [`Store`], which every implementation passes in `tests/it/store_contract.rs`.
//!
//! The version travels in the type: nothing is written without saying which version it replaces, and losing that race is a
//! normal outcome. A write whose answer was lost is cleared up inside the implementation (each write carries an id of its
//! own that is read back), so that `Written` and `Conflict` are always true.

pub mod azure;
pub(crate) mod database;
pub mod embedded;
mod file;
pub mod memory;
pub(crate) mod reserved;
pub mod table;

use async_trait::async_trait;

use crate::clock::Instant;
use crate::push::state::Row;
use crate::push::{Key, PushId};

/// The stored version of a row; opaque, equal only for the same write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// A row and the version it was read or written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The row.
    pub row: Row,
    /// Its version.
    pub version: Version,
}

/// What must be stored for a write to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// No row of this id.
    Absent,
    /// The row at exactly this version.
    Version(Version),
}

/// Result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Stored and durable.
    Written(Version),
    /// Something else is stored; nothing was changed.
    Conflict,
}

/// One page of the time index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Ids with the instant each push was opened, newest first. An id without a row is an orphan of a process that died
    /// between the two writes; it is skipped by whoever reads on.
    pub pushes: Vec<(PushId, Instant)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Why a store or a queue could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody has to act: unreachable, throttled or slow; it may work later. Holds the cause, without secrets.
    Unavailable(String),
    /// An operator has to act: what is stored or configured cannot work. Holds the cause, without secrets.
    Corrupt(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable(cause) | Self::Corrupt(cause) => f.write_str(cause),
        }
    }
}

impl std::error::Error for Failure {}

/// Keeps rows.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest round of `key`.
    ///
    /// # Errors
    /// [`Failure`]; a row that cannot be read is `Corrupt`.
    async fn latest(&self, key: &Key) -> Result<Option<Versioned>, Failure>;

    /// The row of exactly this push.
    ///
    /// # Errors
    /// As for [`Store::latest`].
    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure>;

    /// Makes `id` findable by [`Store::list`]. Called before the first write of a row; repeating it changes nothing.
    ///
    /// # Errors
    /// [`Failure`]; the entry may be there all the same.
    async fn index(&self, id: &PushId, opened: Instant) -> Result<(), Failure>;

    /// Writes `row` if `expected` is what is stored. Durable when it returns [`Put::Written`].
    ///
    /// # Errors
    /// `Corrupt` when the store refused the row and nothing was written; after `Unavailable` it may be there or still land.
    async fn put(&self, row: &Row, expected: &Expected) -> Result<Put, Failure>;

    /// Removes the row and its index entry if `version` is what is stored; `false` when something else is.
    ///
    /// # Errors
    /// [`Failure`]; whether the row was removed is then unknown.
    async fn remove(&self, row: &Row, version: &Version) -> Result<bool, Failure>;

    /// Up to `limit` (1 to 1000) pushes, newest first, from `cursor` on. Costs what the page costs, however many there are.
    ///
    /// # Errors
    /// [`Failure`]; a cursor that is not one of this store's own begins at the newest.
    async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<Page, Failure>;

    /// Creates what is missing (table, file) and proves that rows can be reached.
    ///
    /// # Errors
    /// [`Failure`]; what it could create is there.
    async fn prepare(&self) -> Result<(), Failure>;
}
