//! `step`: the one function that decides what becomes of a push. Pure and total: the same row, input and instant give the
//! same step, and every combination has an answer.
//!
//! Guarantees: a push settles at most once and its outcome never changes; an arrival that is on record is never taken off;
//! an entry of the outbox is claimed by one invocation at a time; whatever the row owes afterwards has an instant in
//! [`Step::wake`]. Level-triggered: what a row owes follows from the row, never from which input came last, so a lost or
//! repeated input cannot leave a push behind.

use std::collections::BTreeMap;

use super::backoff;
use super::policy::{Plan, Policy};
use super::state::{Arrived, Delivery, Entry, Notice, Outcome, Phase, Row, Settled};
use super::{Arrival, AttemptResult, Attempted, Claim, Fired, Input, Step, What, rounds};
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::arrival::Correlation;

/// Decides what `input` means for `row` at `now`. For an [`Input::Arrival`], `row` is the newest round of its key.
#[must_use]
pub fn step(row: Option<&Row>, input: &Input<'_>, now: Instant, policy: &Policy) -> Step {
    match (row, input) {
        (None, Input::Arrival(arrival)) => rounds::open(None, arrival, now, policy),
        (None, Input::Timer(_) | Input::Attempted(_) | Input::Terminate | Input::Redeliver(_)) => {
            Step::unchanged(What::UnknownPush, None)
        }
        (Some(row), Input::Arrival(arrival)) => match &row.phase {
            Phase::Waiting => arrival_while_waiting(row, arrival, now, policy),
            Phase::Settled(settled) if settled.superseded => rounds::open(Some(row), arrival, now, policy),
            Phase::Settled(settled) => arrival_when_settled(row, settled, arrival, now, policy),
        },
        (Some(row), Input::Timer(fired)) => timer(row, *fired, now, policy),
        (Some(row), Input::Attempted(attempted)) => attempt_ended(row, attempted, now, policy),
        (Some(row), Input::Terminate) => match row.phase {
            Phase::Waiting => settle(row.clone(), Outcome::TimedOut, true, now, policy),
            Phase::Settled(_) => Step::unchanged(What::Idle, row.wake()),
        },
        (Some(row), Input::Redeliver(target)) => redeliver(row, *target, now),
    }
}

impl Step {
    pub(super) fn unchanged(what: What, wake: Option<Instant>) -> Self {
        Self { what, next: None, wake, rearm: false, claims: Vec::new(), again: false }
    }

    pub(super) fn changed(what: What, mut next: Row, now: Instant, claims: Vec<Claim>) -> Self {
        next.updated = now;
        next.revision = next.revision.saturating_add(1);
        Self { what, wake: next.wake(), next: Some(next), rearm: false, claims, again: false }
    }

    fn again(self) -> Self {
        Self { again: true, ..self }
    }
}

/// The answer to an arrival from a region that nobody waits for.
pub(super) fn not_awaited(arrival: &Arrival, policy: &Policy, wake: Option<Instant>) -> Step {
    let region = &arrival.region;
    if policy.known_regions().contains(&region) {
        Step::unchanged(What::Ignored(format!("this push does not wait for region `{region}`")), wake)
    } else {
        Step::unchanged(What::UnknownRegion, wake)
    }
}

fn arrival_while_waiting(row: &Row, arrival: &Arrival, now: Instant, policy: &Policy) -> Step {
    if !row.regions.contains(&arrival.region) {
        return not_awaited(arrival, policy, row.wake());
    }
    let duplicate = row.arrived.contains_key(&arrival.region) || row.of_earlier_round(&arrival.id);
    // What counts is when ImagePush received it: a spilled arrival may be applied after the deadline. A duplicate of a push
    // that is overdue settles it all the same, in case its timer was lost.
    if arrival.received >= row.deadline || (duplicate && now >= row.deadline) {
        return settle(row.clone(), Outcome::TimedOut, false, now, policy).again();
    }
    if duplicate {
        return rounds::repeated(row, arrival, now);
    }
    let mut row = row.clone();
    row.arrived.insert(arrival.region.clone(), Arrived { at: arrival.received, id: arrival.id.clone() });
    if row.missing().is_empty() {
        settle(row, Outcome::Replicated, false, now, policy)
    } else {
        Step::changed(What::Joined, row, now, Vec::new())
    }
}

fn arrival_when_settled(row: &Row, settled: &Settled, arrival: &Arrival, now: Instant, policy: &Policy) -> Step {
    let region = &arrival.region;
    let expected = row.regions.contains(region);
    let planned = match policy.plan(&arrival.subject) {
        Plan::Ignore(_) => false,
        Plan::FanIn { regions, .. } => regions.contains(region),
    };
    if !expected && !planned {
        return not_awaited(arrival, policy, row.wake());
    }
    if row.of_earlier_round(&arrival.id) || row.is_repeated(region, &arrival.id) {
        return Step::unchanged(What::Duplicate, row.wake());
    }
    match row.arrival_of(region) {
        // Two pushes that overlapped share this round: the webhook of either comes here to nobody's surprise.
        Some(known)
            if known.id == arrival.id || row.of_this_round(&arrival.id) || row.correlation == Correlation::Id =>
        {
            Step::unchanged(What::Duplicate, row.wake())
        }
        Some(_) => {
            let mut row = row.clone();
            row.phase = Phase::Settled(Settled { superseded: true, ..settled.clone() });
            Step::changed(What::Superseded, row, now, Vec::new()).again()
        }
        // Also from a region that joined the settings after this push was opened: on record, it counts for the next round.
        None => late(row, settled, arrival, now, policy),
    }
}

fn late(row: &Row, settled: &Settled, arrival: &Arrival, now: Instant, policy: &Policy) -> Step {
    let mut row = row.clone();
    let mut settled = settled.clone();
    settled.late.insert(arrival.region.clone(), Arrived { at: arrival.received, id: arrival.id.clone() });
    row.phase = Phase::Settled(settled.clone());
    if settled.outcome != Outcome::TimedOut || settled.recovered.is_some() || !row.missing().is_empty() {
        return Step::changed(What::Late, row, now, Vec::new());
    }
    settled.recovered = Some(now);
    owe(&mut settled, Notice::Recovered, &row, now, policy);
    let claims = claim_due(&mut settled, now);
    row.phase = Phase::Settled(settled);
    Step::changed(What::Recovered, row, now, claims)
}

/// The single, irreversible step out of `Waiting`.
pub(super) fn settle(mut row: Row, outcome: Outcome, terminated: bool, now: Instant, policy: &Policy) -> Step {
    let mut settled = Settled {
        outcome,
        at: now,
        terminated,
        late: BTreeMap::new(),
        recovered: None,
        superseded: false,
        outbox: Vec::new(),
    };
    owe(&mut settled, outcome.into(), &row, now, policy);
    let claims = claim_due(&mut settled, now);
    row.phase = Phase::Settled(settled);
    Step::changed(What::Settled(outcome), row, now, claims)
}

/// Adds one entry for each target that is told of `notice`.
fn owe(settled: &mut Settled, notice: Notice, row: &Row, now: Instant, policy: &Policy) {
    settled.outbox.extend(policy.told(notice, &row.subject).map(|target| Entry {
        target: target.to_owned(),
        notice,
        delivery: owed_now(0, now),
    }));
}

fn owed_now(claims: u32, now: Instant) -> Delivery {
    Delivery::Owed { claims, failures: 0, lapses: 0, not_before: now, lease_until: None, last_error: None }
}

/// Leases every entry that is due and not leased. An entry whose leases keep ending without a result is given up.
fn claim_due(settled: &mut Settled, now: Instant) -> Vec<Claim> {
    let mut leased = Vec::new();
    for entry in &mut settled.outbox {
        let Delivery::Owed { claims, lapses, not_before, lease_until, last_error, .. } = &mut entry.delivery else {
            continue;
        };
        if now < lease_until.unwrap_or(*not_before) {
            continue;
        }
        if lease_until.is_some() {
            *lapses += 1;
            *last_error = Some("no result was recorded: the process ended or could not reach the store".into());
        }
        if *lapses > limits::LAPSES_MAX {
            let reason = last_error.take().unwrap_or_default();
            entry.delivery = Delivery::Exhausted { attempt: *claims, at: now, reason };
            continue;
        }
        *claims += 1;
        let until = clock::after(now, limits::LEASE);
        *lease_until = Some(until);
        leased.push(Claim { target: entry.target.clone(), notice: entry.notice, claim: *claims, lease_until: until });
    }
    leased
}

/// Does whatever the row owes at this instant. A fired timer is used up, so whatever is owed later needs another one.
///
/// A timer that the row does not name does nothing: the one that is named is in charge. It was armed for a write that did not
/// come about, or has been replaced; were it to act, and that while writes fail, each of its failures would leave one timer
/// more. One that is ahead of the row may yet be named, by a write that is still to land.
fn timer(row: &Row, fired: Fired<'_>, now: Instant, policy: &Policy) -> Step {
    let called = |id: &str| !fired.revived && fired.message.is_none_or(|message| message == id);
    let in_charge = row.timer.as_ref();
    if !fired.revived && !in_charge.is_some_and(|timer| called(&timer.id)) {
        if fired.revision > row.revision {
            return Step::unchanged(What::Ahead, row.wake());
        }
        if in_charge.is_some_and(|timer| now < clock::after(timer.due, limits::SPARE_PATIENCE)) {
            return Step::unchanged(What::Spare, row.wake());
        }
    }
    let mut step = match &row.phase {
        Phase::Waiting if now >= row.deadline => settle(row.clone(), Outcome::TimedOut, false, now, policy),
        Phase::Waiting => Step::unchanged(What::Early, row.wake()),
        Phase::Settled(settled) => {
            let mut settled = settled.clone();
            let before = settled.outbox.clone();
            let claims = claim_due(&mut settled, now);
            if settled.outbox == before {
                let wake = row.wake();
                Step::unchanged(if wake.is_some() { What::Early } else { What::Idle }, wake)
            } else {
                let what = if claims.is_empty() { What::Exhausted } else { What::Claimed };
                Step::changed(what, Row { phase: Phase::Settled(settled), ..row.clone() }, now, claims)
            }
        }
    };
    step.rearm = step.wake.is_some();
    if step.rearm && step.next.is_none() {
        // The row must name the new timer, or a spare could not be told from it.
        step.next = Some(Row { revision: row.revision.saturating_add(1), ..row.clone() });
    }
    step
}

fn attempt_ended(row: &Row, attempted: &Attempted, now: Instant, policy: &Policy) -> Step {
    let stale = || Step::unchanged(What::Stale, row.wake());
    let Phase::Settled(settled) = &row.phase else { return stale() };
    let mut settled = settled.clone();
    let this = |e: &&mut Entry| e.target == attempted.target && e.notice == attempted.notice;
    let Some(entry) = settled.outbox.iter_mut().find(this) else { return stale() };
    let (what, delivery) = match (&entry.delivery, &attempted.result) {
        (Delivery::Confirmed { .. }, _) => return stale(),
        // A confirmation is true whoever reports it and whenever: the receiver has the notification.
        // Later claims stay counted, so that their results are known for what they are after a redelivery.
        (
            Delivery::Owed { claims: last, .. } | Delivery::Exhausted { attempt: last, .. },
            AttemptResult::Confirmed { status },
        ) => {
            let attempt = attempted.claim.max(*last);
            (What::Confirmed, Delivery::Confirmed { attempt, at: now, status: *status })
        }
        (
            Delivery::Exhausted { .. },
            AttemptResult::Failed { .. } | AttemptResult::NotBegun { .. } | AttemptResult::Refused { .. },
        ) => return stale(),
        (Delivery::Owed { claims, lease_until, .. }, _) if *claims != attempted.claim || lease_until.is_none() => {
            return stale();
        }
        (Delivery::Owed { claims, .. }, AttemptResult::Refused { reason }) => {
            (What::Exhausted, Delivery::Exhausted { attempt: *claims, at: now, reason: reason.clone() })
        }
        (Delivery::Owed { claims, failures, lapses, .. }, AttemptResult::Failed { reason, retry_after }) => {
            let failures = failures + 1;
            match backoff::delay(&policy.schedule, &row.id, &attempted.target, failures, *retry_after) {
                None => (What::Exhausted, Delivery::Exhausted { attempt: *claims, at: now, reason: reason.clone() }),
                Some(delay) => (
                    What::Retry,
                    Delivery::Owed {
                        claims: *claims,
                        failures,
                        lapses: *lapses,
                        not_before: clock::after(now, delay),
                        lease_until: None,
                        last_error: Some(reason.clone()),
                    },
                ),
            }
        }
        // It waits as after a failure, since whatever keeps the target busy needs the time; but only attempts use up the
        // schedule's last wait, so nothing is given up untried.
        (Delivery::Owed { claims, failures, lapses, .. }, AttemptResult::NotBegun { reason }) => {
            let waits = u32::try_from(policy.schedule.len()).unwrap_or(u32::MAX);
            let failures = (failures + 1).min(waits.saturating_sub(1)).max(*failures);
            let delay = backoff::delay(&policy.schedule, &row.id, &attempted.target, failures.max(1), None);
            let delivery = Delivery::Owed {
                claims: *claims,
                failures,
                lapses: *lapses,
                not_before: clock::after(now, delay.unwrap_or(limits::LEASE)),
                lease_until: None,
                last_error: Some(reason.clone()),
            };
            (What::Retry, delivery)
        }
    };
    entry.delivery = delivery;
    Step::changed(what, Row { phase: Phase::Settled(settled), ..row.clone() }, now, Vec::new())
}

/// Owes again what is confirmed or exhausted, under the same idempotency key.
fn redeliver(row: &Row, target: Option<&str>, now: Instant) -> Step {
    let Phase::Settled(settled) = &row.phase else { return Step::unchanged(What::Idle, row.wake()) };
    let mut settled = settled.clone();
    let mut any = false;
    for entry in settled.outbox.iter_mut().filter(|e| target.is_none_or(|t| t == e.target)) {
        if let Delivery::Confirmed { attempt, .. } | Delivery::Exhausted { attempt, .. } = entry.delivery {
            entry.delivery = owed_now(attempt, now);
            any = true;
        }
    }
    if !any {
        return Step::unchanged(What::Idle, row.wake());
    }
    let claims = claim_due(&mut settled, now);
    Step::changed(What::Claimed, Row { phase: Phase::Settled(settled), ..row.clone() }, now, claims)
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
