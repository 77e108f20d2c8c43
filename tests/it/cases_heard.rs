//! What is heard, and what an operator sees of it: cases C4, C6, C8, C10 and B11.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::azurite::azurite;
use crate::support::service::{Image, Serve, json_of};

const REGIONS: (&str, &str) = ("WebhookRegions", "northeurope,westus");

async fn post(serve: &Serve, path: &str, body: String) -> (u16, Value) {
    let answer = Client::new().post(format!("{}{path}", serve.base_url())).body(body).send().await.expect("an answer");
    (answer.status().as_u16(), json_of(answer).await)
}

async fn health(serve: &Serve) -> (u16, Value) {
    let answer = reqwest::get(format!("{}/api/ImagePush", serve.base_url())).await.expect("an answer");
    (answer.status().as_u16(), json_of(answer).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_c4_every_kind_of_refused_webhook_leaves_one_line() {
    let serve = Serve::start(&[REGIONS, ("WebhookKey", "the-k3y"), ("WebhookLog", "warn")], &[]).await;
    let good = Image::new("team/shop", "v1").notification();
    let with_key = |path: &str| format!("{path}{}code=the-k3y", if path.contains('?') { '&' } else { '?' });
    let cases = [
        ("unauthorised", "/api/ImagePush?region=westus".to_owned(), good.clone(), Some("westus")),
        ("region_missing", with_key("/api/ImagePush"), good.clone(), None),
        ("region_unknown", with_key("/api/ImagePush?region=mars"), good.clone(), Some("mars")),
        ("body_not_json", with_key("/api/ImagePush?region=westus"), "{s3cret".into(), Some("westus")),
        ("body_too_large", with_key("/api/ImagePush?region=westus"), "s3cret".repeat(1_000_000), Some("westus")),
        ("not_found", with_key("/api/ImagePsh?region=westus"), good, Some("westus")),
    ];
    for (code, path, body, _) in &cases {
        for _ in 0..3 {
            let (status, answer) = post(&serve, path, body.clone()).await;
            assert!((400..500).contains(&status) && answer["error"]["code"] == *code, "{code}: {status} {answer}");
        }
    }
    let output = serve.output();
    for (code, _, _, region) in &cases {
        let lines: Vec<&str> = output.lines().filter(|line| line.contains(&format!("reason=\"{code}\""))).collect();
        let [line] = lines[..] else { panic!("{code}: {output}") };
        assert!(line.contains("WARN") && line.contains("webhook refused"), "{line}");
        assert_eq!(line.contains("region=\""), region.is_some(), "{line}");
        assert!(region.is_none_or(|region| line.contains(&format!("region=\"{region}\""))), "{line}");
    }
    assert!(output.lines().any(|line| line.contains("region_unknown") && line.contains("team/shop:v1")), "{output}");
    assert!(!output.contains("s3cret") && !output.contains("k3y"), "{output}");
    // What a person tries at an address is answered, and is no webhook.
    let before = output.lines().count();
    reqwest::get(format!("{}/nowhere", serve.base_url())).await.expect("an answer");
    assert_eq!(serve.output().lines().count(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_c8_a_name_breaks_no_line_of_the_log() {
    let serve = Serve::start(&[REGIONS, ("WebhookLog", "debug")], &[]).await;
    let tag = "v1\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{9b}1A\u{202e}";
    for region in ["northeurope", "mars"] {
        let image = Image::new("team/\u{1b}[31mshop", tag);
        post(&serve, &format!("/api/ImagePush?region={region}&x=%0a%1b"), image.notification()).await;
    }
    post(&serve, "/api/%0a%1b[2J", String::new()).await;
    let output = serve.output();
    assert!(output.contains("forged"), "the name is not there at all: {output}");
    for line in output.lines() {
        assert!(line.starts_with("20") && !line.starts_with("2026-01-01"), "a line that is not ours: {line:?}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_c10_event_grid_is_named() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let url = format!("{}/api/ImagePush?region=westus", serve.base_url());
    let client = Client::new();
    let handshake = json!([{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {}}]).to_string();
    let requests = [
        client.post(&url).header("aeg-event-type", "SubscriptionValidation").body(handshake.clone()),
        client.post(&url).body(handshake),
        client.request(Method::OPTIONS, &url).header("WebHook-Request-Origin", "eventgrid.azure.net"),
    ];
    for request in requests {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 400);
        let error = json_of(answer).await["error"].clone();
        assert_eq!(error["code"], "event_grid");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("Event Grid")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_b11_and_c6_a_mistake_is_told_from_an_outage() {
    let account = azurite().account();
    let (before, after) = account.split_once("AccountKey=").expect("a key");
    let rest = after.split_once(';').map(|(_, rest)| rest).unwrap_or_default();
    let wrong = format!("{before}AccountKey=czNjcmV0czNjcmV0czNjcmV0;{rest}");
    let away = azurite().account_at(1, 1);
    for (account, status, code, words) in [
        (&wrong, "operator_needed", "operator_needed", "wrong or expired key"),
        (&away, "unavailable", "storage_unavailable", "cannot be reached"),
    ] {
        let serve = Serve::start(&[REGIONS, ("AzureWebJobsStorage", account)], &[]).await;
        let (probe, said) = health(&serve).await;
        assert_eq!(probe, 503, "{said}");
        for part in ["rows", "queue"] {
            assert_eq!(said[part]["status"], status, "{said}");
            assert!(said[part]["cause"].as_str().is_some_and(|cause| cause.contains(words)), "{said}");
        }
        let (refused, answer) =
            post(&serve, "/api/ImagePush?region=westus", Image::new("team/shop", "v1").notification()).await;
        assert_eq!((refused, &answer["error"]["code"]), (503, &json!(code)), "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains(words)), "{answer}");
        let output = serve.output();
        let lost = output.lines().find(|line| line.contains("arrival refused")).expect("a line");
        for part in ["ERROR", "team/shop:v1", "region=westus", "id=", words] {
            assert!(lost.contains(part), "{part} is not in {lost}");
        }
        assert!(!output.contains("czNjcmV0"), "{output}");
    }
    let serve = Serve::start(&[REGIONS], &[]).await;
    let (probe, said) = health(&serve).await;
    assert_eq!(
        (probe, &said["rows"], &said["queue"]),
        (200, &json!({"status": "ok"}), &json!({"status": "ok"})),
        "{said}"
    );
}
