//! What a push's trace is made of. One trace is one push, over hours and processes.
//!
//! The trace's id is a hash of the push id and of when it was opened, so that whoever works on the push next, in whichever
//! process, adds to the same trace without being told. Its root, `push`, lasts from the first arrival to the settling. Below it
//! are the steps (`arrival`, `timer`, `terminate`, `redeliver`, `by_hand`) and every attempt at a notification (`notify`), which also go on
//! after it has ended. A span is made when it has ended, at the place where the step is logged; nothing is kept meanwhile.
//!
//! A caller that sends `traceparent` gets a span in its own trace, and that and the arrival's link to each other. Receivers are
//! sent the `traceparent` of their attempt.
//!
//! Knowingly accepted: a span is lost with its process. Each process decides alike whether a push is sampled, so that a trace
//! is whole or not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::clock::{Clock, Instant};
use crate::notify::reply::status_in;
use crate::push::names::hex;
use crate::push::{AttemptResult, Claim, Did, Input, Outcome, Row};

/// A trace and a span in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    trace: [u8; 16],
    span: [u8; 8],
}

/// The span that a caller is in, as its `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    place: Place,
    sampled: bool,
}

impl Caller {
    /// Reads a `traceparent` of W3C Trace Context; `None` when it is none, which is no fault of the request.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may say more behind what is known.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let [_, flags] = [unhex::<1>(version)?, unhex::<1>(flags)?];
        let place = Place { trace: unhex(trace)?, span: unhex(span)? };
        let valid = place.trace != [0; 16] && place.span != [0; 8];
        valid.then_some(Self { place, sampled: flags[0] & 1 == 1 })
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 2 * N || !text.bytes().all(digits) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Which traces are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// The part of all traces, from 0 to 1. Decided by the trace's id.
    pub ratio: f64,
    /// A caller's own trace goes by the caller's decision.
    pub parent_based: bool,
}

impl Sampler {
    fn takes(self, trace: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace;
        let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11;
        // 53 bits, which a floating-point number holds.
        (place as f64) < self.ratio * (1_u64 << 53) as f64
    }

    fn takes_caller(self, caller: &Caller) -> bool {
        if self.parent_based { caller.sampled } else { self.takes(caller.place.trace) }
    }
}

/// Makes spans and hands them on to be sent.
pub struct Traces {
    sampler: Sampler,
    clock: Arc<dyn Clock>,
    spans: mpsc::Sender<Span>,
    lost: Arc<AtomicU64>,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traces").field("sampler", &self.sampler).finish_non_exhaustive()
    }
}

/// An attempt under way.
#[derive(Debug)]
pub(crate) struct Attempt {
    place: Place,
    parent: [u8; 8],
    sampled: bool,
    began: Instant,
}

impl Attempt {
    /// The header that the receiver is sent.
    pub(crate) fn traceparent(&self) -> String {
        let Place { trace, span } = self.place;
        format!("00-{}-{}-0{}", hex(&trace), hex(&span), u8::from(self.sampled))
    }
}

/// A step that was taken.
pub(crate) struct Taken<'a> {
    pub(crate) input: &'a Input,
    pub(crate) did: &'a Did,
    /// What it left.
    pub(crate) row: &'a Row,
    pub(crate) began: Instant,
    pub(crate) caller: Option<Caller>,
}

impl Traces {
    /// Spans that `sampler` takes are handed to `spans`; what finds no room there is counted in `lost`.
    pub(crate) fn new(
        sampler: Sampler,
        clock: Arc<dyn Clock>,
        spans: mpsc::Sender<Span>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        Self { sampler, clock, spans, lost }
    }

    /// The id of a push's trace, in the hex form that viewers show.
    pub(crate) fn id(row: &Row) -> String {
        hex(&root(row).trace)
    }

    /// A step, and the push itself when it has settled in it.
    pub(crate) fn step(&self, Taken { input, did, row, began, caller }: &Taken<'_>) {
        let push = root(row);
        let now = self.clock.now();
        let (name, start) = match input {
            // Another step follows, for the round before.
            Input::Arrival { .. } if matches!(did, Did::Earlier(_)) => return,
            Input::Arrival { arrival, .. } => ("arrival", arrival.received),
            Input::Timer if matches!(did, Did::Early | Did::Idle) => return,
            Input::Timer => ("timer", *began),
            Input::Terminate => ("terminate", *began),
            Input::Redeliver(_) => ("redeliver", *began),
            Input::ByHand(_) => ("by_hand", *began),
            // An attempt has a span of its own, and nothing is to be seen of a push that is purged.
            Input::Attempted(_) | Input::Purge => return,
        };
        let own = Place { trace: push.trace, span: fresh() };
        let link = |to: Place| Link { trace_id: to.trace.into(), span_id: to.span.into(), ..Link::default() };
        let taken = self.sampler.takes(push.trace);
        let mut links = Vec::new();
        if let Some(caller) = caller.filter(|caller| self.sampler.takes_caller(caller)) {
            let server = Place { trace: caller.place.trace, span: fresh() };
            let span = span("POST /api/ImagePush", SpanKind::Server, server, Some(caller.place.span), start, now);
            let attributes = vec![text("http.request.method", "POST"), text("push.id", row.id.to_string())];
            self.send(Span { attributes, links: taken.then(|| link(own)).into_iter().collect(), ..span });
            links.push(link(server));
        } else if let Some(caller) = caller {
            links.push(link(caller.place));
        }
        if !taken {
            return;
        }
        let mut attributes = vec![text("push.id", row.id.to_string()), text("outcome", did.word())];
        if let Input::Arrival { arrival, spilled, .. } = input {
            attributes.push(text("region", arrival.region.as_str()));
            attributes.push(text("spilled", spilled.to_string()));
        }
        if let Input::ByHand(region) = input {
            attributes.push(text("region", region.as_str()));
        }
        let step = span(name, SpanKind::Internal, own, Some(push.span), start, now);
        self.send(Span { attributes, links, ..step });
        let settled = row.settled().filter(|settled| settled.at == row.updated);
        if let Some(settled) = settled.filter(|_| matches!(did, Did::Settled(_) | Did::Recovered)) {
            let names = |all: &[crate::push::Region]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let attributes = vec![
                text("push.id", row.id.to_string()),
                text("registry", row.subject.registry.clone()),
                text("image", row.subject.image()),
                text("action", row.subject.action.clone()),
                text("digest", row.subject.digest.clone()),
                text("regions", names(&row.regions)),
                text("missing", names(&settled.missing)),
                text("outcome", Did::Settled(settled.outcome).word()),
            ];
            let status = (settled.outcome == Outcome::TimedOut).then(|| failed("not everywhere within the time-out"));
            self.send(Span {
                attributes,
                status,
                ..span("push", SpanKind::Internal, push, None, row.opened, settled.at)
            });
        }
    }

    /// Begins an attempt at a notification of `row`.
    pub(crate) fn attempt(&self, row: &Row) -> Attempt {
        let Place { trace, span: parent } = root(row);
        let sampled = self.sampler.takes(trace);
        Attempt { place: Place { trace, span: fresh() }, parent, sampled, began: self.clock.now() }
    }

    /// Ends it.
    pub(crate) fn attempted(&self, attempt: &Attempt, row: &Row, claim: &Claim, result: &AttemptResult) {
        if !attempt.sampled {
            return;
        }
        let (word, status, answered) = match result {
            AttemptResult::Confirmed { status } => ("confirmed", None, Some(*status)),
            AttemptResult::Failed { reason, .. } => ("failed", Some(failed(reason)), status_in(reason)),
            AttemptResult::NotBegun { reason } => ("not_begun", Some(failed(reason)), None),
            AttemptResult::Refused { reason } => ("refused", Some(failed(reason)), status_in(reason)),
        };
        let mut attributes = vec![
            text("push.id", row.id.to_string()),
            text("target", claim.target.clone()),
            text("notice", claim.notice.word()),
            text("webhook.id", row.notification_id(claim.notice)),
            number("attempt", claim.claim.into()),
            text("result", word),
        ];
        attributes.extend(answered.map(|code| number("http.response.status_code", code.into())));
        let (from, to) = (attempt.began, self.clock.now());
        let span = span("notify", SpanKind::Client, attempt.place, Some(attempt.parent), from, to);
        self.send(Span { attributes, status, ..span });
    }

    fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The root span of a push. Its id may come again after a purge, together with another instant.
fn root(row: &Row) -> Place {
    let hash = Sha256::digest(format!("trace {} {}", row.id, row.opened.timestamp_millis()));
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&hash[..16]);
    span.copy_from_slice(&hash[16..24]);
    Place { trace, span }
}

/// An id that no other span has.
fn fresh() -> [u8; 8] {
    uuid::Uuid::new_v4().as_u64_pair().1.to_be_bytes()
}

fn span(name: &str, kind: SpanKind, place: Place, parent: Option<[u8; 8]>, start: Instant, end: Instant) -> Span {
    let nanos = |at: Instant| at.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default();
    Span {
        trace_id: place.trace.into(),
        span_id: place.span.into(),
        parent_span_id: parent.map(Into::into).unwrap_or_default(),
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(end.max(start)),
        ..Span::default()
    }
}

fn failed(message: &str) -> Status {
    Status { message: message.to_owned(), code: StatusCode::Error.into() }
}

/// An attribute that is a text.
pub(crate) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
#[path = "traces_tests.rs"]
mod tests;
