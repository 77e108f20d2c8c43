//! `/metrics` of the real `serve`, after real pushes.

use reqwest::{Client, Method};
use serde_json::json;

use crate::support::host::{Host, HostOptions, Serves};
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT, Serve, Service};
use crate::support::{eventually, wire};

const REGIONS: (&str, &str) = ("WebhookRegions", "east,west");

/// The answer to a scrape.
pub(crate) async fn scrape(base_url: &str) -> String {
    let answer = Client::new().get(format!("{base_url}/metrics")).send().await.expect("an answer");
    let kind = answer.headers()["content-type"].to_str().expect("a text").to_owned();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text().await.expect("a text");
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

/// The value of a sample; `None` where there is none.
pub(crate) fn value(text: &str, sample: &str) -> Option<f64> {
    let line =
        text.lines().find_map(|line| line.strip_prefix("global_webhook_")?.strip_prefix(sample)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// Waits until samples have these values.
async fn counted(base_url: &str, samples: &[(&str, f64)]) -> String {
    let mut text = String::new();
    let mut wrong: Vec<(&str, f64)> = Vec::new();
    eventually("all is counted", LIMIT, async || {
        text = scrape(base_url).await;
        wrong = samples.iter().copied().filter(|(sample, wanted)| value(&text, sample) != Some(*wanted)).collect();
        wrong.is_empty()
    })
    .await;
    text
}

/// Two receivers, the second of which answers 500 to everything.
async fn targets() -> (Recorder, String) {
    let (good, broken) = (Recorder::default(), Recorder::default());
    let no: &[u8] = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    broken.script(&[no; 100]);
    let url = async |recorder: &Recorder| format!("http://127.0.0.1:{}/", recorder.listen().await);
    let targets = json!([
        { "name": "good", "url": url(&good).await, "format": "standard" },
        { "name": "broken", "url": url(&broken).await, "format": "standard" },
    ]);
    (good, targets.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_is_what_happened() {
    let (_good, targets) = targets().await;
    let rules = json!([{ "name": "slow", "repository": "slow/**", "timeout": "1:0:0" }]).to_string();
    let settings = [
        REGIONS,
        ("WebhookTimeout", "0:0:1"),
        ("WebhookTargets", &targets),
        ("WebhookRules", &rules),
        ("WebhookRetrySchedule", "0:0:1"),
    ];
    let serve = Serve::start(&settings, &[]).await;
    let (caller, url) = (serve.caller(), serve.base_url());
    let (whole, half, slow) =
        (Image::new("team/whole", "1"), Image::new("team/half", "1"), Image::new("slow/one", "1"));
    for (region, image) in
        [("east", &whole), ("west", &whole), ("west", &whole.again()), ("east", &half), ("east", &slow)]
    {
        assert_eq!(caller.post(region, image.notification()).await.expect("an answer").0, 202);
    }
    for (region, body, status) in
        [("mars", whole.notification(), 400), ("east", "{".to_owned(), 400), ("", whole.notification(), 400)]
    {
        assert_eq!(caller.post(region, body).await.expect("an answer").0, status);
    }
    let text = counted(
        &url,
        &[
            (r#"arrivals_total{region="east",result="opened"}"#, 3.0),
            (r#"arrivals_total{region="west",result="replicated"}"#, 1.0),
            (r#"arrivals_total{region="west",result="repeated"}"#, 1.0),
            (r#"arrivals_total{region="other",result="region_unknown"}"#, 1.0),
            (r#"arrivals_total{region="east",result="body_not_json"}"#, 1.0),
            (r#"arrivals_total{region="other",result="region_missing"}"#, 1.0),
            (r#"settled_total{outcome="replicated"}"#, 1.0),
            (r#"settled_total{outcome="timed_out"}"#, 1.0),
            (r#"settled_total{outcome="superseded"}"#, 0.0),
            (r#"lag_seconds_count{region="west"}"#, 1.0),
            (r#"lag_seconds_count{region="east"}"#, 3.0),
            ("timer_lateness_seconds_count", 1.0),
            (r#"attempts_total{target="good",result="confirmed"}"#, 2.0),
            (r#"attempts_total{target="broken",result="failed"}"#, 2.0),
            (r#"attempts_total{target="broken",result="exhausted"}"#, 2.0),
            (r#"exhausted_total{target="broken"}"#, 2.0),
            (r#"exhausted_total{target="good"}"#, 0.0),
            ("spills_total", 0.0),
            ("waiting", 1.0),
            ("owed", 0.0),
            (&format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        ],
    )
    .await;
    for (kind, result, at_least) in [("write", "ok", 10.0), ("read", "ok", 1.0)] {
        let sample = format!("storage_requests_total{{kind=\"{kind}\",result=\"{result}\"}}");
        assert!(value(&text, &sample) >= Some(at_least), "{sample} in {text}");
    }
    for stranger in ["mars", "team/", "127.0.0.1", &whole.digest, &whole.id] {
        assert!(!text.contains(stranger), "{stranger} in {text}");
    }
}

/// The gauges are right after a restart, in a process that has seen none of it.
async fn gauges_survive_a_restart(deployment: Deployment) {
    let (_good, targets) = targets().await;
    let settings = [
        REGIONS,
        ("WebhookTimeout", "0:15:0"),
        ("WebhookTargets", &targets),
        ("WebhookRetrySchedule", "0:15:0"),
        ("WebhookApp", "gauges"),
    ];
    let mut service = Service::start(deployment, &settings).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let image = Image::new("team/waits", &n.to_string());
        ids.push(service.push_until_taken("east", &image).await.1["id"].as_str().expect("an id").to_owned());
    }
    let whole = Image::new("team/whole", "1");
    service.push_until_taken("east", &whole).await;
    service.push_until_taken("west", &whole).await;
    counted(&service.base_url(), &[("waiting", 3.0), ("owed", 1.0)]).await;
    service.kill_and_restart().await;
    let text = counted(&service.base_url(), &[("waiting", 3.0), ("owed", 1.0)]).await;
    assert_eq!(value(&text, r#"settled_total{outcome="replicated"}"#), Some(0.0), "what is counted begins anew");
    // What ends afterwards is taken off.
    assert_eq!(service.caller().operate(&ids[0], "terminate").await, Some(202));
    counted(&service.base_url(), &[("waiting", 2.0), ("owed", 2.0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gauges_survive_a_restart_on_the_embedded_store() {
    gauges_survive_a_restart(Deployment::ServeEmbedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gauges_survive_a_restart_on_azure() {
    gauges_survive_a_restart(Deployment::ServeAzure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_requests_are_counted_on_azure() {
    let service = Service::start(Deployment::ServeAzure, &[REGIONS]).await;
    service.push_until_taken("east", &Image::new("team/shop", "1")).await;
    // An arrival may be answered from the queue, and its row written after that.
    for kind in ["table_read", "table_insert", "queue_insert"] {
        let sample = format!("storage_requests_total{{kind=\"{kind}\",result=\"ok\"}}");
        let counted = async || value(&scrape(&service.base_url()).await, &sample) >= Some(1.0);
        eventually(&format!("{sample} is counted"), LIMIT, counted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_want_the_operators_key() {
    const REGISTRY: &str = "a-key-of-the-registry";
    const OPERATOR: &str = "a-key-of-the-operators";
    let settings = [REGIONS, ("WebhookKey", REGISTRY), ("WebhookOperatorKey", OPERATOR)];
    let serve = Serve::start(&settings, &[]).await;
    let url = format!("{}/metrics", serve.base_url());
    let client = Client::new();
    let status = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer").status().as_u16();
    for (key, wanted) in [(OPERATOR, 200), (REGISTRY, 403), ("a-guess", 401)] {
        assert_eq!(status(client.get(&url).header("x-functions-key", key)).await, wanted, "header {key}");
        assert_eq!(status(client.get(&url).bearer_auth(key)).await, wanted, "bearer {key}");
        assert_eq!(status(client.get(format!("{url}?code={key}"))).await, wanted, "query {key}");
    }
    assert_eq!(status(client.get(&url)).await, 401);
    assert_eq!(status(client.get(&url).basic_auth("x", Some(OPERATOR))).await, 401);
    // What was meant for somebody in between does not hide the key of the query.
    assert_eq!(status(client.get(format!("{url}?code={OPERATOR}")).bearer_auth("another's")).await, 200);
    let post = client.request(Method::POST, &url).header("x-functions-key", OPERATOR);
    assert_eq!(status(post).await, 405);
    assert_eq!(status(client.head(&url).header("x-functions-key", OPERATOR)).await, 200);
    // A webhook with a wrong key is counted, and nothing else is.
    let webhook = client.post(format!("{}/api/ImagePush?region=east", serve.base_url()));
    assert_eq!(status(webhook.header("x-functions-key", "a-guess")).await, 401);
    let text = client.get(&url).bearer_auth(OPERATOR).send().await.expect("an answer").text().await.expect("a text");
    assert_eq!(value(&text, r#"arrivals_total{region="east",result="unauthorised"}"#), Some(1.0), "{text}");
    assert_eq!(text.matches("unauthorised").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keys_no_page_of_a_browser_reads_them() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let port = serve.base_url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let request = b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(wire::send(request, port).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_the_functions_host_there_is_nothing_to_scrape() {
    let host = Host::start(HostOptions::spawned(&[REGIONS]).only(Serves::Http)).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n";
    eventually("the handler answers", LIMIT, async || host.probe().await == Some(200)).await;
    assert_eq!(wire::send(request, host.handler_port()).await.status, 404);
}
