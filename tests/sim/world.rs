//! The world around the engine: time, chance, processes that die and come back, the registry that sends, the Functions host
//! that hands out fired messages, and an executor that polls one task at a time in an order the seed decides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use chrono::DateTime;
use global_webhook::clock::{self, Clock, Instant};
use global_webhook::engine::{Arrive, Engine};
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Filter, Policy, Target};
use global_webhook::push::{Arrival, Key, Notice, Region, Subject};
use global_webhook::store::memory::MemoryStore;
use global_webhook::timers::{Message, Timers};

use crate::checks::Checks;
use crate::faults::{Faults, Rng, SKEW_MAX};
use crate::hands::{Hands, Queued, Reserved};
use crate::model::Model;

/// Times a message is handed out before the host sets it aside as poison.
const TRIES_MAX: u32 = 5;
/// How long the host hides a message it handed out, in milliseconds.
const HOST_LEASE: u64 = 60_000;
/// Steps after which a world that still does not rest never will.
const STEPS_MAX: u64 = 400_000;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that happens at an instant.
pub(crate) enum Event {
    Wake(u64),
    Effect(Box<dyn FnOnce(&mut State) + Send>),
    Due(String),
    Crash(usize),
    Restart(usize),
    Arrive(Box<Arrival>),
    Operate(Key, bool),
    Revive,
    Calm,
}

/// When, and in which order among those of the same instant: by chance, then by age.
type Turn = (u64, u64, u64);

pub(crate) struct Process {
    pub(crate) alive: bool,
    pub(crate) life: u32,
    pub(crate) skew: i64,
}

pub(crate) struct State {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) polled: u64,
    /// Tasks that have not ended.
    pub(crate) running: BTreeSet<u64>,
    pub(crate) store: MemoryStore,
    pub(crate) queue: Vec<Queued>,
    /// Timers that the write of their row will place, by id.
    pub(crate) reserved: BTreeMap<String, Reserved>,
    pub(crate) poison: Vec<Queued>,
    pub(crate) checks: Checks,
    pub(crate) model: Model,
    pub(crate) processes: Vec<Process>,
    turns: BinaryHeap<Reverse<Turn>>,
    events: BTreeMap<u64, Event>,
    spawned: Vec<(usize, u32, Task)>,
    numbers: u64,
    pub(crate) calm: Option<u64>,
    failed: Option<String>,
    trace: Option<String>,
}

pub(crate) struct World {
    state: Mutex<State>,
}

/// What a run did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) pushes: u64,
    pub(crate) replicated: u64,
    pub(crate) timed_out: u64,
    pub(crate) recovered: u64,
    pub(crate) confirmed: u64,
    pub(crate) exhausted: u64,
    pub(crate) attempts: u64,
    pub(crate) spilled: u64,
    pub(crate) crashes: u64,
    pub(crate) timers: u64,
    pub(crate) timers_of_one_push: u64,
    pub(crate) timers_alive: usize,
    pub(crate) steps: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.pushes += other.pushes;
        self.replicated += other.replicated;
        self.timed_out += other.timed_out;
        self.recovered += other.recovered;
        self.confirmed += other.confirmed;
        self.exhausted += other.exhausted;
        self.attempts += other.attempts;
        self.spilled += other.spilled;
        self.crashes += other.crashes;
        self.timers += other.timers;
        self.timers_of_one_push = self.timers_of_one_push.max(other.timers_of_one_push);
        self.timers_alive = self.timers_alive.max(other.timers_alive);
        self.steps += other.steps;
    }
}

impl State {
    pub(crate) fn schedule(&mut self, at: u64, event: Event) {
        let (chance, number) = (self.rng.next(), self.number());
        self.turns.push(Reverse((at.max(self.now), chance, number)));
        self.events.insert(number, event);
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The true time, as an instant.
    pub(crate) fn instant(&self) -> Instant {
        DateTime::from_timestamp_millis(1_800_000_000_000 + i64::try_from(self.now).unwrap()).unwrap()
    }

    pub(crate) fn clock_of(&self, process: usize) -> Instant {
        self.instant() + chrono::Duration::milliseconds(self.processes[process].skew)
    }

    pub(crate) fn lives(&self, process: usize, life: u32) -> bool {
        self.processes[process].alive && self.processes[process].life == life
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = line();
            writeln!(trace, "{:>9} {line}", self.now).unwrap();
        }
    }

    pub(crate) fn fail(&mut self, cause: String) {
        self.trace(|| format!("FAILED {cause}"));
        self.failed.get_or_insert(cause);
    }

    fn someone_alive(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.processes.len()).filter(|p| self.processes[*p].alive).collect();
        (!alive.is_empty()).then(|| self.rng.pick(&alive))
    }
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Arc<Self> {
        let mut rng = Rng::new(seed);
        let faults = Faults::draw(&mut rng);
        let skewed = rng.chance(700);
        let skew = |rng: &mut Rng| i64::try_from(rng.within(0..2 * SKEW_MAX.unsigned_abs())).unwrap() - SKEW_MAX;
        let processes = (0..rng.within(1..5).min(3))
            .map(|_| Process { alive: true, life: 0, skew: if skewed { skew(&mut rng) } else { 0 } })
            .collect();
        let policy = policy(&mut rng);
        Arc::new(Self {
            state: Mutex::new(State {
                now: 0,
                rng,
                faults,
                polled: 0,
                running: BTreeSet::new(),
                store: MemoryStore::default(),
                queue: Vec::new(),
                reserved: BTreeMap::new(),
                poison: Vec::new(),
                checks: Checks::default(),
                model: Model::new(policy),
                processes,
                turns: BinaryHeap::new(),
                events: BTreeMap::new(),
                spawned: Vec::new(),
                numbers: 0,
                calm: None,
                failed: None,
                trace: trace.then(String::new),
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn take_trace(&self) -> String {
        self.lock().trace.take().unwrap_or_default()
    }

    /// Runs until nothing is left to happen.
    pub(crate) fn run(self: &Arc<Self>) -> Result<Report, String> {
        self.lock().plan();
        let mut tasks: BTreeMap<u64, (usize, u32, Task)> = BTreeMap::new();
        let processes = self.lock().processes.len();
        let mut engines: Vec<Arc<Engine>> = (0..processes).map(|p| self.engine(p)).collect();
        let mut report = Report::default();
        loop {
            let event = {
                let mut state = self.lock();
                if let Some(cause) = state.failed.clone() {
                    state.spawned.clear();
                    return Err(cause);
                }
                let Some(Reverse((at, _, number))) = state.turns.pop() else { break };
                state.now = at;
                state.events.remove(&number).unwrap()
            };
            report.steps += 1;
            if report.steps > STEPS_MAX {
                return Err("the world does not come to rest".into());
            }
            match event {
                Event::Wake(task) => self.poll(task, &mut tasks),
                Event::Effect(effect) => effect(&mut self.lock()),
                Event::Crash(process) => {
                    if self.crash(process) {
                        report.crashes += 1;
                        tasks.retain(|_, (p, _, _)| *p != process);
                        self.lock().running = tasks.keys().copied().collect();
                    }
                }
                Event::Restart(process) => {
                    let mut state = self.lock();
                    state.processes[process].alive = true;
                    state.trace(|| format!("p{process} is back"));
                    drop(state);
                    engines[process] = self.engine(process);
                }
                Event::Due(id) => self.hand_out(&id, &engines),
                Event::Arrive(arrival) => self.send(*arrival, &engines),
                Event::Operate(key, redeliver) => self.operate(&key, redeliver, &engines),
                Event::Revive => self.revive(),
                Event::Calm => {
                    let mut state = self.lock();
                    state.trace(|| "all faults end".into());
                    let one_file = state.faults.one_file;
                    state.faults = Faults { one_file, ..Faults::default() };
                    state.calm = Some(state.now);
                }
            }
            loop {
                let spawned = std::mem::take(&mut self.lock().spawned);
                if spawned.is_empty() {
                    break;
                }
                for task in spawned {
                    let number = self.lock().number();
                    self.lock().running.insert(number);
                    tasks.insert(number, task);
                    self.poll(number, &mut tasks);
                }
            }
            self.lock().check_covered();
        }
        let mut state = self.lock();
        if !tasks.is_empty() {
            return Err("a task waits for nothing".into());
        }
        state.check_at_rest(&mut report)?;
        Ok(report)
    }

    fn engine(self: &Arc<Self>, process: usize) -> Arc<Engine> {
        let (life, policy) = {
            let state = self.lock();
            (state.processes[process].life, state.model.policy.clone())
        };
        let hands = Arc::new(Hands { world: Arc::clone(self), process, life });
        Arc::new(Engine::new(policy, hands.clone(), hands.clone(), hands.clone(), hands))
    }

    fn poll(&self, number: u64, tasks: &mut BTreeMap<u64, (usize, u32, Task)>) {
        let Some((_, _, task)) = tasks.get_mut(&number) else { return };
        self.lock().polled = number;
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            tasks.remove(&number);
            self.lock().running.remove(&number);
        }
    }

    fn crash(&self, process: usize) -> bool {
        let mut state = self.lock();
        if !state.processes[process].alive || state.calm.is_some() {
            return false;
        }
        state.trace(|| format!("p{process} dies"));
        state.processes[process].alive = false;
        state.processes[process].life += 1;
        let back = state.now + state.rng.within(100..20_000);
        state.schedule(back, Event::Restart(process));
        true
    }

    fn spawn(&self, process: usize, life: u32, task: impl Future<Output = ()> + Send + 'static) {
        self.lock().spawned.push((process, life, Box::pin(task)));
    }

    /// The registry: one attempt, to whichever process is there.
    fn send(self: &Arc<Self>, mut arrival: Arrival, engines: &[Arc<Engine>]) {
        let (process, life, sent) = {
            let mut state = self.lock();
            let Some(process) = state.someone_alive() else { return };
            arrival.received = state.clock_of(process);
            let life = state.processes[process].life;
            state.trace(|| {
                format!("p{process} arrival {} {} {}", arrival.subject.repository, arrival.region, arrival.id)
            });
            (process, life, state.model.sent(&arrival))
        };
        let (world, engine) = (Arc::clone(self), Arc::clone(&engines[process]));
        self.spawn(process, life, async move {
            let began = world.lock().now;
            let answer = engine.arrive(&arrival).await;
            let jobs = {
                let mut state = world.lock();
                state.trace(|| {
                    format!("p{process} answers {} {} {}", arrival.subject.repository, arrival.region, word(&answer))
                });
                let took = state.now - began;
                if took > 1800 {
                    state.fail(format!("an arrival was answered after {took} ms"));
                }
                match answer {
                    Ok(Arrive::Done(done)) => {
                        state.accepted(&arrival, sent, &done);
                        done.jobs
                    }
                    Ok(Arrive::Spilled(_)) => {
                        state.spilled(&arrival, sent);
                        Vec::new()
                    }
                    Err(_) => Vec::new(),
                }
            };
            world.deliver_all(process, life, &engine, jobs);
        });
    }

    fn deliver_all(
        self: &Arc<Self>,
        process: usize,
        life: u32,
        engine: &Arc<Engine>,
        jobs: Vec<global_webhook::engine::Job>,
    ) {
        for job in jobs {
            let (world, engine) = (Arc::clone(self), Arc::clone(engine));
            let wait = {
                let mut state = self.lock();
                let tardy = state.faults.tardy;
                if state.rng.chance(tardy) { state.rng.within(0..40_000) } else { state.rng.within(0..5) }
            };
            self.spawn(process, life, async move {
                Hands { world, process, life }.sleep(Duration::from_millis(wait)).await;
                engine.deliver(job).await;
            });
        }
    }

    /// The Functions host: takes a fired message, calls, deletes it on success and gives it back on failure.
    fn hand_out(self: &Arc<Self>, id: &str, engines: &[Arc<Engine>]) {
        let mut state = self.lock();
        let now = state.now;
        let Some(at) = state.queue.iter().position(|m| m.id == id && m.visible <= now) else { return };
        let faults = state.faults.clone();
        let out = (now / 1000 % 60) < faults.queue_outage;
        let Some(process) = state.someone_alive().filter(|_| !out && !state.rng.chance(faults.late)) else {
            let later = now + state.rng.within(100..15_000);
            return state.schedule(later, Event::Due(id.to_owned()));
        };
        let receipt = state.number();
        let short = state.rng.chance(faults.short_lease);
        let lease = if short { state.rng.within(0..10_000) } else { HOST_LEASE };
        let calm = state.calm.is_some();
        let queued = &mut state.queue[at];
        queued.taken += 1;
        if queued.taken > TRIES_MAX && !calm {
            let dead = state.queue.remove(at);
            state.trace(|| format!("queue {id} is poison"));
            return state.poison.push(dead);
        }
        (queued.receipt, queued.visible) = (receipt, now + lease);
        let message = queued.message.clone();
        state.schedule(now + lease, Event::Due(id.to_owned()));
        state.trace(|| format!("p{process} fires {id}"));
        let named = !state.rng.chance(faults.nameless);
        let life = state.processes[process].life;
        drop(state);
        let (world, engine, id) = (Arc::clone(self), Arc::clone(&engines[process]), id.to_owned());
        self.spawn(process, life, async move {
            let began = world.lock().now;
            let done = engine.fire(&message, Some(id.as_str()).filter(|_| named)).await;
            let mut state = world.lock();
            let now = state.now;
            if now > began + 25_000 {
                state.fail(format!("a fired timer was answered after {} ms", now - began));
            }
            state.trace(|| format!("p{process} fired {id}: {}", done.as_ref().map_or("failed", |d| d.what.word())));
            let at = state.find(&id, &receipt.to_string());
            match done {
                Ok(done) => {
                    if let Message::Spill(arrival) = &message {
                        state.applied(arrival, &done);
                    }
                    let faults = state.faults.undeleted;
                    if let Some(at) = at.filter(|_| !state.rng.chance(faults)) {
                        state.queue.remove(at);
                    }
                    drop(state);
                    world.deliver_all(process, life, &engine, done.jobs);
                }
                Err(_) => {
                    if let Some(at) = at {
                        let visible = now + state.rng.within(1..30_000);
                        state.queue[at].visible = visible;
                        state.schedule(visible, Event::Due(id));
                    }
                }
            }
        });
    }

    fn operate(self: &Arc<Self>, key: &Key, redeliver: bool, engines: &[Arc<Engine>]) {
        let mut state = self.lock();
        let Some(id) = state.checks.newest(key) else { return };
        let Some(process) = state.someone_alive() else { return };
        let life = state.processes[process].life;
        state.trace(|| format!("p{process} operator, redeliver {redeliver}: {id}"));
        drop(state);
        let (world, engine) = (Arc::clone(self), Arc::clone(&engines[process]));
        self.spawn(process, life, async move {
            let done = if redeliver { engine.redeliver(&id, None).await } else { engine.terminate(&id).await };
            world.deliver_all(process, life, &engine, done.map(|d| d.jobs).unwrap_or_default());
        });
    }

    fn revive(self: &Arc<Self>) {
        let mut state = self.lock();
        let now = state.now;
        if state.calm.is_none() || !state.poison.is_empty() {
            state.schedule(now + 60_000, Event::Revive);
        }
        let Some(process) = state.someone_alive().filter(|_| !state.poison.is_empty()) else { return };
        let life = state.processes[process].life;
        drop(state);
        let hands = Hands { world: Arc::clone(self), process, life };
        self.spawn(process, life, async move {
            let _ = hands.revive().await;
        });
    }
}

fn word(answer: &Result<Arrive, global_webhook::store::Failure>) -> String {
    match answer {
        Ok(Arrive::Done(done)) => done.what.word().into(),
        Ok(Arrive::Spilled(_)) => "spilled".into(),
        Err(cause) => format!("refused: {cause}"),
    }
}

fn policy(rng: &mut Rng) -> Policy {
    let regions = ["east", "north", "west"][..rng.pick(&[1, 2, 2, 3, 3])].iter().map(|r| Region::parse(r).unwrap());
    let all = [Notice::Replicated, Notice::TimedOut, Notice::Recovered];
    let targets = (0..rng.within(0..4)).map(|n| Target {
        name: format!("t{n}"),
        notices: if rng.chance(700) { all.into() } else { vec![rng.pick(&all)] },
        filter: Filter::default(),
    });
    let targets = targets.collect();
    let timeout = Duration::from_secs(rng.pick(&[1, 2, 3, 5, 30, 120, 600, 8 * 86_400, 20 * 86_400]));
    let waits = rng.within(0..5);
    Policy {
        regions: regions.collect(),
        timeout,
        correlation: if rng.chance(250) { Correlation::Id } else { Correlation::Content },
        rules: Vec::new(),
        targets,
        schedule: (0..waits).map(|_| Duration::from_secs(rng.pick(&[1, 1, 2, 5, 30, 120, 3000]))).collect(),
    }
}

impl State {
    /// What the registry and the operator will do, and when the faults end.
    fn plan(&mut self) {
        let policy = self.model.policy.clone();
        let timeout = u64::try_from(policy.timeout.as_millis()).unwrap();
        let spread = (timeout + timeout / 3).min(200_000);
        let mut end = 1;
        for push in 0..self.rng.within(1..5) {
            let same_ids = policy.correlation == Correlation::Id || self.rng.chance(500);
            let mut base = self.rng.within(0..60_000);
            let repeated = policy.correlation == Correlation::Content && self.rng.chance(300);
            let rounds = if repeated { self.rng.within(2..4) } else { 1 };
            let mut key = None;
            for round in 0..rounds {
                for (n, region) in policy.regions.iter().enumerate() {
                    let id = if same_ids { format!("{push}.{round}") } else { format!("{push}.{round}.{n}") };
                    let subject = Subject {
                        registry: "r".into(),
                        repository: format!("p{push}"),
                        tag: None,
                        digest: "d".into(),
                        action: "push".into(),
                    };
                    let arrival = Arrival {
                        region: region.clone(),
                        received: clock::Instant::UNIX_EPOCH,
                        id,
                        subject,
                        payload: "{}".into(),
                    };
                    key = Some(arrival.key(policy.correlation));
                    let times = if self.rng.chance(100) { 0 } else { 1 + u64::from(self.rng.chance(150)) };
                    for _ in 0..times {
                        let spread = if self.rng.chance(300) { 50 } else { spread };
                        let at = base + self.rng.within(0..spread);
                        end = end.max(at);
                        self.schedule(at, Event::Arrive(Box::new(arrival.clone())));
                    }
                }
                base += self.rng.within(5000..300_000);
            }
            for redeliver in [false, true] {
                if self.rng.chance(60) {
                    let at = self.rng.within(0..300_000);
                    if let Some(key) = key.clone() {
                        self.model.operated(&key, redeliver);
                        self.schedule(at, Event::Operate(key, redeliver));
                    }
                }
            }
        }
        let longest = if self.rng.chance(50) { 1_200_000 } else { 200_000 };
        let calm = self.rng.within(end / 2..end + longest);
        self.schedule(calm, Event::Calm);
        self.schedule(60_000, Event::Revive);
    }
}
