//! The naive model: what must become of webhooks when nothing ever fails. Written from the design (section 4) alone, without a look at
//! the service, so that the two can only agree by both being right. No storage, no timers: it looks at the whole list, again and again.

use std::collections::BTreeMap;

/// A webhook that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// When `ImagePush` received it, in milliseconds.
    pub(crate) at: u64,
    /// Names registry, repository, tag and action; empty where there is no tag.
    pub(crate) tag: String,
    pub(crate) digest: String,
    pub(crate) region: String,
    pub(crate) id: String,
}

/// A push that was removed without a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) at: u64,
    pub(crate) tag: String,
    pub(crate) digest: String,
    pub(crate) opened: u64,
}

/// How long after its last repeat a push may be removed so, in milliseconds.
const TRACE: u64 = 3_600_000;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) regions: Vec<String>,
    /// In milliseconds.
    pub(crate) timeout: u64,
    /// `WebhookRepeats=known`.
    pub(crate) repeats_known: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Replicated,
    TimedOut,
    Superseded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) tag: String,
    pub(crate) digest: String,
    /// Counted from 1.
    pub(crate) round: u32,
    pub(crate) opened: u64,
    pub(crate) deadline: u64,
    /// When each region reported, in time or late.
    pub(crate) arrived: BTreeMap<String, u64>,
    /// When each region last reported, repeats included.
    pub(crate) last: BTreeMap<String, u64>,
    pub(crate) repeats: usize,
    pub(crate) outcome: Outcome,
    pub(crate) settled: u64,
    /// At settling, in order of the settings; what `repeats_known` lets count is not missing.
    pub(crate) missing: Vec<String>,
    /// Regions that reported the same content in earlier rounds, with the newest date.
    pub(crate) before: BTreeMap<String, u64>,
    pub(crate) recovered: Option<u64>,
    /// From then on nothing is known of it.
    pub(crate) removed: bool,
}

/// Every push, in order of opening, each at its end: as if time went on for ever.
pub(crate) fn model(settings: &Settings, reports: &[Report], removals: &[Removal]) -> Vec<Push> {
    let mut reports: Vec<&Report> = reports.iter().collect();
    reports.sort_by_key(|report| report.at);
    let mut removals: Vec<&Removal> = removals.iter().collect();
    removals.sort_by_key(|removal| removal.at);
    let mut removals = removals.into_iter().peekable();
    let mut pushes: Vec<Push> = Vec::new();
    for report in reports {
        while let Some(removal) = removals.next_if(|removal| removal.at < report.at) {
            remove(settings, &mut pushes, removal);
        }
        if !settings.regions.contains(&report.region) {
            continue;
        }
        let known = |push: &Push| push.tag == report.tag && push.digest == report.digest && !push.removed;
        let newest = pushes.iter().rposition(known);
        let Some(newest) = newest else {
            pushes.push(open(settings, report, None));
            continue;
        };
        if !pushes[newest].arrived.contains_key(&report.region) {
            pushes[newest].arrived.insert(report.region.clone(), report.at);
            pushes[newest].last.insert(report.region.clone(), report.at);
        } else if is_repeat(settings, &pushes, newest, report.at) {
            pushes[newest].last.insert(report.region.clone(), report.at);
            pushes[newest].repeats += 1;
        } else {
            let next = open(settings, report, Some(&pushes[newest]));
            pushes.push(next);
        }
    }
    for removal in removals {
        remove(settings, &mut pushes, removal);
    }
    (0..pushes.len()).map(|index| settle(settings, &pushes, index)).collect()
}

/// Only what has long ended may be forgotten.
fn remove(settings: &Settings, pushes: &mut [Push], removal: &Removal) {
    let this = |push: &Push| push.tag == removal.tag && push.digest == removal.digest && push.opened == removal.opened;
    let index = pushes.iter().position(this).expect("what is removed was opened");
    let end = repeats_until(settings, pushes, index);
    assert!(end + TRACE <= removal.at, "{removal:?}: its repeats end at {end}");
    pushes[index].removed = true;
}

/// Its outcome is a stand-in until `settle` has looked at it.
fn open(settings: &Settings, first: &Report, earlier: Option<&Push>) -> Push {
    let mut before = BTreeMap::new();
    if let Some(earlier) = earlier {
        // In this order: what the earlier round saw itself is newer than what came before it.
        before.extend(earlier.before.clone());
        before.extend(earlier.last.clone());
    }
    Push {
        tag: first.tag.clone(),
        digest: first.digest.clone(),
        round: earlier.map_or(1, |earlier| earlier.round + 1),
        opened: first.at,
        deadline: first.at + settings.timeout,
        arrived: BTreeMap::from([(first.region.clone(), first.at)]),
        last: BTreeMap::from([(first.region.clone(), first.at)]),
        repeats: 0,
        outcome: Outcome::TimedOut,
        settled: first.at + settings.timeout,
        missing: Vec::new(),
        before,
        recovered: None,
        removed: false,
    }
}

/// Whether a report at `now`, of a region that the push has on record, changes nothing.
fn is_repeat(settings: &Settings, pushes: &[Push], index: usize, now: u64) -> bool {
    // Only what is not removed can tell that the tag was moved.
    let known: Vec<Push> = pushes.iter().filter(|push| !push.removed).cloned().collect();
    !moved(&known, &pushes[index], now) && now <= repeats_until(settings, pushes, index)
}

/// Until when reports of its regions are repeats.
fn repeats_until(settings: &Settings, pushes: &[Push], index: usize) -> u64 {
    // While the push waits this says "settled at the deadline", which lies ahead: a repeat, as it should be.
    let push = settle(settings, pushes, index);
    // Whatever came late shows that more may be late.
    let newest = push.arrived.values().copied().max().unwrap_or(push.opened);
    push.recovered.unwrap_or(push.settled).max(newest) + settings.timeout
}

/// Whether the tag came to carry another digest after the push opened and before `until`.
fn moved(pushes: &[Push], push: &Push, until: u64) -> bool {
    let other = |other: &Push| other.tag == push.tag && other.digest != push.digest;
    let between = |other: &Push| push.opened < other.opened && other.opened < until;
    !push.tag.is_empty() && pushes.iter().any(|push| other(push) && between(push))
}

/// The push as it ends if no other report comes.
fn settle(settings: &Settings, pushes: &[Push], index: usize) -> Push {
    let mut push = pushes[index].clone();
    let in_time = |region: &String| push.arrived.get(region).is_some_and(|at| *at < push.deadline);
    let counts = |region: &String| in_time(region) || settings.repeats_known && push.before.contains_key(region);
    let complete = settings.regions.iter().all(in_time);
    let missing: Vec<String> = settings.regions.iter().filter(|region| !counts(region)).cloned().collect();

    // Complete comes first: such a push had settled before anybody looked, at its deadline, whether the tag had moved.
    (push.outcome, push.settled) = if complete {
        (Outcome::Replicated, push.arrived.values().copied().max().unwrap_or(push.opened))
    } else if moved(pushes, &push, push.deadline) {
        (Outcome::Superseded, push.deadline)
    } else if missing.is_empty() {
        (Outcome::Replicated, push.deadline)
    } else {
        (Outcome::TimedOut, push.deadline)
    };
    if push.outcome == Outcome::TimedOut {
        let late: Option<Vec<u64>> = missing.iter().map(|region| push.arrived.get(region).copied()).collect();
        push.recovered = late.and_then(|late| late.into_iter().max());
    }
    push.missing = missing;
    push
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Replicated, Superseded, TimedOut};
    use super::*;
    use std::time::Duration;

    fn settings(regions: &str, seconds: u64, repeats_known: bool) -> Settings {
        Settings { regions: regions.split(',').map(String::from).collect(), timeout: seconds * 1000, repeats_known }
    }

    /// `"A E1 0, B W2 3"`: digest, region with id, second.
    fn told(settings: &Settings, tag: &str, reports: &str) -> Vec<Push> {
        let report = |words: &str| {
            let words: Vec<&str> = words.split_whitespace().collect();
            let [digest, id, second] = words[..] else { panic!("digest, region with id, second: {words:?}") };
            let at = Duration::from_secs_f64(second.parse().expect("a second")).as_millis().try_into().expect("few");
            Report { at, tag: tag.into(), digest: digest.into(), region: id[..1].into(), id: id.into() }
        };
        model(settings, &reports.split(',').map(report).collect::<Vec<_>>(), &[])
    }

    /// One line a push: digest and round, outcome, second; then what else there is to say of it.
    fn lines(pushes: &[Push]) -> Vec<String> {
        let seconds = |at: u64| Duration::from_millis(at).as_secs_f64();
        let line = |push: &Push| {
            let mut line = format!("{}{} {:?} {}", push.digest, push.round, push.outcome, seconds(push.settled));
            for region in &push.missing {
                let date = push.before.get(region).map_or(String::new(), |at| format!("@{}", seconds(*at)));
                line += &format!(" -{region}{date}");
            }
            line += &push.recovered.map_or(String::new(), |at| format!(" recovered {}", seconds(at)));
            line + &(if push.repeats > 0 { format!(" repeats {}", push.repeats) } else { String::new() })
        };
        pushes.iter().map(line).collect()
    }

    macro_rules! cases {
        ($($name:ident: $regions:literal, $seconds:literal, $known:literal, $tag:literal, $reports:literal => $right:expr;)*) => {
            $(#[test] fn $name() {
                assert_eq!(lines(&told(&settings($regions, $seconds, $known), $tag, $reports)), $right);
            })*
        };
    }

    cases! {
        row_1_both_in_time: "E,W", 6, false, "t", "A E1 0, A W1 1" => ["A1 Replicated 1"];
        row_2_pushed_twice_overlapping: "E,W", 6, false, "t", "A E1 0, A E2 1, A W1 2, A W2 3" => ["A1 Replicated 2 repeats 2"];
        row_3_and_a2_late_then_repeats: "E,W", 6, false, "t", "A E1 0, A W1 7, A E2 9, A W2 11"
            => ["A1 TimedOut 6 -W recovered 7 repeats 2"];
        row_4_and_a3_repeat_before_late: "E,W", 6, false, "t", "A E1 0, A E2 7, A W1 8, A W2 10"
            => ["A1 TimedOut 6 -W recovered 8 repeats 2"];
        row_5_second_push: "E,W", 6, false, "t", "A E1 0, A W1 1, A E2 60, A W2 61" => ["A1 Replicated 1", "A2 Replicated 61"];
        row_6_second_push_times_out: "E,W", 6, false, "t", "A E1 0, A W1 1, A E2 60" => ["A1 Replicated 1", "A2 TimedOut 66 -W@1"];
        row_6_with_repeats_known: "E,W", 6, true, "t", "A E1 0, A W1 1, A E2 60" => ["A1 Replicated 1", "A2 Replicated 66"];
        row_7_moved_away_and_back: "E,W", 6, false, "t", "A E1 0, A W1 1, B E2 2, B W2 3, A E3 4, A W3 5"
            => ["A1 Replicated 1", "B1 Replicated 3", "A2 Replicated 5"];
        row_8_and_a6_superseded: "E,W", 6, false, "t", "A E1 0, B E2 2, B W2 3" => ["A1 Superseded 6 -W", "B1 Replicated 3"];
        a4_time_out_5: "E,W", 5, false, "t", "A E1 0, A E2 1, A W1 6, A W2 7" => ["A1 TimedOut 5 -W recovered 6 repeats 2"];
        a5_second_event_of_one_region: "E,W", 6, false, "t", "A E1 0, A W1 1, A E2 2" => ["A1 Replicated 1 repeats 1"];

        at_the_deadline_is_late: "E,W", 6, false, "t", "A E1 0, A W1 6" => ["A1 TimedOut 6 -W recovered 6"];
        last_instant_of_a_repeat: "E,W", 6, false, "t", "A E1 0, A W1 1, A E2 7" => ["A1 Replicated 1 repeats 1"];
        first_instant_of_a_round: "E,W", 6, false, "t", "A E1 0, A W1 1, A E2 7.001" => ["A1 Replicated 1", "A2 TimedOut 13.001 -W@1"];
        repeats_end_anew_after_recovery: "E,W", 6, false, "t", "A E1 0, A W1 100, A E2 106" => ["A1 TimedOut 6 -W recovered 100 repeats 1"];
        repeats_end_anew_after_each_late_report: "E,N,W", 6, false, "t", "A E1 0, A N1 50, A E2 56, A E3 56.001"
            => ["A1 TimedOut 6 -N -W repeats 1", "A2 TimedOut 62.001 -N@50 -W"];
        superseded_does_not_recover: "E,W", 6, false, "t", "A E1 0, B E2 2, B W2 3, A W1 7" => ["A1 Superseded 6 -W", "B1 Replicated 3"];
        moved_at_the_deadline_is_too_late: "E,W", 6, false, "t", "A E1 0, B E2 6, B W2 7" => ["A1 TimedOut 6 -W", "B1 Replicated 7"];
        moved_at_the_same_instant_is_not_moved: "E,W", 6, false, "t", "A E1 0, B E2 0, A E3 5"
            => ["A1 TimedOut 6 -W repeats 1", "B1 TimedOut 6 -W"];
        moved_back_while_waiting: "E,W", 6, false, "t", "A E1 0, B E2 2, B W2 3, A E3 4, A W3 5"
            => ["A1 Superseded 6 -W", "B1 Replicated 3", "A2 Replicated 5"];
        complete_although_moved: "E,W", 6, false, "t", "A E1 0, B E2 2, A W1 3, B W2 4" => ["A1 Replicated 3", "B1 Replicated 4"];
        no_tag_never_moves: "E,W", 6, false, "", "A E1 0, B E2 2, B W2 3, A E3 4" => ["A1 TimedOut 6 -W repeats 1", "B1 Replicated 3"];
        unknown_region_changes_nothing: "E,W", 6, false, "t", "A N1 0, A E1 1, A N2 2, A W1 3" => ["A1 Replicated 3"];
        known_counts_only_who_reported: "E,N,W", 6, true, "t", "A E1 0, A W1 1, A E2 60, A N2 70"
            => ["A1 TimedOut 6 -N", "A2 TimedOut 66 -N recovered 70"];
        known_all_but_superseded: "E,W", 6, true, "t", "A E1 0, A W1 1, A E2 60, B E3 61, B W3 62"
            => ["A1 Replicated 1", "A2 Superseded 66", "B1 Replicated 62"];
    }

    #[test]
    fn what_was_removed_is_not_known() {
        let settings = settings("E,W", 6, false);
        let report = |digest: &str, region: &str, at| Report {
            at,
            tag: "t".into(),
            digest: digest.into(),
            region: region.into(),
            id: String::new(),
        };
        let reports = [report("A", "E", 0), report("A", "W", 1000), report("A", "E", 9_000_000)];
        let removal = Removal { at: 3_607_000, tag: "t".into(), digest: "A".into(), opened: 0 };
        let rounds = |removals: &[Removal]| lines(&model(&settings, &reports, removals));
        assert_eq!(rounds(&[]), ["A1 Replicated 1", "A2 TimedOut 9006 -W@1"]);
        assert_eq!(rounds(std::slice::from_ref(&removal)), ["A1 Replicated 1", "A1 TimedOut 9006 -W"]);
        let too_soon = Removal { at: removal.at - 1, ..removal };
        assert!(std::panic::catch_unwind(|| rounds(&[too_soon])).is_err());
    }

    #[test]
    fn late_reports_and_newest_dates_are_on_record() {
        let pushes = told(&settings("E,W", 6, false), "t", "A E1 0, A W1 7, A E2 60, A E3 120");
        let record =
            |of: &[(&str, u64)]| of.iter().map(|(region, at)| (region.to_string(), *at)).collect::<BTreeMap<_, _>>();
        assert_eq!(pushes[0].arrived, record(&[("E", 0), ("W", 7000)]));
        assert_eq!(pushes[2].before, record(&[("E", 60_000), ("W", 7000)]));
        assert_eq!([pushes[0].outcome, pushes[1].outcome, pushes[2].outcome], [TimedOut, TimedOut, TimedOut]);
        assert!(Replicated < TimedOut && TimedOut < Superseded);
    }
}
