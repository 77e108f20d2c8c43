//! A summary of the regions over some pushes: which is silent, which lacks many, which is slow.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Condition, RegionSummary, Regions, Slice, State, Tally, time};
use crate::clock::Instant;
use crate::limits;
use crate::push::{Delivery, Outcome, Policy, Region, Row};

/// A region with reports so late is slow, if most regions are three times as fast.
const SLOW_MS: i64 = 10_000;

/// Slices of a region's trend: half an hour each in a day.
const SLICES: usize = 48;

/// What is counted of a region.
#[derive(Default)]
struct Count {
    expected: usize,
    waiting: usize,
    missing: usize,
    late: usize,
    last_seen: Option<Instant>,
    last_missed: Option<Instant>,
    lags: Vec<i64>,
    /// Lags and missing pushes by the slice of time they belong to.
    slices: BTreeMap<usize, (Vec<i64>, usize)>,
    /// How many of the newest settled pushes it misses; counted until the first that it reported.
    missed_in_a_row: usize,
    reported: bool,
}

/// The summary of `rows`, newest first.
pub(super) fn summary(
    rows: &[Row],
    policy: &Policy,
    (since, until): (Instant, Instant),
    cut: bool,
    unreadable: usize,
) -> Regions {
    let mut counts: BTreeMap<&Region, Count> =
        policy.known_regions().into_iter().map(|r| (r, Count::default())).collect();
    // Where not all were counted, those from the oldest on were.
    let from = rows.last().filter(|_| cut).map_or(since, |row| row.opened);
    for row in rows {
        let slice = slice(from, until, row.opened);
        let first = row.arrived.values().map(|seen| seen.at).min().unwrap_or(row.opened);
        for region in &row.regions {
            let count = counts.entry(region).or_default();
            count.expected += 1;
            match row.arrived.get(region) {
                // An operator's word says nothing of the region's webhooks.
                Some(seen) if seen.by_hand => {}
                Some(seen) => {
                    count.reported = true;
                    count.last_seen = count.last_seen.max(Some(seen.last()));
                    count.late += usize::from(row.is_late(region));
                    let lag = (seen.at - first).num_milliseconds();
                    count.lags.push(lag);
                    count.slices.entry(slice).or_default().0.push(lag);
                }
                None if row.is_waiting() => count.waiting += 1,
                // Its tag had moved on, and so may the registry.
                None if row.settled().is_some_and(|s| s.outcome == Outcome::Superseded) => {}
                None => {
                    count.missing += 1;
                    count.last_missed = count.last_missed.max(Some(row.opened));
                    count.slices.entry(slice).or_default().1 += 1;
                    count.missed_in_a_row += usize::from(!count.reported);
                }
            }
        }
    }
    let mut p95: Vec<i64> = counts
        .values_mut()
        .filter_map(|count| {
            count.lags.sort_unstable();
            percentile(&count.lags, 95)
        })
        .collect();
    p95.sort_unstable();
    // Of two regions the faster one.
    let usual = p95.get(p95.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    let mut regions: Vec<RegionSummary> =
        counts.into_iter().map(|(region, count)| told(region, &count, usual)).collect();
    regions.sort_by_key(|r| {
        (r.condition, std::cmp::Reverse((r.missed_in_a_row, r.missing, r.lag_p95_ms)), r.region.clone())
    });
    let tally = Some(tally(rows));
    Regions { since: time(from), until: time(until), pushes: rows.len(), cut, unreadable, regions, tally }
}

/// Which slice of a span an instant belongs to.
fn slice(since: Instant, until: Instant, at: Instant) -> usize {
    let (span, into) = ((until - since).num_milliseconds().max(1), (at - since).num_milliseconds());
    let slices = i64::try_from(SLICES).unwrap_or(1);
    usize::try_from(into.saturating_mul(slices) / span).unwrap_or(0).min(SLICES - 1)
}

fn tally(rows: &[Row]) -> Tally {
    let mut tally = Tally::default();
    let mut targets = BTreeSet::new();
    for row in rows {
        let image = usize::from(!row.subject.is_companion());
        match State::of(row) {
            State::TimedOut => tally.timed_out += image,
            State::Recovered => tally.recovered += image,
            State::Waiting | State::Replicated | State::Superseded => {}
        }
        let outbox = row.settled().into_iter().flat_map(|settled| &settled.outbox);
        for entry in outbox.filter(|entry| matches!(entry.delivery, Delivery::Exhausted { .. })) {
            tally.exhausted += 1;
            targets.insert(entry.target.as_str());
        }
    }
    tally.exhausted_targets = targets.into_iter().map(str::to_owned).collect();
    tally
}

/// A region's trend, in slices.
fn trend(count: &Count) -> Vec<Slice> {
    let mut trend = vec![Slice::default(); SLICES];
    for (at, (lags, missing)) in &count.slices {
        let mut lags = lags.clone();
        lags.sort_unstable();
        if let Some(slice) = trend.get_mut(*at) {
            *slice = Slice { lag_p50_ms: percentile(&lags, 50), lag_max_ms: lags.last().copied(), missing: *missing };
        }
    }
    trend
}

/// Whether a region that misses so many of so many pushes lacks more than what may get lost on the way.
fn is_incomplete(missing: usize, expected: usize) -> bool {
    missing >= limits::REGION_MISSES || missing > 0 && missing * limits::REGION_MISSES_ONE_IN >= expected
}

fn told(region: &Region, count: &Count, usual: i64) -> RegionSummary {
    let p95 = percentile(&count.lags, 95);
    let condition = if count.missed_in_a_row > 0 {
        Condition::Silent
    } else if is_incomplete(count.missing, count.expected) {
        Condition::Incomplete
    } else if p95.is_some_and(|p95| p95 >= SLOW_MS && p95 >= 3 * usual) {
        Condition::Slow
    } else {
        Condition::Ok
    };
    RegionSummary {
        region: region.to_string(),
        condition,
        expected: count.expected,
        arrivals: count.lags.len(),
        last_seen: count.last_seen.map(time),
        lag_p50_ms: percentile(&count.lags, 50),
        lag_p95_ms: p95,
        lag_max_ms: count.lags.last().copied(),
        missing: count.missing,
        last_missed: count.last_missed.map(time),
        late: count.late,
        waiting: count.waiting,
        missed_in_a_row: count.missed_in_a_row,
        trend: trend(count),
    }
}

/// The smallest of the sorted values that `share` of 100 are not above.
fn percentile(sorted: &[i64], share: usize) -> Option<i64> {
    sorted.get((sorted.len() * share).div_ceil(100).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_of_one_length_and_hold_what_stands_outside_too() {
        let at = |hours: i64| Instant::UNIX_EPOCH + chrono::Duration::hours(hours);
        let of = |hours| slice(at(0), at(24), at(hours));
        assert_eq!([0, 1, 12, 24, -5, 99].map(of), [0, 2, 24, 47, 0, 47]);
        assert_eq!(slice(at(1), at(1), at(1)), 0);
    }

    #[test]
    fn one_miss_among_hundreds_is_not_many_and_one_among_few_is() {
        let many = |missing, expected| is_incomplete(missing, expected);
        assert!(!many(0, 0) && !many(0, 10) && !many(1, 21) && !many(1, 300) && !many(4, 300));
        assert!(many(1, 1) && many(1, 20) && many(2, 40) && many(5, 10) && many(5, 1000));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 95), Some(7));
        assert_eq!(percentile(&[1, 2], 50), Some(1));
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 95)), (Some(50), Some(95)));
    }
}
