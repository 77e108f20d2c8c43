//! A15 of the cases that an earlier edition got wrong: the machine's clock is set by an hour, back or forward, while a push waits
//! and a retry is owed. To the real program the time of day is another one by means of libfaketime, and the time that passes is
//! not, as when somebody sets a clock.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cases::{Stage, in_every_deployment};
use crate::strict::Strict;
use crate::support::azurite::azurite;
use crate::support::service::{Deployment, Image, LIMIT};
use crate::support::{eventually, now};

const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";

/// Folders under which there is one for each kind of processor, or none.
const LIBRARIES: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// The time-out of pushes.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The time-out of those that wait for longer than the test takes.
const FAR: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// How much later than due something may be told, on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(10);

/// The clock of the machine as the service sees it.
struct Faked {
    folder: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Faked {
    /// A clock that is right so far; `None` where tests of the clock are to be left out, which `CLOCK_TESTS=skip` says.
    ///
    /// # Panics
    /// There is no libfaketime, and nobody has said that the tests are to be left out.
    fn get() -> Option<Self> {
        if std::env::var("CLOCK_TESTS").is_ok_and(|word| word == "skip") {
            eprintln!("CLOCK_TESTS=skip: the tests of a clock that is set are LEFT OUT");
            return None;
        }
        let library = library().unwrap_or_else(|| {
            panic!("no libfaketime: install it (`apt-get install faketime`), or leave these tests out with CLOCK_TESTS=skip")
        });
        let folder = tempfile::tempdir().expect("a folder");
        let settings = vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock").display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let clock = Self { folder, settings };
        clock.set(0);
        Some(clock)
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Sets it to so many seconds after the time.
    fn set(&self, seconds: i64) {
        let (new, file) = (self.folder.path().join("new"), self.folder.path().join("clock"));
        std::fs::write(&new, format!("{seconds:+}")).expect("a file");
        std::fs::rename(new, file).expect("at once");
    }
}

fn library() -> Option<PathBuf> {
    let kinds = LIBRARIES.iter().flat_map(|folder| {
        let inside = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        inside.map(|entry| entry.path()).chain([PathBuf::from(folder)])
    });
    kinds.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}

/// By how many milliseconds the clock was set, as the log says it; once for each process.
fn said(output: &str) -> Vec<i64> {
    let lines = output.lines().filter(|line| line.contains("WARN") && line.contains("the machine's clock was set"));
    let by = |line: &str| {
        let number = line.split_once("by_ms")?.1.trim_start_matches(['"', '=', ':']);
        number.split(|c: char| c != '-' && !c.is_ascii_digit()).next()?.parse().ok()
    };
    lines.map(|line| by(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// A push of which only `e` reports is told as timed out when its 8 s are over, by a watch that nobody sets.
async fn times_out(stage: &mut Stage, tag: &str, meanwhile: impl AsyncFnOnce(&mut Stage)) {
    let (image, opened) = (Image::new("team/shop", tag), Instant::now());
    let id = stage.push("e", &image).await;
    meanwhile(stage).await;
    stage.told(&image, &["timed_out"]).await;
    let lasted = opened.elapsed();
    assert!(lasted >= TIMEOUT && lasted < TIMEOUT + LATE_MAX, "{tag}: {lasted:?}");
    let status = stage.service.at_rest(&id).await;
    assert_eq!(status["output"]["missing"], json!(["w"]), "{status:#}");
}

/// How far the deadline of a push that waits is from now.
async fn left(stage: &Stage, id: &str) -> chrono::TimeDelta {
    let waits = |status: &Value| status["runtimeStatus"] == "Running";
    let status = stage.status("the push waits", id, waits).await;
    let deadline = status["customStatus"]["deadline"].as_str().expect("a deadline");
    chrono::DateTime::parse_from_rfc3339(deadline).expect("an instant").to_utc() - now()
}

async fn is_set(deployment: Deployment, by: i64) {
    let Some(clock) = Faked::get() else { return };
    let strict = match deployment {
        Deployment::ServeEmbedded => None,
        Deployment::Handler | Deployment::ServeAzure => {
            Some(Strict::before(tokio::task::spawn_blocking(azurite).await.expect("Azurite")).await)
        }
    };
    let account = strict.as_ref().map(Strict::account);
    let rules = json!([{ "tag": "far*", "timeout": "0:10:0" }]).to_string();
    let more = [&clock.settings()[..], &[("WebhookRules", &rules), ("WebhookRetrySchedule", "PT6S,PT6S")]].concat();
    let begun = now();
    let mut stage = Stage::on(deployment, account, "e,w", "0:0:8", &more).await;
    // What a process does first may take so long that its webhook goes by the queue, which puts time-outs off.
    eventually("every process reaches its storage", LIMIT, async || {
        stage.service.output().matches("rows and queue work").count() >= stage.service.processes()
    })
    .await;
    stage.ops.script(&[BUSY]);
    let [owed, far, whole] = ["owed", "far", "whole"].map(|tag| Image::new("team/shop", tag));
    stage.push("e", &owed).await;
    let failing = Instant::now();
    let id = stage.push("w", &owed).await;
    let failed = |status: &Value| status["customStatus"]["notifications"][0]["lastError"].is_string();
    stage.status("the first attempt fails", &id, failed).await;
    let open = stage.push("e", &far).await;
    times_out(&mut stage, "waiting", async |stage| {
        clock.set(by);
        stage.told(&owed, &["replicated", "replicated"]).await;
        // Six seconds, and a fifth of them for chance.
        let waited = failing.elapsed();
        assert!(waited >= Duration::from_millis(4800), "{waited:?}");
        assert!(waited < Duration::from_millis(7200) + LATE_MAX, "{waited:?}");
    })
    .await;
    for region in ["e", "w"] {
        stage.push(region, &whole).await;
    }
    stage.told(&whole, &["replicated"]).await;
    times_out(&mut stage, "after", async |_| ()).await;
    let mut warnings = Vec::new();
    eventually("every process says that the clock was set", LIMIT, async || {
        warnings = said(&stage.service.output());
        warnings.len() >= stage.service.processes()
    })
    .await;
    assert_eq!(warnings.len(), stage.service.processes(), "once: {warnings:?}");
    assert!(warnings.iter().all(|ms| (ms - by * 1000).abs() < 1000), "{warnings:?}");
    let other = "the machine's clock differs";
    assert!(!stage.service.output().contains(other), "it counts on from before, and agrees with the storage");
    let mut open = vec![(far, open)];
    if strict.is_some() {
        // A process that starts now knows no better, until the storage says what time it is: perhaps when it already has a webhook.
        stage.service.kill_and_restart().await;
        let waking = Image::new("team/shop", "far-waking");
        let id = stage.push("e", &waking).await;
        assert!(stage.service.output().contains(other), "{}", stage.service.output());
        open.push((waking, id));
    }
    for (image, id) in &open {
        let left = left(&stage, id).await;
        assert!(left > FAR - chrono::TimeDelta::minutes(3) && left < FAR + chrono::TimeDelta::seconds(2), "{left}");
        stage.push("w", image).await;
        stage.told(image, &["replicated"]).await;
    }
    // What is told bears the right time.
    let (from, until) = (begun - chrono::TimeDelta::seconds(5), now() + chrono::TimeDelta::seconds(5));
    for heard in stage.heard() {
        assert!(heard.at > from && heard.at < until, "{heard:?}");
    }
}

/// Both at the same time, since nearly all of it is waiting.
async fn a15(deployment: Deployment) {
    tokio::join!(is_set(deployment, -3600), is_set(deployment, 3600));
}

in_every_deployment! { a15 }
