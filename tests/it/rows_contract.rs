//! What every [`Rows`] must do. One line of `rows_contract!` at the end runs all cases against one implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use global_webhook::push::PushId;
use global_webhook::store::azure::Names;
use global_webhook::store::azure::parts::{
    Entry, Expected, Handle, Put, Record, Rows, Span, Ticket, TimerRef, Version, Versioned,
};
use global_webhook::store::azure::table::Table;

use crate::samples::{content, id, instant, open, row, with_digest};
use crate::support::azurite::azurite;

/// The first write of a push.
pub(crate) fn record(id: PushId, payload: &str) -> Record {
    let handle = Handle { id: "0b6f3f5e-6f0e-4a3c-9d5b-2f1d7f0c9a11".into(), receipt: "AgAAAAMAAAAA+/=".into() };
    let timer = TimerRef { ticket: Ticket { revision: 1, writer: u64::MAX }, handle, due: instant(60) };
    Record { row: row(id, instant(0), payload), revision: 1, timer: Some(timer), app: "app \"ü\"".into() }
}

/// Puts a record and says at which version.
pub(crate) async fn written(rows: &dyn Rows, record: &Record, expected: &Expected) -> Version {
    match rows.put(record, expected).await.unwrap() {
        Put::Written(version) => version,
        other => panic!("{}: {other:?}", record.row.id),
    }
}

async fn add(rows: &dyn Rows, record: &Record) -> Version {
    written(rows, record, &Expected::Absent).await
}

/// Record and version, to compare.
fn plain(found: Option<Versioned>) -> Option<(Record, Version)> {
    found.map(|Versioned { record, version }| ((*record).clone(), version))
}

async fn get(rows: &dyn Rows, id: &PushId) -> Option<(Record, Version)> {
    plain(rows.get(id).await.unwrap())
}

async fn newest(rows: &dyn Rows, id: &PushId) -> Option<(Record, Version)> {
    plain(rows.newest(&id.key).await.unwrap())
}

async fn a_record_goes_in_once_and_then_at_its_version(rows: Arc<dyn Rows>) {
    let mut record = record(id("a", 1), "{}");
    assert_eq!((get(&*rows, &record.row.id).await, newest(&*rows, &record.row.id).await), (None, None));
    let mut version = add(&*rows, &record).await;
    assert_eq!(rows.put(&record, &Expected::Absent).await.unwrap(), Put::Conflict);
    let mut seen = BTreeSet::from([version.0.clone()]);
    for revision in 2..22 {
        // Also the same record again is another version.
        record.revision = if revision % 3 == 0 { record.revision } else { revision };
        record.timer = if revision % 2 == 0 { None } else { record.timer };
        version = written(&*rows, &record, &Expected::Version(version)).await;
        assert!(seen.insert(version.0.clone()), "a version came twice");
    }
    // However it is learned.
    let stored = Some((record.clone(), version));
    assert_eq!((get(&*rows, &record.row.id).await, newest(&*rows, &record.row.id).await), (stored.clone(), stored));
}

async fn a_conflict_changes_nothing(rows: Arc<dyn Rows>) {
    let kept = record(id("a", 1), "kept");
    let first = add(&*rows, &kept).await;
    let version = written(&*rows, &kept, &Expected::Version(first.clone())).await;
    let other = record(id("a", 1), "other");
    for expected in [Expected::Absent, Expected::Version(first)] {
        assert_eq!(rows.put(&other, &expected).await.unwrap(), Put::Conflict, "{expected:?}");
    }
    assert_eq!(get(&*rows, &kept.row.id).await, Some((kept, version.clone())));
    let absent = record(id("b", 1), "absent");
    assert_eq!(rows.put(&absent, &Expected::Version(version)).await.unwrap(), Put::Conflict);
    assert_eq!(get(&*rows, &absent.row.id).await, None);
}

async fn of_many_writers_one_wins(rows: Arc<dyn Rows>) {
    let mut expected = Expected::Absent;
    for round in 0..4 {
        let writers: Vec<_> = (0..12)
            .map(|writer| {
                let (rows, expected) = (Arc::clone(&rows), expected.clone());
                let record = record(id("a", 1), &format!("{round} {writer}"));
                tokio::spawn(async move { (rows.put(&record, &expected).await.unwrap(), record) })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            if let (Put::Written(version), record) = writer.await.unwrap() {
                winners.push((record, version));
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let winner = winners.remove(0);
        assert_eq!(get(&*rows, &id("a", 1)).await, Some(winner.clone()), "round {round}");
        expected = Expected::Version(winner.1);
    }
}

async fn the_newest_round_is_the_highest(rows: Arc<dyn Rows>) {
    for round in [2, 10, 1, 9, u32::MAX, 100] {
        add(&*rows, &record(id("a", round), &round.to_string())).await;
    }
    add(&*rows, &record(content("a", "other", 7), "same place")).await;
    assert_eq!(newest(&*rows, &id("a", 1)).await.unwrap().0.row.id, id("a", u32::MAX));
    for round in [1, 2, 9, 10, 100] {
        assert_eq!(get(&*rows, &id("a", round)).await.unwrap().0.row.payload, round.to_string());
    }
    assert_eq!((get(&*rows, &id("a", 3)).await, newest(&*rows, &id("b", 1)).await), (None, None));
}

async fn a_record_is_removed_only_at_its_version(rows: Arc<dyn Rows>) {
    let record = record(id("a", 1), "{}");
    let push = record.row.id.clone();
    let first = add(&*rows, &record).await;
    let second = written(&*rows, &record, &Expected::Version(first.clone())).await;
    assert!(!rows.remove(&push, &first).await.unwrap());
    assert!(get(&*rows, &push).await.is_some());
    assert!(rows.remove(&push, &second).await.unwrap());
    assert_eq!((get(&*rows, &push).await, newest(&*rows, &push).await), (None, None));
    assert!(!rows.remove(&push, &second).await.unwrap());
    assert_eq!(rows.put(&record, &Expected::Version(second.clone())).await.unwrap(), Put::Conflict);
    let again = add(&*rows, &record).await;
    assert!(again != first && again != second);
    assert!(!rows.remove(&push, &second).await.unwrap());
}

async fn when_the_tag_moved_is_told(rows: Arc<dyn Rows>) {
    let of = |place: &str, digest: &str, round, opened| {
        let plain = record(content(place, digest, round), "{}");
        let moved = with_digest(plain.row, digest);
        Record { row: global_webhook::push::Row { opened: instant(opened), ..moved }, ..plain }
    };
    let asked = of("p", "A", 1, 0);
    for record in [
        asked.clone(),
        of("p", "A", 2, 5),
        of("elsewhere", "B", 1, 6),
        of("p", "B", 1, 10),
        of("p", "B", 2, 20),
        of("p", "C'\"", 1, 30),
    ] {
        add(&*rows, &record).await;
    }
    for (span, moved) in [
        ((0, 100), Some(30)),
        ((0, 30), Some(20)),
        ((10, 20), None),
        ((9, 11), Some(10)),
        ((30, 100), None),
        ((0, 10), None),
        ((20, 10), None),
    ] {
        let found = rows.moved(&asked.row, (instant(span.0), instant(span.1))).await.unwrap();
        assert_eq!(found, moved.map(instant), "{span:?}");
    }
}

/// All entries, page by page.
async fn entries(rows: &dyn Rows, limit: usize) -> Vec<Entry> {
    let (mut all, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let (page, next) = rows.entries(limit, cursor.as_deref()).await.unwrap();
        assert!(page.len() <= limit, "{} on a page of {limit}", page.len());
        all.extend(page);
        pages += 1;
        assert!(pages < 1000, "the index has no end");
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

async fn openings_say_what_was_pushed_within_a_span(rows: Arc<dyn Rows>) {
    let subject = |n: i64| record(id(&n.to_string(), 1), "{}").row.subject.clone();
    for n in 0..9 {
        let entry = Entry { at: instant(n), push: id(&n.to_string(), 1) };
        // Entries without a subject come of reminders.
        rows.index(&entry, (n % 2 == 0).then(|| subject(n)).as_ref()).await.unwrap();
    }
    let seen = async |span: Span| {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let (page, next) = rows.openings(span, 2, cursor.as_deref()).await.unwrap();
            all.extend(page);
            cursor = next;
            if cursor.is_none() {
                return all;
            }
        }
    };
    let all = seen(Span::default()).await;
    let of: Vec<_> = all.iter().map(|opening| (opening.at, opening.push.clone(), opening.subject.clone())).collect();
    let right = (0..9).rev().map(|n| (instant(n), id(&n.to_string(), 1), (n % 2 == 0).then(|| subject(n))));
    assert_eq!(of, right.collect::<Vec<_>>());
    let within = async |since: Option<i64>, until: Option<i64>| {
        let span = Span { since: since.map(instant), until: until.map(instant) };
        seen(span).await.iter().map(|opening| opening.at).collect::<Vec<_>>()
    };
    assert_eq!(within(Some(3), Some(6)).await, [5, 4, 3].map(instant));
    assert_eq!(within(Some(8), None).await, [instant(8)]);
    assert_eq!(within(None, Some(1)).await, [instant(0)]);
    assert!(within(Some(6), Some(3)).await.is_empty());
    let (after, _) = rows.openings(Span::default(), 100, Some(&all[6].cursor)).await.unwrap();
    assert_eq!(after, all[7..]);
}

async fn the_index_is_newest_first_whatever_the_page(rows: Arc<dyn Rows>) {
    assert_eq!(rows.entries(10, None).await.unwrap(), (Vec::new(), None));
    let mut all = Vec::new();
    for n in 0..17 {
        // Some of the same instant, some of the same push, one from before the calendar's beginning.
        let entry = Entry { at: instant((n * 7 % 17) / 2), push: id(&format!("push {}", n / 2), 1) };
        for _ in 0..=n % 2 {
            rows.index(&entry, None).await.unwrap();
        }
        all.push(entry);
    }
    let odd = Entry { at: global_webhook::clock::Instant::UNIX_EPOCH, push: id("old", u32::MAX) };
    rows.index(&odd, None).await.unwrap();
    all.push(odd.clone());
    all.sort();
    for limit in [1, 5, 17, 18, 19, 1000] {
        let mut found = entries(&*rows, limit).await;
        assert!(found.is_sorted_by(|a, b| a.at >= b.at), "pages of {limit}: {found:?}");
        assert_eq!(found.last(), Some(&odd));
        found.sort();
        assert_eq!(found, all, "pages of {limit}");
    }
    assert_eq!(get(&*rows, &all[0].push).await, None, "an entry is no record");
}

async fn a_span_of_the_index_has_its_beginning_and_not_its_end(rows: Arc<dyn Rows>) {
    let entry = |n: i64, push: &str| Entry { at: instant(n), push: id(push, 1) };
    let all = [entry(0, "a"), entry(1, "b"), entry(1, "c"), entry(2, "d"), entry(9, "e")];
    for entry in &all {
        rows.index(entry, None).await.unwrap();
    }
    let between = async |from, to, limit| {
        let mut found = rows.between((from, to), limit).await.unwrap();
        assert!(found.is_sorted_by(|a, b| a.at >= b.at), "{found:?}");
        found.sort();
        found
    };
    let sorted = |mut entries: Vec<Entry>| {
        entries.sort();
        entries
    };
    let millisecond = chrono::Duration::milliseconds(1);
    for (from, to, found) in [
        (instant(0), instant(9), &all[..4]),
        (instant(0), instant(9) + millisecond, &all[..]),
        (instant(0) + millisecond, instant(2), &all[1..3]),
        (instant(1), instant(1) + millisecond, &all[1..3]),
        (instant(1) - millisecond, instant(1), &[]),
        (instant(3), instant(9), &[]),
        (instant(9), instant(0), &[]),
        (chrono::DateTime::UNIX_EPOCH, instant(1), &all[..1]),
    ] {
        assert_eq!(between(from, to, 10).await, sorted(found.to_vec()), "{from} {to}");
    }
    let newest = between(instant(0), instant(10), 2).await;
    assert_eq!(newest, [entry(2, "d"), entry(9, "e")]);
}

async fn many_entries_are_taken_out_together(rows: Arc<dyn Rows>) {
    let all: Vec<Entry> = (0..230).map(|n| Entry { at: instant(n), push: id(&n.to_string(), 1) }).collect();
    for some in all.chunks(46) {
        futures_util::future::join_all(some.iter().map(|entry| rows.index(entry, None))).await;
    }
    // Some of them are not there any more.
    rows.unindex(&all[150..152]).await.unwrap();
    rows.unindex(&all[..205]).await.unwrap();
    rows.unindex(&[]).await.unwrap();
    let mut left = entries(&*rows, 100).await;
    left.sort();
    assert_eq!(left, all[205..]);
}

async fn a_page_may_begin_behind_an_entry_that_is_gone(rows: Arc<dyn Rows>) {
    let entry = |n| Entry { at: instant(n), push: id(&n.to_string(), 1) };
    for n in 0..4 {
        rows.index(&entry(n), None).await.unwrap();
    }
    let (page, cursor) = rows.entries(2, None).await.unwrap();
    assert_eq!(page, [entry(3), entry(2)]);
    for _ in 0..2 {
        rows.unindex(&[entry(2)]).await.unwrap();
    }
    rows.index(&entry(9), None).await.unwrap();
    assert_eq!(rows.entries(9, cursor.as_deref()).await.unwrap(), (vec![entry(1), entry(0)], None));
    assert_eq!(entries(&*rows, 9).await, [entry(9), entry(3), entry(1), entry(0)]);
    for cursor in ["", "nonsense", "x' or PartitionKey ne '", "🙂", &"9".repeat(10_000)] {
        assert_eq!(rows.entries(2, Some(cursor)).await.unwrap().0, [entry(9), entry(3)], "{:.9}", cursor);
    }
}

async fn notes_are_kept_by_name(rows: Arc<dyn Rows>) {
    assert_eq!(rows.notes("app-").await.unwrap(), []);
    let long = "ü'\"\\ ".repeat(40_000);
    for (name, text) in [("app-1", "one"), ("app-2", &*long), ("apple", "three"), ("upkeep", "{}"), ("app-1", "again")]
    {
        assert!(matches!(rows.put_note(name, text, None).await.unwrap(), Put::Written(_)), "{name}");
    }
    let named = async |prefix: &str| {
        let notes = rows.notes(prefix).await.unwrap();
        notes.into_iter().map(|(name, text, _)| (name, text)).collect::<BTreeMap<_, _>>()
    };
    let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    assert_eq!(named("app-").await, of(&[("app-1", "again"), ("app-2", &long)]));
    assert_eq!(named("upkeep").await, of(&[("upkeep", "{}")]));
    assert_eq!(named("b").await, of(&[]));
    assert!(entries(&*rows, 9).await.is_empty());
}

async fn a_note_changes_against_its_version(rows: Arc<dyn Rows>) {
    let put = async |text: &str, expected: Expected| rows.put_note("upkeep", text, Some(&expected)).await.unwrap();
    let Put::Written(first) = put("1", Expected::Absent).await else { panic!() };
    assert_eq!(put("x", Expected::Absent).await, Put::Conflict);
    let read = async || rows.notes("upkeep").await.unwrap().remove(0);
    assert_eq!(read().await.2, first);
    let Put::Written(second) = put("2", Expected::Version(first.clone())).await else { panic!() };
    assert_eq!(put("x", Expected::Version(first)).await, Put::Conflict);
    assert_eq!(read().await, ("upkeep".into(), "2".into(), second));
}

async fn preparing_again_changes_nothing(rows: Arc<dyn Rows>) {
    rows.prepare().await.unwrap();
    let record = record(id("a", 1), "{}");
    let version = add(&*rows, &record).await;
    rows.prepare().await.unwrap();
    assert_eq!(get(&*rows, &record.row.id).await, Some((record, version)));
}

/// Runs every case against the rows that `$fresh` makes.
macro_rules! rows_contract {
    ($module:ident, $fresh:path) => {
        rows_contract! { $module, $fresh:
            a_record_goes_in_once_and_then_at_its_version
            a_conflict_changes_nothing
            of_many_writers_one_wins
            the_newest_round_is_the_highest
            a_record_is_removed_only_at_its_version
            when_the_tag_moved_is_told
            the_index_is_newest_first_whatever_the_page
    openings_say_what_was_pushed_within_a_span
            a_page_may_begin_behind_an_entry_that_is_gone
            a_span_of_the_index_has_its_beginning_and_not_its_end
            many_entries_are_taken_out_together
            notes_are_kept_by_name
            a_note_changes_against_its_version
            preparing_again_changes_nothing
        }
    };
    ($module:ident, $fresh:path: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($fresh()).await;
                }
            )*
        }
    };
}

rows_contract!(table, super::table);

fn table() -> Arc<dyn Rows> {
    Arc::new(Table::new(&open(&azurite().account()), &Names::default().table))
}
