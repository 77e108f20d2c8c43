//! What operators ask, by the interface of all deployments: lists, the newest push of an image, a call that waits, a region
//! reported by hand, the regions, a test of the receivers.

use std::time::{Duration, Instant};

use global_webhook::api::{List, Purged, Push, Refusal, Regions, State, Tests};
use reqwest::header::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::cases::Stage;
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT};
use crate::support::{eventually, free_port, pause};

/// Registry of all images.
const REGISTRY: &str = "contoso.azurecr.io";

/// Answers as they come, and as documents.
struct Operator<'s> {
    stage: &'s Stage,
    client: reqwest::Client,
}

impl<'s> Operator<'s> {
    fn of(stage: &'s Stage) -> Self {
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        Self { stage, client }
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> reqwest::Url {
        let base = format!("{}/api/{path}", self.stage.service.base_url());
        if query.is_empty() {
            return base.parse().expect("a URL");
        }
        reqwest::Url::parse_with_params(&base, query).expect("a URL")
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> (u16, T) {
        let answer = self.client.get(self.url(path, query)).send().await.expect("an answer");
        let (code, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        (code, serde_json::from_str(&text).unwrap_or_else(|why| panic!("{path} {query:?}: {code} {text}: {why}")))
    }

    async fn post(&self, path: &str) -> u16 {
        self.client.post(self.url(path, &[])).send().await.expect("an answer").status().as_u16()
    }

    /// Sends a test to the receivers.
    async fn test<T: DeserializeOwned>(&self, query: &[(&str, &str)]) -> (u16, T) {
        let answer = self.client.post(self.url("pushes/test", query)).send().await.expect("an answer");
        let (code, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        assert!(!text.contains("s3cret"), "{text}");
        (code, serde_json::from_str(&text).unwrap_or_else(|why| panic!("{query:?}: {code} {text}: {why}")))
    }

    /// Tags of the pushes that a list finds, newest first.
    async fn tags(&self, query: &[(&str, &str)]) -> Vec<String> {
        let (code, list): (_, List) = self.get("pushes", query).await;
        assert_eq!((code, list.next, list.unreadable), (200, None, 0), "{query:?}");
        list.pushes.into_iter().filter_map(|item| item.status.tag).collect()
    }

    /// The newest push of an image.
    async fn newest(&self, image: &str, more: &[(&str, &str)]) -> (u16, Push) {
        self.get("pushes", &[&[("image", image)], more].concat()).await
    }
}

fn named(image: &Image) -> String {
    format!("{REGISTRY}/{}:{}@{}", image.repository, image.tag, image.digest)
}

async fn lists(deployment: Deployment) {
    let patient = r#"[{"name": "patient", "repository": "team/**", "timeout": "0:30:0"}]"#;
    let stage = Stage::new(deployment, "e,w", "0:0:3", &[("WebhookRules", patient)]).await;
    let operator = Operator::of(&stage);
    let [everywhere, late, missing, waiting] =
        [("shop/cart", "everywhere"), ("shop/cart", "late"), ("shop/web", "missing"), ("team/base", "waiting")]
            .map(|(repository, tag)| Image::new(repository, tag));
    let companion = Image { tag: format!("sha256-{}.sig", "0".repeat(64)), ..Image::new("shop/cart", "x") };
    for image in [&everywhere, &late, &missing] {
        stage.push("e", image).await;
    }
    stage.push("w", &everywhere).await;
    stage.push("e", &companion).await;
    let settled = async |image: &Image, state: State| {
        eventually("it is as far", LIMIT, async || {
            operator.newest(&named(image), &[]).await.1.custom_status.state == state
        })
        .await;
    };
    for (image, state) in [(&everywhere, State::Replicated), (&late, State::TimedOut), (&missing, State::TimedOut)] {
        settled(image, state).await;
    }
    stage.push("w", &late).await;
    settled(&late, State::Recovered).await;
    stage.push("w", &waiting).await;

    assert_eq!(operator.tags(&[("companions", "none")]).await, ["waiting", "missing", "late", "everywhere"]);
    assert_eq!(operator.tags(&[("companions", "only")]).await, [companion.tag.as_str()]);
    for (query, tags) in [
        (("status", "waiting"), &["waiting"][..]),
        (("status", "replicated"), &["everywhere"]),
        (("status", "recovered"), &["late"]),
        (("status", "timed_out,waiting"), &["waiting", "missing"]),
        (("status", "superseded"), &[]),
        (("status", "exhausted"), &[]),
        (("repository", "shop/*"), &["missing", "late", "everywhere"]),
        (("repository", "shop/cart"), &["late", "everywhere"]),
        (("registry", "contoso.*.io"), &["waiting", "missing", "late", "everywhere"]),
        (("registry", "fabrikam.azurecr.io"), &[]),
        (("tag", "*ing"), &["waiting", "missing"]),
        (("digest", &missing.digest[..15]), &["missing"]),
        (("digest", &missing.digest[7..20]), &["missing"]),
        (("region", "e"), &["waiting"]),
        (("region", "w"), &["missing", "late"]),
        (("since", "1h"), &["waiting", "missing", "late", "everywhere"]),
        (("until", "1h"), &[]),
    ] {
        assert_eq!(operator.tags(&[query, ("companions", "none")]).await, tags, "{query:?}");
    }
    eventually("nothing is owed", LIMIT, async || operator.tags(&[("status", "owing")]).await.is_empty()).await;

    // One page after the other, of one push each.
    let (mut cursor, mut tags) = (None::<String>, Vec::new());
    loop {
        let mut query = vec![("limit", "1"), ("status", "timed_out,recovered"), ("companions", "none")];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let (200, List { pushes, next, .. }) = operator.get("pushes", &query).await else { panic!("no list") };
        tags.extend(pushes.into_iter().filter_map(|item| item.status.tag));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(tags, ["missing", "late"]);

    for query in [
        ("status", "gone"),
        ("stat", "waiting"),
        ("limit", "0"),
        ("cursor", "mine"),
        ("since", "now"),
        ("image", "cart"),
    ] {
        let (code, refusal): (_, Refusal) = operator.get("pushes", &[query]).await;
        assert_eq!(code, 400, "{query:?}: {refusal:?}");
    }

    let (code, regions): (_, Regions) = operator.get("regions", &[]).await;
    assert_eq!((code, regions.pushes, regions.cut), (200, 5, false));
    let west = regions.regions.iter().find(|region| region.region == "w").expect("the region");
    assert_eq!((west.expected, west.arrivals, west.late), (5, 3, 1));
    let (code, refusal): (_, Refusal) = operator.get("regions", &[("limit", "1")]).await;
    assert_eq!(code, 400, "{refusal:?}");
}

async fn waits(deployment: Deployment) {
    let stage = Stage::new(deployment, "e,w", "0:0:4", &[]).await;
    let operator = Operator::of(&stage);
    let image = Image::new("shop/cart", "1");
    let (code, refusal): (_, Refusal) = operator.get("pushes", &[("image", &named(&image))]).await;
    assert_eq!((code, refusal.error.code.as_str()), (404, "unknown_image"));

    // Told as soon as another region has reported, and the moment the last one has.
    let (name, by_tag) = (named(&image), format!("{REGISTRY}/shop/cart:1"));
    let told = async |of: &str, more: &[(&str, &str)]| {
        let answer = operator.newest(of, &[&[("wait", "60")], more].concat()).await;
        (answer, Instant::now())
    };
    let first = async {
        let ((code, push), _) = told(&name, &[("arrived", "0")]).await;
        assert_eq!(
            (code, push.custom_status.state, push.custom_status.missing),
            (202, State::Waiting, vec!["w".into()])
        );
        stage.push("w", &image).await;
        Instant::now()
    };
    let sends = async {
        pause(Duration::from_millis(300)).await;
        stage.push("e", &image).await;
    };
    let by_digest = format!("{REGISTRY}/shop/cart@{}", image.digest);
    let (sent, (), ((code, push), at), ((_, tagged), _), ((_, digested), digested_at)) =
        tokio::join!(first, sends, told(&name, &[]), told(&by_tag, &[("since", "1h")]), told(&by_digest, &[]));
    assert_eq!(digested.instance_id, push.instance_id);
    let late = digested_at.saturating_duration_since(sent);
    assert!(late < Duration::from_secs(2), "by digest told {late:?} after the last region");
    assert_eq!((code, push.custom_status.state), (200, State::Replicated));
    assert_eq!(tagged.instance_id, push.instance_id);
    let late = at.saturating_duration_since(sent);
    assert!(late < Duration::from_secs(1), "told {late:?} after the last region");

    // A time-out ends the wait, but for whoever waits for the image to be everywhere.
    let other = Image::new("shop/cart", "2");
    stage.push("e", &other).await;
    let other_name = named(&other);
    let recovers = async {
        let (code, push) = operator.newest(&other_name, &[("wait", "60")]).await;
        assert_eq!((code, push.custom_status.state), (200, State::TimedOut));
        stage.push("w", &other).await;
    };
    let ((), ((code, push), _)) = tokio::join!(recovers, told(&other_name, &[("for", "everywhere")]));
    assert_eq!((code, push.custom_status.state), (200, State::Recovered));

    // Still waiting when the time is over.
    let third = Image::new("shop/cart", "3");
    stage.push("e", &third).await;
    let (code, push) = operator.newest(&named(&third), &[("wait", "1")]).await;
    assert_eq!((code, push.custom_status.state), (202, State::Waiting));
}

async fn reports_by_hand(deployment: Deployment) {
    let mut stage = Stage::new(deployment, "e,w", "0:0:6", &[]).await;
    let image = Image::new("shop/cart", "1");
    let id = stage.push("e", &image).await;
    stage.told(&image, &["timed_out"]).await;
    let operator = Operator::of(&stage);
    assert_eq!(operator.post(&format!("pushes/{id}/regions/n")).await, 404);
    assert_eq!(operator.post(&format!("pushes/{id}/regions/a-b")).await, 400);
    assert_eq!(operator.post(&format!("pushes/{id}/regions/w")).await, 202);
    assert_eq!(operator.post(&format!("pushes/{id}/regions/w")).await, 202, "once more changes nothing");
    let (_, push) = operator.newest(&named(&image), &[]).await;
    let west = &push.custom_status.regions["w"];
    assert!(west.by_hand && west.late && west.id.is_none(), "{west:?}");
    assert!(!push.custom_status.regions["e"].by_hand);
    stage.told(&image, &["timed_out", "recovered"]).await;
    // Its webhook comes after all.
    stage.push("w", &image).await;
    let repeated = |status: &serde_json::Value| status["customStatus"]["regions"]["w"]["repeats"] == 1;
    let status = stage.status("it is a repeat", &id, repeated).await;
    assert_eq!(status["customStatus"]["regions"]["w"]["byHand"], true);
    assert_eq!(stage.pushes().await.len(), 1, "it is no new push");
    let operator = Operator::of(&stage);
    let gone = operator.client.delete(operator.url(&format!("pushes/{id}"), &[])).send().await.expect("an answer");
    let gone: Purged = serde_json::from_slice(&gone.bytes().await.expect("a body")).expect("a document");
    assert_eq!(gone, Purged { instances_deleted: 1, more: false });
}

async fn tests_receivers(deployment: Deployment) {
    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let (takes, refuses, hangs) = (Recorder::default(), Recorder::default(), Recorder::slow(LIMIT));
    let refusal = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\ns3cret";
    refuses.script(&[refusal]);
    let at = |port: u16| format!("http://127.0.0.1:{port}/s3cret");
    let targets = json!([
        { "name": "takes", "url": at(takes.listen().await), "format": "standard", "secrets": [SECRET], "headers": { "X-Own": "s3cret" } },
        { "name": "refuses", "url": at(refuses.listen().await), "format": "acr" },
        { "name": "absent", "url": at(free_port()), "format": "slack" },
        { "name": "hangs", "url": at(hangs.listen().await), "format": "github" },
    ]);
    let stage = Stage::new(deployment, "e,w", "0:0:9", &[("WebhookTargets", &targets.to_string())]).await;
    let operator = Operator::of(&stage);

    // All at once, and no other test while the slowest is awaited.
    let meanwhile = async {
        let mut seen = Vec::new();
        eventually("one hangs", LIMIT, async || {
            seen.extend(hangs.take());
            !seen.is_empty()
        })
        .await;
        operator.test::<Refusal>(&[("target", "takes")]).await
    };
    let ((code, tests), (refused, second)) = tokio::join!(operator.test::<Tests>(&[]), meanwhile);
    assert_eq!((refused, second.error.code.as_str()), (429, "test_under_way"));
    assert_eq!(code, 502, "{tests:?}");
    let all: Vec<_> = tests.targets.iter().map(|t| (&*t.target, &*t.format, t.status, t.reason.as_deref())).collect();
    assert_eq!(
        all,
        [
            ("absent", "slack", None, Some("cannot connect: Connection refused")),
            ("hangs", "github", None, Some("no complete answer within 10 s")),
            ("refuses", "acr", None, Some("500 Internal Server Error")),
            ("takes", "standard", Some(200), None),
        ]
    );
    let hung = &tests.targets[1];
    assert!((10_000..15_000).contains(&hung.duration_ms), "{hung:?}");
    assert!(tests.targets.iter().all(|tested| tested.confirmed == tested.status.is_some()));

    // Signed, and with the target's own headers, like every notification.
    let (head, body) = takes.take().pop().expect("a test");
    let of = |name: &str| head.get(name).expect("a header");
    assert_eq!((of("webhook-id"), of("x-own")), (&*tests.targets[3].id, "s3cret"));
    let signed = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (HeaderName::from_static(name), of(name).parse().expect("a header's value")));
    Webhook::new(SECRET).expect("a secret").verify(&body, &HeaderMap::from_iter(signed)).expect("a signature");

    // One of them, for which there is nothing more to wait.
    let (code, tests): (_, Tests) = operator.test(&[("target", "takes")]).await;
    assert_eq!((code, tests.targets.len(), tests.targets[0].confirmed), (200, 1, true));
    assert_eq!(takes.take().len(), 1);
    let (code, refusal): (_, Refusal) = operator.test(&[("target", "nobody")]).await;
    assert_eq!((code, refusal.error.code.as_str()), (404, "unknown_target"));
    let (code, refusal): (_, Refusal) = operator.test(&[("to", "takes")]).await;
    assert_eq!(code, 400, "{refusal:?}");
    let (code, refusal): (_, Refusal) = operator.get("pushes/test", &[]).await;
    assert_eq!(code, 405, "{refusal:?}");

    // Nothing of it is stored or tried again, and the log has it.
    assert_eq!(operator.tags(&[]).await, Vec::<String>::new());
    assert!(refuses.take().len() == 1 && hangs.take().is_empty());
    eventually("the log has it", LIMIT, async || stage.service.output().contains("a test was taken")).await;
    assert_eq!(stage.service.output().matches("a test was not taken by its receiver").count(), 3);
}

macro_rules! in_every_deployment {
    ($($case:ident)*) => { $(mod $case {
        use super::Deployment;
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn handler() {
            super::$case(Deployment::Handler).await;
        }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn serve_azure() {
            super::$case(Deployment::ServeAzure).await;
        }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn serve_embedded() {
            super::$case(Deployment::ServeEmbedded).await;
        }
    })* };
}

in_every_deployment! { lists waits reports_by_hand tests_receivers }

#[tokio::test]
async fn an_image_of_another_registry_is_refused_where_one_stands_for_all() {
    let all = [("WebhookRegistry", "prod.azurecr.io")];
    let stage = Stage::new(Deployment::ServeEmbedded, "e", "0:0:9", &all).await;
    let image = Image::new("shop/cart", "1");
    stage.push("e", &image).await;
    let operator = Operator::of(&stage);
    assert_eq!(operator.newest("shop/cart:1", &[]).await.0, 200);
    assert_eq!(operator.newest("prod.azurecr.io/shop/cart:1", &[]).await.0, 200);
    let (code, refusal): (_, Refusal) = operator.get("pushes", &[("image", "dev.azurecr.io/shop/cart:1")]).await;
    assert_eq!((code, refusal.error.code.as_str()), (400, "image"), "{refusal:?}");
}

#[tokio::test]
async fn there_may_be_no_receiver_to_test() {
    let stage = Stage::new(Deployment::ServeEmbedded, "e", "0:0:9", &[("WebhookTargets", "")]).await;
    let (code, refusal): (_, Refusal) = Operator::of(&stage).test(&[]).await;
    assert_eq!((code, refusal.error.code.as_str()), (409, "no_targets"));
}

#[tokio::test]
async fn the_description_names_every_path() {
    let stage = Stage::new(Deployment::ServeEmbedded, "e", "0:0:9", &[]).await;
    let (code, served): (_, serde_json::Value) = Operator::of(&stage).get("pushes/openapi.json", &[]).await;
    assert_eq!(code, 200);
    let paths: Vec<&String> = served["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(
        paths,
        [
            "/api/pushes",
            "/api/pushes/test",
            "/api/pushes/{id}",
            "/api/pushes/{id}/redeliver",
            "/api/pushes/{id}/regions/{region}",
            "/api/pushes/{id}/terminate",
            "/api/regions"
        ]
    );
}
