//! Part D of the cases that are easily got wrong, as far as it is about who may come in, and where notifications may
//! go: each with its number, against the real binary.

use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::azurite::azurite;
use crate::support::host::{Host, HostOptions, Serves};
use crate::support::service::{Image, Serve, json_of};
use crate::support::wire;

fn client(from: &str) -> Client {
    Client::builder().no_proxy().local_address(from.parse::<std::net::IpAddr>().expect("an address")).build().unwrap()
}

/// A spilled arrival as the queue holds it, inside the host's envelope.
fn spilled(image: &Image, app: &str) -> String {
    let spill = json!({ "spill": {
        "app": app, "region": "a", "received": "2026-11-22T08:15:30Z", "payload": image.notification(),
    } });
    json!({ "Data": { "timer": json!(spill.to_string()).to_string() }, "Metadata": {} }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_timeout_check_cannot_be_reached_from_outside() {
    let account = tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite");
    let settings = [("WebhookRegions", "a"), ("AzureWebJobsStorage", account.as_str()), ("WebhookApp", "d1")];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http).key("fn-key")).await;
    let image = Image { id: "x".repeat(5000), ..Image::new("team/shop", "d1") };
    let body = spilled(&image, "d1");
    for path in [
        "/api/pushes/%252e%252e/%252e%252e%5cTimeoutCheck",
        "/api/pushes/%252e%252e/%252e%252e%255cTimeoutCheck",
        "/api/pushes/%252e%252e%5c%252e%252e/TimeoutCheck/",
    ] {
        for (name, key, query) in [("x-functions-key", "fn-key", ""), ("x-a", "b", "?code=fn-key")] {
            // All that a caller can say to look like the host.
            let head = format!(
                "POST {path}{query} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{name}: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                host.handler_port(),
                body.len()
            );
            let answer = wire::send((head + &body).as_bytes(), host.port()).await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
    }
    assert!(host.handler_output().contains("was not the Functions host's own"), "{}", host.handler_output());
    // From the queue it comes in, and meets every bound.
    let own = |body: &str| {
        format!(
            "POST /TimeoutCheck HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nX-Azure-Functions-InvocationId: 85a1b04c\r\nUser-Agent: Azure-Functions-Host/4\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            host.handler_port(),
            body.len()
        )
    };
    let small = Image::new("team/shop", "d1");
    for (body, word) in [
        (body.clone(), "set_aside"),
        (spilled(&small, &"x".repeat(300)), "set_aside"),
        (spilled(&small, "d1"), "applied"),
    ] {
        let answer = wire::send(own(&body).as_bytes(), host.handler_port()).await;
        assert_eq!((answer.status, &answer.json()["Logs"]), (200, &json!([format!("timer: {word}")])));
    }
    let list = client("127.0.0.1").get(format!("{}/api/pushes", host.base_url())).header("x-functions-key", "fn-key");
    let list = json_of(list.send().await.expect("an answer")).await;
    let images: Vec<&Value> = list["pushes"].as_array().expect("a list").iter().map(|push| &push["image"]).collect();
    assert_eq!(images, [&json!("team/shop:d1")], "only what came by the queue, within the bounds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_without_a_key_no_page_of_a_browser_comes_in() {
    let serve = Serve::start(&[("WebhookRegions", "a")], &[]).await;
    let port = serve.base_url().rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let ask = async |method: &str, path: &str, headers: &str| {
        let body = if method == "POST" { Image::new("team/shop", "d2").notification() } else { String::new() };
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = wire::send(request.as_bytes(), port).await;
        let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (answer.status, code)
    };
    let calls = [("POST", "/api/ImagePush?region=a"), ("GET", "/api/ImagePush"), ("GET", "/api/pushes")];
    for headers in [
        "Host: evil.example",
        "Host: evil.example\r\nOrigin: http://evil.example\r\nSec-Fetch-Site: same-origin",
        "Host: localhost\r\nOrigin: https://evil.example",
        "Host: 127.0.0.1\r\nOrigin: null",
        "Host: localhost\r\nSec-Fetch-Site: cross-site",
        "Host: localhost\r\nSec-Fetch-Site: same-site",
    ] {
        for (method, path) in calls {
            let refused = (403, "foreign".to_owned());
            assert_eq!(ask(method, path, headers).await, refused, "{method} {path} {headers}");
        }
    }
    let list = json_of(reqwest::get(format!("{}/api/pushes", serve.base_url())).await.expect("an answer")).await;
    assert_eq!(list["pushes"], json!([]));
    for (method, path) in calls {
        for headers in ["Host: localhost:7071", "Host: [::1]", "Host: 127.0.0.1\r\nSec-Fetch-Site: none"] {
            assert!(ask(method, path, headers).await.0 < 300, "{method} {path} {headers}");
        }
    }
}

/// Status of the answer to a call with this key.
async fn with_key(client: &Client, serve: &Serve, method: Method, path: &str, key: &str) -> u16 {
    let body = Image::new("team/shop", "keys").notification();
    let call = client.request(method, format!("{}{path}", serve.base_url())).header("x-functions-key", key).body(body);
    call.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registrys_key_opens_image_push_and_nothing_else() {
    const REGISTRY: &str = "a-key-of-the-registry";
    const OPERATOR: &str = "a-key-of-the-operators";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("operator");
    std::fs::write(&file, format!("{OPERATOR}\n")).unwrap();
    let from_file = format!("@{}", file.display());
    let settings = [("WebhookRegions", "a"), ("WebhookKey", REGISTRY)];
    let serve = Serve::start(&settings, &["--operator-key", &from_file]).await;
    let client = client("127.0.0.1");
    let push = "/api/ImagePush?region=a";
    for (method, path, registry, operator) in [
        (Method::POST, push, 202, 202),
        (Method::GET, "/api/ImagePush", 200, 200),
        (Method::GET, "/api/pushes", 403, 200),
        (Method::DELETE, &*format!("/api/pushes/{}-1", "0".repeat(64)), 403, 404),
        (Method::POST, &*format!("/api/pushes/{}-1/terminate", "0".repeat(64)), 403, 404),
    ] {
        for (key, status) in [(REGISTRY, registry), (OPERATOR, operator)] {
            let got = with_key(&client, &serve, method.clone(), path, key).await;
            assert_eq!(got, status, "{method} {path} {key}");
        }
        assert_eq!(with_key(&client, &serve, method.clone(), path, "a-wrong-key").await, 401, "{method} {path}");
    }
    // The links of the answer do not carry a key that does not open them.
    let answer = client.post(format!("{}{push}&code={REGISTRY}", serve.base_url()));
    let answer = answer.body(Image::new("team/shop", "links").notification()).send().await.expect("an answer");
    let text = answer.text().await.expect("a text");
    assert!(text.contains("statusQueryGetUri") && !text.contains(REGISTRY), "{text}");
    assert!(!serve.output().contains(REGISTRY) && !serve.output().contains(OPERATOR));
    // `send` finds the operators' key in the environment, and follows its push with it.
    let url = format!("{}/api/ImagePush", serve.base_url());
    let send = tokio::task::spawn_blocking(move || {
        let mut send = std::process::Command::new(env!("CARGO_BIN_EXE_global-webhook"));
        let settings = [("WebhookKey", "another-one"), ("WebhookOperatorKey", OPERATOR)];
        send.args(["send", "--url", &url]).env_clear().envs(settings).output()
    });
    let send = send.await.expect("a task").expect("send runs");
    assert!(send.status.success(), "{}", String::from_utf8_lossy(&send.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_slow_their_sender_down_and_nobody_else() {
    let serve = Serve::start(&[("WebhookRegions", "a"), ("WebhookKey", "a-key-of-the-registry")], &[]).await;
    let (guesser, registry) = (client("127.0.0.2"), client("127.0.0.1"));
    let begun = Instant::now();
    for _ in 0..12 {
        assert_eq!(with_key(&guesser, &serve, Method::GET, "/api/ImagePush", "a-guess").await, 401);
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    let push = "/api/ImagePush?region=a";
    let mut took = [Duration::ZERO; 2];
    for (took, client) in took.iter_mut().zip([&registry, &guesser]) {
        let begun = Instant::now();
        assert_eq!(with_key(client, &serve, Method::POST, push, "a-key-of-the-registry").await, 202);
        *took = begun.elapsed();
    }
    // The guesser's own right key waits half a second, which leaves it its answer in time.
    assert!(took[0] < took[1] && took[1] < Duration::from_secs(3), "{took:?}");
}

/// Addresses that stand for private ones, spelled so that only who knows the range can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d7_private_addresses_are_refused_however_they_are_spelled() {
    for host in [
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[::ffff:0:a9fe:a9fe]",
        "[2001:0:a9fe:a9fe::1]",
        "[2001:0:808:808::1]",
        "[2002:a00:1::1]",
        "[fd00::1]",
        "[100::1]",
        "192.0.2.1",
    ] {
        let output = tokio::task::spawn_blocking(move || {
            let settings = [
                ("WebhookRegions", "a".to_owned()),
                ("WebhookTargetUrl", format!("https://{host}/")),
                ("WebhookAllowPrivateTargets", "false".to_owned()),
            ];
            let mut serve = std::process::Command::new(env!("CARGO_BIN_EXE_global-webhook"));
            serve.args(["serve", "--listen", "127.0.0.1:0", "--data", "/nowhere/store.db"]).env_clear();
            serve.envs(settings).output()
        });
        let output = output.await.expect("a task").expect("a run");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains("WebhookTargetUrl"), "{host}: {text}");
    }
}
