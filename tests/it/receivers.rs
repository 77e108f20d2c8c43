//! What receivers of each kind check and what they take from a request (`checks`), held against real requests of every format
//! and outcome.
//!
//! What these tests are for: an `acr` target makes each of them act on the right image once that is everywhere; nothing that
//! is no success makes any of them act, whatever format somebody has chosen by mistake; and nothing is refused that they
//! should take. Nor does a test on request make any of them act.

mod checks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use global_webhook::clock::{Clock, SystemClock, after};
use global_webhook::config::Source;
use global_webhook::config::targets::targets;
use global_webhook::limits;
use global_webhook::notify::Notifier;
use global_webhook::notify::client::{HttpNotifier, Options};
use global_webhook::notify::test_message::ID_PREFIX;
use global_webhook::push::{AttemptResult, Claim, Notice, Phase, Region, Row, Seen};
use serde_json::{Value, json};

use checks::{
    Does, FLUX_PATH, Request, argo, argo_cloudevents, flux, github, jenkins, jenkins_generic, kargo, keel, slack, teams,
};

use crate::samples;
use crate::support::recorder::Recorder;

/// A receiver, where it is reached, and the headers it wants.
struct Receiver {
    name: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    does: fn(&Request) -> Does,
}

const CONSUMERS_OF_ACR: [Receiver; 5] = [
    Receiver { name: "Flux", path: FLUX_PATH, headers: &[], does: flux },
    Receiver {
        name: "Argo CD Image Updater",
        path: "/webhook?type=acr",
        headers: &[("Authorization", "Bearer of-argo")],
        does: argo,
    },
    Receiver { name: "Kargo", path: "/azure/6a3e", headers: &[], does: kargo },
    Receiver {
        name: "Keel",
        path: "/v1/webhooks/azure",
        headers: &[("Authorization", "Basic a2VlbDpzM2NyZXQ=")],
        does: keel,
    },
    Receiver { name: "Jenkins", path: "/acr-webhook/tokenOfJenkins/notify", headers: &[], does: jenkins },
];

const FORMATS: [&str; 6] = ["acr", "standard", "cloudevents", "slack", "teams", "github"];
const NOTICES: [Notice; 4] = [Notice::Replicated, Notice::TimedOut, Notice::Recovered, Notice::Superseded];

fn everywhere(notice: Notice) -> bool {
    matches!(notice, Notice::Replicated | Notice::Recovered)
}

/// A push of `shop/cart:v1`, or of what this changes it to, that has come to what `notice` says.
fn row(notice: Notice, change: impl FnOnce(&mut Value)) -> Row {
    let mut payload = json!({
        "id": "5f0c2a4e", "timestamp": "2026-11-22T10:00:00.1234567Z", "action": "push",
        "target": { "mediaType": "application/vnd.oci.image.index.v1+json", "size": 1612, "digest": "sha256:00",
            "length": 1612, "repository": "shop/cart", "tag": "v1" },
        "request": { "id": "0c8b6a52", "host": "demo.westus.geo.azurecr.io", "method": "PUT" },
    });
    change(&mut payload);
    let mut row = samples::settled(samples::row(samples::id("x", 1), SystemClock.now(), &payload.to_string()), vec![]);
    row.subject.action = payload["action"].as_str().expect("an action").to_owned();
    row.subject.tag = payload["target"]["tag"].as_str().map(str::to_owned);
    let west = Region::parse("westus").expect("a region");
    row.regions.push(west.clone());
    let seen = Seen { at: row.opened, id: "5f0c2a4e".into(), by_hand: false, repeats: 0, repeated: None };
    row.arrived = BTreeMap::from([(row.regions[0].clone(), seen.clone())]);
    let Phase::Settled(settled) = &mut row.phase else { panic!("settled") };
    if notice == Notice::Replicated {
        row.arrived.insert(west, seen);
    } else {
        settled.missing = vec![west];
        settled.recovered = (notice == Notice::Recovered).then_some(settled.at);
    }
    row
}

/// A notifier whose one target, of this format, is this receiver.
async fn notifier(receiver: &Receiver, format: &str) -> (HttpNotifier, Recorder) {
    let recorder = Recorder::default();
    let url = format!("http://127.0.0.1:{}{}", recorder.listen().await, receiver.path);
    let headers: BTreeMap<_, _> = receiver.headers.iter().copied().collect();
    let target = json!([{ "name": "t", "url": url, "format": format, "headers": headers }]).to_string();
    let mut faults = Vec::new();
    let targets = targets(&Source::new([("WebhookTargets", target)]), &mut faults);
    assert_eq!(faults, []);
    let options = Options {
        attempt_timeout: Duration::from_secs(9),
        public_url: Some("https://hooks.example".to_owned()),
        traces: None,
    };
    (HttpNotifier::new(targets, Arc::new(SystemClock), options), recorder)
}

/// What a receiver there gets in this format, or why nothing is sent.
async fn sent(receiver: &Receiver, format: &str, row: &Row, notice: Notice) -> Result<Request, String> {
    let (notifier, recorder) = notifier(receiver, format).await;
    let lease_until = after(SystemClock.now(), limits::LEASE);
    match notifier.attempt(row, &Claim { target: "t".into(), notice, claim: 1, lease_until }).await {
        AttemptResult::Confirmed { .. } => {
            let (head, body) = recorder.take().pop().expect("a request");
            Ok(Request { head, body })
        }
        AttemptResult::Failed { reason, .. }
        | AttemptResult::NotBegun { reason }
        | AttemptResult::Refused { reason } => {
            assert!(recorder.take().is_empty(), "something was sent all the same");
            Err(reason)
        }
    }
}

#[tokio::test]
async fn consumers_of_acr_act_on_what_is_everywhere_and_are_told_of_nothing_else() {
    for notice in NOTICES {
        for receiver in CONSUMERS_OF_ACR {
            let told = sent(&receiver, "acr", &row(notice, |_| ()), notice).await;
            if !everywhere(notice) {
                let refusal = format!("not sent: the format `acr` has no words for `{}`", notice.word());
                assert_eq!(told.err(), Some(refusal), "{}", receiver.name);
                continue;
            }
            let Does::Acts { repository, tag } = (receiver.does)(&told.expect("a request")) else {
                panic!("{} does nothing with {notice:?}", receiver.name);
            };
            // Flux has the registry from its own resources.
            let host = if receiver.name == "Flux" { "" } else { "demo.azurecr.io/" };
            assert_eq!(repository, format!("{host}shop/cart"), "{}", receiver.name);
            assert!(tag.is_none_or(|tag| tag == "v1"), "{}", receiver.name);
        }
    }
}

#[tokio::test]
async fn a_format_that_was_chosen_by_mistake_deploys_nothing() {
    for format in FORMATS.into_iter().filter(|format| *format != "acr") {
        for notice in NOTICES {
            let row = row(notice, |_| ());
            for receiver in CONSUMERS_OF_ACR {
                let does = (receiver.does)(&sent(&receiver, format, &row, notice).await.expect("a request"));
                // Flux reconciles for any object that reaches its secret path; it then finds out itself what is there.
                let right = match receiver.name {
                    "Flux" => Does::Acts { repository: String::new(), tag: None },
                    "Jenkins" => Does::Nothing,
                    _ => Does::Refuses(400),
                };
                assert_eq!(does, right, "{} and {format}, {notice:?}", receiver.name);
            }
        }
    }
}

const EVENTS: Receiver =
    Receiver { name: "events", path: "/webhook?type=cloudevents", headers: &[], does: argo_cloudevents };

#[tokio::test]
async fn only_a_pushed_image_that_is_everywhere_looks_like_one_in_cloud_events() {
    for notice in NOTICES {
        for action in ["push", "delete", "quarantine", "chart_push", "chart_delete"] {
            let row = row(notice, |body| body["action"] = action.into());
            let does = argo_cloudevents(&sent(&EVENTS, "cloudevents", &row, notice).await.expect("a request"));
            let right = if everywhere(notice) && action == "push" {
                Does::Acts { repository: "demo.azurecr.io/shop/cart".into(), tag: Some("v1".into()) }
            } else {
                Does::Refuses(400)
            };
            assert_eq!(does, right, "{action}, {notice:?}");
        }
    }
}

const GITHUB: Receiver = Receiver {
    name: "GitHub",
    path: "/repos/octo/shop/dispatches",
    headers: &[("Authorization", "Bearer github_pat_x"), ("Accept", "application/vnd.github+json")],
    does: github,
};

#[tokio::test]
async fn only_a_pushed_image_that_is_everywhere_starts_a_workflow() {
    for notice in NOTICES {
        for action in ["push", "delete", "quarantine", "chart_push", "chart_delete"] {
            let row = row(notice, |body| body["action"] = action.into());
            let does = (GITHUB.does)(&sent(&GITHUB, "github", &row, notice).await.expect("a request"));
            let right = if everywhere(notice) && action == "push" {
                Does::Acts { repository: "demo.azurecr.io/shop/cart".into(), tag: Some("v1".into()) }
            } else {
                Does::Nothing
            };
            assert_eq!(does, right, "{action}, {notice:?}");
        }
    }
}

#[tokio::test]
async fn a_job_of_the_generic_trigger_finds_the_image_in_each_format_for_programs() {
    let by_header: &[(&str, &str)] = &[("Authorization", "Bearer of-the-job")];
    let path = "/generic-webhook-trigger/invoke";
    let with_query = "/generic-webhook-trigger/invoke?token=of-the-job";
    for (path, headers) in [(path, by_header), (with_query, &[])] {
        let receiver = Receiver { name: "generic", path, headers, does: jenkins_generic };
        for format in ["acr", "standard", "cloudevents"] {
            let told = sent(&receiver, format, &row(Notice::Recovered, |_| ()), Notice::Recovered).await;
            let right = Does::Acts { repository: "shop/cart".into(), tag: Some("v1".into()) };
            assert_eq!((receiver.does)(&told.expect("a request")), right, "{format}");
        }
    }
}

/// What a receiver does with a test.
async fn tested(receiver: &Receiver, format: &str) -> Does {
    let (notifier, recorder) = notifier(receiver, format).await;
    let tested = notifier.test(None).await.expect("no other test").pop().expect("the receiver");
    assert!(tested.confirmed, "{tested:?}");
    let (head, body) = recorder.take().pop().expect("a request");
    assert!(tested.id.starts_with(ID_PREFIX) && head.get("webhook-id") == Some(&*tested.id));
    (receiver.does)(&Request { head, body })
}

#[tokio::test]
async fn a_test_deploys_nothing() {
    // Flux reconciles for any object, which is no more than what it does by itself; the others know a ping, or miss a tag.
    let none = |repository: &str| Does::Acts { repository: repository.into(), tag: None };
    for receiver in CONSUMERS_OF_ACR {
        let right = match receiver.name {
            "Flux" => none(""),
            "Kargo" | "Jenkins" => Does::Nothing,
            _ => Does::Refuses(400),
        };
        assert_eq!(tested(&receiver, "acr").await, right, "{}", receiver.name);
    }
    assert_eq!(tested(&EVENTS, "cloudevents").await, Does::Refuses(400));
    assert_eq!(tested(&GITHUB, "github").await, Does::Nothing);
    for (format, does) in [("slack", slack as fn(&Request) -> Does), ("teams", teams)] {
        let people = Receiver { name: "people", path: "/services/T0/B0/x", headers: &[], does };
        assert_eq!(tested(&people, format).await, Does::Nothing, "{format}");
    }
    // The token starts the job, which finds no image.
    let path = "/generic-webhook-trigger/invoke?token=of-the-job";
    let job = Receiver { name: "generic", path, headers: &[], does: jenkins_generic };
    assert_eq!(tested(&job, "standard").await, none(""));
}

#[tokio::test]
async fn people_are_shown_every_outcome() {
    let receiver = |does| Receiver { name: "people", path: "/services/T0/B0/x", headers: &[], does };
    for notice in NOTICES {
        for change in [|_: &mut Value| (), |body: &mut Value| body["target"]["tag"] = "\n*x*".into()] {
            let row = row(notice, change);
            for (format, does) in [("slack", slack as fn(&Request) -> Does), ("teams", teams)] {
                let receiver = receiver(does);
                let told = sent(&receiver, format, &row, notice).await.expect("a request");
                assert_eq!((receiver.does)(&told), Does::Nothing, "{format}, {notice:?}");
            }
        }
    }
}

/// Why an `acr` target is told of tagged pushes only, unless it asks.
#[tokio::test]
async fn what_an_acr_target_may_ask_for_is_not_taken_by_all() {
    let untagged: fn(&mut Value) = |body| body["target"]["tag"] = Value::Null;
    let deleted: fn(&mut Value) = |body| body["action"] = "delete".into();
    let chart: fn(&mut Value) = |body| body["action"] = "chart_push".into();
    let mut refused = Vec::new();
    for (what, change) in [("untagged", untagged), ("delete", deleted), ("chart_push", chart)] {
        let row = row(Notice::Replicated, change);
        for receiver in CONSUMERS_OF_ACR {
            let told = sent(&receiver, "acr", &row, Notice::Replicated).await.expect("a request");
            if let Does::Refuses(_) = (receiver.does)(&told) {
                refused.push(format!("{what}: {}", receiver.name));
            }
        }
    }
    assert_eq!(
        refused,
        [
            "untagged: Keel",
            "delete: Argo CD Image Updater",
            "delete: Kargo",
            "chart_push: Argo CD Image Updater",
            "chart_push: Kargo",
        ]
    );
}
