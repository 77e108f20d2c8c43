//! The service as it answers `GET /api/ImagePush`: settings in effect, health, other apps, its clock.

use std::collections::BTreeSet;

use super::catalogue::Id;
use super::report::{Check, skip};
use super::{Gap, Known};
use crate::api::{Health, Part};
use crate::limits;

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// The document, whatever it says of the storage.
    Health(Box<Health>),
    /// The service is up, and its settings cannot be used: what it says of them.
    Misconfigured(String),
    /// It did not let the caller in: a sentence that says so.
    Refused(String),
    /// Something else, or nothing: a sentence that says what to do.
    Otherwise(String),
}

impl Answered {
    pub(super) fn health(&self) -> Option<&Health> {
        match self {
            Self::Health(health) => Some(health),
            Self::Misconfigured(_) | Self::Refused(_) | Self::Otherwise(_) => None,
        }
    }

    /// A check of what lies here: a fault, unless the service itself is well with what it has. It may have something else.
    pub(super) fn here(&self, id: Id, what: String) -> Check {
        let works = |part: &Part| part.status == "ok";
        match self.health() {
            Some(health) if works(&health.rows) && works(&health.queue) => Check::warning(id, what),
            Some(_) | None => Check::fault(id, what),
        }
    }
}

/// The service, seen from outside.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its address, without its query.
    pub url: String,
    /// What came of asking.
    pub answered: Answered,
    /// How far its clock is ahead of this machine's, in milliseconds, half a second more or less: a `Date` has whole seconds.
    pub ahead_ms: Known<i64>,
}

/// What to do where a key does not open every door that was knocked at.
pub const HOST_KEY: &str = "Give a host key, which opens everything: `az functionapp keys set -g <group> -n <app> --key-type functionKeys --key-name operators --query value -o tsv` makes one; with `serve` it is WebhookOperatorKey.";

/// Judges with `opened`, the other functions that let the caller in.
pub(super) fn judge(service: &Service, opened: &[&str], checks: &mut Vec<Check>) {
    let url = &service.url;
    let health = match &service.answered {
        Answered::Health(health) => health,
        Answered::Misconfigured(faults) => {
            let what = format!("{url} is up, and its settings cannot be used: {faults}");
            checks.push(Check::fault(Id::ServiceAnswers, what).because(
                "Every call is answered with 503, and the registry's webhooks are lost.",
                "Correct each setting that is named, then restart the service.",
            ));
            return nothing_known(service, "See service.answers.", checks);
        }
        Answered::Refused(why) => {
            let check = if opened.is_empty() {
                Check::fault(Id::ServiceAnswers, why.clone())
            } else {
                let opened = opened.join(" and ");
                Check::warning(Id::ServiceAnswers, format!("The key opens {opened}, and not ImagePush: {why}"))
            };
            let meaning =
                "What ImagePush tells of the service is not known. It says nothing of the key that the registry uses.";
            checks.push(check.because(meaning, HOST_KEY));
            return nothing_known(service, HOST_KEY, checks);
        }
        Answered::Otherwise(why) => {
            checks.push(Check::fault(Id::ServiceAnswers, why.clone()));
            return nothing_known(service, "See service.answers.", checks);
        }
    };
    checks.push(Check::ok(
        Id::ServiceAnswers,
        format!("{url} answers. It waits {} for {}.", health.timeout, health.regions.join(", ")),
    ));
    let (there, here) = (&health.version, env!("CARGO_PKG_VERSION"));
    checks.push(if there == here {
        Check::ok(Id::ServiceVersion, format!("Both are {here}."))
    } else {
        Check::warning(Id::ServiceVersion, format!("The service is {there}, this command {here}."))
    });
    clock(Id::ServiceClock, "The service's host", &service.ahead_ms, checks);
    checks.push(match health.targets.as_slice() {
        [] => Check::warning(Id::SettingsTargets, "No receiver is set."),
        some => Check::ok(Id::SettingsTargets, some.join("; ")),
    });
    for (id, part) in [(Id::StorageRows, &health.rows), (Id::StorageQueue, &health.queue)] {
        let cause = part.cause.as_deref().unwrap_or("no cause given");
        checks.push(match part.status.as_str() {
            "ok" => Check::ok(id, "The service says that it works."),
            "unavailable" => Check::fault(id, format!("Not available just now: {cause}")).because(
                id.entry().meaning,
                "It may pass: ask again. If it stays, look at Azure's own state of the account, and at the network.",
            ),
            _ => Check::fault(id, format!("Somebody has to act: {cause}")),
        });
    }
    checks.push(match health.other_apps.as_slice() {
        [] => Check::ok(Id::StorageApps, "No other app has left a sign of life there."),
        others => Check::fault(Id::StorageApps, format!("{} shares its names with {}.", health.app, others.join(", "))),
    });
}

fn nothing_known(service: &Service, action: &str, checks: &mut Vec<Check>) {
    let gap = Gap::unasked("The service did not tell its settings and its health.", action);
    let ids = [Id::ServiceVersion, Id::SettingsTargets, Id::StorageRows, Id::StorageQueue, Id::StorageApps];
    skip(checks, &gap, &ids);
    clock(Id::ServiceClock, "The service's host", &service.ahead_ms, checks);
}

/// Judges how far `whose` clock is ahead of this machine's.
pub(super) fn clock(id: Id, whose: &str, ahead_ms: &Known<i64>, checks: &mut Vec<Check>) {
    let bound = i64::try_from(limits::CLOCK_DIFFERENCE_MAX.as_millis()).unwrap_or(i64::MAX);
    checks.push(match ahead_ms {
        Err(gap) => Check::skipped(id, gap),
        Ok(ahead) if ahead.abs() <= bound => Check::ok(id, "The clocks agree."),
        Ok(ahead) => {
            let side = if *ahead > 0 { "ahead of" } else { "behind" };
            Check::warning(id, format!("{whose} is {} s {side} this machine.", ahead.abs() / 1000))
        }
    });
}

/// What `one` has that `other` has not.
pub(super) fn beyond<'a>(one: &'a [String], other: &[String]) -> Vec<&'a str> {
    let other: BTreeSet<&String> = other.iter().collect();
    one.iter().filter(|name| !other.contains(name)).map(String::as_str).collect()
}
