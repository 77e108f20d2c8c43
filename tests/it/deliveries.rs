//! Notifications under SIGKILLs, receivers that misbehave, and what an operator may change or ask for afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::caller::{Caller, is_at_rest};
use crate::support::dice::Dice;
use crate::support::recorder::Recorder;
use crate::support::refusing::Refusing;
use crate::support::service::{Deployment, Image, LIMIT, Serve, Service};
use crate::support::{eventually, free_port, now, number, pause};

/// Posts a webhook until it is accepted, as a person does who sees it fail; the push's id.
async fn insist(caller: &Caller, region: &str, image: &Image) -> String {
    let begun = Instant::now();
    loop {
        match caller.post(region, image.notification()).await {
            Some((202, answer)) => return answer["id"].as_str().expect("an id").to_owned(),
            Some((code, answer)) => assert!(code >= 500, "{code}: {answer}"),
            None => {}
        }
        assert!(begun.elapsed() < LIMIT, "the webhook is not accepted within {LIMIT:?}");
        pause(Duration::from_millis(20)).await;
    }
}

fn instant(text: &Value) -> DateTime<Utc> {
    let text = text.as_str().unwrap_or_else(|| panic!("no instant: {text}"));
    DateTime::parse_from_rfc3339(text).expect("an instant").to_utc()
}

/// What must be equal for all pushes: everything but names, times and the number of attempts.
fn seen(status: &Value) -> Value {
    let custom = &status["customStatus"];
    let notifications: Vec<Value> = custom["notifications"]
        .as_array()
        .expect("notifications")
        .iter()
        .map(|n| json!([n["target"], n["notice"], n["state"], n["status"], n["reason"]]))
        .collect();
    json!([status["output"]["outcome"], custom["missing"], custom["round"], custom["idsMatched"], notifications])
}

/// Two targets, one of them dead, and pushes under random SIGKILLs of both processes. `DELIVERIES_PUSHES` for the long form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_kills_the_living_target_has_every_push_once_and_the_dead_one_is_given_up() {
    let mut dice = Dice::thrown("deliveries under kills");
    let begun = Instant::now();
    let pushes = number("DELIVERIES_PUSHES", 40);
    // Slow enough that many a kill falls between sending and recording.
    let living = Recorder::slow(Duration::from_millis(150));
    let dead = Refusing::new();
    let url = |port: u16| format!("http://127.0.0.1:{port}/");
    let targets = json!([
        { "name": "living", "url": url(living.listen().await), "format": "standard" },
        { "name": "dead", "url": url(dead.port()), "format": "standard" },
    ]);
    let mut service = Service::start(
        Deployment::Handler,
        &[
            ("WebhookRegions", "a,b"),
            ("WebhookTimeout", "0:20:0"),
            ("WebhookTargets", &targets.to_string()),
            ("WebhookRetrySchedule", "PT1S,PT1S"),
        ],
    )
    .await;
    let caller = service.caller();
    let room = Arc::new(Semaphore::new(4));
    let sending: Vec<_> = (0..pushes)
        .map(|n| {
            let (caller, room, mut dice) = (caller.clone(), Arc::clone(&room), dice.split());
            tokio::spawn(async move {
                let _place = room.acquire().await;
                let image = Image::new("team/shop", &format!("t{n}"));
                let mut regions = ["a", "b"];
                dice.shuffle(&mut regions);
                let mut id = String::new();
                for region in regions {
                    pause(Duration::from_millis(dice.below(700))).await;
                    id = insist(&caller, region, &image).await;
                }
                (image.digest, id)
            })
        })
        .collect();
    // Each within an interval: when exactly the process died is not known.
    let mut kills: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::new();
    while !sending.iter().all(tokio::task::JoinHandle::is_finished) {
        pause(Duration::from_millis(300 + dice.below(1500))).await;
        let before = now();
        service.kill_and_restart_one(dice.index(2)).await;
        kills.push((before, now()));
    }
    let mut statuses: BTreeMap<String, Value> = BTreeMap::new();
    for sent in sending {
        let (digest, id) = sent.await.expect("sent");
        let mut last = None;
        eventually(&format!("push {id} comes to rest"), LIMIT * 4, async || {
            last = caller.status(&id).await;
            last.as_ref().is_some_and(is_at_rest)
        })
        .await;
        statuses.insert(digest, last.expect("a status"));
    }

    let first = seen(statuses.values().next().expect("a push"));
    assert_eq!(first[0], "replicated", "{first}");
    let [living_told, dead_told] = &first[4].as_array().expect("a list")[..] else { panic!("{first}") };
    assert_eq!((&living_told[0], &living_told[2]), (&json!("living"), &json!("confirmed")));
    assert_eq!((&dead_told[0], &dead_told[2]), (&json!("dead"), &json!("exhausted")));
    assert!(dead_told[4].as_str().expect("a reason").starts_with("cannot connect"), "{first}");
    for status in statuses.values() {
        assert_eq!(seen(status), first, "{status:#}");
    }

    let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (head, body) in living.take() {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["type"], "acr.image.replicated");
        let digest = body["data"]["digest"].as_str().expect("a digest").to_owned();
        heard.entry(digest).or_default().push(head.get("webhook-id").expect("an id").to_owned());
    }
    assert_eq!(heard.keys().collect::<Vec<_>>(), statuses.keys().collect::<Vec<_>>());
    let all_ids: BTreeSet<&String> = heard.values().flatten().collect();
    assert_eq!(all_ids.len(), statuses.len(), "one id for each push");
    let mut repeats = 0;
    for (digest, ids) in &heard {
        let status = &statuses[digest];
        let told = &status["customStatus"]["notifications"][0];
        assert!(ids.iter().all(|id| told["id"] == **id), "{ids:?} {told}");
        // Only a kill while it was under way can have caused another attempt.
        let (begun, ended) = (instant(&status["output"]["settled"]), instant(&told["at"]));
        let could_hit = kills.iter().filter(|(before, after)| *before <= ended && begun <= *after).count();
        assert!(ids.len() <= 1 + could_hit, "{} attempts, {could_hit} kills: {status:#}", ids.len());
        repeats += ids.len() - 1;
    }
    eprintln!(
        "deliveries: pushes={pushes} kills={} living: distinct={} repeated={repeats} dead: exhausted={} duration={:.1}s",
        kills.len(),
        all_ids.len(),
        statuses.len(),
        begun.elapsed().as_secs_f64()
    );
}

/// A receiver that does `answer` with every connection once a request has come.
async fn receiver<A: Future<Output = ()> + Send>(
    answer: impl Fn(tokio::net::TcpStream) -> A + Send + Sync + Copy + 'static,
) -> u16 {
    use tokio::io::AsyncReadExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 8192]).await;
                answer(stream).await;
            });
        }
    });
    port
}

async fn write(mut stream: tokio::net::TcpStream, bytes: &[u8], times: usize) {
    use tokio::io::AsyncWriteExt as _;
    for _ in 0..times {
        if stream.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_misbehaves_delays_no_other_and_no_arrival() {
    let living = Recorder::default();
    let dead = Refusing::new();
    let ports = [
        ("living", living.listen().await),
        ("dead", dead.port()),
        (
            "hangs",
            receiver(|stream| async move {
                std::future::pending::<()>().await;
                drop(stream);
            })
            .await,
        ),
        ("garbage", receiver(|stream| write(stream, b"\x00\xff HTTP/9 what?\r\n\r\n", 100)).await),
        (
            "redirects",
            receiver(|stream| {
                write(
                    stream,
                    b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
                    1,
                )
            })
            .await,
        ),
        (
            "endless",
            receiver(|stream| async move {
                write(stream, b"HTTP/1.1 500 No\r\nContent-Length: 1073741824\r\n\r\n", 1).await;
            })
            .await,
        ),
        ("floods", receiver(|stream| write(stream, &[b'x'; 65536], 16_384)).await),
    ];
    let targets: Vec<Value> = ports
        .iter()
        .map(|(name, port)| json!({ "name": name, "url": format!("http://127.0.0.1:{port}/"), "format": "standard" }))
        .collect();
    let serve = Serve::start(
        &[
            ("WebhookRegions", "a,b"),
            ("WebhookTargets", &Value::Array(targets).to_string()),
            ("WebhookRetrySchedule", "PT1S,PT1S,PT1S,PT1S,PT1S"),
        ],
        &[],
    )
    .await;
    let caller = serve.caller();
    let mut settled: BTreeMap<String, Instant> = BTreeMap::new();
    let mut told: BTreeMap<String, Duration> = BTreeMap::new();
    let mut slowest_answer = Duration::ZERO;
    let mut listen = |settled: &BTreeMap<String, Instant>| {
        for (_, body) in living.take() {
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let digest = body["data"]["digest"].as_str().expect("a digest");
            // One that is not on the list yet has come before its own webhook was answered.
            told.insert(digest.to_owned(), settled.get(digest).map(Instant::elapsed).unwrap_or_default());
        }
        told.len()
    };
    let mut last_id = String::new();
    for n in 0..60 {
        let image = Image::new("team/shop", &format!("t{n}"));
        for region in ["a", "b"] {
            let begun = Instant::now();
            let (code, answer) = caller.post(region, image.notification()).await.expect("an answer");
            slowest_answer = slowest_answer.max(begun.elapsed());
            assert_eq!(code, 202);
            answer["id"].as_str().expect("an id").clone_into(&mut last_id);
        }
        settled.insert(image.digest, Instant::now());
        listen(&settled);
        pause(Duration::from_millis(20)).await;
    }
    eventually("the living receiver is told of all", LIMIT, async || listen(&settled) == 60).await;
    let slowest = told.values().max().copied().unwrap_or_default();
    eprintln!("beside six bad receivers: answers within {slowest_answer:?}, the living one told within {slowest:?}");
    assert!(
        slowest_answer < Duration::from_secs(2) && slowest < Duration::from_secs(2),
        "{slowest_answer:?} {slowest:?}"
    );
    // The receiver has the webhook a moment before the row says so.
    let mut owed = Vec::new();
    eventually("the living receiver alone is confirmed", LIMIT, async || {
        let Some(status) = caller.status(&last_id).await else { return false };
        owed = status["customStatus"]["notifications"].as_array().expect("a list").clone();
        owed.iter().any(|n| n["state"] == "confirmed")
    })
    .await;
    for n in owed {
        assert_eq!(n["state"] == "confirmed", n["target"] == "living", "{n}");
    }
    let peak = crate::support::peak_memory_kib(serve.pid());
    eprintln!("memory of the service at its peak: {peak} KiB");
    assert!(peak < 200 * 1024, "{peak} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_is_sent_again_by_hand_under_the_same_id() {
    for deployment in [Deployment::Handler, Deployment::ServeEmbedded] {
        let port = free_port();
        let targets = json!([{ "name": "ops", "url": format!("http://127.0.0.1:{port}/"), "format": "standard" }]);
        let service = Service::start(
            deployment,
            &[("WebhookRegions", "a"), ("WebhookTargets", &targets.to_string()), ("WebhookRetrySchedule", "PT1S")],
        )
        .await;
        let caller = service.caller();
        let id = insist(&caller, "a", &Image::new("team/shop", "v1")).await;
        let before = service.at_rest(&id).await["customStatus"]["notifications"][0].clone();
        assert_eq!((&before["state"], &before["attempts"]), (&json!("exhausted"), &json!(2)), "{before}");
        let receiver = Recorder::default();
        receiver.listen_on(port).await;
        assert_eq!(caller.operate(&id, "redeliver?target=ops").await, Some(202));
        let after = service.at_rest(&id).await["customStatus"]["notifications"][0].clone();
        assert_eq!((&after["state"], &after["attempts"]), (&json!("confirmed"), &json!(3)), "{after}");
        let [(head, _)] = &receiver.take()[..] else { panic!("sent once") };
        assert_eq!(head.get("webhook-id"), before["id"].as_str());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_and_a_moved_receiver_count_for_old_pushes() {
    const SECRETS: [&str; 2] =
        ["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
    let target = |port: u16, secret: &str| {
        let url = format!("http://127.0.0.1:{port}/hook");
        json!([{ "name": "ops", "url": url, "format": "standard", "secrets": [secret] }]).to_string()
    };
    let dead = Refusing::new();
    let old = target(dead.port(), SECRETS[0]);
    let settings = [("WebhookRegions", "a"), ("WebhookRetrySchedule", "PT2S,PT2S,PT2S"), ("WebhookTargets", &old)];
    let mut serve = Serve::start(&settings, &[]).await;
    let caller = serve.caller();
    let id = insist(&caller, "a", &Image::new("team/shop", "v1")).await;
    eventually("the first attempt fails", LIMIT, async || {
        let status = caller.status(&id).await;
        status.is_some_and(|status| status["customStatus"]["notifications"][0]["lastError"].is_string())
    })
    .await;
    let moved = Recorder::default();
    serve.set("WebhookTargets", &target(moved.listen().await, SECRETS[1]));
    serve.kill_and_restart().await;
    let mut received = Vec::new();
    eventually("the moved receiver is told", LIMIT, async || {
        received.extend(moved.take());
        !received.is_empty()
    })
    .await;
    let (head, body) = &received[0];
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, head.get(name).expect("a header").parse().expect("text"));
    }
    let verifies = |secret| standardwebhooks::Webhook::new(secret).expect("a secret").verify(body, &headers).is_ok();
    assert!(verifies(SECRETS[1]) && !verifies(SECRETS[0]));
    let mut status = None;
    eventually("it is confirmed", LIMIT, async || {
        status = caller.status(&id).await.filter(is_at_rest);
        status.is_some()
    })
    .await;
    let status = status.expect("a status");
    assert_eq!(status["customStatus"]["notifications"][0]["id"], head.get("webhook-id").expect("an id"));
}

/// More is owed to a slow receiver than it takes within a few leases; what found no place must not count as tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_receiver_is_sent_all_it_is_owed() {
    const PUSHES: usize = 75;
    let slow = Recorder::slow(Duration::from_secs(1));
    let url = format!("http://127.0.0.1:{}/", slow.listen().await);
    // As many targets as there may be leave each the fewest places: two.
    let target = |n: usize| {
        let outcomes = if n == 0 { json!(["replicated"]) } else { json!(["recovered"]) };
        json!({ "name": format!("t{n}"), "url": url, "format": "standard", "outcomes": outcomes })
    };
    let targets = Value::Array((0..32).map(target).collect()).to_string();
    let settings = [("WebhookRegions", "a"), ("WebhookTargets", &targets), ("WebhookRetrySchedule", "PT1S")];
    let serve = Serve::start(&settings, &[]).await;
    let caller = serve.caller();
    let mut ids = Vec::new();
    for n in 0..PUSHES {
        ids.push(insist(&caller, "a", &Image::new("team/shop", &format!("t{n}"))).await);
    }
    for id in &ids {
        let mut status = None;
        eventually("the push comes to rest", LIMIT * 2, async || {
            status = caller.status(id).await.filter(is_at_rest);
            status.is_some()
        })
        .await;
        let status = status.expect("a status");
        assert_eq!(status["customStatus"]["notifications"][0]["state"], "confirmed", "{status:#}");
    }
    assert_eq!(slow.take().len(), PUSHES);
}

/// The registry may go away as soon as it has sent its webhook; the notification must not wait for the end of a lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_hangs_up_delays_no_notification() {
    use tokio::io::AsyncWriteExt as _;
    const PUSHES: usize = 20;
    // Below the lease of 30 s, which one that was forgotten would wait for, and enough for so many on a shared Azurite.
    const TOLD_MAX: Duration = Duration::from_secs(20);
    let receiver = Recorder::default();
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let targets = json!([{ "name": "ops", "url": url, "format": "standard" }]).to_string();
    // Slow enough storage for the caller to be gone before it has answered.
    let settings = [("WebhookRegions", "a"), ("WebhookTargets", targets.as_str())];
    let service = Service::start(Deployment::ServeAzure, &settings).await;
    let address = service.base_url().trim_start_matches("http://").to_owned();
    for n in 0..PUSHES {
        let body = Image::new("team/shop", &format!("t{n}")).notification();
        let length = body.len();
        let head =
            format!("POST /api/ImagePush?region=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        stream.write_all((head + &body).as_bytes()).await.expect("written");
        pause(Duration::from_millis(5)).await;
        if n % 2 == 0 {
            // A reset, as from a caller whose process was killed.
            stream.set_zero_linger().expect("a socket");
        }
    }
    let (begun, caller) = (Instant::now(), service.caller());
    let mut told = 0;
    // One that was reset before it was read has left nothing.
    eventually("all that arrived are told", LIMIT, async || {
        told += receiver.take().len();
        let Some(pushes) = caller.pushes().await.map(|all| all.len()) else { return false };
        assert!(pushes >= PUSHES / 2 || begun.elapsed() < TOLD_MAX, "only {pushes} have arrived");
        pushes >= PUSHES / 2 && told >= pushes
    })
    .await;
    eprintln!("{told} of {PUSHES} callers that hung up were heard, all told within {:?}", begun.elapsed());
    assert!(begun.elapsed() < TOLD_MAX, "told after {:?}", begun.elapsed());
}
