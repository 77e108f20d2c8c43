//! Looks at pushes whose time has come, where the store knows itself which they are.
//!
//! Guarantee: a push is named as due until a look at it succeeds, so nothing is forgotten; one that cannot be looked at is put
//! off, each time for longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::clock::Clock;
use crate::limits;
use crate::push::{Input, PushId};
use crate::service::Service;
use crate::store::{Failure, Wakes};

/// Pushes looked at at the same time.
const AT_ONCE_MAX: usize = 64;

/// Longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Looks until `stop` turns true, then returns; what was begun goes on in the service's tasks.
pub async fn run(store: Arc<dyn Wakes>, service: Service, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
    // How often a look at a push failed.
    let mut failed: BTreeMap<PushId, u32> = BTreeMap::new();
    // How often in a row nothing could be written.
    let mut stuck: u32 = 0;
    while !*stop.borrow() {
        let due = match store.due(AT_ONCE_MAX).await {
            Ok(due) => due,
            Err(cause) => {
                warn!(%cause, "what is due cannot be read; trying on");
                clock.sleep(PAUSE_MAX).await;
                continue;
            }
        };
        if due.is_empty() {
            tokio::select! {
                () = store.ready(PAUSE_MAX) => {}
                _ = stop.changed() => return,
            }
            continue;
        }
        let looks = due.into_iter().map(async |push| (service.apply(push.clone(), Input::Timer).await.err(), push));
        let mut cannot_put_off = None;
        for (cause, push) in join_all(looks).await {
            let Some(cause) = cause else {
                failed.remove(&push);
                continue;
            };
            let tries = failed.get(&push).copied().unwrap_or(0).saturating_add(1);
            let wait = Duration::from_secs(1 << tries.min(12)).min(limits::PUT_BACK_WAIT_MAX);
            if store.put_off(&push, wait).await.is_err() {
                cannot_put_off = Some(cause);
                continue;
            }
            failed.insert(push.clone(), tries);
            match cause {
                Failure::Corrupt(cause) => {
                    error!(push.id = %push, cause, again_s = wait.as_secs(), "a push cannot be looked at until somebody acts");
                }
                Failure::Unavailable(cause) => {
                    warn!(push.id = %push, cause, again_s = wait.as_secs(), "a push could not be looked at");
                }
            }
        }
        // Nothing can be written: of that there is one line, however many pushes are due.
        match cannot_put_off {
            Some(cause) => {
                if stuck == 0 {
                    error!(%cause, "what is due can neither be looked at nor put off; trying on, with growing pauses");
                }
                tokio::select! {
                    () = clock.sleep(PAUSE_MAX * (1 << stuck.min(4))) => {}
                    _ = stop.changed() => return,
                }
                stuck = stuck.saturating_add(1);
            }
            None => stuck = 0,
        }
        if failed.len() > limits::REMEMBERED_ROWS_MAX {
            failed.clear();
        }
    }
}
