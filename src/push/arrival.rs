//! The registry's webhook body becomes an [`Arrival`] here and nowhere else; what makes two webhooks the same push is decided
//! here too.
//!
//! Guarantee: whatever bytes come in, the result is a webhook or a [`Fault`] that names what is wrong and repeats
//! nothing of the body. Unknown members are kept in the raw text, missing optional ones are fine, unknown actions are
//! told apart so that they can be answered with success. Shapes: Microsoft's "Azure Container Registry webhook reference".

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Key, Region, Subject};
use crate::clock::Instant;
use crate::limits;

/// Which members name a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correlation {
    /// Registry, repository, tag, digest and action: equal in all regions by definition.
    #[default]
    Content,
    /// The webhook's `id`, within its tag; nobody promises that it is equal in all regions.
    Id,
}

/// One region's webhook, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The region that reports.
    pub region: Region,
    /// When ImagePush received it; a spilled arrival keeps this instant.
    pub received: Instant,
    /// `id` of the webhook.
    pub id: String,
    /// What was pushed.
    pub subject: Subject,
    /// The registry's own JSON text, unchanged.
    pub payload: String,
}

impl Arrival {
    /// Reads what was received for `region` at `received`. Where `registry` is given, it stands in place of the one that the
    /// body names.
    ///
    /// # Errors
    /// As for [`parse`], `body_too_large` above [`limits::WEBHOOK_BYTES_MAX`], and `action_unfit` when the body starts
    /// nothing.
    pub fn read(region: Region, received: Instant, payload: String, registry: Option<&str>) -> Result<Self, Fault> {
        if payload.len() > limits::WEBHOOK_BYTES_MAX {
            let message = format!("The body has {} bytes; {} are allowed.", payload.len(), limits::WEBHOOK_BYTES_MAX);
            return Err(Fault::new("body_too_large", message));
        }
        match parse(payload.as_bytes())? {
            Webhook::Ping | Webhook::Unknown => Err(Fault::new("action_unfit", "This action starts nothing.")),
            Webhook::FanIn { id, subject } => {
                let registry = registry.map_or_else(|| subject.registry.clone(), str::to_owned);
                Ok(Self { region, received, id, subject: Subject { registry, ..subject }, payload })
            }
        }
    }

    /// The key of the push that this arrival is a report of. The mode is part of it, so that a switch of the setting cannot
    /// mix the two.
    #[must_use]
    pub fn key(&self, correlation: Correlation) -> Key {
        self.subject.key(correlation, &self.id)
    }
}

impl Subject {
    /// The [place](Key::place) of a push of the same digest without a tag.
    #[must_use]
    pub fn untagged_place(&self) -> String {
        let untagged = Self { tag: None, ..self.clone() };
        untagged.key(Correlation::Content, "").place().to_owned()
    }

    /// See [`Arrival::key`]; `id` is that of the webhook.
    pub(super) fn key(&self, correlation: Correlation, id: &str) -> Key {
        let Self { registry, repository, tag, digest, action } = self;
        match (correlation, tag) {
            (Correlation::Content, Some(tag)) => Key::of(&["tag", registry, repository, tag, action], &[digest]),
            (Correlation::Content, None) => Key::of(&["digest", registry, repository, digest, action], &[]),
            (Correlation::Id, Some(tag)) => Key::of(&["id", registry, repository, tag, action], &[id]),
            (Correlation::Id, None) => Key::of(&["id", registry, repository, action], &[id]),
        }
    }
}

impl Correlation {
    /// Whether what was pushed names a push.
    #[must_use]
    pub fn is_content(self) -> bool {
        self == Self::Content
    }

    /// The word used in settings and documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Id => "id",
        }
    }
}

/// A well-formed webhook body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Webhook {
    /// `ping`: sent by the portal and by `az acr webhook ping`; starts nothing.
    Ping,
    /// An action this service does not know; it starts nothing.
    Unknown,
    /// One that fans in.
    FanIn {
        /// `id` of the webhook.
        id: String,
        /// What it is about.
        subject: Subject,
    },
}

/// Why a body is not a webhook of the registry. `code` is stable, `message` is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Stable identifier.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    target: Option<Object<Target>>,
    #[serde(default)]
    request: Option<Object<Request>>,
}

/// Names of members that are read.
const MEMBERS: [&str; 8] = ["id", "action", "target", "request", "repository", "digest", "tag", "host"];

/// A JSON object and nothing else: left to itself, serde reads a struct from an array of its members too.
struct Object<T>(T);

/// Refuses a member whose name is one of [`MEMBERS`] in other letters: receivers that do not mind the case, as .NET and Go do
/// not, would read another value than we.
struct Exact<M>(M);

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Exact<M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, M::Error> {
        let Some(name) = self.0.next_key::<String>()? else { return Ok(None) };
        // Both ways, since letters such as the long s have no lower case of their own.
        let folded = name.to_uppercase().to_lowercase();
        if folded != name && MEMBERS.contains(&folded.as_str()) {
            return Err(M::Error::custom("a member's name in other letters"));
        }
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        self.0.next_value_seed(seed)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Object<T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(Exact(map))).map(Object)
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    repository: Option<String>,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    host: Option<String>,
}

/// Reads a webhook body.
///
/// # Errors
/// A [`Fault`] when the body is empty, not UTF-8, not JSON, not an object, has a known member of the wrong type or too
/// long a value, or lacks a member that its action needs.
pub fn parse(body: &[u8]) -> Result<Webhook, Fault> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::new("body_empty", "The body is empty; a webhook of ACR is a JSON object."));
    }
    let text = std::str::from_utf8(body).map_err(|_| Fault::new("body_not_json", "The body is not UTF-8 text."))?;
    let object = text.trim_start().starts_with('{');
    if is_event_grid(text) {
        return Err(Fault::new(
            "event_grid",
            "This is an event of Azure Event Grid, which is not read here: give the registry itself a webhook in each region.",
        ));
    }
    if !object {
        // Tell "JSON, but not an object" from "not JSON", since the two have different causes at the sender.
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => {
                Fault::new("body_not_object", "The body is JSON but not an object; one webhook of ACR is one object.")
            }
            Err(_) => Fault::new("body_not_json", "The body is not JSON."),
        });
    }
    let Object(body) = serde_json::from_str(text).map_err(|e| {
        let place = format!("line {}, column {}", e.line(), e.column());
        match e.classify() {
            serde_json::error::Category::Data => Fault::new(
                "member_type",
                format!("A member has the wrong type at {place}: `id`, `action`, `target.repository`, `target.digest`, `target.tag` and `request.host` are strings, `target` and `request` are objects, none may stand twice, be it in other letters."),
            ),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => Fault::new("body_not_text", format!("A string has half of a `\\u` pair, which is no character, at {place}.")),
                Err(_) => Fault::new("body_not_json", format!("The body is not JSON; it breaks off at {place}.")),
            },
        }
    })?;
    webhook(body)
}

/// Whether a body is an event, or a handshake, of Azure Event Grid in one of its two schemas.
fn is_event_grid(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "eventType", alias = "type")]
        kind: String,
    }
    let text = text.trim_start();
    let event = match text.strip_prefix('[') {
        Some(_) => serde_json::from_str::<Vec<Event>>(text).ok().and_then(|events| events.into_iter().next()),
        None => serde_json::from_str(text).ok(),
    };
    event.is_some_and(|event| {
        ["Microsoft.ContainerRegistry.", "Microsoft.EventGrid."].iter().any(|start| event.kind.starts_with(start))
    })
}

fn webhook(body: Body) -> Result<Webhook, Fault> {
    let action = bounded("action", body.action)?
        .ok_or_else(|| Fault::new("action_missing", "The member `action` is missing or empty."))?;
    match action.as_str() {
        "ping" => return Ok(Webhook::Ping),
        "push" | "delete" | "quarantine" | "chart_push" | "chart_delete" => {}
        _ => return Ok(Webhook::Unknown),
    }
    let missing = |member: &str| {
        Fault::new(
            "member_missing",
            format!("The member `{member}` is missing or empty; the action `{action}` needs it."),
        )
    };
    let id = bounded("id", body.id)?.ok_or_else(|| missing("id"))?;
    let Object(target) = body.target.ok_or_else(|| missing("target"))?;
    let repository = bounded("target.repository", target.repository)?.ok_or_else(|| missing("target.repository"))?;
    let digest = bounded("target.digest", target.digest)?.ok_or_else(|| missing("target.digest"))?;
    let tag = bounded("target.tag", target.tag)?;
    let host = bounded("request.host", body.request.and_then(|Object(request)| request.host))?.unwrap_or_default();
    // Once more, as it is kept: lower case can be longer.
    let registry = bounded("request.host", Some(login_server(&host)))?.unwrap_or_default();
    Ok(Webhook::FanIn { id, subject: Subject { registry, repository, tag, digest, action } })
}

/// The value, `None` when absent or empty.
fn bounded(member: &str, value: Option<String>) -> Result<Option<String>, Fault> {
    let max = if member == "id" { limits::ID_BYTES_MAX } else { limits::MEMBER_BYTES_MAX };
    match value {
        Some(text) if text.len() > max => Err(Fault::new(
            "member_too_long",
            format!("The member `{member}` has {} bytes; {max} are allowed.", text.len()),
        )),
        Some(text) if text.is_empty() => Ok(None),
        other => Ok(other),
    }
}

/// The registry's plain login server from `request.host`: lower case, without a port or a trailing dot, and without the
/// `.<region>.geo` or `.<region>.data` of a regional endpoint, so that a push through any endpoint is the same push.
#[must_use]
pub fn login_server(host: &str) -> String {
    let host = host.trim().to_lowercase();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => &*host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let labels: Vec<&str> = host.split('.').collect();
    match labels[..] {
        [registry, _region, "geo" | "data", ref cloud @ ..] if !cloud.is_empty() => {
            format!("{registry}.{}", cloud.join("."))
        }
        _ => host.to_owned(),
    }
}

#[cfg(test)]
#[path = "arrival_tests.rs"]
mod tests;
