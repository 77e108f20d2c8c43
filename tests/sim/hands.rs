//! The engine's hands: the memory store and a queue of our own behind calls that take time, fail, lose their answers and
//! land after their caller gave up. Each belongs to one life of one process.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use global_webhook::clock::{Clock, Instant};
use global_webhook::limits;
use global_webhook::notify::Notifier;
use global_webhook::push::state::Row;
use global_webhook::push::{AttemptResult, Claim, Key, PushId};
use global_webhook::store::{Expected, Failure, Page, Put, Store, Version, Versioned};
use global_webhook::timers::{Armed, Message, Timers};

use crate::faults::FLIGHT_MAX;
use crate::world::{Event, State, World};

/// One life of one process, as store, queue, receivers and clock see it.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
    pub(crate) life: u32,
}

/// Ready at an instant of the world's clock.
pub(crate) struct Until<'a> {
    pub(crate) world: &'a World,
    pub(crate) at: u64,
    pub(crate) registered: bool,
}

impl Future for Until<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.lock();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        if !self.registered {
            let task = state.polled;
            state.schedule(self.at, Event::Wake(task));
            drop(state);
            self.registered = true;
        }
        Poll::Pending
    }
}

impl Hands {
    fn until(&self, at: u64) -> Until<'_> {
        Until { world: &self.world, at, registered: false }
    }

    fn one_file(&self) -> bool {
        self.world.lock().faults.one_file
    }

    fn reserve(&self, message: &Message, delay: Duration, replaces: Option<Armed>) -> Armed {
        let mut state = self.world.lock();
        let (receipt, visible) = (state.number(), state.visible(delay));
        let id = format!("m{receipt}");
        let reserved = Reserved { receipt, message: message.clone(), visible, replaces };
        state.reserved.insert(id.clone(), reserved);
        Armed { id, receipt: receipt.to_string() }
    }

    /// A call that may go wrong. Its effect is the world's business from the moment it is sent.
    async fn call<R: Send + 'static>(
        &self,
        name: &'static str,
        effect: impl FnOnce(&mut State) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let slot = Arc::new(Mutex::new(None));
        let (answer_at, lost) = {
            let mut state = self.world.lock();
            let faults = state.faults.clone();
            let outage = match name {
                "get" | "latest" if faults.reads_work => 0,
                "get" | "latest" | "put" | "index" | "remove" => faults.store_outage,
                _ => faults.queue_outage,
            };
            let out = (state.now / 1000 % 60) < outage;
            let fails = out || state.rng.chance(faults.fails_before);
            let lost = state.rng.chance(faults.fails_after);
            let longest = state.rng.pick(&[1500, FLIGHT_MAX]);
            let slow = if state.rng.chance(faults.slow) { longest } else { 20 };
            let lands_at = state.now + state.rng.within(1..slow);
            let slow = if state.rng.chance(500) { slow } else { 20 };
            let answer_at = lands_at + state.rng.within(1..slow);
            if state.rng.chance(faults.crash) {
                let now = state.now;
                let at = state.rng.within(now..answer_at + 1);
                state.schedule(at, Event::Crash(self.process));
            }
            if !fails {
                let dies_with_sender = state.rng.chance(500);
                let (process, life, slot) = (self.process, self.life, Arc::clone(&slot));
                let effect = move |state: &mut State| {
                    if !dies_with_sender || state.lives(process, life) {
                        *slot.lock().unwrap() = Some(effect(state));
                        state.trace(|| format!("p{process} {name} lands"));
                    }
                };
                state.schedule(lands_at, Event::Effect(Box::new(effect)));
            }
            (answer_at, lost)
        };
        self.until(answer_at).await;
        let result = slot.lock().unwrap().take();
        result.filter(|_| !lost).ok_or_else(|| Failure::Unavailable(format!("{name}: no answer")))
    }
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Instant {
        self.world.lock().clock_of(self.process)
    }

    async fn sleep(&self, wait: Duration) {
        let millis = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap();
        let at = self.world.lock().now + millis;
        self.until(at).await;
    }
}

#[async_trait]
impl Store for Hands {
    async fn latest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        let key = key.clone();
        self.call("latest", move |state| state.store.latest(&key).now_or_never().unwrap()).await?
    }

    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        let id = id.clone();
        self.call("get", move |state| state.store.get(&id).now_or_never().unwrap()).await?
    }

    async fn index(&self, id: &PushId, opened: Instant) -> Result<(), Failure> {
        let id = id.clone();
        self.call("index", move |state| state.store.index(&id, opened).now_or_never().unwrap()).await?
    }

    async fn put(&self, row: &Row, expected: &Expected) -> Result<Put, Failure> {
        let (row, expected, process, writer) = (row.clone(), expected.clone(), self.process, self.world.lock().polled);
        let reserved = row.timer.as_ref().and_then(|t| self.world.lock().reserved.remove_entry(&t.id));
        let with = reserved.clone();
        let put = self.call("put", move |state| {
            let put = state.store.put(&row, &expected).now_or_never().unwrap()?;
            if let Put::Written(_) = put {
                if let Some((id, reserved)) = with {
                    state.place(id, reserved);
                }
                state.committed(row, process, writer);
            }
            Ok(put)
        });
        let put = put.await?;
        if let (Ok(Put::Conflict), Some((id, reserved))) = (&put, reserved) {
            self.world.lock().reserved.insert(id, reserved);
        }
        put
    }

    async fn remove(&self, row: &Row, version: &Version) -> Result<bool, Failure> {
        let (row, version) = (row.clone(), version.clone());
        self.call("remove", move |state| {
            let removed = state.store.remove(&row, &version).now_or_never().unwrap()?;
            if removed {
                state.checks.removed(&row.id);
            }
            Ok(removed)
        })
        .await?
    }

    async fn list(&self, _: usize, _: Option<&str>) -> Result<Page, Failure> {
        Ok(Page::default())
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A message of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) id: String,
    pub(crate) receipt: u64,
    pub(crate) message: Message,
    pub(crate) visible: u64,
    pub(crate) taken: u32,
}

/// A timer to place with a row.
#[derive(Debug, Clone)]
pub(crate) struct Reserved {
    receipt: u64,
    message: Message,
    visible: u64,
    replaces: Option<Armed>,
}

impl State {
    fn visible(&self, delay: Duration) -> u64 {
        self.now + delay.min(limits::TIMER_DELAY_MAX).as_secs() * 1000
    }

    pub(crate) fn enqueue(&mut self, message: Message, delay: Duration) -> Armed {
        let (receipt, visible) = (self.number(), self.visible(delay));
        let id = format!("m{receipt}");
        self.queued(id.clone(), receipt, message, visible);
        Armed { id, receipt: receipt.to_string() }
    }

    fn queued(&mut self, id: String, receipt: u64, message: Message, visible: u64) {
        self.trace(|| format!("queue {id} visible {visible} {message:?}"));
        self.checks.armed(&message);
        self.queue.push(Queued { id: id.clone(), receipt, message, visible, taken: 0 });
        self.schedule(visible, Event::Due(id));
    }

    fn place(&mut self, id: String, reserved: Reserved) {
        let Reserved { receipt, message, visible, replaces } = reserved;
        if let Some(at) = replaces.and_then(|old| self.find(&old.id, &old.receipt)) {
            self.queue.remove(at);
        }
        self.queued(id, receipt, message, visible);
    }

    pub(crate) fn find(&mut self, id: &str, receipt: &str) -> Option<usize> {
        self.queue.iter().position(|m| m.id == id && m.receipt.to_string() == receipt)
    }
}

#[async_trait]
impl Timers for Hands {
    async fn arm(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        let message = message.clone();
        self.call("arm", move |state| state.enqueue(message, delay)).await
    }

    async fn shift(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure> {
        let (timer, message) = (timer.clone(), message.clone());
        self.call("shift", move |state| {
            let at = state.find(&timer.id, &timer.receipt)?;
            let (receipt, visible) = (state.number(), state.visible(delay));
            let queued = &mut state.queue[at];
            (queued.receipt, queued.visible, queued.message) = (receipt, visible, message);
            state.trace(|| format!("queue {} shifted to {visible}", timer.id));
            state.schedule(visible, Event::Due(timer.id.clone()));
            Some(Armed { id: timer.id, receipt: receipt.to_string() })
        })
        .await
    }

    async fn arm_for_row(&self, message: &Message, delay: Duration) -> Result<Armed, Failure> {
        if !self.one_file() {
            return self.arm(message, delay).await;
        }
        Ok(self.reserve(message, delay, None))
    }

    async fn shift_for_row(&self, timer: &Armed, message: &Message, delay: Duration) -> Result<Option<Armed>, Failure> {
        if !self.one_file() {
            return self.shift(timer, message, delay).await;
        }
        let waiting = self.world.lock().reserved.remove(&timer.id);
        let replaces = waiting.map_or_else(|| Some(timer.clone()), |waiting| waiting.replaces);
        Ok(Some(self.reserve(message, delay, replaces)))
    }

    async fn disarm(&self, timer: &Armed) -> Result<(), Failure> {
        if self.world.lock().reserved.remove(&timer.id).is_some() {
            return Ok(());
        }
        let timer = timer.clone();
        self.call("disarm", move |state| {
            if let Some(at) = state.find(&timer.id, &timer.receipt) {
                state.trace(|| format!("queue {} disarmed", timer.id));
                state.queue.remove(at);
            }
        })
        .await
    }

    async fn set_aside(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// One message at a time, live again before it leaves the poison queue: in both, if the second half fails.
    async fn revive(&self) -> Result<usize, Failure> {
        let mut revived = 0;
        loop {
            let Some(dead) = self.call("peek", |state| state.poison.first().cloned()).await? else {
                return Ok(revived);
            };
            let message = dead.message.clone().revived();
            self.call("arm", move |state| state.enqueue(message, Duration::ZERO)).await?;
            self.call("bury", move |state| state.poison.retain(|m| m.id != dead.id)).await?;
            revived += 1;
        }
    }

    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// An attempt in flight; ends when it is answered or its process dies.
struct Flight<'a>(&'a World, (PushId, String, &'static str));

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.lock().checks.landed(&self.1);
    }
}

#[async_trait]
impl Notifier for Hands {
    async fn attempt(&self, row: &Row, claim: &Claim) -> AttemptResult {
        let flight = (row.id.clone(), claim.target.clone(), claim.notice.word());
        let (answer_at, result) = {
            let mut state = self.world.lock();
            let (now, told) = (state.now, row.notification_id(claim.notice));
            state.trace(|| format!("p{} attempt {} {} {} #{}", self.process, row.id, claim.target, told, claim.claim));
            if let Err(cause) = state.checks.attempt(row, claim, &told, &flight) {
                state.fail(cause);
            }
            let failed = |reason: &str, wait: Option<u64>| AttemptResult::Failed {
                reason: reason.into(),
                retry_after: wait.map(Duration::from_secs),
            };
            let mut answer_at = now + state.rng.within(1..200);
            let mut result = AttemptResult::Confirmed { status: 200 };
            let mistreats = state.faults.receiver;
            if state.rng.chance(mistreats) {
                match state.rng.within(0..6) {
                    0 => result = failed("500", None),
                    1 => result = failed("429", Some(state.rng.pick(&[0, 7, 90, 100_000]))),
                    2 if state.rng.chance(200) => result = AttemptResult::Refused { reason: "410".into() },
                    3 => (answer_at, result) = (now + 10_000, failed("timed out, though received", None)),
                    4 => (answer_at, result) = (now + 10_000, failed("timed out", None)),
                    _ => answer_at = now + state.rng.within(1..10_000),
                }
            }
            let crash = state.faults.crash;
            if state.rng.chance(crash * 3) {
                let at = state.rng.within(now..answer_at + 2);
                state.schedule(at, Event::Crash(self.process));
            }
            (answer_at, result)
        };
        let flight = Flight(&self.world, flight);
        self.until(answer_at).await;
        drop(flight);
        result
    }
}
