//! Part D of the cases that are easily got wrong, as far as it is about the files of `serve` and its end: each with its
//! number, against the real binary.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::service::{Image, LIMIT, Serve};
use crate::support::{eventually, pause};

/// Runs `serve` on this file where it must not start; what it said.
fn refusal(data: &Path) -> String {
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_global-webhook"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .env_clear()
        .env("WebhookRegions", "a")
        .output()
        .expect("a run");
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{text}");
    text
}

async fn push(serve: &Serve, tag: &str) -> u16 {
    serve.caller().post("a", Image::new("team/shop", tag).notification()).await.map_or(0, |(code, _)| code)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_the_one_file_is_complete_after_sigterm() {
    for round in 0..3 {
        let mut serve = Serve::start(&[("WebhookRegions", "a,b")], &["--drain", "0s"]).await;
        for n in 0..40 {
            assert_eq!(push(&serve, &format!("t{n}")).await, 202);
        }
        serve.signal(if round == 2 { "INT" } else { "TERM" });
        assert!(serve.ended(LIMIT).await.success());
        let copy = serve.folder().join("copy.db");
        std::fs::copy(serve.folder().join("store.db"), &copy).unwrap();
        let copy = rusqlite::Connection::open(copy).unwrap();
        let pushes: i64 = copy.query_row("SELECT count(*) FROM pushes", [], |row| row.get(0)).unwrap();
        assert_eq!(pushes, 40, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_files_are_the_owners_only_and_no_link_is_followed() {
    const FILES: [&str; 4] = ["store.db", "store.db-wal", "store.db-shm", "store.db-lock"];
    let mut serve = Serve::start(&[("WebhookRegions", "a,b")], &[]).await;
    assert_eq!(push(&serve, "t").await, 202);
    let paths = FILES.map(|name| serve.folder().join(name));
    let modes = || paths.each_ref().map(|path| mode(path));
    assert_eq!(modes(), [0o600; 4]);
    // As an earlier version left them.
    serve.kill();
    for path in &paths {
        std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }
    serve.kill_and_restart().await;
    assert_eq!(push(&serve, "u").await, 202);
    assert_eq!(modes(), [0o600; 4]);

    for name in FILES {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "").unwrap();
        symlink(&elsewhere, folder.path().join(name)).unwrap();
        let text = refusal(&folder.path().join("store.db"));
        assert!(text.contains(name) && text.contains("symbolic link"), "{name}: {text}");
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"", "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one.db", "other.db"].map(|name| folder.path().join(name));
    std::fs::write(&one, "").unwrap();
    std::fs::hard_link(&one, &other).unwrap();
    assert!(refusal(&other).contains("second name"));
    // The folder may be reached over a link.
    let real = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(real.path(), &link).unwrap();
    drop(crate::embedded_file::open(&link.join("linked.db")).expect("opened"));
    assert_eq!(mode(&real.path().join("linked.db")), 0o600);
}

#[test]
fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let database = |name: &str, sql: &str| {
        let path = folder.path().join(name);
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    };
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "short").unwrap();
    let cases = [
        (text, "is no SQLite database"),
        (database("id.db", "PRAGMA application_id = 7; CREATE TABLE pushes (x)"), "another program"),
        (database("tables.db", "CREATE TABLE theirs (x)"), "another program"),
        (database("newer.db", "PRAGMA application_id = 1094931063; PRAGMA user_version = 99"), "newer version"),
    ];
    for (path, words) in cases {
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let said = refusal(&path);
        assert!(said.contains(words) && said.contains(path.to_str().unwrap()), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert!(words == "newer version" || mode(&path) == 0o640);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_a_file_limit_is_a_503_and_heals() {
    let mut serve = Serve::start(&[("WebhookRegions", "a,b"), ("WebhookLog", "error")], &["--drain", "0s"]).await;
    let limit = |bytes: &str| {
        let pid = format!("--pid={}", serve.pid());
        let done = Command::new("prlimit").args([&pid, &format!("--fsize={bytes}:unlimited")]).status();
        assert!(done.expect("prlimit").success());
    };
    limit("1000000");
    let (mut taken, mut refused) = (0, 0);
    eventually("the limit is met", LIMIT, async || {
        match push(&serve, &format!("t{taken}")).await {
            202 => taken += 1,
            503 => refused += 1,
            code => panic!("{code}: {}", serve.output()),
        }
        refused >= 3
    })
    .await;
    assert!(taken > 10, "{taken} were taken before");
    limit("unlimited");
    eventually("it takes pushes again", LIMIT, async || push(&serve, "healed").await == 202).await;
    assert_eq!(serve.caller().pushes().await.map(|all| all.len()), Some(taken + 1));
    serve.terminate();
    assert!(serve.ended(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_after_sigterm_the_door_stays_open_for_the_drain() {
    let mut serve = Serve::start(&[("WebhookRegions", "a,b")], &["--drain", "4s"]).await;
    let ask = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", serve.base_url())).await.ok()?;
        let close = answer.headers().get("connection").is_some_and(|value| value == "close");
        Some((answer.status().as_u16(), close))
    };
    eventually("it is ready", LIMIT, async || ask("/readyz").await == Some((200, false))).await;
    assert_eq!(ask("/livez").await, Some((200, false)));
    let begun = Instant::now();
    serve.terminate();
    eventually("it is no longer ready", LIMIT, async || ask("/readyz").await == Some((503, true))).await;
    let mut taken = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(push(&serve, &format!("t{taken}")).await, 202, "after {:?}", begun.elapsed());
        assert_eq!(ask("/livez").await, Some((200, true)));
        taken += 1;
        pause(Duration::from_millis(100)).await;
    }
    assert!(serve.ended(LIMIT).await.success() && begun.elapsed() >= Duration::from_secs(4));
    serve.kill_and_restart().await;
    assert_eq!(serve.caller().pushes().await.map(|all| all.len()), Some(taken), "all are on record");

    // A person does not wait, and neither does who asks twice.
    let begun = Instant::now();
    serve.signal("INT");
    assert!(serve.ended(LIMIT).await.success() && begun.elapsed() < Duration::from_secs(4));
    let mut serve = Serve::start(&[("WebhookRegions", "a")], &["--drain", "10m"]).await;
    serve.terminate();
    eventually("it heard", LIMIT, async || serve.output().contains("ending soon")).await;
    serve.terminate();
    assert_eq!(serve.ended(LIMIT).await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_not_ready_before_it_has_reached_its_storage() {
    let port = crate::support::free_port();
    let account = format!(
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:{port}/devstoreaccount1;TableEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
    );
    let serve = Serve::start(&[("WebhookRegions", "a"), ("AzureWebJobsStorage", &account)], &[]).await;
    let answer = reqwest::get(format!("{}/readyz", serve.base_url())).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    let text: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(text["error"]["code"], json!("not_ready"));
    let alive = reqwest::get(format!("{}/livez", serve.base_url())).await.expect("an answer");
    assert_eq!(alive.status(), 200);
}
