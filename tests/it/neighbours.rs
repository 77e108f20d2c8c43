//! Bad neighbours on the same listener: the slow, the silent, the huge and the nonsensical. Arrivals of others are answered in
//! time meanwhile, memory stays bounded, and the process survives. `NEIGHBOURS_LONG=1` for the long form.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::{JoinError, JoinSet};

use crate::support::dice::Dice;
use crate::support::service::{Image, Serve};
use crate::support::{pause, peak_memory_kib};

/// The promise for an answer to the registry.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What the service may have resident at its worst. The web server itself keeps up to 160 KiB for each connection that sends.
fn memory_max_kib() -> u64 {
    choose(128, 320) * 1024
}

fn long() -> bool {
    std::env::var_os("NEIGHBOURS_LONG").is_some()
}

pub(crate) fn choose<T>(short: T, in_long_form: T) -> T {
    if long() { in_long_form } else { short }
}

/// The tests take turns: two crowds at once could exceed the limit of open descriptors, and each other's bound for an answer.
static TURN: Mutex<()> = Mutex::const_new(());

/// The service, and a registry that sends it arrivals all the while.
pub(crate) struct Street {
    pub(crate) serve: Serve,
    door: Door,
    /// Neighbours that were to come.
    expected: usize,
    over: Arc<AtomicBool>,
    registry: tokio::task::JoinHandle<(u64, Duration)>,
    _turn: MutexGuard<'static, ()>,
}

/// Where neighbours come in.
#[derive(Clone)]
pub(crate) struct Door {
    port: u16,
    entries: Arc<AtomicUsize>,
}

impl Door {
    /// A connection, tried for until there is one: a neighbour that gave up would end the attack unnoticed.
    pub(crate) async fn enter(&self) -> TcpStream {
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                self.entries.fetch_add(1, Ordering::Relaxed);
                return stream;
            }
            pause(Duration::from_millis(50)).await;
        }
    }
}

impl Street {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let turn = TURN.lock().await;
        // The neighbours' ends of their connections.
        rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
        let settings = [&[("WebhookRegions", "a,b")], settings].concat();
        let serve = Serve::start(&settings, &[]).await;
        let port = serve.base_url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let over = Arc::new(AtomicBool::new(false));
        let registry = tokio::spawn({
            let (caller, over) = (serve.caller(), Arc::clone(&over));
            async move {
                let (mut arrivals, mut slowest) = (0, Duration::ZERO);
                while !over.load(Ordering::Relaxed) {
                    let image = Image::new("team/shop", &format!("t{arrivals}"));
                    for region in ["a", "b"] {
                        let begun = Instant::now();
                        let answer = caller.post(region, image.notification()).await;
                        slowest = slowest.max(begun.elapsed());
                        assert_eq!(answer.expect("an answer").0, 202);
                        arrivals += 1;
                    }
                    pause(Duration::from_millis(20)).await;
                }
                (arrivals, slowest)
            }
        });
        let door = Door { port, entries: Arc::default() };
        Self { serve, door, expected: 0, over, registry, _turn: turn }
    }

    /// Lets `neighbour` loose `count` times at once until `time` is over.
    ///
    /// # Panics
    /// When one of them does.
    pub(crate) async fn crowd<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        count: usize,
        time: Duration,
        mut neighbour: impl FnMut(usize, Door) -> F,
    ) {
        self.expected += count;
        let mut all = JoinSet::new();
        for n in 0..count {
            all.spawn(neighbour(n, self.door.clone()));
        }
        let ends = async {
            while let Some(end) = all.join_next().await {
                end.expect("a neighbour");
            }
        };
        let _ = tokio::time::timeout(time, ends).await;
        all.abort_all();
        while let Some(end) = all.join_next().await {
            assert!(end.as_ref().err().is_none_or(JoinError::is_cancelled), "a neighbour: {end:?}");
        }
    }

    pub(crate) async fn leave(self, what: &str) {
        self.leave_within(what, memory_max_kib()).await;
    }

    async fn leave_within(self, what: &str, memory_max_kib: u64) {
        self.over.store(true, Ordering::Relaxed);
        let (arrivals, slowest) = self.registry.await.expect("every arrival is answered");
        let peak = peak_memory_kib(self.serve.pid());
        let entries = self.door.entries.load(Ordering::Relaxed);
        eprintln!(
            "{what}: {entries} connections beside {arrivals} arrivals, the slowest answered in {} ms; peak memory {peak} KiB",
            slowest.as_millis()
        );
        assert!(entries >= self.expected, "{what}: {entries} connections of {} neighbours", self.expected);
        assert!(arrivals > 0 && slowest < ANSWER_MAX, "{what}: {slowest:?}");
        assert!(peak < memory_max_kib, "{what}: {peak} KiB");
        let errors: Vec<String> = self
            .serve
            .output()
            .lines()
            .filter(|l| l.contains("ERROR") || l.contains("panic"))
            .map(str::to_owned)
            .collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_now_and_then() {
    let mut street = Street::new().await;
    street
        .crowd(choose(200, 2000), Duration::from_secs(choose(7, 20)), |n, door| async move {
            let head =
                "POST /api/ImagePush?region=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{".as_bytes();
            loop {
                let mut stream = door.enter().await;
                // Half of them are slow from the first byte, the others once their body has begun.
                let (at_once, slowly) = head.split_at(if n % 2 == 0 { 0 } else { head.len() });
                if stream.write_all(at_once).await.is_err() {
                    continue;
                }
                for byte in slowly.iter().chain(std::iter::repeat(&b' ')) {
                    pause(Duration::from_millis(300)).await;
                    if stream.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await;
    street.leave("a byte now and then").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing() {
    let mut street = Street::new().await;
    let count = choose(500, 10_000);
    let open = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    street
        .crowd(count, Duration::from_secs(choose(7, 20)), |_, door| {
            let (open, most) = (Arc::clone(&open), Arc::clone(&most));
            async move {
                loop {
                    let mut stream = door.enter().await;
                    most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    // Until it is closed for us.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                }
            }
        })
        .await;
    let most = most.load(Ordering::Relaxed);
    assert!(most >= u64::try_from(count * 9 / 10).expect("a number"), "only {most} were open at once");
    street.leave(&format!("{most} connections that say nothing")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_without_end() {
    let mut street = Street::new().await;
    let refused = Arc::new(AtomicU64::new(0));
    let sizes = [10 * 1024, 100 * 1024, 1024 * 1024, 64 * 1024 * 1024];
    street
        .crowd(choose(16, 64), Duration::from_secs(choose(5, 20)), |n, door| {
            let refused = Arc::clone(&refused);
            async move {
                let block = [b'h'; 4096];
                loop {
                    let mut stream = door.enter().await;
                    let start =
                        ["GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", "GET /", "POST /api/ImagePush?region="]
                            [n % 3];
                    let mut left = sizes[n % sizes.len()];
                    let mut written = stream.write_all(start.as_bytes()).await;
                    while left > 0 && written.is_ok() {
                        written = stream.write_all(&block).await;
                        left -= block.len().min(left);
                    }
                    let _ = stream.write_all(b"\r\n\r\n").await;
                    let mut answer = [0; 64];
                    if let Ok(length @ 12..) = stream.read(&mut answer).await
                        && sizes[n % sizes.len()] > 100 * 1024
                    {
                        assert!(answer[9] == b'4', "{}", String::from_utf8_lossy(&answer[..length]));
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })
        .await;
    let refused = refused.load(Ordering::Relaxed);
    assert!(refused > 0, "no refusal was seen");
    street.leave(&format!("heads without end ({refused} refusals seen)")).await;
}

/// Sends the largest bodies without a pause until `time` is over; how many were taken, and how many turned away.
async fn send_large(street: &mut Street, senders: usize, time: Duration) -> (u64, u64) {
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    // Made once: a sender that is busy with making bodies attacks nobody.
    let padding: Arc<str> = format!(r#","padding":"{}"}}"#, "x".repeat(256 * 1024 - 700)).into();
    street
        .crowd(senders, time, |n, door| {
            let (counts, padding) = (Arc::clone(&counts), Arc::clone(&padding));
            async move {
                let mut stream = door.enter().await;
                for round in 0.. {
                    let notification = Image::new("team/large", &format!("t{n}-{round}")).notification();
                    let members = notification.strip_suffix('}').expect("an object");
                    let length = members.len() + padding.len();
                    assert!(length <= 256 * 1024);
                    let head = format!(
                        "POST /api/ImagePush?region=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
                    );
                    let mut sent = stream.write_all((head + members).as_bytes()).await;
                    if sent.is_ok() {
                        sent = stream.write_all(padding.as_bytes()).await;
                    }
                    let mut answer = [0; 4096];
                    let read = stream.read(&mut answer).await;
                    match (sent, read) {
                        (Ok(()), Ok(_)) if answer.starts_with(b"HTTP/1.1 202") => {
                            counts[0].fetch_add(1, Ordering::Relaxed);
                        }
                        // Turned away before all was sent; the answer is lost when the connection is reset.
                        (_, Err(_) | Ok(0)) => {
                            counts[1].fetch_add(1, Ordering::Relaxed);
                            stream = door.enter().await;
                        }
                        (_, Ok(length)) => {
                            let text = String::from_utf8_lossy(&answer[..length]);
                            assert!(
                                text.starts_with("HTTP/1.1 503") && text.contains("too_many_large_bodies"),
                                "{text}"
                            );
                            counts[1].fetch_add(1, Ordering::Relaxed);
                            stream = door.enter().await;
                        }
                    }
                }
            }
        })
        .await;
    let [taken, refused] = &*counts;
    (taken.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_bodies_at_full_rate() {
    let mut street = Street::new().await;
    let time = Duration::from_secs(choose(5, 20));
    let (taken, refused) = send_large(&mut street, choose(8, 32), time).await;
    assert!(taken > 0 && refused == 0, "{taken} taken, {refused} turned away");
    street.leave(&format!("the largest bodies at full rate ({} a second)", taken / time.as_secs())).await;
}

/// As many senders as there are places for, many times over: those who find none are told so, and nobody else waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_of_the_largest_bodies_than_there_are_places() {
    let mut street = Street::new().await;
    let time = Duration::from_secs(choose(5, 20));
    let (taken, refused) = send_large(&mut street, 200, time).await;
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} turned away");
    let each = |n: u64| n / time.as_secs();
    let what =
        format!("more of the largest bodies than places ({} a second, {} turned away)", each(taken), each(refused));
    // Above what the service keeps of the bodies it takes, the web server keeps some of those that it turns away.
    street.leave_within(&what, 320 * 1024).await;
}

/// Many callers hold back the last byte of the largest body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_bodies_held_back() {
    let mut street = Street::new().await;
    street
        .crowd(choose(300, 1000), Duration::from_secs(choose(7, 20)), |_, door| async move {
            let body = vec![b' '; 256 * 1024 - 1];
            let head = "POST /api/ImagePush?region=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 262144\r\n\r\n";
            loop {
                let mut stream = door.enter().await;
                if stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(&body).await.is_ok() {
                    let _ = stream.read(&mut [0; 4096]).await;
                }
                drop(stream);
                // One that is turned away at once would otherwise try its luck with all the processor there is.
                pause(Duration::from_secs(choose(1, 3))).await;
            }
        })
        .await;
    street.leave("the largest bodies held back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_in_the_pipeline() {
    let mut dice = Dice::thrown("nonsense in the pipeline");
    let mut street = Street::new().await;
    street
        .crowd(choose(16, 64), Duration::from_secs(choose(5, 20)), |n, door| {
            let mut dice = dice.split();
            async move {
                loop {
                    let mut stream = door.enter().await;
                    let mut bytes = Vec::new();
                    if n % 2 == 0 {
                        bytes.extend(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(dice.index(1000)));
                        bytes.extend(
                            b"POST /api/ImagePush?region=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
                        );
                    }
                    bytes.extend((0..dice.index(5000)).map(|_| u8::try_from(dice.below(256)).expect("a byte")));
                    let (mut reads, mut writes) = stream.split();
                    let read = async {
                        let mut buffer = [0; 65536];
                        while reads.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
                    };
                    let write = async {
                        let _ = writes.write_all(&bytes).await;
                        let _ = writes.shutdown().await;
                    };
                    let both = async { tokio::join!(read, write) };
                    let _ = tokio::time::timeout(Duration::from_secs(3), both).await;
                }
            }
        })
        .await;
    street.leave("nonsense in the pipeline").await;
}
