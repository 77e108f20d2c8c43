//! What is done with a message that fired: look at the push, apply the arrival, or walk the time index.
//!
//! Guarantee: a message is done with only when it was applied, set aside, or put back as another one. Putting back is ours, and
//! not left to the host: its own wait is the same for everything and every time, and gives up in the end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::{error, warn};

use super::apply::Looked;
use super::message::{Message, Spill, Timer};
use super::{AzureStore, Failure};
use crate::limits;
use crate::push::{Arrival, PushId};
use crate::store::{Applied, Decide, Which};

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
        let (handled, message) = match message {
            Message::Timer(timer) => (self.timer(&timer, core).await, Message::Timer(Timer { tries: timer.tries.saturating_add(1), ..timer })),
            Message::Spill(spill) => {
                let arrival = match spill.arrival(core.registry()) {
                    Ok(arrival) => arrival,
                    Err(fault) => return self.stranger(text, &fault.message).await,
                };
                let word = core.arrived(arrival).await.map(|()| "applied");
                (word, Message::Spill(Spill { tries: spill.tries.saturating_add(1), ..spill }))
            }
            Message::Upkeep(upkeep) => return self.upkeep(&upkeep, core).await,
        };
        match handled {
            Ok(word) => Ok(word),
            Err(cause) => self.put_back(&message, cause).await,
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
            Looked::Foreign(_) => {
                // Soon, so that the other app is not late by our doing; the longer the rarer, in case it is not there after all.
                let wait = Duration::from_secs(2 << timer.tries.min(4));
                let back = Message::Timer(Timer { tries: timer.tries.saturating_add(1), ..timer.clone() });
                self.queue.arm(&back, wait).await.map(|_| "foreign")
            }
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

    /// Queues a message that failed once more, each time for longer.
    async fn put_back(&self, message: &Message, cause: Failure) -> Result<&'static str, Failure> {
        let tries = match message {
            Message::Timer(timer) => timer.tries,
            Message::Spill(spill) => spill.tries,
            Message::Upkeep(_) => 0,
        };
        let (spilled, passing) = (matches!(message, Message::Spill(_)), matches!(cause, Failure::Unavailable(_)));
        let longest = if spilled && passing { limits::SPILL_WAIT_MAX } else { limits::RETRY_WAIT_OF_TIMERS_MAX };
        let wait = Duration::from_secs(1 << tries.min(12)).min(longest);
        if spilled && passing {
            // As long as it waits, no push times out that it may be for.
            self.queue.note_spill(self.clock.now()).await?;
        }
        self.queue.arm(message, wait).await?;
        if passing {
            warn!(%cause, tries, again_s = wait.as_secs(), "a timer failed and was put back");
        } else if tries <= 1 || wait == longest {
            error!(%cause, tries, again_s = wait.as_secs(), "a timer cannot be handled until somebody acts; it is kept");
        }
        Ok("put_back")
    }
}
