//! A past for a store's file: rows that the real step made, of webhooks received long ago.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use global_webhook::clock::SystemClock;
use global_webhook::config::{self, Source};
use global_webhook::push::{
    Answer, Arrival, AttemptResult, Attempted, Claim, Decision, Input, Policy, PushId, Region, Row, step,
};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::{Applied, Decide, Store, Wakes as _, Which};

use super::service::Image;

/// A step at an instant that has passed.
struct Then {
    input: Input,
    now: DateTime<Utc>,
    policy: Arc<Policy>,
}

impl Decide for Then {
    fn decide(&self, row: Option<&Row>, answer: Option<Answer>) -> Decision {
        step(row, &self.input, self.now, &self.policy, answer)
    }
}

/// Writes into a store's file while no process has it open.
pub struct History {
    store: EmbeddedStore,
    policy: Arc<Policy>,
    now: DateTime<Utc>,
}

/// How a receiver of the past answered an attempt.
pub type Answers<'a> = &'a (dyn Fn(&Claim) -> AttemptResult + Sync);

/// Every attempt is confirmed.
pub fn confirmed(_: &Claim) -> AttemptResult {
    AttemptResult::Confirmed { status: 200 }
}

/// This attempt fails with `reason`.
pub fn failed(reason: &str) -> AttemptResult {
    AttemptResult::Failed { reason: reason.into(), retry_after: None }
}

impl History {
    /// Opens the file as a service with these settings would.
    pub fn open(path: &Path, settings: &[(&str, &str)], now: DateTime<Utc>) -> Self {
        let pairs = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = config::load(&Source::new(pairs)).unwrap_or_else(|faults| panic!("{}", faults[0]));
        let store = EmbeddedStore::open(path, Arc::new(SystemClock)).expect("the file");
        Self { store, policy: Arc::new(settings.policy), now }
    }

    /// An instant so many seconds ago.
    pub fn ago(&self, seconds: i64) -> DateTime<Utc> {
        self.now - chrono::Duration::seconds(seconds)
    }

    /// Closes the file, so that a process may open it.
    pub async fn close(self) {
        self.store.close().await;
    }

    async fn apply(&self, which: Which, input: Input, now: DateTime<Utc>) -> Applied {
        let policy = Arc::clone(&self.policy);
        self.store.apply(&which, Arc::new(Then { input, now, policy })).await.expect("a step")
    }

    /// A push whose regions reported so many milliseconds after it was opened, and what became of it up to the present.
    pub async fn push(
        &self,
        image: &Image,
        opened: DateTime<Utc>,
        lags: &[(&str, i64)],
        answers: Answers<'_>,
    ) -> PushId {
        let mut lags = lags.to_vec();
        lags.sort_by_key(|(_, lag)| *lag);
        let mut id = None;
        for (region, lag) in lags {
            let at = opened + chrono::Duration::milliseconds(lag);
            if let Some(id) = &id {
                self.until(id, at, answers).await;
            }
            let region = Region::parse(region).expect("a region");
            let arrival = Arrival::read(region, at, image.notification(), None).expect("a webhook");
            let which = Which::Newest(arrival.key(self.policy.correlation));
            let input = Input::Arrival { arrival: Arc::new(arrival), spilled: false, earlier: false };
            let applied = self.apply(which, input, at).await;
            let row = applied.row.expect("a push");
            id = Some(row.id.clone());
            self.told(&row.id, applied.claims, at, answers).await;
        }
        let id = id.expect("a report");
        self.until(&id, self.now, answers).await;
        id
    }

    /// An operator's report of a region.
    pub async fn by_hand(&self, id: &PushId, region: &str, at: DateTime<Utc>, answers: Answers<'_>) {
        let input = Input::ByHand(Region::parse(region).expect("a region"));
        let applied = self.apply(Which::Push(id.clone()), input, at).await;
        self.told(id, applied.claims, at, answers).await;
        self.until(id, self.now, answers).await;
    }

    /// Does whatever the push owes before an instant.
    async fn until(&self, id: &PushId, end: DateTime<Utc>, answers: Answers<'_>) {
        loop {
            let row = self.store.get(&Which::Push(id.clone())).await.expect("a read").expect("a push");
            let Some(wake) = row.wake().filter(|wake| *wake < end) else { return };
            let applied = self.apply(Which::Push(id.clone()), Input::Timer, wake).await;
            self.told(id, applied.claims, wake, answers).await;
        }
    }

    async fn told(&self, id: &PushId, claims: Vec<Claim>, at: DateTime<Utc>, answers: Answers<'_>) {
        for claim in claims {
            let result = answers(&claim);
            let attempted = Attempted { target: claim.target, notice: claim.notice, claim: claim.claim, result };
            let after = at + Duration::from_millis(84);
            self.apply(Which::Push(id.clone()), Input::Attempted(attempted), after).await;
        }
    }
}
