//! Settings as a whole: faults are reported together, names have no case, nothing secret shows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

fn source(pairs: &[(&str, &str)]) -> Source {
    Source::new(pairs.iter().copied())
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
fn pushes_are_kept_for_thirty_days_or_as_long_as_the_setting_says() {
    let hours = |n: u64| Duration::from_secs(n * 3600);
    for (text, kept, words) in [
        ("", Some(hours(720)), "30 days"),
        ("0", None, "for ever"),
        ("0:0:0", None, "for ever"),
        ("P0D", None, "for ever"),
        ("1:0", Some(hours(1)), "1 h"),
        ("P7DT12H", Some(hours(180)), "7 days 12 h"),
        ("3660", Some(hours(87_840)), "3660 days"),
    ] {
        let settings = load(&source(&[("WebhookRegions", "a"), ("WebhookRetention", text)])).expect("usable");
        assert_eq!((settings.retention, settings.described.retention.as_str()), (kept, words), "{text}");
    }
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

/// The faults of `WebhookRegions` beside other settings.
fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
    let regions = ("WebhookRegions", "westeurope,northeurope");
    let faults = load(&source(&[&[regions], pairs].concat())).expect_err("faults");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn case_b7_what_was_not_filled_in_is_one_fault() {
    const STORAGE: (&str, &str) = ("AZUREWEBJOBSSTORAGE__ACCOUNTNAME", "contoso");
    const IDENTITY: [(&str, &str); 2] = [("IDENTITY_ENDPOINT", "http://127.0.0.1/"), ("IDENTITY_HEADER", "proof")];
    const REFERENCE: &str = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s3cret)";
    let target =
        format!(r#"[{{"name":"a","url":"https://a.example","headers":{{"authorization":"Bearer {REFERENCE}"}}}}]"#);
    let url = format!(r#"[{{"name":"a","url":"{REFERENCE}","secrets":["whsec_$(Token)"]}}]"#);
    for (pairs, places) in [
        (vec![("WebhookKey", REFERENCE)], vec!["WebhookKey"]),
        (vec![("WebhookTargetUrl", REFERENCE)], vec!["WebhookTargetUrl"]),
        (vec![("WebhookTargets", REFERENCE)], vec!["WebhookTargets"]),
        (vec![("WebhookTargets", &target)], vec!["WebhookTargets, target 1 `a`, `headers`, `authorization`"]),
        (
            vec![("WebhookTargets", &url)],
            vec!["WebhookTargets, target 1 `a`, `url`", "WebhookTargets, target 1 `a`, `secrets`"],
        ),
        (vec![("AzureWebJobsStorage", REFERENCE)], vec!["AzureWebJobsStorage"]),
        (
            vec![("AzureWebJobsStorage__clientId", "%CLIENT%"), STORAGE, IDENTITY[0], IDENTITY[1]],
            vec!["AzureWebJobsStorage__clientId"],
        ),
        (vec![("WebhookTimeout", "${TIMEOUT}")], vec!["WebhookTimeout"]),
        (vec![("WebhookTargetUrl", "https://a.example/$(s3cret)")], vec!["WebhookTargetUrl"]),
        (vec![("WebhookApp", "${{ github.repository }}")], vec!["WebhookApp"]),
    ] {
        let faults = faults(&pairs);
        let said: Vec<&str> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(said, places, "{faults:#?}");
        assert!(!faults.concat().contains("s3cret"), "{faults:#?}");
    }
    let pattern = r#"[{"tag":"v${a,b}","ignore":true}]"#;
    assert!(!faults(&[("WebhookRules", pattern)])[0].contains("filled in"));
}

#[test]
fn cases_b2_and_b6_quotes_are_named() {
    for (name, value) in [
        ("WebhookRegions", "\"westeurope,northeurope\""),
        ("AzureWebJobsStorage", "'UseDevelopmentStorage=true'"),
        ("AzureWebJobsStorage", "\"UseDevelopmentStorage=true\""),
        ("WebhookTargets", "'[]'"),
    ] {
        let mut given = source(&[("WebhookRegions", "westeurope")]);
        given.set(name, value.into());
        let faults = load(&given).expect_err("a fault");
        assert_eq!(faults, [Fault::hidden(name, "stands in quotes, which are taken for a part of it: take them off")]);
    }
    assert!(
        faults(&[("AzureWebJobsStorage", "'UseDevelopmentStorage=true")])[0].contains("write UseDevelopmentStorage")
    );
}

#[test]
fn case_b8_two_values_of_one_setting_are_a_fault() {
    for (one, other) in [("WebhookTimeout", "WebhookTimeOut"), ("webhooktimeout", "WEBHOOKTIMEOUT")] {
        assert_eq!(
            faults(&[(one, "0:1"), (other, "0:2")]),
            [format!("WebhookTimeout: is set more than once ({one}, {other}), to different values: leave one")]
        );
        assert_eq!(faults(&[("WebhookLog", "info"), ("WEBHOOKLOG", "debug")]).len(), 1);
        let same = load(&source(&[("WebhookRegions", "a"), (one, "PT9S"), (other, " PT9S"), ("webHOOKtimeout", "")]));
        assert_eq!(same.expect("usable").policy.timeout, Duration::from_secs(9));
    }
}

#[test]
fn case_b9_a_name_that_is_nearly_right_is_named() {
    for name in
        ["WebhookRegion", "WebHookRegons", "WEBHOOK_REGIONS", "WebhookRegoins", "webhook:regions", "WehbookRegions"]
    {
        let faults = load(&source(&[(name, "a,b")])).expect_err("a fault");
        assert_eq!(
            faults,
            [Fault::hidden("WebhookRegions", format!("is missing, but {name:?} is set: correct that name"))]
        );
    }
    assert_eq!(
        faults(&[("WebhookTimout", "1")]),
        ["WebhookTimeout: is missing, but \"WebhookTimout\" is set: correct that name"]
    );
    assert!(load(&source(&[("WebhookRegions", "a"), (&"WebhookLog".repeat(9_999), "x")])).is_ok());
    assert!(faults(&[("AzureWebJobStorage", "x")])[0].starts_with("AzureWebJobsStorage: is missing, but"));
    let none = load(&source(&[])).expect_err("a fault");
    assert_eq!(none.len(), 1);
    assert!(none[0].to_string().starts_with("WebhookRegions: is missing"), "{}", none[0]);
}

#[test]
fn doubtful_settings_are_warned_about() {
    let settings = load(&source(&[
        ("WebhookRegions", "westeurop,mars"),
        ("WebhookTimeout", "24:00:00"),
        ("WebhookRegion", "x"),
        ("WebhookColour", "red"),
        ("PATH", "/bin"),
    ]))
    .expect("usable");
    assert_eq!(settings.described.timeout, "24 days");
    insta::assert_snapshot!(settings.warnings.join("\n"));
}

#[test]
fn the_example_file_is_usable_and_complete() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct File {
        values: BTreeMap<String, String>,
    }
    let file: File = serde_json::from_str(include_str!("../../local.settings.json.example")).expect("JSON");
    // The keys belong to `serve`.
    let expected = KNOWN.iter().filter(|name| !["WebhookKey", "WebhookOperatorKey"].contains(name));
    for name in expected {
        assert!(file.values.contains_key(*name), "{name} is missing from local.settings.json.example");
    }
    let settings = load(&Source::new(file.values)).expect("usable");
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    assert!(settings.account.is_some());
}

/// The first table of docs/settings.md: the names of a row, and its default.
fn table() -> Vec<(Vec<&'static str>, &'static str)> {
    let rows = include_str!("../../docs/settings.md").lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    let cells = |row: &'static str| {
        let cells: Vec<_> = row.split(" | ").collect();
        let names = cells[0].split('`').skip(1).step_by(2).collect();
        (names, cells[cells.len() - 1].trim_end_matches(" |"))
    };
    rows.map(cells).collect()
}

#[test]
fn the_table_has_every_setting_and_no_other() {
    let there: BTreeSet<String> = table().iter().flat_map(|(names, _)| names).map(|name| name.to_lowercase()).collect();
    let expected = KNOWN.iter().chain(&["AzureWebJobsStorage"]).map(|name| name.to_lowercase()).collect();
    assert_eq!(there, expected);
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_program() {
    let with = |name, value| {
        let target = ("WebhookTargetUrl", "https://a.example/");
        load(&source(&[("WebhookRegions", "a"), target, (name, value)])).expect("usable")
    };
    let plain = with("", "");
    let schedule: Vec<_> = plain.policy.schedule.iter().copied().map(timespan::words).collect();
    let mut seen = BTreeSet::new();
    for (names, default) in table() {
        let name = names[0];
        let same = match default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
            Some(value) if !value.contains('$') => format!("{:?}", with(name, value)) == format!("{plain:?}"),
            _ if name == "WebhookRetrySchedule" => default == schedule.join(", "),
            _ if name == "WebhookRetention" => default == plain.described.retention,
            _ if name == "WebhookTargetUrl" => {
                default == "none, unsigned, `acr`" && plain.described.formats["default"] == "acr"
            }
            // Required, none, or of the place that it runs in.
            _ => continue,
        };
        assert!(same, "{name} is not {default} where it is not set");
        seen.insert(name);
    }
    assert!(seen.len() >= 8, "{seen:?}");
}
