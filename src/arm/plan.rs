//! What has to be done so that each region of the registry has the webhook that is wanted: pure, without a call.
//!
//! Guarantees: a webhook that does not carry the tag of its set is never changed or deleted, whatever its name.
//! No secret is part of a change.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Url;

use super::operation::is_done;
use super::registry::{Registry, Stage};
use super::secret::Secret;
use super::set::is_tagged;
pub use super::set::{Set, USUAL_PREFIX};
use super::webhooks::{Callback, Webhook};
use crate::push::Region;

/// Header of a webhook that the Functions host takes its key from.
pub const KEY_HEADER: &str = "x-functions-key";

/// What is wanted of all webhooks alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Address of ImagePush, without `region`.
    pub url: Url,
    /// What opens it, sent as [`KEY_HEADER`]; `None` if nothing does, or it stands in the URL.
    pub key: Option<Secret>,
    /// Which images; empty for all.
    pub scope: String,
    /// On what.
    pub actions: BTreeSet<String>,
}

impl Template {
    /// What must not be shown: the key, and what may be one in the URL.
    pub fn secrets(&self) -> impl Iterator<Item = String> {
        let key = self.key.iter().map(|key| key.reveal().to_owned());
        key.chain(secrets(self.url.as_str()))
    }
}

/// The webhook wanted for a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its region.
    pub region: Region,
    /// Its name.
    pub name: String,
    /// Where it sends to, region included.
    pub uri: Secret,
    /// The headers it sends.
    pub headers: BTreeMap<String, Secret>,
    /// Which images; empty for all.
    pub scope: String,
    /// On what.
    pub actions: BTreeSet<String>,
    /// How far its replica is.
    pub stage: Stage,
}

/// One webhook for each region of the registry.
#[must_use]
pub fn wanted(template: &Template, set: &Set, registry: &Registry) -> Vec<Wanted> {
    let each = registry.replicas.iter().map(|replica| {
        let mut uri = template.url.clone();
        uri.query_pairs_mut().append_pair("region", replica.region.as_str());
        Wanted {
            region: replica.region.clone(),
            name: set.name(&replica.region),
            uri: Secret::new(uri.into()),
            headers: template.key.iter().map(|key| (KEY_HEADER.to_owned(), key.clone())).collect(),
            scope: template.scope.clone(),
            actions: template.actions.clone(),
            stage: replica.stage,
        }
    });
    each.collect()
}

/// What is to be done with one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The webhook's name.
    pub name: String,
    /// The region it is in, or will be.
    pub region: String,
    /// What.
    pub kind: Kind,
}

/// See [`Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// There is none yet.
    Create {
        /// The region's replica has to be complete first.
        waits: bool,
    },
    /// It is there, and differs.
    Update(Vec<Difference>),
    /// It is in a region that cannot be changed: delete it and make it anew.
    Replace {
        /// Where it is.
        location: String,
    },
    /// Delete it.
    Delete,
    /// The registry has no replica in its region.
    Orphan,
    /// It is as it should be.
    Unchanged,
    /// Its name is wanted, and it is not ours. Nothing can be done.
    Taken,
    /// It is not there, or in another region, and its replica failed or is offline: nothing is done with it until that works.
    Broken,
    /// It is left alone.
    Foreign {
        /// As far as that can be told.
        whose: Whose,
    },
}

/// To whom a webhook belongs that is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This command did not make it.
    Strangers,
    /// Another service's: its tag names another set, or it sends to another address.
    AnotherService,
    /// It is of this set; whether it sends to the address that was named may not be read.
    Unknown,
}

impl Kind {
    /// Whether something stands in the way of what was asked for, so that it is not all done in the end.
    #[must_use]
    pub fn is_obstacle(&self) -> bool {
        match self {
            Self::Taken | Self::Broken | Self::Foreign { whose: Whose::Unknown } => true,
            Self::Create { .. }
            | Self::Update(_)
            | Self::Replace { .. }
            | Self::Delete
            | Self::Orphan
            | Self::Unchanged
            | Self::Foreign { whose: Whose::Strangers | Whose::AnotherService } => false,
        }
    }

    /// Whether something is done.
    #[must_use]
    pub fn is_change(&self) -> bool {
        match self {
            Self::Create { .. } | Self::Update(_) | Self::Replace { .. } | Self::Delete => true,
            Self::Orphan | Self::Unchanged | Self::Taken | Self::Broken | Self::Foreign { .. } => false,
        }
    }
}

/// How a webhook differs from what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The URL, in the parts that may be shown: see [`shown`].
    Url {
        /// As it is.
        from: String,
        /// As it is wanted.
        to: String,
    },
    /// What of the URL may not be shown.
    UrlSecret,
    /// A header: its name, and what becomes of its value.
    Header(String, Turn),
    /// URL and headers may not be read, and are written anew.
    Unreadable,
    /// Which images.
    Scope {
        /// As it is.
        from: String,
        /// As it is wanted.
        to: String,
    },
    /// On what.
    Actions {
        /// As it is.
        from: BTreeSet<String>,
        /// As it is wanted.
        to: BTreeSet<String>,
    },
    /// It is not enabled.
    Status(String),
    /// A change of it failed, or is not complete.
    State(String),
}

impl Difference {
    /// Whether something is taken away. That a PATCH does that, with a header or a scope, is not promised; a PUT does.
    #[must_use]
    pub fn empties(&self) -> bool {
        match self {
            Self::Header(_, Turn::Removed) | Self::Unreadable => true,
            Self::Scope { to, .. } => to.is_empty(),
            Self::Header(_, Turn::Added | Turn::Changed)
            | Self::Url { .. }
            | Self::UrlSecret
            | Self::Actions { .. }
            | Self::Status(_)
            | Self::State(_) => false,
        }
    }
}

/// What becomes of a value that is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There was none.
    Added,
    /// There was another one.
    Changed,
    /// There shall be none.
    Removed,
}

/// Compares what is wanted with what is there. First one change for each wanted webhook, in their order, then one for each
/// other webhook. With `prune` orphans are deleted.
#[must_use]
pub fn plan(wanted: &[Wanted], actual: &[Webhook], set: &Set, registry: &Registry, prune: bool) -> Vec<Change> {
    let named = |name: &str| actual.iter().find(|webhook| webhook.name.eq_ignore_ascii_case(name));
    let wants = |webhook: &Webhook| wanted.iter().any(|one| one.name.eq_ignore_ascii_case(&webhook.name));
    let each = wanted.iter().map(|one| {
        let kind = match named(&one.name) {
            Some(webhook) if !set.has(webhook, registry) => Kind::Taken,
            Some(webhook) if webhook.location == one.region.as_str() => match differences(one, webhook) {
                none if none.is_empty() => Kind::Unchanged,
                some => Kind::Update(some),
            },
            None | Some(_) if one.stage == Stage::Broken => Kind::Broken,
            None => Kind::Create { waits: one.stage == Stage::New },
            Some(webhook) => Kind::Replace { location: webhook.location.clone() },
        };
        Change { name: one.name.clone(), region: one.region.to_string(), kind }
    });
    let rest = actual.iter().filter(|webhook| !wants(webhook)).map(|webhook| {
        let kind = match (set.has(webhook, registry), prune) {
            (true, true) => Kind::Delete,
            (true, false) => Kind::Orphan,
            (false, _) => Kind::Foreign { whose: of_others(webhook) },
        };
        Change { name: webhook.name.clone(), region: webhook.location.clone(), kind }
    });
    each.chain(rest).collect()
}

/// Deletes the webhooks of the set; with `url` only those that send to it, whatever their query, as far as that may be read.
#[must_use]
pub fn removal(actual: &[Webhook], set: &Set, registry: &Registry, url: Option<&Url>) -> Vec<Change> {
    let each = actual.iter().map(|webhook| {
        let kind = match (&webhook.callback, url) {
            _ if !set.has(webhook, registry) => Kind::Foreign { whose: of_others(webhook) },
            (_, None) => Kind::Delete,
            (Callback::NotRead | Callback::Unreadable, Some(_)) => Kind::Foreign { whose: Whose::Unknown },
            (Callback::Read { uri, .. }, Some(url)) => match Url::parse(uri.reveal()) {
                Ok(there) if there.origin() == url.origin() && there.path() == url.path() => Kind::Delete,
                Ok(_) | Err(_) => Kind::Foreign { whose: Whose::AnotherService },
            },
        };
        Change { name: webhook.name.clone(), region: webhook.location.clone(), kind }
    });
    each.collect()
}

/// Whose a webhook is that is not of the set.
fn of_others(webhook: &Webhook) -> Whose {
    if is_tagged(webhook) { Whose::AnotherService } else { Whose::Strangers }
}

fn differences(wanted: &Wanted, webhook: &Webhook) -> Vec<Difference> {
    let mut all = Vec::new();
    match &webhook.callback {
        Callback::NotRead | Callback::Unreadable => all.push(Difference::Unreadable),
        Callback::Read { uri, headers } => {
            if *uri != wanted.uri {
                let (from, to) = (shown(uri.reveal()), shown(wanted.uri.reveal()));
                all.push(if from == to { Difference::UrlSecret } else { Difference::Url { from, to } });
            }
            let of = |headers: &BTreeMap<String, Secret>, name: &str| {
                headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            for (name, value) in &wanted.headers {
                match of(headers, name) {
                    None => all.push(Difference::Header(name.clone(), Turn::Added)),
                    Some(there) if there != *value => all.push(Difference::Header(name.clone(), Turn::Changed)),
                    Some(_) => {}
                }
            }
            let extra = headers.keys().filter(|name| of(&wanted.headers, name).is_none());
            all.extend(extra.map(|name| Difference::Header(name.clone(), Turn::Removed)));
        }
    }
    if full_scope(&webhook.scope) != full_scope(&wanted.scope) {
        all.push(Difference::Scope { from: webhook.scope.clone(), to: wanted.scope.clone() });
    }
    if webhook.actions != wanted.actions {
        all.push(Difference::Actions { from: webhook.actions.clone(), to: wanted.actions.clone() });
    }
    if webhook.status != "enabled" {
        all.push(Difference::Status(webhook.status.clone()));
    }
    if !webhook.state.is_empty() && !is_done(&webhook.state) {
        all.push(Difference::State(webhook.state.clone()));
    }
    all
}

/// A scope in its long form: to the registry `repository` alone means its tag `latest`.
fn full_scope(scope: &str) -> String {
    if scope.is_empty() || scope.contains(':') { scope.to_owned() } else { format!("{scope}:latest") }
}

/// What may be a key in a URL: all of its query's values but the region's, a name that has no value, and what stands before
/// the host and behind `#`; a text that is no URL as a whole.
#[must_use]
pub fn secrets(uri: &str) -> Vec<String> {
    let Ok(url) = Url::parse(uri) else { return vec![uri.to_owned()] };
    let pairs = url.query_pairs().filter(|(name, _)| name != "region");
    let around = [url.username(), url.password().unwrap_or_default(), url.fragment().unwrap_or_default()];
    pairs
        .map(|(name, value)| if value.is_empty() { name } else { value }.into_owned())
        .chain(around.map(str::to_owned))
        .collect()
}

/// A URL as it may be shown: without [`secrets`].
#[must_use]
pub fn shown(uri: &str) -> String {
    let Ok(mut url) = Url::parse(uri) else { return "(no URL)".to_owned() };
    let pairs: Vec<String> = url
        .query_pairs()
        .map(|(name, value)| match (name.as_ref(), value.as_ref()) {
            ("region", value) => format!("region={value}"),
            (_, "") => "…".to_owned(),
            (name, _) => format!("{name}=…"),
        })
        .collect();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if pairs.is_empty() { url.into() } else { format!("{url}?{}", pairs.join("&")) }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
