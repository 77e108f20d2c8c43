//! Where pushes live: the written contract of [`Store`], which every implementation passes in `tests/it/store_contract.rs`.
//!
//! What the core asks for is one thing: *apply this pure step to that row, durably, with its timer*. How a table and a queue,
//! which share no transaction, make that safe is the business of [`azure`] alone; [`embedded`] does it in one transaction.
//! The core knows no timer, no version and no reservation.

pub mod azure;
pub mod embedded;
pub mod memory;
pub mod search;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::search::{Page, Search};
use crate::clock::{Clock, Instant, after};
use crate::limits;
use crate::push::{Answer, Arrival, Claim, Decision, Delivery, Did, Entry, Key, PushId, Row};

/// Which row a step is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest round of a key.
    Newest(Key),
    /// This push.
    Push(PushId),
}

impl Which {
    /// The key of the row.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Newest(key) => key,
            Self::Push(id) => &id.key,
        }
    }
}

/// A pure step, with all that it needs beside the row.
pub trait Decide: Send + Sync + 'static {
    /// Decides for this row and answer; asks for an answer at most once for each row. Called again for what is stored by then
    /// when a write was lost to another writer.
    fn decide(&self, row: Option<&Row>, answer: Option<Answer>) -> Decision;

    /// Whether it is a region's report, which counts for the push that there is, whoever tells of it.
    fn is_report(&self) -> bool {
        false
    }

    /// Whether it comes again by itself when it fails, and again, as long as it does.
    fn comes_again(&self) -> bool {
        false
    }
}

/// What a step came to.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The step's word.
    pub did: Did,
    /// The row as it is now; `None` when there is none.
    pub row: Option<Arc<Row>>,
    /// What the step leased to its caller.
    pub claims: Vec<Claim>,
}

/// What a look at the oldest pushes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// How many are gone for everybody who asks.
    pub count: usize,
    /// Of those that were opened before it, each was looked at; `None` when that is all of them.
    pub next: Option<Instant>,
}

impl Removed {
    /// A look from `from` on; `rest` is when the first one was opened that was not looked at.
    fn of(count: usize, from: Instant, rest: Option<Instant>) -> Self {
        // More of one millisecond than are looked at together, which all stay, do not hold up the others.
        let stuck = |rest: &Instant| count == 0 && *rest <= from;
        Self { count, next: rest.map(|rest| if stuck(&rest) { after(from, Duration::from_millis(1)) } else { rest }) }
    }
}

/// What can be read and written, and what else is wrong with where pushes live.
#[derive(Debug, Clone)]
pub struct Health {
    /// Rows.
    pub rows: Result<(), Failure>,
    /// Timers.
    pub queue: Result<(), Failure>,
    /// Names of other apps that use the same rows and timers.
    pub others: Vec<String>,
}

/// What is owed at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Pushes that wait for regions.
    pub waiting: u64,
    /// Notifications that are not confirmed.
    pub owed: u64,
}

impl Census {
    /// What one row adds.
    pub(crate) fn of(row: &Row) -> Self {
        let owed = |entry: &&Entry| matches!(entry.delivery, Delivery::Owed { .. });
        let owed = row.settled().map_or(0, |settled| settled.outbox.iter().filter(owed).count());
        Self { waiting: row.is_waiting().into(), owed: u64::try_from(owed).unwrap_or(u64::MAX) }
    }

    /// This, with `more` added to it.
    pub(crate) fn with(self, more: Self) -> Self {
        Self { waiting: self.waiting + more.waiting, owed: self.owed + more.owed }
    }

    /// This, with `less` taken from it; never below zero.
    pub(crate) fn without(self, less: Self) -> Self {
        Self { waiting: self.waiting.saturating_sub(less.waiting), owed: self.owed.saturating_sub(less.owed) }
    }
}

/// Why something could not be done.
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

/// Keeps pushes and sees to it that each is looked at when its [`Row::wake`] has come.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies a step to a row. When it returns, what the step changed is durable, and so is a timer for what the row owes
    /// then; two steps on one row are applied one after the other, each on what the other left.
    ///
    /// # Errors
    /// [`Failure`]; the step may have been applied all the same, or still be.
    async fn apply(&self, which: &Which, step: Arc<dyn Decide>) -> Result<Applied, Failure>;

    /// Keeps an arrival elsewhere than in its row, to be applied later. Durable when it returns.
    ///
    /// # Errors
    /// [`Failure`]; it may be kept all the same. Always, where there is no other place.
    async fn spill(&self, arrival: &Arrival) -> Result<(), Failure>;

    /// The row of a push, or the newest of a key; a purged one is none.
    ///
    /// # Errors
    /// [`Failure`].
    async fn get(&self, which: &Which) -> Result<Option<Arc<Row>>, Failure>;

    /// The newest push of a [place](Key::place), whatever its content, opened at `since` or later.
    ///
    /// # Errors
    /// [`Failure`].
    async fn newest_at(&self, place: &str, since: Option<Instant>) -> Result<Option<Arc<Row>>, Failure>;

    /// A page of pushes. Costs what the page and the span of time cost, however many there are.
    ///
    /// # Errors
    /// [`Failure`]; a cursor that is not one of this store's own begins at the newest.
    async fn list(&self, search: &Search) -> Result<Page, Failure>;

    /// Whether a text may be a cursor of this store's own.
    fn is_cursor(&self, text: &str) -> bool;

    /// Looks at pushes that were opened within `span`, its end excluded: at the oldest, `max` (1 to
    /// [`REMOVED_AT_ONCE_MAX`](limits::REMOVED_AT_ONCE_MAX)) of them, however many there are. Applies `step`, which
    /// purges, to each; so what waits, owes something or is another app's stays. Whoever takes [`Removed::next`] for the
    /// beginning of the next span has looked at all of them in the end.
    ///
    /// # Errors
    /// [`Failure`]; some may be gone all the same. One whose row cannot be read is none, it stays.
    async fn remove_settled(
        &self,
        span: (Instant, Instant),
        max: usize,
        step: Arc<dyn Decide>,
    ) -> Result<Removed, Failure>;

    /// Creates what is missing, and tells what can be read and written.
    async fn prepare(&self) -> Health;

    /// What is owed, without a walk over all pushes; `None` where nobody counts that.
    ///
    /// # Errors
    /// [`Failure`].
    async fn census(&self) -> Result<Option<Census>, Failure> {
        Ok(None)
    }
}

/// A store that knows itself which of its pushes are due.
#[async_trait]
pub trait Wakes: Store {
    /// Up to `max` pushes whose wake has come, the longest overdue first.
    ///
    /// # Errors
    /// [`Failure`].
    async fn due(&self, max: usize) -> Result<Vec<PushId>, Failure>;

    /// Does not name a push as due before `delay` has passed: looking at it failed.
    ///
    /// # Errors
    /// [`Failure`].
    async fn put_off(&self, push: &PushId, delay: Duration) -> Result<(), Failure>;

    /// Returns when a push may be due: at the latest after `longest`.
    async fn ready(&self, longest: Duration);

    /// Ends its work: what is begun is finished, everything is where a copy of it would find it, and later calls fail.
    async fn close(&self) {}
}

/// Looks at the oldest pushes of a span, some after the other with pauses between them, for as much as one call may:
/// [`REMOVED_PER_CALL_MAX`](limits::REMOVED_PER_CALL_MAX) of them gone, or [`REMOVAL_BUDGET`](limits::REMOVAL_BUDGET) over. What
/// a failure leaves is counted too, and says where to go on.
pub async fn remove_share(
    store: &dyn Store,
    clock: &dyn Clock,
    (mut from, to): (Instant, Instant),
    step: &Arc<dyn Decide>,
) -> (Removed, Option<Failure>) {
    let end = after(clock.now(), limits::REMOVAL_BUDGET);
    let mut count = 0;
    loop {
        let max = limits::REMOVED_AT_ONCE_MAX.min(limits::REMOVED_PER_CALL_MAX - count);
        match store.remove_settled((from, to), max, Arc::clone(step)).await {
            Ok(Removed { count: more, next }) => {
                count += more;
                let Some(next) = next else { return (Removed { count, next }, None) };
                from = next;
            }
            Err(cause) => return (Removed { count, next: Some(from) }, Some(cause)),
        }
        if count >= limits::REMOVED_PER_CALL_MAX || clock.now() >= end {
            return (Removed { count, next: Some(from) }, None);
        }
        clock.sleep(limits::REMOVAL_PAUSE).await;
    }
}

/// Whether a push of the same place with another digest was opened between two instants: what a [`Question`] asks, of rows in
/// memory.
///
/// [`Question`]: crate::push::Question
pub(crate) fn last_moved<'a>(
    rows: impl Iterator<Item = &'a Row>,
    id: &PushId,
    digest: &str,
    (after, before): (Instant, Instant),
) -> Option<Instant> {
    rows.filter(|row| row.id.key.place() == id.key.place() && row.subject.digest != digest)
        .map(|row| row.opened)
        .filter(|opened| after < *opened && *opened < before)
        .max()
}
