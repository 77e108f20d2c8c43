//! The registry: its tier, its regions against the awaited ones, its replicas.

use std::collections::BTreeSet;

use reqwest::Url;

use super::catalogue::Id;
use super::report::{Check, skip};
use super::service::Answered;
use super::settings::Here;
use super::webhooks::Sender;
use super::{Gap, Known};
use crate::arm::plan::Set;
use crate::arm::registry::{Registry, Stage};
use crate::push::Region;

/// A registry and its webhooks.
#[derive(Debug)]
pub struct Registered {
    /// The registry and its replicas.
    pub registry: Registry,
    /// Which webhooks are this service's.
    pub set: Set,
    /// All webhooks, those of others too.
    pub senders: Known<Vec<Sender>>,
    /// Where they should send to; not known for a service that is called on this machine, which no registry can do.
    pub expected: Known<Url>,
}

/// The regions that pushes wait for, and by whose word.
#[derive(Debug)]
pub struct Awaited {
    /// The regions.
    pub regions: BTreeSet<Region>,
    /// The settings in effect are not known; these lie here.
    pub is_of_here: bool,
}

impl Awaited {
    /// What the service says, or the settings here.
    #[must_use]
    pub fn of(answered: &Answered, here: &Known<Here>) -> Option<Self> {
        let (names, is_of_here) = match (answered, here) {
            (Answered::Health(health), _) => (&health.regions, false),
            (_, Ok(Here::Good { described, .. })) => (&described.regions, true),
            (Answered::Misconfigured(_) | Answered::Refused(_) | Answered::Otherwise(_), _) => return None,
        };
        let regions = names.iter().filter_map(|name| Region::parse(name).ok()).collect();
        Some(Self { regions, is_of_here })
    }
}

pub(super) fn judge(registered: &Known<Registered>, awaited: Option<&Awaited>, checks: &mut Vec<Check>) {
    let registry = match registered {
        Ok(registered) => &registered.registry,
        Err(gap) => {
            checks.push(Check::unread(Id::RegistryRead, Id::RegistryRead.entry().meaning, gap));
            return skip(checks, gap, &[Id::RegistrySku, Id::RegistryRegions, Id::RegistryReplicas]);
        }
    };
    let regions: Vec<&str> = registry.regions().map(Region::as_str).collect();
    let (name, sku) = (&registry.id.name, &registry.sku);
    checks.push(Check::ok(Id::RegistryRead, format!("{name} is in {}.", regions.join(", "))));
    checks.push(if sku.eq_ignore_ascii_case("premium") {
        Check::ok(Id::RegistrySku, format!("{name} is Premium."))
    } else {
        Check::warning(Id::RegistrySku, format!("{name} is {sku}."))
    });
    match awaited {
        None => {
            let gap = Gap::unasked("The awaited regions are not known.", "See service.answers.");
            skip(checks, &gap, &[Id::RegistryRegions]);
        }
        Some(awaited) => compare(registry, awaited, checks),
    }
    let before = checks.len();
    checks.extend(registry.replicas.iter().filter_map(|replica| {
        let check = match replica.stage {
            Stage::Complete => return None,
            Stage::Syncing => Check::warning(Id::RegistryReplicas, "It still copies what was there before."),
            Stage::New => Check::warning(Id::RegistryReplicas, "It is still being made."),
            Stage::Broken => Check::fault(Id::RegistryReplicas, "It failed, or is offline.").because(
                "The region reports nothing, so every push that waits for it times out.",
                "See the registry's geo-replications in the portal; make the replica anew if it failed.",
            ),
        };
        Some(check.about(replica.region.as_str()))
    }));
    if checks.len() == before {
        checks.push(Check::ok(Id::RegistryReplicas, "All are complete."));
    }
}

fn compare(registry: &Registry, awaited: &Awaited, checks: &mut Vec<Check>) {
    let there: BTreeSet<&Region> = registry.regions().collect();
    let whose = if awaited.is_of_here { "the settings here" } else { "the settings in effect" };
    let before = checks.len();
    for region in awaited.regions.iter().filter(|region| !there.contains(region)) {
        checks.push(
            Check::fault(Id::RegistryRegions, format!("{whose} wait for it, and the registry has no replica there."))
                .about(region.as_str())
                .because(
                    "The region never reports, so every push that waits for it times out.",
                    "Take it out of WebhookRegions (or of the rule that names it), or add the replica.",
                ),
        );
    }
    for region in there.into_iter().filter(|region| !awaited.regions.contains(region)) {
        checks.push(
            Check::warning(
                Id::RegistryRegions,
                format!("The registry has a replica there, and {whose} do not wait for it."),
            )
            .about(region.as_str())
            .because(
                "An image is said to be everywhere before it is there; a webhook of that region is refused as \
                     `region_unknown`.",
                "Add it to WebhookRegions.",
            ),
        );
    }
    if checks.len() == before {
        checks.push(Check::ok(Id::RegistryRegions, format!("{whose} wait for the registry's regions.")));
    }
}
