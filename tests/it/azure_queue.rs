//! What only the Storage Queue promises, on Azurite.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use global_webhook::store::azure::Names;
use global_webhook::store::azure::parts::{Inbox as _, Queue as _};
use global_webhook::store::azure::queue::TimerQueue;

use crate::queue_contract::timer;
use crate::raw::Raw;
use crate::samples::{instant, open};
use crate::support::azurite::azurite;
use crate::support::eventually;

const LEASE: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(20);

/// The names that go with the queue of TimeoutCheck's function.json.
const QUEUE: &str = "global-webhook-timers";
const POISON_QUEUE: &str = "global-webhook-timers-poison";

fn timers(connection_string: &str) -> TimerQueue {
    TimerQueue::new(&open(connection_string), &Names::default())
}

#[tokio::test]
async fn messages_are_base64_and_never_expire() {
    let connection_string = azurite().account();
    let timers = timers(&connection_string);
    let raw = Raw::of(&connection_string);
    timers.arm(&timer("a"), Duration::from_millis(999)).await.unwrap();
    timers.set_aside("héllo").await.unwrap();
    for (queue, text) in [(QUEUE, timer("a").text()), (POISON_QUEUE, "héllo".into())] {
        let mut seen = String::new();
        eventually("the message is visible", LIMIT, async || {
            seen = raw.peek(queue).await;
            seen.contains(&STANDARD.encode(&text))
        })
        .await;
        assert!(seen.contains("<ExpirationTime>Fri, 31 Dec 9999"), "{seen}");
    }
}

#[tokio::test]
async fn every_call_is_one_request() {
    let connection_string = azurite().account();
    let timers = timers(&connection_string);
    timers.prepare().await.unwrap();
    timers.set_aside("x").await.unwrap();
    let count = || azurite().requests(&connection_string).len();
    let mut before = count();
    let mut one = |what: &str| {
        assert_eq!(count() - before, 1, "{what}");
        before = count();
    };
    timers.prepare().await.unwrap();
    one("prepare");
    let armed = timers.arm(&timer("a"), Duration::from_secs(5)).await.unwrap();
    one("arm");
    let armed = timers.shift(&armed, &timer("a"), Duration::from_secs(5)).await.unwrap().unwrap();
    one("shift");
    timers.disarm(&armed).await.unwrap();
    one("disarm");
    timers.receive(1, LEASE).await.unwrap();
    one("receive");
    timers.note_spill(instant(0)).await.unwrap();
    one("note_spill");
    timers.last_spill().await.unwrap();
    one("last_spill");
    timers.set_aside("x").await.unwrap();
    one("set_aside");
}

#[tokio::test]
async fn foreign_messages_pass_through_as_they_are() {
    let connection_string = azurite().account();
    let timers = timers(&connection_string);
    let raw = Raw::of(&connection_string);
    timers.prepare().await.unwrap();
    let binary = STANDARD.encode([0xff, 0xfe, 0x00]);
    for text in ["{not base64}", &binary, &STANDARD.encode("hello")] {
        raw.put(QUEUE, text).await;
    }
    let mut received = timers.receive(32, LEASE).await.unwrap();
    received.sort_by_key(|r| r.text.clone());
    assert_eq!(received.iter().map(|r| r.text.as_deref()).collect::<Vec<_>>(), [None, None, Some("hello")]);
    for message in &received {
        timers.release(message, Duration::ZERO).await.unwrap();
    }
    let mut again = Vec::new();
    eventually("they come again", LIMIT, async || {
        again.extend(timers.receive(32, LEASE).await.unwrap());
        again.len() == 3
    })
    .await;
    for message in &again {
        assert_eq!(message.dequeue_count, 2);
        timers.poison(message).await.unwrap();
    }
    assert_eq!(raw.count(QUEUE).await, 0);
    let seen = raw.peek(POISON_QUEUE).await;
    for text in ["{not base64}", &binary, &STANDARD.encode("hello")] {
        assert!(seen.contains(&format!("<MessageText>{text}</MessageText>")), "{text}: {seen}");
    }
}

#[tokio::test]
async fn queues_deleted_at_run_time_come_back() {
    let connection_string = azurite().account();
    let timers = timers(&connection_string);
    let raw = Raw::of(&connection_string);
    let delete = async || assert_eq!(raw.queue("DELETE", QUEUE, "", "").await.0, 204);
    timers.prepare().await.unwrap();
    let armed = timers.arm(&timer("a"), Duration::from_secs(1)).await.unwrap();
    timers.note_spill(instant(0)).await.unwrap();
    delete().await;
    assert_eq!(timers.last_spill().await.unwrap(), None);
    assert_eq!(timers.shift(&armed, &timer("a"), Duration::from_secs(1)).await.unwrap(), None);
    timers.disarm(&armed).await.unwrap();
    assert_eq!(timers.receive(32, LEASE).await.unwrap(), []);
    assert_eq!(raw.count(QUEUE).await, 0);
    delete().await;
    timers.note_spill(instant(1)).await.unwrap();
    assert_eq!(timers.last_spill().await.unwrap(), Some(instant(1)));
    delete().await;
    timers.arm(&timer("b"), Duration::from_secs(1)).await.unwrap();
    assert_eq!(raw.count(QUEUE).await, 1);
    timers.prepare().await.unwrap();
}

#[tokio::test]
async fn queues_of_other_names_are_other_queues() {
    let connection_string = azurite().account();
    let names = Names::of("timers-staging");
    let staging = TimerQueue::new(&open(&connection_string), &names);
    staging.arm(&timer("a"), LEASE).await.unwrap();
    staging.set_aside("x").await.unwrap();
    let raw = Raw::of(&connection_string);
    assert_eq!((raw.count(&names.queue).await, raw.count(&names.poison).await), (1, 1));
    timers(&connection_string).prepare().await.unwrap();
    assert_eq!(raw.count(QUEUE).await, 0);
}
