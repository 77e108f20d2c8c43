use super::*;
use crate::clock::Instant;
use crate::config::{self, Source};
use crate::push::{Arrival, Attempted, Change, Decision, Notice, Region, step};

/// Two regions, and one target that is tried once.
fn policy() -> Policy {
    let target = r#"[{"name":"t","url":"https://t.example/","format":"standard"}]"#;
    let settings = [("WebhookRegions", "east,west"), ("WebhookTimeout", "0:0:9"), ("WebhookTargets", target)];
    Policy { schedule: Vec::new(), ..config::load(&Source::new(settings)).unwrap().policy }
}

struct Pushes {
    policy: Policy,
    metrics: Metrics,
    row: Option<Row>,
}

impl Pushes {
    fn step(&mut self, seconds: i64, input: &Input) {
        let now = Instant::from_timestamp(seconds, 0).unwrap();
        let Decision::Step(step) = step(self.row.as_ref(), input, now, &self.policy, Some(Default::default())) else {
            panic!("nothing is asked twice")
        };
        if let Change::Put(row) = step.change {
            self.row = Some(row);
        }
        self.metrics.step(input, &step.did, self.row.as_ref());
    }

    fn arrives(&mut self, seconds: i64, region: &str, id: &str) {
        let body = format!(
            r#"{{"id":"{id}","action":"push","target":{{"repository":"r","tag":"t","digest":"d"}},"request":{{"host":"h"}}}}"#
        );
        let received = Instant::from_timestamp(seconds, 0).unwrap();
        let arrival = Arrival::read(Region::parse(region).unwrap(), received, body, None).unwrap();
        self.step(seconds, &Input::Arrival { arrival: Arc::new(arrival), spilled: false, earlier: false });
    }

    /// The value of a sample; zero where there is none.
    fn value(&self, sample: &str) -> String {
        let text = self.metrics.text(None);
        let line = text.lines().find_map(|line| line.strip_prefix("global_webhook_")?.strip_prefix(sample));
        line.map_or_else(|| "none".to_owned(), |value| value.trim().to_owned())
    }
}

fn pushes() -> Pushes {
    let policy = policy();
    Pushes { metrics: Metrics::new(&policy, Requests::new(&["read"])), policy, row: None }
}

#[test]
fn a_push_is_counted_step_by_step() {
    let mut pushes = pushes();
    pushes.arrives(0, "east", "1");
    pushes.arrives(1, "east", "2");
    pushes.step(12, &Input::Timer);
    let result = AttemptResult::Failed { reason: "x".into(), retry_after: None };
    let attempted = Attempted { target: "t".into(), notice: Notice::TimedOut, claim: 1, result };
    pushes.step(13, &Input::Attempted(attempted));
    pushes.arrives(20, "west", "3");
    for (sample, value) in [
        (r#"arrivals_total{region="east",result="opened"}"#, "1"),
        (r#"arrivals_total{region="east",result="repeated"}"#, "1"),
        (r#"arrivals_total{region="west",result="recovered"}"#, "1"),
        (r#"arrivals_total{region="west",result="opened"}"#, "0"),
        (r#"settled_total{outcome="timed_out"}"#, "1"),
        (r#"settled_total{outcome="replicated"}"#, "0"),
        (r#"lag_seconds_sum{region="west"}"#, "20.0"),
        (r#"lag_seconds_count{region="east"}"#, "1"),
        ("timer_lateness_seconds_sum", "3.0"),
        ("timer_lateness_seconds_count", "1"),
        (r#"attempts_total{target="t",result="exhausted"}"#, "1"),
        (r#"attempts_total{target="t",result="failed"}"#, "0"),
    ] {
        assert_eq!(pushes.value(sample), value, "{sample}");
    }
}

#[test]
fn a_push_of_one_step_settles_in_it() {
    let mut pushes = pushes();
    pushes.policy.regions.pop();
    pushes.arrives(0, "east", "1");
    assert_eq!(pushes.value(r#"settled_total{outcome="replicated"}"#), "1");
    assert_eq!(pushes.value(r#"arrivals_total{region="east",result="replicated"}"#), "1");
    assert_eq!(pushes.value("timer_lateness_seconds_count"), "0", "it settled before its deadline");
}

#[test]
fn what_the_settings_do_not_name_is_no_label() {
    let pushes = pushes();
    for name in ["mars", "west\n", "\"} 1"] {
        pushes.metrics.refused(Some(name), "region_unknown");
        pushes.metrics.exhausted(name);
    }
    pushes.metrics.refused(Some("west"), "body_not_json");
    assert_eq!(pushes.value(r#"arrivals_total{region="other",result="region_unknown"}"#), "3");
    assert_eq!(pushes.value(r#"arrivals_total{region="west",result="body_not_json"}"#), "1");
    assert_eq!(pushes.value(r#"exhausted_total{target="other"}"#), "3");
    assert!(!pushes.metrics.text(None).contains("mars"));
}

#[test]
fn storage_requests_are_told_apart_by_what_they_came_to() {
    let requests = Requests::new(&["table_read", "queue_write"]);
    for status in [200, 204, 404, 409, 412, 403, 429, 503, 500, 400] {
        requests.count("table_read", Answered::of_status(status));
    }
    requests.count("queue_write", Answered::Unreachable);
    let text = Metrics::new(&policy(), requests).text(None);
    for (kind, result, value) in [
        ("table_read", "ok", 2),
        ("table_read", "not_found", 1),
        ("table_read", "conflict", 2),
        ("table_read", "refused", 1),
        ("table_read", "throttled", 2),
        ("table_read", "failed", 2),
        ("queue_write", "unreachable", 1),
        ("queue_write", "ok", 0),
    ] {
        let line = format!("global_webhook_storage_requests_total{{kind=\"{kind}\",result=\"{result}\"}} {value}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn gauges_are_there_when_they_are_known() {
    let pushes = pushes();
    assert!(!pushes.metrics.text(None).contains("global_webhook_waiting"));
    let text = pushes.metrics.text(Some(Census { waiting: 3, owed: 7 }));
    assert!(text.contains("\nglobal_webhook_waiting 3\n") && text.contains("\nglobal_webhook_owed 7\n"), "{text}");
}
