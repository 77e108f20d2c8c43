//! Traces and metrics go out by OTLP over HTTP, as protobuf, where the standard settings name a collector.
//!
//! Guarantees
//! - *In nobody's way.* A span is handed over without waiting; of those that a collector does not take in time, so many are kept
//!   and the rest is counted. A collector that cannot be reached leaves one line a minute, and keeps no process from ending.
//! - *No secret.* Headers are marked as such, and nothing of an answer or an address but its status, host and port is logged.
//!
//! The messages are those of `opentelemetry-proto`; the SDK for Rust is not used. Its tracer wants spans begun and ended by one
//! process under ids of its own choosing, while ours are made of a row at the end of a step; its histograms cannot be read from
//! what `/metrics` serves; and its exporter brings a thread that would have to hand each request back to this runtime.

mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::clock::{self, Clock, Instant};
use crate::engine::Engine;
use crate::limits;
use crate::outgoing::Outgoing;
use crate::traces::{Sampler, Traces, text};

/// Wait before a batch of spans that a collector did not take is sent again.
const AGAIN: Duration = Duration::from_secs(5);

/// Least time between two lines about a collector.
const QUIET: Duration = Duration::from_secs(60);

/// Longest time that what is left may take at the end of a process.
const END_MAX: Duration = Duration::from_secs(2);

/// What the standard settings say.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where traces go, if they do.
    pub traces: Option<Url>,
    /// Where metrics go, if they do.
    pub metrics: Option<Url>,
    /// Sent with every request; the values are marked sensitive.
    pub headers: HeaderMap,
    /// Time for one request.
    pub timeout: Duration,
    /// Which traces.
    pub sampler: Sampler,
    /// Names and values of what this process is, `service.name` among them.
    pub resource: Vec<(String, String)>,
    /// How often metrics go out.
    pub metrics_every: Duration,
    /// How long spans are gathered.
    pub spans_after: Duration,
}

/// The way to a collector.
pub(crate) struct Otlp {
    options: Options,
    client: Outgoing,
    clock: Arc<dyn Clock>,
    began: Instant,
    /// What found no room, or was not taken, since the last line.
    lost: Arc<AtomicU64>,
    told: std::sync::Mutex<Option<Instant>>,
    spans: Option<mpsc::Receiver<Span>>,
}

/// What is being sent; ended by [`Exports::end`].
pub(crate) struct Exports {
    stop: watch::Sender<bool>,
    tasks: TaskTracker,
    clock: Arc<dyn Clock>,
}

/// Why a collector did not take something.
struct Untaken {
    cause: String,
    /// It may take it later.
    passing: bool,
}

impl Otlp {
    /// Prepares to send as `options` say; connects to nothing yet. The traces, where they are wanted, are what spans are handed
    /// to.
    pub(crate) fn new(options: Options, clock: Arc<dyn Clock>) -> (Self, Option<Arc<Traces>>) {
        let (send, spans) = mpsc::channel(limits::SPANS_WAITING_MAX);
        let lost = Arc::<AtomicU64>::default();
        let sampler = options.sampler;
        let traces =
            options.traces.is_some().then(|| Arc::new(Traces::new(sampler, Arc::clone(&clock), send, lost.clone())));
        let timeout = options.timeout;
        let client = Outgoing::new(move || {
            reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build()
        });
        let spans = traces.is_some().then_some(spans);
        (Self { options, client, began: clock.now(), clock, lost, told: std::sync::Mutex::default(), spans }, traces)
    }

    /// Sends until [`Exports::end`], in tasks on `runtime`: spans as they come, and what `engine` counts.
    pub(crate) fn start(mut self, engine: Arc<Engine>, runtime: &tokio::runtime::Handle) -> Exports {
        let (stop, stopped) = watch::channel(false);
        let (tasks, clock) = (TaskTracker::new(), Arc::clone(&self.clock));
        let spans = self.spans.take();
        let this = Arc::new(self);
        for (what, url) in [("traces", &this.options.traces), ("metrics", &this.options.metrics)] {
            if let Some(url) = url {
                info!(what, to = crate::notify::target::shown(url), "sent by OTLP");
            }
        }
        if let Some((spans, url)) = spans.zip(this.options.traces.clone()) {
            tasks.spawn_on(Arc::clone(&this).send_spans(url, spans, stopped.clone()), runtime);
        }
        if let Some(url) = this.options.metrics.clone() {
            tasks.spawn_on(this.send_metrics(url, engine, stopped), runtime);
        }
        tasks.close();
        Exports { stop, tasks, clock }
    }

    async fn send_metrics(self: Arc<Self>, url: Url, engine: Arc<Engine>, mut stop: watch::Receiver<bool>) {
        let mut ending = false;
        while !ending {
            ending = self.or_stopped(self.clock.sleep(self.options.metrics_every), &mut stop).await.is_none();
            let text = engine.measured().await;
            let request = metrics::request(&text, self.resource(), scope(), self.began, self.clock.now());
            if let Err(untaken) = self.post(&url, request.encode_to_vec()).await {
                self.complain("metrics", &untaken.cause);
            }
        }
    }

    async fn send_spans(self: Arc<Self>, url: Url, mut spans: mpsc::Receiver<Span>, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(limits::SPANS_AT_ONCE_MAX);
        let mut ending = false;
        while !ending {
            ending = self.or_stopped(self.gather(&mut spans, &mut batch), &mut stop).await.is_none_or(|more| !more);
            while let Ok(span) = spans.try_recv() {
                batch.push(span);
            }
            self.deliver(&url, &mut batch, &mut stop, &mut ending).await;
        }
    }

    /// Waits for spans, and for more of them until there are enough or the first has waited for long enough. Whether any may
    /// come after them.
    async fn gather(&self, spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
        let first = spans.recv_many(batch, limits::SPANS_AT_ONCE_MAX).await;
        if first == 0 {
            return false;
        }
        let more = async {
            let mut room = limits::SPANS_AT_ONCE_MAX - first;
            while room > 0 {
                match spans.recv_many(batch, room).await {
                    0 => return false,
                    some => room -= some,
                }
            }
            true
        };
        match select(std::pin::pin!(more), self.clock.sleep(self.options.spans_after)).await {
            Either::Left((more, _)) => more,
            Either::Right(_) => true,
        }
    }

    /// Sends a batch until it is taken, refused, or the process ends.
    async fn deliver(&self, url: &Url, batch: &mut Vec<Span>, stop: &mut watch::Receiver<bool>, ending: &mut bool) {
        if batch.is_empty() {
            return;
        }
        let spans = std::mem::take(batch);
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
        let resource_spans = ResourceSpans { resource: Some(self.resource()), scope_spans, ..ResourceSpans::default() };
        let body = ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec();
        while let Err(Untaken { cause, passing }) = self.post(url, body.clone()).await {
            if !passing || *ending {
                self.lost.fetch_add(count, Ordering::Relaxed);
                self.complain("traces", &cause);
                return;
            }
            self.complain("traces", &cause);
            *ending = self.or_stopped(self.clock.sleep(AGAIN), stop).await.is_none();
        }
    }

    /// What `wait` comes to; `None` when the end comes first.
    async fn or_stopped<T>(&self, wait: impl Future<Output = T>, stop: &mut watch::Receiver<bool>) -> Option<T> {
        let stopped = stop.wait_for(|stop| *stop);
        match select(std::pin::pin!(wait), std::pin::pin!(stopped)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    async fn post(&self, url: &Url, body: Vec<u8>) -> Result<(), Untaken> {
        let broken = |cause: String| Untaken { cause, passing: true };
        let client = self.client.client().await.map_err(|why| broken(why.to_owned()))?;
        let request = client.post(url.clone()).headers(self.options.headers.clone());
        let sent = request.header(CONTENT_TYPE, "application/x-protobuf").body(body).send().await;
        let status = match sent {
            Ok(answer) => answer.status(),
            Err(error) if error.is_timeout() => return Err(broken("no answer in time".into())),
            Err(error) if error.is_connect() => return Err(broken("no connection".into())),
            Err(_) => return Err(broken("the connection broke".into())),
        };
        if status.is_success() {
            return Ok(());
        }
        let passing = matches!(status.as_u16(), 429 | 502..=504);
        Err(Untaken { cause: format!("status {}", status.as_u16()), passing })
    }

    fn complain(&self, what: &str, cause: &str) {
        let now = self.clock.now();
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.is_some_and(|told| clock::until(told, now) < QUIET) {
            return;
        }
        *told = Some(now);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        warn!(
            what,
            cause,
            lost_spans = lost,
            "the collector of OTEL_EXPORTER_OTLP_ENDPOINT does not take what it is sent; nothing but telemetry is lost by that"
        );
    }

    fn resource(&self) -> Resource {
        let attributes = self.options.resource.iter().map(|(name, value)| text(name, value.as_str())).collect();
        Resource { attributes, ..Resource::default() }
    }
}

impl Exports {
    /// Sends what is left, for a short time.
    pub(crate) async fn end(&self) {
        self.stop.send_replace(true);
        let _ = clock::within(&*self.clock, END_MAX, self.tasks.wait()).await;
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
