//! Every request captured from the real Functions host, sent byte for byte to the handler it starts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::azurite::azurite;
use crate::support::eventually;
use crate::support::host::{Host, HostOptions, Queue, QueueAccess, Serves};
use crate::support::service::{LIMIT, QUEUE};
use crate::support::wire;

async fn handler() -> (Host, QueueAccess) {
    let account = tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite");
    let settings = [("WebhookRegions", "northeurope,westus"), ("AzureWebJobsStorage", account.as_str())];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http)).await;
    // A first look at storage may take longer than an arrival has; it would be spilled.
    eventually("storage is reached", LIMIT, async || {
        let health = wire::send(b"GET /api/ImagePush HTTP/1.1\r\nHost: h\r\n\r\n", host.handler_port()).await.json();
        health["rows"]["status"] == "ok" && health["queue"]["status"] == "ok"
    })
    .await;
    (host, QueueAccess { connection_string: account, queue: QUEUE.into() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_capture_is_answered_as_the_host_needs_it() {
    let (host, access) = handler().await;
    let names = wire::all();
    assert!(names.len() >= 19, "{names:?}");
    for name in names {
        let answer = wire::replay(&name, host.handler_port()).await;
        let json: Value = answer.json();
        assert!(json.is_object(), "{name}: {json}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
        let code = json["error"]["code"].as_str().unwrap_or("");
        let expected = match name.as_str() {
            "ready-probe.http" => (200, ""),
            "imagepush-first-region.http" | "imagepush-second-region.http" => (202, ""),
            "forwarded-many-headers.http" => (400, "region_missing"),
            n if n.starts_with("queue-") => (200, ""),
            _ => (404, "not_found"),
        };
        assert_eq!((answer.status, code), expected, "{name}: {json}");
        if name.starts_with("queue-") {
            assert_eq!(json["Outputs"], serde_json::json!({}), "{name}");
        }
        assert!(!answer.text().contains("webhook-secret"), "{name}");
    }
    let poison = Queue::of(&access).poison();
    let mut texts: Vec<String> = Vec::new();
    eventually("what is not ours lies in the poison queue", LIMIT, async || {
        let messages = poison.peek().await.expect("the poison queue");
        texts = messages
            .iter()
            .map(|m| String::from_utf8(STANDARD.decode(&m.raw).expect("base64")).expect("text"))
            .collect();
        texts.len() == 8
    })
    .await;
    for text in ["plain text é \"quoted\" \\ back", "[1,2]", "", r#"{"push":"p1"}"#] {
        assert!(texts.iter().any(|t| t == text), "{text:?} is not among {texts:?}");
    }
    let output = host.handler_output();
    for secret in ["fn-key", "webhook-secret", "plain text"] {
        assert!(!output.contains(secret), "{secret} is in the log:\n{output}");
    }
    assert!(
        output.contains("7a63273c-84f7-4210-82f5-bbc0c79187f8"),
        "the host's id of the call is in the log:\n{output}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_captured_regions_make_one_replicated_push() {
    let (host, _) = handler().await;
    let first = wire::replay("imagepush-first-region.http", host.handler_port()).await;
    let second = wire::replay("imagepush-second-region.http", host.handler_port()).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(first.header("retry-after"), Some("5"));
    let link = first.json()["statusQueryGetUri"].as_str().expect("a link").to_owned();
    assert_eq!(first.header("location"), Some(link.as_str()));
    assert!(link.starts_with("http://127.0.0.1:7072/api/pushes/") && link.ends_with("?code=fn-key"), "{link}");
    let path = link.strip_prefix("http://127.0.0.1:7072").expect("a path");
    let request = format!("GET {path} HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-Proto: https\r\n\r\n");
    let status = wire::send(request.as_bytes(), host.handler_port()).await;
    assert_eq!((status.status, &status.json()["output"]["outcome"]), (200, &Value::from("replicated")));
    assert_eq!(status.json()["customStatus"]["idsMatched"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_without_its_host_ends_itself() {
    let account = tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite");
    let settings = [("WebhookRegions", "a"), ("AzureWebJobsStorage", account.as_str())];
    let mut options = HostOptions::spawned(&settings).only(Serves::Http);
    options.own_parent = true;
    let mut host = Host::start(options).await;
    host.kill_host_only().await;
    host.handler_gone(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_with_wrong_settings_stays_up_and_says_so() {
    let settings = [("WebhookTimeout", "soon"), ("WebhookTargetUrl", "nowhere?token=s3cret")];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http)).await;
    assert_eq!(host.probe().await, Some(200));
    let answer = reqwest::get(format!("{}/api/ImagePush", host.base_url())).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    let text = answer.text().await.expect("a text");
    for part in ["WebhookRegions: is missing", "WebhookTimeout", "WebhookTargetUrl"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("s3cret") && !host.handler_output().contains("s3cret"));
    let timer = wire::replay("queue-text.http", host.handler_port()).await;
    assert_eq!(timer.status, 503, "the message must come again once the settings are right");
}
