//! Every state the store may ever hold. A contradiction does not compile: a push waits *or* is settled *or* is purged, an
//! outbox entry is owed *or* confirmed *or* exhausted *or* overtaken.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::arrival::Correlation;
use super::names::hex;
use super::record::Unknown;
use super::{PushId, Region, Subject};
use crate::clock::{self, Instant};
use crate::limits;

/// One push. Changed only by the store, one step at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the push.
    pub id: PushId,
    /// The rule its key was made by.
    pub correlation: Correlation,
    /// What was pushed.
    pub subject: Subject,
    /// Registry's own JSON text of the first arrival; kept beside the record, see [`record`](super::record).
    #[serde(skip)]
    pub payload: String,
    /// When the first arrival was received.
    pub opened: Instant,
    /// When it stops waiting; frozen at the first arrival. An arrival received at this instant is not in time.
    pub deadline: Instant,
    /// Regions it waits for; frozen at the first arrival, distinct, at least one.
    pub regions: Vec<Region>,
    /// Name of the rule that chose regions and time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Reports received up to this instant are for an earlier round; `None` where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Instant>,
    /// Regions it waits for that have reported, in time or late.
    pub arrived: BTreeMap<Region, Seen>,
    /// Regions of the settings that it does not wait for and that have reported it; they count for nothing. At most
    /// [`REGIONS_MAX`](limits::REGIONS_MAX).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unawaited: BTreeMap<Region, Seen>,
    /// Regions it waits for that reported the same content in earlier rounds, and when they last did; a report received up to
    /// then is not for this one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<Region, Instant>,
    /// Waiting, settled or purged.
    pub phase: Phase,
    /// When the row last changed.
    pub updated: Instant,
    /// What a newer build wrote into the record and this one does not know: it is written back as it was.
    #[serde(skip)]
    pub unknown: Option<Arc<Vec<Unknown>>>,
}

/// A region's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When ImagePush received it.
    pub at: Instant,
    /// `id` of its webhook; empty for a report by hand.
    pub id: String,
    /// An operator has seen the image there and said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// How many repeats followed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeats: u32,
    /// When ImagePush received the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Instant>,
}

impl Seen {
    /// When the region last reported.
    #[must_use]
    pub fn last(&self) -> Instant {
        self.repeated.map_or(self.at, |repeated| repeated.max(self.at))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How far a push is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It has not settled.
    Waiting {
        /// Do not settle for want of regions before this: webhooks that came in time may still wait on the queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<Instant>,
    },
    /// Irreversible.
    Settled(Settled),
    /// Nobody sees it any more. It stays for [`PURGED_KEPT`](limits::PURGED_KEPT), so that whoever opens the next round of
    /// the same content at this moment and whoever finds none do not open two; and for as long as its repeats may come, so
    /// that none of them opens a push that nobody else will report.
    Purged {
        /// When.
        at: Instant,
        /// Reports received up to this instant are for it, unless its tag has moved.
        until: Instant,
    },
}

/// What is known of a settled push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// How it settled. Never changes.
    pub outcome: Outcome,
    /// When it settled. Never changes.
    pub at: Instant,
    /// Expected regions that had not reported in time. Never changes. Of a replicated push they are those that reported the
    /// same content before, where the settings let that count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Region>,
    /// An operator ended the wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminated: bool,
    /// When the last missing region was heard of after a time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Instant>,
    /// Notifications owed or done, one entry for each target and notice.
    pub outbox: Vec<Entry>,
}

/// The one outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every expected region reported before the deadline, or did so of an earlier push where the settings let that count.
    Replicated,
    /// The deadline passed first.
    TimedOut,
    /// The deadline passed first, and by then the tag carried another digest.
    Superseded,
}

/// What a notification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The push settled as replicated.
    Replicated,
    /// The push settled as timed out.
    TimedOut,
    /// All regions that were missing at the time-out have reported since, or need not.
    Recovered,
    /// The push settled as superseded.
    Superseded,
}

impl Notice {
    /// The word used in settings, rows and payloads.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::TimedOut => "timed_out",
            Self::Recovered => "recovered",
            Self::Superseded => "superseded",
        }
    }
}

impl From<Outcome> for Notice {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Replicated => Self::Replicated,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Superseded => Self::Superseded,
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
    /// Attempts that failed, the last [`FAILED_KEPT`](limits::FAILED_KEPT) of them, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// When that was known.
    pub at: Instant,
    /// Its number, from 1.
    pub attempt: u32,
    /// Why, cut to [`FAILED_REASON_BYTES_MAX`](limits::FAILED_REASON_BYTES_MAX).
    pub reason: String,
}

/// How far a notification to one target is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Not confirmed yet.
    Owed {
        /// Claims so far; the last one is the number of the attempt under way or last made.
        claims: u32,
        /// Attempts that are on record as failed.
        failures: u32,
        /// Claims whose lease ended without a result: the process was killed, or could not record it.
        #[serde(default, skip_serializing_if = "is_zero")]
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
    /// Dropped, since a newer notification says the opposite.
    Overtaken {
        /// Number of the last attempt.
        attempt: u32,
        /// When.
        at: Instant,
        /// Until when that attempt may still be under way; what overtook it waits so long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_until: Option<Instant>,
    },
}

impl Row {
    /// Expected regions that have not reported, in time or late.
    #[must_use]
    pub fn missing(&self) -> Vec<&Region> {
        self.regions.iter().filter(|r| !self.arrived.contains_key(*r)).collect()
    }

    /// Expected regions without a report that was received before the deadline.
    #[must_use]
    pub fn missing_in_time(&self) -> Vec<&Region> {
        let in_time = |r: &&Region| self.arrived.get(*r).is_some_and(|seen| seen.at < self.deadline);
        self.regions.iter().filter(|r| !in_time(r)).collect()
    }

    /// Whether `region` reported after the push had settled without it.
    #[must_use]
    pub fn is_late(&self, region: &Region) -> bool {
        self.settled().is_some_and(|s| s.missing.contains(region)) && self.arrived.contains_key(region)
    }

    /// What is known of it as settled.
    #[must_use]
    pub fn settled(&self) -> Option<&Settled> {
        match &self.phase {
            Phase::Waiting { .. } | Phase::Purged { .. } => None,
            Phase::Settled(settled) => Some(settled),
        }
    }

    /// Whether it has not settled.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// Whether it was removed, as far as anybody can see.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        matches!(self.phase, Phase::Purged { .. })
    }

    /// Until when a report of a region on record is a repeat, that instant included: one time-out after the report that
    /// completed the push, or else after its deadline, or the operator's word that ended the wait, and whatever came late. Judged
    /// by when reports were received, so that a storage that was away changes nothing. That it was purged changes nothing either.
    #[must_use]
    pub fn repeats_until(&self) -> Instant {
        let last = self.arrived.values().map(|seen| seen.at).max().unwrap_or(self.opened);
        let end = match &self.phase {
            Phase::Purged { until, .. } => return *until,
            Phase::Settled(s)
                if s.recovered.is_some() || (s.outcome == Outcome::Replicated && s.missing.is_empty()) =>
            {
                last
            }
            Phase::Settled(s) if s.terminated => last.max(s.at),
            Phase::Settled(_) | Phase::Waiting { .. } => last.max(self.deadline),
        };
        clock::after(end, clock::until(self.opened, self.deadline))
    }

    /// Whether it can go without a trace: it is settled, owes nothing, and for [`PURGED_KEPT`](limits::PURGED_KEPT) nothing was
    /// a repeat of it any more and nobody wrote it.
    #[must_use]
    pub fn is_spent(&self, now: Instant) -> bool {
        let last = self.repeats_until().max(self.updated);
        self.settled().is_some() && self.wake().is_none() && clock::after(last, limits::PURGED_KEPT) <= now
    }

    /// Whether all regions that reported did so with one and the same id, those aside that were reported by hand; `None` before
    /// the second report.
    #[must_use]
    pub fn ids_matched(&self) -> Option<bool> {
        let mut ids = self.arrived.values().filter(|seen| !seen.by_hand).map(|seen| seen.id.as_str());
        let first = ids.next()?;
        let mut rest = ids.peekable();
        rest.peek()?;
        Some(rest.all(|id| id == first))
    }

    /// When somebody must look at the push next: at its deadline while it waits, else at the earliest end of a lease or wait
    /// of its outbox; `None` when it owes nothing.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { held } => Some(held.unwrap_or(self.deadline)),
            Phase::Purged { at, until } => Some(clock::after(*at, limits::PURGED_KEPT).max(*until)),
            Phase::Settled(settled) => settled
                .outbox
                .iter()
                .filter_map(|entry| match entry.delivery {
                    Delivery::Owed { not_before, lease_until, .. } => Some(lease_until.unwrap_or(not_before)),
                    Delivery::Confirmed { .. } | Delivery::Exhausted { .. } | Delivery::Overtaken { .. } => None,
                })
                .min(),
        }
    }

    /// Idempotency key of a notification: the same on all attempts and for all targets, different for every push, round
    /// and notice, also after the row was purged and the same content pushed again. Holds no `.` (Standard Webhooks 1.0).
    #[must_use]
    pub fn notification_id(&self, notice: Notice) -> String {
        let opened = self.opened.timestamp_millis();
        let hash = Sha256::digest(format!("{} {opened} {}", self.id, notice.word()));
        format!("msg_{}", hex(&hash[..16]))
    }
}
