//! What must hold for any bytes that come in from outside: one function for each fuzz target. The targets in `fuzz/` and
//! the ordinary test over the committed seeds (`tests/it/seeds.rs`) run these same functions, so a finding, kept as a seed,
//! stays found on the stable toolchain too.
//!
//! Each function takes the raw input and panics when a promise is broken. Inputs with several parts are text in lines, so
//! that seeds can be read and written by hand.
#![allow(dead_code, reason = "each fuzz target uses one function of this file")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use global_webhook::clock::Instant;
use global_webhook::config::storage::{Account, Credential};
use global_webhook::config::targets::{self, TargetSettings};
use global_webhook::config::{self, Fault, Settings, Source, timespan};
use global_webhook::http::{envelope as host, query as queries};
use global_webhook::limits;
use global_webhook::notify::{guard, payload as bodies, reply as answers};
use global_webhook::push::arrival::{self, Correlation, Notification, login_server};
use global_webhook::push::policy::{Filter, Policy, Rule, Target, Verdict};
use global_webhook::push::state::{Arrived, Notice, Outcome, Phase, Row, Settled};
use global_webhook::push::{
    Arrival, AttemptResult, Input, Key, PushId, Region, Subject, backoff, record as rows, step,
};
use global_webhook::timers::Message;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde_json::Value;
use serde_json::value::RawValue;

/// Takes an input, panics when it breaks a promise.
pub type Check = fn(&[u8]);

/// Every target by its name; `fuzz/seeds/<name>` holds its seeds.
pub const TARGETS: [(&str, Check); 12] = [
    ("notification", notification),
    ("envelope", envelope),
    ("timer", timer),
    ("timespan", timespan),
    ("settings", settings),
    ("targets", targets),
    ("storage", storage),
    ("query", query),
    ("names", names),
    ("record", record),
    ("payload", payload),
    ("reply", reply),
];

/// Stands for a secret. Long and odd, so that no input contains it by chance; base64, so that it can be part of a key.
const MARK: &str = "m4rkerOfAS3cretQzX";

const FORMATS: [&str; 5] = ["acr", "standard", "cloudevents", "slack", "teams"];
const NOTICES: [Notice; 3] = [Notice::Replicated, Notice::TimedOut, Notice::Recovered];
const ACTIONS: [&str; 5] = ["push", "delete", "quarantine", "chart_push", "chart_delete"];

/// A webhook body is read or refused; what is read obeys the limits and can be told of; a refusal repeats nothing of it.
pub fn notification(data: &[u8]) {
    match arrival::parse(data) {
        Ok(Notification::Ping | Notification::Unknown) => {}
        Ok(Notification::FanIn { id, subject }) => {
            assert!((1..=limits::ID_BYTES_MAX).contains(&id.len()), "id of {} bytes", id.len());
            let Subject { registry, repository, tag, digest, action } = &subject;
            for (name, text) in [("repository", Some(repository)), ("tag", tag.as_ref()), ("digest", Some(digest))] {
                let length = text.map_or(1, String::len);
                assert!((1..=limits::MEMBER_BYTES_MAX).contains(&length), "{name} of {length} bytes");
            }
            assert!(registry.len() <= limits::MEMBER_BYTES_MAX, "registry of {} bytes", registry.len());
            assert!(ACTIONS.contains(&action.as_str()), "{action}");
            let payload = String::from_utf8(data.to_vec()).expect("a notification is UTF-8");
            let mut row = settled_row(subject, payload);
            row.arrived.values_mut().for_each(|arrived| arrived.id.clone_from(&id));
            survives(&row);
            told(&row, true);
        }
        Err(fault) => quiet_fault(&fault),
    }
    // A refusal of the same body with a secret somewhere in it.
    for place in [data.len() / 4, data.len() / 2, data.len() - data.len() / 5] {
        let marked = [&data[..place], MARK.as_bytes(), &data[place..]].concat();
        if let Err(fault) = arrival::parse(&marked) {
            quiet_fault(&fault);
        }
    }
}

fn quiet_fault(fault: &arrival::Fault) {
    assert!(!format!("{fault:?}").contains(MARK), "{fault:?}");
    assert!(fault.message.len() <= 400 && !fault.message.chars().any(char::is_control), "{fault:?}");
}

/// The host's envelope is read or refused; both encodings of a text give the text.
pub fn envelope(data: &[u8]) {
    match host::read(data) {
        Ok(invocation) => {
            let _ = Message::parse(&invocation.text);
        }
        Err(why) => assert!(why.len() <= 200 && !why.chars().any(char::is_control), "{why}"),
    }
    let text = String::from_utf8_lossy(data).into_owned();
    let quoted = Value::from(text.as_str()).to_string();
    let twice = serde_json::json!({ "Data": { "message": quoted }, "Metadata": { "Id": quoted } }).to_string();
    let read = host::read(twice.as_bytes()).expect("an envelope");
    assert_eq!(read.text, text);
    assert_eq!(read.message_id, Some(text.clone()).filter(|id| !id.is_empty()));
    let marked = [&data[..data.len() / 2], MARK.as_bytes(), &data[data.len() / 2..]].concat();
    if let Err(why) = host::read(&marked) {
        assert!(!why.contains(MARK), "{why}");
    }
}

/// A queued text is one of ours or not; ours survives being written again, and an arrival in it can be applied and stored.
pub fn timer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some(message) = Message::parse(&text) else { return };
    let written = message.text();
    assert_eq!(Message::parse(&written), Some(message.clone()), "{written}");
    let revived = message.clone().revived();
    assert_eq!(Message::parse(&revived.text()), Some(revived));
    if let Message::Spill(arrival) = message {
        for regions in [vec![arrival.region.clone()], vec![arrival.region.clone(), region("elsewhere")]] {
            let policy = Policy { regions, ..policy() };
            for now in [arrival.received, Instant::UNIX_EPOCH] {
                let step = step(None, &Input::Arrival(&arrival), now, &policy);
                let row = step.next.expect("a first arrival opens a push");
                survives(&row);
                told(&row, false);
            }
        }
    }
}

/// A length of time is read or refused; what is read is read again from the way .NET and ISO 8601 write it.
pub fn timespan(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let ticks = timespan::ticks(&text);
    if let Ok(ticks) = ticks {
        let magnitude = ticks.unsigned_abs();
        let (seconds, fraction) = (magnitude / 10_000_000, magnitude % 10_000_000);
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let sign = if ticks < 0 { "-" } else { "" };
        let written = format!("{sign}{days}.{hours:02}:{minutes:02}:{:02}.{fraction:07}", seconds % 60);
        assert_eq!(timespan::ticks(&written), Ok(ticks), "{text:?} as {written}");
    }
    match timespan::parse(&text) {
        Ok(length) => {
            let written = format!("PT{}.{:09}S", length.as_secs(), length.subsec_nanos());
            assert_eq!(timespan::parse(&written), Ok(length), "{text:?} as {written}");
            let words = timespan::words(length);
            assert!(!words.is_empty() && words.is_ascii(), "{words}");
            if let Ok(ticks) = ticks {
                assert_eq!(u128::try_from(ticks).map(|t| t * 100), Ok(length.as_nanos()), "{text:?}");
            }
        }
        Err(why) => assert!(why.len() <= 200 && ticks.is_ok_and(|t| t < 0) != ticks.is_err(), "{text:?}: {why}"),
    }
}

/// Names that settings are made of; a line may name one by its first letter, which is cheap to find.
const NAMES: [&str; 23] = [
    "WebhookRegions",
    "WebhookTimeout",
    "WebhookCorrelation",
    "WebhookTargetUrl",
    "WebhookTargetSecret",
    "WebhookTargetFormat",
    "WebhookTargets",
    "WebhookRules",
    "WebhookRetrySchedule",
    "WebhookPublicUrl",
    "WebhookAllowPrivateTargets",
    "WebhookKey",
    "WebhookLog",
    "WEBSITE_HOSTNAME",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "AzureWebJobsStorage",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__tableServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "WebhookMisspelt",
];

/// Lines `name=value`; a line without a name gets one by its first byte.
fn pairs(text: &str) -> BTreeMap<&str, String> {
    let mut pairs = BTreeMap::new();
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        let (name, value) = match NAMES.iter().find_map(|n| Some((*n, line.strip_prefix(n)?.strip_prefix('=')?))) {
            Some(pair) => pair,
            None => {
                let first = line.chars().next().unwrap_or_default();
                (NAMES[first as usize % NAMES.len()], &line[first.len_utf8()..])
            }
        };
        pairs.insert(name, value.to_owned());
    }
    pairs
}

fn source(pairs: &BTreeMap<&str, String>) -> Source {
    Source::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))
}

/// Settings are taken or refused as a whole; what is taken keeps every bound; nothing secret shows in either case.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut pairs = pairs(&text);
    load(&pairs);
    pairs.entry("WebhookRegions").or_insert_with(|| "a,b".to_owned());
    load(&pairs);
    loads_in_secret(pairs);
}

/// Targets and rules in JSON, beside settings that are in order.
pub fn targets(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for name in ["WebhookTargets", "WebhookRules"] {
        let pairs: BTreeMap<_, _> = [("WebhookRegions", "a,b".to_owned()), (name, text.clone().into_owned())].into();
        load(&pairs);
        loads_in_secret(pairs);
    }
}

/// Forms of `AzureWebJobsStorage`: one text, or lines of the identity form.
pub fn storage(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut pairs = if text.starts_with("AzureWebJobsStorage__") {
        pairs(&text)
    } else {
        [("AzureWebJobsStorage", text.clone().into_owned())].into()
    };
    pairs.insert("WebhookRegions", "a,b".to_owned());
    load(&pairs);
    pairs.insert("IDENTITY_ENDPOINT", "http://127.0.0.1:42356/msi/token".to_owned());
    pairs.insert("IDENTITY_HEADER", MARK.to_owned());
    load(&pairs);
    loads_in_secret(pairs);
}

fn load(pairs: &BTreeMap<&str, String>) {
    match config::load(&source(pairs)) {
        Ok(settings) => taken(&settings),
        Err(faults) => {
            assert!(!faults.is_empty());
            for Fault { setting, problem, .. } in &faults {
                assert!(!setting.is_empty() && !problem.is_empty() && !problem.contains('\n'), "{setting}: {problem}");
            }
        }
    }
}

fn taken(settings: &Settings) {
    let Settings { policy, targets, public_url, account, described, .. } = settings;
    regions_in_order(&policy.regions);
    let times = limits::TIMEOUT_MIN..=limits::TIMEOUT_MAX;
    assert!(times.contains(&policy.timeout), "{:?}", policy.timeout);
    assert!(policy.schedule.len() <= limits::RETRY_WAITS_MAX);
    assert!(policy.schedule.iter().all(|w| (Duration::from_secs(1)..=limits::RETRY_WAIT_MAX).contains(w)));
    assert!(policy.rules.len() <= limits::RULES_MAX && targets.len() <= limits::TARGETS_MAX);
    for Rule { name, filter, verdict } in &policy.rules {
        assert!((1..=limits::NAME_BYTES_MAX).contains(&name.len()), "{name}");
        filtered(filter);
        if let Verdict::FanIn { regions, timeout } = verdict {
            assert!(timeout.is_none_or(|t| times.contains(&t)), "{timeout:?}");
            if let Some(regions) = regions {
                regions_in_order(regions);
            }
        }
    }
    let names: BTreeSet<&str> = targets.iter().map(|t| t.policy.name.as_str()).collect();
    assert_eq!(names.len(), targets.len(), "names are distinct");
    for target in targets {
        target_taken(target);
    }
    if let Some(url) = public_url {
        let read = Url::parse(url).expect("a URL");
        assert!(matches!(read.scheme(), "http" | "https") && read.host().is_some(), "{url}");
        assert!(!url.ends_with('/') && read.query().is_none() && read.fragment().is_none(), "{url}");
        assert!(read.username().is_empty() && read.password().is_none(), "{url}");
        assert!(!url.chars().any(|c| c.is_control() || c.is_whitespace()), "{url}");
    }
    if let Some(account) = account {
        account_taken(account);
    }
    assert!(described.health(true, false).is_object());
}

fn regions_in_order(regions: &[Region]) {
    assert!((1..=limits::REGIONS_MAX).contains(&regions.len()), "{} regions", regions.len());
    let distinct: BTreeSet<_> = regions.iter().collect();
    assert_eq!(distinct.len(), regions.len(), "regions are distinct");
}

fn target_taken(target: &TargetSettings) {
    let Target { name, notices, filter } = &target.policy;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    assert!((1..=limits::NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain), "{name}");
    assert!(!notices.is_empty() && notices.iter().collect::<BTreeSet<_>>().len() == notices.len(), "{notices:?}");
    filtered(filter);
    let url = &target.url;
    assert!(url.host().is_some() && url.as_str().len() <= 3 * limits::URL_BYTES_MAX + 64, "{url}");
    let open = url.scheme() == "http" && (target.allow_http || guard::is_loopback(url));
    assert!(url.scheme() == "https" || open, "{url}");
    let refused = guard::literal(url).and_then(|ip| guard::refusal(ip, target.allow_private));
    assert_eq!(refused, None, "{url}");
    assert!(target.secrets.len() <= 2 && target.headers.len() <= limits::TARGET_HEADERS_MAX);
    for (name, value) in &target.headers {
        assert!(value.is_sensitive() && value.len() <= limits::TARGET_HEADER_BYTES_MAX, "{name}");
        assert!(!["host", "content-length", "transfer-encoding", "webhook-id"].contains(&name.as_str()), "{name}");
    }
    for secret in &target.secrets {
        assert!(secret.sign("i", 1, b"").starts_with("v1,"));
    }
}

/// A pattern that was taken can be matched with anything, its own text included, in bounded time.
fn filtered(filter: &Filter) {
    let pattern = |p: &Option<String>| p.clone().unwrap_or_else(|| "team/web-shop".to_owned());
    assert!(pattern(&filter.repository).len() <= limits::PATTERN_BYTES_MAX);
    for text in [pattern(&filter.repository), pattern(&filter.tag), "a".repeat(limits::MEMBER_BYTES_MAX)] {
        let mut subject = subject();
        subject.tag = Some(text.clone());
        subject.repository = text;
        let _ = filter.matches(&subject);
    }
}

fn account_taken(account: &Account) {
    let name = &account.name;
    assert!(!name.is_empty() && !name.chars().any(|c| c.is_control() || c.is_whitespace()), "{name:?}");
    for endpoint in [&account.tables, &account.queues] {
        let url = Url::parse(endpoint).expect("a URL");
        assert!(matches!(url.scheme(), "http" | "https") && url.host().is_some(), "{endpoint}");
        assert!(url.query().is_none() && url.fragment().is_none() && url.username().is_empty(), "{endpoint}");
        assert!(!endpoint.ends_with('/') && !endpoint.chars().any(char::is_control), "{endpoint}");
        if let Credential::Identity(_) = account.credential {
            assert!(url.scheme() == "https" || guard::is_loopback(&url), "a token in the clear to {endpoint}");
        }
    }
}

/// The same settings with a secret wherever one may stand: neither a fault nor anything shown has it.
fn loads_in_secret(mut pairs: BTreeMap<&str, String>) {
    // The host of a URL and all names are shown, and both are folded; such an input proves nothing.
    let folded = MARK.to_lowercase();
    if pairs.iter().any(|(name, value)| *name != "IDENTITY_HEADER" && value.to_lowercase().contains(&folded)) {
        return;
    }
    for (name, value) in &mut pairs {
        match *name {
            "WebhookTargetUrl" | "WebhookPublicUrl" => *value = secret_url(value),
            "WebhookTargets" => *value = secret_targets(value),
            "WebhookTargetSecret" => *value = value.split(',').map(secret).collect::<Vec<_>>().join(","),
            "WebhookKey" | "IDENTITY_HEADER" => MARK.clone_into(value),
            "AzureWebJobsStorage" => *value = value.split(';').map(secret_part).collect::<Vec<_>>().join(";"),
            _ => {}
        }
    }
    let shown = match config::load(&source(&pairs)) {
        Ok(settings) => {
            // A path of the service's own address is nothing secret; everything else that is shown is looked at.
            let settings = Settings { public_url: None, ..settings };
            let targets: Vec<String> = settings.targets.iter().map(ToString::to_string).collect();
            let health = settings.described.health(true, true);
            format!("{settings:?} {targets:?} {health} {:?}", settings.account.as_ref().map(ToString::to_string))
        }
        Err(faults) => {
            format!("{faults:?} {}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    };
    assert!(!shown.to_lowercase().contains(&folded), "{shown}");
}

fn secret(text: &str) -> String {
    format!("{text}{MARK}")
}

/// A connection string's part with a secret in it, where that is a key or a token, or no part at all.
fn secret_part(part: &str) -> String {
    let key = part.split_once('=').map(|(key, _)| key.trim().to_lowercase());
    match key.as_deref() {
        Some("accountkey" | "sharedaccesssignature") => secret(part),
        None if !part.trim().is_empty() => secret(part),
        Some(_) | None => part.to_owned(),
    }
}

/// The URL with a secret in its path, query and user; as it was where the host would be changed by that.
fn secret_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text.trim()) else { return text.to_owned() };
    if url.host().is_none() {
        return text.to_owned();
    }
    let path = secret(url.path());
    url.set_path(&path);
    if text.len().is_multiple_of(2) {
        url.set_query(Some(MARK));
    }
    if text.len().is_multiple_of(3) {
        // Refused for schemes that cannot have one.
        let _ = url.set_password(Some(MARK));
    }
    url.to_string()
}

/// The JSON of targets with a secret in every member that may hold one; text that is no such JSON is all secret.
fn secret_targets(text: &str) -> String {
    fn mark(value: &mut Value) {
        match value {
            Value::String(text) => text.push_str(MARK),
            Value::Array(all) => all.iter_mut().for_each(mark),
            Value::Object(members) => members.values_mut().for_each(mark),
            Value::Null | Value::Bool(_) | Value::Number(_) => *value = Value::from(MARK),
        }
    }
    let Ok(Value::Array(mut all)) = serde_json::from_str(text) else {
        return if serde_json::from_str::<Value>(text).is_ok() { text.to_owned() } else { secret(text) };
    };
    for target in all.iter_mut().filter_map(Value::as_object_mut) {
        for name in ["secret", "secrets", "headers"] {
            if let Some(value) = target.get_mut(name) {
                mark(value);
            }
        }
        if let Some(url) = target.get_mut("url") {
            *url = url.as_str().map(secret_url).unwrap_or_default().into();
        }
    }
    Value::from(all).to_string()
}

/// A query names one region or not; what it names does not depend on how it is written.
pub fn query(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match queries::region(&text) {
        Ok(region) => {
            in_order(&region);
            let encoded: String = form_urlencoded::byte_serialize(region.as_str().as_bytes()).collect();
            for same in [
                format!("{text}&{text}"),
                format!("{text}&code=k"),
                format!("REGION={encoded}"),
                format!("region=+{encoded}%20&region={encoded},{encoded}"),
            ] {
                assert_eq!(queries::region(&same), Ok(region.clone()), "{text:?} as {same:?}");
            }
            let other = format!("{text}&region={encoded}x");
            assert_eq!(queries::region(&other), Err(queries::NoRegion::Ambiguous), "{other:?}");
        }
        Err(queries::NoRegion::Invalid(why)) => assert!(why.len() <= 200 && !why.contains(MARK), "{why}"),
        Err(queries::NoRegion::Missing | queries::NoRegion::Ambiguous) => {}
    }
    let marked = format!("region={MARK}%01{text}");
    assert!(!format!("{:?}", queries::region(&marked)).to_lowercase().contains(&MARK.to_lowercase()), "{marked:?}");
    for name in ["code", "limit", "cursor", "target"] {
        for value in queries::values(&text, name) {
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            assert_eq!(queries::values(&format!("{name}={encoded}"), name), [value]);
        }
    }
}

/// Names of regions, pushes and registries have one spelling each.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Region::parse(&text) {
        Ok(region) => in_order(&region),
        Err(why) => assert!(why.len() <= 100, "{why}"),
    }
    match text.parse::<PushId>() {
        Ok(id) => assert_eq!(id.to_string(), text),
        Err(why) => assert!(why.len() <= 100, "{why}"),
    }
    let registry = login_server(&text);
    assert_eq!(registry, registry.to_lowercase(), "{text:?}");
    let parts: Vec<&str> = text.split('\n').collect();
    let id = PushId { key: Key::of(&parts), round: u32::try_from(data.len()).unwrap_or(0) + 1 };
    assert_eq!(id.to_string().parse(), Ok(id));
}

fn in_order(region: &Region) {
    let name = region.as_str();
    assert!((1..=limits::REGION_BYTES_MAX).contains(&name.len()), "{name:?}");
    assert!(!name.chars().any(|c| c.is_control() || c == ','), "{name:?}");
    assert_eq!(Region::parse(name).as_ref(), Ok(region), "{name:?}");
    assert_eq!(Region::parse(&format!(" {}\t", name)).as_ref(), Ok(region), "{name:?}");
}

/// A stored text is a row or not; a row survives being written again and can be told of.
pub fn record(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(row) = rows::decode(&text) {
        survives(&row);
        told(&row, false);
        let _ = (row.wake(), row.ids_matched(), row.missing_at_settling());
    }
}

fn survives(row: &Row) {
    let text = rows::encode(row);
    assert_eq!(rows::decode(&text).as_ref(), Ok(row), "{text}");
}

/// A settled push is told of in every format. Input: a line of `registry|repository|tag|digest|action|regions|numbers`, then
/// the registry's text.
pub fn payload(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (head, text) = text.split_once('\n').unwrap_or(("", &text));
    let mut parts = head.split('|');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let subject = Subject {
        registry: part(),
        repository: part(),
        tag: Some(part()).filter(|t| !t.is_empty()),
        digest: part(),
        action: part(),
    };
    let mut row = settled_row(subject, text.to_owned());
    let regions: Vec<Region> = part().split(',').filter_map(|r| Region::parse(r).ok()).collect();
    if !regions.is_empty() {
        row.regions = regions;
    }
    let numbers: Vec<i64> = part().split(',').map(|n| n.trim().parse().unwrap_or(0)).collect();
    let number = |i: usize| numbers.get(i).copied().unwrap_or(0);
    let at = |i| Instant::from_timestamp_millis(number(i)).unwrap_or(Instant::UNIX_EPOCH);
    (row.opened, row.deadline) = (at(0), at(1));
    let split = usize::try_from(number(4)).unwrap_or(0).min(row.regions.len());
    let arrived = |r: &Region| (r.clone(), Arrived { at: at(3), id: String::new() });
    row.arrived = row.regions[..split].iter().map(arrived).collect();
    if let Phase::Settled(settled) = &mut row.phase {
        settled.at = at(2);
        settled.terminated = number(5) != 0;
    }
    survives(&row);
    let ours = match arrival::parse(text.as_bytes()) {
        Ok(Notification::FanIn { subject, .. }) => [String::new(), subject.registry].contains(&row.subject.registry),
        Ok(Notification::Ping | Notification::Unknown) | Err(_) => false,
    };
    // A retry after the missing regions have come says the same.
    let mut later = row.clone();
    if let Phase::Settled(settled) = &mut later.phase {
        settled.late = row.regions[split..].iter().map(arrived).collect();
        settled.recovered = Some(at(3));
    }
    let format = FORMATS[text.len() % FORMATS.len()];
    for notice in [Notice::Replicated, Notice::TimedOut] {
        assert_eq!(message(format, &row, notice, None), message(format, &later, notice, None));
    }
    told(if number(5) < 0 { &later } else { &row }, ours);
}

fn message(format: &str, row: &Row, notice: Notice, url: Option<&str>) -> Result<bodies::Message, String> {
    bodies::message(bodies::Format::parse(format).expect("a format"), row, notice, url)
}

/// Renders every format and notice of `row`. `ours` says that this service itself would have stored the row, so that each
/// must succeed.
fn told(row: &Row, ours: bool) {
    let url = row.payload.len().is_multiple_of(2).then_some("https://hooks.example");
    for (format, notice) in FORMATS.iter().flat_map(|f| NOTICES.map(|n| (*f, n))) {
        let message = match message(format, row, notice, url) {
            Ok(message) => message,
            Err(why) => {
                assert!(!ours && (format == "acr" || row.settled().is_none()), "{format} {notice:?}: {why}");
                assert!(why.len() <= 200, "{why}");
                continue;
            }
        };
        assert!(HeaderValue::from_str(message.content_type).is_ok());
        if format == "acr" {
            relayed(row, notice, &message.body);
            continue;
        }
        let body: Value = serde_json::from_str(&message.body).expect("JSON");
        match format {
            "standard" | "cloudevents" => {
                let data = &body["data"];
                assert_eq!(data["outcome"], notice.word());
                assert_eq!(data["repository"], row.subject.repository);
                assert_eq!(data["regions"].as_array().map(Vec::len), Some(row.regions.len()));
                let kind = body["type"].as_str().expect("a type");
                assert!(kind.ends_with(&format!(".{}", notice.word())), "{kind}");
            }
            "slack" => {
                let text = body["text"].as_str().expect("a text");
                let links = usize::from(url.is_some());
                assert_eq!((text.matches('<').count(), text.matches('>').count()), (links, links), "{text}");
            }
            _ => {
                let content = &body["attachments"][0]["content"];
                for text in content["body"][1]["facts"]
                    .as_array()
                    .expect("facts")
                    .iter()
                    .map(|fact| &fact["value"])
                    .chain([&content["body"][0]["text"]])
                {
                    assert!(!text.as_str().expect("a text").contains(['[', ']']), "{text}");
                }
            }
        }
    }
}

/// The registry's own text: every member but those that say where and what stands as it stood, byte for byte, and only a
/// replicated push has an action of the registry's.
fn relayed(row: &Row, notice: Notice, body: &str) {
    let _: &RawValue = serde_json::from_str(body).expect("JSON");
    let given = row.payload.trim_start_matches('\u{feff}');
    let marked = notice != Notice::Replicated;
    let registry = &row.subject.registry;
    let (before, after) = (members(given), members(body));
    assert!(after.len() >= before.len() && (marked || after.len() == before.len()), "{given} became {body}");
    for (i, (old, new)) in before.iter().zip(&after).enumerate() {
        assert_eq!(given[old.gap.clone()], body[new.gap.clone()], "before member {i}: {given} became {body}");
        let (old_value, new_value) = (&given[old.value.clone()], &body[new.value.clone()]);
        match old.name.as_str() {
            "action" | "regions" if marked => {}
            "request" if !registry.is_empty() && old_value.starts_with('{') => hosted(registry, old_value, new_value),
            _ => assert_eq!(old_value, new_value, "{given} became {body}"),
        }
    }
    if !marked {
        let tail = |text: &str, all: &[Member]| text[all.last().map_or(0, |m| m.value.end)..].to_owned();
        assert_eq!(tail(given, &before), tail(body, &after));
        return;
    }
    for added in &after[before.len()..] {
        assert!(["action", "regions"].contains(&added.name.as_str()), "{given} became {body}");
    }
    for (name, expected) in [("action", "\"replication_"), ("regions", "{\"expected\":[")] {
        let mut all = after.iter().filter(|m| m.name == name).peekable();
        assert!(all.peek().is_some(), "no {name} in {body}");
        for member in all {
            let value = &body[member.value.clone()];
            assert!(value.starts_with(expected), "{name} is {value}");
        }
    }
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

/// A member of a JSON object: its name, what stands between the previous value and its own, and its own value.
struct Member {
    name: String,
    gap: Range<usize>,
    value: Range<usize>,
}

/// The members of the JSON object `text`, found by counting brackets: an independent reading of what the service relays.
fn members(text: &str) -> Vec<Member> {
    let bytes = text.as_bytes();
    let blank = |mut i: usize| {
        while bytes[i].is_ascii_whitespace() {
            i += 1;
        }
        i
    };
    let string = |mut i: usize| {
        i += 1;
        while bytes[i] != b'"' {
            i += if bytes[i] == b'\\' { 2 } else { 1 };
        }
        i + 1
    };
    let mut found = Vec::new();
    let mut gap = 0;
    let mut at = blank(blank(0) + 1);
    while bytes[at] != b'}' {
        let end = string(at);
        let name = serde_json::from_str(&text[at..end]).expect("a name");
        let start = blank(blank(end) + 1);
        let (mut i, mut depth) = (start, 0);
        let mut last = start;
        while depth > 0 || !matches!(bytes[i], b',' | b'}') {
            match bytes[i] {
                b'"' => i = string(i) - 1,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if !bytes[i].is_ascii_whitespace() {
                last = i + 1;
            }
            i += 1;
        }
        found.push(Member { name, gap: gap..start, value: start..last });
        gap = last;
        at = if bytes[i] == b',' { blank(i + 1) } else { i };
    }
    found
}

/// In the path of the target whose receiver answers below.
const SECRET_OF_THE_PATH: &str = "T0123secretOfThePath";

static CONFIDENTIAL: LazyLock<answers::Confidential> = LazyLock::new(|| {
    let json = format!(r#"[{{"name": "t", "url": "https://x.example/{SECRET_OF_THE_PATH}"}}]"#);
    let source = Source::new([("WebhookTargets".into(), json)]);
    answers::Confidential::of(&targets::targets(&source, &mut Vec::new())[0])
});

/// A receiver's answer gives a result that is short, plain, within its bounds and without what is secret. Input: lines of
/// status and `Retry-After`, then the text.
pub fn reply(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let status = std::str::from_utf8(part()).ok().and_then(|s| s.trim().parse().ok());
    let status = status.and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(StatusCode::OK);
    let headers: HeaderMap = HeaderValue::from_bytes(part()).into_iter().map(|v| (RETRY_AFTER, v)).collect();
    let text = part();
    for format in FORMATS.map(|f| bodies::Format::parse(f).expect("a format")) {
        for now in [Instant::UNIX_EPOCH, Instant::MAX_UTC, Instant::MIN_UTC] {
            match answers::result(format, status, &headers, text, &CONFIDENTIAL, now) {
                AttemptResult::Confirmed { status } => assert!((200..300).contains(&status)),
                AttemptResult::Failed { reason, retry_after } => {
                    assert!(!status.is_success() || format == bodies::Format::Teams, "{status}: {reason}");
                    short(&reason);
                    let id = PushId { key: Key::of(&["x"]), round: 1 };
                    let delay = backoff::delay(&backoff::SCHEDULE, &id, "t", 1, retry_after).expect("a wait");
                    assert!((Duration::from_secs(4)..=limits::RETRY_AFTER_MAX).contains(&delay), "{delay:?}");
                }
                AttemptResult::NotBegun { reason } => panic!("an answer means that something was sent: {reason}"),
                AttemptResult::Refused { reason } => {
                    assert_eq!(status, StatusCode::GONE);
                    short(&reason);
                }
            }
        }
    }
}

fn short(reason: &str) {
    assert!(reason.len() <= limits::REASON_BYTES_MAX + 100 && !reason.chars().any(char::is_control), "{reason:?}");
}

fn region(name: &str) -> Region {
    Region::parse(name).expect("a region")
}

fn subject() -> Subject {
    Subject {
        registry: "contoso.azurecr.io".into(),
        repository: "team/web-shop".into(),
        tag: Some("v1".into()),
        digest: "sha256:1".into(),
        action: "push".into(),
    }
}

fn policy() -> Policy {
    Policy {
        regions: vec![region("a")],
        timeout: limits::TIMEOUT_MAX,
        correlation: Correlation::Content,
        rules: Vec::new(),
        targets: vec![Target { name: "t".into(), notices: NOTICES.to_vec(), filter: Filter::default() }],
        schedule: backoff::SCHEDULE.to_vec(),
    }
}

/// A push that timed out with one of two regions.
fn settled_row(subject: Subject, payload: String) -> Row {
    let arrival = Arrival {
        region: region("northeurope"),
        received: Instant::UNIX_EPOCH,
        id: "1".into(),
        subject: subject.clone(),
        payload: payload.clone(),
    };
    Row {
        id: PushId { key: arrival.key(Correlation::Content), round: 1 },
        correlation: Correlation::Content,
        subject,
        payload,
        opened: arrival.received,
        deadline: arrival.received + Duration::from_secs(120),
        regions: vec![region("westus"), region("northeurope")],
        rule: None,
        arrived: [(arrival.region, Arrived { at: arrival.received, id: arrival.id })].into(),
        earlier: Vec::new(),
        repeated: Vec::new(),
        phase: Phase::Settled(Settled {
            outcome: Outcome::TimedOut,
            at: Instant::UNIX_EPOCH + Duration::from_secs(121),
            terminated: false,
            late: BTreeMap::new(),
            recovered: None,
            superseded: false,
            outbox: Vec::new(),
        }),
        timer: None,
        updated: Instant::UNIX_EPOCH,
        revision: 1,
    }
}
