//! Settings that can never work, each with its number where it has one: what is said of them.
//!
//! Those that show inside of one module only stand there: B1 in `telemetry`, B2 to B4 and B6 to B9 in `config`, B5 in
//! `push/names`.

use std::fmt::Write as _;

use global_webhook::config::{self, Source};
use global_webhook::telemetry;
use reqwest::Client;

use crate::support::host::{Host, HostOptions, Serves};
use crate::support::service::{Image, Serve, json_of};
use crate::support::wire;

/// Settings beside regions that are in order, unless they are what is wrong. Whatever holds `s3cret` is secret.
const WRONG: [(&str, &[(&str, &str)]); 55] = [
    ("B1: a level of another program", &[("WebhookLog", "verbose")]),
    ("B1: a level in quotes", &[("WebhookLog", "\"info\"")]),
    ("B1: a comma too many", &[("WebhookLog", "info,")]),
    ("B2: a connection string in quotes", &[("AzureWebJobsStorage", "\"UseDevelopmentStorage=true\"")]),
    (
        "B3: a part beside the emulator",
        &[("AzureWebJobsStorage", "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://127.0.0.2:8888")],
    ),
    (
        "B3: a part that nobody reads",
        &[("AzureWebJobsStorage", "AccountName=contoso;AccountKey=czNjcmV0;TableSecondaryEndpoint=https://x.example")],
    ),
    ("B3: a misspelt part", &[("AzureWebJobsStorage", "AcountName=contoso;AccountKey=czNjcmV0")]),
    ("B3: nothing but a key", &[("AzureWebJobsStorage", "s3cret/s3cret==")]),
    (
        "B4: an identity by its resource",
        &[
            ("AzureWebJobsStorage__accountName", "contoso"),
            ("AzureWebJobsStorage__managedIdentityResourceId", "/subscriptions/s3cret"),
        ],
    ),
    ("B4: a misspelt name", &[("AzureWebJobsStorage__acountName", "contoso")]),
    (
        "B4: both forms",
        &[("AzureWebJobsStorage", "UseDevelopmentStorage=true"), ("AzureWebJobsStorage__accountName", "contoso")],
    ),
    ("B4: one underscore too few", &[("AzureWebJobsStorage_accountName", "contoso")]),
    ("B9: a misspelt name of an identity's", &[("AzureWebJobStorage__accountName", "contoso")]),
    ("B7: a token of a release", &[("WebhookTargetUrl", "https://a.example/#{HookS3cret}#")]),
    (
        "a member that stands twice",
        &[("WebhookTargets", r#"[{"name":"ops","url":"https://a.example","filter":{"tag":"v1"},"filter":{}}]"#)],
    ),
    ("B6: regions in quotes", &[("WebhookRegions", "\"westeurope,northeurope\"")]),
    ("B6: regions with semicolons", &[("WebhookRegions", "westeurope;northeurope")]),
    ("B6: regions with a blank between them", &[("WebhookRegions", "West Europe North Europe")]),
    ("B6: regions as the portal shows them", &[("WebhookRegions", "(Europe) West Europe")]),
    (
        "B7: a reference for a header",
        &[(
            "WebhookTargets",
            r#"[{"name":"ops","url":"https://a.example","headers":{"authorization":"@Microsoft.KeyVault(SecretUri=s3cret)"}}]"#,
        )],
    ),
    ("B7: a reference for the key", &[("WebhookKey", "@Microsoft.KeyVault(SecretUri=s3cret)")]),
    ("B7: a reference for a URL", &[("WebhookTargetUrl", "@Microsoft.AppConfiguration(Endpoint=s3cret)")]),
    ("B7: a variable of a pipeline", &[("WebhookTargetUrl", "https://a.example/$(HookS3cret)")]),
    (
        "B7: a setting by its name",
        &[("WebhookTargetSecret", "%HOOK_SECRET%"), ("WebhookTargetUrl", "https://a.example")],
    ),
    ("B8: two spellings", &[("WebhookTimeout", "0:2:0"), ("WebhookTimeOut", "0:5:0")]),
    ("B9: a misspelt name of what is required", &[("WebhookRegions", ""), ("WebhookRegion", "westeurope,northeurope")]),
    ("B9: a misspelt name", &[("WebhookTimout", "0:5:0")]),
    ("B9: nothing near it", &[("WebhookRegions", "")]),
    ("a time without its unit", &[("WebhookTimeout", "120s")]),
    ("a time that is too long", &[("WebhookTimeout", "9999")]),
    ("a time that is none", &[("WebhookTimeout", "00:90:00")]),
    ("a schedule of numbers", &[("WebhookRetrySchedule", "5,30,soon")]),
    ("a retention without its unit", &[("WebhookRetention", "30d")]),
    ("a retention that is no time", &[("WebhookRetention", "forever")]),
    ("a retention that is too short", &[("WebhookRetention", "0:30:00")]),
    ("a retention that is too long", &[("WebhookRetention", "4000")]),
    ("a retention below nothing", &[("WebhookRetention", "-1")]),
    ("a correlation that is none", &[("WebhookCorrelation", "digest")]),
    ("a registry by its URL", &[("WebhookRegistry", "https://contoso.azurecr.io/")]),
    ("a receiver without a scheme", &[("WebhookTargetUrl", "flux.example/hook/s3cret")]),
    ("a receiver in the clear", &[("WebhookTargetUrl", "http://flux.example/hook/s3cret")]),
    ("a format that is none", &[("WebhookTargetUrl", "https://a.example"), ("WebhookTargetFormat", "slak")]),
    ("a secret that is none", &[("WebhookTargetUrl", "https://a.example"), ("WebhookTargetSecret", "s3cret")]),
    ("a secret of nobody", &[("WebhookTargetSecret", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")]),
    ("one target that is no list", &[("WebhookTargets", r#"{"name":"ops","url":"https://s3cret.example"}"#)]),
    ("a member that is misspelt", &[("WebhookTargets", r#"[{"name":"ops","uri":"https://s3cret.example"}]"#)]),
    ("a repository that cannot be", &[("WebhookRules", r#"[{"repository":"Shop/**","ignore":true}]"#)]),
    (
        "a repository with its registry",
        &[("WebhookRules", r#"[{"repository":"contoso.azurecr.io/shop","ignore":true}]"#)],
    ),
    ("a tag that cannot be", &[("WebhookRules", r#"[{"tag":"{shop:v1,v*}","ignore":true}]"#)]),
    ("a rule behind one for all", &[("WebhookRules", r#"[{"timeout":"0:5"},{"tag":"v*","ignore":true}]"#)]),
    ("regions of a rule", &[("WebhookRules", r#"[{"tag":"v*","regions":"west-europe, east us west us"}]"#)]),
    ("a variable of a shell", &[("WebhookPublicUrl", "https://$WEBSITE_HOSTNAME")]),
    ("bytes that are no text", &[("WebhookKey", "s3cret\u{fffd}")]),
    ("a tag of untagged pushes", &[("WebhookRules", r#"[{"tag":"v*","tagged":false,"ignore":true}]"#)]),
    ("half an account", &[("AzureWebJobsStorage", "AccountName=Contoso;AccountKey=s3cret!;EndpointSuffix=https://x")]),
];

/// All that is said of settings.
fn said(settings: &[(&str, &str)]) -> String {
    let regions = Some(&("WebhookRegions", "westeurope,northeurope"));
    let regions = regions.filter(|_| !settings.iter().any(|(name, _)| *name == "WebhookRegions"));
    let all = settings.iter().chain(regions).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let source = Source::new(all);
    let log = source.get("WebhookLog").and_then(|wanted| telemetry::filter(wanted).err());
    let faults = config::load(&source).err().unwrap_or_default();
    log.into_iter().chain(faults.iter().map(ToString::to_string)).map(|line| format!("  {line}\n")).collect()
}

#[test]
fn what_is_said_of_settings_that_can_never_work() {
    let mut all = String::new();
    for (what, settings) in WRONG {
        let said = said(settings);
        assert!(!said.is_empty(), "{what} is taken");
        assert!(!said.to_lowercase().contains("s3cret") && !said.contains("czNjcmV0"), "{what}: {said}");
        let given: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        writeln!(all, "{what}\n  {}\n{said}", given.join("\n  ")).expect("room");
    }
    insta::assert_snapshot!(all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_b1_something_is_logged_whatever_the_level_is_called() {
    let output = async |level: &str| {
        let settings = [("WebhookRegions", "westeurope,elsewhere"), ("WebhookLog", level)];
        Serve::start(&settings, &[]).await.output()
    };
    let (effective, doubtful) = ("settings in effect", "`elsewhere` is no region");
    for level in ["Information", "verbose", "\"info\"", "info,"] {
        let text = output(level).await;
        assert!(text.contains(effective) && text.contains(doubtful), "{level}: {text}");
        assert_eq!(text.contains("is no log level"), level != "Information", "{level}: {text}");
    }
    let text = output("Warning").await;
    assert!(!text.contains(effective) && text.contains(doubtful), "{text}");
    assert_eq!(output("None").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_b5_a_region_is_the_same_however_it_is_written() {
    let serve = Serve::start(&[("WebhookRegions", "westeurope, North Europe")], &[]).await;
    let image = Image::new("shop", "v1");
    for (region, outcome) in [("West%20Europe", None), ("NORTHEUROPE", Some("replicated"))] {
        let url = format!("{}/api/ImagePush?region={region}", serve.base_url());
        let answer = Client::new().post(url).body(image.notification()).send().await.expect("an answer");
        assert_eq!(answer.status(), 202, "{region}");
        let status = json_of(answer).await["statusQueryGetUri"].as_str().expect("a link").to_owned();
        let status = json_of(reqwest::get(status).await.expect("an answer")).await;
        assert_eq!(status["customStatus"]["outcome"].as_str(), outcome, "{region}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_b10_another_route_prefix_is_named() {
    // What a path is is answered before the settings count, so that no storage is needed.
    let host = Host::start(HostOptions::spawned(&[]).only(Serves::Http)).await;
    let agent = "Azure-Functions-Host/4.1037.0.0";
    for (line, agent, code) in [
        ("POST /ImagePush?region=westeurope", &*format!("AzureContainerRegistry/1.0 {agent}"), "route_prefix"),
        ("POST /ImagePush", &*format!("AzureContainerRegistry/1.0 {agent}"), "route_prefix"),
        ("POST /imagepush/?region=westeurope", agent, "route_prefix"),
        ("GET /ImagePush", agent, "route_prefix"),
        ("GET /hooks/v1/ImagePush", agent, "route_prefix"),
        ("GET /pushes/1/terminate", agent, "route_prefix"),
        ("POST /ImagePush", agent, "not_forwarded"),
        ("POST /Pushes", agent, "not_forwarded"),
        ("GET /elsewhere", agent, "not_found"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\nContent-Length: 0\r\n\r\n");
        let answer = wire::send(request.as_bytes(), host.handler_port()).await;
        let body = answer.json();
        assert_eq!((answer.status, body["error"]["code"].as_str()), (404, Some(code)), "{line}: {body}");
        let message = body["error"]["message"].as_str().expect("a message");
        assert_eq!(message.contains("extensions.http.routePrefix"), code == "route_prefix", "{line}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handler_says_all_at_once_that_settings_and_storage_lack() {
    let host = Host::start(HostOptions::spawned(&[("WebhookTimeout", "soon")]).only(Serves::Http)).await;
    let answer = reqwest::get(format!("{}/api/ImagePush", host.base_url())).await.expect("an answer");
    let text = answer.text().await.expect("a text");
    for part in ["WebhookRegions: is missing", "WebhookTimeout", "AzureWebJobsStorage: is missing"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
