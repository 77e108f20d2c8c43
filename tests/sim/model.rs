//! What was sent and accepted, and what must or may have become of it. It knows nothing of timers, leases or storage. Where
//! nothing went wrong the naive model says to the last detail what every push must have come to; otherwise, what no fault
//! may ever do.

use std::collections::BTreeSet;

use global_webhook::clock::Instant;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::Repeats;
use global_webhook::push::{Arrival, Key, Notice, Outcome, Policy, Region, Row};

use crate::checks::Checks;
use crate::faults::Faults;
use crate::naive;
use crate::world::{Operation, State};

pub(crate) struct Model {
    policy: Policy,
    sent: Vec<Sent>,
    terminated: BTreeSet<Key>,
    purged: BTreeSet<Key>,
}

struct Sent {
    key: Key,
    tag: Option<String>,
    digest: String,
    region: Region,
    id: String,
    received: Instant,
    /// When it was answered with success.
    accepted: Option<u64>,
    /// How many processes had died by then.
    crashes: u64,
    /// It is on the queue too, which may hand it out several times.
    twice: bool,
}

impl Model {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, sent: Vec::new(), terminated: BTreeSet::new(), purged: BTreeSet::new() }
    }

    pub(crate) fn sent(&mut self, arrival: &Arrival) -> usize {
        self.sent.push(Sent {
            key: arrival.key(self.policy.correlation),
            tag: arrival.subject.tag.clone(),
            digest: arrival.subject.digest.clone(),
            region: arrival.region.clone(),
            id: arrival.id.clone(),
            received: arrival.received,
            accepted: None,
            crashes: 0,
            twice: false,
        });
        self.sent.len() - 1
    }

    pub(crate) fn accepted(&mut self, sent: usize, now: u64, crashes: u64) {
        (self.sent[sent].accepted, self.sent[sent].crashes) = (Some(now), crashes);
    }

    /// A webhook of `region` that was received then is on the queue.
    pub(crate) fn on_the_queue(&mut self, region: &Region, received: Instant) {
        for sent in self.sent.iter_mut().filter(|s| s.region == *region && s.received == received) {
            sent.twice = true;
        }
    }

    pub(crate) fn operated(&mut self, key: &Key, operation: Operation) {
        match operation {
            Operation::Terminate => drop(self.terminated.insert(key.clone())),
            Operation::Purge => drop(self.purged.insert(key.clone())),
            Operation::Redeliver => {}
        }
    }

    pub(crate) fn purged(&mut self, key: &Key) {
        self.purged.insert(key.clone());
    }

    pub(crate) fn was_purged(&self, key: &Key) -> bool {
        self.purged.contains(key)
    }

    /// Every arrival in a row was sent, and a push that opened did so by one of them and with the settings' frame.
    pub(crate) fn on_record(&self, row: &Row) -> Result<(), String> {
        for (region, seen) in &row.arrived {
            let known = self
                .sent
                .iter()
                .any(|s| (&s.key, &s.region, &s.id, s.received) == (&row.id.key, region, &seen.id, seen.at));
            if !known {
                return Err(format!("{} has an arrival that nobody sent", row.id));
            }
        }
        if row.regions != self.policy.regions || row.deadline != row.opened + self.policy.timeout {
            return Err(format!("{} was opened wrongly", row.id));
        }
        Ok(())
    }

    /// Everything that must hold at the end; how many pushes the naive model agreed with.
    pub(crate) fn at_rest(&self, checks: &Checks, faults: &Faults, twice_counted: &mut u64) -> Result<u64, String> {
        for key in self.sent.iter().map(|s| &s.key).collect::<BTreeSet<_>>() {
            let removed = checks.gone().map(|(row, _)| row).filter(|row| row.id.key == *key);
            let mut rounds: Vec<&Row> = removed.chain(checks.rounds(key)).collect();
            rounds.sort_by_key(|row| row.opened);
            self.apart(&rounds, checks)?;
            if self.purged.contains(key) {
                continue;
            }
            for one in self.sent.iter().filter(|s| s.key == *key && s.accepted.is_some()) {
                if !rounds.iter().any(|row| row.arrived.contains_key(&one.region)) {
                    return Err(format!("{} of {} was accepted and is in no round", one.region, one.id));
                }
            }
            self.counted_once(&rounds, twice_counted)?;
            let none_removed = checks.gone().all(|(row, _)| row.id.key != *key);
            for (n, row) in rounds.iter().enumerate() {
                if none_removed && row.id.round as usize != n + 1 {
                    return Err(format!("{} is the {}. of {}", row.id, n + 1, rounds.len()));
                }
                self.told(row)?;
            }
        }
        // Which of two webhooks within a few answers of the storage opens a round cannot be said from when they were received.
        let in_order = faults.none && checks.taken_back.is_empty();
        if in_order && self.policy.correlation == Correlation::Content { self.agrees(checks) } else { Ok(0) }
    }

    /// No two pushes are of one and the same, which none of them would be told to be complete of.
    fn apart(&self, rounds: &[&Row], checks: &Checks) -> Result<(), String> {
        for pair in rounds.windows(2) {
            let [one, next] = pair else { continue };
            let others = checks.ever().filter(|o| o.id.key.place() == one.id.key.place());
            let moved = others
                .filter(|o| o.subject.digest != one.subject.digest)
                .any(|o| one.opened < o.opened && o.opened < next.opened);
            if next.opened < one.opened + self.policy.timeout && !moved {
                return Err(format!("{} and {} are one push", one.id, next.id));
            }
        }
        Ok(())
    }

    /// No webhook counts for two pushes; but for one that was on its way twice while the next round opened, see the header of
    /// `store/azure`.
    fn counted_once(&self, rounds: &[&Row], twice_counted: &mut u64) -> Result<(), String> {
        let mut counted = BTreeSet::new();
        for row in rounds {
            for (region, seen) in &row.arrived {
                let copies =
                    || self.sent.iter().filter(|s| s.region == *region && s.received == seen.at && s.id == seen.id);
                let twice = copies().any(|s| s.twice) || copies().count() > 1;
                if counted.insert((region, &seen.id, seen.at)) {
                    continue;
                }
                if !twice {
                    return Err(format!("{}: {region} {} counts for two rounds", row.id, seen.id));
                }
                *twice_counted += 1;
            }
        }
        Ok(())
    }

    /// Each target is told what it asked for, once, and nothing else.
    fn told(&self, row: &Row) -> Result<(), String> {
        let settled = row.settled().ok_or("not settled")?;
        let mut owed: Vec<Notice> = vec![settled.outcome.into()];
        owed.extend(settled.recovered.map(|_| Notice::Recovered));
        for target in &self.policy.targets {
            // What has no tag was pushed along with something else, and only who asked for such things hears of it.
            let asked = target.companions || row.subject.tag.is_some();
            for notice in owed.iter().filter(|n| target.notices.contains(n)) {
                let entries = settled.outbox.iter().filter(|e| e.target == target.name && e.notice == *notice);
                let count = entries.count();
                if count != usize::from(asked) {
                    return Err(format!("{}: {} is owed {} {count} times", row.id, target.name, notice.word()));
                }
            }
        }
        if settled.outbox.iter().any(|e| !owed.contains(&e.notice)) {
            return Err(format!("{}: something untrue was told", row.id));
        }
        Ok(())
    }

    /// The naive model came to the very same pushes.
    fn agrees(&self, checks: &Checks) -> Result<u64, String> {
        let at = |instant: Instant| u64::try_from(State::since_start(instant)).unwrap_or(0);
        let settings = naive::Settings {
            regions: self.policy.regions.iter().map(ToString::to_string).collect(),
            timeout: u64::try_from(self.policy.timeout.as_millis()).unwrap(),
            repeats_known: self.policy.repeats == Repeats::Known,
        };
        let mut reports: Vec<naive::Report> = self
            .sent
            .iter()
            .map(|s| naive::Report {
                at: at(s.received),
                tag: s.tag.clone().unwrap_or_default(),
                digest: s.digest.clone(),
                region: s.region.to_string(),
                id: s.id.clone(),
            })
            .collect();
        reports.sort_by_key(|report| report.at);
        let removals: Vec<naive::Removal> = checks
            .gone()
            .map(|(row, when)| naive::Removal {
                at: when,
                tag: row.subject.tag.clone().unwrap_or_default(),
                digest: row.subject.digest.clone(),
                opened: at(row.opened),
            })
            .collect();
        let near = |removal: &naive::Removal| {
            let same = |report: &&naive::Report| report.tag == removal.tag;
            reports.iter().filter(same).any(|report| report.at.abs_diff(removal.at) < 2000)
        };
        // Which of the two came first cannot be said; nor does the model know the traces of what was removed sooner.
        if removals.iter().any(near) || !self.purged.is_empty() {
            return Ok(0);
        }
        let describe = |tag: &str, digest: &str, round: u32, text: String| format!("{tag}@{digest} {round}: {text}");
        let mut expected: Vec<String> = naive::model(&settings, &reports, &removals)
            .into_iter()
            .map(|push| {
                let text = format!(
                    "{} {:?} {:?} {} {:?} {:?} {}",
                    push.opened,
                    push.arrived,
                    push.outcome,
                    push.repeats,
                    push.missing,
                    push.before.keys().collect::<Vec<_>>(),
                    push.recovered.is_some()
                );
                describe(&push.tag, &push.digest, push.round, text)
            })
            .collect();
        let mut found: Vec<String> = checks
            .all()
            .chain(checks.gone().map(|(row, _)| row))
            .filter_map(|row| {
                let settled = row.settled()?;
                let outcome = match settled.outcome {
                    Outcome::Replicated => naive::Outcome::Replicated,
                    Outcome::TimedOut => naive::Outcome::TimedOut,
                    Outcome::Superseded => naive::Outcome::Superseded,
                };
                let counted =
                    |region: &&Region| self.policy.repeats == Repeats::Known && row.before.contains_key(*region);
                let missing: Vec<String> =
                    settled.missing.iter().filter(|r| !counted(r)).map(ToString::to_string).collect();
                let arrived: std::collections::BTreeMap<String, u64> =
                    row.arrived.iter().map(|(region, seen)| (region.to_string(), at(seen.at))).collect();
                let before: Vec<String> = row.before.keys().map(ToString::to_string).collect();
                let repeats: u32 = row.arrived.values().map(|seen| seen.repeats).sum();
                let text = format!(
                    "{} {arrived:?} {outcome:?} {repeats} {missing:?} {before:?} {}",
                    at(row.opened),
                    settled.recovered.is_some()
                );
                let (tag, digest) = (row.subject.tag.clone().unwrap_or_default(), &row.subject.digest);
                Some(describe(&tag, digest, row.id.round, text))
            })
            .collect();
        expected.sort();
        found.sort();
        if expected != found {
            return Err(format!("the model says\n{}\nand it came to\n{}", expected.join("\n"), found.join("\n")));
        }
        Ok(found.len() as u64)
    }
}

impl State {
    /// A push settles: not as timed out for want of a region that was accepted in time and before anybody looked, and no alarm about a tag that has moved
    /// on; and only as superseded where it has.
    pub(crate) fn check_outcome(&self, row: &Row) -> Result<(), String> {
        let Some(settled) = row.settled() else { return Ok(()) };
        if self.model.purged.contains(&row.id.key) {
            return Ok(());
        }
        let others = self.checks.ever().filter(|o| o.id.key.place() == row.id.key.place());
        let moved = others
            .filter(|o| o.subject.digest != row.subject.digest)
            .any(|o| row.opened < o.opened && o.opened < row.deadline);
        if settled.outcome == Outcome::Superseded && !moved {
            return Err(format!("{} is superseded by nothing", row.id));
        }
        if settled.outcome != Outcome::TimedOut || settled.terminated || self.unnoted {
            return Ok(());
        }
        for region in &settled.missing {
            let in_time = self.model.sent.iter().filter(|s| s.key == row.id.key && s.region == *region).find(|s| {
                let counted = self
                    .checks
                    .ever()
                    .filter(|other| other.id.key == row.id.key && other.id != row.id)
                    // One that was applied before the webhook that opened this round was a repeat of the round before.
                    .any(|other| {
                        other.arrived.get(region).is_some_and(|seen| seen.at == s.received || seen.repeats > 0)
                    });
                s.accepted.is_some_and(|at| i64::try_from(at).unwrap() + self.blind < State::since_start(settled.at))
                    // Whoever dies while it applies one from the queue hides it for a while; so many, and nobody knows of it.
                    && self.crashes < s.crashes + 2
                    && row.opened <= s.received
                    && s.received < row.deadline
                    && row.since.is_none_or(|since| since < s.received)
                    && !counted
            });
            if let Some(sent) = in_time {
                return Err(format!(
                    "{} timed out without {region}, which was received at {} and accepted",
                    row.id,
                    State::since_start(sent.received)
                ));
            }
        }
        Ok(())
    }
}
