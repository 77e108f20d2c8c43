//! `doctor` as a process of its own, against a real service and a stand-in for Azure Resource Manager.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::arm_troubles::fault;
use crate::stand_in_arm::{Arm, GROUP, SUBSCRIPTION, Webhook, id};
use crate::support::command::{Ended, Running, program, run};
use crate::support::recorder::Recorder;
use crate::support::refusing::Refusing;
use crate::support::service::{Image, LIMIT, Serve};
use crate::support::{eventually, now};

const URL: &str = "https://app.example/api/ImagePush";
const KEY: &str = "k3y-of-the-registry-0123456789";
const OPERATOR: &str = "k3y-of-operators-0123456789";
const REGIONS: (&str, &str) = ("WebhookRegions", "westeurope,northeurope");

/// What must never be seen, whatever is found.
const SECRETS: [&str; 7] = [KEY, OPERATOR, "0ld-secret", "t0ken-", "s3cret", "AccountKey=", "whsec_"];

/// Runs `doctor` to its end. Nothing secret is in what it says.
pub async fn doctor(mut command: Command) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    if command.get_current_dir().is_none() {
        command.current_dir(folder.path());
    }
    let ended = Running::start(command).ended().await;
    for secret in SECRETS {
        assert!(!ended.out.contains(secret) && !ended.err.contains(secret), "{secret}: {ended:?}");
    }
    assert!(!ended.out.contains('\u{1b}') && !ended.err.contains('\u{1b}'), "{ended:?}");
    ended
}

/// What a report finds wrong: state, check and thing.
pub fn found(report: &Value) -> BTreeSet<String> {
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    let bad = checks.filter(|check| ["fault", "warning"].contains(&check["state"].as_str().unwrap()));
    let each = bad.map(|check| {
        assert!(check["meaning"].is_string() && check["action"].is_string(), "{check}");
        format!("{} {} {}", text(check, "state"), text(check, "id"), text(check, "about")).trim_end().to_owned()
    });
    each.collect()
}

/// What was not looked at.
pub fn skipped(report: &Value) -> BTreeSet<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["state"] == "skipped").map(|check| check["id"].as_str().unwrap().to_owned()).collect()
}

pub fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A service with keys, and whoever it tells.
async fn service() -> (Serve, Recorder) {
    let receiver = Recorder::default();
    let target = format!("http://127.0.0.1:{}/s3cret-path", receiver.listen().await);
    let keys = [("WebhookKey", KEY), ("WebhookOperatorKey", OPERATOR)];
    let serve = Serve::start(&[REGIONS, keys[0], keys[1], ("WebhookTargetUrl", &target)], &[]).await;
    (serve, receiver)
}

fn webhook(arm: &Arm, name: &str, change: impl FnOnce(&mut Webhook)) {
    change(arm.state().webhooks.get_mut(name).unwrap());
}

fn app() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Web/sites/app")
}

/// A registry whose webhooks are right, and a function app with an instance that is always ready.
async fn azure() -> Arm {
    let arm = Arm::start().await;
    for region in ["westeurope", "northeurope"] {
        let name = format!("acrgw{region}");
        arm.state().add(
            &name,
            region,
            json!({ "managed-by": "acr-global-webhook/acrgw" }),
            &format!("{URL}?region={region}"),
        );
        webhook(&arm, &name, |webhook| webhook.properties["customHeaders"] = json!({ "x-functions-key": KEY }));
    }
    arm.state().log = json!({ "value": [
        logged("11110000-0000-4000-8000-000000000001", "ping", "2026-11-27T10:00:05Z", "200"),
        logged("5f0c", "push", "2026-11-27T10:00:00Z", "202"),
    ] });
    let plan = app().replace("sites/app", "serverfarms/plan");
    let ready = json!([{ "name": "http", "instanceCount": 1 }]);
    arm.state().others.insert(plan.clone(), json!({ "sku": { "name": "FC1", "tier": "FlexConsumption" } }));
    arm.state().others.insert(
        app(),
        json!({ "name": "app", "properties": { "state": "Running", "defaultHostName": "app.example", "serverFarmId": plan,
            "functionAppConfig": { "scaleAndConcurrency": { "alwaysReady": ready } } } }),
    );
    arm
}

/// A delivery in the registry's log, with all its secrets.
fn logged(id: &str, action: &str, at: &str, status: &str) -> Value {
    let target = json!({ "digest": "sha256:3b1c", "repository": "shop/cart", "tag": "1.4.2" });
    let content = json!({ "id": id, "timestamp": at, "action": action, "target": if action == "push" { target } else { Value::Null } });
    json!({ "id": id,
        "eventRequestMessage": { "content": content, "headers": { "x-functions-key": KEY }, "requestUri": "https://x/?code=0ld-secret" },
        "eventResponseMessage": { "content": "0ld-secret", "statusCode": status } })
}

/// An instant so many hours ago, as documents have it.
fn ago(hours: i64) -> String {
    (now() - chrono::Duration::hours(hours)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// `doctor` for that service and that Azure.
fn command(serve: &Serve, arm: &Arm, line: &str) -> Command {
    let mut args = vec!["doctor"];
    args.extend(line.split_whitespace());
    let mut command = program(&serve.base_url(), &args);
    command.args(["--arm-endpoint", &format!("http://127.0.0.1:{}", arm.port), "--webhook-url", URL]);
    command.args(["--registry", &id("contoso"), "--app", &app()]);
    command.env("PATH", arm.folder()).env("GLOBAL_WEBHOOK_KEY", OPERATOR);
    command
}

async fn report(serve: &Serve, arm: &Arm, line: &str) -> (i32, Value) {
    let ended = doctor(command(serve, arm, &format!("--json {line}"))).await;
    (ended.code, ended.document())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_against_what_is_well() {
    let ((serve, receiver), arm) = (service().await, azure().await);
    let (code, report) = report(&serve, &arm, "--ping --strict").await;
    assert_eq!((code, found(&report), &report["state"]), (0, set(&[]), &json!("ok")), "{report:#}");
    let not =
        ["settings.here", "settings.deployed", "storage.read", "storage.encoding", "storage.poison", "storage.clock"];
    // The webhooks send elsewhere than to the service here, which is shown none of their keys.
    assert_eq!(skipped(&report), set(&[&not[..], &["receivers.test", "webhooks.key"]].concat()));
    assert_eq!(arm.state().writes(), 0, "nothing is changed");
    assert_eq!(arm.state().count("POST", "/ping"), 2);
    // The receiver was asked for the head of `/`, and told nothing.
    let heard = receiver.take();
    assert_eq!(heard.iter().map(|(head, _)| head.start.as_str()).collect::<Vec<_>>(), ["HEAD / HTTP/1.1"]);
    let ended = doctor(command(&serve, &arm, "--test-notification")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("receivers.test (default): It took it with 200, within"), "{}", ended.out);
    assert!(ended.out.contains("--ping was not given."), "{}", ended.out);
    assert!(ended.out.trim_end().ends_with("0 faults, 0 warnings, 10 not looked at, 27 ok."), "{}", ended.out);
    let heard = receiver.take();
    let test = heard.iter().find(|(head, _)| head.start.starts_with("POST ")).expect("a test");
    assert!(String::from_utf8_lossy(&test.1).contains(r#""action":"ping""#), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_of_the_registry_and_the_app_is_found() {
    let ((serve, _receiver), arm) = (service().await, azure().await);
    type Change = fn(&Arm);
    let cases: [(Change, &[&str]); 12] = [
        (
            |arm| webhook(arm, "acrgwwesteurope", |w| w.properties["status"] = json!("disabled")),
            &["fault webhooks.enabled acrgwwesteurope"],
        ),
        (
            |arm| webhook(arm, "acrgwwesteurope", |w| w.properties["actions"] = json!(["delete"])),
            &["fault webhooks.enabled acrgwwesteurope"],
        ),
        (
            |arm| webhook(arm, "acrgwwesteurope", |w| w.properties["scope"] = json!("shop:*")),
            &["warning webhooks.scope acrgwwesteurope"],
        ),
        (
            |arm| {
                let uri = json!("https://0ld.example/api/ImagePush?region=westeurope&code=0ld-secret");
                webhook(arm, "acrgwwesteurope", |w| w.properties["serviceUri"] = uri);
            },
            &["fault webhooks.url acrgwwesteurope"],
        ),
        (
            |arm| {
                webhook(arm, "acrgwwesteurope", |w| {
                    w.properties["serviceUri"] = json!(format!("{URL}?region=northeurope"))
                })
            },
            &["fault webhooks.url acrgwwesteurope"],
        ),
        (|arm| drop(arm.state().webhooks.remove("acrgwwesteurope")), &["fault webhooks.there westeurope"]),
        (
            |arm| webhook(arm, "acrgwwesteurope", |w| w.location = "northeurope".into()),
            &["fault webhooks.there westeurope", "fault webhooks.url acrgwwesteurope"],
        ),
        (
            |arm| arm.state().replicas.clear(),
            &["fault registry.regions northeurope", "warning webhooks.extra acrgwnortheurope"],
        ),
        (|arm| arm.state().replicate("eastus"), &["warning registry.regions eastus", "warning webhooks.there eastus"]),
        (|arm| arm.state().replicas[0].status = "Syncing", &["warning registry.replicas northeurope"]),
        (
            |arm| {
                arm.state().log = json!({ "value": [
                    logged("1", "push", &ago(2), "202"), logged("2", "push", &ago(1), "504"),
                ] });
            },
            &["fault webhooks.deliveries acrgwnortheurope", "fault webhooks.deliveries acrgwwesteurope"],
        ),
        (
            |arm| {
                let mut state = arm.state();
                let site = state.others.get_mut(&app()).unwrap();
                site["properties"]["functionAppConfig"] = json!(null);
                site["properties"]["state"] = json!("Stopped");
            },
            &["fault app.ready", "fault app.runs"],
        ),
    ];
    for (change, expected) in cases {
        let arm = azure().await;
        change(&arm);
        let (code, report) = report(&serve, &arm, "").await;
        assert_eq!(found(&report), set(expected), "{report:#}");
        assert_eq!(code, i32::from(report["state"] == "fault"), "{report:#}");
    }
    // A registry that has one region by its tier.
    (arm.state().sku, arm.state().home) = ("Basic", "westeurope");
    arm.state().replicas.clear();
    let (code, report) = report(&serve, &arm, "").await;
    assert!(code == 1 && found(&report).contains("warning registry.sku"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_webhook_is_shown_only_where_that_webhook_sends() {
    let ((serve, _receiver), arm) = (service().await, azure().await);
    let here = format!("{}/api/ImagePush?region=", serve.base_url());
    for (region, key) in [("westeurope", "0ld-secret"), ("northeurope", KEY)] {
        webhook(&arm, &format!("acrgw{region}"), |w| {
            w.properties["serviceUri"] = json!(format!("{here}{region}"));
            w.properties["customHeaders"] = json!({ "x-functions-key": key });
        });
    }
    let (_, report) = report(&serve, &arm, "").await;
    assert!(found(&report).contains("fault webhooks.key acrgwwesteurope"), "{report:#}");
    assert!(!found(&report).contains("fault webhooks.key acrgwnortheurope"), "{report:#}");
    // Another host is asked than that which the webhooks send to.
    let (other, arm) = (Recorder::default(), azure().await);
    let mut command = command(&serve, &arm, "--json");
    command.env("GLOBAL_WEBHOOK_URL", format!("http://127.0.0.1:{}", other.listen().await));
    let report = doctor(command).await.document();
    assert!(skipped(&report).contains("webhooks.key"), "{report:#}");
    let heard = other.take();
    assert!(!heard.is_empty() && !format!("{heard:?}").contains(KEY), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_of_another_address_is_told() {
    let ((serve, _receiver), arm) = (service().await, azure().await);
    arm.state().others.get_mut(&app()).unwrap()["properties"]["defaultHostName"] = json!("app.azurewebsites.net");
    let (code, report) = report(&serve, &arm, "").await;
    assert_eq!((code, found(&report)), (0, set(&["warning app.host"])), "{report:#}");
    arm.state().others.get_mut(&app()).unwrap()["properties"]["hostNames"] =
        json!(["app.azurewebsites.net", "app.example"]);
    assert_eq!(self::report(&serve, &arm, "").await.0, 0);
    assert_eq!(found(&self::report(&serve, &arm, "").await.1), set(&[]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_that_is_refused_says_why() {
    let ((serve, _receiver), arm) = (service().await, azure().await);
    arm.state().log =
        json!({ "value": [logged("11110000-0000-4000-8000-000000000001", "ping", "2026-11-27T10:00:05Z", "401")] });
    let ended = doctor(command(&serve, &arm, "--ping")).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.out.contains("FAULT  webhooks.ping (acrgwwesteurope)\n  Its ping was answered with 401."),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("Do: See webhooks.key."), "{}", ended.out);
}

/// What the page shows is what is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_is_printed() {
    let ((serve, _receiver), arm) = (service().await, azure().await);
    webhook(&arm, "acrgwwesteurope", |w| w.properties["status"] = json!("disabled"));
    let failed = ago(1);
    let pushes = [("2", failed.as_str(), "504"), ("1", &ago(2), "202")];
    arm.state().log = json!({ "value": pushes.map(|(id, at, status)| logged(id, "push", at, status)) });
    arm.state().replicas[0].status = "Syncing";
    let ended = doctor(command(&serve, &arm, "")).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md")).unwrap();
    let (shown, _) = ended.out.split_once("NOT LOOKED AT").unwrap();
    let shown = shown.replace(&failed, "2026-11-27T11:00:00.000Z");
    assert!(page.contains(shown.trim_end()), "docs/doctor.md does not show:\n{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rights_it_says_what_it_could_not_look_at() {
    let ((serve, _receiver), arm) = (service().await, azure().await);
    let denied = || json!({ "error": { "code": "AuthorizationFailed", "message": "no action \u{1b}[2Jx" } });
    arm.state()
        .faults
        .extend(["/listEvents", "/getCallbackConfig", "/ping"].map(|part| fault("POST", part, 99, 403, denied())));
    arm.state().faults.push(fault("GET", "/serverfarms/", 99, 403, denied()));
    let mut with_the_other_key = command(&serve, &arm, "--json --ping");
    with_the_other_key.env("GLOBAL_WEBHOOK_KEY", KEY);
    let ended = doctor(with_the_other_key).await;
    let report = ended.document();
    assert_eq!((ended.code, found(&report)), (0, set(&[])), "{report:#}");
    for id in ["webhooks.url", "webhooks.key", "webhooks.deliveries", "webhooks.ping", "timers.deadlines", "app.ready"]
    {
        assert!(skipped(&report).contains(id), "{id}: {report:#}");
    }
    // The registry is named, and may not be read at all: that is worth a warning.
    arm.state().faults =
        vec![fault("GET", "/registries/", 99, 403, denied()), fault("GET", "/sites/", 99, 403, denied())];
    let ended = doctor(command(&serve, &arm, "")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("WARNING  registry.read") && ended.out.contains("WARNING  app.read"), "{}", ended.out);
    assert!(ended.out.contains("AuthorizationFailed") && ended.out.contains("Configuration Reader"), "{}", ended.out);
    assert_eq!(doctor(command(&serve, &arm, "--strict")).await.code, 1);
    // Nobody is signed in.
    arm.install("#!/bin/sh\necho 'Please run az login' >&2\nexit 1\n");
    let ended = doctor(command(&serve, &arm, "")).await;
    assert!(ended.code == 0 && ended.out.contains("az login"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_down_is_a_fault_and_all_else_is_looked_at() {
    let ((mut serve, _receiver), arm) = (service().await, azure().await);
    let ended = doctor(program(&serve.base_url(), &["doctor", "--key", "0ld-secret-of-somebody"])).await;
    assert!(ended.code == 1 && ended.out.contains("refused the function key"), "{ended:?}");
    serve.kill();
    let (code, report) = report(&serve, &arm, "").await;
    assert_eq!((code, found(&report)), (1, set(&["fault service.answers"])), "{report:#}");
    assert_eq!(report["counts"]["fault"], 1);
    for id in ["storage.rows", "timers.deadlines", "receivers.reached", "registry.regions", "webhooks.key"] {
        assert!(skipped(&report).contains(id), "{id}: {report:#}");
    }
    let other = Recorder::default();
    let ended = doctor(program(&format!("http://127.0.0.1:{}", other.listen().await), &["doctor"])).await;
    assert!(ended.code == 1 && ended.out.contains("is not this service"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_and_regions_that_fail_are_named() {
    let dead = Refusing::new();
    let target = format!("http://127.0.0.1:{}/s3cret-path", dead.port());
    let settings = [
        REGIONS,
        ("WebhookTargetUrl", target.as_str()),
        ("WebhookTargetFormat", "standard"),
        ("WebhookTimeout", "0:0:1"),
        ("WebhookRetrySchedule", "1:0:0"),
    ];
    let serve = Serve::start(&settings, &[]).await;
    let image = Image::new("shop/cart", "1.4.2");
    let (status, body) = serve.caller().post("westeurope", image.notification()).await.unwrap();
    assert_eq!(status, 202, "{body}");
    let push = body["id"].as_str().unwrap().to_owned();
    eventually("an attempt has failed", LIMIT, async || {
        run(&serve.base_url(), &["show", &push]).await.out.contains("next ")
    })
    .await;
    let ended = doctor(program(&serve.base_url(), &["doctor", "--json"])).await;
    let expected = set(&[
        "warning receivers.reached default",
        "warning receivers.told default",
        "warning regions.report northeurope",
    ]);
    assert_eq!((ended.code, found(&ended.document())), (0, expected), "{ended:?}");
    assert_eq!(doctor(program(&serve.base_url(), &["doctor", "--strict"])).await.code, 1);
    let ended = doctor(program(&serve.base_url(), &["doctor", "--json", "--test-notification"])).await;
    let found = found(&ended.document());
    assert!(ended.code == 1 && found.contains("fault receivers.test default"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_that_cannot_be_made_is_a_warning() {
    let ((serve, receiver), arm) = (service().await, azure().await);
    let mut command = command(&serve, &arm, "--json --test-notification");
    command.env("GLOBAL_WEBHOOK_KEY", KEY);
    let report = doctor(command).await.document();
    assert!(found(&report).contains("warning receivers.test"), "{report:#}");
    assert!(receiver.take().iter().all(|(head, _)| head.start.starts_with("HEAD ")));
    // Nor is it a fault that nobody is to be told.
    let serve = Serve::start(&[REGIONS], &[]).await;
    let report = doctor(program(&serve.base_url(), &["doctor", "--json", "--test-notification"])).await.document();
    let test = report["checks"].as_array().unwrap().iter().find(|check| check["id"] == "receivers.test").unwrap();
    assert_eq!((&test["state"], &test["what"]), (&json!("ok"), &json!("There is none.")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_without_a_connection_or_without_tls_is_named() {
    let (dead, plain) = (Refusing::new(), Recorder::default());
    let targets = json!([
        { "name": "dead", "url": format!("http://127.0.0.1:{}/s3cret", dead.port()) },
        { "name": "plain", "url": format!("https://127.0.0.1:{}/s3cret", plain.listen().await) },
        { "name": "nowhere", "url": "https://nowhere.invalid/s3cret" },
    ]);
    let serve = Serve::start(&[REGIONS, ("WebhookTargets", &targets.to_string())], &[]).await;
    let report = doctor(program(&serve.base_url(), &["doctor", "--json"])).await.document();
    let each = ["dead", "plain", "nowhere"].map(|name| format!("warning receivers.reached {name}"));
    assert_eq!(found(&report), each.into_iter().collect(), "{report:#}");
}

#[tokio::test]
async fn wrong_arguments_end_with_two() {
    for line in [
        "--registry ?",
        "--ping",
        "--app contoso",
        "--prefix a",
        "--timeout soon",
        "--url ftp://x/",
        "--webhook-url http://app.example/api/ImagePush",
        "--registry /subscriptions/x --subscription y",
        "--arm-endpoint http://elsewhere.example --registry contoso",
    ] {
        let args: Vec<&str> = ["doctor"].into_iter().chain(line.split(' ')).collect();
        let mut command = program("http://127.0.0.1:9", &args);
        if line.starts_with("--url") {
            command.env_remove("GLOBAL_WEBHOOK_URL");
        }
        let ended = doctor(command).await;
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{line}: {ended:?}");
    }
    let ended = doctor(program("http://127.0.0.1:9", &["doctor", "--key", "\"s3cret\""])).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}
