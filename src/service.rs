//! One running service: the engine, and the runtime it acts on.
//!
//! Guarantees: every engine call that waits for anything goes on as a task of its own on the one multi-thread runtime, so a
//! caller that goes away does not cancel it half-way and storage connections are driven by a runtime that never blocks; a
//! panic in it becomes a [`Failure`] and an error line; deliveries start only after the engine's call that owes them has
//! returned, whether or not its caller is still there; `drain` waits for all.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, error, info, warn};

use crate::clock::Clock;
use crate::engine::{Arrive, Done, Engine, Job};
use crate::limits;
use crate::push::{Arrival, PushId};
use crate::store::Failure;
use crate::timers::{Message, Timers};

/// See the module.
#[derive(Clone)]
pub struct Service {
    engine: Arc<Engine>,
    timers: Arc<dyn Timers>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    tasks: TaskTracker,
}

/// What became of a message of the timer queue.
#[derive(Debug)]
pub enum Handled {
    /// It was ours; the word says what came of it.
    Done(&'static str),
    /// It was not ours and lies in the poison queue now.
    SetAside,
}

impl Service {
    /// A service that runs its calls on `runtime`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, timers: Arc<dyn Timers>, clock: Arc<dyn Clock>, runtime: Handle) -> Self {
        Self { engine, timers, clock, runtime, tasks: TaskTracker::new() }
    }

    /// Runs `call` with the engine: as far as it gets at once here, which spares two changes of thread where the store never
    /// waits, and the rest as a task of its own.
    ///
    /// # Errors
    /// What the call fails with; `Corrupt` when it panicked.
    pub async fn run<T, F>(&self, call: impl FnOnce(Arc<Engine>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
        T: Send + 'static,
    {
        let call = AssertUnwindSafe(call(Arc::clone(&self.engine))).catch_unwind();
        // In a box, since the task's wrappers would each copy it.
        let mut task = Box::pin(call.instrument(Span::current()));
        let begun = {
            // Its timers and connections belong to the runtime that goes on with it. That polls it once more as soon as it
            // has it, so nobody need be woken before.
            let _entered = self.runtime.enter();
            task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        let ended = match begun {
            Poll::Ready(ended) => Ok(ended),
            Poll::Pending => self.tasks.spawn_on(task, &self.runtime).await,
        };
        let fault = match ended {
            Ok(Ok(result)) => return result,
            Ok(Err(panic)) => panicked(&*panic),
            Err(cancelled) => cancelled.to_string(),
        };
        error!(fault, "a call ended in a panic; this is a fault of this program, please report it");
        Err(Failure::Corrupt("an internal fault; the log has more".into()))
    }

    /// Takes in a region's webhook and starts the deliveries it owes.
    ///
    /// # Errors
    /// The arrival is not on record anywhere.
    pub async fn arrive(&self, arrival: Arrival) -> Result<Arrive, Failure> {
        let this = self.clone();
        self.run(|engine| async move {
            let mut arrive = engine.arrive(&arrival).await?;
            if let Arrive::Done(done) = &mut arrive {
                this.start(std::mem::take(&mut done.jobs));
            }
            Ok(arrive)
        })
        .await
    }

    /// Handles a text of the timer queue; `id` is the queue's id of its message, when known.
    ///
    /// # Errors
    /// The message must be given back, to come again.
    pub async fn fired(&self, text: String, id: Option<String>) -> Result<Handled, Failure> {
        let Some(message) = Message::parse(&text) else {
            return self.set_aside(text).await;
        };
        let done = self.operate(|engine| async move { engine.fire(&message, id.as_deref()).await }).await?;
        Ok(Handled::Done(done.what.word()))
    }

    async fn set_aside(&self, text: String) -> Result<Handled, Failure> {
        let bytes = text.len();
        let (timers, clock) = (Arc::clone(&self.timers), Arc::clone(&self.clock));
        // A put, the queue's creation and another put, each with its retries, could outlast the host's patience.
        let bounded = async move {
            match select(pin!(timers.set_aside(&text)), clock.sleep(limits::TIMER_CALL_BUDGET)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(Failure::Unavailable("the poison queue takes too long".into())),
            }
        };
        self.run(|_| bounded).await?;
        error!(
            bytes,
            "a message that is not ours was in the timer queue; it was copied to the poison queue, look who sends there"
        );
        Ok(Handled::SetAside)
    }

    /// Ends the wait of a push now.
    ///
    /// # Errors
    /// As for [`Engine::terminate`].
    pub async fn terminate(&self, id: PushId) -> Result<Done, Failure> {
        self.operate(|engine| async move { engine.terminate(&id).await }).await
    }

    /// Sends notifications of a push again.
    ///
    /// # Errors
    /// As for [`Engine::redeliver`].
    pub async fn redeliver(&self, id: PushId, target: Option<String>) -> Result<Done, Failure> {
        self.operate(|engine| async move { engine.redeliver(&id, target.as_deref()).await }).await
    }

    /// Runs a call and starts the deliveries it owes, in the same task: a caller that goes away would otherwise leave what
    /// it has claimed to the end of the lease.
    async fn operate<F>(&self, call: impl FnOnce(Arc<Engine>) -> F) -> Result<Done, Failure>
    where
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        let this = self.clone();
        let call = call(Arc::clone(&self.engine));
        self.run(|_| async move {
            let mut done = call.await?;
            this.start(std::mem::take(&mut done.jobs));
            Ok(done)
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

    /// Creates what is missing in the storage, trying until it works, and then brings timers of ours back from the poison
    /// queue, now and every [`limits::REVIVE_INTERVAL`]. Runs until the process ends.
    pub fn start_upkeep(&self) {
        let this = self.clone();
        self.runtime.spawn(async move {
            this.clock.sleep(limits::UPKEEP_DELAY).await;
            let mut pause = Duration::from_millis(250);
            loop {
                let (rows, queue) = this.engine.health().await;
                if rows.is_ok() && queue.is_ok() {
                    info!("rows and queue are reachable");
                    break;
                }
                for (what, result) in [("rows", rows), ("queue", queue)] {
                    if let Err(cause) = result {
                        warn!(what, %cause, "storage is not reachable yet; trying again");
                    }
                }
                this.clock.sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
            loop {
                match this.timers.revive().await {
                    Ok(0) => {}
                    Ok(revived) => {
                        warn!(revived, "timers of ours were in the poison queue and are live again; look for earlier errors of TimeoutCheck");
                        // After a long outage there may be more than one look takes in, all of them overdue.
                        if revived >= limits::REVIVE_MANY {
                            continue;
                        }
                    }
                    Err(cause) => warn!(%cause, "the poison queue could not be looked into"),
                }
                this.clock.sleep(limits::REVIVE_INTERVAL).await;
            }
        });
    }

    /// Returns once every call and delivery under way has ended; the caller bounds the wait.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What a panic said.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".into())
}
