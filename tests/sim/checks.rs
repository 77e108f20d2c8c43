//! What must hold after every step of the world, whatever went wrong so far.

use std::collections::{BTreeMap, BTreeSet};

use global_webhook::clock::Instant;
use global_webhook::limits;
use global_webhook::push::policy::Repeats;
use global_webhook::push::{Arrival, Claim, Delivery, Did, Key, Notice, Outcome, Phase, PushId, Row};
use global_webhook::store::azure::message::Message;
use global_webhook::store::azure::parts::{Entry, Record};

use crate::faults::SKEW_MAX;
use crate::processes::timer_of;
use crate::report::Report;
use crate::world::State;

/// How much later than needed a timer may be at first, in milliseconds: a message may be in somebody's hands for a while.
const COVER_SLACK: i64 = 120_000;
/// Timers that one push may have alive at the same time: in a storm, and once it is over and the others had the longest wait
/// that anything asks for to die.
const ALIVE_MAX: usize = 40;
const ALIVE_CALM_MAX: usize = 4;
/// Timers that one push may be armed in its life, beyond six for each claim: some, and more for each minute of faults.
const ARMED_MAX: u64 = 200;
const ARMED_PER_MINUTE_MAX: u64 = 60;

type Told = (PushId, String, &'static str);

#[derive(Default)]
pub(crate) struct Checks {
    rows: BTreeMap<PushId, Seen>,
    claimed: BTreeSet<(Told, u32)>,
    attempted: BTreeSet<(Told, u32)>,
    flying: BTreeSet<Told>,
    /// Who heard the all-clear.
    recovered: BTreeSet<(PushId, String)>,
    notification_ids: BTreeMap<(PushId, &'static str), String>,
    armed: BTreeMap<PushId, u64>,
    spills: u64,
    held: u64,
    purged: u64,
    /// Pushes that were removed without a trace, and when.
    gone: Vec<(Row, u64)>,
    /// Those of which the last trace was removed.
    traces: Vec<Row>,
    /// What was opened before this may be removed at somebody's word.
    removable: Option<Instant>,
    /// How often the queue was cleared.
    pub(crate) cleared: u64,
    /// Rounds that were taken back: what opened them then begins anew, behind webhooks that came after it.
    pub(crate) taken_back: Vec<Row>,
    /// Most timers that one push had alive at the same time.
    alive: usize,
}

pub(crate) struct Seen {
    pub(crate) row: Row,
    record: Option<Record>,
    /// The task that wrote it, which may be about to do more.
    writer: u64,
}

impl Checks {
    pub(crate) fn newest(&self, key: &Key) -> Option<PushId> {
        self.rounds(key).last().map(|r| r.id.clone())
    }

    pub(crate) fn rounds<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|(id, _)| id.key == *key).map(|(_, seen)| &seen.row)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().map(|seen| &seen.row)
    }

    /// What was removed without a trace, and when.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (&Row, u64)> {
        self.gone.iter().map(|(row, at)| (row, *at))
    }

    /// Every push that there ever was, if only until it was taken back.
    pub(crate) fn ever(&self) -> impl Iterator<Item = &Row> {
        self.all().chain(self.gone.iter().map(|(row, _)| row)).chain(&self.traces).chain(&self.taken_back)
    }

    pub(crate) fn may_remove(&mut self, before: Instant) {
        self.removable = self.removable.max(Some(before));
    }

    pub(crate) fn armed(&mut self, message: &Message) {
        if let Message::Timer(timer) = message {
            *self.armed.entry(timer.push.clone()).or_default() += 1;
        }
    }

    pub(crate) fn landed(&mut self, told: &Told) {
        self.flying.remove(told);
    }

    /// Whether no push owes anything.
    pub(crate) fn rests(&self) -> bool {
        self.rows.values().all(|seen| seen.row.wake().is_none())
    }
}

fn transition(before: Option<&Row>, next: &Row, repeats: Repeats) -> Result<(), String> {
    if let Some(settled) = next.settled() {
        let known = repeats == Repeats::Known && settled.missing.iter().all(|region| next.before.contains_key(region));
        if settled.outcome == Outcome::Replicated && !settled.missing.is_empty() && !known {
            return Err(format!("replicated without {:?}", settled.missing));
        }
        if settled.outcome != Outcome::Replicated && settled.missing.is_empty() {
            return Err(format!("{:?}, and nothing was missing", settled.outcome));
        }
    } else if matches!(next.phase, Phase::Waiting { .. }) && next.missing_in_time().is_empty() {
        return Err("complete, but waiting".into());
    }
    let Some(before) = before else { return Ok(()) };
    if (&before.regions, before.deadline, before.opened, before.since, &before.before)
        != (&next.regions, next.deadline, next.opened, next.since, &next.before)
    {
        return Err("what the first arrival froze was changed".into());
    }
    for (region, seen) in &before.arrived {
        let Some(then) = next.arrived.get(region) else { return Err(format!("the arrival of {region} was lost")) };
        // Only while it waits may one that came in time take the place of one that came late.
        let replaced = before.settled().is_none() && then.at < before.deadline && before.deadline <= seen.at;
        if (&then.id, then.at) != (&seen.id, seen.at) && !replaced || then.repeats < seen.repeats {
            return Err(format!("the arrival of {region} was changed"));
        }
    }
    match (&before.phase, &next.phase) {
        (Phase::Waiting { .. }, Phase::Purged { .. }) => return Err("purged while it waited".into()),
        (Phase::Waiting { .. }, _) | (Phase::Settled(_) | Phase::Purged { .. }, Phase::Purged { .. }) => return Ok(()),
        (Phase::Purged { .. }, _) => return Err("purged, and back again".into()),
        (Phase::Settled(_), Phase::Waiting { .. }) => return Err("settled, then waiting again".into()),
        (Phase::Settled(_), Phase::Settled(_)) => {}
    }
    let (Some(settled), Some(then)) = (before.settled(), next.settled()) else { return Ok(()) };
    if (settled.outcome, settled.at, &settled.missing) != (then.outcome, then.at, &then.missing) {
        return Err("the outcome was changed".into());
    }
    if settled.recovered.is_some() && settled.recovered != then.recovered {
        return Err("the recovery was changed".into());
    }
    for entry in &settled.outbox {
        let Some(after) = then.outbox.iter().find(|e| (&e.target, e.notice) == (&entry.target, entry.notice)) else {
            return Err(format!("an entry of {} was lost", entry.target));
        };
        match (&entry.delivery, &after.delivery) {
            (Delivery::Owed { claims, lease_until, .. }, Delivery::Owed { claims: then, .. })
                if then > claims && (*then != claims + 1 || lease_until.is_some_and(|until| until > next.updated)) =>
            {
                return Err(format!("{} was claimed while a lease lived", entry.target));
            }
            (Delivery::Overtaken { .. }, Delivery::Owed { .. } | Delivery::Exhausted { .. }) => {
                return Err(format!("what was overtaken is owed to {} again", entry.target));
            }
            _ => {}
        }
    }
    Ok(())
}

impl State {
    /// A row was written.
    pub(crate) fn committed(&mut self, row: &Row, process: usize, writer: u64, record: Option<&Record>) {
        self.trace(|| {
            let phase = match &row.phase {
                Phase::Settled(s) => {
                    format!("{:?} {:?}", s.outcome, s.outbox.iter().map(|e| &e.delivery).collect::<Vec<_>>())
                }
                other @ (Phase::Waiting { .. } | Phase::Purged { .. }) => format!("{other:?}"),
            };
            let timer = record.map(|record| format!("timer {:?}", record.timer));
            format!("p{process} commits {} {timer:?} {phase}", row.id)
        });
        let before = self.checks.rows.get(&row.id).map(|seen| seen.row.clone());
        if let Err(cause) = transition(before.as_ref(), row, self.policy.repeats) {
            return self.fail(format!("{}: {cause}", row.id));
        }
        if record.is_some_and(|record| record.timer.is_some() != row.wake().is_some()) {
            return self
                .fail(format!("{}: names a timer although nothing is owed, or none although something is", row.id));
        }
        let was_settled = before.as_ref().is_some_and(|row| row.settled().is_some());
        if let (false, Some(settled)) = (was_settled, row.settled()) {
            let early = (row.deadline - self.instant()).num_milliseconds();
            if settled.outcome != Outcome::Replicated && !settled.terminated && early > SKEW_MAX {
                return self.fail(format!("{} timed out {early} ms before its deadline", row.id));
            }
            if let Err(cause) = self.check_outcome(row) {
                return self.fail(cause);
            }
        }
        let held = |row: &Row| matches!(row.phase, Phase::Waiting { held: Some(_) });
        self.checks.held += u64::from(held(row) && !before.as_ref().is_some_and(held));
        if row.is_purged() && !before.as_ref().is_some_and(Row::is_purged) {
            self.checks.purged += 1;
            self.model.purged(&row.id.key);
        }
        if let Err(cause) = self.model.on_record(row) {
            return self.fail(cause);
        }
        for entry in row.settled().into_iter().flat_map(|s| &s.outbox) {
            if let Delivery::Owed { claims, lease_until: Some(_), .. } = entry.delivery {
                self.checks.claimed.insert(((row.id.clone(), entry.target.clone(), entry.notice.word()), claims));
            }
        }
        self.checks.rows.insert(row.id.clone(), Seen { row: row.clone(), record: record.cloned(), writer });
    }

    /// A row is gone: it was purged, or whoever opened it takes it back.
    pub(crate) fn removed(&mut self, id: &PushId) {
        let told = self.checks.attempted.iter().any(|((push, ..), _)| push == id);
        let fresh =
            |seen: &Seen| id.round > 1 && seen.record.as_ref().is_some_and(|record| record.revision == 1) && !told;
        match self.checks.rows.remove(id) {
            Some(seen) if seen.row.is_purged() => self.checks.traces.push(seen.row),
            Some(seen) if self.is_over(&seen.row) => self.checks.gone.push((seen.row, self.now)),
            Some(seen) if fresh(&seen) => self.checks.taken_back.push(seen.row),
            Some(_) | None => self.fail(format!("{id} was removed without being purged")),
        }
        // The next push of this name is another one.
        self.checks.claimed.retain(|((push, ..), _)| push != id);
        self.checks.attempted.retain(|((push, ..), _)| push != id);
        self.checks.recovered.retain(|(push, _)| push != id);
        let names = std::mem::take(&mut self.checks.notification_ids);
        self.checks.notification_ids = names.into_iter().filter(|((push, ..), _)| push != id).collect();
    }

    /// Whether a push may go without a trace: it owes nothing, its repeats ended an hour ago, and it is older than the settings
    /// keep, or an operator.
    fn is_over(&self, row: &Row) -> bool {
        let Some(settled) = row.settled() else { return false };
        let complete = settled.recovered.is_some() || settled.outcome == Outcome::Replicated || settled.terminated;
        let last = row.arrived.values().map(|seen| seen.at).max().unwrap_or(row.opened);
        let end = if complete { last } else { last.max(row.deadline) };
        let now = self.instant() + chrono::Duration::milliseconds(2 * SKEW_MAX);
        let old = self.retention.is_some_and(|kept| row.opened < now - kept);
        let asked = self.checks.removable.is_some_and(|before| row.opened < before);
        row.wake().is_none() && end + self.policy.timeout + limits::PURGED_KEPT <= now && (old || asked)
    }

    /// An attempt begins: it was claimed in a committed row, nobody else makes one at the same time, it carries the id
    /// that all attempts of this notification carry, it is made by the app whose push it is, and it is no alarm after the
    /// all-clear.
    pub(crate) fn check_attempt(
        &mut self,
        process: usize,
        row: &Row,
        claim: &Claim,
        id: &str,
        told: &Told,
    ) -> Result<(), String> {
        let app = self.processes[process].app.clone();
        let checks = &mut self.checks;
        if !checks.claimed.contains(&(told.clone(), claim.claim)) {
            return Err(format!("{told:?} is told before the commit that owes it"));
        }
        if !checks.attempted.insert((told.clone(), claim.claim)) {
            return Err(format!("claim {} of {told:?} was used twice", claim.claim));
        }
        if !checks.flying.insert(told.clone()) {
            return Err(format!("two attempts at {told:?} at once"));
        }
        let known = checks.notification_ids.entry((row.id.clone(), told.2)).or_insert_with(|| id.to_owned());
        if known != id {
            return Err(format!("{told:?} has the ids {known} and {id}"));
        }
        let whom = (row.id.clone(), claim.target.clone());
        match claim.notice {
            Notice::Recovered => drop(checks.recovered.insert(whom)),
            Notice::TimedOut if checks.recovered.contains(&whom) => {
                return Err(format!("{told:?}: the alarm comes after the all-clear"));
            }
            Notice::TimedOut | Notice::Replicated | Notice::Superseded => {}
        }
        let Some(seen) = checks.rows.get(&row.id) else { return Err(format!("{told:?} is told of no push")) };
        if seen.record.as_ref().is_some_and(|record| record.app != app) {
            return Err(format!("{app} tells of a push of another app"));
        }
        let on_record = |e: &global_webhook::push::Entry| e.notice == claim.notice && e.target == claim.target;
        match seen.row.settled() {
            Some(settled) if settled.outbox.iter().any(on_record) => Ok(()),
            Some(_) | None => Err(format!("{told:?} is told what is not on record")),
        }
    }

    /// Every committed row that owes something has a message that will see to it, or a living task about to arm one; or else
    /// somebody cleared the queue, and upkeep will.
    pub(crate) fn check_covered(&mut self) {
        let mut uncovered = None;
        let mut most = 0;
        for (id, seen) in &self.checks.rows {
            let (Some(wake), Some(record)) = (seen.row.wake(), &seen.record) else { continue };
            let now = i64::try_from(self.now).unwrap();
            let wake = Self::since_start(wake);
            // One that has failed for long is put back for a part of that time.
            let latest = now.max(wake) + COVER_SLACK + (now - wake).max(0) / 2;
            let timers =
                || self.queue.iter().filter_map(|queued| Some((queued.visible, timer_of(&queued.message, id)?)));
            let acts = |(visible, timer): (u64, &global_webhook::store::azure::message::Timer)| {
                i64::try_from(visible).unwrap() <= latest
                    && record.timer.as_ref().is_some_and(|named| named.ticket == timer.ticket)
            };
            if !timers().any(acts) && !self.running.contains(&seen.writer) && self.checks.cleared == 0 {
                uncovered = Some(format!("{id} owes something at {wake} ms and no timer covers it"));
            }
            let longest = self.policy.timeout.min(limits::TIMER_DELAY_MAX).max(limits::RETRY_AFTER_MAX) * 2;
            let settled = self.calm.is_some_and(|since| u128::from(self.now - since) > longest.as_millis());
            let alive = timers().count();
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
    pub(crate) fn accepted(&mut self, arrival: &Arrival, sent: usize, did: &Did, row: Option<&Row>) {
        self.model.accepted(sent, self.now, self.crashes);
        self.applied(arrival, did, row);
    }

    /// An arrival was applied.
    pub(crate) fn applied(&mut self, arrival: &Arrival, did: &Did, row: Option<&Row>) {
        if matches!(did, Did::UnknownRegion | Did::UnknownPush | Did::Ignored(_)) {
            return self.fail(format!("an awaited arrival was answered {}", did.word()));
        }
        let Some(row) = row else {
            // Of a push that was purged.
            if *did != Did::Duplicate {
                self.fail(format!("an arrival was applied to nothing: {}", did.word()));
            }
            return;
        };
        let on_record = row
            .arrived
            .get(&arrival.region)
            .is_some_and(|seen| seen.at == arrival.received || seen.repeats > 0 || *did == Did::Duplicate);
        if !on_record {
            self.fail(format!("{} {} of {} is accepted and not on record", arrival.region, arrival.id, row.id));
        }
    }

    /// An arrival is answered as taken in and waits on the queue.
    pub(crate) fn spilled(&mut self, arrival: &Arrival, sent: usize) {
        self.checks.spills += 1;
        self.model.accepted(sent, self.now, self.crashes);
        let waits = |m: &crate::azure::Queued| matches!(&m.message, Message::Spill(s) if s.region == arrival.region && s.received == arrival.received);
        let key = arrival.key(self.policy.correlation);
        let applied = self.checks.rounds(&key).any(|row| row.arrived.contains_key(&arrival.region));
        if !applied && !self.queue.iter().any(waits) && !self.model.was_purged(&key) {
            self.fail(format!("{} {} was spilled and is nowhere", arrival.region, arrival.id));
        }
    }

    /// Nothing is left to happen: all is settled, told or given up, and the model agrees.
    pub(crate) fn check_at_rest(&mut self, report: &mut Report) -> Result<(), String> {
        report.spilled = self.checks.spills;
        report.held = self.checks.held;
        report.purged = self.checks.purged;
        report.gone = self.checks.gone.len() as u64;
        report.cleared = self.checks.cleared;
        report.timers_alive = self.checks.alive as u64;
        report.attempts = self.checks.attempted.len() as u64;
        for (id, seen) in &self.checks.rows {
            let Some(settled) = seen.row.settled() else { return Err(format!("{id} never settled")) };
            report.pushes += 1;
            report.later_rounds += u64::from(id.round > 1);
            report.repeats += seen.row.arrived.values().map(|seen| u64::from(seen.repeats)).sum::<u64>();
            match settled.outcome {
                Outcome::Replicated => report.replicated += 1,
                Outcome::TimedOut => report.timed_out += 1,
                Outcome::Superseded => report.superseded += 1,
            }
            report.recovered += u64::from(settled.recovered.is_some());
            let mut claims = 0;
            for entry in &settled.outbox {
                let (count, attempt) = match &entry.delivery {
                    Delivery::Owed { .. } => return Err(format!("{id} still owes {}", entry.target)),
                    Delivery::Confirmed { attempt, .. } => (&mut report.confirmed, attempt),
                    Delivery::Exhausted { attempt, .. } => (&mut report.exhausted, attempt),
                    Delivery::Overtaken { attempt, .. } => (&mut report.overtaken, attempt),
                };
                *count += 1;
                claims += u64::from(*attempt);
            }
            let armed = self.checks.armed.get(id).copied().unwrap_or_default();
            report.timers += armed;
            let minutes = self.calm.unwrap_or_default().div_ceil(60_000);
            if armed > ARMED_MAX + ARMED_PER_MINUTE_MAX * minutes + 6 * claims {
                return Err(format!("{armed} timers were armed for {id} and its {claims} claims"));
            }
        }
        for (id, (record, _)) in &self.table.records {
            // By its own entry, or by one that upkeep will make that of.
            let late = |entry: &Entry| entry.at > record.row.opened + limits::ORPHAN_AGE / 2;
            let named = |entry: &Entry| entry.push == *id && (entry.at == record.row.opened || late(entry));
            if !self.table.index.iter().any(named) {
                return Err(format!("{id} is not in the time index"));
            }
        }
        report.modelled += self.model.at_rest(&self.checks, &self.faults, &mut report.counted_twice)?;
        Ok(())
    }
}
