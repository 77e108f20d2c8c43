//! Settings: taken or refused as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use global_webhook::config::storage::{Account, Credential};
use global_webhook::config::targets::TargetSettings;
use global_webhook::config::{self, Fault, Settings, Source};
use global_webhook::limits;
use global_webhook::notify::guard;
use global_webhook::push::policy::{Filter, Rule, Target, Verdict};
use global_webhook::push::{Region, Subject};
use global_webhook::store::Failure;
use reqwest::Url;

use super::MARK;
use super::samples::subject;
use super::secrets::loads_in_secret;

/// Names that settings are made of; a line may name one by its first letter, which is cheap to find.
const NAMES: [&str; 27] = [
    "WebhookRegions",
    "WebhookTimeout",
    "WebhookCorrelation",
    "WebhookRegistry",
    "WebhookRepeats",
    "WebhookApp",
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
    "WEBSITE_SITE_NAME",
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
        let named = NAMES.iter().find_map(|name| Some((*name, line.strip_prefix(name)?.strip_prefix('=')?)));
        let by_number = |first: char| (NAMES[first as usize % NAMES.len()], &line[first.len_utf8()..]);
        let (name, value) = named.or_else(|| line.chars().next().map(by_number)).expect("a line that is not empty");
        pairs.insert(name, value.to_owned());
    }
    pairs
}

pub(super) fn source(pairs: &BTreeMap<&str, String>) -> Source {
    Source::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))
}

/// Settings are taken or refused as a whole; what is taken keeps every bound; nothing secret shows in either case.
pub fn settings(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut pairs = pairs(&text);
    load(&pairs);
    pairs.entry("WebhookRegions").or_insert_with(|| "a,b".to_owned());
    load(&pairs);
    loads_in_secret(pairs);
    true
}

/// Targets and rules in JSON, beside settings that are in order.
pub fn targets(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    for name in ["WebhookTargets", "WebhookRules"] {
        let pairs: BTreeMap<_, _> = [("WebhookRegions", "a,b".to_owned()), (name, text.clone().into_owned())].into();
        load(&pairs);
        loads_in_secret(pairs);
    }
    true
}

/// Forms of `AzureWebJobsStorage`: one text, or lines of the identity form.
pub fn storage(data: &[u8]) -> bool {
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
    true
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
    let Settings { policy, targets, public_url, registry, app, account, described, .. } = settings;
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
    if let Some(registry) = registry {
        let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || matches!(b, b'-' | b'.');
        assert!((1..=255).contains(&registry.len()) && registry.bytes().all(plain), "{registry}");
    }
    if let Some(app) = app {
        assert!(app.len() <= 4 * limits::NAME_BYTES_MAX && !app.chars().any(char::is_control), "{app:?}");
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
    assert!(described.health(Err(&Failure::Unavailable("x".into()))).is_object());
}

fn regions_in_order(regions: &[Region]) {
    assert!((1..=limits::REGIONS_MAX).contains(&regions.len()), "{} regions", regions.len());
    let distinct: BTreeSet<_> = regions.iter().collect();
    assert_eq!(distinct.len(), regions.len(), "regions are distinct");
}

fn target_taken(target: &TargetSettings) {
    let Target { name, notices, filter, .. } = &target.policy;
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
    let patterns = [&filter.repository, &filter.tag].into_iter().flatten();
    assert!(patterns.clone().all(|pattern| pattern.len() <= limits::PATTERN_BYTES_MAX), "{filter:?}");
    for text in patterns.cloned().chain(["team/web-shop".to_owned(), "a".repeat(limits::MEMBER_BYTES_MAX)]) {
        let _ = filter.matches(&Subject { tag: Some(text.clone()), repository: text, ..subject() });
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
