//! What can go wrong with `webhooks`: with the sign-in, the rights, the network, Azure's answers and the arguments.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::arm::{KEY, URL, command, finished, run};
use crate::stand_in_arm::{Arm, Fault, GROUP, SUBSCRIPTION, id};
use crate::support::recorder::Recorder;

pub fn fault(method: &'static str, part: &'static str, times: u32, status: u16, body: Value) -> Fault {
    Fault { method, part, times, status, headers: "", body, after: false }
}

#[tokio::test]
async fn throttled_and_failing_calls_are_made_again() {
    let arm = Arm::start().await;
    let limited = json!({ "error": { "code": "SubscriptionRequestsThrottled", "message": "slow down" } });
    let again =
        |method, part, status, headers, body, after| Fault { method, part, times: 2, status, headers, body, after };
    arm.state().faults.extend([
        again("GET", "/webhooks", 429, "Retry-After: 1\r\n", limited, false),
        again("GET", "/replications", 503, "Retry-After: 0\r\n", Value::Null, false),
        // Done, and the answer was lost on its way.
        again("PUT", "acrgwwesteurope", 502, "Retry-After: 0\r\n", Value::Null, true),
    ]);
    run(&arm, "apply --yes").await.must_be(0).says("Azure limits the calls: waiting 1 s.").says("2 to create.");
    assert_eq!(arm.state().count("PUT", "acrgwwesteurope"), 3);
    assert_eq!(arm.state().webhooks.len(), 2);
    // What never ends, and what would take too long.
    arm.state().faults = vec![fault("GET", "/webhooks", 99, 500, json!("x"))];
    arm.state().faults[0].headers = "Retry-After: 0\r\n";
    let calls = arm.state().count("GET", "/webhooks?");
    run(&arm, "plan")
        .await
        .must_be(1)
        .says("Azure refused to list the webhooks (500)")
        .says("run the command again later");
    assert_eq!(arm.state().count("GET", "/webhooks?"), calls + 5);
    arm.state().faults[0].headers = "Retry-After: 3600\r\n";
    arm.state().faults[0].status = 429;
    run(&arm, "plan").await.must_be(1).says("Azure limits the calls of each identity");
    arm.state().faults[0].headers = "Retry-After: 60\r\n";
    run(&arm, "plan --timeout 500ms").await.must_be(1).says("The time of --timeout is over.");
}

#[tokio::test]
async fn missing_rights_are_told_with_the_role_to_ask_for() {
    let arm = Arm::start().await;
    let denied = json!({ "error": { "code": "AuthorizationFailed",
        "message": "The client 'x' does not have authorization to perform action 'Microsoft.ContainerRegistry/registries/webhooks/write'." } });
    arm.state().faults = vec![fault("PUT", "/webhooks/", 1, 403, denied.clone())];
    let ran = run(&arm, "apply --yes").await.must_be(1).says("'Microsoft.ContainerRegistry/registries/webhooks/write'");
    let ran = ran
        .says("3bc748fc-213d-45c1-8d91-9da5725539b9")
        .says("northeurope: acrgwnortheurope")
        .says("2 of 2 changes were not made");
    assert!(ran.code == 1 && arm.state().writes() == 1, "the second is not tried");
    arm.state().faults = vec![fault("GET", "/webhooks?", 1, 403, denied.clone())];
    run(&arm, "plan").await.must_be(1).says("69b07be0-09bf-439a-b9a6-e73de851bd59");
    // Only the URLs may not be read: the plan says what it does not know, and apply writes it.
    run(&arm, "apply --yes").await.must_be(0);
    arm.state().faults = vec![fault("POST", "getCallbackConfig", 99, 403, denied)];
    run(&arm, "plan --check").await.must_be(3).says("URL and key: may differ; you may not read them");
    run(&arm, "apply --yes").await.must_be(0).says("2 to change.");
    // Whose they are may not be read: nothing is deleted, and that is no success.
    let ran = run(&arm, &format!("remove --yes --url {URL}")).await.must_be(1).says("Nothing can be done.");
    let ran = ran.says("since you may not read where they send to: acrgwnortheurope, acrgwwesteurope.");
    assert!(!ran.says("3bc748fc-213d-45c1-8d91-9da5725539b9").out.contains("of another service"));
    let json = run(&arm, &format!("remove --yes --json --url {URL}")).await.must_be(1).json();
    assert_eq!(json["counts"], json!({ "unknown": 2 }));
    assert_eq!(arm.state().webhooks.len(), 2);
    // A role without `operationStatuses/read`: the webhook itself is looked at.
    arm.state().faults = vec![fault("GET", "/operationStatuses/", 99, 403, Value::Null)];
    arm.state().slow = 1;
    run(&arm, "remove --yes").await.must_be(0).says("2 to delete.");
    run(&arm, "apply --yes").await.must_be(0).says("2 to create.");
}

#[tokio::test]
async fn an_operation_that_fails_is_told_and_done_again() {
    let arm = Arm::start().await;
    for words in [["Succeeded", "Failed"], ["succeeded", "Cancelled"], ["SUCCEEDED", "canceled"]] {
        (arm.state().slow, arm.state().operation_fails, arm.state().operation_words) = (2, true, words);
        let ran = run(&arm, "apply --yes").await.must_be(1).says("The name did not resolve.");
        ran.says("2 of 2 changes were not made");
        arm.state().operation_fails = false;
        run(&arm, "plan").await.must_be(0).says(&format!("state: from {} to complete", words[1]));
        run(&arm, "apply --yes").await.must_be(0).says("2 to change.");
        run(&arm, "apply --yes").await.must_be(0).says("Nothing to do.");
        arm.state().webhooks.clear();
    }
}

#[tokio::test]
async fn registries_are_found_by_name() {
    let arm = Arm::start().await;
    let other_group = id("shopping").replace(GROUP, "other");
    arm.state().registries = vec![id("first"), id("shopping"), other_group.clone(), id("Contoso")];
    for line in [
        "plan --registry contoso",
        "plan --registry contoso.azurecr.io",
        "plan --registry contoso --subscription Shop_Production",
        &format!("plan --registry contoso --subscription {SUBSCRIPTION}"),
        &format!("plan --registry contoso --subscription {SUBSCRIPTION} -g {GROUP}"),
    ] {
        let mut command = command(&arm, line);
        if line.contains("Shop_Production") {
            command = crate::arm::command(&arm, "plan --registry contoso");
            command.args(["--subscription", "Shop Production"]);
        }
        arm.state().registries[3] = id("contoso");
        finished(command).await.must_be(0).says("2 to create.");
    }
    let asked = arm.asked();
    assert!(asked[2].contains("--subscription=Shop Production"), "{asked:?}");
    run(&arm, "plan --registry shopping").await.must_be(1).says("Several registries").says(&other_group);
    run(&arm, "plan --registry nosuch")
        .await
        .must_be(1)
        .says("There is no registry nosuch in 2 subscriptions that you can see");
    run(&arm, "plan --registry contoso -g nosuch").await.must_be(1).says(", resource group nosuch");
    run(&arm, "plan --registry contoso --subscription nosuch")
        .await
        .must_be(1)
        .says("no subscription that is called nosuch");
    let gone = json!({ "error": { "code": "ResourceNotFound", "message": "The Resource 'contoso' was not found." } });
    arm.state().faults = vec![fault("GET", "/registries/contoso?", 1, 404, gone)];
    run(&arm, "plan").await.must_be(1).says("Check --registry, --subscription and --resource-group");
}

#[tokio::test]
async fn no_token_goes_anywhere_else() {
    let arm = Arm::start().await;
    let elsewhere = Recorder::default();
    let port = elsewhere.listen().await;
    let link = format!("http://127.0.0.1:{port}/next?api-version=1");
    arm.state().next_link = Some(json!(link));
    run(&arm, "plan").await.must_be(1).says("points away from 127.0.0.1; no token is sent there");
    arm.state().next_link = None;
    let headers: &'static str = format!("Azure-AsyncOperation: {link}\r\n").leak();
    arm.state().faults.push(Fault { headers, status: 201, ..fault("PUT", "", 2, 0, json!({})) });
    run(&arm, "apply --yes").await.must_be(1).says("points away");
    let headers: &'static str = format!("Location: {link}\r\n").leak();
    arm.state().faults.push(Fault { headers, status: 307, ..fault("GET", "/webhooks?", 1, 0, Value::Null) });
    run(&arm, "plan").await.must_be(1).says("redirect, which is not followed");
    assert!(elsewhere.take().is_empty());
    for line in ["http://10.0.0.1", "http://management.azure.com", "https://u:p@x.example", "https://x.example/y"] {
        let mut plan = std::process::Command::new(env!("CARGO_BIN_EXE_global-webhook"));
        plan.args(["webhooks", "plan", "--registry", "contoso", "--no-key", "--url", URL, "--arm-endpoint", line])
            .env_clear();
        finished(plan).await.must_be(2).says("--arm-endpoint");
    }
    assert!(arm.asked().len() == 3, "{:?}", arm.asked());
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    let arm = Arm::start().await;
    for (part, body, words) in [
        ("/webhooks?", json!({ "value": 7 }), "something that is no list"),
        ("/webhooks?", json!({ "value": [{}] }), "one without a name"),
        ("/replications?", json!({}), "something that is no list"),
        ("/registries/contoso?", json!({ "location": "../x" }), "names a region that is none"),
    ] {
        arm.state().faults = vec![fault("GET", part, 1, 200, body)];
        run(&arm, "plan").await.must_be(1).says(words);
    }
    // A list that goes on without an end, and one that does not say whether it goes on.
    let again = format!("http://127.0.0.1:{}{}/webhooks?api-version=1", arm.port, id("contoso"));
    arm.state().next_link = Some(json!(again));
    run(&arm, "plan").await.must_be(1).says("more than 100 pages");
    arm.state().add("long", "westeurope", json!({ "x": "x".repeat(1 << 20) }), "https://x.example");
    let calls = arm.state().count("GET", "/webhooks?");
    run(&arm, "plan").await.must_be(1).says("no list, or too long");
    assert_eq!(arm.state().count("GET", "/webhooks?"), calls + 8, "at 8 MiB in all");
    arm.state().webhooks.clear();
    arm.state().next_link = Some(json!(7));
    run(&arm, "plan").await.must_be(1).says("points away");
    for end in [json!(null), json!("")] {
        arm.state().next_link = Some(end);
        run(&arm, "plan").await.must_be(0).says("2 to create.");
    }
    arm.state().next_link = None;
    // Without its tier a registry may have replicas: nothing is an orphan.
    run(&arm, "apply --yes").await.must_be(0);
    for sku in [json!(null), json!({ "name": null }), json!({ "name": "Platinum" })] {
        let body = json!({ "location": "westeurope", "sku": sku });
        arm.state().faults = vec![fault("GET", "/registries/contoso?", 1, 200, body)];
        run(&arm, "apply --prune --yes").await.must_be(1).says("names no tier that is known");
        assert_eq!(arm.state().webhooks.len(), 2);
    }
    arm.state().webhooks.clear();
    let words = json!({ "code": "Invalid", "message": "bad value\u{1b}[2J" });
    arm.state().faults = vec![fault("PUT", "", 2, 400, words)];
    run(&arm, "apply --yes").await.must_be(1).says("(400 Invalid): bad value\u{fffd}[2J");
    // A name that is free in no region of ours, told without the outer `error`.
    arm.state().add("acrgwwesteurope", "northeurope", json!({}), "https://x.example");
    let webhook = arm.state().webhooks.remove("acrgwwesteurope").unwrap();
    let plan = json!({ "value": [] });
    arm.state().webhooks.insert("acrgwwesteurope".into(), webhook);
    arm.state().faults = vec![fault("GET", "/webhooks?", 1, 200, plan)];
    run(&arm, "apply --yes").await.must_be(1).says("409 InvalidResourceLocation").says("1 of 2 changes were not made");
}

/// One time for looking and doing; what was done before its end is told.
#[tokio::test]
async fn the_time_ends_in_the_middle() {
    let arm = Arm::start().await;
    arm.state().replicate("eastus");
    let wait = |method, part, times, headers| Fault { headers, ..fault(method, part, times, 429, Value::Null) };
    arm.state().faults = vec![
        wait("GET", "/replications", 2, "Retry-After: 1\r\n"),
        wait("PUT", "acrgweastus", 9, "Retry-After: 60\r\n"),
    ];
    let begun = std::time::Instant::now();
    let json =
        run(&arm, "apply --yes --json --timeout 4s").await.must_be(1).says("The time of --timeout is over.").json();
    assert!(begun.elapsed().as_secs() < 6, "{:?}", begun.elapsed());
    let done: Vec<_> = json["results"].as_array().unwrap().iter().map(|one| one["done"].as_bool().unwrap()).collect();
    assert_eq!(done, [true, false, false]);
    assert!(json["results"][2]["error"].as_str().unwrap().contains("not tried"), "{json}");
}

/// ARM repeats what it was sent, in a spelling of its own: the runner checks that no output has a key.
#[tokio::test]
async fn a_key_is_hidden_in_every_spelling() {
    let arm = Arm::start().await;
    let coded = "https://app.example/api/ImagePush?code=k3y%2fcode%3d%3d";
    let bare = "https://app.example/api/ImagePush?k3y-bare-word";
    for (line, said) in [
        ("apply --yes", format!("bad value {KEY}")),
        ("apply --yes", r#"bad: {"x-functions-key":"k3y\u002BOf\/ImagePush\u003D="}"#.into()),
        ("apply --yes", "bad: k3y%2bOf%252FImagePush%3D%3d".into()),
        (&format!("apply --yes --url {coded}"), format!("bad serviceUri {coded}&region=westeurope")),
        (&format!("apply --yes --url {coded}"), "bad code k3y/code==".into()),
        (&format!("apply --yes --no-key --url {bare}"), format!("bad serviceUri {bare}&region=westeurope")),
    ] {
        arm.state().faults = vec![fault("PUT", "", 2, 400, json!({ "code": "Invalid", "message": said }))];
        let ran = run(&arm, line).await.must_be(1).says("(400 Invalid): (left out, since it repeats a key)");
        assert!(!ran.out.contains("k3y") && !ran.err.contains("k3y"), "{}{}", ran.out, ran.err);
    }
    // One that only ARM knew.
    run(&arm, "apply --yes").await.must_be(0);
    let old = "https://app.example/api/ImagePush?code=k3y%2dold&region=westeurope";
    arm.state().webhooks.get_mut("acrgwwesteurope").unwrap().properties["serviceUri"] = json!(old);
    arm.state().faults = vec![fault("PATCH", "", 1, 400, json!({ "message": format!("was {old}") }))];
    let ran = run(&arm, "apply --yes").await.must_be(1).says("(left out, since it repeats a key)");
    assert!(!ran.out.contains("old") && !ran.err.contains("old"), "{}{}", ran.out, ran.err);
}

#[tokio::test]
async fn tokens_that_end_are_renewed_once() {
    let arm = Arm::start().await;
    arm.state().token_ends_after = Some(3);
    run(&arm, "apply --yes").await.must_be(0).says("2 to create.");
    assert_eq!(arm.asked().len(), 2);
    arm.state().token = "never".into();
    run(&arm, "plan").await.must_be(1).says("401 ExpiredAuthenticationToken").says("sign in again (`az login`)");
    assert_eq!(arm.asked().len(), 4);
}

#[tokio::test]
async fn who_is_not_signed_in_is_told_so() {
    let arm = Arm::start().await;
    arm.install("#!/bin/sh\necho \"ERROR: Please run 'az login' to setup account.\u{1b}[2J\" >&2\nexit 1\n");
    run(&arm, "plan").await.must_be(1).says("ERROR: Please run 'az login' to setup account.");
    arm.install("#!/bin/sh\necho hello\n");
    run(&arm, "plan").await.must_be(1).says("did not print a token that can be used");
    let begun = std::time::Instant::now();
    arm.install("#!/bin/sh\necho '{\"accessToken\":\"t0ken-\\n1\",\"expires_on\":4102444800}'\n");
    run(&arm, "plan").await.must_be(1).says("did not print a token that can be used");
    assert!(begun.elapsed().as_secs() < 10, "nothing is tried again");
    arm.install("#!/bin/sh\nprintf 'ERROR: x\\r\\nerror: y\\n' >&2\nexit 1\n");
    run(&arm, "plan").await.must_be(1).says("It says: ERROR: x  error: y");
    std::fs::remove_file(arm.folder().join("az")).unwrap();
    run(&arm, "plan").await.must_be(1).says("The Azure CLI (`az`) is not installed");
    assert!(arm.state().calls.is_empty());
}

#[tokio::test]
async fn a_managed_identity_is_taken_where_there_is_one() {
    let arm = Arm::start().await;
    std::fs::remove_file(arm.folder().join("az")).unwrap();
    let endpoint = Recorder::default();
    let body = r#"{"access_token":"t0ken-1","expires_on":"4102444800"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    endpoint.script(&[answer.as_bytes(), b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n"]);
    let url = format!("http://127.0.0.1:{}/msi/token", endpoint.listen().await);
    for (code, words) in [(0, "2 to create."), (1, "its endpoint answered 400")] {
        let mut plan = command(&arm, "plan --client-id me");
        plan.env("IDENTITY_ENDPOINT", &url).env("IDENTITY_HEADER", "proof");
        finished(plan).await.must_be(code).says(words);
    }
    let (head, _) = &endpoint.take()[0];
    let resource = "resource=https%3A%2F%2Fmanagement.azure.com%2F&client_id=me";
    assert_eq!(head.start, format!("GET /msi/token?api-version=2019-08-01&{resource} HTTP/1.1"));
    assert_eq!(head.get("X-IDENTITY-HEADER"), Some("proof"));
    run(&arm, "plan --credential managed-identity").await.must_be(2).says("there is no managed identity here");
}

#[tokio::test]
async fn wrong_arguments_are_told_and_never_repeat_a_key() {
    let arm = Arm::start().await;
    for (line, words) in [
        (format!("plan --key {KEY}\" "), "the key holds blanks, quotes"),
        ("plan --key @/no/such/k3y-file".into(), "cannot be read"),
        (format!("plan --url http://app.example/?code={KEY}"), "--url does not begin with https://"),
        ("plan --url https://u:k3y-7@app.example/x".into(), "more than host, path and query"),
        ("plan --url https://app.example".into(), "--url does not end in /ImagePush; it is the address of ImagePush"),
        ("plan --url https://app.example/api/".into(), "does not end in /ImagePush"),
        ("plan --url https://app.example/api/xImagePush".into(), "does not end in /ImagePush"),
        ("remove --url https://app.example/api/Pushes?x=/ImagePush".into(), "does not end in /ImagePush"),
        (format!("plan --url {URL}?region=x"), "has a region already"),
        (format!("plan --url {URL}?code=k3y-9 --key k3y-8"), "the URL has a key already"),
        (format!("plan --url :{KEY}"), "is no URL"),
        ("plan --scope a\u{e9}b".into(), "--scope is"),
        ("plan --prefix a-b".into(), "--prefix"),
        ("plan --registry a/b".into(), "--registry is no name"),
        ("plan --registry /subscriptions/x".into(), "--registry is no id"),
        ("plan --subscription x".into(), "--registry is an id"),
        ("plan --actions pull".into(), "invalid value '…' for '--actions"),
        ("apply".into(), "give --yes"),
        ("remove".into(), "give --yes"),
        ("apply --json".into(), "give --yes"),
    ] {
        run(&arm, &line).await.must_be(2).says(words);
    }
    let mut plan = command(&arm, "plan");
    plan.env_remove("WebhookKey");
    finished(plan).await.must_be(2).says("which key opens the service?");
    assert!(arm.state().calls.is_empty() && arm.asked().is_empty());
    for url in
        ["https://app.example/api/imagepush", "https://app.example/ImagePush/", "https://app.example/x/y/ImagePush"]
    {
        run(&arm, &format!("plan --url {url}")).await.must_be(0).says("2 to create.");
    }
    for (line, words) in [("plan --help", "Examples:"), ("apply --help", "--prune"), ("remove --help", "Exit codes:")] {
        run(&arm, line).await.must_be(0).says(words);
    }
}

/// Both ends of a new terminal.
fn terminal() -> (std::fs::File, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
    let program = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    (person.into(), program)
}

#[tokio::test]
async fn a_person_is_asked_before_anything_is_done() {
    let arm = Arm::start().await;
    for (answer, code, webhooks) in [("no\n", 1, 0), ("y\n", 1, 0), ("\n", 1, 0), ("yes\n", 0, 2)] {
        let (mut person, program) = terminal();
        let mut apply = command(&arm, "apply");
        apply.stdin(Stdio::from(program)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = apply.spawn().unwrap();
        drop(apply);
        let mut asked = String::new();
        let mut err = child.stderr.take().unwrap();
        let told = tokio::task::spawn_blocking(move || {
            while !asked.ends_with("does it: ") {
                let mut byte = [0];
                err.read_exact(&mut byte).unwrap();
                asked.push(char::from(byte[0]));
            }
            person.write_all(answer.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            // Not before: without its other end the terminal is gone.
            drop(person);
            output
        });
        let output = told.await.unwrap();
        assert_eq!((output.status.code(), arm.state().webhooks.len()), (Some(code), webhooks), "{answer:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("2 to create."));
    }
}
