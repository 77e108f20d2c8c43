//! The two services that [`AzureStore`](super::AzureStore) is made of, as contracts: [`Rows`] (a table) and [`Queue`]. They
//! share no transaction. The simulation has both fail in every way that these contracts allow.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::message::Message;
use crate::clock::Instant;
use crate::push::{Key, PushId, Row, Subject};
pub use crate::store::Failure;

/// Names the write that armed a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ticket {
    /// The revision of the row that the write makes.
    pub revision: u64,
    /// Differs between writes that would make the same revision.
    pub writer: u64,
}

/// The durable timer behind a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRef {
    /// The write that armed it; every copy of its message carries it.
    pub ticket: Ticket,
    /// What moves or deletes it.
    pub handle: Handle,
    /// When it fires, at the latest.
    pub due: Instant,
}

/// Handle of a queued message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// Message id.
    pub id: String,
    /// Pop receipt.
    pub receipt: String,
}

/// A row as the table holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The push.
    pub row: Row,
    /// How often it was written, from 1.
    pub revision: u64,
    /// The timer in charge; `None` when the push owes nothing.
    pub timer: Option<TimerRef>,
    /// Name of the app that is to tell of it.
    pub app: String,
}

/// The stored version of an entity; opaque, equal only for the same write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// A record and the version it was read or written at.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// The record.
    pub record: Arc<Record>,
    /// Its version.
    pub version: Version,
}

/// What must be stored for a write to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nothing under this name.
    Absent,
    /// Exactly this version.
    Version(Version),
}

/// Result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Stored and durable.
    Written(Version),
    /// Something else is stored, and this write never was nor will be.
    Conflict,
    /// Something else is stored, perhaps on top of this write, whose answer was lost.
    InDoubt,
}

/// An entry of the time index: a push, and an instant from which on it may owe something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The instant; of a push's first entry, when it was opened.
    pub at: Instant,
    /// The push.
    pub push: PushId,
}

/// The entry that a push was given when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// When it was opened.
    pub at: Instant,
    /// The push.
    pub push: PushId,
    /// What was pushed, where the entry says so.
    pub subject: Option<Subject>,
    /// Where a page begins that follows this entry.
    pub cursor: String,
}

/// From when (that instant included) to when (excluded) entries are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Not before.
    pub since: Option<Instant>,
    /// Before.
    pub until: Option<Instant>,
}

/// Records by compare-and-swap, and the time index over them.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// The newest round of a key.
    ///
    /// # Errors
    /// [`Failure`]; `Corrupt` when what is stored is no record.
    async fn newest(&self, key: &Key) -> Result<Option<Versioned>, Failure>;

    /// The record of a push.
    ///
    /// # Errors
    /// As for [`Rows::newest`].
    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure>;

    /// When the last push of the same place with another digest was opened, between two instants, both excluded.
    ///
    /// # Errors
    /// [`Failure`].
    async fn moved(&self, row: &Row, span: (Instant, Instant)) -> Result<Option<Instant>, Failure>;

    /// Writes a record if `expected` is what is stored. Durable when it returns [`Put::Written`].
    ///
    /// # Errors
    /// `Corrupt` when the table refused it and nothing was written; after `Unavailable` it may be there or still land.
    async fn put(&self, record: &Record, expected: &Expected) -> Result<Put, Failure>;

    /// Removes a record if `version` is what is stored; `false` when something else is.
    ///
    /// # Errors
    /// [`Failure`]; whether it was removed is then unknown.
    async fn remove(&self, id: &PushId, version: &Version) -> Result<bool, Failure>;

    /// The push of a place that was opened last, at `since` or later; not a purged one.
    ///
    /// # Errors
    /// [`Failure`].
    async fn newest_at(&self, place: &str, since: Option<Instant>) -> Result<Option<PushId>, Failure>;

    /// Enters a push into the time index; with its subject when it is opened. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Failure`]; the entry may be there all the same.
    async fn index(&self, entry: &Entry, subject: Option<&Subject>) -> Result<(), Failure>;

    /// Takes entries out of the time index, those that are there.
    ///
    /// # Errors
    /// [`Failure`]; some or all may be gone all the same.
    async fn unindex(&self, entries: &[Entry]) -> Result<(), Failure>;

    /// Up to `limit` (1 to 1000) entries of a span, its end excluded, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    async fn between(&self, span: (Instant, Instant), limit: usize) -> Result<Vec<Entry>, Failure>;

    /// Up to `limit` (1 to 1000) entries, newest first, and where the next page begins; `None` at the end.
    ///
    /// # Errors
    /// [`Failure`]; a cursor that is not one of this table's own begins at the newest.
    async fn entries(&self, limit: usize, cursor: Option<&str>) -> Result<(Vec<Entry>, Option<String>), Failure>;

    /// Up to `limit` (1 to 1000) entries within a span, newest first, and where the next page begins; `None` at the end.
    ///
    /// # Errors
    /// As for [`Rows::entries`].
    async fn openings(
        &self,
        span: Span,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<(Vec<Opening>, Option<String>), Failure>;

    /// All small texts whose names begin with `prefix` (letters and hyphens), with their names and versions.
    ///
    /// # Errors
    /// [`Failure`].
    async fn notes(&self, prefix: &str) -> Result<Vec<(String, String, Version)>, Failure>;

    /// Writes a small text under a name of letters, digits and hyphens, over anything when nothing is expected.
    ///
    /// # Errors
    /// As for [`Rows::put`].
    async fn put_note(&self, name: &str, text: &str, expected: Option<&Expected>) -> Result<Put, Failure>;

    /// Creates the table when it is missing and proves that it can be read and written.
    ///
    /// # Errors
    /// [`Failure`]; the table may have been created all the same.
    async fn prepare(&self) -> Result<(), Failure>;
}

/// A message taken from the queue; invisible to others until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Handle, good until the lease ends.
    pub handle: Handle,
    /// As it is queued.
    pub raw: String,
    /// The text in it; `None` when it is not in the queue's encoding.
    pub text: Option<String>,
    /// How often it was taken, this time included.
    pub dequeue_count: u32,
}

/// Messages that become visible after a delay.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Queues a message to fire after `delay`, durable when it returns. Delays are cut to whole seconds, raised to
    /// [`TIMER_DELAY_MIN`](crate::limits::TIMER_DELAY_MIN) and cut to [`TIMER_DELAY_MAX`](crate::limits::TIMER_DELAY_MAX).
    ///
    /// # Errors
    /// [`Failure`]; it may be queued all the same.
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Handle, Failure>;

    /// Moves a live message and replaces its text; `None` when it is no longer ours to move: it fired, is being handled,
    /// or was moved or disarmed by someone else.
    ///
    /// # Errors
    /// [`Failure`]; it may be moved all the same.
    async fn shift(&self, handle: &Handle, message: &Message, delay: Duration) -> Result<Option<Handle>, Failure>;

    /// Deletes a message; one that is no longer ours is left alone.
    ///
    /// # Errors
    /// [`Failure`]; it may be gone all the same, or fire.
    async fn disarm(&self, handle: &Handle) -> Result<(), Failure>;

    /// Copies a text that is not ours to the poison queue.
    ///
    /// # Errors
    /// [`Failure`]; the copy may be there all the same, so trying again may make two.
    async fn set_aside(&self, text: &str) -> Result<(), Failure>;

    /// Notes on the queue itself that an arrival waits on it, now.
    ///
    /// # Errors
    /// [`Failure`]; it may be noted all the same.
    async fn note_spill(&self, now: Instant) -> Result<(), Failure>;

    /// When that was last noted.
    ///
    /// # Errors
    /// [`Failure`].
    async fn last_spill(&self) -> Result<Option<Instant>, Failure>;

    /// Creates the queue when it is missing (the Functions host does not) and proves that it can be reached.
    ///
    /// # Errors
    /// [`Failure`]; the queue may have been created all the same.
    async fn prepare(&self) -> Result<(), Failure>;
}

/// Takes fired messages, as the Functions host's queue trigger does.
#[async_trait]
pub trait Inbox: Queue {
    /// Takes up to `max` (1 to 32) fired messages and hides them for `lease`.
    ///
    /// # Errors
    /// [`Failure`]; messages may have been taken all the same and come again when `lease` is over.
    async fn receive(&self, max: usize, lease: Duration) -> Result<Vec<Received>, Failure>;

    /// Gives a message back, to fire again after `delay`; one that is no longer ours is left alone.
    ///
    /// # Errors
    /// [`Failure`]; the message then comes when its lease is over, if not after `delay`.
    async fn release(&self, received: &Received, delay: Duration) -> Result<(), Failure>;

    /// Moves a message to the poison queue as it is; of one that is no longer ours a copy may come there.
    ///
    /// # Errors
    /// [`Failure`]; the message may then be in both queues.
    async fn poison(&self, received: &Received) -> Result<(), Failure>;
}
