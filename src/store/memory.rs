//! Pushes in maps: the plainest reading of the contract. For tests and measurements; nothing survives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Applied, Census, Decide, Failure, Health, Page, Removed, Search, Store, Wakes, Which, last_moved};
use crate::clock::{self, Clock, Instant};
use crate::push::{Answer, Arrival, Change, Decision, Did, PushId, Question, Row, Step};

/// See the module.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    changed: tokio::sync::Notify,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<PushId, Arc<Row>>,
    by_time: BTreeSet<(Instant, PushId)>,
    wakes: BTreeMap<PushId, Instant>,
    due: BTreeSet<(Instant, PushId)>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default(), changed: tokio::sync::Notify::new() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies a step at once.
    pub fn step(&self, which: &Which, step: &dyn Decide) -> Applied {
        let (applied, sooner) = self.with(|inner| {
            let first = inner.due.first().map(|(at, _)| *at);
            let applied = inner.apply(which, step);
            (applied, inner.due.first().map(|(at, _)| *at) < first || first.is_none())
        });
        if sooner {
            self.changed.notify_one();
        }
        applied
    }

    /// Looks at the oldest pushes of a span at once.
    pub fn remove_oldest(&self, (from, to): (Instant, Instant), max: usize, step: &dyn Decide) -> Removed {
        self.with(|inner| {
            let within = inner.by_time.iter().skip_while(|(at, _)| *at < from).take_while(|(at, _)| *at < to);
            let mut found: Vec<_> = within.take(max + 1).cloned().collect();
            let next = if found.len() > max { found.pop() } else { None };
            let mut purge =
                |(_, id): &(Instant, PushId)| inner.apply(&Which::Push(id.clone()), step).did == Did::Purged;
            let count = found.iter().filter(|entry| purge(entry)).count();
            Removed::of(count, from, next.map(|(at, _)| at))
        })
    }

    /// Every row there is.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<PushId, Arc<Row>> {
        self.with(|inner| inner.rows.clone())
    }

    /// What is due at an instant, the longest overdue first.
    #[must_use]
    pub fn due_at(&self, now: Instant) -> Vec<PushId> {
        self.with(|inner| inner.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect())
    }

    /// When the next push is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.with(|inner| inner.due.first().map(|(at, _)| *at))
    }
}

impl Inner {
    fn row(&self, which: &Which) -> Option<&Arc<Row>> {
        match which {
            Which::Push(id) => self.rows.get(id),
            Which::Newest(key) => {
                let last = PushId { key: key.clone(), round: u32::MAX };
                self.rows.range(..=last).next_back().map(|(_, row)| row).filter(|row| row.id.key == *key)
            }
        }
    }

    fn answer(&self, row: &Row, question: Question) -> Answer {
        let (before, after) = (self.rows.range(..&row.id).rev(), self.rows.range(&row.id..));
        let near = |(id, _): &(&PushId, &Arc<Row>)| id.key.place() == row.id.key.place();
        let others = before.take_while(near).chain(after.take_while(near)).map(|(_, other)| &**other);
        let moved = question.moved.and_then(|span| last_moved(others, &row.id, &row.subject.digest, span));
        Answer { moved, pending: false }
    }

    fn apply(&mut self, which: &Which, step: &dyn Decide) -> Applied {
        let row = self.row(which).cloned();
        let mut answer = None;
        let Step { did, change, claims } = loop {
            match (step.decide(row.as_deref(), answer), &row) {
                (Decision::Ask(question), Some(row)) => answer = Some(self.answer(row, question)),
                (Decision::Ask(_), None) => answer = Some(Answer::default()),
                (Decision::Step(step), _) => break *step,
            }
        };
        let row = match (change, row) {
            (Change::None, row) => row,
            (Change::Remove, Some(row)) => {
                self.wake(&row.id, None);
                self.by_time.remove(&(row.opened, row.id.clone()));
                self.rows.remove(&row.id);
                None
            }
            (Change::Remove, None) => None,
            (Change::Put(next), _) => {
                let next = Arc::new(next);
                self.wake(&next.id, next.wake());
                self.by_time.insert((next.opened, next.id.clone()));
                self.rows.insert(next.id.clone(), Arc::clone(&next));
                Some(next)
            }
        };
        Applied { did, row: row.filter(|row| !row.is_purged()), claims }
    }

    fn wake(&mut self, id: &PushId, at: Option<Instant>) {
        let before = match at {
            Some(at) => {
                self.due.insert((at, id.clone()));
                self.wakes.insert(id.clone(), at)
            }
            None => self.wakes.remove(id),
        };
        if let Some(before) = before.filter(|before| Some(*before) != at) {
            self.due.remove(&(before, id.clone()));
        }
    }
}

fn parse_cursor(text: &str) -> Option<(Instant, PushId)> {
    let (millis, id) = text.split_once(' ')?;
    Some((Instant::from_timestamp_millis(millis.parse().ok()?)?, id.parse().ok()?))
}

#[async_trait]
impl Store for MemoryStore {
    async fn apply(&self, which: &Which, step: Arc<dyn Decide>) -> Result<Applied, Failure> {
        Ok(self.step(which, &*step))
    }

    async fn spill(&self, _: &Arrival) -> Result<(), Failure> {
        Err(Failure::Unavailable("there is no other place in memory".into()))
    }

    async fn get(&self, which: &Which) -> Result<Option<Arc<Row>>, Failure> {
        Ok(self.with(|inner| inner.row(which).filter(|row| !row.is_purged()).cloned()))
    }

    async fn newest_at(&self, place: &str, since: Option<Instant>) -> Result<Option<Arc<Row>>, Failure> {
        let fits = |row: &&Arc<Row>| {
            row.id.key.place() == place && !row.is_purged() && since.is_none_or(|since| since <= row.opened)
        };
        Ok(self.with(|inner| inner.rows.values().filter(fits).max_by_key(|row| (row.opened, row.id.clone())).cloned()))
    }

    async fn list(&self, search: &Search) -> Result<Page, Failure> {
        let limit = search.limit.clamp(1, 1000);
        Ok(self.with(|inner| {
            let range = match search.cursor.as_deref().and_then(parse_cursor) {
                Some(before) => inner.by_time.range(..before),
                None => inner.by_time.range(..),
            };
            let rows = range.rev().filter_map(|(_, id)| inner.rows.get(id)).filter(|row| search.lists(row));
            let mut rows: Vec<Row> = rows.take(limit + 1).map(|row| (**row).clone()).collect();
            let more = rows.len() > limit;
            rows.truncate(limit);
            let next = rows.last().filter(|_| more).map(|row| format!("{} {}", row.opened.timestamp_millis(), row.id));
            Page { rows, next, unreadable: 0 }
        }))
    }

    fn is_cursor(&self, text: &str) -> bool {
        parse_cursor(text).is_some()
    }

    async fn remove_settled(
        &self,
        span: (Instant, Instant),
        max: usize,
        step: Arc<dyn Decide>,
    ) -> Result<Removed, Failure> {
        Ok(self.remove_oldest(span, max, &*step))
    }

    async fn prepare(&self) -> Health {
        Health { rows: Ok(()), queue: Ok(()), others: Vec::new() }
    }

    async fn census(&self) -> Result<Option<Census>, Failure> {
        let all =
            |inner: &mut Inner| inner.rows.values().map(|row| Census::of(row)).fold(Census::default(), Census::with);
        Ok(Some(self.with(all)))
    }
}

#[async_trait]
impl Wakes for MemoryStore {
    async fn due(&self, max: usize) -> Result<Vec<PushId>, Failure> {
        let mut due = self.due_at(self.clock.now());
        due.truncate(max);
        Ok(due)
    }

    async fn put_off(&self, push: &PushId, delay: Duration) -> Result<(), Failure> {
        let later = clock::after(self.clock.now(), delay);
        self.with(|inner| {
            if inner.wakes.get(push).is_some_and(|at| *at < later) {
                inner.wake(push, Some(later));
            }
        });
        Ok(())
    }

    async fn ready(&self, longest: Duration) {
        let wait = self.next_due().map_or(longest, |at| clock::until(self.clock.now(), at).min(longest));
        let sleep = self.clock.sleep(wait);
        let changed = self.changed.notified();
        futures_util::pin_mut!(sleep, changed);
        futures_util::future::select(sleep, changed).await;
    }
}
