//! The stand-in host's queue trigger, on the storage emulator.

use std::time::{Duration, Instant};

use crate::support::azurite::azurite;
use crate::support::eventually;
use crate::support::host::{Host, HostOptions, Judgement, Queue, QueueAccess, QueueRules, Serves};
use crate::support::recorder::Recorder;

const LIMIT: Duration = Duration::from_secs(20);

fn access() -> QueueAccess {
    QueueAccess { connection_string: azurite().account(), queue: "timers".into() }
}

async fn host(recorder: &Recorder, access: &QueueAccess, rules: QueueRules) -> Host {
    let mut options = HostOptions::attached(recorder.listen().await);
    options.queue = Some(access.clone());
    options.serves = Serves::Queue;
    options.rules = rules;
    Host::start(options).await
}

async fn calls(host: &Host, number: usize) {
    eventually(&format!("{number} calls"), LIMIT, async || host.invocations().len() >= number).await;
}

async fn emptied(queue: &Queue) {
    eventually("the queue is empty", LIMIT, async || queue.count().await == Ok(0)).await;
}

#[tokio::test]
async fn a_good_answer_deletes_the_message_even_if_the_queue_comes_late() {
    let (recorder, access) = (Recorder::default(), access());
    let host = host(&recorder, &access, QueueRules::default()).await;
    let queue = Queue::of(&access);
    queue.create().await.unwrap();
    queue.create().await.unwrap();
    queue.put(br#"{"push":"<p&1>"}"#).await.unwrap();
    calls(&host, 1).await;
    emptied(&queue).await;
    let [call] = &host.invocations()[..] else { panic!("{:?}", host.invocations()) };
    assert_eq!((call.text.as_str(), call.dequeue_count), (r#"{"push":"<p&1>"}"#, 1));
    assert_eq!((&call.judgement, call.answer.clone()), (&Judgement::Success, Some((200, "{}".into()))));
    let (head, body) = &recorder.take()[0];
    assert_eq!(head.start, "POST /TimeoutCheck HTTP/1.1");
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["Data"]["timer"], r#""{\"push\":\"<p&1>\"}""#);
    assert_eq!(host.troubles(), Vec::<String>::new());
    host.stop().await;
}

#[tokio::test]
async fn failures_come_again_after_the_visibility_timeout_and_end_in_the_poison_queue() {
    let (recorder, access) = (Recorder::default(), access());
    let queue = Queue::of(&access);
    queue.create().await.unwrap();
    let rules =
        QueueRules { visibility_timeout: Duration::from_secs(1), max_dequeue_count: 3, ..QueueRules::default() };
    recorder.script(&[
        b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
        b"",
        b"HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n",
    ]);
    let begun = Instant::now();
    let host = host(&recorder, &access, rules).await;
    queue.put(b"text").await.unwrap();
    calls(&host, 3).await;
    emptied(&queue).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let counts: Vec<u32> = host.invocations().iter().map(|i| i.dequeue_count).collect();
    assert_eq!(counts, [1, 2, 3]);
    assert!(host.invocations().iter().all(|i| matches!(i.judgement, Judgement::Failure(_))));
    let poison = queue.poison().peek().await.unwrap();
    assert_eq!(poison.iter().map(|m| m.decoded().unwrap()).collect::<Vec<_>>(), [b"text"]);
    assert_eq!(host.troubles(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_read_never_reaches_the_handler() {
    let (recorder, access) = (Recorder::default(), access());
    let queue = Queue::of(&access);
    queue.create().await.unwrap();
    queue.put_raw("not base64!").await.unwrap();
    queue.put(b"\xff\xfe").await.unwrap();
    let host = host(&recorder, &access, QueueRules::default()).await;
    calls(&host, 6).await;
    emptied(&queue).await;
    assert!(recorder.take().is_empty());
    let buried = queue.poison().peek().await.unwrap();
    assert!(buried.iter().any(|m| m.raw == "not base64!") && buried.len() == 2, "{buried:?}");
}

#[tokio::test]
async fn an_answer_that_hangs_the_host_leaves_the_message_and_is_told_apart() {
    let (recorder, access) = (Recorder::default(), access());
    let queue = Queue::of(&access);
    queue.create().await.unwrap();
    queue.put(b"text").await.unwrap();
    recorder.script(&[b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"]);
    let host = host(&recorder, &access, QueueRules::default()).await;
    calls(&host, 1).await;
    assert_eq!(queue.count().await, Ok(1));
    // Taken, because a host that has seen a hang fails its test when it is dropped.
    assert!(matches!(host.take_invocations()[0].judgement, Judgement::Hang(_)));
}

#[tokio::test]
async fn many_messages_are_called_at_once_and_some_twice() {
    let (recorder, access) = (Recorder::default(), access());
    let queue = Queue::of(&access);
    queue.create().await.unwrap();
    for n in 0..40 {
        queue.put(n.to_string().as_bytes()).await.unwrap();
    }
    let rules = QueueRules {
        duplicate_every: Some(4),
        chunked: false,
        late: Duration::from_millis(20),
        ..QueueRules::default()
    };
    let host = host(&recorder, &access, rules).await;
    calls(&host, 50).await;
    emptied(&queue).await;
    assert_eq!(recorder.take().len(), 50);
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_call_runs() {
    let (recorder, access) = (Recorder::default(), access());
    let queue = Queue::of(&access);
    queue.create().await.unwrap();
    queue.put(b"text").await.unwrap();
    let rules = QueueRules { lease: Duration::from_secs(2), late: Duration::from_secs(4), ..QueueRules::default() };
    let host = host(&recorder, &access, rules).await;
    calls(&host, 1).await;
    emptied(&queue).await;
    assert_eq!(host.invocations().len(), 1);
    assert_eq!(host.troubles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_run_by_hand_has_no_message() {
    let (recorder, access) = (Recorder::default(), access());
    let host = host(&recorder, &access, QueueRules::default()).await;
    assert_eq!(host.run_by_hand("{}").await, Judgement::Success);
    let body: serde_json::Value = serde_json::from_slice(&recorder.take()[0].1).unwrap();
    assert!(body["Metadata"].get("Id").is_none() && body["Metadata"]["DequeueCount"] == "0", "{body}");
}
