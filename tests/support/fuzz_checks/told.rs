//! What goes out, rendered from any row.

use std::collections::BTreeSet;

use global_webhook::clock::Instant;
use global_webhook::notify::payload::Format;
use global_webhook::push::arrival::{self, Webhook};
use global_webhook::push::{Notice, Phase, Region, Row, Seen, Subject};
use reqwest::header::HeaderValue;
use serde_json::Value;
use serde_json::value::RawValue;

use super::members::{Member, members};
use super::samples::{FORMATS, NOTICES, message, timed_out};
use super::stored::survives;

/// A settled push is told of in every format. Input: a line of `registry|repository|tag|digest|action|regions|numbers`, then
/// the registry's text. An empty tag is none; the numbers are the milliseconds of opening, deadline, settling and arrivals, how
/// many regions arrived in time, and whether an operator ended the wait (1), or the others came late (-1).
pub fn payload(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let Some(case) = Case::read(&text) else { return false };
    let (row, later) = (case.row(false), case.row(true));
    survives(&row);
    let ours = match arrival::parse(case.payload.as_bytes()) {
        Ok(Webhook::FanIn { subject, .. }) => [String::new(), subject.registry].contains(&row.subject.registry),
        Ok(Webhook::Ping | Webhook::Unknown) | Err(_) => false,
    };
    // A retry after the missing regions have come says the same.
    for (format, notice) in FORMATS.iter().flat_map(|f| NOTICES.map(|n| (*f, n))) {
        if notice != Notice::Recovered && format.tells(notice) {
            assert_eq!(message(format, &row, notice, None), message(format, &later, notice, None));
        }
    }
    told(if case.numbers[5] < 0 { &later } else { &row }, ours);
    true
}

struct Case<'a> {
    subject: Subject,
    regions: Vec<Region>,
    numbers: [i64; 6],
    payload: &'a str,
}

impl<'a> Case<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (head, payload) = text.split_once('\n')?;
        let parts: Vec<&str> = head.split('|').collect();
        let &[registry, repository, tag, digest, action, regions, numbers] = parts.as_slice() else { return None };
        let subject = Subject {
            registry: registry.into(),
            repository: repository.into(),
            tag: Some(tag.to_owned()).filter(|tag| !tag.is_empty()),
            digest: digest.into(),
            action: action.into(),
        };
        let regions: Vec<Region> = regions.split(',').map(Region::parse).collect::<Result<_, _>>().ok()?;
        let distinct = regions.iter().collect::<BTreeSet<_>>().len() == regions.len();
        let numbers: Vec<i64> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        let numbers: [i64; 6] = numbers.try_into().ok()?;
        let dated = numbers[..4].iter().all(|millis| Instant::from_timestamp_millis(*millis).is_some());
        (distinct && dated).then_some(Self { subject, regions, numbers, payload })
    }

    fn at(&self, number: usize) -> Instant {
        Instant::from_timestamp_millis(self.numbers[number]).expect("an instant")
    }

    /// The push as it was when it settled, or after all others have come.
    fn row(&self, later: bool) -> Row {
        let mut row = timed_out("1", self.subject.clone(), self.payload.to_owned());
        let seen = Seen { at: self.at(3), id: String::new(), by_hand: false, repeats: 0, repeated: None };
        let split = usize::try_from(self.numbers[4].max(0)).map_or(self.regions.len(), |n| n.min(self.regions.len()));
        let arrived = if later { &*self.regions } else { &self.regions[..split] };
        row.arrived = arrived.iter().map(|region| (region.clone(), seen.clone())).collect();
        (row.opened, row.deadline) = (self.at(0), self.at(1));
        row.regions.clone_from(&self.regions);
        let Phase::Settled(settled) = &mut row.phase else { panic!("it timed out") };
        settled.at = self.at(2);
        settled.missing = self.regions[split..].to_vec();
        settled.terminated = self.numbers[5] > 0;
        settled.recovered = later.then(|| self.at(3));
        row
    }
}

/// Renders every format and notice of `row`. `ours` says that this service itself would have stored the row, so that each
/// must succeed.
pub(super) fn told(row: &Row, ours: bool) {
    let url = row.payload.len().is_multiple_of(2).then_some("https://hooks.example");
    for (format, notice) in FORMATS.iter().flat_map(|f| NOTICES.map(|n| (*f, n))) {
        let message = match message(format, row, notice, url) {
            Ok(message) => message,
            Err(why) => {
                let long = format == Format::Github && why.contains("GitHub takes 65535");
                let fits = row.settled().is_none() || !format.tells(notice) || (!ours && format == Format::Acr) || long;
                assert!(fits && why.len() <= 200, "{} {notice:?}: {why}", format.word());
                continue;
            }
        };
        assert!(HeaderValue::from_str(message.content_type).is_ok());
        if format == Format::Acr {
            relayed(row, &message.body);
            continue;
        }
        let body: Value = serde_json::from_str(&message.body).expect("JSON");
        match format {
            Format::Standard | Format::CloudEvents => {
                let kind = body["type"].as_str().expect("a type");
                assert!(kind.starts_with("acr.") || kind.starts_with("io.azurecr."), "{kind}");
                data(row, notice, &body["data"], kind.trim_start_matches("acr.").trim_start_matches("io.azurecr."));
            }
            Format::Github => {
                assert!(message.body.len() <= 65_535, "{}", message.body.len());
                let (kind, payload) = (body["event_type"].as_str().expect("a type"), &body["client_payload"]);
                assert!(kind.len() <= 100 && payload.as_object().expect("a payload").len() <= 10, "{kind}");
                assert_eq!(payload["id"], row.notification_id(notice));
                data(row, notice, &payload["data"], kind);
            }
            Format::Slack => {
                let text = body["text"].as_str().expect("a text");
                let (symbol, text) = text.split_once(' ').expect("a symbol");
                assert!(symbol.starts_with(':') && symbol.ends_with(':'), "{symbol}");
                let (text, link) = text.split_once("\n<").unwrap_or((text, ""));
                assert_eq!(link.is_empty(), url.is_none(), "{text}");
                let before = row.before.len();
                let missing = usize::from(text.contains("\nMissing: "));
                assert_eq!(text.lines().count(), 5 + before + missing, "{text}");
                text.lines().for_each(unmarked);
            }
            Format::Teams => {
                let content = &body["attachments"][0]["content"];
                let facts = content["body"][1]["facts"].as_array().expect("facts");
                for text in facts.iter().map(|fact| &fact["value"]).chain([&content["body"][0]["text"]]) {
                    unmarked(text.as_str().expect("a text"));
                }
            }
            Format::Acr => {}
        }
    }
}

/// Nothing in it means anything to a reader of markup.
fn unmarked(text: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || " .,-/:@+;_\u{fffd}".contains(c);
    assert!(text.chars().all(plain) && !text.contains("://"), "{text:?}");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    assert!(words.into_iter().all(|word| word.trim_matches('_') == word), "{text:?}");
}

/// What the formats for programs say.
fn data(row: &Row, notice: Notice, data: &Value, kind: &str) {
    assert_eq!(data["outcome"], notice.word());
    assert_eq!(data["repository"], row.subject.repository);
    let count = |name: &str| data[name].as_array().map(Vec::len).expect("a list");
    assert_eq!(count("regions"), row.regions.len());
    assert!(notice != Notice::Replicated || count("missing") == 0, "{data}");
    let arrivals = data["arrivals"].as_object().expect("arrivals");
    let both = data["missing"].as_array().into_iter().flatten();
    assert!(both.into_iter().all(|region| !arrivals.contains_key(region.as_str().expect("a name"))), "{data}");
    assert!(kind.ends_with(notice.word()), "{kind}");
    let everywhere = matches!(notice, Notice::Replicated | Notice::Recovered);
    assert_eq!(kind.starts_with("image"), everywhere && row.subject.action == "push", "{kind}");
}

/// The registry's own text: every member stands as it stood, byte for byte, but for `request.host`.
fn relayed(row: &Row, body: &str) {
    let _: &RawValue = serde_json::from_str(body).expect("JSON");
    let given = row.payload.trim_start_matches('\u{feff}');
    let registry = &row.subject.registry;
    let (before, after) = (members(given), members(body));
    assert_eq!(before.len(), after.len(), "{given} became {body}");
    for (i, (old, new)) in before.iter().zip(&after).enumerate() {
        assert_eq!(given[old.gap.clone()], body[new.gap.clone()], "before member {i}: {given} became {body}");
        let (old_value, new_value) = (&given[old.value.clone()], &body[new.value.clone()]);
        if old.name == "request" && !registry.is_empty() && old_value.starts_with('{') {
            hosted(registry, old_value, new_value);
        } else {
            assert_eq!(old_value, new_value, "{given} became {body}");
        }
    }
    let tail = |text: &str, all: &[Member]| text[all.last().map_or(0, |m| m.value.end)..].to_owned();
    assert_eq!(tail(given, &before), tail(body, &after));
}

/// The same object but for its `host`s, which name the registry.
fn hosted(registry: &str, given: &str, told: &str) {
    let (before, after) = (members(given), members(told));
    assert_eq!(before.len(), after.len(), "{given} became {told}");
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(given[old.gap.clone()], told[new.gap.clone()], "{given} became {told}");
        let value = &told[new.value.clone()];
        if old.name == "host" {
            assert_eq!(serde_json::from_str::<String>(value).expect("a text"), registry);
        } else {
            assert_eq!(&given[old.value.clone()], value, "{given} became {told}");
        }
    }
}
