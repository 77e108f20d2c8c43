//! Table and queue when the network or the account is against them.

use std::time::{Duration, Instant as Stopwatch};

use global_webhook::store::azure::Names;
use global_webhook::store::azure::parts::{
    Entry, Expected, Failure, Inbox as _, Put, Queue as _, Record, Rows as _, Versioned,
};
use global_webhook::store::azure::queue::TimerQueue;
use global_webhook::store::azure::table::Table;

use crate::proxy::Proxy;
use crate::queue_contract::timer;
use crate::raw::Raw;
use crate::rows_contract::{record, written};
use crate::samples::{id, instant, open};
use crate::support::azurite::{Azurite, azurite};
use crate::support::eventually;

const LEASE: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(20);
const QUEUE: &str = "global-webhook-timers";

fn table(connection_string: &str) -> Table {
    Table::new(&open(connection_string), &Names::default().table)
}

fn timers(connection_string: &str) -> TimerQueue {
    TimerQueue::new(&open(connection_string), &Names::default())
}

/// The table of an account behind a relay, and the same account reached directly.
async fn relayed() -> (Proxy, Table, Table) {
    let proxy = Proxy::to(azurite().tables()).await;
    let connection_string = azurite().account_at(proxy.port(), azurite().queues().port());
    let direct = connection_string.replace(&proxy.port().to_string(), &azurite().tables().port().to_string());
    let (relayed, direct) = (table(&connection_string), table(&direct));
    relayed.prepare().await.unwrap();
    (proxy, relayed, direct)
}

async fn stored(rows: &Table, record: &Record) -> Versioned {
    rows.get(&record.row.id).await.unwrap().unwrap()
}

fn next(record: &Record, payload: &str) -> Record {
    let mut next = record.clone();
    next.row.payload = payload.into();
    next.revision += 1;
    next
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_known_to_be_written() {
    let (proxy, rows, direct) = relayed().await;
    for lost in [1, 2] {
        let first = record(id(&format!("lost {lost}"), 1), "one");
        proxy.lose(0, lost);
        let version = written(&rows, &first, &Expected::Absent).await;
        assert_eq!(stored(&direct, &first).await.version, version);
        let second = next(&first, "two");
        proxy.lose(0, lost);
        let version = written(&rows, &second, &Expected::Version(version)).await;
        let found = stored(&direct, &first).await;
        assert_eq!((&*found.record, &found.version), (&second, &version));
        proxy.lose(0, lost);
        assert!(rows.remove(&second.row.id, &found.version).await.unwrap());
        assert!(direct.get(&first.row.id).await.unwrap().is_none());
    }
    assert_eq!(proxy.lost(), 9);
}

#[tokio::test]
async fn a_note_whose_answer_is_lost_is_known_to_be_written() {
    let (proxy, rows, direct) = relayed().await;
    proxy.lose(0, 1);
    let Put::Written(version) = rows.put_note("upkeep", "1", Some(&Expected::Absent)).await.unwrap() else { panic!() };
    proxy.lose(0, 1);
    let put = rows.put_note("upkeep", "2", Some(&Expected::Version(version))).await.unwrap();
    let (name, text, version) = direct.notes("upkeep").await.unwrap().remove(0);
    assert_eq!((name.as_str(), text.as_str(), put), ("upkeep", "2", Put::Written(version)));
}

#[tokio::test]
async fn a_write_whose_answers_are_all_lost_is_unknown() {
    let (proxy, rows, direct) = relayed().await;
    let record = record(id("a", 1), "one");
    proxy.lose(0, 3);
    assert!(matches!(rows.put(&record, &Expected::Absent).await, Err(Failure::Unavailable(_))));
    assert_eq!(*stored(&direct, &record).await.record, record);
}

/// A refusal alone says that nothing was written, and its timer may go. After a try whose answer was lost it says nothing
/// of that kind: the row stands, and names its timer.
#[tokio::test]
async fn a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_written() {
    let (proxy, rows, direct) = relayed().await;
    let record = record(id("a", 1), "one");
    proxy.lose(0, 1);
    proxy.refuse(1);
    let put = rows.put(&record, &Expected::Absent).await;
    assert!(matches!(put, Err(Failure::Unavailable(_))), "{put:?}");
    assert_eq!(*stored(&direct, &record).await.record, record);
    proxy.refuse(1);
    let put = rows.put(&record, &Expected::Absent).await;
    assert!(matches!(put, Err(Failure::Corrupt(_))), "{put:?}");
}

/// Once somebody has written upon it, or removed it, nobody can tell whether it ever was.
#[tokio::test]
async fn a_lost_write_under_what_others_did_is_in_doubt() {
    for removed in [false, true] {
        let (proxy, rows, direct) = relayed().await;
        let first = record(id("a", 1), "one");
        let version = written(&rows, &first, &Expected::Absent).await;
        let ours = next(&first, "ours");
        // The second try must meet what others have done meanwhile.
        proxy.lose(0, 1);
        proxy.shut_with_the_next_loss();
        let lost = proxy.lost();
        let put = tokio::spawn({
            let (rows, ours) = (rows.clone(), ours.clone());
            async move { rows.put(&ours, &Expected::Version(version)).await.unwrap() }
        });
        eventually("the answer is lost", LIMIT, async || proxy.lost() > lost).await;
        let seen = stored(&direct, &first).await;
        assert_eq!(*seen.record, ours);
        let theirs = next(&ours, "theirs");
        if removed {
            assert!(direct.remove(&first.row.id, &seen.version).await.unwrap());
        } else {
            written(&direct, &theirs, &Expected::Version(seen.version)).await;
        }
        proxy.open();
        assert_eq!(put.await.unwrap(), Put::InDoubt);
        let left = direct.get(&first.row.id).await.unwrap().map(|stored| (*stored.record).clone());
        assert_eq!(left, (!removed).then_some(theirs));
    }
}

/// The write never was; but with its first answer lost, that cannot be told from one that others have overwritten.
#[tokio::test]
async fn a_lost_conflict_is_in_doubt() {
    let (proxy, rows, direct) = relayed().await;
    let record = record(id("a", 1), "one");
    let version = written(&direct, &record, &Expected::Absent).await;
    proxy.lose(0, 1);
    assert_eq!(rows.put(&record, &Expected::Absent).await.unwrap(), Put::InDoubt);
    let next = written(&direct, &record, &Expected::Version(version.clone())).await;
    proxy.lose(0, 1);
    assert_eq!(rows.put(&record, &Expected::Version(version)).await.unwrap(), Put::InDoubt);
    assert_eq!(stored(&direct, &record).await.version, next);
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated() {
    let (proxy, rows, direct) = relayed().await;
    let record = record(id("a", 1), "one");
    let entry = Entry { at: record.row.opened, push: record.row.id.clone() };
    written(&rows, &record, &Expected::Absent).await;
    let lose = || proxy.lose(0, 2);
    lose();
    rows.index(&entry, None).await.unwrap();
    lose();
    assert!(rows.get(&record.row.id).await.unwrap().is_some());
    lose();
    assert!(rows.newest(&record.row.id.key).await.unwrap().is_some());
    lose();
    assert_eq!(rows.moved(&record.row, (instant(-1), instant(1))).await.unwrap(), None);
    lose();
    assert_eq!(rows.entries(5, None).await.unwrap().0, std::slice::from_ref(&entry));
    lose();
    assert!(rows.notes("app-").await.unwrap().is_empty());
    lose();
    rows.prepare().await.unwrap();
    lose();
    rows.unindex(std::slice::from_ref(&entry)).await.unwrap();
    assert_eq!(direct.entries(5, None).await.unwrap().0, []);
    assert_eq!(proxy.lost(), 16);
}

#[tokio::test]
async fn timers_survive_lost_answers() {
    let proxy = Proxy::to(azurite().queues()).await;
    let connection_string = azurite().account_at(azurite().tables().port(), proxy.port());
    let timers = timers(&connection_string);
    timers.prepare().await.unwrap();
    proxy.lose(0, 1);
    let armed = timers.arm(&timer("a"), Duration::from_secs(600)).await.unwrap();
    let raw = Raw::of(&connection_string);
    assert_eq!(raw.count(QUEUE).await, 2, "armed twice, which is harmless");
    proxy.lose(0, 1);
    let shifted = timers.shift(&armed, &timer("b"), Duration::from_secs(1)).await.unwrap();
    assert_eq!(shifted, None, "the receipt is lost");
    let mut received = Vec::new();
    eventually("but the timer moved", LIMIT, async || {
        received.extend(timers.receive(32, LEASE).await.unwrap());
        !received.is_empty()
    })
    .await;
    assert_eq!(received.len(), 1);
    proxy.lose(0, 1);
    timers.disarm(&received[0].handle).await.unwrap();
    assert_eq!(raw.count(QUEUE).await, 1);
    proxy.lose(0, 1);
    timers.note_spill(instant(0)).await.unwrap();
    proxy.lose(0, 1);
    assert_eq!(timers.last_spill().await.unwrap(), Some(instant(0)));
    proxy.lose(0, 1);
    assert!(matches!(timers.receive(32, LEASE).await, Err(Failure::Unavailable(_))));
}

#[tokio::test]
async fn a_dead_endpoint_is_told_quickly_and_without_secrets() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = format!("TableEndpoint=http://127.0.0.1:{port}/acct;QueueEndpoint=http://127.0.0.1:{port}/acct");
    for secret in ["AccountName=acct;AccountKey=c2VjcmV0", "SharedAccessSignature=sv=2022-11-02&sig=c2VjcmV0"] {
        let account = format!("{place};{secret}");
        let record = record(id("a", 1), "one");
        let began = Stopwatch::now();
        let (rows, timers) = (table(&account), timers(&account));
        for failure in [
            rows.get(&record.row.id).await.unwrap_err(),
            rows.put(&record, &Expected::Absent).await.unwrap_err(),
            rows.prepare().await.unwrap_err(),
            timers.arm(&timer("a"), Duration::ZERO).await.unwrap_err(),
            timers.receive(1, Duration::from_secs(30)).await.unwrap_err(),
            timers.note_spill(instant(0)).await.unwrap_err(),
        ] {
            assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
            let text = format!("{failure} {failure:?}");
            assert!(
                text.contains("cannot be reached") && !text.contains("c2VjcmV0") && !text.contains("sig="),
                "{text}"
            );
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_wrong_key_is_for_the_operator_and_not_shown() {
    let bad = azurite().account().replace("AccountKey=", "AccountKey=c2VjcmV0");
    let (rows, timers) = (table(&bad), timers(&bad));
    let failures = [
        rows.get(&id("a", 1)).await.unwrap_err(),
        rows.prepare().await.unwrap_err(),
        timers.prepare().await.unwrap_err(),
        timers.arm(&timer("a"), Duration::ZERO).await.unwrap_err(),
    ];
    for failure in failures {
        let Failure::Corrupt(cause) = &failure else { panic!("{failure:?}") };
        assert!(
            cause.contains("403") && cause.contains("AzureWebJobsStorage") && !cause.contains("c2VjcmV0"),
            "{cause}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_service_is_survived() {
    let own = Azurite::start_own();
    let account = own.account();
    let (rows, timers) = (table(&account), timers(&account));
    let record = record(id("a", 1), "one");
    let version = written(&rows, &record, &Expected::Absent).await;
    timers.arm(&timer("a"), Duration::from_secs(1)).await.unwrap();
    timers.note_spill(instant(0)).await.unwrap();
    tokio::task::block_in_place(|| own.stop());
    assert!(matches!(rows.get(&record.row.id).await, Err(Failure::Unavailable(_))));
    tokio::task::block_in_place(|| own.restart());
    written(&rows, &record, &Expected::Version(version)).await;
    assert_eq!(timers.last_spill().await.unwrap(), Some(instant(0)));
    let mut received = 0;
    eventually("the timer fires", LIMIT, async || {
        received += timers.receive(32, LEASE).await.unwrap().len();
        received == 1
    })
    .await;
}
