//! What only the Table Storage store promises, on Azurite.

use std::sync::Arc;

use global_webhook::clock::SystemClock;
use global_webhook::config::Source;
use global_webhook::config::storage::account;
use global_webhook::limits;
use global_webhook::push::{Key, Row, Subject};
use global_webhook::store::azure::Connection;
use global_webhook::store::table::{TABLE, TableStore};
use global_webhook::store::{Expected, Put, Store as _, Version};

use crate::raw::Raw;
use crate::store_contract::{self, id, instant};
use crate::support::azurite::azurite;

/// Opens the account of a connection string.
pub(crate) fn open(connection_string: &str) -> Connection {
    let source = Source::new([("AzureWebJobsStorage".to_owned(), connection_string.to_owned())]);
    let mut faults = Vec::new();
    let account = account(&source, &mut faults);
    assert_eq!(faults, []);
    Connection::open(&account.unwrap(), Arc::new(SystemClock)).unwrap()
}

/// A row with texts that have to be escaped in one place or another.
pub(crate) fn row(name: &str, round: u32, payload: &str) -> Row {
    let plain = store_contract::row(id(name, round), instant(0), payload);
    let subject = Subject { tag: Some("it's v1 – ü".into()), ..plain.subject };
    Row { subject, ..plain }
}

pub(crate) async fn written(store: &TableStore, row: &Row, expected: Expected) -> Version {
    match store.put(row, &expected).await.unwrap() {
        Put::Written(version) => version,
        Put::Conflict => panic!("a conflict"),
    }
}

#[tokio::test]
async fn versions_are_the_same_however_they_are_learned() {
    let store = TableStore::new(&open(&azurite().account()));
    let row = row("a", 1, "{}");
    let first = written(&store, &row, Expected::Absent).await;
    assert_eq!(store.get(&row.id).await.unwrap().unwrap().version, first);
    let second = written(&store, &row, Expected::Version(first.clone())).await;
    assert_ne!(first, second);
    assert_eq!(store.get(&row.id).await.unwrap().unwrap().version, second);
    assert_eq!(store.latest(&row.id.key).await.unwrap().unwrap().version, second);
    assert_eq!(store.put(&row, &Expected::Version(first.clone())).await.unwrap(), Put::Conflict);
    assert!(!store.remove(&row, &first).await.unwrap());
    assert!(store.remove(&row, &second).await.unwrap());
    assert!(!store.remove(&row, &second).await.unwrap());
    assert_eq!(store.put(&row, &Expected::Version(second)).await.unwrap(), Put::Conflict);
    assert_eq!(store.put(&row, &Expected::Version(Version("rubbish".into()))).await.unwrap(), Put::Conflict);
}

#[tokio::test]
async fn a_long_history_of_writes_keeps_its_last_version() {
    let store = TableStore::new(&open(&azurite().account()));
    let row = row("a", 1, "{}");
    let mut version = written(&store, &row, Expected::Absent).await;
    for _ in 0..20 {
        version = written(&store, &row, Expected::Version(version)).await;
    }
    assert_eq!(store.get(&row.id).await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn the_largest_payloads_survive() {
    let store = TableStore::new(&open(&azurite().account()));
    for (name, piece) in [("quotes", "'\"\\\""), ("mixed", "é日😀'\"\\n"), ("escapes", "\\\\"), ("plain", "a")] {
        let payload = piece.repeat(limits::NOTIFICATION_BYTES_MAX / piece.len());
        let row = row(name, 1, &payload);
        let version = written(&store, &row, Expected::Absent).await;
        assert!(store.get(&row.id).await.unwrap().unwrap().row == row, "{name}");
        assert!(store.latest(&row.id.key).await.unwrap().unwrap().row == row, "{name}");
        let short = Row { payload: "short".into(), ..row };
        written(&store, &short, Expected::Version(version)).await;
        assert_eq!(
            store.get(&short.id).await.unwrap().unwrap().row,
            short,
            "{name}: columns of the longer row are left"
        );
    }
}

#[tokio::test]
async fn people_find_plain_columns() {
    let connection_string = azurite().account();
    let store = TableStore::new(&open(&connection_string));
    let row = row("a", 3, r#"{"action":"push"}"#);
    written(&store, &row, Expected::Absent).await;
    let (status, body) = Raw::of(&connection_string).table("GET", &format!("{TABLE}()"), "", "").await;
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let entity = &body["value"][0];
    assert_eq!(entity["PartitionKey"], row.id.key.as_str());
    assert_eq!(entity["RowKey"], "fffffffc");
    assert_eq!(entity["PushId"], row.id.to_string());
    assert_eq!(entity["Image"], "shop/cart:it's v1 – ü");
    assert_eq!(entity["Phase"], "waiting");
    assert_eq!(entity["OpenedAt"], "2025-10-09T08:53:20.123+00:00");
    assert_eq!(entity["Payload0"], row.payload);
}

#[tokio::test]
async fn the_newest_round_is_found_in_one_request() {
    let connection_string = azurite().account();
    let store = TableStore::new(&open(&connection_string));
    for round in [1, 2, 10, 9] {
        written(&store, &row("a", round, "{}"), Expected::Absent).await;
    }
    let before = azurite().requests(&connection_string).len();
    assert_eq!(store.latest(&Key::of(&["a"])).await.unwrap().unwrap().row.id.round, 10);
    assert_eq!(azurite().requests(&connection_string).len(), before + 1);
    assert_eq!(store.latest(&Key::of(&["b"])).await.unwrap(), None);
}

#[tokio::test]
async fn every_call_is_one_request() {
    let connection_string = azurite().account();
    let store = TableStore::new(&open(&connection_string));
    store.prepare().await.unwrap();
    let row = row("a", 1, "{}");
    let count = || azurite().requests(&connection_string).len();
    let mut before = count();
    let mut one = |what: &str| {
        assert_eq!(count() - before, 1, "{what}");
        before = count();
    };
    store.prepare().await.unwrap();
    one("prepare");
    store.index(&row.id, row.opened).await.unwrap();
    one("index");
    let version = written(&store, &row, Expected::Absent).await;
    one("insert");
    written(&store, &row, Expected::Version(version)).await;
    one("update");
    store.get(&row.id).await.unwrap().unwrap();
    one("get");
    store.list(100, None).await.unwrap();
    one("list");
}

#[tokio::test]
async fn pages_join_without_gap_or_repeat() {
    let store = TableStore::new(&open(&azurite().account()));
    let mut expected = Vec::new();
    for n in 0..7 {
        // Pairs share their instant.
        let row = Row { opened: instant(i64::from(n / 2)), ..row(&n.to_string(), 1, "{}") };
        store.index(&row.id, row.opened).await.unwrap();
        store.index(&row.id, row.opened).await.unwrap();
        expected.push((row.id, row.opened));
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = store.list(3, cursor.as_deref()).await.unwrap();
        assert!(page.pushes.len() <= 3);
        seen.extend(page.pushes);
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert!(seen.is_sorted_by(|a, b| a.1 >= b.1));
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(store.list(7, None).await.unwrap().next, None);
    let odd = "x' or PartitionKey ne '";
    assert_eq!(store.list(2, Some(odd)).await.unwrap(), store.list(2, None).await.unwrap());
}

#[tokio::test]
async fn a_page_may_begin_behind_a_push_that_is_gone() {
    let store = TableStore::new(&open(&azurite().account()));
    for n in 0..3 {
        let row = Row { opened: instant(n), ..row(&n.to_string(), 1, "{}") };
        store.index(&row.id, row.opened).await.unwrap();
        written(&store, &row, Expected::Absent).await;
    }
    let page = store.list(1, None).await.unwrap();
    let stored = store.get(&page.pushes[0].0).await.unwrap().unwrap();
    assert!(store.remove(&stored.row, &stored.version).await.unwrap());
    assert_eq!(store.list(10, page.next.as_deref()).await.unwrap().pushes.len(), 2);
    assert_eq!(store.list(10, None).await.unwrap().pushes.len(), 2);
}

#[tokio::test]
async fn a_table_deleted_at_run_time_comes_back() {
    let connection_string = azurite().account();
    let store = TableStore::new(&open(&connection_string));
    let raw = Raw::of(&connection_string);
    store.prepare().await.unwrap();
    let (first, second) = (row("a", 1, "{}"), row("b", 1, "{}"));
    let version = written(&store, &first, Expected::Absent).await;
    assert_eq!(raw.table("DELETE", &format!("Tables('{TABLE}')"), "", "").await.0, 204);
    assert_eq!(store.get(&first.id).await.unwrap(), None);
    assert_eq!(store.latest(&first.id.key).await.unwrap(), None);
    assert_eq!(store.list(5, None).await.unwrap().pushes, []);
    assert_eq!(store.put(&first, &Expected::Version(version)).await.unwrap(), Put::Conflict);
    store.index(&second.id, second.opened).await.unwrap();
    assert_eq!(raw.table("DELETE", &format!("Tables('{TABLE}')"), "", "").await.0, 204);
    written(&store, &second, Expected::Absent).await;
    assert_eq!(store.get(&second.id).await.unwrap().unwrap().row, second);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_for_the_operator() {
    let connection_string = azurite().account();
    let store = TableStore::new(&open(&connection_string));
    let row = row("a", 1, "{}");
    written(&store, &row, Expected::Absent).await;
    let path = format!("{TABLE}(PartitionKey='{}',RowKey='fffffffe')", row.id.key.as_str());
    let (status, body) = Raw::of(&connection_string).table("PUT", &path, "", r#"{"Row0":"nonsense"}"#).await;
    assert_eq!(status, 204, "{body}");
    assert!(matches!(store.get(&row.id).await, Err(global_webhook::store::Failure::Corrupt(_))));
    assert!(matches!(store.latest(&row.id.key).await, Err(global_webhook::store::Failure::Corrupt(_))));
}

#[tokio::test]
async fn of_many_writers_one_wins() {
    let connection = open(&azurite().account());
    let store = TableStore::new(&connection);
    let row = row("a", 1, "{}");
    let mut expected = Expected::Absent;
    for round in 0..3 {
        let puts: Vec<_> = (0..12)
            .map(|_| {
                let (store, row, expected) = (store.clone(), row.clone(), expected.clone());
                tokio::spawn(async move { store.put(&row, &expected).await.unwrap() })
            })
            .collect();
        let mut won = Vec::new();
        for put in puts {
            if let Put::Written(version) = put.await.unwrap() {
                won.push(version);
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        expected = Expected::Version(won.remove(0));
    }
}
