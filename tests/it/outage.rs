//! Storage that is dead, hangs, is full of strangers or is restarted, and the whole service in front of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::metrics::value;
use crate::support::azurite::{Azurite, azurite};
use crate::support::eventually;
use crate::support::gate::{Gate, Mode};
use crate::support::host::envelope::{self, Judgement, Message};
use crate::support::host::{Host, HostOptions, Queue, QueueAccess, Serves};
use crate::support::http::{Answer, Connection};
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT, QUEUE, Service};

/// Where one of the two places can be written, or both refuse at once, an answer is out by then.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long the registry waits for an answer.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// A debug build on a busy machine may take its time now and then. So the quickest shows that the promise is kept, and none may
/// come too late for the registry.
fn assert_in_time(took: &[Duration], quickest: Duration) {
    assert!(took.iter().all(|took| *took < REGISTRY_PATIENCE), "{took:?}");
    assert!(took.iter().any(|took| *took < quickest), "{took:?}");
}

/// The promise for an answer to the host, whatever the storage does.
const TIMER_ANSWER_MAX: Duration = Duration::from_secs(30);

async fn on_azurite<T: Send + 'static>(work: impl FnOnce(&'static Azurite) -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(|| work(azurite())).await.expect("Azurite")
}

/// Gates before the table and the queue service, and an account behind them.
async fn gated(tables: Mode, queues: Mode) -> (Gate, Gate, String) {
    let (table_address, queue_address) = on_azurite(|azurite| (azurite.tables(), azurite.queues())).await;
    let (tables, queues) = (Gate::to(table_address, tables).await, Gate::to(queue_address, queues).await);
    let account = azurite().account_at(tables.port(), queues.port());
    (tables, queues, account)
}

/// Settings with one target that is told of everything, and its receiver.
async fn settings(timeout: &str) -> (Recorder, Vec<(&'static str, String)>) {
    let receiver = Recorder::default();
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let targets = json!([{ "name": "ops", "url": url, "format": "standard" }]).to_string();
    (
        receiver,
        vec![("WebhookRegions", "a,b,c".into()), ("WebhookTimeout", timeout.into()), ("WebhookTargets", targets)],
    )
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn queue(account: &str) -> Queue {
    Queue::of(&QueueAccess { connection_string: account.into(), queue: QUEUE.into() })
}

fn secret(account: &str) -> &str {
    account.split(';').find_map(|part| part.strip_prefix("AccountKey=")).expect("a key")
}

/// Distinct `webhook-id`s the receiver was sent until now.
fn told(receiver: &Recorder, ids: &mut BTreeSet<String>) {
    ids.extend(receiver.take().into_iter().map(|(head, _)| head.get("webhook-id").expect("an id").to_owned()));
}

async fn arrivals_wait_on_the_queue(deployment: Deployment, at_start: Mode, outage: Mode) {
    let (receiver, settings) = settings("0:5:0").await;
    let (tables, _queues, account) = gated(at_start, Mode::Open).await;
    let service = Service::start_on(deployment, &borrowed(&settings), Some(&account)).await;
    tables.set(outage).await;
    let caller = service.caller();
    let image = Image::new("team/shop", "spilled");
    let (mut key, mut took) = (String::new(), Vec::new());
    for (n, region) in ["b", "a", "c"].into_iter().enumerate() {
        let begun = Instant::now();
        let (code, answer) = caller.post(region, image.notification()).await.expect("an answer");
        took.push(begun.elapsed());
        assert_eq!(code, 202, "{answer}");
        answer["id"].as_str().expect("an id").clone_into(&mut key);
        assert!(!key.contains('-'), "a spilled arrival knows no round yet: {key}");
        let waiting = queue(&account).count().await.expect("the queue");
        assert!(waiting > u32::try_from(n).expect("small"), "{waiting} messages after {} arrivals", n + 1);
    }
    assert_in_time(&took, ANSWER_MAX);
    tables.set(Mode::Open).await;
    let status = service.at_rest(&key).await;
    assert_eq!((&status["output"]["outcome"], &status["customStatus"]["round"]), (&json!("replicated"), &json!(1)));
    let regions = status["customStatus"]["regions"].as_object().expect("regions");
    assert!(regions.len() == 3 && regions.values().all(|r| r["arrived"].is_string() && r["late"] == false), "{status}");
    let mut ids = BTreeSet::new();
    eventually("the receiver is told", LIMIT, async || {
        told(&receiver, &mut ids);
        !ids.is_empty()
    })
    .await;
    assert_eq!(ids.len(), 1);
    assert!(!service.output().contains(secret(&account)));
    if deployment == Deployment::ServeAzure {
        let text = crate::metrics::scrape(&service.base_url()).await;
        assert_eq!(value(&text, "spills_total"), Some(3.0), "{text}");
        // Behind the answers or from the queue: it settled once.
        let replicated = "settled_total{outcome=\"replicated\"}";
        assert_eq!(value(&text, replicated), Some(1.0), "{text}");
        let lost = ["table_read", "table_insert"].map(|kind| {
            value(&text, &format!("storage_requests_total{{kind=\"{kind}\",result=\"unreachable\"}}")).unwrap_or(0.0)
        });
        assert!(lost[0] + lost[1] > 0.0, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_rows_at_the_start_cost_no_arrival() {
    arrivals_wait_on_the_queue(Deployment::Handler, Mode::Dead, Mode::Dead).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_hang_cost_no_arrival() {
    arrivals_wait_on_the_queue(Deployment::Handler, Mode::Open, Mode::Mute).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_hang_cost_no_arrival_without_a_host() {
    arrivals_wait_on_the_queue(Deployment::ServeAzure, Mode::Open, Mode::Mute).await;
}

async fn refused_in_time(outage: Mode) {
    let (_receiver, settings) = settings("0:5:0").await;
    let (tables, queues, account) = gated(Mode::Open, Mode::Open).await;
    let service = Service::start_on(Deployment::ServeAzure, &borrowed(&settings), Some(&account)).await;
    eventually("storage is reached", LIMIT, async || service.output().contains("rows and queue work")).await;
    tables.set(outage).await;
    queues.set(outage).await;
    let url = format!("{}/api/ImagePush?region=a", service.base_url());
    let client = reqwest::Client::new();
    let mut took = Vec::new();
    for n in 0..3 {
        let request = client.post(&url).body(Image::new("team/shop", &format!("refused{n}")).notification());
        let begun = Instant::now();
        let answer = request.send().await.expect("an answer");
        took.push(begun.elapsed());
        assert_eq!((answer.status().as_u16(), answer.headers().get("retry-after").is_some()), (503, true));
    }
    // Who says nothing is waited for as long as the registry's patience allows.
    assert_in_time(&took, if outage == Mode::Dead { ANSWER_MAX } else { REGISTRY_PATIENCE });
    let output = service.output();
    let errors: Vec<&str> = output.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.len() == 3 && errors.iter().all(|line| line.contains("arrival refused")), "{errors:#?}");
    assert!(!output.contains(secret(&account)));
    tables.set(Mode::Open).await;
    queues.set(Mode::Open).await;
    assert_eq!(service.push_until_taken("a", &Image::new("team/shop", "after")).await.0, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_reachable_is_told_to_the_registry_at_once() {
    refused_in_time(Mode::Dead).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answering_is_told_to_the_registry_in_time() {
    refused_in_time(Mode::Mute).await;
}

/// Whatever became of a timer: the row says what is owed, and a start looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_timer_is_made_good_by_a_start() {
    let account = on_azurite(Azurite::account).await;
    let (receiver, settings) = settings("0:0:1").await;
    let mut all = borrowed(&settings);
    all.push(("AzureWebJobsStorage", &account));
    // Nobody takes timers here, so that those of this push can be buried.
    let host = Host::start(HostOptions::spawned(&all).only(Serves::Http)).await;
    let url = format!("{}/api/ImagePush?region=a", host.base_url());
    let body = Image::new("team/shop", "buried").notification();
    let answer: Value =
        crate::support::service::json_of(reqwest::Client::new().post(url).body(body).send().await.expect("an answer"))
            .await;
    let id = answer["id"].as_str().expect("an id").to_owned();
    let (queue, poison) = (queue(&account), queue(&account).poison());
    poison.create().await.expect("the poison queue");
    let mut buried = false;
    eventually("the timer fires", LIMIT, async || {
        for message in queue.receive(32, Duration::from_secs(300)).await.expect("the queue") {
            buried |= message.decoded().is_some_and(|text| String::from_utf8_lossy(&text).contains(&id));
            poison.put_raw(&message.raw).await.expect("a put");
            let (id, receipt) = message.handle.expect("a handle");
            queue.delete(&id, &receipt).await.expect("a delete");
        }
        buried
    })
    .await;
    host.stop().await;
    poison.put(b"not ours").await.expect("a put");
    let buried = poison.count().await.expect("the poison queue");
    let service = Service::start_on(Deployment::Handler, &borrowed(&settings), Some(&account)).await;
    assert_eq!(service.at_rest(&id).await["output"]["outcome"], "timed_out");
    let mut ids = BTreeSet::new();
    eventually("the receiver is told", LIMIT, async || {
        told(&receiver, &mut ids);
        ids.len() == 1
    })
    .await;
    assert_eq!(poison.count().await, Ok(buried), "the poison queue is the operator's");
}

async fn strangers_hold_nobody_up(deployment: Deployment) {
    const STRANGERS: u32 = 200;
    let (_receiver, settings) = settings("0:0:2").await;
    let account = on_azurite(Azurite::account).await;
    let queue = queue(&account);
    queue.create().await.expect("the queue");
    for n in 0..STRANGERS {
        let text = ["order 5".to_owned(), "{\"v\":1,\"push\":\"x\"}".into(), "[]".into(), "null".into(), String::new()];
        let put = match n % 6 {
            5 => queue.put_raw("not base64 at all").await,
            kind => queue.put(text[kind as usize].as_bytes()).await,
        };
        put.expect("a put");
    }
    let service = Service::start_on(deployment, &borrowed(&settings), Some(&account)).await;
    let image = Image::new("team/shop", "crowded");
    let (code, answer) = service.push_until_taken("a", &image).await;
    assert_eq!(code, 202, "{answer}");
    let (id, caller) = (answer["id"].as_str().expect("an id"), service.caller());
    // On a busy machine the deadline is handled more than 10 s late, and then waits for 40 s more; where the webhook had to be
    // spilled, for two minutes.
    let settled = async || caller.status(id).await.is_some_and(|status| status["output"]["outcome"].is_string());
    eventually("it settles behind the strangers", LIMIT * 4, settled).await;
    let status = service.at_rest(id).await;
    assert_eq!(status["output"]["outcome"], "timed_out");
    let lasted = status["output"]["durationMs"].as_u64().expect("a duration");
    eprintln!("{deployment:?}: settled {} ms after its deadline behind {STRANGERS} strangers", lasted - 2000);
    assert!((2000..200_000).contains(&lasted), "{status}");
    let poison = queue.poison();
    eventually("all strangers are set aside", LIMIT, async || poison.count().await == Ok(STRANGERS)).await;
    // Upkeep's own timer stays.
    eventually("the queue is empty", LIMIT, async || queue.count().await == Ok(1)).await;
    assert!(!service.output().contains("order 5"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_in_the_queue_hold_nobody_up() {
    tokio::join!(strangers_hold_nobody_up(Deployment::Handler), strangers_hold_nobody_up(Deployment::ServeAzure));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_restarted_under_pushes_in_flight_loses_nothing() {
    const KEPT: usize = 6;
    let (receiver, mut settings) = settings("0:0:20").await;
    // Those that are to be replicated must outwait Azurite's end and start, the others must not.
    settings.push(("WebhookRules", json!([{ "tag": "kept-*", "timeout": "0:5:0" }]).to_string()));
    let own = tokio::task::spawn_blocking(Azurite::start_own).await.expect("Azurite");
    let service = Service::start_on(Deployment::Handler, &borrowed(&settings), Some(&own.account())).await;
    let images: Vec<Image> = (0..2 * KEPT)
        .map(|n| Image::new("team/shop", &format!("{}-{n}", if n < KEPT { "kept" } else { "short" })))
        .collect();
    let mut ids = Vec::new();
    for image in &images {
        let (code, answer) = service.push_until_taken("a", image).await;
        assert_eq!(code, 202);
        ids.push(answer["id"].as_str().expect("an id").to_owned());
        assert_eq!(service.push_until_taken("b", image).await.0, 202);
    }
    tokio::task::block_in_place(|| own.stop());
    let (code, answer) = service.caller().post("c", images[0].notification()).await.expect("an answer");
    assert_eq!(code, 503, "{answer}");
    tokio::task::block_in_place(|| own.restart());
    for image in &images[..KEPT] {
        assert_eq!(service.push_until_taken("c", image).await.0, 202);
    }
    for (n, id) in ids.iter().enumerate() {
        let status = service.at_rest(id).await;
        assert_eq!(status["output"]["outcome"], if n < KEPT { "replicated" } else { "timed_out" }, "{status}");
        assert_eq!(status["customStatus"]["notifications"][0]["state"], "confirmed", "{status}");
    }
    let mut seen = BTreeSet::new();
    told(&receiver, &mut seen);
    assert_eq!(seen.len(), ids.len());
    drop(service);
    tokio::task::block_in_place(|| drop(own));
}

/// Puts a message before the handler as the host does.
async fn fire(port: u16, text: &str) -> Answer {
    let never = crate::support::now() + chrono::Duration::days(300);
    let message = Message {
        handle: Some(("0b6f3f5e-6f0e-4a3c-9d5b-2f1d7f0c9a11".into(), "AgAAAAMAAAAA".into())),
        dequeue_count: 1,
        inserted: crate::support::now(),
        expires: never,
        next_visible: never,
        raw: String::new(),
    };
    let call = envelope::Call {
        function: "TimeoutCheck".into(),
        binding: "timer".into(),
        port,
        invocation: "00000000-0000-4000-8000-000000000000".into(),
        utc_now: envelope::utc_text(crate::support::now()),
        guid: "00000000-0000-4000-8000-000000000001".into(),
        chunked: true,
    };
    let exchange = async {
        let mut connection = Connection::open(port).await?;
        connection.write(&envelope::request(&call, &message, text)).await?;
        connection.answer(false).await
    };
    let answer = tokio::time::timeout(TIMER_ANSWER_MAX, exchange).await;
    answer.unwrap_or_else(|_| panic!("no answer within {TIMER_ANSWER_MAX:?} to {text}")).expect("an answer")
}

/// A text of the timer queue for a push that nobody knows.
fn timer() -> String {
    let ticket = json!({ "revision": 1, "writer": 1 });
    let push = format!("{}-1", "0".repeat(64));
    json!({ "timer": { "push": push, "due": "2026-11-22T10:00:00Z", "reason": "deadline", "ticket": ticket } })
        .to_string()
}

/// A handler on this account, whose rows hang, is given a timer; it must be put back, in time.
async fn is_put_back_in_time(account: &str) {
    let settings = [("WebhookRegions", "a,b"), ("AzureWebJobsStorage", account)];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http)).await;
    let begun = Instant::now();
    let answer = fire(host.handler_port(), &timer()).await;
    eprintln!("rows hang: put back after {} ms", begun.elapsed().as_millis());
    assert_eq!(envelope::judge(&answer), Judgement::Success, "{answer:?}");
    // A start tries the queue with a message of its own for a moment, as long as the rows hang.
    eventually("it alone is there", LIMIT, async || queue(account).count().await == Ok(1)).await;
    assert!(host.handler_output().contains("put back"), "{}", host.handler_output());
}

/// A handler on this account is given `text`; the host must get a failure that it can act on, in time.
async fn fails_in_time(what: &str, account: &str, text: &str) {
    let settings = [("WebhookRegions", "a,b"), ("AzureWebJobsStorage", account)];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http)).await;
    let begun = Instant::now();
    let answer = fire(host.handler_port(), text).await;
    eprintln!("{what}: failed after {} ms", begun.elapsed().as_millis());
    assert!(matches!(envelope::judge(&answer), Judgement::Failure(_)), "{what}: {answer:?}");
    assert!(answer.json()["error"]["code"].is_string(), "{what}: {answer:?}");
    let logged = async || host.handler_output().contains("could not be handled");
    eventually("the handler logs what the host does not", LIMIT, logged).await;
}

/// A queue service that answers what concerns the poison queue only when a caller's patience is nearly over: twice that it is
/// busy, then that the queue is missing or was created. Each step of setting a message aside takes as long as it can.
async fn slow_queue_service() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(AtomicUsize::new(1));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let mut connection = Connection::new(stream);
                while let Ok(Some(head)) = connection.head().await {
                    let _ = connection.body(head.request_framing().expect("framing")).await;
                    let status = if head.start.contains("-poison") {
                        crate::support::pause(Duration::from_millis(3900)).await;
                        let last = asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
                        let created = head.start.starts_with("PUT");
                        if !last {
                            "503 Busy"
                        } else if created {
                            "201 Created"
                        } else {
                            "404 Not Found"
                        }
                    } else {
                        "503 Busy"
                    };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    if connection.write(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_call_ends_in_time_whatever_hangs() {
    let (_tables, _queues, no_rows) = gated(Mode::Mute, Mode::Open).await;
    let (_tables2, _queues2, no_queue) = gated(Mode::Open, Mode::Mute).await;
    let (_tables3, _queues3, neither) = gated(Mode::Mute, Mode::Mute).await;
    let timer = timer();
    let slow_queue = azurite().account_at(azurite().tables().port(), slow_queue_service().await);
    tokio::join!(
        is_put_back_in_time(&no_rows),
        fails_in_time("the queue hangs", &no_queue, &timer),
        fails_in_time("the queue hangs, a stranger", &no_queue, "a stranger"),
        fails_in_time("both hang", &neither, &timer),
        fails_in_time("the queue is slow, a stranger", &slow_queue, "a stranger"),
    );
}
