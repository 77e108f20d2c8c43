//! What docs/getting-started.md, docs/cli.md and docs/pipelines.md show, run as it stands there against a real service.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::support::command::{Ended, Running};
use crate::support::recorder::Recorder;
use crate::support::refusing::Refusing;
use crate::support::service::{Image, LIMIT, Serve};
use crate::support::{command, eventually};

const GETTING_STARTED: &str = include_str!("../../docs/getting-started.md");
const CLI: &str = include_str!("../../docs/cli.md");
const PIPELINES: &str = include_str!("../../docs/pipelines.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_global-webhook");
const REGIONS: (&str, &str) = ("WebhookRegions", "northeurope,westus,eastus");

/// The code blocks of a document that are in this language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = document;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (block, after) = after.split_once("\n```").expect("a block has an end");
        let (said, text) = block.split_once('\n').expect("a block has a language");
        if said == language {
            found.push(text);
        }
        rest = after;
    }
    assert!(!found.is_empty(), "no block in {language}");
    found
}

/// A script in bash, as it runs where the program is in the path and the service in the environment.
fn script(text: &str, arguments: &[&str], base: &str, folder: &Path) -> Command {
    let mut command = Command::new("bash");
    command.args(["-e", "-c", text, "script"]).args(arguments).env_clear().current_dir(folder);
    let folder_of_program = Path::new(PROGRAM).parent().expect("a folder").display().to_string();
    let path = format!("{folder_of_program}:{}", std::env::var("PATH").expect("a path"));
    command.env("PATH", path).env("GLOBAL_WEBHOOK_URL", base).stdin(std::process::Stdio::null());
    command
}

async fn post(serve: &Serve, image: &Image, regions: &[&str]) -> String {
    let mut id = String::new();
    for region in regions {
        let (status, body) = serve.caller().post(region, image.notification()).await.expect("an answer");
        assert_eq!(status, 202, "{body}");
        body["id"].as_str().unwrap().clone_into(&mut id);
    }
    id
}

/// A text without what differs from run to run: ids, digests, ports, times and lengths of time; and the space that they take.
fn steady(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = bare.strip_prefix("sha256:").unwrap_or(bare).split('-').next().unwrap_or_default();
        let is_hex = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let is_time = bare.len() >= 9 && bare.bytes().all(|b| b.is_ascii_digit() || b"-:TZ.".contains(&b));
        let is_unit = ["ms", "s", "min"].contains(&bare)
            && words.last().is_some_and(|word| word.trim_start_matches('(').parse::<f64>().is_ok());
        if is_unit {
            words.pop();
        }
        words.push(match () {
            () if is_hex => word.replace(bare, "<hex>"),
            () if is_time => word.replace(bare, "<time>"),
            () if is_unit => word.replace(bare, "<length>"),
            () => word.to_owned(),
        });
    }
    words.join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_commands_are_shown_to_print_they_print() {
    let (receiver, dead) = (Recorder::default(), Refusing::new());
    let targets = format!(
        r#"[{{"name":"deploy","url":"http://127.0.0.1:{}/","format":"acr"}},
            {{"name":"ops","url":"http://127.0.0.1:{}/","format":"standard"}}]"#,
        receiver.listen().await,
        dead.port()
    );
    let settings =
        [REGIONS, ("WebhookTargets", &targets), ("WebhookRetrySchedule", "1:0:0"), ("WebhookTimeout", "0:10:0")];
    let serve = Serve::start(&settings, &[]).await;
    let base = serve.base_url();
    post(&serve, &Image::new("shop/cart", "1.4.1"), &["northeurope", "westus", "eastus"]).await;
    let till = post(&serve, &Image::new("shop/till", "2.0.3"), &["northeurope", "westus"]).await;
    assert_eq!(serve.caller().operate(&till, "terminate").await, Some(202));
    post(&serve, &Image::new("shop/cart", "1.4.2"), &["northeurope", "westus"]).await;
    eventually("the first attempts are made", LIMIT, async || {
        let list = command::run(&base, &["list"]).await.out;
        list.contains("1 confirmed, 1 owed") && {
            let shown = command::run(&base, &["show", &till]).await.out;
            shown.contains("next ")
        }
    })
    .await;
    prints(CLI, "cli.md", &base).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_is_played_as_shown() {
    let serve = Serve::start(&[REGIONS, ("WebhookTimeout", "0:10:0")], &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let text = *blocks(CLI, "sh").last().expect("the two runs");
    let ended = Running::start(script(text, &[], &serve.base_url(), folder.path())).ended().await;
    assert_eq!((ended.code, ended.out.matches(": replicated after").count()), (0, 20), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_pushes_come_out_as_shown() {
    let serve = "serve --print --regions northeurope,westus --timeout 0:0:10";
    assert!(
        GETTING_STARTED.contains(&format!("cargo run -- {serve}\n")),
        "the test's service is not that of the document"
    );
    let serve = Serve::start(&[("WebhookRegions", "northeurope,westus"), ("WebhookTimeout", "0:0:10")], &[]).await;
    prints(GETTING_STARTED, "getting-started.md", &serve.base_url()).await;
}

/// Runs every command that a document shows with what it prints, and compares.
async fn prints(document: &str, name: &str, base: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut as_printed, mut differ) = (document.to_owned(), Vec::new());
    for block in blocks(document, "console") {
        let (command, shown) = block.split_once('\n').unwrap_or((block, ""));
        let text = command.strip_prefix("$ ").expect("a block begins with its command");
        let text = text.replace("cargo run --", "global-webhook");
        // As on a terminal: both streams, in the order of writing.
        let ended = Running::start(script(&format!("{{ {text}; }} 2>&1"), &[], base, folder.path())).ended().await;
        assert_eq!(ended.code, 0, "{text}: {ended:?}");
        let fenced = |text: &str| format!("```console\n{text}\n```");
        as_printed = as_printed.replace(&fenced(block), &fenced(&format!("{command}\n{}", ended.out.trim_end())));
        if steady(shown) != steady(&ended.out) {
            differ.push((text, ended.out));
        }
    }
    let printed = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&printed, as_printed).expect("a file");
    assert!(differ.is_empty(), "docs/{name} shows other words than {}: {differ:#?}", printed.display());
}

/// A step of either pipeline that is a script of the shell.
#[derive(Debug, Deserialize)]
struct Step {
    #[serde(alias = "displayName")]
    name: Option<String>,
    #[serde(alias = "bash")]
    run: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// The steps of all pipelines in the document, those of one block together.
fn pipelines() -> Vec<Vec<Step>> {
    let read = |text: &str| {
        let document: Value = serde_yaml_ng::from_str(text).unwrap_or_else(|why| panic!("{why} in {text}"));
        let steps = match &document {
            Value::Sequence(_) => &document,
            whole => whole.get("jobs").map_or(whole, |jobs| &jobs["release"]).get("steps").expect("steps"),
        };
        let steps: Vec<Step> = serde_yaml_ng::from_value(steps.clone()).expect("steps");
        steps.into_iter().filter(|step| step.run.is_some()).collect()
    };
    let pipelines: Vec<Vec<Step>> = blocks(PIPELINES, "yaml").into_iter().map(read).collect();
    let steps: Vec<usize> = pipelines.iter().map(Vec::len).collect();
    assert_eq!(steps, [2, 1, 2], "GitHub's, its second form, Azure's");
    pipelines
}

/// What the platform puts in place of its expressions, of which none may be left.
fn filled(value: &str, base: &str, image: &Image) -> String {
    let program = format!("file://{PROGRAM}");
    let mut text = value.to_owned();
    for (name, value) in [
        ("vars.GLOBAL_WEBHOOK_URL", base),
        ("vars.GLOBAL_WEBHOOK_BINARY", &program),
        ("secrets.GLOBAL_WEBHOOK_KEY", "operators-k3y"),
        ("github.ref_name", &image.tag),
        ("steps.image.outputs.digest", &image.digest),
    ] {
        text = text.replace(&format!("${{{{ {name} }}}}"), value);
    }
    for (name, value) in
        [("GLOBAL_WEBHOOK_URL", base), ("GLOBAL_WEBHOOK_BINARY", &program), ("GLOBAL_WEBHOOK_KEY", "operators-k3y")]
    {
        text = text.replace(&format!("$({name})"), value);
    }
    text = text.replace("$(digest)", &image.digest);
    assert!(!text.contains("${{") && !text.contains("$("), "not filled in: {text}");
    text
}

/// A step as the platform would run it: nothing in its environment but what it is given.
fn step(step: &Step, base: &str, image: &Image, folder: &Path) -> Running {
    let mut command = script(step.run.as_deref().expect("a script"), &[], "", folder);
    // What the step before has put there comes first, as the platforms see to it.
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("a path"));
    command.env("PATH", path).env_remove("GLOBAL_WEBHOOK_URL");
    command.envs(step.env.iter().map(|(name, value)| (name, filled(value, base, image))));
    command.env("RUNNER_TEMP", folder).env("GITHUB_PATH", folder.join("github-path"));
    command.env("AGENT_TEMPDIRECTORY", folder).env("BUILD_SOURCEBRANCHNAME", &image.tag);
    Running::start(command)
}

async fn serve_with_keys() -> Serve {
    Serve::start(&[REGIONS, ("WebhookKey", "registrys-k3y"), ("WebhookOperatorKey", "operators-k3y")], &[]).await
}

/// Posts a webhook with the registry's key.
async fn post_with_key(serve: &Serve, image: &Image, regions: &[&str]) {
    for region in regions {
        let url = format!("{}/api/ImagePush?region={region}&code=registrys-k3y", serve.base_url());
        let answer = reqwest::Client::new().post(url).body(image.notification()).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 202);
    }
}

fn tells_no_key(ended: &Ended) {
    assert!(!ended.out.contains("k3y") && !ended.err.contains("k3y"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipelines_wait_for_the_image() {
    let serve = serve_with_keys().await;
    let base = serve.base_url();
    for (n, steps) in pipelines().iter().enumerate().filter(|(n, _)| *n != 1) {
        let folder = tempfile::tempdir().expect("a folder");
        let image = Image::new("shop/cart", &format!("v1.{n}"));
        // What a run before has pushed by the same tag is not what is waited for.
        post_with_key(&serve, &Image::new("shop/cart", &image.tag), &["northeurope", "westus", "eastus"]).await;
        post_with_key(&serve, &image, &["northeurope"]).await;
        let [get, wait] = steps.as_slice() else { panic!("two steps") };
        let ended = step(get, &base, &image, folder.path()).ended().await;
        assert_eq!(ended.code, 0, "{:?}: {ended:?}", get.name);
        assert!(folder.path().join("global-webhook").exists());
        let running = step(wait, &base, &image, folder.path());
        running.said("northeurope has it (1 of 3)").await;
        post_with_key(&serve, &image, &["westus", "eastus"]).await;
        let ended = running.ended().await;
        assert_eq!(ended.code, 0, "{:?}: {ended:?}", wait.name);
        tells_no_key(&ended);
        assert_eq!(ended.out, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_may_go_on_without_a_region() {
    let serve = serve_with_keys().await;
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(PROGRAM, folder.path().join("global-webhook")).expect("a link");
    let mut pipelines = pipelines();
    let [wait] = &mut pipelines[1][..] else { panic!("one step") };
    let text = wait.run.take().expect("a script").replace("--timeout 10m", "--timeout 2s");
    assert!(text.contains("2s"), "{text}");
    wait.run = Some(text);
    let image = Image::new("shop/cart", "v2");
    post_with_key(&serve, &image, &["northeurope"]).await;
    let ended = step(wait, &serve.base_url(), &image, folder.path()).ended().await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "::warning::missing in westus, eastus\n"), "{ended:?}");
    post_with_key(&serve, &image, &["westus", "eastus"]).await;
    let ended = step(wait, &serve.base_url(), &image, folder.path()).ended().await;
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{ended:?}");
    tells_no_key(&ended);
    let nobodys = Image::new("shop/cart", "v3");
    assert_eq!(step(wait, &serve.base_url(), &nobodys, folder.path()).ended().await.code, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_alone_waits_too() {
    let mut serve = serve_with_keys().await;
    let folder = tempfile::tempdir().expect("a folder");
    let text = *blocks(PIPELINES, "sh").last().expect("the script");
    let image = Image::new("shop/cart", "v1");
    let named = format!("contoso.azurecr.io/shop/cart:v1@{}", image.digest);
    let run_of = |named: &str, key: &str, seconds: &str, base: &str| {
        let mut command = script(text, &[named, seconds], base, folder.path());
        command.env("GLOBAL_WEBHOOK_KEY", key);
        Running::start(command)
    };
    let run = |key: &str, seconds: &str, base: &str| run_of(&named, key, seconds, base);
    let base = serve.base_url();
    let begun = Instant::now();
    let ended = run("operators-k3y", "50", &format!("{base}/elsewhere")).ended().await;
    assert!(ended.code == 1 && ended.err.contains("is not the service's address (404)"), "{ended:?}");
    assert!(command::lateness(&ended, begun) < Duration::from_secs(20), "{ended:?}");
    let ended = run("wrong-k3y", "30", &base).ended().await;
    assert!(ended.code == 1 && ended.err.contains("unauthorised"), "{ended:?}");
    tells_no_key(&ended);
    let ended = run("operators-k3y", "1", &base).ended().await;
    assert!(ended.code == 3 && ended.err.contains("not everywhere in time (404)"), "{ended:?}");
    post_with_key(&serve, &image, &["northeurope"]).await;
    for (named, base) in [(named.as_str(), format!("{base}/")), ("contoso.azurecr.io/shop/cart:v1", base.clone())] {
        let ended = run_of(named, "operators-k3y", "1", &base).ended().await;
        assert!(ended.code == 3 && ended.err.contains("(202): westus, eastus"), "{ended:?}");
    }
    // A service that is away is asked again.
    serve.kill();
    let running = run("operators-k3y", "50", &base);
    running.said("curl: (7)").await;
    serve.kill_and_restart().await;
    post_with_key(&serve, &image, &["westus", "eastus"]).await;
    let ended = running.ended().await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "true\n"), "{ended:?}");
    assert!((1..=40).contains(&ended.err.matches("curl: (7)").count()), "a pause after each: {ended:?}");
}
