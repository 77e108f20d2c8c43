//! The one loop that acts on what `push::step` decides, and its only caller: it has the store apply a step, and then begins
//! what the step owes.
//!
//! Guarantees
//! - *Durable before answer.* `arrive` returns success only after the row, or the spilled arrival, is durable.
//! - *Durable before delivery.* A claim is handed out only after the row that leases it is.
//!
//! Races
//! - *A slow row.* 1. An arrival's row takes longer than 1.2 s. 2. The arrival is put onto the queue as well. 3. One of the two
//!   is durable and the answer goes out. 4. The row is written all the same, and the arrival comes back from the queue: it is
//!   the very webhook that is on record, and changes nothing.
//!
//! Knowingly accepted: an attempt whose process dies between sending and recording is made again, with the same id.

mod decider;
mod foresee;
mod log;
mod lookup;
mod news;
mod regions;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tracing::{error, info, warn};

use self::decider::Decider;
use self::lookup::Summary;
pub use self::news::Listener;
use self::news::News;
use crate::clock::{self, Clock, Instant};
use crate::limits;
use crate::metrics::{Metrics, Requests};
use crate::notify::Notifier;
use crate::push::{Arrival, Attempted, Claim, Did, Input, Key, Policy, PushId, Row};
use crate::store::{self, Applied, Decide, Failure, Health, Removed, Store, Which};
use crate::traces::{Caller, Taken, Traces};

/// The service: settings, and hands to act with.
pub struct Engine {
    policy: Arc<Policy>,
    store: Arc<dyn Store>,
    notifier: Arc<dyn Notifier>,
    clock: Arc<dyn Clock>,
    news: Arc<News>,
    summary: tokio::sync::Mutex<Option<Summary>>,
    /// Pushes have settled since the summary was made.
    outdated: AtomicBool,
    metrics: Arc<Metrics>,
    traces: Option<Arc<Traces>>,
    retention: Option<Duration>,
}

/// What became of an input.
#[derive(Debug)]
pub struct Done {
    /// The step's word.
    pub did: Did,
    /// The row as it is now; `None` for an unknown push or one that was not started.
    pub row: Option<Arc<Row>>,
    /// Attempts to make, each by [`Engine::deliver`] in a task of its own after the answer is out.
    pub jobs: Vec<Job>,
}

/// One attempt to make.
#[derive(Debug, Clone)]
pub struct Job {
    row: Arc<Row>,
    claim: Claim,
}

/// A call that goes on after its answer; what it comes to is attempts to make.
pub type Rest = Pin<Box<dyn Future<Output = Vec<Job>> + Send>>;

/// An arrival that is durable.
pub enum Accepted {
    /// It met its row.
    Done(Box<Done>),
    /// It is on the queue and will be applied from there; the row may yet be written.
    Spilled(Key, Rest),
}

impl Engine {
    /// An engine that acts with these hands, and is counted on its own.
    #[must_use]
    pub fn new(policy: Policy, store: Arc<dyn Store>, notifier: Arc<dyn Notifier>, clock: Arc<dyn Clock>) -> Self {
        let metrics = Arc::new(Metrics::new(&policy, Requests::default()));
        let (news, summary, outdated, retention) = Default::default();
        let policy = Arc::new(policy);
        Self { policy, store, notifier, clock, news, summary, outdated, metrics, traces: None, retention }
    }

    /// The same, for pushes that are kept so long, and not for ever.
    #[must_use]
    pub fn keeping(self, retention: Option<Duration>) -> Self {
        Self { retention, ..self }
    }

    /// The same, whose steps are counted in `metrics` and traced in `traces`.
    #[must_use]
    pub fn observed(self, metrics: Arc<Metrics>, traces: Option<Arc<Traces>>) -> Self {
        Self { metrics, traces, ..self }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What is counted, with what is owed now, as the text of `/metrics`.
    pub async fn measured(&self) -> String {
        let census = self.within(limits::OPERATOR_CALL_BUDGET, self.store.census()).await;
        if let Err(cause) = &census {
            warn!(%cause, "what is owed could not be counted");
        }
        self.metrics.text(census.ok().flatten())
    }

    /// Whether steps are traced.
    #[must_use]
    pub fn traces(&self) -> bool {
        self.traces.is_some()
    }

    /// What the settings say.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes in a region's webhook, within [`limits::ARRIVAL_BUDGET`]. `caller` is where its sender's own trace is, if it says so.
    ///
    /// # Errors
    /// Only when neither the row nor the queue could be written: the arrival is not on record anywhere.
    pub async fn arrive(self: &Arc<Self>, arrival: Arrival, caller: Option<Caller>) -> Result<Accepted, Failure> {
        let arrival = Arc::new(arrival);
        let taken = clock::within(&*self.clock, limits::ARRIVAL_BUDGET, self.take(&arrival, caller)).await;
        let taken = taken.unwrap_or_else(|| Err(Failure::Unavailable("nothing was durable in time".into())));
        if let Err(cause) = &taken {
            error!(
                image = arrival.subject.image(), region = %arrival.region, id = arrival.id, %cause,
                "arrival refused: it is on record nowhere; check the storage"
            );
        }
        taken
    }

    async fn take(self: &Arc<Self>, arrival: &Arc<Arrival>, caller: Option<Caller>) -> Result<Accepted, Failure> {
        let (this, for_row, ahead) = (Arc::clone(self), Arc::clone(arrival), self.clock.ahead());
        let row = Box::pin(async move { this.apply_arrival(for_row, false, caller).await });
        let done = |done| Ok(Accepted::Done(Box::new(done)));
        // A push may wait for a region that the settings no longer know, but only its row can tell.
        let spills = self.policy.known_regions().contains(&&arrival.region);
        let (row, mut cause) = match select(row, self.clock.sleep(limits::ARRIVAL_ROW_ALONE)).await {
            Either::Left((Ok(applied), _)) => return done(applied),
            Either::Left((Err(cause), _)) => (None, cause),
            Either::Right(((), row)) => {
                let slow = format!("the row took more than {} ms", limits::ARRIVAL_ROW_ALONE.as_millis());
                (Some(row), Failure::Unavailable(slow))
            }
        };
        if !spills {
            return match row {
                Some(row) => done(row.await?),
                None => Err(cause),
            };
        }
        let arrival = &*decider::received(arrival, decider::learnt(&*self.clock, ahead));
        let spill = Box::pin(self.store.spill(arrival));
        let (spilled, row) = match row {
            None => (spill.await, None),
            Some(row) => match select(row, spill).await {
                Either::Left((Ok(applied), _)) => return done(applied),
                Either::Left((Err(failed), spill)) => {
                    cause = failed;
                    (spill.await, None)
                }
                Either::Right((spilled, row)) => (spilled, Some(row)),
            },
        };
        match (spilled, row) {
            (Ok(()), row) => {
                let key = arrival.key(self.policy.correlation);
                self.metrics.spilled();
                warn!(
                    image = arrival.subject.image(), region = %arrival.region, push.key = key.as_str(), %cause,
                    "arrival spilled to the queue: its row was not written in time"
                );
                Ok(Accepted::Spilled(key, self.rest(row)))
            }
            (Err(_), Some(row)) => done(row.await?),
            (Err(queue), None) => Err(match cause {
                Failure::Unavailable(cause) => Failure::Unavailable(format!("{cause}; nor elsewhere: {queue}")),
                Failure::Corrupt(cause) => Failure::Corrupt(format!("{cause}; nor elsewhere: {queue}")),
            }),
        }
    }

    /// What is left of an arrival's row once the queue has it.
    fn rest(self: &Arc<Self>, row: Option<impl Future<Output = Result<Done, Failure>> + Send + 'static>) -> Rest {
        let clock = Arc::clone(&self.clock);
        Box::pin(async move {
            let Some(row) = row else { return Vec::new() };
            match clock::within(&*clock, limits::OPERATOR_CALL_BUDGET, row).await {
                Some(Ok(done)) => done.jobs,
                Some(Err(_)) | None => Vec::new(),
            }
        })
    }

    /// Applies an arrival to the round that it is a report of.
    async fn apply_arrival(
        &self,
        arrival: Arc<Arrival>,
        spilled: bool,
        caller: Option<Caller>,
    ) -> Result<Done, Failure> {
        let mut which = Which::Newest(arrival.key(self.policy.correlation));
        let ahead = self.clock.ahead();
        loop {
            let earlier = matches!(which, Which::Push(_));
            let input = Input::Arrival { arrival: Arc::clone(&arrival), spilled, earlier };
            let done = self.run(&which, Decider { ahead, ..self.decider(input) }, caller).await?;
            let Did::Earlier(before) = &done.did else { return Ok(done) };
            which = Which::Push(before.clone());
        }
    }

    /// Applies an arrival that comes back from the queue.
    ///
    /// # Errors
    /// It must come again.
    pub async fn arrive_late(&self, arrival: Arrival) -> Result<Done, Failure> {
        self.apply_arrival(Arc::new(arrival), true, None).await
    }

    /// Looks at a push whose time has come, or does to it what an operator wants.
    ///
    /// # Errors
    /// The row could not be read or written in time; the change may have been made all the same. Somebody must look again; to ask
    /// again is safe as well, but for a redelivery, which would send once more.
    pub async fn apply(&self, push: &PushId, input: Input) -> Result<Done, Failure> {
        let look = matches!(input, Input::Timer);
        let budget = if look { limits::TIMER_CALL_BUDGET } else { limits::OPERATOR_CALL_BUDGET };
        self.within(budget, self.run(&Which::Push(push.clone()), self.decider(input), None)).await
    }

    /// The step of a look, for a store that knows itself when and whether to apply it.
    #[must_use]
    pub fn looking(&self) -> Arc<dyn Decide> {
        Arc::new(self.decider(Input::Timer))
    }

    /// What a look came to that the store applied itself.
    #[must_use]
    pub fn looked(&self, push: &PushId, applied: Applied, began: Instant) -> Done {
        self.done(&Which::Push(push.clone()), &Input::Timer, applied, began, None)
    }

    /// Makes one attempt and records its result. Never fails: what cannot be recorded is made good by the push's timer.
    pub async fn deliver(&self, job: Job) {
        let Job { row, claim } = job;
        if clock::until(self.clock.now(), claim.lease_until) < limits::LEASE_MARGIN {
            warn!(push.id = %row.id, target = claim.target, attempt = claim.claim, "attempt not begun: its lease is nearly over; the timer will claim it again");
            return;
        }
        let result = self.notifier.attempt(&row, &claim).await;
        let attempted = Attempted { target: claim.target.clone(), notice: claim.notice, claim: claim.claim, result };
        let which = Which::Push(row.id.clone());
        let run = Box::pin(self.run(&which, self.decider(Input::Attempted(attempted)), None));
        match self.within(limits::RESULT_BUDGET, run).await {
            Ok(done) => {
                for job in done.jobs {
                    Box::pin(self.deliver(job)).await;
                }
            }
            Err(cause) => {
                warn!(push.id = %row.id, target = claim.target, attempt = claim.claim, %cause, "the result of an attempt could not be recorded; it will be made again with the same id");
            }
        }
    }

    /// Creates what is missing in the storage, and tells what can be read and written.
    ///
    /// # Errors
    /// `Unavailable` after [`limits::OPERATOR_CALL_BUDGET`] without an answer: several requests go one after the other, and a
    /// storage that is slow still works.
    pub async fn health(&self) -> Result<Health, Failure> {
        self.within(limits::OPERATOR_CALL_BUDGET, async { Ok(self.store.prepare().await) }).await
    }

    /// Before when pushes were opened that are kept no longer, and the step that purges; `None` where all are kept.
    #[must_use]
    pub fn old(&self, now: Instant) -> Option<(Instant, Arc<dyn Decide>)> {
        let kept = chrono::Duration::from_std(self.retention?).ok()?;
        Some((now.checked_sub_signed(kept)?, Arc::new(self.decider(Input::Purge))))
    }

    /// Removes pushes that are kept no longer and owe nothing, of those opened at `from` or later, the oldest first, for a
    /// few seconds; where to go on, if there are more.
    pub async fn remove_old(&self, from: Instant) -> Option<Instant> {
        let (before, step) = self.old(self.clock.now())?;
        let (removed, failed) = store::remove_share(&*self.store, &*self.clock, (from, before), &step).await;
        if removed.count > 0 {
            info!(input = "age", outcome = "removed", pushes = removed.count);
        }
        if let Some(cause) = failed {
            warn!(%cause, "not all that is old could be removed; trying again within minutes");
            return None;
        }
        removed.next
    }

    /// Removes settled pushes that owe nothing and were opened before an instant, the oldest first, as many as one call may;
    /// [`Removed::next`] says whether there are more. Of those whose repeats may still come a trace stays, as of any purged push.
    ///
    /// # Errors
    /// Nothing was removed, since the store does not answer, or not all that was removed could be counted in time.
    pub async fn remove_before(&self, until: Instant) -> Result<Removed, Failure> {
        let span = (Instant::UNIX_EPOCH, until.min(self.clock.now()));
        let step: Arc<dyn Decide> = Arc::new(self.decider(Input::Purge));
        let share = store::remove_share(&*self.store, &*self.clock, span, &step);
        let (removed, failed) = self.within(limits::OPERATOR_CALL_BUDGET, async { Ok(share.await) }).await?;
        info!(input = "purge", outcome = "removed", pushes = removed.count, until = %span.1);
        match failed {
            Some(cause) if removed.count == 0 => Err(cause),
            // Whoever goes on is told. Where only such were met as stay, going on would meet them again.
            Some(_) | None => Ok(Removed { next: removed.next.filter(|_| removed.count > 0), ..removed }),
        }
    }

    fn decider(&self, input: Input) -> Decider {
        let (policy, clock) = (Arc::clone(&self.policy), Arc::clone(&self.clock));
        Decider { policy, ahead: clock.ahead(), clock, input }
    }

    async fn run(&self, which: &Which, decider: Decider, caller: Option<Caller>) -> Result<Done, Failure> {
        let began = self.clock.now();
        let decider = Arc::new(decider);
        let applied = self.store.apply(which, Arc::clone(&decider) as Arc<dyn Decide>).await?;
        Ok(self.done(which, &decider.input(), applied, clock::moved(began, decider.learnt()), caller))
    }

    fn done(
        &self,
        which: &Which,
        input: &Input,
        Applied { did, row, claims }: Applied,
        began: Instant,
        caller: Option<Caller>,
    ) -> Done {
        self.log(which, input, &did, row.as_deref(), began);
        // Whoever asks for a digest alone listens where a push of it without a tag would be.
        let untagged = || row.as_ref().map(|row| row.subject.untagged_place());
        self.news.tell(which.key().place(), untagged);
        if matches!(did, Did::Settled(_) | Did::Late | Did::Recovered | Did::Exhausted) {
            self.outdated.store(true, Ordering::Relaxed);
        }
        if let (Some(traces), Some(row)) = (&self.traces, &row) {
            traces.step(&Taken { input, did: &did, row, began, caller });
        }
        let job = |claim| row.as_ref().map(|row| Job { row: Arc::clone(row), claim });
        Done { jobs: claims.into_iter().filter_map(job).collect(), did, row }
    }

    /// `call`, or `Unavailable` once `budget` is over.
    async fn within<T>(&self, budget: Duration, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        clock::within(&*self.clock, budget, call)
            .await
            .unwrap_or_else(|| Err(Failure::Unavailable(format!("no answer within {} ms", budget.as_millis()))))
    }
}
