//! What every [`Store`] must do with steps; `in_every_store!` runs each case against every implementation.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use global_webhook::clock::{Clock as _, Instant, SystemClock, after};
use global_webhook::limits;
use global_webhook::push::{Change, Claim, Decision, Did, Notice, PushId, Region, Row, Seen, Step, record};
use global_webhook::store::azure::queue::TimerQueue;
use global_webhook::store::azure::table::Table;
use global_webhook::store::azure::{AzureStore, Names};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::memory::MemoryStore;
use global_webhook::store::{Applied, Page, Search, Store, Which};

use crate::samples::{
    asking, content, decided, doing, id, instant, open, owing, purged, putting, row, settled, storage_clock,
};
use crate::support::azurite::azurite;

/// An empty store, and what must live as long as it does.
pub(crate) struct Fresh {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

pub(crate) fn push(id: &PushId) -> Which {
    Which::Push(id.clone())
}

pub(crate) fn newest(id: &PushId) -> Which {
    Which::Newest(id.key.clone())
}

/// Leaves `row` as the newest of its key.
pub(crate) async fn put(store: &dyn Store, row: &Row) -> Applied {
    store.apply(&newest(&row.id), putting(row)).await.unwrap()
}

/// What a step finds.
pub(crate) async fn found(store: &dyn Store, which: &Which) -> Option<Row> {
    let seen = Arc::new(std::sync::Mutex::new(None));
    let step = doing({
        let seen = Arc::clone(&seen);
        move |row| {
            *seen.lock().unwrap() = row.cloned();
            Change::None
        }
    });
    store.apply(which, step).await.unwrap();
    seen.lock().unwrap().take()
}

async fn get(store: &dyn Store, id: &PushId) -> Option<Row> {
    store.get(&push(id)).await.unwrap().map(|row| (*row).clone())
}

/// All pushes, page by page; panics on one that comes twice.
pub(crate) async fn listed(store: &dyn Store, limit: usize) -> Vec<(PushId, Instant)> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = store.list(&Search::all(limit, cursor.as_deref())).await.unwrap();
        assert!(page.rows.len() <= limit, "{} on a page of {limit}", page.rows.len());
        all.extend(named(&page));
        assert!(all.len() < 10_000, "the list has no end");
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let distinct: BTreeSet<&PushId> = all.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), all.len(), "a push is listed twice");
    all
}

pub(crate) fn named(page: &Page) -> Vec<(PushId, Instant)> {
    page.rows.iter().map(|row| (row.id.clone(), row.opened)).collect()
}

async fn a_step_that_was_applied_is_there(store: Arc<dyn Store>) {
    let first = row(id("a", 1), instant(0), "{}");
    for which in [push(&first.id), newest(&first.id)] {
        assert_eq!(store.get(&which).await.unwrap(), None);
        assert_eq!(found(&*store, &which).await, None);
    }
    let claim = Claim { target: "ops".into(), notice: Notice::Replicated, claim: 7, lease_until: instant(30) };
    let step = asking({
        let (row, claim) = (first.clone(), claim.clone());
        move |_, _| {
            let (change, claims) = (Change::Put(row.clone()), vec![claim.clone()]);
            Decision::Step(Box::new(Step { did: Did::Opened, change, claims }))
        }
    });
    let applied = store.apply(&newest(&first.id), step).await.unwrap();
    assert_eq!((applied.did, applied.row.as_deref(), applied.claims), (Did::Opened, Some(&first), vec![claim]));
    for which in [push(&first.id), newest(&first.id)] {
        assert_eq!(store.get(&which).await.unwrap().as_deref(), Some(&first));
        assert_eq!(found(&*store, &which).await, Some(first.clone()));
    }
    // Changed by either name.
    for (n, which) in [push(&first.id), newest(&first.id)].into_iter().enumerate() {
        let next = Row { updated: instant(n as i64 + 1), rule: Some(n.to_string()), ..first.clone() };
        let applied = store.apply(&which, putting(&next)).await.unwrap();
        assert_eq!(applied.row.as_deref(), Some(&next));
        assert_eq!(get(&*store, &first.id).await, Some(next));
    }
}

async fn a_step_that_changes_nothing_leaves_all_as_it_was(store: Arc<dyn Store>) {
    let nothing = || asking(|_, _| decided(Did::Idle, Change::None));
    let kept = row(id("a", 1), instant(0), "{}");
    let applied = store.apply(&newest(&kept.id), nothing()).await.unwrap();
    assert_eq!((applied.did, applied.row), (Did::Idle, None));
    put(&*store, &kept).await;
    let applied = store.apply(&push(&kept.id), nothing()).await.unwrap();
    assert_eq!((applied.did, applied.row.as_deref()), (Did::Idle, Some(&kept)));
    assert_eq!(get(&*store, &kept.id).await, Some(kept));
}

async fn of_many_steps_at_once_all_count(store: Arc<dyn Store>) {
    let push = id("a", 1);
    let counters: Vec<_> = (0..8)
        .map(|_| {
            let (store, push) = (Arc::clone(&store), push.clone());
            tokio::spawn(async move {
                for _ in 0..5 {
                    let push = push.clone();
                    // The first of all opens the push; nobody knows which that is.
                    let step = doing(move |stored| {
                        let count = stored.map_or(0, |row| row.rule.as_ref().unwrap().parse().unwrap());
                        let row = stored.cloned().unwrap_or_else(|| row(push.clone(), instant(0), "{}"));
                        Change::Put(Row { rule: Some((count + 1).to_string()), ..row })
                    });
                    store.apply(&Which::Newest(id("a", 1).key), step).await.unwrap();
                }
            })
        })
        .collect();
    for counter in counters {
        counter.await.unwrap();
    }
    assert_eq!(get(&*store, &push).await.unwrap().rule.as_deref(), Some("40"));
    assert_eq!(listed(&*store, 10).await.len(), 1);
}

async fn reads_see_what_was_answered(store: Arc<dyn Store>) {
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut row = row(id(&format!("caller {caller}"), 1), instant(caller), "0");
                for n in 0..10 {
                    row.rule = Some(n.to_string());
                    put(&*store, &row).await;
                    assert_eq!(get(&*store, &row.id).await.as_ref(), Some(&row));
                    assert_eq!(store.get(&newest(&row.id)).await.unwrap().as_deref(), Some(&row));
                }
                let pushes = named(&store.list(&Search::all(1000, None)).await.unwrap());
                assert!(pushes.contains(&(row.id.clone(), row.opened)));
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

async fn the_newest_round_is_the_highest(store: Arc<dyn Store>) {
    let rounds = [1, 2, 9, 10, 100];
    for round in rounds {
        let next = settled(row(id("a", round), instant(i64::from(round)), &round.to_string()), Vec::new());
        put(&*store, &next).await;
        assert_eq!(store.get(&newest(&next.id)).await.unwrap().as_deref(), Some(&next));
    }
    put(&*store, &row(id("b", 7), instant(0), "other key")).await;
    assert_eq!(found(&*store, &newest(&id("a", 1))).await.unwrap().id, id("a", 100));
    for round in rounds {
        assert_eq!(get(&*store, &id("a", round)).await.unwrap().payload, round.to_string());
    }
    assert_eq!(get(&*store, &id("a", 3)).await, None);
    // An earlier round is changed by its own name, and stays an earlier one.
    let changed = Row { rule: Some("changed".into()), ..get(&*store, &id("a", 9)).await.unwrap() };
    store.apply(&push(&changed.id), putting(&changed)).await.unwrap();
    assert_eq!(get(&*store, &changed.id).await, Some(changed));
    assert_eq!(found(&*store, &newest(&id("a", 1))).await.unwrap().id, id("a", 100));
}

async fn of_many_who_open_the_next_round_one_does(store: Arc<dyn Store>) {
    for round in 1..4 {
        let openers: Vec<_> = (0..12)
            .map(|_| {
                let store = Arc::clone(&store);
                let open = asking(move |stored, _| match stored {
                    Some(row) if row.id.round >= round => decided(Did::Repeated, Change::None),
                    _ => decided(Did::Opened, Change::Put(row(id("a", round), instant(round.into()), "{}"))),
                });
                tokio::spawn(async move { store.apply(&newest(&id("a", 1)), open).await.unwrap().did })
            })
            .collect();
        let mut opened = 0;
        for opener in openers {
            opened += usize::from(opener.await.unwrap() == Did::Opened);
        }
        assert_eq!(opened, 1, "round {round}");
    }
    assert_eq!(listed(&*store, 10).await.len(), 3);
}

async fn rows_of_other_keys_stay_as_they_are(store: Arc<dyn Store>) {
    let mut others = Vec::new();
    for round in [1, 3] {
        others.push(row(id("a", round), instant(5), "same key"));
        others.push(row(id("b", round), instant(5), "other key"));
        others.push(row(content("a", "other content", round), instant(5), "same place"));
    }
    for row in &others {
        put(&*store, row).await;
    }
    let mine = row(id("c", 2), instant(5), "mine");
    for row in [mine.clone(), settled(mine.clone(), Vec::new()), purged(mine, SystemClock.now())] {
        put(&*store, &row).await;
    }
    for row in others {
        assert_eq!(get(&*store, &row.id).await, Some(row));
    }
    assert_eq!(listed(&*store, 10).await.len(), 6);
}

async fn a_purged_push_is_gone_for_everybody_but_the_steps(store: Arc<dyn Store>) {
    let kept = row(id("a", 1), instant(0), "{}");
    put(&*store, &kept).await;
    put(&*store, &settled(kept.clone(), Vec::new())).await;
    let gone = purged(kept.clone(), SystemClock.now());
    assert_eq!(put(&*store, &gone).await.row, None);
    for which in [push(&kept.id), newest(&kept.id)] {
        assert_eq!(store.get(&which).await.unwrap(), None);
        assert_eq!(found(&*store, &which).await, Some(gone.clone()), "whoever opens the next round must see it");
        let applied = store.apply(&which, asking(|_, _| decided(Did::UnknownPush, Change::None))).await.unwrap();
        assert_eq!(applied.row, None);
    }
    assert_eq!(listed(&*store, 10).await, []);
    let next = row(id("a", 2), instant(9), "next");
    assert_eq!(put(&*store, &next).await.row.as_deref(), Some(&next));
    assert_eq!(listed(&*store, 10).await, [(next.id.clone(), next.opened)]);
    assert_eq!((get(&*store, &kept.id).await, get(&*store, &next.id).await), (None, Some(next)));
    assert!(found(&*store, &push(&kept.id)).await.unwrap().is_purged());
}

async fn what_is_removed_leaves_nothing(store: Arc<dyn Store>) {
    let first = row(id("a", 1), instant(0), "{}");
    let removing = || asking(|_, _| decided(Did::Removed, Change::Remove));
    assert_eq!(store.apply(&push(&first.id), removing()).await.unwrap().did, Did::Removed);
    for again in 0..2 {
        put(&*store, &first).await;
        let applied = store.apply(&push(&first.id), removing()).await.unwrap();
        assert_eq!((applied.did, applied.row), (Did::Removed, None), "{again}");
        for which in [push(&first.id), newest(&first.id)] {
            assert_eq!(found(&*store, &which).await, None);
        }
        assert_eq!(listed(&*store, 10).await, []);
    }
}

async fn odd_texts_survive(store: Arc<dyn Store>) {
    let odd = "'\"`\\ \0 \u{1} \r\n\t \u{7f} \u{fffd} 😀 e\u{301} \u{202e} </x> %00 # ? ; -- ";
    let largest = |piece: &str| piece.repeat(limits::WEBHOOK_BYTES_MAX / piece.len());
    let texts =
        [odd.to_owned(), String::new(), " ".to_owned(), largest("x"), largest("ü\""), largest("\\"), largest("日😀")];
    for (n, text) in texts.iter().enumerate() {
        let mut row = row(id(&format!("odd {n}"), 1), instant(0), text);
        row.subject.tag = Some(format!("{odd}{}", "t".repeat(limits::MEMBER_BYTES_MAX - odd.len())));
        row.subject.repository = odd.into();
        row.rule = Some(odd.into());
        put(&*store, &row).await;
        assert!(get(&*store, &row.id).await.as_ref() == Some(&row), "text {n} as inserted");
        row.subject.tag = None;
        row.rule = None;
        put(&*store, &row).await;
        assert!(store.get(&newest(&row.id)).await.unwrap().as_deref() == Some(&row), "text {n} as replaced");
    }
}

async fn the_largest_row_fits(store: Arc<dyn Store>) {
    let mut row = row(id("a", 1), instant(0), &"\"".repeat(limits::WEBHOOK_BYTES_MAX));
    let region = |n: usize| Region::parse(&format!("{n:0>width$}", width = limits::REGION_BYTES_MAX)).unwrap();
    row.regions = (0..limits::REGIONS_MAX).map(region).collect();
    for text in [&mut row.subject.repository, &mut row.subject.digest, &mut row.subject.registry] {
        *text = "\"".repeat(limits::MEMBER_BYTES_MAX);
    }
    let seen = Seen {
        at: instant(0),
        id: "\"".repeat(limits::ID_BYTES_MAX),
        by_hand: false,
        repeats: 9,
        repeated: Some(instant(1)),
    };
    row.arrived = row.regions.iter().map(|region| (region.clone(), seen.clone())).collect();
    row.unawaited = (200..200 + limits::REGIONS_MAX).map(|n| (region(n), seen.clone())).collect();
    row.before = row.regions.iter().map(|region| (region.clone(), instant(0))).collect();
    put(&*store, &row).await;
    assert!(get(&*store, &row.id).await.as_ref() == Some(&row));
}

/// A newer build's members, at any depth, outlive a change by this one (A16).
async fn members_that_this_build_does_not_know_survive(store: Arc<dyn Store>) {
    let mut text: serde_json::Value = serde_json::from_str(&record::encode(&row(id("a", 1), instant(0), ""))).unwrap();
    text["row"]["new"] = serde_json::json!({ "deep": [1, null, "x"] });
    text["row"]["subject"]["newer"] = serde_json::json!(1.5);
    let newer = record::decode(&text.to_string(), "{}".into()).unwrap();
    put(&*store, &newer).await;
    let step = doing(|stored| Change::Put(Row { rule: Some("changed".into()), ..stored.unwrap().clone() }));
    store.apply(&push(&newer.id), step).await.unwrap();
    let stored = get(&*store, &newer.id).await.unwrap();
    assert_eq!(stored.rule.as_deref(), Some("changed"));
    text["row"]["rule"] = "changed".into();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&record::encode(&stored)).unwrap(), text);
}

async fn preparing_again_changes_nothing(store: Arc<dyn Store>) {
    let row = row(id("a", 1), instant(0), "{}");
    for _ in 0..2 {
        let health = store.prepare().await;
        assert_eq!((health.rows, health.queue, health.others), (Ok(()), Ok(()), Vec::new()));
        put(&*store, &row).await;
    }
    assert_eq!(get(&*store, &row.id).await, Some(row));
}

/// Whatever a push owes in whatever order, its steps are applied: the timer behind it never stands in the way.
async fn what_is_owed_comes_and_goes(store: Arc<dyn Store>) {
    let now = SystemClock.now();
    let at = |seconds: u64| after(now, Duration::from_secs(seconds));
    let plain = row(id("a", 1), now, "{}");
    let waiting = |seconds| Row { deadline: at(seconds), ..plain.clone() };
    for next in [
        waiting(3600),
        waiting(60),
        owing(waiting(60), at(1)),
        owing(waiting(60), at(900)),
        settled(waiting(60), Vec::new()),
        owing(waiting(60), at(40)),
        owing(waiting(60), now),
        settled(waiting(60), Vec::new()),
        purged(waiting(60), now),
    ] {
        put(&*store, &next).await;
        assert_eq!(found(&*store, &push(&next.id)).await, Some(next));
    }
}

/// One test for each case and store.
macro_rules! in_every_store {
    ($($case:ident)*) => {
        $crate::store_contract::in_every_store! { memory, memory_store: $($case)* }
        $crate::store_contract::in_every_store! { embedded, embedded_store: $($case)* }
        $crate::store_contract::in_every_store! { azure, azure_store: $($case)* }
    };
    ($module:ident, $fresh:ident: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let $crate::store_contract::Fresh { store, _keep } = $crate::store_contract::$fresh();
                    super::$case(store).await;
                    drop(_keep);
                }
            )*
        }
    };
}

pub(crate) use in_every_store;

in_every_store! {
    a_step_that_was_applied_is_there
    a_step_that_changes_nothing_leaves_all_as_it_was
    of_many_steps_at_once_all_count
    reads_see_what_was_answered
    the_newest_round_is_the_highest
    of_many_who_open_the_next_round_one_does
    rows_of_other_keys_stay_as_they_are
    a_purged_push_is_gone_for_everybody_but_the_steps
    what_is_removed_leaves_nothing
    odd_texts_survive
    the_largest_row_fits
    members_that_this_build_does_not_know_survive
    preparing_again_changes_nothing
    what_is_owed_comes_and_goes
}

pub(crate) fn memory_store() -> Fresh {
    Fresh { store: Arc::new(MemoryStore::new(Arc::new(SystemClock))), _keep: Box::new(()) }
}

pub(crate) fn embedded_store() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path().join("store.db"), Arc::new(SystemClock)).unwrap();
    Fresh { store: Arc::new(store), _keep: Box::new(folder) }
}

/// A process of the app called `app` on an account.
pub(crate) fn azure_on(connection_string: &str, app: &str, seed: u64) -> AzureStore {
    let (connection, names) = (open(connection_string), Names::default());
    let (table, queue) = (Table::new(&connection, &names.table), TimerQueue::new(&connection, &names));
    AzureStore::new(Arc::new(table), Arc::new(queue), storage_clock(), app.into(), seed)
}

pub(crate) fn azure_store() -> Fresh {
    Fresh { store: Arc::new(azure_on(&azurite().account(), "app", 1)), _keep: Box::new(()) }
}
