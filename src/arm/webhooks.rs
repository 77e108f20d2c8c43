//! The registry's webhooks in ARM's words.
//!
//! Guarantee: what is secret in them (URL and headers, which ARM gives in clear) is read for our own webhooks only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::error::Error;
use super::operation::{self, End, is_passing};
use super::plan::{self, Set, Wanted};
use super::registry::{self, Registry, Stage};
use super::secret::Secret;
use crate::clock;

/// Variable of the environment that holds the key.
pub const KEY_VARIABLE: &str = "WebhookKey";

/// Calls at the same time. ARM allows an identity 10 writes a second in the long run, and reading a URL counts as one.
const SIDE_BY_SIDE: usize = 4;

/// How long a replica that is said to be ready may be unknown to the webhooks.
const UNKNOWN_REPLICA_MAX: Duration = Duration::from_secs(60);

/// Time between two looks at webhooks that Azure is at work on, which takes seconds.
const BUSY_EVERY: Duration = Duration::from_secs(2);

/// Wait before the next try with such a replica.
const UNKNOWN_REPLICA_WAIT: Duration = Duration::from_secs(3);

/// A webhook as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name, which Azure compares without case.
    pub name: String,
    /// Its region, in lower case and without blanks.
    pub location: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Which images; empty for all.
    pub scope: String,
    /// On what, such as `push`.
    pub actions: BTreeSet<String>,
    /// `Succeeded`, or what is being done with it, or that it failed.
    pub state: String,
    /// Where it sends to.
    pub callback: Callback,
}

/// Where a webhook sends to, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callback {
    /// Nobody asked: the webhook is not ours.
    NotRead,
    /// Whoever runs the command may not read it.
    Unreadable,
    /// It was read.
    Read {
        /// The whole URL.
        uri: Secret,
        /// Headers that come with every delivery.
        headers: BTreeMap<String, Secret>,
    },
}

impl Webhook {
    fn of(body: &Value) -> Option<Self> {
        let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let tags = body.get("tags").and_then(Value::as_object).into_iter().flatten();
        let actions = body.pointer("/properties/actions").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            name: body.get("name")?.as_str()?.to_owned(),
            location: text("/location").chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase(),
            tags: tags.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect(),
            status: text("/properties/status").to_ascii_lowercase(),
            scope: text("/properties/scope"),
            actions: actions.filter_map(|action| Some(action.as_str()?.to_ascii_lowercase())).collect(),
            state: text("/properties/provisioningState"),
            callback: Callback::NotRead,
        })
    }
}

/// All webhooks of the registry, by name; those of `set` with where they send to.
///
/// # Errors
/// ARM cannot be asked. That one's URL may not be read is no error, but [`Callback::Unreadable`].
pub async fn read(client: &Client, registry: &Registry, set: &Set) -> Result<Vec<Webhook>, Error> {
    let listed = client.list("list the webhooks", registry.id.url(client, &["webhooks"])).await?;
    let webhooks = listed.iter().map(|body| {
        Webhook::of(body).ok_or_else(|| Error::Odd("Azure's list of webhooks has one without a name.".into()))
    });
    let mut webhooks: Vec<Webhook> = futures_util::stream::iter(webhooks)
        .map(|webhook| async move {
            let mut webhook = webhook?;
            if set.has(&webhook, registry) {
                webhook.callback = callback(client, registry, &webhook.name).await?;
            }
            Ok::<_, Error>(webhook)
        })
        .buffered(SIDE_BY_SIDE)
        .try_collect()
        .await?;
    webhooks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(webhooks)
}

/// Reads where a webhook sends to. The answer keeps nothing to itself but `Authorization`.
async fn callback(client: &Client, registry: &Registry, name: &str) -> Result<Callback, Error> {
    let url = registry.id.url(client, &["webhooks", name, "getCallbackConfig"]);
    let body = match client.call("read a webhook's URL", Method::POST, url, None).await {
        Ok(answer) => answer.body,
        // 404: gone since it was listed, or not complete yet.
        Err(error) if matches!(error.status(), Some(403 | 404)) => return Ok(Callback::Unreadable),
        Err(error) => return Err(error),
    };
    let Some(uri) = body.get("serviceUri").and_then(Value::as_str) else { return Ok(Callback::Unreadable) };
    let headers = body.get("customHeaders").and_then(Value::as_object).into_iter().flatten();
    let headers: BTreeMap<_, _> = headers
        .map(|(name, value)| (name.clone(), Secret::new(value.as_str().unwrap_or_default().to_owned())))
        .collect();
    for secret in headers.values().map(Secret::reveal).chain(plan::secrets(uri).iter().map(String::as_str)) {
        client.hide(secret);
    }
    Ok(Callback::Read { uri: Secret::new(uri.to_owned()), headers })
}

/// Makes the webhook, or makes the one that is there just what is wanted, with these tags. Where its replica is new, waits for it.
///
/// # Errors
/// ARM refuses, or the replica is not ready in time. What was made is found by the next reading.
pub async fn create(
    client: &Client,
    registry: &Registry,
    wanted: &Wanted,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let call = format!("write the webhook {}", wanted.name);
    if wanted.stage == Stage::New {
        registry::wait_for(client, registry, &wanted.region).await?;
    }
    let url = registry.id.url(client, &["webhooks", &wanted.name]);
    let body = json!({ "location": wanted.region.as_str(), "tags": tags, "properties": properties(wanted) });
    let begun = client.clock().now();
    let answer = loop {
        match client.call(&call, Method::PUT, url.clone(), Some(&body)).await {
            Err(error) if error.is(404, "RegistryResourceNotFound") => {
                if clock::until(begun, client.clock().now()) > UNKNOWN_REPLICA_MAX {
                    return Err(error);
                }
                client.notice(&format!("The registry does not know {} yet: waiting.", wanted.region));
                client.clock().sleep(UNKNOWN_REPLICA_WAIT).await;
            }
            other => break other?,
        }
    };
    operation::wait(client, &call, answer, &url, End::There).await
}

/// Writes everything that is wanted of a webhook that is there, but for its tags, which stay.
///
/// # Errors
/// ARM refuses, or it failed.
pub async fn update(client: &Client, registry: &Registry, wanted: &Wanted) -> Result<(), Error> {
    let call = format!("change the webhook {}", wanted.name);
    let url = registry.id.url(client, &["webhooks", &wanted.name]);
    let body = json!({ "properties": properties(wanted) });
    let answer = client.call(&call, Method::PATCH, url.clone(), Some(&body)).await?;
    operation::wait(client, &call, answer, &url, End::There).await
}

/// Deletes a webhook and waits until it is gone. One that is gone already is no error.
///
/// # Errors
/// ARM refuses, or it failed.
pub async fn delete(client: &Client, registry: &Registry, name: &str) -> Result<(), Error> {
    let call = format!("delete the webhook {name}");
    let url = registry.id.url(client, &["webhooks", name]);
    match client.call(&call, Method::DELETE, url.clone(), None).await {
        Ok(answer) => operation::wait(client, &call, answer, &url, End::Gone).await,
        Err(error) if error.status() == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits until nothing is being done any more with the webhooks of `set`, as after a command that was killed.
///
/// # Errors
/// It takes longer than an operation may.
pub async fn settled(client: &Client, registry: &Registry, set: &Set) -> Result<Vec<Webhook>, Error> {
    let begun = client.clock().now();
    loop {
        let webhooks = read(client, registry, set).await?;
        let busy = webhooks.iter().find(|webhook| set.has(webhook, registry) && is_passing(&webhook.state));
        let Some(busy) = busy else { return Ok(webhooks) };
        if clock::until(begun, client.clock().now()) > operation::OPERATION_MAX {
            let (name, state) = (&busy.name, &busy.state);
            return Err(Error::Slow(format!(
                "Azure has had the webhook {name} in state {state} for too long; try later."
            )));
        }
        client.notice(&format!("Azure is still at work on the webhook {}: waiting.", busy.name));
        client.clock().sleep(BUSY_EVERY).await;
    }
}

fn properties(wanted: &Wanted) -> Value {
    let headers: BTreeMap<&str, &str> =
        wanted.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    json!({
        "serviceUri": wanted.uri.reveal(),
        "customHeaders": headers,
        "status": "enabled",
        "scope": wanted.scope,
        "actions": wanted.actions,
    })
}
