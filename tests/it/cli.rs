//! The operators' commands: the real program against a real service.

use serde_json::{Value, json};

use crate::support::azurite::azurite;
use crate::support::command::{Running, on_a_terminal, program, run};
use crate::support::eventually;
use crate::support::host::{Host, HostOptions, Serves};
use crate::support::service::{Deployment, Image, LIMIT, Serve, Service};

const REGIONS: (&str, &str) = ("WebhookRegions", "northeurope,westus");

/// A name that tries to move the cursor, forge a line, hide and turn what follows.
const HOSTILE: &str = "v\u{1b}[2J\u{9b}1A\u{7f}\u{202e}\r\n\treplicated\u{0}\u{8}";

/// Posts webhooks of an image; the id of its push.
async fn push(serve: &Serve, image: &Image, regions: &[&str]) -> String {
    let mut id = None;
    for region in regions {
        let (status, body) = serve.caller().post(region, image.notification()).await.expect("an answer");
        assert_eq!(status, 202, "{body}");
        id = body["id"].as_str().map(str::to_owned);
    }
    id.expect("a region")
}

/// The first words of each line of a table.
fn column(text: &str, n: usize) -> Vec<&str> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(n)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_are_listed_by_filter() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let base = serve.base_url();
    push(&serve, &Image::new("shop/cart", "1.4.2"), &["northeurope", "westus"]).await;
    push(&serve, &Image::new("shop/till", "2.0"), &["northeurope"]).await;
    push(&serve, &Image::new("tools/ci", "9"), &["westus"]).await;
    let signature = Image::new("shop/cart", &format!("sha256-{}.sig", "a".repeat(64)));
    push(&serve, &signature, &["westus"]).await;
    for (args, images) in [
        ("--companions none", vec!["tools/ci:9", "shop/till:2.0", "shop/cart:1.4.2"]),
        ("--status waiting --companions none", vec!["tools/ci:9", "shop/till:2.0"]),
        ("--status Replicated,recovered", vec!["shop/cart:1.4.2"]),
        ("--repository shop/* --companions none --since 1h", vec!["shop/till:2.0", "shop/cart:1.4.2"]),
        ("--region northeurope --companions none", vec!["tools/ci:9"]),
        ("--tag 2.* --registry contoso.*", vec!["shop/till:2.0"]),
        ("--companions none --limit 1", vec!["tools/ci:9"]),
        ("--until 1h", vec![]),
    ] {
        let args: Vec<&str> = ["list"].into_iter().chain(args.split(' ')).collect();
        let ended = run(&base, &args).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let listed: Vec<_> =
            column(&ended.out, 1).iter().map(|i| i.strip_prefix("contoso.azurecr.io/").unwrap()).collect();
        assert_eq!(listed, images, "{args:?}: {ended:?}");
        assert_eq!(ended.err.contains("No push fits."), images.is_empty(), "{ended:?}");
        assert_eq!(ended.err.contains("There are more"), args.contains(&"--limit"), "{ended:?}");
        assert!(!ended.out.contains('\u{1b}'), "colour where there is no terminal: {ended:?}");
    }
    let wide = run(&base, &["list", "--wide", "--digest", &signature.digest[7..20]]).await.out;
    assert!(column(&wide, 1).len() == 1 && wide.contains(&signature.digest[7..19]), "{wide}");
    // What the service does not take is answered as wrong arguments are.
    for args in [vec!["list", "--since", "yesterday"], vec!["list", "--status", "gone"], vec!["list", "--region", "?"]]
    {
        let ended = run(&base, &args).await;
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
        assert!(ended.err.starts_with("error: "), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_the_services_own() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let base = serve.base_url();
    let image = Image::new("shop/cart", "1.4.2");
    let id = push(&serve, &image, &["northeurope"]).await;
    for (args, path) in [
        (vec!["list", "--json", "--limit", "7"], "pushes?limit=7".to_owned()),
        (vec!["show", &id, "--json"], format!("pushes/{id}")),
        (vec!["show", "contoso.azurecr.io/shop/cart:1.4.2", "--json"], format!("pushes/{id}")),
        (vec!["regions", "--json", "--since", "1h"], "regions?since=1h".to_owned()),
    ] {
        let ended = run(&base, &args).await;
        let own: Value =
            reqwest::get(format!("{base}/api/{path}")).await.unwrap().text().await.unwrap().parse().unwrap();
        let (mut given, mut own) = (ended.document(), own);
        for document in [&mut given, &mut own] {
            // The regions' window ends when the question is asked.
            document.as_object_mut().unwrap().remove("until");
        }
        assert_eq!(given, own, "{args:?}");
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{args:?}");
    }
    // Several pages become one document.
    let caller = serve.caller();
    for batch in 0..23 {
        let posts = (0..10).map(|n| {
            let (caller, image) = (caller.clone(), Image::new("many", &format!("{batch}-{n}")));
            async move { assert_eq!(caller.post("westus", image.notification()).await.expect("an answer").0, 202) }
        });
        futures_util::future::join_all(posts).await;
    }
    let all = run(&base, &["list", "--all", "--json"]).await.document();
    assert_eq!(
        (all["pushes"].as_array().map(Vec::len), &all["next"], &all["unreadable"]),
        (Some(231), &Value::Null, &json!(0))
    );
    let some = run(&base, &["list", "--limit", "205"]).await;
    assert_eq!(column(&some.out, 0).len(), 205);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_moves_the_cursor_or_breaks_a_table() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let base = serve.base_url();
    let id = push(&serve, &Image::new("team/\u{1b}]0;x\u{7}shop", HOSTILE), &["northeurope"]).await;
    push(&serve, &Image::new("plain", &"x".repeat(2000)), &["northeurope"]).await;
    for args in
        [vec!["list"], vec!["list", "--wide"], vec!["show", &id], vec!["list", "--json"], vec!["show", &id, "--json"]]
    {
        let ended = run(&base, &args).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let obeyed = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}');
        assert!(!ended.out.contains(obeyed), "{ended:?}");
        if args[0] == "list" && args.last() != Some(&"--json") {
            assert_eq!(ended.out.lines().count(), 3, "{ended:?}");
        }
    }
    let list = run(&base, &["list", "--json"]).await.document();
    assert_eq!(list["pushes"][1]["tag"], HOSTILE, "a document loses nothing");
    let mut watch = program(&base, &["watch", "--every", "200ms"]);
    watch.env("TERM", "xterm");
    let seen = on_a_terminal(watch, (100, 24), |text| text.matches("pushes at").count() > 2).await;
    // Only what the program itself sends: up, to the end of line and screen, colours.
    let left = ["\u{1b}[K", "\u{1b}[J", "\u{1b}[33m", "\u{1b}[0m"]
        .iter()
        .fold(seen.clone(), |text, own| text.replace(own, ""));
    let left: String =
        left.split("\u{1b}[").map(|piece| piece.trim_start_matches(|c: char| c.is_ascii_digit())).collect();
    assert!(!left.contains(|c: char| c.is_control() && !matches!(c, '\r' | '\n')), "{seen:?}");
    assert!(!seen.contains("[2J\u{9b}") && !seen.contains('\u{202e}'), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colour_is_for_terminals_and_not_for_all_of_them() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    push(&serve, &Image::new("shop/cart", "1.4.2"), &["northeurope", "westus"]).await;
    let list = |set: &[(&str, &str)]| {
        let mut list = program(&serve.base_url(), &["list"]);
        list.env("TERM", "xterm").envs(set.iter().copied());
        on_a_terminal(list, (200, 50), |_| false)
    };
    assert!(list(&[]).await.contains("\u{1b}[32mreplicated\u{1b}[0m  contoso.azurecr.io/shop/cart:1.4.2"));
    for set in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = list(&[set]).await;
        assert!(text.contains("\nreplicated  contoso") && !text.contains('\u{1b}'), "{set:?}: {text:?}");
    }
    // On a narrow terminal no line is wider than it.
    let mut narrow = program(&serve.base_url(), &["list"]);
    narrow.env("NO_COLOR", "1");
    let text = on_a_terminal(narrow, (60, 20), |_| false).await;
    assert!(text.lines().all(|line| line.trim_end().chars().count() <= 60) && text.contains("replicated"), "{text:?}");
    assert!(text.contains("contoso.azurecr.io/shop/cart:1.4.2") && !text.contains("OPENED"), "{text:?}");
    // More pushes than the picture has room for are said to be there, and each has a line.
    for n in 0..5 {
        push(&serve, &Image::new("samples/a-name-that-is-long-enough", &n.to_string()), &["westus"]).await;
    }
    let mut watch = program(&serve.base_url(), &["watch"]);
    watch.env("NO_COLOR", "1").env("TERM", "xterm");
    let seen = on_a_terminal(watch, (80, 8), |text| text.contains("enough:1")).await;
    assert!(seen.contains("The newest 4 pushes at ") && seen.contains("Z (not all); Ctrl-C ends this."), "{seen:?}");
    assert!(seen.contains("\nwaiting  contoso.azurecr.io/samples/a-name-that-is-long-enough:4  1/2"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_is_no_success_and_a_reader_that_left_is_no_fault() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let id = push(&serve, &Image::new("shop/cart", "1.4.2"), &["northeurope", "westus"]).await;
    for args in [
        vec!["list"],
        vec!["list", "--json"],
        vec!["show", &id],
        vec!["wait", "contoso.azurecr.io/shop/cart:1.4.2", "--json"],
        vec!["regions"],
        vec!["watch", "--every", "200ms"],
        vec!["completions", "bash"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device without room");
        let output = program(&serve.base_url(), &args).stdout(full).output().expect("the program runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {words}");
        let told = words.matches("error: Standard output could not be written: No space left on device").count();
        assert_eq!(told, 1, "{args:?}: {words}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = program(&serve.base_url(), &args).stdout(writer).output().expect("the program runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(0) && !words.contains("error:"), "{args:?}: {words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_acts_on_a_push() {
    let target = r#"[{"name":"deploy","url":"http://127.0.0.1:1/","format":"standard"}]"#;
    let serve = Serve::start(&[REGIONS, ("WebhookTargets", target), ("WebhookRetrySchedule", "0:0:1")], &[]).await;
    let base = serve.base_url();
    let named = "contoso.azurecr.io/shop/cart:1.4.2";
    let id = push(&serve, &Image::new("shop/cart", "1.4.2"), &["northeurope"]).await;
    let ended = run(&base, &["purge", named]).await;
    assert!(ended.code == 1 && ended.err.contains("still waits"), "{ended:?}");
    let ended = run(&base, &["report", named, "mars"]).await;
    assert!(ended.code == 4 && ended.err.contains("does not wait for a region"), "{ended:?}");
    let ended = run(&base, &["terminate", named, "--json"]).await;
    assert!(ended.code == 0 && ended.document()["statusQueryGetUri"].as_str().unwrap().ends_with(&id), "{ended:?}");
    let ended = run(&base, &["terminate", &id]).await;
    assert_eq!((ended.code, ended.out), (0, format!("terminate {id}: nothing had to be done\n")));
    eventually("it is given up", LIMIT, async || {
        run(&base, &["list", "--status", "exhausted"]).await.out.contains("1 exhausted")
    })
    .await;
    let ended = run(&base, &["report", &id, "West US"]).await;
    assert_eq!((ended.code, ended.out), (0, format!("report {id}: recovered\n")));
    let ended = run(&base, &["redeliver", named, "--target", "nobody"]).await;
    assert!(ended.code == 4 && ended.err.contains("no notification for a target"), "{ended:?}");
    let ended = run(&base, &["redeliver", named, "--target", "deploy"]).await;
    assert!(ended.code == 0 && ended.out.starts_with(&format!("redeliver {id}: ")), "{ended:?}");
    let shown = run(&base, &["show", &id]).await.out;
    for words in ["recovered", "ended by an operator", "late, reported by hand", "deploy", "timed_out"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let regions = run(&base, &["regions"]).await;
    assert!(
        regions.code == 0 && regions.out.contains("northeurope") && regions.out.contains("1 pushes since"),
        "{regions:?}"
    );
    eventually("it is removed once it owes nothing", LIMIT, async || run(&base, &["purge", &id]).await.code == 0).await;
    for _ in 0..3 {
        push(&serve, &Image::new("tools/ci", "1"), &["northeurope"]).await;
    }
    push(&serve, &Image::new("shop/till", "1"), &["northeurope", "westus"]).await;
    eventually("it is given up too", LIMIT, async || {
        run(&base, &["list", "--status", "exhausted"]).await.out.contains("shop/till")
    })
    .await;
    assert_eq!(run(&base, &["purge", "--until", "1h"]).await.out, "purge: 0 purged\n");
    let ended = run(&base, &["purge", "--until", "0s", "--json"]).await;
    assert_eq!((ended.code, &ended.document()["instancesDeleted"]), (0, &json!(1)), "what waits stays: {ended:?}");
    let ended = run(&base, &["purge"]).await;
    assert!(ended.code == 2 && ended.err.contains("<PUSH|--until <UNTIL>>"), "{ended:?}");
    for args in [vec!["purge", &id, "--until", "1h"], vec!["purge", "--until", "x"]] {
        assert_eq!(run(&base, &args).await.code, 2, "{args:?}");
    }
    for args in [["show", &id], ["purge", &id], ["redeliver", named], ["terminate", named]] {
        let ended = run(&base, &args).await;
        assert!(ended.code == 4 && ended.err.starts_with("error: "), "{args:?}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_by_argument_file_address_and_environment_and_are_never_told() {
    let settings = [REGIONS, ("WebhookKey", "registrys-k3y"), ("WebhookOperatorKey", "operators-k3y")];
    let serve = Serve::start(&settings, &[]).await;
    let base = serve.base_url();
    let file = serve.folder().join("key");
    std::fs::write(&file, "operators-k3y\n").unwrap();
    let at_file = format!("@{}", file.display());
    let in_address = format!("{base}/api/pushes?code=operators-k3y");
    let capital = format!("{base}/?Code=operators-k3y");
    let wrong = format!("{base}/?code=wrong-k3y");
    for (args, variables, code, words) in [
        (vec!["list", "--key", "operators-k3y"], vec![], 0, "No push fits."),
        (vec!["list", "--key", &at_file], vec![], 0, "No push fits."),
        (vec!["list", "--url", &in_address], vec![("GLOBAL_WEBHOOK_KEY", "other-k3y")], 0, "No push fits."),
        (vec!["list"], vec![("GLOBAL_WEBHOOK_KEY", at_file.as_str())], 0, "No push fits."),
        (vec!["list"], vec![("GLOBAL_WEBHOOK_KEY", "operators-k3y"), ("WebhookKey", "other-k3y")], 0, "No push fits."),
        (vec!["list"], vec![("GLOBAL_WEBHOOK_URL", &capital), ("WebhookKey", "other-k3y")], 0, "No push fits."),
        (vec!["list"], vec![("WebhookOperatorKey", "operators-k3y")], 0, "No push fits."),
        (vec!["list"], vec![], 1, "asks for a function key; pass it with --key"),
        (vec!["list", "--key", "wrong-k3y"], vec![], 1, "refused the function key"),
        (vec!["list", "--url", &wrong], vec![], 1, "refused the function key"),
        (vec!["list", "--key", "registrys-k3y"], vec![], 1, "WebhookOperatorKey"),
        (vec!["list", "--key", "\"operators-k3y\""], vec![], 2, "holds blanks, quotes"),
        (vec!["list", "--url", "ftp://x/?code=wrong-k3y"], vec![], 2, "neither http nor https"),
        (vec!["send", "--key", "a k3y"], vec![], 2, "holds blanks, quotes"),
        (vec!["list", "--key", "--json"], vec![], 2, "that is an option, not a key"),
        (vec!["serve", "--key", "--print"], vec![], 2, "that is an option, not a key"),
        (vec!["list", "--key", at_file.trim_start_matches('@')], vec![], 2, "write @ before it"),
        (vec!["list", "--key", "-s3cR3t_kZ0fXk2bq8Hc1mYy7v"], vec![], 1, "refused the function key"),
        (vec!["list"], vec![("GLOBAL_WEBHOOK_KEY", "a k3y")], 2, "GLOBAL_WEBHOOK_KEY of the environment"),
        (vec!["list"], vec![("GLOBAL_WEBHOOK_URL", "x?code=k3y")], 2, "GLOBAL_WEBHOOK_URL of the environment"),
    ] {
        let mut command = program(&base, &args);
        command.envs(variables);
        let ended = Running::start(command).ended().await;
        assert!(ended.code == code && ended.err.contains(words), "{args:?}: {ended:?}");
        assert!(!ended.err.contains("k3y") && !ended.out.contains("k3y"), "{args:?}: {ended:?}");
    }
    // Somebody listens, and speaks no TLS.
    let ended = run(&base.replace("http:", "https:"), &["list"]).await;
    assert!(ended.code == 1 && ended.err.contains("No TLS with https://127.0.0.1"), "{ended:?}");
    serve.terminate();
    let gone = Serve::start(&[REGIONS], &[]).await;
    let base = format!("{}/?code=wrong-k3y", gone.base_url());
    drop(gone);
    let ended = run(&base, &["list"]).await;
    assert!(ended.code == 1 && ended.err.contains("Nothing listens at") && !ended.err.contains("k3y"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_watched_goes_on_over_a_restart() {
    let mut serve = Serve::start(&[REGIONS], &[]).await;
    let watch = Running::start(program(&serve.base_url(), &["watch", "--every", "200ms", "--repository", "shop/**"]));
    let image = Image::new("shop/cart", "1.4.2");
    push(&serve, &Image::new("tools/ci", "1"), &["westus"]).await;
    push(&serve, &image, &["northeurope"]).await;
    watch.said("Z waiting contoso.azurecr.io/shop/cart:1.4.2 1/2 missing westus\n").await;
    serve.kill();
    watch.said("; looking goes on.").await;
    serve.kill_and_restart().await;
    push(&serve, &image, &["westus"]).await;
    watch.said("Z replicated contoso.azurecr.io/shop/cart:1.4.2 2/2\n").await;
    assert_eq!((watch.out().lines().count(), watch.err().lines().count()), (2, 1), "{} {}", watch.out(), watch.err());
    // A reader that goes away ends it.
    let mut command = program(&serve.base_url(), &["watch", "--every", "200ms"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    eventually("it ends", LIMIT, async || child.try_wait().expect("a child").is_some_and(|s| s.success())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_work_through_the_functions_host() {
    let service = Service::start(Deployment::Handler, &[REGIONS]).await;
    let base = service.base_url();
    let image = Image::new("shop/cart", "1.4.2");
    let named = format!("contoso.azurecr.io/shop/cart:1.4.2@{}", image.digest);
    let (status, body) = service.push_until_taken("northeurope", &image).await;
    assert_eq!(status, 202, "{body}");
    let id = body["id"].as_str().unwrap();
    let listed = run(&base, &["list", "--repository", "shop/cart", "--wide"]).await;
    assert!(listed.code == 0 && listed.out.contains(id) && listed.out.contains("1/2"), "{listed:?}");
    let wait = Running::start(program(&base, &["wait", &named, "--timeout", "55s", "--json"]));
    wait.said("northeurope has it (1 of 2)").await;
    let ended = run(&base, &["report", &named, "westus"]).await;
    assert_eq!((ended.code, ended.out), (0, format!("report {id}: replicated\n")), "{}", ended.err);
    let ended = wait.ended().await;
    assert_eq!((ended.code, &ended.document()["customStatus"]["state"]), (0, &json!("replicated")), "{}", ended.err);
    assert!(run(&base, &["regions"]).await.out.contains("westus"));
    eventually("it is removed", LIMIT, async || run(&base, &["purge", id]).await.code == 0).await;
    assert_eq!(run(&base, &["show", id]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_key_opens_the_functions_host_by_argument_and_by_address() {
    let account = tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite");
    let settings = [REGIONS, ("AzureWebJobsStorage", account.as_str())];
    let host = Host::start(HostOptions::spawned(&settings).only(Serves::Http).key("fn-k3y")).await;
    let base = host.base_url();
    let in_address = format!("{base}/api/pushes?code=fn-k3y");
    for (args, code, words) in [
        (vec!["regions", "--key", "fn-k3y"], 0, "northeurope"),
        (vec!["regions", "--url", &in_address], 0, "northeurope"),
        (vec!["regions"], 1, "asks for a function key; pass it with --key"),
        (vec!["regions", "--key", "wrong-k3y"], 1, "refused the function key"),
        (vec!["wait", "contoso.azurecr.io/shop/cart:1", "--key", "wrong-k3y"], 1, "refused the function key"),
    ] {
        let ended = run(&base, &args).await;
        assert!(ended.code == code && (ended.out.clone() + &ended.err).contains(words), "{args:?}: {ended:?}");
        assert!(!ended.err.contains("k3y") && !ended.out.contains("k3y"), "{args:?}: {ended:?}");
    }
}

#[tokio::test]
async fn every_command_has_help_with_examples_and_completions_are_read_by_their_shells() {
    /// The commands that a help lists.
    fn commands(help: &str) -> Vec<String> {
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let named = listed.filter_map(|line| line.split_whitespace().next());
        named.filter(|command| *command != "help").map(str::to_owned).collect()
    }
    let help = run("", &["--help"]).await;
    let all = commands(&help.out);
    assert!(all.len() >= 13 && help.out.contains("Exit codes:"), "{all:?}");
    let mut paths: Vec<Vec<String>> = all.iter().map(|command| vec![command.clone()]).collect();
    while let Some(path) = paths.pop() {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = run("", &args).await;
        let within = commands(&help.out);
        paths.extend(within.iter().map(|command| [path.as_slice(), std::slice::from_ref(command)].concat()));
        let has = |words: &str| help.out.contains(words);
        assert!(help.code == 0 && (!within.is_empty() || has("\nExamples:\n")), "{path:?}: {}", help.out);
        let is_plain = path == ["completions"] || !within.is_empty();
        assert!(is_plain || has("\nExit codes:"), "{path:?}: {}", help.out);
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run("", &["completions", shell]).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        assert!(all.iter().all(|command| ended.out.contains(command.as_str())), "{shell}: {}", ended.out);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &ended.out).unwrap();
        // Where the shell is installed it reads what was made for it.
        match std::process::Command::new(shell).arg("-n").arg(file.path()).status() {
            Ok(status) => assert!(status.success(), "{shell}"),
            Err(why) => assert!(shell != "bash" && why.kind() == std::io::ErrorKind::NotFound, "{shell}: {why}"),
        }
    }
}
