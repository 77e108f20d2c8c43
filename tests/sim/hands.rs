//! The hands of one life of one process: calls that take time, fail, lose their answers and land after their caller gave up;
//! a clock that may be wrong; and receivers.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use chrono::SubsecRound as _;
use global_webhook::clock::{Clock, Instant, StorageClock};
use global_webhook::notify::Notifier;
use global_webhook::push::{AttemptResult, Claim, PushId, Row};
use global_webhook::store::Failure;

use crate::faults::FLIGHT_MAX;
use crate::world::{Event, State, World};

/// See the module.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
    pub(crate) life: u32,
    /// Set right by what the storage says.
    pub(crate) clock: Arc<StorageClock>,
}

/// The clock of a process's machine.
pub(crate) struct Machine {
    world: Arc<World>,
    process: usize,
}

/// Ready at an instant of the world's clock.
pub(crate) struct Until<'a> {
    world: &'a World,
    at: u64,
    registered: bool,
}

impl Future for Until<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.lock();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        if !self.registered {
            state.schedule(self.at, Event::Wake(context.waker().clone()));
            drop(state);
            self.registered = true;
        }
        Poll::Pending
    }
}

/// A part of the storage, and whether a call only reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    ReadTable(&'static str),
    WriteTable(&'static str),
    Queue(&'static str),
}

impl Hands {
    pub(crate) fn new(world: &Arc<World>, process: usize, life: u32) -> Self {
        let machine = Machine { world: Arc::clone(world), process };
        let clock = Arc::new(StorageClock::new(Arc::new(machine)));
        let hands = Self { world: Arc::clone(world), process, life, clock };
        // A process asks for its storage before it takes calls.
        hands.observe(hands.clock.base_now());
        hands
    }

    /// The storage's answer says what time it is.
    fn observe(&self, sent: Instant) {
        let date = self.world.lock().instant().trunc_subsecs(0);
        self.clock.observe(date, sent);
    }

    pub(crate) fn until(&self, at: u64) -> Until<'_> {
        Until { world: &self.world, at, registered: false }
    }

    /// A call that may go wrong. Its effect is the world's business from the moment it is sent.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        self.call_unlocked(call, move |world| effect(&mut world.lock())).await
    }

    /// The same, for an effect that asks for the time.
    pub(crate) async fn call_unlocked<R: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnOnce(&World) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let (name, table, read) = match call {
            Call::ReadTable(name) => (name, true, true),
            Call::WriteTable(name) => (name, true, false),
            Call::Queue(name) => (name, false, false),
        };
        let slot = Arc::new(Mutex::new(None));
        let sent = self.clock.base_now();
        let (answer_at, lost) = {
            let mut state = self.world.lock();
            let faults = state.faults.clone();
            let fails = faults.out(state.now, table, read) || state.rng.chance(faults.fails_before);
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
                let effect = move |world: &World| {
                    if !dies_with_sender || world.lock().lives(process, life) {
                        *slot.lock().unwrap() = Some(effect(world));
                        world.lock().trace(|| format!("p{process} {name} lands"));
                    }
                };
                state.schedule(lands_at, Event::Effect(Box::new(effect)));
            }
            (answer_at, lost)
        };
        self.until(answer_at).await;
        let result = slot.lock().unwrap().take();
        let result = result.filter(|_| !lost).ok_or_else(|| Failure::Unavailable(format!("{name}: no answer")));
        if result.is_ok() {
            self.observe(sent);
        }
        result
    }
}

#[async_trait]
impl Clock for Machine {
    fn now(&self) -> Instant {
        let state = self.world.lock();
        state.instant() + chrono::Duration::milliseconds(state.processes[self.process].skew)
    }

    async fn sleep(&self, wait: Duration) {
        let millis = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap();
        let at = self.world.lock().now + millis;
        Until { world: &self.world, at, registered: false }.await;
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
            if let Err(cause) = state.check_attempt(self.process, row, claim, &told, &flight) {
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
