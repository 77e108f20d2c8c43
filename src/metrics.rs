//! What is counted, and the text of `/metrics`.
//!
//! One set of instruments feeds both ways out: `/metrics` encodes them, and what goes out by OTLP is read from that very text
//! (`otlp/metrics.rs`), since the library tells the contents of a histogram to its encoder only. So the two cannot differ.
//!
//! Guarantees
//! - *Bounded.* A region that the settings do not name counts as `other`, and so does a target; results are words of ours. No
//!   text of a stranger becomes a label.
//! - *Cheap.* A step finds its counters among those that were made at the start: it makes no text and takes no lock, but for
//!   that of a histogram.
//!
//! Knowingly accepted: what is counted begins at zero with each process; only the two gauges tell of what was before.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::clock;
use crate::push::{AttemptResult, Did, Input, Outcome, Policy, Row};
use crate::store::Census;

/// What stands before every name.
const PREFIX: &str = "global_webhook";

/// The label of what the settings do not name.
const OTHER: &str = "other";

/// Media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Words of [`Did`] that a step of an arrival can end with.
const ARRIVED: [&str; 10] = [
    "opened",
    "joined",
    "replicated",
    "repeated",
    "duplicate",
    "late",
    "recovered",
    "timed_out",
    "superseded",
    "ignored",
];

/// What an attempt can end with.
const ATTEMPTED: [&str; 4] = ["confirmed", "failed", "exhausted", "not_begun"];

/// What a push can settle as.
const SETTLED: [Outcome; 3] = [Outcome::Replicated, Outcome::TimedOut, Outcome::Superseded];

/// Seconds up to which lags are told apart: replication takes seconds to minutes, time-outs are minutes to hours.
const LAGS: [f64; 13] = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 900.0, 3600.0];

/// Seconds up to which lateness is told apart: the promise is 30 s, and webhooks on the queue are waited for two minutes.
const LATENESSES: [f64; 11] = [0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0];

/// A label whose values are names of the settings, and one whose values are words of ours.
type OfName = [(&'static str, Arc<str>); 1];
/// See [`OfName`].
type OfWord = [(&'static str, &'static str); 1];

type Lags = Family<OfName, Histogram, fn() -> Histogram>;

/// What is held ready for each name of the settings, and for all others.
struct Named<T> {
    /// In the order of the names.
    known: Vec<(Arc<str>, T)>,
    other: T,
}

impl<T> Named<T> {
    fn new<'a>(names: impl IntoIterator<Item = &'a str>, of: impl Fn(Arc<str>) -> T) -> Self {
        let mut known: Vec<(Arc<str>, T)> = names.into_iter().map(|name| (name.into(), of(name.into()))).collect();
        known.sort_by(|one, two| one.0.cmp(&two.0));
        Self { known, other: of(OTHER.into()) }
    }

    fn place(&self, name: &str) -> Option<&(Arc<str>, T)> {
        self.known.binary_search_by(|(known, _)| (**known).cmp(name)).ok().map(|at| &self.known[at])
    }

    fn get(&self, name: &str) -> &T {
        self.place(name).map_or(&self.other, |(_, of)| of)
    }

    /// The name as a label.
    fn label(&self, name: &str) -> Arc<str> {
        self.place(name).map_or_else(|| OTHER.into(), |(label, _)| Arc::clone(label))
    }
}

struct PerRegion {
    /// In the order of [`ARRIVED`].
    arrived: [Counter; ARRIVED.len()],
    lag: Histogram,
}

struct PerTarget {
    /// In the order of [`ATTEMPTED`].
    attempted: [Counter; ATTEMPTED.len()],
    exhausted: Counter,
}

/// What a storage request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It was done.
    Ok,
    /// What is asked for is not there.
    NotFound,
    /// Something else is stored.
    Conflict,
    /// The credential was not accepted.
    Refused,
    /// The service has too much to do.
    Throttled,
    /// Any other answer that is no success.
    Failed,
    /// No answer.
    Unreachable,
}

impl Answered {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Ok, "ok"),
        (Self::NotFound, "not_found"),
        (Self::Conflict, "conflict"),
        (Self::Refused, "refused"),
        (Self::Throttled, "throttled"),
        (Self::Failed, "failed"),
        (Self::Unreachable, "unreachable"),
    ];

    /// What an HTTP status says.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            ..=399 => Self::Ok,
            401 | 403 => Self::Refused,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            429 | 503 => Self::Throttled,
            _ => Self::Failed,
        }
    }
}

/// Requests to where pushes live, counted where they are made. Clones count together.
#[derive(Clone, Default)]
pub struct Requests {
    family: Family<(OfWord, OfWord), Counter>,
    /// One for each kind, in the order of [`Answered::ALL`].
    kinds: Arc<[(&'static str, [Counter; Answered::ALL.len()])]>,
}

impl Requests {
    /// Counts requests of these kinds.
    pub(crate) fn new(kinds: &[&'static str]) -> Self {
        let family = Family::<(OfWord, OfWord), Counter>::default();
        let of = |kind| {
            Answered::ALL.map(|(_, result)| family.get_or_create_owned(&([("kind", kind)], [("result", result)])))
        };
        let kinds = kinds.iter().map(|kind| (*kind, of(kind))).collect();
        Self { family, kinds }
    }

    pub(crate) fn count(&self, kind: &str, answered: Answered) {
        let of_kind = self.kinds.iter().find(|(known, _)| *known == kind);
        let place = Answered::ALL.iter().position(|(one, _)| *one == answered);
        if let (Some((_, counters)), Some(place)) = (of_kind, place) {
            counters[place].inc();
        }
    }
}

/// All instruments of one running service.
pub struct Metrics {
    arrivals: Family<(OfName, OfWord), Counter>,
    lag: Lags,
    settled: Family<OfWord, Counter>,
    attempts: Family<(OfName, OfWord), Counter>,
    exhausted: Family<OfName, Counter>,
    spills: Counter,
    lateness: Histogram,
    requests: Requests,
    regions: Named<PerRegion>,
    targets: Named<PerTarget>,
    outcomes: [Counter; SETTLED.len()],
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Instruments for the regions and targets of these settings, and for a store whose `requests` are counted there.
    #[must_use]
    pub fn new(policy: &Policy, requests: Requests) -> Self {
        let arrivals = Family::<(OfName, OfWord), Counter>::default();
        let lag = Lags::new_with_constructor(|| Histogram::new(LAGS));
        let settled = Family::<OfWord, Counter>::default();
        let attempts = Family::<(OfName, OfWord), Counter>::default();
        let exhausted = Family::<OfName, Counter>::default();
        let of_region = |region: Arc<str>| {
            let name = [("region", region)];
            let arrived = |result| arrivals.get_or_create_owned(&(name.clone(), [("result", result)]));
            PerRegion { arrived: ARRIVED.map(arrived), lag: lag.get_or_create_owned(&name) }
        };
        let of_target = |target: Arc<str>| {
            let name = [("target", target)];
            let attempted = |result| attempts.get_or_create_owned(&(name.clone(), [("result", result)]));
            PerTarget { attempted: ATTEMPTED.map(attempted), exhausted: exhausted.get_or_create_owned(&name) }
        };
        let regions = Named::new(policy.known_regions().iter().map(|region| region.as_str()), of_region);
        let targets = Named::new(policy.targets.iter().map(|target| target.name.as_str()), of_target);
        let outcomes = SETTLED.map(|outcome| settled.get_or_create_owned(&[("outcome", Did::Settled(outcome).word())]));
        let (spills, lateness) = (Counter::default(), Histogram::new(LATENESSES));
        Self { arrivals, lag, settled, attempts, exhausted, spills, lateness, requests, regions, targets, outcomes }
    }

    /// Counts a step that was taken, `row` being what it left.
    pub(crate) fn step(&self, input: &Input, did: &Did, row: Option<&Row>) {
        match input {
            Input::Arrival { arrival, .. } => self.arrived(arrival.region.as_str(), arrival.received, did, row),
            Input::Attempted(attempted) => {
                let result = match (&attempted.result, did) {
                    (AttemptResult::Confirmed { .. }, _) => 0,
                    (AttemptResult::NotBegun { .. }, _) => 3,
                    (AttemptResult::Failed { .. } | AttemptResult::Refused { .. }, Did::Exhausted) => 2,
                    (AttemptResult::Failed { .. } | AttemptResult::Refused { .. }, _) => 1,
                };
                self.targets.get(&attempted.target).attempted[result].inc();
            }
            Input::Timer | Input::Terminate | Input::Redeliver(_) | Input::Purge | Input::ByHand(_) => {}
        }
        // Both words change the row, so what settled at its last change settled in this step.
        let changed = row.filter(|_| matches!(did, Did::Settled(_) | Did::Recovered));
        if let Some((row, settled)) = changed.and_then(|row| Some((row, row.settled()?)))
            && settled.at == row.updated
        {
            if let Some(place) = SETTLED.iter().position(|outcome| *outcome == settled.outcome) {
                self.outcomes[place].inc();
            }
            if settled.at >= row.deadline && !settled.terminated {
                self.lateness.observe(clock::until(row.deadline, settled.at).as_secs_f64());
            }
        }
    }

    fn arrived(&self, region: &str, received: clock::Instant, did: &Did, row: Option<&Row>) {
        if let Did::Earlier(_) = did {
            // Another step follows, for the round before.
            return;
        }
        let of = self.regions.get(region);
        let word = did.word();
        match ARRIVED.iter().position(|known| *known == word) {
            Some(place) => {
                of.arrived[place].inc();
            }
            None => self.refused(Some(region), word),
        }
        let first = matches!(did, Did::Opened | Did::Joined | Did::Late | Did::Recovered | Did::Settled(_));
        if let Some(row) = row.filter(|_| first) {
            of.lag.observe(clock::until(row.opened, received).as_secs_f64());
        }
    }

    /// Counts a webhook that was turned away, or means nothing here. `code` is one of ours.
    pub(crate) fn refused(&self, region: Option<&str>, code: &'static str) {
        let region = region.map_or_else(|| OTHER.into(), |region| self.regions.label(region));
        self.arrivals.get_or_create(&([("region", region)], [("result", code)])).inc();
    }

    /// Counts an arrival that was put onto the queue as well.
    pub(crate) fn spilled(&self) {
        self.spills.inc();
    }

    /// Counts a notification that was given up.
    pub(crate) fn exhausted(&self, target: &str) {
        self.targets.get(target).exhausted.inc();
    }

    /// The text of `/metrics`, with what is owed at this moment, as far as that could be counted.
    #[must_use]
    pub fn text(&self, census: Option<Census>) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "arrivals",
            "Webhooks of regions by what their step came to, and those turned away by the code of the answer",
            self.arrivals.clone(),
        );
        registry.register_with_unit(
            "lag",
            "Time from the first webhook of a push to that of the region",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register("settled", "Pushes that settled", self.settled.clone());
        registry.register_with_unit(
            "timer_lateness",
            "Time from the deadline of a push to its settling at or after it, waits for the queue included",
            Unit::Seconds,
            self.lateness.clone(),
        );
        registry.register("attempts", "Attempts at notifications by their result", self.attempts.clone());
        registry.register("exhausted", "Notifications given up", self.exhausted.clone());
        registry.register("spills", "Arrivals put onto the queue as well, their row being slow", self.spills.clone());
        registry.register("storage_requests", "Requests to where pushes live", self.requests.family.clone());
        if let Some(Census { waiting, owed }) = census {
            let known = "on the embedded store all there are; on Azure those that this process wrote or upkeep found";
            registry.register("waiting", format!("Pushes that wait for regions: {known}"), ConstGauge::new(waiting));
            registry.register("owed", format!("Notifications not confirmed yet: {known}"), ConstGauge::new(owed));
        }
        registry.register("build", "This program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a text cannot fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
