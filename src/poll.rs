//! Takes fired timers from the queue where no Functions host does, with the host's own rules: a message that fails comes
//! again after [`RELEASE_AFTER`].
//!
//! Guarantee: a message is deleted only after it was handled. Race handled: a call that outlives its lease lets the message
//! fire a second time, which every input allows for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tracing::{error, warn};

use crate::clock::Clock;
use crate::limits;
use crate::service::Service;
use crate::store::Failure;
use crate::store::azure::fired::FOREIGN;
use crate::store::azure::parts::{Inbox, Received};

/// Wait before a message that failed fires again; `visibilityTimeout` of host.json.
pub const RELEASE_AFTER: Duration = Duration::from_secs(30);

/// Longest pause between two looks at an empty queue; `maxPollingInterval` of host.json.
pub const PAUSE_MAX: Duration = Duration::from_secs(2);

const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Messages handled at the same time.
const AT_ONCE_MAX: usize = 32;

/// How long a taken message stays hidden: longer than a call may take.
const LEASE: Duration = limits::TIMER_CALL_BUDGET.saturating_mul(3);

/// Polls until `stop` turns true, then returns; what was begun goes on in the service's tasks.
pub async fn run(inbox: Arc<dyn Inbox>, service: Service, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut pause = PAUSE_MIN;
    // Whether anything that was taken lately was another app's: it is left to that one, also by not asking again before it has.
    let foreign = Arc::new(AtomicBool::new(false));
    let mut unreachable = false;
    while !*stop.borrow() {
        if foreign.swap(false, Ordering::Relaxed) {
            tokio::select! {
                // The other one asks at least once meanwhile.
                () = clock.sleep(2 * PAUSE_MAX) => {}
                _ = stop.changed() => return,
            }
        }
        let free = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => { drop(permit); room.available_permits().max(1) }
            _ = stop.changed() => return,
        };
        let taken = match inbox.receive(free, LEASE).await {
            Ok(taken) => {
                unreachable = false;
                taken
            }
            Err(cause) => {
                if !unreachable {
                    warn!(%cause, "the timer queue cannot be read; trying on");
                }
                unreachable = true;
                Vec::new()
            }
        };
        if taken.is_empty() {
            tokio::select! {
                () = clock.sleep(pause) => {}
                _ = stop.changed() => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
            continue;
        }
        pause = PAUSE_MIN;
        for received in taken {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let (inbox, service, foreign) = (Arc::clone(&inbox), service.clone(), Arc::clone(&foreign));
            tokio::spawn(async move {
                if handle(&*inbox, &service, received).await == Some(FOREIGN) {
                    foreign.store(true, Ordering::Relaxed);
                }
                drop(permit);
            });
        }
    }
}

/// What came of a message; `None` when it failed or is not ours.
async fn handle(inbox: &dyn Inbox, service: &Service, received: Received) -> Option<&'static str> {
    let Some(text) = received.text.clone() else {
        error!(
            "a message that is not base64 was in the timer queue; it was moved to the poison queue, look who sends there"
        );
        report(inbox.poison(&received).await);
        return None;
    };
    match service.fired(text).await {
        Ok(FOREIGN) => {
            report(inbox.release(&received, limits::TIMER_DELAY_MIN).await);
            Some(FOREIGN)
        }
        Ok(word) => {
            report(inbox.disarm(&received.handle).await);
            Some(word)
        }
        Err(cause) => {
            warn!(%cause, tries = received.dequeue_count, "a timer failed; it fires again in {} s", RELEASE_AFTER.as_secs());
            report(inbox.release(&received, RELEASE_AFTER).await);
            None
        }
    }
}

/// What cannot be done to a message leaves it hidden until its lease ends, and it fires again.
fn report(result: Result<(), Failure>) {
    if let Err(cause) = result {
        warn!(%cause, "a handled message could not be deleted or moved; it will fire again and find nothing to do");
    }
}
