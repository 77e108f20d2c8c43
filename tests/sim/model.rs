//! The naive model: what was sent and accepted, and what must or may have become of it. It knows nothing of timers,
//! leases or storage.

use std::collections::BTreeSet;

use global_webhook::clock::Instant;
use global_webhook::push::state::Row;
use global_webhook::push::{Arrival, Key, Notice, Outcome, Policy, Region};

use crate::checks::Checks;
use crate::faults::SKEW_MAX;

pub(crate) struct Model {
    pub(crate) policy: Policy,
    sent: Vec<Sent>,
    terminated: BTreeSet<Key>,
}

struct Sent {
    key: Key,
    region: Region,
    id: String,
    received: Instant,
    /// When it was answered with success, and whether it then stood in the row.
    accepted: Option<(u64, bool)>,
}

impl Model {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, sent: Vec::new(), terminated: BTreeSet::new() }
    }

    pub(crate) fn sent(&mut self, arrival: &Arrival) -> usize {
        self.sent.push(Sent {
            key: arrival.key(self.policy.correlation),
            region: arrival.region.clone(),
            id: arrival.id.clone(),
            received: arrival.received,
            accepted: None,
        });
        self.sent.len() - 1
    }

    pub(crate) fn accepted(&mut self, sent: usize, now: u64, spilled: bool) {
        self.sent[sent].accepted = Some((now, !spilled));
    }

    pub(crate) fn operated(&mut self, key: &Key, redeliver: bool) {
        if !redeliver {
            self.terminated.insert(key.clone());
        }
    }

    /// Every arrival in a row was sent, and a push that opened did so by one of them and with the settings' frame.
    pub(crate) fn on_record(&self, row: &Row) -> Result<(), String> {
        let late = row.settled().map(|s| &s.late).into_iter().flatten();
        let repeated = row.repeated.iter().map(|(region, arrived)| (region, arrived));
        for (region, arrived) in row.arrived.iter().chain(late).chain(repeated) {
            let known = self
                .sent
                .iter()
                .any(|s| (&s.key, &s.region, &s.id, s.received) == (&row.id.key, region, &arrived.id, arrived.at));
            if !known {
                return Err(format!("{} has an arrival that nobody sent", row.id));
            }
        }
        // The one that opened a round may wait for the next, when one of its region came before.
        let opened = row.arrived.values().chain(row.repeated.iter().map(|(_, a)| a)).any(|a| a.at == row.opened);
        if !opened || row.regions != self.policy.regions || row.deadline != row.opened + self.policy.timeout {
            return Err(format!("{} was opened wrongly", row.id));
        }
        Ok(())
    }

    pub(crate) fn at_rest(&self, checks: &Checks) -> Result<(), String> {
        for key in self.sent.iter().map(|s| &s.key).collect::<BTreeSet<_>>() {
            let sent: Vec<&Sent> = self.sent.iter().filter(|s| s.key == *key).collect();
            let rounds: Vec<&Row> = checks.rounds(key).collect();
            let accepted = sent.iter().filter(|s| s.accepted.is_some());
            for one in accepted {
                let has = |row: &&Row| {
                    row.arrival_of(&one.region).is_some()
                        || row.of_earlier_round(&one.id)
                        || row.settled().is_some_and(|s| s.superseded) && row.of_this_round(&one.id)
                };
                if !rounds.iter().any(has) {
                    return Err(format!("{} of {} was accepted and is in no round", one.region, one.id));
                }
            }
            self.at_rest_of(key, &sent, &rounds)?;
        }
        Ok(())
    }

    fn at_rest_of(&self, key: &Key, sent: &[&Sent], rounds: &[&Row]) -> Result<(), String> {
        let mut counted = BTreeSet::new();
        for row in rounds {
            for (region, arrived) in &row.arrived {
                if !counted.insert((region, &arrived.id, arrived.at)) {
                    return Err(format!("{}: {region} {} counts for two rounds", row.id, arrived.id));
                }
            }
            let settled = row.settled().ok_or("not settled")?;
            let mut owed: Vec<Notice> = vec![settled.outcome.into()];
            owed.extend(settled.recovered.map(|_| Notice::Recovered));
            for target in &self.policy.targets {
                for notice in owed.iter().filter(|n| target.notices.contains(n)) {
                    let entries = settled.outbox.iter().filter(|e| e.target == target.name && e.notice == *notice);
                    if entries.count() != 1 {
                        return Err(format!("{}: {} is not owed {} once", row.id, target.name, notice.word()));
                    }
                }
            }
            if settled.outbox.iter().any(|e| !owed.contains(&e.notice)) {
                return Err(format!("{}: something untrue was told", row.id));
            }
            let numbers = (row.id.round as usize, rounds.len());
            if numbers.0 > numbers.1 {
                return Err(format!("{}: round {} of {}", row.id, numbers.0, numbers.1));
            }
        }
        // One region's webhook with two ids means a repeated push.
        let generations: BTreeSet<_> = sent.iter().map(|s| generation(s)).collect();
        // Where every region has an id of its own, a late arrival cannot be told from the first sign of the next push; it
        // counts for both, and the next push's own webhook of that region then opens one round more.
        let ids: BTreeSet<_> = sent.iter().map(|s| &s.id).collect();
        if rounds.len() > generations.len() && ids.len() == generations.len() {
            return Err(format!("{} rounds of {} pushes", rounds.len(), generations.len()));
        }
        if self.terminated.contains(key) {
            return Ok(());
        }
        self.overlapping(sent, rounds, generations.len())?;
        let [row] = rounds else { return Ok(()) };
        if generations.len() > 1 {
            return Ok(());
        }
        let deadline = since_start(row.deadline);
        let surely = |s: &&&Sent| {
            s.accepted.is_some_and(|(at, in_row)| in_row && i64::try_from(at).unwrap() + SKEW_MAX * 2 < deadline)
        };
        let possibly = |s: &&&Sent| s.received < row.deadline;
        let all = |test: &dyn Fn(&&&Sent) -> bool| {
            row.regions.iter().all(|region| sent.iter().filter(|s| s.region == *region).any(|s| test(&s)))
        };
        let outcome = row.settled().map(|s| s.outcome);
        if all(&surely) && outcome != Some(Outcome::Replicated) {
            return Err(format!("{}: every region was on record in time, and yet {outcome:?}", row.id));
        }
        if !all(&possibly) && outcome != Some(Outcome::TimedOut) {
            return Err(format!("{}: not every region was sent in time, and yet {outcome:?}", row.id));
        }
        Ok(())
    }

    /// However the webhooks of several pushes of one content overlap: when all of them were on record before a first one
    /// could time out, none did.
    fn overlapping(&self, sent: &[&Sent], rounds: &[&Row], pushes: usize) -> Result<(), String> {
        let Some(first) = sent.iter().map(|s| s.received).min() else { return Ok(()) };
        let deadline = since_start(first + self.policy.timeout);
        let on_record = |s: &&Sent| {
            s.accepted.is_some_and(|(at, in_row)| in_row && i64::try_from(at).unwrap() + SKEW_MAX * 2 < deadline)
        };
        let whole: BTreeSet<_> =
            sent.iter().copied().filter(on_record).map(|s| (generation(s), s.region.clone())).collect();
        let outcomes = rounds.iter().filter_map(|row| Some(row.settled()?.outcome));
        if whole.len() == pushes * self.policy.regions.len() && outcomes.clone().any(|o| o == Outcome::TimedOut) {
            return Err(format!(
                "all of {pushes} pushes was on record in time, and yet {:?}",
                outcomes.collect::<Vec<_>>()
            ));
        }
        Ok(())
    }
}

/// Which of the pushes of one content a webhook belongs to.
fn generation(sent: &Sent) -> Option<String> {
    sent.id.split('.').nth(1).map(str::to_owned)
}

/// Milliseconds of the virtual clock.
fn since_start(at: Instant) -> i64 {
    (at - chrono::DateTime::from_timestamp_millis(1_800_000_000_000).unwrap_or_default()).num_milliseconds()
}
