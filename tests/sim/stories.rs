//! Schedules that seeds have found, told step by step, so that they stay found when seeds come to mean something else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use futures_util::FutureExt as _;
use global_webhook::clock::{Clock, Instant};
use global_webhook::engine::{Arrive, Done, Engine, Purge};
use global_webhook::limits;
use global_webhook::notify::Notifier;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Filter, Policy, Target};
use global_webhook::push::state::{Phase, Row, TimerRef};
use global_webhook::push::{Arrival, AttemptResult, Claim, Key, Notice, PushId, Region, Subject};
use global_webhook::store::memory::MemoryStore;
use global_webhook::store::{Expected, Failure, Page, Put, Store, Version, Versioned};
use global_webhook::timers::{Armed, Message, Reason, Timer, Timers};

type Meanwhile = Box<dyn FnOnce(&str, &Message) + Send>;

/// A queue that only writes down, and lets something happen just after a timer is armed.
#[derive(Default)]
struct Queue {
    armed: Mutex<Vec<(String, Message, Duration)>>,
    meanwhile: Mutex<Option<Meanwhile>>,
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
impl Timers for Queue {
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        let id = {
            let mut armed = self.armed.lock().unwrap();
            let id = format!("m{}", armed.len() + 1);
            armed.push((id.clone(), message.clone(), delay));
            id
        };
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile(&id, message);
        }
        Ok(Armed { receipt: id.clone(), id })
    }
    async fn shift(&self, _: &Armed, _: &Message, _: Duration) -> Result<Option<Armed>, Failure> {
        Ok(None)
    }
    async fn disarm(&self, _: &Armed) -> Result<(), Failure> {
        Ok(())
    }
    async fn set_aside(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
    async fn revive(&self) -> Result<usize, Failure> {
        Ok(0)
    }
    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}

struct Deaf;

#[async_trait]
impl Notifier for Deaf {
    async fn attempt(&self, _: &Row, _: &Claim) -> AttemptResult {
        std::future::pending().await
    }
}

/// Rows in memory that can be read while writes fail.
#[derive(Default)]
struct Rows {
    inner: MemoryStore,
    out: AtomicBool,
}

#[async_trait]
impl Store for Rows {
    async fn latest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        self.inner.latest(key).await
    }
    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        self.inner.get(id).await
    }
    async fn index(&self, id: &PushId, opened: Instant) -> Result<(), Failure> {
        self.inner.index(id, opened).await
    }
    async fn put(&self, row: &Row, expected: &Expected) -> Result<Put, Failure> {
        if self.out.load(Ordering::Relaxed) {
            return Err(Failure::Unavailable("writes fail".into()));
        }
        self.inner.put(row, expected).await
    }
    async fn remove(&self, row: &Row, version: &Version) -> Result<bool, Failure> {
        self.inner.remove(row, version).await
    }
    async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<Page, Failure> {
        self.inner.list(limit, cursor).await
    }
    async fn prepare(&self) -> Result<(), Failure> {
        self.inner.prepare().await
    }
}

struct Stage {
    queue: Arc<Queue>,
    store: Arc<Rows>,
}

impl Stage {
    fn new() -> Self {
        Self { queue: Arc::default(), store: Arc::default() }
    }

    fn process(&self, now: i64) -> (Arc<Engine>, Arc<Stopped>) {
        let clock = Arc::new(Stopped(Mutex::new(now)));
        let policy = Policy {
            regions: ["a", "b"].map(|r| Region::parse(r).unwrap()).into(),
            timeout: Duration::from_secs(100),
            correlation: Correlation::Content,
            rules: vec![],
            targets: vec![Target {
                name: "t".into(),
                notices: vec![Notice::TimedOut, Notice::Replicated],
                filter: Filter::default(),
            }],
            schedule: vec![],
        };
        (Arc::new(Engine::new(policy, self.store.clone(), self.queue.clone(), Arc::new(Deaf), clock.clone())), clock)
    }

    /// One that takes itself for the only one: it met enough keys that had no row.
    fn lonely_process(&self) -> (Arc<Engine>, Arc<Stopped>) {
        let (engine, clock) = self.process(0);
        for n in 0..20 {
            let mut stranger = arrival(&clock, "a", "1");
            stranger.subject.repository = format!("other{n}");
            arrive(&engine, &stranger);
        }
        (engine, clock)
    }

    /// Makes a settled push owe nothing.
    fn told_long_ago(&self, id: &PushId) {
        let stored = self.store.get(id).now_or_never().unwrap().unwrap().unwrap();
        let mut row = Row { timer: None, ..stored.row };
        let Phase::Settled(settled) = &mut row.phase else { panic!() };
        settled.outbox.clear();
        self.store.put(&row, &Expected::Version(stored.version)).now_or_never().unwrap().unwrap();
    }

    fn last_armed(&self) -> (String, Message, Duration) {
        self.queue.armed.lock().unwrap().last().unwrap().clone()
    }
}

fn arrival(clock: &Stopped, region: &str, id: &str) -> Arrival {
    let subject =
        Subject { registry: "r".into(), repository: "p".into(), tag: None, digest: "d".into(), action: "push".into() };
    Arrival {
        region: Region::parse(region).unwrap(),
        received: clock.now(),
        id: id.into(),
        subject,
        payload: "{}".into(),
    }
}

fn arrive(engine: &Engine, arrival: &Arrival) -> Done {
    match engine.arrive(arrival).now_or_never() {
        Some(Ok(Arrive::Done(done))) => *done,
        other => panic!("{other:?}"),
    }
}

fn fire(engine: &Engine, id: &str, message: &Message) -> Done {
    engine.fire(message, Some(id)).now_or_never().unwrap().unwrap()
}

/// Found by seed 410. A timer comes early to a process whose clock is behind the one that armed it; it arms another and is
/// slow to commit. The other one fires before the row names it, in a process whose clock is behind as well: there it looks
/// like a spare. The row must not be left with a dead timer.
#[test]
fn a_timer_that_fires_before_the_row_names_it_is_made_good() {
    let stage = Stage::new();
    let (ours, our_clock) = stage.process(0);
    let (behind, _) = stage.process(98_800);
    arrive(&ours, &arrival(&our_clock, "a", "1"));
    let (first, timer, _) = stage.last_armed();
    *our_clock.0.lock().unwrap() = 98_500;
    let (other, clock) = (Arc::downgrade(&behind), our_clock.clone());
    let what = Arc::new(Mutex::new(None));
    let seen = what.clone();
    *stage.queue.meanwhile.lock().unwrap() = Some(Box::new(move |id, message| {
        let other: Arc<Engine> = Weak::upgrade(&other).unwrap();
        *seen.lock().unwrap() = Some(fire(&other, id, message).what.word());
        *clock.0.lock().unwrap() = 100_500;
    }));
    fire(&ours, &first, &timer);
    assert_eq!(*what.lock().unwrap(), Some("ahead"));
    let key = arrival(&our_clock, "a", "1").key(Correlation::Content);
    let row = stage.store.latest(&key).now_or_never().unwrap().unwrap().unwrap().row;
    assert_eq!(row.timer.unwrap().id, "m2", "the row names the timer that fired too soon");
    let (second_look, message, _) = stage.last_armed();
    assert_ne!(second_look, "m2", "nothing was armed in its place");
    assert_eq!(fire(&ours, &second_look, &message).what.word(), "timed_out");
}

/// A write lands so late that its timer has fired meanwhile, and its process is gone: only the second look knows of it.
#[test]
fn a_write_that_lands_after_its_timer_fired_is_looked_at_again() {
    let stage = Stage::new();
    let (ours, clock) = stage.process(0);
    let row = arrive(&ours, &arrival(&clock, "a", "1")).row.unwrap();
    let (_, message, _) = stage.last_armed();
    let Message::Timer(timer) = message else { panic!() };
    let late = Message::Timer(Timer { revision: row.revision + 1, ..timer });
    assert_eq!(fire(&ours, "late", &late).what.word(), "ahead");
    let (second, second_look, delay) = stage.last_armed();
    assert_eq!(delay, limits::UNSEEN_RECHECK);

    let stored = stage.store.get(&row.id).now_or_never().unwrap().unwrap().unwrap();
    let named = TimerRef { id: "late".into(), ..stored.row.timer.clone().unwrap() };
    let row = Row { timer: Some(named), revision: stored.row.revision + 1, ..stored.row };
    stage.store.put(&row, &Expected::Version(stored.version)).now_or_never().unwrap().unwrap();
    *clock.0.lock().unwrap() = 100_500;
    assert_eq!(fire(&ours, &second, &second_look).what.word(), "timed_out");
}

/// Found by seed 557191. Rows can be read and not written, and every timer is due: each call arms a timer for a write that
/// then fails, and its own message comes again. Were those timers to do the same, their number would double with every turn.
#[test]
fn timers_do_not_multiply_while_writes_fail() {
    let stage = Stage::new();
    let (ours, clock) = stage.process(0);
    let (first, message, _) = {
        arrive(&ours, &arrival(&clock, "a", "1"));
        stage.last_armed()
    };
    *clock.0.lock().unwrap() = 100_500;
    stage.store.out.store(true, Ordering::Relaxed);
    let mut live = vec![(first.clone(), message.clone())];
    for turn in 1..=12 {
        let known = stage.queue.armed.lock().unwrap().len();
        live.retain(|(id, message)| ours.fire(message, Some(id)).now_or_never().unwrap().is_err());
        let armed = stage.queue.armed.lock().unwrap()[known..].to_vec();
        live.extend(armed.into_iter().map(|(id, message, _)| (id, message)));
        assert!(live.iter().any(|(id, _)| *id == first), "the named timer is gone at turn {turn}");
        assert!(live.len() <= 3, "{} timers at turn {turn}: {live:?}", live.len());
    }
    stage.store.out.store(false, Ordering::Relaxed);
    assert_eq!(fire(&ours, &first, &message).what.word(), "timed_out");
}

/// Found in review. A process that takes itself for the only one forgets a row that it could not write, and the arrival that
/// it spilled comes back again and again. Were it to guess each time that there is no row, each try would leave a timer of
/// the first revision, which is not ahead of anything and acts like the one that is named.
#[test]
fn a_spilled_arrival_does_not_guess_that_its_push_is_new() {
    let stage = Stage::new();
    let (ours, clock) = stage.lonely_process();
    arrive(&ours, &arrival(&clock, "a", "1"));
    stage.store.out.store(true, Ordering::Relaxed);
    let second = arrival(&clock, "b", "1");
    assert!(matches!(ours.arrive(&second).now_or_never(), Some(Ok(Arrive::Spilled(_)))));
    let (spill, message, _) = stage.last_armed();
    for _ in 0..5 {
        assert!(ours.fire(&message, Some(&spill)).now_or_never().unwrap().is_err());
        let (_, message, _) = stage.last_armed();
        let Message::Timer(timer) = message else { panic!("nothing was armed") };
        assert_eq!(timer.revision, 2, "a timer for the first revision of a row that is there");
    }
    stage.store.out.store(false, Ordering::Relaxed);
    assert_eq!(fire(&ours, &spill, &message).what.word(), "replicated");
}

/// Found by seed 412. A process that takes itself for the only one arms a timer for round 1 of a key it does not know, loses
/// the insert, and opens round 2 instead. The timer of round 1 must not be named in round 2's row: it would look at round 1.
#[test]
fn a_timer_armed_for_one_round_is_not_named_in_another() {
    let stage = Stage::new();
    let (ours, our_clock) = stage.lonely_process();
    let (other, clock) = stage.process(0);
    arrive(&other, &arrival(&clock, "a", "1"));
    let done = arrive(&other, &arrival(&clock, "b", "1"));
    // A process died between closing round 1 and opening round 2.
    let stored = stage.store.latest(&done.row.unwrap().id.key).now_or_never().unwrap().unwrap().unwrap();
    let mut row = stored.row;
    let Phase::Settled(settled) = &mut row.phase else { panic!() };
    settled.superseded = true;
    stage.store.put(&row, &Expected::Version(stored.version)).now_or_never().unwrap().unwrap();

    let row = arrive(&ours, &arrival(&our_clock, "a", "2")).row.unwrap();
    assert_eq!(row.id.round, 2);
    let named = row.timer.as_ref().unwrap().id.clone();
    let armed = stage.queue.armed.lock().unwrap();
    let (_, message, _) = armed.iter().find(|(id, _, _)| *id == named).unwrap();
    let Message::Timer(timer) = message else { panic!() };
    assert_eq!(timer.push, row.id);
}

/// A process that takes itself for the only one inserts round 1 of a key it does not know without reading. If round 1 could
/// be purged before later rounds, that insert would go through beside them, and one push would be split in two.
#[test]
fn round_1_is_purged_last() {
    let stage = Stage::new();
    let (ours, our_clock) = stage.lonely_process();
    let (other, clock) = stage.process(0);
    let mut ids = Vec::new();
    for round in ["1", "2"] {
        arrive(&other, &arrival(&clock, "a", round));
        let row = arrive(&other, &arrival(&clock, "b", round)).row.unwrap();
        stage.told_long_ago(&row.id);
        ids.push(row.id.clone());
    }
    let purge = |id| other.purge(id).now_or_never().unwrap().unwrap();
    assert_eq!(purge(&ids[0]), Some(Purge::Owing));
    let row = arrive(&ours, &arrival(&our_clock, "a", "3")).row.unwrap();
    assert_eq!(row.id.round, 3);
    assert_eq!(purge(&ids[1]), Some(Purge::Purged));
}

/// A process that closed a round, or met it closed, remembers it for as long as it owes notifications. Others may have opened
/// two more since, and the first of these may be purged: an insert in its place would go through, beside the newest.
#[test]
fn a_closed_round_is_not_taken_from_memory() {
    let stage = Stage::new();
    let (ours, our_clock) = stage.process(0);
    let (other, clock) = stage.process(0);
    arrive(&ours, &arrival(&our_clock, "a", "1"));
    let first = arrive(&ours, &arrival(&our_clock, "b", "1")).row.unwrap();
    let mut later = Vec::new();
    for round in ["2", "3"] {
        arrive(&other, &arrival(&clock, "a", round));
        later.push(arrive(&other, &arrival(&clock, "b", round)).row.unwrap().id.clone());
    }
    *our_clock.0.lock().unwrap() = 40_000;
    let timer = Timer { push: first.id.clone(), due: our_clock.now(), reason: Reason::Delivery, revision: 2, of: None };
    let done = fire(&ours, &first.timer.as_ref().unwrap().id, &Message::Timer(timer));
    assert!(done.row.unwrap().settled().unwrap().superseded, "the first round is remembered as closed");
    stage.told_long_ago(&later[0]);
    assert_eq!(other.purge(&later[0]).now_or_never().unwrap().unwrap(), Some(Purge::Purged));
    let row = arrive(&ours, &arrival(&our_clock, "a", "4")).row.unwrap();
    assert_eq!(row.id.round, 4);
}

/// A timer that no row names fires while the one that is named is far off: it has nothing to do and leaves nothing behind.
#[test]
fn a_spare_dies() {
    let stage = Stage::new();
    let (ours, clock) = stage.process(0);
    let row = arrive(&ours, &arrival(&clock, "a", "1")).row.unwrap();
    let (named, message, _) = stage.last_armed();
    assert_eq!(row.timer.as_ref().unwrap().id, named);
    *clock.0.lock().unwrap() = 50_000;
    for _ in 0..3 {
        assert_eq!(fire(&ours, "spare", &message).what.word(), "spare");
    }
    assert_eq!(stage.last_armed().0, named, "something was armed for a spare");
}

/// Three pushes of one content overlap, with ids that differ by region: each is told of once, by webhooks of its own.
#[test]
fn pushes_that_overlap_share_no_webhook() {
    let stage = Stage::new();
    let (ours, clock) = stage.process(0);
    let mut rows = Vec::new();
    for (region, id) in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2"), ("b", "b3")] {
        rows.push(arrive(&ours, &arrival(&clock, region, id)).row.unwrap());
    }
    let ids = |row: &Row| row.arrived.values().map(|at| at.id.clone()).collect::<Vec<_>>();
    for (n, row) in rows[3..].iter().enumerate() {
        let number = n + 1;
        assert_eq!((row.id.round as usize, ids(row)), (number, vec![format!("a{number}"), format!("b{number}")]));
        assert!(row.settled().is_some());
    }
}

/// The timer that is named is lost, which nothing known can do, and another fires when it would have: it comes once more, and
/// acts when the named one has stayed away for long enough.
#[test]
fn a_spare_acts_when_the_one_in_charge_stays_away() {
    let stage = Stage::new();
    let (ours, clock) = stage.process(0);
    arrive(&ours, &arrival(&clock, "a", "1"));
    let (_, message, _) = stage.last_armed();
    *clock.0.lock().unwrap() = 100_500;
    assert_eq!(fire(&ours, "spare", &message).what.word(), "spare");
    let (again, message, delay) = stage.last_armed();
    assert_eq!(delay, limits::SPARE_PATIENCE - Duration::from_millis(500));
    *clock.0.lock().unwrap() = 160_000;
    assert_eq!(fire(&ours, &again, &message).what.word(), "timed_out");
}
