//! Stories: pushes driven by `step` as a store drives them, from texts that read like the tables of the design, with the
//! checks that hold after every step.
//!
//! | words | meaning |
//! |---|---|
//! | `E1 0, W 7.5` | region `E` sends its webhook with id `1` at 0 s, `W` one without an id at 7.5 s |
//! | `W1 5>120` | received at 5 s, came back from the queue at 120 s |
//! | `A: E1 0; B: E2 2` | the tag carries digest `A`, then `B`; `A` where nothing is said |
//! | `timer 100`, `terminate 50`, `purge 50`, `redeliver 50`, `redeliver:u 50` | for the newest push of that digest |
//! | `confirmed t1 11`, `failed t1 11`, `failed:500 t1 11`, `refused t1 11`, `busy t1 11` | what came of target `t`'s attempt 1; the receiver asked for 500 s |
//! | `hand W 50` | an operator has seen the image in `W` |
//! | `confirmed t1:recovered 11` | the same, of another notice than that of the outcome |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use crate::push::arrival::Correlation;
use crate::push::policy::{Filter, Rule, Target, Verdict};
use crate::push::{AttemptResult, Attempted, Delivery, Entry, Key};
use crate::store::{Which, last_moved};

/// The instant so many milliseconds after the beginning of all stories.
pub(super) fn at(millis: i64) -> Instant {
    Instant::from_timestamp_millis(1_800_000_000_000 + millis).unwrap()
}

fn seconds(instant: Instant) -> f64 {
    (instant - at(0)).as_seconds_f64()
}

pub(super) fn regions(names: &str) -> Vec<Region> {
    names.split(' ').map(|name| Region::parse(name).unwrap()).collect()
}

pub(super) fn rule(filter: Filter, verdict: Verdict) -> Vec<Rule> {
    vec![Rule { name: "exception".into(), filter, verdict }]
}

/// Waits for `E` and `W`, knows `N`; `t` is told of all but what was superseded, `u` of replicated and superseded.
pub(super) fn policy(seconds: u64) -> Policy {
    let target = |name: &str, notices: &[Notice]| {
        let filter = Filter::default();
        Target { name: name.into(), notices: notices.into(), filter, companions: true }
    };
    let elsewhere = Filter { repository: Some("elsewhere".into()), ..Filter::default() };
    Policy {
        regions: regions("E W"),
        timeout: Duration::from_secs(seconds),
        correlation: Correlation::Content,
        repeats: Repeats::New,
        rules: rule(elsewhere, Verdict::FanIn { regions: Some(regions("N")), timeout: None }),
        targets: vec![
            target("t", &[Notice::Replicated, Notice::TimedOut, Notice::Recovered]),
            target("u", &[Notice::Replicated, Notice::Superseded]),
        ],
        schedule: vec![Duration::from_secs(100), Duration::from_secs(1000)],
    }
}

/// The same, waiting for `E`, `N` and `W`.
pub(super) fn three(seconds: u64) -> Policy {
    Policy { regions: regions("E N W"), ..policy(seconds) }
}

/// Pushes of one tag, or of one repository without tags.
#[derive(Clone)]
pub(super) struct Pushes {
    pub(super) policy: Policy,
    pub(super) rows: BTreeMap<PushId, Row>,
    /// Empty where nothing has one.
    pub(super) tag: &'static str,
    /// Whether webhooks may still wait on the queue.
    pub(super) pending: bool,
    /// Whether timers fire when they are due and receivers confirm at once.
    pub(super) on_time: bool,
    pub(super) now: Instant,
    /// Claims, and until when they last.
    pub(super) leases: BTreeMap<(PushId, String, Notice), (u32, Instant)>,
}

impl Pushes {
    pub(super) fn new(policy: Policy) -> Self {
        let (rows, leases) = Default::default();
        Self { policy, rows, tag: "latest", pending: false, on_time: false, now: at(0), leases }
    }

    /// What a story comes to, in the words of its last line's step.
    pub(super) fn play(&mut self, story: &str) -> String {
        let mut word = String::new();
        for chapter in story.split("; ") {
            let (digest, lines) = chapter.split_once(": ").unwrap_or(("A", chapter));
            for line in lines.split(", ").filter(|line| !line.is_empty()) {
                let (what, when) = line.rsplit_once(' ').expect("what and when");
                let (received, now) = when.split_once('>').unwrap_or((when, when));
                let instant = |when: &str| at((when.parse::<f64>().expect("a second") * 1000.0).round() as i64);
                let step = self.line(digest, what, instant(received), instant(now));
                word = self.word(&step);
            }
        }
        word
    }

    fn line(&mut self, digest: &str, what: &str, received: Instant, now: Instant) -> Step {
        if self.on_time {
            self.fire(now);
        }
        let (what, of) = what.split_once(' ').unwrap_or((what, ""));
        let (what, with) = what.split_once(':').unwrap_or((what, ""));
        let with = Some(with).filter(|with| !with.is_empty());
        let reason = || what.to_owned();
        let input = match what {
            "timer" => Input::Timer,
            "terminate" => Input::Terminate,
            "purge" => Input::Purge,
            "hand" => Input::ByHand(Region::parse(of).unwrap()),
            "redeliver" => Input::Redeliver(with.map(str::to_owned)),
            "confirmed" => self.result(digest, of, AttemptResult::Confirmed { status: 204 }),
            "refused" => self.result(digest, of, AttemptResult::Refused { reason: reason() }),
            "busy" => self.result(digest, of, AttemptResult::NotBegun { reason: reason() }),
            "failed" => {
                let retry_after = with.map(|seconds| Duration::from_secs(seconds.parse().expect("seconds")));
                self.result(digest, of, AttemptResult::Failed { reason: reason(), retry_after })
            }
            _ => return self.arrive(self.webhook(digest, &what[..1], &what[1..], received), received < now, now),
        };
        self.apply(&Which::Newest(self.key(digest)), input, now)
    }

    fn result(&self, digest: &str, of: &str, result: AttemptResult) -> Input {
        let outcome = self.newest(digest).and_then(Row::settled).map_or(Outcome::Replicated, |s| s.outcome);
        let (of, notice) = match of.split_once(":recovered") {
            Some((of, _)) => (of, Notice::Recovered),
            None => (of, outcome.into()),
        };
        let claim = of[1..].parse().expect("a target and a number");
        Input::Attempted(Attempted { target: of[..1].into(), notice, claim, result })
    }

    pub(super) fn webhook(&self, digest: &str, region: &str, id: &str, received: Instant) -> Arc<Arrival> {
        let (tag, id) = (self.tag, if id.is_empty() { "0" } else { id });
        let target = format!(r#"{{"repository":"p","digest":"{digest}","tag":"{tag}"}}"#);
        let body = format!(r#"{{"action":"push","id":"{id}","target":{target}}}"#);
        Arc::new(Arrival::read(Region::parse(region).unwrap(), received, body, None).unwrap())
    }

    pub(super) fn key(&self, digest: &str) -> Key {
        self.webhook(digest, "E", "", at(0)).key(self.policy.correlation)
    }

    pub(super) fn newest(&self, digest: &str) -> Option<&Row> {
        self.newest_of(&self.key(digest))
    }

    fn newest_of(&self, key: &Key) -> Option<&Row> {
        self.rows.values().rfind(|row| row.id.key == *key)
    }

    /// Applies a webhook to the round that it is for. That it comes once more changes nothing.
    pub(super) fn arrive(&mut self, arrival: Arc<Arrival>, spilled: bool, now: Instant) -> Step {
        let step = self.apply_arrival(&arrival, spilled, now);
        let rows = self.rows.clone();
        self.apply_arrival(&arrival, true, now);
        assert!(self.rows == rows, "a webhook that came twice changed something: {arrival:?}");
        step
    }

    fn apply_arrival(&mut self, arrival: &Arc<Arrival>, spilled: bool, now: Instant) -> Step {
        let mut which = Which::Newest(arrival.key(self.policy.correlation));
        loop {
            let earlier = matches!(which, Which::Push(_));
            let step = self.apply(&which, Input::Arrival { arrival: Arc::clone(arrival), spilled, earlier }, now);
            let Did::Earlier(before) = step.did else { return step };
            which = Which::Push(before);
        }
    }

    /// Fires timers in the order in which they are due, up to `until`.
    pub(super) fn fire(&mut self, until: Instant) {
        for _ in 0..10_000 {
            let due = self.rows.values().filter_map(|row| Some((row.wake()?, row.id.clone()))).min();
            let Some((due, id)) = due.filter(|(due, _)| *due <= until) else { return };
            self.apply(&Which::Push(id), Input::Timer, due.max(self.now));
        }
        panic!("timers fire for ever");
    }

    /// Lets time go on until nobody waits for anything.
    pub(super) fn end(&mut self) {
        (self.on_time, self.pending) = (true, false);
        self.fire(at(i64::from(u32::MAX)));
        assert!(self.rows.values().all(|row| row.wake().is_none()), "something is owed for ever");
    }

    pub(super) fn apply(&mut self, which: &Which, input: Input, now: Instant) -> Step {
        let row = match which {
            Which::Newest(key) => self.newest_of(key).cloned(),
            Which::Push(id) => self.rows.get(id).cloned(),
        };
        let decide = |answer| {
            let decision = step(row.as_ref(), &input, now, &self.policy, answer);
            assert_eq!(decision, step(row.as_ref(), &input, now, &self.policy, answer), "another answer");
            decision
        };
        let step = match (decide(None), &row) {
            (Decision::Ask(question), Some(row)) => {
                assert!(question.pending || question.moved.is_some());
                assert!(question.moved.is_none_or(|(from, _)| from == row.opened && !self.tag.is_empty()));
                let moved = |span| last_moved(self.rows.values(), &row.id, &row.subject.digest, span);
                let pending = question.pending && self.pending;
                decide(Some(Answer { moved: question.moved.and_then(moved), pending }))
            }
            (decision, _) => decision,
        };
        let Decision::Step(step) = step else { panic!("asks twice, or without a row: {step:?}") };
        self.now = now;
        self.check(row.as_ref(), &input, &step, now);
        match &step.change {
            Change::None => {}
            Change::Put(next) => drop(self.rows.insert(next.id.clone(), next.clone())),
            Change::Remove => drop(row.and_then(|row| self.rows.remove(&row.id))),
        }
        if let (true, Change::Put(row)) = (self.on_time, &step.change) {
            for Claim { target, notice, claim, .. } in step.claims.clone() {
                let result = AttemptResult::Confirmed { status: 200 };
                let attempted = Attempted { target, notice, claim, result };
                self.apply(&Which::Push(row.id.clone()), Input::Attempted(attempted), now);
            }
        }
        *step
    }

    /// What holds after every step.
    fn check(&mut self, before: Option<&Row>, input: &Input, step: &Step, now: Instant) {
        let Change::Put(next) = &step.change else { return assert!(step.claims.is_empty(), "{step:?}") };
        match before.filter(|row| row.id == next.id) {
            Some(row) => kept(row, next),
            None => assert_eq!(next.id.round, before.map_or(0, |row| row.id.round) + 1),
        }
        match &next.phase {
            Phase::Waiting { .. } => assert!(!next.missing_in_time().is_empty(), "complete, and still waiting"),
            Phase::Settled(s) => match s.outcome {
                Outcome::Replicated => assert!(s.missing.iter().all(|region| next.before.contains_key(region))),
                Outcome::TimedOut => assert!(s.terminated || s.at >= next.deadline && !s.missing.is_empty()),
                Outcome::Superseded => assert!((s.terminated || s.at >= next.deadline) && s.recovered.is_none()),
            },
            Phase::Purged { .. } => assert!(step.claims.is_empty()),
        }
        let looked = matches!(input, Input::Timer);
        assert!(!looked || next.wake().is_none_or(|wake| wake > now), "looked at, and still due");
        let name = |target: &str, notice| (next.id.clone(), target.to_owned(), notice);
        if let Input::Attempted(Attempted { target, notice, claim, result }) = input
            && let Some((current, until)) = self.leases.get_mut(&name(target, *notice))
            && (claim == current || matches!(result, AttemptResult::Confirmed { .. }))
        {
            *until = now;
        }
        for Claim { target, notice, claim, lease_until } in &step.claims {
            assert_eq!(*lease_until, clock::after(now, limits::LEASE));
            let before = self.leases.insert(name(target, *notice), (*claim, *lease_until));
            assert!(before.is_none_or(|(last, until)| last < *claim && until <= now), "two attempts at once");
            let overtaken = |e: &Entry| e.target == *target && matches!(e.delivery, Delivery::Overtaken { .. });
            if next.settled().is_some_and(|s| s.outbox.iter().any(overtaken)) {
                let alarm = self.leases.get(&name(target, Notice::TimedOut));
                assert!(alarm.is_none_or(|(_, until)| *until <= now), "the all-clear beside the alarm");
            }
        }
    }

    /// A step in one line: its word, the round where there are several, what it claims, and when somebody must look again.
    fn word(&self, step: &Step) -> String {
        let mut text = step.did.word().to_owned();
        let row = match &step.change {
            Change::None => return text,
            Change::Remove => return text + ", gone",
            Change::Put(row) => row,
        };
        if self.rows.keys().filter(|id| id.key == row.id.key).count() > 1 {
            text += &format!(" round {}", row.id.round);
        }
        for Claim { target, notice, claim, .. } in &step.claims {
            text += &format!(" {target}{claim}");
            if row.settled().is_some_and(|s| *notice != s.outcome.into()) {
                text += &format!(":{}", notice.word());
            }
        }
        text + &row.wake().map_or(", owes nothing".into(), |wake| format!(", wake {}", seconds(wake)))
    }

    /// What `t` was told, in brackets what a push came to of which it was not; and how many webhooks were repeats.
    pub(super) fn told(&self) -> (String, u32) {
        let mut told = Vec::new();
        for row in self.rows.values() {
            let settled = row.settled().expect("a settled push");
            let recovered = settled.recovered.map(|at| (at, Notice::Recovered));
            for (at, notice) in [(settled.at, settled.outcome.into())].into_iter().chain(recovered) {
                let mut line = format!("{}{} {} {}", row.subject.digest, row.id.round, notice.word(), seconds(at));
                for region in settled.missing.iter().filter(|_| notice == Notice::TimedOut) {
                    let before = row.before.get(region).map(|at| format!("@{}", seconds(*at))).unwrap_or_default();
                    line += &format!(" -{}{before}", region.as_str().to_uppercase());
                }
                let confirmed = |e: &Entry| matches!(e.delivery, Delivery::Confirmed { .. });
                let heard = settled.outbox.iter().any(|e| e.target == "t" && e.notice == notice && confirmed(e));
                told.push((at, if heard { line } else { format!("[{line}]") }));
            }
        }
        told.sort_by_key(|(at, _)| *at);
        let repeats = self.rows.values().flat_map(|row| row.arrived.values()).map(|seen| seen.repeats).sum();
        (told.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join(", "), repeats)
    }

    /// The deliveries of the newest push, in the order of its outbox.
    pub(super) fn deliveries(&self) -> Vec<&Delivery> {
        let settled = self.newest("A").and_then(Row::settled).expect("a settled push");
        settled.outbox.iter().map(|entry| &entry.delivery).collect()
    }
}

/// What changes in a row changes one way only; all else stays.
fn kept(row: &Row, next: &Row) {
    let Row { arrived, unawaited, phase, updated, payload, .. } = next.clone();
    let payload = if next.is_purged() { payload } else { row.payload.clone() };
    assert_eq!(*next, Row { arrived, unawaited, phase, updated, payload, ..row.clone() });
    for (region, seen) in &row.arrived {
        let then = &next.arrived[region];
        let in_time = then.at < row.deadline && row.deadline <= seen.at && row.settled().is_none();
        assert!(in_time || (then.at, &then.id) == (seen.at, &seen.id), "an arrival on record was changed");
        assert!(then.repeats >= seen.repeats && then.repeated >= seen.repeated);
    }
    assert!(row.unawaited.iter().all(|(region, seen)| next.unawaited.get(region) == Some(seen)));
    let Some(settled) = row.settled().filter(|_| !next.is_purged()) else { return };
    let then = next.settled().expect("settled for good");
    let (outbox, recovered) = (then.outbox.clone(), settled.recovered.or(then.recovered));
    assert_eq!(*then, Settled { outbox, recovered, ..settled.clone() });
    let names = |s: &Settled| s.outbox.iter().map(|e| (e.target.clone(), e.notice)).collect::<Vec<_>>();
    assert!(names(then).starts_with(&names(settled)));
}
