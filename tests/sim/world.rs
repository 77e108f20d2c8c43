//! The world: time, chance, what is stored, and an executor that polls one task at a time in an order the seed decides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use chrono::DateTime;
use global_webhook::clock::Instant;
use global_webhook::push::{Arrival, Key, Policy};
use global_webhook::store::azure::message::Message;
use global_webhook::store::memory::MemoryStore;

use crate::azure::{Queued, Table};
use crate::checks::Checks;
use crate::faults::{FLIGHT_MAX, Faults, Rng, SKEW_MAX};
use crate::hands::Hands;
use crate::model::Model;
use crate::plan;
use crate::processes::Process;
use crate::report::Report;

/// Steps after which a world that still does not rest never will.
const STEPS_MAX: u64 = 600_000;

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Terminate,
    Redeliver,
    Purge,
}

/// Something that happens at an instant.
pub(crate) enum Event {
    Wake(Waker),
    Effect(Box<dyn FnOnce(&World) + Send>),
    Due(String),
    FileDue,
    Crash(usize),
    Restart(usize),
    Arrive(Arc<Arrival>),
    Operate(Key, Operation),
    Remove(u64),
    Clear,
    Calm,
}

/// When, and in which order among those of the same instant: by chance, then by age.
type Turn = (u64, u64, u64);

/// What a task belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) process: usize,
    pub(crate) life: u32,
    /// It never ends by itself.
    pub(crate) background: bool,
}

pub(crate) struct State {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) policy: Policy,
    pub(crate) retention: Option<Duration>,
    pub(crate) polled: u64,
    /// Tasks that have not ended.
    pub(crate) running: BTreeSet<u64>,
    pub(crate) table: Table,
    pub(crate) queue: Vec<Queued>,
    pub(crate) spill_noted: Option<Instant>,
    pub(crate) crashes: u64,
    /// That something waits on the queue could not be noted, once at least.
    pub(crate) unnoted: bool,
    pub(crate) file: Arc<MemoryStore>,
    /// When somebody looks into the file next.
    pub(crate) file_due: Option<u64>,
    pub(crate) checks: Checks,
    pub(crate) model: Model,
    pub(crate) processes: Vec<Process>,
    turns: BinaryHeap<Reverse<Turn>>,
    events: BTreeMap<u64, Event>,
    pub(crate) spawned: Vec<(Owner, Task)>,
    numbers: u64,
    pub(crate) calm: Option<u64>,
    /// How long before a decision what it rests on may have been looked at, in milliseconds.
    pub(crate) blind: i64,
    failed: Option<String>,
    trace: Option<String>,
}

pub(crate) struct World {
    state: Mutex<State>,
    woken: Arc<Mutex<Vec<u64>>>,
}

/// Wakes a task that waits for another one.
struct Bell(u64, Arc<Mutex<Vec<u64>>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

/// The clock of the file's own machine, which nobody asks.
struct Nobody;

#[async_trait::async_trait]
impl global_webhook::clock::Clock for Nobody {
    fn now(&self) -> Instant {
        Instant::UNIX_EPOCH
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
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

    /// The virtual clock's milliseconds of an instant.
    pub(crate) fn since_start(at: Instant) -> i64 {
        at.timestamp_millis() - 1_800_000_000_000
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

    pub(crate) fn someone_alive(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.processes.len()).filter(|p| self.processes[*p].alive).collect();
        (!alive.is_empty()).then(|| self.rng.pick(&alive))
    }

    /// When the file's next push is due, somebody looks.
    pub(crate) fn schedule_file(&mut self) {
        if let Some(due) = self.file.next_due() {
            let at = u64::try_from(Self::since_start(due)).unwrap_or(0).max(self.now);
            // What is due already is being looked at, and looked at again when `file_due` comes.
            let sooner = |known: u64| self.now < at && at < known;
            if self.file_due.is_none_or(|known| sooner(known) || known < self.now) {
                self.file_due = Some(at);
                self.schedule(at, Event::FileDue);
            }
        }
    }

    /// Whether nothing is left to happen but upkeep's rounds.
    fn rests(&self, tasks: &BTreeMap<u64, (Owner, Task)>) -> bool {
        self.calm.is_some()
            && self.checks.rests()
            && self.events.values().all(|event| matches!(event, Event::Wake(_) | Event::Due(_) | Event::FileDue))
            && self.queue.iter().all(|queued| matches!(queued.message, Message::Upkeep(_)))
            && tasks.values().all(|(owner, _)| owner.background)
    }
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Arc<Self> {
        let mut rng = Rng::new(seed);
        let faults = Faults::draw(&mut rng);
        let skewed = !faults.none && rng.chance(700);
        let skew = |rng: &mut Rng| i64::try_from(rng.within(0..2 * SKEW_MAX.unsigned_abs())).unwrap() - SKEW_MAX;
        let count = match (faults.one_file, faults.two_apps) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => rng.within(1..5).min(3),
        };
        let processes = (0..count)
            .map(|p| Process {
                alive: true,
                life: 0,
                skew: if skewed { skew(&mut rng) } else { 0 },
                app: if faults.two_apps { format!("app{p}") } else { "app".into() },
            })
            .collect();
        let policy = plan::policy(&mut rng);
        let retention = plan::retention(&mut rng);
        let flight = if faults.slow > 0 { 2 * i64::try_from(FLIGHT_MAX).unwrap() } else { 100 };
        let blind = flight + 2 * SKEW_MAX;
        Arc::new(Self {
            state: Mutex::new(State {
                now: 0,
                model: Model::new(policy.clone()),
                policy,
                retention,
                rng,
                faults,
                polled: 0,
                running: BTreeSet::new(),
                table: Table::default(),
                queue: Vec::new(),
                spill_noted: None,
                crashes: 0,
                unnoted: false,
                file: Arc::new(MemoryStore::new(Arc::new(Nobody))),
                file_due: None,
                checks: Checks::default(),
                processes,
                turns: BinaryHeap::new(),
                events: BTreeMap::new(),
                spawned: Vec::new(),
                numbers: 0,
                calm: None,
                blind,
                failed: None,
                trace: trace.then(String::new),
            }),
            woken: Arc::default(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take_trace(&self) -> String {
        self.lock().trace.take().unwrap_or_default()
    }

    /// Runs until nothing is left to happen.
    pub(crate) fn run(self: &Arc<Self>) -> Result<Report, String> {
        self.lock().plan();
        let mut tasks: BTreeMap<u64, (Owner, Task)> = BTreeMap::new();
        let count = self.lock().processes.len();
        let mut services: Vec<_> = (0..count).map(|p| self.start(p)).collect();
        let mut report = Report::default();
        self.settle(&mut tasks);
        loop {
            let event = {
                let mut state = self.lock();
                if let Some(cause) = state.failed.clone() {
                    state.spawned.clear();
                    return Err(cause);
                }
                if state.rests(&tasks) {
                    break;
                }
                let Some(Reverse((at, _, number))) = state.turns.pop() else {
                    return Err("nothing is left to happen, and yet not all is done".into());
                };
                state.now = at;
                state.events.remove(&number).unwrap()
            };
            report.steps += 1;
            if report.steps > STEPS_MAX {
                return Err("the world does not come to rest".into());
            }
            match event {
                Event::Wake(waker) => waker.wake(),
                Event::Effect(effect) => effect(self),
                Event::Crash(process) => {
                    if self.crash(process) {
                        report.crashes += 1;
                        tasks.retain(|_, (owner, _)| owner.process != process);
                        self.lock().running = tasks.keys().copied().collect();
                    }
                }
                Event::Restart(process) => services[process] = self.restart(process),
                Event::Due(id) => self.hand_out(&id, &services),
                Event::FileDue => self.look_into_file(&services),
                Event::Arrive(arrival) => self.send(&arrival, &services),
                Event::Operate(key, operation) => self.operate(&key, operation, &services),
                Event::Remove(age) => self.remove(age, &services),
                Event::Clear => self.lock().clear_queue(),
                Event::Calm => {
                    let mut state = self.lock();
                    state.trace(|| "all faults end".into());
                    let Faults { one_file, none, two_apps, .. } = state.faults;
                    state.faults = Faults { one_file, none, two_apps, ..Faults::default() };
                    state.calm = Some(state.now);
                }
            }
            self.settle(&mut tasks);
            self.lock().check_covered();
        }
        let mut state = self.lock();
        state.check_at_rest(&mut report)?;
        Ok(report)
    }

    /// Polls what was begun or woken, until nothing is left of it.
    fn settle(&self, tasks: &mut BTreeMap<u64, (Owner, Task)>) {
        loop {
            let spawned = std::mem::take(&mut self.lock().spawned);
            let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
            if spawned.is_empty() && woken.is_empty() {
                break;
            }
            for task in woken {
                self.poll(task, tasks);
            }
            for (owner, task) in spawned {
                if !self.lock().lives(owner.process, owner.life) {
                    continue;
                }
                let number = self.lock().number();
                self.lock().running.insert(number);
                tasks.insert(number, (owner, task));
                self.poll(number, tasks);
            }
        }
    }

    fn poll(&self, number: u64, tasks: &mut BTreeMap<u64, (Owner, Task)>) {
        let Some((_, task)) = tasks.get_mut(&number) else { return };
        self.lock().polled = number;
        let waker = Waker::from(Arc::new(Bell(number, Arc::clone(&self.woken))));
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
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
        state.crashes += 1;
        state.processes[process].alive = false;
        state.processes[process].life += 1;
        let back = state.now + state.rng.within(100..20_000);
        state.schedule(back, Event::Restart(process));
        true
    }

    pub(crate) fn spawn(&self, hands: &Hands, background: bool, task: impl Future<Output = ()> + Send + 'static) {
        let owner = Owner { process: hands.process, life: hands.life, background };
        self.lock().spawned.push((owner, Box::pin(task)));
    }
}
