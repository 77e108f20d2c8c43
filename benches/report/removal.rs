//! What it costs that old pushes go: requests, the answers to arrivals meanwhile, and the room that they leave.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use global_webhook::clock::{Instant, StorageClock, SystemClock, after};
use global_webhook::config::{Source, storage};
use global_webhook::engine::Engine;
use global_webhook::notify::client::{HttpNotifier, Options};
use global_webhook::push::policy::{Policy, Repeats};
use global_webhook::push::{Arrival, Decision, Outcome, Phase, Region, Row, Settled, Step, arrival::Correlation};
use global_webhook::store::azure::connection::Connection;
use global_webhook::store::azure::queue::TimerQueue;
use global_webhook::store::azure::table::Table;
use global_webhook::store::azure::{AzureStore, Names};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::{Decide, Store, Which};

use crate::azurite::azurite;
use crate::images::{notification, pushes, regions};
use crate::load::{Client, drive};
use crate::process::Process;
use crate::table::{Line, median, middle, ms, print};
use crate::{Effort, folder};

const CALLERS: usize = 64;
const MIB: f64 = 1024.0 * 1024.0;

/// Before it, all that is old was opened.
const UNTIL: &str = "2026-01-01T00:00:00Z";

/// A settled push of last year, so many seconds after its first of July.
fn old(number: usize) -> Row {
    let opened = Instant::from_timestamp_secs(1_751_328_000 + i64::try_from(number).expect("few")).expect("an instant");
    let region = Region::parse("region0").expect("a region");
    let arrival = Arrival::read(region.clone(), opened, notification(), None).expect("a webhook");
    let deadline = after(opened, Duration::from_secs(120));
    let settled = Settled {
        outcome: Outcome::TimedOut,
        at: deadline,
        missing: vec![region.clone()],
        terminated: false,
        recovered: None,
        outbox: Vec::new(),
    };
    Row {
        id: global_webhook::push::PushId { key: arrival.key(Correlation::Content), round: 1 },
        correlation: Correlation::Content,
        subject: arrival.subject,
        payload: arrival.payload,
        opened,
        deadline,
        regions: vec![region],
        rule: None,
        since: None,
        arrived: BTreeMap::new(),
        unawaited: BTreeMap::new(),
        before: BTreeMap::new(),
        phase: Phase::Settled(settled),
        updated: deadline,
        unknown: None,
    }
}

/// The step that leaves a row.
struct Putting(Row);

impl Decide for Putting {
    fn decide(&self, _: Option<&Row>, _: Option<global_webhook::push::Answer>) -> Decision {
        let change = global_webhook::push::Change::Put(self.0.clone());
        Decision::Step(Box::new(Step { did: global_webhook::push::Did::Opened, change, claims: Vec::new() }))
    }
}

/// Writes so many old pushes, as they would be by now.
async fn fill(store: &dyn Store, count: usize, at_once: usize) {
    let put = |number| {
        let row = old(number);
        async move {
            let which = Which::Newest(row.id.key.clone());
            store.apply(&which, Arc::new(Putting(row))).await.expect("a row").did
        }
    };
    stream::iter((0..count).map(put)).buffer_unordered(at_once).count().await;
}

fn engine(store: Arc<dyn Store>, clock: Arc<dyn global_webhook::clock::Clock>) -> Engine {
    let policy = Policy {
        regions: vec![Region::parse("region0").expect("a region")],
        timeout: Duration::from_secs(120),
        correlation: Correlation::Content,
        repeats: Repeats::New,
        rules: Vec::new(),
        targets: Vec::new(),
        schedule: Vec::new(),
    };
    let notifier = HttpNotifier::new(Vec::new(), Arc::clone(&clock), Options::default());
    Engine::new(policy, store, Arc::new(notifier), clock)
}

/// Removes all that is old; how many went.
async fn remove(engine: &Engine) -> usize {
    let until = UNTIL.parse().expect("an instant");
    let mut count = 0;
    loop {
        let removed = engine.remove_before(until).await.expect("a removal");
        count += removed.count;
        if removed.next.is_none() {
            return count;
        }
    }
}

/// Storage requests for each of many pushes that are removed.
pub(crate) async fn requests(effort: Effort) {
    let count = effort.of(2000, 250);
    let account = azurite().account();
    let source = Source::new([("AzureWebJobsStorage".to_owned(), account.clone())]);
    let opened = storage::account(&source, &mut Vec::new()).expect("an account");
    let clock = Arc::new(StorageClock::new(Arc::new(SystemClock)));
    let (connection, names) = (Connection::open(&opened, clock.clone()).expect("a connection"), Names::default());
    let (rows, queue) = (Table::new(&connection, &names.table), TimerQueue::new(&connection, &names));
    let store = Arc::new(AzureStore::new(Arc::new(rows), Arc::new(queue), clock.clone(), "bench".into(), 1));
    store.prepare().await.rows.expect("a table");
    fill(&*store, count, 32).await;
    let before = azurite().requests(&account).len();
    let removed = remove(&engine(store, clock)).await;
    let requests = azurite().requests(&account).len() - before;
    assert_eq!(removed, count, "all that is old goes");
    let each = requests as f64 / removed as f64;
    print(&Line {
        floor: "2".into(),
        ours: format!("{each:.2} ({requests} for {removed})"),
        ratio: format!("{:.2}", each / 2.0),
        met: Some(each <= 3.0),
        ..Line::new("storage requests per push removed", "≤ 3")
    });
}

/// Asks `serve` to remove what is old, again and again; how many went.
async fn remove_from(port: u16) -> usize {
    let request = format!("DELETE /api/pushes?until={UNTIL} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    let mut client = Client::connect(port).await.expect("a connection");
    let mut count = 0;
    loop {
        let answer = client.ask(request.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body: serde_json::Value = serde_json::from_str(answer.body).expect("JSON");
        count += usize::try_from(body["instancesDeleted"].as_u64().expect("a number")).expect("few");
        if body["more"] != true {
            return count;
        }
    }
}

/// Answers to arrivals while old pushes are removed, and without, in turns: for each round a file of its own with old pushes.
pub(crate) async fn beside_arrivals(effort: Effort) {
    let (each, many) = (effort.of(150, 20), effort.of(10_000, 500));
    let (mut waits, mut taken) = (vec![], vec![]);
    for _ in 0..effort.rounds {
        let place = folder();
        fill_file(&place.path().join("store.db"), many).await;
        let settings = [("WebhookRegions", &*regions(2)), ("WebhookTimeout", "1:0:0"), ("WebhookRetention", "0")];
        let serve = Process::serve(place.path(), &settings).ready().await;
        let load = || drive(serve.port, pushes(serve.port, CALLERS, each, 2));
        load().await;
        let alone = load().await;
        let began = std::time::Instant::now();
        let gone = Cell::new(false);
        let removal = async {
            let removed = remove_from(serve.port).await;
            gone.set(true);
            (removed, began.elapsed())
        };
        let flow = async {
            let mut rounds = vec![load().await.p99()];
            while !gone.get() {
                rounds.push(load().await.p99());
            }
            median(&rounds)
        };
        let ((removed, took), beside) = futures_util::future::join(removal, flow).await;
        assert_eq!(removed, many, "all that is old goes");
        waits.push((alone.p99().as_secs_f64(), beside.as_secs_f64()));
        taken.push(took);
    }
    let (alone, beside, ratio) = middle(&waits);
    print(&Line {
        floor: ms(Duration::from_secs_f64(alone)),
        ours: ms(Duration::from_secs_f64(beside)),
        ratio: format!("{ratio:.2}"),
        met: Some(ratio <= 1.5),
        ..Line::new(
            format!("p99 of an arrival's answer while {many} old pushes go, embedded, 64 callers"),
            "≤ 1.5 of without",
        )
    });
    print(&Line {
        ours: format!("{:.1} s", median(&taken).as_secs_f64()),
        ..Line::new("the same, time until all of them are gone", "–")
    });
}

async fn fill_file(file: &Path, count: usize) {
    let store = EmbeddedStore::open(file, Arc::new(SystemClock)).expect("a store");
    fill(&store, count, 512).await;
}

/// The embedded file with many pushes, without them, and with as many others.
pub(crate) async fn room(effort: Effort) {
    let count = effort.of(10_000, 500);
    let place = folder();
    let file = place.path().join("store.db");
    let size = || std::fs::metadata(&file).expect("the file").len() as f64 / MIB;
    fill_file(&file, count).await;
    let full = size();
    {
        let store = Arc::new(EmbeddedStore::open(&file, Arc::new(SystemClock)).expect("a store"));
        assert_eq!(remove(&engine(store, Arc::new(SystemClock))).await, count, "all that is old goes");
    }
    let empty = size();
    fill_file(&file, count).await;
    let again = size();
    print(&Line {
        floor: format!("{full:.2} MiB"),
        ours: format!("{again:.2} MiB ({empty:.2} MiB when all were gone)"),
        ratio: format!("{:.2}", again / full),
        met: Some(again <= full * 1.1),
        ..Line::new(format!("embedded file after {count} pushes, their removal, and {count} more"), "≤ 1.1 of before")
    });
}
