//! A table and a queue that never fail, and processes at them whose clocks stand still: what stories are told with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use futures_util::FutureExt as _;
use global_webhook::clock::{Clock, Instant};
use global_webhook::engine::{Accepted, Done, Engine};
use global_webhook::notify::Notifier;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Policy, Repeats, Target};
use global_webhook::push::{Arrival, AttemptResult, Claim, Key, PushId, Region, Row, Subject};
use global_webhook::store::azure::AzureStore;
use global_webhook::store::azure::apply::Looked;
use global_webhook::store::azure::fired::Core;
use global_webhook::store::azure::message::{Message, Timer};
use global_webhook::store::azure::parts::{
    Entry, Expected, Failure, Handle, Opening, Put, Queue, Record, Rows, Span, Version, Versioned,
};
use global_webhook::store::{Applied, Decide, Which};

pub(crate) type Meanwhile = Box<dyn FnOnce() + Send>;

/// A table and a queue in memory.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) records: Mutex<std::collections::BTreeMap<PushId, (Arc<Record>, u64)>>,
    pub(crate) armed: Mutex<Vec<Message>>,
    pub(crate) disarmed: Mutex<usize>,
    pub(crate) puts: Mutex<u64>,
    pub(crate) meanwhile: Mutex<Option<Meanwhile>>,
    /// The same, before a row is written.
    pub(crate) writing: Mutex<Option<Meanwhile>>,
    pub(crate) index: Mutex<Vec<Entry>>,
    notes: Mutex<std::collections::BTreeMap<String, (String, u64)>>,
    pub(crate) spilled: Mutex<Option<Instant>>,
    /// Whoever wants to put more than so many times is as good as dead.
    pub(crate) last: Mutex<Option<u64>>,
}

pub(crate) struct Stopped(pub(crate) Mutex<i64>);

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
        Ok((self.index.lock().unwrap().clone(), None))
    }

    async fn newest_at(&self, _: &str, _: Option<Instant>) -> Result<Option<PushId>, Failure> {
        unreachable!("nobody looks for images here")
    }

    async fn openings(&self, _: Span, _: usize, _: Option<&str>) -> Result<(Vec<Opening>, Option<String>), Failure> {
        unreachable!("nobody lists here")
    }

    async fn notes(&self, prefix: &str) -> Result<Vec<(String, String, Version)>, Failure> {
        let notes = self.notes.lock().unwrap();
        let found = notes.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, (text, n))| (name.clone(), text.clone(), Version(n.to_string()))).collect())
    }

    async fn put_note(&self, name: &str, text: &str, expected: Option<&Expected>) -> Result<Put, Failure> {
        let mut notes = self.notes.lock().unwrap();
        let before = notes.get(name).map(|(_, n)| *n);
        let fits = match expected {
            None => true,
            Some(Expected::Absent) => before.is_none(),
            Some(Expected::Version(Version(version))) => before.is_some_and(|n| n.to_string() == *version),
        };
        if !fits {
            return Ok(Put::Conflict);
        }
        let n = before.map_or(0, |n| n + 1);
        notes.insert(name.to_owned(), (text.to_owned(), n));
        Ok(Put::Written(Version(n.to_string())))
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
pub(crate) struct Stuck;

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

pub(crate) struct Deaf;

#[async_trait]
impl Notifier for Deaf {
    async fn attempt(&self, _: &Row, _: &Claim) -> AttemptResult {
        std::future::pending().await
    }
}

#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) engine: Arc<Engine>,
    pub(crate) azure: Arc<AzureStore>,
    pub(crate) clock: Arc<Stopped>,
}

pub(crate) fn process(desk: &Arc<Desk>, seed: u64) -> Process {
    process_that_tells(desk, seed, vec![])
}

pub(crate) fn process_that_tells(desk: &Arc<Desk>, seed: u64, targets: Vec<Target>) -> Process {
    process_that_waits(desk, seed, targets, Duration::from_secs(100))
}

pub(crate) fn process_that_waits(desk: &Arc<Desk>, seed: u64, targets: Vec<Target>, timeout: Duration) -> Process {
    let schedule = targets.iter().map(|_| Duration::from_secs(5)).collect();
    let clock = Arc::new(Stopped(Mutex::new(0)));
    let policy = Policy {
        regions: ["a", "b"].map(|r| Region::parse(r).unwrap()).into(),
        timeout,
        correlation: Correlation::Content,
        repeats: Repeats::New,
        rules: vec![],
        targets,
        schedule,
    };
    let azure = Arc::new(AzureStore::new(desk.clone(), desk.clone(), clock.clone(), "app".into(), seed << 32));
    let engine = Engine::new(policy, azure.clone(), Arc::new(Deaf), clock.clone());
    Process { engine: Arc::new(engine), azure, clock }
}

impl Process {
    pub(crate) fn arrive(&self, region: &str, digest: &str, seconds: i64) -> Done {
        self.arrive_or_die(region, digest, seconds).expect("at once")
    }

    pub(crate) fn arrive_or_die(&self, region: &str, digest: &str, seconds: i64) -> Option<Done> {
        *self.clock.0.lock().unwrap() = seconds * 1000;
        let arrival = arrival(region, digest, self.clock.now());
        match self.engine.arrive(arrival, None).now_or_never()? {
            Ok(Accepted::Done(done)) => Some(*done),
            Ok(Accepted::Spilled(..)) | Err(_) => panic!("not in its row"),
        }
    }

    pub(crate) fn fire(&self, timer: &Timer) -> Option<Looked> {
        let which = Which::Push(timer.push.clone());
        self.azure.look(&which, Some(timer.ticket), &*self.engine.looking()).now_or_never().map(Result::unwrap)
    }
}

pub(crate) fn arrival(region: &str, digest: &str, received: Instant) -> Arrival {
    let target = format!(r#"{{"repository":"p","tag":"t","digest":"{digest}"}}"#);
    let body = format!(r#"{{"id":"{}","action":"push","target":{target}}}"#, received.timestamp());
    Arrival::read(Region::parse(region).unwrap(), received, body, Some("r")).unwrap()
}

pub(crate) fn timer(message: &Message) -> Timer {
    let Message::Timer(timer) = message else { panic!("a timer") };
    timer.clone()
}
