//! How soon somebody is told: after the last region's answer, and after a deadline.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::azurite::azurite;
use crate::bare_storage::Account;
use crate::images::{notification, region, regions, request};
use crate::load::{Client, percentile};
use crate::process::Process;
use crate::receiver::Receiver;
use crate::table::{Line, ms, print};
use crate::{Effort, folder, pause};

const REGIONS: usize = 2;

/// Time between two pushes of an idle service, the last region's own included.
const IDLE: Duration = Duration::from_millis(10);

/// Longest pause of the poll of `serve`, and of host.json.
const POLL: Duration = Duration::from_secs(2);

/// Times until a push's notification was read, ascending.
struct Notified {
    /// From the moment its last webhook was sent. A slower answer cannot make it look better.
    sent: Vec<Duration>,
    /// From the last region's answer; zero where the notification was first, since then nobody has waited for it.
    answered: Vec<Duration>,
}

async fn notified(process: &Process, receiver: &mut Receiver, pushes: usize) -> Notified {
    let mut client = Client::connect(process.port).await.expect("a connection");
    let (mut from_sent, mut from_answered) = (Vec::new(), Vec::new());
    for _ in 0..pushes {
        let body = notification();
        let mut sent = Instant::now();
        for number in 0..REGIONS {
            let request = request(process.port, &region(number), &body);
            pause(IDLE).await;
            sent = Instant::now();
            let answer = client.ask(&request).await.expect("an answer");
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
        let answered = Instant::now();
        let at = of_image(receiver, &body).await;
        from_sent.push(at.saturating_duration_since(sent));
        from_answered.push(at.saturating_duration_since(answered));
    }
    for times in [&mut from_sent, &mut from_answered] {
        // The first ones open connections.
        times.drain(..times.len() / 10);
        times.sort_unstable();
    }
    Notified { sent: from_sent, answered: from_answered }
}

/// When the notification about a webhook's image was read. One that is repeated must not pass for that of a later push.
async fn of_image(receiver: &mut Receiver, webhook: &str) -> Instant {
    let webhook: Value = serde_json::from_str(webhook).expect("JSON");
    let digest = webhook["target"]["digest"].as_str().expect("a digest").as_bytes();
    loop {
        let received = receiver.next().await;
        if received.body.windows(digest.len()).any(|part| part == digest) {
            return received.at;
        }
    }
}

/// The line of the times from the last webhook on, beside that of a bare insert where there is one.
fn print_sent(times: &[Duration], insert: Option<Duration>, place: &str) {
    let (p50, p99) = (percentile(times, 50), percentile(times, 99));
    print(&Line {
        floor: insert.map(|insert| format!("{} (a bare insert)", ms(insert))).unwrap_or_default(),
        ours: format!("{} / {}", ms(p50), ms(p99)),
        ratio: insert.map(|insert| format!("{:.2}", p50.as_secs_f64() / insert.as_secs_f64())).unwrap_or_default(),
        ..Line::new(format!("last webhook sent → notified, {place}, idle, p50 / p99"), "–")
    });
}

pub(crate) async fn notified_embedded(effort: Effort) {
    let mut receiver = Receiver::start(true).await;
    let place = folder();
    let settings =
        [("WebhookRegions", &*regions(REGIONS)), ("WebhookTimeout", "1:0:0"), ("WebhookTargetUrl", &receiver.url())];
    let serve = Process::serve(place.path(), &settings).ready().await;
    let Notified { sent, answered } = notified(&serve, &mut receiver, effort.of(500, 20)).await;
    let (p50, p99) = (percentile(&answered, 50), percentile(&answered, 99));
    print(&Line {
        ours: format!("{} / {}", ms(p50), ms(p99)),
        met: Some(p50 <= Duration::from_millis(2) && p99 <= Duration::from_millis(10)),
        ..Line::new("last answer → notified, embedded, idle, p50 / p99", "≤ 2 ms / 10 ms")
    });
    print_sent(&sent, None, "embedded");
}

pub(crate) async fn notified_azurite(effort: Effort) {
    let mut receiver = Receiver::start(true).await;
    let emulator = azurite();
    let settings = [
        ("WebhookRegions", &*regions(REGIONS)),
        ("WebhookTimeout", "1:0:0"),
        ("WebhookTargetUrl", &receiver.url()),
        ("AzureWebJobsStorage", &emulator.account()),
    ];
    let handler = Process::handler(&settings).ready().await;
    let bare = Account::open(&emulator.account(), emulator.tables().port(), emulator.queues().port()).await;
    let pushes = effort.of(200, 10);
    let alone = bare.request_times(pushes).await;
    let Notified { sent, answered } = notified(&handler, &mut receiver, pushes).await;
    let (p50, p99) = (percentile(&answered, 50), percentile(&answered, 99));
    let floor = percentile(&alone, 50);
    let ratio = p50.as_secs_f64() / floor.as_secs_f64();
    print(&Line {
        floor: format!("{} (a bare insert)", ms(floor)),
        ours: format!("{} / {}", ms(p50), ms(p99)),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio <= 3.0),
        ..Line::new("last answer → notified, Azurite, idle, p50 / p99", "≤ 3 of its request times")
    });
    print_sent(&sent, Some(floor), "Azurite");
}

/// How late time-out notifications came by the wall clock, ascending; below zero is early.
async fn late(process: &Process, receiver: &mut Receiver, pushes: usize) -> Vec<TimeDelta> {
    let mut client = Client::connect(process.port).await.expect("a connection");
    let opening = async {
        for _ in 0..pushes {
            let answer = client.ask(&request(process.port, &region(0), &notification())).await.expect("an answer");
            assert_eq!(answer.status, 202, "{}", answer.body);
            pause(IDLE).await;
        }
    };
    let told = async {
        let mut late = Vec::new();
        for _ in 0..pushes {
            let received = receiver.next().await;
            let body: Value = serde_json::from_slice(&received.body).expect("JSON");
            let deadline: DateTime<Utc> =
                body["data"]["deadline"].as_str().expect("a deadline").parse().expect("an instant");
            late.push(received.wall - deadline);
        }
        late
    };
    let ((), mut late) = futures_util::future::join(opening, told).await;
    late.sort_unstable();
    late
}

/// Milliseconds, rounded down: what is early by a part of one is not on time.
fn whole_ms(time: TimeDelta) -> i64 {
    time.num_microseconds().expect("a short time").div_euclid(1000)
}

/// Prints how late the time-outs were told of, which must never be early.
fn print_late(late: &[TimeDelta], bound: Duration, place: &str) {
    let (first, p50, p99) = (late[0], percentile(late, 50), percentile(late, 99));
    print(&Line {
        floor: "0".into(),
        ours: format!("{} ms / {} ms, earliest {} ms", whole_ms(p50), whole_ms(p99), whole_ms(first)),
        met: Some(p99 <= TimeDelta::from_std(bound).expect("a short time") && first >= TimeDelta::zero()),
        ..Line::new(
            format!("deadline → time-out notified, {place}, p50 / p99"),
            format!("≤ {} ms, never early", bound.as_millis()),
        )
    });
}

/// A target that wants to be told of time-outs, in a format that names the deadline.
fn target(receiver: &Receiver) -> String {
    serde_json::json!([{ "name": "ops", "url": receiver.url(), "format": "standard", "outcomes": ["timed_out"] }])
        .to_string()
}

pub(crate) async fn deadline_embedded(effort: Effort) {
    let mut receiver = Receiver::start(true).await;
    let place = folder();
    let settings =
        [("WebhookRegions", &*regions(REGIONS)), ("WebhookTimeout", "0:0:1"), ("WebhookTargets", &target(&receiver))];
    let serve = Process::serve(place.path(), &settings).ready().await;
    let late = late(&serve, &mut receiver, effort.of(500, 20)).await;
    print_late(&late, Duration::from_millis(50), "embedded");
}

pub(crate) async fn deadline_queue(effort: Effort) {
    let mut receiver = Receiver::start(true).await;
    let place = folder();
    let settings = [
        ("WebhookRegions", &*regions(REGIONS)),
        ("WebhookTimeout", "0:0:3"),
        ("WebhookTargets", &target(&receiver)),
        ("AzureWebJobsStorage", &azurite().account()),
    ];
    let serve = Process::serve(place.path(), &settings).ready().await;
    let late = late(&serve, &mut receiver, effort.of(200, 10)).await;
    print_late(&late, POLL + Duration::from_millis(100), "`serve` on Azurite's queue");
}
