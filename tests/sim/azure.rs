//! A table and a queue that fail in every way that their contracts allow, under the real Azure side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use global_webhook::clock::Instant;
use global_webhook::limits;
use global_webhook::push::{Key, PushId, Row, Subject};
use global_webhook::store::Failure;
use global_webhook::store::azure::message::Message;
use global_webhook::store::azure::parts::{
    Entry, Expected, Handle, Opening, Put, Queue, Record, Rows, Span, Version, Versioned,
};

use crate::hands::{Call, Hands};
use crate::world::{Event, State};

/// What the table holds.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) records: BTreeMap<PushId, (Arc<Record>, u64)>,
    pub(crate) index: BTreeSet<Entry>,
    notes: BTreeMap<String, (String, u64)>,
}

/// A message of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) id: String,
    pub(crate) receipt: u64,
    pub(crate) message: Message,
    pub(crate) visible: u64,
}

impl Table {
    fn versioned(&self, id: &PushId) -> Option<Versioned> {
        let (record, version) = self.records.get(id)?;
        Some(Versioned { record: Arc::clone(record), version: Version(version.to_string()) })
    }

    fn fits(stored: Option<u64>, expected: &Expected) -> bool {
        match (expected, stored) {
            (Expected::Absent, None) => true,
            (Expected::Version(Version(version)), Some(stored)) => *version == stored.to_string(),
            (Expected::Absent, Some(_)) | (Expected::Version(_), None) => false,
        }
    }
}

impl Hands {
    /// What is left to say of a write when its answer was lost and it was asked for again.
    fn asked_again(
        &self,
        put: Result<Put, Failure>,
        version: impl Fn(&State) -> Option<u64>,
        ours: u64,
    ) -> Result<Put, Failure> {
        let mut state = self.world.lock();
        let again = state.rng.chance(500);
        match put {
            Err(cause) if !again || state.faults.out(state.now, true, false) => Err(cause),
            Err(_) if version(&state) == Some(ours) => Ok(Put::Written(Version(ours.to_string()))),
            Err(cause) if version(&state).is_none() => Err(cause),
            Err(_) => Ok(Put::InDoubt),
            Ok(put) => Ok(put),
        }
    }
}

#[async_trait]
impl Rows for Hands {
    async fn newest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        let key = key.clone();
        self.call(Call::ReadTable("newest"), move |state| {
            let last = PushId { key: key.clone(), round: u32::MAX };
            let newest = state.table.records.range(PushId { key, round: 0 }..=last).next_back();
            newest.map(|(id, _)| id.clone()).and_then(|id| state.table.versioned(&id))
        })
        .await
    }

    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        let id = id.clone();
        self.call(Call::ReadTable("get"), move |state| state.table.versioned(&id)).await
    }

    async fn moved(&self, row: &Row, (after, before): (Instant, Instant)) -> Result<Option<Instant>, Failure> {
        let row = row.clone();
        self.call(Call::ReadTable("moved"), move |state| {
            let others = state.table.records.values().map(|(record, _)| &record.row);
            let others =
                others.filter(|o| o.id.key.place() == row.id.key.place() && o.subject.digest != row.subject.digest);
            others.map(|o| o.opened).filter(|opened| after < *opened && *opened < before).max()
        })
        .await
    }

    async fn put(&self, record: &Record, expected: &Expected) -> Result<Put, Failure> {
        let (id, process, writer) = (record.row.id.clone(), self.process, self.world.lock().polled);
        let (record, expected, ours) = (Arc::new(record.clone()), expected.clone(), self.world.lock().number());
        let put = self.call(Call::WriteTable("put"), move |state| {
            let stored = state.table.records.get(&record.row.id).map(|(_, version)| *version);
            if !Table::fits(stored, &expected) {
                return Put::Conflict;
            }
            state.table.records.insert(record.row.id.clone(), (Arc::clone(&record), ours));
            state.committed(&record.row, process, writer, Some(&record));
            Put::Written(Version(ours.to_string()))
        });
        let put = put.await;
        self.asked_again(put, |state| state.table.records.get(&id).map(|(_, version)| *version), ours)
    }

    async fn remove(&self, id: &PushId, version: &Version) -> Result<bool, Failure> {
        let (id, expected) = (id.clone(), Expected::Version(version.clone()));
        self.call(Call::WriteTable("remove"), move |state| {
            let stored = state.table.records.get(&id).map(|(_, version)| *version);
            let fits = Table::fits(stored, &expected);
            if fits {
                state.table.records.remove(&id);
                state.removed(&id);
            }
            fits
        })
        .await
    }

    async fn index(&self, entry: &Entry, _: Option<&Subject>) -> Result<(), Failure> {
        let entry = entry.clone();
        self.call(Call::WriteTable("index"), move |state| {
            state.table.index.insert(entry);
        })
        .await
    }

    async fn unindex(&self, entries: &[Entry]) -> Result<(), Failure> {
        for entry in entries {
            let entry = entry.clone();
            // One that fails leaves the rest.
            self.call(Call::WriteTable("unindex"), move |state| state.table.index.remove(&entry)).await?;
        }
        Ok(())
    }

    async fn between(&self, (from, to): (Instant, Instant), limit: usize) -> Result<Vec<Entry>, Failure> {
        self.call(Call::ReadTable("between"), move |state| {
            let newest_first = state.table.index.iter().rev();
            newest_first.filter(|entry| from <= entry.at && entry.at < to).take(limit).cloned().collect()
        })
        .await
    }

    async fn entries(&self, limit: usize, cursor: Option<&str>) -> Result<(Vec<Entry>, Option<String>), Failure> {
        let below = cursor.map(|cursor| {
            let (millis, push) = cursor.split_once(' ').unwrap();
            Entry { at: Instant::from_timestamp_millis(millis.parse().unwrap()).unwrap(), push: push.parse().unwrap() }
        });
        // Short pages, so that a walk has several.
        let limit = limit.min(3);
        self.call(Call::ReadTable("entries"), move |state| {
            let older =
                state.table.index.iter().rev().filter(|entry| below.as_ref().is_none_or(|below| *entry < below));
            let mut page: Vec<Entry> = older.take(limit + 1).cloned().collect();
            let more = page.len() > limit;
            page.truncate(limit);
            let last = page.last().filter(|_| more);
            let next = last.map(|entry| format!("{} {}", entry.at.timestamp_millis(), entry.push));
            (page, next)
        })
        .await
    }

    async fn newest_at(&self, _: &str, _: Option<Instant>) -> Result<Option<PushId>, Failure> {
        unreachable!("nobody looks for images in the simulation")
    }

    async fn openings(&self, _: Span, _: usize, _: Option<&str>) -> Result<(Vec<Opening>, Option<String>), Failure> {
        unreachable!("nobody lists in the simulation")
    }

    async fn notes(&self, prefix: &str) -> Result<Vec<(String, String, Version)>, Failure> {
        let prefix = prefix.to_owned();
        self.call(Call::ReadTable("notes"), move |state| {
            let notes = state.table.notes.iter().filter(|(name, _)| name.starts_with(&prefix));
            notes.map(|(name, (text, version))| (name.clone(), text.clone(), Version(version.to_string()))).collect()
        })
        .await
    }

    async fn put_note(&self, name: &str, text: &str, expected: Option<&Expected>) -> Result<Put, Failure> {
        let (name, text, expected) = (name.to_owned(), text.to_owned(), expected.cloned());
        let (ours, key) = (self.world.lock().number(), name.clone());
        let put = self.call(Call::WriteTable("put_note"), move |state| {
            let stored = state.table.notes.get(&name).map(|(_, version)| *version);
            if expected.is_some_and(|expected| !Table::fits(stored, &expected)) {
                return Put::Conflict;
            }
            state.table.notes.insert(name, (text, ours));
            Put::Written(Version(ours.to_string()))
        });
        let put = put.await;
        self.asked_again(put, |state| state.table.notes.get(&key).map(|(_, version)| *version), ours)
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}

impl State {
    fn visible(&self, delay: Duration) -> u64 {
        self.now + delay.clamp(limits::TIMER_DELAY_MIN, limits::TIMER_DELAY_MAX).as_secs() * 1000
    }

    pub(crate) fn enqueue(&mut self, message: &Message, delay: Duration) -> Handle {
        // The answer to the first was lost, and it was put again.
        let doubled = self.faults.doubled;
        let copies = 1 + u64::from(self.rng.chance(doubled));
        let mut handle = Handle { id: String::new(), receipt: String::new() };
        for _ in 0..copies {
            let (receipt, visible) = (self.number(), self.visible(delay));
            let id = format!("m{receipt}");
            self.trace(|| format!("queue {id} visible {visible} {message:?}"));
            self.checks.armed(message);
            if let Message::Spill(spill) = message {
                self.model.on_the_queue(&spill.region, spill.received);
            }
            self.queue.push(Queued { id: id.clone(), receipt, message: message.clone(), visible });
            self.schedule(visible, Event::Due(id.clone()));
            handle = Handle { id, receipt: receipt.to_string() };
        }
        handle
    }

    pub(crate) fn find(&self, id: &str, receipt: &str) -> Option<usize> {
        self.queue.iter().position(|m| m.id == id && m.receipt.to_string() == receipt)
    }

    /// Somebody clears the queue; what it held of arrivals would be lost, which nobody can make good.
    pub(crate) fn clear_queue(&mut self) {
        self.trace(|| "the queue is cleared".into());
        self.queue.retain(|queued| matches!(queued.message, Message::Spill(_)));
        self.checks.cleared += 1;
    }
}

#[async_trait]
impl Queue for Hands {
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Handle, Failure> {
        let message = message.clone();
        self.call(Call::Queue("arm"), move |state| state.enqueue(&message, delay)).await
    }

    async fn shift(&self, handle: &Handle, message: &Message, delay: Duration) -> Result<Option<Handle>, Failure> {
        let (handle, message) = (handle.clone(), message.clone());
        self.call(Call::Queue("shift"), move |state| {
            let at = state.find(&handle.id, &handle.receipt)?;
            let (receipt, visible) = (state.number(), state.visible(delay));
            let queued = &mut state.queue[at];
            (queued.receipt, queued.visible, queued.message) = (receipt, visible, message);
            state.trace(|| format!("queue {} shifted to {visible}", handle.id));
            state.schedule(visible, Event::Due(handle.id.clone()));
            Some(Handle { id: handle.id, receipt: receipt.to_string() })
        })
        .await
    }

    async fn disarm(&self, handle: &Handle) -> Result<(), Failure> {
        let handle = handle.clone();
        self.call(Call::Queue("disarm"), move |state| {
            if let Some(at) = state.find(&handle.id, &handle.receipt) {
                state.trace(|| format!("queue {} disarmed", handle.id));
                state.queue.remove(at);
            }
        })
        .await
    }

    async fn set_aside(&self, text: &str) -> Result<(), Failure> {
        let text = text.to_owned();
        self.call(Call::Queue("set_aside"), move |state| state.fail(format!("set aside: {text}"))).await
    }

    async fn note_spill(&self, now: Instant) -> Result<(), Failure> {
        let mut noted = Ok(());
        for _ in 0..3 {
            noted = self.call(Call::Queue("note_spill"), move |state| state.spill_noted = Some(now)).await;
            if noted.is_ok() {
                return noted;
            }
        }
        // The service says so in its log: a push may time out before what waits there is applied.
        self.world.lock().unnoted = true;
        noted
    }

    async fn last_spill(&self) -> Result<Option<Instant>, Failure> {
        self.call(Call::Queue("last_spill"), |state| state.spill_noted).await
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}
