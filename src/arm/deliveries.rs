//! What a webhook sent lately, and a ping to see that it arrives.
//!
//! Guarantee: of the registry's log only what is listed in [`Delivery`] is kept. The rest holds keys in clear (headers, URL) and
//! texts of strangers (answers).

use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::error::Error;
use super::registry::Registry;
use crate::clock::Instant;

/// One delivery as the registry remembers it. How many it keeps, and how long, nobody promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The `id` that the webhook's body had.
    pub id: String,
    /// When the registry made it, by its own clock.
    pub at: Option<Instant>,
    /// `push`, `ping` and so on.
    pub action: String,
    /// Which image; all empty for a ping.
    pub repository: String,
    /// Empty for a manifest without one.
    pub tag: String,
    /// The manifest's digest.
    pub digest: String,
    /// HTTP status of the answer; 504 is the registry's own for one that took longer than 5 s. `None` where there is none.
    pub status: Option<u16>,
}

/// The log of a webhook, as the registry orders it: its first page, in which the latest deliveries stand.
///
/// # Errors
/// ARM cannot be asked (action `webhooks/listEvents`), or there is no such webhook.
pub async fn list(client: &Client, registry: &Registry, webhook: &str) -> Result<Vec<Delivery>, Error> {
    let call = format!("read the log of the webhook {webhook}");
    let url = registry.id.url(client, &["webhooks", webhook, "listEvents"]);
    let body = client.call(&call, Method::POST, url, None).await?.body;
    let Some(all) = body.get("value").and_then(Value::as_array) else {
        return Err(Error::Odd(format!("To {call}, Azure answered with something that is no list.")));
    };
    Ok(all.iter().map(Delivery::of).collect())
}

impl Delivery {
    fn of(event: &Value) -> Self {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let content = |member: &str| text(&format!("/eventRequestMessage/content/{member}"));
        let status = event.pointer("/eventResponseMessage/statusCode");
        Self {
            id: text("/id"),
            at: content("timestamp").parse().ok(),
            action: content("action"),
            repository: content("target/repository"),
            tag: content("target/tag"),
            digest: content("target/digest"),
            // A text that holds a number.
            status: status
                .and_then(|code| code.as_str().map_or_else(|| code.as_u64()?.try_into().ok(), |s| s.parse().ok())),
        }
    }
}

/// Has the registry send a ping; the `id` that its body will have. That it was sent does not say that it arrived.
///
/// # Errors
/// ARM cannot be asked (action `webhooks/ping`), or there is no such webhook.
pub async fn ping(client: &Client, registry: &Registry, webhook: &str) -> Result<String, Error> {
    let call = format!("ping with the webhook {webhook}");
    let url = registry.id.url(client, &["webhooks", webhook, "ping"]);
    let body = client.call(&call, Method::POST, url, None).await?.body;
    let id = body.get("id").and_then(Value::as_str).map(str::to_owned);
    id.ok_or_else(|| Error::Odd(format!("To {call}, Azure did not answer with the ping's id.")))
}
