//! The world that a script acts on: a store, a clock that goes when it is told to, and receivers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use global_webhook::clock::{self, Clock, Instant};
use global_webhook::limits;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Filter, Policy, Repeats, Rule, Target, Verdict};
use global_webhook::push::{
    Answer, Arrival, AttemptResult, Attempted, Claim, Decision, Did, Input, Notice, PushId, Row, Subject, step,
};
use global_webhook::store::memory::MemoryStore;
use global_webhook::store::{Applied, Decide, Which};

use super::samples::{policy, region};
use super::steps::result;
use super::steps_rules::{Rules, Taken};
use super::stored::at_rest;

/// Most looks after the script, until all must be at rest.
const LOOKS_MAX: usize = 20_000;

const TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const REGIONS: [&str; 4] = ["a", "b", "c", "nowhere"];
pub(super) const CONTENTS: [(&str, Option<&str>, &str); 6] = [
    ("shop", Some("1"), "A"),
    ("shop", Some("1"), "B"),
    ("shop", Some("1"), "C"),
    ("shop", None, "A"),
    ("eu/shop", Some("1"), "A"),
    ("tmp/shop", Some("1"), "A"),
];

/// A clock that goes when it is told to.
struct Watch(Mutex<Instant>);

#[async_trait::async_trait]
impl Clock for Watch {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }
}

impl Watch {
    fn set(&self, to: Instant) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = to.max(*now);
    }
}

/// One input, decided as the engine decides it.
struct Decider {
    input: Input,
    policy: Arc<Policy>,
    now: Instant,
    pending: bool,
}

impl Decide for Decider {
    fn decide(&self, row: Option<&Row>, answer: Option<Answer>) -> Decision {
        let answer = answer.map(|answer| Answer { pending: self.pending, ..answer });
        let decision = step(row, &self.input, self.now, &self.policy, answer);
        assert_eq!(decision, step(row, &self.input, self.now, &self.policy, answer), "one question, two answers");
        assert!(answer.is_none() || matches!(decision, Decision::Step(_)), "it asks twice");
        decision
    }
}

pub(super) struct World {
    watch: Arc<Watch>,
    policy: Arc<Policy>,
    store: MemoryStore,
    rules: Rules,
    pub(super) sent: Vec<Arc<Arrival>>,
    pub(super) claims: Vec<(PushId, Claim)>,
    pub(super) pending: bool,
}

impl World {
    pub(super) fn new(flags: u32) -> Self {
        let start = DateTime::from_timestamp_secs(1_800_000_000).expect("an instant");
        let watch = Arc::new(Watch(Mutex::new(start)));
        let policy = Arc::new(settings(flags));
        let (store, rules) = (MemoryStore::new(watch.clone()), Rules::new(Arc::clone(&policy)));
        Self { watch, policy, store, rules, sent: Vec::new(), claims: Vec::new(), pending: false }
    }

    fn now(&self) -> Instant {
        self.watch.now()
    }

    pub(super) fn pass(&self, time: Duration) {
        self.watch.set(clock::after(self.now(), time));
    }

    pub(super) fn webhook(&self, region_number: usize, content: usize, id: usize, age: i64) -> Arc<Arrival> {
        let (repository, tag, digest) = CONTENTS[content];
        let subject = Subject {
            registry: "contoso.azurecr.io".into(),
            repository: repository.into(),
            tag: tag.map(str::to_owned),
            digest: digest.into(),
            action: "push".into(),
        };
        let received = self.now() - chrono::Duration::milliseconds(age);
        let region = region(REGIONS[region_number]);
        Arc::new(Arrival { region, received, id: id.to_string(), subject, payload: format!("{{\"id\":\"{id}\"}}") })
    }

    /// A webhook comes in; the very same one again, from the queue, changes nothing.
    pub(super) fn arrive(&mut self, arrival: &Arc<Arrival>, spilled: bool) {
        self.apply_arrival(arrival, spilled);
        let before = self.store.rows();
        self.apply_arrival(arrival, true);
        assert_eq!(before, self.store.rows(), "the very same webhook changed something");
    }

    /// Applies a webhook to the round that it is for, as the engine does.
    fn apply_arrival(&mut self, arrival: &Arc<Arrival>, spilled: bool) {
        let mut which = Which::Newest(arrival.key(self.policy.correlation));
        let mut rounds = 0;
        while let Did::Earlier(round) = self.apply(&which, arrived(arrival, spilled, &which)).did {
            which = Which::Push(round);
            rounds += 1;
            assert!(rounds <= self.sent.len(), "there is always an earlier round");
        }
    }

    pub(super) fn operate(&mut self, number: usize, input: Input) {
        let rows = self.store.rows();
        if let Some(push) = rows.keys().nth(number % rows.len().max(1)) {
            self.apply(&Which::Push(push.clone()), input);
        }
    }

    pub(super) fn attempted(&mut self, push: PushId, claim: Claim, result: AttemptResult) {
        let Claim { target, notice, claim, .. } = claim;
        self.apply(&Which::Push(push), Input::Attempted(Attempted { target, notice, claim, result }));
    }

    pub(super) fn wait_for_due(&self) {
        if let Some(due) = self.store.next_due() {
            self.watch.set(due);
        }
    }

    /// Looks at what is due; what was claimed by that.
    pub(super) fn look_at_due(&mut self) -> Vec<(PushId, Claim)> {
        let mut claimed = Vec::new();
        for push in self.store.due_at(self.now()) {
            let applied = self.apply(&Which::Push(push.clone()), Input::Timer);
            claimed.extend(applied.claims.into_iter().map(|claim| (push.clone(), claim)));
        }
        claimed
    }

    fn apply(&mut self, which: &Which, input: Input) -> Applied {
        let before = self.store.rows();
        let decider = Decider { input, policy: Arc::clone(&self.policy), now: self.now(), pending: self.pending };
        let applied = self.store.step(which, &decider);
        let after = self.store.rows();
        let due = after.values().filter_map(|row| row.wake()).min();
        assert_eq!(self.store.next_due(), due, "what owes something is not due");
        let Decider { input, now, pending, .. } = decider;
        self.rules.check(&Taken { input: &input, now, pending, before: &before, after: &after, applied: &applied });
        if let Some(row) = &applied.row {
            self.claims.extend(applied.claims.iter().map(|claim| (row.id.clone(), claim.clone())));
        }
        applied
    }

    /// Nothing but time passes, and receivers answer this or that: everything settles, is told or given up.
    pub(super) fn comes_to_rest(&mut self) {
        self.pending = false;
        let mut owed: Vec<(PushId, Claim)> = std::mem::take(&mut self.claims);
        for look in 0..LOOKS_MAX {
            for (number, (push, claim)) in owed.into_iter().enumerate() {
                match (look + number) % 4 {
                    0 => self.attempted(push, claim, result(b'c')),
                    1 => self.attempted(push, claim, result(b'f')),
                    2 => self.attempted(push, claim, result(b'b')),
                    // The process ends.
                    _ => {}
                }
            }
            if self.store.next_due().is_none() {
                let rows = self.store.rows();
                return assert!(rows.values().all(|row| at_rest(row)), "{rows:?}");
            }
            self.wait_for_due();
            owed = self.look_at_due();
        }
        panic!("it does not come to rest: {:?}", self.store.rows());
    }
}

fn arrived(arrival: &Arc<Arrival>, spilled: bool, which: &Which) -> Input {
    Input::Arrival { arrival: Arc::clone(arrival), spilled, earlier: matches!(which, Which::Push(_)) }
}

fn settings(flags: u32) -> Policy {
    let rule = |repository: &str, verdict| Rule {
        name: repository.into(),
        filter: Filter { repository: Some(repository.into()), ..Filter::default() },
        verdict,
    };
    let regions = |names: &[&str]| names.iter().map(|name| region(name)).collect::<Vec<_>>();
    let longer = Verdict::FanIn { regions: Some(regions(&["c", "a"])), timeout: Some(2 * TIMEOUT) };
    let mut policy = policy(regions(&["a", "b"]));
    policy.timeout = TIMEOUT;
    policy.rules = vec![rule("tmp/*", Verdict::Ignore), rule("eu/*", longer)];
    if flags & 1 != 0 {
        policy.correlation = Correlation::Id;
    }
    if flags & 2 != 0 {
        policy.repeats = Repeats::Known;
    }
    policy.schedule = if flags & 4 != 0 { Vec::new() } else { vec![Duration::from_secs(5), limits::LEASE] };
    if flags & 8 != 0 {
        let notices = vec![Notice::TimedOut, Notice::Recovered];
        let (name, filter, companions) = ("late".to_owned(), Filter::default(), false);
        policy.targets.push(Target { name, notices, filter, companions });
    }
    policy
}

/// Rows by their names.
pub(super) type Rows = BTreeMap<PushId, Arc<Row>>;
