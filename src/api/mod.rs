//! The documents of the operators' interface, `/api/pushes` and `/api/regions`, and that of `GET /api/ImagePush`: what the service
//! answers and what the command line and the page read. Instants are RFC 3339 in UTC with milliseconds, lengths of time are milliseconds.
//!
//! Guarantee: a reader of a later build reads the documents of this one and the other way round; unknown members are passed over,
//! and one that is new is optional.

mod health;
mod push;
mod regions;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use health::{Health, Part};
pub use push::{
    Attempt, DeliveryState, Item, List, Notification, Output, Push, RegionReport, RuntimeStatus, State, Status,
};
pub use regions::{Condition, RegionSummary, Regions, Slice, Tally};

use crate::clock::Instant;

/// The registry's words for what happened to an image, those that fan in.
pub const ACTIONS: [&str; 5] = ["push", "delete", "quarantine", "chart_push", "chart_delete"];

/// Words that a list may be narrowed by: the states of a push, and two of its notifications.
pub const STATUSES: [&str; 7] = ["waiting", "replicated", "timed_out", "recovered", "superseded", "owing", "exhausted"];

/// An instant, as all documents write it.
#[must_use]
pub fn time(at: Instant) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The digits by which people know a digest: its first, without the algorithm.
#[must_use]
pub fn digits(digest: &str) -> String {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    digits.chars().take(12).collect()
}

/// What was done to a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operated {
    /// One word for what happened, as in the log.
    pub did: String,
    /// Where the push can be looked at.
    pub status_query_get_uri: String,
}

/// How many pushes were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Purged {
    /// Pushes that are gone.
    pub instances_deleted: usize,
    /// Whether there may be more, for another call.
    #[serde(default)]
    pub more: bool,
}

/// What a test notification came to at each receiver that it was sent to, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tests {
    /// The receivers.
    pub targets: Vec<Tested>,
}

/// What a test notification came to at one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tested {
    /// Name of the target.
    pub target: String,
    /// Shape of what was sent: `acr`, `standard`, `cloudevents`, `slack`, `teams` or `github`.
    pub format: String,
    /// The `webhook-id` that it was sent with.
    pub id: String,
    /// Whether the receiver took it.
    pub confirmed: bool,
    /// Status by which the receiver took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it did not, as an attempt at a notification has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long that took.
    pub duration_ms: u64,
}

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// Why.
    pub error: Reason,
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Stable identifier.
    pub code: String,
    /// Who must do what.
    pub message: String,
}
