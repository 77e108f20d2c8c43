//! What the registry sends and what operators do.

use std::sync::Arc;
use std::time::Duration;

use global_webhook::clock;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Filter, Policy, Repeats, Target};
use global_webhook::push::{Arrival, Notice, Region, Subject};

use crate::faults::Rng;
use crate::world::{Event, Operation, State};

pub(crate) fn policy(rng: &mut Rng) -> Policy {
    let regions = ["east", "north", "west"][..rng.pick(&[1, 2, 2, 3, 3])].iter().map(|r| Region::parse(r).unwrap());
    let all = [Notice::Replicated, Notice::TimedOut, Notice::Recovered, Notice::Superseded];
    let targets = (0..rng.within(0..4)).map(|n| Target {
        name: format!("t{n}"),
        notices: if rng.chance(700) { all.into() } else { vec![rng.pick(&all)] },
        filter: Filter::default(),
        companions: n % 2 == 0,
    });
    let targets = targets.collect();
    let short = rng.pick(&[1, 2, 3, 5, 30, 120, 600]);
    let timeout = Duration::from_secs(if rng.chance(40) { rng.pick(&[8 * 86_400, 20 * 86_400]) } else { short });
    let waits = rng.within(0..5);
    Policy {
        regions: regions.collect(),
        timeout,
        correlation: if rng.chance(200) { Correlation::Id } else { Correlation::Content },
        repeats: if rng.chance(200) { Repeats::Known } else { Repeats::New },
        rules: Vec::new(),
        targets,
        schedule: (0..waits).map(|_| Duration::from_secs(rng.pick(&[1, 1, 2, 5, 30, 120, 3000]))).collect(),
    }
}

/// How long the settings keep pushes.
pub(crate) fn retention(rng: &mut Rng) -> Option<Duration> {
    rng.chance(600).then(|| Duration::from_secs(rng.pick(&[3600, 3600, 7200, 86_400])))
}

/// One push of an image, as the registry sees it.
struct Pushed {
    tag: Option<String>,
    digest: String,
    base: u64,
    spread: u64,
    number: u64,
    same_ids: bool,
}

impl State {
    /// Schedules all that will happen by itself, and when the faults end.
    pub(crate) fn plan(&mut self) {
        let policy = self.policy.clone();
        let timeout = u64::try_from(policy.timeout.as_millis()).unwrap();
        let spread = (timeout + timeout / 3).min(200_000);
        let mut pushes = Vec::new();
        for image in 0..self.rng.within(1..4) {
            let tagged = self.rng.chance(800);
            let mut base = self.rng.within(0..60_000);
            // The same content again, or another one under the same tag, or both in turn.
            let times = if self.rng.chance(500) { 1 } else { self.rng.within(2..5) };
            for _ in 0..times {
                let digest = if tagged { self.rng.within(0..3) } else { image };
                pushes.push(Pushed {
                    tag: tagged.then(|| format!("v{image}")),
                    digest: format!("d{digest}"),
                    base,
                    spread: if self.rng.chance(300) { 50 } else { spread },
                    number: pushes.len() as u64,
                    same_ids: policy.correlation == Correlation::Id || self.rng.chance(500),
                });
                base += if self.rng.chance(150) {
                    // Later than any trace of the one before, and while that is being removed.
                    let later = 2 * timeout.min(600_000) + self.rng.within(3_600_000..9_000_000);
                    let times = if timeout > 600_000 { 0 } else { self.rng.within(0..4) };
                    for _ in 0..times {
                        let at = base + later + self.rng.within(0..spread.min(1500) + 200) - 100;
                        let young = if self.faults.none { 3_600_000 } else { 0 };
                        let age = self.rng.pick(&[young, young, 60_000.max(young), 3_600_000]);
                        self.schedule(at, Event::Remove(age));
                    }
                    later
                } else if self.rng.chance(500) {
                    self.rng.within(1..timeout.min(60_000) + 2)
                } else {
                    self.rng.within(5000..300_000)
                };
            }
        }
        let mut sent = Vec::new();
        for pushed in &pushes {
            for (n, region) in policy.regions.iter().enumerate() {
                let times = if self.rng.chance(100) { 0 } else { 1 + u64::from(self.rng.chance(150)) };
                for _ in 0..times {
                    let at = pushed.base + self.rng.within(0..pushed.spread + 1);
                    let id = if pushed.same_ids { pushed.number.to_string() } else { format!("{}.{n}", pushed.number) };
                    let arrival = arrival(region.clone(), id, pushed);
                    sent.push((at, arrival));
                }
            }
        }
        if self.faults.none {
            space(&mut sent, timeout);
        }
        let end = sent.iter().map(|(at, _)| *at).max().unwrap_or(1).max(1);
        let keys: Vec<_> = sent.iter().map(|(_, arrival)| arrival.key(policy.correlation)).collect();
        for (at, arrival) in sent {
            self.schedule(at, Event::Arrive(Arc::new(arrival)));
        }
        if !self.faults.none {
            for operation in [Operation::Terminate, Operation::Redeliver, Operation::Purge, Operation::Purge] {
                if self.rng.chance(70) && !keys.is_empty() {
                    let key = keys[usize::try_from(self.rng.within(0..keys.len() as u64)).unwrap()].clone();
                    let at = self.rng.within(0..400_000);
                    self.schedule(at, Event::Operate(key, operation));
                }
            }
            let times = if timeout > 600_000 { 0 } else { self.rng.pick(&[0, 0, 1, 2]) };
            for _ in 0..times {
                let at = self.rng.within(0..end + 400_000);
                let age = self.rng.pick(&[0, 1000, 60_000, 3_600_000]);
                self.schedule(at, Event::Remove(age));
            }
            for _ in 0..self.faults.cleared {
                let at = self.rng.within(0..end + 100_000);
                self.schedule(at, Event::Clear);
            }
        }
        let longest = if self.rng.chance(50) { 1_200_000 } else { 200_000 };
        let calm = self.rng.within(end / 2..end + longest);
        self.schedule(calm, Event::Calm);
    }
}

/// Keeps only webhooks that are well apart and come to no edge: what happens within a call's time of an edge depends on the
/// call, and the model knows no calls.
fn space(sent: &mut Vec<(u64, Arrival)>, timeout: u64) {
    const APART: u64 = 3000;
    sent.sort_by_key(|(at, _)| *at);
    let mut kept: Vec<u64> = Vec::new();
    sent.retain(|(at, _)| {
        let clear = kept.iter().all(|other| {
            let gap = at - other;
            (gap >= 100) && [timeout, 2 * timeout].iter().all(|edge| gap.abs_diff(*edge) >= APART.min(timeout / 3))
        });
        if clear {
            kept.push(*at);
        }
        clear
    });
}

fn arrival(region: Region, id: String, pushed: &Pushed) -> Arrival {
    let subject = Subject {
        registry: "r".into(),
        repository: "p".into(),
        tag: pushed.tag.clone(),
        digest: pushed.digest.clone(),
        action: "push".into(),
    };
    let payload = serde_json::json!({
        "id": id, "action": "push", "request": { "host": "r" },
        "target": { "repository": "p", "tag": pushed.tag, "digest": pushed.digest },
    });
    Arrival { region, received: clock::Instant::UNIX_EPOCH, id, subject, payload: payload.to_string() }
}
