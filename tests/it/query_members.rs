//! Every operation of the interface, by its own description: a member of the query that it does not know is refused before
//! anything is done.

use std::collections::BTreeSet;

use global_webhook::api::{Refusal, State};
use reqwest::Method;
use serde_json::Value;

use crate::support::service::{Image, Serve};

/// Methods that a path of a description may have.
const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

/// Asks; status and code of the refusal, with its text.
async fn refused(base: &str, method: &str, path: &str, query: &str) -> (u16, Refusal) {
    let method: Method = method.to_uppercase().parse().expect("a method");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.request(method, format!("{base}{path}?{query}")).send().await.expect("an answer");
    let (status, body) = (answer.status().as_u16(), answer.text().await.expect("a body"));
    (status, serde_json::from_str(&body).unwrap_or_else(|why| panic!("{path}?{query}: {status} {body}: {why}")))
}

/// Names of the parameters of an operation that stand in the query.
fn described(operation: &Value) -> BTreeSet<&str> {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    parameters.iter().filter(|p| p["in"] == "query").filter_map(|p| p["name"].as_str()).collect()
}

/// The names that a refusal lists.
fn listed(refusal: &Refusal) -> BTreeSet<&str> {
    let (_, names) = refusal.error.message.split_once(": ").unwrap_or_default();
    names.trim_end_matches('.').split(", ").filter(|name| !name.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_acts_on_a_query_that_it_does_not_understand() {
    let serve = Serve::start(&[("WebhookRegions", "northeurope,westus"), ("WebhookTimeout", "0:30:0")], &[]).await;
    let base = serve.base_url();
    let (status, body) =
        serve.caller().post("westus", Image::new("shop/cart", "1").notification()).await.expect("an answer");
    assert_eq!(status, 202, "{body}");
    let id = body["id"].as_str().expect("an id");
    let document = serde_json::to_value(global_webhook::http::openapi::document()).expect("a document");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let address = path.replace("{id}", id).replace("{region}", "northeurope");
        for (method, operation) in item.as_object().expect("methods").iter().filter(|(m, _)| METHODS.contains(&&***m)) {
            operations += 1;
            let mut known = BTreeSet::new();
            // With an image the list is another question.
            for also in ["", "image=x"].iter().filter(|also| also.is_empty() || path == "/api/pushes") {
                let (status, refusal) = refused(&base, method, &address, &format!("{also}&foo=zzz")).await;
                assert_eq!((status, refusal.error.code.as_str()), (400, "unknown_member"), "{method} {path}");
                assert!(!refusal.error.message.contains("zzz"), "nothing of the query is repeated: {refusal:?}");
                known.extend(listed(&refusal).into_iter().map(str::to_owned));
            }
            let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
            let described = described(operation);
            assert_eq!(described, known, "{method} {path}: what is described, and what is known");
            assert!(operation["responses"].get("400").is_some(), "{method} {path}: its 400 is not described");
            // One that is known, twice or empty where it names one of all.
            for name in &known {
                let (status, refusal) = refused(&base, method, &address, &format!("{name}=a&{name}=b")).await;
                assert!(status == 400, "{method} {path}: {refusal:?}");
            }
        }
    }
    assert_eq!(operations, 9, "each was asked");
    let (status, refusal) = refused(&base, "post", &format!("/api/pushes/{id}/redeliver"), "target=").await;
    assert_eq!((status, refusal.error.code.as_str()), (400, "target"), "an empty name is not that of all");
    let (status, _) = refused(&base, "get", "/api/pushes/openapi.json", "foo=zzz").await;
    assert_eq!(status, 400);

    // What the Functions host reads of a query is no slip, and nothing was done.
    let url = format!("{base}/api/pushes/{id}?code=k3y&clientId=portal");
    let push = crate::support::service::json_of(reqwest::get(url).await.expect("an answer")).await;
    assert_eq!(push["customStatus"]["notifications"], serde_json::json!([]), "a list too while it waits");
    let push: global_webhook::api::Push = serde_json::from_value(push).expect("a document");
    assert_eq!((push.custom_status.state, push.custom_status.arrived()), (State::Waiting, 1));
}
