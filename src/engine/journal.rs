//! The log line of a step: what an operator can follow a push by.

use tracing::info;

use super::{Engine, Of};
use crate::clock::{self, Instant};
use crate::push::state::Row;
use crate::push::{Input, What};

impl Engine {
    /// One line for each step that was taken.
    pub(super) fn log(&self, of: Of<'_>, input: &Input<'_>, what: &What, row: Option<&Row>, began: Instant) {
        let (word, region, attempt) = match input {
            Input::Arrival(arrival) => ("arrival", arrival.region.as_str(), None),
            Input::Timer(_) => ("timer", "", None),
            Input::Attempted(attempted) => ("attempted", "", Some((attempted.claim, attempted.target.as_str()))),
            Input::Terminate => ("terminate", "", None),
            Input::Redeliver(_) => ("redeliver", "", None),
        };
        let outcome = what.word();
        let duration_ms = clock::until(began, self.clock.now()).as_millis();
        let push = match (row, of) {
            (Some(row), _) => Some(row.id.to_string()),
            (None, Of::Push(id)) => Some(id.to_string()),
            (None, Of::Newest(_) | Of::Spilled(_)) => None,
        };
        let image = row.map(|r| r.subject.image());
        let missing = row
            .filter(|_| matches!(what, What::Settled(_)))
            .map(|r| r.missing_at_settling().into_iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            .filter(|missing| !missing.is_empty());
        info!(
            push.id = push,
            region = Some(region).filter(|r| !r.is_empty()),
            input = word,
            outcome,
            attempt = attempt.map(|(n, _)| n),
            target = attempt.map(|(_, t)| t),
            image,
            missing,
            duration_ms,
        );
    }
}
