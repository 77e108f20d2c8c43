//! Schedules told step by step, for what seeds meet too seldom: two processes on one table and one queue that never fail, and
//! something that happens just after a timer is armed, or just before a row is written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use futures_util::FutureExt as _;
use global_webhook::clock::{Clock, Instant};
use global_webhook::engine::{Accepted, Done, Engine};
use global_webhook::notify::Notifier;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Policy, Repeats};
use global_webhook::push::{Arrival, AttemptResult, Claim, Did, Input, Key, Outcome, PushId, Region, Row, Subject};
use global_webhook::store::azure::AzureStore;
use global_webhook::store::azure::apply::Looked;
use global_webhook::store::azure::fired::Core;
use global_webhook::store::azure::message::{Message, Timer};
use global_webhook::store::azure::parts::{
    Entry, Expected, Failure, Handle, Opening, Put, Queue, Record, Rows, Span, Version, Versioned,
};
use global_webhook::store::{Applied, Decide, Store as _, Which};

type Meanwhile = Box<dyn FnOnce() + Send>;

/// A table and a queue in memory.
#[derive(Default)]
struct Desk {
    records: Mutex<std::collections::BTreeMap<PushId, (Arc<Record>, u64)>>,
    armed: Mutex<Vec<Message>>,
    disarmed: Mutex<usize>,
    puts: Mutex<u64>,
    meanwhile: Mutex<Option<Meanwhile>>,
    /// The same, before a row is written.
    writing: Mutex<Option<Meanwhile>>,
    index: Mutex<Vec<Entry>>,
    spilled: Mutex<Option<Instant>>,
    /// Whoever wants to put more than so many times is as good as dead.
    last: Mutex<Option<u64>>,
}

struct Stopped(Mutex<i64>);

#[async_trait]
impl Clock for Stopped {
    fn now(&self) -> Instant {
        DateTime::from_timestamp_millis(1_800_000_000_000 + *self.0.lock().unwrap()).unwrap()
    }

    /// Short pauses are over at once; a budget never is.
    async fn sleep(&self, wait: Duration) {
        if wait > Duration::from_millis(100) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Rows for Desk {
    async fn newest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        let records = self.records.lock().unwrap();
        let newest = records.values().rfind(|(record, _)| record.row.id.key == *key);
        Ok(newest.map(|(record, v)| Versioned { record: Arc::clone(record), version: Version(v.to_string()) }))
    }

    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        let found = self.records.lock().unwrap().get(id).cloned();
        Ok(found.map(|(record, version)| Versioned { record, version: Version(version.to_string()) }))
    }

    async fn moved(&self, row: &Row, (after, before): (Instant, Instant)) -> Result<Option<Instant>, Failure> {
        let records = self.records.lock().unwrap();
        let others = records.values().map(|(r, _)| &r.row).filter(|o| o.subject.digest != row.subject.digest);
        Ok(others.map(|o| o.opened).filter(|opened| after < *opened && *opened < before).max())
    }

    async fn put(&self, record: &Record, expected: &Expected) -> Result<Put, Failure> {
        let writing = self.writing.lock().unwrap().take();
        if let Some(writing) = writing {
            writing();
        }
        let number = *self.puts.lock().unwrap() + 1;
        if self.last.lock().unwrap().is_some_and(|last| last < number) {
            std::future::pending::<()>().await;
        }
        let mut records = self.records.lock().unwrap();
        let stored = records.get(&record.row.id).map(|(_, version)| Version(version.to_string()));
        let fits = match (expected, stored) {
            (Expected::Absent, None) => true,
            (Expected::Version(expected), Some(stored)) => *expected == stored,
            (Expected::Absent, Some(_)) | (Expected::Version(_), None) => false,
        };
        let mut puts = self.puts.lock().unwrap();
        *puts += 1;
        if !fits {
            return Ok(Put::Conflict);
        }
        records.insert(record.row.id.clone(), (Arc::new(record.clone()), *puts));
        Ok(Put::Written(Version(puts.to_string())))
    }

    async fn remove(&self, id: &PushId, version: &Version) -> Result<bool, Failure> {
        let mut records = self.records.lock().unwrap();
        let fits = records.get(id).is_some_and(|(_, stored)| stored.to_string() == version.0);
        Ok(fits && records.remove(id).is_some())
    }

    async fn index(&self, entry: &Entry, _: Option<&Subject>) -> Result<(), Failure> {
        self.index.lock().unwrap().insert(0, entry.clone());
        Ok(())
    }

    async fn unindex(&self, entries: &[Entry]) -> Result<(), Failure> {
        self.index.lock().unwrap().retain(|entry| !entries.contains(entry));
        Ok(())
    }

    async fn between(&self, (from, to): (Instant, Instant), _: usize) -> Result<Vec<Entry>, Failure> {
        let within = |entry: &&Entry| from <= entry.at && entry.at < to;
        Ok(self.index.lock().unwrap().iter().filter(within).cloned().collect())
    }

    async fn entries(&self, _: usize, _: Option<&str>) -> Result<(Vec<Entry>, Option<String>), Failure> {
        Ok((Vec::new(), None))
    }

    async fn newest_at(&self, _: &str, _: Option<Instant>) -> Result<Option<PushId>, Failure> {
        unreachable!("nobody looks for images here")
    }

    async fn openings(&self, _: Span, _: usize, _: Option<&str>) -> Result<(Vec<Opening>, Option<String>), Failure> {
        unreachable!("nobody lists here")
    }

    async fn notes(&self, _: &str) -> Result<Vec<(String, String, Version)>, Failure> {
        Ok(Vec::new())
    }

    async fn put_note(&self, _: &str, _: &str, _: Option<&Expected>) -> Result<Put, Failure> {
        Ok(Put::Conflict)
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl Queue for Desk {
    async fn arm(&self, message: &Message, _: Duration) -> Result<Handle, Failure> {
        self.armed.lock().unwrap().push(message.clone());
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        Ok(Handle { id: "m".into(), receipt: "r".into() })
    }

    async fn shift(&self, _: &Handle, _: &Message, _: Duration) -> Result<Option<Handle>, Failure> {
        Ok(None)
    }

    async fn disarm(&self, _: &Handle) -> Result<(), Failure> {
        *self.disarmed.lock().unwrap() += 1;
        Ok(())
    }

    async fn set_aside(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn note_spill(&self, now: Instant) -> Result<(), Failure> {
        *self.spilled.lock().unwrap() = Some(now);
        Ok(())
    }

    async fn last_spill(&self) -> Result<Option<Instant>, Failure> {
        Ok(*self.spilled.lock().unwrap())
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A process that cannot write arrivals.
struct Stuck;

#[async_trait]
impl Core for Stuck {
    fn look(&self) -> Arc<dyn Decide> {
        unreachable!("no timer fires here")
    }

    fn looked(&self, _: &PushId, _: Applied) {}

    async fn arrived(&self, _: Arrival) -> Result<(), Failure> {
        Err(Failure::Unavailable("the table is away".into()))
    }

    fn old(&self, _: Instant) -> Option<(Instant, Arc<dyn Decide>)> {
        None
    }

    fn registry(&self) -> Option<&str> {
        None
    }
}

struct Deaf;

#[async_trait]
impl Notifier for Deaf {
    async fn attempt(&self, _: &Row, _: &Claim) -> AttemptResult {
        std::future::pending().await
    }
}

#[derive(Clone)]
struct Process {
    engine: Arc<Engine>,
    azure: Arc<AzureStore>,
    clock: Arc<Stopped>,
}

fn process(desk: &Arc<Desk>, seed: u64) -> Process {
    let clock = Arc::new(Stopped(Mutex::new(0)));
    let policy = Policy {
        regions: ["a", "b"].map(|r| Region::parse(r).unwrap()).into(),
        timeout: Duration::from_secs(100),
        correlation: Correlation::Content,
        repeats: Repeats::New,
        rules: vec![],
        targets: vec![],
        schedule: vec![],
    };
    let azure = Arc::new(AzureStore::new(desk.clone(), desk.clone(), clock.clone(), "app".into(), seed << 32));
    let engine = Engine::new(policy, azure.clone(), Arc::new(Deaf), clock.clone());
    Process { engine: Arc::new(engine), azure, clock }
}

impl Process {
    fn arrive(&self, region: &str, digest: &str, seconds: i64) -> Done {
        self.arrive_or_die(region, digest, seconds).expect("at once")
    }

    fn arrive_or_die(&self, region: &str, digest: &str, seconds: i64) -> Option<Done> {
        *self.clock.0.lock().unwrap() = seconds * 1000;
        let arrival = arrival(region, digest, self.clock.now());
        match self.engine.arrive(arrival, None).now_or_never()? {
            Ok(Accepted::Done(done)) => Some(*done),
            Ok(Accepted::Spilled(..)) | Err(_) => panic!("not in its row"),
        }
    }

    fn fire(&self, timer: &Timer) -> Option<Looked> {
        let which = Which::Push(timer.push.clone());
        self.azure.look(&which, Some(timer.ticket), &*self.engine.looking()).now_or_never().map(Result::unwrap)
    }
}

fn arrival(region: &str, digest: &str, received: Instant) -> Arrival {
    let target = format!(r#"{{"repository":"p","tag":"t","digest":"{digest}"}}"#);
    let body = format!(r#"{{"id":"{}","action":"push","target":{target}}}"#, received.timestamp());
    Arrival::read(Region::parse(region).unwrap(), received, body, Some("r")).unwrap()
}

fn timer(message: &Message) -> Timer {
    let Message::Timer(timer) = message else { panic!("a timer") };
    timer.clone()
}

#[test]
fn a_timer_acts_only_for_the_write_that_armed_it() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // 1. A timer is armed for a first row. 2. It fires before that is written: it may still land.
    let (early, seen) = (process(&desk, 2), Arc::new(Mutex::new(None)));
    let (before, note) = (desk.clone(), seen.clone());
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let armed = timer(before.armed.lock().unwrap().last().unwrap());
        *note.lock().unwrap() = early.fire(&armed);
    }));
    one.arrive("a", "d", 0);
    assert!(matches!(seen.lock().unwrap().take(), Some(Looked::Newer)));
    // 3. Once it is written, the same timer is in charge.
    let first = timer(&desk.armed.lock().unwrap()[0]);
    *one.clock.0.lock().unwrap() = 101_000;
    assert!(
        matches!(one.fire(&first), Some(Looked::Applied(applied)) if applied.did == Did::Settled(Outcome::TimedOut))
    );
    // 4. And then never again.
    assert!(matches!(one.fire(&first), Some(Looked::Older)));
}

#[test]
fn a_deadline_that_is_handled_late_waits_for_what_is_on_the_queue() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    one.arrive("a", "d", 0);
    // 1. The queue is away past the deadline, and with it perhaps the other region's webhook. 2. The timer comes first.
    let fire = |at_ms: i64| {
        let armed = timer(desk.armed.lock().unwrap().last().unwrap());
        *one.clock.0.lock().unwrap() = at_ms;
        let Some(Looked::Applied(applied)) = one.fire(&armed) else { panic!("in charge") };
        applied.did
    };
    assert_eq!(fire(111_000), Did::Held);
    // Nothing came: it is in vain once the time is over.
    assert_eq!(fire(151_000), Did::Settled(Outcome::TimedOut));
}

#[test]
fn a_webhook_that_fails_on_the_queue_is_noted_each_time() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // 1. A region's webhook cannot be written, and goes to the queue. 2. Fifty seconds later another region opens the push.
    *one.clock.0.lock().unwrap() = -50_000;
    one.azure.spill(&arrival("b", "d", one.clock.now())).now_or_never().unwrap().unwrap();
    let spill = desk.armed.lock().unwrap().last().unwrap().text();
    one.arrive("a", "d", 0);
    let armed = timer(desk.armed.lock().unwrap().last().unwrap());
    // 3. The webhook fails again. 4. At the deadline the first note is older than any would be that still counts.
    *one.clock.0.lock().unwrap() = 90_000;
    assert!(one.azure.fired(&spill, &Stuck).now_or_never().unwrap().is_err());
    *one.clock.0.lock().unwrap() = 100_000;
    assert!(matches!(one.fire(&armed), Some(Looked::Applied(applied)) if applied.did == Did::Held));
}

#[test]
fn an_arrival_has_its_turn_while_a_timer_waits_for_its_instant() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    one.arrive("a", "d", 0);
    let armed = timer(&desk.armed.lock().unwrap()[0]);
    // The queue counts whole seconds, so the timer comes half a second early and waits in the call.
    *one.clock.0.lock().unwrap() = 99_500;
    let which = Which::Push(armed.push.clone());
    let step = one.engine.looking();
    let mut waiting = Box::pin(one.azure.look(&which, Some(armed.ticket), &*step));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(one.arrive("b", "d", 99).did, Did::Settled(Outcome::Replicated));
}

#[test]
fn what_another_process_remembers_is_not_the_newest_round() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    one.arrive("a", "d", 0);
    one.arrive("a", "other", 1);
    // The tag moved away and back: two opens the next round, of which one knows nothing.
    assert_eq!(two.arrive("a", "d", 2).did, Did::Opened);
    let done = one.arrive("b", "d", 3);
    assert_eq!((done.did, done.row.unwrap().id.round), (Did::Settled(Outcome::Replicated), 2));
}

#[test]
fn a_round_that_was_only_looked_at_is_not_the_newest() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    one.arrive("a", "d", 0);
    let armed = timer(&desk.armed.lock().unwrap()[0]);
    one.arrive("a", "other", 1);
    assert_eq!(two.arrive("a", "d", 2).did, Did::Opened);
    // 1. The timer of round 1 fires too early. 2. One reads round 1 and writes it with another timer. 3. A report comes.
    *one.clock.0.lock().unwrap() = 3000;
    assert!(matches!(one.fire(&armed), Some(Looked::Applied(_))));
    let done = one.arrive("b", "d", 4);
    assert_eq!((done.did, done.row.unwrap().id.round), (Did::Settled(Outcome::Replicated), 2));
}

#[test]
fn a_round_that_opened_beside_a_changed_one_is_taken_back() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    one.arrive("a", "d", 0);
    one.arrive("a", "other", 1);
    // 1. Two has read round 1 and arms a timer for round 2. 2. One adds to round 1. 3. Two starts again.
    let meanwhile = one.clone();
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        meanwhile.arrive("b", "d", 2);
    }));
    let done = two.arrive("a", "d", 3);
    let row = done.row.unwrap();
    assert_eq!((row.id.round, row.before.len()), (2, 2), "round 2 knows of both reports of round 1");
}

#[test]
fn a_write_that_is_lost_to_another_leaves_no_timer() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    // 1. One arms a timer for a first row. 2. Two writes that row, with a timer of its own. 3. One starts again and settles it.
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        assert_eq!(two.arrive("b", "d", 0).did, Did::Opened);
    }));
    assert_eq!(one.arrive("a", "d", 0).did, Did::Settled(Outcome::Replicated));
    assert_eq!((desk.armed.lock().unwrap().len(), *desk.disarmed.lock().unwrap()), (2, 2));
}

#[test]
fn a_purge_and_the_next_round_leave_one_push() {
    let desk = Arc::new(Desk::default());
    let (one, two, three) = (process(&desk, 1), process(&desk, 2), process(&desk, 3));
    let key = one.arrive("a", "d", 0).row.unwrap().id.key.clone();
    one.arrive("b", "d", 1);
    // 1. One has read round 1 and arms a timer for round 2. 2. Two purges round 1. 3. One inserts round 2. 4. Three reports.
    let id = PushId { key, round: 1 };
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        *two.clock.0.lock().unwrap() = 500_000;
        assert_eq!(two.engine.apply(&id, Input::Purge).now_or_never().unwrap().unwrap().did, Did::Purged);
    }));
    one.arrive("a", "d", 500);
    let done = three.arrive("b", "d", 501);
    assert_eq!(done.did, Did::Settled(Outcome::Replicated));
    assert!(
        three
            .azure
            .get(&Which::Push(PushId { round: 3, ..done.row.unwrap().id.clone() }))
            .now_or_never()
            .unwrap()
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_removal_and_the_next_round_leave_one_push() {
    let desk = Arc::new(Desk::default());
    let (one, two, three) = (process(&desk, 1), process(&desk, 2), process(&desk, 3));
    let id = one.arrive("a", "d", 0).row.unwrap().id.clone();
    one.arrive("b", "d", 1);
    // 1. One has read round 1, which is spent, and arms a timer for round 2. 2. Two removes what is old. 3. Three reports.
    // 4. One writes once more and dies.
    let (after, key) = (desk.clone(), id.key.clone());
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        *two.clock.0.lock().unwrap() = 5_000_000;
        let removed = two.engine.remove_before(two.clock.now()).now_or_never().unwrap().unwrap();
        assert_eq!((removed.count, removed.next), (1, None));
        assert_eq!(three.arrive("b", "d", 5000).did, Did::Opened);
        let puts = *after.puts.lock().unwrap();
        *after.last.lock().unwrap() = Some(puts + 1);
    }));
    assert!(one.arrive_or_die("a", "d", 5000).is_none());
    let records = desk.records.lock().unwrap();
    let rows = records.values().map(|(record, _)| &record.row).filter(|row| row.id.key == key && !row.is_purged());
    let rows: Vec<_> = rows.map(|row| (row.id.round, row.arrived.keys().map(Region::as_str).collect())).collect();
    assert_eq!(rows, [(2, vec!["b"])]);
}

#[test]
fn what_is_spent_is_removed_without_a_trace_and_a_report_on_its_way_opens_the_first_round() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    let id = one.arrive("a", "d", 0).row.unwrap().id.clone();
    let armed = timer(&desk.armed.lock().unwrap()[0]);
    *one.clock.0.lock().unwrap() = 100_000;
    assert!(matches!(one.fire(&armed), Some(Looked::Applied(_))));
    *two.clock.0.lock().unwrap() = 3_800_000;
    let remove = || two.engine.remove_before(two.clock.now()).now_or_never().unwrap().unwrap().count;
    assert_eq!(remove(), 1);
    assert!(desk.records.lock().unwrap().is_empty());
    assert_eq!(remove(), 0);
    let done = one.arrive("b", "d", 3801);
    assert_eq!((done.did, done.row.unwrap().id.clone()), (Did::Opened, id));
}

#[test]
fn a_reminder_of_a_write_on_its_way_stays() {
    let desk = Arc::new(Desk::default());
    let (one, two) = (process(&desk, 1), process(&desk, 2));
    let id = one.arrive("a", "d", 0).row.unwrap().id.clone();
    one.arrive("b", "d", 1);
    // 1. One is about to purge, which leaves a trace for an hour, and has entered the reminder. 2. Two meets that, and a row that
    // owes nothing. 3. One writes.
    *one.clock.0.lock().unwrap() = 500_000;
    let reminder = Entry { at: one.clock.now(), push: id.clone() };
    *desk.writing.lock().unwrap() = Some(Box::new({
        let (desk, reminder) = (desk.clone(), reminder.clone());
        move || {
            *two.clock.0.lock().unwrap() = 501_000;
            assert!(desk.index.lock().unwrap().contains(&reminder));
            let span = (reminder.at, two.clock.now());
            let removed = two.azure.remove_settled(span, 10, two.engine.looking()).now_or_never().unwrap().unwrap();
            assert_eq!((removed.count, removed.next), (0, None));
        }
    }));
    assert_eq!(one.engine.apply(&id, Input::Purge).now_or_never().unwrap().unwrap().did, Did::Purged);
    assert!(desk.index.lock().unwrap().contains(&reminder), "a cleared queue would leave nobody to look at it");
}

#[test]
fn a_webhook_that_comes_twice_counts_for_one_round() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // 1. The tag moves on while a region is missing, which reports all the same. 2. The tag comes back, and with it the next
    // round, to which belongs what came after the move. 3. The region's webhook comes once more, from the queue.
    one.arrive("a", "d", 0);
    one.arrive("a", "e", 2);
    assert_eq!(one.arrive("b", "d", 3).did, Did::Settled(Outcome::Replicated));
    let once_more = arrival("b", "d", one.clock.now());
    assert_eq!(one.arrive("a", "d", 4).did, Did::Opened);
    assert_eq!(one.engine.arrive_late(once_more).now_or_never().unwrap().unwrap().did, Did::Duplicate);
    assert_eq!(one.arrive("b", "d", 5).did, Did::Settled(Outcome::Replicated));
}

#[test]
fn regions_at_the_same_instant_lose_no_write_to_each_other() {
    let desk = Arc::new(Desk::default());
    let one = process(&desk, 1);
    // The second comes while the first has its turn, and waits for its own.
    let (second, waited) = (one.clone(), Arc::new(Mutex::new(false)));
    let note = waited.clone();
    *desk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let arrival = arrival("b", "d", second.clock.now());
        *note.lock().unwrap() = second.engine.arrive(arrival, None).now_or_never().is_none();
    }));
    one.arrive("a", "d", 0);
    assert!(*waited.lock().unwrap());
    assert_eq!(one.arrive("b", "d", 1).did, Did::Settled(Outcome::Replicated));
    assert_eq!(*desk.puts.lock().unwrap(), 2);
}
