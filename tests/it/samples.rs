//! Pushes, steps and accounts that the contracts are tried with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeZone as _;
use global_webhook::clock::{Clock, Instant, StorageClock, SystemClock, after};
use global_webhook::config::Source;
use global_webhook::config::storage::account;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Policy, Repeats};
use global_webhook::push::{
    Answer, Change, Decision, Delivery, Did, Entry, Input, Key, Notice, Outcome, Phase, PushId, Region, Row, Settled,
    Step, Subject, step,
};
use global_webhook::store::Decide;
use global_webhook::store::azure::connection::Connection;

/// A push whose place and content are both named by `name`.
pub(crate) fn id(name: &str, round: u32) -> PushId {
    PushId { key: Key::of(&[name], &[]), round }
}

/// A content of a place.
pub(crate) fn content(place: &str, digest: &str, round: u32) -> PushId {
    PushId { key: Key::of(&[place], &[digest]), round }
}

/// An instant of the past, to the millisecond.
pub(crate) fn instant(seconds: i64) -> Instant {
    chrono::Utc.timestamp_opt(1_760_000_000 + seconds, 123_000_000).unwrap()
}

/// A push that waits for a region more.
pub(crate) fn row(id: PushId, opened: Instant, payload: &str) -> Row {
    Row {
        id,
        correlation: Correlation::Content,
        subject: Subject {
            registry: "demo.azurecr.io".into(),
            repository: "shop/cart".into(),
            tag: Some("v1".into()),
            digest: "sha256:00".into(),
            action: "push".into(),
        },
        payload: payload.into(),
        opened,
        deadline: after(opened, Duration::from_secs(120)),
        regions: vec![Region::parse("northeurope").unwrap()],
        rule: None,
        since: None,
        arrived: BTreeMap::new(),
        unawaited: BTreeMap::new(),
        before: BTreeMap::new(),
        phase: Phase::Waiting { held: None },
        updated: opened,
        unknown: None,
    }
}

/// The same with another digest.
pub(crate) fn with_digest(row: Row, digest: &str) -> Row {
    let subject = Subject { digest: digest.into(), ..row.subject };
    Row { subject, ..row }
}

/// The push, settled and with nothing to do.
pub(crate) fn settled(row: Row, outbox: Vec<Entry>) -> Row {
    let (at, outcome) = (row.deadline, Outcome::Replicated);
    let settled = Settled { outcome, at, missing: Vec::new(), terminated: false, recovered: None, outbox };
    Row { phase: Phase::Settled(settled), ..row }
}

/// The push, settled and with a notification that is owed from `not_before` on.
pub(crate) fn owing(row: Row, not_before: Instant) -> Row {
    let delivery =
        Delivery::Owed { claims: 0, failures: 0, lapses: 0, not_before, lease_until: None, last_error: None };
    settled(row, vec![Entry { target: "ops".into(), notice: Notice::Replicated, delivery, failed: Vec::new() }])
}

/// The push, purged at `at`.
pub(crate) fn purged(row: Row, at: Instant) -> Row {
    Row { phase: Phase::Purged { at, until: at }, payload: String::new(), ..row }
}

/// A step that is what a closure says.
struct Deciding<F>(F);

impl<F: Fn(Option<&Row>, Option<Answer>) -> Decision + Send + Sync + 'static> Decide for Deciding<F> {
    fn decide(&self, row: Option<&Row>, answer: Option<Answer>) -> Decision {
        (self.0)(row, answer)
    }
}

/// A step that may ask.
pub(crate) fn asking(f: impl Fn(Option<&Row>, Option<Answer>) -> Decision + Send + Sync + 'static) -> Arc<dyn Decide> {
    Arc::new(Deciding(f))
}

/// A step that does to the row what the closure says.
pub(crate) fn doing(f: impl Fn(Option<&Row>) -> Change + Send + Sync + 'static) -> Arc<dyn Decide> {
    asking(move |row, _| decided(Did::Joined, f(row)))
}

/// A step that leaves this row, whatever was there.
pub(crate) fn putting(row: &Row) -> Arc<dyn Decide> {
    let row = row.clone();
    doing(move |_| Change::Put(row.clone()))
}

/// What the core decides for an input, with settings of one region and nobody to tell.
pub(crate) fn stepping(input: Input, clock: Arc<dyn Clock>) -> Arc<dyn Decide> {
    let policy = Policy {
        regions: vec![Region::parse("northeurope").unwrap()],
        timeout: Duration::from_secs(120),
        correlation: Correlation::Content,
        repeats: Repeats::New,
        rules: Vec::new(),
        targets: Vec::new(),
        schedule: Vec::new(),
    };
    asking(move |row, answer| step(row, &input, clock.now(), &policy, answer))
}

/// A decision without claims.
pub(crate) fn decided(did: Did, change: Change) -> Decision {
    Decision::Step(Box::new(Step { did, change, claims: Vec::new() }))
}

/// A clock as the Azure side needs it.
pub(crate) fn storage_clock() -> Arc<StorageClock> {
    Arc::new(StorageClock::new(Arc::new(SystemClock)))
}

/// Opens the account of a connection string.
pub(crate) fn open(connection_string: &str) -> Connection {
    let source = Source::new([("AzureWebJobsStorage", connection_string)]);
    let mut faults = Vec::new();
    let account = account(&source, &mut faults);
    assert_eq!(faults, []);
    Connection::open(&account.unwrap(), storage_clock()).unwrap()
}
