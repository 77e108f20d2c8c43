//! What a list is asked for, and what it answers.

use std::fmt;
use std::sync::Arc;

use crate::clock::Instant;
use crate::push::{Row, Subject};

/// A test that a push has to pass.
pub type Test<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// Which pushes are listed, newest first.
#[derive(Clone)]
pub struct Search {
    /// Most rows of the page (1 to 1000).
    pub limit: usize,
    /// Where the page begins: [`Page::next`] of the page before; `None` at the newest.
    pub cursor: Option<String>,
    /// Opened at this instant or later.
    pub since: Option<Instant>,
    /// Opened before this instant.
    pub until: Option<Instant>,
    /// Only those that wait, or owe a notification.
    pub owing: bool,
    /// Of these, only those that wait.
    pub waiting: bool,
    /// Of those that owe something and were opened before this, a store may list no more than it remembers.
    pub remembered: Option<Instant>,
    /// Only those of such subjects. A store may know the subject without reading the row.
    pub subject: Option<Test<Subject>>,
    /// Only such rows.
    pub row: Option<Test<Row>>,
}

impl Search {
    /// All pushes from `cursor` on.
    #[must_use]
    pub fn all(limit: usize, cursor: Option<&str>) -> Self {
        let cursor = cursor.map(str::to_owned);
        let (since, until, remembered) = (None, None, None);
        Self { limit, cursor, since, until, owing: false, waiting: false, remembered, subject: None, row: None }
    }

    /// Whether a push opened at `at` is neither too new nor too old.
    #[must_use]
    pub fn spans(&self, at: Instant) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Whether a row belongs into the list.
    #[must_use]
    pub fn lists(&self, row: &Row) -> bool {
        !row.is_purged()
            && self.spans(row.opened)
            && (!self.owing || row.wake().is_some())
            && (!self.waiting || row.is_waiting())
            && self.subject.as_ref().is_none_or(|test| test(&row.subject))
            && self.row.as_ref().is_none_or(|test| test(row))
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("limit", &self.limit).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// One page of pushes.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Newest first. Where payloads come to more than [`PAGE_BYTES_MAX`](crate::limits::PAGE_BYTES_MAX), a page holds fewer rows,
    /// or the others are without theirs.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` at the end. A page may hold fewer rows than asked for, or none, before the end:
    /// a store looks at [`LIST_LOOKED_AT_MAX`](crate::limits::LIST_LOOKED_AT_MAX) pushes at most.
    pub next: Option<String>,
    /// Pushes that were left out since their rows cannot be read.
    pub unreadable: usize,
}
