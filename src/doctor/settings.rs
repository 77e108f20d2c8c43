//! The settings that lie beside the command: whether they can be used, and whether they are those in effect.

use super::catalogue::Id;
use super::report::{Check, skip};
use super::service::{Answered, beyond};
use super::{Gap, Known};

/// The settings here: of the environment, and of local.settings.json behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Here {
    /// They can be used.
    Good(Said),
    /// They cannot: each fault, as the service would tell it.
    Faulty(Vec<String>),
}

/// What they say, as far as the service tells the same of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// All regions that some push may wait for.
    pub regions: Vec<String>,
    /// The time-out in words.
    pub timeout: String,
    /// What makes webhooks the same push.
    pub correlation: String,
    /// The receivers, each in a line for people.
    pub targets: Vec<String>,
    /// Names of the rules.
    pub rules: Vec<String>,
    /// How long pushes are kept, in words.
    pub retention: String,
    /// What is allowed and probably not meant.
    pub warnings: Vec<String>,
}

pub(super) fn judge(here: &Known<Here>, answered: &Answered, checks: &mut Vec<Check>) {
    let said = match here {
        Err(gap) => {
            checks.push(Check::unread(Id::SettingsHere, "Nothing can be said of these settings.", gap));
            return skip(checks, gap, &[Id::SettingsDeployed]);
        }
        Ok(Here::Faulty(faults)) => {
            checks.extend(faults.iter().map(|fault| answered.here(Id::SettingsHere, fault.clone())));
            let gap = Gap::unasked("The settings here cannot be used.", "See settings.here.");
            return skip(checks, &gap, &[Id::SettingsDeployed]);
        }
        Ok(Here::Good(said)) => said,
    };
    match said.warnings.as_slice() {
        [] => checks.push(Check::ok(Id::SettingsHere, "They can be used.")),
        some => checks.extend(some.iter().map(|warning| Check::warning(Id::SettingsHere, warning.clone()))),
    }
    let Some(health) = answered.health() else {
        let gap = Gap::unasked("The service did not tell its settings.", "See service.answers.");
        return skip(checks, &gap, &[Id::SettingsDeployed]);
    };
    let one =
        |name, here: &str, there: &str| (here != there).then(|| format!("{name}: here {here}, in effect {there}"));
    let many = |name, here: &[String], there: &[String]| {
        let (here, there) = (beyond(here, there), beyond(there, here));
        let differ = !here.is_empty() || !there.is_empty();
        let words = |names: &[&str]| if names.is_empty() { "nothing more".to_owned() } else { names.join(", ") };
        differ.then(|| format!("{name}: only here {}, only in effect {}", words(&here), words(&there)))
    };
    let differences: Vec<String> = [
        many("regions", &said.regions, &health.regions),
        one("time-out", &said.timeout, &health.timeout),
        one("correlation", &said.correlation, &health.correlation),
        many("receivers", &said.targets, &health.targets),
        many("rules", &said.rules, &health.rules),
        one("retention", &said.retention, &health.retention),
    ]
    .into_iter()
    .flatten()
    .collect();
    checks.push(match differences.as_slice() {
        [] => Check::ok(Id::SettingsDeployed, "The settings here are those in effect."),
        some => Check::warning(Id::SettingsDeployed, format!("{}.", some.join("; "))),
    });
}
