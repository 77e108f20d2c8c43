//! SIGKILL right after a 202, at every arrival: nothing accepted is lost, nothing is notified wrongly or under two ids.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT, Service};

async fn killed_after_every_answer(deployment: Deployment) {
    let receiver = Recorder::default();
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let targets = json!([{ "name": "ops", "url": url, "format": "standard" }]);
    let rules = json!([{ "tag": "short", "timeout": "0:0:4" }]);
    let mut service = Service::start(
        deployment,
        &[
            ("WebhookRegions", "a,b"),
            ("WebhookTimeout", "0:10:0"),
            ("WebhookTargets", &targets.to_string()),
            ("WebhookRules", &rules.to_string()),
        ],
    )
    .await;
    let mut expected = BTreeMap::new();
    let mut ids = Vec::new();
    for round in 0..3 {
        let image = Image::new("shop", &format!("t{round}"));
        let lone = Image::new(&format!("lone{round}"), "short");
        for (region, image) in [("a", &image), ("a", &lone), ("b", &image)] {
            let (code, answer) = service.push_until_taken(region, image).await;
            assert_eq!(code, 202);
            service.kill_and_restart().await;
            ids.push(answer["id"].as_str().expect("an id").to_owned());
        }
        expected.insert(image.digest, "acr.image.replicated");
        expected.insert(lone.digest, "acr.replication.timed_out");
    }
    for id in &ids {
        let status = service.at_rest(id).await;
        for notification in status["customStatus"]["notifications"].as_array().expect("a list") {
            assert_eq!(notification["state"], "confirmed", "{status}");
        }
    }
    // At least once for each push, always under the same id and with the right outcome.
    let mut told: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    eventually("the receiver is told", LIMIT, async || {
        for (head, body) in receiver.take() {
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let digest = body["data"]["digest"].as_str().expect("a digest").to_owned();
            let id = head.get("webhook-id").expect("an id").to_owned();
            told.entry(digest).or_default().insert((id, body["type"].as_str().expect("a type").to_owned()));
        }
        told.len() == expected.len()
    })
    .await;
    for (digest, kind) in expected {
        let heard = &told[&digest];
        assert_eq!(heard.len(), 1, "one id for {digest}: {heard:?}");
        assert_eq!(heard.first().expect("one").1, kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_in_two_processes() {
    killed_after_every_answer(Deployment::Handler).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_on_the_embedded_store() {
    killed_after_every_answer(Deployment::ServeEmbedded).await;
}
