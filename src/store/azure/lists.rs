//! Questions about many pushes: a walk over the time index, and reads of the rows that may belong to the answer.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tracing::error;

use super::entity::parse_index_key;
use super::parts::{Opening, Span};
use super::{AzureStore, Failure, READS_AT_ONCE};
use crate::clock::Instant;
use crate::limits;
use crate::push::{PushId, Row};
use crate::store::{Page, Search};

/// Begins the cursor of a page of pushes that owe something for longer than the list goes back.
const OLDER: &str = "older-";

fn parse_older(cursor: &str) -> Option<usize> {
    cursor.strip_prefix(OLDER)?.parse().ok()
}

/// Whether a text may be a cursor of this store's own.
pub(super) fn is_cursor(text: &str) -> bool {
    parse_index_key(text).is_some() || parse_older(text).is_some()
}

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
        let span = Span { since: search.since.max(search.remembered.filter(|_| search.owing)), until: search.until };
        if let Some(begin) = search.cursor.as_deref().and_then(parse_older) {
            return self.older(search, limit, begin).await;
        }
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
                let room = limit - page.rows.len();
                if span.since == search.since {
                    return Ok(page);
                }
                if room > 0 {
                    let older = self.older(search, room, 0).await?;
                    page.rows.extend(older.rows);
                    page.unreadable += older.unreadable;
                    page.next = older.next;
                } else {
                    page.next = Some(format!("{OLDER}0"));
                }
                return Ok(page);
            }
            if enough || page.rows.len() == limit || !tested {
                return Ok(page);
            }
        }
    }

    /// Pushes that owe something and are older than the walk goes back, as far as upkeep has met them: a page from the `begin`-th on.
    async fn older(&self, search: &Search, limit: usize, begin: usize) -> Result<Page, Failure> {
        let mut known = self.owing().await?;
        known.sort();
        known.dedup();
        let opening = |push: &PushId| {
            let push = push.clone();
            Opening { at: Instant::MIN_UTC, push, subject: None, cursor: String::new() }
        };
        let asked: Vec<Opening> = known.iter().skip(begin).take(limit).map(opening).collect();
        let mut page = Page::default();
        for found in self.rows_of(&asked).await? {
            match found {
                // The younger ones were on the pages before.
                Found::Row(row) if search.remembered.is_some_and(|from| row.opened < from) && search.lists(&row) => {
                    page.rows.push(*row);
                }
                Found::Row(_) | Found::Nothing => {}
                Found::Unreadable => page.unreadable += 1,
            }
        }
        page.rows.sort_by_key(|row| std::cmp::Reverse(row.opened));
        let end = begin + asked.len();
        page.next = (end < known.len()).then(|| format!("{OLDER}{end}"));
        Ok(page)
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
