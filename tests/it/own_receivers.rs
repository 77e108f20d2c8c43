//! The receivers of `docs/receiver/`, each as the program that its readers start, told by the real binary.
//!
//! What these tests are for: whoever copies one of them has a check that lets in what this service sends, whichever of two
//! secrets it knows, and nothing that is old, changed, or signed by others; and acts once on what is sent twice, and not on a
//! test.

use std::path::Path;
use std::process::{Command, Stdio};

use global_webhook::api::Tests;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::net::TcpStream;

use crate::support::command::Running;
use crate::support::http::Head;
use crate::support::recorder::Recorder;
use crate::support::service::{Image, LIMIT, Serve};
use crate::support::{eventually, free_port, now};

const OLD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const FOREIGN: &str = "whsec_Zm9yZWlnbmZvcmVpZ25mb3JlaWduZm9yZWlnbg==";

/// A language, what says that it is there, and the program's file.
const LANGUAGES: [(&str, &[&str], &str); 4] = [
    ("Python", &["python3", "--version"], "receiver.py"),
    ("JavaScript", &["node", "--version"], "receiver.js"),
    ("Java", &["javac", "-version"], "Receiver.java"),
    ("Go", &["go", "version"], "receiver.go"),
];

/// A command with nothing in its environment but where programs are.
fn plain(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// A receiver that runs, and what it knows.
struct Program {
    name: String,
    port: u16,
    secret: &'static str,
    process: Running,
}

impl Program {
    /// Starts it and waits until it listens.
    async fn start(language: &str, file: &str, secret: &'static str, folder: &Path) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/receiver").join(file);
        let port = free_port();
        let mut command = match language {
            "Python" => plain("python3"),
            "JavaScript" => plain("node"),
            "Java" => plain("java"),
            _ => plain(built(&path, folder)),
        };
        if language != "Go" {
            command.arg(path);
        }
        let process = Running::start({
            command.env("PORT", port.to_string()).env("WEBHOOK_SECRET", secret);
            command
        });
        let name = format!("{}-{}", language.to_lowercase(), if secret == OLD { "old" } else { "new" });
        eventually(&format!("{name} listens"), LIMIT, async || TcpStream::connect(("127.0.0.1", port)).await.is_ok())
            .await;
        Self { name, port, secret, process }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// What it answers to a request with these headers.
    async fn answers(&self, id: &str, stamp: &str, signature: Option<&str>, body: &[u8]) -> u16 {
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        let mut request = client.post(self.url()).header("webhook-id", id).header("webhook-timestamp", stamp);
        if let Some(signature) = signature {
            request = request.header("webhook-signature", signature);
        }
        request.body(body.to_vec()).send().await.expect("an answer").status().as_u16()
    }
}

/// The Go program, built once for all that run it.
fn built(path: &Path, folder: &Path) -> std::path::PathBuf {
    let program = folder.join("receiver");
    if !program.exists() {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let mut build = plain("go");
        build.args(["build", "-o"]).arg(&program).arg(path);
        build.env("GOCACHE", cache).env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
        let ended = build.output().expect("go");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    program
}

/// One of each language that is here, for each of the two secrets.
async fn programs(folder: &Path) -> Vec<Program> {
    let (mut programs, mut run, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for (language, asked, file) in LANGUAGES {
        if !plain(asked[0]).args(&asked[1..]).output().is_ok_and(|ended| ended.status.success()) {
            absent.push(language);
            continue;
        }
        run.push(language);
        for secret in [OLD, NEW] {
            programs.push(Program::start(language, file, secret, folder).await);
        }
    }
    eprintln!("own receivers: run in {}", run.join(", "));
    if !absent.is_empty() {
        eprintln!("own receivers: NOT RUN, since this machine has no {}", absent.join(" and no "));
    }
    assert!(run.starts_with(&["Python", "JavaScript"]), "these two must be there: {absent:?}");
    programs
}

#[tokio::test]
async fn each_takes_what_is_sent_and_refuses_what_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let programs = programs(folder.path()).await;
    let recorder = Recorder::default();
    let target = |name: String, url: String, secrets: &[&str]| json!({ "name": name, "url": url, "format": "standard", "secrets": secrets });
    let recorded = format!("http://127.0.0.1:{}/", recorder.listen().await);
    let mut targets = vec![target("recorder".into(), recorded, &[OLD, NEW])];
    for program in &programs {
        targets.push(target(program.name.clone(), program.url(), &[OLD, NEW]));
        targets.push(target(format!("foreign-{}", program.name), program.url(), &[FOREIGN]));
    }
    let targets = Value::from(targets).to_string();
    let settings = [("WebhookRegions", "westus"), ("WebhookTargets", &targets), ("WebhookRetrySchedule", "PT1S")];
    let serve = Serve::start(&settings, &[]).await;
    let url = format!("{}/api/pushes/test", serve.base_url());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.post(url).send().await.expect("an answer");
    let tests: Tests = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("a document");
    for program in &programs {
        let of = |name: &str| tests.targets.iter().find(|tested| tested.target == name).expect("a target");
        assert!(of(&program.name).confirmed, "{tests:?}");
        assert_eq!(of(&format!("foreign-{}", program.name)).reason.as_deref(), Some("401 Unauthorized"));
        assert_eq!(program.process.out(), "", "{} acted on a test", program.name);
    }
    recorder.take();
    let (code, answer) =
        serve.caller().post("westus", Image::new("shop/cart", "v1").notification()).await.expect("an answer");
    assert_eq!(code, 202, "{answer}");
    let push = answer["id"].as_str().expect("an id").to_owned();
    let mut status = Value::Null;
    eventually("all are told", LIMIT, async || {
        status = serve.caller().status(&push).await.unwrap_or_default();
        crate::support::caller::is_at_rest(&status)
    })
    .await;
    let (head, body) = recorder.take().pop().expect("a notification");
    for program in &programs {
        told(program, &status, &head, &body);
        tried(program, &head, &body).await;
    }
}

/// It has confirmed what the service sent, once, and refused what was signed with a secret that it does not know.
fn told(program: &Program, status: &Value, head: &Head, body: &[u8]) {
    let name = &program.name;
    let all = status["customStatus"]["notifications"].as_array().expect("notifications");
    let of =
        |target: &str| all.iter().find(|one| one["target"] == target).unwrap_or_else(|| panic!("{target}: {status}"));
    assert_eq!(of(name)["state"], "confirmed", "{status}");
    let foreign = of(&format!("foreign-{name}"));
    assert_eq!(foreign["state"], "exhausted", "{status}");
    assert!(foreign.to_string().contains("401 Unauthorized"), "{foreign}");
    let id = head.get("webhook-id").expect("an id");
    assert_eq!(program.process.out(), format!("{id} {}\n", String::from_utf8_lossy(body)), "{name}");
}

/// It takes the same again without acting, and nothing that is changed, old, early or without a signature.
async fn tried(program: &Program, head: &Head, body: &[u8]) {
    let name = &program.name;
    let of = |header: &str| head.get(header).expect("a header").to_owned();
    let (id, stamp, both) = (of("webhook-id"), of("webhook-timestamp"), of("webhook-signature"));
    let (first, second) = both.split_once(' ').expect("two signatures");
    let (right, other) = if program.secret == OLD { (first, second) } else { (second, first) };
    let before = program.process.out();

    let mut changed = body.to_vec();
    *changed.last_mut().expect("a body") = b' ';
    let later = (stamp.parse::<i64>().expect("seconds") + 1).to_string();
    let all = [
        (&*id, &*stamp, Some(&*both), body, 204),
        (&id, &stamp, Some(right), body, 204),
        (&id, &stamp, Some(other), body, 401),
        (&id, &stamp, Some(""), body, 401),
        (&id, &stamp, None, body, 401),
        (&id, &stamp, Some(&both), &changed, 401),
        (&id, &later, Some(&both), body, 401),
        (&id, "now", Some(&both), body, 401),
        ("msg_other", &stamp, Some(&both), body, 401),
    ];
    for (id, stamp, signature, body, status) in all {
        let answer = program.answers(id, stamp, signature, body).await;
        assert_eq!(answer, status, "{name}: {id} {stamp} {signature:?}");
    }
    assert_eq!(program.process.out(), before, "{name} acted again");

    // Signed as the service signs, at instants that it would not name.
    let signer = Webhook::new(program.secret).expect("a secret");
    for (age, status) in [(320, 401), (-320, 401), (280, 204), (-280, 204)] {
        let (id, stamp) = (format!("msg_{age}"), now().timestamp() - age);
        let signature = signer.sign(&id, stamp, body).expect("a signature");
        let answer = program.answers(&id, &stamp.to_string(), Some(&signature), body).await;
        assert_eq!(answer, status, "{name}: {age} s old");
        assert_eq!(program.process.out().contains(&format!("{id} ")), status == 204, "{name}: {age} s old");
    }
}
