//! What the Azure side does with messages that fired, and upkeep's walks, on Azurite: each text is handed in by the test, on a
//! clock that goes when it is told to.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use global_webhook::clock::{Clock, Instant, SystemClock};
use global_webhook::limits;
use global_webhook::push::{Arrival, Did, Input, PushId, Region, Row};
use global_webhook::store::azure::fired::{Core, FOREIGN};
use global_webhook::store::azure::message::{Message, Spill, Timer, Upkeep};
use global_webhook::store::azure::parts::{Entry, Expected, Inbox as _, Queue as _, Record, Rows as _, Ticket};
use global_webhook::store::azure::queue::TimerQueue;
use global_webhook::store::azure::table::Table;
use global_webhook::store::azure::{AzureStore, Names};
use global_webhook::store::{Applied, Decide, Failure, Search, Store as _};

use crate::raw::Raw;
use crate::samples::{id, open, owing, row, settled, stepping};
use crate::store_contract::put;
use crate::support::azurite::azurite;
use crate::support::{eventually, pause};

const LIMIT: Duration = Duration::from_secs(20);
const QUEUE: &str = "global-webhook-timers";
const POISON_QUEUE: &str = "global-webhook-timers-poison";
const TABLE: &str = "GlobalWebhook";

struct Watch(Mutex<Instant>);

#[async_trait::async_trait]
impl Clock for Watch {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, wait: Duration) {
        pause(wait).await;
    }
}

/// One app on an account, and what its core was handed.
struct App {
    store: AzureStore,
    clock: Arc<Watch>,
    rows: Table,
    queue: TimerQueue,
    raw: Raw,
    looked: Mutex<Vec<(PushId, Did)>>,
    arrived: Mutex<Vec<Arrival>>,
    /// How long its settings keep pushes.
    kept: Mutex<Option<chrono::Duration>>,
}

#[async_trait::async_trait]
impl Core for App {
    fn look(&self) -> Arc<dyn Decide> {
        self.step(Input::Timer)
    }

    fn looked(&self, push: &PushId, applied: Applied) {
        self.looked.lock().unwrap().push((push.clone(), applied.did));
    }

    async fn arrived(&self, arrival: Arrival) -> Result<(), Failure> {
        self.arrived.lock().unwrap().push(arrival);
        Ok(())
    }

    fn old(&self, now: Instant) -> Option<(Instant, Arc<dyn Decide>)> {
        let kept = (*self.kept.lock().unwrap())?;
        Some((now - kept, self.step(Input::Purge)))
    }

    fn registry(&self) -> Option<&str> {
        None
    }
}

impl App {
    fn step(&self, input: Input) -> Arc<dyn Decide> {
        stepping(input, self.clock.clone())
    }

    fn new(account: &str, name: &str, clock: &Arc<Watch>) -> Self {
        let (connection, names) = (open(account), Names::default());
        let (rows, queue) = (Table::new(&connection, &names.table), TimerQueue::new(&connection, &names));
        let (of_store, for_queue) = (Arc::new(rows.clone()), Arc::new(queue.clone()));
        let store = AzureStore::new(of_store, for_queue, clock.clone(), name.into(), 1);
        let (looked, arrived, kept) = Default::default();
        Self { store, clock: clock.clone(), rows, queue, raw: Raw::of(account), looked, arrived, kept }
    }

    async fn fired(&self, message: &Message) -> Result<&'static str, Failure> {
        self.store.fired(&message.text(), self).await
    }

    /// The push, opened so long before now.
    async fn waiting(&self, name: &str, age: i64) -> Row {
        let row = row(id(name, 1), self.clock.now() - chrono::Duration::seconds(age), "{}");
        put(&self.store, &row).await;
        row
    }

    async fn record(&self, row: &Row) -> Arc<Record> {
        self.rows.get(&row.id).await.unwrap().unwrap().record
    }

    /// The timer in charge of a push.
    async fn timer(&self, row: &Row) -> Timer {
        let ticket = self.record(row).await.timer.clone().unwrap().ticket;
        Timer { push: row.id.clone(), due: self.clock.now(), ticket, again: false }
    }

    /// Walks as if upkeep's own timer had fired.
    async fn walk(&self, first: bool) {
        assert_eq!(self.upkeep(first).await, "walked");
    }

    /// What upkeep does when its own timer fires.
    async fn upkeep(&self, first: bool) -> &'static str {
        let (_, note, _) = self.rows.notes("upkeep").await.unwrap().remove(0);
        let note: serde_json::Value = serde_json::from_str(&note).unwrap();
        let ticket = serde_json::from_value(note["ticket"].clone()).unwrap();
        self.fired(&Message::Upkeep(Upkeep { ticket, first })).await.unwrap()
    }

    /// Number of entries in the time index.
    async fn entries(&self) -> usize {
        let (mut count, mut cursor) = (0, None::<String>);
        loop {
            let (page, next) = self.rows.entries(1000, cursor.as_deref()).await.unwrap();
            count += page.len();
            cursor = next;
            if cursor.is_none() {
                return count;
            }
        }
    }

    fn looked(&self) -> Vec<(PushId, Did)> {
        std::mem::take(&mut *self.looked.lock().unwrap())
    }
}

fn account() -> (String, Arc<Watch>) {
    (azurite().account(), Arc::new(Watch(Mutex::new(SystemClock.now()))))
}

fn app() -> App {
    let (account, clock) = account();
    App::new(&account, "app", &clock)
}

#[tokio::test]
async fn a_timer_acts_only_where_the_row_names_it() {
    let app = app();
    let row = app.waiting("a", 122).await;
    let timer = app.timer(&row).await;
    let other = |revision, again| {
        let ticket = Ticket { revision: timer.ticket.revision + revision - 1, writer: timer.ticket.writer + 1 };
        Message::Timer(Timer { ticket, again, ..timer.clone() })
    };
    let before = app.raw.count(QUEUE).await;
    for (message, word, more) in [
        (other(0, false), "older", 0),
        (other(1, false), "older", 0),
        // Its write may land, so it looks once more; and then no more.
        (other(2, false), "newer", 1),
        (other(2, true), "newer", 1),
    ] {
        assert_eq!(app.fired(&message).await, Ok(word), "{message:?}");
        assert_eq!(app.raw.count(QUEUE).await, before + more, "{message:?}");
    }
    let nobody = Message::Timer(Timer { push: id("nobody", 1), again: true, ..timer.clone() });
    assert_eq!(app.fired(&nobody).await, Ok("newer"));
    assert_eq!(app.looked(), []);
    let message = Message::Timer(timer);
    assert_eq!(app.fired(&message).await, Ok("timed_out"));
    assert!(app.looked().iter().map(|(push, _)| push).eq([&row.id]));
    assert_eq!(app.fired(&message).await, Ok("older"), "it fires a second time");
}

#[tokio::test]
async fn a_text_that_is_not_ours_goes_to_the_poison_queue() {
    let app = app();
    let region = Region::parse("e").unwrap();
    let spill = Spill { app: "app".into(), region, received: app.clock.now(), payload: "no webhook".into() };
    for (number, text) in ["hello".to_owned(), Message::Spill(spill).text()].iter().enumerate() {
        assert_eq!(app.store.fired(text, &app).await, Ok("set_aside"));
        assert_eq!(app.raw.count(POISON_QUEUE).await, number + 1);
    }
    assert!(app.arrived.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_fails_for_long_is_put_back_and_before_that_given_back() {
    let (account, clock) = account();
    let app = App::new(&account, "app", &clock);
    let row = app.waiting("a", 0).await;
    let timer = app.timer(&row).await;
    let key = &row.id.key;
    let entity = format!("{TABLE}(PartitionKey='{}',RowKey='{}-fffffffe')", key.place(), key.content());
    let (code, answer) = app.raw.table("MERGE", &entity, "", r#"{"Row0":"broken"}"#).await;
    assert_eq!(code, 204, "{answer}");
    // Another process, which remembers nothing.
    let fresh = App::new(&account, "app", &clock);
    let before = app.raw.count(QUEUE).await;
    for (failing, word) in [(899, None), (901, Some("put_back"))] {
        let due = app.clock.now() - chrono::Duration::seconds(failing);
        let done = fresh.fired(&Message::Timer(Timer { due, ..timer.clone() })).await;
        assert_eq!(done.clone().ok(), word);
        assert!(word.is_some() || matches!(done, Err(Failure::Corrupt(_))));
        assert_eq!(app.raw.count(QUEUE).await, before + usize::from(word.is_some()));
    }
}

#[tokio::test]
async fn what_is_another_apps_is_left_to_it_until_it_is_silent_for_an_hour() {
    let (account, clock) = account();
    let [one, other] = ["production", "staging"].map(|name| App::new(&account, name, &clock));
    other.store.start_upkeep().await.unwrap();
    let row = other.waiting("a", 121).await;
    let timer = Message::Timer(other.timer(&row).await);
    let body = r#"{"action":"push","id":"1","target":{"repository":"p","digest":"d","tag":"t"}}"#;
    let arrival = Arrival::read(Region::parse("e").unwrap(), clock.now(), body.into(), None).unwrap();
    let spill = Message::Spill(Spill::of(&arrival, "staging"));
    assert_eq!(one.fired(&timer).await, Ok(FOREIGN));
    assert!(matches!(one.fired(&spill).await, Err(Failure::Unavailable(cause)) if cause.contains("staging")));
    assert_eq!(
        one.queue.last_spill().await.unwrap().map(|at| at.timestamp_millis()),
        Some(clock.now().timestamp_millis())
    );
    assert!(one.looked().is_empty() && one.arrived.lock().unwrap().is_empty());
    assert_eq!(other.fired(&spill).await, Ok("applied"));
    assert!(other.arrived.lock().unwrap().iter().eq([&arrival]));
    *clock.0.lock().unwrap() += chrono::Duration::seconds(3601);
    assert_eq!(one.fired(&spill).await, Ok("applied"));
    assert!(one.arrived.lock().unwrap().iter().eq([&arrival]));
    assert_eq!(one.fired(&timer).await, Ok("held"), "its deadline is handled late");
    assert_eq!(one.record(&row).await.app, "production");
}

#[tokio::test]
async fn upkeep_looks_after_what_owes_something_and_nothing_else() {
    let app = app();
    let far = app.waiting("far", 0).await;
    let due = owing(row(id("due", 1), app.clock.now() - chrono::Duration::seconds(60), "{}"), app.clock.now());
    let done = settled(row(id("done", 1), app.clock.now(), "{}"), Vec::new());
    for row in [&due, &done] {
        put(&app.store, row).await;
    }
    let before = [app.record(&far).await, app.record(&done).await];
    let (code, answer) = app.raw.queue("DELETE", &format!("{QUEUE}/messages"), "", "").await;
    assert_eq!(code, 204, "{answer}");
    app.store.start_upkeep().await.unwrap();
    let mut received = Vec::new();
    eventually("upkeep's own timer fires", LIMIT, async || {
        received.extend(app.queue.receive(32, LIMIT).await.unwrap());
        !received.is_empty()
    })
    .await;
    let text = received[0].text.clone().unwrap();
    assert_eq!(app.store.fired(&text, &app).await, Ok("walked"));
    assert_eq!(app.store.fired(&text, &app).await, Ok("older"), "one walk at a time");
    // What owes something for longer than is usual is on a page of its own.
    let remembered = Some(app.clock.now() + chrono::Duration::seconds(60));
    let owe = Search { owing: true, remembered, ..Search::all(1, None) };
    let first = app.store.list(&owe).await.unwrap();
    let (mut cursor, mut older) = (first.next, first.rows);
    while let Some(next) = cursor {
        assert!(app.store.is_cursor(&next));
        let page = app.store.list(&Search { cursor: Some(next), ..owe.clone() }).await.unwrap();
        older.extend(page.rows);
        cursor = page.next;
    }
    let young = Search { since: Some(app.clock.now() - chrono::Duration::seconds(30)), limit: 9, ..owe };
    let young = app.store.list(&young).await.unwrap().rows;
    assert!(young.iter().map(|row| &row.id).eq([&far.id]), "no older than asked for");
    older.sort_by_key(|row| row.id != far.id);
    assert_eq!(older.into_iter().map(|row| row.id).collect::<Vec<_>>(), [far.id.clone(), due.id.clone()]);
    app.queue.disarm(&received[0].handle).await.unwrap();
    assert_eq!(app.looked(), [(due.id.clone(), Did::Claimed)]);
    let after = [app.record(&far).await, app.record(&done).await];
    assert_ne!(after[0].timer, before[0].timer, "its timer may be lost, so it has a new one");
    assert_eq!(after[1], before[1]);
    // Theirs, and upkeep's next one.
    assert_eq!(app.raw.count(QUEUE).await, 3);
    // The index is read from where the last walk ended; what owed something then is looked at once more.
    *app.clock.0.lock().unwrap() += chrono::Duration::seconds(14 * 60);
    app.walk(false).await;
    let mut looked = app.looked();
    looked.sort_by_key(|(push, _)| *push != far.id);
    assert_eq!(looked, [(far.id.clone(), Did::Held), (due.id.clone(), Did::Claimed)]);
    // Now nothing is overdue.
    app.walk(false).await;
    assert_eq!(app.looked(), []);
}

#[tokio::test]
async fn upkeep_removes_entries_without_a_row_after_an_hour() {
    let app = app();
    let row = app.waiting("a", 7300).await;
    let now = app.clock.now();
    let entry = |name: &str, age| Entry { at: now - chrono::Duration::seconds(age), push: id(name, 1) };
    for entry in [entry("on its way", 3599), entry("orphan", 3601)] {
        app.rows.index(&entry, None).await.unwrap();
    }
    app.store.start_upkeep().await.unwrap();
    app.walk(true).await;
    let (left, _) = app.rows.entries(10, None).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|entry| entry.push).collect();
    assert!(
        left.contains(&row.id) && left.contains(&id("on its way", 1)) && !left.contains(&id("orphan", 1)),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upkeep_removes_what_is_too_old_in_calls_of_their_own_for_three_requests_a_push() {
    const MANY: usize = limits::REMOVED_PER_CALL_MAX + 130;
    let (account, clock) = account();
    let app = App::new(&account, "app", &clock);
    let ago = |hours: i64| clock.now() - chrono::Duration::hours(hours);
    let young = settled(row(id("young", 1), clock.now() - chrono::Duration::minutes(59), "{}"), Vec::new());
    let owed = owing(row(id("owed", 1), ago(99), "{}"), clock.now() + chrono::Duration::hours(9));
    for row in [&young, &owed] {
        put(&app.store, row).await;
    }
    let enter = |n: usize| {
        let opened = ago(50) + chrono::Duration::seconds(i64::try_from(n).unwrap());
        let row = settled(row(id(&format!("old {n}"), 1), opened, "{}"), Vec::new());
        let entry = Entry { at: opened, push: row.id.clone() };
        let record = Record { row, revision: 1, timer: None, app: "app".into() };
        let rows = app.rows.clone();
        async move {
            rows.index(&entry, None).await.unwrap();
            rows.put(&record, &Expected::Absent).await.unwrap();
        }
    };
    stream::iter((0..MANY).map(enter)).buffer_unordered(32).collect::<Vec<()>>().await;
    app.store.start_upkeep().await.unwrap();
    for _ in 0..2 {
        app.walk(false).await;
    }
    assert_eq!(
        app.entries().await,
        MANY + 4,
        "nothing is too old yet, and what was written long after it came has two entries"
    );
    *app.kept.lock().unwrap() = Some(chrono::Duration::hours(1));
    let before = azurite().requests(&account).len();
    app.walk(false).await;
    let requests = azurite().requests(&account).len() - before;
    let removed = MANY + 4 - app.entries().await;
    assert!((limits::REMOVED_PER_CALL_MAX - 1..=limits::REMOVED_PER_CALL_MAX).contains(&removed), "{removed}");
    assert!(requests <= 3 * removed, "{requests} requests for {removed} pushes");
    assert_eq!(app.upkeep(false).await, "removed");
    let (left, _) = app.rows.entries(10, None).await.unwrap();
    let left: BTreeSet<_> = left.into_iter().map(|entry| entry.push).collect();
    assert_eq!(left, BTreeSet::from([young.id.clone(), owed.id.clone()]));
    assert!(app.rows.get(&id("old 0", 1)).await.unwrap().is_none());
    // What stayed is asked for again a day later, and then goes, unless it still owes something.
    *clock.0.lock().unwrap() += chrono::Duration::hours(3);
    app.walk(false).await;
    assert!(app.rows.get(&young.id).await.unwrap().is_none());
    let done = settled(app.record(&owed).await.row.clone(), Vec::new());
    put(&app.store, &done).await;
    *clock.0.lock().unwrap() += chrono::Duration::hours(12);
    app.walk(false).await;
    assert!(app.rows.get(&owed.id).await.unwrap().is_some(), "it was looked at half a day ago");
    *clock.0.lock().unwrap() += chrono::Duration::hours(12);
    app.walk(false).await;
    assert!(app.rows.get(&owed.id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_another_apps_is_not_removed_as_long_as_it_lives() {
    let (account, clock) = account();
    let [one, other] = ["production", "staging"].map(|name| App::new(&account, name, &clock));
    other.store.start_upkeep().await.unwrap();
    let old = settled(row(id("a", 1), clock.now() - chrono::Duration::hours(9), "{}"), Vec::new());
    put(&other.store, &old).await;
    let remove = async |app: &App| {
        let span = (Instant::UNIX_EPOCH, clock.now());
        app.store.remove_settled(span, 10, app.step(Input::Purge)).await.unwrap().count
    };
    assert_eq!(remove(&one).await, 0);
    *clock.0.lock().unwrap() += chrono::Duration::seconds(3601);
    assert_eq!(remove(&one).await, 1);
    assert_eq!(remove(&other).await, 0);
}
