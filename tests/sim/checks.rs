//! What must hold after every step of the world, whatever went wrong so far.

use std::collections::{BTreeMap, BTreeSet};

use global_webhook::engine::Done;
use global_webhook::limits;
use global_webhook::push::state::Row;
use global_webhook::push::{Arrival, Claim, Delivery, Key, Outcome, PushId, What};
use global_webhook::timers::{Message, Reason};

use crate::faults::SKEW_MAX;
use crate::world::{Report, State};

/// How much later than needed a timer may be, in milliseconds: a message may be in somebody's hands for a while.
const COVER_SLACK: i64 = 120_000;
/// Timers that one push may have alive at the same time: in a storm, where most messages are handed out several times and
/// some without their id, and each leaves one more whenever a write fails; and once the storm is over and the spares had the
/// longest wait that anything asks for to die.
const ALIVE_MAX: usize = 120;
const ALIVE_CALM_MAX: usize = 4;
/// Timers that one push may be armed in its life, beyond six for each claim: some, and more for each minute of faults, as
/// arrivals that wait on the queue try again and again.
const ARMED_MAX: u64 = 200;
const ARMED_PER_MINUTE_MAX: u64 = 50;

type Told = (PushId, String, &'static str);

#[derive(Default)]
pub(crate) struct Checks {
    rows: BTreeMap<PushId, Seen>,
    claimed: BTreeSet<(Told, u32)>,
    attempted: BTreeSet<(Told, u32)>,
    flying: BTreeSet<Told>,
    notification_ids: BTreeMap<(PushId, &'static str), String>,
    armed: BTreeMap<PushId, u64>,
    spills: u64,
    /// Most timers that one push had alive at the same time.
    alive: usize,
}

pub(crate) struct Seen {
    pub(crate) row: Row,
    /// The task that wrote it, which may be about to arm again.
    writer: u64,
}

impl Checks {
    pub(crate) fn newest(&self, key: &Key) -> Option<PushId> {
        self.rounds(key).last().map(|r| r.id.clone())
    }

    pub(crate) fn rounds<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|(id, _)| id.key == *key).map(|(_, seen)| &seen.row)
    }

    pub(crate) fn removed(&mut self, id: &PushId) {
        self.rows.remove(id);
    }

    pub(crate) fn armed(&mut self, message: &Message) {
        if let Message::Timer(timer) = message {
            *self.armed.entry(timer.push.clone()).or_default() += 1;
        }
    }

    /// An attempt begins: it was claimed in a committed row, nobody else makes one at the same time, and it carries the id
    /// that all attempts of this notification carry.
    pub(crate) fn attempt(&mut self, row: &Row, claim: &Claim, id: &str, told: &Told) -> Result<(), String> {
        if !self.claimed.contains(&(told.clone(), claim.claim)) {
            return Err(format!("{told:?} is told before the commit that owes it"));
        }
        if !self.attempted.insert((told.clone(), claim.claim)) {
            return Err(format!("claim {} of {told:?} was used twice", claim.claim));
        }
        if !self.flying.insert(told.clone()) {
            return Err(format!("two attempts at {told:?} at once"));
        }
        let known = self.notification_ids.entry((row.id.clone(), told.2)).or_insert_with(|| id.to_owned());
        if known != id {
            return Err(format!("{told:?} has the ids {known} and {id}"));
        }
        match self.rows.get(&row.id).and_then(|seen| seen.row.settled()) {
            Some(settled) if settled.outbox.iter().any(|e| e.notice == claim.notice && e.target == claim.target) => {
                Ok(())
            }
            Some(_) | None => Err(format!("{told:?} is told what is not on record")),
        }
    }

    pub(crate) fn landed(&mut self, told: &Told) {
        self.flying.remove(told);
    }
}

fn transition(before: Option<&Row>, next: &Row) -> Result<(), String> {
    let complete = next.missing_at_settling().is_empty();
    match next.settled().map(|s| s.outcome) {
        None if complete => return Err("complete, but waiting".into()),
        Some(outcome) if complete != (outcome == Outcome::Replicated) => {
            return Err(format!("{outcome:?}, complete: {complete}"));
        }
        None | Some(_) => {}
    }
    if next.timer.is_some() != next.wake().is_some() {
        return Err("names a timer although nothing is owed, or none although something is".into());
    }
    let Some(before) = before else { return Ok(()) };
    if (&before.regions, before.deadline, before.opened, &before.payload)
        != (&next.regions, next.deadline, next.opened, &next.payload)
    {
        return Err("what the first arrival froze was changed".into());
    }
    if before.arrived.iter().any(|(region, at)| next.arrived.get(region) != Some(at)) {
        return Err("an arrival on record was changed or lost".into());
    }
    let Some(settled) = before.settled() else { return Ok(()) };
    let Some(then) = next.settled() else { return Err("settled, then waiting again".into()) };
    if (settled.outcome, settled.at, &before.arrived) != (then.outcome, then.at, &next.arrived) {
        return Err("the outcome was changed".into());
    }
    if settled.late.iter().any(|(region, at)| then.late.get(region) != Some(at)) {
        return Err("a late arrival was lost".into());
    }
    for entry in &settled.outbox {
        let Some(after) = then.outbox.iter().find(|e| (&e.target, e.notice) == (&entry.target, entry.notice)) else {
            return Err(format!("an entry of {} was lost", entry.target));
        };
        if let (Delivery::Owed { claims, lease_until, .. }, Delivery::Owed { claims: then, .. }) =
            (&entry.delivery, &after.delivery)
            && then > claims
            && (*then != claims + 1 || lease_until.is_some_and(|until| until > next.updated))
        {
            return Err(format!("{} was claimed while a lease lived", entry.target));
        }
    }
    Ok(())
}

impl State {
    /// A row was written.
    pub(crate) fn committed(&mut self, row: Row, process: usize, writer: u64) {
        self.trace(|| {
            let phase = row.settled().map_or("waiting".into(), |s| {
                format!("{:?} {:?}", s.outcome, s.outbox.iter().map(|e| &e.delivery).collect::<Vec<_>>())
            });
            format!("p{process} commits {} timer {:?} {phase}", row.id, row.timer.as_ref().map(|t| (&t.id, t.due)))
        });
        let before = self.checks.rows.get(&row.id).map(|seen| &seen.row);
        if let Err(cause) = transition(before, &row) {
            return self.fail(format!("{}: {cause}", row.id));
        }
        if let (None | Some(None), Some(settled)) = (before.map(Row::settled), row.settled()) {
            let early = (row.deadline - self.instant()).num_milliseconds();
            if settled.outcome == Outcome::TimedOut && !settled.terminated && early > SKEW_MAX {
                return self.fail(format!("{} timed out {early} ms before its deadline", row.id));
            }
        }
        if let Err(cause) = self.model.on_record(&row) {
            return self.fail(cause);
        }
        for entry in row.settled().into_iter().flat_map(|s| &s.outbox) {
            if let Delivery::Owed { claims, lease_until: Some(_), .. } = entry.delivery {
                self.checks.claimed.insert(((row.id.clone(), entry.target.clone(), entry.notice.word()), claims));
            }
        }
        self.checks.rows.insert(row.id.clone(), Seen { row, writer });
    }

    /// Every committed row that owes something has a message that will see to it, or a living process about to arm one.
    pub(crate) fn check_covered(&mut self) {
        let mut uncovered = None;
        let mut most = 0;
        for (id, seen) in &self.checks.rows {
            let Some(wake) = seen.row.wake() else { continue };
            let latest = i64::try_from(self.now)
                .unwrap()
                .max((wake - self.instant()).num_milliseconds() + i64::try_from(self.now).unwrap())
                + COVER_SLACK;
            let acts = |message: &Message, message_id: &str| match message {
                Message::Timer(timer) if timer.push == *id => seen.row.timer.as_ref().is_none_or(|named| {
                    let stands_in = match (timer.reason, &timer.of) {
                        (Reason::Unseen, Some(of)) => *of == named.id,
                        (Reason::Unseen, None) | (Reason::Revived, _) => true,
                        (Reason::Deadline | Reason::Delivery, _) => false,
                    };
                    named.id == message_id || stands_in
                }),
                Message::Timer(_) | Message::Spill(_) => false,
            };
            let live =
                self.queue.iter().any(|m| i64::try_from(m.visible).unwrap() <= latest && acts(&m.message, &m.id));
            let dead = || self.poison.iter().any(|m| matches!(&m.message, Message::Timer(t) if t.push == *id));
            let pending = || self.running.contains(&seen.writer);
            if !live && !dead() && !pending() {
                uncovered = Some(format!("{id} owes something at {wake} and no timer covers it"));
            }
            let alive = self.queue.iter().filter(|m| matches!(&m.message, Message::Timer(t) if t.push == *id)).count();
            let longest = self.model.policy.timeout.min(limits::TIMER_DELAY_MAX).max(limits::RETRY_AFTER_MAX) * 2;
            let settled = self.calm.is_some_and(|since| u128::from(self.now - since) > longest.as_millis());
            most = most.max(alive);
            if alive > if settled { ALIVE_CALM_MAX } else { ALIVE_MAX } {
                uncovered = Some(format!("{id} has {alive} timers alive"));
            }
        }
        self.checks.alive = self.checks.alive.max(most);
        if let Some(cause) = uncovered {
            self.fail(cause);
        }
    }

    /// An arrival is answered as taken in: it is on record, or its region was.
    pub(crate) fn accepted(&mut self, arrival: &Arrival, sent: usize, done: &Done) {
        self.model.accepted(sent, self.now, false);
        self.applied(arrival, done);
    }

    /// A spilled arrival was taken in by the queue's consumer, or an arrival directly.
    pub(crate) fn applied(&mut self, arrival: &Arrival, done: &Done) {
        if matches!(done.what, What::UnknownRegion | What::UnknownPush | What::Ignored(_)) {
            return self.fail(format!("an awaited arrival was answered {}", done.what.word()));
        }
        let Some(row) = &done.row else { return self.fail("an arrival is accepted without a row".into()) };
        let stored = self.checks.rows.get(&row.id).map(|seen| &seen.row);
        let on_record = stored.is_some_and(|stored| {
            // The webhook of a push that was pushed again meanwhile is of no more use; all else has its region on record.
            if done.what == What::Duplicate {
                let old = stored.of_earlier_round(&arrival.id)
                    || stored.settled().is_some_and(|s| s.superseded) && stored.of_this_round(&arrival.id);
                return old || stored.arrival_of(&arrival.region).is_some();
            }
            stored.arrival_of(&arrival.region).is_some_and(|known| known.id == arrival.id)
                || stored.is_repeated(&arrival.region, &arrival.id)
        });
        if !on_record {
            let cause = format!("{} {} of {} is accepted and not on record", arrival.region, arrival.id, row.id);
            self.fail(cause);
        }
    }

    /// An arrival is answered as taken in and waits on the queue.
    pub(crate) fn spilled(&mut self, arrival: &Arrival, sent: usize) {
        self.checks.spills += 1;
        self.model.accepted(sent, self.now, true);
        let waits = |m: &crate::hands::Queued| matches!(&m.message, Message::Spill(a) if **a == *arrival);
        let key = arrival.key(self.model.policy.correlation);
        let applied = self.checks.rounds(&key).any(|row| row.arrival_of(&arrival.region).is_some());
        if !applied && !self.queue.iter().chain(&self.poison).any(waits) {
            self.fail(format!("{} {} was spilled and is nowhere", arrival.region, arrival.id));
        }
    }

    /// Nothing is left to happen: all is settled, told or given up, and the model agrees.
    pub(crate) fn check_at_rest(&mut self, report: &mut Report) -> Result<(), String> {
        if !self.queue.is_empty() || !self.poison.is_empty() {
            return Err("messages are left at rest".into());
        }
        report.spilled = self.checks.spills;
        report.timers_alive = self.checks.alive;
        report.attempts = self.checks.attempted.len() as u64;
        for (id, seen) in &self.checks.rows {
            let Some(settled) = seen.row.settled() else { return Err(format!("{id} never settled")) };
            report.pushes += 1;
            match settled.outcome {
                Outcome::Replicated => report.replicated += 1,
                Outcome::TimedOut => report.timed_out += 1,
            }
            report.recovered += u64::from(settled.recovered.is_some());
            let mut claims = 0;
            for entry in &settled.outbox {
                match &entry.delivery {
                    Delivery::Owed { .. } => return Err(format!("{id} still owes {}", entry.target)),
                    Delivery::Confirmed { attempt, .. } => {
                        report.confirmed += 1;
                        claims += u64::from(*attempt);
                    }
                    Delivery::Exhausted { attempt, .. } => {
                        report.exhausted += 1;
                        claims += u64::from(*attempt);
                    }
                }
            }
            let armed = self.checks.armed.get(id).copied().unwrap_or_default();
            report.timers += armed;
            report.timers_of_one_push = report.timers_of_one_push.max(armed);
            let minutes = self.calm.unwrap_or_default().div_ceil(60_000);
            if armed > ARMED_MAX + ARMED_PER_MINUTE_MAX * minutes + 6 * claims {
                return Err(format!("{armed} timers were armed for {id} and its {claims} claims"));
            }
        }
        self.model.at_rest(&self.checks)
    }
}
