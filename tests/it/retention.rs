//! Old pushes as users see them go, from `serve` and by operators' calls.

use std::path::Path;
use std::sync::Arc;

use global_webhook::clock::SystemClock;
use global_webhook::limits;
use global_webhook::push::Row;
use global_webhook::store::embedded::EmbeddedStore;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::samples::{id, instant, owing, row, settled};
use crate::store_contract::put;
use crate::support::service::{Image, LIMIT, Serve, json_of};
use crate::support::{eventually, now};

const REGIONS: (&str, &str) = ("WebhookRegions", "east,west");

/// Settled pushes of last year, the first one named `old 0`.
fn old(count: usize) -> Vec<Row> {
    let opened = |n: usize| instant(i64::try_from(n).unwrap());
    (0..count).map(|n| settled(row(id(&format!("old {n}"), 1), opened(n), "{}"), Vec::new())).collect()
}

/// Writes rows into the file of a `serve` that does not run.
async fn fill(file: &Path, rows: &[Row]) {
    let store = EmbeddedStore::open(file, Arc::new(SystemClock)).unwrap();
    futures_util::future::join_all(rows.iter().map(|row| put(&store, row))).await;
}

async fn call(serve: &Serve, method: Method, path: &str) -> (u16, Value) {
    let answer = Client::new().request(method, format!("{}{path}", serve.base_url())).send().await.expect("an answer");
    (answer.status().as_u16(), json_of(answer).await)
}

/// Ids of the pushes that are listed.
async fn listed(serve: &Serve) -> Vec<String> {
    let (_, page) = call(serve, Method::GET, "/api/pushes?limit=1000").await;
    let ids = page["pushes"].as_array().expect("pushes").iter();
    ids.map(|push| push["instanceId"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_removes_by_itself_what_is_older_than_the_settings_keep() {
    let mut serve = Serve::start(&[REGIONS, ("WebhookRetention", "0")], &[]).await;
    serve.kill();
    let hour = chrono::Duration::hours(1);
    let far = now() + hour * 9;
    let stay = [
        settled(row(id("young", 1), now() - hour / 2, "{}"), Vec::new()),
        owing(row(id("owing", 1), instant(3), "{}"), far),
        Row { deadline: far, ..row(id("waiting", 1), instant(2), "{}") },
    ];
    let rows = [&old(250), &stay[..]].concat();
    fill(&serve.folder().join("store.db"), &rows).await;
    serve.kill_and_restart().await;
    assert_eq!(listed(&serve).await.len(), rows.len(), "0 keeps all");
    serve.set("WebhookRetention", "1:00");
    serve.kill_and_restart().await;
    let wanted: Vec<String> = stay.iter().map(|row| row.id.to_string()).collect();
    eventually("what is old is gone", LIMIT, async || listed(&serve).await == wanted).await;
    assert_eq!(call(&serve, Method::GET, "/api/ImagePush").await.1["retention"], "1 h");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_removes_what_was_opened_before_an_instant() {
    const MANY: usize = limits::REMOVED_PER_CALL_MAX + 150;
    let mut serve = Serve::start(&[REGIONS, ("WebhookRetention", "0")], &[]).await;
    serve.kill();
    fill(&serve.folder().join("store.db"), &old(MANY)).await;
    serve.kill_and_restart().await;
    let images = [Image::new("shop", "done"), Image::new("shop", "waiting")];
    for (region, image) in [("east", &images[0]), ("west", &images[0]), ("east", &images[1])] {
        let (code, answer) = serve.caller().post(region, image.notification()).await.expect("an answer");
        assert_eq!(code, 202, "{answer}");
    }
    for bad in ["", "?until=", "?until=yesterday", "?until=2026-11-01", "?until=1764230000"] {
        let (code, answer) = call(&serve, Method::DELETE, &format!("/api/pushes{bad}")).await;
        assert_eq!((code, answer["error"]["code"].as_str()), (400, Some("until")), "{bad}: {answer}");
        assert!(answer["error"]["message"].as_str().expect("a text").contains("2026-11-27T03:00:00Z"), "{answer}");
    }
    let (code, answer) = call(&serve, Method::DELETE, "/api/pushes?before=2026-11-01T00:00:00Z").await;
    assert_eq!((code, answer["error"]["code"].as_str()), (400, Some("unknown_member")), "{answer}");
    let remove = async |until: &str| {
        let (code, answer) = call(&serve, Method::DELETE, &format!("/api/pushes?until={until}")).await;
        assert_eq!(code, 200, "{answer}");
        answer
    };
    let none = json!({ "instancesDeleted": 0, "more": false });
    assert_eq!(remove("1999-12-31T23:59:59Z").await, none);
    // A plus sign that is not escaped.
    let first = remove("2026-01-01T00:00:00+02:00").await;
    assert_eq!(first, json!({ "instancesDeleted": limits::REMOVED_PER_CALL_MAX, "more": true }));
    assert_eq!(remove("2026-01-01T00%3A00%3A00.5Z").await, json!({ "instancesDeleted": 150, "more": false }));
    assert_eq!(remove("2026-01-01T00:00:00Z").await, none);
    assert_eq!(listed(&serve).await.len(), 2);
    // An instant to come is as good as now.
    assert_eq!(remove("2999-01-01T00:00:00Z").await, json!({ "instancesDeleted": 1, "more": false }));
    let left = listed(&serve).await;
    assert_eq!(left.len(), 1, "what waits stays");
    // Its repeats are repeats for as long as they would have been.
    let (code, answer) = serve.caller().post("west", images[0].again().notification()).await.expect("an answer");
    assert_eq!((code, listed(&serve).await), (200, left), "{answer}");
    let (code, _) = call(&serve, Method::POST, "/api/pushes").await;
    assert_eq!(code, 405);
}
