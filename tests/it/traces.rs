//! Traces and metrics by OTLP, from the real binary in both modes to a collector of the test's own.

use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use reqwest::Client;
use serde_json::json;

use crate::support::eventually;
use crate::support::otlp::{Collector, attribute, hex};
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, LIMIT, Serve, Service, json_of};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Settings that send soon.
fn soon(collector: &Collector) -> Vec<(&'static str, String)> {
    vec![
        ("WebhookRegions", "east,west".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
    ]
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Waits for spans of a name.
async fn spans(collector: &Collector, name: &str, count: usize) -> Vec<Span> {
    let mut found = Vec::new();
    eventually(&format!("{count} spans `{name}`"), LIMIT, async || {
        found = collector.spans().into_iter().filter(|span| span.name == name).collect();
        found.len() >= count
    })
    .await;
    assert_eq!(found.len(), count, "{found:?}");
    found
}

/// Posts a webhook with a `traceparent`.
async fn post(base_url: &str, region: &str, image: &Image, traceparent: &str) -> String {
    let url = format!("{base_url}/api/ImagePush?region={region}");
    let request = Client::new().post(url).header("traceparent", traceparent).body(image.notification());
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    json_of(answer).await["id"].as_str().expect("an id").to_owned()
}

/// Every name of a span is on the page, and has what that says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_does_is_in_the_trace() {
    let collector = Collector::start().await;
    let serve = Serve::start(&borrowed(&soon(&collector)), &[]).await;
    let id = post(&serve.base_url(), "east", &Image::new("team/shop", "v1"), CALLER).await;
    for operation in ["regions/west", "redeliver", "terminate"] {
        assert_eq!(serve.caller().operate(&id, operation).await, Some(202));
    }
    let page = include_str!("../../docs/metrics.md");
    for (name, of) in [("by_hand", "west"), ("redeliver", ""), ("terminate", "")] {
        let [span] = &spans(&collector, name, 1).await[..] else { panic!() };
        assert_eq!(attribute(&span.attributes, "region"), of, "{name}");
        assert!(page.contains(&format!("`{name}`")), "docs/metrics.md does not have the span {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_one_trace_from_its_arrivals_to_its_attempts() {
    const SECRETS: [&str; 4] = [
        "s3cret-path",
        "s3cret-header",
        "s3cret-of-otlp",
        "whsec_czNjcmV0LXNpZ25hdHVyZS1vZi1tb3JlLXRoYW4tMjQtYnl0ZXM=",
    ];
    let (collector, receiver) = (Collector::start().await, Recorder::default());
    receiver.script(&[b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"]);
    let targets = json!([{
        "name": "ops", "url": format!("http://127.0.0.1:{}/s3cret-path", receiver.listen().await), "format": "standard",
        "headers": { "Authorization": "Bearer s3cret-header" }, "secret": SECRETS[3],
    }]);
    let mut settings = soon(&collector);
    settings.push(("WebhookTargets", targets.to_string()));
    settings.push(("WebhookRetrySchedule", "0:0:1".to_owned()));
    settings.push(("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret-of-otlp".to_owned()));
    settings.push(("OTEL_SERVICE_NAME", "the-service".to_owned()));
    let serve = Serve::start(&borrowed(&settings), &[]).await;
    let image = Image::new("team/shop", "v1");
    let id = post(&serve.base_url(), "east", &image, CALLER).await;
    assert_eq!(post(&serve.base_url(), "west", &image, "not a traceparent").await, id);

    // All of one push is one trace, below one root.
    let attempts = spans(&collector, "notify", 2).await;
    let arrivals = spans(&collector, "arrival", 2).await;
    let [push] = &spans(&collector, "push", 1).await[..] else { panic!() };
    assert!(push.parent_span_id.is_empty() && attribute(&push.attributes, "outcome") == "replicated");
    assert_eq!(attribute(&push.attributes, "image"), "team/shop:v1");
    assert_eq!(attribute(&push.attributes, "registry"), "contoso.azurecr.io");
    for span in arrivals.iter().chain(&attempts) {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&push.trace_id, &push.span_id), "{span:?}");
        assert_eq!(attribute(&span.attributes, "push.id"), id);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    let regions: Vec<_> = arrivals.iter().map(|span| attribute(&span.attributes, "region")).collect();
    assert_eq!(regions, ["east", "west"]);
    let results: Vec<_> = attempts.iter().map(|span| attribute(&span.attributes, "result")).collect();
    assert_eq!(results, ["failed", "confirmed"]);
    let status = attempts[0].status.as_ref().expect("a status");
    assert!(status.code == i32::from(StatusCode::Error) && status.message.contains("500"), "{status:?}");
    let statuses: Vec<_> =
        attempts.iter().map(|span| attribute(&span.attributes, "http.response.status_code")).collect();
    assert_eq!(statuses, ["500", "200"]);

    // What came in is the parent of a span of ours, and linked with the arrival both ways.
    let [server] = &spans(&collector, "POST /api/ImagePush", 1).await[..] else { panic!() };
    assert_eq!(format!("00-{}-{}-01", hex(&server.trace_id), hex(&server.parent_span_id)), CALLER);
    assert_eq!(server.kind, i32::from(SpanKind::Server));
    let [there, back] = [&server.links, &arrivals[0].links].map(|links| links.first().expect("a link"));
    assert_eq!((&there.trace_id, &there.span_id), (&push.trace_id, &arrivals[0].span_id));
    assert_eq!((&back.trace_id, &back.span_id), (&server.trace_id, &server.span_id));
    assert!(arrivals[1].links.is_empty());

    // What goes out names the attempt.
    let sent: Vec<_> = receiver.take().iter().map(|(head, _)| head.get("traceparent").map(str::to_owned)).collect();
    let own = |span: &Span| Some(format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));
    assert_eq!(sent, attempts.iter().map(own).collect::<Vec<_>>());
    assert!(serve.output().contains(&format!("trace.id=\"{}\"", hex(&push.trace_id))), "{}", serve.output());

    // The same metrics, once everything is counted.
    eventually("metrics by OTLP", LIMIT, async || {
        let metrics = collector.metrics();
        let Some(Data::Sum(sum)) =
            metrics.iter().find(|m| m.name == "global_webhook_attempts").and_then(|m| m.data.clone())
        else {
            return false;
        };
        let of = |result: &str| {
            sum.data_points
                .iter()
                .find(|p| attribute(&p.attributes, "result") == result && attribute(&p.attributes, "target") == "ops")
                .and_then(|p| p.value)
        };
        sum.is_monotonic && of("failed") == Some(Value::AsInt(1)) && of("confirmed") == Some(Value::AsInt(1))
    })
    .await;
    let mut names: Vec<_> = collector.metrics().into_iter().map(|metric| metric.name).collect();
    let mut served: Vec<_> = crate::metrics::scrape(&serve.base_url())
        .await
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| if kind == "info" { format!("{name}_info") } else { name.to_owned() })
        .collect();
    names.sort();
    served.sort();
    assert_eq!(names, served);

    // No secret goes anywhere but into the header it is meant for.
    let requests: Vec<_> = ["/v1/traces", "/v1/metrics"].iter().flat_map(|path| collector.requests(path)).collect();
    for (head, body) in &requests {
        assert_eq!(head.get("authorization"), Some("Bearer s3cret-of-otlp"));
        assert_eq!(head.get("content-type"), Some("application/x-protobuf"));
        let body = String::from_utf8_lossy(body);
        assert!(body.contains("the-service"), "{body}");
        for secret in SECRETS {
            assert!(!body.contains(secret), "{secret} in {body}");
        }
    }
    for secret in SECRETS {
        assert!(!serve.output().contains(secret), "{secret} in {}", serve.output());
    }
}

/// Two hosts, of which one takes the webhooks and the other the timers: they know nothing of each other but the row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_the_handler_add_to_one_trace() {
    let (collector, receiver) = (Collector::start().await, Recorder::default());
    let mut settings = soon(&collector);
    settings.push(("WebhookTimeout", "0:0:2".to_owned()));
    settings.push(("WebhookTargetUrl", format!("http://127.0.0.1:{}/", receiver.listen().await)));
    settings.push(("WebhookTargetFormat", "standard".to_owned()));
    let service = Service::start(Deployment::Handler, &borrowed(&settings)).await;
    let image = Image::new("team/shop", "v1");
    let id = service.push_until_taken("east", &image).await.1["id"].as_str().expect("an id").to_owned();
    service.at_rest(&id).await;
    let [attempt] = &spans(&collector, "notify", 1).await[..] else { panic!() };
    let [push] = &spans(&collector, "push", 1).await[..] else { panic!() };
    assert_eq!(
        (attribute(&push.attributes, "outcome"), attribute(&push.attributes, "missing")),
        ("timed_out".into(), "west".into())
    );
    assert_eq!(push.status.as_ref().map(|status| status.code), Some(StatusCode::Error.into()));
    let all = collector.spans();
    for name in ["arrival", "timer", "notify"] {
        let of_push = |span: &&Span| span.name == name && attribute(&span.attributes, "push.id") == id;
        let span = all.iter().find(of_push).unwrap_or_else(|| panic!("{name}: {all:?}"));
        assert_eq!((&span.trace_id, &span.parent_span_id), (&push.trace_id, &push.span_id));
    }
    let sent = receiver.take();
    let [(head, _)] = &sent[..] else { panic!("{sent:?}") };
    let own = format!("00-{}-{}-01", hex(&attempt.trace_id), hex(&attempt.span_id));
    assert_eq!(head.get("traceparent"), Some(own.as_str()));
    // Each process says how it is called, so that their counters are not taken for one.
    eventually("metrics of both processes", LIMIT, async || {
        let bodies: Vec<_> = collector.requests("/v1/metrics").into_iter().map(|(_, body)| body).collect();
        let instance = |body: &Vec<u8>| {
            let text = String::from_utf8_lossy(body).into_owned();
            text.split_once("service.instance.id").map(|(_, rest)| rest.chars().take(45).collect::<String>())
        };
        bodies.iter().filter_map(instance).collect::<std::collections::BTreeSet<_>>().len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sampled_is_not_sent_and_says_so() {
    let (collector, receiver) = (Collector::start().await, Recorder::default());
    let mut settings = soon(&collector);
    settings.push(("WebhookTargetUrl", format!("http://127.0.0.1:{}/", receiver.listen().await)));
    settings.push(("OTEL_TRACES_SAMPLER", "parentbased_always_off".to_owned()));
    let serve = Serve::start(&borrowed(&settings), &[]).await;
    let image = Image::new("team/shop", "v1");
    for (region, traceparent) in [("east", CALLER.to_owned()), ("west", CALLER.replace("-01", "-00"))] {
        post(&serve.base_url(), region, &image, &traceparent).await;
    }
    let mut sent = Vec::new();
    eventually("the receiver is told", LIMIT, async || {
        sent.extend(receiver.take());
        !sent.is_empty()
    })
    .await;
    let traceparent = sent[0].0.get("traceparent").expect("a traceparent");
    assert!(traceparent.ends_with("-00"), "{traceparent}");
    // The caller that samples has its span, and there is no other.
    spans(&collector, "POST /api/ImagePush", 1).await;
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_wait_for_a_collector_and_the_log_stays_short() {
    let collector = Collector::start().await;
    collector.refuses(12, 503);
    let serve = Serve::start(&borrowed(&soon(&collector)), &[]).await;
    assert_eq!(serve.caller().post("east", Image::new("a", "1").notification()).await.expect("an answer").0, 202);
    // Both are refused at first; the spans come again as they were, metrics as they are by then.
    eventually("spans come again", LIMIT, async || collector.requests("/v1/traces").len() == 2).await;
    let [first, again] = &collector.requests("/v1/traces")[..] else { panic!() };
    assert_eq!(first.1, again.1);
    eventually("metrics are tried again", LIMIT, async || collector.requests("/v1/metrics").len() > 12).await;
    let output = serve.output();
    let lines: Vec<_> = output.lines().filter(|line| line.contains("the collector of")).collect();
    assert!(matches!(lines[..], [line] if line.contains("WARN") && line.contains("status 503")), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_sent_at_the_end() {
    let collector = Collector::start().await;
    let mut settings = soon(&collector);
    settings.retain(|(name, _)| !name.starts_with("OTEL_BSP") && !name.starts_with("OTEL_METRIC"));
    settings.push(("OTEL_BSP_SCHEDULE_DELAY", "3600000".to_owned()));
    let mut serve = Serve::start(&borrowed(&settings), &["--drain", "0s"]).await;
    assert_eq!(serve.caller().post("east", Image::new("a", "1").notification()).await.expect("an answer").0, 202);
    assert!(collector.spans().is_empty());
    serve.terminate();
    assert!(serve.ended(LIMIT).await.success());
    assert_eq!(collector.spans().len(), 1);
    assert!(collector.metrics().iter().any(|metric| metric.name == "global_webhook_waiting"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_or_is_not_there_keeps_nobody_waiting() {
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = crate::support::free_port();
    for port in [hangs.local_addr().expect("an address").port(), nobody] {
        let settings = [
            ("WebhookRegions", "east,west"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}")),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "10"),
        ];
        let mut serve = Serve::start(&settings, &["--drain", "0s"]).await;
        assert_eq!(serve.caller().post("east", Image::new("a", "1").notification()).await.expect("an answer").0, 202);
        serve.terminate();
        let began = std::time::Instant::now();
        assert!(serve.ended(LIMIT).await.success());
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_receivers_get_no_traceparent() {
    let receiver = Recorder::default();
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let wrong = ("OTEL_EXPORTER_OTLP_ENDPOINT", "s3cret@nowhere");
    let serve = Serve::start(&[("WebhookRegions", "east"), ("WebhookTargetUrl", &url), wrong], &[]).await;
    post(&serve.base_url(), "east", &Image::new("a", "1"), CALLER).await;
    let mut sent = Vec::new();
    eventually("the receiver is told", LIMIT, async || {
        sent.extend(receiver.take());
        !sent.is_empty()
    })
    .await;
    assert_eq!(sent[0].0.get("traceparent"), None);
    let output = serve.output();
    assert!(
        output.contains("OTEL_EXPORTER_OTLP_ENDPOINT is no http or https URL") && !output.contains("s3cret"),
        "{output}"
    );
    assert!(!output.contains("trace.id"), "{output}");
}
