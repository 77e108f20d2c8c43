//! What every [`Wakes`] must do beside: name what is due. One line of `wakes_contract!` at the end runs all cases against one
//! implementation.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use global_webhook::clock::{Clock as _, Instant, SystemClock};
use global_webhook::push::{Change, Did, PushId, Row};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::memory::MemoryStore;
use global_webhook::store::{Wakes, Which};

use crate::samples::{asking, decided, id, owing, purged, putting, row, settled};

/// How long a case waits for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

/// A store, and what must live as long as it does.
struct Fresh {
    store: Arc<dyn Wakes>,
    _keep: Box<dyn Any + Send + Sync>,
}

/// An instant so many milliseconds from now.
fn in_millis(millis: i64) -> Instant {
    SystemClock.now() + chrono::Duration::milliseconds(millis)
}

fn waiting(name: &str, deadline: Instant) -> Row {
    Row { deadline, ..row(id(name, 1), in_millis(0), "{}") }
}

async fn put(store: &dyn Wakes, row: &Row) {
    store.apply(&Which::Push(row.id.clone()), putting(row)).await.unwrap();
}

async fn due(store: &dyn Wakes) -> Vec<PushId> {
    store.due(100).await.unwrap()
}

/// Waits until something is due.
async fn next(store: &dyn Wakes) -> Vec<PushId> {
    let began = Stopwatch::now();
    loop {
        store.ready(LIMIT).await;
        let due = due(store).await;
        if !due.is_empty() {
            return due;
        }
        assert!(began.elapsed() < LIMIT, "nothing was due within {LIMIT:?}");
    }
}

async fn a_push_is_due_at_its_wake_and_not_before(store: Arc<dyn Wakes>) {
    assert_eq!(due(&*store).await, []);
    let deadline = in_millis(300);
    put(&*store, &waiting("a", deadline)).await;
    put(&*store, &waiting("far", in_millis(3_600_000))).await;
    assert_eq!(next(&*store).await, [id("a", 1)]);
    assert!(SystemClock.now() >= deadline);
    assert_eq!(due(&*store).await, [id("a", 1)], "until it was looked at");
    put(&*store, &settled(waiting("a", deadline), Vec::new())).await;
    assert_eq!(due(&*store).await, []);
}

async fn the_longest_overdue_come_first(store: Arc<dyn Wakes>) {
    let now = SystemClock.now();
    for (name, ago) in [("b", 200), ("a", 100), ("c", 300), ("d", 250)] {
        put(&*store, &waiting(name, now - chrono::Duration::milliseconds(ago))).await;
    }
    assert_eq!(due(&*store).await, ["c", "d", "b", "a"].map(|name| id(name, 1)));
    assert_eq!(store.due(2).await.unwrap(), ["c", "d"].map(|name| id(name, 1)));
}

async fn what_a_push_owes_decides_when_it_is_due(store: Arc<dyn Wakes>) {
    let plain = waiting("a", in_millis(-1));
    let is_due = async |row: &Row| {
        put(&*store, row).await;
        due(&*store).await == [id("a", 1)]
    };
    assert!(is_due(&plain).await);
    assert!(!is_due(&owing(plain.clone(), in_millis(60_000))).await);
    assert!(is_due(&owing(plain.clone(), in_millis(-1))).await);
    assert!(!is_due(&settled(plain.clone(), Vec::new())).await);
    assert!(!is_due(&purged(plain.clone(), in_millis(0))).await, "its last trace stays for an hour");
    assert!(is_due(&purged(plain.clone(), in_millis(-3_600_001))).await, "and then somebody must remove it");
    let removing = asking(|_, _| decided(Did::Removed, Change::Remove));
    store.apply(&Which::Push(plain.id.clone()), removing).await.unwrap();
    assert_eq!(due(&*store).await, []);
}

async fn what_was_put_off_comes_later(store: Arc<dyn Wakes>) {
    for (name, ago) in [("a", 200), ("b", 100)] {
        put(&*store, &waiting(name, in_millis(-ago))).await;
    }
    let began = SystemClock.now();
    store.put_off(&id("a", 1), Duration::from_millis(400)).await.unwrap();
    assert_eq!(due(&*store).await, [id("b", 1)]);
    put(&*store, &settled(waiting("b", in_millis(0)), Vec::new())).await;
    assert_eq!(next(&*store).await, [id("a", 1)]);
    assert!(SystemClock.now() - began >= chrono::Duration::milliseconds(400));
    // A write says anew when it is due.
    store.put_off(&id("a", 1), Duration::from_secs(3600)).await.unwrap();
    assert_eq!(due(&*store).await, []);
    put(&*store, &waiting("a", in_millis(-1))).await;
    assert_eq!(due(&*store).await, [id("a", 1)]);
}

async fn putting_off_never_brings_nearer_nor_makes_up(store: Arc<dyn Wakes>) {
    put(&*store, &waiting("far", in_millis(3_600_000))).await;
    put(&*store, &settled(waiting("done", in_millis(0)), Vec::new())).await;
    for name in ["far", "done", "never written"] {
        store.put_off(&id(name, 1), Duration::ZERO).await.unwrap();
    }
    // What comes up in between would come first.
    put(&*store, &waiting("marker", in_millis(100))).await;
    assert_eq!(next(&*store).await, [id("marker", 1)]);
}

async fn a_sooner_push_ends_the_wait(store: Arc<dyn Wakes>) {
    let began = Stopwatch::now();
    store.ready(Duration::from_millis(100)).await;
    assert!(began.elapsed() < LIMIT, "waited for longer than it was told");
    put(&*store, &waiting("far", in_millis(3_600_000))).await;
    let waiter = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            loop {
                store.ready(10 * LIMIT).await;
                let due = due(&*store).await;
                if !due.is_empty() {
                    return due;
                }
            }
        }
    });
    put(&*store, &waiting("near", in_millis(300))).await;
    let due = tokio::time::timeout(LIMIT, waiter).await.expect("a sooner push must end the wait").unwrap();
    assert_eq!(due, [id("near", 1)]);
}

/// Runs every case against the stores that `$fresh` makes.
macro_rules! wakes_contract {
    ($module:ident, $fresh:path) => {
        wakes_contract! { $module, $fresh:
            a_push_is_due_at_its_wake_and_not_before
            the_longest_overdue_come_first
            what_a_push_owes_decides_when_it_is_due
            what_was_put_off_comes_later
            putting_off_never_brings_nearer_nor_makes_up
            a_sooner_push_ends_the_wait
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

wakes_contract!(memory, super::memory_store);
wakes_contract!(embedded, super::embedded_store);

fn memory_store() -> Fresh {
    Fresh { store: Arc::new(MemoryStore::new(Arc::new(SystemClock))), _keep: Box::new(()) }
}

fn embedded_store() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path().join("store.db"), Arc::new(SystemClock)).unwrap();
    Fresh { store: Arc::new(store), _keep: Box::new(folder) }
}
