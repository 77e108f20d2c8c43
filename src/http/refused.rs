//! Webhooks that are turned away leave a line that an operator sees: a registry that was refused does not come again.
//!
//! Guarantees: one line for the first of a kind, and one a minute later for how many there were since; so at most two a minute
//! for each kind, whoever sends how much. A line holds no text of a stranger but the region's and the image's names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// How long refusals of a kind are counted before they are told of.
const WINDOW: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Refused {
    /// By code, how many there were since the first; the codes are ours, so there are few.
    since: Arc<Mutex<HashMap<&'static str, u64>>>,
    /// Where webhooks among them are counted, if there is a service.
    metrics: Option<Arc<Metrics>>,
}

impl Refused {
    pub(super) fn new(metrics: Option<Arc<Metrics>>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Counts a webhook that was turned away, or means nothing here.
    pub(super) fn count(&self, code: &'static str, region: Option<&str>) {
        if let Some(metrics) = &self.metrics {
            metrics.refused(region, code);
        }
    }

    fn since(&self) -> MutexGuard<'_, HashMap<&'static str, u64>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request was turned away, or means nothing here.
    pub(super) fn note(
        &self,
        code: &'static str,
        message: &str,
        region: Option<&str>,
        image: Option<&str>,
        clock: &Arc<dyn Clock>,
    ) {
        match self.since().entry(code) {
            Entry::Occupied(mut count) => {
                *count.get_mut() += 1;
                return;
            }
            Entry::Vacant(first) => first.insert(0),
        };
        warn!(reason = code, region, image, "{message}");
        let (this, clock) = (self.clone(), Arc::clone(clock));
        actix_web::rt::spawn(async move {
            clock.sleep(WINDOW).await;
            match this.since().remove(code) {
                Some(count) if count > 0 => warn!(reason = code, count, "more of that kind within a minute"),
                Some(_) | None => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::clock::Instant;

    /// A clock whose every sleep lasts until it is let go.
    struct ByHand(Semaphore);

    #[async_trait::async_trait]
    impl Clock for ByHand {
        fn now(&self) -> Instant {
            Instant::UNIX_EPOCH
        }

        async fn sleep(&self, _: Duration) {
            self.0.acquire().await.expect("never closed").forget();
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn many_of_a_kind_are_two_lines_a_minute() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(move || writer.clone());
        let _guard = tracing::subscriber::set_default(subscriber.finish());
        let hand = Arc::new(ByHand(Semaphore::new(0)));
        let clock: Arc<dyn Clock> = Arc::clone(&hand) as _;
        let refused = Refused::default();
        let said =
            |lines: &Lines| String::from_utf8(std::mem::take(&mut *lines.0.lock().expect("no panic"))).expect("text");
        actix_web::rt::System::new().block_on(async {
            for _ in 0..1000 {
                refused.note("body_not_json", "webhook refused", Some("westus"), None, &clock);
            }
            refused.note("not_found", "webhook refused", None, Some("a:1"), &clock);
            let first = said(&lines);
            assert_eq!(first.lines().count(), 2, "{first}");
            hand.0.add_permits(2);
            while !refused.since().is_empty() {
                tokio::task::yield_now().await;
            }
            let then = said(&lines);
            assert!(then.contains("count=999") && then.lines().count() == 1, "{then}");
            refused.note("body_not_json", "webhook refused", None, None, &clock);
            assert!(said(&lines).contains("webhook refused"), "a minute later it is told anew");
        });
    }
}
