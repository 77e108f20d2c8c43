//! The document of `doctor`.

use serde::{Deserialize, Serialize};

use super::Gap;
use super::catalogue::{CHECKS, Id};
use crate::api;
use crate::clock::Instant;

/// How a check came out, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Pushes, webhooks or notifications are lost or held up, or will be.
    Fault,
    /// It works, and somebody should look at it.
    Warning,
    /// It could not be looked at.
    Skipped,
    /// Nothing to do.
    Ok,
}

impl State {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Skipped => "skipped",
            Self::Ok => "ok",
        }
    }
}

/// One check, of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which check, such as `webhooks.key`. Stable.
    pub id: String,
    /// What it is about, such as the name of a webhook, where a check looks at several things.
    #[serde(default)]
    pub about: Option<String>,
    /// How it came out.
    pub state: State,
    /// What was found; of a skipped one, why it was not made.
    pub what: String,
    /// What that leads to; `null` where nothing is wrong.
    #[serde(default)]
    pub meaning: Option<String>,
    /// What to do; of a skipped one, how to have it made. `null` where nothing is wrong.
    #[serde(default)]
    pub action: Option<String>,
}

impl Check {
    fn new(id: Id, state: State, what: String) -> Self {
        let entry = id.entry();
        let (meaning, action) = match state {
            State::Fault | State::Warning => (Some(entry.meaning.to_owned()), Some(entry.action.to_owned())),
            State::Skipped | State::Ok => (None, None),
        };
        Self { id: entry.word.to_owned(), about: None, state, what, meaning, action }
    }

    pub(super) fn ok(id: Id, what: impl Into<String>) -> Self {
        Self::new(id, State::Ok, what.into())
    }

    pub(super) fn warning(id: Id, what: impl Into<String>) -> Self {
        Self::new(id, State::Warning, what.into())
    }

    pub(super) fn fault(id: Id, what: impl Into<String>) -> Self {
        Self::new(id, State::Fault, what.into())
    }

    pub(super) fn skipped(id: Id, gap: &Gap) -> Self {
        Self { action: Some(gap.action.clone()), ..Self::new(id, State::Skipped, gap.why.clone()) }
    }

    /// A check of whether something can be read, which it cannot: a warning where somebody named it.
    pub(super) fn unread(id: Id, meaning: &str, gap: &Gap) -> Self {
        if gap.was_asked {
            Self::warning(id, gap.why.clone()).because(meaning, &gap.action)
        } else {
            Self::skipped(id, gap)
        }
    }

    pub(super) fn about(self, about: &str) -> Self {
        Self { about: Some(about.to_owned()), ..self }
    }

    /// The same with other words than the catalogue's for what it means and what to do.
    pub(super) fn because(self, meaning: &str, action: &str) -> Self {
        Self { meaning: Some(meaning.to_owned()), action: Some(action.to_owned()), ..self }
    }
}

/// Skips checks for one reason.
pub(super) fn skip(checks: &mut Vec<Check>, gap: &Gap, ids: &[Id]) {
    checks.extend(ids.iter().map(|id| Check::skipped(*id, gap)));
}

/// How many checks came out how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Faults.
    pub fault: usize,
    /// Warnings.
    pub warning: usize,
    /// Checks that could not be made.
    pub skipped: usize,
    /// Checks that found nothing wrong.
    pub ok: usize,
}

/// What `doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Address of the service, without its query.
    pub service: String,
    /// When.
    pub at: String,
    /// `fault`, `warning` or `ok`: the worst of all checks that were made.
    pub state: State,
    /// How many came out how.
    pub counts: Counts,
    /// The worst first.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(service: String, at: Instant, mut checks: Vec<Check>) -> Self {
        let place = |check: &Check| CHECKS.iter().position(|entry| entry.word == check.id);
        checks.sort_by_key(|check| (check.state, place(check)));
        let count = |state| checks.iter().filter(|check| check.state == state).count();
        let counts = Counts {
            fault: count(State::Fault),
            warning: count(State::Warning),
            skipped: count(State::Skipped),
            ok: count(State::Ok),
        };
        let worst = checks.iter().map(|check| check.state).find(|state| *state != State::Skipped);
        Self { service, at: api::time(at), state: worst.unwrap_or(State::Ok), counts, checks }
    }
}
