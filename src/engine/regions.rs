//! A summary of the regions over some pushes: which is silent, which is slow.

use std::collections::BTreeMap;

use crate::api::{Condition, RegionSummary, Regions, time};
use crate::clock::Instant;
use crate::push::{Outcome, Policy, Region, Row};

/// A region with reports so late is slow, if most regions are three times as fast.
const SLOW_MS: i64 = 10_000;

/// What is counted of a region.
#[derive(Default)]
struct Count {
    expected: usize,
    waiting: usize,
    missing: usize,
    late: usize,
    last_seen: Option<Instant>,
    lags: Vec<i64>,
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
    for row in rows {
        let first = row.arrived.values().map(|seen| seen.at).min().unwrap_or(row.opened);
        for region in &row.regions {
            let count = counts.entry(region).or_default();
            count.expected += 1;
            match row.arrived.get(region) {
                Some(seen) => {
                    count.reported = true;
                    count.last_seen = count.last_seen.max(Some(seen.last()));
                    count.late += usize::from(row.is_late(region));
                    count.lags.push((seen.at - first).num_milliseconds());
                }
                None if row.is_waiting() => count.waiting += 1,
                // Its tag had moved on, and so may the registry.
                None if row.settled().is_some_and(|s| s.outcome == Outcome::Superseded) => {}
                None => {
                    count.missing += 1;
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
    regions.sort_by_key(|r| (r.condition, std::cmp::Reverse((r.missed_in_a_row, r.lag_p95_ms)), r.region.clone()));
    // Where not all were counted, those from the oldest on were.
    let from = rows.last().filter(|_| cut).map_or(since, |row| row.opened);
    Regions { since: time(from), until: time(until), pushes: rows.len(), cut, unreadable, regions }
}

fn told(region: &Region, count: &Count, usual: i64) -> RegionSummary {
    let p95 = percentile(&count.lags, 95);
    let condition = if count.missed_in_a_row > 0 {
        Condition::Silent
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
        late: count.late,
        waiting: count.waiting,
        missed_in_a_row: count.missed_in_a_row,
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
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 95), Some(7));
        assert_eq!(percentile(&[1, 2], 50), Some(1));
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 95)), (Some(50), Some(95)));
    }
}
