//! What only records in Table Storage promise, on Azurite.

use futures_util::future::try_join_all;
use global_webhook::limits;
use global_webhook::push::{Row, Subject};
use global_webhook::store::azure::Names;
use global_webhook::store::azure::parts::{Entry, Expected, Failure, Put, Record, Rows as _, Span};
use global_webhook::store::azure::table::Table;

use crate::raw::Raw;
use crate::rows_contract::{record, written};
use crate::samples::{content, id, instant, open, purged};
use crate::support::azurite::azurite;

/// The table that goes with the default queue.
const TABLE: &str = "GlobalWebhook";

fn table(connection_string: &str) -> Table {
    Table::new(&open(connection_string), &Names::default().table)
}

#[tokio::test]
async fn the_largest_payloads_survive_and_leave_no_column_behind() {
    let rows = table(&azurite().account());
    for (name, piece) in [("quotes", "'\"\\\""), ("mixed", "é日😀'\"\\n"), ("escapes", "\\\\"), ("plain", "a")] {
        let payload = piece.repeat(limits::WEBHOOK_BYTES_MAX / piece.len());
        let long = record(id(name, 1), &payload);
        let version = written(&rows, &long, &Expected::Absent).await;
        assert!(*rows.get(&long.row.id).await.unwrap().unwrap().record == long, "{name}");
        assert!(*rows.newest(&long.row.id.key).await.unwrap().unwrap().record == long, "{name}");
        let short = Record { row: Row { payload: "short".into(), ..long.row.clone() }, timer: None, ..long };
        let version = written(&rows, &short, &Expected::Version(version)).await;
        assert_eq!(*rows.get(&short.row.id).await.unwrap().unwrap().record, short, "{name}");
        let none = Record { row: purged(short.row.clone(), instant(9)), ..short };
        written(&rows, &none, &Expected::Version(version)).await;
        assert_eq!(*rows.get(&none.row.id).await.unwrap().unwrap().record, none, "{name}");
    }
}

#[tokio::test]
async fn people_find_plain_columns() {
    let connection_string = azurite().account();
    let rows = table(&connection_string);
    let plain = record(content("p", "c", 3), r#"{"action":"push"}"#);
    let subject = Subject { tag: Some("it's v1 – ü".into()), ..plain.row.subject.clone() };
    let record = Record { row: Row { subject, ..plain.row }, ..plain };
    written(&rows, &record, &Expected::Absent).await;
    let (status, body) = Raw::of(&connection_string).table("GET", &format!("{TABLE}()"), "", "").await;
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let entity = &body["value"][0];
    let key = &record.row.id.key;
    assert_eq!(entity["PartitionKey"], key.place());
    assert_eq!(entity["RowKey"], format!("{}-fffffffc", key.content()));
    assert_eq!(entity["PushId"], record.row.id.to_string());
    assert_eq!(entity["Image"], "shop/cart:it's v1 – ü");
    assert_eq!((&entity["Phase"], &entity["App"]), (&"waiting".into(), &"app \"ü\"".into()));
    assert_eq!(entity["OpenedAt"], "2025-10-09T08:53:20.123+00:00");
    assert_eq!(entity["Payload0"], record.row.payload);
}

#[tokio::test]
async fn every_call_is_one_request() {
    let connection_string = azurite().account();
    let rows = table(&connection_string);
    rows.prepare().await.unwrap();
    let record = record(id("a", 1), "{}");
    let entry = Entry { at: record.row.opened, push: record.row.id.clone() };
    let count = || azurite().requests(&connection_string).len();
    let mut before = count();
    let mut one = |what: &str| {
        assert_eq!(count() - before, 1, "{what}");
        before = count();
    };
    rows.prepare().await.unwrap();
    one("prepare");
    rows.index(&entry, None).await.unwrap();
    one("index");
    let version = written(&rows, &record, &Expected::Absent).await;
    one("insert");
    let version = written(&rows, &record, &Expected::Version(version)).await;
    one("update");
    assert_eq!(rows.put(&record, &Expected::Absent).await.unwrap(), Put::Conflict);
    one("conflict");
    rows.get(&record.row.id).await.unwrap().unwrap();
    one("get");
    rows.newest(&record.row.id.key).await.unwrap().unwrap();
    one("newest");
    rows.moved(&record.row, (instant(0), instant(9))).await.unwrap();
    one("moved");
    rows.entries(100, None).await.unwrap();
    one("entries");
    rows.openings(Span::default(), 100, None).await.unwrap();
    one("openings");
    rows.newest_at(record.row.id.key.place(), None).await.unwrap().unwrap();
    one("newest_at");
    rows.put_note("upkeep", "{}", None).await.unwrap();
    one("put_note");
    rows.notes("upkeep").await.unwrap();
    one("notes");
    assert!(rows.remove(&record.row.id, &version).await.unwrap());
    one("remove");
    rows.unindex(std::slice::from_ref(&entry)).await.unwrap();
    one("unindex");
}

/// More than one answer holds, which come in the order of their contents' hashes.
#[tokio::test]
async fn of_more_than_a_thousand_pushes_of_a_tag_the_newest_is_found() {
    let rows = table(&azurite().account());
    rows.prepare().await.unwrap();
    let pushed = |n: i64| {
        let plain = record(content("shop/cart:v1", &format!("digest {n}"), 1), "{}");
        let subject = Subject { digest: format!("digest {n}"), ..plain.row.subject.clone() };
        Record { row: Row { subject, ..plain.row }, ..plain }
    };
    let mut all: Vec<Record> = (0..1010).map(pushed).collect();
    // The newest comes last.
    all.sort_by_key(|record| record.row.id.key.content().to_owned());
    for (n, record) in (0..).zip(&mut all) {
        record.row.opened = instant(n);
    }
    for some in all.chunks(8) {
        try_join_all(some.iter().map(|record| rows.put(record, &Expected::Absent))).await.unwrap();
    }
    let (first, newest) = (&all[0].row, &all[1009].row);
    assert_eq!(rows.newest_at(first.id.key.place(), None).await.unwrap().as_ref(), Some(&newest.id));
    assert_eq!(rows.moved(first, (instant(0), instant(2000))).await.unwrap(), Some(newest.opened));
    assert_eq!(rows.moved(first, (instant(0), instant(900))).await.unwrap(), Some(instant(899)));
}

#[tokio::test]
async fn a_table_deleted_at_run_time_comes_back() {
    let connection_string = azurite().account();
    let rows = table(&connection_string);
    let raw = Raw::of(&connection_string);
    let delete = async || assert_eq!(raw.table("DELETE", &format!("Tables('{TABLE}')"), "", "").await.0, 204);
    rows.prepare().await.unwrap();
    let (first, second) = (record(id("a", 1), "{}"), record(id("b", 1), "{}"));
    let entry = |record: &Record| Entry { at: instant(0), push: record.row.id.clone() };
    let version = written(&rows, &first, &Expected::Absent).await;
    delete().await;
    assert!(rows.get(&first.row.id).await.unwrap().is_none());
    assert!(rows.newest(&first.row.id.key).await.unwrap().is_none());
    assert_eq!(rows.entries(5, None).await.unwrap(), (Vec::new(), None));
    assert_eq!(rows.moved(&first.row, (instant(0), instant(9))).await.unwrap(), None);
    assert_eq!(rows.notes("upkeep").await.unwrap(), []);
    rows.unindex(&[entry(&first)]).await.unwrap();
    assert!(!rows.remove(&first.row.id, &version).await.unwrap());
    assert_eq!(rows.put(&first, &Expected::Version(version)).await.unwrap(), Put::Conflict);
    rows.index(&entry(&second), None).await.unwrap();
    delete().await;
    written(&rows, &second, &Expected::Absent).await;
    assert_eq!(*rows.get(&second.row.id).await.unwrap().unwrap().record, second);
    delete().await;
    assert!(matches!(rows.put_note("upkeep", "{}", None).await.unwrap(), Put::Written(_)));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_for_the_operator_and_hides_no_other() {
    let connection_string = azurite().account();
    let rows = table(&connection_string);
    let raw = Raw::of(&connection_string);
    for (n, broken) in [
        r#"{"Row0":"nonsense"}"#,
        r#"{"Revision":"1"}"#,
        r#"{"Row0":"{\"v\":1}","Revision":"1"}"#,
        r#"{"Row0":"{\"v\":3,\"row\":{}}","Revision":"1"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let record = record(content("p", &n.to_string(), 1), "{}");
        written(&rows, &record, &Expected::Absent).await;
        let key = &record.row.id.key;
        let path = format!("{TABLE}(PartitionKey='{}',RowKey='{}-fffffffe')", key.place(), key.content());
        let (status, body) = raw.table("PUT", &path, "", broken).await;
        assert_eq!(status, 204, "{body}");
        assert!(matches!(rows.get(&record.row.id).await, Err(Failure::Corrupt(_))), "{broken}");
        assert!(matches!(rows.newest(key).await, Err(Failure::Corrupt(_))), "{broken}");
    }
    // Beside it, in the same partition.
    let good = record(content("p", "good", 1), "{}");
    written(&rows, &good, &Expected::Absent).await;
    assert_eq!(*rows.newest(&good.row.id.key).await.unwrap().unwrap().record, good);
    assert_eq!(rows.moved(&good.row, (instant(-1), instant(1))).await.unwrap(), None);
}

#[tokio::test]
async fn tables_of_other_names_are_other_rows() {
    let connection = open(&azurite().account());
    let names = [Names::default(), Names::of("timers-staging")];
    let [one, other] = names.map(|names| Table::new(&connection, &names.table));
    let record = record(id("a", 1), "{}");
    written(&one, &record, &Expected::Absent).await;
    assert!(other.get(&record.row.id).await.unwrap().is_none());
    written(&other, &record, &Expected::Absent).await;
}
