//! Timers in a map by id and a set by time: the plainest reading of the contract that does not grow slow with the number of
//! timers, with the queue's whole seconds if wanted. For tests and measurements; nothing survives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Armed, Failure, Inbox, Message, Received, Timers};
use crate::clock::{self, Clock, Instant};
use crate::limits;

/// See the module.
pub struct MemoryTimers {
    clock: Arc<dyn Clock>,
    resolution: Duration,
    inner: Mutex<Inner>,
    changed: tokio::sync::Notify,
}

#[derive(Default)]
struct Inner {
    live: BTreeMap<String, Stored>,
    /// The same by time: when each becomes visible, and its id.
    order: BTreeSet<(Instant, String)>,
    poison: Vec<String>,
    counter: u64,
}

struct Stored {
    receipt: String,
    text: String,
    visible: Instant,
    dequeue_count: u32,
}

impl MemoryTimers {
    /// An empty queue whose delays are cut to multiples of `resolution` (above zero).
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, resolution: Duration) -> Self {
        Self { clock, resolution, inner: Mutex::default(), changed: tokio::sync::Notify::new() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn visible(&self, delay: Duration) -> Instant {
        let delay = delay.min(limits::TIMER_DELAY_MAX).as_nanos();
        let cut = delay - delay % self.resolution.as_nanos().max(1);
        clock::after(self.clock.now(), Duration::from_nanos(u64::try_from(cut).unwrap_or(u64::MAX)))
    }

    /// Texts in the poison queue, oldest first.
    #[must_use]
    pub fn poisoned(&self) -> Vec<String> {
        self.with(|inner| inner.poison.clone())
    }

    /// When the next message can be received.
    #[must_use]
    pub fn next_visible(&self) -> Option<Instant> {
        self.with(|inner| inner.order.first().map(|(visible, _)| *visible))
    }
}

impl Inner {
    fn mine(&self, timer: &Armed) -> bool {
        self.live.get(&timer.id).is_some_and(|stored| stored.receipt == timer.receipt)
    }

    /// Moves a message that is there to another instant.
    fn place(&mut self, id: &str, visible: Instant) -> Option<&mut Stored> {
        let stored = self.live.get_mut(id)?;
        self.order.remove(&(stored.visible, id.to_owned()));
        self.order.insert((visible, id.to_owned()));
        stored.visible = visible;
        Some(stored)
    }

    fn receipt(&mut self) -> String {
        self.counter += 1;
        self.counter.to_string()
    }
}

#[async_trait]
impl Timers for MemoryTimers {
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        let visible = self.visible(delay);
        let armed = self.with(|inner| {
            let receipt = inner.receipt();
            let id = format!("m{receipt}");
            let text = message.text();
            inner.order.insert((visible, id.clone()));
            inner.live.insert(id.clone(), Stored { receipt: receipt.clone(), text, visible, dequeue_count: 0 });
            Armed { id, receipt }
        });
        self.changed.notify_one();
        Ok(armed)
    }

    async fn shift(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure> {
        let visible = self.visible(delay);
        let shifted = self.with(|inner| {
            if !inner.mine(timer) {
                return None;
            }
            let receipt = inner.receipt();
            let stored = inner.place(&timer.id, visible)?;
            stored.receipt.clone_from(&receipt);
            stored.text = message.text();
            Some(Armed { id: timer.id.clone(), receipt })
        });
        self.changed.notify_one();
        Ok(shifted)
    }

    async fn disarm(&self, timer: &Armed) -> Result<(), Failure> {
        self.with(|inner| {
            if inner.mine(timer)
                && let Some(stored) = inner.live.remove(&timer.id)
            {
                inner.order.remove(&(stored.visible, timer.id.clone()));
            }
        });
        Ok(())
    }

    async fn set_aside(&self, text: &str) -> Result<(), Failure> {
        self.with(|inner| inner.poison.push(text.to_owned()));
        Ok(())
    }

    async fn revive(&self) -> Result<usize, Failure> {
        let texts = self.with(|inner| std::mem::take(&mut inner.poison));
        let mut revived = 0;
        for text in texts {
            if let Some(message) = Message::parse(&text) {
                self.arm(&message.revived(), Duration::ZERO).await?;
                revived += 1;
            } else {
                self.set_aside(&text).await?;
            }
        }
        Ok(revived)
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl Inbox for MemoryTimers {
    async fn receive(&self, max: usize, lease: Duration) -> Result<Vec<Received>, Failure> {
        let now = self.clock.now();
        let hidden = clock::after(now, lease);
        Ok(self.with(|inner| {
            let visible = inner.order.iter().take_while(|(visible, _)| *visible <= now);
            let due: Vec<String> = visible.take(max).map(|(_, id)| id.clone()).collect();
            due.into_iter()
                .filter_map(|id| {
                    let receipt = inner.receipt();
                    let stored = inner.place(&id, hidden)?;
                    stored.receipt.clone_from(&receipt);
                    stored.dequeue_count += 1;
                    Some(Received {
                        text: Some(stored.text.clone()),
                        dequeue_count: stored.dequeue_count,
                        handle: Armed { id, receipt },
                    })
                })
                .collect()
        }))
    }

    async fn release(&self, received: &Received, delay: Duration) -> Result<(), Failure> {
        let visible = self.visible(delay);
        self.with(|inner| {
            if inner.mine(&received.handle) {
                inner.place(&received.handle.id, visible);
            }
        });
        self.changed.notify_one();
        Ok(())
    }

    async fn poison(&self, received: &Received) -> Result<(), Failure> {
        if let Some(text) = &received.text {
            self.set_aside(text).await?;
        }
        self.disarm(&received.handle).await
    }

    async fn ready(&self, longest: Duration) {
        let wait = self.next_visible().map_or(longest, |at| clock::until(self.clock.now(), at).min(longest));
        let sleep = self.clock.sleep(wait);
        let changed = self.changed.notified();
        futures_util::pin_mut!(sleep, changed);
        futures_util::future::select(sleep, changed).await;
    }
}
