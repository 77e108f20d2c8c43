//! The log lines of a step: what an operator can follow a push by, and what somebody should look at.

use tracing::{error, info, warn};

use super::Engine;
use crate::clock::{self, Instant};
use crate::push::{Delivery, Did, Entry, Input, Outcome, Row};
use crate::store::Which;
use crate::traces::Traces;

impl Engine {
    /// One line for each step that was taken, and one more for a push that timed out, and for a notification that failed for the
    /// first time or for good.
    pub(super) fn log(&self, which: &Which, input: &Input, did: &Did, row: Option<&Row>, began: Instant) {
        if let (Did::UnknownRegion, Input::Arrival { arrival, spilled, .. }) = (did, input) {
            // Of one that is refused, `http` tells: whoever sends many leaves few lines.
            if *spilled {
                self.metrics.refused(None, did.word());
                warn!(
                    image = arrival.subject.image(), region = %arrival.region, id = arrival.id,
                    "a webhook that waited on the queue is of a region that the settings do not name any more; it counts for nothing"
                );
            }
            return;
        }
        self.metrics.step(input, did, row);
        let (word, region, attempt) = match input {
            Input::Arrival { arrival, .. } => ("arrival", Some(arrival.region.as_str()), None),
            Input::Timer => ("timer", None, None),
            Input::Attempted(attempted) => ("attempted", None, Some((attempted.claim, attempted.target.as_str()))),
            Input::Terminate => ("terminate", None, None),
            Input::Redeliver(_) => ("redeliver", None, None),
            Input::Purge => ("purge", None, None),
            Input::ByHand(region) => ("by_hand", Some(region.as_str()), None),
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
            trace.id = row.filter(|_| self.traces.is_some()).map(Traces::id),
            duration_ms = clock::until(began, self.clock.now()).as_millis() as u64,
        );
        let Some(row) = row else { return };
        if let Did::Settled(Outcome::TimedOut) = did {
            warn!(push.id = %row.id, image = row.subject.image(), missing, "a push is not in all regions");
        }
        if let Some(entry) = first_failure(input, did, row) {
            warn!(
                push.id = %row.id, image = row.subject.image(), target = entry.target, notice = entry.notice.word(),
                attempt = attempts(entry), reason = reason(entry), "a notification failed and will be tried again"
            );
        }
        for entry in given_up(did, row) {
            self.metrics.exhausted(&entry.target);
            error!(
                push.id = %row.id, image = row.subject.image(), target = entry.target, notice = entry.notice.word(),
                attempt = attempts(entry), reason = reason(entry),
                "a notification was given up; once its receiver is mended, `redeliver` sends it again"
            );
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

/// The entry whose first attempt failed in this step.
fn first_failure<'r>(input: &Input, did: &Did, row: &'r Row) -> Option<&'r Entry> {
    let first = |entry: &&Entry| matches!(entry.delivery, Delivery::Owed { failures: 1, .. });
    attempted(input, did, row).filter(first)
}

/// The entries that this step gave up: the one an attempt was about, or those whose attempts kept ending without a result. The
/// words listed change the row whenever they are said, so whatever was given up at its last change was given up just now.
fn given_up<'r>(did: &Did, row: &'r Row) -> impl Iterator<Item = &'r Entry> {
    let changes = matches!(did, Did::Exhausted | Did::Claimed | Did::Confirmed | Did::Retry | Did::Recovered);
    let just_now = |entry: &&Entry| matches!(entry.delivery, Delivery::Exhausted { at, .. } if at == row.updated);
    row.settled().filter(|_| changes).into_iter().flat_map(|settled| &settled.outbox).filter(just_now)
}

fn attempts(entry: &Entry) -> u32 {
    match entry.delivery {
        Delivery::Owed { claims, .. } => claims,
        Delivery::Confirmed { attempt, .. }
        | Delivery::Exhausted { attempt, .. }
        | Delivery::Overtaken { attempt, .. } => attempt,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::{self, Source};
    use crate::limits;
    use crate::push::{Arrival, AttemptResult, Attempted, Change, Decision, Notice, Policy, Region, step};

    /// A push of one region, told to two targets; each attempt but the last is followed by another.
    struct Push {
        policy: Policy,
        row: Option<Row>,
        now: Instant,
    }

    impl Push {
        fn new() -> Self {
            let targets = ["t", "u"].map(|name| format!(r#"{{"name":"{name}","url":"https://{name}.example/"}}"#));
            let targets = format!("[{}]", targets.join(","));
            let settings =
                [("WebhookRegions", "a"), ("WebhookTargets", &targets), ("WebhookRetrySchedule", "PT1S,PT1S")];
            let policy = config::load(&Source::new(settings)).unwrap().policy;
            let body = r#"{"id":"1","action":"push","target":{"repository":"r","tag":"t","digest":"d"}}"#;
            let mut push = Self { policy, row: None, now: Instant::UNIX_EPOCH };
            let arrival = Arrival::read(Region::parse("a").unwrap(), push.now, body.into(), None).unwrap();
            push.step(&Input::Arrival { arrival: Arc::new(arrival), spilled: false, earlier: false });
            push
        }

        /// Targets with a first failure, and targets that are given up.
        fn step(&mut self, input: &Input) -> (Vec<String>, Vec<String>) {
            let Decision::Step(step) = step(self.row.as_ref(), input, self.now, &self.policy, None) else { panic!() };
            if let Change::Put(row) = step.change {
                self.row = Some(row);
            }
            let row = self.row.as_ref().unwrap();
            let name = |entry: &Entry| entry.target.clone();
            let first = first_failure(input, &step.did, row).map(name);
            (first.into_iter().collect(), given_up(&step.did, row).map(name).collect())
        }

        fn fails(&mut self, target: &str, claim: u32) -> (Vec<String>, Vec<String>) {
            let result = AttemptResult::Failed { reason: "x".into(), retry_after: None };
            self.step(&Input::Attempted(Attempted { target: target.into(), notice: Notice::Replicated, claim, result }))
        }

        fn looked_at_after(&mut self, wait: Duration) -> (Vec<String>, Vec<String>) {
            self.now = clock::after(self.now, wait);
            self.step(&Input::Timer)
        }
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn case_c5_the_first_failure_and_the_last_are_told_once() {
        let mut push = Push::new();
        let second = Duration::from_secs(2);
        assert_eq!(push.fails("t", 1), (names(&["t"]), names(&[])));
        assert_eq!(push.fails("u", 1), (names(&["u"]), names(&[])));
        push.looked_at_after(second);
        assert_eq!(push.fails("t", 2), (names(&[]), names(&[])));
        push.looked_at_after(second);
        assert_eq!(push.fails("t", 3), (names(&[]), names(&["t"])));
        // Neither a look nor a result that comes late tells it again.
        assert_eq!(push.step(&Input::Timer), (names(&[]), names(&[])));
        assert_eq!(push.fails("t", 3), (names(&[]), names(&[])));
    }

    #[test]
    fn what_is_given_up_because_no_attempt_ever_ends_is_told_too() {
        let mut push = Push::new();
        assert_eq!(push.fails("u", 1).0, ["u"]);
        // `u` is claimed again in the very step that gives `t` up.
        for _ in 0..limits::LAPSES_MAX {
            let (_, given_up) = push.looked_at_after(limits::LEASE);
            assert!(given_up.is_empty());
            push.fails("u", 2);
        }
        let row = push.row.as_ref().unwrap();
        assert!(matches!(row.settled().unwrap().outbox[1].delivery, Delivery::Owed { .. }));
        assert_eq!(push.looked_at_after(limits::LEASE).1, ["t"]);
    }
}
