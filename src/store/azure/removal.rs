//! Removal of old pushes along the time index, the oldest first. The races are those in the header of the module above.
//!
//! Guarantees
//! - *Never by a scan.* The index begins with the newest, and a page of it can begin anywhere: so the oldest are found by
//!   asking for narrower and narrower spans. Of many old pushes each costs a read and a delete, and a hundred of them together
//!   one request to the index, and a few to find them.
//! - *The row goes before its entry.* Whoever dies in between leaves an entry without a row, which is found again.
//! - What changed meanwhile stays, and so does what cannot be read, until it is looked at again.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tracing::warn;

use super::parts::Entry;
use super::upkeep::is_spare;
use super::{AzureStore, READS_AT_ONCE};
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::{Change, Step};
use crate::store::{Decide, Failure, Removed};

/// The first, narrow span that is asked for when many are old; each that is empty is followed by one of twice its width.
const SPAN: Duration = Duration::from_secs(60);

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It stays, with its push.
    Stays,
    /// The push left a trace, which takes the entry with it.
    Trace,
    /// The push is gone.
    Gone,
    /// There is no push, or it has another entry.
    Idle,
}

impl AzureStore {
    pub(super) async fn remove_oldest(
        &self,
        (from, to): (Instant, Instant),
        max: usize,
        step: &dyn Decide,
    ) -> Result<Removed, Failure> {
        let (entries, rest) = self.oldest((from, to), max).await?;
        let looks: Vec<_> = entries.iter().map(|entry| self.remove_one(entry, step).boxed()).collect();
        let ends: Vec<_> = stream::iter(looks).buffered(READS_AT_ONCE).collect().await;
        let ended = |wanted: &[End]| {
            let entries = entries.iter().zip(&ends);
            let entries = entries.filter(|(_, end)| end.as_ref().is_ok_and(|end| wanted.contains(end)));
            entries.map(|(entry, _)| entry.clone()).collect::<Vec<_>>()
        };
        let count = ended(&[End::Gone, End::Trace]).len();
        // Whatever failed, what is gone needs no entry.
        self.rows.unindex(&ended(&[End::Gone, End::Idle])).await?;
        ends.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Removed::of(count, from, rest))
    }

    /// Up to `max` entries of a span, the oldest first, and the instant of one that is next, if there are more.
    async fn oldest(
        &self,
        (from, to): (Instant, Instant),
        max: usize,
    ) -> Result<(Vec<Entry>, Option<Instant>), Failure> {
        const MILLISECOND: Duration = Duration::from_millis(1);
        let mut found = self.rows.between((from, to), max + 1).await?;
        if found.len() <= max {
            found.reverse();
            return Ok((found, None));
        }
        // Before `low` there is nothing, and up to `high` there is something.
        let (mut low, mut high, mut width) = (from, to, SPAN);
        loop {
            let middle = clock::after(low, width).min(high);
            let mut found = self.rows.between((low, middle), max + 1).await?;
            if found.is_empty() {
                (low, width) = (middle, width * 2);
            } else if found.len() <= max {
                found.reverse();
                return Ok((found, Some(middle)));
            } else if clock::until(low, middle) <= MILLISECOND {
                found.truncate(max);
                return Ok((found, Some(low)));
            } else {
                high = found.last().map_or(middle, |entry| clock::after(entry.at, MILLISECOND)).min(middle);
                width = (clock::until(low, high) / 2).max(MILLISECOND);
            }
        }
    }

    /// Applies the step to the push of an entry, once.
    async fn remove_one(&self, entry: &Entry, step: &dyn Decide) -> Result<End, Failure> {
        let key = &entry.push.key;
        let _turn = self.turns.take(key).await;
        let now = self.clock.now();
        let stored = match self.rows.get(&entry.push).await {
            Ok(Some(stored)) => stored,
            // Its row may be on its way.
            Ok(None) if clock::until(entry.at, now) <= limits::ORPHAN_AGE => return Ok(End::Stays),
            Ok(None) => return Ok(End::Idle),
            Err(Failure::Corrupt(cause)) => {
                warn!(push.id = %entry.push, cause, "a row cannot be read, and stays however old it is");
                return Ok(End::Stays);
            }
            Err(cause) => return Err(cause),
        };
        let row = &stored.record.row;
        if row.opened != entry.at {
            // Of a writer who lost the race for this row, or a reminder, or the push before of the same name.
            self.enter_again(entry, row).await?;
            return Ok(if row.wake().is_none() && is_spare(entry, row, now) { End::Idle } else { End::Stays });
        }
        if self.apps.other(&*self.rows, &stored.record, now).await?.is_some() {
            return Ok(End::Stays);
        }
        let Step { change, .. } = self.decide(Some(&stored), step).await?;
        self.remembered.forget(key);
        match change {
            Change::None => Ok(End::Stays),
            Change::Remove => {
                let gone = self.rows.remove(&entry.push, &stored.version).await?;
                Ok(if gone { End::Gone } else { End::Stays })
            }
            Change::Put(next) => {
                let written = self.commit(Some(&stored), (next, self.apps.own().to_owned()), false, false).await?;
                Ok(if written.is_some() { End::Trace } else { End::Stays })
            }
        }
    }
}
