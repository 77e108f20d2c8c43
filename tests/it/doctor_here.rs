//! `doctor` with what lies beside it: settings, and a storage account on Azurite. And its page, docs/doctor.md.

use std::path::Path;

use chrono::SubsecRound as _;
use global_webhook::doctor::CHECKS;
use global_webhook::store::azure::parts::{Entry, Expected, Put, Queue as _, Record, Rows as _};
use global_webhook::store::azure::queue::TimerQueue;
use global_webhook::store::azure::table::Table;
use global_webhook::store::azure::{Names, TABLE};
use serde_json::{Value, json};

use crate::doctor::{doctor, found, set, skipped};
use crate::raw::Raw;
use crate::samples::{id, open, row};
use crate::support::azurite::azurite;
use crate::support::command::program;
use crate::support::host::{Host, HostOptions, Serves};
use crate::support::service::{LIMIT, QUEUE, Serve};
use crate::support::{eventually, now};

const REGIONS: (&str, &str) = ("WebhookRegions", "westeurope,northeurope");

async fn account() -> String {
    tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite")
}

/// Runs `doctor` in a folder with this local.settings.json: its code and its report.
async fn beside(base: &str, text: &str) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("local.settings.json"), text).unwrap();
    let mut command = program(base, &["doctor", "--json"]);
    command.current_dir(folder.path());
    let ended = doctor(command).await;
    (ended.code, ended.document())
}

fn values(values: &Value) -> String {
    json!({ "IsEncrypted": false, "Values": values }).to_string()
}

fn says(report: &Value, id: &str, words: &str) -> bool {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.any(|check| check["id"] == id && check["what"].as_str().unwrap().contains(words))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_beside_it_are_checked_and_compared() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let base = serve.base_url();
    let alone = "warning settings.targets";
    let same = json!({ "WebhookRegions": "West Europe, northeurope" });
    let (code, report) = beside(&base, &values(&same)).await;
    assert_eq!((code, found(&report)), (0, set(&[alone])), "{report:#}");
    let other = json!({ "WebhookRegions": "westeurope,eastus", "WebhookTimeout": "0:10:0" });
    let (code, report) = beside(&base, &values(&other)).await;
    assert_eq!((code, found(&report)), (0, set(&[alone, "warning settings.deployed"])));
    assert!(says(&report, "settings.deployed", "only here eastus, only in effect northeurope"), "{report:#}");
    let doubtful = json!({ "WebhookRegions": "westeurope,northeurope", "WebhookTimeout": "2" });
    let (_, report) = beside(&base, &values(&doubtful)).await;
    assert!(says(&report, "settings.here", "a bare number is days"), "{report:#}");
    let wrong = json!({ "WebhookRegion": "westeurope", "WebhookTargetUrl": "ftp://s3cret.example" });
    let (code, report) = beside(&base, &values(&wrong)).await;
    assert!(code == 0 && says(&report, "settings.here", "WebhookRegions"), "{report:#}");
    let (code, report) = beside("http://127.0.0.1:9", &values(&wrong)).await;
    assert!(code == 1 && found(&report).contains("fault settings.here"), "{report:#}");
    for (text, words) in [
        (r#"{"IsEncrypted":true,"Values":{"WebhookRegions":"s3cret"}}"#, "is encrypted"),
        (r#"{"Values":{"WebhookKey":["s3cret"]}}"#, "has a list or an object for WebhookKey"),
        (r#"{"Values":["s3cret"]}"#, "has `Values` that are no object"),
        ("{\n  \"Values\": s3cret}", "is no JSON object: line 2, column 13"),
    ] {
        let (code, report) = beside(&base, text).await;
        assert!(code == 0 && says(&report, "settings.here", words), "{report:#}");
        assert!(found(&report).contains("warning settings.here"), "{report:#}");
    }
    // As the host reads it.
    let lenient = r#"{
        // Of "whoever".
        "isencrypted": "false",
        "values": { "WebhookRegions": "westeurope,northeurope", /* a slash: */ "WebhookTimeout": "0:10:0", "Other": true, "More": 5, },
    }"#;
    let (code, report) = beside(&base, lenient).await;
    assert_eq!((code, found(&report)), (0, set(&[alone, "warning settings.deployed"])), "{report:#}");
    // What has no end.
    let endless = doctor(program(&base, &["doctor", "--settings", "/dev/zero"])).await;
    assert!(endless.out.contains("/dev/zero cannot be read: it has more than 1 MiB"), "{endless:?}");
    let mut elsewhere = program(&base, &["doctor", "--settings", "/no/such/file", "--strict"]);
    elsewhere.env("WebhookRegions", "westeurope");
    let ended = doctor(elsewhere).await;
    assert!(ended.code == 1 && ended.out.contains("/no/such/file cannot be read"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_keep_the_service_from_working_are_told_from_afar() {
    let options = HostOptions::spawned(&[("WebhookRegions", "")]).only(Serves::Http);
    let host = Host::start(options).await;
    let ended = doctor(program(&host.base_url(), &["doctor"])).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.out.contains("its settings cannot be used") && ended.out.contains("WebhookRegions"), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_is_looked_at_without_a_trace() {
    let account = account().await;
    let settings = |app| [REGIONS, ("AzureWebJobsStorage", account.as_str()), ("WebhookApp", app)];
    let given = |base: &str| {
        let mut command = program(base, &["doctor", "--json"]);
        command.env("AzureWebJobsStorage", &account);
        command
    };
    // Before there was a service, and without a trace of having looked.
    let ended = doctor(given("http://127.0.0.1:9")).await;
    assert!(found(&ended.document()).contains("warning storage.read"), "{ended:?}");
    let requests = azurite().requests(&account);
    assert!(!requests.is_empty() && requests.iter().all(|line| line.contains("\"GET ")), "{requests:?}");
    let one = Serve::start(&settings("production"), &[]).await;
    let reached = "rows and queue work";
    eventually("the first app has signed", LIMIT, async || one.output().contains(reached)).await;
    let ended = doctor(given(&one.base_url())).await;
    assert_eq!((ended.code, found(&ended.document())), (0, set(&["warning settings.targets"])), "{ended:?}");
    // A second app on the same names, and messages that are nobody's.
    let other = Serve::start(&settings("staging"), &[]).await;
    eventually("the second app has signed", LIMIT, async || other.output().contains(reached)).await;
    let queue = TimerQueue::new(&open(&account), &Names::default());
    queue.set_aside("x").await.unwrap();
    let ended = doctor(given(&other.base_url())).await;
    let expected = set(&["fault storage.apps", "warning settings.targets", "warning storage.poison"]);
    assert_eq!((ended.code, found(&ended.document())), (1, expected), "{ended:?}");
    assert!(says(&ended.document(), "storage.apps", "staging shares its names with production"));
    assert_eq!(Raw::of(&account).count(&Names::default().poison).await, 1, "it was only counted");
    // A key that is none.
    let mut wrong = given(&one.base_url());
    let key = account.split(';').find(|part| part.starts_with("AccountKey=")).unwrap();
    wrong.env("AzureWebJobsStorage", account.replace(key, "AccountKey=bm90IHRoZSBrZXk="));
    let report = doctor(wrong).await.document();
    assert!(
        found(&report).contains("warning storage.read") && says(&report, "storage.read", "refused us"),
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_messages_on_the_timer_queue_are_seen() {
    let account = account().await;
    let (connection, raw) = (open(&account), Raw::of(&account));
    TimerQueue::new(&connection, &Names::default()).prepare().await.unwrap();
    raw.put(QUEUE, "not base64!").await;
    raw.put(QUEUE, "aGVsbG8=").await;
    let mut command = program("http://127.0.0.1:9", &["doctor", "--json"]);
    command.env("AzureWebJobsStorage", &account);
    let report = doctor(command).await.document();
    assert!(found(&report).contains("warning storage.encoding"), "{report:#}");
    assert!(says(&report, "storage.encoding", "1 are not in base64, 1 are none"), "{report:#}");
    assert_eq!(raw.count(QUEUE).await, 2, "none was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_that_do_not_fire_are_a_fault() {
    let account = account().await;
    let connection = open(&account);
    // A push of an hour ago that still waits, and whose timer nobody takes: there is no host for the queue.
    let table = Table::new(&connection, TABLE);
    table.prepare().await.unwrap();
    let opened = (now() - chrono::Duration::hours(1)).trunc_subsecs(3);
    let push = row(id("overdue", 1), opened, "{}");
    let record = Record { row: push.clone(), revision: 1, timer: None, app: "doctor".into() };
    assert!(matches!(table.put(&record, &Expected::Absent).await, Ok(Put::Written(_))));
    table.index(&Entry { at: push.opened, push: push.id.clone() }, Some(&push.subject)).await.unwrap();
    let settings =
        [("WebhookRegions", "northeurope"), ("AzureWebJobsStorage", account.as_str()), ("WebhookApp", "doctor")];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http)).await;
    let mut last = Value::Null;
    eventually("the push is listed", LIMIT, async || {
        last = doctor(program(&host.base_url(), &["doctor", "--json"])).await.document();
        found(&last).contains("fault timers.deadlines")
    })
    .await;
    assert!(says(&last, "timers.deadlines", &push.id.to_string()), "{last:#}");
}

/// Under the Functions host each function has a key of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_one_function_shows_what_that_function_shows() {
    let account = account().await;
    let settings = [REGIONS, ("AzureWebJobsStorage", account.as_str()), ("WebhookApp", "doctor")];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http).key("s3cret-host-key")).await;
    let with = async |key: &str| {
        let ended = doctor(program(&host.base_url(), &["doctor", "--json", "--key", key])).await;
        (ended.code, ended.document())
    };
    let advised = |report: &Value| report.to_string().contains("--key-name operators");
    let alone = "warning settings.targets";
    let of_pushes = ["timers.deadlines", "timers.notifications", "receivers.told"];
    eventually("all is well with the host key", LIMIT, async || {
        let (code, report) = with("s3cret-host-key").await;
        (code, found(&report)) == (0, set(&[alone]))
    })
    .await;
    let (code, report) = with("s3cret-host-key.ImagePush").await;
    assert_eq!((code, found(&report)), (0, set(&[alone])), "{report:#}");
    assert!(set(&of_pushes).is_subset(&skipped(&report)) && skipped(&report).contains("regions.report"), "{report:#}");
    assert!(says(&report, "timers.deadlines", "/api/pushes: ") && advised(&report), "{report:#}");
    let (code, report) = with("s3cret-host-key.pushes").await;
    assert_eq!((code, found(&report)), (0, set(&["warning service.answers"])), "{report:#}");
    assert!(
        says(&report, "service.answers", "The key opens Pushes, and not ImagePush") && advised(&report),
        "{report:#}"
    );
    assert!(
        set(&of_pushes).is_disjoint(&skipped(&report)) && skipped(&report).contains("regions.report"),
        "{report:#}"
    );
    let (code, report) = with("0ld-secret").await;
    assert_eq!((code, found(&report)), (1, set(&["fault service.answers"])), "{report:#}");
    assert!(says(&report, "regions.report", "/api/regions: ") && advised(&report), "{report:#}");
}

#[test]
fn the_page_has_every_check_as_it_is_told() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, table) = page.split_once("\n## Checks\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let mut rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    for entry in &CHECKS {
        let row = format!("| `{}` | {} | {} | {} |", entry.word, entry.asks, entry.meaning, entry.action);
        assert!(rows.contains(&row.as_str()), "docs/doctor.md does not have:\n{row}");
        rows.retain(|line| *line != row);
    }
    assert!(rows.is_empty(), "docs/doctor.md has rows of no check: {rows:?}");
}
