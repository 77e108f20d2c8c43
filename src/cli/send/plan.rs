//! What is sent and in which order. Bodies have the members the registry documents for `push`.

use std::fmt;

use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Args, Scenario};
use crate::clock::Instant;
use crate::push::names::hex;

/// Pushes, and their regional webhooks in the order of sending.
pub(super) struct Plan {
    pub(super) images: Vec<Image>,
    pub(super) arrivals: Vec<Planned>,
}

/// One regional webhook to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// Which of the images.
    pub(super) push: usize,
    /// For which region.
    pub(super) region: String,
}

/// One image pushed.
#[derive(Debug, Clone)]
pub(super) struct Image {
    id: String,
    request: String,
    registry: String,
    repository: String,
    tag: String,
    digest: String,
}

impl Plan {
    /// The scenario's webhooks for these regions. `seed` decides on the order where that is shuffled.
    pub(super) fn of(args: &Args, regions: &[String], seed: u64) -> Result<Self, String> {
        let sent = match args.scenario {
            Scenario::Simple | Scenario::Interleaved => regions,
            Scenario::Timeout => &regions[..regions.len().saturating_sub(1)],
        };
        if sent.is_empty() {
            let least = if args.scenario == Scenario::Timeout { "two regions" } else { "one region" };
            return Err(format!("This scenario needs at least {least}; there are {}.", regions.len()));
        }
        let count = args.count.unwrap_or(if args.scenario == Scenario::Interleaved { 3 } else { 1 });
        let images: Vec<Image> = (1..=count)
            .map(|n| Image::new(args, if count == 1 { args.tag.clone() } else { format!("{}-{n}", args.tag) }))
            .collect();
        let mut arrivals: Vec<Planned> = (0..images.len())
            .flat_map(|push| sent.iter().map(move |region| Planned { push, region: region.clone() }))
            .collect();
        if args.scenario == Scenario::Interleaved {
            shuffle(&mut arrivals, seed);
        }
        Ok(Self { images, arrivals })
    }
}

impl Image {
    fn new(args: &Args, tag: String) -> Self {
        let id = Uuid::new_v4();
        Self {
            id: id.to_string(),
            request: Uuid::new_v4().to_string(),
            registry: args.registry.clone(),
            repository: args.image.clone(),
            tag,
            digest: args.digest.clone().unwrap_or_else(|| format!("sha256:{}", hex(&Sha256::digest(id.as_bytes())))),
        }
    }

    /// The webhook's body, sent at this instant. All regions of a push get the same id and digest.
    pub(super) fn body(&self, at: Instant) -> String {
        json!({
            "id": self.id,
            "timestamp": format!("{}{:07}Z", at.format("%Y-%m-%dT%H:%M:%S."), at.timestamp_subsec_nanos() / 100),
            "action": "push",
            "target": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "size": 1571,
                "digest": self.digest,
                "length": 1571,
                "repository": self.repository,
                "tag": self.tag,
            },
            "request": {
                "id": self.request,
                "host": self.registry,
                "method": "PUT",
                "useragent": "docker/27.3.1 go/go1.22.7",
            },
        })
        .to_string()
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

/// A seed that differs from run to run.
pub(super) fn seed() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}

/// Fisher and Yates, with a generator good enough for an order.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bound = last as u64 + 1;
        items.swap(last, usize::try_from(state % bound).unwrap_or(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::{Webhook, arrival};
    use clap::Parser;
    use std::collections::BTreeSet;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str, seed: u64) -> Result<Plan, String> {
        let args = Cli::parse_from(std::iter::once("send").chain(line.split_whitespace())).args;
        let regions = args.regions.clone();
        Plan::of(&args, &regions, seed)
    }

    fn order(plan: &Plan) -> Vec<(usize, &str)> {
        plan.arrivals.iter().map(|a| (a.push, a.region.as_str())).collect()
    }

    #[test]
    fn simple_goes_push_by_push() {
        let plan = plan("--regions a,b --count 2", 1).unwrap();
        assert_eq!(order(&plan), [(0, "a"), (0, "b"), (1, "a"), (1, "b")]);
    }

    #[test]
    fn timeout_leaves_out_the_last_region() {
        assert_eq!(order(&plan("--regions a,b,c --scenario timeout", 1).unwrap()), [(0, "a"), (0, "b")]);
        assert!(plan("--regions a --scenario timeout", 1).is_err());
    }

    #[test]
    fn interleaved_sends_everything_once_in_an_order_of_the_seed() {
        let first = plan("--regions a,b,c --scenario interleaved", 7).unwrap();
        let second = plan("--regions a,b,c --scenario interleaved", 7).unwrap();
        assert_eq!(order(&first), order(&second));
        assert_eq!(order(&first).into_iter().collect::<BTreeSet<_>>().len(), 9);
        assert!((0..20).any(|seed| order(&plan("--regions a,b --scenario interleaved", seed).unwrap())[0].0 != 0));
    }

    #[test]
    fn bodies_are_notifications_and_pushes_differ() {
        let plan = plan("--regions a --count 2 --image team/app --tag t --registry Contoso.azurecr.io", 1).unwrap();
        let at = "2026-11-22T08:15:41.765Z".parse().unwrap();
        let subjects: Vec<_> = plan
            .images
            .iter()
            .map(|image| match arrival::parse(image.body(at).as_bytes()) {
                Ok(Webhook::FanIn { subject, .. }) => subject,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(subjects[0].registry, "contoso.azurecr.io");
        assert_eq!((subjects[0].tag.as_deref(), subjects[1].tag.as_deref()), (Some("t-1"), Some("t-2")));
        assert_ne!(subjects[0].digest, subjects[1].digest);
        assert_eq!(subjects[0].digest.len(), 71);
        let digest = format!("sha256:{}", "9f2c".repeat(16));
        let again = super::Plan::of(
            &Cli::parse_from(["send", "--regions", "a", "--count", "2", "--digest", &digest]).args,
            &["a".to_owned()],
            1,
        );
        assert!(again.unwrap().images.iter().all(|image| image.digest == digest));
        assert!(plan.images[0].body(at).contains("\"timestamp\":\"2026-11-22T08:15:41.7650000Z\""));
    }
}
