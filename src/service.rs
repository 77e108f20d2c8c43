//! One running service: the engine, and the runtime it acts on.
//!
//! Guarantees: every engine call is a task of its own on the one multi-thread runtime, so a caller that goes away does not
//! cancel it half-way and storage connections are driven by a runtime that never blocks; a panic in it becomes a [`Failure`] and an error line; deliveries start only after the engine's call that owes them has
//! returned, whether or not its caller is still there; `drain` waits for all.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, error, info, warn};

use crate::api::Tested;
use crate::clock::{self, Clock, Instant, SystemClock};
use crate::engine::{Accepted, Done, Engine, Job};
use crate::limits;
use crate::metrics::Metrics;
use crate::notify::client::HttpNotifier;
use crate::otlp::{Exports, Otlp};
use crate::push::{Arrival, Input, PushId};
use crate::store::azure::AzureStore;
use crate::store::azure::fired::Core;
use crate::store::{Applied, Decide, Failure};
use crate::traces::Caller;

/// See the module.
#[derive(Clone)]
pub struct Service {
    engine: Arc<Engine>,
    /// Where timers are messages of a queue.
    azure: Option<Arc<AzureStore>>,
    /// The registry that stands for all webhooks.
    registry: Option<Arc<str>>,
    receivers: Arc<HttpNotifier>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    tasks: TaskTracker,
    reached: Arc<AtomicBool>,
    exports: Option<Arc<Exports>>,
}

/// The service as what fires in the queue sees it.
struct Fired<'a> {
    service: &'a Service,
    began: Instant,
}

#[async_trait]
impl Core for Fired<'_> {
    fn look(&self) -> Arc<dyn Decide> {
        self.service.engine.looking()
    }

    fn looked(&self, push: &PushId, applied: Applied) {
        self.service.start(self.service.engine.looked(push, applied, self.began).jobs);
    }

    async fn arrived(&self, arrival: Arrival) -> Result<(), Failure> {
        let done = self.service.engine.arrive_late(arrival).await?;
        self.service.start(done.jobs);
        Ok(())
    }

    fn old(&self, now: Instant) -> Option<(Instant, Arc<dyn Decide>)> {
        self.service.engine.old(now)
    }

    fn registry(&self) -> Option<&str> {
        self.service.registry.as_deref()
    }
}

impl Service {
    /// A service that runs its calls on `runtime`. `azure` is its store where timers are messages of a queue; `registry` stands
    /// in place of the one that webhooks name; `receivers` are those that the engine tells.
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        azure: Option<Arc<AzureStore>>,
        registry: Option<Arc<str>>,
        receivers: Arc<HttpNotifier>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        Self {
            engine,
            azure,
            registry,
            receivers,
            clock,
            runtime,
            tasks: TaskTracker::new(),
            reached: Arc::default(),
            exports: None,
        }
    }

    /// The same, which sends what it counts and traces by `otlp` until it is drained.
    #[must_use]
    pub(crate) fn exporting(self, otlp: Otlp) -> Self {
        let exports = otlp.start(Arc::clone(&self.engine), &self.runtime);
        Self { exports: Some(Arc::new(exports)), ..self }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.engine.metrics()
    }

    /// Where a caller's own trace is, if steps are traced and its `traceparent` says so.
    #[must_use]
    pub fn caller(&self, traceparent: Option<&str>) -> Option<Caller> {
        traceparent.filter(|_| self.engine.traces()).and_then(Caller::read)
    }

    /// Whether rows and queue were reached since the start.
    #[must_use]
    pub fn has_reached_storage(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// The registry that stands for all webhooks, where one is set.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// Runs `call` with the engine as a task of its own.
    ///
    /// # Errors
    /// What the call fails with; `Corrupt` when it panicked.
    pub async fn run<T, F>(&self, call: impl FnOnce(Arc<Engine>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
        T: Send + 'static,
    {
        // In a box, since the task's wrappers would each copy it.
        let task = Box::pin(call(Arc::clone(&self.engine)).instrument(Span::current()));
        let fault = match self.tasks.spawn_on(task, &self.runtime).await {
            Ok(result) => return result,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => panicked(&*panic),
                Err(cancelled) => cancelled.to_string(),
            },
        };
        error!(fault, "a call ended in a panic; this is a fault of this program, please report it");
        Err(Failure::Corrupt("an internal fault; the log has more".into()))
    }

    /// Takes in a region's webhook and starts the deliveries it owes. `caller` is what [`Service::caller`] says.
    ///
    /// # Errors
    /// The arrival is not on record anywhere.
    pub async fn arrive(&self, arrival: Arrival, caller: Option<Caller>) -> Result<Taken, Failure> {
        let this = self.clone();
        self.run(|engine| async move {
            Ok(match engine.arrive(arrival, caller).await? {
                Accepted::Done(mut done) => {
                    this.start(std::mem::take(&mut done.jobs));
                    Taken::Done(done)
                }
                Accepted::Spilled(key, rest) => {
                    let that = this.clone();
                    this.tasks.spawn_on(async move { that.start(rest.await) }, &this.runtime);
                    Taken::Spilled(key)
                }
            })
        })
        .await
    }

    /// Handles a text of the timer queue. The word says what came of it.
    ///
    /// # Errors
    /// The message must be given back, to come again.
    pub async fn fired(&self, text: String) -> Result<&'static str, Failure> {
        let Some(azure) = self.azure.clone() else {
            return Err(Failure::Corrupt("there is no timer queue in this deployment".into()));
        };
        let this = self.clone();
        self.run(|_| async move {
            let core = Fired { service: &this, began: this.clock.now() };
            clock::within(&*this.clock, limits::TIMER_CALL_BUDGET, azure.fired(&text, &core))
                .await
                .unwrap_or_else(|| Err(Failure::Unavailable("the timer's call takes too long".into())))
        })
        .await
    }

    /// Looks at a push whose time has come, or does to it what an operator wants, and starts the deliveries it owes, in the same
    /// task: a caller that goes away would otherwise leave what it has claimed to the end of the lease.
    ///
    /// # Errors
    /// As for [`Engine::apply`].
    pub async fn apply(&self, id: PushId, input: Input) -> Result<Done, Failure> {
        let this = self.clone();
        self.run(|engine| async move {
            let mut done = engine.apply(&id, input).await?;
            this.start(std::mem::take(&mut done.jobs));
            Ok(done)
        })
        .await
    }

    /// Sends a test to the receiver of that name, or to each, and leaves a line in the log for each. It belongs to no push: nothing
    /// of it is stored, counted, traced or tried again. `None` while another test is under way.
    ///
    /// # Errors
    /// Only when it panicked.
    pub async fn test(&self, target: Option<String>) -> Result<Option<Vec<Tested>>, Failure> {
        let receivers = Arc::clone(&self.receivers);
        self.run(|_| async move {
            let tested = receivers.test(target.as_deref()).await;
            for Tested { target, format, id, confirmed, status, reason, duration_ms } in tested.iter().flatten() {
                if *confirmed {
                    info!(target, format, id, status, duration_ms, "a test was taken by its receiver");
                } else {
                    warn!(target, format, id, reason, duration_ms, "a test was not taken by its receiver");
                }
            }
            Ok(tested)
        })
        .await
    }

    fn start(&self, jobs: Vec<Job>) {
        for job in jobs {
            let engine = Arc::clone(&self.engine);
            let delivery = Box::pin(async move { engine.deliver(job).await });
            self.tasks.spawn_on(delivery.instrument(Span::current()), &self.runtime);
        }
    }

    /// Creates what is missing in the storage, trying until it works, then looks after upkeep and the clock until the process
    /// ends.
    pub fn start_upkeep(&self) {
        let this = self.clone();
        self.runtime.spawn(async move {
            this.clock.sleep(limits::START_DELAY).await;
            let mut pause = Duration::from_millis(250);
            while !this.works().await {
                this.clock.sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
            this.reached.store(true, Ordering::Relaxed);
            info!("rows and queue work");
            match &this.azure {
                Some(azure) => drop(azure.watch_upkeep().await),
                None => this.watch_age().await,
            }
        });
        let this = self.clone();
        self.runtime.spawn(async move { this.watch_clock().await });
    }

    /// Removes what is old, where no upkeep does. Cut off at the end of the process; the next one goes on.
    async fn watch_age(&self) {
        loop {
            let mut rest = Some(Instant::UNIX_EPOCH);
            while let Some(from) = rest {
                rest = self.engine.remove_old(from).await;
            }
            self.clock.sleep(limits::REMOVAL_INTERVAL).await;
        }
    }

    async fn works(&self) -> bool {
        let health = match self.engine.health().await {
            Ok(health) => health,
            Err(cause) => {
                warn!(%cause, "storage does not answer yet; trying again");
                return false;
            }
        };
        for (what, result) in [("rows", &health.rows), ("queue", &health.queue)] {
            match result {
                Ok(()) => {}
                Err(cause @ Failure::Unavailable(_)) => {
                    warn!(what, %cause, "storage does not answer yet; trying again")
                }
                Err(cause @ Failure::Corrupt(_)) => {
                    error!(what, %cause, "storage cannot work like this; trying again until an operator has mended it");
                }
            }
        }
        health.rows.is_ok() && health.queue.is_ok()
    }

    /// Says when somebody has set the machine's clock: this process goes on by its own, the next one will not.
    async fn watch_clock(&self) {
        let mut told = chrono::Duration::zero();
        loop {
            self.clock.sleep(Duration::from_secs(30)).await;
            let by = SystemClock.set_by();
            if (by - told).abs().to_std().unwrap_or_default() > limits::CLOCK_DIFFERENCE_MAX {
                told = by;
                warn!(by_ms = by.num_milliseconds(), "the machine's clock was set; this process counts on from before");
            }
        }
    }

    /// Returns once every call and delivery under way has ended; the caller bounds the wait.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(exports) = &self.exports {
            exports.end().await;
        }
    }
}

/// What became of an arrival that is durable.
pub enum Taken {
    /// It met its row.
    Done(Box<Done>),
    /// It is on the queue and will be applied from there.
    Spilled(crate::push::Key),
}

/// What a panic said.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".into())
}
