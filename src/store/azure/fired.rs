//! What is done with a message that fired: look at the push, apply the arrival, or walk the time index.
//!
//! Guarantee: a message is done with only when it was applied, set aside, or put back as another one. One that fails is given
//! back at first, to come again in half a minute as it is; a copy could be made twice by each answer that is lost, and the
//! copies of copies would be many. Only one that has failed for minutes is copied, and waits for longer and longer.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::{error, warn};

use super::apply::Looked;
use super::message::{Message, Timer};
use super::{AzureStore, Failure};
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::{Arrival, PushId};
use crate::store::{Applied, Decide, Which};

/// The word for a timer of another app: it must be given back, soon, as it is.
pub const FOREIGN: &str = "foreign";

/// What the core does with what fired.
#[async_trait]
pub trait Core: Send + Sync {
    /// Looking at a push: the step of its timer.
    fn look(&self) -> Arc<dyn Decide>;

    /// Takes note of what a look came to, and begins what it owes.
    fn looked(&self, push: &PushId, applied: Applied);

    /// Applies an arrival that was spilled.
    ///
    /// # Errors
    /// It must come again.
    async fn arrived(&self, arrival: Arrival) -> Result<(), Failure>;

    /// Before when pushes were opened that the settings do not keep, and the step that purges; `None` where they keep all.
    fn old(&self, now: Instant) -> Option<(Instant, Arc<dyn Decide>)>;

    /// The registry that stands for all webhooks, where one is set.
    fn registry(&self) -> Option<&str>;
}

impl AzureStore {
    /// Handles a text of the queue. The word says what came of it.
    ///
    /// # Errors
    /// The message must be given back, to come again.
    pub async fn fired(&self, text: &str, core: &dyn Core) -> Result<&'static str, Failure> {
        let message = match Message::parse(text, self.clock.now()) {
            Ok(message) => message,
            Err(why) => return self.stranger(text, &why).await,
        };
        if let Message::Spill(_) = &message
            && let Err(cause) = self.queue.note_spill(self.clock.now()).await
        {
            warn!(%cause, "that an arrival waits on the queue could not be noted; its push may time out before it is applied");
        }
        let (handled, since) = match &message {
            Message::Timer(timer) => (self.timer(timer, core).await, timer.due),
            Message::Spill(spill)
                if self.apps.lives(&*self.rows, &spill.app, self.clock.now()).await.unwrap_or(true) =>
            {
                let other = format!("the webhook was received by the app {}", spill.app);
                (Err(Failure::Unavailable(other)), spill.received)
            }
            Message::Spill(spill) => {
                let arrival = match spill.arrival(core.registry()) {
                    Ok(arrival) => arrival,
                    Err(fault) => return self.stranger(text, &fault.message).await,
                };
                (core.arrived(arrival).await.map(|()| "applied"), spill.received)
            }
            Message::Upkeep(upkeep) => (self.upkeep(upkeep, core).await, Instant::MAX_UTC),
        };
        match handled {
            Ok(word) => Ok(word),
            Err(cause) => self.put_back(&message, since, cause).await,
        }
    }

    async fn timer(&self, timer: &Timer, core: &dyn Core) -> Result<&'static str, Failure> {
        match self.look(&Which::Push(timer.push.clone()), Some(timer.ticket), &*core.look()).await? {
            Looked::Applied(applied) => {
                let word = applied.did.word();
                core.looked(&timer.push, applied);
                Ok(word)
            }
            Looked::Newer if timer.again => Ok("newer"),
            Looked::Newer => {
                let again = Message::Timer(Timer { again: true, ..timer.clone() });
                self.queue.arm(&again, limits::SECOND_LOOK).await.map(|_| "newer")
            }
            Looked::Older => Ok("older"),
            Looked::Foreign(_) => Ok(FOREIGN),
        }
    }

    /// A message that nobody can handle goes where an operator finds it.
    async fn stranger(&self, text: &str, why: &str) -> Result<&'static str, Failure> {
        self.queue.set_aside(text).await?;
        error!(
            bytes = text.len(),
            "a message in the timer queue cannot be handled: {why}; it was copied to the poison queue, look who sends there"
        );
        Ok("set_aside")
    }

    /// What becomes of a message that failed, and was meant to be done with at `since`.
    async fn put_back(&self, message: &Message, since: Instant, cause: Failure) -> Result<&'static str, Failure> {
        let now = self.clock.now();
        let passing = matches!(cause, Failure::Unavailable(_));
        if matches!(message, Message::Spill(_)) && passing {
            return Err(cause);
        }
        let age = clock::until(since, now);
        if age < limits::GIVEN_BACK {
            return Err(cause);
        }
        let wait = (age / 4).min(limits::PUT_BACK_WAIT_MAX);
        self.queue.arm(message, wait).await?;
        if passing {
            warn!(%cause, again_s = wait.as_secs(), "a timer has failed for long and was put back");
        } else {
            error!(%cause, again_s = wait.as_secs(), "a timer cannot be handled until somebody acts; it is kept");
        }
        Ok("put_back")
    }
}
