//! What the embedded store promises of its file, and of its clock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use global_webhook::clock::SystemClock;
use global_webhook::push::state::{Row, TimerRef};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::{Expected, Failure, Put, Store, Version};
use global_webhook::timers::embedded::EmbeddedTimers;
use global_webhook::timers::{Armed, Inbox, Timers};

use crate::store_contract::{id, instant, row};
use crate::timers_contract::timer;

pub(crate) fn open(path: &Path) -> Result<(EmbeddedStore, EmbeddedTimers), Failure> {
    EmbeddedStore::open(path, Arc::new(SystemClock))
}

fn refusal(path: &Path) -> String {
    match open(path) {
        Err(Failure::Corrupt(cause)) => cause,
        Err(Failure::Unavailable(cause)) => panic!("an operator has to act on: {cause}"),
        Ok(_) => panic!("was opened"),
    }
}

async fn put(store: &EmbeddedStore, name: &str, expected: Expected) -> Version {
    match store.put(&row(id(name, 1), instant(0), name), &expected).await.unwrap() {
        Put::Written(version) => version,
        Put::Conflict => panic!("{name} conflicts"),
    }
}

#[tokio::test]
async fn everything_survives_closing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (store, timers) = open(&path).unwrap();
    let version = put(&store, "a", Expected::Absent).await;
    let armed = timers.arm(&timer("a"), Duration::from_secs(3600)).await.unwrap();
    timers.arm(&timer("b"), Duration::ZERO).await.unwrap();
    timers.set_aside("foreign").await.unwrap();
    let held = timers.receive(1, Duration::from_secs(3600)).await.unwrap().remove(0);
    drop((store, timers));

    let (store, timers) = open(&path).unwrap();
    assert_eq!(store.get(&id("a", 1)).await.unwrap().unwrap().version, version);
    assert_eq!(timers.poisoned(10).await.unwrap(), ["foreign"]);
    assert_eq!(timers.receive(32, Duration::ZERO).await.unwrap(), [], "a lease survives closing");
    timers.release(&held, Duration::ZERO).await.unwrap();
    assert_eq!(timers.receive(32, Duration::ZERO).await.unwrap()[0].dequeue_count, 2);
    assert!(timers.shift(&armed, &timer("c"), Duration::ZERO).await.unwrap().is_some());
    put(&store, "a", Expected::Version(version)).await;
}

#[tokio::test]
async fn versions_and_receipts_never_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (store, timers) = open(&path).unwrap();
        let version = put(&store, "a", Expected::Absent).await;
        assert!(store.remove(&row(id("a", 1), instant(0), "a"), &version).await.unwrap());
        let armed = timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
        timers.disarm(&armed).await.unwrap();
        seen.extend([version.0, armed.id]);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
}

#[tokio::test]
async fn a_second_owner_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = open(&path).unwrap();
    let cause = refusal(&path);
    assert!(cause.contains("another process") && cause.contains("store.db"), "{cause}");
    let (store, timers) = first;
    drop(store);
    refusal(&path);
    drop(timers);
    open(&path).unwrap();
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(refusal(&path).contains("another program"));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let path = folder.path().join("newer.db");
    drop(open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let cause = refusal(&path);
    assert!(cause.contains("newer version") && cause.contains("newer.db"), "{cause}");

    let path = folder.path().join("text.db");
    std::fs::write(&path, "this is no database at all, but long enough to have a header".repeat(100)).unwrap();
    let cause = refusal(&path);
    assert!(cause.contains("damaged") && cause.contains("text.db") && cause.contains("move the file away"), "{cause}");

    assert!(refusal(&folder.path().join("no such folder").join("store.db")).contains("choose a folder"));
}

#[tokio::test]
async fn damage_is_named_when_it_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (store, timers) = open(&path).unwrap();
    for n in 0..200 {
        put(&store, &n.to_string(), Expected::Absent).await;
    }
    drop((store, timers));
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 20, "{pages} pages");
    bytes[7 * 4096..pages * 4096].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let failure = match open(&path) {
        Err(failure) => failure,
        Ok((store, _timers)) => store.list(1000, None).await.unwrap_err(),
    };
    let Failure::Corrupt(cause) = failure else { panic!("an operator has to act on: {failure}") };
    assert!(cause.contains("damaged") && cause.contains("store.db"), "{cause}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (store, timers) = open(&path).unwrap();
    put(&store, "a", Expected::Absent).await;
    drop((store, timers));
    rusqlite::Connection::open(&path).unwrap().execute_batch("UPDATE pushes SET body = 'x'").unwrap();
    let (store, _timers) = open(&path).unwrap();
    for read in [store.get(&id("a", 1)).await, store.latest(&id("a", 1).key).await] {
        assert!(matches!(read, Err(Failure::Corrupt(_))), "{read:?}");
    }
    // The index still has it, and others are not disturbed.
    assert_eq!(store.list(10, None).await.unwrap().pushes.len(), 1);
    put(&store, "b", Expected::Absent).await;
}

#[tokio::test]
async fn one_operation_that_fails_spares_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(open(&path).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON pushes WHEN new.body LIKE '%wicked%'
             BEGIN SELECT RAISE(ROLLBACK, 'refused'); END;",
        )
        .unwrap();
    let (store, timers) = open(&path).unwrap();
    let store = Arc::new(store);
    let puts: Vec<_> = (0..64)
        .map(|n| {
            let store = Arc::clone(&store);
            let name = if n % 8 == 3 { format!("wicked {n}") } else { format!("good {n}") };
            tokio::spawn(async move {
                let end = store.put(&row(id(&name, 1), instant(n), &name), &Expected::Absent).await;
                let stored = store.get(&id(&name, 1)).await.unwrap().is_some();
                (name, end, stored)
            })
        })
        .collect();
    for put in puts {
        let (name, end, stored) = put.await.unwrap();
        assert_eq!(matches!(end, Ok(Put::Written(_))), name.starts_with("good"), "{name}: {end:?}");
        assert_eq!(stored, name.starts_with("good"), "{name}");
    }
    timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_fires_within_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, timers) = open(&folder.path().join("store.db")).unwrap();
    let mut late = Vec::new();
    for n in 0..20 {
        let delay = Duration::from_millis(20 + n);
        let began = Stopwatch::now();
        timers.arm(&timer("far"), Duration::from_secs(3600)).await.unwrap();
        timers.arm(&timer("near"), delay).await.unwrap();
        let mut received = Vec::new();
        while received.is_empty() {
            timers.ready(Duration::from_secs(60)).await;
            received = timers.receive(1, Duration::from_secs(60)).await.unwrap();
        }
        late.push(began.elapsed().saturating_sub(delay));
        timers.disarm(&received[0].handle).await.unwrap();
    }
    late.sort();
    // The middle one, so that a busy machine does not matter; arming took its share as well.
    assert!(late[10] < Duration::from_millis(50), "{late:?}");
}

fn naming(name: &str, timer: &Armed) -> Row {
    let timer = TimerRef { id: timer.id.clone(), receipt: timer.receipt.clone(), due: instant(0) };
    Row { timer: Some(timer), ..row(id(name, 1), instant(0), name) }
}

async fn ids(timers: &EmbeddedTimers) -> Vec<String> {
    let received = timers.receive(32, Duration::from_secs(60)).await.unwrap();
    received.into_iter().map(|received| received.handle.id).collect()
}

#[tokio::test]
async fn a_timer_for_a_row_comes_and_goes_with_the_row() {
    let folder = tempfile::tempdir().unwrap();
    let (store, timers) = open(&folder.path().join("store.db")).unwrap();
    let armed = timers.arm_for_row(&timer("a"), Duration::ZERO).await.unwrap();
    let dropped = timers.arm_for_row(&timer("a"), Duration::ZERO).await.unwrap();
    assert_eq!(ids(&timers).await, Vec::<String>::new(), "no row names it yet");
    let wrong = Expected::Version(Version("1".into()));
    assert_eq!(store.put(&naming("a", &armed), &wrong).await.unwrap(), Put::Conflict);
    assert_eq!(ids(&timers).await, Vec::<String>::new(), "a conflict writes neither");
    let Put::Written(version) = store.put(&naming("a", &armed), &Expected::Absent).await.unwrap() else {
        panic!("conflicts")
    };
    assert_eq!(ids(&timers).await, std::slice::from_ref(&armed.id), "the write of the row brings it");
    timers.disarm(&dropped).await.unwrap();

    let later = timers.arm_for_row(&timer("b"), Duration::from_secs(3600)).await.unwrap();
    let Put::Written(second) = store.put(&naming("b", &later), &Expected::Absent).await.unwrap() else {
        panic!("conflicts")
    };
    let moved = timers.shift_for_row(&later, &timer("b"), Duration::from_secs(1800)).await.unwrap().unwrap();
    let sooner = timers.shift_for_row(&moved, &timer("b"), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(ids(&timers).await, Vec::<String>::new(), "the row still names the old one");
    let expected = Expected::Version(second);
    assert!(matches!(store.put(&naming("b", &sooner), &expected).await.unwrap(), Put::Written(_)));
    assert_eq!(ids(&timers).await, std::slice::from_ref(&sooner.id));
    assert_eq!(timers.shift(&later, &timer("b"), Duration::ZERO).await.unwrap(), None, "the old one is gone");
    // A second write of a row that names the timer does not place it again.
    assert!(matches!(store.put(&naming("a", &armed), &Expected::Version(version)).await.unwrap(), Put::Written(_)));
    assert_eq!(ids(&timers).await, Vec::<String>::new());
}
