//! What a message of the timer queue says. A timer is a hint to look at a push, never a command: what is done follows from the
//! row. So a message is trusted for the push's name and for which write armed it, and a spilled arrival is read again as if it
//! came from the registry.

use serde::{Deserialize, Serialize};

use super::parts::Ticket;
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::arrival::Fault;
use crate::push::{Arrival, PushId, Region};

/// A message of the timer queue. The host copies a message's top-level members over those of its own metadata, so none may be
/// called `Id`, `PopReceipt`, `DequeueCount` or the like, in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A durable timer.
    Timer(Timer),
    /// An arrival that could not be written to its row in time.
    Spill(Spill),
    /// Upkeep.
    Upkeep(Upkeep),
}

/// A durable timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// The push to look at.
    pub push: PushId,
    /// When it is meant to fire: what a timer that fails waits for longer from then on.
    pub due: Instant,
    /// The write it was armed for.
    pub ticket: Ticket,
    /// It is the second look of a timer that was newer than its row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// An arrival on its way over the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spill {
    /// Name of the app whose ImagePush received it.
    pub app: String,
    /// The region that reported.
    pub region: Region,
    /// When ImagePush received it.
    pub received: Instant,
    /// The registry's own JSON text, unchanged.
    pub payload: String,
}

/// A walk of upkeep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// The write of upkeep's own note that armed it.
    pub ticket: Ticket,
    /// The first walk after a start: timers are armed anew, whether or not they are overdue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
}

impl Message {
    /// The text to queue, before base64.
    #[must_use]
    pub fn text(&self) -> String {
        #[expect(clippy::expect_used, reason = "a message holds only strings, numbers and structs of them")]
        serde_json::to_string(self).expect("a message is JSON")
    }

    /// Reads a queued text.
    ///
    /// # Errors
    /// What is wrong with it, for the operator, repeating nothing of it. It is not one of ours, or was never written by a
    /// build and a clock that can be trusted.
    pub fn parse(text: &str, now: Instant) -> Result<Self, String> {
        if text.len() > limits::MESSAGE_BYTES_MAX {
            return Err("it is longer than any message of ours".into());
        }
        let message: Self = serde_json::from_str(text).map_err(|_| "it is not one of ours".to_owned())?;
        if let Self::Spill(Spill { received, app, .. }) = &message {
            if clock::until(now, *received) > limits::FUTURE_MAX {
                return Err("it holds a webhook that was received in the future".into());
            }
            if app.len() > limits::APP_BYTES_MAX || app.chars().any(char::is_control) {
                return Err("it names an app as none is named".into());
            }
        }
        Ok(message)
    }
}

impl Spill {
    /// An arrival of an app to queue.
    #[must_use]
    pub fn of(arrival: &Arrival, app: &str) -> Self {
        let Arrival { region, received, payload, .. } = arrival;
        Self { app: app.to_owned(), region: region.clone(), received: *received, payload: payload.clone() }
    }

    /// The arrival, read as when it came from the registry, with all its bounds.
    ///
    /// # Errors
    /// The payload is none that ImagePush would have taken.
    pub fn arrival(&self, registry: Option<&str>) -> Result<Arrival, Fault> {
        Arrival::read(self.region.clone(), self.received, self.payload.clone(), registry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::Key;
    use crate::push::record::tests::row;

    fn push() -> PushId {
        PushId { key: Key::of(&["x"], &[]), round: 1 }
    }

    fn timer(due: Instant, again: bool, ticket: Ticket) -> Message {
        Message::Timer(Timer { push: push(), due, ticket, again })
    }

    proptest! {
        #[test]
        fn messages_survive_their_text(row in row(), again in any::<bool>(), revision in any::<u64>(), writer in any::<u64>()) {
            let ticket = Ticket { revision, writer };
            let region = Region::parse("x").unwrap();
            let spill = Spill { app: "a".into(), region, received: row.opened, payload: row.payload.clone() };
            for message in [timer(row.deadline, again, ticket), Message::Spill(spill), Message::Upkeep(Upkeep { ticket, first: again })] {
                prop_assert_eq!(Message::parse(&message.text(), row.opened), Ok(message));
            }
        }

        #[test]
        fn any_text_is_ours_or_not(text in ".*") {
            let _ = Message::parse(&text, Instant::UNIX_EPOCH);
        }
    }

    #[test]
    fn foreign_texts_and_those_of_the_first_edition_are_not_ours() {
        for text in [
            "",
            "hello",
            "[1,2]",
            "\"x\"",
            r#"{"push":"p1","due":1763800000}"#,
            r#"{"timer":{"push":"p1","due":"2026-11-22T10:00:00Z","reason":"deadline","ticket":{"revision":1,"writer":1}}}"#,
            r#"{"v":1,"push":"0123456789abcdef0123456789abcdef01234567-1","due":"2026-11-22T10:00:00Z","reason":"deadline"}"#,
            r#"{"v":1,"arrival":{"region":"a","received":"2026-11-22T10:00:00Z","id":"1","subject":{},"payload":"{}"}}"#,
        ] {
            assert!(Message::parse(text, Instant::UNIX_EPOCH).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_received_in_the_future_was_not() {
        let spill = |millis| {
            let received = Instant::from_timestamp_millis(millis).unwrap();
            Message::Spill(Spill {
                app: String::new(),
                region: Region::parse("x").unwrap(),
                received,
                payload: String::new(),
            })
        };
        assert!(Message::parse(&spill(300_000).text(), Instant::UNIX_EPOCH).is_ok());
        assert!(Message::parse(&spill(300_001).text(), Instant::UNIX_EPOCH).unwrap_err().contains("future"));
    }

    #[test]
    fn every_bound_of_a_message_is_checked_when_it_is_read() {
        let read = |app: &str, payload: usize| {
            let (region, received) = (Region::parse("x").unwrap(), Instant::UNIX_EPOCH);
            let spill = Spill { app: app.into(), region, received, payload: "x".repeat(payload) };
            Message::parse(&Message::Spill(spill).text(), Instant::UNIX_EPOCH).is_ok()
        };
        assert!(read("app", 0) && read("app", 40 * 1024));
        assert!(!read("app", limits::MESSAGE_BYTES_MAX) && !read("a\u{1b}pp", 0) && !read(&"a".repeat(300), 0));
    }

    #[test]
    fn no_member_collides_with_the_hosts_metadata() {
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
        let text = timer(Instant::UNIX_EPOCH, true, Ticket::default()).text();
        let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert!(members.keys().all(|m| !taken.contains(&m.to_lowercase().as_str())), "{text}");
    }
}
