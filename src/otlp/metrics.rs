//! From the text of `/metrics` to a message of OTLP.
//!
//! The text is our own, so what its format allows and our encoder does not write is not read. Names are those of the families:
//! a counter is called without its `_total`, which collectors put back where they write for Prometheus.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::clock::Instant;
use crate::traces::text;

/// The message for what was counted from `began` until `now`.
pub(super) fn request(
    exposed: &str,
    resource: Resource,
    scope: InstrumentationScope,
    began: Instant,
    now: Instant,
) -> ExportMetricsServiceRequest {
    let nanos = |at: Instant| at.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default();
    let metrics = families(exposed).into_iter().map(|family| family.metric(nanos(began), nanos(now))).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let of_resource = ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }
}

/// A metric as the text has it.
#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: &'a str,
    samples: Vec<Sample<'a>>,
}

#[derive(Debug)]
struct Sample<'a> {
    /// What stands behind the family's name.
    suffix: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

fn families(exposed: &str) -> Vec<Family<'_>> {
    let mut all: Vec<Family<'_>> = Vec::new();
    for line in exposed.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            all.push(Family { name, help, ..Family::default() });
            continue;
        }
        let Some(family) = all.last_mut() else { continue };
        let said = |what: &str| line.strip_prefix(what)?.strip_prefix(family.name)?.strip_prefix(' ');
        if let Some(kind) = said("# TYPE ") {
            family.kind = kind;
        } else if let Some(unit) = said("# UNIT ") {
            family.unit = unit;
        } else if let Some(sample) = line.strip_prefix(family.name).and_then(sample) {
            family.samples.push(sample);
        }
    }
    all
}

/// Reads what stands behind the family's name: `_bucket{le="1.0",region="a"} 7`.
fn sample(rest: &str) -> Option<Sample<'_>> {
    let end = rest.find(['{', ' '])?;
    let (suffix, mut rest) = rest.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while let Some((name, quoted)) = rest.split_once("=\"") {
            let (value, after) = unquoted(quoted)?;
            labels.push((name, value));
            rest = after.strip_prefix(',').unwrap_or(after);
            if rest.starts_with('}') {
                break;
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    Some(Sample { suffix, labels, value: rest.trim().split(' ').next()? })
}

/// A value up to its closing quote, and what stands behind that.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

impl Family<'_> {
    fn metric(self, began: u64, now: u64) -> Metric {
        let cumulative = AggregationTemporality::Cumulative.into();
        let info = if self.kind == "info" { "_info" } else { "" };
        let data = match self.kind {
            "histogram" => Data::Histogram(Histogram {
                data_points: self.histograms(began, now),
                aggregation_temporality: cumulative,
            }),
            "counter" => {
                let data_points = self.numbers(began, now);
                Data::Sum(Sum { data_points, aggregation_temporality: cumulative, is_monotonic: true })
            }
            _ => Data::Gauge(Gauge { data_points: self.numbers(0, now) }),
        };
        Metric {
            name: format!("{}{info}", self.name),
            description: self.help.to_owned(),
            unit: if self.unit == "seconds" { "s" } else { "1" }.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn numbers(&self, began: u64, now: u64) -> Vec<NumberDataPoint> {
        let point = |sample: &Sample<'_>| NumberDataPoint {
            attributes: attributes(&sample.labels),
            start_time_unix_nano: began,
            time_unix_nano: now,
            value: sample.value.parse().ok().map(Value::AsInt),
            ..NumberDataPoint::default()
        };
        self.samples.iter().map(point).collect()
    }

    /// Samples of one histogram stand together, and its buckets count those below them too.
    fn histograms(&self, began: u64, now: u64) -> Vec<HistogramDataPoint> {
        let mut points: Vec<HistogramDataPoint> = Vec::new();
        let mut below = 0;
        for sample in &self.samples {
            let labels: Vec<_> = sample.labels.iter().filter(|(name, _)| *name != "le").cloned().collect();
            let attributes = attributes(&labels);
            if points.last().is_none_or(|last| last.attributes != attributes) {
                below = 0;
                points.push(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: began,
                    time_unix_nano: now,
                    ..HistogramDataPoint::default()
                });
            }
            let Some(point) = points.last_mut() else { continue };
            match sample.suffix {
                "_sum" => point.sum = sample.value.parse().ok(),
                "_count" => point.count = sample.value.parse().unwrap_or_default(),
                _ => {
                    let up_to: u64 = sample.value.parse().unwrap_or_default();
                    point.bucket_counts.push(up_to.saturating_sub(below));
                    below = up_to;
                    let bound = sample.labels.iter().find(|(name, _)| *name == "le").map(|(_, bound)| bound.as_str());
                    point
                        .explicit_bounds
                        .extend(bound.filter(|bound| *bound != "+Inf").and_then(|b| b.parse::<f64>().ok()));
                }
            }
        }
        points
    }
}

fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| text(name, value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPOSED: &str = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"one\\\"\\\\\\n{,}=\",y=\"\"} 3\na_b_total{x=\"two\",y=\"z\"} 4\n\
        # HELP c_seconds Waits.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\n\
        c_seconds_sum{r=\"p\"} 2.5\nc_seconds_count{r=\"p\"} 3\nc_seconds_bucket{le=\"1.0\",r=\"p\"} 2\nc_seconds_bucket{le=\"+Inf\",r=\"p\"} 3\n\
        c_seconds_sum{r=\"q\"} 0.0\nc_seconds_count{r=\"q\"} 0\nc_seconds_bucket{le=\"1.0\",r=\"q\"} 0\nc_seconds_bucket{le=\"+Inf\",r=\"q\"} 0\n\
        # HELP d Now.\n# TYPE d gauge\nd 7\n# HELP e This.\n# TYPE e info\ne_info{version=\"1\"} 1\n# EOF\n";

    #[test]
    fn the_text_is_read_as_it_is_written() {
        let request = request(
            EXPOSED,
            Resource::default(),
            InstrumentationScope::default(),
            Instant::UNIX_EPOCH,
            Instant::UNIX_EPOCH,
        );
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<_> = metrics.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
        assert_eq!(names, [("a_b", "1"), ("c_seconds", "s"), ("d", "1"), ("e_info", "1")]);
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
        assert!(sum.is_monotonic && sum.data_points.len() == 2);
        assert_eq!(sum.data_points[0].attributes, [text("x", "one\"\\\n{,}="), text("y", "")]);
        assert_eq!(sum.data_points[1].value, Some(Value::AsInt(4)));
        let Some(Data::Histogram(histogram)) = &metrics[1].data else { panic!("{:?}", metrics[1]) };
        let [p, q] = &histogram.data_points[..] else { panic!("{histogram:?}") };
        assert_eq!(
            (p.count, p.sum, &p.bucket_counts[..], &p.explicit_bounds[..]),
            (3, Some(2.5), &[2, 1][..], &[1.0][..])
        );
        assert_eq!((q.count, &q.bucket_counts[..]), (0, &[0, 0][..]));
        let Some(Data::Gauge(gauge)) = &metrics[2].data else { panic!("{:?}", metrics[2]) };
        assert_eq!(gauge.data_points[0].value, Some(Value::AsInt(7)));
    }
}
