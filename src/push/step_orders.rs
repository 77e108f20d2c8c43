//! `step` under every order of a few inputs, and under random sequences of many, against a model that a reader can hold in
//! the head: a push is replicated exactly when every region was received before the deadline.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A push under test, driven as the engine drives it, with the checks that hold after every step.
struct Push<'a> {
    policy: &'a Policy,
    rounds: Vec<Row>,
    leases: BTreeMap<(u32, String, Notice), Instant>,
    timers: u32,
}

impl<'a> Push<'a> {
    fn new(policy: &'a Policy) -> Self {
        Self { policy, rounds: Vec::new(), leases: BTreeMap::new(), timers: 0 }
    }

    /// Steps `input` for the newest round until it asks for no repetition.
    fn feed(&mut self, input: &In, now: Instant) -> What {
        for _ in 0..3 {
            let round = self.rounds.last().cloned();
            let step = step(round.as_ref(), &input.input(), now, self.policy);
            assert_eq!(
                step,
                super::super::step(round.as_ref(), &input.input(), now, self.policy),
                "the same question has the same answer"
            );
            self.check(round.as_ref(), input, &step, now);
            if let Some(mut next) = step.next {
                if step.rearm || next.timer.as_ref().is_none_or(|t| step.wake.is_none_or(|w| t.due > w)) {
                    self.timers += 1;
                    next.timer =
                        step.wake.map(|due| TimerRef { id: format!("m{}", self.timers), receipt: String::new(), due });
                }
                match self.rounds.last_mut() {
                    Some(last) if last.id == next.id => *last = next,
                    Some(_) | None => self.rounds.push(next),
                }
            }
            if !step.again {
                return step.what;
            }
        }
        panic!("an input asked to be repeated for ever");
    }

    fn check(&mut self, before: Option<&Row>, input: &In, step: &Step, now: Instant) {
        if let (Some(before), Some(next)) = (before, &step.next) {
            if before.id == next.id {
                assert_eq!(
                    (&before.regions, before.deadline, &before.rule, before.opened, &before.payload),
                    (&next.regions, next.deadline, &next.rule, next.opened, &next.payload)
                );
                for (region, arrived) in &before.arrived {
                    assert_eq!(next.arrived.get(region), Some(arrived), "an arrival on record was changed");
                }
                if let Some(settled) = before.settled() {
                    let then = next.settled().expect("settled for good");
                    assert_eq!((settled.outcome, settled.at, &before.arrived), (then.outcome, then.at, &next.arrived));
                    assert!(then.outbox.len() >= settled.outbox.len());
                    assert!(settled.late.iter().all(|(region, at)| then.late.get(region) == Some(at)));
                }
            } else {
                assert_eq!(next.id.round, before.id.round + 1);
                assert!(
                    before.settled().is_some_and(|s| s.superseded),
                    "a round opens only after the one before it is closed"
                );
            }
        }
        let row = step.next.as_ref().or(before);
        if let Some(row) = row {
            let owes =
                row.settled().is_none_or(|s| s.outbox.iter().any(|e| matches!(e.delivery, Delivery::Owed { .. })));
            assert_eq!(row.wake().is_some(), owes);
            if step.next.is_some() {
                assert_eq!(step.wake, row.wake());
            }
            assert!(row.settled().is_some() || !row.missing().is_empty(), "complete but still waiting");
            if let Some(settled) = row.settled() {
                let complete = row.missing_at_settling().is_empty();
                assert_eq!(settled.outcome == Outcome::Replicated, complete);
                if settled.outcome == Outcome::TimedOut && !settled.terminated {
                    assert!(settled.at >= row.deadline, "timed out before its deadline");
                }
            }
        }
        // A result gives its lease back.
        if let (In::Attempted(attempted), Some(next)) = (input, &step.next) {
            self.leases.remove(&(next.id.round, attempted.target.clone(), attempted.notice));
        }
        for claim in &step.claims {
            let round = step.next.as_ref().expect("a claim is committed").id.round;
            let before = self.leases.insert((round, claim.target.clone(), claim.notice), claim.lease_until);
            assert!(before.is_none_or(|until| until <= now), "two claims of one entry at once");
        }
    }
}

fn orders(n: usize) -> Vec<Vec<usize>> {
    fn extend(prefix: &mut Vec<usize>, n: usize, out: &mut Vec<Vec<usize>>) {
        if prefix.len() == n {
            out.push(prefix.clone());
        }
        for i in 0..n {
            if !prefix.contains(&i) {
                prefix.push(i);
                extend(prefix, n, out);
                prefix.pop();
            }
        }
    }
    let mut out = Vec::new();
    extend(&mut Vec::new(), n, &mut out);
    out
}

#[test]
fn every_order_settles_once_and_by_the_deadline_rule() {
    let names = ["a", "b", "c"];
    let mut runs = 0u32;
    for regions in 1..=3 {
        // Every region's arrival, two duplicates (one with another id), and a timer: at most six inputs, 10 s apart.
        let mut inputs: Vec<In> = names[..regions].iter().map(|name| arrive(name, "1", 0)).collect();
        inputs.push(arrive("a", "1", 0));
        inputs.push(arrive(names[regions - 1], if regions > 1 { "2" } else { "1" }, 0));
        inputs.push(NAMELESS);
        for order in orders(inputs.len()) {
            for timeout in (1..=13).map(|n| n * 5) {
                // Applied when received, or spilled and applied 25 s later.
                for delay in [0, 25] {
                    let policy = Policy {
                        regions: names[..regions].iter().map(|n| region(n)).collect(),
                        timeout: Duration::from_secs(timeout),
                        ..policy()
                    };
                    run_order(&inputs, &order, delay, &policy);
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 20_000);
}

fn run_order(inputs: &[In], order: &[usize], delay: i64, policy: &Policy) {
    let mut push = Push::new(policy);
    let mut deadline: Option<Instant> = None;
    let mut first: BTreeMap<Region, Instant> = BTreeMap::new();
    let mut settled_by_clock = false;
    for (position, index) in order.iter().enumerate() {
        let received = at(10 * i64::try_from(position).unwrap());
        let input = match &inputs[*index] {
            In::Arrival(arrival) => In::Arrival(Arrival { received, ..arrival.clone() }),
            In::Timer { .. } | In::Attempted(_) | In::Terminate | In::Redeliver(_) => inputs[*index].clone(),
        };
        let now = received + Duration::from_secs(u64::try_from(delay).unwrap());
        if let In::Arrival(arrival) = &input {
            let deadline = *deadline.get_or_insert(received + policy.timeout);
            let complete = first.len() == policy.regions.len();
            let duplicate = first.contains_key(&arrival.region);
            // The first round only: what follows a settled push is told by the property below.
            if !complete && !settled_by_clock {
                if received >= deadline || (duplicate && now >= deadline) {
                    settled_by_clock = true;
                } else {
                    first.entry(arrival.region.clone()).or_insert(received);
                }
            }
        } else if deadline.is_some_and(|d| now >= d) && first.len() < policy.regions.len() {
            settled_by_clock = true;
        }
        push.feed(&input, now);
    }
    push.feed(&NAMELESS, at(10_000));
    let expected = if first.len() == policy.regions.len() { Outcome::Replicated } else { Outcome::TimedOut };
    let row = push.rounds.first().unwrap();
    assert_eq!(row.settled().map(|s| s.outcome), Some(expected), "{order:?} {:?} {delay}", policy.timeout);
    if delay == 0 {
        // Nothing was spilled: the rule in one line, without following the inputs.
        let in_time = |r: &Region| first.get(r).is_some_and(|at| *at < row.deadline);
        assert_eq!(expected == Outcome::Replicated, policy.regions.iter().all(in_time));
    }
}

/// The naive model of what arrivals do, without outbox and timers.
#[derive(Default)]
struct Model {
    rounds: Vec<ModelRound>,
}

#[derive(Default, Clone)]
struct ModelRound {
    deadline: i64,
    opened: i64,
    regions: BTreeMap<String, String>,
    late: BTreeMap<String, String>,
    earlier: Vec<String>,
    /// What may count for the next round, in order: region, id, and when it was received.
    spare: Vec<(String, String, i64)>,
    outcome: Option<Outcome>,
}

impl Model {
    fn clock(&mut self, now: i64) {
        if let Some(round) = self.rounds.last_mut().filter(|r| r.outcome.is_none() && now >= r.deadline) {
            round.outcome = Some(Outcome::TimedOut);
        }
    }

    fn arrive(&mut self, name: &str, id: &str, received: i64, now: i64) {
        let has = |map: &BTreeMap<String, String>| map.get(name).is_some_and(|known| known == id);
        let of_the_old = |round: &ModelRound| round.earlier.iter().any(|known| known == id);
        let waits = |round: &ModelRound| round.spare.iter().any(|(region, known, _)| region == name && known == id);
        let Some(round) = self.rounds.last_mut() else {
            return self.open(name, id, received);
        };
        if round.outcome.is_none() {
            let duplicate = round.regions.contains_key(name) || of_the_old(round);
            let seen = round.regions.values().any(|known| known == id) || of_the_old(round);
            if received < round.deadline && !(duplicate && now >= round.deadline) {
                if !duplicate {
                    round.regions.insert(name.into(), id.into());
                    if round.regions.len() == 2 {
                        round.outcome = Some(Outcome::Replicated);
                    }
                } else if !seen && !waits(round) {
                    round.spare.push((name.into(), id.into(), received));
                }
                return;
            }
            round.outcome = Some(Outcome::TimedOut);
        }
        let known = round.regions.contains_key(name) || round.late.contains_key(name);
        if known && round.regions.values().any(|known| known == id)
            || has(&round.late)
            || of_the_old(round)
            || waits(round)
        {
            return;
        }
        if known {
            self.open(name, id, received);
        } else {
            round.late.insert(name.into(), id.into());
            round.spare.insert(0, (name.into(), id.into(), received));
        }
    }

    fn open(&mut self, name: &str, id: &str, received: i64) {
        let mut next = ModelRound { deadline: received + 100, opened: received, ..ModelRound::default() };
        if let Some(old) = self.rounds.last() {
            let mut spare = Vec::new();
            for (region, its, at) in &old.spare {
                let of_the_old = old.regions.values().any(|known| known == its);
                let second_of_late = region == name && old.late.contains_key(region);
                if !of_the_old && !second_of_late && (received - at < 100 || its == id) {
                    spare.push((region.clone(), its.clone(), *at));
                } else {
                    next.earlier.push(its.clone());
                }
            }
            next.earlier.extend(old.regions.values().chain(&old.earlier).cloned());
            let together = spare.iter().any(|(region, its, _)| region != name && its == id);
            let newest = (name.to_owned(), id.to_owned(), received);
            let at = if together { 0 } else { spare.len() };
            spare.insert(at, newest);
            for region in ["a", "b"] {
                let of_region = || spare.iter().filter(|one| one.0 == region);
                let same = of_region().find(|one| together && one.1 == id);
                if let Some(taken) = same.or(of_region().next()).cloned() {
                    next.regions.insert(region.into(), taken.1.clone());
                    spare.retain(|one| *one != taken);
                }
            }
            next.spare = spare;
        } else {
            next.regions.insert(name.into(), id.into());
        }
        if next.regions.len() == 2 {
            next.outcome = Some(Outcome::Replicated);
        }
        self.rounds.push(next);
    }
}

#[derive(Debug, Clone)]
enum Do {
    Arrive { region: usize, id: usize, spilled: i64 },
    Timer(usize),
    Result { target: usize, notice: usize, claim: u32, result: usize },
    Terminate,
    Redeliver,
}

fn actions() -> impl Strategy<Value = Vec<(Do, i64)>> {
    let action = prop_oneof![
        6 => (0..2usize, 0..4usize, prop_oneof![3 => Just(0i64), 1 => 0..150i64]).prop_map(|(region, id, spilled)| Do::Arrive { region, id, spilled }),
        3 => (0..4usize).prop_map(Do::Timer),
        4 => (0..2usize, 0..3usize, 0..4u32, 0..4usize).prop_map(|(target, notice, claim, result)| Do::Result { target, notice, claim, result }),
        1 => Just(Do::Terminate),
        1 => Just(Do::Redeliver),
    ];
    prop::collection::vec((action, prop_oneof![3 => 0..20i64, 1 => 20..200i64]), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_agrees_with_the_naive_model(actions in actions()) {
        let policy = policy();
        let mut push = Push::new(&policy);
        let mut model = Model::default();
        let mut now = 1000;
        for (action, wait) in actions {
            now += wait;
            let input = match action {
                Do::Arrive { region, id, spilled } => {
                    let (name, id) = (["a", "b"][region], ["1", "2", "3", "4"][id]);
                    model.arrive(name, id, now - spilled, now);
                    arrive(name, id, now - spilled)
                }
                Do::Timer(which) => {
                    let timer = push.rounds.last().and_then(|row| row.timer.as_ref());
                    let other_in_charge = timer.is_some_and(|t| at(now) < t.due + limits::SPARE_PATIENCE);
                    let input = [NAMED, SPARE, REVIVED, NAMELESS][which].clone();
                    if !(other_in_charge && matches!(&input, In::Timer { message: Some(_), revived: false, .. })) {
                        model.clock(now);
                    }
                    input
                }
                Do::Result { target, notice, claim, result } => In::Attempted(Attempted {
                    target: ["t", "u"][target].into(),
                    notice: [Notice::Replicated, Notice::TimedOut, Notice::Recovered][notice],
                    claim,
                    result: [
                        AttemptResult::Confirmed { status: 200 },
                        AttemptResult::Failed { reason: "x".into(), retry_after: None },
                        AttemptResult::Refused { reason: "y".into() },
                        AttemptResult::NotBegun { reason: "z".into() },
                    ][result].clone(),
                }),
                Do::Terminate => {
                    if let Some(round) = model.rounds.last_mut().filter(|r| r.outcome.is_none()) {
                        round.outcome = Some(Outcome::TimedOut);
                    }
                    In::Terminate
                }
                Do::Redeliver => In::Redeliver(None),
            };
            push.feed(&input, at(now));
            prop_assert_eq!(push.rounds.len(), model.rounds.len());
            if let (Some(row), Some(round)) = (push.rounds.last(), model.rounds.last()) {
                let ids = |map: &BTreeMap<Region, crate::push::state::Arrived>| map.iter().map(|(r, a)| (r.to_string(), a.id.clone())).collect::<BTreeMap<_, _>>();
                prop_assert_eq!(ids(&row.arrived), round.regions.clone());
                prop_assert_eq!(row.settled().map(|s| ids(&s.late)).unwrap_or_default(), round.late.clone());
                prop_assert_eq!(row.settled().map(|s| s.outcome), round.outcome);
                prop_assert_eq!(row.opened, at(round.opened));
            }
        }
    }
}
