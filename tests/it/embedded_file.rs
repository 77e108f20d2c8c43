//! What the embedded store promises of its file, and of its clock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use global_webhook::clock::{Clock as _, SystemClock, after};
use global_webhook::push::{Change, Did, Row};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::{Failure, Search, Store as _, Wakes as _, Which};

use crate::samples::{asking, decided, doing, id, instant, owing, putting, row, settled};

pub(crate) fn open(path: &Path) -> Result<EmbeddedStore, Failure> {
    EmbeddedStore::open(path, Arc::new(SystemClock))
}

fn refusal(path: &Path) -> String {
    match open(path) {
        Err(Failure::Corrupt(cause)) => cause,
        Err(Failure::Unavailable(cause)) => panic!("an operator has to act on: {cause}"),
        Ok(_) => panic!("was opened"),
    }
}

async fn put(store: &EmbeddedStore, row: &Row) {
    store.apply(&Which::Newest(row.id.key.clone()), putting(row)).await.unwrap();
}

fn plain(name: &str) -> Row {
    row(id(name, 1), instant(0), name)
}

#[tokio::test]
async fn everything_survives_closing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let now = SystemClock.now();
    let rows = [
        plain("due"),
        Row { deadline: after(now, Duration::from_secs(3600)), ..plain("waiting") },
        settled(plain("settled"), Vec::new()),
        owing(plain("put off"), now),
    ];
    let store = open(&path).unwrap();
    for row in &rows {
        put(&store, row).await;
    }
    store.put_off(&id("put off", 1), Duration::from_secs(3600)).await.unwrap();
    drop(store);

    let store = open(&path).unwrap();
    for row in &rows {
        assert_eq!(store.get(&Which::Push(row.id.clone())).await.unwrap().as_deref(), Some(row));
    }
    assert_eq!(store.due(10).await.unwrap(), [id("due", 1)]);
    assert_eq!(store.list(&Search::all(10, None)).await.unwrap().rows.len(), 4);
    let step = doing(|row| Change::Put(Row { rule: Some("changed".into()), ..row.unwrap().clone() }));
    let applied = store.apply(&Which::Newest(id("settled", 1).key), step).await.unwrap();
    assert_eq!(applied.row.unwrap().rule.as_deref(), Some("changed"));
}

#[tokio::test]
async fn a_second_owner_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = open(&path).unwrap();
    let cause = refusal(&path);
    assert!(cause.contains("another process") && cause.contains("store.db"), "{cause}");
    drop(first);
    open(&path).unwrap();
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, user_version) in [("other.db", 1), ("another.db", 2)] {
        let path = folder.path().join(name);
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(&format!("CREATE TABLE theirs (x); PRAGMA user_version = {user_version}"))
            .unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(refusal(&path).contains("another program"));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    let path = folder.path().join("newer.db");
    drop(open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 3").unwrap();
    let cause = refusal(&path);
    assert!(cause.contains("newer version") && cause.contains("newer.db"), "{cause}");

    let path = folder.path().join("text.db");
    std::fs::write(&path, "this is no database at all, but long enough to have a header".repeat(100)).unwrap();
    let cause = refusal(&path);
    assert!(cause.contains("damaged") && cause.contains("text.db") && cause.contains("move the file away"), "{cause}");

    assert!(refusal(&folder.path().join("no such folder").join("store.db")).contains("choose a folder"));
}

/// The tables as the first edition made them.
const FIRST_EDITION: &str = "
    CREATE TABLE openings (count INTEGER NOT NULL);
    INSERT INTO openings VALUES (7);
    CREATE TABLE pushes (slot INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, write INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE TABLE timers (slot INTEGER PRIMARY KEY, id INTEGER NOT NULL, receipt INTEGER NOT NULL,
                         dequeues INTEGER NOT NULL, text TEXT NOT NULL);
    CREATE TABLE poison (place INTEGER PRIMARY KEY, text TEXT NOT NULL);
    INSERT INTO pushes VALUES (1, x'00', 1, 'body');
    INSERT INTO timers VALUES (1, 2, 3, 0, 'text');
    PRAGMA application_id = 1094931063;
    PRAGMA user_version = 1;
";

/// What `call` says in the log, on this thread.
fn listening<T>(call: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Sink(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let result = tracing::subscriber::with_default(log, call);
    let said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    (result, said)
}

#[tokio::test]
async fn the_pushes_of_the_first_edition_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(FIRST_EDITION).unwrap();
    for first in [true, false] {
        let (store, said) = listening(|| open(&path).unwrap());
        put(&store, &plain("a")).await;
        assert_eq!(store.list(&Search::all(10, None)).await.unwrap().rows, [plain("a")]);
        let warnings = said.lines().filter(|line| line.contains("WARN") && line.contains("earlier version")).count();
        assert_eq!((said.lines().count(), warnings), if first { (1, 1) } else { (0, 0) }, "{said}");
    }
    let connection = rusqlite::Connection::open(&path).unwrap();
    for (table, rows) in [("pushes_first_edition", 1), ("timers_first_edition", 1), ("poison_first_edition", 0)] {
        let count: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, rows, "{table}");
    }
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn damage_is_named_when_it_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).unwrap();
    for n in 0..200 {
        put(&store, &plain(&n.to_string())).await;
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 20, "{pages} pages");
    bytes[7 * 4096..pages * 4096].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let failure = match open(&path) {
        Err(failure) => failure,
        Ok(store) => store.list(&Search::all(1000, None)).await.unwrap_err(),
    };
    let Failure::Corrupt(cause) = failure else { panic!("an operator has to act on: {failure}") };
    assert!(cause.contains("damaged") && cause.contains("store.db"), "{cause}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_corrupt_and_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).unwrap();
    put(&store, &plain("a")).await;
    drop(store);
    rusqlite::Connection::open(&path).unwrap().execute_batch("UPDATE pushes SET body = 'x'").unwrap();
    let store = open(&path).unwrap();
    for which in [Which::Push(id("a", 1)), Which::Newest(id("a", 1).key)] {
        let read = store.get(&which).await;
        assert!(matches!(read, Err(Failure::Corrupt(_))), "{read:?}");
        let applied = store.apply(&which, putting(&plain("a"))).await;
        assert!(matches!(applied, Err(Failure::Corrupt(_))), "{applied:?}");
    }
    put(&store, &plain("b")).await;
    let page = store.list(&Search::all(10, None)).await.unwrap();
    assert_eq!((page.rows, page.unreadable), (vec![plain("b")], 1));
    // It is due like any other, and can be put off like any other.
    store.put_off(&id("a", 1), Duration::from_secs(60)).await.unwrap();
    assert_eq!(store.due(10).await.unwrap(), [id("b", 1)]);
}

#[tokio::test]
async fn one_operation_that_fails_spares_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(open(&path).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON pushes WHEN new.payload LIKE '%wicked%'
             BEGIN SELECT RAISE(ROLLBACK, 'refused'); END;",
        )
        .unwrap();
    let store = Arc::new(open(&path).unwrap());
    let puts: Vec<_> = (0..64)
        .map(|n| {
            let store = Arc::clone(&store);
            let (name, panics) = match n % 8 {
                3 => (format!("wicked {n}"), false),
                5 => (format!("panic {n}"), true),
                _ => (format!("good {n}"), false),
            };
            tokio::spawn(async move {
                let (which, row) = (Which::Push(id(&name, 1)), plain(&name));
                let step = asking(move |_, _| {
                    assert!(!panics, "a step that ends in a panic");
                    decided(Did::Opened, Change::Put(row.clone()))
                });
                let end = store.apply(&which, step).await;
                (name, end, store.get(&which).await.unwrap().is_some())
            })
        })
        .collect();
    for put in puts {
        let (name, end, stored) = put.await.unwrap();
        assert_eq!((end.is_ok(), stored), (name.starts_with("good"), name.starts_with("good")), "{name}: {end:?}");
    }
    put(&store, &plain("after")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_named_within_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db")).unwrap();
    let waiting = |name: &str, delay| Row { deadline: after(SystemClock.now(), delay), ..plain(name) };
    put(&store, &waiting("far", Duration::from_secs(3600))).await;
    let mut late = Vec::new();
    for n in 0..20 {
        let (name, delay) = (format!("near {n}"), Duration::from_millis(20 + n));
        let began = Stopwatch::now();
        put(&store, &waiting(&name, delay)).await;
        let mut due = Vec::new();
        while due.is_empty() {
            store.ready(Duration::from_secs(60)).await;
            due = store.due(10).await.unwrap();
        }
        late.push(began.elapsed().saturating_sub(delay));
        assert_eq!(due, [id(&name, 1)]);
        put(&store, &settled(waiting(&name, delay), Vec::new())).await;
    }
    late.sort();
    // The middle one, so that a busy machine does not matter; writing took its share as well.
    assert!(late[10] < Duration::from_millis(50), "{late:?}");
}

#[tokio::test]
async fn what_is_remembered_of_the_file_is_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).unwrap();
    let wait = |round, n: i64| Row { rule: Some(n.to_string()), ..row(id("a", round), instant(n), "{}") };
    // The newest round by its key and by its name, an earlier one by its name, and removals in between.
    let steps = [(1, 1), (1, 2), (2, 3), (1, 4), (2, 5), (3, 6), (2, 7), (3, 8)];
    for (round, n) in steps {
        let next = wait(round, n);
        store.apply(&Which::Push(next.id.clone()), putting(&next)).await.unwrap();
    }
    let removing = asking(|_, _| decided(Did::Removed, Change::Remove));
    store.apply(&Which::Push(id("a", 3)), removing).await.unwrap();
    let step = doing(|row| Change::Put(Row { rule: Some(format!("{:?}", row.unwrap().rule)), ..row.unwrap().clone() }));
    let applied = store.apply(&Which::Newest(id("a", 1).key), step).await.unwrap().row.unwrap();
    assert_eq!((applied.id.clone(), applied.rule.as_deref()), (id("a", 2), Some("Some(\"7\")")));
    drop(store);
    assert_eq!(open(&path).unwrap().get(&Which::Newest(id("a", 1).key)).await.unwrap(), Some(applied));
}
