//! Read → step → arm → commit → answer → deliver: the one loop that acts on what `push::step` decides, and its only caller.
//!
//! Guarantees
//! - *Arm before commit.* A row that owes something is committed only after, or together with, a durable timer that covers
//!   what it owes. A spare timer is harmless: it finds nothing to do, or another timer in charge, and dies.
//! - *Commit before answer.* `arrive` returns success only after the row, or the spilled arrival, is durable.
//! - *Commit before delivery.* A claim is handed out only after the row that leases it is committed.
//!
//! Races it handles
//! - Two writers of one row: compare-and-swap; the loser reads again and steps again, and disarms the timer it armed.
//! - A timer shifted for a commit that then fails: timers are only ever shifted to an *earlier* instant, so the stored row
//!   is looked at too soon rather than too late. To wait longer, a new timer is armed and the old one disarmed afterwards.
//! - A timer that fires before the row names it: it finds no row, or one of a revision before its own, and looks a second
//!   time ([`Reason::Unseen`]). A commit that ends so late that this may have happened arms that look at once.
//! - A timer armed for a write that conflicted is never used for the next: each is for one write of one row, named there or
//!   of no use, so that one that no row names may die whenever it fires.
//! - Writes that fail while reads succeed: each call leaves the timer that it armed, since the write may still land, but such
//!   a timer is ahead of the row, looks a second time and dies, and does so too when another write of that revision lands. So
//!   their number grows with the calls, not with itself.
//! - A remembered row that is out of date: it may only lead to a write, which then conflicts. Before anything is answered
//!   without a write, the row is read afresh.
//!
//! Knowingly accepted: an attempt whose process dies between sending and recording is made again, with the same id.

mod cover;
mod history;
mod journal;
mod remembered;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join, select};
use futures_util::pin_mut;
use tracing::{error, warn};

use crate::clock::{self, Clock};
use crate::limits;
use crate::notify::Notifier;
use crate::push::state::Row;
use crate::push::{Arrival, Attempted, Claim, Fired, Input, Key, Policy, PushId, Step, What, step};
use crate::store::{Expected, Failure, Put, Store};
use crate::timers::{Message, Reason, Timer, Timers};
use cover::Held;
pub use history::{Listed, Purge};
use remembered::{Known, Remembered};

/// The service: settings, and hands to act with.
pub struct Engine {
    policy: Policy,
    store: Arc<dyn Store>,
    timers: Arc<dyn Timers>,
    notifier: Arc<dyn Notifier>,
    clock: Arc<dyn Clock>,
    remembered: Remembered,
}

/// What became of an input.
#[derive(Debug)]
pub struct Done {
    /// The last step's word.
    pub what: What,
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

/// What became of an arrival.
#[derive(Debug)]
pub enum Arrive {
    /// It met its row.
    Done(Box<Done>),
    /// The row could not be written in time; the arrival is on the queue and will be applied from there.
    Spilled(Key),
}

/// Which row an input is for.
#[derive(Clone, Copy)]
enum Of<'a> {
    /// The newest round of a key, which may be remembered, or guessed to have none.
    Newest(&'a Key),
    /// The newest round of a key for an arrival that was spilled: what could not be written then may be there by now, so it is
    /// read. A guess that is wrong each time it comes again would leave a timer each time.
    Spilled(&'a Key),
    Push(&'a PushId),
}

impl Of<'_> {
    fn key(&self) -> &Key {
        match self {
            Self::Newest(key) | Self::Spilled(key) => key,
            Self::Push(id) => &id.key,
        }
    }
}

impl Engine {
    /// An engine that acts with these hands.
    #[must_use]
    pub fn new(
        policy: Policy,
        store: Arc<dyn Store>,
        timers: Arc<dyn Timers>,
        notifier: Arc<dyn Notifier>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { policy, store, timers, notifier, clock, remembered: Remembered::default() }
    }

    /// What the settings say.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes in a region's webhook, within [`limits::ARRIVAL_ROW_BUDGET`] plus [`limits::ARRIVAL_SPILL_BUDGET`].
    ///
    /// # Errors
    /// Only when neither the row nor the queue could be written: the arrival is not on record anywhere.
    pub async fn arrive(&self, arrival: &Arrival) -> Result<Arrive, Failure> {
        let key = arrival.key(self.policy.correlation);
        let input = Input::Arrival(arrival);
        // Here and below in a box: the loop's state is large, and each wrapper around it would copy it.
        let run = Box::pin(self.run(Of::Newest(&key), &input));
        let done = self.within(limits::ARRIVAL_ROW_BUDGET, run).await;
        let cause = match self.forget_after(&key, done) {
            Ok(done) => return Ok(Arrive::Done(Box::new(done))),
            Err(cause) => cause,
        };
        if !self.policy.known_regions().contains(&&arrival.region) {
            return Err(cause);
        }
        let message = Message::Spill(Box::new(arrival.clone()));
        if message.text().len() > limits::MESSAGE_BYTES_MAX {
            error!(push.key = key.as_str(), region = %arrival.region, %cause, "arrival refused: its row cannot be written and it is too large for the queue");
            return Err(cause);
        }
        let spill = self.timers.arm(&message, Duration::from_secs(1));
        match self.within(limits::ARRIVAL_SPILL_BUDGET, spill).await {
            Ok(_) => {
                warn!(push.key = key.as_str(), region = %arrival.region, %cause, "arrival spilled to the queue: its row could not be written in time");
                Ok(Arrive::Spilled(key))
            }
            Err(second) => {
                error!(push.key = key.as_str(), region = %arrival.region, %cause, queue = %second, "arrival refused: neither its row nor the queue can be written; check the storage account");
                Err(Failure::Unavailable(format!("{cause}; the queue neither: {second}")))
            }
        }
    }

    /// Does what a fired timer asks for, within [`limits::TIMER_CALL_BUDGET`]. `message_id` is the queue's id of it, when known.
    ///
    /// # Errors
    /// The message must be given back, to fire again.
    pub async fn fire(&self, message: &Message, message_id: Option<&str>) -> Result<Done, Failure> {
        let key = match message {
            Message::Timer(timer) => timer.push.key.clone(),
            Message::Spill(arrival) => arrival.key(self.policy.correlation),
        };
        let call = async {
            match message {
                Message::Timer(timer) => self.fire_timer(timer, message_id).await,
                Message::Spill(arrival) => self.run(Of::Spilled(&key), &Input::Arrival(arrival)).await,
            }
        };
        let done = self.within(limits::TIMER_CALL_BUDGET, Box::pin(call)).await;
        self.forget_after(&key, done)
    }

    /// A call that failed may have met a row that is out of date, and would do so again.
    fn forget_after<T>(&self, key: &Key, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.is_err() {
            self.remembered.forget(key);
        }
        result
    }

    async fn fire_timer(&self, timer: &Timer, message_id: Option<&str>) -> Result<Done, Failure> {
        let early = clock::until(self.clock.now(), timer.due);
        if !early.is_zero() && early <= limits::EARLY_TIMER_WAIT {
            self.clock.sleep(early).await;
        }
        // A second look has an id of its own, but it is the other message that the row may name.
        let message = if timer.reason == Reason::Unseen { timer.of.as_deref() } else { message_id };
        let fired = Fired { message, revived: timer.reason == Reason::Revived, revision: timer.revision };
        let done = self.run(Of::Push(&timer.push), &Input::Timer(fired)).await?;
        let now = self.clock.now();
        let in_charge = done.row.as_deref().and_then(|row| row.timer.as_ref());
        if let (What::Spare, Some(due)) = (&done.what, in_charge.map(|t| t.due).filter(|due| *due <= now)) {
            // The one in charge is being handled right now, or never will be: one more look when it must long be over.
            let wait = clock::until(now, clock::after(due, limits::SPARE_PATIENCE));
            self.timers.arm(&Message::Timer(timer.clone()), wait).await?;
        }
        if matches!(done.what, What::UnknownPush | What::Ahead) && timer.reason != Reason::Unseen {
            let again = Timer { reason: Reason::Unseen, of: message_id.map(str::to_owned), ..timer.clone() };
            self.timers.arm(&Message::Timer(again), limits::UNSEEN_RECHECK).await?;
        }
        Ok(done)
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
        let input = Input::Attempted(&attempted);
        let run = Box::pin(self.run(Of::Push(&row.id), &input));
        let done = self.within(limits::RESULT_BUDGET, run).await;
        if let Err(cause) = self.forget_after(&row.id.key, done) {
            warn!(push.id = %row.id, target = claim.target, attempt = claim.claim, %cause, "the result of an attempt could not be recorded; it will be made again with the same id");
        }
    }

    /// Ends the wait of a push as if its deadline were now.
    ///
    /// # Errors
    /// The row could not be read or written in time; the change may have been made all the same. Asking again is safe.
    pub async fn terminate(&self, id: &PushId) -> Result<Done, Failure> {
        self.within(limits::OPERATOR_CALL_BUDGET, self.run(Of::Push(id), &Input::Terminate)).await
    }

    /// Owes notifications of a settled push again.
    ///
    /// # Errors
    /// The row could not be read or written in time; the change may have been made all the same, and asking again would then send
    /// once more.
    pub async fn redeliver(&self, id: &PushId, target: Option<&str>) -> Result<Done, Failure> {
        self.within(limits::OPERATOR_CALL_BUDGET, self.run(Of::Push(id), &Input::Redeliver(target))).await
    }

    /// Whether rows and whether the queue can be reached.
    pub async fn health(&self) -> (Result<(), Failure>, Result<(), Failure>) {
        join(
            self.within(Duration::from_secs(2), self.store.prepare()),
            self.within(Duration::from_secs(2), self.timers.prepare()),
        )
        .await
    }

    /// `call`, or `Unavailable` once `budget` is over.
    async fn within<T>(&self, budget: Duration, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let expiry = self.clock.sleep(budget);
        pin_mut!(call, expiry);
        match select(call, expiry).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Failure::Unavailable(format!("no answer within {} ms", budget.as_millis()))),
        }
    }

    /// The loop: until a step is committed, or found to change nothing.
    async fn run(&self, of: Of<'_>, input: &Input<'_>) -> Result<Done, Failure> {
        let began = self.clock.now();
        let mut held: Option<Held> = None;
        let mut jobs = Vec::new();
        let mut conflicts = 0;
        let mut remembered = self.remembered.recall(of);
        let mut guess_absent = remembered.is_none() && self.remembered.guesses_absent(of);
        loop {
            let fresh = remembered.is_none() && !guess_absent;
            let stored = if fresh { self.read(of).await? } else { remembered.take() };
            guess_absent = false;
            if fresh && conflicts == 0 {
                self.remembered.learn(of, stored.is_some());
            }
            let now = self.clock.now();
            let row = stored.as_ref().map(|s| &*s.row);
            let Step { what, next, wake, rearm, claims, again } = step(row, input, now, &self.policy);
            let wait = wake.map(|wake| clock::until(now, wake)).filter(|_| rearm && what == What::Early);
            if let Some(wait) = wait.filter(|wait| !wait.is_zero() && *wait <= limits::EARLY_TIMER_WAIT) {
                // Cheaper than another timer, which could fire before the row names it.
                self.clock.sleep(wait).await;
                remembered = None;
                continue;
            }
            let Some(mut next) = next else {
                if !fresh {
                    self.remembered.forget(of.key());
                    continue;
                }
                self.drop_spare(held).await;
                self.log(of, input, &what, row, began);
                return Ok(Done { what, row: stored.map(|s| s.row), jobs });
            };
            let expected = match &stored {
                Some(stored) if stored.row.id == next.id => Expected::Version(stored.version.clone()),
                Some(_) | None => Expected::Absent,
            };
            let replaced = match self.cover(&mut next, wake, rearm, &mut held, &expected, now).await {
                Ok(replaced) => replaced,
                Err(cause) => {
                    self.drop_spare(held).await;
                    return Err(cause);
                }
            };
            match self.commit(&next, &expected, &mut held).await? {
                Put::Conflict => {
                    self.remembered.lost(of.key());
                    conflicts += 1;
                    if conflicts > limits::CONFLICT_RETRIES_MAX {
                        return Err(Failure::Unavailable("too many writers of one push at once".into()));
                    }
                    self.clock.sleep(conflict_pause(&next.id, input, conflicts)).await;
                }
                Put::Written(version) => {
                    self.committed(&mut held, &next, replaced).await?;
                    self.log(of, input, &what, Some(&next), began);
                    let stored = Known { row: Arc::new(next), version };
                    jobs.extend(claims.into_iter().map(|claim| Job { row: Arc::clone(&stored.row), claim }));
                    self.remembered.keep(&stored);
                    if !again {
                        return Ok(Done { what, row: Some(stored.row), jobs });
                    }
                    if matches!(of, Of::Newest(_) | Of::Spilled(_)) {
                        remembered = Some(stored);
                    }
                }
            }
        }
    }

    /// A write that the store refuses for good leaves no timer behind: no row names it, and a message that comes again for the
    /// same refusal would leave one each time. After any other failure the row may be there and name it.
    async fn commit(&self, next: &Row, expected: &Expected, held: &mut Option<Held>) -> Result<Put, Failure> {
        let put = self.store.put(next, expected).await;
        if let Err(Failure::Corrupt(_)) = &put {
            self.drop_spare(held.take()).await;
        }
        put
    }

    async fn read(&self, of: Of<'_>) -> Result<Option<Known>, Failure> {
        let read = match of {
            Of::Newest(key) | Of::Spilled(key) => self.store.latest(key).await,
            Of::Push(id) => self.store.get(id).await,
        };
        if let Err(Failure::Corrupt(cause)) = &read {
            error!(push.key = of.key().as_str(), cause, "rows cannot be read until somebody acts on this");
        }
        Ok(read?.map(Known::from))
    }
}

/// A short pause that grows with the conflicts lost and differs between the writers, without chance.
fn conflict_pause(id: &PushId, input: &Input<'_>, conflicts: u32) -> Duration {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hash = DefaultHasher::new();
    (id.to_string(), conflicts).hash(&mut hash);
    match input {
        Input::Arrival(arrival) => arrival.region.hash(&mut hash),
        Input::Attempted(attempted) => attempted.target.hash(&mut hash),
        Input::Timer(_) | Input::Terminate | Input::Redeliver(_) => {}
    }
    Duration::from_millis(hash.finish() % (4 * u64::from(conflicts.min(16))))
}
