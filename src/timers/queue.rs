//! Durable timers as visibility-delayed messages of an Azure Storage queue, and the inbox that takes them when they fire.
//!
//! Guarantees
//! - A message lives until it is deleted: every put says so, for the service's default is seven days.
//! - The text is base64, as the Functions host's queue trigger expects.
//! - A delay is cut to whole seconds, so a timer is never late by our doing; it may come up to a second early.
//!
//! Races handled
//! - The answer to a put is lost: it is repeated, and two messages are armed. The second one finds nothing to do.
//! - The answer to a move is lost and the repeat meets a receipt that its own first try replaced: told as "no longer ours",
//!   and the caller arms a new timer. The moved one fires as well and finds nothing to do.
//! - The queue is deleted while we run: a put or a receive creates it and goes on.
//! - Two processes revive at once: a message taken by one is hidden from the other; one that shows up again too soon is
//!   revived twice, which is harmless.

mod known;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_storage_queues::operations::Message as Taken;
use azure_storage_queues::{PopReceipt, PopReceiptClient, QueueClient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;

use self::known::Known;
use super::{Armed, Failure, Inbox, Message, Received, Timers};
use crate::limits;
use crate::store::azure::{self, Connection, FOREVER, status};

/// Name of the timer queue in the storage account.
pub const QUEUE: &str = "global-webhook-timers";

/// Where messages go that nobody can handle; the Functions host makes the same name out of [`QUEUE`].
pub const POISON_QUEUE: &str = "global-webhook-timers-poison";

/// Most messages of one receive.
const PAGE_MAX: usize = 32;

/// Most pages one revival looks at; with full pages that is 1024 messages.
const REVIVE_PAGES_MAX: usize = 32;

/// How long a revival hides what it takes: many times what a page takes, and short enough that what it could not give back
/// is soon where an operator can see it.
const REVIVE_LEASE: Duration = Duration::from_secs(120);

/// Texts kept of messages that are not in the queue's encoding, until they are given back or set aside.
const STRANGERS_MAX: usize = 128;

/// See the module.
#[derive(Debug, Clone)]
pub struct QueueTimers {
    connection: Connection,
    live: QueueClient,
    poison: QueueClient,
    /// Id and raw text of received messages that [`Received`] cannot carry, oldest first.
    strangers: Arc<Mutex<VecDeque<(String, String)>>>,
    known: Arc<Known>,
}

impl QueueTimers {
    /// Timers in the queue [`QUEUE`] of an account. Sends nothing yet.
    #[must_use]
    pub fn new(connection: &Connection) -> Self {
        let service = connection.queues();
        Self {
            connection: connection.clone(),
            live: service.queue_client(QUEUE),
            poison: service.queue_client(POISON_QUEUE),
            strangers: Arc::default(),
            known: Arc::default(),
        }
    }

    /// Puts `raw` into `queue`, which is created when it is missing. May put it twice.
    async fn put(&self, queue: &QueueClient, raw: &str, delay: Duration) -> Result<Armed, Failure> {
        let mut created = false;
        loop {
            let put = self.connection.retry(raw, || async {
                let put = queue.put_message(raw).visibility_timeout(whole_seconds(delay)).ttl(FOREVER);
                Ok(put.await?.queue_message)
            });
            match put.await {
                Ok(message) => return Ok(Armed { id: message.message_id, receipt: message.pop_receipt }),
                Err(error) if status(&error) == Some(404) && !created => {
                    created = true;
                    self.create(queue).await?;
                }
                Err(error) => return Err(failure(&error)),
            }
        }
    }

    /// Creates a queue. One that exists, or is still being deleted, is no error: the next request tells them apart.
    async fn create(&self, queue: &QueueClient) -> Result<(), Failure> {
        match self.connection.retry(queue.queue_name(), || async { queue.create().await }).await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(409) => Ok(()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Up to `max` messages of `queue`, hidden for `lease`; `None` when the queue is missing. Not repeated: a lost answer
    /// hides the messages, and asking again would hide the next ones too.
    async fn take(&self, queue: &QueueClient, max: usize, lease: Duration) -> Result<Option<Vec<Taken>>, Failure> {
        let max = u8::try_from(max.clamp(1, PAGE_MAX)).unwrap_or(1);
        let lease = whole_seconds(lease).max(Duration::from_secs(1));
        match queue.get_messages().number_of_messages(max).visibility_timeout(lease).await {
            Ok(answer) => Ok(Some(answer.messages)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(failure(&error)),
        }
    }

    /// New text and delay for a message; `None` when it is no longer ours.
    async fn update(
        &self,
        queue: &QueueClient,
        handle: &Armed,
        raw: &str,
        delay: Duration,
    ) -> Result<Option<Armed>, Failure> {
        let message = holder(queue, handle);
        let update = self
            .connection
            .retry(&handle.receipt, || async { Ok(message.update(raw, whole_seconds(delay)).await?.pop_receipt) });
        match update.await {
            Ok(receipt) => Ok(Some(Armed { id: handle.id.clone(), receipt })),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Deletes a message; one that is no longer ours is left alone.
    async fn delete(&self, queue: &QueueClient, handle: &Armed) -> Result<(), Failure> {
        let message = holder(queue, handle);
        match self.connection.retry(&handle.receipt, || async { message.delete().await }).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// The text of a received message as it is in the queue.
    fn raw(&self, received: &Received) -> Option<String> {
        if let Some(text) = &received.text {
            return Some(STANDARD.encode(text));
        }
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.iter().rev().find(|(id, _)| *id == received.handle.id).map(|(_, raw)| raw.clone())
    }

    fn received(&self, taken: Taken) -> Received {
        let text = decode(&taken.message_text);
        if text.is_none() {
            let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            strangers.retain(|(id, _)| *id != taken.message_id);
            if strangers.len() >= STRANGERS_MAX {
                strangers.pop_front();
            }
            strangers.push_back((taken.message_id.clone(), taken.message_text));
        }
        Received {
            handle: Armed { id: taken.message_id, receipt: taken.pop_receipt },
            text,
            dequeue_count: u32::try_from(taken.dequeue_count).unwrap_or(u32::MAX),
        }
    }
}

fn failure(error: &azure_core::Error) -> Failure {
    azure::failure("Queue Storage", error)
}

fn holder(queue: &QueueClient, handle: &Armed) -> PopReceiptClient {
    queue.pop_receipt_client(PopReceipt::new(handle.id.clone(), handle.receipt.clone()))
}

/// A stale receipt is told as 400, a deleted message or queue as 404.
fn is_gone(error: &azure_core::Error) -> bool {
    matches!(status(error), Some(400 | 404))
}

fn whole_seconds(delay: Duration) -> Duration {
    Duration::from_secs(delay.min(limits::TIMER_DELAY_MAX).as_secs())
}

/// The text of a queued message; `None` when it is not base64 of UTF-8.
fn decode(raw: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(raw.trim()).ok()?).ok()
}

#[async_trait]
impl Timers for QueueTimers {
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        let armed = self.put(&self.live, &STANDARD.encode(message.text()), delay).await?;
        self.known.note(self.connection.clock(), whole_seconds(delay));
        Ok(armed)
    }

    async fn shift(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure> {
        let shifted = self.update(&self.live, timer, &STANDARD.encode(message.text()), delay).await?;
        self.known.note(self.connection.clock(), whole_seconds(delay));
        Ok(shifted)
    }

    async fn disarm(&self, timer: &Armed) -> Result<(), Failure> {
        self.delete(&self.live, timer).await
    }

    async fn set_aside(&self, text: &str) -> Result<(), Failure> {
        self.put(&self.poison, &STANDARD.encode(text), Duration::ZERO).await.map(|_| ())
    }

    async fn revive(&self) -> Result<usize, Failure> {
        let mut revived = 0;
        let mut foreign: Vec<(Armed, String)> = Vec::new();
        for _ in 0..REVIVE_PAGES_MAX {
            let page = self.take(&self.poison, PAGE_MAX, REVIVE_LEASE).await?.unwrap_or_default();
            if page.is_empty() {
                break;
            }
            let mut ours = Vec::new();
            for taken in page {
                let message = decode(&taken.message_text).and_then(|text| Message::parse(&text));
                let handle = Armed { id: taken.message_id, receipt: taken.pop_receipt };
                match message {
                    Some(message) => ours.push((handle, message.revived())),
                    None => foreign.push((handle, taken.message_text)),
                }
            }
            // A page at once: after a long outage there are many, and all of them are overdue.
            let revivals = ours.iter().map(async |(handle, message)| {
                self.arm(message, Duration::ZERO).await?;
                self.delete(&self.poison, handle).await
            });
            revived += try_join_all(revivals).await?.len();
        }
        // Back where an operator can see them; where that fails, the end of the lease does the same.
        for (handle, raw) in foreign {
            if self.update(&self.poison, &handle, &raw, Duration::ZERO).await.is_err() {
                break;
            }
        }
        Ok(revived)
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let mut created = false;
        loop {
            let probe = self.connection.retry(QUEUE, || async { self.live.get_metadata().await });
            match probe.await {
                Ok(_) => return Ok(()),
                Err(error) if status(&error) == Some(404) && !created => {
                    created = true;
                    self.create(&self.live).await?;
                }
                Err(error) => return Err(failure(&error)),
            }
        }
    }
}

#[async_trait]
impl Inbox for QueueTimers {
    async fn receive(&self, max: usize, lease: Duration) -> Result<Vec<Received>, Failure> {
        match self.take(&self.live, max, lease).await? {
            Some(taken) => Ok(taken.into_iter().map(|message| self.received(message)).collect()),
            None => self.create(&self.live).await.map(|()| vec![]),
        }
    }

    async fn release(&self, received: &Received, delay: Duration) -> Result<(), Failure> {
        match self.raw(received) {
            Some(raw) => self.update(&self.live, &received.handle, &raw, delay).await?,
            // The end of its lease gives it back.
            None => return Ok(()),
        };
        self.known.note(self.connection.clock(), whole_seconds(delay));
        Ok(())
    }

    async fn poison(&self, received: &Received) -> Result<(), Failure> {
        let raw = self.raw(received).ok_or_else(|| {
            Failure::Unavailable("the text of a foreign message is not at hand any more; it comes again".into())
        })?;
        self.put(&self.poison, &raw, Duration::ZERO).await?;
        self.delete(&self.live, &received.handle).await
    }

    async fn ready(&self, longest: Duration) {
        self.known.wait(self.connection.clock(), longest).await;
    }
}
