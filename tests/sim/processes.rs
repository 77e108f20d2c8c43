//! Processes that die and come back, the registry that calls them, the Functions host that hands out fired messages, and
//! operators.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use global_webhook::clock::{self, Clock as _, Instant};
use global_webhook::engine::{Accepted, Engine, Job};
use global_webhook::limits;
use global_webhook::push::{Arrival, Input, Key, PushId};
use global_webhook::store::azure::AzureStore;
use global_webhook::store::azure::fired::{Core, FOREIGN};
use global_webhook::store::azure::message::Message;
use global_webhook::store::{Applied, Decide, Failure, Removed, Store};

use crate::hands::Hands;
use crate::one_file::OneFile;
use crate::world::{Event, Operation, World};

/// How long the host hides a message it handed out, in milliseconds.
const HOST_LEASE: u64 = 60_000;

/// One process, whichever life of it.
pub(crate) struct Process {
    pub(crate) alive: bool,
    pub(crate) life: u32,
    /// What its machine's clock is ahead of the true time, in milliseconds.
    pub(crate) skew: i64,
    pub(crate) app: String,
}

/// One life of a process.
#[derive(Clone)]
pub(crate) struct Running {
    hands: Hands,
    engine: Arc<Engine>,
    azure: Option<Arc<AzureStore>>,
}

struct Fired<'a> {
    running: &'a Running,
    began: Instant,
}

#[async_trait]
impl Core for Fired<'_> {
    fn look(&self) -> Arc<dyn Decide> {
        self.running.engine.looking()
    }

    fn looked(&self, push: &PushId, applied: Applied) {
        self.running.deliver_all(self.running.engine.looked(push, applied, self.began).jobs);
    }

    async fn arrived(&self, arrival: Arrival) -> Result<(), Failure> {
        let done = self.running.engine.arrive_late(arrival.clone()).await?;
        self.running.hands.world.lock().applied(&arrival, &done.did, done.row.as_deref());
        self.running.deliver_all(done.jobs);
        Ok(())
    }

    fn old(&self, now: Instant) -> Option<(Instant, Arc<dyn Decide>)> {
        self.running.engine.old(now)
    }

    fn registry(&self) -> Option<&str> {
        None
    }
}

impl Running {
    fn deliver_all(&self, jobs: Vec<Job>) {
        for job in jobs {
            let wait = {
                let mut state = self.hands.world.lock();
                let tardy = state.faults.tardy;
                if state.rng.chance(tardy) { state.rng.within(0..40_000) } else { state.rng.within(0..5) }
            };
            let this = self.clone();
            self.hands.world.spawn(&self.hands, false, async move {
                this.hands.clock.sleep(Duration::from_millis(wait)).await;
                this.engine.deliver(job).await;
            });
        }
    }
}

impl World {
    /// Starts a process in its present life.
    pub(crate) fn start(self: &Arc<Self>, process: usize) -> Running {
        let (life, app, policy, retention, one_file, seed) = {
            let mut state = self.lock();
            let (life, app) = (state.processes[process].life, state.processes[process].app.clone());
            (life, app, state.policy.clone(), state.retention, state.faults.one_file, state.number() << 32)
        };
        let hands = Hands::new(self, process, life);
        let (store, azure): (Arc<dyn Store>, _) = if one_file {
            (Arc::new(OneFile(hands.clone())), None)
        } else {
            let (rows, queue) = (Arc::new(hands.clone()), Arc::new(hands.clone()));
            let azure = Arc::new(AzureStore::new(rows, queue, hands.clock.clone(), app, seed));
            (Arc::clone(&azure) as _, Some(azure))
        };
        let engine = Engine::new(policy, store, Arc::new(hands.clone()), hands.clock.clone()).keeping(retention);
        let engine = Arc::new(engine);
        let running = Running { hands, engine, azure };
        if let Some(azure) = running.azure.clone() {
            self.spawn(&running.hands, true, async move {
                azure.watch_upkeep().await;
            });
        } else {
            let mut state = self.lock();
            state.file_due = None;
            state.schedule_file();
        }
        running
    }

    pub(crate) fn restart(self: &Arc<Self>, process: usize) -> Running {
        {
            let mut state = self.lock();
            state.processes[process].alive = true;
            let wrong = state.faults.wrong_clock;
            // Without a storage whose time counts, nobody can tell that it is wrong.
            if !state.faults.one_file && state.rng.chance(wrong) {
                let hour = state.rng.within(0..7_200_000);
                state.processes[process].skew = i64::try_from(hour).unwrap() - 3_600_000;
            }
            state.trace(|| format!("p{process} is back"));
        }
        self.start(process)
    }

    /// The registry: one attempt, to whichever process is there.
    pub(crate) fn send(self: &Arc<Self>, arrival: &Arrival, services: &[Running]) {
        let Some(process) = self.lock().someone_alive() else { return };
        let running = services[process].clone();
        let received = running.hands.clock.now();
        let arrival = Arrival { received, ..arrival.clone() };
        let sent = {
            let mut state = self.lock();
            state.trace(|| {
                let subject = &arrival.subject;
                format!("p{process} arrival {:?}@{} {} {}", subject.tag, subject.digest, arrival.region, arrival.id)
            });
            state.model.sent(&arrival)
        };
        let world = Arc::clone(self);
        self.spawn(&running.hands.clone(), false, async move {
            let began = world.lock().now;
            let answer = running.engine.arrive(arrival.clone(), None).await;
            {
                let mut state = world.lock();
                let took = state.now - began;
                if took > 4_400 {
                    state.fail(format!("an arrival was answered after {took} ms"));
                }
                state.trace(|| {
                    let word = match &answer {
                        Ok(Accepted::Done(done)) => done.did.word().to_owned(),
                        Ok(Accepted::Spilled(..)) => "spilled".into(),
                        Err(cause) => format!("refused: {cause}"),
                    };
                    format!("p{process} answers {} {} {word}", arrival.region, arrival.id)
                });
            }
            match answer {
                Ok(Accepted::Done(done)) => {
                    world.lock().accepted(&arrival, sent, &done.did, done.row.as_deref());
                    running.deliver_all(done.jobs);
                }
                Ok(Accepted::Spilled(_, rest)) => {
                    world.lock().spilled(&arrival, sent);
                    running.deliver_all(rest.await);
                }
                Err(_) => {}
            }
        });
    }

    /// The Functions host: takes a fired message, calls, deletes it on success and gives it back on failure.
    pub(crate) fn hand_out(self: &Arc<Self>, id: &str, services: &[Running]) {
        let mut state = self.lock();
        let now = state.now;
        let Some(at) = state.queue.iter().position(|m| m.id == id && m.visible <= now) else { return };
        let faults = state.faults.clone();
        let out = faults.out(now, false, false);
        let Some(process) = state.someone_alive().filter(|_| !out && !state.rng.chance(faults.late)) else {
            let later = now + state.rng.within(100..15_000);
            return state.schedule(later, Event::Due(id.to_owned()));
        };
        let receipt = state.number();
        let short = state.rng.chance(faults.short_lease);
        let lease = if short { state.rng.within(0..10_000) } else { HOST_LEASE };
        let queued = &mut state.queue[at];
        (queued.receipt, queued.visible) = (receipt, now + lease);
        let text = queued.message.text();
        state.schedule(now + lease, Event::Due(id.to_owned()));
        state.trace(|| format!("p{process} fires {id}"));
        drop(state);
        let (world, running, id) = (Arc::clone(self), services[process].clone(), id.to_owned());
        let Some(azure) = running.azure.clone() else { return };
        self.spawn(&running.hands.clone(), false, async move {
            let began = world.lock().now;
            let core = Fired { running: &running, began: running.hands.clock.now() };
            let fired =
                clock::within(&*running.hands.clock, limits::TIMER_CALL_BUDGET, azure.fired(&text, &core)).await;
            let mut state = world.lock();
            let now = state.now;
            if now > began + 25_000 {
                state.fail(format!("a fired timer was answered after {} ms", now - began));
            }
            state.trace(|| format!("p{process} fired {id}: {fired:?}"));
            let Some(at) = state.find(&id, &receipt.to_string()) else { return };
            if fired.as_ref().is_some_and(|fired| fired.as_ref().is_ok_and(|word| *word != FOREIGN)) {
                let undeleted = state.faults.undeleted;
                if !state.rng.chance(undeleted) {
                    state.queue.remove(at);
                }
            } else {
                let visible = now + state.rng.within(1..30_000);
                state.queue[at].visible = visible;
                state.schedule(visible, Event::Due(id));
            }
        });
    }

    /// The driver of a store that knows itself what is due.
    pub(crate) fn look_into_file(self: &Arc<Self>, services: &[Running]) {
        let due = {
            let mut state = self.lock();
            let instant = state.instant();
            if state.file_due.is_none_or(|at| at > state.now) {
                return;
            }
            state.file_due = None;
            let due: Vec<PushId> = state.file.due_at(instant);
            if due.is_empty() {
                return state.schedule_file();
            }
            // As long as something is due, somebody looks again.
            let later = state.now + state.rng.within(500..3000);
            state.file_due = Some(later);
            state.schedule(later, Event::FileDue);
            due
        };
        let Some(process) = self.lock().someone_alive() else { return };
        for push in due {
            let running = services[process].clone();
            self.spawn(&running.hands.clone(), false, async move {
                if let Ok(done) = running.engine.apply(&push, Input::Timer).await {
                    running.deliver_all(done.jobs);
                }
            });
        }
    }

    pub(crate) fn operate(self: &Arc<Self>, key: &Key, operation: Operation, services: &[Running]) {
        let mut state = self.lock();
        let Some(id) = state.checks.newest(key) else { return };
        let Some(process) = state.someone_alive() else { return };
        state.model.operated(key, operation);
        state.trace(|| format!("p{process} operator: {operation:?} {id}"));
        drop(state);
        let running = services[process].clone();
        self.spawn(&running.hands.clone(), false, async move {
            let engine = &running.engine;
            let done = match operation {
                Operation::Terminate => engine.apply(&id, Input::Terminate).await,
                Operation::Redeliver => engine.apply(&id, Input::Redeliver(None)).await,
                Operation::Purge => engine.apply(&id, Input::Purge).await,
            };
            running.deliver_all(done.map(|done| done.jobs).unwrap_or_default());
        });
    }
}

impl World {
    /// An operator, or the settings, remove what was opened so long ago, in milliseconds.
    pub(crate) fn remove(self: &Arc<Self>, age: u64, services: &[Running]) {
        let mut state = self.lock();
        let Some(process) = state.someone_alive() else { return };
        let age = Duration::from_millis(age);
        let before = clock::after(state.instant() - age, Duration::from_secs(3));
        state.checks.may_remove(before);
        state.trace(|| format!("p{process} removes what is {age:?} old"));
        drop(state);
        let running = services[process].clone();
        self.spawn(&running.hands.clone(), false, async move {
            let until = running.hands.clock.now() - age;
            while let Ok(Removed { next: Some(_), .. }) = running.engine.remove_before(until).await {}
        });
    }
}

/// Whether a message asks for this push to be looked at.
pub(crate) fn timer_of<'a>(
    message: &'a Message,
    push: &PushId,
) -> Option<&'a global_webhook::store::azure::message::Timer> {
    match message {
        Message::Timer(timer) if timer.push == *push => Some(timer),
        Message::Timer(_) | Message::Spill(_) | Message::Upkeep(_) => None,
    }
}
