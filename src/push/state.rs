//! Every state the store may ever hold. A contradiction does not compile: a push waits *or* is settled, an outbox entry is
//! owed *or* confirmed *or* exhausted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PushId, Region, Subject, hex};
use crate::clock::Instant;
use crate::push::arrival::Correlation;

/// One push. Changed only by compare-and-swap on its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the push.
    pub id: PushId,
    /// The rule its key was made by.
    pub correlation: Correlation,
    /// What was pushed.
    pub subject: Subject,
    /// Registry's own JSON text of the first arrival.
    pub payload: String,
    /// When the first arrival was received.
    pub opened: Instant,
    /// When it stops waiting; frozen at the first arrival.
    pub deadline: Instant,
    /// Regions it waits for; frozen at the first arrival, distinct, at least one.
    pub regions: Vec<Region>,
    /// Name of the rule that chose regions and time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Regions that arrived before the push settled.
    pub arrived: BTreeMap<Region, Arrived>,
    /// Ids that earlier rounds knew, those of the last one first: one of them coming again belongs there, not to this. All of
    /// the last round's, and of older ones up to [`EARLIER_ID_BYTES_MAX`](crate::limits::EARLIER_ID_BYTES_MAX) in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
    /// Webhooks, in order, of regions that were on record already, under ids that were not: each is a sign of another push of
    /// the same content that overlaps this one, and counts for the next round. Together
    /// they take at most [`REPEATED_BYTES_MAX`](crate::limits::REPEATED_BYTES_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeated: Vec<(Region, Arrived)>,
    /// Waiting or settled.
    pub phase: Phase,
    /// The durable timer that covers what the push owes; `None` when it owes nothing.
    pub timer: Option<TimerRef>,
    /// When the row last changed.
    pub updated: Instant,
    /// How often the row was written, from 1. A timer carries the revision that it was armed for: one that is ahead of its
    /// row belongs to a write that did not come about, or not yet.
    #[serde(default)]
    pub revision: u64,
}

/// One region's arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// When ImagePush received it.
    pub at: Instant,
    /// `id` of its notification.
    pub id: String,
}

/// How far a push is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Regions are missing and the deadline has not passed.
    Waiting,
    /// Irreversible.
    Settled(Settled),
}

/// What is known of a settled push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// How it settled. Never changes.
    pub outcome: Outcome,
    /// When it settled. Never changes.
    pub at: Instant,
    /// An operator ended the wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminated: bool,
    /// Regions that arrived after a time-out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub late: BTreeMap<Region, Arrived>,
    /// When the last missing region arrived after a time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Instant>,
    /// The same content was pushed again: arrivals belong to the next round from here on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// Notifications owed or done, one entry for each target and notice.
    pub outbox: Vec<Entry>,
}

/// The one outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every expected region arrived before the deadline.
    Replicated,
    /// The deadline passed first.
    TimedOut,
}

/// What a notification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The push settled as replicated.
    Replicated,
    /// The push settled as timed out.
    TimedOut,
    /// All regions that were missing at the time-out have arrived since.
    Recovered,
}

impl Notice {
    /// The word used in settings, rows and payloads.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::TimedOut => "timed_out",
            Self::Recovered => "recovered",
        }
    }
}

impl From<Outcome> for Notice {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Replicated => Self::Replicated,
            Outcome::TimedOut => Self::TimedOut,
        }
    }
}

/// One notification to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the target.
    pub target: String,
    /// What it is told.
    pub notice: Notice,
    /// How far that is.
    pub delivery: Delivery,
}

/// How far a notification to one target is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Delivery {
    /// Not confirmed yet.
    Owed {
        /// Claims so far; the last one is the number of the attempt under way or last made.
        claims: u32,
        /// Attempts that are on record as failed.
        failures: u32,
        /// Claims whose lease ended without a result: the process was killed, or could not record it.
        #[serde(default)]
        lapses: u32,
        /// No attempt before this.
        not_before: Instant,
        /// End of the current claim's lease; `None` once its result is on record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_until: Option<Instant>,
        /// Why the last attempt failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
    },
    /// The receiver answered 2xx.
    Confirmed {
        /// Number of the last attempt that was claimed; the one that did it, unless the result of an earlier one came late.
        attempt: u32,
        /// When.
        at: Instant,
        /// The status.
        status: u16,
    },
    /// Given up; kept, visible, and re-sendable by hand.
    Exhausted {
        /// Number of the last attempt.
        attempt: u32,
        /// When.
        at: Instant,
        /// Last error.
        reason: String,
    },
}

/// A live durable timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRef {
    /// Message id.
    pub id: String,
    /// Pop receipt: what moves or deletes it.
    pub receipt: String,
    /// When it fires, at the latest.
    pub due: Instant,
}

impl Row {
    /// Expected regions that have not arrived, late ones included among the arrived.
    #[must_use]
    pub fn missing(&self) -> Vec<&Region> {
        self.regions.iter().filter(|r| self.arrival_of(r).is_none()).collect()
    }

    /// Expected regions that had not arrived when the push settled, or have not yet while it waits.
    #[must_use]
    pub fn missing_at_settling(&self) -> Vec<&Region> {
        self.regions.iter().filter(|r| !self.arrived.contains_key(*r)).collect()
    }

    /// The arrival of `region`, in time or late.
    #[must_use]
    pub fn arrival_of(&self, region: &Region) -> Option<&Arrived> {
        self.arrived.get(region).or_else(|| self.settled().and_then(|s| s.late.get(region)))
    }

    /// Whether `id` is one that an earlier round knew, of whichever region: where a push has one id everywhere, an arrival
    /// with it that was spilled or held up belongs to that round, also from a region that round timed out without.
    #[must_use]
    pub fn of_earlier_round(&self, id: &str) -> bool {
        self.earlier.iter().any(|known| known == id)
    }

    /// Whether the webhook of `region` with this id is one that waits for the next round.
    #[must_use]
    pub fn is_repeated(&self, region: &Region, id: &str) -> bool {
        self.repeated.iter().any(|(known, arrived)| known == region && arrived.id == id)
    }

    /// Whether `id` came with an arrival that this push counted before it settled.
    #[must_use]
    pub fn of_this_round(&self, id: &str) -> bool {
        self.arrived.values().any(|known| known.id == id)
    }

    /// What is known of it as settled.
    #[must_use]
    pub fn settled(&self) -> Option<&Settled> {
        match &self.phase {
            Phase::Waiting => None,
            Phase::Settled(settled) => Some(settled),
        }
    }

    /// Whether all regions that arrived did so with one and the same id; `None` before the second arrival.
    #[must_use]
    pub fn ids_matched(&self) -> Option<bool> {
        let late = self.settled().map(|s| s.late.values()).into_iter().flatten();
        let mut ids = self.arrived.values().chain(late).map(|a| a.id.as_str());
        let first = ids.next()?;
        let mut rest = ids.peekable();
        rest.peek()?;
        Some(rest.all(|id| id == first))
    }

    /// When the push needs a timer next: its deadline while it waits, else the earliest end of a lease or wait of its
    /// outbox; `None` when it owes nothing. Every live row with `Some` is covered by a timer no later than about this.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting => Some(self.deadline),
            Phase::Settled(settled) => settled
                .outbox
                .iter()
                .filter_map(|entry| match entry.delivery {
                    Delivery::Owed { not_before, lease_until, .. } => Some(lease_until.unwrap_or(not_before)),
                    Delivery::Confirmed { .. } | Delivery::Exhausted { .. } => None,
                })
                .min(),
        }
    }

    /// Idempotency key of a notification: the same on all attempts and for all targets, different for every push, round
    /// and notice, also after the row was purged and the same content pushed again. Holds no `.` (Standard Webhooks 1.0).
    #[must_use]
    pub fn notification_id(&self, notice: Notice) -> String {
        use sha2::{Digest, Sha256};
        let opened = self.opened.timestamp_millis();
        let hash = Sha256::digest(format!("{} {opened} {}", self.id, notice.word()));
        format!("msg_{}", hex(&hash[..16]))
    }
}
