//! What every [`Store`] must do when old pushes are removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use global_webhook::clock::{Clock as _, Instant, SystemClock, after};
use global_webhook::push::{Delivery, Entry, Input, Notice, PushId, Row};
use global_webhook::store::{Decide, Store};

use crate::samples::{id, instant, owing, purged, row, settled, stepping};
use crate::store_contract::{found, in_every_store, listed, newest, push, put};

const BEGINNING: Instant = Instant::UNIX_EPOCH;

fn purging() -> Arc<dyn Decide> {
    stepping(Input::Purge, Arc::new(SystemClock))
}

/// A settled push of the past that owes nothing.
fn done(name: &str, second: i64) -> Row {
    settled(row(id(name, 1), instant(second), "{}"), Vec::new())
}

/// Looks until nothing is left to look at: how many went each time.
async fn remove(store: &dyn Store, to: Instant, max: usize) -> Vec<usize> {
    let (mut from, mut counts) = (BEGINNING, Vec::new());
    loop {
        let removed = store.remove_settled((from, to), max, purging()).await.unwrap();
        assert!(removed.count <= max, "{removed:?}");
        counts.push(removed.count);
        let Some(next) = removed.next else { return counts };
        assert!(next >= from && next <= to && (next > from || removed.count > 0), "{removed:?} from {from}");
        from = next;
        assert!(counts.len() < 1000, "it has no end");
    }
}

async fn left(store: &dyn Store) -> BTreeSet<PushId> {
    listed(store, 100).await.into_iter().map(|(id, _)| id).collect()
}

fn named(rows: &[Row]) -> BTreeSet<PushId> {
    rows.iter().map(|row| row.id.clone()).collect()
}

async fn the_oldest_go_first_and_only_so_many(store: Arc<dyn Store>) {
    assert_eq!(remove(&*store, instant(99), 5).await, [0]);
    // Written out of order; two of them were opened at the same instant.
    let rows: Vec<Row> =
        (0..12).map(|n| done(&format!("push {n}"), [0, 1, 1, 2, 30, 400][n / 2] + n as i64 % 2)).collect();
    for n in 0..12 {
        put(&*store, &rows[n * 5 % 12]).await;
    }
    let mut by_age = rows.clone();
    by_age.sort_by_key(|row| row.opened);
    let removed = store.remove_settled((BEGINNING, instant(99)), 3, purging()).await.unwrap();
    assert!(removed.count >= 1 && removed.count <= 3 && removed.next.is_some(), "{removed:?}");
    let after_it = left(&*store).await;
    assert_eq!(after_it.len(), 12 - removed.count);
    let cut = by_age[removed.count - 1].opened;
    assert!(by_age.iter().all(|row| after_it.contains(&row.id) || row.opened <= cut), "{after_it:?}");
    let counts = remove(&*store, instant(99), 3).await;
    assert_eq!(counts.iter().sum::<usize>() + removed.count, 10, "{counts:?}");
    assert_eq!(left(&*store).await, named(&rows[10..]));
    assert_eq!(remove(&*store, instant(99), 3).await, [0]);
}

async fn what_was_opened_outside_of_the_span_stays(store: Arc<dyn Store>) {
    let rows: Vec<Row> = (0..5).map(|n| done(&format!("push {n}"), n)).collect();
    for row in &rows {
        put(&*store, row).await;
    }
    let span = (rows[1].opened, rows[3].opened);
    let removed = store.remove_settled(span, 10, purging()).await.unwrap();
    assert_eq!((removed.count, removed.next), (2, None));
    assert_eq!(left(&*store).await, named(&[rows[0].clone(), rows[3].clone(), rows[4].clone()]));
    let nothing = store.remove_settled((span.1, span.0), 10, purging()).await.unwrap();
    assert_eq!((nothing.count, nothing.next), (0, None));
}

async fn only_what_is_settled_and_owes_nothing_goes(store: Arc<dyn Store>) {
    let told = |name: &str, delivery| {
        let entry = Entry { target: "ops".into(), notice: Notice::Replicated, delivery, failed: Vec::new() };
        settled(row(id(name, 1), instant(3), "{}"), vec![entry])
    };
    let at = instant(130);
    let go = [
        done("nobody was told", 3),
        told("confirmed", Delivery::Confirmed { attempt: 1, at, status: 200 }),
        told("exhausted", Delivery::Exhausted { attempt: 9, at, reason: "500".into() }),
        told("overtaken", Delivery::Overtaken { attempt: 1, at, lease_until: None }),
    ];
    let far = after(SystemClock.now(), Duration::from_secs(3600));
    let stay = [
        Row { deadline: far, ..row(id("waiting", 1), instant(1), "{}") },
        owing(row(id("owing", 1), instant(2), "{}"), far),
        done("young", 50),
    ];
    for row in go.iter().chain(&stay) {
        put(&*store, row).await;
    }
    let trace = purged(done("purged", 2), SystemClock.now());
    put(&*store, &trace).await;
    assert_eq!(remove(&*store, instant(50), 100).await, [4]);
    assert_eq!(left(&*store).await, named(&stay));
    for row in &stay {
        assert_eq!(store.get(&push(&row.id)).await.unwrap().as_deref(), Some(row));
    }
    assert_eq!(found(&*store, &push(&trace.id)).await, Some(trace));
}

async fn what_stays_does_not_hold_up_the_rest(store: Arc<dyn Store>) {
    let far = after(SystemClock.now(), Duration::from_secs(3600));
    let mut stay = Vec::new();
    for n in 0..7 {
        // Five of them of one instant, more than are looked at together.
        stay.push(owing(row(id(&format!("owing {n}"), 1), instant(if n < 5 { 0 } else { n }), "{}"), far));
    }
    let go: Vec<Row> = (0..4).map(|n| done(&format!("done {n}"), 6 + n)).collect();
    for row in stay.iter().chain(&go) {
        put(&*store, row).await;
    }
    let counts = remove(&*store, instant(50), 2).await;
    assert_eq!(counts.iter().sum::<usize>(), 4, "{counts:?}");
    assert_eq!(left(&*store).await, named(&stay));
}

async fn what_is_gone_leaves_a_trace_as_long_as_repeats_may_come(store: Arc<dyn Store>) {
    let now = SystemClock.now();
    // Its repeats end within two minutes; those of the other ended long ago.
    let young = settled(row(id("young", 1), now - chrono::Duration::seconds(10), "{}"), Vec::new());
    let old = done("old", 0);
    for row in [&young, &old] {
        put(&*store, row).await;
    }
    assert_eq!(remove(&*store, after(now, Duration::from_secs(1)), 100).await, [2]);
    assert_eq!(left(&*store).await, BTreeSet::new());
    for which in [push(&young.id), newest(&young.id)] {
        assert_eq!(store.get(&which).await.unwrap(), None);
        let trace = found(&*store, &which).await.unwrap();
        assert!(trace.is_purged() && trace.wake() > Some(after(now, Duration::from_secs(3500))), "{trace:?}");
    }
    assert_eq!(found(&*store, &newest(&old.id)).await, None, "what is reported now opens the first round");
    assert_eq!(remove(&*store, after(now, Duration::from_secs(1)), 100).await, [0]);
    // The same name again, opened later: the entry of the one before leads nobody to it.
    let again = settled(row(old.id.clone(), instant(900), "{}"), Vec::new());
    put(&*store, &again).await;
    assert_eq!(remove(&*store, instant(900), 100).await, [0]);
    assert_eq!(left(&*store).await, named(&[again]));
}

async fn the_newest_round_is_the_one_that_is_left(store: Arc<dyn Store>) {
    let rounds: Vec<Row> =
        (1..4).map(|n| settled(row(id("a", n), instant(n.into()), &n.to_string()), Vec::new())).collect();
    for row in &rounds {
        put(&*store, row).await;
    }
    assert_eq!(remove(&*store, instant(3), 100).await, [2]);
    assert_eq!(found(&*store, &newest(&rounds[0].id)).await.as_ref(), Some(&rounds[2]));
    // A trace of it stays where it was written again for the next round.
    let gone = |found: Option<Row>| found.is_none_or(|row| row.is_purged());
    assert!(gone(found(&*store, &push(&rounds[1].id)).await));
    assert_eq!(remove(&*store, instant(9), 100).await, [1]);
    assert!(gone(found(&*store, &newest(&rounds[0].id)).await));
    assert_eq!(left(&*store).await, BTreeSet::new());
}

in_every_store! {
    the_oldest_go_first_and_only_so_many
    what_was_opened_outside_of_the_span_stays
    only_what_is_settled_and_owes_nothing_goes
    what_stays_does_not_hold_up_the_rest
    what_is_gone_leaves_a_trace_as_long_as_repeats_may_come
    the_newest_round_is_the_one_that_is_left
}
