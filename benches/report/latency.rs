//! How soon somebody is told: after the last region's answer, and after a deadline.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
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

/// Time from the last region's answer until its notification was read, ascending; and between the two, had it been sent first.
async fn notified(process: &Process, receiver: &mut Receiver, pushes: usize) -> Vec<Duration> {
    let mut client = Client::connect(process.port).await.expect("a connection");
    let mut times = Vec::new();
    for _ in 0..pushes {
        let body = notification();
        for number in 0..REGIONS {
            pause(IDLE).await;
            let answer = client.ask(&request(process.port, &region(number), &body)).await.expect("an answer");
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
        let answered = Instant::now();
        // It may overtake the answer; then nobody has waited for it.
        times.push(receiver.next().await.at.saturating_duration_since(answered));
    }
    // The first ones open connections.
    times.drain(..times.len() / 10);
    times.sort_unstable();
    times
}

pub(crate) async fn notified_embedded(effort: Effort) {
    let mut receiver = Receiver::start(true).await;
    let place = folder();
    let settings =
        [("WebhookRegions", &*regions(REGIONS)), ("WebhookTimeout", "1:0:0"), ("WebhookTargetUrl", &receiver.url())];
    let serve = Process::serve(place.path(), &settings).ready().await;
    let times = notified(&serve, &mut receiver, effort.of(500, 20)).await;
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    print(&Line {
        ours: format!("{} / {}", ms(p50), ms(p99)),
        met: Some(p50 <= Duration::from_millis(2) && p99 <= Duration::from_millis(10)),
        ..Line::new("last answer → notified, embedded, idle, p50 / p99", "≤ 2 ms / 10 ms")
    });
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
    let times = notified(&handler, &mut receiver, pushes).await;
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    let floor = percentile(&alone, 50);
    let ratio = p50.as_secs_f64() / floor.as_secs_f64();
    print(&Line {
        floor: format!("{} (a bare insert)", ms(floor)),
        ours: format!("{} / {}", ms(p50), ms(p99)),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio <= 3.0),
        ..Line::new("last answer → notified, Azurite, idle, p50 / p99", "≤ 3 of its request times")
    });
}

/// How late time-out notifications came, in milliseconds of the wall clock, ascending; below zero is early.
async fn late(process: &Process, receiver: &mut Receiver, pushes: usize) -> Vec<i64> {
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
            late.push((received.wall - deadline).num_milliseconds());
        }
        late
    };
    let ((), mut late) = futures_util::future::join(opening, told).await;
    late.sort_unstable();
    late
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
    let (first, p50, p99) = (late[0], percentile(&late, 50), percentile(&late, 99));
    print(&Line {
        floor: "0".into(),
        ours: format!("{p50} ms / {p99} ms, earliest {first} ms"),
        met: Some(p99 <= 50 && first >= 0),
        ..Line::new("deadline → time-out notified, embedded, p50 / p99", "≤ 50 ms, never early")
    });
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
    let (first, p50, p99) = (late[0], percentile(&late, 50), percentile(&late, 99));
    let bound = POLL.as_millis() + 100;
    print(&Line {
        floor: "0".into(),
        ours: format!("{p50} ms / {p99} ms, earliest {first} ms"),
        met: Some(u128::try_from(p99).is_ok_and(|p99| p99 <= bound) && first >= 0),
        ..Line::new(
            "deadline → time-out notified, `serve` on Azurite's queue, p50 / p99",
            format!("≤ {bound} ms, never early"),
        )
    });
}
