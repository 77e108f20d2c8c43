//! Settings: read once at start, checked as a whole, every fault reported together. Nothing else reads the environment.

pub mod delivery;
mod members;
pub mod rules;
pub mod storage;
pub mod targets;
pub mod timespan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::limits;
use crate::push::Region;
use crate::push::arrival::{Correlation, login_server};
use crate::push::policy::{Policy, Repeats};
use storage::Account;
use targets::TargetSettings;

/// The settings this service knows beside those of the storage; another name that begins with `Webhook` is warned about.
const KNOWN: [&str; 18] = [
    "WebhookRegions",
    "WebhookTimeout",
    "WebhookTimeOut",
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
    "WebhookOperatorKey",
    "WebhookLog",
];

/// Wait for missing regions unless `WebhookTimeout` says otherwise; the original's default.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Everything the settings say.
#[derive(Debug)]
pub struct Settings {
    /// What concerns pushes.
    pub policy: Policy,
    /// Where and how to notify, in the order of [`Policy::targets`].
    pub targets: Vec<TargetSettings>,
    /// Where people reach this service, for links in notifications.
    pub public_url: Option<String>,
    /// The registry that stands for all webhooks, whatever host they name.
    pub registry: Option<String>,
    /// Name of this app among those that may use the same storage, where the settings or the platform give one.
    pub app: Option<String>,
    /// Where rows and timers live; `None` when no storage is configured.
    pub account: Option<Account>,
    /// For people.
    pub described: Described,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

/// The effective settings as people may see them; holds no secret.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// All regions that some push may wait for.
    pub regions: Vec<String>,
    /// The time-out in words.
    pub timeout: String,
    /// `content` or `id`.
    pub correlation: &'static str,
    /// Names of the targets.
    pub targets: Vec<String>,
    /// Names of the rules.
    pub rules: Vec<String>,
    /// Where rows and timers live, in words.
    pub storage: String,
    /// Name of this app.
    pub app: String,
}

impl Described {
    /// Whether some push may wait for `region`.
    #[must_use]
    pub fn knows(&self, region: &Region) -> bool {
        self.regions.iter().any(|r| r == region.as_str())
    }

    /// The answer to someone who opens the function's URL.
    #[must_use]
    pub fn health(&self, rows: bool, queue: bool, others: &[String]) -> Value {
        json!({
            "service": "acr-global-webhook",
            "version": env!("CARGO_PKG_VERSION"),
            "regions": self.regions,
            "timeout": self.timeout,
            "correlation": self.correlation,
            "targets": self.targets,
            "rules": self.rules,
            "storage": self.storage,
            "rowsReachable": rows,
            "queueReachable": queue,
            "app": self.app,
            "otherApps": others,
        })
    }
}

/// Reads all settings.
///
/// # Errors
/// Every fault there is, at once.
pub fn load(source: &Source) -> Result<Settings, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let regions = regions(source, &mut faults);
    let timeout = timeout(source, &mut faults, &mut warnings);
    let correlation =
        word(source, "WebhookCorrelation", &[("content", Correlation::Content), ("id", Correlation::Id)], &mut faults);
    let repeats = word(source, "WebhookRepeats", &[("new", Repeats::New), ("known", Repeats::Known)], &mut faults);
    let registry = registry(source, &mut faults);
    let app = app(source, &mut faults);
    let rules = rules::rules(source, &parse_timeout, &mut faults);
    let schedule = delivery::schedule(source, &timespan::parse, &mut faults);
    let public_url = delivery::public_url(source, &mut faults);
    let targets = targets::targets(source, &mut faults);
    let account = storage::account(source, &mut faults);
    for name in source.names().filter(|n| n.starts_with("webhook") && !KNOWN.iter().any(|k| k.eq_ignore_ascii_case(n)))
    {
        warnings.push(format!("the setting `{name}` is not known and has no effect; is it misspelt?"));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let policy = Policy {
        regions,
        timeout,
        correlation,
        repeats,
        rules,
        targets: targets.iter().map(|t| t.policy.clone()).collect(),
        schedule,
    };
    let described = Described {
        regions: policy.known_regions().into_iter().map(ToString::to_string).collect(),
        timeout: timespan::words(timeout),
        correlation: match correlation {
            Correlation::Content => "content",
            Correlation::Id => "id",
        },
        targets: targets.iter().map(ToString::to_string).collect(),
        rules: policy.rules.iter().map(|r| r.name.clone()).collect(),
        storage: account.as_ref().map_or_else(|| "none".to_owned(), |a| a.to_string()),
        app: app.clone().unwrap_or_default(),
    };
    Ok(Settings { policy, targets, public_url, registry, app, account, described, warnings })
}

fn regions(source: &Source, faults: &mut Vec<Fault>) -> Vec<Region> {
    let Some(text) = source.get("WebhookRegions") else {
        faults.push(Fault::hidden(
            "WebhookRegions",
            "is missing: name the regions of the registry's replicas, for example `northeurope,westus`",
        ));
        return Vec::new();
    };
    region_list("WebhookRegions", text, faults)
}

/// Comma-separated regions, distinct, in their order; blanks between commas do not count.
fn region_list(setting: &str, text: &str, faults: &mut Vec<Fault>) -> Vec<Region> {
    let mut seen = BTreeSet::new();
    let mut regions = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        match Region::parse(part) {
            Ok(region) if seen.insert(region.clone()) => regions.push(region),
            Ok(_) => {}
            Err(why) => faults.push(Fault::of(setting, part.trim(), why)),
        }
    }
    if regions.is_empty() {
        faults.push(Fault::of(setting, text, "names no region, for example `northeurope,westus`"));
    }
    if regions.len() > limits::REGIONS_MAX {
        faults.push(Fault::hidden(
            setting,
            format!("names {} regions; {} are allowed", regions.len(), limits::REGIONS_MAX),
        ));
    }
    regions
}

/// A time-out within its bounds.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = timespan::parse(text)?;
    if timeout < limits::TIMEOUT_MIN {
        return Err(format!(
            "is {}; the shortest is {}",
            timespan::words(timeout),
            timespan::words(limits::TIMEOUT_MIN)
        ));
    }
    if timeout > limits::TIMEOUT_MAX {
        return Err(format!(
            "is {}; the longest is {} (a bare number is days)",
            timespan::words(timeout),
            timespan::words(limits::TIMEOUT_MAX)
        ));
    }
    Ok(timeout)
}

fn timeout(source: &Source, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) -> Duration {
    let Some(text) = source.get("WebhookTimeout") else { return TIMEOUT };
    match parse_timeout(text) {
        Ok(timeout) => {
            if timeout > limits::TIMEOUT_SUSPICIOUS {
                warnings.push(format!(
                    "WebhookTimeout = {text:?} is {}: a bare number is days, and an hour field above 23 is read as days too; two minutes are `0:2:0` or `PT2M`",
                    timespan::words(timeout)
                ));
            }
            timeout
        }
        Err(why) => {
            faults.push(Fault::of("WebhookTimeout", text, why));
            TIMEOUT
        }
    }
}

/// One of a few words, in any case; the first where there is none.
fn word<T: Copy>(source: &Source, setting: &str, words: &[(&str, T)], faults: &mut Vec<Fault>) -> T {
    let text = source.get(setting).unwrap_or(words[0].0);
    match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        Some((_, value)) => *value,
        None => {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            faults.push(Fault::of(setting, text, format!("must be {}", known.join(" or "))));
            words[0].1
        }
    }
}

fn registry(source: &Source, faults: &mut Vec<Fault>) -> Option<String> {
    let text = source.get("WebhookRegistry")?;
    let name = login_server(text);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
        faults.push(Fault::of("WebhookRegistry", text, "must be a login server, for example `contoso.azurecr.io`"));
    }
    Some(name)
}

fn app(source: &Source, faults: &mut Vec<Fault>) -> Option<String> {
    let set = source.get("WebhookApp");
    // A slot has a host name of its own, but shares the site's name.
    let name = set.or_else(|| source.get("WEBSITE_HOSTNAME")).or_else(|| source.get("WEBSITE_SITE_NAME"))?;
    if name.len() > limits::APP_BYTES_MAX || name.chars().any(char::is_control) {
        faults.push(Fault::of("WebhookApp", name, "must be a short name on one line"));
    }
    Some(name.to_owned())
}

/// All settings as they were given, found by name without regard to case (app settings are environment variables, whose
/// names are case-sensitive on Linux).
#[derive(Clone, Default)]
pub struct Source(BTreeMap<String, String>);

impl Source {
    /// Takes names and values; of two names that differ only in case, the first counts.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            map.entry(name.to_lowercase()).or_insert(value);
        }
        Self(map)
    }

    /// The process's environment; a name or value that is not Unicode is left out.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::new(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Sets `name` over whatever was given for it.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_lowercase(), value);
    }

    /// All names, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The value of `name`, trimmed; `None` when it is absent or blank.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_lowercase()).map(|v| v.trim()).filter(|v| !v.is_empty())
    }
}

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting, as the documentation spells it, with the place inside it where it has several.
    pub setting: String,
    /// Its value; `None` when it is missing or secret.
    pub value: Option<String>,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Fault {
    /// A fault that may show the value.
    pub fn of(setting: impl Into<String>, value: &str, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: Some(value.to_owned()), problem: problem.into() }
    }

    /// A fault of a missing or secret value.
    pub fn hidden(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: None, problem: problem.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value:?}: {}", self.setting, self.problem),
            None => write!(f, "{}: {}", self.setting, self.problem),
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
