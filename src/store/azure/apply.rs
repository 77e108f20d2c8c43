//! Read, step, arm, commit: one step on one row. The races are those in the header of the module above.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, try_join};
use tracing::warn;

use super::message::{Message, Timer};
use super::parts::{Entry, Expected, Put, Record, Ticket, TimerRef, Versioned};
use super::remembered::Doubt;
use super::{AzureStore, conflict_pause};
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::{Answer, Change, Decision, Phase, Question, Row, Step};
use crate::store::{Applied, Decide, Failure, Which};

/// What a timer that fired came to.
#[derive(Debug)]
pub enum Looked {
    /// It was the one in charge, or nobody asked which.
    Applied(Applied),
    /// It is newer than its row, or the row is not there: its write may still land.
    Newer,
    /// Another one is in charge.
    Older,
    /// The push is that of another app, which is alive and named here.
    Foreign(String),
}

/// What was done for a write that has not happened yet.
enum Cover {
    /// The timer that the row names already serves, or none is needed.
    Kept,
    /// The one that the row names was moved; the stored row may rely on it.
    Shifted,
    /// A new one, of no use to anybody when the write does not happen.
    Armed,
}

impl AzureStore {
    /// Applies a step that no timer asked for.
    pub(super) async fn run(&self, which: &Which, step: &dyn Decide) -> Result<Applied, Failure> {
        match self.look(which, None, step).await? {
            Looked::Applied(applied) => Ok(applied),
            Looked::Foreign(app) => Err(Failure::Unavailable(format!("the push is that of the app {app}"))),
            Looked::Newer | Looked::Older => {
                Err(Failure::Corrupt("a step without a ticket was taken for a timer".into()))
            }
        }
    }

    /// Applies a step; where a timer asked for it, only if that is the one in charge.
    ///
    /// # Errors
    /// [`Failure`]; the step may have been applied all the same.
    pub async fn look(&self, which: &Which, ticket: Option<Ticket>, step: &dyn Decide) -> Result<Looked, Failure> {
        let mut turn = self.turns.take(which.key()).await;
        let mut known = self.remembered.recall(which, self.clock.now());
        let mut conflicts = 0;
        loop {
            let fresh = known.is_none();
            let stored = if fresh { self.read(which).await? } else { known.take() };
            if let Some(ticket) = ticket {
                let charge = stored.as_ref().map(|stored| stored.record.in_charge(ticket));
                if !fresh && charge != Some(Charge::Same) {
                    self.remembered.forget(which.key());
                    continue;
                }
                match charge {
                    Some(Charge::Same) => {}
                    Some(Charge::Newer) | None => return Ok(Looked::Newer),
                    Some(Charge::Older) => return Ok(Looked::Older),
                }
            }
            let foreign = match &stored {
                Some(stored) => self.apps.other(&*self.rows, &stored.record, self.clock.now()).await?,
                None => None,
            };
            if let Some(app) = foreign.clone().filter(|_| !step.is_report()) {
                return Ok(Looked::Foreign(app));
            }
            let Step { did, change, claims } = self.decide(stored.as_ref(), step).await?;
            let used = ticket.is_some();
            let next = match (change, &stored) {
                (Change::Put(next), _) => next,
                (Change::Remove, Some(stored)) => {
                    if self.take_away(stored, used).await? {
                        return Ok(Looked::Applied(Applied { did, row: None, claims }));
                    }
                    self.remembered.forget(which.key());
                    continue;
                }
                (Change::None | Change::Remove, None) => {
                    return Ok(Looked::Applied(Applied { did, row: None, claims }));
                }
                (Change::None, Some(stored)) => {
                    let row = &stored.record.row;
                    let wait = row.wake().filter(|_| used).map(|wake| clock::until(self.clock.now(), wake));
                    match wait {
                        // Cheaper than another timer, which could fire before the row names it.
                        Some(wait) if wait <= limits::EARLY_TIMER_WAIT => {
                            // What comes in meanwhile has its turn, and may be just in time.
                            drop(turn);
                            self.clock.sleep(wait).await;
                            turn = self.turns.take(which.key()).await;
                            known = self.remembered.recall(which, self.clock.now());
                            continue;
                        }
                        // The one that fired is used up.
                        Some(_) => row.clone(),
                        // It may lead to a write, which its version guards, but not to an answer.
                        None if !fresh => {
                            self.remembered.forget(which.key());
                            continue;
                        }
                        None => {
                            return Ok(Looked::Applied(Applied { did, row: shown(row), claims }));
                        }
                    }
                }
            };
            // A push is that of the app which opened it, and so is each round.
            let app = foreign.filter(|_| stored.as_ref().is_some_and(|stored| stored.record.row.id == next.id));
            let claims = if app.is_some() { Vec::new() } else { claims };
            let next = (next, app.unwrap_or_else(|| self.apps.own().to_owned()));
            match self.commit(stored.as_ref(), next, used, step.comes_again()).await? {
                Some(written) => {
                    self.remembered.keep(&written, stored.as_ref(), which);
                    return Ok(Looked::Applied(Applied { did, row: shown(&written.record.row), claims }));
                }
                None => {
                    self.remembered.forget(which.key());
                    conflicts += 1;
                    if conflicts > limits::CONFLICT_RETRIES_MAX {
                        return Err(Failure::Unavailable("too many writers of one push at once".into()));
                    }
                    self.clock.sleep(conflict_pause(which.key(), self.ticket(0).writer, conflicts)).await;
                }
            }
        }
    }

    /// Arms a new timer for what a push owes, and has its row name it: the one that it names may be lost.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn cover_again(&self, stored: &Versioned) -> Result<(), Failure> {
        let _turn = self.turns.take(&stored.record.row.id.key).await;
        self.remembered.forget(&stored.record.row.id.key);
        let record = Arc::new(Record { timer: None, ..(*stored.record).clone() });
        let bare = Versioned { record, version: stored.version.clone() };
        let next = (stored.record.row.clone(), self.apps.own().to_owned());
        // A conflict means that somebody else is seeing to it.
        let written = self.commit(Some(&bare), next, false, false).await?;
        if let (Some(_), Some(old)) = (written, &stored.record.timer) {
            // If it is not lost, it would stay until it fires, one more for each start of a process.
            self.disarm(old).await;
        }
        Ok(())
    }

    pub(super) async fn read(&self, which: &Which) -> Result<Option<Versioned>, Failure> {
        match which {
            Which::Newest(key) => self.rows.newest(key).await,
            Which::Push(id) => self.rows.get(id).await,
        }
    }

    /// Steps until nothing is left to ask.
    pub(super) async fn decide(&self, stored: Option<&Versioned>, step: &dyn Decide) -> Result<Step, Failure> {
        let row = stored.map(|stored| &stored.record.row);
        let mut answer = None;
        loop {
            match (step.decide(row, answer), row) {
                (Decision::Step(step), _) => return Ok(*step),
                (Decision::Ask(question), Some(row)) => answer = Some(self.answer(row, question).await?),
                (Decision::Ask(_), None) => answer = Some(Answer::default()),
            }
        }
    }

    /// What a row alone does not tell. A deadline that is handled late was held up, and then what waits on the queue was too.
    async fn answer(&self, row: &Row, Question { moved, pending }: Question) -> Result<Answer, Failure> {
        let now = self.clock.now();
        let late = row.wake().is_some_and(|wake| clock::until(wake, now) > limits::DEADLINE_LATE);
        if pending && late {
            return Ok(Answer { moved: None, pending: true });
        }
        let spilled = async {
            let last = if pending { self.queue.last_spill().await? } else { None };
            Ok(last.is_some_and(|last| clock::until(last, now) < limits::SPILL_NOTED))
        };
        let moved = async {
            match moved {
                Some(span) => self.rows.moved(row, span).await,
                None => Ok(None),
            }
        };
        let (moved, pending) = try_join(moved, spilled).await?;
        Ok(Answer { moved, pending })
    }

    /// Writes `next`, with a live timer behind whatever it owes; `None` after a conflict. `used` says that the timer in charge
    /// has fired, `app` whose push it is, `again` that the step comes again when it fails.
    pub(super) async fn commit(
        &self,
        stored: Option<&Versioned>,
        (next, app): (Row, String),
        used: bool,
        again: bool,
    ) -> Result<Option<Versioned>, Failure> {
        let (key, now) = (next.id.key.clone(), self.clock.now());
        if (again || used) && self.remembered.in_doubt(&key, Doubt::Write, now, limits::DOUBT) {
            // Each try leaves a timer, and one that comes again will.
            return Err(Failure::Unavailable("a write of this push has just failed".into()));
        }
        let base = stored.filter(|stored| stored.record.row.id == next.id);
        let mut beside = stored.filter(|stored| stored.record.row.id != next.id).cloned();
        // One that may be removed meanwhile, and most of an hour earlier, since no call takes that long.
        let soon = clock::after(now, limits::PURGED_KEPT / 2);
        if let Some(ended) = beside.take_if(|stored| stored.record.row.is_purged() || stored.record.row.is_spent(soon))
        {
            beside = self.write_again(&ended, true).await?;
            if beside.is_none() {
                return Ok(None);
            }
        }
        let (expected, revision) = match base {
            Some(base) => (Expected::Version(base.version.clone()), base.record.revision.saturating_add(1)),
            None => (Expected::Absent, 1),
        };
        let before = base.and_then(|base| base.record.timer.clone());
        let owed = base.is_some_and(|base| base.record.row.wake().is_some());
        // What comes again and again while writes fail leaves a timer each time, so that must not be far off.
        let late = before.as_ref().is_some_and(|t| clock::until(t.due, self.clock.now()) > limits::DEADLINE_LATE);
        // So does each start of a process that dies before it has deleted what it replaces.
        let replaced = owed && before.is_none();
        let longest = if again || late {
            limits::SECOND_LOOK
        } else if replaced || self.remembered.in_doubt(&key, Doubt::Timer, now, limits::DOUBT_LINGERS) {
            limits::SHORT_TIMER
        } else {
            limits::TIMER_DELAY_MAX
        };
        let mut record = Record { row: next, revision, timer: None, app };
        let covered = self.cover(&mut record, before.clone(), owed, used, longest).await;
        if let Err(Failure::Unavailable(_)) = &covered {
            self.remembered.doubt(&key, Doubt::Timer, self.clock.now());
        }
        let cover = covered?;
        let put = self.rows.put(&record, &expected).await;
        if let Err(Failure::Unavailable(_)) = &put {
            for what in [Doubt::Write, Doubt::Timer] {
                self.remembered.doubt(&key, what, self.clock.now());
            }
        }
        let gone = match (&put, cover) {
            // A timer that is used up is deleted by whoever handles it.
            (Ok(Put::Written(_)), _) => {
                before.filter(|old| !used && record.timer.as_ref().is_none_or(|new| new.ticket != old.ticket))
            }
            // Its write did not happen, and never will.
            (Ok(Put::Conflict) | Err(Failure::Corrupt(_)), Cover::Armed) => record.timer.clone(),
            // The write may be there, or still land, and name it.
            (Ok(Put::Conflict | Put::InDoubt) | Err(_), Cover::Armed | Cover::Kept | Cover::Shifted) => None,
        };
        if let Some(gone) = gone {
            self.disarm(&gone).await;
        }
        let Put::Written(version) = put? else { return Ok(None) };
        if let Some(earlier) = beside.filter(|stored| !stored.record.row.is_purged()) {
            match self.write_again(&earlier, false).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    // What it was opened beside is not what it was any more. Nobody was told of it yet.
                    if self.rows.remove(&record.row.id, &version).await? {
                        if let Some(timer) = &record.timer {
                            self.disarm(timer).await;
                        }
                        return Ok(None);
                    }
                }
                Err(cause) => {
                    warn!(push.id = %earlier.record.row.id, %cause, "another process may take a report of this push's next round for its own");
                }
            }
        }
        if record.app == self.apps.own() {
            self.owing.note(&record.row);
        }
        Ok(Some(Versioned { record: Arc::new(record), version }))
    }

    /// Writes a row as it is, so that nobody else can write upon what they remember of it; if it is to stay for `longer`, as
    /// purged or changed now. `None` when it was changed meanwhile.
    async fn write_again(&self, stored: &Versioned, longer: bool) -> Result<Option<Versioned>, Failure> {
        let mut record = (*stored.record).clone();
        record.revision = record.revision.saturating_add(1);
        if longer {
            let now = self.clock.now();
            match &mut record.row.phase {
                Phase::Purged { at, .. } => *at = now,
                Phase::Waiting { .. } | Phase::Settled(_) => record.row.updated = now,
            }
        }
        Ok(match self.rows.put(&record, &Expected::Version(stored.version.clone())).await? {
            Put::Written(version) => Some(Versioned { record: Arc::new(record), version }),
            Put::Conflict | Put::InDoubt => None,
        })
    }

    /// Has a live timer in the record for what it owes, no farther off than `longest`, and the time index name a push that begins
    /// to owe.
    async fn cover(
        &self,
        record: &mut Record,
        before: Option<TimerRef>,
        owed: bool,
        used: bool,
        longest: Duration,
    ) -> Result<Cover, Failure> {
        let now = self.clock.now();
        let (id, opened, new) = (record.row.id.clone(), record.row.opened, record.revision == 1);
        let subject = record.row.subject.clone();
        let index = async {
            if new {
                self.rows.index(&Entry { at: opened, push: id.clone() }, Some(&subject)).await?;
            }
            // Upkeep looks at what was entered since its last walk, and whoever met the old entry of a new row took it for an orphan's.
            let old = new && clock::until(opened, now) > super::upkeep::MARGIN / 2;
            if old || !new && !owed && record.row.wake().is_some() {
                self.rows.index(&Entry { at: now, push: id.clone() }, None).await?;
            }
            Ok(())
        };
        let Some(wake) = record.row.wake() else { return index.await.map(|()| Cover::Kept) };
        if let Some(timer) = before.filter(|timer| !used && timer.due > now) {
            // Close enough: it fires no later than needed and not so early that firing costs more than replacing it.
            if timer.due <= wake && clock::until(timer.due, wake) <= limits::LEASE {
                index.await?;
                record.timer = Some(timer);
                return Ok(Cover::Kept);
            }
            if timer.due > wake {
                let message = timer_message(&record.row, wake, timer.ticket);
                if let Some(handle) = self.queue.shift(&timer.handle, &message, clock::until(now, wake)).await? {
                    index.await?;
                    record.timer = Some(TimerRef { ticket: timer.ticket, handle, due: wake });
                    return Ok(Cover::Shifted);
                }
            }
        }
        let ticket = self.ticket(record.revision);
        let message = timer_message(&record.row, wake, ticket);
        let due = wake.min(clock::after(now, longest));
        let (armed, indexed) = join(self.queue.arm(&message, clock::until(now, due)), index).await;
        let timer = TimerRef { ticket, handle: armed?, due };
        if let Err(cause) = indexed {
            self.disarm(&timer).await;
            return Err(cause);
        }
        record.timer = Some(timer);
        Ok(Cover::Armed)
    }

    /// Removes a row and what points to it; `false` when it was changed meanwhile.
    async fn take_away(&self, stored: &Versioned, used: bool) -> Result<bool, Failure> {
        let record = &stored.record;
        self.remembered.forget(&record.row.id.key);
        if !self.rows.remove(&record.row.id, &stored.version).await? {
            return Ok(false);
        }
        let entry = Entry { at: record.row.opened, push: record.row.id.clone() };
        if let Err(cause) = self.rows.unindex(std::slice::from_ref(&entry)).await {
            warn!(push.id = %entry.push, %cause, "a removed push stays in the time index until upkeep comes round");
        }
        if let Some(timer) = record.timer.as_ref().filter(|_| !used) {
            self.disarm(timer).await;
        }
        Ok(true)
    }

    /// Best effort: a timer left behind finds another one in charge.
    async fn disarm(&self, timer: &TimerRef) {
        if let Err(cause) = self.queue.disarm(&timer.handle).await {
            warn!(%cause, "a timer that is not needed any more could not be deleted; it will find nothing to do");
        }
    }
}

/// A row as everybody else sees it.
pub(super) fn shown(row: &Row) -> Option<Arc<Row>> {
    (!row.is_purged()).then(|| Arc::new(row.clone()))
}

/// Which of two timers is in charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charge {
    Same,
    Newer,
    Older,
}

impl Record {
    /// What a timer with this ticket is to the row.
    fn in_charge(&self, ticket: Ticket) -> Charge {
        if self.timer.as_ref().is_some_and(|timer| timer.ticket == ticket) {
            Charge::Same
        } else if ticket.revision > self.revision {
            Charge::Newer
        } else {
            Charge::Older
        }
    }
}

fn timer_message(row: &Row, due: Instant, ticket: Ticket) -> Message {
    Message::Timer(Timer { push: row.id.clone(), due, ticket, again: false })
}
