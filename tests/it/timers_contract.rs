//! What every [`Inbox`] must do. One line of `timers_contract!` at the end runs all cases against one implementation.
//!
//! The cases hold for a queue with whole seconds that polls: they wait for a condition, up to [`LIMIT`], and where they
//! must see that something does *not* happen they wait for a later timer that does.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use async_trait::async_trait;
use global_webhook::clock::{Instant, SystemClock};
use global_webhook::limits;
use global_webhook::push::{Arrival, Key, PushId, Region, Subject};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::timers::embedded::EmbeddedTimers;
use global_webhook::timers::memory::MemoryTimers;
use global_webhook::timers::queue::{POISON_QUEUE, QueueTimers};
use global_webhook::timers::{Armed, Inbox, Message, Reason, Received, Timer};

/// How long a case waits for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

/// A lease that does not end during a case.
const LONG: Duration = Duration::from_secs(300);

const SECOND: Duration = Duration::from_secs(1);

/// An empty queue, and what must live as long as it does.
pub(crate) struct Fresh {
    pub(crate) timers: Arc<dyn Inbox>,
    pub(crate) poison: Arc<dyn Poison>,
    /// Delays are cut to a multiple of this.
    pub(crate) resolution: Duration,
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

/// A look into the poison queue that belongs to a [`Fresh`].
#[async_trait]
pub(crate) trait Poison: Send + Sync {
    /// All texts in it, in any order; takes none out.
    async fn texts(&self) -> Vec<String>;
}

pub(crate) fn timer(name: &str) -> Message {
    let push = PushId { key: Key::of(&[name]), round: 1 };
    Message::Timer(Timer { push, due: Instant::UNIX_EPOCH, reason: Reason::Deadline, revision: 1, of: None })
}

fn with_reason(message: &Message, reason: Reason) -> Message {
    match message {
        Message::Timer(timer) => Message::Timer(Timer { reason, ..timer.clone() }),
        Message::Spill(_) => panic!("a spill has no reason"),
    }
}

fn spill(payload: &str) -> Message {
    Message::Spill(Box::new(Arrival {
        region: Region::parse("northeurope").unwrap(),
        received: Instant::UNIX_EPOCH,
        id: "id \"quoted\" 😀".into(),
        subject: Subject {
            registry: "demo.azurecr.io".into(),
            repository: "shop/cart".into(),
            tag: None,
            digest: "sha256:00".into(),
            action: "push".into(),
        },
        payload: payload.into(),
    }))
}

fn message(received: &Received) -> Message {
    Message::parse(received.text.as_deref().unwrap()).unwrap()
}

impl Fresh {
    /// The next `count` messages, each hidden for `lease`.
    async fn take(&self, count: usize, lease: Duration) -> Vec<Received> {
        let began = Stopwatch::now();
        let mut taken = Vec::new();
        while taken.len() < count {
            assert!(began.elapsed() < LIMIT, "{} of {count} messages after {LIMIT:?}", taken.len());
            self.timers.ready(SECOND).await;
            taken.extend(self.timers.receive((count - taken.len()).min(32), lease).await.unwrap());
        }
        assert_eq!(taken.len(), count);
        taken
    }

    async fn take_one(&self, lease: Duration) -> Received {
        self.take(1, lease).await.remove(0)
    }

    /// A delay long enough to tell from none.
    fn moment(&self) -> Duration {
        self.resolution.max(Duration::from_millis(200))
    }

    /// Sees to it that nothing but a timer armed now for `within` becomes visible until then.
    async fn nothing_else_comes(&self, within: Duration) {
        let marker = timer("marker");
        self.timers.arm(&marker, within).await.unwrap();
        let next = self.take_one(LONG).await;
        assert_eq!(message(&next), marker);
        self.timers.disarm(&next.handle).await.unwrap();
        assert_eq!(self.timers.receive(32, LONG).await.unwrap(), []);
    }
}

async fn a_timer_is_never_early(fresh: Fresh) {
    for delay in [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(1900)] {
        let began = Stopwatch::now();
        fresh.timers.arm(&timer("a"), delay).await.unwrap();
        let received = fresh.take_one(LONG).await;
        let cut = delay.as_nanos() / fresh.resolution.as_nanos() * fresh.resolution.as_nanos();
        // The system's clock, unlike the stopwatch, is read in whole milliseconds.
        let elapsed = (began.elapsed() + Duration::from_millis(2)).as_nanos();
        assert!(elapsed >= cut, "{delay:?} took {elapsed} ns");
        assert_eq!(received.dequeue_count, 1);
        fresh.timers.disarm(&received.handle).await.unwrap();
    }
}

async fn receiving_hides(fresh: Fresh) {
    fresh.timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("a"));
    fresh.nothing_else_comes(fresh.moment()).await;
}

async fn receiving_takes_no_more_than_asked(fresh: Fresh) {
    for n in 0..5 {
        fresh.timers.arm(&timer(&n.to_string()), Duration::ZERO).await.unwrap();
    }
    let first = fresh.take(2, LONG).await;
    let rest = fresh.take(3, LONG).await;
    let mut all: Vec<String> = first.iter().chain(&rest).map(|r| message(r).text()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}

async fn a_lease_that_ends_gives_the_message_back(fresh: Fresh) {
    fresh.timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    let first = fresh.take_one(SECOND).await;
    let second = fresh.take_one(SECOND).await;
    let third = fresh.take_one(LONG).await;
    assert_eq!([first.dequeue_count, second.dequeue_count, third.dequeue_count], [1, 2, 3]);
    assert_eq!(message(&third), timer("a"));
    assert!(first.handle.id == third.handle.id && first.handle.receipt != third.handle.receipt);
    // Whoever held it before has nothing to say any more.
    fresh.timers.disarm(&first.handle).await.unwrap();
    fresh.timers.release(&second, Duration::ZERO).await.unwrap();
    fresh.nothing_else_comes(fresh.moment()).await;
    fresh.timers.release(&third, Duration::ZERO).await.unwrap();
    assert_eq!(fresh.take_one(LONG).await.dequeue_count, 4);
}

async fn releasing_gives_the_message_back(fresh: Fresh) {
    fresh.timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    let first = fresh.take_one(LONG).await;
    fresh.timers.release(&first, Duration::ZERO).await.unwrap();
    let second = fresh.take_one(LONG).await;
    assert_eq!((message(&second), second.dequeue_count), (timer("a"), 2));
    let began = Stopwatch::now();
    fresh.timers.release(&second, SECOND).await.unwrap();
    fresh.take_one(LONG).await;
    assert!(began.elapsed() + Duration::from_millis(2) >= SECOND);
}

async fn shifting_makes_it_earlier(fresh: Fresh) {
    let armed = fresh.timers.arm(&timer("old"), Duration::from_secs(3600)).await.unwrap();
    let shifted = fresh.timers.shift(&armed, &timer("new"), Duration::ZERO).await.unwrap().unwrap();
    assert!(shifted.id == armed.id && shifted.receipt != armed.receipt);
    let received = fresh.take_one(LONG).await;
    assert_eq!(message(&received), timer("new"));
    assert_eq!(received.handle.id, armed.id);
    fresh.nothing_else_comes(fresh.moment()).await;
}

async fn shifting_makes_it_later(fresh: Fresh) {
    let armed = fresh.timers.arm(&timer("old"), SECOND).await.unwrap();
    let began = Stopwatch::now();
    fresh.timers.shift(&armed, &timer("new"), 3 * SECOND).await.unwrap().unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("new"));
    assert!(began.elapsed() + Duration::from_millis(2) >= 3 * SECOND);
}

async fn shifting_again_and_again_keeps_one_message(fresh: Fresh) {
    let mut armed = fresh.timers.arm(&timer("0"), Duration::from_secs(3600)).await.unwrap();
    for n in 1..10 {
        let delay = Duration::from_secs(if n % 2 == 0 { 3600 } else { 1800 });
        armed = fresh.timers.shift(&armed, &timer(&n.to_string()), delay).await.unwrap().unwrap();
    }
    fresh.timers.shift(&armed, &timer("last"), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("last"));
    fresh.nothing_else_comes(fresh.moment()).await;
}

async fn a_shift_ends_the_old_receipt(fresh: Fresh) {
    let old = fresh.timers.arm(&timer("a"), Duration::from_secs(3600)).await.unwrap();
    let new = fresh.timers.shift(&old, &timer("b"), Duration::from_secs(1800)).await.unwrap().unwrap();
    assert_eq!(fresh.timers.shift(&old, &timer("c"), Duration::ZERO).await.unwrap(), None);
    fresh.timers.disarm(&old).await.unwrap();
    fresh.timers.shift(&new, &timer("d"), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("d"));
}

async fn a_receive_ends_the_old_receipt(fresh: Fresh) {
    let armed = fresh.timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    let held = fresh.take_one(LONG).await;
    assert!(held.handle.id == armed.id && held.handle.receipt != armed.receipt);
    assert_eq!(fresh.timers.shift(&armed, &timer("b"), Duration::ZERO).await.unwrap(), None);
    fresh.timers.disarm(&armed).await.unwrap();
    fresh.timers.release(&held, Duration::ZERO).await.unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("a"));
}

async fn a_disarmed_timer_does_not_fire(fresh: Fresh) {
    let armed = fresh.timers.arm(&timer("a"), SECOND).await.unwrap();
    fresh.timers.disarm(&armed).await.unwrap();
    fresh.timers.disarm(&armed).await.unwrap();
    assert_eq!(fresh.timers.shift(&armed, &timer("b"), Duration::ZERO).await.unwrap(), None);
    fresh.nothing_else_comes(2 * SECOND).await;
}

async fn a_foreign_handle_touches_nothing(fresh: Fresh) {
    let a = fresh.timers.arm(&timer("a"), SECOND).await.unwrap();
    let b = fresh.timers.arm(&timer("b"), SECOND).await.unwrap();
    let foreign = [
        Armed { id: a.id.clone(), receipt: b.receipt.clone() },
        Armed { id: "00000000-0000-4000-8000-000000000000".into(), receipt: a.receipt.clone() },
    ];
    for handle in foreign {
        fresh.timers.disarm(&handle).await.unwrap();
        assert_eq!(fresh.timers.shift(&handle, &timer("c"), Duration::ZERO).await.unwrap(), None);
        let received = Received { handle, text: Some(timer("d").text()), dequeue_count: 1 };
        fresh.timers.release(&received, Duration::ZERO).await.unwrap();
    }
    let taken = fresh.take(2, LONG).await;
    let mut texts: Vec<String> = taken.iter().map(|r| message(r).text()).collect();
    texts.sort();
    let mut expected = [timer("a").text(), timer("b").text()];
    expected.sort();
    assert_eq!(texts, expected);
}

async fn what_is_not_ours_is_set_aside(fresh: Fresh) {
    let foreign = ["hello", "", "{\"v\":99}", "quotes ' \" and 😀"];
    for text in foreign {
        fresh.timers.set_aside(text).await.unwrap();
    }
    assert_eq!(fresh.timers.revive().await.unwrap(), 0);
    let mut texts = fresh.poison.texts().await;
    texts.sort();
    let mut expected = foreign.map(ToOwned::to_owned);
    expected.sort();
    assert_eq!(texts, expected);
    fresh.nothing_else_comes(fresh.moment()).await;
}

async fn a_poison_timer_leaves_the_queue(fresh: Fresh) {
    fresh.timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    let received = fresh.take_one(SECOND).await;
    fresh.timers.poison(&received).await.unwrap();
    fresh.nothing_else_comes(2 * SECOND).await;
    assert_eq!(fresh.poison.texts().await, [timer("a").text()]);
}

async fn reviving_brings_back_ours_and_leaves_the_rest(fresh: Fresh) {
    assert_eq!(fresh.timers.revive().await.unwrap(), 0);
    fresh.timers.set_aside("foreign").await.unwrap();
    for message in [timer("a"), spill("{}")] {
        fresh.timers.arm(&message, Duration::ZERO).await.unwrap();
        let received = fresh.take_one(LONG).await;
        fresh.timers.poison(&received).await.unwrap();
    }
    fresh.timers.set_aside(&with_reason(&timer("b"), Reason::Delivery).text()).await.unwrap();
    assert_eq!(fresh.timers.revive().await.unwrap(), 3);
    let taken = fresh.take(3, LONG).await;
    assert!(taken.iter().all(|r| r.dequeue_count == 1));
    let mut texts: Vec<String> = taken.iter().map(|r| message(r).text()).collect();
    texts.sort();
    let revived = |name: &str| timer(name).revived().text();
    let mut expected = [revived("a"), revived("b"), spill("{}").text()];
    expected.sort();
    assert_eq!(texts, expected);
    assert_eq!(fresh.poison.texts().await, ["foreign"]);
    assert_eq!(fresh.timers.revive().await.unwrap(), 0);
}

async fn the_largest_message_survives(fresh: Fresh) {
    let empty = spill("").text().len();
    let largest = spill(&"x".repeat(limits::MESSAGE_BYTES_MAX - empty));
    assert_eq!(largest.text().len(), limits::MESSAGE_BYTES_MAX);
    for sent in [largest, spill("'\"\\ \0 \u{1} \r\n 😀 \u{202e}")] {
        fresh.timers.arm(&sent, Duration::ZERO).await.unwrap();
        assert!(message(&fresh.take_one(LONG).await) == sent);
    }
}

async fn a_delay_of_more_than_a_week_is_cut(fresh: Fresh) {
    for delay in [limits::TIMER_DELAY_MAX, 5 * limits::TIMER_DELAY_MAX, Duration::MAX] {
        let armed = fresh.timers.arm(&timer("a"), delay).await.unwrap();
        let shifted = fresh.timers.shift(&armed, &timer("b"), delay).await.unwrap().unwrap();
        fresh.timers.shift(&shifted, &timer("c"), Duration::ZERO).await.unwrap().unwrap();
        let received = fresh.take_one(LONG).await;
        assert_eq!(message(&received), timer("c"));
        fresh.timers.disarm(&received.handle).await.unwrap();
    }
}

async fn many_receivers_get_no_message_twice(fresh: Fresh) {
    const MESSAGES: usize = 60;
    let fresh = Arc::new(fresh);
    for n in 0..MESSAGES {
        fresh.timers.arm(&timer(&n.to_string()), Duration::ZERO).await.unwrap();
    }
    let taken = Arc::new(std::sync::Mutex::new(BTreeMap::<String, u32>::new()));
    let receivers: Vec<_> = (1..=8)
        .map(|max| {
            let (fresh, taken) = (Arc::clone(&fresh), Arc::clone(&taken));
            tokio::spawn(async move {
                let began = Stopwatch::now();
                while taken.lock().unwrap().len() < MESSAGES && began.elapsed() < LIMIT {
                    let received = fresh.timers.receive(max, LONG).await.unwrap();
                    if received.is_empty() {
                        fresh.timers.ready(Duration::from_millis(100)).await;
                    }
                    let mut taken = taken.lock().unwrap();
                    received.into_iter().for_each(|r| *taken.entry(r.handle.id).or_default() += 1);
                }
            })
        })
        .collect();
    for receiver in receivers {
        receiver.await.unwrap();
    }
    let taken = taken.lock().unwrap();
    assert_eq!(taken.len(), MESSAGES);
    assert!(taken.values().all(|&times| times == 1), "{taken:?}");
}

async fn waiting_ends_when_a_timer_comes(fresh: Fresh) {
    let began = Stopwatch::now();
    fresh.timers.ready(Duration::from_millis(100)).await;
    assert!(began.elapsed() < LIMIT, "waited for longer than it was told");
    fresh.timers.arm(&timer("far"), Duration::from_secs(3600)).await.unwrap();
    let (timers, waited) = (Arc::clone(&fresh.timers), Stopwatch::now());
    let waiting = tokio::spawn(async move {
        loop {
            timers.ready(10 * LIMIT).await;
            let received = timers.receive(1, LONG).await.unwrap();
            if !received.is_empty() {
                return received;
            }
        }
    });
    fresh.timers.arm(&timer("near"), SECOND).await.unwrap();
    assert_eq!(message(&waiting.await.unwrap()[0]), timer("near"));
    assert!(waited.elapsed() < LIMIT, "a timer armed meanwhile did not end the wait");
}

async fn preparing_again_changes_nothing(fresh: Fresh) {
    fresh.timers.prepare().await.unwrap();
    fresh.timers.arm(&timer("a"), Duration::ZERO).await.unwrap();
    fresh.timers.prepare().await.unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("a"));
}

/// Runs every case against the queues that `$fresh` makes.
macro_rules! timers_contract {
    ($module:ident, $fresh:path) => {
        timers_contract! { $module, $fresh:
            a_timer_is_never_early
            receiving_hides
            receiving_takes_no_more_than_asked
            a_lease_that_ends_gives_the_message_back
            releasing_gives_the_message_back
            shifting_makes_it_earlier
            shifting_makes_it_later
            shifting_again_and_again_keeps_one_message
            a_shift_ends_the_old_receipt
            a_receive_ends_the_old_receipt
            a_disarmed_timer_does_not_fire
            a_foreign_handle_touches_nothing
            what_is_not_ours_is_set_aside
            a_poison_timer_leaves_the_queue
            reviving_brings_back_ours_and_leaves_the_rest
            the_largest_message_survives
            a_delay_of_more_than_a_week_is_cut
            many_receivers_get_no_message_twice
            waiting_ends_when_a_timer_comes
            preparing_again_changes_nothing
        }
    };
    ($module:ident, $fresh:path: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($fresh()).await;
                }
            )*
        }
    };
}

timers_contract!(memory, super::memory_timers);
timers_contract!(memory_in_whole_seconds, super::memory_timers_in_whole_seconds);
timers_contract!(embedded, super::embedded_timers);
timers_contract!(queue, super::queue_timers);

#[async_trait]
impl Poison for MemoryTimers {
    async fn texts(&self) -> Vec<String> {
        self.poisoned()
    }
}

#[async_trait]
impl Poison for EmbeddedTimers {
    async fn texts(&self) -> Vec<String> {
        self.poisoned(1000).await.unwrap()
    }
}

fn memory(resolution: Duration) -> Fresh {
    let timers = Arc::new(MemoryTimers::new(Arc::new(SystemClock), resolution));
    Fresh { poison: timers.clone(), timers, resolution, _keep: Box::new(()) }
}

fn memory_timers() -> Fresh {
    memory(Duration::from_millis(1))
}

fn memory_timers_in_whole_seconds() -> Fresh {
    memory(SECOND)
}

fn embedded_timers() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let (_, timers) = EmbeddedStore::open(folder.path().join("store.db"), Arc::new(SystemClock)).unwrap();
    let timers = Arc::new(timers);
    let resolution = Duration::from_millis(1);
    Fresh { poison: timers.clone(), timers, resolution, _keep: Box::new(folder) }
}

/// The poison queue, looked at without our code.
struct RawPoison(crate::raw::Raw);

#[async_trait]
impl Poison for RawPoison {
    async fn texts(&self) -> Vec<String> {
        use base64::Engine as _;
        let seen = self.0.peek(POISON_QUEUE).await.replace("<MessageText/>", "<MessageText></MessageText>");
        let texts = seen.split("<MessageText>").skip(1).filter_map(|rest| rest.split("</MessageText>").next());
        let decode = |raw: &str| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(raw).unwrap_or_else(|_| raw.into());
            String::from_utf8_lossy(&bytes).into_owned()
        };
        texts.map(decode).collect()
    }
}

fn queue_timers() -> Fresh {
    let connection_string = crate::support::azurite::azurite().account();
    let timers = Arc::new(QueueTimers::new(&crate::azure_table::open(&connection_string)));
    let poison = Arc::new(RawPoison(crate::raw::Raw::of(&connection_string)));
    Fresh { poison, timers, resolution: SECOND, _keep: Box::new(()) }
}
