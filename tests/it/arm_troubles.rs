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
    // A role without `operationStatuses/read`: the webhook itself is looked at.
    arm.state().faults = vec![fault("GET", "/operationStatuses/", 99, 403, Value::Null)];
    arm.state().slow = 1;
    run(&arm, "remove --yes").await.must_be(0).says("2 to delete.");
    run(&arm, "apply --yes").await.must_be(0).says("2 to create.");
}

#[tokio::test]
async fn an_operation_that_fails_is_told_and_done_again() {
    let arm = Arm::start().await;
    (arm.state().slow, arm.state().operation_fails) = (2, true);
    let ran = run(&arm, "apply --yes").await.must_be(1).says("The name did not resolve.");
    ran.says("2 of 2 changes were not made");
    arm.state().operation_fails = false;
    run(&arm, "plan").await.must_be(0).says("state: from Failed to complete");
    run(&arm, "apply --yes").await.must_be(0).says("2 to change.");
    run(&arm, "apply --yes").await.must_be(0).says("Nothing to do.");
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
    arm.state().next_link = Some(link.clone());
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
    // With what it was sent, key included: the runner checks that no output has it.
    arm.state().faults =
        vec![fault("PUT", "", 2, 400, json!({ "code": "Invalid", "message": format!("bad value {KEY}\u{1b}[2J") }))];
    run(&arm, "apply --yes").await.must_be(1).says("(400 Invalid): bad value …\u{fffd}[2J");
    // A name that is free in no region of ours, told without the outer `error`.
    arm.state().add("acrgwwesteurope", "northeurope", json!({}), "https://x.example");
    let webhook = arm.state().webhooks.remove("acrgwwesteurope").unwrap();
    let plan = json!({ "value": [] });
    arm.state().webhooks.insert("acrgwwesteurope".into(), webhook);
    arm.state().faults = vec![fault("GET", "/webhooks?", 1, 200, plan)];
    run(&arm, "apply --yes").await.must_be(1).says("409 InvalidResourceLocation").says("1 of 2 changes were not made");
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
    run(&arm, "plan").await.must_be(1).says("did not print a token");
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
        ("plan --url https://app.example".into(), "has no path"),
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
