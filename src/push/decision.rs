//! What goes into [`step`](super::step()) and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Notice, Outcome, Row};
use super::{Arrival, PushId, Region};
use crate::clock::Instant;

/// Something that happened to a push. Any of them may come twice, late, early or never.
#[derive(Debug, Clone)]
pub enum Input {
    /// A region's webhook was received.
    Arrival {
        /// What it says.
        arrival: Arc<Arrival>,
        /// It waited on the queue since then, and others of the same push may do so still.
        spilled: bool,
        /// It is not for the newest round, but for an earlier one; see [`Did::Earlier`].
        earlier: bool,
    },
    /// It is time to look at the push.
    Timer,
    /// An attempt at a notification ended.
    Attempted(Attempted),
    /// An operator ends the wait: settle as if the deadline were now.
    Terminate,
    /// An operator wants notifications sent now: all, or only those of the named target.
    Redeliver(Option<String>),
    /// The push is to go: an operator wants it, or it is older than the settings keep.
    Purge,
    /// An operator has seen the image in a region of the push, whose webhook did not come.
    ByHand(Region),
}

/// Result of one attempt, with the claim that allowed it.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// Target the notification went to.
    pub target: String,
    /// What it said.
    pub notice: Notice,
    /// Number of the claim; a result of an earlier claim than the row's current one is stale.
    pub claim: u32,
    /// What came of it.
    pub result: AttemptResult,
}

/// What a receiver did with an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// 2xx.
    Confirmed {
        /// The status.
        status: u16,
    },
    /// Anything that may be better next time.
    Failed {
        /// Short, without secrets.
        reason: String,
        /// The receiver's own wish, unclamped.
        retry_after: Option<Duration>,
    },
    /// Nothing was sent: earlier notifications to this target took every place until the lease was nearly over.
    NotBegun {
        /// Short, without secrets.
        reason: String,
    },
    /// No later attempt can succeed: the receiver does not want this notification ever (410 Gone), or its format has no words for it.
    Refused {
        /// Short, without secrets.
        reason: String,
    },
}

/// What a row alone does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// When the last push of the same place with another digest was opened between these two instants, both excluded.
    pub moved: Option<(Instant, Instant)>,
    /// Whether webhooks that were accepted may still wait to be applied.
    pub pending: bool,
}

/// The answer to a [`Question`]; of what was not asked, as if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer {
    /// When the last of the pushes asked for was opened.
    pub moved: Option<Instant>,
    /// Webhooks may be waiting.
    pub pending: bool,
}

/// A step, or what has to be known before.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Ask this and step again, with the answer.
    Ask(Question),
    /// Decided.
    Step(Box<Step>),
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What happened, for the answer and the log line.
    pub did: Did,
    /// What becomes of the row.
    pub change: Change,
    /// Outbox entries leased to whoever commits the change.
    pub claims: Vec<Claim>,
}

/// What becomes of the row that was stepped.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a step is boxed as a whole")]
pub enum Change {
    /// Nothing.
    None,
    /// This is the row from now on. When it has another id than the one that was stepped, it is a new one beside that.
    Put(Row),
    /// It goes.
    Remove,
}

/// Leave to make one attempt, valid until the lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Target to notify.
    pub target: String,
    /// What to say.
    pub notice: Notice,
    /// Number of this claim, from 1; it is also the number of the attempt.
    pub claim: u32,
    /// End of the lease.
    pub lease_until: Instant,
}

/// What became of an input; one word of it is the `outcome` of the log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    /// First arrival: the push was opened.
    Opened,
    /// A further arrival of an open push.
    Joined,
    /// The push settled.
    Settled(Outcome),
    /// The very same webhook again: it was applied before.
    Duplicate,
    /// The webhook is older than this round: it is for the one before, which is named.
    Earlier(PushId),
    /// Another webhook of a region that is on record: counted as such.
    Repeated,
    /// The arrival came after the deadline, or after an operator had ended the wait, and is on record.
    Late,
    /// The last missing region arrived after the time-out.
    Recovered,
    /// Nothing waits for this arrival; the text says why.
    Ignored(String),
    /// No push waits for this region and it is not configured.
    UnknownRegion,
    /// No such push.
    UnknownPush,
    /// No such target in the push's outbox.
    UnknownTarget,
    /// Not due yet.
    Early,
    /// The deadline has passed, but webhooks that came in time may still be on their way from the queue.
    Held,
    /// The push still waits or owes a notification, so it stays.
    Owing,
    /// There is nothing to do: nothing is owed, what is asked for was done before, or an attempt is under way.
    Idle,
    /// Notifications were claimed for an attempt.
    Claimed,
    /// A receiver confirmed.
    Confirmed,
    /// An attempt failed and there will be another.
    Retry,
    /// The last attempt failed, or the receiver refused.
    Exhausted,
    /// A result of a claim that is not the current one, or of a notification that was overtaken.
    Stale,
    /// The push is gone for everybody who asks.
    Purged,
    /// The last trace of a purged push was removed.
    Removed,
}

impl Did {
    /// The word for logs and answers.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Joined => "joined",
            Self::Settled(outcome) => Notice::from(*outcome).word(),
            Self::Duplicate => "duplicate",
            Self::Earlier(_) => "earlier",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::Recovered => "recovered",
            Self::Ignored(_) => "ignored",
            Self::UnknownRegion => "unknown_region",
            Self::UnknownPush => "unknown_push",
            Self::UnknownTarget => "unknown_target",
            Self::Early => "early",
            Self::Held => "held",
            Self::Owing => "owing",
            Self::Idle => "idle",
            Self::Claimed => "claimed",
            Self::Confirmed => "confirmed",
            Self::Retry => "retry",
            Self::Exhausted => "exhausted",
            Self::Stale => "stale",
            Self::Purged => "purged",
            Self::Removed => "removed",
        }
    }
}
