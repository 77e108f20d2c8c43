//! Upkeep: a durable timer of its own kind that comes round and walks the time index, for what nobody looked at: a cleared
//! queue, a poisoned or lost message, an app that slept, or a fault that nobody thought of.
//!
//! Guarantees
//! - *Every push is read once after it was entered*, and again as long as it owes something. What is overdue is looked at as
//!   if its timer had fired. The first walk after a start also arms anew what is not due yet.
//! - *One walk at a time.* Its note in the table names the ticket of the timer in charge; any other dies. Every start arms
//!   another one, and every process looks after the note itself, since upkeep's own timer may be lost like any other.
//! - *Bounded.* A call looks at so many entries and goes on in a call of its own; so many pushes that owe something are
//!   remembered from one walk to the next, and of more, all since the oldest are read again.
//! - *What is older than the settings keep goes after the walk*, the oldest first, a thousand a call and in calls of their own
//!   until the next walk is due; where it got to stands in the note. What stays is looked at again a day later, so that old
//!   pushes which cannot go (another app's, say) cost one read a day.
//!
//! An entry of the index that no row answers to is removed after an hour. *A row on its way:* 1. A applies an arrival that waited
//! on the queue for longer, and enters it. 2. B finds no row and removes the entry. 3. A writes the row. So A enters it twice, as
//! of now as well, and whoever meets that entry enters the push again.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::apply::Looked;
use super::fired::Core;
use super::message::{Message, Upkeep};
use super::parts::{Entry, Expected, Put, Ticket, Version};
use super::{AzureStore, Failure, READS_AT_ONCE};
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::{PushId, Row};
use crate::store::{self, Which};

/// Name of the note.
const NOTE: &str = "upkeep";

/// Entries this much older than a walk's beginning may still appear after it: an arrival takes some seconds to its row.
pub(super) const MARGIN: Duration = Duration::from_secs(120);

/// A push that is overdue by less is probably being handled.
const OVERDUE: Duration = Duration::from_secs(15);

/// How much later than due upkeep's own timer counts as lost.
const LOST: Duration = Duration::from_secs(20);

/// Entries of one page.
const PAGE: usize = 100;

/// What is known between walks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    ticket: Ticket,
    /// When the timer in charge is due.
    due: Instant,
    /// Whatever was entered up to this instant was read, and owes nothing, or is listed below.
    done: Option<Instant>,
    /// Pushes that owe something.
    owing: Vec<PushId>,
    /// The walk under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    walk: Option<Walk>,
    /// How far the removal of what is old has got.
    #[serde(default)]
    removal: Removal,
}

/// A pass of removal through the index, which goes on from walk to walk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Removal {
    /// When it began, at the oldest.
    began: Instant,
    /// Whatever was entered before this it has looked at.
    next: Instant,
    /// More can go, and it goes on in calls of its own until then, when the next walk is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Instant>,
}

/// A walk that goes on in another call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Walk {
    /// When it began.
    began: Instant,
    /// Where it goes on; `None` before its first page.
    cursor: Option<String>,
    /// Pushes that owe something, found so far.
    owing: Vec<PushId>,
    /// The oldest entry of one that found no room among them.
    oldest: Option<Instant>,
}

impl AzureStore {
    /// Arms upkeep anew. The first walk follows at once.
    ///
    /// # Errors
    /// [`Failure`]; it may be armed all the same.
    pub async fn start_upkeep(&self) -> Result<(), Failure> {
        self.apps.sign(&*self.rows, self.clock.now()).await?;
        let (note, version) = self.note().await?;
        let found = note.walk.map(|walk| walk.owing).unwrap_or_default();
        let owing = if found.is_empty() { note.owing } else { found };
        let note = Note { owing, walk: None, removal: Removal { until: None, ..note.removal }, ..note };
        // After a conflict somebody else has armed it.
        self.arm_upkeep(note, version, limits::TIMER_DELAY_MIN, true).await.map(drop)
    }

    /// Looks after upkeep's own timer, now and whenever it should have fired, for as long as the process lives.
    pub async fn watch_upkeep(&self) -> std::convert::Infallible {
        let mut wait = Duration::ZERO;
        let mut first = true;
        loop {
            self.clock.sleep(wait).await;
            let looked = async {
                let (note, _) = self.note().await?;
                let lost = clock::until(note.due, self.clock.now()) >= LOST;
                if first || lost {
                    self.start_upkeep().await?;
                    return Ok(limits::UPKEEP_INTERVAL);
                }
                Ok::<_, Failure>(clock::until(self.clock.now(), note.due))
            };
            wait = match looked.await {
                Ok(wait) => {
                    first = false;
                    wait + LOST
                }
                Err(cause) => {
                    warn!(%cause, "upkeep cannot be armed yet; trying again");
                    Duration::from_secs(15)
                }
            };
        }
    }

    /// Pushes that owed something when upkeep last looked.
    pub(super) async fn owing(&self) -> Result<Vec<PushId>, Failure> {
        let (note, _) = self.note().await?;
        Ok(note.walk.map(|walk| walk.owing).unwrap_or_default().into_iter().chain(note.owing).collect())
    }

    async fn note(&self) -> Result<(Note, Option<Version>), Failure> {
        let notes = self.rows.notes(NOTE).await?;
        let Some((_, text, version)) = notes.into_iter().find(|(name, ..)| name == NOTE) else {
            return Ok((Note::default(), None));
        };
        // One that cannot be read is begun anew: everything is read once more.
        Ok((serde_json::from_str(&text).unwrap_or_default(), Some(version)))
    }

    /// Arms a timer for upkeep and has the note name it. Whether it does.
    async fn arm_upkeep(
        &self,
        note: Note,
        version: Option<Version>,
        wait: Duration,
        first: bool,
    ) -> Result<bool, Failure> {
        let ticket = self.ticket(note.ticket.revision.saturating_add(1));
        let handle = self.queue.arm(&Message::Upkeep(Upkeep { ticket, first }), wait).await?;
        let note = Note { ticket, due: clock::after(self.clock.now(), wait), ..note };
        let text = serde_json::to_string(&note).unwrap_or_default();
        let expected = version.map_or(Expected::Absent, Expected::Version);
        match self.rows.put_note(NOTE, &text, Some(&expected)).await? {
            Put::Written(_) => Ok(true),
            Put::InDoubt => Ok(false),
            Put::Conflict => self.queue.disarm(&handle).await.map(|()| false),
        }
    }

    /// Goes on with a walk, or with the removal that follows it.
    ///
    /// # Errors
    /// The message must come again.
    pub(super) async fn upkeep(&self, upkeep: &Upkeep, core: &dyn Core) -> Result<&'static str, Failure> {
        let (mut note, version) = self.note().await?;
        if note.ticket != upkeep.ticket {
            return Ok("older");
        }
        let now = self.clock.now();
        self.apps.sign(&*self.rows, now).await?;
        let removing = note.removal.until.take().filter(|until| now < *until);
        let finished = removing.is_some() || self.walk(&mut note, upkeep.first, core).await?;
        let mut wait = limits::TIMER_DELAY_MIN;
        if finished {
            let walk = removing.unwrap_or_else(|| clock::after(now, limits::UPKEEP_INTERVAL));
            if self.remove_old(&mut note.removal, core).await {
                note.removal.until = Some(walk);
            } else {
                wait = clock::until(now, walk);
            }
        }
        self.arm_upkeep(note, version, wait, upkeep.first && !finished).await?;
        Ok(if removing.is_some() { "removed" } else { "walked" })
    }

    /// Goes on with a walk; whether it came to its end.
    async fn walk(&self, note: &mut Note, first: bool, core: &dyn Core) -> Result<bool, Failure> {
        let began = note.walk.is_none();
        let mut walk = note.walk.take().unwrap_or_else(|| Walk { began: self.clock.now(), ..Walk::default() });
        if began {
            let known = std::mem::take(&mut note.owing).into_iter();
            let known: Vec<Entry> = known.map(|push| Entry { at: Instant::MIN_UTC, push }).collect();
            self.look_at(&known, first, &mut walk, core).await?;
        }
        let mut seen = 0;
        loop {
            let (mut entries, cursor) = self.rows.entries(PAGE, walk.cursor.as_deref()).await?;
            let all = entries.len();
            entries.retain(|entry| note.done.is_none_or(|done| entry.at > done));
            self.look_at(&entries, first, &mut walk, core).await?;
            seen += all;
            walk.cursor = cursor;
            if walk.cursor.is_none() || entries.len() < all {
                break;
            }
            if seen >= limits::UPKEEP_ENTRIES_MAX {
                note.walk = Some(walk);
                return Ok(false);
            }
        }
        let done = walk.began - MARGIN;
        note.done = Some(walk.oldest.map_or(done, |oldest| done.min(oldest - Duration::from_millis(1))));
        info!(input = "upkeep", outcome = "walked", owing = walk.owing.len());
        note.owing = walk.owing;
        Ok(true)
    }

    /// Removes what is older than the settings keep, as much as one call may; whether more can go.
    async fn remove_old(&self, removal: &mut Removal, core: &dyn Core) -> bool {
        let now = self.clock.now();
        let Some((before, step)) = core.old(now) else { return false };
        if clock::until(removal.began, now) >= limits::REMOVAL_PASS {
            *removal = Removal { began: now, ..Removal::default() };
        }
        let (removed, failed) = store::remove_share(self, &*self.clock, (removal.next, before), &step).await;
        removal.next = removed.next.unwrap_or(before);
        if removed.count > 0 {
            info!(input = "upkeep", outcome = "removed", pushes = removed.count);
        }
        if let Some(cause) = &failed {
            warn!(%cause, "not all that is old could be removed; the next walk tries again");
        }
        removed.next.is_some() && failed.is_none()
    }

    /// Looks at the pushes of some entries and notes those that owe something.
    async fn look_at(&self, entries: &[Entry], first: bool, walk: &mut Walk, core: &dyn Core) -> Result<(), Failure> {
        let looks: Vec<_> = entries.iter().map(|entry| self.look_after(entry, first, core).boxed()).collect();
        // All come to their end: one that is cut off because another failed may have armed a timer that no row names.
        let owing: Vec<Result<bool, Failure>> = stream::iter(looks).buffered(READS_AT_ONCE).collect().await;
        for (entry, owing) in entries.iter().zip(owing) {
            if !owing? || walk.owing.contains(&entry.push) {
                continue;
            }
            if walk.owing.len() < limits::UPKEEP_OWING_MAX {
                walk.owing.push(entry.push.clone());
            } else {
                let at = entry.at.max(Instant::UNIX_EPOCH);
                walk.oldest = Some(walk.oldest.map_or(at, |oldest| oldest.min(at)));
            }
        }
        Ok(())
    }

    /// One push: arms what it needs, does what is overdue, tidies the index. Whether it owes something.
    async fn look_after(&self, entry: &Entry, first: bool, core: &dyn Core) -> Result<bool, Failure> {
        let now = self.clock.now();
        let stored = match self.rows.get(&entry.push).await {
            Ok(stored) => stored,
            // Its arrivals say so, as long as there are any.
            Err(Failure::Corrupt(_)) => return Ok(false),
            Err(cause) => return Err(cause),
        };
        let Some(stored) = stored else {
            if entry.at > Instant::MIN_UTC && clock::until(entry.at, now) > limits::ORPHAN_AGE {
                self.rows.unindex(std::slice::from_ref(entry)).await?;
            }
            return Ok(false);
        };
        let row = &stored.record.row;
        self.enter_again(entry, row).await?;
        let Some(wake) = row.wake() else {
            self.owing.note(row);
            if entry.at > Instant::MIN_UTC && is_spare(entry, row, now) {
                self.rows.unindex(std::slice::from_ref(entry)).await?;
            }
            return Ok(false);
        };
        if self.apps.other(&*self.rows, &stored.record, now).await?.is_some() {
            // Left to that app, and watched until it is gone.
            return Ok(true);
        }
        self.owing.note(row);
        let overdue = if first { wake <= now } else { clock::until(wake, now) > OVERDUE };
        if overdue {
            let which = Which::Push(entry.push.clone());
            if let Looked::Applied(applied) = self.look(&which, None, &*core.look()).await? {
                core.looked(&entry.push, applied);
            }
        } else if first {
            self.cover_again(&stored).await?;
        }
        Ok(true)
    }

    /// Enters a push under its own instant, if another entry of it tells that this may be missing: what was received long before
    /// its row was written, since that waited on the queue, had an old entry without a row for a moment.
    pub(super) async fn enter_again(&self, entry: &Entry, row: &Row) -> Result<(), Failure> {
        if clock::until(row.opened, entry.at) > limits::ORPHAN_AGE / 2 {
            self.rows.index(&Entry { at: row.opened, push: row.id.clone() }, Some(&row.subject)).await?;
        }
        Ok(())
    }
}

/// Whether an entry beside that of a push's opening is of no use, now that the push owes nothing: a young one may remind of a
/// write that is on its way.
pub(super) fn is_spare(entry: &Entry, row: &Row, now: Instant) -> bool {
    entry.at != row.opened && clock::until(entry.at, now) > MARGIN
}
