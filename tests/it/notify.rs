//! The notifier against receivers that listen on loopback and misbehave on cue.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use global_webhook::clock::{Clock, SystemClock, after};
use global_webhook::config::Source;
use global_webhook::config::targets::{TargetSettings, targets};
use global_webhook::limits;
use global_webhook::notify::Notifier;
use global_webhook::notify::client::{HttpNotifier, Options};
use global_webhook::push::{AttemptResult, Claim, Notice, Row};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::samples;

const SECRETS: [&str; 2] =
    ["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
const PAYLOAD: &str =
    r#"{"id":"1","action":"push","target":{"repository":"shop/cart","tag":"1","digest":"sha256:1"},"size":1.50}"#;

/// A request as the receiver saw it.
struct Seen {
    line: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Starts a receiver that hands each connection, its request read, to `answer`; returns its URL and what it sees.
async fn receiver<F, A>(answer: F) -> (String, mpsc::UnboundedReceiver<Seen>)
where
    F: Fn(TcpStream) -> A + Send + Sync + Clone + 'static,
    A: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?code=s3cret", listener.local_addr().unwrap());
    let (told, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (told, answer) = (told.clone(), answer.clone());
            tokio::spawn(async move {
                if let Some(request) = read(&mut stream).await {
                    let _ = told.send(request);
                    answer(stream).await;
                }
            });
        }
    });
    (url, seen)
}

/// A receiver that writes `text` to every connection and closes it.
async fn saying(text: impl Into<String>) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let text: Arc<str> = text.into().into();
    receiver(move |mut stream| {
        let text = Arc::clone(&text);
        async move {
            let _ = stream.write_all(text.as_bytes()).await;
        }
    })
    .await
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut all = Vec::new();
    let head = loop {
        if let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut all).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(all[..head].to_vec()).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    };
    let headers: HeaderMap = lines.map(header).collect();
    let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
    while all.len() < head + 4 + length {
        assert_ne!(stream.read_buf(&mut all).await.ok()?, 0);
    }
    Some(Seen { line, headers, body: all[head + 4..].to_vec() })
}

/// A push that has settled as replicated.
fn row() -> Row {
    samples::settled(samples::row(samples::id("x", 1), SystemClock.now(), PAYLOAD), vec![])
}

fn claim(target: &str) -> Claim {
    let lease_until = after(SystemClock.now(), limits::LEASE);
    Claim { target: target.into(), notice: Notice::Replicated, claim: 1, lease_until }
}

fn settings(json: &str) -> Vec<TargetSettings> {
    let mut faults = Vec::new();
    let targets = targets(&Source::new([("WebhookTargets", json)]), &mut faults);
    assert_eq!(faults, []);
    targets
}

fn notifier(json: &str) -> HttpNotifier {
    let options = Options { attempt_timeout: Duration::from_millis(400), public_url: None, traces: None };
    HttpNotifier::new(settings(json), Arc::new(SystemClock), options)
}

/// One attempt at the receiver with that URL.
async fn attempt(url: &str) -> AttemptResult {
    let result = notifier(&format!(r#"[{{"name":"t","url":"{url}"}}]"#)).attempt(&row(), &claim("t")).await;
    assert!(!format!("{result:?}").contains("s3cret"), "{result:?}");
    result
}

fn reason(result: AttemptResult) -> String {
    match result {
        AttemptResult::Failed { reason, .. }
        | AttemptResult::NotBegun { reason }
        | AttemptResult::Refused { reason } => reason,
        AttemptResult::Confirmed { status } => panic!("confirmed with {status}"),
    }
}

#[tokio::test]
async fn a_receiver_gets_the_registrys_own_text_signed_twice() {
    let (url, mut seen) = saying("HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let [old, new] = SECRETS;
    let json = format!(
        r#"[{{"name":"t","url":"{url}","secrets":["{old}","{new}"],"headers":{{"Authorization":"Bearer x"}}}}]"#
    );
    let (notifier, row) = (notifier(&json), row());
    for _ in 0..2 {
        let result = notifier.attempt(&row, &claim("t")).await;
        assert_eq!(result, AttemptResult::Confirmed { status: 202 });
        let request = seen.recv().await.unwrap();
        assert_eq!(request.line, "POST /hook?code=s3cret HTTP/1.1");
        assert_eq!(request.body, PAYLOAD.as_bytes());
        assert_eq!(request.headers["user-agent"], "AzureContainerRegistry/1.0");
        assert_eq!(request.headers["content-type"], "application/json; charset=utf-8");
        assert_eq!(request.headers["authorization"], "Bearer x");
        assert_eq!(request.headers["webhook-id"], row.notification_id(Notice::Replicated).as_str());
        for secret in SECRETS {
            standardwebhooks::Webhook::new(secret).unwrap().verify(&request.body, &request.headers).unwrap();
        }
        let foreign = standardwebhooks::Webhook::from_bytes(vec![1; 32]).unwrap();
        assert!(foreign.verify(&request.body, &request.headers).is_err());
    }
}

#[tokio::test]
async fn every_format_is_signed_and_names_itself() {
    let (url, mut seen) = saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    for (format, content_type) in [
        ("standard", "application/json"),
        ("cloudevents", "application/cloudevents+json; charset=UTF-8"),
        ("slack", "application/json"),
        ("teams", "application/json"),
        ("github", "application/json"),
    ] {
        let json = format!(r#"[{{"name":"t","url":"{url}","format":"{format}","secret":"{}"}}]"#, SECRETS[0]);
        let result = notifier(&json).attempt(&row(), &claim("t")).await;
        assert_eq!(result, AttemptResult::Confirmed { status: 200 });
        let request = seen.recv().await.unwrap();
        assert_eq!(request.headers["content-type"], content_type);
        assert!(request.headers["user-agent"].to_str().unwrap().starts_with("acr-global-webhook/"));
        standardwebhooks::Webhook::new(SECRETS[0]).unwrap().verify(&request.body, &request.headers).unwrap();
    }
}

#[tokio::test]
async fn without_a_secret_id_and_time_are_sent_all_the_same() {
    let (url, mut seen) = saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(attempt(&url).await, AttemptResult::Confirmed { status: 204 });
    let headers = seen.recv().await.unwrap().headers;
    assert!(headers.contains_key("webhook-id") && headers.contains_key("webhook-timestamp"));
    assert!(!headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn statuses_mean_what_they_should() {
    let (gone, _seen) = saying("HTTP/1.1 410 Gone\r\ncontent-length: 4\r\n\r\nbye!").await;
    assert_eq!(attempt(&gone).await, AttemptResult::Refused { reason: "410 Gone".into() });

    let (busy, _seen) = saying("HTTP/1.1 429 Busy\r\nretry-after: 77\r\ncontent-length: 0\r\n\r\n").await;
    let retry_after = Some(Duration::from_secs(77));
    assert_eq!(attempt(&busy).await, AttemptResult::Failed { reason: "429 Too Many Requests".into(), retry_after });

    let long = "x\u{1b}y ".repeat(2000);
    let (broken, _seen) = saying(format!("HTTP/1.1 500 E\r\ncontent-length: {}\r\n\r\n{long}", long.len())).await;
    let reason = reason(attempt(&broken).await);
    assert_eq!(reason, "500 Internal Server Error");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (end, mut never) = saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for status in [301, 302, 303, 307, 308] {
        let (url, _seen) = saying(format!("HTTP/1.1 {status} X\r\nlocation: {end}\r\ncontent-length: 0\r\n\r\n")).await;
        assert!(reason(attempt(&url).await).contains("redirects are not followed"));
    }
    assert!(never.try_recv().is_err());
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_the_time_out() {
    let (silent, _seen) = receiver(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let watch = Stopwatch::now();
    assert_eq!(reason(attempt(&silent).await), "no complete answer within 0.4 s");
    assert!(watch.elapsed() < Duration::from_secs(2));

    // Once it has said yes, it may keep the rest of its reply.
    let (halfway, _seen) = receiver(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal").await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(attempt(&halfway).await, AttemptResult::Confirmed { status: 200 });
}

#[tokio::test]
async fn an_endless_reply_is_cut_off() {
    for status in ["200 OK", "500 E"] {
        let (done, mut written) = mpsc::unbounded_channel();
        let (url, _seen) = receiver(move |mut stream| {
            let done = done.clone();
            async move {
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: 1000000000\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                let (block, mut sent) = (vec![b'z'; 64 * 1024], 0usize);
                while sent < 1_000_000_000 && stream.write_all(&block).await.is_ok() {
                    sent += block.len();
                }
                let _ = done.send(sent);
            }
        })
        .await;
        match attempt(&url).await {
            AttemptResult::Confirmed { status } => assert_eq!(status, 200),
            AttemptResult::Failed { reason, .. } => {
                assert!(reason.starts_with("500") && reason.len() < 400, "{reason}")
            }
            AttemptResult::NotBegun { .. } | AttemptResult::Refused { .. } => panic!("not failed"),
        }
        // What was written are the buffers of the connection, which ended as soon as enough was read.
        assert!(written.recv().await.unwrap() < 50_000_000);
    }
}

#[tokio::test]
async fn broken_exchanges_are_failures_that_name_no_url() {
    for text in ["", "garbage\r\n\r\n", "HTTP/1.1 ", "SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 200 OK\r\nbad header\r\n\r\n"]
    {
        let (url, _seen) = saying(text).await;
        let reason = reason(attempt(&url).await);
        assert!(reason.starts_with("the exchange broke off"), "{reason}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "x-a: 1\r\n".repeat(200_000));
    let (url, _seen) = saying(endless).await;
    assert!(reason(attempt(&url).await).starts_with("the exchange broke off"));

    // A status that came through counts, even if its words break off.
    let (url, _seen) = saying("HTTP/1.1 503 E\r\ncontent-length: 99\r\n\r\ntoo bu").await;
    assert_eq!(reason(attempt(&url).await), "503 Service Unavailable");
    let (url, _seen) = saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel").await;
    assert_eq!(attempt(&url).await, AttemptResult::Confirmed { status: 200 });
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reason_of = async |url: &str| reason(attempt(url).await);
    let refused = reason_of(&format!("http://u:s3cret@{free}/s3cret")).await;
    assert!(refused.starts_with("cannot connect: "), "{refused}");
    // Without a name server the answer may take longer than the time-out.
    let unknown = reason_of("https://receiver.invalid/s3cret").await;
    assert!(unknown.starts_with("cannot connect: ") || unknown.starts_with("no complete answer"), "{unknown}");
}

#[tokio::test]
async fn private_addresses_are_refused_where_the_target_says_so() {
    let (url, mut seen) = saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let named = url.replace("127.0.0.1", "localhost");
    // Settings refuse both at the start; a name of somebody else's may turn private later, and is held to the same rule.
    for (url, why) in [(&named, "refused: the name resolves to"), (&url, "refused: a private address")] {
        let mut targets = settings(&format!(r#"[{{"name":"t","url":"{url}"}}]"#));
        targets[0].allow_private = false;
        let guarded = HttpNotifier::new(targets, Arc::new(SystemClock), Options::default());
        let reason = reason(guarded.attempt(&row(), &claim("t")).await);
        assert!(reason.contains(why) && reason.contains("private"), "{reason}");
        let tested = guarded.test(None).await.unwrap().pop().unwrap();
        assert_eq!(tested.reason, Some(reason), "nor is a test let through");
    }
    assert!(seen.try_recv().is_err());
    assert_eq!(attempt(&named).await, AttemptResult::Confirmed { status: 200 });
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (opened, mut connections) = mpsc::unbounded_channel();
    let (url, _seen) = receiver(move |mut stream| {
        let _ = opened.send(());
        async move {
            while stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_ok() {
                if read(&mut stream).await.is_none() {
                    break;
                }
            }
        }
    })
    .await;
    let notifier = notifier(&format!(r#"[{{"name":"t","url":"{url}"}}]"#));
    for _ in 0..3 {
        assert_eq!(notifier.attempt(&row(), &claim("t")).await, AttemptResult::Confirmed { status: 200 });
    }
    connections.recv().await.unwrap();
    assert!(connections.try_recv().is_err());
}

#[tokio::test]
async fn a_target_that_is_no_longer_configured_is_a_failure() {
    let reason = reason(notifier("[]").attempt(&row(), &claim("old")).await);
    assert_eq!(reason, "target `old` is not configured here");
}

/// A receiver that takes every request and never answers.
async fn silent() -> (String, mpsc::UnboundedReceiver<Seen>) {
    receiver(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await
}

#[tokio::test]
async fn a_test_waits_for_no_attempt_but_for_another_test() {
    let (url, mut seen) = silent().await;
    let options = Options { attempt_timeout: Duration::from_secs(2), public_url: None, traces: None };
    let targets = settings(&format!(r#"[{{"name":"t","url":"{url}"}}]"#));
    let notifier = Arc::new(HttpNotifier::new(targets, Arc::new(SystemClock), options));
    for _ in 0..limits::DELIVERIES_PER_TARGET_MAX {
        let notifier = Arc::clone(&notifier);
        tokio::spawn(async move { notifier.attempt(&row(), &claim("t")).await });
    }
    for _ in 0..limits::DELIVERIES_PER_TARGET_MAX {
        seen.recv().await.unwrap();
    }
    let (first, second) = tokio::join!(notifier.test(None), notifier.test(None));
    assert_eq!(second, None);
    let first = first.unwrap().pop().unwrap();
    assert_eq!(first.reason.as_deref(), Some("no complete answer within 2 s"), "{first:?}");
    let request = seen.recv().await.unwrap();
    assert_eq!(request.headers["webhook-id"], first.id);
    assert_eq!(notifier.test(Some("other")).await, Some(vec![]));
}

#[tokio::test]
async fn a_target_that_hangs_delays_no_other_and_overruns_no_lease() {
    let (slow, _seen) = silent().await;
    let (quick, _seen) = saying("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let json = format!(r#"[{{"name":"slow","url":"{slow}"}},{{"name":"quick","url":"{quick}"}}]"#);
    let options = Options { attempt_timeout: Duration::from_secs(1), public_url: None, traces: None };
    let notifier = Arc::new(HttpNotifier::new(settings(&json), Arc::new(SystemClock), options));
    let row = Arc::new(row());
    // The first use makes the client, which is no part of what is measured.
    assert_eq!(notifier.attempt(&row, &claim("quick")).await, AttemptResult::Confirmed { status: 200 });
    // Just enough lease to wait a little for a place.
    let short = after(SystemClock.now(), limits::LEASE_MARGIN + Duration::from_millis(300));
    let watch = Stopwatch::now();
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let (notifier, row) = (Arc::clone(&notifier), Arc::clone(&row));
            tokio::spawn(async move { notifier.attempt(&row, &Claim { lease_until: short, ..claim("slow") }).await })
        })
        .collect();
    tokio::task::yield_now().await;
    for _ in 0..20 {
        assert_eq!(notifier.attempt(&row, &claim("quick")).await, AttemptResult::Confirmed { status: 200 });
    }
    assert!(watch.elapsed() < Duration::from_millis(900), "{:?}", watch.elapsed());
    let mut waited = 0;
    for result in slow {
        waited += usize::from(reason(result.await.unwrap()).starts_with("not sent"));
    }
    assert_eq!(waited, 100 - limits::DELIVERIES_PER_TARGET_MAX);
    assert!(watch.elapsed() < Duration::from_secs(3), "{:?}", watch.elapsed());
}
