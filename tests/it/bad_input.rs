//! Bad input to ImagePush and to the pushes' addresses, and the front door of `serve`.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::service::{Image, LIMIT, Serve, json_of};

async fn serve() -> Serve {
    Serve::start(&[("WebhookRegions", "northeurope,westus")], &[]).await
}

async fn call(
    serve: &Serve,
    method: Method,
    path: &str,
    body: impl Into<reqwest::Body>,
) -> (u16, Value, reqwest::header::HeaderMap) {
    let url = format!("{}{path}", serve.base_url());
    let answer = Client::new().request(method, url).body(body).send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, json_of(answer).await, headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_answer() {
    let serve = serve().await;
    let good = Image::new("team/shop", "v1").notification();
    let cases: Vec<(&str, String, u16, &str, &str)> = vec![
        ("/api/ImagePush", good.clone(), 400, "region_missing", "northeurope, westus"),
        ("/api/ImagePush?region=", good.clone(), 400, "region_missing", "region"),
        ("/api/ImagePush?region=westus&REGION=northeurope", good.clone(), 400, "region_ambiguous", "region"),
        ("/api/ImagePush?region=westus,northeurope", good.clone(), 400, "region_ambiguous", "region"),
        ("/api/ImagePush?region=mars", good.clone(), 400, "region_unknown", "northeurope, westus"),
        ("/api/ImagePush?region=mars", json!({"id":"1","action":"ping"}).to_string(), 400, "region_unknown", "westus"),
        ("/api/ImagePush?region=westus", String::new(), 400, "body_empty", "empty"),
        ("/api/ImagePush?region=westus", "s3cret".into(), 400, "body_not_json", "not JSON"),
        ("/api/ImagePush?region=westus", "[\"s3cret\"]".into(), 400, "body_not_object", "object"),
        ("/api/ImagePush?region=westus", "{}".into(), 400, "action_missing", "action"),
        ("/api/ImagePush?region=westus", r#"{"id":"1","action":"push"}"#.into(), 400, "member_missing", "target"),
        (
            "/api/ImagePush?region=westus",
            r#"{"id":"1","action":"push","target":{"repository":"s3cret"}}"#.into(),
            400,
            "member_missing",
            "target.digest",
        ),
        (
            "/api/ImagePush?region=westus",
            r#"{"id":"1","action":"push","target":{"digest":"s3cret"}}"#.into(),
            400,
            "member_missing",
            "target.repository",
        ),
        (
            "/api/ImagePush?region=westus",
            Image::new(&"s3cret".repeat(2000), "v1").notification(),
            400,
            "member_too_long",
            "target.repository",
        ),
        (
            "/api/ImagePush?region=westus",
            format!("{{\"x\":\"{}\"}}", "s3cret".repeat(50_000)),
            413,
            "body_too_large",
            "262144",
        ),
        ("/api/elsewhere", good.clone(), 404, "not_found", "nothing"),
        ("/TimeoutCheck", good.clone(), 404, "not_found", "nothing"),
    ];
    for (path, body, status, code, part) in cases {
        let (got, answer, _) = call(&serve, Method::POST, path, body).await;
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)), "{path}: {answer}");
        assert!(answer["error"]["message"].as_str().expect("a message").contains(part), "{path}: {answer}");
        assert!(!answer.to_string().contains("s3cret"), "{path}: {answer}");
    }
    assert!(!serve.output().contains("s3cret"), "{}", serve.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_starts_nothing_is_answered_with_success() {
    let serve = serve().await;
    let post = async |body: Value| call(&serve, Method::POST, "/API/imagepush/?Region=WestUS", body.to_string()).await;
    let (status, answer, _) = post(json!({"id":"1","timestamp":"t","action":"ping"})).await;
    assert_eq!((status, answer["ping"].as_str()), (200, Some("ok")));
    let (status, answer, _) = post(json!({"action":"lease_renew"})).await;
    assert_eq!((status, answer["ignored"].is_string()), (200, true));
    // A repeat of the one region is one region, as the host folds it and as a browser writes it.
    for path in ["/api/ImagePush?region=westus&region=WESTUS", "/api/ImagePush?region=westus,westus"] {
        let (status, _, _) = call(&serve, Method::POST, path, Image::new("a", "b").notification()).await;
        assert_eq!(status, 202);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_methods_name_the_right_ones() {
    let serve = serve().await;
    let id = format!("{}-1", "0".repeat(64));
    for (method, path, allow) in [
        (Method::DELETE, "/api/ImagePush".to_owned(), "GET, POST"),
        (Method::POST, "/api/pushes".into(), "GET, DELETE"),
        (Method::POST, format!("/api/pushes/{id}"), "GET, DELETE"),
        (Method::GET, format!("/api/pushes/{id}/terminate"), "POST"),
        (Method::POST, "/".into(), "GET, HEAD"),
    ] {
        let (status, answer, headers) = call(&serve, method.clone(), &path, "").await;
        assert_eq!(status, 405, "{method} {path}: {answer}");
        assert_eq!(headers["allow"], allow, "{method} {path}");
    }
    for path in [format!("/api/pushes/{id}"), "/api/pushes/nonsense".into(), format!("/api/pushes/{id}/dance")] {
        assert_eq!(call(&serve, Method::GET, &path, "").await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_characters_are_taken() {
    let serve = serve().await;
    for odd in ["'/\\#?%25%2F", "日本語 😀", "\u{0}\u{1f}\u{7f}", "a'b\"c;d=e&f", "../..", " ", &"x".repeat(2048)]
    {
        let image = Image { id: odd.chars().take(100).collect(), digest: odd.into(), ..Image::new(odd, odd) };
        for (region, settled) in [("northeurope", false), ("westus", true)] {
            let path = format!("/api/ImagePush?region={region}");
            let (status, answer, _) = call(&serve, Method::POST, &path, image.notification()).await;
            assert_eq!(status, 202, "{odd:?}: {answer}");
            let path = format!("/api/pushes/{}", answer["id"].as_str().expect("an id"));
            let (_, status, _) = call(&serve, Method::GET, &path, "").await;
            assert_eq!(status["runtimeStatus"], if settled { "Completed" } else { "Running" }, "{odd:?}");
            assert_eq!(status["input"]["target"]["tag"], odd);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_can_end_send_again_list_and_remove() {
    let serve = serve().await;
    let (_, answer, _) =
        call(&serve, Method::POST, "/api/ImagePush?region=westus", Image::new("a", "b").notification()).await;
    let id = answer["id"].as_str().expect("an id").to_owned();
    assert_eq!(call(&serve, Method::DELETE, &format!("/api/pushes/{id}"), "").await.0, 409);
    for _ in 0..2 {
        assert_eq!(call(&serve, Method::POST, &format!("/api/pushes/{id}/terminate"), "").await.0, 202);
    }
    let (code, status, _) = call(&serve, Method::GET, &format!("/api/pushes/{id}"), "").await;
    assert_eq!(
        (code, &status["output"]["outcome"], &status["output"]["terminated"]),
        (200, &json!("timed_out"), &json!(true))
    );
    let (_, page, _) = call(&serve, Method::GET, "/api/pushes?limit=1", "").await;
    let listed = &page["pushes"][0];
    assert_eq!(listed["instanceId"], id.as_str());
    for member in ["createdTime", "lastUpdatedTime", "runtimeStatus"] {
        assert_eq!(listed[member], status[member], "{member}");
    }
    assert_eq!((&listed["image"], &listed["outcome"]), (&status["customStatus"]["image"], &json!("timed_out")));
    // By its bare key, as in the links of an answer to an arrival that was spilled.
    let key = id.split('-').next().expect("a key");
    assert_eq!(call(&serve, Method::POST, &format!("/api/pushes/{key}/terminate"), "").await.0, 202);
    assert_eq!(call(&serve, Method::POST, &format!("/api/pushes/{}/terminate", "0".repeat(64)), "").await.0, 404);
    assert_eq!(call(&serve, Method::GET, "/api/pushes?limit=0", "").await.0, 400);
    let (code, answer, _) = call(&serve, Method::POST, &format!("/api/pushes/{id}/redeliver?target=nosuch"), "").await;
    assert_eq!((code, &answer["error"]["code"]), (404, &json!("unknown_target")));
    assert_eq!(call(&serve, Method::DELETE, &format!("/api/pushes/{id}"), "").await.0, 200);
    assert_eq!(call(&serve, Method::DELETE, &format!("/api/pushes/{id}"), "").await.0, 404);
    assert_eq!(call(&serve, Method::POST, &format!("/api/pushes/{id}/redeliver"), "").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_opens_the_door_and_nothing_shows_it() {
    let serve = Serve::start(&[("WebhookRegions", "a"), ("WebhookKey", "s3cret+/=")], &[]).await;
    let get = async |path: &str, header: Option<&str>| {
        let mut request = Client::new().get(format!("{}{path}", serve.base_url()));
        if let Some(key) = header {
            request = request.header("x-functions-key", key);
        }
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(get("/", None).await, 200);
    assert_eq!(get("/api/ImagePush", None).await, 401);
    assert_eq!(get("/api/pushes", None).await, 401);
    assert_eq!(get("/api/ImagePush?code=wrong", None).await, 401);
    assert_eq!(get("/api/ImagePush?code=s3cret%2B%2F%3D", None).await, 200);
    assert_eq!(get("/api/ImagePush", Some("s3cret+/=")).await, 200);
    assert_eq!(get("/api/ImagePush?code=s3cret%2B%2F%3D", Some("wrong")).await, 401, "the header counts first");
    assert!(!serve.output().contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_ends_with_2_and_every_fault_when_settings_are_wrong() {
    let run = |settings: Vec<(&'static str, &'static str)>, arguments: Vec<&'static str>| async move {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_global-webhook"));
        command.arg("serve").args(arguments).env_clear().envs(settings);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("a run");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(vec![("WebhookTimeout", "x")], vec!["--listen", "0.0.0.0:0"]).await;
    assert_eq!(code, Some(2), "{text}");
    for part in ["WebhookRegions: is missing", "WebhookTimeout = \"x\"", "--listen"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_what_runs_finish_and_ends_in_time() {
    let mut serve = serve().await;
    let mut pending = Vec::new();
    for n in 0..50 {
        let url = format!("{}/api/ImagePush?region=westus", serve.base_url());
        let body = Image::new("a", &format!("t{n}")).notification();
        pending.push(tokio::spawn(async move {
            Client::new().post(url).body(body).send().await.map(|a| a.status().as_u16())
        }));
    }
    let mut answered = 0;
    eventually("some are answered", LIMIT, async || pending.iter().any(tokio::task::JoinHandle::is_finished)).await;
    serve.terminate();
    let status = serve.ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}\n{}", serve.output());
    for call in pending {
        // One that came too late is refused by the closed door; none is answered with a failure.
        if let Ok(code) = call.await.expect("a task") {
            assert_eq!(code, 202);
            answered += 1;
        }
    }
    serve.kill_and_restart().await;
    let page =
        json_of(reqwest::get(format!("{}/api/pushes?limit=1000", serve.base_url())).await.expect("an answer")).await;
    assert!(page["pushes"].as_array().expect("a list").len() >= answered, "{answered} were answered with 202");
}
