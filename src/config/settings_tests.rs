//! Settings as a whole: faults are reported together, names have no case, nothing secret shows.

use std::time::Duration;

use super::*;

fn source(pairs: &[(&str, &str)]) -> Source {
    Source::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
}

#[test]
fn regions_alone_are_enough() {
    let settings = load(&source(&[("webhookREGIONS", " NorthEurope, westus ,,northeurope")])).expect("usable");
    assert_eq!(settings.described.regions, ["northeurope", "westus"]);
    assert_eq!(settings.policy.timeout, Duration::from_secs(120));
    assert_eq!(settings.policy.schedule.len(), 9);
    assert_eq!(settings.policy.correlation, Correlation::Content);
    assert!(settings.account.is_none() && settings.targets.is_empty() && settings.warnings.is_empty());
}

#[test]
fn both_spellings_of_the_timeout_count() {
    for name in ["WebhookTimeout", "WebhookTimeOut", "WEBHOOKTIMEOUT"] {
        let settings = load(&source(&[("WebhookRegions", "a"), (name, "PT1M20S")])).expect("usable");
        assert_eq!(settings.policy.timeout, Duration::from_secs(80));
    }
}

#[test]
fn all_faults_are_reported_at_once_and_without_secrets() {
    let faults = load(&source(&[
        ("WebhookRegions", "a\u{7},"),
        ("WebhookTimeout", "0:0:0"),
        ("WebhookCorrelation", "digest"),
        ("WebhookTargetUrl", "http://example.org/x?token=s3cret"),
        ("WebhookTargetSecret", "s3cret"),
        ("WebhookTargets", r#"[{"name":"a","url":"https://u:s3cret@x/","format":"xml"}]"#),
        ("WebhookRules", r#"[{"repository":"x","typo":1}]"#),
        ("WebhookRetrySchedule", "5"),
        ("WebhookPublicUrl", "ftp://x"),
        ("AzureWebJobsStorage", "AccountName=x;AccountKey=s3cret"),
    ]))
    .expect_err("faults");
    let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(!text.contains("s3cret"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_missing_region_list_is_named() {
    let faults = load(&source(&[])).expect_err("a fault");
    assert_eq!(faults.len(), 1);
    assert!(faults[0].to_string().starts_with("WebhookRegions: is missing"), "{}", faults[0]);
}

#[test]
fn doubtful_settings_are_warned_about() {
    let settings = load(&source(&[("WebhookRegions", "a"), ("WebhookTimeout", "24:00:00"), ("WebhookTimout", "1")]))
        .expect("usable");
    assert_eq!(settings.described.timeout, "24 days");
    assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
    assert!(settings.warnings.iter().any(|w| w.contains("24 days")));
    assert!(settings.warnings.iter().any(|w| w.contains("webhooktimout")));
}

#[test]
fn the_example_file_is_usable_and_complete() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct File {
        values: BTreeMap<String, String>,
    }
    let file: File = serde_json::from_str(include_str!("../../local.settings.json.example")).expect("JSON");
    // The keys belong to `serve`; the second spelling of the time-out would only repeat the first.
    let expected = KNOWN.iter().filter(|name| !["WebhookKey", "WebhookOperatorKey", "WebhookTimeOut"].contains(name));
    for name in expected {
        assert!(file.values.contains_key(*name), "{name} is missing from local.settings.json.example");
    }
    let settings = load(&Source::new(file.values)).expect("usable");
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    assert!(settings.account.is_some());
}

#[test]
fn every_setting_is_in_the_readme() {
    let readme = include_str!("../../README.md");
    for name in KNOWN {
        assert!(readme.contains(&format!("`{name}`")), "{name} is missing from README.md");
    }
}
