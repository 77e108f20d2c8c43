//! What can be held against the templates in `infra/` without the compiler of their language: names, settings, roles, log lines,
//! and what the parts expect of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use global_webhook::config::{self, Source};
use global_webhook::http;
use global_webhook::store::azure::{Names, QUEUE};
use serde_json::Value;

const MAIN: &str = include_str!("../../infra/main.bicep");
const STORAGE: &str = include_str!("../../infra/storage.bicep");
const MONITORING: &str = include_str!("../../infra/monitoring.bicep");
const APP: &str = include_str!("../../infra/app.bicep");
const ALERTS: &str = include_str!("../../infra/alerts.bicep");
const WEBHOOKS: &str = include_str!("../../infra/webhooks.bicep");
const FILES: [(&str, &str); 6] = [
    ("main.bicep", MAIN),
    ("storage.bicep", STORAGE),
    ("monitoring.bicep", MONITORING),
    ("app.bicep", APP),
    ("alerts.bicep", ALERTS),
    ("webhooks.bicep", WEBHOOKS),
];

/// Types and versions that the compiler of the language is known to accept.
const TYPES: [(&str, &str); 18] = [
    ("Microsoft.Authorization/roleAssignments", "2022-04-01"),
    ("Microsoft.ContainerRegistry/registries", "2023-07-01"),
    ("Microsoft.ContainerRegistry/registries/webhooks", "2023-07-01"),
    ("Microsoft.Insights/actionGroups", "2023-01-01"),
    ("Microsoft.Insights/components", "2020-02-02"),
    ("Microsoft.Insights/scheduledQueryRules", "2022-06-15"),
    ("Microsoft.ManagedIdentity/userAssignedIdentities", "2023-01-31"),
    ("Microsoft.OperationalInsights/workspaces", "2023-09-01"),
    ("Microsoft.Storage/storageAccounts", "2024-01-01"),
    ("Microsoft.Storage/storageAccounts/blobServices", "2024-01-01"),
    ("Microsoft.Storage/storageAccounts/blobServices/containers", "2024-01-01"),
    ("Microsoft.Storage/storageAccounts/queueServices", "2024-01-01"),
    ("Microsoft.Storage/storageAccounts/queueServices/queues", "2024-01-01"),
    ("Microsoft.Storage/storageAccounts/tableServices", "2024-01-01"),
    ("Microsoft.Web/serverfarms", "2024-04-01"),
    ("Microsoft.Web/sites", "2024-04-01"),
    ("Microsoft.Web/sites/basicPublishingCredentialsPolicies", "2024-04-01"),
    ("Microsoft.Web/sites/functions", "2024-04-01"),
];

/// The lines of a file that declare something, with the decorators before each.
fn declared<'t>(text: &'t str, what: &str) -> Vec<(&'t str, Vec<&'t str>)> {
    let mut decorators = Vec::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('@') {
            decorators.push(line);
        } else {
            if let Some(rest) = line.strip_prefix(what).and_then(|rest| rest.strip_prefix(' ')) {
                found.push((rest, decorators.clone()));
            }
            decorators.clear();
        }
    }
    found
}

/// A file's parameters, and whether each must be given.
fn parameters(text: &str) -> BTreeMap<&str, bool> {
    declared(text, "param").into_iter().map(|(line, _)| (word(line), !line.contains(" = "))).collect()
}

fn word(line: &str) -> &str {
    line.split([' ', '(']).next().unwrap_or_default()
}

/// The texts between single quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('\'').skip(1).step_by(2)
}

/// A file without its comments, and without quotes inside of texts.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{}\n", line.replace("\\'", ""))).collect()
}

#[test]
fn every_parameter_and_output_is_described_and_no_output_is_secret() {
    for (file, text) in FILES {
        for what in ["param", "output"] {
            for (line, decorators) in declared(text, what) {
                assert!(decorators.iter().any(|d| d.starts_with("@description('")), "{file}: {what} {line}");
            }
        }
        let secure: Vec<&str> = declared(text, "param")
            .into_iter()
            .filter(|(_, decorators)| decorators.contains(&"@secure()"))
            .map(|(line, _)| word(line))
            .collect();
        for (line, _) in declared(text, "output") {
            let lower = line.to_lowercase();
            for secret in ["listkeys", "key", "secret", "password", "sas"] {
                assert!(!lower.contains(secret), "{file}: output {line}");
            }
            assert!(!secure.iter().any(|name| line.contains(name)), "{file}: output {line}");
        }
    }
}

#[test]
fn resources_are_of_known_types_and_versions() {
    for (file, text) in FILES {
        for (line, _) in declared(text, "resource") {
            let of = quoted(line).next().and_then(|of| of.split_once('@')).expect("type@version");
            assert!(TYPES.contains(&of), "{file}: {of:?}");
        }
    }
}

#[test]
fn modules_get_exactly_what_they_take() {
    for (line, _) in declared(MAIN, "module") {
        let file = quoted(line).next().expect("a file");
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("no {file}"));
        let block =
            MAIN.split(&format!("module {line}")).nth(1).and_then(|rest| rest.split("\n}").next()).expect("a block");
        let given: BTreeSet<&str> = block
            .split("params: {")
            .nth(1)
            .expect("params")
            .lines()
            .filter(|line| line.starts_with("    ") && !line.starts_with("     ") && line.contains(':'))
            .filter_map(|line| line.trim().split(':').next())
            .collect();
        let taken = parameters(text);
        assert!(given.iter().all(|name| taken.contains_key(name)), "{file}: {given:?}");
        assert!(taken.iter().all(|(name, must)| !must || given.contains(name)), "{file}: {given:?}");
        // What a module says is asked for by the name it says it under.
        let alias = word(line);
        let said: Vec<&str> = declared(text, "output").into_iter().map(|(line, _)| word(line)).collect();
        for asked in MAIN.split(&format!("{alias}.outputs.")).skip(1) {
            let name: &str = asked.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            assert!(said.contains(&name), "{file} does not say {name}");
        }
    }
    let file: Value = serde_json::from_str(include_str!("../../infra/main.parameters.json")).expect("JSON");
    let given: Vec<&String> = file["parameters"].as_object().expect("parameters").keys().collect();
    let taken = parameters(MAIN);
    assert!(given.iter().all(|name| taken.contains_key(name.as_str())), "{given:?}");
    assert!(taken.iter().all(|(name, must)| !must || given.iter().any(|given| given == name)), "{given:?}");
}

#[test]
fn roles_are_the_least_that_do() {
    let expected = BTreeSet::from([
        "974c5e8b-45b9-4653-ba55-5f855dd0fb88", // Storage Queue Data Contributor
        "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3", // Storage Table Data Contributor
        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b", // Storage Blob Data Owner
        "3913510d-42f4-4e42-8a64-420c390055eb", // Monitoring Metrics Publisher
    ]);
    let id = |text: &&str| text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let all: Vec<String> = FILES.iter().map(|(_, text)| code(text)).collect();
    let found: BTreeSet<&str> = all.iter().flat_map(|text| quoted(text)).filter(id).collect();
    assert_eq!(found, expected);
    for ((file, _), text) in FILES.iter().zip(&all) {
        assert!(!text.contains("'*'") && !text.contains("roleDefinitions@"), "{file}");
        let assigned = text.matches("/roleAssignments@").count();
        // Each on one resource, never on the group or the subscription.
        let scoped = text.matches("scope: account").count() + text.matches("scope: insights").count();
        assert_eq!(assigned, scoped, "{file}");
    }
    assert!(STORAGE.contains("allowSharedKeyAccess: false") && STORAGE.contains("allowBlobPublicAccess: false"));
}

#[test]
fn the_app_gets_settings_that_the_service_reads() {
    let platform = APP.split("var platform = {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("settings");
    let ours =
        MAIN.split("union({").nth(1).and_then(|rest| rest.split("}, furtherSettings)").next()).expect("settings");
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_owned());
    let names: Vec<String> = platform.lines().chain(ours.lines()).filter_map(name).collect();
    let value = |name: &String| match name.as_str() {
        "WebhookRegions" => "northeurope,westus".to_owned(),
        "WebhookTimeout" => declared(MAIN, "param")
            .iter()
            .find_map(|(line, _)| line.strip_prefix("webhookTimeout string = "))
            .and_then(|value| quoted(value).next().map(str::to_owned))
            .expect("a default"),
        "WebhookTargetUrl" | "WebhookTargets" => String::new(),
        "AzureWebJobsStorage__accountName" => "gwh0123456789abc".to_owned(),
        "AzureWebJobsStorage__credential" => "managedidentity".to_owned(),
        "AzureWebJobsStorage__clientId" => "11111111-2222-3333-4444-555555555555".to_owned(),
        other => {
            assert!(other.starts_with("APPLICATIONINSIGHTS_"), "{other}");
            "of the host".to_owned()
        }
    };
    // Azure itself sets these two once the app has an identity.
    let azure =
        ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"].map(|name| (name.to_owned(), "http://localhost:8081/".to_owned()));
    let source = Source::new(names.iter().map(|name| (name.clone(), value(name))).chain(azure));
    let settings = config::load(&source).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert!(settings.account.is_some() && settings.warnings.is_empty(), "{:?}", settings.warnings);
    let table = include_str!("../../docs/settings.md");
    for name in names.iter().filter(|name| name.starts_with("Webhook")) {
        assert!(table.contains(&format!("| `{name}`")), "docs/settings.md has no {name}");
    }
    // The plan refuses it.
    assert!(FILES.iter().all(|(_, text)| !code(text).contains("FUNCTIONS_WORKER_RUNTIME")));
}

#[test]
fn queue_and_path_are_those_of_the_functions() {
    let declared = format!("name: '{QUEUE}'");
    assert!(STORAGE.contains(&declared) && include_str!("../../TimeoutCheck/function.json").contains(QUEUE));
    assert!(ALERTS.contains(&format!("'{}'", Names::default().poison)));
    assert!(WEBHOOKS.contains(&format!("/{}/ImagePush?region=${{region}}'", http::PREFIX)));
    assert!(
        WEBHOOKS.contains("/functions/ImagePush'") && Path::new(env!("CARGO_MANIFEST_DIR")).join("ImagePush").is_dir()
    );
    assert!(WEBHOOKS.contains("location: region") && WEBHOOKS.contains("actions: ['push']"));
    // `webhooks plan` takes for its own what has this name and this tag.
    assert!(WEBHOOKS.contains("tags: { 'managed-by': 'acr-global-webhook/acrgw' }") && WEBHOOKS.contains("acrgw${"));
}

/// All source text of the service, with texts that go on in the next line put together.
fn service() -> String {
    let mut all = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                all += text.split("#[cfg(test)]").next().unwrap_or_default();
            }
        }
    }
    all
}

#[test]
fn alerts_look_for_lines_that_the_service_writes() {
    let service = service();
    let queries: Vec<&str> =
        ALERTS.split("query: '''").skip(1).map(|rest| rest.split("'''").next().expect("a query")).collect();
    assert_eq!(queries.len(), 5);
    for query in queries {
        assert!(query.trim().starts_with("AppTraces"), "{query}");
        let condition: Vec<&str> = query.lines().filter(|line| line.contains("where Message has")).collect();
        let texts: Vec<&str> = condition.iter().flat_map(|line| quoted(line)).collect();
        assert!(!texts.is_empty(), "{query}");
        for text in texts.into_iter().filter(|text| *text != Names::default().poison) {
            assert!(service.contains(text), "the service never says {text:?}");
        }
        // Members of a line, as `line.image` or `line['push.id']`.
        let plain = query.split("line.").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_alphabetic()).next());
        for member in plain.filter(|member| *member != "message") {
            let written =
                [format!(" {member},"), format!(" {member} ="), format!(" {member}\n"), format!(" {member})")];
            assert!(written.iter().any(|w| service.contains(w.as_str())), "no line has {member}");
        }
        if query.contains("line['push.id']") {
            assert!(service.contains("push.id = "));
        }
    }
}

#[test]
fn what_azd_runs_is_there_and_knows_its_variables() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let azd = include_str!("../../azure.yaml");
    let hooks: Vec<&str> = azd.lines().filter_map(|line| line.trim().strip_prefix("run: exec ")).collect();
    assert_eq!(hooks, ["scripts/package", "scripts/publish"]);
    for hook in hooks {
        let mode = std::os::unix::fs::PermissionsExt::mode(&folder.join(hook).metadata().expect(hook).permissions());
        assert_eq!(mode & 0o111, 0o111, "{hook} is not executable");
    }
    let publish = include_str!("../../scripts/publish");
    for output in ["AZURE_FUNCTION_APP_NAME", "AZURE_RESOURCE_GROUP"] {
        assert!(publish.contains(output) && MAIN.contains(&format!("output {output} string")));
    }
    let parameters = parameters(WEBHOOKS);
    for given in publish.split("\"").filter_map(|text| text.split_once("=$").map(|(name, _)| name)) {
        if given.chars().all(char::is_alphanumeric) {
            assert!(parameters.contains_key(given), "webhooks.bicep takes no {given}");
        }
    }
}
