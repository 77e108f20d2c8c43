//! Durable timers as visibility-delayed messages of an Azure Storage queue, and the inbox that takes them when they fire.
//!
//! Guarantees
//! - A message lives until it is deleted: every put says so, for the service's default is seven days.
//! - The text is base64, as the Functions host's queue trigger expects.
//! - A delay is cut to whole seconds, so a timer is never late by our doing; it may come up to a second early. It is never
//!   below one second, since a timer could otherwise fire before the row that names it is written.
//! - That an arrival waits on the queue stands in the queue's own metadata, where every process sees it.
//!
//! Races
//! - *The answer to a put is lost.* It is repeated, and two messages are armed, with one ticket. The second finds nothing to do.
//! - *The answer to a move is lost.* The repeat meets a receipt that its own first try replaced: told as "no longer ours",
//!   and the caller arms a new timer. The moved one fires as well and finds another one in charge.
//! - *The queue is deleted while we run.* A put or a receive creates it and goes on.

use std::time::Duration;

use async_trait::async_trait;
use azure_core::request_options::Metadata;
use azure_storage_queues::operations::Message as Taken;
use azure_storage_queues::{PopReceipt, PopReceiptClient, QueueClient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::connection::{self, Connection, FOREVER, unless};
use super::message::Message;
use super::names::Names;
use super::parts::{Failure, Handle, Inbox, Queue, Received};
use crate::clock::Instant;
use crate::limits;

/// The service, for people.
pub(super) const SERVICE: &str = "Queue Storage";

/// Most messages of one receive.
const PAGE_MAX: usize = 32;

/// Name of the queue's metadata that says when an arrival was last put onto it.
const SPILLED: &str = "spilled";

/// See the module.
#[derive(Debug, Clone)]
pub struct TimerQueue {
    connection: Connection,
    live: QueueClient,
    poison: QueueClient,
}

impl TimerQueue {
    /// Timers in the queue of these names. Sends nothing yet.
    #[must_use]
    pub fn new(connection: &Connection, names: &Names) -> Self {
        let service = connection.queues();
        Self {
            connection: connection.clone(),
            live: service.queue_client(&names.queue),
            poison: service.queue_client(&names.poison),
        }
    }

    /// Puts `raw` into `queue`, which is created when it is missing. May put it twice.
    async fn put(&self, queue: &QueueClient, raw: &str, delay: Duration) -> Result<Handle, Failure> {
        let put = || async { queue.put_message(raw).visibility_timeout(delay).ttl(FOREVER).await };
        let message = self.creating(queue, || self.connection.retry(raw, put)).await?.queue_message;
        Ok(Handle { id: message.message_id, receipt: message.pop_receipt })
    }

    /// Makes a call about `queue`, which is created when it is missing.
    async fn creating<T, F>(&self, queue: &QueueClient, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        connection::creating(SERVICE, call, || self.create(queue)).await
    }

    async fn create(&self, queue: &QueueClient) -> Result<(), Failure> {
        self.connection.create(SERVICE, queue.queue_name(), || async { queue.create().await }).await
    }

    /// Up to `max` messages of `queue`, hidden for `lease`; `None` when the queue is missing. Not repeated: a lost answer
    /// hides the messages, and asking again would hide the next ones too.
    async fn take(&self, queue: &QueueClient, max: usize, lease: Duration) -> Result<Option<Vec<Taken>>, Failure> {
        let max = u8::try_from(max.clamp(1, PAGE_MAX)).unwrap_or(1);
        let lease = whole_seconds(lease).max(Duration::from_secs(1));
        let taken = queue.get_messages().number_of_messages(max).visibility_timeout(lease).await;
        Ok(unless(SERVICE, taken, &[404])?.map(|taken| taken.messages))
    }

    /// New text and delay for a message; `None` when it is no longer ours.
    async fn update(
        &self,
        queue: &QueueClient,
        handle: &Handle,
        raw: &str,
        delay: Duration,
    ) -> Result<Option<Handle>, Failure> {
        let message = holder(queue, handle);
        let update =
            self.connection.retry(&handle.receipt, || async { Ok(message.update(raw, delay).await?.pop_receipt) });
        let receipt = unless(SERVICE, update.await, STALE)?;
        Ok(receipt.map(|receipt| Handle { id: handle.id.clone(), receipt }))
    }

    /// Deletes a message; one that is no longer ours is left alone.
    async fn delete(&self, queue: &QueueClient, handle: &Handle) -> Result<(), Failure> {
        let message = holder(queue, handle);
        let delete = self.connection.retry(&handle.receipt, || async { message.delete().await });
        unless(SERVICE, delete.await, STALE).map(drop)
    }
}

fn holder(queue: &QueueClient, handle: &Handle) -> PopReceiptClient {
    queue.pop_receipt_client(PopReceipt::new(handle.id.clone(), handle.receipt.clone()))
}

/// A stale receipt is told as 400, a deleted message or queue as 404.
const STALE: &[u16] = &[400, 404];

fn whole_seconds(delay: Duration) -> Duration {
    Duration::from_secs(delay.clamp(limits::TIMER_DELAY_MIN, limits::TIMER_DELAY_MAX).as_secs())
}

/// The text of a queued message; `None` when it is not base64 of UTF-8.
pub(super) fn decode(raw: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(raw.trim()).ok()?).ok()
}

#[async_trait]
impl Queue for TimerQueue {
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Handle, Failure> {
        self.put(&self.live, &STANDARD.encode(message.text()), whole_seconds(delay)).await
    }

    async fn shift(&self, handle: &Handle, message: &Message, delay: Duration) -> Result<Option<Handle>, Failure> {
        self.update(&self.live, handle, &STANDARD.encode(message.text()), whole_seconds(delay)).await
    }

    async fn disarm(&self, handle: &Handle) -> Result<(), Failure> {
        self.delete(&self.live, handle).await
    }

    async fn set_aside(&self, text: &str) -> Result<(), Failure> {
        self.put(&self.poison, &STANDARD.encode(text), Duration::ZERO).await.map(|_| ())
    }

    async fn note_spill(&self, now: Instant) -> Result<(), Failure> {
        let note = || {
            let mut metadata = Metadata::new();
            metadata.insert(SPILLED, now.timestamp_millis().to_string());
            async { self.live.set_metadata(metadata).await }
        };
        self.creating(&self.live, || self.connection.retry(SPILLED, note)).await.map(drop)
    }

    async fn last_spill(&self) -> Result<Option<Instant>, Failure> {
        let read = self.connection.retry(SPILLED, || async { self.live.get_metadata().await });
        Ok(unless(SERVICE, read.await, &[404])?.and_then(|answer| {
            let millis = std::str::from_utf8(answer.metadata.get(SPILLED)?.as_ref()).ok()?.parse().ok()?;
            Instant::from_timestamp_millis(millis)
        }))
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let probe = || async { self.live.get_metadata().await };
        self.creating(&self.live, || self.connection.retry(SPILLED, probe)).await.map(drop)
    }
}

#[async_trait]
impl Inbox for TimerQueue {
    async fn receive(&self, max: usize, lease: Duration) -> Result<Vec<Received>, Failure> {
        let received = |taken: Taken| Received {
            handle: Handle { id: taken.message_id, receipt: taken.pop_receipt },
            text: decode(&taken.message_text),
            raw: taken.message_text,
            dequeue_count: u32::try_from(taken.dequeue_count).unwrap_or(u32::MAX),
        };
        match self.take(&self.live, max, lease).await? {
            Some(taken) => Ok(taken.into_iter().map(received).collect()),
            None => self.create(&self.live).await.map(|()| vec![]),
        }
    }

    async fn release(&self, received: &Received, delay: Duration) -> Result<(), Failure> {
        self.update(&self.live, &received.handle, &received.raw, whole_seconds(delay)).await.map(drop)
    }

    async fn poison(&self, received: &Received) -> Result<(), Failure> {
        self.put(&self.poison, &received.raw, Duration::ZERO).await?;
        self.delete(&self.live, &received.handle).await
    }
}
