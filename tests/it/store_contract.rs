//! What every [`Store`] must do. One line of `store_contract!` at the end runs all cases against one implementation.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeZone;
use global_webhook::clock::{Instant, SystemClock, after};
use global_webhook::push::arrival::Correlation;
use global_webhook::push::{Key, Phase, PushId, Region, Row, Subject};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::memory::MemoryStore;
use global_webhook::store::table::TableStore;
use global_webhook::store::{Expected, Put, Store, Version, Versioned};

/// An empty store, and what must live as long as it does.
pub(crate) struct Fresh {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

pub(crate) fn id(name: &str, round: u32) -> PushId {
    PushId { key: Key::of(&[name]), round }
}

pub(crate) fn instant(seconds: i64) -> Instant {
    chrono::Utc.timestamp_opt(1_760_000_000 + seconds, 123_000_000).unwrap()
}

pub(crate) fn row(id: PushId, opened: Instant, payload: &str) -> Row {
    Row {
        id,
        correlation: Correlation::Content,
        subject: Subject {
            registry: "demo.azurecr.io".into(),
            repository: "shop/cart".into(),
            tag: Some("v1".into()),
            digest: "sha256:00".into(),
            action: "push".into(),
        },
        payload: payload.into(),
        opened,
        deadline: after(opened, Duration::from_secs(120)),
        regions: vec![Region::parse("northeurope").unwrap()],
        rule: None,
        arrived: BTreeMap::new(),
        earlier: Vec::new(),
        repeated: Vec::new(),
        phase: Phase::Waiting,
        timer: None,
        updated: opened,
        revision: 1,
    }
}

/// Puts a row and says at which version.
async fn written(store: &dyn Store, row: &Row, expected: &Expected) -> Version {
    if *expected == Expected::Absent {
        store.index(&row.id, row.opened).await.unwrap();
    }
    match store.put(row, expected).await.unwrap() {
        Put::Written(version) => version,
        Put::Conflict => panic!("{} conflicts", row.id),
    }
}

async fn add(store: &dyn Store, row: &Row) -> Version {
    written(store, row, &Expected::Absent).await
}

/// All pushes, page by page; panics on one that comes twice.
async fn listed(store: &dyn Store, limit: usize) -> Vec<(PushId, Instant)> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = store.list(limit, cursor.as_deref()).await.unwrap();
        assert!(page.pushes.len() <= limit, "{} on a page of {limit}", page.pushes.len());
        all.extend(page.pushes);
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

async fn a_row_goes_in_once_and_then_at_its_version(store: Arc<dyn Store>) {
    let mut row = row(id("a", 1), instant(0), "{}");
    assert_eq!(store.get(&row.id).await.unwrap(), None);
    assert_eq!(store.latest(&row.id.key).await.unwrap(), None);
    let first = add(&*store, &row).await;
    assert_eq!(store.put(&row, &Expected::Absent).await.unwrap(), Put::Conflict);
    row.payload = "2".into();
    let second = written(&*store, &row, &Expected::Version(first.clone())).await;
    assert_ne!(first, second);
    row.payload = "3".into();
    let third = written(&*store, &row, &Expected::Version(second.clone())).await;
    assert_ne!(second, third);
    assert_eq!(store.get(&row.id).await.unwrap(), Some(Versioned { row, version: third }));
}

async fn the_same_row_again_is_a_new_version(store: Arc<dyn Store>) {
    let row = row(id("a", 1), instant(0), "{}");
    let first = add(&*store, &row).await;
    let second = written(&*store, &row, &Expected::Version(first.clone())).await;
    assert_ne!(first, second);
    assert_eq!(store.put(&row, &Expected::Version(first)).await.unwrap(), Put::Conflict);
}

async fn a_conflict_changes_nothing(store: Arc<dyn Store>) {
    let kept = row(id("a", 1), instant(0), "kept");
    let first = add(&*store, &kept).await;
    let version = written(&*store, &kept, &Expected::Version(first.clone())).await;
    let other = row(id("a", 1), instant(0), "other");
    for expected in [Expected::Absent, Expected::Version(first)] {
        assert_eq!(store.put(&other, &expected).await.unwrap(), Put::Conflict, "{expected:?}");
    }
    let stored = Some(Versioned { row: kept, version: version.clone() });
    assert_eq!(store.get(&other.id).await.unwrap(), stored);
    assert_eq!(store.latest(&other.id.key).await.unwrap(), stored);
    let absent = row(id("b", 1), instant(0), "absent");
    assert_eq!(store.put(&absent, &Expected::Version(version)).await.unwrap(), Put::Conflict);
    assert_eq!(store.get(&absent.id).await.unwrap(), None);
}

async fn of_many_writers_one_wins(store: Arc<dyn Store>) {
    let push = id("a", 1);
    store.index(&push, instant(0)).await.unwrap();
    let mut expected = Expected::Absent;
    for round in 0..6 {
        let writers: Vec<_> = (0..50)
            .map(|writer| {
                let (store, expected) = (Arc::clone(&store), expected.clone());
                let row = row(push.clone(), instant(0), &format!("{round} {writer}"));
                tokio::spawn(async move { (store.put(&row, &expected).await.unwrap(), row) })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            if let (Put::Written(version), row) = writer.await.unwrap() {
                winners.push(Versioned { row, version });
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let winner = winners.remove(0);
        assert_eq!(store.get(&push).await.unwrap(), Some(winner.clone()), "round {round}");
        expected = Expected::Version(winner.version);
    }
}

async fn counting_by_many_loses_no_count(store: Arc<dyn Store>) {
    let push = id("a", 1);
    add(&*store, &row(push.clone(), instant(0), "0")).await;
    let counters: Vec<_> = (0..8)
        .map(|_| {
            let (store, push) = (Arc::clone(&store), push.clone());
            tokio::spawn(async move {
                for _ in 0..5 {
                    loop {
                        let Versioned { mut row, version } = store.get(&push).await.unwrap().unwrap();
                        row.payload = (row.payload.parse::<u32>().unwrap() + 1).to_string();
                        if store.put(&row, &Expected::Version(version)).await.unwrap() != Put::Conflict {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for counter in counters {
        counter.await.unwrap();
    }
    assert_eq!(store.get(&push).await.unwrap().unwrap().row.payload, "40");
}

async fn reads_see_what_was_answered(store: Arc<dyn Store>) {
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut row = row(id(&format!("caller {caller}"), 1), instant(caller), "0");
                let mut version = add(&*store, &row).await;
                for n in 1..10 {
                    row.payload = n.to_string();
                    version = written(&*store, &row, &Expected::Version(version)).await;
                    let stored = Some(Versioned { row: row.clone(), version: version.clone() });
                    assert_eq!(store.get(&row.id).await.unwrap(), stored);
                    assert_eq!(store.latest(&row.id.key).await.unwrap(), stored);
                }
                let pushes = store.list(1000, None).await.unwrap().pushes;
                assert!(pushes.contains(&(row.id.clone(), row.opened)));
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

async fn the_newest_round_is_the_highest(store: Arc<dyn Store>) {
    for round in [2, 10, 1, 9, 100] {
        add(&*store, &row(id("a", round), instant(i64::from(round)), &round.to_string())).await;
    }
    add(&*store, &row(id("b", 7), instant(0), "other key")).await;
    assert_eq!(store.latest(&id("a", 1).key).await.unwrap().unwrap().row.id, id("a", 100));
    for round in [1, 2, 9, 10, 100] {
        let stored = store.get(&id("a", round)).await.unwrap().unwrap();
        assert_eq!(stored.row.payload, round.to_string());
    }
    assert_eq!(store.get(&id("a", 3)).await.unwrap(), None);
}

async fn odd_strings_survive(store: Arc<dyn Store>) {
    let odd = "'\"`\\ \0 \u{1} \r\n\t \u{7f} \u{fffd} 😀 e\u{301} \u{202e} </x> %00 # ? ; -- ";
    let texts = [odd.to_owned(), String::new(), " ".to_owned(), "x".repeat(256 * 1024), "ü\"".repeat(40_000)];
    for (n, text) in texts.iter().enumerate() {
        let mut row = row(id(&format!("odd {n}"), 1), instant(0), text);
        row.subject.tag = Some(format!("{odd}{}", "t".repeat(10_000)));
        row.subject.repository = odd.into();
        row.rule = Some(odd.into());
        let version = add(&*store, &row).await;
        let stored = Some(Versioned { row: row.clone(), version: version.clone() });
        assert!(store.get(&row.id).await.unwrap() == stored, "text {n} as inserted");
        row.subject.tag = None;
        row.payload = "small again".into();
        let version = written(&*store, &row, &Expected::Version(version)).await;
        let stored = Some(Versioned { row: row.clone(), version });
        assert!(store.latest(&row.id.key).await.unwrap() == stored, "text {n} as replaced");
    }
}

async fn a_row_is_removed_only_at_its_version(store: Arc<dyn Store>) {
    let row = row(id("a", 1), instant(0), "{}");
    let first = add(&*store, &row).await;
    let second = written(&*store, &row, &Expected::Version(first.clone())).await;
    assert!(!store.remove(&row, &first).await.unwrap());
    assert!(store.get(&row.id).await.unwrap().is_some());
    assert!(store.remove(&row, &second).await.unwrap());
    assert_eq!(store.get(&row.id).await.unwrap(), None);
    assert_eq!(store.latest(&row.id.key).await.unwrap(), None);
    assert_eq!(listed(&*store, 10).await, []);
    assert!(!store.remove(&row, &second).await.unwrap());
    assert_eq!(store.put(&row, &Expected::Version(second.clone())).await.unwrap(), Put::Conflict);
    let again = add(&*store, &row).await;
    assert!(again != first && again != second);
    assert!(!store.remove(&row, &second).await.unwrap());
}

async fn rows_of_other_keys_stay_as_they_are(store: Arc<dyn Store>) {
    let mut others = Vec::new();
    for round in [1, 3] {
        others.push(row(id("a", round), instant(5), "same key"));
        others.push(row(id("b", round), instant(5), "other key"));
    }
    let mut versions = Vec::new();
    for row in &others {
        versions.push(add(&*store, row).await);
    }
    let mut mine = row(id("a", 2), instant(5), "mine");
    let version = add(&*store, &mine).await;
    mine.payload = "changed".into();
    let version = written(&*store, &mine, &Expected::Version(version)).await;
    assert!(store.remove(&mine, &version).await.unwrap());
    for (row, version) in others.into_iter().zip(versions) {
        let id = row.id.clone();
        assert_eq!(store.get(&id).await.unwrap(), Some(Versioned { row, version }));
    }
    assert_eq!(listed(&*store, 10).await.len(), 4);
}

async fn the_list_is_newest_first_whatever_the_page(store: Arc<dyn Store>) {
    assert_eq!(store.list(10, None).await.unwrap().next, None, "an empty store has one empty page");
    let mut all = BTreeSet::new();
    for n in 0..23 {
        // Written out of order; some opened at the same instant.
        let push = id(&format!("push {n}"), 1);
        let opened = instant((n * 7 % 23) / 2);
        add(&*store, &row(push.clone(), opened, "{}")).await;
        all.insert((push, opened));
    }
    for limit in [1, 5, 22, 23, 24, 1000] {
        let pushes = listed(&*store, limit).await;
        assert!(pushes.is_sorted_by(|a, b| a.1 >= b.1), "pages of {limit}: {pushes:?}");
        assert_eq!(pushes.into_iter().collect::<BTreeSet<_>>(), all, "pages of {limit}");
    }
}

async fn a_page_stays_while_pushes_come_and_go(store: Arc<dyn Store>) {
    let mut versions = Vec::new();
    for n in 0..10 {
        let row = row(id(&format!("push {n}"), 1), instant(n), "{}");
        versions.push((add(&*store, &row).await, row));
    }
    let first = store.list(4, None).await.unwrap();
    assert_eq!(first.pushes.iter().map(|p| p.1).collect::<Vec<_>>(), [9, 8, 7, 6].map(instant));
    let (version, last_of_page) = &versions[6];
    assert!(store.remove(last_of_page, version).await.unwrap());
    add(&*store, &row(id("newer", 1), instant(100), "{}")).await;
    let second = store.list(100, first.next.as_deref()).await.unwrap();
    assert_eq!(second.pushes.iter().map(|p| p.1).collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0].map(instant));
    assert_eq!(second.next, None);
}

async fn a_foreign_cursor_begins_at_the_newest(store: Arc<dyn Store>) {
    for n in 0..3 {
        add(&*store, &row(id(&format!("push {n}"), 1), instant(n), "{}")).await;
    }
    let newest = store.list(2, None).await.unwrap();
    assert_eq!(newest.pushes.len(), 2);
    for cursor in ["", " ", "nonsense", "12 nonsense", "🙂", "\0", "'; --", &"9".repeat(10_000)] {
        let page = store.list(2, Some(cursor)).await.unwrap();
        assert_eq!(page, newest, "{:?}", cursor.get(..20).unwrap_or(cursor));
    }
}

async fn an_orphan_of_the_index_hides_nothing(store: Arc<dyn Store>) {
    let rows: Vec<Row> = (0..3).map(|n| row(id(&format!("push {n}"), 1), instant(n), "{}")).collect();
    for row in &rows {
        add(&*store, row).await;
    }
    for n in 0..3 {
        store.index(&id(&format!("orphan {n}"), 1), instant(n)).await.unwrap();
    }
    assert_eq!(store.get(&id("orphan 0", 1)).await.unwrap(), None);
    assert_eq!(store.latest(&id("orphan 0", 1).key).await.unwrap(), None);
    let pushes = listed(&*store, 2).await;
    assert!(pushes.is_sorted_by(|a, b| a.1 >= b.1), "{pushes:?}");
    for row in &rows {
        assert!(pushes.contains(&(row.id.clone(), row.opened)), "{} is missing", row.id);
    }
    // The process that made the orphan comes back and writes its row after all.
    add(&*store, &row(id("orphan 1", 1), instant(1), "late")).await;
    assert!(listed(&*store, 2).await.contains(&(id("orphan 1", 1), instant(1))));
}

async fn indexing_again_changes_nothing(store: Arc<dyn Store>) {
    let row = row(id("a", 1), instant(0), "{}");
    store.index(&row.id, row.opened).await.unwrap();
    let version = add(&*store, &row).await;
    store.index(&row.id, row.opened).await.unwrap();
    assert_eq!(listed(&*store, 10).await, [(row.id.clone(), row.opened)]);
    assert_eq!(store.get(&row.id).await.unwrap(), Some(Versioned { row, version }));
}

async fn preparing_again_changes_nothing(store: Arc<dyn Store>) {
    store.prepare().await.unwrap();
    let row = row(id("a", 1), instant(0), "{}");
    add(&*store, &row).await;
    store.prepare().await.unwrap();
    assert_eq!(store.get(&row.id).await.unwrap().unwrap().row, row);
}

/// Runs every case against the stores that `$fresh` makes.
macro_rules! store_contract {
    ($module:ident, $fresh:path) => {
        store_contract! { $module, $fresh:
            a_row_goes_in_once_and_then_at_its_version
            the_same_row_again_is_a_new_version
            a_conflict_changes_nothing
            of_many_writers_one_wins
            counting_by_many_loses_no_count
            reads_see_what_was_answered
            the_newest_round_is_the_highest
            odd_strings_survive
            a_row_is_removed_only_at_its_version
            rows_of_other_keys_stay_as_they_are
            the_list_is_newest_first_whatever_the_page
            a_page_stays_while_pushes_come_and_go
            a_foreign_cursor_begins_at_the_newest
            an_orphan_of_the_index_hides_nothing
            indexing_again_changes_nothing
            preparing_again_changes_nothing
        }
    };
    ($module:ident, $fresh:path: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let super::Fresh { store, _keep } = $fresh();
                    super::$case(store).await;
                    drop(_keep);
                }
            )*
        }
    };
}

store_contract!(memory, super::memory_store);
store_contract!(embedded, super::embedded_store);
store_contract!(table, super::table_store);

fn memory_store() -> Fresh {
    Fresh { store: Arc::new(MemoryStore::default()), _keep: Box::new(()) }
}

fn embedded_store() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = EmbeddedStore::open(folder.path().join("store.db"), Arc::new(SystemClock)).unwrap();
    Fresh { store: Arc::new(store), _keep: Box::new(folder) }
}

fn table_store() -> Fresh {
    let store = TableStore::new(&crate::azure_table::open(&crate::support::azurite::azurite().account()));
    Fresh { store: Arc::new(store), _keep: Box::new(()) }
}
