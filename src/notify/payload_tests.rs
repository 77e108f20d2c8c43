//! Bodies as snapshots, and what holds for each of them. Rows are made by `step`, as the service makes them.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use cloudevents::AttributesReader;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{self, Source};
use crate::push::{Answer, Arrival, Change, Decision, Input, Phase, step};

/// Odd spacing, long fractions, big numbers, members nobody knows: all of it must come out as it went in.
const PAYLOAD: &str = r#"{ "id":"5f0c2a4e-93d1-4c55-8f0e-0d6a1b7c2e31","timestamp":"2026-11-22T10:00:00.123456789Z","action" : "push",
 "target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1571,"length":12345678901234567890.50,
  "digest":"sha256:3b1c0f6f8f2f4b0c9d7e5a6b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f","repository":"shop/cart","tag":"1.4.2","new":[1E2,{}]},
 "request":{"id":"0c8b6a52","host" :"Contoso.westus.geo.azurecr.io:443","method":"PUT","useragent":"docker\/27.3.1"}, "zz\u00e9":null }"#;

fn at(seconds: u64) -> Instant {
    crate::clock::after(
        DateTime::parse_from_rfc3339("2026-11-22T10:00:00Z").unwrap().to_utc(),
        Duration::from_millis(seconds * 1000 + 250),
    )
}

fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

/// A push that came to this, from the webhooks and the deadline that lead there. `eastasia` reported the same image an hour before.
fn row(notice: Notice) -> Row {
    let settings = [("WebhookRegions", "northeurope,westus,eastasia"), ("WebhookTimeout", "PT2M")];
    let policy = config::load(&Source::new(settings)).unwrap().policy;
    let arrival = |name: &str, seconds| {
        let arrival = Arrival::read(region(name), at(seconds), PAYLOAD.into(), None).unwrap();
        (Input::Arrival { arrival: Arc::new(arrival), spilled: false, earlier: false }, at(seconds))
    };
    let mut inputs = vec![arrival("westus", 0)];
    match notice {
        Notice::Replicated => inputs.extend([arrival("northeurope", 5), arrival("eastasia", 7)]),
        Notice::TimedOut | Notice::Superseded => inputs.push((Input::Timer, at(120))),
        Notice::Recovered => {
            inputs.extend([(Input::Timer, at(120)), arrival("northeurope", 3600), arrival("eastasia", 7384)]);
        }
    }
    let answer = Answer { moved: (notice == Notice::Superseded).then(|| at(60)), pending: false };
    let row = inputs.iter().fold(None, |row: Option<Row>, (input, now)| {
        let Decision::Step(step) = step(row.as_ref(), input, *now, &policy, Some(answer)) else { panic!("asks twice") };
        if let Change::Put(next) = step.change { Some(next) } else { row }
    });
    Row { before: [(region("eastasia"), at(0) - Duration::from_secs(3600))].into(), ..row.unwrap() }
}

const NOTICES: [Notice; 4] = [Notice::Replicated, Notice::TimedOut, Notice::Recovered, Notice::Superseded];

/// Every notice of every format that has words for it.
fn told() -> impl Iterator<Item = (Format, Notice)> {
    let all = Format::ALL.into_iter().flat_map(|format| NOTICES.map(|notice| (format, notice)));
    all.filter(|(format, notice)| format.tells(*notice))
}

#[test]
fn every_format_says_every_notice_that_it_has_words_for() {
    for (format, notice) in told() {
        let message = message(format, &row(notice), notice, Some("https://hooks.example")).unwrap();
        // The registry's own text is shown as it is, the others laid out.
        let body = if format == Format::Acr {
            message.body
        } else {
            let value: Value = serde_json::from_str(&message.body).unwrap();
            serde_json::to_string_pretty(&value).unwrap()
        };
        let text = format!("content-type: {}\nuser-agent: {}\n\n{body}", message.content_type, message.user_agent);
        let text = text.replace(env!("CARGO_PKG_VERSION"), "<version>");
        insta::assert_snapshot!(format!("{}_{}", format.word(), notice.word()), text);
    }
}

#[test]
fn the_registrys_own_text_changes_by_its_host_only() {
    for notice in [Notice::Replicated, Notice::Recovered] {
        let relayed = message(Format::Acr, &row(notice), notice, None).unwrap().body;
        assert_eq!(relayed, PAYLOAD.replace("Contoso.westus.geo.azurecr.io:443", "contoso.azurecr.io"));
    }
    let mut unnamed = row(Notice::Replicated);
    unnamed.subject.registry = String::new();
    assert_eq!(message(Format::Acr, &unnamed, Notice::Replicated, None).unwrap().body, PAYLOAD);
    unnamed.payload = format!("\u{feff}{PAYLOAD}");
    assert_eq!(message(Format::Acr, &unnamed, Notice::Replicated, None).unwrap().body, PAYLOAD);
}

#[test]
fn the_registrys_format_has_no_words_for_what_is_no_success() {
    for notice in [Notice::TimedOut, Notice::Superseded] {
        let problem = message(Format::Acr, &row(notice), notice, None).unwrap_err();
        assert_eq!(problem, format!("the format `acr` has no words for `{}`", notice.word()));
    }
}

#[test]
fn a_retry_after_more_arrivals_says_the_same() {
    for (format, _) in told().filter(|(_, notice)| *notice == Notice::TimedOut) {
        let told = |row: &Row| message(format, row, Notice::TimedOut, None).unwrap();
        assert_eq!(told(&row(Notice::TimedOut)), told(&row(Notice::Recovered)), "{format:?}");
    }
}

#[test]
fn what_counts_as_known_is_not_missing_but_named() {
    for notice in [Notice::Replicated, Notice::Recovered] {
        let mut row = row(notice);
        row.arrived.remove(&region("eastasia"));
        let told: Value = serde_json::from_str(&message(Format::Standard, &row, notice, None).unwrap().body).unwrap();
        assert_eq!(told["data"]["missing"], serde_json::json!([]));
        assert_eq!(told["data"]["reportedBefore"], serde_json::json!({ "eastasia": "2026-11-22T09:00:00.250Z" }));
    }
}

#[test]
fn the_official_sdk_reads_the_cloud_events() {
    for notice in NOTICES {
        let row = row(notice);
        let body = message(Format::CloudEvents, &row, notice, None).unwrap().body;
        let event: cloudevents::Event = serde_json::from_str(&body).unwrap();
        assert_eq!(event.id(), row.notification_id(notice));
        let (kind, at) = match notice {
            Notice::Replicated => ("image", at(7)),
            Notice::TimedOut | Notice::Superseded => ("replication", at(120)),
            Notice::Recovered => ("image", at(7384)),
        };
        assert_eq!(event.ty(), format!("io.azurecr.{kind}.{}", notice.word()));
        assert_eq!(event.source(), "https://contoso.azurecr.io");
        assert_eq!(event.subject(), Some("shop/cart:1.4.2"));
        assert_eq!(event.time(), Some(&at));
        assert!(matches!(event.data(), Some(cloudevents::Data::Json(_))));
    }
}

#[test]
fn what_github_takes_is_kept_within() {
    let regions: Vec<Region> = (0..limits::REGIONS_MAX).map(|n| region(&format!("{n:0>64}"))).collect();
    for notice in NOTICES {
        let mut row = row(notice);
        let seen = row.arrived[&region("westus")].clone();
        row.arrived = regions.iter().step_by(2).map(|region| (region.clone(), seen.clone())).collect();
        row.before = regions.iter().map(|region| (region.clone(), at(0))).collect();
        row.regions.clone_from(&regions);
        (row.subject.repository, row.subject.tag) = ("r".repeat(255), Some("t".repeat(128)));
        let body = message(Format::Github, &row, notice, Some("https://hooks.example")).unwrap().body;
        assert!(body.len() < limits::GITHUB_BYTES_MAX / 3, "{}", body.len());
        // Nobody's names are like that, but they are taken.
        row.subject.repository = "\u{1}".repeat(limits::MEMBER_BYTES_MAX);
        row.subject.digest.clone_from(&row.subject.repository);
        row.subject.tag = Some(row.subject.repository.clone());
        (row.subject.action, row.subject.registry) = (row.subject.repository.clone(), row.subject.repository.clone());
        let problem = message(Format::Github, &row, notice, None).unwrap_err();
        assert!(problem.ends_with("bytes, and GitHub takes 65535"), "{problem}");
    }
}

#[test]
fn other_actions_and_untagged_manifests_have_their_own_words() {
    let mut row = row(Notice::Replicated);
    row.subject.registry = String::new();
    row.subject.tag = None;
    for (action, kind) in [
        ("push", "image"),
        ("delete", "deletion"),
        ("quarantine", "quarantine"),
        ("chart_push", "chart"),
        ("chart_delete", "chart_deletion"),
        ("novelty", "other"),
    ] {
        row.subject.action = action.into();
        let body = |format| message(format, &row, Notice::Replicated, None).unwrap().body;
        let standard: Value = serde_json::from_str(&body(Format::Standard)).unwrap();
        assert_eq!(standard["type"], format!("acr.{kind}.replicated"));
        assert!(standard["data"].get("registry").is_none() && standard["data"].get("statusUrl").is_none());
        let event: cloudevents::Event = serde_json::from_str(&body(Format::CloudEvents)).unwrap();
        assert_eq!(event.source(), "urn:acr-global-webhook");
        assert!(event.subject().unwrap().starts_with("shop/cart@sha256:"));
    }
    row.subject.action = "delete".into();
    row.regions.truncate(2);
    let slack = message(Format::Slack, &row, Notice::Replicated, None).unwrap().body;
    assert!(slack.contains("shop/cart@sha256:3b1c0f6f8f2f is deleted in both regions"), "{slack}");
}

#[test]
fn case_c8_what_was_pushed_is_one_line_and_no_markup() {
    let (mut plain, mut odd) = (row(Notice::TimedOut), row(Notice::TimedOut));
    let text =
        "\n*b* _i_ `c` ~s~ [x](http://evil.example) <!channel> &amp; :tada: \u{1b}[31m\r\u{2028}\u{202e}".to_owned();
    (odd.subject.registry, odd.subject.repository) = (text.clone(), text.clone());
    (odd.subject.tag, odd.subject.digest) = (Some(text.clone()), text);
    plain.subject.tag = Some("v1".into());
    let lines = |row: &Row| {
        let body: Value =
            serde_json::from_str(&message(Format::Slack, row, Notice::TimedOut, None).unwrap().body).unwrap();
        body["text"].as_str().unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&odd).len(), lines(&plain).len(), "{:?}", lines(&odd));
    let teams = message(Format::Teams, &odd, Notice::TimedOut, None).unwrap().body;
    let teams: Value = serde_json::from_str(&teams).unwrap();
    let card = &teams["attachments"][0]["content"]["body"];
    let facts = card[1]["facts"].as_array().unwrap().iter().map(|fact| fact["value"].as_str().unwrap().to_owned());
    let shown = lines(&odd).into_iter().chain(facts).chain([card[0]["text"].as_str().unwrap().to_owned()]);
    for line in shown {
        // The symbol at the beginning of Slack's is ours.
        let line = line.trim_start_matches(":warning:");
        assert!(
            !line.contains(['*', '_', '`', '~', '[', ']', '<', '>', '&', '\u{1b}', '\r', '\n', '\u{2028}', '\u{202e}']),
            "{line}"
        );
        assert!(!line.contains("://") && !line.contains(":tada:"), "{line}");
    }
}

#[test]
fn a_row_that_cannot_be_told_of_is_an_error() {
    let mut waiting = row(Notice::Replicated);
    waiting.phase = Phase::Waiting { held: None };
    assert!(message(Format::Acr, &waiting, Notice::Replicated, None).is_err());
    for payload in ["", "[]", "s3cret"] {
        let row = Row { payload: payload.into(), ..row(Notice::Replicated) };
        let problem = message(Format::Acr, &row, Notice::Replicated, None).unwrap_err();
        assert!(!problem.contains("s3cret"));
    }
}

proptest! {
    #[test]
    fn any_object_is_relayed_as_it_is(names in proptest::collection::vec("[^\\x00-\\x1f\"\\\\]{0,8}", 0..6), space in "[ \n\t]{0,3}", text in "\\PC{0,12}") {
        let quoted = serde_json::to_string(&text).unwrap();
        let members: Vec<String> = names.iter().map(|n| format!("{space}\"x{n}\"{space}:{quoted}")).collect();
        let payload = format!("{{{}{space}}}", members.join(","));
        let row = Row { payload: payload.clone(), ..row(Notice::Replicated) };
        prop_assert_eq!(message(Format::Acr, &row, Notice::Recovered, None).unwrap().body, payload);
    }
}
