//! The original's three scenarios, and what surrounds them, in all three deployments with one and the same observable result:
//! each deployment is held to the same snapshot.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT, Service};

const REGIONS: [&str; 3] = ["northeurope", "westus", "eastasia"];

async fn service(deployment: Deployment, receiver: &Recorder) -> Service {
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let targets = json!([{ "name": "ops", "url": url, "format": "standard", "outcomes": ["replicated", "timed_out", "recovered"] }]);
    let rules = json!([{ "tag": "short-*", "timeout": "0:0:10" }, { "repository": "quiet/*", "ignore": true }]);
    Service::start(
        deployment,
        &[
            // As people write it; the webhooks below write it in other cases.
            ("WebhookRegions", " NorthEurope,westus , EASTASIA"),
            ("WebhookTimeOut", "0:5:0"),
            ("WebhookTargets", &targets.to_string()),
            ("WebhookRules", &rules.to_string()),
        ],
    )
    .await
}

/// What a user can see of a push, without times, ids and addresses.
fn seen(status: &Value) -> Value {
    let custom = &status["customStatus"];
    let regions: serde_json::Map<String, Value> = custom["regions"]
        .as_object()
        .expect("regions")
        .iter()
        .map(|(name, r)| {
            (name.clone(), json!({ "arrived": r["arrived"].is_string(), "late": r["late"], "repeats": r["repeats"] }))
        })
        .collect();
    let notifications: Vec<Value> = custom["notifications"]
        .as_array()
        .expect("notifications")
        .iter()
        .map(|n| json!([n["target"], n["notice"], n["state"], n["attempts"]]))
        .collect();
    json!({
        "image": custom["image"], "runtimeStatus": status["runtimeStatus"], "outcome": status["output"]["outcome"],
        "missingAtSettling": status["output"]["missing"], "missing": custom["missing"], "regions": regions,
        "idsMatched": custom["idsMatched"], "round": custom["round"], "recovered": status["output"]["recovered"].is_string(),
        "notifications": notifications, "input": status["input"]["action"],
    })
}

async fn all_scenarios(deployment: Deployment) -> Value {
    let receiver = Recorder::default();
    let service = service(deployment, &receiver).await;
    let mut statuses = Vec::new();
    let mut codes = Vec::new();
    let mut post = async |region: &str, image: &Image| {
        let (code, body) = service.push_until_taken(region, image).await;
        codes.push(json!([region, image.tag, code]));
        body["id"].as_str().map(str::to_owned)
    };

    let simple = Image::new("team/shop", "simple");
    let mut id = None;
    for region in ["NorthEurope", "WESTUS", "eastasia", "eastasia"] {
        id = post(region, &simple).await;
    }
    statuses.push(service.at_rest(&id.expect("an id")).await);

    let images = ["one", "two", "three"].map(|tag| Image::new("team/shop", tag));
    let mut ids = Vec::new();
    for shift in 0..3 {
        for (n, image) in images.iter().enumerate() {
            ids.push(post(REGIONS[(n + shift) % 3], image).await.expect("an id"));
        }
    }
    for id in &ids[6..] {
        statuses.push(service.at_rest(id).await);
    }

    let late = Image::new("team/shop", "short-1");
    post("northeurope", &late).await;
    let id = post("westus", &late).await.expect("an id");
    let timed_out = service.at_rest(&id).await;
    let deadline = timed_out["customStatus"]["deadline"].as_str().expect("a deadline").to_owned();
    assert!(
        timed_out["output"]["settled"].as_str().expect("an instant") >= deadline.as_str(),
        "settled early: {timed_out}"
    );
    statuses.push(timed_out);
    post("eastasia", &late).await;
    statuses.push(service.at_rest(&id).await);

    // The same content pushed again within a time-out: repeats, which are counted and told to nobody.
    let again = simple.again();
    let mut id = None;
    for region in REGIONS {
        id = post(region, &again).await;
    }
    statuses.push(service.at_rest(&id.expect("an id")).await);

    post("westus", &Image::new("quiet/shop", "x")).await;

    let mut told = Vec::new();
    eventually("the receiver is told", LIMIT, async || {
        told.extend(receiver.take());
        told.len() >= 6
    })
    .await;
    let mut told: Vec<Value> = told
        .iter()
        .map(|(_, body)| {
            let body: Value = serde_json::from_slice(body).expect("JSON");
            json!([body["type"], body["data"]["tag"], body["data"]["missing"]])
        })
        .collect();
    told.sort_by_key(ToString::to_string);
    json!({ "codes": codes, "statuses": statuses.iter().map(seen).collect::<Vec<_>>(), "told": told })
}

macro_rules! in_every_deployment {
    ($($name:ident: $deployment:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            insta::assert_json_snapshot!("scenarios", all_scenarios($deployment).await);
        }
    )*};
}

in_every_deployment! {
    handlers_in_two_processes: Deployment::Handler;
    serve_on_azurite: Deployment::ServeAzure;
    serve_on_the_embedded_store: Deployment::ServeEmbedded;
}
