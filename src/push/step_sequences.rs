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
    assert_eq!(old.prior, [(region("a"), "1".to_owned()), (region("b"), "1".to_owned())].into());
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
