//! Rules of `step` that show only over several steps, or between two settings.

use super::*;

#[test]
fn the_first_arrival_freezes_regions_deadline_and_rule() {
    let before = policy();
    let row = after(&[(about("wide", "a", "1", 0), 0)], &before);
    let now = Policy { regions: vec![region("z")], timeout: Duration::from_secs(1), rules: vec![], ..policy() };
    let step = step(row.as_ref(), &about("wide", "c", "1", 50).input(), at(50), &now);
    let next = step.next.unwrap();
    assert_eq!((next.deadline, next.rule.as_deref(), step.what.word()), (at(100), Some("wide"), "replicated"));
}

#[test]
fn arrivals_after_settling_seed_the_next_round_unless_they_belong_to_the_old() {
    let p = policy();
    // `b` came after the time-out with an id of its own: it may be the first sign of the push that `a` then repeats.
    let seeded = after(
        &[(arrive("a", "1", 0), 0), (NAMED, 100), (arrive("b", "2", 150), 150), (arrive("a", "2", 160), 160)],
        &p,
    )
    .unwrap();
    assert_eq!((seeded.id.round, seeded.settled().unwrap().outcome), (2, Outcome::Replicated));
    // With the old round's id it is the old round's.
    let old = after(
        &[(arrive("a", "1", 0), 0), (NAMED, 100), (arrive("b", "1", 150), 150), (arrive("a", "2", 160), 160)],
        &p,
    )
    .unwrap();
    assert_eq!((old.id.round, old.arrived.len(), old.phase.clone()), (2, 1, Phase::Waiting));
    assert_eq!(old.earlier, ["1"]);
}

/// The rounds that these arrivals make: whether each has settled, and the ids it counts by region.
fn rounds(arrivals: &[(&str, &str, i64)], policy: &Policy) -> Vec<(bool, Vec<String>)> {
    let mut rounds: Vec<Row> = Vec::new();
    for (name, id, received) in arrivals {
        loop {
            let step = step(rounds.last(), &arrive(name, id, *received).input(), at(*received), policy);
            if let Some(next) = step.next {
                rounds.retain(|row| row.id != next.id);
                rounds.push(next);
            }
            if !step.again {
                break;
            }
        }
    }
    let ids = |row: &Row| row.arrived.values().map(|a| a.id.clone()).collect();
    rounds.iter().map(|row| (row.settled().is_some(), ids(row))).collect()
}

#[test]
fn pushes_that_overlap_are_each_replicated_once() {
    let two = policy();
    let three = Policy { regions: ["a", "b", "c"].map(region).into(), ..policy() };
    let settled = |ids: &[&str]| (true, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    // One id everywhere, one region after the other.
    let found = rounds(&[("a", "1", 0), ("a", "2", 1), ("b", "1", 2), ("b", "2", 3)], &two);
    assert_eq!(found, [settled(&["1", "1"]), settled(&["2", "2"])]);
    // Three of them, and ids that differ by region.
    let names = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2"), ("b", "b3")];
    let found = rounds(&names.map(|(name, id)| (name, id, 0)), &two);
    assert_eq!(found, [settled(&["a1", "b1"]), settled(&["a2", "b2"]), settled(&["a3", "b3"])]);
    // An id that is known everywhere is found again whatever came between.
    let found =
        rounds(&[("a", "1", 0), ("a", "2", 1), ("a", "3", 2), ("b", "3", 3), ("b", "2", 4), ("b", "1", 5)], &two);
    assert_eq!(found, [settled(&["1", "3"]), settled(&["2", "2"])]);
    // The one that opens a round is not the first of its region to wait for it.
    let order = [("a", "1", 0), ("a", "2", 1), ("b", "1", 2), ("a", "3", 3), ("b", "2", 4), ("b", "3", 5)];
    assert_eq!(rounds(&order, &two), [settled(&["1", "1"]), settled(&["2", "2"]), settled(&["3", "3"])]);
    // Unless the others show whose time it is.
    let order = [("a", "1", 0), ("a", "2", 1), ("b", "3", 2), ("b", "1", 3), ("a", "3", 4), ("b", "2", 5)];
    assert_eq!(rounds(&order, &two), [settled(&["1", "3"]), settled(&["2", "2"])]);
    // More than one region waits for the next round.
    let order = [("a", "a1"), ("b", "b1"), ("b", "b2"), ("a", "a2"), ("c", "c1"), ("c", "c2")];
    let found = rounds(&order.map(|(name, id)| (name, id, 0)), &three);
    assert_eq!(found, [settled(&["a1", "b1", "c1"]), settled(&["a2", "b2", "c2"])]);
}

#[test]
fn what_is_older_than_a_push_may_take_says_nothing_of_the_next() {
    let p = policy();
    // `b` came late, with an id of its own, and the first push was recovered by it; much later the content is pushed again.
    for (later, complete) in [(249, true), (250, false), (100_000, false)] {
        let mut row = after(&[(arrive("a", "a1", 0), 0), (NAMED, 100), (arrive("b", "b1", 150), 150)], &p).unwrap();
        assert!(row.settled().unwrap().recovered.is_some());
        for _ in 0..2 {
            row = step(Some(&row), &arrive("a", "a2", later).input(), at(later), &p).next.unwrap();
        }
        assert_eq!((row.id.round, row.settled().is_some()), (2, complete), "{later}");
        // Once more from `b`: of the old push when that cannot be told from the new one's.
        let again = step(Some(&row), &arrive("b", "b1", later + 1).input(), at(later + 1), &p);
        assert_eq!(again.what, What::Duplicate);
    }
    // Repeated while the first push waited, and left over.
    let stale = rounds(&[("a", "a1", 0), ("a", "a2", 1), ("b", "b1", 2), ("b", "b3", 5000)], &p);
    assert_eq!(stale[1], (false, vec!["b3".to_owned()]));
}

#[test]
fn what_waits_for_the_next_round_is_bounded() {
    let p = policy();
    let mut row = after(&[(arrive("a", "1", 0), 0)], &p).unwrap();
    let long = "x".repeat(100);
    for n in 0..100 {
        let step = step(Some(&row), &arrive("a", &format!("{long}{n}"), 1).input(), at(1), &p);
        row = step.next.unwrap_or(row);
    }
    let whole = crate::push::record::encode(&row).len();
    let bare = crate::push::record::encode(&Row { repeated: Vec::new(), ..row.clone() }).len();
    // An entry is charged for a little more than what it takes.
    assert!(
        (limits::REPEATED_BYTES_MAX * 9 / 10..=limits::REPEATED_BYTES_MAX).contains(&(whole - bare)),
        "{whole} {bare}"
    );
}

#[test]
fn a_confirmation_that_comes_late_keeps_the_later_claims_counted() {
    let p = policy();
    let row = state("one confirmed", &p).unwrap();
    let row = step(Some(&row), &NAMED.input(), at(40), &p).next.unwrap();
    let row = step(Some(&row), &confirmed("t", 1).input(), at(41), &p).next.unwrap();
    let redelivered = step(Some(&row), &In::Redeliver(Some("t")).input(), at(42), &p);
    assert_eq!(redelivered.claims[0].claim, 3);
    let old = step(redelivered.next.as_ref(), &refused("t", 2).input(), at(43), &p);
    assert_eq!(old.what, What::Stale);
}

#[test]
fn in_id_mode_rounds_never_arise() {
    let p = Policy { correlation: Correlation::Id, ..policy() };
    let row = after(&[(arrive("a", "1", 0), 0), (arrive("b", "1", 1), 1)], &p).unwrap();
    assert_eq!(row.id.key, Key::of(&["id", "1"]));
    let again = step(Some(&row), &arrive("a", "1", 500).input(), at(500), &p);
    assert_eq!((again.what.word(), again.next), ("duplicate", None));
}

#[test]
fn an_entry_whose_leases_keep_lapsing_is_given_up() {
    let p = policy();
    let mut row = state("one confirmed", &p).unwrap();
    let mut now = 40;
    for lapse in 1..=limits::LAPSES_MAX {
        let step = step(Some(&row), &NAMED.input(), at(now), &p);
        assert_eq!((step.what.word(), step.claims.len()), ("claimed", 1), "lapse {lapse}");
        row = step.next.unwrap();
        now += 30;
    }
    let last = step(Some(&row), &NAMED.input(), at(now), &p);
    assert_eq!((last.what.word(), last.wake, last.rearm, last.claims.len()), ("exhausted", None, false, 0));
}

#[test]
fn the_schedule_bounds_the_attempts_and_every_attempt_has_one_id() {
    let p = policy();
    let mut row = state("one confirmed", &p).unwrap();
    let id = row.notification_id(Notice::Replicated);
    let mut now = 11;
    for attempt in 1..=3 {
        let failed = step(Some(&row), &failed("t", attempt).input(), at(now), &p);
        row = failed.next.unwrap();
        assert_eq!(row.notification_id(Notice::Replicated), id);
        let Some(wake) = failed.wake else { break };
        assert!(step(Some(&row), &NAMED.input(), wake - Duration::from_millis(1), &p).claims.is_empty());
        let due = step(Some(&row), &NAMED.input(), wake, &p);
        assert_eq!(due.claims[0].claim, attempt + 1);
        row = due.next.unwrap();
        now = (wake - at(0)).num_seconds() + 1;
    }
    let Delivery::Exhausted { attempt, reason, .. } = &row.settled().unwrap().outbox[0].delivery else { panic!() };
    assert_eq!((*attempt, reason.as_str()), (3, "500"));
    let redelivered = step(Some(&row), &In::Redeliver(Some("t")).input(), at(9999), &p);
    assert_eq!(redelivered.claims[0].claim, 4, "claims go on counting, so that a result of an old one stays stale");
    assert_eq!(redelivered.next.unwrap().notification_id(Notice::Replicated), id);
}

#[test]
fn what_found_no_place_is_not_given_up_untried() {
    let policy = policy();
    let not_begun = |claim| result("t", claim, AttemptResult::NotBegun { reason: "busy".into() });
    let mut row = after(&[(arrive("a", "1", 0), 0), (arrive("b", "1", 1), 1)], &policy).unwrap();
    let mut now = 2;
    for claim in 1..=20 {
        let waiting = step(Some(&row), &not_begun(claim).input(), at(now), &policy).next.unwrap();
        let Delivery::Owed { failures, not_before, lease_until: None, .. } =
            waiting.settled().unwrap().outbox[0].delivery
        else {
            panic!("still owed: {waiting:?}")
        };
        assert_eq!(failures, 1, "the schedule's last wait is for attempts");
        now += (not_before - at(now)).num_seconds() + 1;
        row = step(Some(&waiting), &NAMED.input(), at(now), &policy).next.unwrap();
    }
    let waiting = step(Some(&row), &failed("t", 21).input(), at(now), &policy).next.unwrap();
    assert!(matches!(waiting.settled().unwrap().outbox[0].delivery, Delivery::Owed { failures: 2, .. }));
}
