//! `step` as tables: state, input and instant against the step that follows. Every rule has its line. Seconds count from
//! the first arrival; the policy waits for `a` and `b` for 100 s and tells `t` of everything, `u` of replicated pushes only.

use std::time::Duration;

use chrono::DateTime;

use super::*;
use crate::push::arrival::Correlation;
use crate::push::policy::{Filter, Rule, Target, Verdict};
use crate::push::state::TimerRef;
use crate::push::{Key, Region, Subject};

#[path = "step_orders.rs"]
mod orders;
#[path = "step_sequences.rs"]
mod sequences;

pub(super) fn at(seconds: i64) -> Instant {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(super) fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

pub(super) fn subject(repository: &str) -> Subject {
    Subject {
        registry: "r".into(),
        repository: repository.into(),
        tag: None,
        digest: "d".into(),
        action: "push".into(),
    }
}

pub(super) fn policy() -> Policy {
    let target = |name: &str, notices: &[Notice]| Target {
        name: name.into(),
        notices: notices.into(),
        filter: Filter::default(),
    };
    Policy {
        regions: vec![region("a"), region("b")],
        timeout: Duration::from_secs(100),
        correlation: Correlation::Content,
        rules: vec![
            Rule {
                name: "quiet".into(),
                filter: Filter { repository: Some("quiet".into()), ..Filter::default() },
                verdict: Verdict::Ignore,
            },
            Rule {
                name: "wide".into(),
                filter: Filter { repository: Some("wide".into()), ..Filter::default() },
                verdict: Verdict::FanIn { regions: Some(vec![region("a"), region("c")]), timeout: None },
            },
        ],
        targets: vec![
            target("t", &[Notice::Replicated, Notice::TimedOut, Notice::Recovered]),
            target("u", &[Notice::Replicated]),
        ],
        schedule: vec![Duration::from_secs(100), Duration::from_secs(1000)],
    }
}

pub(super) fn arrival(name: &str, id: &str, received: i64) -> Arrival {
    Arrival {
        region: region(name),
        received: at(received),
        id: id.into(),
        subject: subject("p"),
        payload: format!("{{\"id\":\"{id}\"}}"),
    }
}

/// Inputs that own what they hold.
#[derive(Debug, Clone)]
pub(super) enum In {
    Arrival(Arrival),
    Timer { message: Option<&'static str>, revived: bool, revision: u64 },
    Attempted(Attempted),
    Terminate,
    Redeliver(Option<&'static str>),
}

impl In {
    pub(super) fn input(&self) -> Input<'_> {
        match self {
            Self::Arrival(arrival) => Input::Arrival(arrival),
            Self::Timer { message, revived, revision } => {
                Input::Timer(Fired { message: *message, revived: *revived, revision: *revision })
            }
            Self::Attempted(attempted) => Input::Attempted(attempted),
            Self::Terminate => Input::Terminate,
            Self::Redeliver(target) => Input::Redeliver(*target),
        }
    }
}

fn arrive(name: &str, id: &str, received: i64) -> In {
    In::Arrival(arrival(name, id, received))
}

fn about(repository: &str, name: &str, id: &str, received: i64) -> In {
    In::Arrival(Arrival { subject: subject(repository), ..arrival(name, id, received) })
}

const NAMED: In = In::Timer { message: Some("m"), revived: false, revision: 1 };
const SPARE: In = In::Timer { message: Some("spare"), revived: false, revision: 1 };
const REVIVED: In = In::Timer { message: Some("new"), revived: true, revision: 0 };
const NAMELESS: In = In::Timer { message: None, revived: false, revision: 1 };
const AHEAD: In = In::Timer { message: Some("spare"), revived: false, revision: 99 };
/// Shifted for a write that did not come about: it keeps the id by which the row names it.
const SHIFTED: In = In::Timer { message: Some("m"), revived: false, revision: 99 };
const SHIFTED_NAMELESS: In = In::Timer { message: None, revived: false, revision: 99 };

fn result(target: &str, claim: u32, result: AttemptResult) -> In {
    In::Attempted(Attempted { target: target.into(), notice: Notice::Replicated, claim, result })
}

fn confirmed(target: &str, claim: u32) -> In {
    result(target, claim, AttemptResult::Confirmed { status: 204 })
}

fn failed(target: &str, claim: u32) -> In {
    asked_to_wait(target, claim, None)
}

fn asked_to_wait(target: &str, claim: u32, seconds: Option<u64>) -> In {
    let retry_after = seconds.map(Duration::from_secs);
    result(target, claim, AttemptResult::Failed { reason: "500".into(), retry_after })
}

fn refused(target: &str, claim: u32) -> In {
    result(target, claim, AttemptResult::Refused { reason: "410".into() })
}

/// The row after these inputs, as the engine would commit it: repeated while `again`, its timer due at `wake`.
fn after(inputs: &[(In, i64)], policy: &Policy) -> Option<Row> {
    let mut row = None;
    for (input, now) in inputs {
        loop {
            let step = step(row.as_ref(), &input.input(), at(*now), policy);
            if let Some(next) = step.next {
                let timer = step.wake.map(|due| TimerRef { id: "m".into(), receipt: "r".into(), due });
                row = Some(Row { timer, ..next });
            }
            if !step.again {
                break;
            }
        }
    }
    row
}

fn state(name: &str, policy: &Policy) -> Option<Row> {
    let mut inputs = match name {
        "none" => vec![],
        "waiting" => vec![(arrive("a", "1", 0), 0)],
        "repeated" => vec![(arrive("a", "1", 0), 0), (arrive("a", "2", 5), 5)],
        "replicated and repeated" | "overlapped" => {
            vec![(arrive("a", "1", 0), 0), (arrive("a", "2", 5), 5), (arrive("b", "1", 10), 10)]
        }
        "overdue" => return after(&[(arrive("a", "1", 0), 0)], policy),
        "wide" => vec![(about("wide", "a", "1", 0), 0)],
        "round 2 after a time-out" => vec![(arrive("a", "1", 0), 0), (NAMED, 100), (arrive("a", "2", 160), 160)],
        "mixed" => vec![(arrive("a", "1", 0), 0), (arrive("b", "2", 10), 10)],
        "timed out" => vec![(arrive("a", "1", 0), 0), (NAMED, 100)],
        "terminated" => vec![(arrive("a", "1", 0), 0), (In::Terminate, 50)],
        _ => vec![(arrive("a", "1", 0), 0), (arrive("b", "1", 10), 10)],
    };
    inputs.extend(match name {
        "retry" => vec![(failed("t", 1), 11), (confirmed("u", 1), 11)],
        "one confirmed" => vec![(confirmed("u", 1), 11)],
        "done" => vec![(confirmed("t", 1), 11), (confirmed("u", 1), 11)],
        "refused" => vec![(refused("t", 1), 11), (confirmed("u", 1), 11)],
        "last try" => {
            vec![(confirmed("u", 1), 11), (failed("t", 1), 11), (NAMED, 200), (failed("t", 2), 201), (NAMED, 2000)]
        }
        "round 2" => vec![(arrive("a", "2", 20), 20)],
        _ => vec![],
    });
    let superseded_by = match name {
        "superseded" => Some(arrive("a", "2", 20)),
        "overlapped" => Some(arrive("b", "2", 20)),
        _ => None,
    };
    if let Some(input) = superseded_by {
        let row = after(&inputs, policy)?;
        return step(Some(&row), &input.input(), at(20), policy).next;
    }
    after(&inputs, policy)
}

/// What a line of the table expects: the word, whether a row is committed, the wake in seconds, rearm, targets claimed.
type Expected<'a> = (&'a str, bool, Option<i64>, bool, &'a [&'a str]);

fn check(state_name: &str, input: &In, now: i64, expected: Expected<'_>, policy: &Policy) {
    let row = state(state_name, policy);
    let step = step(row.as_ref(), &input.input(), at(now), policy);
    let claimed: Vec<&str> = step.claims.iter().map(|c| c.target.as_str()).collect();
    let wake = step.wake.map(|w| (w - at(0)).num_seconds());
    let found: Expected<'_> = (step.what.word(), step.next.is_some(), wake, step.rearm, &claimed);
    assert_eq!(found, expected, "{state_name} at {now}: {input:?}");
    if let Some(next) = &step.next {
        assert_eq!(step.wake, next.wake(), "wake is the committed row's: {state_name} at {now}: {input:?}");
    }
    assert!(step.claims.iter().all(|c| c.lease_until == at(now) + limits::LEASE));
}

#[test]
fn arrivals() {
    let p = policy();
    let both: &[&str] = &["t", "u"];
    let table: &[(&str, In, i64, Expected<'_>)] = &[
        ("none", arrive("a", "1", 0), 0, ("opened", true, Some(100), false, &[])),
        ("none", arrive("x", "1", 0), 0, ("unknown_region", false, None, false, &[])),
        ("none", arrive("c", "1", 0), 0, ("ignored", false, None, false, &[])),
        ("none", about("quiet", "a", "1", 0), 0, ("ignored", false, None, false, &[])),
        ("none", about("wide", "b", "1", 0), 0, ("ignored", false, None, false, &[])),
        ("none", about("wide", "c", "1", 0), 0, ("opened", true, Some(100), false, &[])),
        // A spilled first arrival keeps the instant it was received: the deadline may be over before the row exists.
        ("none", arrive("a", "1", 0), 500, ("opened", true, Some(100), false, &[])),
        ("waiting", arrive("a", "1", 5), 5, ("duplicate", false, Some(100), false, &[])),
        ("waiting", arrive("a", "2", 5), 5, ("repeated", true, Some(100), false, &[])),
        ("repeated", arrive("a", "2", 5), 5, ("duplicate", false, Some(100), false, &[])),
        ("repeated", arrive("b", "2", 5), 5, ("replicated", true, Some(35), false, both)),
        ("waiting", arrive("x", "1", 5), 5, ("unknown_region", false, Some(100), false, &[])),
        ("waiting", arrive("c", "1", 5), 5, ("ignored", false, Some(100), false, &[])),
        ("waiting", arrive("b", "2", 99), 99, ("replicated", true, Some(129), false, both)),
        ("waiting", arrive("b", "2", 99), 300, ("replicated", true, Some(330), false, both)),
        ("waiting", arrive("b", "2", 100), 100, ("timed_out", true, Some(130), false, &["t"])),
        ("overdue", arrive("a", "1", 99), 100, ("timed_out", true, Some(130), false, &["t"])),
        ("wide", about("wide", "b", "1", 5), 5, ("ignored", false, Some(100), false, &[])),
        ("wide", about("wide", "c", "1", 5), 5, ("replicated", true, Some(35), false, both)),
        ("replicated", arrive("a", "1", 20), 20, ("duplicate", false, Some(40), false, &[])),
        ("replicated", arrive("b", "1", 20), 20, ("duplicate", false, Some(40), false, &[])),
        ("replicated", arrive("x", "1", 20), 20, ("unknown_region", false, Some(40), false, &[])),
        ("replicated", arrive("a", "2", 20), 20, ("superseded", true, Some(40), false, &[])),
        ("done", arrive("a", "2", 20), 20, ("superseded", true, None, false, &[])),
        ("superseded", arrive("a", "2", 20), 20, ("opened", true, Some(120), false, &[])),
        ("superseded", arrive("a", "1", 20), 20, ("duplicate", false, None, false, &[])),
        ("superseded", about("quiet", "a", "3", 20), 20, ("ignored", false, None, false, &[])),
        // A push that overlapped another: its first webhook is no news, its second one finds the first.
        ("replicated and repeated", arrive("a", "2", 20), 20, ("duplicate", false, Some(40), false, &[])),
        ("replicated and repeated", arrive("b", "2", 20), 20, ("superseded", true, Some(40), false, &[])),
        ("overlapped", arrive("b", "2", 20), 20, ("replicated", true, Some(50), false, both)),
        // Two whose webhooks were mixed share one round: neither's open another.
        ("mixed", arrive("a", "2", 20), 20, ("duplicate", false, Some(40), false, &[])),
        ("mixed", arrive("a", "3", 20), 20, ("superseded", true, Some(40), false, &[])),
        // Late duplicates of the first round do not count in the second.
        ("round 2", arrive("b", "1", 25), 25, ("duplicate", false, Some(120), false, &[])),
        // Nor does a region that the first round timed out without, when its id shows that it belongs there.
        ("round 2 after a time-out", arrive("b", "1", 170), 170, ("duplicate", false, Some(260), false, &[])),
        ("round 2 after a time-out", arrive("b", "2", 170), 170, ("replicated", true, Some(200), false, both)),
        ("round 2", arrive("b", "2", 25), 25, ("replicated", true, Some(55), false, both)),
        // The notice of the time-out is claimed with it when its own lease is over.
        ("timed out", arrive("b", "1", 120), 120, ("recovered", true, Some(130), false, &["t"])),
        ("timed out", arrive("b", "1", 150), 150, ("recovered", true, Some(180), false, &["t", "t"])),
        ("timed out", arrive("a", "1", 110), 110, ("duplicate", false, Some(130), false, &[])),
        ("timed out", arrive("x", "1", 110), 110, ("unknown_region", false, Some(130), false, &[])),
        ("terminated", arrive("b", "1", 60), 60, ("recovered", true, Some(80), false, &["t"])),
    ];
    for (state, input, now, expected) in table {
        check(state, input, *now, *expected, &p);
    }
}

#[test]
fn timers() {
    let p = policy();
    let both: &[&str] = &["t", "u"];
    let table: &[(&str, In, i64, Expected<'_>)] = &[
        ("none", NAMED, 0, ("unknown_push", false, None, false, &[])),
        ("waiting", NAMED, 99, ("early", true, Some(100), true, &[])),
        ("waiting", SPARE, 99, ("spare", false, Some(100), false, &[])),
        ("waiting", REVIVED, 99, ("early", true, Some(100), true, &[])),
        ("waiting", NAMELESS, 99, ("early", true, Some(100), true, &[])),
        ("waiting", NAMED, 100, ("timed_out", true, Some(130), true, &["t"])),
        // Due or not, that is for the one in charge, unless it stays away.
        ("waiting", SPARE, 100, ("spare", false, Some(100), false, &[])),
        ("waiting", SPARE, 159, ("spare", false, Some(100), false, &[])),
        ("waiting", SPARE, 160, ("timed_out", true, Some(190), true, &["t"])),
        ("waiting", REVIVED, 100, ("timed_out", true, Some(130), true, &["t"])),
        ("replicated", NAMED, 39, ("early", true, Some(40), true, &[])),
        ("replicated", SPARE, 40, ("spare", false, Some(40), false, &[])),
        ("done", SPARE, 100, ("idle", false, None, false, &[])),
        ("replicated", NAMED, 40, ("claimed", true, Some(70), true, both)),
        ("one confirmed", NAMED, 40, ("claimed", true, Some(70), true, &["t"])),
        (
            "retry",
            NAMED,
            30,
            ("early", true, state("retry", &p).unwrap().wake().map(|w| (w - at(0)).num_seconds()), true, &[]),
        ),
        ("retry", NAMED, 140, ("claimed", true, Some(170), true, &["t"])),
        ("done", NAMED, 100, ("idle", false, None, false, &[])),
        ("done", NAMELESS, 100, ("idle", false, None, false, &[])),
        ("done", REVIVED, 100, ("idle", false, None, false, &[])),
        ("refused", NAMED, 100, ("idle", false, None, false, &[])),
        ("superseded", NAMED, 40, ("claimed", true, Some(70), true, both)),
        // Whatever is due: what armed it did not come about, and the row is covered as it was before.
        ("waiting", AHEAD, 50, ("ahead", false, Some(100), false, &[])),
        ("waiting", AHEAD, 100, ("ahead", false, Some(100), false, &[])),
        ("waiting", AHEAD, 500, ("ahead", false, Some(100), false, &[])),
        ("replicated", AHEAD, 40, ("ahead", false, Some(40), false, &[])),
        ("done", AHEAD, 100, ("ahead", false, None, false, &[])),
        ("waiting", SHIFTED, 99, ("early", true, Some(100), true, &[])),
        ("waiting", SHIFTED, 100, ("timed_out", true, Some(130), true, &["t"])),
        ("waiting", SHIFTED_NAMELESS, 100, ("timed_out", true, Some(130), true, &["t"])),
    ];
    for (state, input, now, expected) in table {
        check(state, input, *now, *expected, &p);
    }
}

#[test]
fn results() {
    let p = policy();
    let table: &[(&str, In, i64, Expected<'_>)] = &[
        ("none", confirmed("t", 1), 0, ("unknown_push", false, None, false, &[])),
        ("waiting", confirmed("t", 1), 5, ("stale", false, Some(100), false, &[])),
        ("replicated", confirmed("t", 1), 11, ("confirmed", true, Some(40), false, &[])),
        ("replicated", confirmed("nobody", 1), 11, ("stale", false, Some(40), false, &[])),
        ("one confirmed", confirmed("t", 1), 11, ("confirmed", true, None, false, &[])),
        ("one confirmed", failed("u", 1), 11, ("stale", false, Some(40), false, &[])),
        ("one confirmed", confirmed("u", 1), 11, ("stale", false, Some(40), false, &[])),
        ("one confirmed", failed("t", 2), 11, ("stale", false, Some(40), false, &[])),
        ("one confirmed", failed("t", 0), 11, ("stale", false, Some(40), false, &[])),
        ("one confirmed", refused("t", 2), 11, ("stale", false, Some(40), false, &[])),
        ("one confirmed", refused("t", 1), 11, ("exhausted", true, None, false, &[])),
        // The receiver's wish, when longer than the schedule's, and its clamp.
        ("one confirmed", asked_to_wait("t", 1, Some(500)), 11, ("retry", true, Some(511), false, &[])),
        ("one confirmed", asked_to_wait("t", 1, Some(999_999)), 11, ("retry", true, Some(3611), false, &[])),
        // A result that comes twice: the second finds no lease.
        (
            "retry",
            failed("t", 1),
            12,
            ("stale", false, state("retry", &p).unwrap().wake().map(|w| (w - at(0)).num_seconds()), false, &[]),
        ),
        ("retry", confirmed("t", 1), 12, ("confirmed", true, None, false, &[])),
        ("last try", failed("t", 3), 2001, ("exhausted", true, None, false, &[])),
        ("last try", confirmed("t", 1), 2001, ("confirmed", true, None, false, &[])),
        ("refused", confirmed("t", 1), 12, ("confirmed", true, None, false, &[])),
        ("refused", failed("t", 1), 12, ("stale", false, None, false, &[])),
        ("done", failed("t", 1), 12, ("stale", false, None, false, &[])),
    ];
    for (state, input, now, expected) in table {
        check(state, input, *now, *expected, &p);
    }
}

#[test]
fn operators() {
    let p = policy();
    let both: &[&str] = &["t", "u"];
    let table: &[(&str, In, i64, Expected<'_>)] = &[
        ("none", In::Terminate, 0, ("unknown_push", false, None, false, &[])),
        ("none", In::Redeliver(None), 0, ("unknown_push", false, None, false, &[])),
        ("waiting", In::Terminate, 5, ("timed_out", true, Some(35), false, &["t"])),
        ("waiting", In::Redeliver(None), 5, ("idle", false, Some(100), false, &[])),
        ("replicated", In::Terminate, 11, ("idle", false, Some(40), false, &[])),
        ("replicated", In::Redeliver(None), 11, ("idle", false, Some(40), false, &[])),
        ("one confirmed", In::Redeliver(None), 11, ("claimed", true, Some(40), false, &["u"])),
        ("done", In::Redeliver(None), 50, ("claimed", true, Some(80), false, both)),
        ("done", In::Redeliver(Some("u")), 50, ("claimed", true, Some(80), false, &["u"])),
        ("done", In::Redeliver(Some("nobody")), 50, ("idle", false, None, false, &[])),
        ("refused", In::Redeliver(Some("t")), 50, ("claimed", true, Some(80), false, &["t"])),
        ("superseded", In::Redeliver(None), 50, ("idle", false, Some(40), false, &[])),
    ];
    for (state, input, now, expected) in table {
        check(state, input, *now, *expected, &p);
    }
}
