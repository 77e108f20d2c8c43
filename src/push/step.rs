//! The one function that decides. Pure and total: every state, every input, every instant has an answer.
//!
//! What always holds: a push settles once and its outcome never changes; an arrival that is on record is never taken off;
//! an entry of the outbox is claimed by one invocation at a time; whatever the row owes afterwards has an instant in
//! [`Row::wake`]. Level-triggered: what a row owes follows from the row, never from which input came last, so a lost or
//! repeated input cannot leave a push behind. One step changes one row.
//!
//! What counts for which push is judged by when ImagePush received a webhook, never by when it was applied:
//!
//! | a report of | received | is |
//! |---|---|---|
//! | whatever no push is there for | whenever | the first round, if no rule ignores it and its region is waited for |
//! | a region that is missing | before the deadline | an arrival in time |
//! | | at the deadline or later, however long after | late |
//! | a region on record | until [repeats end](Row::repeats_until), the tag unmoved since the push was opened | a repeat |
//! | | the same, but the tag carried another digest meanwhile | the next round |
//! | | later | the next round |
//! | | before the round was opened beside an earlier one | for the earlier one |
//! | a region of the settings that this push does not wait for | until repeats end | shown |
//! | | later | the next round, if it is waited for by now; else ignored |
//! | any other region | whenever | refused |
//!
//! What an operator reports by hand is a report of that region, received at that moment.
//!
//! Knowingly accepted: a region that never reported the push before may report the next push of the same content first. Nothing
//! in a webhook tells which of the two it means, and it counts for the one that misses it: where a tag moved away and back
//! within the time-out, or where a push timed out and its image is pushed again. The next push may then time out for want of
//! that region, and its time-out says when the region reported the same image before.
//!
//! A push that was purged goes on taking in whatever would have been a repeat, late or shown, and tells nobody. One that is
//! purged long after that goes at once; what is reported from then on opens the first round again.

use std::collections::BTreeMap;

use super::outbox::{attempt_ended, claim_due, overtake, owe, redeliver};
use super::policy::{Plan, Policy, Repeats};
use super::state::{Outcome, Phase, Row, Seen, Settled};
use super::{Answer, Arrival, Change, Claim, Decision, Did, Input, Notice, PushId, Question, Region, Step};
use crate::clock::{self, Instant};
use crate::limits;

/// Decides what `input` means for `row` at `now`. For an [`Input::Arrival`], `row` is the newest round of its key, or an earlier
/// one that [`Did::Earlier`] named. `answer` is the answer to what the same step asked before; it asks at most once.
#[must_use]
pub fn step(row: Option<&Row>, input: &Input, now: Instant, policy: &Policy, answer: Option<Answer>) -> Decision {
    let context = Context { now, policy, answer };
    match (row, input) {
        (row, Input::Arrival { arrival, spilled, earlier }) => {
            Report { context, arrival, spilled: *spilled, earlier: *earlier }.step(row)
        }
        (Some(row), Input::Timer) => context.timer(row),
        (Some(row), _) if row.is_purged() => Did::UnknownPush.unchanged(),
        (Some(row), Input::Attempted(attempted)) => attempt_ended(row, attempted, now, policy),
        (Some(row), Input::Terminate) if row.settled().is_some() => Did::Idle.unchanged(),
        (Some(row), Input::Terminate) => context.end(row.clone(), Did::Held, true),
        (Some(row), Input::Redeliver(target)) => redeliver(row, target.as_deref(), now),
        (Some(row), Input::Purge) if row.wake().is_some() => Did::Owing.unchanged(),
        (Some(row), Input::Purge) if row.is_spent(now) => Did::Purged.removed(),
        (Some(row), Input::Purge) => {
            let phase = Phase::Purged { at: now, until: row.repeats_until() };
            let gone = Row { phase, payload: String::new(), ..row.clone() };
            Did::Purged.changed(gone, now, Vec::new())
        }
        (Some(row), Input::ByHand(region)) => context.by_hand(row, region),
        (None, _) => Did::UnknownPush.unchanged(),
    }
}

impl Did {
    pub(super) fn unchanged(self) -> Decision {
        Decision::Step(Box::new(Step { did: self, change: Change::None, claims: Vec::new() }))
    }

    fn removed(self) -> Decision {
        Decision::Step(Box::new(Step { did: self, change: Change::Remove, claims: Vec::new() }))
    }

    pub(super) fn changed(self, next: Row, now: Instant, claims: Vec<Claim>) -> Decision {
        let change = Change::Put(Row { updated: now, ..next });
        Decision::Step(Box::new(Step { did: self, change, claims }))
    }
}

/// What every rule may look at beside the row.
#[derive(Clone, Copy)]
struct Context<'a> {
    now: Instant,
    policy: &'a Policy,
    answer: Option<Answer>,
}

/// A webhook that was received, and how it got here.
struct Report<'a> {
    context: Context<'a>,
    arrival: &'a Arrival,
    spilled: bool,
    earlier: bool,
}

impl Report<'_> {
    fn step(&self, row: Option<&Row>) -> Decision {
        let Some(row) = row else { return self.open(None, None) };
        let received = self.arrival.received;
        let earlier = row.since.max(row.before.get(&self.arrival.region).copied());
        if row.id.round > 1 && earlier.is_some_and(|earlier| received <= earlier) {
            let before = PushId { round: row.id.round - 1, ..row.id.clone() };
            return Did::Earlier(before).unchanged();
        }
        if let Some(seen) = row.arrived.get(&self.arrival.region) {
            return self.on_record(row, seen);
        }
        let over = received > row.repeats_until();
        if row.regions.contains(&self.arrival.region) && !(row.is_purged() && over) {
            return self.missing(row);
        }
        if over { self.open(Some(row), Some(row.repeats_until())) } else { self.unawaited(row) }
    }

    /// Opens the first round, or the one after `previous`, to which reports received up to `since` belong.
    fn open(&self, previous: Option<&Row>, since: Option<Instant>) -> Decision {
        let Self { context: Context { now, policy, .. }, arrival, .. } = *self;
        if self.earlier {
            return Did::Duplicate.unchanged();
        }
        let (regions, timeout, rule) = match policy.plan(&arrival.subject) {
            Plan::Ignore(rule) => return Did::Ignored(format!("rule `{rule}` ignores this push")).unchanged(),
            Plan::FanIn { regions, timeout, rule } => (regions, timeout, rule),
        };
        if !regions.contains(&arrival.region) {
            return self.not_awaited();
        }
        let mut before = BTreeMap::new();
        if let Some(previous) = previous.filter(|p| !p.is_purged()) {
            before.extend(previous.before.clone());
            before.extend(previous.arrived.iter().map(|(region, seen)| (region.clone(), seen.last())));
            before.retain(|region, _| regions.contains(region));
        }
        let deadline = clock::after(arrival.received, timeout);
        let row = Row {
            id: PushId { key: arrival.key(policy.correlation), round: previous.map_or(0, |p| p.id.round) + 1 },
            correlation: policy.correlation,
            subject: arrival.subject.clone(),
            payload: arrival.payload.clone(),
            opened: arrival.received,
            deadline,
            regions,
            rule,
            since,
            arrived: [(arrival.region.clone(), self.seen())].into(),
            unawaited: BTreeMap::new(),
            before,
            phase: Phase::Waiting { held: self.held(deadline, None) },
            updated: now,
            unknown: None,
        };
        if row.missing().is_empty() {
            self.context.settle(row, Outcome::Replicated, false)
        } else {
            Did::Opened.changed(row, now, Vec::new())
        }
    }

    fn seen(&self) -> Seen {
        Seen { at: self.arrival.received, id: self.arrival.id.clone(), by_hand: false, repeats: 0, repeated: None }
    }

    /// Until when a push does not time out, if longer than its deadline says: what was spilled may not be alone.
    fn held(&self, deadline: Instant, held: Option<Instant>) -> Option<Instant> {
        let until = clock::after(self.context.now, limits::RELEASE_PERIOD);
        if self.spilled && until > deadline { held.max(Some(until)) } else { held }
    }

    /// The answer to a report that no push waits for.
    fn not_awaited(&self) -> Decision {
        let region = &self.arrival.region;
        if self.context.policy.known_regions().contains(&region) {
            self.ignored().unchanged()
        } else {
            Did::UnknownRegion.unchanged()
        }
    }

    fn ignored(&self) -> Did {
        Did::Ignored(format!("this push does not wait for region `{}`", self.arrival.region))
    }

    /// A report of a region that the push does not wait for.
    fn unawaited(&self, row: &Row) -> Decision {
        let region = &self.arrival.region;
        let shown = row.unawaited.contains_key(region) || row.unawaited.len() >= limits::REGIONS_MAX;
        if shown || row.is_purged() || !self.context.policy.known_regions().contains(&region) {
            return self.not_awaited();
        }
        let mut row = row.clone();
        row.unawaited.insert(region.clone(), self.seen());
        self.ignored().changed(row, self.context.now, Vec::new())
    }

    /// A report of a region that the push has on record.
    fn on_record(&self, row: &Row, seen: &Seen) -> Decision {
        let received = self.arrival.received;
        // The first one waited on the queue while another came in late.
        let in_time = received < row.deadline && row.deadline <= seen.at && row.is_waiting();
        let applied = seen.at == received && seen.id == self.arrival.id;
        if applied || (seen.repeated.is_some_and(|last| received <= last) && !in_time) {
            return Did::Duplicate.unchanged();
        }
        if received > row.repeats_until() {
            return self.open(Some(row), Some(row.repeats_until()));
        }
        // What is older than the report on record tells nothing of what became of the tag after that.
        if row.subject.tag.is_some() && received > seen.at && !self.earlier {
            match self.context.answer {
                None => return Decision::Ask(Question { moved: Some((row.opened, received)), pending: false }),
                Some(Answer { moved: Some(moved), .. }) => return self.open(Some(row), Some(moved)),
                Some(Answer { moved: None, .. }) => {}
            }
        }
        if row.is_purged() {
            return Did::Duplicate.unchanged();
        }
        let mut row = row.clone();
        let (first, last) = if in_time { (self.seen(), seen.at) } else { (seen.clone(), received) };
        let repeats = seen.repeats.saturating_add(1);
        let seen = Seen { repeats, repeated: seen.repeated.max(Some(last)), ..first };
        row.arrived.insert(self.arrival.region.clone(), seen);
        if in_time && row.missing_in_time().is_empty() {
            return self.context.settle(row, Outcome::Replicated, false);
        }
        Did::Repeated.changed(row, self.context.now, Vec::new())
    }

    /// The first report of a region that the push waits for.
    fn missing(&self, row: &Row) -> Decision {
        self.context.take(row, &self.arrival.region, self.seen(), |held| self.held(row.deadline, held))
    }
}

impl Context<'_> {
    /// The first report of a region that the push waits for. `held` says until when it does not time out, given until when it
    /// would not.
    fn take(
        &self,
        row: &Row,
        region: &Region,
        seen: Seen,
        held: impl Fn(Option<Instant>) -> Option<Instant>,
    ) -> Decision {
        let (in_time, now) = (seen.at < row.deadline, self.now);
        let mut next = row.clone();
        next.arrived.insert(region.clone(), seen);
        let complete = self.complete(&next);
        match &mut next.phase {
            Phase::Waiting { held: until } => {
                *until = held(*until);
                let end = until.unwrap_or(row.deadline);
                if next.missing_in_time().is_empty() {
                    return self.settle(next, Outcome::Replicated, false);
                }
                let did = if in_time { Did::Joined } else { Did::Late };
                if !complete || now < end {
                    return did.changed(next, now, Vec::new());
                }
                // Its deadline was not handled yet. It is now, and what came late came late.
                self.end(next, did, false)
            }
            Phase::Settled(settled) => {
                if !complete || settled.outcome != Outcome::TimedOut || settled.recovered.is_some() {
                    return Did::Late.changed(next, now, Vec::new());
                }
                let settled = settled.clone();
                self.recovered(settled, next)
            }
            Phase::Purged { .. } => Did::Duplicate.unchanged(),
        }
    }

    /// What an operator has seen counts as the region's report, received now.
    fn by_hand(&self, row: &Row, region: &Region) -> Decision {
        if !row.regions.contains(region) {
            return Did::UnknownRegion.unchanged();
        }
        if row.arrived.contains_key(region) {
            return Did::Idle.unchanged();
        }
        let seen = Seen { at: self.now, id: String::new(), by_hand: true, repeats: 0, repeated: None };
        self.take(row, region, seen, |held| held)
    }

    /// Ends the wait of a push whose regions did not all report in time, at its deadline or by an operator's word, which does
    /// not wait for what is on the queue; `held` is the word where that must be waited for.
    fn end(&self, row: Row, held: Did, terminated: bool) -> Decision {
        let Some(Answer { moved, pending }) = self.answer else {
            let moved = row.subject.tag.as_ref().map(|_| (row.opened, row.deadline));
            return Decision::Ask(Question { moved, pending: !terminated });
        };
        if pending && !terminated {
            let held_until = Some(clock::after(self.now, limits::RELEASE_PERIOD));
            return held.changed(Row { phase: Phase::Waiting { held: held_until }, ..row }, self.now, Vec::new());
        }
        let outcome = if moved.is_some() {
            Outcome::Superseded
        } else if row.missing_in_time().iter().all(|region| self.known(&row, region)) {
            Outcome::Replicated
        } else {
            Outcome::TimedOut
        };
        self.settle(row, outcome, terminated)
    }

    /// Whether a region without a report counts as one with a report, since it reported the same content before.
    fn known(&self, row: &Row, region: &Region) -> bool {
        self.policy.repeats == Repeats::Known && row.before.contains_key(region)
    }

    /// Whether every region has reported, in time or late, or need not.
    fn complete(&self, row: &Row) -> bool {
        row.missing().iter().all(|region| self.known(row, region))
    }

    /// Does whatever the row owes at this instant.
    fn timer(&self, row: &Row) -> Decision {
        match &row.phase {
            Phase::Waiting { held } if self.now < held.unwrap_or(row.deadline) => Did::Early.unchanged(),
            Phase::Waiting { .. } => self.end(row.clone(), Did::Held, false),
            Phase::Settled(settled) => {
                let mut settled = settled.clone();
                let claims = claim_due(&mut settled, self.now);
                if Some(&settled) == row.settled() {
                    return if row.wake().is_some() { Did::Early } else { Did::Idle }.unchanged();
                }
                let did = if claims.is_empty() { Did::Exhausted } else { Did::Claimed };
                did.changed(Row { phase: Phase::Settled(settled), ..row.clone() }, self.now, claims)
            }
            Phase::Purged { .. } if row.wake().is_some_and(|wake| self.now < wake) => Did::Early.unchanged(),
            Phase::Purged { .. } => Did::Removed.removed(),
        }
    }

    /// The single, irreversible step out of `Waiting`.
    fn settle(&self, mut row: Row, outcome: Outcome, terminated: bool) -> Decision {
        let missing = row.missing_in_time().into_iter().cloned().collect();
        let mut settled = Settled { outcome, at: self.now, missing, terminated, recovered: None, outbox: Vec::new() };
        owe(&mut settled, outcome.into(), &row, self.now, self.policy);
        if outcome == Outcome::TimedOut && self.complete(&row) {
            return self.recovered(settled, row);
        }
        let claims = claim_due(&mut settled, self.now);
        row.phase = Phase::Settled(settled);
        Did::Settled(outcome).changed(row, self.now, claims)
    }

    /// The all-clear after a time-out. Whoever has not heard the alarm yet will not.
    fn recovered(&self, mut settled: Settled, row: Row) -> Decision {
        settled.recovered = Some(self.now);
        overtake(&mut settled, self.now);
        owe(&mut settled, Notice::Recovered, &row, self.now, self.policy);
        let claims = claim_due(&mut settled, self.now);
        Did::Recovered.changed(Row { phase: Phase::Settled(settled), ..row }, self.now, claims)
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
