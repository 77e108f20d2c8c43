//! What a push is, and the rules it lives by. Pure: no I/O, no clock to read, no chance; nothing else of this crate but
//! `limits` and the arithmetic of instants.
//!
//! The public face is [`step()`]: a row, one [`Input`] and the instant go in, a [`Step`] comes out. Everything that decides
//! anything about a push is reachable from there and testable without a runtime.

pub mod arrival;
pub mod backoff;
pub mod policy;
pub mod record;
mod rounds;
pub mod state;
mod step;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Instant;
use crate::limits;
pub use arrival::{Arrival, Notification};
pub use policy::{Plan, Policy};
pub use state::{Delivery, Entry, Notice, Outcome, Phase, Row, TimerRef};
pub use step::step;

/// Name of one replica region, trimmed and in lower case; 1 to [`limits::REGION_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl Region {
    /// Reads a region's name as people and query strings write it.
    ///
    /// # Errors
    /// Says what is wrong with the text; the text itself is at most named by its length.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = text.trim().to_lowercase();
        if name.is_empty() {
            return Err("a region's name is empty".into());
        }
        if name.len() > limits::REGION_BYTES_MAX {
            return Err(format!("a region's name has {} bytes, {} are allowed", name.len(), limits::REGION_BYTES_MAX));
        }
        if name.chars().any(|c| c.is_control() || c == ',') {
            return Err("a region's name holds a comma or a control character".into());
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Region {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

/// What correlates the regional webhooks of one push: the first 160 bits of a SHA-256 over an injective encoding of the
/// correlating members, as 40 hex digits. Safe as a table key, a file name and a URL segment whatever the registry sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Hashes `parts` so that no two different lists give the same input to the hash: each part is preceded by its length.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hex(&hash.finalize()[..20]))
    }

    /// The 40 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lower-case hexadecimal text of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

/// Name of one push: its correlation key and its round, written `<40 hex digits>-<round>`. Rounds count from 1; a second
/// round is the same tag and digest pushed again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PushId {
    /// What correlates the push's webhooks.
    pub key: Key,
    /// How often the same content has been pushed, from 1.
    pub round: u32,
}

impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key.0, self.round)
    }
}

impl FromStr for PushId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "a push id is 40 hex digits, a hyphen and a round number".to_owned();
        let (key, round) = text.split_once('-').ok_or_else(bad)?;
        let plain = key.len() == 40 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let round_plain = !round.starts_with('0') && round.bytes().all(|b| b.is_ascii_digit());
        match round.parse() {
            Ok(round) if plain && round_plain => Ok(Self { key: Key(key.to_owned()), round }),
            Ok(_) | Err(_) => Err(bad()),
        }
    }
}

impl TryFrom<String> for PushId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PushId> for String {
    fn from(id: PushId) -> Self {
        id.to_string()
    }
}

/// What was pushed (or deleted, or quarantined): the members that are the same in every region's webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Login server of the registry, normalised (see [`arrival::login_server`]); empty when the notification names none.
    pub registry: String,
    /// Repository, as sent.
    pub repository: String,
    /// Tag; absent for an untagged manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Digest of the manifest, as sent.
    pub digest: String,
    /// `push`, `delete`, `quarantine`, `chart_push` or `chart_delete`.
    pub action: String,
}

impl Subject {
    /// `repository:tag`, or `repository@digest` for an untagged manifest.
    #[must_use]
    pub fn image(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => format!("{}@{}", self.repository, self.digest),
        }
    }
}

/// Something that happened to a push. Any of them may come twice, late, early or never.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// A region's webhook.
    Arrival(&'a Arrival),
    /// A durable timer fired.
    Timer(Fired<'a>),
    /// An attempt at a notification ended.
    Attempted(&'a Attempted),
    /// An operator ended the wait: settle as if the deadline were now.
    Terminate,
    /// An operator wants a notification sent again: all that are not owed at present, or only those of the named target.
    Redeliver(Option<&'a str>),
}

/// How a timer reached us.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fired<'a> {
    /// Id of the queue message, or of the one that a second look stands in for, when that is known.
    pub message: Option<&'a str>,
    /// It was brought back from the poison queue under a new id: the row may name it by its old one.
    pub revived: bool,
    /// The row's revision that the timer was armed for; 0 when that says nothing any more.
    pub revision: u64,
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
        retry_after: Option<std::time::Duration>,
    },
    /// Nothing was sent: earlier notifications to this target took every place until the lease was nearly over.
    NotBegun {
        /// Short, without secrets.
        reason: String,
    },
    /// The receiver does not want this notification ever (410 Gone).
    Refused {
        /// Short, without secrets.
        reason: String,
    },
}

/// What `step` decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What happened, for the answer and the log line.
    pub what: What,
    /// The row to commit; `None` leaves the stored one as it is.
    pub next: Option<Row>,
    /// When this push needs a timer next; `None` when it owes nothing any more.
    pub wake: Option<Instant>,
    /// Whether a timer of the push was used up, so that one must be armed anew for `wake` whatever the row says.
    pub rearm: bool,
    /// Outbox entries leased to whoever commits `next`.
    pub claims: Vec<Claim>,
    /// The same input must be stepped again once `next` is committed.
    pub again: bool,
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
pub enum What {
    /// First arrival: the push was opened.
    Opened,
    /// A further arrival of an open push.
    Joined,
    /// The push settled.
    Settled(Outcome),
    /// The arrival was known already.
    Duplicate,
    /// Its region was known, its id was not: on record for the next round of the same content.
    Repeated,
    /// The arrival came after the push had timed out and is on record.
    Late,
    /// The last missing region arrived after the time-out.
    Recovered,
    /// The same content was pushed again; the old round takes no more arrivals.
    Superseded,
    /// Nothing waits for this arrival; the text says why.
    Ignored(String),
    /// No push waits for this region and it is not configured.
    UnknownRegion,
    /// No such push.
    UnknownPush,
    /// Not due yet.
    Early,
    /// The timer belongs to a write of the row that did not come about, or not yet.
    Ahead,
    /// The row names another timer than the one that fired.
    Spare,
    /// Nothing is owed.
    Idle,
    /// Notifications were claimed for an attempt.
    Claimed,
    /// A receiver confirmed.
    Confirmed,
    /// An attempt failed and there will be another.
    Retry,
    /// The last attempt failed, or the receiver refused.
    Exhausted,
    /// A result of a claim that is not the current one.
    Stale,
}

impl What {
    /// The word for logs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Joined => "joined",
            Self::Settled(Outcome::Replicated) => "replicated",
            Self::Settled(Outcome::TimedOut) => "timed_out",
            Self::Duplicate => "duplicate",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::Recovered => "recovered",
            Self::Superseded => "superseded",
            Self::Ignored(_) => "ignored",
            Self::UnknownRegion => "unknown_region",
            Self::UnknownPush => "unknown_push",
            Self::Early => "early",
            Self::Ahead => "ahead",
            Self::Spare => "spare",
            Self::Idle => "idle",
            Self::Claimed => "claimed",
            Self::Confirmed => "confirmed",
            Self::Retry => "retry",
            Self::Exhausted => "exhausted",
            Self::Stale => "stale",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn regions_fold_case_and_blanks() {
        assert_eq!(Region::parse("  NorthEurope ").unwrap().as_str(), "northeurope");
        for bad in ["", "  ", "a,b", "a\u{7}", &"x".repeat(65)] {
            assert!(Region::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn push_ids_refuse_other_spellings() {
        let key = "0123456789abcdef0123456789abcdef01234567";
        assert!(format!("{key}-1").parse::<PushId>().is_ok());
        for bad in [
            key.to_owned(),
            format!("{key}-"),
            format!("{key}-01"),
            format!("{key}-+1"),
            format!("{key}-1-2"),
            format!("{}-1", key.to_uppercase()),
            format!("{key}-4294967296"),
            "x-1".into(),
            String::new(),
        ] {
            assert!(bad.parse::<PushId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn push_ids_survive_their_text(parts in prop::collection::vec(".*", 0..5), round in 1u32..) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let id = PushId { key: Key::of(&parts), round };
            prop_assert_eq!(id.to_string().parse::<PushId>(), Ok(id));
        }

        #[test]
        fn keys_of_different_lists_differ(a in prop::collection::vec(".{0,8}", 0..4), b in prop::collection::vec(".{0,8}", 0..4)) {
            fn key(parts: &[String]) -> Key {
                Key::of(&parts.iter().map(String::as_str).collect::<Vec<_>>())
            }
            prop_assert_eq!(a == b, key(&a) == key(&b));
        }
    }

    #[test]
    fn moving_a_boundary_between_parts_changes_the_key() {
        assert_ne!(Key::of(&["ab", "c"]), Key::of(&["a", "bc"]));
        assert_ne!(Key::of(&["a", ""]), Key::of(&["a"]));
    }
}
