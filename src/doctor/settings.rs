//! The settings that lie beside the command: whether they can be used, and whether they are those in effect.

use super::catalogue::Id;
use super::report::{Check, skip};
use super::service::{Answered, beyond};
use super::{Gap, Known};
use crate::config::Described;

/// The settings here: of the environment, and of local.settings.json behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Here {
    /// They can be used.
    Good {
        /// What they say, as the service tells it of its own.
        described: Box<Described>,
        /// What is allowed and probably not meant.
        warnings: Vec<String>,
    },
    /// They cannot: each fault, as the service would tell it.
    Faulty(Vec<String>),
}

pub(super) fn judge(here: &Known<Here>, answered: &Answered, checks: &mut Vec<Check>) {
    let (here, warnings) = match here {
        Err(gap) => {
            checks.push(Check::unread(Id::SettingsHere, "Nothing can be said of these settings.", gap));
            return skip(checks, gap, &[Id::SettingsDeployed]);
        }
        Ok(Here::Faulty(faults)) => {
            checks.extend(faults.iter().map(|fault| answered.here(Id::SettingsHere, fault.clone())));
            let gap = Gap::unasked("The settings here cannot be used.", "See settings.here.");
            return skip(checks, &gap, &[Id::SettingsDeployed]);
        }
        Ok(Here::Good { described, warnings }) => (described, warnings),
    };
    match warnings.as_slice() {
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
        many("regions", &here.regions, &health.regions),
        one("time-out", &here.timeout, &health.timeout),
        one("correlation", here.correlation, &health.correlation),
        many("receivers", &here.targets, &health.targets),
        many("rules", &here.rules, &health.rules),
        one("retention", &here.retention, &health.retention),
    ]
    .into_iter()
    .flatten()
    .collect();
    checks.push(match differences.as_slice() {
        [] => Check::ok(Id::SettingsDeployed, "The settings here are those in effect."),
        some => Check::warning(Id::SettingsDeployed, format!("{}.", some.join("; "))),
    });
}
