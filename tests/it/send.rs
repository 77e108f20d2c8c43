//! `send` against a small service of its own, in a time of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser;
use global_webhook::cli::send::{self, Args, Screen};
use global_webhook::clock::{Clock, Instant};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::command;
use crate::support::http::Connection;
use crate::support::service::Serve;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// A clock whose waits cost nothing.
pub struct Fast(pub Mutex<Instant>);

#[async_trait]
impl Clock for Fast {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }
    async fn sleep(&self, wait: Duration) {
        *self.0.lock().unwrap() += wait;
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the service of a test does. A push is named by its tag and settles at the second look at it: replicated when
/// every region has come, timed out otherwise.
#[derive(Default)]
struct Service {
    key: Option<&'static str>,
    /// Answers every webhook with this status and body instead.
    instead: Option<(u16, &'static str)>,
    /// Never settles anything.
    stuck: bool,
    posted: Vec<(String, Value)>,
    looks: BTreeMap<String, u32>,
}

const REGIONS: [&str; 3] = ["eastus", "westus", "northeurope"];

impl Service {
    async fn listen(self) -> (u16, Arc<Mutex<Self>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = Arc::new(Mutex::new(self));
        let shared = Arc::clone(&service);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    let mut connection = Connection::new(stream);
                    while let Ok(Some(head)) = connection.head().await {
                        let body = connection.body(head.request_framing().unwrap()).await.unwrap();
                        let key = head.get("x-functions-key").map(str::to_owned);
                        let (status, body) = service.lock().unwrap().answer(&head.start, key.as_deref(), &body, port);
                        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                        connection.write(format!("{head}{body}").as_bytes()).await.unwrap();
                    }
                });
            }
        });
        (port, shared)
    }

    fn answer(&mut self, start: &str, key: Option<&str>, body: &[u8], port: u16) -> (u16, String) {
        if self.key.is_some() && self.key != key {
            return (401, String::new());
        }
        let target = start.split(' ').nth(1).unwrap();
        if let Some(id) = target.strip_prefix("/api/pushes/") {
            return self.status(id);
        }
        if let Some((status, body)) = self.instead {
            return (status, body.to_owned());
        }
        if start.starts_with("GET") {
            let health = json!({
                "version": "1", "regions": REGIONS, "timeout": "2 minutes", "targets": [], "rows": { "status": "ok" },
                "queue": { "status": "ok" },
            });
            return (200, health.to_string());
        }
        let region = target.split_once("region=").unwrap().1.to_owned();
        let body: Value = serde_json::from_slice(body).unwrap();
        let id = body["target"]["tag"].as_str().unwrap().to_owned();
        self.posted.push((region, body));
        let status = format!("http://127.0.0.1:{port}/api/pushes/{id}");
        (202, json!({ "id": id, "statusQueryGetUri": status }).to_string())
    }

    fn status(&mut self, id: &str) -> (u16, String) {
        let looks = self.looks.entry(id.to_owned()).or_default();
        *looks += 1;
        let came = |region: &&&str| self.posted.iter().any(|(r, body)| r == **region && body["target"]["tag"] == id);
        let missing: Vec<_> = REGIONS.iter().filter(|r| !came(r)).collect();
        let regions: BTreeMap<_, _> = REGIONS
            .iter()
            .map(|r| (r, json!({ "arrived": came(&r).then_some("2026-11-22T08:00:00Z"), "late": false, "repeats": 0 })))
            .collect();
        let (now, deadline) = ("2026-11-22T08:00:00.000Z", "2026-11-22T08:02:00.000Z");
        let outcome = if missing.is_empty() { "replicated" } else { "timed_out" };
        let (status, state, runtime, output) = if *looks < 2 || self.stuck {
            (202, "waiting", "Running", Value::Null)
        } else {
            let output = json!({ "outcome": outcome, "settled": deadline, "terminated": false, "missing": missing, "durationMs": 3210 });
            (200, outcome, "Completed", output)
        };
        let custom = json!({
            "state": state, "image": format!("r:{id}"), "registry": "", "repository": "r", "tag": id, "action": "push", "digest": "d",
            "companion": false, "regions": regions, "unawaited": {}, "missing": missing, "deadline": deadline, "lagMs": 0,
            "correlation": "content", "correlationKey": id, "round": 1,
        });
        let push = json!({
            "instanceId": id, "runtimeStatus": runtime, "createdTime": now, "lastUpdatedTime": now, "input": null,
            "customStatus": custom, "output": output,
        });
        (status, push.to_string())
    }
}

/// Runs `send`: whether it went well, and its words.
async fn run(port: u16, line: &str) -> (bool, String) {
    let url = format!("http://127.0.0.1:{port}/api/ImagePush");
    let args = Cli::parse_from(["send", "--url", &url].into_iter().chain(line.split_whitespace())).args;
    let clock = Fast(Mutex::new("2026-11-22T08:00:00Z".parse().unwrap()));
    let sink = Sink::default();
    let mut screen = Screen::new(Box::new(sink.clone()), Box::new(sink.clone()), false);
    let code = send::run_on(&args, &clock, &mut screen).await;
    let words = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    (code == ExitCode::SUCCESS, words)
}

#[tokio::test]
async fn simple_sends_to_the_configured_regions_and_follows() {
    let (port, service) = Service::default().listen().await;
    let (good, words) = run(port, "--count 2 --image team/app --tag v1").await;
    assert!(good, "{words}");
    let posted = &service.lock().unwrap().posted;
    let order: Vec<_> = posted.iter().map(|(r, b)| format!("{} {r}", b["target"]["tag"].as_str().unwrap())).collect();
    assert_eq!(
        order,
        ["v1-1 eastus", "v1-1 westus", "v1-1 northeurope", "v1-2 eastus", "v1-2 westus", "v1-2 northeurope"]
    );
    assert_eq!(posted[0].1["id"], posted[1].1["id"]);
    assert_ne!(posted[0].1["id"], posted[3].1["id"]);
    assert!(words.contains("contoso.azurecr.io/team/app:v1-1 from eastus: 202, push v1-1"), "{words}");
    assert!(words.contains("0 of 2 settled; contoso.azurecr.io/team/app:v1-1: 3 of 3 regions"), "{words}");
    assert!(words.ends_with("team/app:v1-2: replicated after 3.2 s\n"), "{words}");
}

#[tokio::test]
async fn interleaved_says_its_order_and_keeps_to_it() {
    let (port, service) = Service::default().listen().await;
    let (good, words) = run(port, "--scenario interleaved --tag v --delay 1s").await;
    assert!(good, "{words}");
    let posted = &service.lock().unwrap().posted;
    assert_eq!(posted.len(), 9);
    let order: Vec<_> = posted
        .iter()
        .map(|(r, b)| format!("{} {r}", b["target"]["tag"].as_str().unwrap().trim_start_matches("v-")))
        .collect();
    assert!(words.contains(&format!("Order (push, region): {}.", order.join(", "))), "{words}");
}

#[tokio::test]
async fn timeout_leaves_a_region_out_and_expects_the_push_to_time_out() {
    let (port, service) = Service::default().listen().await;
    let (good, words) = run(port, "--scenario timeout").await;
    assert!(good, "{words}");
    assert_eq!(service.lock().unwrap().posted.len(), 2);
    assert!(words.contains("2 of 3 regions, missing northeurope, 2 min 0 s left"), "{words}");
    assert!(words.ends_with("timed out after 3.2 s\n"), "{words}");
}

#[tokio::test]
async fn another_outcome_than_expected_is_a_failure() {
    let (port, _service) = Service::default().listen().await;
    let (good, words) = run(port, "--regions eastus").await;
    assert!(!good && words.ends_with("timed out after 3.2 s (expected: replicated)\n"), "{words}");
}

#[tokio::test]
async fn following_ends_a_minute_after_the_deadline_or_when_told() {
    for line in ["", "--timeout 5s"] {
        let (port, service) = Service { stuck: true, ..Service::default() }.listen().await;
        let (good, words) = run(port, line).await;
        assert!(!good && words.contains("still waiting"), "{words}");
        let looks = service.lock().unwrap().looks["1.0"];
        assert_eq!(looks, if line.is_empty() { 361 } else { 11 });
    }
}

#[tokio::test]
async fn without_following_acceptance_is_enough() {
    let (port, service) = Service { stuck: true, ..Service::default() }.listen().await;
    let (good, words) = run(port, "--no-follow --regions WestUS,eastus").await;
    assert!(good, "{words}");
    assert_eq!(service.lock().unwrap().posted[0].0, "WestUS");
    assert!(service.lock().unwrap().looks.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_digest_of_an_earlier_run_completes_its_pushes() {
    let digest = format!("sha256:{}", "9f2c".repeat(16));
    for (timeout, first, ended) in [("0:30:0", &["--no-follow"][..], "replicated"), ("0:0:1", &[], "recovered")] {
        let serve = Serve::start(&[("WebhookRegions", "northeurope,westus"), ("WebhookTimeout", timeout)], &[]).await;
        let send = async |args: &[&str]| {
            let args = [&["send", "--count", "3", "--digest", &digest], args].concat();
            command::run(&serve.base_url(), &args).await
        };
        let begun = send(&[&["--scenario", "timeout"], first].concat()).await;
        assert_eq!(begun.code, 0, "{begun:?}");
        let completed = send(&["--regions", "westus"]).await;
        assert_eq!(
            (completed.code, completed.out.matches(&format!(": {ended} after")).count()),
            (0, 3),
            "{completed:?}"
        );
    }
    let refused = command::run("", &["send", "--digest", "sha256:9f2c"]).await;
    assert!(refused.code == 2 && refused.err.contains("64 hex digits"), "{refused:?}");
}

#[tokio::test]
async fn a_key_is_asked_for_and_sent() {
    let (port, _service) = Service { key: Some("k"), ..Service::default() }.listen().await;
    let (good, words) = run(port, "").await;
    assert!(!good && words.contains("asks for a function key; pass it with --key."), "{words}");
    let (good, words) = run(port, "--key wrong --regions a").await;
    assert!(!good && words.contains("refused the function key"), "{words}");
    let (good, words) = run(port, "--key k").await;
    assert!(good, "{words}");
}

#[tokio::test]
async fn faults_of_the_service_are_told() {
    let cases = [
        (
            503,
            r#"{"error":{"code":"misconfigured","message":"WebhookRegions: missing"}}"#,
            "(503): WebhookRegions: missing",
        ),
        (404, "", "is not this service (404)"),
        (200, "<html>", "name them with --regions"),
    ];
    for (status, body, expected) in cases {
        let (port, _service) = Service { instead: Some((status, body)), ..Service::default() }.listen().await;
        let (good, words) = run(port, "").await;
        assert!(!good && words.contains(expected), "{words}");
    }
    let cases = [
        (400, r#"{"error":{"code":"c","message":"The region `x` is not configured"}}"#, "400: The region `x`"),
        (200, r#"{"ignored":"a rule says so"}"#, "200, ignored: a rule says so"),
        (202, "{}", "without `id` and `statusQueryGetUri`"),
    ];
    for (status, body, expected) in cases {
        let (port, _service) = Service { instead: Some((status, body)), ..Service::default() }.listen().await;
        let (good, words) = run(port, "--regions x").await;
        assert!(!good && words.contains(expected), "{words}");
    }
}

#[tokio::test]
async fn nothing_listening_is_told_with_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (good, words) = run(port, "").await;
    assert!(!good && words.contains("Nothing listens at http://127.0.0.1:"), "{words}");
    assert!(words.contains("global-webhook serve"), "{words}");
}
