//! What a page of the list costs, and whether that grows with how much is stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::stream::{self, StreamExt as _};
use global_webhook::clock::{Clock, StorageClock, SystemClock};
use global_webhook::config::Source;
use global_webhook::config::storage::account;
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Policy, Repeats};
use global_webhook::push::{Arrival, Change, Decision, Input, Region, Row, Subject, step};
use global_webhook::store::azure::connection::Connection;
use global_webhook::store::azure::parts::{Entry, Expected, Record, Rows as _};
use global_webhook::store::azure::queue::TimerQueue;
use global_webhook::store::azure::table::Table;
use global_webhook::store::azure::{AzureStore, Names};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::search::Test;
use global_webhook::store::{Applied, Decide, Search, Store, Which};

use crate::azurite::azurite;
use crate::table::{Line, median, ms, print};
use crate::{Effort, folder};

/// One push in so many is of the repository that is looked for, and one waits.
const RARE: usize = 1000;

/// A step that leaves a row.
struct Leave(Row);

impl Decide for Leave {
    fn decide(&self, _: Option<&Row>, _: Option<global_webhook::push::Answer>) -> Decision {
        let change = Change::Put(self.0.clone());
        let (did, claims) = (global_webhook::push::Did::Opened, Vec::new());
        Decision::Step(Box::new(global_webhook::push::Step { did, change, claims }))
    }
}

/// The `n`-th push of `count`, the last one being the newest, one every 6 s: 14 400 a day; settled, unless it is one of the rare
/// ones.
fn push(n: usize, count: usize, end: chrono::DateTime<chrono::Utc>) -> Row {
    let rare = n % RARE == RARE - 1;
    let regions = |names: &[&str]| names.iter().map(|name| Region::parse(name).expect("a region")).collect();
    let policy = Policy {
        regions: regions(if rare { &["a", "b"] } else { &["a"] }),
        timeout: Duration::from_secs(3600),
        correlation: Correlation::Content,
        repeats: Repeats::New,
        rules: Vec::new(),
        targets: Vec::new(),
        schedule: vec![Duration::from_secs(1)],
    };
    let subject = Subject {
        registry: "contoso.azurecr.io".into(),
        repository: if rare { "rare/one".into() } else { format!("shop/service-{}", n % 50) },
        tag: Some(format!("build-{n}")),
        digest: format!("sha256:{n:064x}"),
        action: "push".into(),
    };
    let payload = format!(r#"{{"id":"{n}","action":"push","padding":"{}"}}"#, "x".repeat(900));
    let received = end - TimeDelta::milliseconds(((count - n) * 6000) as i64);
    let region = Region::parse("a").expect("a region");
    let arrival = Arrival { region, received, id: n.to_string(), subject, payload };
    let input = Input::Arrival { arrival: Arc::new(arrival), spilled: false, earlier: false };
    let Decision::Step(step) = step(None, &input, received, &policy, None) else {
        panic!("a first report asks nothing")
    };
    let Change::Put(row) = step.change else { panic!("a first report opens") };
    row
}

pub(crate) async fn pages(effort: Effort) {
    let counts: &[usize] = if effort.short { &[100, 2000] } else { &[100, 10_000, 100_000] };
    for &count in counts {
        let folder = folder();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = EmbeddedStore::open(folder.path().join("lists.db"), Arc::clone(&clock)).expect("a store");
        let end = clock.now();
        stream::iter(0..count)
            .for_each_concurrent(64, |n| {
                let (row, store) = (push(n, count, end), &store);
                async move {
                    let which = Which::Newest(row.id.key.clone());
                    let _: Applied = store.apply(&which, Arc::new(Leave(row))).await.expect("written");
                }
            })
            .await;
        measure(&format!("embedded, {count} pushes"), &store, &SystemClock, || 0).await;
    }
    for &count in counts {
        let azurite = azurite();
        let string = azurite.account();
        let source = Source::new([("AzureWebJobsStorage".to_owned(), string.clone())]);
        let account = account(&source, &mut Vec::new()).expect("an account");
        let clock = Arc::new(StorageClock::new(Arc::new(SystemClock)));
        let connection = Connection::open(&account, Arc::clone(&clock)).expect("a connection");
        let names = Names::default();
        let rows = Arc::new(Table::new(&connection, &names.table));
        let queue = Arc::new(TimerQueue::new(&connection, &names));
        rows.prepare().await.expect("a table");
        let end = clock.now();
        stream::iter(0..count)
            .for_each_concurrent(8, |n| {
                let (row, rows) = (push(n, count, end), &rows);
                async move {
                    let entry = Entry { at: row.opened, push: row.id.clone() };
                    let record = Record { row, revision: 1, timer: None, app: "bench".into() };
                    // The emulator stops for seconds now and then.
                    while rows.index(&entry, Some(&record.row.subject)).await.is_err() {}
                    while rows.put(&record, &Expected::Absent).await.is_err() {}
                }
            })
            .await;
        let store = AzureStore::new(rows, queue, Arc::clone(&clock) as Arc<dyn Clock>, "bench".into(), 1);
        measure(&format!("Azurite, {count} pushes"), &store, &*clock, || azurite.requests(&string).len()).await;
    }
}

async fn measure(where_: &str, store: &dyn Store, clock: &dyn Clock, requests: impl Fn() -> usize) {
    let rare: Test<Subject> = Arc::new(|subject| subject.repository == "rare/one");
    let within = |age| Search { owing: true, remembered: Some(clock.now() - age), ..Search::all(50, None) };
    let key = push(0, 1, clock.now()).id.key;
    // What the engine asks for with the default settings.
    let (waits, owes) = (TimeDelta::minutes(17), TimeDelta::hours(43));
    for (what, search) in [
        ("newest 50", Some(Search::all(50, None))),
        ("of one repository in a thousand", Some(Search { subject: Some(rare), ..Search::all(50, None) })),
        ("those that wait", Some(Search { waiting: true, ..within(waits) })),
        ("those that owe something", Some(within(owes))),
        ("newest push of a tag", None),
        ("push of a tag and digest", None),
    ] {
        let (mut times, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let (before, began) = (requests(), Instant::now());
            match &search {
                Some(search) => drop(store.list(search).await.expect("a page")),
                None if what.ends_with("digest") => {
                    drop(store.get(&Which::Newest(key.clone())).await.expect("a look-up"));
                }
                None => drop(store.newest_at(key.place(), None).await.expect("a look-up")),
            }
            times.push(began.elapsed());
            costs.push(requests() - before);
        }
        print(&Line {
            ours: format!("{}, {} requests", ms(median(&times)), median(&costs)),
            ..Line::new(format!("list, {where_}: {what}"), "–")
        });
    }
}
