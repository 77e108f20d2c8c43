//! Durable timers: what a message says, and the written contract of [`Timers`] (to arm, shift and disarm them) and
//! [`Inbox`] (to take them when they fire, where no Functions host does). Every implementation passes
//! `tests/it/timers_contract.rs`.
//!
//! A timer is a hint to look at a push, never a command: what is done follows from the row. A message is trusted for the push's
//! name, and for which write of the row it was armed for.

pub mod embedded;
pub mod memory;
pub mod poll;
pub mod queue;

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::push::{Arrival, PushId};
pub use crate::store::Failure;

/// A message of the timer queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A durable timer.
    Timer(Timer),
    /// An arrival that could not be written to its row in time.
    Spill(Box<Arrival>),
}

/// A durable timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The push to look at.
    pub push: PushId,
    /// When it is meant to fire; the queue fires up to a second early or any time late.
    pub due: Instant,
    /// Why it was armed, for the log; only [`Reason::Unseen`] and [`Reason::Revived`] change what is done.
    pub reason: Reason,
    /// The row's revision that it was armed for. 0 when it was brought back from the poison queue: the row may name it by its
    /// old id, so nothing follows from the revision any more.
    pub revision: u64,
    /// Id of the message that a second look stands in for, when that was known.
    pub of: Option<String>,
}

/// Why a timer was armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The push's deadline.
    Deadline,
    /// A lease ends or an attempt is due.
    Delivery,
    /// The push was not there, or its row was not yet the one that its timer was armed for, when that fired; this is the second
    /// and last look.
    Unseen,
    /// Brought back from the poison queue.
    Revived,
}

impl Reason {
    /// The word for logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Delivery => "delivery",
            Self::Unseen => "unseen",
            Self::Revived => "revived",
        }
    }
}

/// JSON form of a message. The host copies a message's top-level members over those of its own metadata, so none may be
/// called `Id`, `PopReceipt`, `DequeueCount` or the like, in any case.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    Timer {
        v: u32,
        push: PushId,
        due: Instant,
        reason: Reason,
        #[serde(default)]
        revision: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    Spill {
        v: u32,
        arrival: Box<Arrival>,
    },
}

const VERSION: u32 = 1;

impl Message {
    /// The text to queue, before base64.
    #[must_use]
    pub fn text(&self) -> String {
        let wire = match self {
            Self::Timer(Timer { push, due, reason, revision, of }) => Wire::Timer {
                v: VERSION,
                push: push.clone(),
                due: *due,
                reason: *reason,
                revision: *revision,
                of: of.clone(),
            },
            Self::Spill(arrival) => Wire::Spill { v: VERSION, arrival: arrival.clone() },
        };
        #[expect(clippy::expect_used, reason = "a message holds only strings, numbers and structs of them")]
        serde_json::to_string(&wire).expect("a message is JSON")
    }

    /// Reads a queued text; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match serde_json::from_str(text).ok()? {
            Wire::Timer { v: VERSION, push, due, reason, revision, of } => {
                Some(Self::Timer(Timer { push, due, reason, revision, of }))
            }
            Wire::Spill { v: VERSION, arrival } => Some(Self::Spill(arrival)),
            Wire::Timer { .. } | Wire::Spill { .. } => None,
        }
    }

    /// The message as it goes back to the live queue from the poison queue.
    #[must_use]
    pub fn revived(self) -> Self {
        match self {
            Self::Timer(timer) => Self::Timer(Timer { reason: Reason::Revived, revision: 0, ..timer }),
            Self::Spill(arrival) => Self::Spill(arrival),
        }
    }
}

/// Handle of a queued message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armed {
    /// Message id.
    pub id: String,
    /// Pop receipt.
    pub receipt: String,
}

/// Arms durable timers.
#[async_trait]
pub trait Timers: Send + Sync + 'static {
    /// Queues `message` to fire after `delay`, durable when it returns. It never fires earlier than the delay cut to the
    /// implementation's resolution (whole seconds on a queue); a delay above [`crate::limits::TIMER_DELAY_MAX`] is cut to it.
    ///
    /// # Errors
    /// [`Failure`]; the timer may be armed all the same.
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Armed, Failure>;

    /// As [`Timers::arm`], for a row that is about to be put: durable at the latest with the first write, through the same
    /// backend, of a row that names this timer. So a backend that writes rows and timers together may let the row's write
    /// carry the timer. Until such a write it need not fire, and it is gone when none comes.
    ///
    /// # Errors
    /// As for [`Timers::arm`].
    async fn arm_for_row(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        self.arm(message, delay).await
    }

    /// As [`Timers::shift`], for a row that is about to be put: a timer under the new handle is durable, and the old one gone,
    /// at the latest with the first write of a row that names the new one. Until then the old one fires when it always would.
    ///
    /// # Errors
    /// As for [`Timers::shift`].
    async fn shift_for_row(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure> {
        self.shift(timer, message, delay).await
    }

    /// Moves a live timer and replaces its message; `None` when it is no longer ours to move: it fired, is being handled,
    /// or was moved or disarmed by someone else.
    ///
    /// # Errors
    /// [`Failure`]; the timer may be moved all the same.
    async fn shift(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure>;

    /// Deletes a timer; one that is no longer ours is left alone.
    ///
    /// # Errors
    /// [`Failure`]; the timer may be gone all the same, or fire.
    async fn disarm(&self, timer: &Armed) -> Result<(), Failure>;

    /// Copies a message that is not ours to the poison queue.
    ///
    /// # Errors
    /// [`Failure`]; the copy may be there all the same, so trying again may make two.
    async fn set_aside(&self, text: &str) -> Result<(), Failure>;

    /// Makes timers of ours live again that ended up in the poison queue, and returns their number. A message that is not
    /// ours stays where it is. Costs one request when the poison queue is empty.
    ///
    /// # Errors
    /// [`Failure`]; some may be live again, and one may be both live and in the poison queue: it is then brought back twice.
    async fn revive(&self) -> Result<usize, Failure>;

    /// Creates the queue when it is missing (the Functions host does not) and proves that it can be reached.
    ///
    /// # Errors
    /// [`Failure`]; the queue may have been created all the same.
    async fn prepare(&self) -> Result<(), Failure>;
}

/// A message taken from the queue; invisible to others until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Handle, good until the lease ends.
    pub handle: Armed,
    /// The text; `None` when it is not in the queue's encoding.
    pub text: Option<String>,
    /// How often it was taken, this time included.
    pub dequeue_count: u32,
}

/// Takes fired timers, as the Functions host's queue trigger does.
#[async_trait]
pub trait Inbox: Timers {
    /// Takes up to `max` (1 to 32) fired messages and hides them for `lease`.
    ///
    /// # Errors
    /// [`Failure`]; messages may have been taken all the same and come again when `lease` is over.
    async fn receive(&self, max: usize, lease: Duration) -> Result<Vec<Received>, Failure>;

    /// Gives a message back, to fire again after `delay`; one that is no longer ours is left alone.
    ///
    /// # Errors
    /// [`Failure`]; the message then comes when its lease is over, if not after `delay`.
    async fn release(&self, received: &Received, delay: Duration) -> Result<(), Failure>;

    /// Moves a message to the poison queue as it is; of one that is no longer ours a copy may come there.
    ///
    /// # Errors
    /// [`Failure`]; the message may then be in both queues.
    async fn poison(&self, received: &Received) -> Result<(), Failure>;

    /// Returns when there may be something to receive: at the latest after `longest`, earlier when the implementation knows
    /// better.
    async fn ready(&self, longest: Duration);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::record::tests::row;
    use crate::push::{Key, Region};

    proptest! {
        #[test]
        fn messages_survive_their_text(row in row(), which in 0usize..4) {
            let reasons = [Reason::Deadline, Reason::Delivery, Reason::Unseen, Reason::Revived];
            let (push, revision, of) = (row.id.clone(), row.revision, row.rule.clone());
            let timer = Message::Timer(Timer { push, due: row.deadline, reason: reasons[which], revision, of });
            prop_assert_eq!(Message::parse(&timer.text()), Some(timer));
            let spill = Message::Spill(Box::new(Arrival {
                region: Region::parse("x").unwrap(), received: row.opened, id: row.payload.clone(), subject: row.subject, payload: row.payload,
            }));
            prop_assert_eq!(Message::parse(&spill.text()), Some(spill));
        }

        #[test]
        fn any_text_is_ours_or_not(text in ".*") {
            let _ = Message::parse(&text);
        }
    }

    #[test]
    fn foreign_texts_are_not_ours() {
        let push = PushId { key: Key::of(&["x"]), round: 1 };
        for text in [
            "",
            "hello",
            "[1,2]",
            "\"x\"",
            r#"{"push":"p1","due":1763800000}"#,
            &format!(r#"{{"v":2,"push":"{push}","due":"2026-11-22T10:00:00Z","reason":"deadline"}}"#),
        ] {
            assert_eq!(Message::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_timer_that_was_brought_back_is_ahead_of_no_row() {
        let timer = Timer { push: row_id(), due: Instant::UNIX_EPOCH, reason: Reason::Deadline, revision: 7, of: None };
        let Message::Timer(back) = Message::Timer(timer.clone()).revived() else { panic!("still a timer") };
        assert_eq!(back, Timer { reason: Reason::Revived, revision: 0, ..timer });
        // One that an earlier build queued says nothing of revisions.
        let text = format!(r#"{{"v":1,"push":"{}","due":"2026-11-22T10:00:00Z","reason":"deadline"}}"#, row_id());
        assert!(matches!(Message::parse(&text), Some(Message::Timer(Timer { revision: 0, .. }))));
    }

    fn row_id() -> PushId {
        PushId { key: Key::of(&["x"]), round: 1 }
    }

    #[test]
    fn no_member_collides_with_the_hosts_metadata() {
        let push = PushId { key: Key::of(&["x"]), round: 1 };
        let text = Message::Timer(Timer {
            push,
            due: Instant::UNIX_EPOCH,
            reason: Reason::Deadline,
            revision: 1,
            of: Some("x".into()),
        })
        .text();
        let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        let taken = [
            "id",
            "popreceipt",
            "dequeuecount",
            "expirationtime",
            "insertiontime",
            "nextvisibletime",
            "sys",
            "queuetrigger",
        ];
        assert!(members.keys().all(|m| !taken.contains(&m.to_lowercase().as_str())), "{text}");
    }
}
