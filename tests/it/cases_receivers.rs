//! Cases by number: what receivers are told, what they can do to us with their answers, and what of strangers' text gets to
//! people. What a setting may ask for, and each format's words, stand in the tests of `config` and `notify`.

use std::process::Command;

use serde_json::{Value, json};

use crate::cases::in_every_deployment;
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT, Serve, Service};
use crate::support::{eventually, free_port};

const HEX: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// A target at a receiver that listens.
async fn target(name: &str, receiver: &Recorder, more: Value) -> Value {
    let mut target = json!({ "name": name, "url": format!("http://127.0.0.1:{}/hook", receiver.listen().await) });
    target.as_object_mut().expect("an object").extend(more.as_object().expect("members").clone());
    target
}

/// Settings with these regions, time-out and targets.
fn settings<'a>(regions: &'a str, timeout: &'a str, targets: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("WebhookRegions", regions), ("WebhookTimeout", timeout), ("WebhookTargets", targets)]
}

/// Bodies that a receiver has had since the last time.
fn heard(receiver: &Recorder) -> Vec<Value> {
    receiver.take().into_iter().map(|(_, body)| serde_json::from_slice(&body).expect("JSON")).collect()
}

async fn post(service: &Service, region: &str, body: &str) -> String {
    let mut last = None;
    eventually("storage takes the arrival", LIMIT, async || {
        last = service.caller().post(region, body.to_owned()).await.filter(|(code, _)| *code != 503);
        last.is_some()
    })
    .await;
    let (code, answer) = last.expect("an answer");
    assert_eq!(code, 202, "{answer}");
    answer["id"].as_str().expect("an id").to_owned()
}

/// The webhook of an image, changed.
fn changed(image: &Image, change: impl FnOnce(&mut Value)) -> String {
    let mut body: Value = serde_json::from_str(&image.notification()).expect("JSON");
    change(&mut body);
    body.to_string()
}

/// The same image under its digest only.
fn untagged(image: &Image) -> String {
    changed(image, |body| drop(body["target"].as_object_mut().expect("an object").remove("tag")))
}

async fn c1(deployment: Deployment) {
    let flux = Recorder::default();
    let targets = json!([target("flux", &flux, json!({})).await]).to_string();
    let service = Service::start(deployment, &settings("e,w", "0:0:2", &targets)).await;
    let image = Image::new("team/shop", "c1");
    let id = service.push_until_taken("e", &image).await.1["id"].as_str().expect("an id").to_owned();
    let status = service.at_rest(&id).await;
    assert_eq!((&status["output"]["outcome"], heard(&flux)), (&json!("timed_out"), vec![]), "no alarm in this format");
    service.push_until_taken("w", &image).await;
    let mut told = Vec::new();
    eventually("the late region is told", LIMIT, async || {
        told.extend(heard(&flux));
        !told.is_empty()
    })
    .await;
    let status = service.at_rest(&id).await;
    assert!(status["output"]["recovered"].is_string(), "{status}");
    told.extend(heard(&flux));
    // Not a word of what came before: what arrived is what the registry would have sent.
    let expected: Value = serde_json::from_str(&image.notification()).expect("JSON");
    assert_eq!(told, [expected]);
}

#[test]
fn c2_an_acr_target_that_asks_for_time_outs_is_a_fault_at_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for outcome in ["timed_out", "superseded"] {
        let targets =
            json!([{ "name": "flux", "url": "https://flux.example/hook", "outcomes": ["replicated", outcome] }]);
        let output = Command::new(env!("CARGO_BIN_EXE_global-webhook"))
            .args(["serve", "--listen", &format!("127.0.0.1:{}", free_port())])
            .env_clear()
            .envs(settings("e,w", "0:0:2", &targets.to_string()))
            .current_dir(folder.path())
            .output()
            .expect("serve");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("target 1 `flux`, `outcomes`") && said.contains(outcome), "{said}");
    }
}

/// What clients push that is no tagged image, and what else the registry tells of.
fn everything(image: &Image) -> Vec<(&'static str, String)> {
    let tagged = |tag: String| changed(image, |body| body["target"]["tag"] = tag.into());
    let acting = |action: &str| changed(image, |body| body["action"] = action.into());
    vec![
        ("image", image.notification()),
        ("untagged", untagged(image)),
        ("signature", tagged(format!("sha256-{HEX}.sig"))),
        ("attestation", tagged(format!("sha256-{HEX}.att"))),
        ("bill of materials", tagged(format!("sha256-{HEX}.sbom"))),
        ("referrers", tagged(format!("sha256-{HEX}"))),
        ("delete", untagged(image).replace("\"push\"", "\"delete\"")),
        ("quarantine", acting("quarantine")),
        ("chart_push", acting("chart_push")),
        ("chart_delete", acting("chart_delete")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_what_is_no_tagged_push_is_told_to_an_acr_target_only_if_asked_for() {
    let (plain, asking, ops) = (Recorder::default(), Recorder::default(), Recorder::default());
    let all = json!({ "companions": true, "filter": { "actions": ["push", "delete", "quarantine", "chart_push"] } });
    let targets = json!([
        target("plain", &plain, json!({})).await,
        target("asking", &asking, all).await,
        target("ops", &ops, json!({ "format": "standard" })).await,
    ])
    .to_string();
    let service = Service::start(Deployment::ServeEmbedded, &settings("e", "0:0:30", &targets)).await;
    let image = Image::new("team/shop", "c3");
    let mut ids = Vec::new();
    for (_, body) in everything(&image) {
        let id = post(&service, "e", &body).await;
        service.at_rest(&id).await;
        ids.push(id);
    }
    let names = |bodies: Vec<Value>| {
        let name = |body: &Value| {
            let data = if body["data"].is_object() { &body["data"] } else { body };
            let target = if data["target"].is_object() { &data["target"] } else { data };
            let (action, tag) = (data["action"].as_str().expect("an action"), target["tag"].as_str());
            format!("{action} {}", tag.unwrap_or("-").replace(HEX, "…"))
        };
        bodies.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(heard(&plain)), ["push c3"]);
    assert_eq!(
        names(heard(&asking)),
        [
            "push c3",
            "push -",
            "push sha256-….sig",
            "push sha256-….att",
            "push sha256-….sbom",
            "push sha256-…",
            "delete -",
            "quarantine c3",
            "chart_push c3",
        ]
    );
    // The other formats name the action, so they tell of each that the registry's webhooks were made for.
    assert_eq!(names(heard(&ops)), ["push c3", "delete -", "quarantine c3", "chart_push c3", "chart_delete c3"]);
    // All of it is on record.
    let mut listed = service.caller().pushes().await.expect("a list");
    listed.reverse();
    assert_eq!(listed, ids);
    let status = service.at_rest(&ids[1]).await;
    assert_eq!(status["customStatus"]["companion"], true);
}

async fn c5(deployment: Deployment) {
    let receiver = Recorder::default();
    let refusal: &[u8] = b"HTTP/1.1 404 Whatever\r\nContent-Length: 17\r\n\r\nchannel_not_found";
    receiver.script(&[refusal; 3]);
    let targets = json!([target("ops", &receiver, json!({ "format": "slack" })).await]).to_string();
    for (level, times) in [("warn", 1), ("info", 2)] {
        let mut settings = settings("e", "0:0:30", &targets);
        settings.extend([("WebhookLog", level), ("WebhookRetrySchedule", "PT1S,PT1S")]);
        let service = Service::start(deployment, &settings).await;
        let id = service.push_until_taken("e", &Image::new("team/shop", "c5")).await.1["id"].clone();
        let id = id.as_str().expect("an id");
        let status = service.at_rest(id).await;
        assert_eq!(status["customStatus"]["notifications"][0]["state"], "exhausted", "{status}");
        let lines = |level: &str| {
            let output = service.output();
            let of = |line: &&str| line.contains(level) && line.contains(id) && line.contains("notification ");
            output.lines().filter(of).map(str::to_owned).collect::<Vec<_>>()
        };
        // Some of what a killed or busy process wrote may not be here yet.
        eventually("both lines are there", LIMIT, async || lines("ERROR").len() + lines("WARN").len() == 2).await;
        for (level, words) in [("WARN", "tried again"), ("ERROR", "given up")] {
            let [line] = &lines(level)[..] else { panic!("one {level} line") };
            for part in [words, "ops", "team/shop:c5", "404 Not Found: channel_not_found"] {
                assert!(line.contains(part), "no {part} in {line}");
            }
            // Behind the host each line is one object, whose readers keep the last of two members of one name.
            if let Ok(line) = serde_json::from_str::<Value>(line) {
                assert_eq!((&line["target"], &line["notice"]), (&json!("ops"), &json!("replicated")));
            }
        }
        // At `info` the lines of the steps have the reason too, the second failure's among them.
        let output = service.output();
        let all = output.lines().filter(|line| line.contains(id) && line.contains("404 Not Found: channel_not_found"));
        assert!(all.count() >= 2 * times, "{output}");
        receiver.script(&[refusal; 3]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_text_of_strangers_is_one_line_without_markup_and_moves_no_cursor() {
    let slack = Recorder::default();
    let targets = json!([target("slack", &slack, json!({ "format": "slack" })).await]).to_string();
    let mut settings = settings("e", "0:0:30", &targets);
    settings.push(("WebhookLog", "debug"));
    let serve = Serve::start(&settings, &["--print"]).await;
    let image = Image::new("team/shop", "v1\n:x: *bold* _it_ <!channel>\u{1b}[2J\u{9b}31m\u{7f}\u{202e}");
    let (code, answer) = serve.caller().post("e", image.notification()).await.expect("an answer");
    assert_eq!(code, 202, "{answer}");
    let mut told = Vec::new();
    eventually("both are told", LIMIT, async || {
        told.extend(heard(&slack));
        !told.is_empty() && serve.output().contains("global webhook msg_")
    })
    .await;
    let text = told[0]["text"].as_str().expect("a text");
    let first = text.lines().next().expect("a line");
    assert_eq!(
        first,
        ":white_check_mark: contoso.azurecr.io/team/shop:v1��x���bold���it����channel���2J�31m�� is in its one region"
    );
    assert_eq!(text.lines().count(), 5, "{text}");
    let output = serve.output();
    assert!(output.contains("\\u001b[2J�31m��"), "it was printed: {output}");
    assert!(!output.contains(['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}']), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c9_nothing_of_a_reply_is_kept_but_status_and_known_words() {
    let receiver = Recorder::default();
    let url = format!("http://127.0.0.1:{}/T0123SecretOfThePath?sig=s3cret%2Fvalue", receiver.listen().await);
    let headers = json!({ "Authorization": "Bearer tokenOfOurs" });
    let targets = json!([{ "name": "t", "url": url, "format": "standard", "headers": headers }]).to_string();
    let service = Service::start(Deployment::ServeEmbedded, &settings("e", "0:0:30", &targets)).await;
    for said in [
        "no such hook: T0123SecretOfThePath",
        "t0123secretofthepath",
        "T0123\\u0053ecretOfThePath",
        "s3cret%252Fvalue",
        "VDAxMjNTZWNyZXRPZlRoZVBhdGg=",
        "T0123SecretOfThe",
        "Bearer tokenofours",
    ] {
        receiver.script(&[format!("HTTP/1.1 410 {said}\r\nContent-Length: {}\r\n\r\n{said}", said.len()).as_bytes()]);
        let id = post(&service, "e", &Image::new("team/shop", "c9").notification()).await;
        let status = service.at_rest(&id).await;
        assert_eq!(status["customStatus"]["notifications"][0]["reason"], "410 Gone", "{said}");
    }
    let output = service.output().to_lowercase();
    for secret in ["secretofthe", "s3cret", "tokenofours", "vdaxmjntzwny"] {
        assert!(!output.contains(secret), "{output}");
    }
}

async fn c12(deployment: Deployment) {
    let (flux, ops) = (Recorder::default(), Recorder::default());
    let targets = json!([
        target("flux", &flux, json!({})).await,
        target("ops", &ops, json!({ "format": "standard", "outcomes": ["replicated", "timed_out", "recovered"] }))
            .await,
    ])
    .to_string();
    let service = Service::start(deployment, &settings("e,w", "0:0:30", &targets)).await;
    let image = Image::new("team/shop", "c12");
    let mut ids = Vec::new();
    for body in [untagged(&image), image.notification()] {
        for region in ["e", "w"] {
            ids.push(post(&service, region, &body).await);
        }
    }
    ids.dedup();
    let [by_digest, by_tag] = &ids[..] else { panic!("two pushes: {ids:?}") };
    assert_eq!(service.at_rest(by_tag).await["output"]["outcome"], "replicated");
    let status = service.at_rest(by_digest).await;
    assert_eq!(
        (&status["output"]["outcome"], &status["customStatus"]["notifications"]),
        (&json!("replicated"), &json!([]))
    );
    let listed = service.caller().pushes().await.expect("a list");
    assert!(ids.iter().all(|id| listed.contains(id)), "both stand in the list: {listed:?}");
    let tags = |told: Vec<Value>, at: &str| told.iter().map(|body| body[at]["tag"].clone()).collect::<Vec<_>>();
    assert_eq!((tags(heard(&flux), "target"), tags(heard(&ops), "data")), (vec![json!("c12")], vec![json!("c12")]));
}

in_every_deployment! { c1 c5 c12 }
