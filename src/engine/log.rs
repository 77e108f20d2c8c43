//! The log lines of a step: what an operator can follow a push by, and what somebody should look at.

use tracing::{error, info, warn};

use super::Engine;
use crate::clock::{self, Instant};
use crate::push::{Delivery, Did, Entry, Input, Row};
use crate::store::Which;

impl Engine {
    /// One line for each step that was taken, and one more for a notification that failed for the first time or for good.
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
            reason = row.and_then(|row| attempted(input, did, row)).and_then(reason),
            image = row.map(|r| r.subject.image()),
            missing,
            duration_ms = clock::until(began, self.clock.now()).as_millis(),
        );
        if let Some(row) = row {
            failures(input, did, row);
        }
    }
}

/// The entry of the outbox that an attempt which failed is about.
fn attempted<'a>(input: &Input, did: &Did, row: &'a Row) -> Option<&'a Entry> {
    let Input::Attempted(attempted) = input else { return None };
    let failed = matches!(did, Did::Retry | Did::Exhausted);
    let this = |e: &&Entry| e.target == attempted.target && e.notice == attempted.notice;
    row.settled().filter(|_| failed)?.outbox.iter().find(this)
}

fn reason(entry: &Entry) -> Option<&str> {
    match &entry.delivery {
        Delivery::Owed { last_error, .. } => last_error.as_deref(),
        Delivery::Exhausted { reason, .. } => Some(reason),
        Delivery::Confirmed { .. } | Delivery::Overtaken { .. } => None,
    }
}

/// What somebody should look at: the first failure of a notification, and each that is given up.
fn failures(input: &Input, did: &Did, row: &Row) {
    let image = row.subject.image();
    if let Some(entry) = attempted(input, did, row)
        && let Delivery::Owed { claims, failures: 1, .. } = &entry.delivery
    {
        warn!(
            push.id = %row.id, image, target = entry.target, notice = entry.notice.word(), attempt = claims,
            reason = reason(entry), "a notification failed and will be tried again"
        );
    }
    // These change the row whenever they happen, so what was given up at the row's last change was given up by this step.
    if !matches!(did, Did::Exhausted | Did::Claimed | Did::Confirmed | Did::Retry | Did::Recovered) {
        return;
    }
    for entry in row.settled().iter().flat_map(|settled| &settled.outbox) {
        if let Delivery::Exhausted { attempt, at, reason } = &entry.delivery
            && *at == row.updated
        {
            error!(
                push.id = %row.id, image, target = entry.target, notice = entry.notice.word(), attempt, reason,
                "a notification was given up; once its receiver is mended, send it again with `redeliver`"
            );
        }
    }
}
