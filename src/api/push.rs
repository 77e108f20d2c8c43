//! What is told of a push.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::time;
use crate::clock::Instant;
use crate::push::{Delivery, Entry, Notice, Outcome, Row, Seen};

/// One push, with the members of a Durable Functions status query.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Push {
    /// Name of the push.
    pub instance_id: String,
    /// Whether it waits.
    pub runtime_status: RuntimeStatus,
    /// When its first webhook was received.
    #[schema(format = DateTime)]
    pub created_time: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    pub last_updated_time: String,
    /// The registry's JSON of the first webhook as it came, numbers included; `null` where that was too much for the answer.
    #[schema(value_type = Option<Object>)]
    pub input: Option<Box<RawValue>>,
    /// What is known of it.
    pub custom_status: Status,
    /// How it settled; `null` while it waits.
    pub output: Option<Output>,
}

/// Words of Durable Functions for whether an instance has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum RuntimeStatus {
    /// The push waits.
    Running,
    /// The push has settled.
    Completed,
}

/// How a push settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// `replicated`, `timed_out` or `superseded`.
    pub outcome: String,
    /// When.
    #[schema(format = DateTime)]
    pub settled: String,
    /// An operator ended the wait.
    pub terminated: bool,
    /// Regions that had not reported in time.
    pub missing: Vec<String>,
    /// When the last of them was heard of after a time-out.
    #[schema(format = DateTime)]
    pub recovered: Option<String>,
    /// From the first webhook to settling.
    pub duration_ms: i64,
}

/// Where a push is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Regions are awaited.
    Waiting,
    /// Every region had it in time.
    Replicated,
    /// Regions are missing.
    TimedOut,
    /// It timed out, and the missing regions have reported since.
    Recovered,
    /// Its tag carries another digest by now.
    Superseded,
}

impl State {
    /// The state of a row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        match row.settled() {
            None => Self::Waiting,
            Some(settled) => match settled.outcome {
                Outcome::Replicated => Self::Replicated,
                Outcome::TimedOut if settled.recovered.is_some() => Self::Recovered,
                Outcome::TimedOut => Self::TimedOut,
                Outcome::Superseded => Self::Superseded,
            },
        }
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Replicated => "replicated",
            Self::TimedOut => "timed_out",
            Self::Recovered => "recovered",
            Self::Superseded => "superseded",
        }
    }
}

/// What is known of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Where it is, in one word.
    pub state: State,
    /// `replicated`, `timed_out` or `superseded`; `null` while it waits.
    pub outcome: Option<String>,
    /// `repository:tag`, or `repository@digest` where there is no tag.
    pub image: String,
    /// Login server of the registry; empty when its webhooks name none.
    pub registry: String,
    /// Repository.
    pub repository: String,
    /// Tag.
    pub tag: Option<String>,
    /// What happened in the registry: `push`, `chart_push`, `delete`, …
    pub action: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Whether a client pushed it along with an image: no tag, or a tag that names a digest.
    pub companion: bool,
    /// Regions it waits for, in no order.
    pub regions: BTreeMap<String, RegionReport>,
    /// Regions that reported it though it does not wait for them.
    pub unawaited: BTreeMap<String, RegionReport>,
    /// Regions that it waits for and that have not reported, in time or late, in the settings' order.
    pub missing: Vec<String>,
    /// When it stops waiting.
    #[schema(format = DateTime)]
    pub deadline: String,
    /// When it settled.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub settled: Option<String>,
    /// When the last missing region was heard of after a time-out.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub recovered: Option<String>,
    /// How far the last region that reported was behind the first.
    pub lag_ms: i64,
    /// What makes webhooks the same push: `content` or `id`.
    pub correlation: String,
    /// The push's id without its round.
    pub correlation_key: String,
    /// The n-th push of the same content.
    pub round: u32,
    /// The rule that chose regions and time-out.
    pub rule: Option<String>,
    /// Whether all webhooks had the same id; `null` before the second.
    pub ids_matched: Option<bool>,
    /// What targets are told; empty while it waits.
    #[serde(default, deserialize_with = "none_are_empty")]
    pub notifications: Vec<Notification>,
}

/// Earlier builds wrote `null` for a push that waits.
fn none_are_empty<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Notification>, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

/// What is known of a region of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionReport {
    /// When its webhook was received; `null` when there was none.
    #[schema(format = DateTime)]
    pub arrived: Option<String>,
    /// How far it was behind the first region.
    #[serde(default)]
    pub lag_ms: Option<i64>,
    /// It came after the push had settled without it.
    pub late: bool,
    /// An operator said that the image is there.
    #[serde(default)]
    pub by_hand: bool,
    /// `id` of its webhook.
    pub id: Option<String>,
    /// How many repeats followed.
    pub repeats: u32,
    /// When the last of them was received.
    #[schema(format = DateTime)]
    pub last_repeat: Option<String>,
    /// When it last reported the same content for an earlier round.
    #[schema(format = DateTime)]
    pub before: Option<String>,
}

/// One notification to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Name of the target.
    pub target: String,
    /// What it is told: `replicated`, `timed_out`, `recovered` or `superseded`.
    pub notice: String,
    /// The `webhook-id` of all its attempts.
    pub id: String,
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was confirmed, given up or overtaken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// Status by which the receiver confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// No attempt before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub not_before: Option<String>,
    /// Until when the attempt under way may last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub lease_until: Option<String>,
    /// Why the last attempt failed, while it is owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Attempts that failed, oldest first; the last dozen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Attempt>,
}

/// How far a notification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Not confirmed yet.
    Owed,
    /// The receiver answered 2xx.
    Confirmed,
    /// Given up; `redeliver` sends it again.
    Exhausted,
    /// Dropped, since the opposite is true by now.
    Overtaken,
}

impl DeliveryState {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Owed => "owed",
            Self::Confirmed => "confirmed",
            Self::Exhausted => "exhausted",
            Self::Overtaken => "overtaken",
        }
    }
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// When that was known.
    #[schema(format = DateTime)]
    pub at: String,
    /// Why, in short.
    pub reason: String,
}

/// A push in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Name of the push.
    pub instance_id: String,
    /// Whether it waits.
    pub runtime_status: RuntimeStatus,
    /// When its first webhook was received.
    #[schema(format = DateTime)]
    pub created_time: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    pub last_updated_time: String,
    /// Where it can be looked at.
    pub status_query_get_uri: String,
    /// What is known of it.
    #[serde(flatten)]
    pub status: Status,
}

/// A page of pushes, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List {
    /// The pushes.
    pub pushes: Vec<Item>,
    /// `cursor` of the next page; `null` at the end. A page may be short, or empty, before the end.
    pub next: Option<String>,
    /// Pushes that were left out since what is stored of them cannot be read.
    #[serde(default)]
    pub unreadable: usize,
}

impl Push {
    /// What is told of a row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let settled = row.settled();
        Self {
            instance_id: row.id.to_string(),
            runtime_status: RuntimeStatus::of(row),
            created_time: time(row.opened),
            last_updated_time: time(row.updated),
            input: RawValue::from_string(row.payload.clone()).ok(),
            custom_status: Status::of(row),
            output: settled.map(|s| Output {
                outcome: Notice::from(s.outcome).word().to_owned(),
                settled: time(s.at),
                terminated: s.terminated,
                missing: s.missing.iter().map(ToString::to_string).collect(),
                recovered: s.recovered.map(time),
                duration_ms: millis(row.opened, s.at),
            }),
        }
    }
}

impl RuntimeStatus {
    fn of(row: &Row) -> Self {
        if row.settled().is_some() { Self::Completed } else { Self::Running }
    }
}

impl Item {
    /// What a list tells of a row that can be looked at under an address.
    #[must_use]
    pub fn of(row: &Row, address: String) -> Self {
        Self {
            instance_id: row.id.to_string(),
            runtime_status: RuntimeStatus::of(row),
            created_time: time(row.opened),
            last_updated_time: time(row.updated),
            status_query_get_uri: address,
            status: Status::of(row),
        }
    }
}

fn millis(from: Instant, to: Instant) -> i64 {
    (to - from).num_milliseconds()
}

impl Status {
    /// How many of the regions that it waits for have reported.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.regions.values().filter(|region| region.arrived.is_some()).count()
    }

    /// What is known of a row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let first = row.arrived.values().map(|seen| seen.at).min().unwrap_or(row.opened);
        let last = row.arrived.values().map(|seen| seen.at).max().unwrap_or(row.opened);
        let report = |region, seen: Option<&Seen>| RegionReport {
            arrived: seen.map(|s| time(s.at)),
            lag_ms: seen.map(|s| millis(first, s.at)),
            late: row.is_late(region),
            by_hand: seen.is_some_and(|s| s.by_hand),
            id: seen.map(|s| s.id.clone()).filter(|id| !id.is_empty()),
            repeats: seen.map_or(0, |s| s.repeats),
            last_repeat: seen.and_then(|s| s.repeated).map(time),
            before: row.before.get(region).map(|at| time(*at)),
        };
        let subject = &row.subject;
        let settled = row.settled();
        Self {
            state: State::of(row),
            outcome: settled.map(|s| Notice::from(s.outcome).word().to_owned()),
            image: subject.image(),
            registry: subject.registry.clone(),
            repository: subject.repository.clone(),
            tag: subject.tag.clone(),
            action: subject.action.clone(),
            digest: subject.digest.clone(),
            companion: subject.is_companion(),
            regions: row.regions.iter().map(|r| (r.to_string(), report(r, row.arrived.get(r)))).collect(),
            unawaited: row.unawaited.iter().map(|(r, seen)| (r.to_string(), report(r, Some(seen)))).collect(),
            missing: row.missing().into_iter().map(ToString::to_string).collect(),
            deadline: time(row.deadline),
            settled: settled.map(|s| time(s.at)),
            recovered: settled.and_then(|s| s.recovered).map(time),
            lag_ms: millis(first, last),
            correlation: row.correlation.word().to_owned(),
            correlation_key: row.id.key.as_str().to_owned(),
            round: row.id.round,
            rule: row.rule.clone(),
            ids_matched: row.ids_matched(),
            notifications: settled.iter().flat_map(|s| &s.outbox).map(|entry| Notification::of(row, entry)).collect(),
        }
    }
}

impl Notification {
    fn of(row: &Row, entry: &Entry) -> Self {
        let failed = |f: &crate::push::Failed| Attempt { attempt: f.attempt, at: time(f.at), reason: f.reason.clone() };
        let plain = |state, attempts, at: Option<Instant>| Self {
            target: entry.target.clone(),
            notice: entry.notice.word().to_owned(),
            id: row.notification_id(entry.notice),
            state,
            attempts,
            at: at.map(time),
            status: None,
            not_before: None,
            lease_until: None,
            last_error: None,
            reason: None,
            failed: entry.failed.iter().map(failed).collect(),
        };
        match &entry.delivery {
            Delivery::Owed { claims, not_before, lease_until, last_error, .. } => Self {
                not_before: Some(time(*not_before)),
                lease_until: lease_until.map(time),
                last_error: last_error.clone(),
                ..plain(DeliveryState::Owed, *claims, None)
            },
            Delivery::Confirmed { attempt, at, status } => {
                Self { status: Some(*status), ..plain(DeliveryState::Confirmed, *attempt, Some(*at)) }
            }
            Delivery::Exhausted { attempt, at, reason } => {
                Self { reason: Some(reason.clone()), ..plain(DeliveryState::Exhausted, *attempt, Some(*at)) }
            }
            Delivery::Overtaken { attempt, at, .. } => plain(DeliveryState::Overtaken, *attempt, Some(*at)),
        }
    }
}
