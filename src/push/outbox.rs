//! What a settled push owes to its targets: entries, leases, results, and what overtakes what.

use std::time::Duration;

use super::backoff;
use super::policy::Policy;
use super::state::{Delivery, Entry, Failed, Notice, Phase, Row, Settled};
use super::{AttemptResult, Attempted, Claim, Decision, Did};
use crate::clock::{self, Instant};
use crate::limits;

/// Adds one entry for each target that is told of `notice`.
pub(super) fn owe(settled: &mut Settled, notice: Notice, row: &Row, now: Instant, policy: &Policy) {
    for target in policy.told(notice, &row.subject) {
        let delivery = owed(0, settled.free(target, now));
        settled.outbox.push(Entry { target: target.to_owned(), notice, delivery, failed: Vec::new() });
    }
}

fn owed(claims: u32, not_before: Instant) -> Delivery {
    Delivery::Owed { claims, failures: 0, lapses: 0, not_before, lease_until: None, last_error: None }
}

impl Settled {
    /// From when on a target may be told, at `now` or later: an overtaken notification that may be on its way to it this moment
    /// has to end before.
    fn free(&self, target: &str, now: Instant) -> Instant {
        let to_it = self.outbox.iter().filter(|entry| entry.target == target);
        to_it.filter_map(|entry| entry.delivery.on_its_way()).max().unwrap_or(now).max(now)
    }
}

impl Delivery {
    /// Until when an attempt that was dropped may still be under way.
    fn on_its_way(&self) -> Option<Instant> {
        match self {
            Self::Overtaken { lease_until, .. } => *lease_until,
            Self::Owed { .. } | Self::Confirmed { .. } | Self::Exhausted { .. } => None,
        }
    }
}

/// Drops time-out notices that nobody has confirmed: the opposite is true by now.
pub(super) fn overtake(settled: &mut Settled, now: Instant) {
    for entry in settled.outbox.iter_mut().filter(|entry| entry.notice == Notice::TimedOut) {
        if let Delivery::Owed { claims, lease_until, .. } = entry.delivery {
            let lease_until = lease_until.filter(|until| now < *until);
            entry.delivery = Delivery::Overtaken { attempt: claims, at: now, lease_until };
        }
    }
}

/// Leases every entry that is due and not leased. An entry whose leases keep ending without a result is given up.
pub(super) fn claim_due(settled: &mut Settled, now: Instant) -> Vec<Claim> {
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

/// Records what came of an attempt.
pub(super) fn attempt_ended(row: &Row, attempted: &Attempted, now: Instant, policy: &Policy) -> Decision {
    let stale = || Did::Stale.unchanged();
    let Phase::Settled(settled) = &row.phase else { return stale() };
    let mut settled = settled.clone();
    let this = |e: &&mut Entry| e.target == attempted.target && e.notice == attempted.notice;
    let Some(entry) = settled.outbox.iter_mut().find(this) else { return stale() };
    let again = |claims: u32, failures: u32, lapses: u32, wait: Duration, reason: &str| {
        let (not_before, last_error) = (clock::after(now, wait), Some(reason.to_owned()));
        (Did::Retry, Delivery::Owed { claims, failures, lapses, not_before, lease_until: None, last_error })
    };
    let (did, delivery) = match (&entry.delivery, &attempted.result) {
        (Delivery::Confirmed { .. }, _) => return stale(),
        // A confirmation is true whoever reports it and whenever: the receiver has the notification.
        // Later claims stay counted, so that their results are known for what they are after a redelivery.
        (
            Delivery::Owed { claims: last, .. }
            | Delivery::Exhausted { attempt: last, .. }
            | Delivery::Overtaken { attempt: last, .. },
            AttemptResult::Confirmed { status },
        ) => {
            let attempt = attempted.claim.max(*last);
            (Did::Confirmed, Delivery::Confirmed { attempt, at: now, status: *status })
        }
        (Delivery::Exhausted { .. }, _) => return stale(),
        (Delivery::Overtaken { attempt, lease_until, .. }, _)
            if *attempt != attempted.claim || lease_until.is_none() =>
        {
            return stale();
        }
        (Delivery::Overtaken { attempt, at, .. }, _) => {
            (Did::Stale, Delivery::Overtaken { attempt: *attempt, at: *at, lease_until: None })
        }
        (Delivery::Owed { claims, lease_until, .. }, _) if *claims != attempted.claim || lease_until.is_none() => {
            return stale();
        }
        (Delivery::Owed { claims, .. }, AttemptResult::Refused { reason }) => {
            (Did::Exhausted, Delivery::Exhausted { attempt: *claims, at: now, reason: reason.clone() })
        }
        (Delivery::Owed { claims, failures, lapses, .. }, AttemptResult::Failed { reason, retry_after }) => {
            let failures = failures + 1;
            match backoff::delay(&policy.schedule, &row.id, &attempted.target, failures, *retry_after) {
                None => (Did::Exhausted, Delivery::Exhausted { attempt: *claims, at: now, reason: reason.clone() }),
                Some(delay) => again(*claims, failures, *lapses, delay, reason),
            }
        }
        // It waits as after a failure, since whatever keeps the target busy needs the time; but only attempts use up the
        // schedule's last wait, so nothing is given up untried.
        (Delivery::Owed { claims, failures, lapses, .. }, AttemptResult::NotBegun { reason }) => {
            let waits = u32::try_from(policy.schedule.len()).unwrap_or(u32::MAX);
            let failures = (failures + 1).min(waits.saturating_sub(1)).max(*failures);
            let delay = backoff::delay(&policy.schedule, &row.id, &attempted.target, failures.max(1), None);
            again(*claims, failures, *lapses, delay.unwrap_or(limits::LEASE), reason)
        }
    };
    let overtaken = entry.delivery.on_its_way();
    entry.delivery = delivery;
    entry.note_failure(attempted, now);
    let free = overtaken.is_some_and(|until| let_go(&mut settled, &attempted.target, until, now));
    let claims = if free { claim_due(&mut settled, now) } else { Vec::new() };
    let did = if free && did == Did::Stale { Did::Claimed } else { did };
    did.changed(Row { phase: Phase::Settled(settled), ..row.clone() }, now, claims)
}

impl Entry {
    /// Keeps why an attempt failed, for people to see.
    fn note_failure(&mut self, attempted: &Attempted, now: Instant) {
        let (AttemptResult::Failed { reason, .. } | AttemptResult::Refused { reason }) = &attempted.result else {
            return;
        };
        if self.failed.len() >= limits::FAILED_KEPT {
            self.failed.remove(0);
        }
        let reason = reason[..reason.floor_char_boundary(limits::FAILED_REASON_BYTES_MAX)].to_owned();
        self.failed.push(Failed { at: now, attempt: attempted.claim, reason });
    }
}

/// The attempt that a target's next notification waited for has ended; whether there is one.
fn let_go(settled: &mut Settled, target: &str, until: Instant, now: Instant) -> bool {
    let mut found = false;
    for entry in settled.outbox.iter_mut().filter(|entry| entry.target == target) {
        if let Delivery::Owed { claims: 0, not_before, .. } = &mut entry.delivery
            && *not_before == until
        {
            *not_before = now;
            found = true;
        }
    }
    found
}

/// Owes again what is confirmed or exhausted, under the same idempotency key, and makes due now what is owed and waits. What an
/// attempt is under way for is left alone, and so is the alarm of a push that has recovered.
pub(super) fn redeliver(row: &Row, target: Option<&str>, now: Instant) -> Decision {
    let Phase::Settled(settled) = &row.phase else { return Did::Idle.unchanged() };
    let mut settled = settled.clone();
    if target.is_some_and(|target| settled.outbox.iter().all(|entry| entry.target != target)) {
        return Did::UnknownTarget.unchanged();
    }
    let before = settled.clone();
    for entry in settled.outbox.iter_mut().filter(|e| target.is_none_or(|t| t == e.target)) {
        if before.recovered.is_some() && entry.notice == Notice::TimedOut {
            continue;
        }
        let soonest = before.free(&entry.target, now);
        match &mut entry.delivery {
            Delivery::Confirmed { attempt, .. } | Delivery::Exhausted { attempt, .. } => {
                entry.delivery = owed(*attempt, soonest);
            }
            Delivery::Owed { not_before, lease_until: None, .. } => *not_before = (*not_before).min(soonest),
            Delivery::Owed { lease_until: Some(_), .. } | Delivery::Overtaken { .. } => {}
        }
    }
    let claims = claim_due(&mut settled, now);
    if claims.is_empty() {
        return Did::Idle.unchanged();
    }
    Did::Claimed.changed(Row { phase: Phase::Settled(settled), ..row.clone() }, now, claims)
}
