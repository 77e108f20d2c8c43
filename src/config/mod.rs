//! Settings: read once at start, checked as a whole, every fault reported together. Nothing else reads the environment.

mod connection_string;
pub mod delivery;
mod members;
mod misspelt;
mod otlp;
pub(crate) mod pattern;
mod regions;
pub mod rules;
mod source;
pub mod storage;
pub mod targets;
pub mod timespan;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::api::{self, Part};
use crate::limits;
use crate::push::Region;
use crate::push::arrival::{Correlation, login_server};
use crate::push::policy::{Policy, Repeats};
use crate::store::{Failure, Health};
pub use source::{Fault, Source};
use storage::Account;
use targets::TargetSettings;

/// The settings this service knows beside those of the storage. Names count without regard to case, so that the original's
/// `WebhookTimeOut` is one of them.
const KNOWN: [&str; 18] = [
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
    "WebhookRetention",
    "WebhookPublicUrl",
    "WebhookAllowPrivateTargets",
    "WebhookKey",
    "WebhookOperatorKey",
    "WebhookLog",
];

/// Wait for missing regions unless `WebhookTimeout` says otherwise; the original's default.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long pushes are kept unless `WebhookRetention` says otherwise.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Everything the settings say.
#[derive(Debug)]
pub struct Settings {
    /// What concerns pushes.
    pub policy: Policy,
    /// Where and how to notify, in the order of [`Policy::targets`].
    pub targets: Vec<TargetSettings>,
    /// How long settled pushes that owe nothing are kept; `None` is for ever.
    pub retention: Option<Duration>,
    /// Where people reach this service, for links in notifications.
    pub public_url: Option<String>,
    /// The registry that stands for all webhooks, whatever host they name.
    pub registry: Option<String>,
    /// Name of this app among those that may use the same storage, where the settings or the platform give one.
    pub app: Option<String>,
    /// Where rows and timers live; `None` when no storage is configured.
    pub account: Option<Account>,
    /// Where traces and metrics go, if they do.
    pub otlp: Option<crate::otlp::Options>,
    /// For people.
    pub described: Described,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

/// The effective settings as people may see them; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Described {
    /// All regions that some push may wait for.
    pub regions: Vec<String>,
    /// The time-out in words.
    pub timeout: String,
    /// `content` or `id`.
    pub correlation: &'static str,
    /// Targets, each in a line.
    pub targets: Vec<String>,
    /// The format of each target, by its name.
    pub formats: BTreeMap<String, String>,
    /// Names of the rules.
    pub rules: Vec<String>,
    /// How long pushes are kept, in words.
    pub retention: String,
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

    /// The answer to someone who opens the function's URL; `health` is what was found there, or why nothing was.
    #[must_use]
    pub fn health(&self, health: Result<&Health, &Failure>) -> Value {
        let part = |of: fn(&Health) -> &Result<(), Failure>| Part::of(health.and_then(|health| of(health).as_ref()));
        let told = api::Health {
            service: "acr-global-webhook".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            regions: self.regions.clone(),
            timeout: self.timeout.clone(),
            correlation: self.correlation.to_owned(),
            targets: self.targets.clone(),
            rules: self.rules.clone(),
            retention: self.retention.clone(),
            storage: self.storage.clone(),
            rows: part(|health| &health.rows),
            queue: part(|health| &health.queue),
            app: self.app.clone(),
            other_apps: health.map(|health| health.others.clone()).unwrap_or_default(),
        };
        serde_json::to_value(told).unwrap_or_default()
    }
}

/// Reads all settings.
///
/// # Errors
/// Every fault there is, at once.
pub fn load(source: &Source) -> Result<Settings, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    // What is said of a storage account beside one that is given, `storage` looks at.
    let storage = if storage::is_given(source) { &storage::NAMES[..1] } else { &storage::NAMES[..] };
    misspelt::names(source, &[&KNOWN[..], storage].concat(), &mut faults, &mut warnings);
    let regions = regions::regions(source, &mut faults);
    let timeout = timeout(source, &mut faults, &mut warnings);
    let correlation =
        word(source, "WebhookCorrelation", &[("content", Correlation::Content), ("id", Correlation::Id)], &mut faults);
    let repeats = word(source, "WebhookRepeats", &[("new", Repeats::New), ("known", Repeats::Known)], &mut faults);
    let registry = registry(source, &mut faults);
    let app = app(source, &mut faults);
    let rules = rules::rules(source, &mut faults);
    let schedule = delivery::schedule(source, &mut faults);
    let retention = retention(source, &mut faults);
    let public_url = delivery::public_url(source, &mut faults);
    let targets = targets::targets(source, &mut faults);
    let account = storage::account(source, &mut faults);
    let whole = misspelt::values(source, KNOWN.into_iter().chain(storage::names(source)));
    // What else is wrong with such a value follows from that.
    let setting = |fault: &Fault| fault.setting.split(',').next().unwrap_or_default().to_lowercase();
    faults.retain(|fault| !whole.iter().any(|whole| setting(whole) == setting(fault)));
    faults.splice(..0, whole);
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
    let otlp = otlp::options(source, &mut warnings);
    warnings.extend(policy.known_regions().into_iter().filter_map(regions::doubt));
    let described = Described {
        regions: policy.known_regions().into_iter().map(ToString::to_string).collect(),
        timeout: timespan::words(timeout),
        correlation: match correlation {
            Correlation::Content => "content",
            Correlation::Id => "id",
        },
        targets: targets.iter().map(ToString::to_string).collect(),
        formats: targets.iter().map(|t| (t.policy.name.clone(), t.format.word().to_owned())).collect(),
        rules: policy.rules.iter().map(|r| r.name.clone()).collect(),
        retention: retention.map_or_else(|| "for ever".to_owned(), timespan::words),
        storage: account.as_ref().map_or_else(|| "none".to_owned(), |a| a.to_string()),
        app: app.clone().unwrap_or_default(),
    };
    Ok(Settings { policy, targets, retention, public_url, registry, app, account, otlp, described, warnings })
}

/// A length of time within its bounds; of one beyond them, `why` follows what is said of the shortest and of the longest.
fn within(length: Duration, (least, most): (Duration, Duration), why: [&str; 2]) -> Result<Duration, String> {
    let (word, bound, why) = match length {
        short if short < least => ("shortest", least, why[0]),
        long if long > most => ("longest", most, why[1]),
        _ => return Ok(length),
    };
    Err(format!("is {}; the {word} is {}{why}", timespan::words(length), timespan::words(bound)))
}

/// A time-out within its bounds.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let bounds = (limits::TIMEOUT_MIN, limits::TIMEOUT_MAX);
    within(timespan::parse(text)?, bounds, ["", " (a bare number is days)"])
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

fn retention(source: &Source, faults: &mut Vec<Fault>) -> Option<Duration> {
    const SETTING: &str = "WebhookRetention";
    let Some(text) = source.get(SETTING) else { return Some(RETENTION) };
    let kept = match timespan::parse(text) {
        Ok(Duration::ZERO) => return None,
        read => read.and_then(|kept| {
            let short = ", since a push that is removed sooner leaves a trace for that long all the same (0 keeps all)";
            let bounds = (limits::RETENTION_MIN, limits::RETENTION_MAX);
            within(kept, bounds, [short, " (a bare number is days, and 0 keeps all)"])
        }),
    };
    kept.map_err(|why| faults.push(Fault::of(SETTING, text, why))).ok()
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

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
