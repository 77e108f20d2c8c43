//! What only the Storage Queue timers promise, on Azurite.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use global_webhook::timers::queue::{POISON_QUEUE, QUEUE, QueueTimers};
use global_webhook::timers::{Inbox as _, Timers as _};

use crate::azure_table::open;
use crate::raw::Raw;
use crate::support::azurite::azurite;
use crate::timers_contract::timer;

const LEASE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn messages_are_base64_and_never_expire() {
    let connection_string = azurite().account();
    let timers = QueueTimers::new(&open(&connection_string));
    timers.arm(&timer("a"), Duration::from_millis(999)).await.unwrap();
    let seen = Raw::of(&connection_string).peek(QUEUE).await;
    assert!(seen.contains("<ExpirationTime>Fri, 31 Dec 9999"), "{seen}");
    assert!(seen.contains(&STANDARD.encode(timer("a").text())), "{seen}");
    timers.set_aside("héllo").await.unwrap();
    let seen = Raw::of(&connection_string).peek(POISON_QUEUE).await;
    assert!(seen.contains("<ExpirationTime>Fri, 31 Dec 9999"), "{seen}");
    assert!(seen.contains(&STANDARD.encode("héllo")), "{seen}");
}

#[tokio::test]
async fn the_longest_delay_is_accepted_and_longer_ones_are_cut() {
    let timers = QueueTimers::new(&open(&azurite().account()));
    let armed = timers.arm(&timer("a"), Duration::from_secs(400 * 24 * 3600)).await.unwrap();
    assert!(timers.shift(&armed, &timer("a"), Duration::MAX).await.unwrap().is_some());
}

#[tokio::test]
async fn a_moved_timer_has_the_new_text_and_one_receipt() {
    let timers = QueueTimers::new(&open(&azurite().account()));
    let armed = timers.arm(&timer("a"), Duration::from_secs(600)).await.unwrap();
    let moved = timers.shift(&armed, &timer("b"), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(timers.shift(&armed, &timer("c"), Duration::ZERO).await.unwrap(), None);
    timers.disarm(&armed).await.unwrap();
    let received = timers.receive(32, LEASE).await.unwrap();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].text.as_deref(), Some(timer("b").text().as_str()));
    assert_eq!(received[0].handle.id, moved.id);
    assert_eq!(timers.shift(&moved, &timer("c"), Duration::ZERO).await.unwrap(), None);
    timers.disarm(&received[0].handle).await.unwrap();
    timers.disarm(&received[0].handle).await.unwrap();
    assert_eq!(timers.shift(&received[0].handle, &timer("c"), Duration::ZERO).await.unwrap(), None);
}

#[tokio::test]
async fn every_call_is_one_request() {
    let connection_string = azurite().account();
    let timers = QueueTimers::new(&open(&connection_string));
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
}

#[tokio::test]
async fn foreign_messages_pass_through_as_they_are() {
    let connection_string = azurite().account();
    let timers = QueueTimers::new(&open(&connection_string));
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
    let again = timers.receive(32, LEASE).await.unwrap();
    assert_eq!(again.len(), 3);
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
async fn a_message_that_is_gone_is_left_alone() {
    let timers = QueueTimers::new(&open(&azurite().account()));
    timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    let received = timers.receive(1, LEASE).await.unwrap().remove(0);
    timers.disarm(&received.handle).await.unwrap();
    timers.release(&received, Duration::ZERO).await.unwrap();
    assert_eq!(timers.receive(32, LEASE).await.unwrap(), []);
}

#[tokio::test]
async fn ours_come_back_from_the_poison_queue_and_foreign_ones_stay() {
    let connection_string = azurite().account();
    let timers = QueueTimers::new(&open(&connection_string));
    let raw = Raw::of(&connection_string);
    assert_eq!(timers.revive().await.unwrap(), 0);
    timers.set_aside("hello").await.unwrap();
    raw.put(POISON_QUEUE, "{not base64}").await;
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    for name in &names {
        timers.set_aside(&timer(name).text()).await.unwrap();
    }
    assert_eq!(timers.revive().await.unwrap(), 40);
    assert_eq!(raw.count(POISON_QUEUE).await, 2);
    let mut texts = Vec::new();
    loop {
        let page = timers.receive(32, LEASE).await.unwrap();
        if page.is_empty() {
            break;
        }
        texts.extend(page.into_iter().map(|r| r.text.unwrap()));
    }
    let mut expected: Vec<String> = names.iter().map(|n| timer(n).revived().text()).collect();
    texts.sort();
    expected.sort();
    assert_eq!(texts, expected);
    let seen = raw.peek(POISON_QUEUE).await;
    assert!(seen.contains(&STANDARD.encode("hello")) && seen.contains("{not base64}"), "{seen}");
}

#[tokio::test]
async fn reviving_nothing_costs_one_request() {
    let connection_string = azurite().account();
    let timers = QueueTimers::new(&open(&connection_string));
    let armed = timers.set_aside(&timer("a").text()).await;
    assert_eq!((armed, timers.revive().await), (Ok(()), Ok(1)));
    let before = azurite().requests(&connection_string).len();
    assert_eq!(timers.revive().await.unwrap(), 0);
    assert_eq!(azurite().requests(&connection_string).len(), before + 1);
}

#[tokio::test]
async fn queues_deleted_at_run_time_come_back() {
    let connection_string = azurite().account();
    let timers = QueueTimers::new(&open(&connection_string));
    let raw = Raw::of(&connection_string);
    timers.prepare().await.unwrap();
    let armed = timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    assert_eq!(raw.queue("DELETE", QUEUE, "", "").await.0, 204);
    assert_eq!(timers.shift(&armed, &timer("a"), Duration::ZERO).await.unwrap(), None);
    timers.disarm(&armed).await.unwrap();
    assert_eq!(timers.receive(32, LEASE).await.unwrap(), []);
    assert_eq!(raw.count(QUEUE).await, 0);
    assert_eq!(raw.queue("DELETE", QUEUE, "", "").await.0, 204);
    timers.arm(&timer("b"), Duration::ZERO).await.unwrap();
    assert_eq!(timers.receive(32, LEASE).await.unwrap().len(), 1);
    timers.prepare().await.unwrap();
}
