//! The log line of a step: what an operator can follow a push by.

use tracing::info;

use super::Engine;
use crate::clock::{self, Instant};
use crate::push::{Did, Input, Row};
use crate::store::Which;

impl Engine {
    /// One line for each step that was taken.
    pub(super) fn log(&self, which: &Which, input: &Input, did: &Did, row: Option<&Row>, began: Instant) {
        let (word, region, attempt) = match input {
            Input::Arrival { arrival, .. } => ("arrival", Some(arrival.region.as_str()), None),
            Input::Timer => ("timer", None, None),
            Input::Attempted(attempted) => ("attempted", None, Some((attempted.claim, attempted.target.as_str()))),
            Input::Terminate => ("terminate", None, None),
            Input::Redeliver(_) => ("redeliver", None, None),
            Input::Purge => ("purge", None, None),
        };
        let push = match (row, which) {
            (Some(row), _) => Some(row.id.to_string()),
            (None, Which::Push(id)) => Some(id.to_string()),
            (None, Which::Newest(_)) => None,
        };
        let missing = row
            .filter(|_| matches!(did, Did::Settled(_)))
            .and_then(|row| row.settled())
            .map(|s| s.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            .filter(|missing| !missing.is_empty());
        info!(
            push.id = push,
            region,
            input = word,
            outcome = did.word(),
            attempt = attempt.map(|(n, _)| n),
            target = attempt.map(|(_, t)| t),
            image = row.map(|r| r.subject.image()),
            missing,
            duration_ms = clock::until(began, self.clock.now()).as_millis(),
        );
    }
}
