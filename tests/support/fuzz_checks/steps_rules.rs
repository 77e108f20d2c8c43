//! What must hold after every step of a script, whatever came before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use global_webhook::clock::Instant;
use global_webhook::limits;
use global_webhook::push::policy::{Policy, Repeats, Target};
use global_webhook::push::{
    AttemptResult, Delivery, Did, Input, Key, Notice, Outcome, Phase, PushId, Region, Row, Settled,
};
use global_webhook::store::Applied;

use super::steps_world::Rows;
use super::stored::{at_rest, survives};

/// A step that was taken.
pub(super) struct Taken<'a> {
    pub(super) input: &'a Input,
    pub(super) now: Instant,
    pub(super) pending: bool,
    pub(super) before: &'a Rows,
    pub(super) after: &'a Rows,
    pub(super) applied: &'a Applied,
}

/// A webhook that counts: key, region, id, and when it was received.
type Webhook = (Key, Region, String, Instant);

pub(super) struct Rules {
    policy: Arc<Policy>,
    counted: BTreeMap<Webhook, PushId>,
    claimed: BTreeSet<(PushId, String, Notice, u32)>,
    /// Pushes of which an operator had something sent again.
    redelivered: BTreeSet<PushId>,
}

impl Rules {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        let (counted, claimed, redelivered) = Default::default();
        Self { policy, counted, claimed, redelivered }
    }

    pub(super) fn check(&mut self, step: &Taken<'_>) {
        let changed = |id: &&PushId| match (step.before.get(*id), step.after.get(*id)) {
            (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
            (None, _) | (_, None) => true,
        };
        let ids: BTreeSet<&PushId> = step.before.keys().chain(step.after.keys()).filter(changed).collect();
        assert!(ids.len() <= 1, "one step changed {ids:?}");
        let quiet = matches!(
            step.applied.did,
            Did::Duplicate | Did::Earlier(_) | Did::Early | Did::Owing | Did::Idle | Did::UnknownPush
        );
        let Some(id) = ids.first().copied() else {
            assert!(step.applied.claims.is_empty(), "a claim without a write");
            return;
        };
        assert!(!quiet, "{:?} changed {id}", step.applied.did);
        match (step.before.get(id), step.after.get(id)) {
            (before, Some(after)) => {
                assert_eq!(after.updated, step.now);
                survives(after);
                match before {
                    Some(before) => self.went_on(step, before, after),
                    None => opened(step, after),
                }
                self.in_order(after);
                self.claims(step, before.map(|row| &**row), after);
                self.counts(after);
            }
            (Some(before), None) => self.removed(step, before),
            (None, None) => {}
        }
    }

    fn removed(&mut self, step: &Taken<'_>, before: &Row) {
        let trace = before.is_purged() && before.wake() <= Some(step.now);
        // An hour after its last repeat may come.
        let last = before.arrived.values().map(|seen| seen.at).max().unwrap_or(before.opened);
        let over = last + (before.deadline - before.opened) + limits::PURGED_KEPT <= step.now;
        let purged = matches!(step.input, Input::Purge) && before.settled().is_some() && at_rest(before) && over;
        assert!(trace || purged, "{} was removed", before.id);
        self.counted.retain(|_, push| *push != before.id);
        self.claimed.retain(|(push, ..)| *push != before.id);
        self.redelivered.remove(&before.id);
    }

    /// No webhook counts for two pushes.
    fn counts(&mut self, row: &Row) {
        for (region, seen) in row.arrived.iter().filter(|_| !row.is_purged()) {
            let webhook = (row.id.key.clone(), region.clone(), seen.id.clone(), seen.at);
            let push = self.counted.entry(webhook.clone()).or_insert_with(|| row.id.clone());
            assert_eq!(*push, row.id, "{webhook:?} counts for both");
        }
    }

    /// Whatever a row says, alone.
    fn in_order(&self, row: &Row) {
        assert!(row.arrived.keys().all(|region| row.regions.contains(region)), "{row:?}");
        assert!(row.arrived.values().all(|seen| seen.repeated.is_some() == (seen.repeats > 0)), "{row:?}");
        assert!(row.since.is_none_or(|since| row.opened > since), "{row:?}");
        match &row.phase {
            Phase::Waiting { held } => {
                assert!(!row.missing_in_time().is_empty(), "complete, but waiting: {row:?}");
                assert!(held.is_none_or(|held| held > row.deadline) && row.wake() >= Some(row.deadline), "{row:?}");
            }
            Phase::Purged { .. } => assert!(row.wake().is_some() && row.payload.is_empty(), "{row:?}"),
            Phase::Settled(settled) => {
                assert_eq!(row.wake().is_none(), at_rest(row), "{row:?}");
                let owed: BTreeSet<_> = settled.outbox.iter().map(|e| (e.target.as_str(), e.notice)).collect();
                assert_eq!(owed.len(), settled.outbox.len(), "something is owed twice: {row:?}");
                let notices = [Some(settled.outcome.into()), settled.recovered.map(|_| Notice::Recovered)];
                let asked = |target: &&Target| target.companions || !row.subject.is_companion();
                let all = self.policy.targets.iter().filter(asked).flat_map(|target| {
                    let told = notices.into_iter().flatten().filter(|notice| target.notices.contains(notice));
                    told.map(|notice| (target.name.as_str(), notice))
                });
                assert_eq!(owed, all.collect(), "{row:?}");
                let all = row.missing().iter().all(|region| self.known(row, region));
                assert!(settled.recovered.is_none() || all, "{row:?}");
            }
        }
    }

    /// From one state of a row to the next.
    fn went_on(&mut self, step: &Taken<'_>, before: &Row, after: &Row) {
        if let Input::Redeliver(_) = step.input {
            self.redelivered.insert(after.id.clone());
        }
        let frozen = |row: &Row| (row.opened, row.deadline, row.regions.clone(), row.rule.clone(), row.since);
        assert_eq!(frozen(before), frozen(after), "what the first arrival froze was changed");
        assert_eq!((&before.subject, &before.before), (&after.subject, &after.before));
        assert!(after.is_purged() || before.payload == after.payload);
        for (region, seen) in &before.arrived {
            let then = after.arrived.get(region).expect("an arrival on record stays");
            let earlier = before.settled().is_none() && then.at < before.deadline && before.deadline <= seen.at;
            assert!(earlier || (then.at, &then.id) == (seen.at, &seen.id), "{seen:?} became {then:?}");
            assert!(then.repeats >= seen.repeats && then.repeated >= seen.repeated, "{seen:?} became {then:?}");
        }
        match (&before.phase, &after.phase) {
            (Phase::Waiting { held }, Phase::Waiting { held: then }) => assert!(then >= held, "{before:?} {after:?}"),
            (Phase::Waiting { held }, Phase::Settled(settled)) => self.settled(step, *held, after, settled),
            (Phase::Settled(settled), Phase::Settled(then)) => Self::stayed_settled(step, settled, then),
            (Phase::Settled(_), Phase::Purged { .. }) => {
                assert!(matches!(step.input, Input::Purge) && at_rest(before), "{before:?} was purged");
            }
            (Phase::Waiting { .. } | Phase::Purged { .. }, _) | (Phase::Settled(_), Phase::Waiting { .. }) => {
                panic!("{before:?} became {after:?}")
            }
        }
    }

    fn settled(&self, step: &Taken<'_>, held: Option<Instant>, row: &Row, settled: &Settled) {
        assert_eq!(settled.at, step.now);
        let by_hand = matches!(step.input, Input::Terminate);
        assert_eq!(settled.terminated, by_hand);
        let missing: BTreeSet<&Region> = settled.missing.iter().collect();
        assert_eq!(missing, row.missing_in_time().into_iter().collect(), "{row:?}");
        if missing.is_empty() {
            return assert_eq!(settled.outcome, Outcome::Replicated);
        }
        assert!(by_hand || step.now >= held.unwrap_or(row.deadline), "{row:?} settled too soon");
        assert!(by_hand || !step.pending, "{row:?} settled while webhooks were on their way");
        let place = |other: &&Arc<Row>| other.id.key.place() == row.id.key.place();
        let within = |other: &&Arc<Row>| row.opened < other.opened && other.opened < row.deadline;
        let other = |other: &&Arc<Row>| other.subject.digest != row.subject.digest;
        let moved = row.subject.tag.is_some() && step.before.values().filter(place).filter(within).any(|o| other(&o));
        let known = missing.iter().all(|region| self.known(row, region));
        let expected = match (moved, known) {
            (true, _) => Outcome::Superseded,
            (false, true) => Outcome::Replicated,
            (false, false) => Outcome::TimedOut,
        };
        assert_eq!(settled.outcome, expected, "{row:?}");
    }

    /// A region that reported the same content before, where that counts.
    fn known(&self, row: &Row, region: &Region) -> bool {
        self.policy.repeats == Repeats::Known && row.before.contains_key(region)
    }

    fn stayed_settled(step: &Taken<'_>, before: &Settled, after: &Settled) {
        let facts = |s: &Settled| (s.outcome, s.at, s.missing.clone(), s.terminated);
        assert_eq!(facts(before), facts(after), "the outcome was changed");
        assert!(before.recovered.is_none() || before.recovered == after.recovered, "{before:?} became {after:?}");
        for entry in &before.outbox {
            let same = after.outbox.iter().find(|e| (&e.target, e.notice) == (&entry.target, entry.notice));
            let then = &same.expect("what is owed stays on record").delivery;
            if *then == entry.delivery {
                continue;
            }
            let result = if let Input::Attempted(attempted) = step.input
                && (&attempted.target, attempted.notice) == (&entry.target, entry.notice)
            {
                Some(&attempted.result)
            } else {
                None
            };
            let again = matches!(step.input, Input::Redeliver(_));
            let confirmed = matches!(result, Some(AttemptResult::Confirmed { .. }));
            let fits = match (&entry.delivery, then) {
                (Delivery::Owed { claims, .. }, Delivery::Owed { claims: then, .. }) => claims <= then,
                (_, Delivery::Confirmed { .. }) => confirmed,
                (Delivery::Owed { .. }, Delivery::Exhausted { .. }) => !confirmed,
                (Delivery::Owed { .. }, Delivery::Overtaken { .. }) => {
                    entry.notice == Notice::TimedOut && before.recovered != after.recovered
                }
                (Delivery::Confirmed { .. } | Delivery::Exhausted { .. }, Delivery::Owed { .. }) => again,
                (Delivery::Overtaken { .. }, Delivery::Overtaken { .. }) => result.is_some(),
                (Delivery::Overtaken { .. }, Delivery::Owed { .. } | Delivery::Exhausted { .. })
                | (Delivery::Confirmed { .. }, Delivery::Exhausted { .. } | Delivery::Overtaken { .. })
                | (Delivery::Exhausted { .. }, Delivery::Exhausted { .. } | Delivery::Overtaken { .. }) => false,
            };
            assert!(fits, "{entry:?} became {then:?} by {:?}", step.input);
        }
    }

    /// A claim is handed out once, of a lease that is in the row, while no other lives, and of nothing that is untrue by now.
    fn claims(&mut self, step: &Taken<'_>, before: Option<&Row>, row: &Row) {
        let of = |row: &Row, target: &str, notice: Notice| -> Option<Delivery> {
            let outbox = &row.settled()?.outbox;
            outbox.iter().find(|e| e.target == target && e.notice == notice).map(|e| e.delivery.clone())
        };
        for claim in &step.applied.claims {
            let Some(Delivery::Owed { claims, lease_until, .. }) = of(row, &claim.target, claim.notice) else {
                panic!("{claim:?} of nothing that is owed: {row:?}")
            };
            assert_eq!((claims, lease_until), (claim.claim, Some(claim.lease_until)), "{claim:?} is not on record");
            assert!(claim.lease_until > step.now);
            if let Some(Delivery::Owed { lease_until: Some(until), .. }) =
                before.and_then(|row| of(row, &claim.target, claim.notice))
            {
                let ended = matches!(step.input, Input::Attempted(_));
                assert!(until <= step.now || ended, "{claim:?} while another lives until {until}");
            }
            let name = (row.id.clone(), claim.target.clone(), claim.notice, claim.claim);
            assert!(self.claimed.insert(name), "{claim:?} was handed out before");
            let recovered = row.settled().is_some_and(|s| s.recovered.is_some());
            let untrue = claim.notice == Notice::TimedOut && recovered && !self.redelivered.contains(&row.id);
            assert!(!untrue, "an alarm after the all-clear: {row:?}");
        }
    }
}

/// A push was opened.
fn opened(step: &Taken<'_>, row: &Row) {
    let Input::Arrival { arrival, .. } = step.input else { panic!("{:?} opened {row:?}", step.input) };
    let rounds = step.before.keys().filter(|id| id.key == row.id.key).map(|id| id.round);
    assert_eq!(row.id.round, rounds.max().map_or(1, |newest| newest + 1), "{row:?}");
    assert_eq!((row.opened, &row.subject), (arrival.received, &arrival.subject));
    let seen = row.arrived.get(&arrival.region).expect("the one that opened it");
    assert_eq!((row.arrived.len(), seen.at, &seen.id), (1, arrival.received, &arrival.id));
    assert!(!row.is_purged() && row.deadline > row.opened);
}
