//! Table and queue when the network or the account is against them.

use std::time::{Duration, Instant as Stopwatch};

use global_webhook::store::table::TableStore;
use global_webhook::store::{Expected, Failure, Put, Store as _};
use global_webhook::timers::queue::{QUEUE, QueueTimers};
use global_webhook::timers::{Inbox as _, Timers as _};

use crate::azure_table::{open, row, written};
use crate::proxy::Proxy;
use crate::raw::Raw;
use crate::support::azurite::{Azurite, azurite};
use crate::timers_contract::timer;

/// The store of an account behind a relay, and the same account reached directly.
async fn relayed() -> (Proxy, TableStore, TableStore) {
    let proxy = Proxy::to(azurite().tables()).await;
    let connection_string = azurite().account_at(proxy.port(), azurite().queues().port());
    let direct = connection_string.replace(&proxy.port().to_string(), &azurite().tables().port().to_string());
    let (relayed, direct) = (TableStore::new(&open(&connection_string)), TableStore::new(&open(&direct)));
    relayed.prepare().await.unwrap();
    (proxy, relayed, direct)
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_known_to_be_written() {
    let (proxy, store, direct) = relayed().await;
    for lost in [1, 2] {
        let first = row(&format!("lost {lost}"), 1, "one");
        proxy.lose(0, lost);
        let version = written(&store, &first, Expected::Absent).await;
        assert_eq!(direct.get(&first.id).await.unwrap().unwrap().version, version);
        let mut second = first.clone();
        second.payload = "two".into();
        proxy.lose(0, lost);
        let version = written(&store, &second, Expected::Version(version)).await;
        let stored = direct.get(&first.id).await.unwrap().unwrap();
        assert_eq!((stored.row, stored.version.clone()), (second.clone(), version));
        proxy.lose(0, lost);
        assert!(store.remove(&second, &stored.version).await.unwrap());
        assert_eq!(direct.get(&first.id).await.unwrap(), None);
    }
    assert_eq!(proxy.lost(), 9);
}

#[tokio::test]
async fn a_write_whose_answers_are_all_lost_is_unknown() {
    let (proxy, store, direct) = relayed().await;
    let row = row("a", 1, "one");
    proxy.lose(0, 3);
    assert!(matches!(store.put(&row, &Expected::Absent).await, Err(Failure::Unavailable(_))));
    assert_eq!(direct.get(&row.id).await.unwrap().unwrap().row, row);
}

/// A refusal alone says that nothing was written, and its timer may go. After a try whose answer was lost it says nothing
/// of that kind: the row stands, and names its timer.
#[tokio::test]
async fn a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_written() {
    let (proxy, store, direct) = relayed().await;
    let row = row("a", 1, "one");
    proxy.lose(0, 1);
    proxy.refuse(1);
    let put = store.put(&row, &Expected::Absent).await;
    assert!(matches!(put, Err(Failure::Unavailable(_))), "{put:?}");
    assert_eq!(direct.get(&row.id).await.unwrap().unwrap().row, row);
    proxy.refuse(1);
    let put = store.put(&row, &Expected::Absent).await;
    assert!(matches!(put, Err(Failure::Corrupt(_))), "{put:?}");
}

#[tokio::test]
async fn a_lost_write_is_found_under_what_others_built_on_it() {
    let (proxy, store, direct) = relayed().await;
    let first = row("a", 1, "one");
    let version = written(&store, &first, Expected::Absent).await;
    assert_eq!(direct.get(&first.id).await.unwrap().unwrap().row, first);
    let mut ours = first.clone();
    ours.payload = "ours".into();
    proxy.lose(0, 1);
    // The second try must meet what others have written meanwhile.
    proxy.shut_with_the_next_loss();
    let lost = proxy.lost();
    let put = tokio::spawn({
        let (store, ours) = (store.clone(), ours.clone());
        async move { store.put(&ours, &Expected::Version(version)).await.unwrap() }
    });
    while proxy.lost() == lost {
        tokio::task::yield_now().await;
    }
    let seen = direct.get(&first.id).await.unwrap().unwrap();
    assert_eq!(seen.row, ours);
    let mut theirs = ours.clone();
    theirs.payload = "theirs".into();
    written(&direct, &theirs, Expected::Version(seen.version)).await;
    proxy.open();
    let Put::Written(version) = put.await.unwrap() else { panic!("ours was written, then overwritten by who read it") };
    assert_eq!(store.put(&ours, &Expected::Version(version.clone())).await.unwrap(), Put::Conflict);
    assert!(!store.remove(&ours, &version).await.unwrap());
    assert_eq!(direct.get(&first.id).await.unwrap().unwrap().row, theirs);
}

#[tokio::test]
async fn a_lost_conflict_is_still_a_conflict() {
    let (proxy, store, direct) = relayed().await;
    let row = row("a", 1, "one");
    let version = written(&direct, &row, Expected::Absent).await;
    proxy.lose(0, 1);
    assert_eq!(store.put(&row, &Expected::Absent).await.unwrap(), Put::Conflict);
    let next = written(&direct, &row, Expected::Version(version.clone())).await;
    proxy.lose(0, 1);
    assert_eq!(store.put(&row, &Expected::Version(version)).await.unwrap(), Put::Conflict);
    assert_eq!(direct.get(&row.id).await.unwrap().unwrap().version, next);
}

#[tokio::test]
async fn reads_are_repeated() {
    let (proxy, store, _) = relayed().await;
    let row = row("a", 1, "one");
    store.index(&row.id, row.opened).await.unwrap();
    written(&store, &row, Expected::Absent).await;
    proxy.lose(0, 2);
    assert!(store.get(&row.id).await.unwrap().is_some());
    proxy.lose(0, 2);
    assert!(store.latest(&row.id.key).await.unwrap().is_some());
    proxy.lose(0, 2);
    assert_eq!(store.list(5, None).await.unwrap().pushes.len(), 1);
}

#[tokio::test]
async fn timers_survive_lost_answers() {
    let proxy = Proxy::to(azurite().queues()).await;
    let connection_string = azurite().account_at(azurite().tables().port(), proxy.port());
    let timers = QueueTimers::new(&open(&connection_string));
    timers.prepare().await.unwrap();
    proxy.lose(0, 1);
    let armed = timers.arm(&timer("a"), Duration::from_secs(600)).await.unwrap();
    let raw = Raw::of(&connection_string);
    assert_eq!(raw.count(QUEUE).await, 2, "armed twice, which is harmless");
    proxy.lose(0, 1);
    assert_eq!(timers.shift(&armed, &timer("b"), Duration::ZERO).await.unwrap(), None, "the receipt is lost");
    let received = timers.receive(32, Duration::from_secs(300)).await.unwrap();
    assert_eq!(received.len(), 1, "but the timer moved");
    proxy.lose(0, 1);
    timers.disarm(&received[0].handle).await.unwrap();
    assert_eq!(raw.count(QUEUE).await, 1);
    proxy.lose(0, 1);
    assert!(matches!(timers.receive(32, Duration::from_secs(300)).await, Err(Failure::Unavailable(_))));
}

#[tokio::test]
async fn a_dead_endpoint_is_told_quickly_and_without_secrets() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = format!("TableEndpoint=http://127.0.0.1:{port}/acct;QueueEndpoint=http://127.0.0.1:{port}/acct");
    for secret in ["AccountName=acct;AccountKey=c2VjcmV0", "SharedAccessSignature=sv=2022-11-02&sig=c2VjcmV0"] {
        let connection = open(&format!("{place};{secret}"));
        let row = row("a", 1, "one");
        let began = Stopwatch::now();
        let store = TableStore::new(&connection);
        let timers = QueueTimers::new(&connection);
        for failure in [
            store.get(&row.id).await.unwrap_err(),
            store.put(&row, &Expected::Absent).await.unwrap_err(),
            store.prepare().await.unwrap_err(),
            timers.arm(&timer("a"), Duration::ZERO).await.unwrap_err(),
            timers.receive(1, Duration::from_secs(30)).await.unwrap_err(),
        ] {
            assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
            let text = format!("{failure} {failure:?}");
            assert!(
                text.contains("cannot be reached") && !text.contains("c2VjcmV0") && !text.contains("sig="),
                "{text}"
            );
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_wrong_key_is_for_the_operator_and_not_shown() {
    let good = azurite().account();
    let bad = good.replace("AccountKey=", "AccountKey=c2VjcmV0");
    let connection = open(&bad);
    let failures = [
        TableStore::new(&connection).get(&row("a", 1, "one").id).await.unwrap_err(),
        TableStore::new(&connection).prepare().await.unwrap_err(),
        QueueTimers::new(&connection).prepare().await.unwrap_err(),
        QueueTimers::new(&connection).arm(&timer("a"), Duration::ZERO).await.unwrap_err(),
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
    let connection = open(&own.account());
    let (store, timers) = (TableStore::new(&connection), QueueTimers::new(&connection));
    let row = row("a", 1, "one");
    let version = written(&store, &row, Expected::Absent).await;
    timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    tokio::task::block_in_place(|| own.stop());
    assert!(matches!(store.get(&row.id).await, Err(Failure::Unavailable(_))));
    tokio::task::block_in_place(|| own.restart());
    written(&store, &row, Expected::Version(version)).await;
    assert_eq!(timers.receive(32, Duration::from_secs(300)).await.unwrap().len(), 1);
}
