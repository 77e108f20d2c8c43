//! Webhooks that are turned away leave a line that an operator sees: a registry that was refused does not come again.
//!
//! Guarantees: one line for the first of a kind, and one a minute later for how many there were since; so at most two a minute
//! for each kind, whoever sends how much. A line holds no text of a stranger but the region's and the image's names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::clock::Clock;

/// How long refusals of a kind are counted before they are told of.
const WINDOW: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Default)]
pub struct Refused {
    /// By code, how many there were since the first; the codes are ours, so there are few.
    since: Arc<Mutex<HashMap<&'static str, u64>>>,
}

impl Refused {
    fn since(&self) -> MutexGuard<'_, HashMap<&'static str, u64>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request was turned away.
    pub(super) fn note(
        &self,
        code: &'static str,
        message: &str,
        region: Option<&str>,
        image: Option<&str>,
        clock: &Arc<dyn Clock>,
    ) {
        if let Some(count) = self.since().get_mut(code) {
            *count += 1;
            return;
        }
        self.since().insert(code, 0);
        warn!(reason = code, region, image, "webhook refused: {message}");
        let (this, clock) = (self.clone(), Arc::clone(clock));
        actix_web::rt::spawn(async move {
            clock.sleep(WINDOW).await;
            match this.since().remove(code) {
                Some(count) if count > 0 => warn!(reason = code, count, "more webhooks were refused within a minute"),
                Some(_) | None => {}
            }
        });
    }
}
