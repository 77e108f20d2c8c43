//! The only client that talks to receivers.
//!
//! Guarantees: one attempt ends within its time-out plus the wait for a place, and never later than its lease allows; it
//! costs bounded memory whatever comes back; redirects are not followed; a target that hangs delays no other, because each
//! has places of its own, for which a bounded number waits. The configuration is looked up by name at the moment of
//! sending, so a rotated secret or a moved receiver takes effect for pushes that settled before.
//!
//! Proxies named in the environment are not used: the address that is checked must be the address that is connected to.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, join_all, select};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Response, redirect};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::payload::{self, Message};
use super::target::TargetSettings;
use super::{Notifier, guard, reply, signature, test_message};
use crate::api::Tested;
use crate::clock::{self, Clock, Instant};
use crate::limits;
use crate::outgoing::Outgoing;
use crate::push::state::Row;
use crate::push::{AttemptResult, Claim};
use crate::traces::{Attempt, Traces};

/// What a [`HttpNotifier`] may be told besides its targets.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time-out of one attempt, reply included; at most [`limits::ATTEMPT_TIMEOUT`], or leases would be overrun.
    pub attempt_timeout: Duration,
    /// Where this service is reached, without a slash at the end, for the link to a push's status.
    pub public_url: Option<String>,
    /// Where attempts are traced, if they are; receivers are then sent `traceparent`.
    pub traces: Option<Arc<Traces>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { attempt_timeout: limits::ATTEMPT_TIMEOUT, public_url: None, traces: None }
    }
}

/// Sends notifications over HTTP.
pub struct HttpNotifier {
    targets: HashMap<String, Receiver>,
    /// For targets that may be on a private network, and for those that may not.
    anywhere: Outgoing,
    public: Outgoing,
    /// What all those who wait for a place have in memory, in bytes.
    waiting_bytes: AtomicUsize,
    /// Room for one test.
    testing: Semaphore,
    clock: Arc<dyn Clock>,
    options: Options,
}

struct Receiver {
    settings: TargetSettings,
    places: Semaphore,
    /// How many wait for a place.
    waiting: AtomicUsize,
}

/// What one of those who wait takes of a bound, for as long as it does.
struct Waiter<'r>(&'r AtomicUsize, usize);

impl<'r> Waiter<'r> {
    /// `None` when the bound is reached already; a single one may go beyond it.
    fn new(taken: &'r AtomicUsize, more: usize, max: usize) -> Option<Self> {
        let before = taken.fetch_add(more, Ordering::Relaxed);
        Some(Self(taken, more)).filter(|_| before < max)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl HttpNotifier {
    /// A notifier for `targets`, whose names are distinct. Must live on a tokio runtime with I/O and time.
    #[must_use]
    pub fn new(targets: Vec<TargetSettings>, clock: Arc<dyn Clock>, options: Options) -> Self {
        let options = Options { attempt_timeout: options.attempt_timeout.min(limits::ATTEMPT_TIMEOUT), ..options };
        let each = places(targets.len());
        let timeout = options.attempt_timeout;
        let client = |private_allowed| Outgoing::new(move || client(private_allowed, timeout));
        let (anywhere, public) = (client(true), client(false));
        let receiver = |settings: TargetSettings| {
            let (places, waiting) = (Semaphore::new(each), AtomicUsize::new(0));
            (settings.policy.name.clone(), Receiver { settings, places, waiting })
        };
        Self {
            targets: targets.into_iter().map(receiver).collect(),
            anywhere,
            public,
            waiting_bytes: AtomicUsize::new(0),
            testing: Semaphore::new(1),
            clock,
            options,
        }
    }

    /// A place to send from. Waits for one as long as the lease still leaves time for a whole attempt, unless too many do, or
    /// with too much.
    async fn place<'r>(&self, receiver: &'r Receiver, row: &Row, lease_until: Instant) -> Option<SemaphorePermit<'r>> {
        if let Ok(place) = receiver.places.try_acquire() {
            return Some(place);
        }
        let _one = Waiter::new(&receiver.waiting, 1, limits::DELIVERIES_WAITING_MAX)?;
        let _bytes = Waiter::new(&self.waiting_bytes, row.payload.len(), limits::DELIVERIES_WAITING_BYTES_MAX)?;
        let patience = clock::until(self.clock.now(), lease_until).saturating_sub(limits::LEASE_MARGIN);
        match select(pin!(receiver.places.acquire()), self.clock.sleep(patience)).await {
            Either::Left((permit, _)) => permit.ok(),
            Either::Right(_) => None,
        }
    }

    async fn send(&self, receiver: &Receiver, row: &Row, claim: &Claim, traced: Option<&Attempt>) -> AttemptResult {
        let settings = &receiver.settings;
        // Owed since before the target's format was changed: no later attempt can do better.
        if !settings.format.tells(claim.notice) {
            let (format, notice) = (settings.format.word(), claim.notice.word());
            return AttemptResult::Refused {
                reason: format!("not sent: the format `{format}` has no words for `{notice}`"),
            };
        }
        let message = match payload::message(settings.format, row, claim.notice, self.options.public_url.as_deref()) {
            Ok(message) => message,
            Err(problem) => return reply::failed(problem),
        };
        self.post(settings, message, &row.notification_id(claim.notice), traced).await
    }

    /// Sends `message` to a receiver under this `webhook-id`, once.
    async fn post(
        &self,
        settings: &TargetSettings,
        message: Message,
        id: &str,
        traced: Option<&Attempt>,
    ) -> AttemptResult {
        let refused = guard::literal(&settings.url).and_then(|ip| guard::refusal(ip, settings.allow_private));
        if let Some(why) = refused {
            return reply::failed(format!("cannot connect: refused: {why}"));
        }
        let mut headers = match headers(settings, &message, id, self.clock.now().timestamp()) {
            Ok(headers) => headers,
            Err(problem) => return reply::failed(problem),
        };
        if let Some(value) = traced.and_then(|attempt| HeaderValue::try_from(attempt.traceparent()).ok()) {
            headers.insert(HeaderName::from_static("traceparent"), value);
        }
        let client = if settings.allow_private { &self.anywhere } else { &self.public };
        let client = match client.client().await {
            Ok(client) => client,
            Err(problem) => return reply::failed(problem),
        };
        let sent = client.post(settings.url.clone()).headers(headers).body(message.body).send().await;
        match sent {
            Ok(mut response) => {
                let text = self.text(&mut response).await;
                let (status, headers) = (response.status(), response.headers());
                reply::result(settings.format, status, headers, &text, self.clock.now())
            }
            Err(error) => reply::broken(&error, self.options.attempt_timeout),
        }
    }

    /// Sends a test to the receiver of this name, or to each, all at the same time, and says by name what came of it: no entry where
    /// there is no such receiver. A test is one attempt like any other, but for its place: it waits for no other attempt, and none
    /// waits for it. `None` while another test is under way.
    pub async fn test(&self, target: Option<&str>) -> Option<Vec<Tested>> {
        let _one = self.testing.try_acquire().ok()?;
        let chosen = |receiver: &&Receiver| target.is_none_or(|name| receiver.settings.policy.name == name);
        let each = self.targets.values().filter(chosen).map(|receiver| self.test_of(&receiver.settings));
        let mut tested = join_all(each).await;
        tested.sort_by(|a, b| a.target.cmp(&b.target));
        Some(tested)
    }

    async fn test_of(&self, settings: &TargetSettings) -> Tested {
        let (test, began) = (Uuid::new_v4(), self.clock.now());
        let id = test_message::webhook_id(test);
        let result = match test_message::message(settings.format, test, began) {
            Ok(message) => self.post(settings, message, &id, None).await,
            Err(problem) => reply::failed(problem.to_string()),
        };
        let (status, reason) = match result {
            AttemptResult::Confirmed { status } => (Some(status), None),
            AttemptResult::Failed { reason, .. }
            | AttemptResult::Refused { reason }
            | AttemptResult::NotBegun { reason } => (None, Some(reason)),
        };
        let took = clock::until(began, self.clock.now()).as_millis();
        Tested {
            target: settings.policy.name.clone(),
            format: settings.format.word().to_owned(),
            id,
            confirmed: status.is_some(),
            status,
            reason,
            duration_ms: u64::try_from(took).unwrap_or(u64::MAX),
        }
    }

    /// The beginning of the reply's body. What is beyond the bound is never read: the connection is closed instead. After a
    /// 2xx the body matters little, so it is not waited for long; whatever happens to it, the receiver has confirmed.
    async fn text(&self, response: &mut Response) -> Vec<u8> {
        let patience =
            if response.status().is_success() { limits::REPLY_REST_WAIT } else { self.options.attempt_timeout };
        let mut text = Vec::new();
        let read = async {
            while text.len() < limits::REPLY_BYTES_MAX {
                let Ok(Some(chunk)) = response.chunk().await else { break };
                let room = limits::REPLY_BYTES_MAX - text.len();
                text.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
        };
        select(pin!(read), self.clock.sleep(patience)).await;
        text
    }
}

#[async_trait]
impl Notifier for HttpNotifier {
    async fn attempt(&self, row: &Row, claim: &Claim) -> AttemptResult {
        let Some(receiver) = self.targets.get(&claim.target) else {
            return reply::failed(format!("target `{}` is not configured here", claim.target));
        };
        let Some(_place) = self.place(receiver, row, claim.lease_until).await else {
            let reason = "not sent: earlier notifications to this target are still under way".to_owned();
            return AttemptResult::NotBegun { reason };
        };
        let traced = self.options.traces.as_ref().map(|traces| (traces, traces.attempt(row)));
        let result = self.send(receiver, row, claim, traced.as_ref().map(|(_, attempt)| attempt)).await;
        if let Some((traces, attempt)) = traced {
            traces.attempted(&attempt, row, claim, &result);
        }
        result
    }
}

/// Attempts at one target at the same time. All targets together stay within [`limits::DELIVERIES_AT_ONCE_MAX`] without
/// having to wait for each other.
fn places(targets: usize) -> usize {
    (limits::DELIVERIES_AT_ONCE_MAX / targets.max(1)).clamp(1, limits::DELIVERIES_PER_TARGET_MAX)
}

fn client(private_allowed: bool, timeout: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .timeout(timeout)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .dns_resolver(Arc::new(guard::Guarded { private_allowed }))
        .pool_max_idle_per_host(limits::DELIVERIES_PER_TARGET_MAX)
        .pool_idle_timeout(limits::CONNECTION_IDLE_MAX)
        .build()
}

/// The target's own headers, then those that nobody may change.
fn headers(settings: &TargetSettings, message: &Message, id: &str, timestamp: i64) -> Result<HeaderMap, String> {
    const ID: HeaderName = HeaderName::from_static("webhook-id");
    const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
    const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
    let value = |text: &str| HeaderValue::from_str(text).map_err(|e| e.to_string());
    let mut headers = settings.headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(message.content_type));
    headers.insert(USER_AGENT, HeaderValue::from_static(message.user_agent));
    headers.insert(ID, value(id)?);
    headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
    if let Some(signatures) = signature::signatures(&settings.secrets, id, timestamp, message.body.as_bytes()) {
        headers.insert(SIGNATURE, value(&signatures)?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_together_stay_within_the_bound() {
        assert_eq!(places(0), limits::DELIVERIES_PER_TARGET_MAX);
        for targets in 1..=limits::TARGETS_MAX {
            assert!(places(targets) >= 2 && places(targets) * targets <= limits::DELIVERIES_AT_ONCE_MAX, "{targets}");
        }
    }
}
