//! How soon a process is there, and how much room it takes.

use std::time::{Duration, Instant};

use crate::azurite::azurite;
use crate::images::{notification, region, regions, request};
use crate::load::drive;
use crate::process::Process;
use crate::receiver::Receiver;
use crate::table::{Line, median, ms, print};
use crate::{Effort, folder};

const MIB: f64 = 1024.0 * 1024.0;

/// Process start until the first answered `GET /`, handler and bare server in turns.
pub(crate) async fn start(effort: Effort) {
    let place = folder();
    let account = azurite().account();
    let settings = [
        ("WebhookRegions", &*regions(2)),
        ("WebhookTargetUrl", "http://127.0.0.1:9/"),
        ("AzureWebJobsStorage", &account),
    ];
    let (mut floors, mut ours, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..effort.of(31, 3) {
        let began = Instant::now();
        let floor = Process::role("bare", place.path(), &[]).answers(began).await;
        let began = Instant::now();
        let handler = Process::handler(&settings).answers(began).await;
        floors.push(floor);
        ours.push(handler);
        ratios.push(handler.as_secs_f64() / floor.as_secs_f64());
    }
    let (ours, ratio) = (median(&ours), median(&ratios));
    print(&Line {
        floor: ms(median(&floors)),
        ours: ms(ours),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio <= 1.5 && ours <= Duration::from_millis(15)),
        ..Line::new("process start → first answered GET /, handler mode", "≤ 1.5 and ≤ 15 ms")
    });
}

/// Resident memory at rest, and with many open pushes.
pub(crate) async fn memory(effort: Effort) {
    let receiver = Receiver::start(false).await;
    let settings =
        [("WebhookRegions", &*regions(2)), ("WebhookTimeout", "10:0:0"), ("WebhookTargetUrl", &receiver.url())];
    let place = folder();
    let serve = Process::serve(place.path(), &settings).ready().await;
    crate::pause(Duration::from_secs(1)).await;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let idle = mib(serve.memory().0);
    let account = azurite().account();
    let under_host: Vec<_> = settings.into_iter().chain([("AzureWebJobsStorage", &*account)]).collect();
    let handler = Process::handler(&under_host).ready().await;
    crate::pause(Duration::from_secs(1)).await;
    let handler_idle = mib(handler.memory().0);
    print(&Line {
        ours: format!("{idle:.1} / {handler_idle:.1} MiB"),
        met: Some(idle.max(handler_idle) <= 14.0),
        ..Line::new("resident memory, idle, embedded / handler on Azurite", "≤ 14 MiB")
    });
    let mut open = 0;
    let mut sizes = Vec::new();
    for until in [effort.of(10_000, 500), effort.of(50_000, 1000), effort.of(100_000, 2000)] {
        let each = (until - open) / 20;
        let one = || request(serve.port, &region(0), &notification());
        drive(serve.port, (0..20).map(|_| (0..each).map(|_| one()).collect()).collect()).await;
        open += each * 20;
        sizes.push((open, mib(serve.memory().0)));
    }
    let (first, last) = (sizes[0].1, sizes[2].1);
    let texts: Vec<String> = sizes.iter().map(|(open, size)| format!("{size:.1} MiB ({open})")).collect();
    print(&Line {
        floor: format!("{idle:.1} MiB (0)"),
        ours: texts.join(", "),
        ratio: format!("{:.2} (last / first)", last / first),
        // What is left to the allocator and to SQLite's own caches, which so few pushes as in the short form do not fill.
        met: (!effort.short).then_some(last <= first * 1.1 + 1.0),
        ..Line::new("resident memory with open pushes, embedded", "not growing")
    });
}

/// The binary as shipped.
pub(crate) fn size() {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_global-webhook")).expect("the binary").len() as f64 / MIB;
    print(&Line {
        ours: format!("{size:.1} MiB"),
        met: Some(size <= 14.0),
        ..Line::new("stripped release binary", "≤ 14 MiB")
    });
}
