//! Rounds: pushes of the same content, one after the other or overlapping, and which webhook counts for which.
//!
//! Guarantees: a webhook is an arrival of one round at most; one that belongs to a round before, by its id, opens none; a round
//! does not wait for a region whose webhook has come already. All of it is bounded.
//!
//! Knowingly accepted, where the ids of a push differ by region: a late webhook that made the round before recover may be the
//! first sign of the next push as well, and counts for it too. And a push that overlaps another opens its round with the first
//! of its webhooks that comes after the other has settled; when none does, nobody is told of it.

use std::collections::BTreeMap;

use super::arrival::Correlation;
use super::policy::{Plan, Policy};
use super::state::{Arrived, Outcome, Phase, Row};
use super::step::{not_awaited, settle};
use super::{Arrival, PushId, Region, Step, What};
use crate::clock::{self, Instant};
use crate::limits;

/// Opens the first or the next round. What the previous round recorded beside its own arrivals counts for this one, unless
/// its id shows that it belongs to the old, or it is older than a push may take: days later it says nothing of this one.
/// Each such webhook counts for one round; those of regions that need no other stay on record for the round after.
pub(super) fn open(previous: Option<&Row>, arrival: &Arrival, now: Instant, policy: &Policy) -> Step {
    let (regions, timeout, rule) = match policy.plan(&arrival.subject) {
        Plan::Ignore(rule) => {
            return Step::unchanged(What::Ignored(format!("rule `{rule}` ignores this push")), None);
        }
        Plan::FanIn { regions, timeout, rule } => (regions, timeout, rule),
    };
    if !regions.contains(&arrival.region) {
        return not_awaited(arrival, policy, None);
    }
    let mut earlier = Vec::new();
    let mut waiting = Vec::new();
    if let Some(previous) = previous {
        let counts = |at: &Arrived| {
            let recent = clock::until(at.at, arrival.received) < timeout;
            !previous.of_this_round(&at.id) && (recent || at.id == arrival.id)
        };
        // The newest is the second of its region to come since the old round settled, if one came late.
        let late = previous.settled().map(|s| &s.late).into_iter().flatten();
        let late = late.map(|(region, at)| (region, at, counts(at) && *region != arrival.region));
        let repeated = previous.repeated.iter().map(|(region, at)| (region, at, counts(at)));
        let (new, old): (Vec<_>, Vec<_>) = late.chain(repeated).partition(|(.., counts)| *counts);
        waiting.extend(new.into_iter().map(|(region, at, _)| (region.clone(), at.clone())));
        earlier = known_before(previous, old.into_iter().map(|(_, at, _)| at));
    }
    if earlier.contains(&arrival.id) {
        return Step::unchanged(What::Duplicate, None);
    }
    let newest = Arrived { at: arrival.received, id: arrival.id.clone() };
    let (arrived, repeated) = share_out(&regions, (arrival.region.clone(), newest), waiting);
    let row = Row {
        id: PushId { key: arrival.key(policy.correlation), round: previous.map_or(0, |p| p.id.round) + 1 },
        correlation: policy.correlation,
        subject: arrival.subject.clone(),
        payload: arrival.payload.clone(),
        opened: arrival.received,
        deadline: clock::after(arrival.received, timeout),
        regions,
        rule,
        arrived,
        earlier,
        repeated,
        phase: Phase::Waiting,
        timer: None,
        updated: now,
        revision: 0,
    };
    if row.missing().is_empty() {
        settle(row, Outcome::Replicated, false, now, policy)
    } else {
        Step::changed(What::Opened, row, now, Vec::new())
    }
}

/// Ids of the rounds before the next: all of `previous`, with what came `beside` its own arrivals and belongs to it or to none,
/// and as many of older ones as there is room for.
fn known_before<'a>(previous: &'a Row, beside: impl Iterator<Item = &'a Arrived>) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for id in beside.chain(previous.arrived.values()).map(|at| &at.id) {
        if !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    let mut bytes: usize = ids.iter().map(String::len).sum();
    for id in previous.earlier.iter().filter(|id| !previous.of_this_round(id)) {
        bytes += id.len();
        if bytes > limits::EARLIER_ID_BYTES_MAX {
            break;
        }
        ids.push(id.clone());
    }
    ids
}

/// What of `newest` and of what waited before it counts for the round that it opens, one for each region, and what is left.
/// Ids that are the newest one's go together; all else goes in the order in which it came.
fn share_out(
    regions: &[Region],
    newest: (Region, Arrived),
    mut waiting: Vec<(Region, Arrived)>,
) -> (BTreeMap<Region, Arrived>, Vec<(Region, Arrived)>) {
    let (own, id) = (newest.0.clone(), newest.1.id.clone());
    waiting.retain(|(region, at)| regions.contains(region) && (*region != own || at.id != id));
    if waiting.iter().any(|(_, at)| at.id == id) {
        waiting.insert(0, newest);
    } else {
        waiting.push(newest);
    }
    let mut arrived = BTreeMap::new();
    for region in regions {
        let of_region = |(other, _): &(Region, Arrived)| other == region;
        let same = waiting.iter().position(|one| *region != own && of_region(one) && one.1.id == id);
        if let Some(found) = same.or_else(|| waiting.iter().position(of_region)) {
            let (region, at) = waiting.remove(found);
            arrived.insert(region, at);
        }
    }
    (arrived, waiting)
}

/// What the instant of a repeated webhook takes in a row, with the names of its members.
const INSTANT_BYTES: usize = 48;

/// A webhook of a region that an open push has on record already.
pub(super) fn repeated(row: &Row, arrival: &Arrival, now: Instant) -> Step {
    let (region, id) = (&arrival.region, &arrival.id);
    let known = row.of_this_round(id) || row.of_earlier_round(id) || row.is_repeated(region, id);
    let bytes = |region: &Region, id: &str| region.as_str().len() + id.len() + INSTANT_BYTES;
    let kept: usize = row.repeated.iter().map(|(region, at)| bytes(region, &at.id)).sum();
    let full = kept + bytes(region, id) > limits::REPEATED_BYTES_MAX;
    if known || full || row.correlation == Correlation::Id {
        return Step::unchanged(What::Duplicate, row.wake());
    }
    let mut row = row.clone();
    row.repeated.push((region.clone(), Arrived { at: arrival.received, id: id.clone() }));
    Step::changed(What::Repeated, row, now, Vec::new())
}
