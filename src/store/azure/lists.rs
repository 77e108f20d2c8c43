//! Questions about many pushes: a walk over the time index, and reads of the rows that may belong to the answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tracing::error;

use super::parts::{Opening, Span};
use super::{AzureStore, Failure};
use crate::clock::Instant;
use crate::limits;
use crate::push::{PushId, Row};
use crate::store::{Page, Search};

/// Rows read at the same time for one page.
const READS_AT_ONCE: usize = 16;

/// A row that was looked for.
enum Found {
    Row(Box<Row>),
    Nothing,
    Unreadable,
}

impl AzureStore {
    /// See [`Store::list`](crate::store::Store::list).
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn search(&self, search: &Search) -> Result<Page, Failure> {
        let limit = search.limit.clamp(1, 1000);
        let span = Span { since: search.since, until: search.until };
        let mut page = Page { next: search.cursor.clone(), ..Page::default() };
        let (mut looked_at, mut passed_over, mut bytes) = (0, 0, 0);
        loop {
            // With no test that the rows have to pass, what is asked for is what is shown.
            let tested = search.owing || search.row.is_some() || search.subject.is_some();
            let asked = if search.subject.is_some() {
                1000
            } else if tested {
                100
            } else {
                limit - page.rows.len()
            };
            let (openings, next) = self.rows.openings(span, asked, page.next.as_deref()).await?;
            page.next = next;
            let passes = |opening: &Opening| match (&search.subject, &opening.subject) {
                (Some(test), Some(subject)) => test(subject),
                (None, _) | (_, None) => true,
            };
            let all = openings.len();
            let wanted: Vec<Opening> = openings.into_iter().filter(passes).collect();
            passed_over += all - wanted.len();
            // In pieces, so that little is read beyond a page that is full.
            let mut read = 0;
            for piece in wanted.chunks(READS_AT_ONCE) {
                for (opening, found) in piece.iter().zip(self.rows_of(piece).await?) {
                    read += 1;
                    looked_at += 1;
                    match found {
                        Found::Row(row) if row.opened == opening.at && search.lists(&row) => {
                            bytes += row.payload.len();
                            let payload = if bytes > limits::PAGE_BYTES_MAX { String::new() } else { row.payload };
                            page.rows.push(Row { payload, ..*row });
                        }
                        Found::Row(_) | Found::Nothing => {}
                        Found::Unreadable => page.unreadable += 1,
                    }
                    if page.rows.len() == limit && (read < wanted.len() || page.next.is_some()) {
                        page.next = Some(opening.cursor.clone());
                        return Ok(page);
                    }
                }
            }
            let enough = looked_at >= limits::LIST_LOOKED_AT_MAX || passed_over >= limits::LIST_PASSED_OVER_MAX;
            if page.next.is_none() {
                if search.owing {
                    self.add_older(search, limit, &mut page).await?;
                }
                return Ok(page);
            }
            if enough || page.rows.len() == limit || !tested {
                return Ok(page);
            }
        }
    }

    /// Pushes that owe something for longer than the span goes back, as far as upkeep has met them.
    async fn add_older(&self, search: &Search, limit: usize, page: &mut Page) -> Result<(), Failure> {
        let known: BTreeSet<PushId> = page.rows.iter().map(|row| row.id.clone()).collect();
        let older = self.owing().await?.into_iter().filter(|push| !known.contains(push));
        let older: Vec<Opening> =
            older.map(|push| Opening { at: Instant::MIN_UTC, push, subject: None, cursor: String::new() }).collect();
        let anytime = Search { since: None, ..search.clone() };
        let old = |row: &Row| search.since.is_some_and(|since| row.opened < since) && anytime.lists(row);
        for piece in older.chunks(READS_AT_ONCE) {
            for found in self.rows_of(piece).await? {
                if let Found::Row(row) = found
                    && old(&row)
                    && page.rows.len() < limit
                {
                    page.rows.push(*row);
                }
            }
        }
        page.rows.sort_by_key(|row| std::cmp::Reverse(row.opened));
        Ok(())
    }

    async fn rows_of(&self, openings: &[Opening]) -> Result<Vec<Found>, Failure> {
        let reads = openings.iter().map(|Opening { push, .. }| async move {
            match self.rows.get(push).await {
                Ok(Some(stored)) => Ok(Found::Row(Box::new(stored.record.row.clone()))),
                Ok(None) => Ok(Found::Nothing),
                // One that cannot be read must not hide all that are older.
                Err(Failure::Corrupt(cause)) => {
                    error!(push.id = %push, cause, "a row cannot be read and is left out of the list");
                    Ok(Found::Unreadable)
                }
                Err(cause) => Err(cause),
            }
        });
        let reads: Vec<_> = reads.collect();
        stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }

    /// See [`Store::newest_at`](crate::store::Store::newest_at).
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn newest_of(&self, place: &str, since: Option<Instant>) -> Result<Option<Arc<Row>>, Failure> {
        let Some(push) = self.rows.newest_at(place, since).await? else { return Ok(None) };
        Ok(self.rows.get(&push).await?.and_then(|stored| super::apply::shown(&stored.record.row)))
    }
}
