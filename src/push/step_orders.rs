//! `step` under every order of a few webhooks, and under random sequences of many inputs, against the naive model, which was
//! written from the design alone.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::stories::{Pushes, at, policy, regions, three};
use super::*;
use crate::push::{AttemptResult, Attempted, Delivery, Entry};
use crate::store::Which;

#[path = "../../tests/sim/naive.rs"]
mod naive;

/// A webhook: digest, region, and when it is received.
type Sent = (&'static str, &'static str, i64);

fn known(known: bool, policy: Policy) -> Policy {
    Policy { repeats: if known { Repeats::Known } else { Repeats::New }, ..policy }
}

fn receive(pushes: &mut Pushes, (digest, region, received): Sent, spilled: bool, now: i64) {
    let arrival = pushes.webhook(digest, region, &received.to_string(), at(received));
    pushes.arrive(arrival, spilled, at(now));
}

fn millis(instant: Instant) -> u64 {
    (instant - at(0)).num_milliseconds().try_into().unwrap()
}

/// A row in the terms of the model.
fn plain(row: &Row, policy: &Policy) -> naive::Push {
    let settled = row.settled().unwrap();
    // The model leaves out what counts as known; a row names it, with the date.
    let missing = |region: &&Region| policy.repeats == Repeats::New || !row.before.contains_key(*region);
    let seen = |of: fn(&Seen) -> Instant| {
        row.arrived.iter().map(|(name, seen)| (name.to_string(), millis(of(seen)))).collect()
    };
    naive::Push {
        tag: row.subject.tag.clone().unwrap_or_default(),
        digest: row.subject.digest.clone(),
        round: row.id.round,
        opened: millis(row.opened),
        deadline: millis(row.deadline),
        arrived: seen(|seen| seen.at),
        last: seen(Seen::last),
        repeats: row.arrived.values().map(|seen| seen.repeats as usize).sum(),
        outcome: match settled.outcome {
            Outcome::Replicated => naive::Outcome::Replicated,
            Outcome::TimedOut => naive::Outcome::TimedOut,
            Outcome::Superseded => naive::Outcome::Superseded,
        },
        settled: millis(settled.at),
        missing: settled.missing.iter().filter(missing).map(Region::to_string).collect(),
        before: row.before.iter().map(|(name, at)| (name.to_string(), millis(*at))).collect(),
        recovered: settled.recovered.map(millis),
        removed: false,
    }
}

/// What became of the webhooks is what the model says; that they come once more, from the queue, changes nothing.
fn agrees(mut pushes: Pushes, webhooks: &[Sent]) {
    pushes.end();
    let settings = naive::Settings {
        regions: pushes.policy.regions.iter().map(Region::to_string).collect(),
        timeout: pushes.policy.timeout.as_millis().try_into().unwrap(),
        repeats_known: pushes.policy.repeats == Repeats::Known,
    };
    let report = |(digest, region, received): &Sent| naive::Report {
        at: u64::try_from(*received).unwrap(),
        tag: pushes.tag.into(),
        digest: (*digest).into(),
        region: region.to_lowercase(),
        id: received.to_string(),
    };
    let by_name = |push: naive::Push| ((push.digest.clone(), push.round), push);
    let modelled =
        naive::model(&settings, &webhooks.iter().map(report).collect::<Vec<_>>(), &[]).into_iter().map(by_name);
    let found = pushes.rows.values().map(|row| by_name(plain(row, &pushes.policy)));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), modelled.collect(), "{webhooks:?}");
    let rows = pushes.rows.clone();
    for webhook in webhooks {
        receive(&mut pushes, *webhook, true, webhook.2 + 60_000);
        assert!(pushes.rows == rows, "{webhook:?} again: {webhooks:?}");
    }
}

/// Goes on with every webhook after every wait, and compares what becomes of each story.
fn go_on(pushes: &Pushes, webhooks: &mut Vec<Sent>, choices: &[(&'static str, &'static str)], most: usize) -> u32 {
    let (waits, last) = ([1, 5_999, 6_001, 20_000], webhooks[webhooks.len() - 1].2);
    let mut stories = 0;
    for (wait, (digest, region)) in waits.iter().flat_map(|wait| choices.iter().map(move |choice| (wait, choice))) {
        let mut pushes = pushes.clone();
        let sent = (*digest, *region, last + wait);
        webhooks.push(sent);
        pushes.fire(at(sent.2));
        receive(&mut pushes, sent, false, sent.2);
        agrees(pushes.clone(), webhooks);
        stories += 1 + if webhooks.len() < most { go_on(&pushes, webhooks, choices, most) } else { 0 };
        webhooks.pop();
    }
    stories
}

#[test]
fn every_story_of_few_webhooks_comes_out_as_modelled() {
    let two = [("A", "E"), ("A", "W"), ("B", "E"), ("B", "W")];
    let regions = [("A", "E"), ("A", "N"), ("A", "W")];
    let mut stories = 0;
    for (policy, choices) in [(policy(6), &two[..]), (three(6), &regions), (known(true, three(6)), &regions)] {
        // All begin alike: names make no difference.
        let (mut pushes, first) = (Pushes { on_time: true, ..Pushes::new(policy) }, ("A", "E", 0));
        receive(&mut pushes, first, false, 0);
        stories += go_on(&pushes, &mut vec![first], choices, 4);
    }
    assert!(stories > 7_000);
}

proptest! {
    #[test]
    fn longer_stories_come_out_as_modelled(
        sent in prop::collection::vec((select(&["A", "A", "B", "C"]), select(&["E", "N", "W", "X"]),
            prop_oneof![0..4i64, 5_990..6_010i64, 0..15_000i64]), 1..14),
        counts in any::<bool>(), tag in select(&["", "latest"]), timers_first in any::<bool>(),
    ) {
        let mut pushes = Pushes { on_time: true, tag, ..Pushes::new(known(counts, three(6))) };
        let (mut now, mut webhooks) = (0, Vec::new());
        for (digest, region, wait) in sent {
            now += wait;
            // Of two at one instant nobody can say which is the repeat.
            if !webhooks.iter().any(|(other, _, at)| (*other, *at) == (digest, now)) {
                pushes.fire(at(if timers_first { now } else { now - 1 }));
                receive(&mut pushes, (digest, region, now), false, now);
                webhooks.push((digest, region, now));
            }
        }
        agrees(pushes, &webhooks);
    }
}

/// Every order of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let with_last =
        |order: Vec<usize>| (0..count).map(move |place| [&order[..place], &[last], &order[place..]].concat());
    orders(last).into_iter().flat_map(with_last).collect()
}

/// Five webhooks, sent 10 s apart, that passed each other on their way or came back from the queue when it was too late.
#[test]
fn the_order_in_which_webhooks_are_applied_does_not_matter() {
    let mut runs = 0;
    for (digits, order) in (0..81).flat_map(|digits| orders(5).into_iter().map(move |order| (digits, order))) {
        let names = [81, 27, 9, 3, 1].map(|place| ["E", "N", "W"][digits / place % 3]);
        // The time-out, when the first one is applied, and after how long the next. The one that was first is applied first, as
        // it was in time, or all were in time.
        for (timeout, begin, step) in
            [(41, 40_010, 1), (41, 500_000, 9_999), (25, 500_000, 9_999), (35, 500_000, 9_999)]
        {
            let first = |name| names.iter().position(|other| *other == name).unwrap_or(names.len());
            if timeout < 41 && order[0] > 0 || first("W") < first("N") {
                continue;
            }
            let mut pushes = Pushes { on_time: true, ..Pushes::new(three(timeout)) };
            for (sent, now) in order.iter().zip((begin..).step_by(step)) {
                pushes.fire(at(now));
                receive(&mut pushes, ("A", names[*sent], *sent as i64 * 10_000), step > 1, now);
            }
            pushes.end();
            let [row] = &*pushes.rows.into_values().collect::<Vec<_>>() else { panic!("one push") };
            let reported =
                |by: usize| move |region: &&Region| names[..by].iter().any(|n| n.eq_ignore_ascii_case(region.as_str()));
            let in_time = reported(usize::try_from(timeout).unwrap().div_ceil(10).min(5));
            let (settled, missing) = (row.settled().unwrap(), row.regions.iter().filter(|region| !in_time(region)));
            let recovered =
                settled.outcome == Outcome::TimedOut && row.regions.iter().all(|region| reported(5)(&region));
            assert_eq!(settled.missing, missing.cloned().collect::<Vec<_>>(), "{names:?} {order:?} {timeout}");
            assert_eq!(settled.outcome == Outcome::Replicated, settled.missing.is_empty());
            assert_eq!(settled.recovered.is_some(), recovered, "{names:?} {order:?} {timeout}");
            runs += 1;
        }
    }
    assert!(runs > 10_000);
}

#[derive(Debug, Clone)]
enum Do {
    Arrive(Sent, &'static str, bool),
    Apply(prop::sample::Index, Input),
    Pending(bool),
}

fn anything() -> impl Strategy<Value = Do> {
    let results = [
        AttemptResult::Confirmed { status: 200 },
        AttemptResult::Failed { reason: "x".into(), retry_after: None },
        AttemptResult::Refused { reason: "y".into() },
        AttemptResult::NotBegun { reason: "z".into() },
    ];
    let notices = [Notice::Replicated, Notice::TimedOut, Notice::Recovered, Notice::Superseded];
    let target = || select(&["t", "u", "x"]).prop_map(str::to_owned);
    let attempted = (target(), select(notices.to_vec()), 0..4u32, select(results.to_vec()))
        .prop_map(|(target, notice, claim, result)| Input::Attempted(Attempted { target, notice, claim, result }));
    let input = prop_oneof![
        4 => Just(Input::Timer),
        4 => attempted,
        1 => prop::option::of(target()).prop_map(Input::Redeliver),
        1 => select(vec![Input::Terminate, Input::Purge]),
        1 => select(regions("E N W X")).prop_map(Input::ByHand),
    ];
    let ago = prop_oneof![3 => Just(0i64), 1 => 0..150_000i64];
    prop_oneof![
        6 => (select(&["A", "A", "B"]), select(&["E", "N", "W", "X"]), ago, select(&["1", "2", "3"]))
            .prop_map(|(digest, region, ago, id)| Do::Arrive((digest, region, ago), id, ago > 0)),
        8 => (any::<prop::sample::Index>(), input).prop_map(|(which, input)| Do::Apply(which, input)),
        1 => any::<bool>().prop_map(Do::Pending),
    ]
}

proptest! {
    /// Whatever comes, in whatever order: what must hold after every step holds, and in the end nothing is owed.
    #[test]
    fn anything_at_all_keeps_the_rules(
        steps in prop::collection::vec((anything(), prop_oneof![3 => 0..20_000i64, 1 => 20_000..200_000i64]), 1..60),
        counts in any::<bool>(),
    ) {
        let mut pushes = Pushes::new(known(counts, three(100)));
        let mut now = 0;
        for (what, wait) in steps {
            now += wait;
            match what {
                Do::Arrive((digest, region, ago), id, spilled) => {
                    let arrival = pushes.webhook(digest, region, id, at(now - ago));
                    pushes.arrive(arrival, spilled, at(now));
                }
                Do::Apply(which, input) if !pushes.rows.is_empty() => {
                    let push = which.get(&pushes.rows.keys().cloned().collect::<Vec<_>>()).clone();
                    pushes.apply(&Which::Push(push), input, at(now));
                }
                Do::Apply(..) => {}
                Do::Pending(pending) => pushes.pending = pending,
            }
        }
        pushes.end();
        let owed = |entry: &Entry| matches!(entry.delivery, Delivery::Owed { .. });
        prop_assert!(pushes.rows.values().all(|row| row.is_purged() || !row.settled().unwrap().outbox.iter().any(owed)));
    }
}
