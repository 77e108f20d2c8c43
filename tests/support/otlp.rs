//! A collector: takes what is sent by OTLP over HTTP and reads it with the messages of OTLP's authors.

use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::recorder::{Received, Recorder};

/// A collector on a port of the loopback.
pub struct Collector {
    recorder: Recorder,
    port: u16,
    taken: Mutex<Vec<Received>>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let recorder = Recorder::default();
        Self { port: recorder.listen().await, recorder, taken: Mutex::default() }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is for it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers the next requests with this status.
    pub fn refuses(&self, times: usize, status: u16) {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
        self.recorder.script(&vec![answer.as_bytes(); times]);
    }

    /// Everything that it was sent under a path.
    pub fn requests(&self, path: &str) -> Vec<Received> {
        let mut taken = self.taken.lock().unwrap();
        taken.extend(self.recorder.take());
        let start = format!("POST {path} ");
        taken.iter().filter(|(head, _)| head.start.starts_with(&start)).cloned().collect()
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        let read = |(_, body): &Received| ExportTraceServiceRequest::decode(&body[..]).expect("traces");
        let requests = self.requests("/v1/traces");
        let of_resources = requests.iter().map(read).flat_map(|request| request.resource_spans);
        of_resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }

    /// The metrics of the last request.
    pub fn metrics(&self) -> Vec<Metric> {
        let Some((_, body)) = self.requests("/v1/metrics").pop() else { return Vec::new() };
        let request = ExportMetricsServiceRequest::decode(&body[..]).expect("metrics");
        request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics).collect()
    }
}

/// An attribute as a text; empty where there is none.
pub fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// An id as viewers show it.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
