//! Bodies of outgoing notifications, one for each format and notice.
//!
//! Guarantee: a body depends on the row's settled facts and the notice only, so every attempt at one notification says the
//! same, also when a retry happens after more regions have arrived. The registry's own format is the registry's own text,
//! byte for byte but for `request.host`, whether the image came to be everywhere in time or late. It has no word for anything
//! else, since some of its consumers do not look at `action` at all: an alarm in this format would be deployed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::chat;
use crate::api::time;
use crate::clock::Instant;
use crate::limits;
use crate::push::Region;
use crate::push::state::{Notice, Row};

/// Shape of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The registry's own notification, as if it had been sent once.
    #[default]
    Acr,
    /// Standard Webhooks: `type`, `timestamp`, `data`.
    Standard,
    /// CloudEvents 1.0, structured mode.
    CloudEvents,
    /// Slack incoming webhook.
    Slack,
    /// Teams workflow: an Adaptive Card.
    Teams,
    /// GitHub's `repository_dispatch`, which starts workflows.
    Github,
}

impl Format {
    /// Every format.
    pub(super) const ALL: [Self; 6] =
        [Self::Acr, Self::Standard, Self::CloudEvents, Self::Slack, Self::Teams, Self::Github];

    /// Reads the word of the settings, in any case.
    ///
    /// # Errors
    /// Names the words there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::word).join(", ");
        let found = Self::ALL.into_iter().find(|format| format.word().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| format!("is no format; the formats are {}", known()))
    }

    /// The word of the settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Acr => "acr",
            Self::Standard => "standard",
            Self::CloudEvents => "cloudevents",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Github => "github",
        }
    }

    /// Whether this format has words for `notice`.
    #[must_use]
    pub fn tells(self, notice: Notice) -> bool {
        match self {
            Self::Acr => matches!(notice, Notice::Replicated | Notice::Recovered),
            Self::Standard | Self::CloudEvents | Self::Slack | Self::Teams | Self::Github => true,
        }
    }
}

/// A body and the headers that belong to its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `User-Agent`; receivers of the registry's format look at it.
    pub user_agent: &'static str,
    /// JSON text.
    pub body: String,
}

impl Message {
    /// This body, with the headers of its format.
    pub(super) fn new(format: Format, body: String) -> Self {
        let (content_type, user_agent) = match format {
            Format::Acr => ("application/json; charset=utf-8", "AzureContainerRegistry/1.0"),
            Format::CloudEvents => ("application/cloudevents+json; charset=UTF-8", OWN_AGENT),
            Format::Standard | Format::Slack | Format::Teams | Format::Github => ("application/json", OWN_AGENT),
        };
        Self { content_type, user_agent, body }
    }
}

const OWN_AGENT: &str = concat!("acr-global-webhook/", env!("CARGO_PKG_VERSION"));

/// What `notice` says of `row`, in `format`. `public_url` is where this service is reached, without a slash at the end.
///
/// # Errors
/// The format has no words for the notice, the row has not settled, its payload is not a JSON object, or the body is longer
/// than GitHub takes. The second and third do not happen to a row that this service wrote.
pub fn message(format: Format, row: &Row, notice: Notice, public_url: Option<&str>) -> Result<Message, String> {
    if !format.tells(notice) {
        return Err(format!("the format `{}` has no words for `{}`", format.word(), notice.word()));
    }
    let data = Data::of(row, notice, public_url).ok_or("the push has not settled")?;
    let json = |value: &dyn Fn() -> serde_json::Result<String>| value().map_err(|e| e.to_string());
    let body = match format {
        Format::Acr => relay(row)?,
        Format::Standard => json(&|| serde_json::to_string(&Standard::of(&data)))?,
        Format::CloudEvents => json(&|| serde_json::to_string(&CloudEvent::of(&data, row)))?,
        Format::Slack => chat::slack(&data).to_string(),
        Format::Teams => chat::teams(&data).to_string(),
        Format::Github => json(&|| serde_json::to_string(&Dispatch::of(&data, row)))?,
    };
    if format == Format::Github && body.len() > limits::GITHUB_BYTES_MAX {
        return Err(format!("the body has {} bytes, and GitHub takes {}", body.len(), limits::GITHUB_BYTES_MAX));
    }
    Ok(Message::new(format, body))
}

/// What every format but the registry's own says; its JSON is the `data` of `standard`, `cloudevents` and `github`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data<'a> {
    /// Word of the notice.
    pub(super) outcome: &'static str,
    #[serde(skip)]
    pub(super) notice: Notice,
    /// When what the notice tells happened.
    #[serde(skip)]
    pub(super) at: Instant,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) registry: &'a str,
    pub(super) repository: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tag: Option<&'a str>,
    pub(super) digest: &'a str,
    pub(super) action: &'a str,
    /// Expected ones, in the order of the settings.
    pub(super) regions: &'a [Region],
    pub(super) arrivals: BTreeMap<&'a Region, String>,
    /// Expected ones that had not arrived when the push settled; none once it has recovered.
    pub(super) missing: Vec<&'a Region>,
    /// Those without a report that reported the same content for an earlier push, and when.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) reported_before: BTreeMap<&'a Region, String>,
    pub(super) opened: String,
    pub(super) settled: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovered: Option<String>,
    pub(super) deadline: String,
    /// From the first arrival until what the notice tells.
    pub(super) duration_ms: u64,
    /// An operator ended the wait before the deadline.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) terminated: bool,
    pub(super) push_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_url: Option<String>,
}

impl<'a> Data<'a> {
    fn of(row: &'a Row, notice: Notice, public_url: Option<&str>) -> Option<Self> {
        let settled = row.settled()?;
        let recovered = (notice == Notice::Recovered).then(|| settled.recovered.unwrap_or(settled.at));
        let at = recovered.unwrap_or(settled.at);
        let then_missing = |region: &Region| notice != Notice::Recovered && settled.missing.contains(region);
        let known = |region: &Region| row.arrived.get(region).filter(|_| !then_missing(region));
        let arrivals = row.regions.iter().filter_map(|r| Some((r, time(known(r)?.at)))).collect();
        // A push that is everywhere misses nothing: a region without a report reported the same content before.
        let missing: Vec<&Region> = match notice {
            Notice::Replicated | Notice::Recovered => Vec::new(),
            Notice::TimedOut | Notice::Superseded => row.regions.iter().filter(|r| known(r).is_none()).collect(),
        };
        let before = row.before.iter().filter(|(region, _)| known(region).is_none());
        let before = before.map(|(region, at)| (region, time(*at))).collect();
        Some(Self {
            outcome: notice.word(),
            notice,
            at,
            registry: &row.subject.registry,
            repository: &row.subject.repository,
            tag: row.subject.tag.as_deref(),
            digest: &row.subject.digest,
            action: &row.subject.action,
            regions: &row.regions,
            arrivals,
            missing,
            reported_before: before,
            opened: time(row.opened),
            settled: time(settled.at),
            recovered: recovered.map(time),
            deadline: time(row.deadline),
            duration_ms: u64::try_from((at - row.opened).num_milliseconds()).unwrap_or(0),
            terminated: settled.terminated,
            push_id: row.id.to_string(),
            status_url: public_url.map(|base| format!("{base}/api/pushes/{}", row.id)),
        })
    }

    /// `image.replicated` and the like: what the push was about, then the notice. Only what is a pushed image that is
    /// everywhere says `image`: Argo CD Image Updater takes every CloudEvent for one whose type holds this word.
    fn kind(&self) -> String {
        let about = match (self.notice, self.action) {
            (Notice::TimedOut | Notice::Superseded, _) => "replication",
            (_, "push") => "image",
            (_, "delete") => "deletion",
            (_, "quarantine") => "quarantine",
            (_, "chart_push") => "chart",
            (_, "chart_delete") => "chart_deletion",
            (_, _) => "other",
        };
        format!("{about}.{}", self.outcome)
    }
}

#[derive(Serialize)]
struct Standard<'a> {
    r#type: String,
    timestamp: String,
    data: &'a Data<'a>,
}

impl<'a> Standard<'a> {
    fn of(data: &'a Data<'a>) -> Self {
        Self { r#type: format!("acr.{}", data.kind()), timestamp: time(data.at), data }
    }
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    data: &'a Data<'a>,
}

impl<'a> CloudEvent<'a> {
    fn of(data: &'a Data<'a>, row: &Row) -> Self {
        // A chart's notification names no registry; the source must not be empty all the same.
        let source = match data.registry {
            "" => "urn:acr-global-webhook".to_owned(),
            registry => format!("https://{registry}"),
        };
        Self {
            specversion: "1.0",
            id: row.notification_id(data.notice),
            source,
            r#type: format!("io.azurecr.{}", data.kind()),
            subject: row.subject.image(),
            time: time(data.at),
            datacontenttype: "application/json",
            data,
        }
    }
}

/// GitHub takes these two members, and ten at most in the second.
#[derive(Serialize)]
struct Dispatch<'a> {
    /// What a workflow names under `types`.
    event_type: String,
    client_payload: ClientPayload<'a>,
}

/// A workflow sees nothing else of the request, so the `webhook-id` is in it.
#[derive(Serialize)]
struct ClientPayload<'a> {
    id: String,
    timestamp: String,
    data: &'a Data<'a>,
}

impl<'a> Dispatch<'a> {
    fn of(data: &'a Data<'a>, row: &Row) -> Self {
        let id = row.notification_id(data.notice);
        let client_payload = ClientPayload { id, timestamp: time(data.at), data };
        Self { event_type: data.kind().replace('.', "_"), client_payload }
    }
}

/// The registry's own text with `request.host` replaced where it stands, so that nothing else changes by a byte.
fn relay(row: &Row) -> Result<String, String> {
    let payload = row.payload.trim_start_matches('\u{feff}');
    let host = serde_json::Value::from(row.subject.registry.as_str()).to_string();
    let mut edits: Vec<Range<usize>> = Vec::new();
    for (_, request) in
        members(payload)?.iter().filter(|(name, _)| name == "request" && !row.subject.registry.is_empty())
    {
        for (_, host) in members(request.get())?.iter().filter(|(name, _)| name == "host") {
            edits.push(place(payload, host.get()));
        }
    }
    let mut body = String::with_capacity(payload.len() + host.len());
    let mut done = 0;
    for place in edits {
        body.push_str(payload.get(done..place.start).unwrap_or_default());
        body.push_str(&host);
        done = place.end;
    }
    body.push_str(payload.get(done..).unwrap_or_default());
    Ok(body)
}

/// Where `part`, which was borrowed from `whole`, stands in it.
fn place(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// Names and texts of the members of a JSON object, in order, repeated ones included.
fn members(object: &str) -> Result<Vec<(String, &RawValue)>, String> {
    serde_json::from_str::<Object<'_>>(object)
        .map(|object| object.0)
        .map_err(|_| "the stored payload is not a JSON object".into())
}

struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
