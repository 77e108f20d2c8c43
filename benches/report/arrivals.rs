//! Arrivals per second, with the whole job: until the last notification has come in.

use std::time::{Duration, Instant};

use crate::azurite::azurite as emulator;
use crate::bare_storage::{Account, REQUESTS_PER_PUSH};
use crate::images::{pushes, regions};
use crate::load::drive;
use crate::process::Process;
use crate::receiver::Receiver;
use crate::table::{Line, middle, ms, print, rate};
use crate::{Effort, folder};

const REGIONS: usize = 2;

/// Callers at the same time, where the store is local.
const CALLERS: usize = 64;

/// Most processor time of an arrival on the embedded store.
const EMBEDDED_CPU_MAX: Duration = Duration::from_micros(90);

/// Callers at the same time on Azurite.
const AZURE_CALLERS: usize = 16;

fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// The service on its embedded store beside one bare insert per arrival.
pub(crate) async fn embedded(effort: Effort) {
    let each = effort.of(150, 20);
    let (mut rates, mut waits) = (vec![], vec![]);
    let receiver = Receiver::start(false).await;
    let (floor_at, serve_at) = (folder(), folder());
    let mut floor = Process::role("bare-sqlite", floor_at.path(), &[]);
    floor.answers(Instant::now()).await;
    let serve = Process::serve(
        serve_at.path(),
        &[("WebhookRegions", &regions(REGIONS)), ("WebhookTimeout", "1:0:0"), ("WebhookTargetUrl", &receiver.url())],
    )
    .ready()
    .await;
    let (floor_before, before, mut all) = (floor.cpu(), serve.cpu(), 0);
    for round in 0..=effort.rounds {
        let arrivals = CALLERS * each * REGIONS;
        all += arrivals;
        let bare = drive(floor.port, pushes(floor.port, CALLERS, each, REGIONS)).await;
        let due = receiver.count() + CALLERS * each;
        let requests = pushes(serve.port, CALLERS, each, REGIONS);
        let began = Instant::now();
        let service = drive(serve.port, requests).await;
        receiver.until(due).await;
        let whole = began.elapsed();
        // The first round warms both up.
        if round > 0 || effort.short {
            rates.push((per_second(arrivals, bare.elapsed), per_second(arrivals, whole)));
            waits.push((bare.p99().as_secs_f64(), service.p99().as_secs_f64()));
        }
    }
    let (bare, ours, ratio) = middle(&rates);
    print(&Line {
        floor: rate(bare),
        ours: rate(ours),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio >= 0.5),
        ..Line::new("arrivals on the embedded store, 64 callers, R = 2, notified", "≥ 0.5")
    });
    let (bare, ours, ratio) = middle(&waits);
    print(&Line {
        floor: ms(Duration::from_secs_f64(bare)),
        ours: ms(Duration::from_secs_f64(ours)),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio <= 3.0),
        ..Line::new("the same, p99 of the answer", "≤ 3")
    });
    processor_time(floor.cpu() - floor_before, serve.cpu() - before, all, Some(EMBEDDED_CPU_MAX));
    let peak = serve.memory().1 as f64 / 1024.0;
    print(&Line {
        ours: format!("{peak:.1} MiB"),
        met: Some(peak <= 40.0),
        ..Line::new("the same, highest resident memory", "≤ 40 MiB")
    });
}

/// The service as a custom handler on Azurite beside the same requests, bare.
pub(crate) async fn azurite(effort: Effort) {
    let each = effort.of(25, 3);
    let emulator = emulator();
    let receiver = Receiver::start(false).await;
    let account = emulator.account();
    let handler = Process::handler(&[
        ("WebhookRegions", &regions(REGIONS)),
        ("WebhookTimeout", "1:0:0"),
        ("WebhookTargetUrl", &receiver.url()),
        ("AzureWebJobsStorage", &account),
    ])
    .ready()
    .await;
    let bare = Account::open(&emulator.account(), emulator.tables().port(), emulator.queues().port()).await;
    let mut rates = vec![];
    for round in 0..=effort.rounds {
        let count = AZURE_CALLERS * each;
        let alone = bare.pushes(AZURE_CALLERS, each).await;
        let due = receiver.count() + count;
        let requests = pushes(handler.port, AZURE_CALLERS, each, REGIONS);
        let began = Instant::now();
        drive(handler.port, requests).await;
        receiver.until(due).await;
        let whole = began.elapsed();
        if round > 0 || effort.short {
            rates.push((per_second(count * REGIONS, alone), per_second(count * REGIONS, whole)));
        }
    }
    let (bare, ours, ratio) = middle(&rates);
    print(&Line {
        floor: format!("{} ({} requests)", rate(bare), rate(bare * REQUESTS_PER_PUSH as f64 / REGIONS as f64)),
        ours: rate(ours),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio >= 0.8),
        ..Line::new("arrivals in handler mode on Azurite (disk), 16 callers, R = 2, notified", "≥ 0.8")
    });
}

/// The service on stores in memory, without a target, beside a route that only parses.
pub(crate) async fn memory(effort: Effort) {
    let each = effort.of(300, 20);
    let place = folder();
    let mut floor = Process::role("bare", place.path(), &[]);
    floor.answers(Instant::now()).await;
    let settings = [("WebhookRegions", &*regions(REGIONS)), ("WebhookTimeout", "1:0:0")];
    let mut service = Process::role("memory", place.path(), &settings);
    service.answers(Instant::now()).await;
    let mut rates = vec![];
    let (floor_before, before, mut all) = (floor.cpu(), service.cpu(), 0);
    for round in 0..=effort.rounds {
        let arrivals = CALLERS * each * REGIONS;
        all += arrivals;
        let bare = drive(floor.port, pushes(floor.port, CALLERS, each, REGIONS)).await;
        let full = drive(service.port, pushes(service.port, CALLERS, each, REGIONS)).await;
        if round > 0 || effort.short {
            rates.push((per_second(arrivals, bare.elapsed), per_second(arrivals, full.elapsed)));
        }
    }
    let (bare, ours, ratio) = middle(&rates);
    print(&Line {
        floor: rate(bare),
        ours: rate(ours),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio >= 0.6),
        ..Line::new("arrivals on stores in memory, 64 callers, R = 2, no target", "≥ 0.6")
    });
    processor_time(floor.cpu() - floor_before, service.cpu() - before, all, None);
}

/// The processor time of an arrival: it tells more than a rate when other programs use the same cores.
fn processor_time(floor: Duration, ours: Duration, arrivals: usize, most: Option<Duration>) {
    let each = |time: Duration| time.div_f64(arrivals as f64);
    let target = most.map_or_else(|| "–".to_owned(), |most| format!("≤ {} µs", most.as_micros()));
    print(&Line {
        floor: format!("{} µs", each(floor).as_micros()),
        ours: format!("{} µs", each(ours).as_micros()),
        ratio: format!("{:.1}", ours.as_secs_f64() / floor.as_secs_f64()),
        met: most.map(|most| each(ours) <= most),
        ..Line::new("the same, processor time per arrival", target)
    });
}
