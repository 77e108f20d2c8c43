//! What every store must say of what is owed.

use std::sync::Arc;
use std::time::Duration;

use global_webhook::clock::{Clock as _, SystemClock, after};
use global_webhook::push::{Change, Row};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::{Census, Store};

use crate::samples::{doing, id, owing, purged, row, settled};
use crate::store_contract::{in_every_store, push, put};

async fn census(store: &dyn Store) -> (u64, u64) {
    let Census { waiting, owed } = store.census().await.unwrap().expect("it counts");
    (waiting, owed)
}

/// A push whose deadline is some minutes off.
fn fresh(name: &str) -> Row {
    row(id(name, 1), SystemClock.now(), "{}")
}

async fn what_is_owed_is_counted(store: Arc<dyn Store>) {
    assert_eq!(census(&*store).await, (0, 0));
    let (one, two) = (fresh("one"), fresh("two"));
    let later = after(SystemClock.now(), Duration::from_secs(60));
    for (next, counted) in [
        (one.clone(), (1, 0)),
        (two.clone(), (2, 0)),
        (one.clone(), (2, 0)),
        (owing(one.clone(), later), (1, 1)),
        (owing(two.clone(), later), (0, 2)),
        (settled(one.clone(), Vec::new()), (0, 1)),
        (owing(one.clone(), later), (0, 2)),
        (settled(two.clone(), Vec::new()), (0, 1)),
        (settled(one.clone(), Vec::new()), (0, 0)),
        (purged(one.clone(), SystemClock.now()), (0, 0)),
    ] {
        put(&*store, &next).await;
        assert_eq!(census(&*store).await, counted, "{next:?}");
    }
    // A round beside another counts on its own, and one that is removed no more.
    put(&*store, &row(id("two", 2), SystemClock.now(), "{}")).await;
    assert_eq!(census(&*store).await, (1, 0));
    let gone = settled(row(id("two", 2), SystemClock.now(), "{}"), Vec::new());
    put(&*store, &gone).await;
    store.apply(&push(&gone.id), doing(|_| Change::Remove)).await.unwrap();
    assert_eq!(census(&*store).await, (0, 0));
}

in_every_store! {
    what_is_owed_is_counted
}

/// Whoever opens a file counts what is in it, whatever was written before somebody asks.
#[tokio::test]
async fn an_embedded_store_counts_what_it_finds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let later = after(SystemClock.now(), Duration::from_secs(60));
    {
        let store = EmbeddedStore::open(&path, Arc::new(SystemClock)).unwrap();
        for name in ["a", "b", "\"phase\":{\"waiting\""] {
            put(&store, &fresh(name)).await;
        }
        put(&store, &owing(fresh("c"), later)).await;
        put(&store, &settled(fresh("d"), Vec::new())).await;
        put(&store, &purged(fresh("e"), later)).await;
    }
    let store = EmbeddedStore::open(&path, Arc::new(SystemClock)).unwrap();
    assert_eq!(census(&store).await, (3, 1));
    put(&store, &owing(fresh("b"), later)).await;
    assert_eq!(census(&store).await, (2, 2));
}
