//! Rules of `step` that show only over several steps, or between two settings; and cases by their numbers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stories::{Pushes, at, policy, regions, rule, three};
use super::*;
use crate::push::Delivery;
use crate::push::policy::{Filter, Verdict};
use crate::store::Which;

#[test]
fn case_a7_a_region_taken_out_of_the_settings_closes_nothing() {
    let mut pushes = Pushes::new(three(6));
    pushes.play("E1 0, N1 1, timer 6, confirmed t1 6");
    pushes.policy = Policy { rules: Vec::new(), ..policy(6) };
    assert_eq!(pushes.play("N2 12"), "repeated, owes nothing");
    assert_eq!(pushes.play("N3 12.001"), "unknown_region");
    assert_eq!(pushes.play("W1 20"), "recovered t1:recovered, wake 50");
}

#[test]
fn case_a8_a_push_purged_while_its_next_round_opens_is_two_pushes_not_three() {
    let first = "E1 0, W1 1, confirmed t1 1, confirmed u1 1";
    let mut pushes = Pushes::new(policy(6));
    pushes.play(first);
    let id = pushes.newest("A").unwrap().id.clone();
    pushes.play("E2 60");
    assert_eq!(pushes.apply(&Which::Push(id), Input::Purge, at(60_001)).did, Did::Purged);
    assert_eq!(pushes.play("W2 61"), "replicated round 2 t1 u1, wake 91");

    let mut pushes = Pushes::new(policy(6));
    pushes.play(&format!("{first}, purge 59.999"));
    assert_eq!(pushes.play("E2 60"), "opened round 2, wake 66");
    assert_eq!(pushes.play("W2 61"), "replicated round 2 t1 u1, wake 91");
    assert!(pushes.newest("A").unwrap().before.is_empty(), "nobody sees what was purged");
}

#[test]
fn case_a11_an_alarm_that_failed_twice_is_not_sent_after_the_all_clear() {
    let mut pushes = Pushes::new(policy(6));
    pushes.play("E1 0, timer 6, failed t1 7, timer 127, failed t2 128");
    assert_eq!(pushes.play("W1 200"), "recovered t1:recovered, wake 230");
    assert_eq!(pushes.play("confirmed t1:recovered 201"), "confirmed, owes nothing");
    assert!(matches!(
        pushes.deliveries()[..],
        [Delivery::Overtaken { attempt: 2, lease_until: None, .. }, Delivery::Confirmed { attempt: 1, .. }]
    ));
}

#[test]
fn the_first_report_freezes_regions_deadline_and_rule() {
    let all = Filter::default();
    let wide = Verdict::FanIn { regions: Some(regions("E N")), timeout: None };
    let mut pushes = Pushes::new(Policy { rules: rule(all.clone(), wide), ..policy(100) });
    pushes.play("E1 0");
    // Other settings, while it waits.
    pushes.policy = Policy { regions: regions("X"), rules: Vec::new(), ..policy(1) };
    assert_eq!(pushes.play("X1 40"), "ignored, wake 100", "it is in the settings by now, and shown");
    assert_eq!(pushes.play("N1 50"), "replicated t1 u1, wake 80");
    let row = pushes.newest("A").unwrap();
    assert_eq!((row.deadline, row.rule.as_deref()), (at(100_000), Some("exception")));
    // What the next round waits for is said by the settings of its time.
    assert_eq!(pushes.play("E2 900"), "unknown_region");
    assert_eq!(pushes.play("X2 900"), "replicated round 2 t1 u1, wake 930");
    assert!(pushes.newest("A").unwrap().before.is_empty(), "of the others it does not speak");
    pushes.policy.rules = rule(all, Verdict::Ignore);
    assert_eq!(pushes.play("X3 2000"), "ignored");
}

#[test]
fn nobody_times_out_while_webhooks_wait_on_the_queue() {
    let mut pushes = Pushes::new(policy(100));
    pushes.pending = true;
    pushes.play("E1 0");
    assert_eq!(pushes.play("timer 100"), "held, wake 140");
    assert_eq!(pushes.play("timer 140"), "held, wake 180");
    let mut late = pushes.clone();
    assert_eq!(late.play("W1 100>185"), "late, wake 225");
    assert_eq!(late.play("W2 99>190"), "replicated t1 u1, wake 220");
    assert_eq!(pushes.clone().play("W1 99>150"), "replicated t1 u1, wake 180");
    pushes.pending = false;
    assert_eq!(pushes.play("timer 180"), "timed_out t1, wake 210");
}

#[test]
fn what_is_shown_of_other_regions_is_bounded() {
    let names = (0..=limits::REGIONS_MAX).map(|n| format!("r{n}")).collect::<Vec<_>>().join(" ");
    let elsewhere = Filter { repository: Some("elsewhere".into()), ..Filter::default() };
    let rules = rule(elsewhere, Verdict::FanIn { regions: Some(regions(&names)), timeout: None });
    let mut pushes = Pushes::new(Policy { rules, ..policy(100) });
    pushes.play("E1 0");
    for name in names.split(' ') {
        let arrival = pushes.webhook("A", name, "1", at(1));
        assert!(matches!(pushes.arrive(arrival, false, at(1)).did, Did::Ignored(_)));
    }
    assert_eq!(pushes.newest("A").unwrap().unawaited.len(), limits::REGIONS_MAX);
}

#[test]
fn a_row_tells_who_was_late_and_whether_ids_matched() {
    let mut pushes = Pushes::new(three(6));
    pushes.play("E1 0");
    let row = pushes.newest("A").unwrap();
    assert_eq!((row.ids_matched(), row.is_late(&row.regions[0])), (None, false));
    pushes.play("N1 1, timer 6, N3 7, W1 8");
    let row = pushes.newest("A").unwrap();
    assert_eq!(row.regions.iter().map(|region| row.is_late(region)).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(row.ids_matched(), Some(true));
    let seen = &row.arrived[&row.regions[1]];
    assert_eq!((seen.at, &*seen.id, seen.repeats, seen.repeated), (at(1000), "1", 1, Some(at(7000))));
    pushes.play("E5 900, N6 901, W5 902");
    assert_eq!(pushes.newest("A").unwrap().ids_matched(), Some(false));
}

#[test]
fn notifications_of_pushes_rounds_and_notices_have_ids_of_their_own() {
    let mut pushes = Pushes::new(policy(6));
    pushes.play("E1 0, W1 1, E2 60, W2 61; B: E1 70");
    let named = |row: &Row| [Notice::Replicated, Notice::TimedOut].map(|notice| row.notification_id(notice));
    let mut ids: BTreeSet<_> = pushes.rows.values().flat_map(named).collect();
    // The second round is gone without a trace when the same content is pushed once more.
    pushes.play("confirmed t1 71, confirmed u1 71, purge 72, timer 3672, E3 3700");
    let again = pushes.newest("A").unwrap();
    ids.extend(named(again));
    assert_eq!((again.id.round, ids.len()), (2, 8));
    assert!(ids.iter().all(|id| id.starts_with("msg_") && !id.contains('.')));
}

#[test]
fn an_entry_whose_leases_keep_lapsing_is_given_up() {
    let mut pushes = Pushes::new(policy(100));
    pushes.play("E1 0, W1 10, confirmed u1 11");
    for lapse in 1..=limits::LAPSES_MAX {
        let now = 10 + 30 * lapse;
        assert_eq!(pushes.play(&format!("timer {now}")), format!("claimed t{}, wake {}", lapse + 1, now + 30));
    }
    assert_eq!(pushes.play("timer 3040"), "exhausted, owes nothing");
    let [Delivery::Exhausted { attempt: 101, reason, .. }, _] = &pushes.deliveries()[..] else { panic!() };
    assert!(reason.contains("no result"));
}

#[test]
fn the_schedule_bounds_the_attempts() {
    let mut pushes = Pushes::new(policy(100));
    pushes.play("E1 0, W1 10, confirmed u1 11");
    let newest = Which::Newest(pushes.key("A"));
    for attempt in 1..=2 {
        pushes.play(&format!("failed t{attempt} {}", 10_000 * attempt));
        let wake = pushes.newest("A").unwrap().wake().unwrap();
        assert_eq!(pushes.apply(&newest, Input::Timer, wake - Duration::from_millis(1)).did, Did::Early);
        assert_eq!(pushes.apply(&newest, Input::Timer, wake).claims[0].claim, attempt + 1);
    }
    assert_eq!(pushes.play("failed t3 30000"), "exhausted, owes nothing");
    assert!(matches!(pushes.deliveries()[0], Delivery::Exhausted { attempt: 3, reason, .. } if reason == "failed"));
    // Claims go on counting, so that a result of an old one stays stale.
    assert_eq!(pushes.play("redeliver:t 40000"), "claimed t4, wake 40030");
    assert_eq!(pushes.play("failed t3 40001"), "stale");
}

#[test]
fn what_found_no_place_is_not_given_up_untried() {
    let schedule: Vec<_> = [100, 1_000, 10_000, 100_000].map(Duration::from_secs).into();
    let mut pushes = Pushes::new(Policy { schedule: schedule.clone(), ..policy(100) });
    pushes.play("E1 0, W1 1, confirmed u1 2");
    for claim in 1..=20 {
        let now = 200_000 * i64::from(claim);
        pushes.play(&format!("busy t{claim} {now}"));
        let Delivery::Owed { failures, lease_until: None, not_before, .. } = *pushes.deliveries()[0] else { panic!() };
        assert_eq!(failures, claim.min(3), "the schedule's last wait is for attempts");
        let (wait, about) = (clock::until(at(now * 1000), not_before), schedule[failures as usize - 1]);
        assert!(about.mul_f64(0.79) < wait && wait < about.mul_f64(1.21), "{wait:?} for {about:?}");
        pushes.play(&format!("timer {}", now + 199_999));
    }
    assert!(pushes.play("failed t21 4200000").starts_with("retry, "));
}
