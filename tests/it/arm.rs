//! `webhooks plan`, `apply` and `remove` as processes of their own, against a stand-in for Azure Resource Manager.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::stand_in_arm::{Arm, Webhook, id};
use crate::support::eventually;
use crate::support::service::LIMIT;

pub const KEY: &str = "k3y+Of/ImagePush==";
pub const URL: &str = "https://app.example/api/ImagePush";

/// What must never be seen: the key as it is and as a URL has it, keys of webhooks made before, tokens.
const SECRETS: [&str; 6] = [KEY, "k3y%2BOf", "k3y-", "0ld-secret", "t0ken-", "s3cret-header"];

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }

    #[track_caller]
    pub fn must_be(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.out.contains(words) || self.err.contains(words), "{words:?} in: {}{}", self.out, self.err);
        self
    }
}

/// The command with `line`'s arguments, and with registry, address and key where the line has none.
pub fn command(arm: &Arm, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_global-webhook"));
    command.arg("webhooks").args(line.split_whitespace());
    command.args(["--arm-endpoint", &format!("http://127.0.0.1:{}", arm.port)]);
    if !line.contains("--registry") {
        command.args(["--registry", &id("contoso")]);
    }
    if !line.starts_with("remove") && !line.contains("--url") {
        command.args(["--url", URL]);
    }
    command.env_clear().env("PATH", arm.folder()).env("WebhookKey", KEY);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub async fn finished(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ran = Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    for secret in SECRETS {
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{secret}: {}{}", ran.out, ran.err);
    }
    assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{}{}", ran.out, ran.err);
    ran
}

pub async fn run(arm: &Arm, line: &str) -> Ran {
    finished(command(arm, line)).await
}

/// The webhook is all that is wanted in a region.
#[track_caller]
fn is_good(webhook: &Webhook, region: &str) {
    let properties = json!({ "serviceUri": format!("{URL}?region={region}"), "customHeaders": { "x-functions-key": KEY },
        "status": "enabled", "scope": "", "actions": ["push"] });
    assert_eq!((webhook.location.as_str(), webhook.state), (region, "Succeeded"));
    assert_eq!(webhook.properties, properties);
    assert_eq!(webhook.tags["managed-by"], "acr-global-webhook/acrgw");
}

/// Both regions have what is wanted, and a further `apply` does nothing.
async fn all_is_good(arm: &Arm, regions: &[&str]) {
    for region in regions {
        is_good(&arm.state().webhooks[&format!("acrgw{region}")], region);
    }
    let writes = arm.state().writes();
    run(arm, "apply --yes").await.must_be(0).says("Nothing to do.");
    run(arm, "plan --check").await.must_be(0).says("Nothing to do.");
    assert_eq!(arm.state().writes(), writes);
}

const BOTH: [&str; 2] = ["westeurope", "northeurope"];

/// Both regions have their webhook.
async fn applied() -> Arm {
    let arm = Arm::start().await;
    run(&arm, "apply --yes").await.must_be(0).says("2 to create.");
    arm
}

#[tokio::test]
async fn apply_makes_one_for_each_region_and_nothing_twice() {
    let arm = Arm::start().await;
    // From the second region on the home region is among the replicas; names and spellings are anybody's.
    arm.state().replicas[0].name = "second1".into();
    arm.state().replicas[0].location = "North Europe".into();
    arm.state().replicate("westeurope");
    arm.state().add("handmade", "westeurope", json!({}), "https://other.example/?code=0ld-secret");
    run(&arm, "plan --check").await.must_be(3).says("2 to create.");
    assert_eq!(arm.state().writes(), 0);
    let ran = run(&arm, "apply --yes").await.must_be(0).says("westeurope: acrgwwesteurope created.");
    assert!(ran.says("northeurope: acrgwnortheurope created.").says("left alone: handmade").err.is_empty());
    all_is_good(&arm, &BOTH).await;
    assert_eq!(arm.state().count("POST", "handmade"), 0, "what others' webhooks send to is not even read");
    assert!(
        arm.asked()[0].starts_with("account get-access-token --resource https://management.azure.com/ --output json")
    );
    assert!(arm.asked().iter().all(|asked| asked.ends_with(" no key")), "{:?}", arm.asked());
}

#[tokio::test]
async fn what_was_changed_by_hand_is_named_and_put_right() {
    let change: fn(&mut Webhook, &str, Value) = |webhook, name, value| webhook.properties[name] = value;
    let cases: [(&str, Value, &str); 8] = [
        (
            "serviceUri",
            json!("https://0ld.example/x?region=westeurope&code=0ld-secret"),
            "URL: from https://0ld.example/x?region=westeurope&code=…",
        ),
        (
            "serviceUri",
            json!(format!("{URL}?region=northeurope")),
            "to   https://app.example/api/ImagePush?region=westeurope",
        ),
        ("customHeaders", json!({ "x-functions-key": "0ld-secret" }), "key (header x-functions-key): is another one"),
        ("customHeaders", json!({}), "key (header x-functions-key): is missing"),
        (
            "customHeaders",
            json!({ "x-functions-key": KEY, "X-Other": "s3cret-header" }),
            "header X-Other: will be removed",
        ),
        ("status", json!("disabled"), "status: from disabled to enabled"),
        ("scope", json!("shop/**:x"), "scope: from shop/**:x to all images"),
        ("actions", json!(["push", "delete"]), "actions: from delete, push to push"),
    ];
    let arm = applied().await;
    for (property, value, words) in cases {
        change(arm.state().webhooks.get_mut("acrgwwesteurope").unwrap(), property, value);
        run(&arm, "plan").await.must_be(0).says(words).says("1 to change.");
        run(&arm, "plan --json").await.must_be(0);
        let writes = arm.state().writes();
        run(&arm, "apply --yes").await.must_be(0).says("westeurope: acrgwwesteurope changed.");
        assert_eq!(arm.state().writes(), writes + 1);
        is_good(&arm.state().webhooks["acrgwwesteurope"], "westeurope");
    }
    all_is_good(&arm, &BOTH).await;
}

#[tokio::test]
async fn what_is_wanted_may_change() {
    let arm = applied().await;
    let mut rotated = command(&arm, "apply --yes --scope shop:* --actions push,delete");
    rotated.env("WebhookKey", "k3y-2");
    finished(rotated).await.must_be(0).says("2 to change.").says("scope: from all images to shop:*");
    let properties = arm.state().webhooks["acrgwnortheurope"].properties.clone();
    assert_eq!(properties["customHeaders"], json!({ "x-functions-key": "k3y-2" }));
    assert_eq!((&properties["scope"], &properties["actions"]), (&json!("shop:*"), &json!(["delete", "push"])));
    // The key in the URL in place of the header.
    let url = "https://app.example/api/ImagePush?code=k3y-3";
    run(&arm, &format!("apply --yes --url {url}"))
        .await
        .must_be(0)
        .says("key (header x-functions-key): will be removed")
        .says("code=…");
    let properties = arm.state().webhooks["acrgwnortheurope"].properties.clone();
    assert_eq!(properties["serviceUri"], format!("{url}&region=northeurope"));
    assert_eq!(properties["customHeaders"], json!({}));
    run(&arm, &format!("plan --check --url {url}")).await.must_be(0);
    run(&arm, "plan --url https://app.example/api/ImagePush?code=k3y-4").await.must_be(0).says("key in the URL");
    // From a file, and none at all.
    std::fs::write(arm.folder().join("key"), format!("{KEY}\n")).unwrap();
    run(&arm, &format!("apply --yes --key @{}", arm.folder().join("key").display())).await.must_be(0);
    all_is_good(&arm, &BOTH).await;
    run(&arm, "apply --yes --no-key").await.must_be(0).says("key (header x-functions-key): will be removed");
}

#[tokio::test]
async fn a_new_replica_is_waited_for() {
    let arm = applied().await;
    arm.state().replicate("eastus");
    (arm.state().replicas[1].looks, arm.state().replicas[1].status) = (3, "Syncing");
    // Complete for the replicas, and still unknown to the webhooks.
    arm.state().unknown = 1;
    run(&arm, "plan")
        .await
        .must_be(0)
        .says("eastus (still being made)")
        .says("create, once the replica there is complete");
    let ran =
        run(&arm, "apply --yes").await.must_be(0).says("The replica in eastus is still being made: waiting for it.");
    ran.says("The registry does not know eastus yet: waiting.").says("eastus: acrgweastus created.");
    all_is_good(&arm, &["westeurope", "northeurope", "eastus"]).await;
}

#[tokio::test]
async fn a_replica_that_does_not_work_gets_no_webhook_and_loses_none() {
    let arm = Arm::start().await;
    for (state, status) in [("Failed", ""), ("Canceled", ""), ("Succeeded", "Offline")] {
        (arm.state().replicas[0].state, arm.state().replicas[0].status) = (state, status);
        let ran = run(&arm, "plan --check").await.must_be(3).says("northeurope (failed or offline)");
        ran.says("NOT POSSIBLE until the replica there works");
        run(&arm, "apply --prune --yes").await.must_be(1).says("its replica failed or is offline");
        assert_eq!(arm.state().webhooks.keys().collect::<Vec<_>>(), ["acrgwwesteurope"]);
    }
    (arm.state().replicas[0].state, arm.state().replicas[0].status) = ("Succeeded", "Ready");
    run(&arm, "apply --yes").await.must_be(0).says("northeurope: acrgwnortheurope created.");
    arm.state().replicas[0].state = "Failed";
    run(&arm, "apply --prune --yes").await.must_be(0).says("northeurope (failed or offline)").says("Nothing to do.");
    let json = run(&arm, "plan --json").await.must_be(0).json();
    assert_eq!(json["regions"][1], json!({ "region": "northeurope", "state": "broken" }));
    assert_eq!(arm.state().webhooks.len(), 2);
    // It fails while it is waited for.
    arm.state().webhooks.remove("acrgwnortheurope");
    arm.state().replicas[0].looks = 2;
    run(&arm, "apply --yes").await.must_be(1).says("The replica in northeurope failed or is offline");
}

#[tokio::test]
async fn orphans_are_shown_and_deleted_only_when_asked() {
    let arm = applied().await;
    arm.state().replicas.clear();
    run(&arm, "apply --yes").await.must_be(0).says("an orphan").says("(--prune deletes it)").says("Nothing to do.");
    assert_eq!(run(&arm, "plan --json").await.must_be(0).json()["counts"], json!({ "orphan": 1, "unchanged": 1 }));
    run(&arm, "plan --prune --check").await.must_be(3).says("delete: the registry has no replica there");
    run(&arm, "apply --prune --yes").await.must_be(0).says("northeurope: acrgwnortheurope deleted.");
    assert_eq!(arm.state().webhooks.len(), 1);
    all_is_good(&arm, &["westeurope"]).await;
}

#[tokio::test]
async fn a_webhook_in_the_wrong_region_is_replaced_and_keeps_its_tags() {
    let arm = applied().await;
    for (slow, tag) in [(0, "7"), (2, "8")] {
        arm.state().slow = slow;
        let webhook = |change: &dyn Fn(&mut Webhook)| change(arm.state().webhooks.get_mut("acrgwnortheurope").unwrap());
        webhook(&|webhook| webhook.location = "westeurope".into());
        webhook(&|webhook| webhook.tags["cost"] = json!(tag));
        run(&arm, "plan").await.must_be(0).says("replace: it is in westeurope, which cannot be changed");
        run(&arm, "apply --yes").await.must_be(0).says("northeurope: acrgwnortheurope replaced.");
        assert_eq!(arm.state().webhooks["acrgwnortheurope"].tags["cost"], tag);
        all_is_good(&arm, &BOTH).await;
    }
}

#[tokio::test]
async fn what_takes_long_is_waited_for_wherever_it_moves() {
    let arm = Arm::start().await;
    arm.state().slow = 3;
    run(&arm, "apply --yes").await.must_be(0).says("2 to create.");
    assert!(arm.state().count("GET", "/operationStatuses/") >= 6);
    arm.state().webhooks.get_mut("acrgwwesteurope").unwrap().properties["status"] = json!("disabled");
    run(&arm, "apply --yes").await.must_be(0).says("1 to change.");
    all_is_good(&arm, &BOTH).await;
    run(&arm, "remove --yes").await.must_be(0).says("2 to delete.");
    assert!(arm.state().webhooks.is_empty());
    run(&arm, "remove --yes").await.must_be(0).says("Nothing to do.");
}

#[tokio::test]
async fn a_command_that_was_killed_is_run_again() {
    let arm = Arm::start().await;
    arm.state().hangs = Some("northeurope");
    let mut child = command(&arm, "apply --yes").spawn().unwrap();
    eventually("the second webhook is being made", LIMIT, async || arm.state().webhooks.len() == 2).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(arm.state().webhooks["acrgwnortheurope"].state, "Creating");
    arm.state().hangs = None;
    let busy = "Azure is still at work on the webhook acrgwnortheurope: waiting.";
    run(&arm, "apply --yes").await.must_be(0).says(busy).says("Nothing to do.");
    all_is_good(&arm, &BOTH).await;
    // Between deleting and making anew.
    arm.state().webhooks.get_mut("acrgwnortheurope").unwrap().location = "westeurope".into();
    arm.state().faults.push(crate::arm_troubles::fault("PUT", "acrgwnortheurope", 1, 400, json!({ "code": "Sorry" })));
    run(&arm, "apply --yes").await.must_be(1).says("Sorry");
    run(&arm, "apply --yes").await.must_be(0).says("1 to create.");
    all_is_good(&arm, &BOTH).await;
}

#[tokio::test]
async fn registries_without_replicas_have_one_region() {
    for sku in ["Basic", "Standard"] {
        let arm = Arm::start().await;
        arm.state().sku = sku;
        arm.state().replicas.clear();
        run(&arm, "apply --yes")
            .await
            .must_be(0)
            .says(&format!("Registry contoso ({sku}, "))
            .says("It has one region: westeurope.");
        assert_eq!(arm.state().count("GET", "/replications"), 0);
        all_is_good(&arm, &["westeurope"]).await;
    }
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let arm = Arm::start().await;
    let theirs = "https://theirs.example/x";
    arm.state().add("acrgwNorthEurope", "northeurope", json!({ "managed-by": "terraform" }), theirs);
    arm.state().add(
        "x\u{1b}[2J\u{202e}\nacrgwfake",
        "westeurope",
        json!({ "managed-by": "acr-global-webhook/fake" }),
        theirs,
    );
    run(&arm, "plan --check").await.must_be(3).says("NOT POSSIBLE").says("of another service");
    run(&arm, "plan --json").await.must_be(0);
    let ran = run(&arm, "apply --yes").await.must_be(1).says("Nothing was done: a name that is wanted is taken.");
    assert!(!ran.out.contains("\nacrgwfake"), "{}", ran.out);
    run(&arm, "apply --yes --prefix staging").await.must_be(0).says("2 to create.");
    run(&arm, "apply --yes --prefix stag").await.must_be(0).says("2 to create.");
    run(&arm, "remove --yes").await.must_be(0).says("Nothing to do.");
    assert_eq!(arm.state().webhooks.len(), 6);
    // Only what sends there.
    run(&arm, "remove --yes --prefix stag --url https://elsewhere.example/api/ImagePush")
        .await
        .must_be(0)
        .says("Nothing to do.");
    run(&arm, &format!("remove --yes --prefix stag --url {URL}")).await.must_be(0).says("2 to delete.");
    assert!(arm.state().webhooks.keys().all(|name| !name.starts_with("stagw") && !name.starts_with("stagn")));
    assert_eq!(arm.state().webhooks["acrgwnortheurope"].properties["serviceUri"], theirs);
    assert_eq!(arm.state().webhooks.len(), 4);
}

#[tokio::test]
async fn a_prefix_too_long_for_a_region_is_refused() {
    let arm = Arm::start().await;
    arm.state().replicate(&"y".repeat(31));
    let prefix = "x".repeat(20);
    for command in ["plan", "apply --yes"] {
        run(&arm, &format!("{command} --prefix {prefix}")).await.must_be(2).says("--prefix: xxx").says("51 characters");
    }
    assert_eq!(arm.state().writes(), 0);
}

/// Prefix and region of two services make one name.
#[tokio::test]
async fn services_whose_names_meet_stay_apart() {
    let arm = Arm::start().await;
    arm.state().home = "centralus";
    arm.state().replicas[0].location = "northcentralus".into();
    run(&arm, "apply --yes --prefix acrgwnorth").await.must_be(0).says("2 to create.");
    let plan = run(&arm, "plan --check").await.must_be(3).says("not have the tag managed-by=acr-global-webhook/acrgw;");
    assert!(!plan.out.contains("replace"), "{}", plan.out);
    run(&arm, "apply --yes").await.must_be(1).says("a name that is wanted is taken");
    run(&arm, "remove --yes").await.must_be(0).says("of another service").says("Nothing to do.");
    assert_eq!(arm.state().webhooks.len(), 2);
    // Names have no case, and prefixes neither.
    run(&arm, "remove --yes --prefix AcrGwNorth").await.must_be(0).says("2 to delete.");
}

#[tokio::test]
async fn scripts_get_json() {
    let arm = Arm::start().await;
    let json = run(&arm, "plan --json").await.must_be(0).json();
    assert_eq!(json["changes"][0], json!({ "name": "acrgwwesteurope", "region": "westeurope", "action": "create" }));
    assert_eq!((&json["changed"], &json["counts"]), (&json!(true), &json!({ "create": 2 })));
    assert_eq!(json["registry"]["id"], id("contoso"));
    assert_eq!((&json["wanted"]["scope"], &json["wanted"]["actions"]), (&json!(""), &json!(["push"])));
    let ran = run(&arm, "apply --json --yes").await.must_be(0);
    assert_eq!(
        ran.json()["results"][1],
        json!({ "name": "acrgwnortheurope", "region": "northeurope", "action": "create", "done": true, "error": null })
    );
    assert_eq!(run(&arm, "apply --json --yes").await.must_be(0).json()["results"], json!([]));
    arm.state().webhooks.get_mut("acrgwnortheurope").unwrap().properties["customHeaders"] =
        json!({ "x-functions-key": "0ld-secret" });
    let json = run(&arm, "plan --json").await.must_be(0).json();
    let key = json!([{ "property": "header", "name": "x-functions-key", "secret": "changed" }]);
    assert_eq!(json["changes"][1]["differences"], key);
}

/// What the page shows is what is printed.
#[tokio::test]
async fn the_page_shows_what_is_printed() {
    let arm = applied().await;
    {
        let mut state = arm.state();
        state.replicas[0].name = "gone".into();
        state.replicas[0].location = "swedencentral".into();
        state.replicas[0].status = "Syncing";
        state.add("handmade", "westeurope", json!({}), "https://other.example/");
        let webhook = state.webhooks.get_mut("acrgwwesteurope").unwrap();
        webhook.properties["customHeaders"] = json!({ "x-functions-key": "0ld-secret" });
        webhook.properties["status"] = json!("disabled");
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/webhooks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown = run(&arm, "plan").await.must_be(0).out;
    assert!(page.contains(shown.trim_end()), "docs/webhooks.md does not show:\n{shown}");
    let json = run(&arm, "plan --json").await.must_be(0).json();
    let change = json["changes"][0].to_string();
    assert!(page.contains(&change), "docs/webhooks.md does not show:\n{change}");
}
