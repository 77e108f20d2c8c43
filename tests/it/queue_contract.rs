//! What every [`Queue`] and [`Inbox`] must do. One line of `queue_contract!` at the end runs all cases against one
//! implementation.
//!
//! The cases hold for a queue with whole seconds that polls: they wait for a condition, up to [`LIMIT`], and where they
//! must see that something does *not* happen they wait for a later message that does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use global_webhook::clock::Instant;
use global_webhook::limits;
use global_webhook::push::Region;
use global_webhook::store::azure::Names;
use global_webhook::store::azure::message::{Message, Spill, Timer, Upkeep};
use global_webhook::store::azure::parts::{Handle, Inbox, Received, Ticket};
use global_webhook::store::azure::queue::TimerQueue;

use crate::raw::Raw;
use crate::samples::{id, instant, open};
use crate::support::azurite::azurite;

/// How long a case waits for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

/// A lease that does not end during a case.
const LONG: Duration = Duration::from_secs(300);

const SECOND: Duration = Duration::from_secs(1);

/// An empty queue, and its account reached by hand.
struct Fresh {
    queue: Arc<dyn Inbox>,
    raw: Raw,
}

/// A timer for a push of this name.
pub(crate) fn timer(name: &str) -> Message {
    let ticket = Ticket { revision: 7, writer: u64::MAX };
    let (push, due) = (id(name, 1), Instant::UNIX_EPOCH);
    Message::Timer(Timer { push, due, ticket, again: false })
}

fn spill(payload: &str) -> Message {
    let region = Region::parse("northeurope").unwrap();
    Message::Spill(Spill { app: "app".into(), region, received: Instant::UNIX_EPOCH, payload: payload.into() })
}

fn message(received: &Received) -> Message {
    Message::parse(received.text.as_deref().unwrap(), Instant::UNIX_EPOCH).unwrap()
}

impl Fresh {
    /// The next `count` messages, each hidden for `lease`.
    async fn take(&self, count: usize, lease: Duration) -> Vec<Received> {
        let mut taken = Vec::new();
        crate::support::eventually(&format!("{count} messages come"), LIMIT, async || {
            taken.extend(self.queue.receive((count - taken.len()).min(32), lease).await.unwrap());
            taken.len() == count
        })
        .await;
        taken
    }

    async fn take_one(&self, lease: Duration) -> Received {
        self.take(1, lease).await.remove(0)
    }

    /// Sees to it that nothing but a message armed now for `within` becomes visible until then.
    async fn nothing_else_comes(&self, within: Duration) {
        let marker = timer("marker");
        self.queue.arm(&marker, within).await.unwrap();
        let next = self.take_one(LONG).await;
        assert_eq!(message(&next), marker);
        self.queue.disarm(&next.handle).await.unwrap();
        assert_eq!(self.queue.receive(32, LONG).await.unwrap(), []);
    }

    /// Texts of the poison queue, in order; takes none out.
    async fn poisoned(&self) -> Vec<String> {
        let seen =
            self.raw.peek(&Names::default().poison).await.replace("<MessageText/>", "<MessageText></MessageText>");
        let texts = seen.split("<MessageText>").skip(1).filter_map(|rest| rest.split("</MessageText>").next());
        let decode = |raw: &str| {
            let bytes = STANDARD.decode(raw).unwrap_or_else(|_| raw.into());
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut texts: Vec<String> = texts.map(decode).collect();
        texts.sort();
        texts
    }
}

async fn a_message_is_never_early_and_never_below_a_second(fresh: Fresh) {
    for (delay, least) in [(0, 1), (250, 1), (999, 1), (1900, 1), (2100, 2)] {
        let began = Stopwatch::now();
        fresh.queue.arm(&timer("a"), Duration::from_millis(delay)).await.unwrap();
        let received = fresh.take_one(LONG).await;
        // The emulator's clock, unlike the stopwatch, is read in whole milliseconds.
        let elapsed = began.elapsed() + Duration::from_millis(2);
        assert!(elapsed >= SECOND * least, "{delay} ms took {elapsed:?}");
        assert_eq!((message(&received), received.dequeue_count), (timer("a"), 1));
        fresh.queue.disarm(&received.handle).await.unwrap();
    }
}

async fn receiving_hides(fresh: Fresh) {
    fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("a"));
    fresh.nothing_else_comes(SECOND).await;
}

async fn receiving_takes_no_more_than_asked(fresh: Fresh) {
    for n in 0..5 {
        fresh.queue.arm(&timer(&n.to_string()), SECOND).await.unwrap();
    }
    let first = fresh.take(2, LONG).await;
    let rest = fresh.take(3, LONG).await;
    let mut all: Vec<String> = first.iter().chain(&rest).map(|r| message(r).text()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}

async fn a_lease_that_ends_gives_the_message_back(fresh: Fresh) {
    fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
    let first = fresh.take_one(SECOND).await;
    let second = fresh.take_one(SECOND).await;
    let third = fresh.take_one(LONG).await;
    assert_eq!([first.dequeue_count, second.dequeue_count, third.dequeue_count], [1, 2, 3]);
    assert_eq!(message(&third), timer("a"));
    assert!(first.handle.id == third.handle.id && first.handle.receipt != third.handle.receipt);
    // Whoever held it before has nothing to say any more.
    fresh.queue.disarm(&first.handle).await.unwrap();
    fresh.queue.release(&second, SECOND).await.unwrap();
    fresh.nothing_else_comes(2 * SECOND).await;
    fresh.queue.release(&third, SECOND).await.unwrap();
    assert_eq!(fresh.take_one(LONG).await.dequeue_count, 4);
}

async fn releasing_gives_the_message_back(fresh: Fresh) {
    fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
    let first = fresh.take_one(LONG).await;
    let began = Stopwatch::now();
    fresh.queue.release(&first, 2 * SECOND).await.unwrap();
    let second = fresh.take_one(LONG).await;
    assert!(began.elapsed() + Duration::from_millis(2) >= 2 * SECOND);
    assert_eq!((message(&second), second.dequeue_count), (timer("a"), 2));
}

async fn shifting_makes_it_earlier(fresh: Fresh) {
    let armed = fresh.queue.arm(&timer("old"), Duration::from_secs(3600)).await.unwrap();
    let shifted = fresh.queue.shift(&armed, &timer("new"), SECOND).await.unwrap().unwrap();
    assert!(shifted.id == armed.id && shifted.receipt != armed.receipt);
    let received = fresh.take_one(LONG).await;
    assert_eq!((message(&received), &received.handle.id), (timer("new"), &armed.id));
    fresh.nothing_else_comes(SECOND).await;
}

async fn shifting_makes_it_later_and_never_less_than_a_second(fresh: Fresh) {
    let armed = fresh.queue.arm(&timer("0"), SECOND).await.unwrap();
    let began = Stopwatch::now();
    let armed = fresh.queue.shift(&armed, &timer("1"), 3 * SECOND).await.unwrap().unwrap();
    let received = fresh.take_one(LONG).await;
    assert_eq!((message(&received), &received.handle.id), (timer("1"), &armed.id));
    assert!(began.elapsed() + Duration::from_millis(2) >= 3 * SECOND);
    let armed = fresh.queue.arm(&timer("2"), Duration::from_secs(3600)).await.unwrap();
    let began = Stopwatch::now();
    fresh.queue.shift(&armed, &timer("3"), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("3"));
    assert!(began.elapsed() + Duration::from_millis(2) >= SECOND);
}

async fn shifting_again_and_again_keeps_one_message(fresh: Fresh) {
    let mut armed = fresh.queue.arm(&timer("0"), Duration::from_secs(3600)).await.unwrap();
    for n in 1..10 {
        let delay = Duration::from_secs(if n % 2 == 0 { 3600 } else { 1800 });
        armed = fresh.queue.shift(&armed, &timer(&n.to_string()), delay).await.unwrap().unwrap();
    }
    fresh.queue.shift(&armed, &timer("last"), SECOND).await.unwrap().unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("last"));
    fresh.nothing_else_comes(SECOND).await;
}

async fn a_stale_handle_touches_nothing(fresh: Fresh) {
    // One that a move has replaced.
    let old = fresh.queue.arm(&timer("a"), Duration::from_secs(3600)).await.unwrap();
    let new = fresh.queue.shift(&old, &timer("b"), Duration::from_secs(1800)).await.unwrap().unwrap();
    assert_eq!(fresh.queue.shift(&old, &timer("c"), SECOND).await.unwrap(), None);
    fresh.queue.disarm(&old).await.unwrap();
    // One of a message that is being handled.
    let new = fresh.queue.shift(&new, &timer("d"), SECOND).await.unwrap().unwrap();
    let held = fresh.take_one(LONG).await;
    assert!(held.handle.id == new.id && held.handle.receipt != new.receipt);
    assert_eq!(fresh.queue.shift(&new, &timer("e"), SECOND).await.unwrap(), None);
    fresh.queue.disarm(&new).await.unwrap();
    fresh.queue.release(&held, SECOND).await.unwrap();
    let held = fresh.take_one(LONG).await;
    assert_eq!(message(&held), timer("d"));
    // One of a message that is gone.
    for _ in 0..2 {
        fresh.queue.disarm(&held.handle).await.unwrap();
    }
    assert_eq!(fresh.queue.shift(&held.handle, &timer("f"), SECOND).await.unwrap(), None);
    fresh.queue.release(&held, SECOND).await.unwrap();
    fresh.nothing_else_comes(2 * SECOND).await;
}

async fn a_disarmed_timer_does_not_fire(fresh: Fresh) {
    let armed = fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
    fresh.queue.disarm(&armed).await.unwrap();
    fresh.queue.disarm(&armed).await.unwrap();
    assert_eq!(fresh.queue.shift(&armed, &timer("b"), SECOND).await.unwrap(), None);
    fresh.nothing_else_comes(2 * SECOND).await;
}

async fn a_foreign_handle_touches_nothing(fresh: Fresh) {
    let a = fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
    let b = fresh.queue.arm(&timer("b"), SECOND).await.unwrap();
    for handle in [
        Handle { id: a.id.clone(), receipt: b.receipt.clone() },
        Handle { id: "00000000-0000-4000-8000-000000000000".into(), receipt: a.receipt.clone() },
    ] {
        fresh.queue.disarm(&handle).await.unwrap();
        assert_eq!(fresh.queue.shift(&handle, &timer("c"), SECOND).await.unwrap(), None);
        let text = timer("d").text();
        let received = Received { handle, raw: STANDARD.encode(&text), text: Some(text), dequeue_count: 1 };
        fresh.queue.release(&received, SECOND).await.unwrap();
    }
    let mut texts: Vec<String> = fresh.take(2, LONG).await.iter().map(|r| message(r).text()).collect();
    texts.sort();
    let mut expected = [timer("a").text(), timer("b").text()];
    expected.sort();
    assert_eq!(texts, expected);
}

async fn what_is_not_ours_is_set_aside(fresh: Fresh) {
    let mut foreign = ["hello", "", "{\"v\":99}", "quotes ' \" and 😀"].map(str::to_owned);
    for text in &foreign {
        fresh.queue.set_aside(text).await.unwrap();
    }
    foreign.sort();
    assert_eq!(fresh.poisoned().await, foreign);
    fresh.nothing_else_comes(SECOND).await;
}

async fn a_poisoned_message_leaves_the_queue(fresh: Fresh) {
    fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
    let received = fresh.take_one(SECOND).await;
    fresh.queue.poison(&received).await.unwrap();
    fresh.nothing_else_comes(2 * SECOND).await;
    assert_eq!(fresh.poisoned().await, [timer("a").text()]);
}

async fn every_kind_of_message_survives(fresh: Fresh) {
    let empty = spill("").text().len();
    let largest = spill(&"x".repeat(limits::MESSAGE_BYTES_MAX - empty));
    assert_eq!(largest.text().len(), limits::MESSAGE_BYTES_MAX);
    let upkeep = Message::Upkeep(Upkeep { ticket: Ticket { revision: u64::MAX, writer: 1 }, first: true });
    for sent in [largest, spill("'\"\\ \0 \u{1} \r\n 😀 \u{202e}"), upkeep] {
        fresh.queue.arm(&sent, SECOND).await.unwrap();
        assert!(message(&fresh.take_one(LONG).await) == sent);
    }
}

async fn a_delay_of_more_than_a_week_is_cut(fresh: Fresh) {
    for delay in [limits::TIMER_DELAY_MAX, 5 * limits::TIMER_DELAY_MAX, Duration::MAX] {
        let armed = fresh.queue.arm(&timer("a"), delay).await.unwrap();
        let shifted = fresh.queue.shift(&armed, &timer("b"), delay).await.unwrap().unwrap();
        fresh.queue.shift(&shifted, &timer("c"), SECOND).await.unwrap().unwrap();
        let received = fresh.take_one(LONG).await;
        assert_eq!(message(&received), timer("c"));
        fresh.queue.disarm(&received.handle).await.unwrap();
    }
}

async fn many_receivers_get_no_message_twice(fresh: Fresh) {
    const MESSAGES: usize = 60;
    for n in 0..MESSAGES {
        fresh.queue.arm(&timer(&n.to_string()), SECOND).await.unwrap();
    }
    let taken = std::sync::Mutex::new(BTreeMap::<String, u32>::new());
    let receivers = (1..=8).map(async |max| {
        let began = Stopwatch::now();
        while taken.lock().unwrap().len() < MESSAGES {
            assert!(began.elapsed() < LIMIT, "{} of {MESSAGES}", taken.lock().unwrap().len());
            for received in fresh.queue.receive(max, LONG).await.unwrap() {
                *taken.lock().unwrap().entry(received.handle.id).or_default() += 1;
            }
        }
    });
    futures_util::future::join_all(receivers).await;
    let taken = taken.lock().unwrap();
    assert!(taken.values().all(|&times| times == 1), "{taken:?}");
}

async fn the_last_spill_is_noted(fresh: Fresh) {
    assert_eq!(fresh.queue.last_spill().await.unwrap(), None);
    for at in [instant(0), instant(60), instant(7)] {
        fresh.queue.note_spill(at).await.unwrap();
        // Whatever else happens to the queue.
        fresh.queue.prepare().await.unwrap();
        fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
        assert_eq!(fresh.queue.last_spill().await.unwrap(), Some(at));
    }
}

async fn preparing_again_changes_nothing(fresh: Fresh) {
    fresh.queue.prepare().await.unwrap();
    fresh.queue.arm(&timer("a"), SECOND).await.unwrap();
    fresh.queue.prepare().await.unwrap();
    assert_eq!(message(&fresh.take_one(LONG).await), timer("a"));
}

/// Runs every case against the queues that `$fresh` makes.
macro_rules! queue_contract {
    ($module:ident, $fresh:path) => {
        queue_contract! { $module, $fresh:
            a_message_is_never_early_and_never_below_a_second
            receiving_hides
            receiving_takes_no_more_than_asked
            a_lease_that_ends_gives_the_message_back
            releasing_gives_the_message_back
            shifting_makes_it_earlier
            shifting_makes_it_later_and_never_less_than_a_second
            shifting_again_and_again_keeps_one_message
            a_stale_handle_touches_nothing
            a_disarmed_timer_does_not_fire
            a_foreign_handle_touches_nothing
            what_is_not_ours_is_set_aside
            a_poisoned_message_leaves_the_queue
            every_kind_of_message_survives
            a_delay_of_more_than_a_week_is_cut
            many_receivers_get_no_message_twice
            the_last_spill_is_noted
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

queue_contract!(storage_queue, super::storage_queue);

fn storage_queue() -> Fresh {
    let connection_string = azurite().account();
    let queue = TimerQueue::new(&open(&connection_string), &Names::default());
    Fresh { queue: Arc::new(queue), raw: Raw::of(&connection_string) }
}
