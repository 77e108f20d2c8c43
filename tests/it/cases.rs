//! Small inputs that are easily got wrong, each with its number, and the table of what a push is: in all three
//! deployments, in real time. Those that are about storage stand in `cases_storage.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT, Service};
use crate::support::{eventually, now, pause};

/// A service, and a receiver that is told of everything but superseded pushes.
pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) ops: Recorder,
    heard: Vec<Heard>,
}

/// A notification as the receiver had it.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) digest: String,
    /// `replicated` and the like.
    pub(crate) outcome: String,
    /// When what it tells happened.
    pub(crate) at: DateTime<Utc>,
    pub(crate) data: Value,
}

/// The one target of a stage, at a receiver that listens.
pub(crate) async fn targets(ops: &Recorder) -> String {
    let url = format!("http://127.0.0.1:{}/", ops.listen().await);
    let outcomes = ["replicated", "timed_out", "recovered"];
    json!([{ "name": "ops", "url": url, "format": "standard", "outcomes": outcomes }]).to_string()
}

impl Stage {
    pub(crate) async fn new(deployment: Deployment, regions: &str, timeout: &str, more: &[(&str, &str)]) -> Self {
        let account = match deployment {
            Deployment::ServeEmbedded => None,
            Deployment::Handler | Deployment::ServeAzure => {
                let account = || crate::support::azurite::azurite().account();
                Some(tokio::task::spawn_blocking(account).await.expect("Azurite"))
            }
        };
        Self::on(deployment, account.as_deref(), regions, timeout, more).await
    }

    pub(crate) async fn on(
        deployment: Deployment,
        account: Option<&str>,
        regions: &str,
        timeout: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let ops = Recorder::default();
        let targets = targets(&ops).await;
        let mut settings =
            vec![("WebhookRegions", regions), ("WebhookTimeout", timeout), ("WebhookTargets", targets.as_str())];
        settings.extend(more);
        let service = Service::start_on(deployment, &settings, account).await;
        Self { service, ops, heard: Vec::new() }
    }

    /// Everything that was told so far, in order.
    pub(crate) fn heard(&mut self) -> &[Heard] {
        for (_, body) in self.ops.take() {
            let mut body: Value = serde_json::from_slice(&body).expect("JSON");
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            self.heard.push(Heard {
                digest: text(&body["data"]["digest"]),
                outcome: text(&body["data"]["outcome"]),
                at: instant(&body["timestamp"]),
                data: body["data"].take(),
            });
        }
        &self.heard
    }

    /// What was told of an image so far, in order.
    pub(crate) fn outcomes(&mut self, image: &Image) -> Vec<String> {
        self.heard().iter().filter(|h| h.digest == image.digest).map(|h| h.outcome.clone()).collect()
    }

    /// Waits until that much was told of an image.
    pub(crate) async fn told(&mut self, image: &Image, outcomes: &[&str]) {
        let mut told = Vec::new();
        eventually(&format!("the receiver is told: {outcomes:?}"), LIMIT, async || {
            told = self.outcomes(image);
            told.len() >= outcomes.len()
        })
        .await;
        assert_eq!(told, outcomes);
    }

    /// A webhook that is accepted; the push's id.
    pub(crate) async fn push(&self, region: &str, image: &Image) -> String {
        post(&self.service, region, image).await
    }

    /// Ids of all pushes.
    pub(crate) async fn pushes(&self) -> Vec<String> {
        let mut pushes = None;
        eventually("the pushes are listed", LIMIT, async || {
            pushes = self.service.caller().pushes().await;
            pushes.is_some()
        })
        .await;
        pushes.expect("a list")
    }

    /// The status of a push once it is as it should be.
    pub(crate) async fn status(&self, what: &str, id: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        let mut last = None;
        eventually(what, LIMIT, async || {
            last = self.service.caller().status(id).await;
            last.as_ref().is_some_and(&mut is)
        })
        .await;
        last.expect("a status")
    }
}

async fn post(service: &Service, region: &str, image: &Image) -> String {
    let (code, answer) = service.push_until_taken(region, image).await;
    assert_eq!(code, 202, "{answer}");
    answer["id"].as_str().expect("an id").to_owned()
}

fn instant(text: &Value) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text.as_str().expect("text")).expect("an instant").to_utc()
}

/// Whether the notification of this target and notice is in this state.
pub(crate) fn notified(status: &Value, notice: &str, state: &str) -> bool {
    let all = status["customStatus"]["notifications"].as_array();
    all.is_some_and(|all| all.iter().any(|n| n["notice"] == notice && n["state"] == state))
}

/// A row of design §4's table: webhooks of the digests A and B of one tag, and what is told, each with its second.
struct Line {
    name: &'static str,
    webhooks: &'static [(u64, char, &'static str, u32)],
    told: &'static [(char, &'static str, u64)],
}

/// The seconds are those of the table; where it says 60 it means later than a time-out after the first push, which 10 is.
const TABLE: [Line; 8] = [
    Line { name: "plain", webhooks: &[(0, 'A', "e", 1), (1, 'A', "w", 1)], told: &[('A', "replicated", 1)] },
    Line {
        name: "overlapping",
        webhooks: &[(0, 'A', "e", 1), (1, 'A', "e", 2), (2, 'A', "w", 1), (3, 'A', "w", 2)],
        told: &[('A', "replicated", 2)],
    },
    Line {
        name: "late",
        webhooks: &[(0, 'A', "e", 1), (7, 'A', "w", 1), (9, 'A', "e", 2), (11, 'A', "w", 2)],
        told: &[('A', "timed_out", 6), ('A', "recovered", 7)],
    },
    Line {
        name: "repeated before it is late",
        webhooks: &[(0, 'A', "e", 1), (7, 'A', "e", 2), (8, 'A', "w", 1), (10, 'A', "w", 2)],
        told: &[('A', "timed_out", 6), ('A', "recovered", 8)],
    },
    Line {
        name: "pushed again",
        webhooks: &[(0, 'A', "e", 1), (1, 'A', "w", 1), (10, 'A', "e", 2), (11, 'A', "w", 2)],
        told: &[('A', "replicated", 1), ('A', "replicated", 11)],
    },
    Line {
        name: "pushed again and missing",
        webhooks: &[(0, 'A', "e", 1), (1, 'A', "w", 1), (10, 'A', "e", 2)],
        told: &[('A', "replicated", 1), ('A', "timed_out", 16)],
    },
    Line {
        name: "there and back",
        webhooks: &[
            (0, 'A', "e", 1),
            (1, 'A', "w", 1),
            (2, 'B', "e", 1),
            (3, 'B', "w", 1),
            (4, 'A', "e", 2),
            (5, 'A', "w", 2),
        ],
        told: &[('A', "replicated", 1), ('B', "replicated", 3), ('A', "replicated", 5)],
    },
    Line {
        name: "superseded",
        webhooks: &[(0, 'A', "e", 1), (2, 'B', "e", 1), (3, 'B', "w", 1)],
        told: &[('B', "replicated", 3)],
    },
];

/// How much later than the table says something may be told, on a busy machine.
const LATE_MAX: chrono::Duration = chrono::Duration::seconds(4);

async fn table(deployment: Deployment) {
    let mut stage = Stage::new(deployment, "e,w", "0:0:6", &[]).await;
    let service = &stage.service;
    let lines = TABLE.iter().enumerate().map(async |(n, line)| {
        let tag = format!("t{n}");
        let images: BTreeMap<char, Image> = ['A', 'B'].map(|digest| (digest, Image::new("team/shop", &tag))).into();
        let (begun, start) = (Instant::now(), now());
        for (second, digest, region, number) in line.webhooks {
            pause(Duration::from_secs(*second).saturating_sub(begun.elapsed())).await;
            // Ids differ by region.
            let image = Image { id: format!("{tag}{digest}{region}{number}"), ..images[digest].clone() };
            post(service, region, &image).await;
        }
        (line, images, start)
    });
    let lines = futures_util::future::join_all(lines).await;
    let expected: usize = TABLE.iter().map(|line| line.told.len()).sum();
    eventually("all are told", LIMIT, async || stage.heard().len() >= expected).await;
    let mut statuses = Vec::new();
    for id in stage.pushes().await {
        statuses.push(stage.service.at_rest(&id).await);
    }
    // Nothing is owed any more, so nothing else will be told.
    let heard = stage.heard().to_vec();
    assert_eq!(heard.len(), expected, "{heard:#?}");
    for (line, images, start) in lines {
        let of = |digest: &str| images.iter().find(|(_, image)| image.digest == digest).map(|(name, _)| *name);
        let told: Vec<_> = heard.iter().filter_map(|h| Some((of(&h.digest)?, h))).collect();
        let words: Vec<_> = told.iter().map(|(digest, h)| (*digest, h.outcome.as_str())).collect();
        let right: Vec<_> = line.told.iter().map(|(digest, outcome, _)| (*digest, *outcome)).collect();
        assert_eq!(words, right, "{}", line.name);
        for ((_, heard), (_, _, second)) in told.iter().zip(line.told) {
            let after = heard.at - start;
            let due = chrono::Duration::seconds(i64::try_from(*second).expect("small"));
            assert!(after >= due && after < due + LATE_MAX, "{}: {heard:?} after {after}", line.name);
            let missing = if heard.outcome == "timed_out" { json!(["w"]) } else { json!([]) };
            assert_eq!(heard.data["missing"], missing, "{}", line.name);
        }
    }
    let of = |name: &str, digest: char| {
        let n = TABLE.iter().position(|line| line.name == name).expect("a line");
        let image = format!("team/shop:t{n}");
        let all = statuses.iter().filter(move |s| s["customStatus"]["image"] == image);
        // Of its first webhook's id the digest is known.
        all.filter(move |s| s["input"]["id"].as_str().is_some_and(|id| id.contains(digest))).collect::<Vec<_>>()
    };
    let repeats =
        |status: &Value| ["e", "w"].map(|region| status["customStatus"]["regions"][region]["repeats"].clone());
    for (name, e, w) in [("overlapping", 1, 1), ("late", 1, 1), ("repeated before it is late", 1, 1)] {
        let [status] = of(name, 'A')[..] else { panic!("{name}: one push") };
        assert_eq!(repeats(status), [json!(e), json!(w)], "{name}");
    }
    for (name, rounds) in [("pushed again", 2), ("pushed again and missing", 2), ("there and back", 2)] {
        assert_eq!(of(name, 'A').len(), rounds, "{name}");
    }
    let before = heard.iter().find(|h| h.outcome == "timed_out" && h.data["reportedBefore"].is_object());
    let before = before.expect("the missing region reported the same image before");
    assert!(before.data["reportedBefore"]["w"].is_string() && before.data["reportedBefore"].get("e").is_none());
    let [superseded] = of("superseded", 'A')[..] else { panic!("one push") };
    assert_eq!(superseded["output"]["outcome"], "superseded");
    assert_eq!(superseded["customStatus"]["notifications"], json!([]), "no alarm");
}

async fn a5(deployment: Deployment) {
    let mut stage = Stage::new(deployment, "e,w", "0:0:30", &[]).await;
    let image = Image::new("team/shop", "a5");
    let id = stage.push("e", &image).await;
    stage.push("w", &image).await;
    stage.told(&image, &["replicated"]).await;
    stage.service.at_rest(&id).await;
    assert_eq!(stage.push("e", &image.again()).await, id);
    let status = stage.service.at_rest(&id).await;
    let region = &status["customStatus"]["regions"]["e"];
    assert_eq!((&region["repeats"], region["lastRepeat"].is_string()), (&json!(1), true));
    assert_eq!((stage.pushes().await, stage.outcomes(&image)), (vec![id], vec!["replicated".to_owned()]));
}

async fn a6(deployment: Deployment) {
    let mut stage = Stage::new(deployment, "e,w", "0:0:3", &[]).await;
    let (old, new) = (Image::new("team/shop", "latest"), Image::new("team/shop", "latest"));
    let id = stage.push("e", &old).await;
    stage.push("e", &new).await;
    stage.push("w", &new).await;
    let status = stage.service.at_rest(&id).await;
    assert_eq!((&status["output"]["outcome"], &status["output"]["missing"]), (&json!("superseded"), &json!(["w"])));
    stage.told(&new, &["replicated"]).await;
    assert_eq!(stage.outcomes(&old), Vec::<String>::new());
}

async fn a7(deployment: Deployment) {
    let mut stage = Stage::new(deployment, "e,n,w", "0:0:8", &[]).await;
    let image = Image::new("team/shop", "a7");
    let id = stage.push("e", &image).await;
    stage.push("n", &image).await;
    stage.told(&image, &["timed_out"]).await;
    stage.service.at_rest(&id).await;
    stage.service.set("WebhookRegions", "e,w");
    stage.service.kill_and_restart().await;
    assert_eq!(stage.push("n", &image.again()).await, id, "it is on record, and a repeat");
    assert_eq!(stage.push("w", &image).await, id);
    stage.told(&image, &["timed_out", "recovered"]).await;
    let status = stage.service.at_rest(&id).await;
    assert_eq!(status["customStatus"]["regions"]["w"]["late"], true);
    assert_eq!(stage.pushes().await, [id]);
    // One that no push waits for any more is none of the settings'.
    let (code, answer) = stage.service.push_until_taken("n", &Image::new("team/shop", "a7-new")).await;
    assert_eq!((code, &answer["error"]["code"]), (400, &json!("region_unknown")));
}

async fn a10(deployment: Deployment) {
    let mut stage = Stage::new(deployment, "e", "0:5:0", &[("WebhookRetrySchedule", "PT10H")]).await;
    stage.ops.script(&[b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"]);
    let image = Image::new("team/shop", "a10");
    let id = stage.push("e", &image).await;
    let waits = |status: &Value| status["customStatus"]["notifications"][0]["lastError"].is_string();
    stage.status("the first attempt fails", &id, waits).await;
    let caller = stage.service.caller();
    assert_eq!(caller.operate(&id, "redeliver?target=nosuch").await, Some(404));
    assert_eq!(caller.operate(&id, "redeliver?target=ops").await, Some(202));
    let status = stage.service.at_rest(&id).await;
    let told = &status["customStatus"]["notifications"][0];
    assert_eq!((&told["state"], &told["attempts"]), (&json!("confirmed"), &json!(2)), "{told}");
    stage.told(&image, &["replicated", "replicated"]).await;
}

async fn a11(deployment: Deployment) {
    let mut stage = Stage::new(deployment, "e,w", "0:0:2", &[("WebhookRetrySchedule", "PT1S,PT8S,PT8S")]).await;
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    stage.ops.script(&[busy, busy]);
    let image = Image::new("team/shop", "a11");
    let id = stage.push("e", &image).await;
    let twice = |status: &Value| {
        let told = &status["customStatus"]["notifications"][0];
        told["attempts"] == 2 && told["leaseUntil"].is_null()
    };
    stage.status("two attempts fail", &id, twice).await;
    stage.push("w", &image).await;
    let status = stage.service.at_rest(&id).await;
    assert!(notified(&status, "timed_out", "overtaken") && notified(&status, "recovered", "confirmed"), "{status}");
    stage.told(&image, &["timed_out", "timed_out", "recovered"]).await;
}

/// A body of this image with another `request.host`, or without `request`.
fn from_host(image: &Image, host: Option<&str>) -> String {
    let mut body: Value = serde_json::from_str(&image.notification()).expect("JSON");
    match host {
        Some(host) => body["request"]["host"] = host.into(),
        None => drop(body.as_object_mut().expect("an object").remove("request")),
    }
    body.to_string()
}

async fn a17(deployment: Deployment) {
    const HOSTS: [Option<&str>; 6] = [
        Some("contoso.azurecr.io"),
        Some("contoso.west.data.azurecr.io"),
        Some("contoso.azurecr.io."),
        Some("Contoso.West.GEO.azurecr.io.:443"),
        Some("contoso.azurecr.io:443"),
        None,
    ];
    for (registry, hosts) in [(None, &HOSTS[..5]), (Some("contoso.azurecr.io"), &HOSTS[..])] {
        let regions: Vec<String> = (0..hosts.len()).map(|n| format!("r{n}")).collect();
        let more: Vec<_> = registry.map(|registry| ("WebhookRegistry", registry)).into_iter().collect();
        let mut stage = Stage::new(deployment, &regions.join(","), "0:5:0", &more).await;
        let image = Image::new("team/shop", "a17");
        let mut ids = Vec::new();
        for (region, host) in regions.iter().zip(hosts) {
            let (code, answer) =
                stage.service.caller().post(region, from_host(&image, *host)).await.expect("an answer");
            assert_eq!(code, 202, "{answer}");
            ids.push(answer["id"].as_str().expect("an id").to_owned());
        }
        ids.retain(|id| id.contains('-'));
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let status = stage.service.at_rest(&ids[0]).await;
        assert_eq!(status["customStatus"]["registry"], "contoso.azurecr.io");
        stage.told(&image, &["replicated"]).await;
    }
}

/// One test for each case and deployment.
macro_rules! in_every_deployment {
    ($($case:ident)*) => {
        in_every_deployment! { handlers, Handler: $($case)* }
        in_every_deployment! { serve_on_azurite, ServeAzure: $($case)* }
        in_every_deployment! { serve_on_the_embedded_store, ServeEmbedded: $($case)* }
    };
    ($module:ident, $deployment:ident: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::Deployment::$deployment).await;
                }
            )*
        }
    };
}

pub(crate) use in_every_deployment;

in_every_deployment! { table a5 a6 a7 a10 a11 a17 }
