//! Schedules told step by step, for what seeds meet too seldom: two processes on one table and one queue that never fail, and
//! something that happens just after a timer is armed, or just before a row is written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use global_webhook::clock::{self, Clock as _};
use global_webhook::limits;
use global_webhook::push::policy::{Filter, Target};
use global_webhook::push::{AttemptResult, Attempted, Did, Input, Notice, Outcome, PushId, Region};
use global_webhook::store::azure::apply::Looked;
use global_webhook::store::azure::parts::Entry;
use global_webhook::store::{Store as _, Which};

use crate::desk::{Desk, Stuck, arrival, process, process_that_tells, process_that_waits, timer};

#[test]
fn a_timer_acts_only_for_the_write_that_armed_it() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // 1. A timer is armed for a first row. 2. It fires before that is written: it may still land.
    let (early, seen) = (process(&desk, 2), Arc::new(Mutex::new(None)));
    let (before, note) = (desk.clone(), seen.clone());
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let armed = timer(before.armed.lock().unwrap().last().unwrap());
        *note.lock().unwrap() = early.fire(&armed);
    }));
    one.arrive("a", "d", 0);
    assert!(matches!(seen.lock().unwrap().take(), Some(Looked::Newer)));
    // 3. Once it is written, the same timer is in charge.
    let first = timer(&desk.armed.lock().unwrap()[0]);
    *one.clock.0.lock().unwrap() = 101_000;
    assert!(
        matches!(one.fire(&first), Some(Looked::Applied(applied)) if applied.did == Did::Settled(Outcome::TimedOut))
    );
    // 4. And then never again.
    assert!(matches!(one.fire(&first), Some(Looked::Older)));
}

#[test]
fn a_deadline_that_is_handled_late_waits_for_what_is_on_the_queue() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    one.arrive("a", "d", 0);
    // 1. The queue is away past the deadline, and with it perhaps the other region's webhook. 2. The timer comes first.
    let fire = |at_ms: i64| {
        let armed = timer(desk.armed.lock().unwrap().last().unwrap());
        *one.clock.0.lock().unwrap() = at_ms;
        let Some(Looked::Applied(applied)) = one.fire(&armed) else { panic!("in charge") };
        applied.did
    };
    assert_eq!(fire(111_000), Did::Held);
    // Nothing came: it is in vain once the time is over.
    assert_eq!(fire(151_000), Did::Settled(Outcome::TimedOut));
}

#[test]
fn a_webhook_that_fails_on_the_queue_is_noted_each_time() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // 1. A region's webhook cannot be written, and goes to the queue. 2. Fifty seconds later another region opens the push.
    *one.clock.0.lock().unwrap() = -50_000;
    one.azure.spill(&arrival("b", "d", one.clock.now())).now_or_never().unwrap().unwrap();
    let spill = desk.armed.lock().unwrap().last().unwrap().text();
    one.arrive("a", "d", 0);
    let armed = timer(desk.armed.lock().unwrap().last().unwrap());
    // 3. The webhook fails again. 4. At the deadline the first note is older than any would be that still counts.
    *one.clock.0.lock().unwrap() = 90_000;
    assert!(one.azure.fired(&spill, &Stuck).now_or_never().unwrap().is_err());
    *one.clock.0.lock().unwrap() = 100_000;
    assert!(matches!(one.fire(&armed), Some(Looked::Applied(applied)) if applied.did == Did::Held));
}

#[test]
fn an_arrival_has_its_turn_while_a_timer_waits_for_its_instant() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    one.arrive("a", "d", 0);
    let armed = timer(&desk.armed.lock().unwrap()[0]);
    // The queue counts whole seconds, so the timer comes half a second early and waits in the call.
    *one.clock.0.lock().unwrap() = 99_500;
    let which = Which::Push(armed.push.clone());
    let step = one.engine.looking();
    let mut waiting = Box::pin(one.azure.look(&which, Some(armed.ticket), &*step));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(one.arrive("b", "d", 99).did, Did::Settled(Outcome::Replicated));
}

#[test]
fn what_another_process_remembers_is_not_the_newest_round() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    one.arrive("a", "d", 0);
    one.arrive("a", "other", 1);
    // The tag moved away and back: two opens the next round, of which one knows nothing.
    assert_eq!(two.arrive("a", "d", 2).did, Did::Opened);
    let done = one.arrive("b", "d", 3);
    assert_eq!((done.did, done.row.unwrap().id.round), (Did::Settled(Outcome::Replicated), 2));
}

#[test]
fn what_is_remembered_is_no_answer() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    let first = arrival("a", "d", one.clock.now());
    one.arrive("a", "d", 0);
    assert_eq!(two.arrive("b", "d", 1).did, Did::Settled(Outcome::Replicated));
    // One remembers a push that waits, for which the webhook that comes once more would change nothing either.
    let done = one.engine.arrive_late(first).now_or_never().unwrap().unwrap();
    assert_eq!(done.did, Did::Duplicate);
    assert!(done.row.unwrap().settled().is_some());
}

#[test]
fn the_result_of_an_attempt_that_was_given_up_changes_nothing() {
    let desk = Arc::new(Desk::default());
    let (name, notices) = ("t".to_owned(), vec![Notice::Replicated]);
    let one =
        process_that_tells(&desk, 1, vec![Target { name, notices, filter: Filter::default(), companions: false }]);
    one.arrive("a", "d", 0);
    let id = one.arrive("b", "d", 1).row.unwrap().id.clone();
    // 1. The first attempt takes longer than its lease. 2. The timer lets another one be made. 3. The first one's result comes.
    let armed = timer(desk.armed.lock().unwrap().last().unwrap());
    *one.clock.0.lock().unwrap() = 60_000;
    assert!(matches!(one.fire(&armed), Some(Looked::Applied(applied)) if applied.did == Did::Claimed));
    let failed = |claim| {
        let result = AttemptResult::Failed { reason: "x".into(), retry_after: None };
        let input = Input::Attempted(Attempted { target: "t".into(), notice: Notice::Replicated, claim, result });
        one.engine.apply(&id, input).now_or_never().unwrap().unwrap().did
    };
    assert_eq!(failed(1), Did::Stale);
    assert_eq!(failed(2), Did::Retry);
}

#[test]
fn a_round_that_was_only_looked_at_is_not_the_newest() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    one.arrive("a", "d", 0);
    let armed = timer(&desk.armed.lock().unwrap()[0]);
    one.arrive("a", "other", 1);
    assert_eq!(two.arrive("a", "d", 2).did, Did::Opened);
    // 1. The timer of round 1 fires too early. 2. One reads round 1 and writes it with another timer. 3. A report comes.
    *one.clock.0.lock().unwrap() = 3000;
    assert!(matches!(one.fire(&armed), Some(Looked::Applied(_))));
    let done = one.arrive("b", "d", 4);
    assert_eq!((done.did, done.row.unwrap().id.round), (Did::Settled(Outcome::Replicated), 2));
}

#[test]
fn a_round_that_opened_beside_a_changed_one_is_taken_back() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    one.arrive("a", "d", 0);
    one.arrive("a", "other", 1);
    // 1. Two has read round 1 and arms a timer for round 2. 2. One adds to round 1. 3. Two starts again.
    let meanwhile = one.clone();
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        meanwhile.arrive("b", "d", 2);
    }));
    let done = two.arrive("a", "d", 3);
    let row = done.row.unwrap();
    assert_eq!((row.id.round, row.before.len()), (2, 2), "round 2 knows of both reports of round 1");
}

#[test]
fn a_write_that_is_lost_to_another_leaves_no_timer() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    // 1. One arms a timer for a first row. 2. Two writes that row, with a timer of its own. 3. One starts again and settles it.
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        assert_eq!(two.arrive("b", "d", 0).did, Did::Opened);
    }));
    assert_eq!(one.arrive("a", "d", 0).did, Did::Settled(Outcome::Replicated));
    assert_eq!((desk.armed.lock().unwrap().len(), *desk.disarmed.lock().unwrap()), (2, 2));
}

#[test]
fn a_purge_and_the_next_round_leave_one_push() {
    let desk = Arc::new(Desk::default());
    let (one, two, three) = (process(&desk, 1), process(&desk, 2), process(&desk, 3));
    let key = one.arrive("a", "d", 0).row.unwrap().id.key.clone();
    one.arrive("b", "d", 1);
    // 1. One has read round 1 and arms a timer for round 2. 2. Two purges round 1. 3. One inserts round 2. 4. Three reports.
    let id = PushId { key, round: 1 };
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        *two.clock.0.lock().unwrap() = 500_000;
        assert_eq!(two.engine.apply(&id, Input::Purge).now_or_never().unwrap().unwrap().did, Did::Purged);
    }));
    one.arrive("a", "d", 500);
    let done = three.arrive("b", "d", 501);
    assert_eq!(done.did, Did::Settled(Outcome::Replicated));
    assert!(
        three
            .azure
            .get(&Which::Push(PushId { round: 3, ..done.row.unwrap().id.clone() }))
            .now_or_never()
            .unwrap()
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_removal_and_the_next_round_leave_one_push() {
    let desk = Arc::new(Desk::default());
    let (one, two, three) = (process(&desk, 1), process(&desk, 2), process(&desk, 3));
    let id = one.arrive("a", "d", 0).row.unwrap().id.clone();
    one.arrive("b", "d", 1);
    // 1. One has read round 1, which is spent, and arms a timer for round 2. 2. Two removes what is old. 3. Three reports.
    // 4. One writes once more and dies.
    let (after, key) = (desk.clone(), id.key.clone());
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        *two.clock.0.lock().unwrap() = 5_000_000;
        let removed = two.engine.remove_before(two.clock.now()).now_or_never().unwrap().unwrap();
        assert_eq!((removed.count, removed.next), (1, None));
        assert_eq!(three.arrive("b", "d", 5000).did, Did::Opened);
        let puts = *after.puts.lock().unwrap();
        *after.last.lock().unwrap() = Some(puts + 1);
    }));
    assert!(one.arrive_or_die("a", "d", 5000).is_none());
    let records = desk.records.lock().unwrap();
    let rows = records.values().map(|(record, _)| &record.row).filter(|row| row.id.key == key && !row.is_purged());
    let rows: Vec<_> = rows.map(|row| (row.id.round, row.arrived.keys().map(Region::as_str).collect())).collect();
    assert_eq!(rows, [(2, vec!["b"])]);
}

#[test]
fn what_is_spent_is_removed_without_a_trace_and_a_report_on_its_way_opens_the_first_round() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    let id = one.arrive("a", "d", 0).row.unwrap().id.clone();
    let armed = timer(&desk.armed.lock().unwrap()[0]);
    *one.clock.0.lock().unwrap() = 100_000;
    assert!(matches!(one.fire(&armed), Some(Looked::Applied(_))));
    *two.clock.0.lock().unwrap() = 3_800_000;
    let remove = || two.engine.remove_before(two.clock.now()).now_or_never().unwrap().unwrap().count;
    assert_eq!(remove(), 1);
    assert!(desk.records.lock().unwrap().is_empty());
    assert_eq!(remove(), 0);
    let done = one.arrive("b", "d", 3801);
    assert_eq!((done.did, done.row.unwrap().id.clone()), (Did::Opened, id));
}

#[test]
fn a_reminder_of_a_write_on_its_way_stays() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    let id = one.arrive("a", "d", 0).row.unwrap().id.clone();
    one.arrive("b", "d", 1);
    // 1. One is about to purge, which leaves a trace for an hour, and has entered the reminder. 2. Two meets that, and a row that
    // owes nothing. 3. One writes.
    *one.clock.0.lock().unwrap() = 500_000;
    let reminder = Entry { at: one.clock.now(), push: id.clone() };
    *desk.writing.lock().unwrap() = Some(Box::new({
        let (desk, reminder) = (desk.clone(), reminder.clone());
        move || {
            *two.clock.0.lock().unwrap() = 501_000;
            assert!(desk.index.lock().unwrap().contains(&reminder));
            let span = (reminder.at, two.clock.now());
            let removed = two.azure.remove_settled(span, 10, two.engine.looking()).now_or_never().unwrap().unwrap();
            assert_eq!((removed.count, removed.next), (0, None));
        }
    }));
    assert_eq!(one.engine.apply(&id, Input::Purge).now_or_never().unwrap().unwrap().did, Did::Purged);
    assert!(desk.index.lock().unwrap().contains(&reminder), "a cleared queue would leave nobody to look at it");
}

#[test]
fn a_webhook_that_comes_twice_counts_for_one_round() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // 1. The tag moves on while a region is missing, which reports all the same. 2. The tag comes back, and with it the next
    // round, to which belongs what came after the move. 3. The region's webhook comes once more, from the queue.
    one.arrive("a", "d", 0);
    one.arrive("a", "e", 2);
    assert_eq!(one.arrive("b", "d", 3).did, Did::Settled(Outcome::Replicated));
    let once_more = arrival("b", "d", one.clock.now());
    assert_eq!(one.arrive("a", "d", 4).did, Did::Opened);
    assert_eq!(one.engine.arrive_late(once_more).now_or_never().unwrap().unwrap().did, Did::Duplicate);
    assert_eq!(one.arrive("b", "d", 5).did, Did::Settled(Outcome::Replicated));
}

#[test]
fn regions_at_the_same_instant_lose_no_write_to_each_other() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // The second comes while the first has its turn, and waits for its own.
    let (second, waited) = (one.clone(), Arc::new(Mutex::new(false)));
    let note = waited.clone();
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let arrival = arrival("b", "d", second.clock.now());
        *note.lock().unwrap() = second.engine.arrive(arrival, None).now_or_never().is_none();
    }));
    one.arrive("a", "d", 0);
    assert!(*waited.lock().unwrap());
    assert_eq!(one.arrive("b", "d", 1).did, Did::Settled(Outcome::Replicated));
    assert_eq!(*desk.puts.lock().unwrap(), 2);
}

#[test]
fn what_a_start_arms_anew_lasts_for_minutes() {
    let desk = Arc::new(Desk::default());
    // 1. A push waits for a week. 2. A process starts, does not know whether the timer is there, and arms another one. Should it
    // die before it has deleted the first, and many after it, each leaves one, which must not last for a week.
    let one = process_that_waits(&desk, 1, vec![], Duration::from_secs(7 * 24 * 3600));
    let id = one.arrive("a", "d", 0).row.unwrap().id.clone();
    let named = || desk.records.lock().unwrap()[&id].0.timer.clone().unwrap();
    let first = named();
    let two = process(&desk, 2);
    *two.clock.0.lock().unwrap() = 3_600_000;
    two.azure.start_upkeep().now_or_never().unwrap().unwrap();
    let upkeep = desk.armed.lock().unwrap().last().unwrap().text();
    assert_eq!(two.azure.fired(&upkeep, &Stuck).now_or_never().unwrap(), Ok("walked"));
    assert_ne!(named().ticket, first.ticket);
    assert!(named().due <= clock::after(two.clock.now(), limits::SHORT_TIMER), "{:?}", named());
}
