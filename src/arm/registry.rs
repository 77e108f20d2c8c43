//! The registry as ARM knows it: where it is, and in which regions its images are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;

use super::client::Client;
use super::error::Error;
use super::operation::{OPERATION_MAX, is_failed, is_passing, state};
use crate::clock;
use crate::push::Region;

/// Version of the registry's resources; stable, and has all that is used here.
pub(super) const VERSION: &str = "2025-11-01";

const RESOURCES_VERSION: &str = "2024-11-01";
const SUBSCRIPTIONS_VERSION: &str = "2022-12-01";

/// Most subscriptions that are searched for a registry's name; each costs a call.
const SUBSCRIPTIONS_MAX: usize = 300;

/// Time between two looks at a replica that is being made, which takes some ten seconds.
const MADE_EVERY: Duration = Duration::from_secs(3);

/// The only tier whose registries have replicas.
const PREMIUM: &str = "Premium";

/// All tiers that there are, or were.
const SKUS: [&str; 4] = [PREMIUM, "Standard", "Basic", "Classic"];

const PROVIDER: [&str; 2] = ["Microsoft.ContainerRegistry", "registries"];

/// Full name of a registry: its resource id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// Id of the subscription.
    pub subscription: String,
    /// Name of the resource group.
    pub group: String,
    /// Name of the registry: 5 to 50 ASCII letters and digits.
    pub name: String,
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = segments(text, PROVIDER[0], PROVIDER[1]).filter(|parts| parts.len() == 8 && is_name(parts[7]));
        let parts = parts.ok_or(
            "is no id of a registry, which looks like /subscriptions/…/resourceGroups/…/providers/\
             Microsoft.ContainerRegistry/registries/…",
        )?;
        let [subscription, group, name] = [1, 3, 7].map(|at: usize| parts[at].to_owned());
        Ok(Self { subscription, group, name })
    }
}

/// The segments of the id of a resource, which is of a `kind` of a provider's, or in such a one. None of them may lead elsewhere.
pub(super) fn segments<'t>(text: &'t str, provider: &str, kind: &str) -> Option<Vec<&'t str>> {
    let parts: Vec<&str> = text.trim().trim_end_matches('/').strip_prefix('/')?.split('/').collect();
    let fixed = [(0, "subscriptions"), (2, "resourceGroups"), (4, "providers"), (5, provider), (6, kind)];
    let is_such = fixed.iter().all(|(at, word)| parts.get(*at).is_some_and(|part| part.eq_ignore_ascii_case(word)));
    let plain = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c)) && !part.ends_with('.')
    };
    (is_such && parts.len() >= 8 && parts.iter().all(plain)).then_some(parts)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscription, group, name } = self;
        let [provider, kind] = PROVIDER;
        write!(f, "/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/{kind}/{name}")
    }
}

impl Id {
    /// The address of the registry, or of what `rest` names in it.
    pub(super) fn url(&self, client: &Client, rest: &[&str]) -> Url {
        let [provider, kind] = PROVIDER;
        let own = [
            "subscriptions",
            &self.subscription,
            "resourceGroups",
            &self.group,
            "providers",
            provider,
            kind,
            &self.name,
        ];
        client.url(own.into_iter().chain(rest.iter().copied()), VERSION)
    }
}

fn is_name(text: &str) -> bool {
    (5..=50).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The name of a registry as people write it: alone, or as its login server.
///
/// # Errors
/// It can be neither.
pub fn name(text: &str) -> Result<&str, String> {
    let name = match text.split_once('.') {
        // Some login servers have a hash behind the name, which itself has no hyphen.
        Some((label, _)) => label.split('-').next().unwrap_or_default(),
        None => text,
    };
    if is_name(name) { Ok(name) } else { Err("is no name of a registry: 5 to 50 letters and digits".into()) }
}

/// Finds the registry called `name`, in one subscription (id or name) or in all that can be seen.
///
/// # Errors
/// There is none, or there are several.
pub async fn find(client: &Client, name: &str, subscription: Option<&str>, group: Option<&str>) -> Result<Id, Error> {
    if let (Some(subscription), Some(group)) = (subscription.filter(|text| is_guid(text)), group) {
        return Ok(Id { subscription: subscription.to_owned(), group: group.to_owned(), name: name.to_owned() });
    }
    let searched = match subscription {
        Some(id) if is_guid(id) => vec![id.to_owned()],
        other => subscriptions(client, other).await?,
    };
    let (mut found, mut hidden) = (Vec::new(), 0);
    for subscription in &searched {
        match registries(client, subscription).await {
            Ok(ids) => found.extend(ids.into_iter().filter(|id| {
                id.name.eq_ignore_ascii_case(name) && group.is_none_or(|group| id.group.eq_ignore_ascii_case(group))
            })),
            // One of many that may not be read is not the one that is meant, as long as another has the registry.
            Err(error) if error.status() == Some(403) && searched.len() > 1 => hidden += 1,
            Err(error) => return Err(error),
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let places = match searched.len() {
                1 => format!("subscription {}", searched[0]),
                many => format!("{many} subscriptions that you can see"),
            };
            let group = group.map(|group| format!(", resource group {group}")).unwrap_or_default();
            let hidden = if hidden == 0 { String::new() } else { format!("; {hidden} of them may not be searched") };
            Err(Error::NoRegistry(format!(
                "There is no registry {name} in {places}{group}{hidden}. Check the name and `az account show`; a registry that \
                 you have no role on looks as if it were not there. --subscription says where to look."
            )))
        }
        _ => {
            let ids: Vec<String> = found.iter().map(Id::to_string).collect();
            Err(Error::NoRegistry(format!(
                "Several registries are called {name}; give one of these ids: {}",
                ids.join(", ")
            )))
        }
    }
}

fn is_guid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok()
}

/// Ids of the enabled subscriptions, all or those called `wanted`.
async fn subscriptions(client: &Client, wanted: Option<&str>) -> Result<Vec<String>, Error> {
    let all = client.list("list the subscriptions", client.url(["subscriptions"], SUBSCRIPTIONS_VERSION)).await?;
    let text = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ids: Vec<String> = all
        .iter()
        .filter(|one| match wanted {
            Some(wanted) => text(one, "displayName").eq_ignore_ascii_case(wanted),
            None => !matches!(text(one, "state").as_str(), "Disabled" | "Deleted"),
        })
        .map(|one| text(one, "subscriptionId"))
        .filter(|id| is_guid(id))
        .collect();
    match (ids.len(), wanted) {
        (0, Some(wanted)) => Err(Error::NoRegistry(format!(
            "You can see no subscription that is called {wanted}: `az account list` shows them."
        ))),
        (0, None) => Err(Error::NoRegistry("You can see no subscription: ask for a role on the registry.".into())),
        (count, _) if count > SUBSCRIPTIONS_MAX => Err(Error::NoRegistry(format!(
            "You can see {count} subscriptions, too many to search: say which one with --subscription."
        ))),
        _ => Ok(ids),
    }
}

async fn registries(client: &Client, subscription: &str) -> Result<Vec<Id>, Error> {
    let mut url = client.url(["subscriptions", subscription, "resources"], RESOURCES_VERSION);
    // By hand: a blank as `+`, which the form encoding makes of it, is not promised to be understood.
    let filter = format!("$filter=resourceType%20eq%20'{}'", PROVIDER.join("/"));
    url.set_query(Some(&format!("{filter}&api-version={RESOURCES_VERSION}")));
    let all = client.list("look for the registry", url).await?;
    Ok(all.iter().filter_map(|one| one.get("id")?.as_str()?.parse().ok()).collect())
}

/// A registry and its regions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its resource id.
    pub id: Id,
    /// `Basic`, `Standard` or `Premium`; only the last has replicas.
    pub sku: String,
    /// Where it was made, and where its management is.
    pub home: Region,
    /// All regions that have its images, the home region first, the others by name.
    pub replicas: Vec<Replica>,
}

/// One region of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The region.
    pub region: Region,
    /// How far it is.
    pub stage: Stage,
}

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has all images, and reports pushes.
    Complete,
    /// It still copies what was there before, and reports pushes late.
    Syncing,
    /// It is still being made, and takes no webhook yet.
    New,
    /// Making it failed or was canceled, or it is offline: it reports nothing.
    Broken,
}

impl Stage {
    /// By ARM's words for what is being done with the replica, and for how it fares.
    fn of(state: &str, displayed: &str) -> Self {
        if is_passing(state) && !state.eq_ignore_ascii_case("Updating") {
            Self::New
        } else if is_failed(state) || displayed.eq_ignore_ascii_case("Offline") {
            Self::Broken
        } else if displayed.eq_ignore_ascii_case("Syncing") {
            Self::Syncing
        } else {
            Self::Complete
        }
    }
}

impl Registry {
    /// The regions' names.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.replicas.iter().map(|replica| &replica.region)
    }
}

/// Reads a registry and its replicas.
///
/// # Errors
/// ARM cannot be asked, or names no region or no known tier. An error is never "no replicas".
pub async fn read(client: &Client, id: &Id) -> Result<Registry, Error> {
    let body = client.get("read the registry", id.url(client, &[])).await?.body;
    let home = region(&body)?;
    let sku = body.pointer("/sku/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !SKUS.iter().any(|known| sku.eq_ignore_ascii_case(known)) {
        let why =
            "Azure's answer about the registry names no tier that is known, so its replicas are not known either.";
        return Err(Error::Odd(why.into()));
    }
    let mut registry = Registry { id: id.clone(), sku, home, replicas: Vec::new() };
    registry.replicas = replicas(client, &registry).await?;
    Ok(registry)
}

/// The home region, and those of the replications, by their locations: their names may be anything. Once there is a second
/// region, the home region is among them. One that is being deleted does not count.
async fn replicas(client: &Client, registry: &Registry) -> Result<Vec<Replica>, Error> {
    let mut home = Replica { region: registry.home.clone(), stage: Stage::Complete };
    let mut others = BTreeMap::new();
    if registry.sku.eq_ignore_ascii_case(PREMIUM) {
        for one in client.list("list the replicas", registry.id.url(client, &["replications"])).await? {
            let state = state(&one).unwrap_or_default();
            let region = region(&one)?;
            if state.eq_ignore_ascii_case("Deleting") {
                continue;
            }
            let displayed = one.pointer("/properties/status/displayStatus").and_then(Value::as_str).unwrap_or_default();
            let stage = Stage::of(state, displayed);
            if region == home.region {
                home.stage = stage;
            } else {
                others.insert(region.clone(), Replica { region, stage });
            }
        }
    }
    Ok(std::iter::once(home).chain(others.into_values()).collect())
}

/// Waits until the replica in `region` can be given a webhook.
pub(super) async fn wait_for(client: &Client, registry: &Registry, region: &Region) -> Result<(), Error> {
    let begun = client.clock().now();
    let mut told = false;
    loop {
        let replicas = replicas(client, registry).await?;
        match replicas.iter().find(|replica| replica.region == *region).map(|replica| replica.stage) {
            Some(Stage::New) => {}
            Some(Stage::Complete | Stage::Syncing) => return Ok(()),
            Some(Stage::Broken) => {
                return Err(Error::Failed(format!(
                    "The replica in {region} failed or is offline: see it in the portal."
                )));
            }
            None => return Err(Error::Failed(format!("The replica in {region} is gone; run the command again."))),
        }
        if clock::until(begun, client.clock().now()) > OPERATION_MAX {
            let minutes = OPERATION_MAX.as_secs() / 60;
            return Err(Error::Slow(format!(
                "The replica in {region} is still being made after {minutes} minutes; run the command again later."
            )));
        }
        if !told {
            client.notice(&format!("The replica in {region} is still being made: waiting for it."));
            told = true;
        }
        client.clock().sleep(MADE_EVERY).await;
    }
}

fn region(resource: &Value) -> Result<Region, Error> {
    let location = resource.get("location").and_then(Value::as_str).unwrap_or_default();
    Region::parse(location)
        .map_err(|why| Error::Odd(format!("Azure's answer about the registry names a region that is none: {why}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        let text =
            "/subscriptions/0a/resourceGroups/rg-1_(x).y/providers/Microsoft.ContainerRegistry/registries/contoso";
        assert_eq!(text.parse::<Id>().unwrap().to_string(), text);
        let odd_case = text.to_uppercase();
        assert_eq!(odd_case.parse::<Id>().unwrap().name, "CONTOSO");
        for not in [
            "",
            "contoso",
            &text.replace("contoso", "a/b"),
            &text.replace("contoso", "con"),
            &text.replace("contoso", ".."),
            &text.replace("0a", ".."),
            &text.replace("rg-1_(x).y", ".."),
            &text.replace("rg-1_(x).y", "a?b"),
            &text.replace("ContainerRegistry", "Web"),
            &format!("{text}/webhooks"),
        ] {
            assert!(not.parse::<Id>().is_err(), "{not}");
        }
    }

    #[test]
    fn a_replica_is_as_far_as_both_words_say() {
        for (state, displayed, stage) in [
            ("Succeeded", "Ready", Stage::Complete),
            ("Succeeded", "", Stage::Complete),
            ("Updating", "Ready", Stage::Complete),
            ("Succeeded", "syncing", Stage::Syncing),
            ("Creating", "", Stage::New),
            ("Failed", "", Stage::Broken),
            ("canceled", "Ready", Stage::Broken),
            ("Cancelled", "Syncing", Stage::Broken),
            ("Succeeded", "Offline", Stage::Broken),
        ] {
            assert_eq!(Stage::of(state, displayed), stage, "{state} {displayed}");
        }
    }

    #[test]
    fn a_registry_is_called_by_its_name_or_its_login_server() {
        for (text, named) in [
            ("contoso", "contoso"),
            ("contoso.azurecr.io", "contoso"),
            ("contoso-a1b2.azurecr.io", "contoso"),
            ("Contoso.azurecr.cn", "Contoso"),
        ] {
            assert_eq!(name(text), Ok(named));
        }
        for not in ["", "a", "con-toso", "contoso/x", "../..", ".azurecr.io"] {
            assert!(name(not).is_err(), "{not}");
        }
    }
}
