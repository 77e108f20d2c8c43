//! A stand-in for the Functions host, as far as a custom handler can tell: written from captures and facts about the real
//! one, sharing no code with the service, so that the two can disagree.
//!
//! It starts the built handler (or attaches to a port), waits for it to listen, forwards HTTP, puts queue messages before
//! it and judges the answers. An answer that would make the real host hang fails the test when the `Host` is dropped.
//!
//! Known simplifications: the host is up as long as the handler is (`restart_handler` is the test's to call, where the
//! real one restarts twice by itself); a hang is recorded, and the handler is not killed for it; dot segments of paths are
//! passed on as they are.

pub mod envelope;
pub mod forward;
pub mod pool;
pub mod process;
pub mod queue;
pub mod trigger;
pub mod url;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use envelope::Judgement;
pub use forward::Route;
pub use process::Stream;
pub use queue::{Queue, QueueAccess};
pub use trigger::{Invocation, QueueRules};

use super::{free_port, pause};
use pool::Pool;
use process::{Output, Process, Start};

/// Time for the handler to listen.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Time for calls in flight when the host stops.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Which triggers an instance serves. On some plans HTTP and queue calls of one app reach different processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// HTTP functions only.
    Http,
    /// Queue function only.
    Queue,
    /// Both.
    Both,
}

/// Which handler the host has.
#[derive(Debug, Clone)]
pub enum Handler {
    /// A program to start, with its app settings.
    Spawned {
        /// The program.
        exe: PathBuf,
        /// App settings.
        settings: Vec<(String, String)>,
    },
    /// One that listens already.
    Attached(u16),
}

/// How the host is set up.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The handler.
    pub handler: Handler,
    /// What this instance serves.
    pub serves: Serves,
    /// HTTP functions.
    pub routes: Vec<Route>,
    /// Host key; see [`forward::Front::key`].
    pub key: Option<String>,
    /// The queue of the trigger; needed when it is served.
    pub queue: Option<QueueAccess>,
    /// Settings of the queue trigger.
    pub rules: QueueRules,
    /// Gives the handler a parent process of its own, so that [`Host::kill_host_only`] can kill it.
    pub own_parent: bool,
}

impl HostOptions {
    /// Starts the service's binary with these app settings; HTTP only, until a queue is given.
    pub fn spawned(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Self::of(Handler::Spawned { exe: env!("CARGO_BIN_EXE_global-webhook").into(), settings })
    }

    /// Uses a handler that listens already.
    pub fn attached(port: u16) -> Self {
        Self::of(Handler::Attached(port))
    }

    /// Serves the queue trigger too.
    pub fn queue(mut self, connection_string: &str, queue: &str) -> Self {
        self.queue = Some(QueueAccess { connection_string: connection_string.into(), queue: queue.into() });
        self.serves = Serves::Both;
        self
    }

    /// Serves only this.
    pub fn only(mut self, serves: Serves) -> Self {
        self.serves = serves;
        self
    }

    /// Asks callers for this function key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    fn of(handler: Handler) -> Self {
        Self {
            handler,
            serves: Serves::Http,
            routes: vec![
                Route::new("ImagePush", &["GET", "POST"]),
                Route::new("pushes/{id?}/{operation?}/{argument?}", &["GET", "POST", "DELETE"]),
                Route::new("regions", &["GET"]),
            ],
            key: None,
            queue: None,
            rules: QueueRules::default(),
            own_parent: false,
        }
    }
}

/// A running stand-in. Dropping it kills the handler and everything in flight.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    pool: Arc<Pool>,
    log: Arc<trigger::Log>,
    output: Output,
    root: tempfile::TempDir,
    start: Option<Start>,
    process: Option<Process>,
    up: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    front: Option<JoinHandle<()>>,
    trigger: Option<(Arc<trigger::Trigger>, JoinHandle<()>)>,
}

impl Host {
    /// Starts the handler, waits until it listens, and serves.
    ///
    /// # Panics
    /// When the handler does not listen within 30 s, or ends before.
    pub async fn start(options: HostOptions) -> Self {
        let (port, start) = match options.handler {
            Handler::Attached(port) => (port, None),
            Handler::Spawned { exe, settings } => {
                let port = free_port();
                (port, Some(Start { exe, settings, port, own_parent: options.own_parent }))
            }
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let pool = Arc::new(Pool::new(port));
        let mut host = Self {
            address: listener.local_addr().expect("an address"),
            pool: Arc::clone(&pool),
            log: Arc::default(),
            output: Output::default(),
            root: tempfile::tempdir().expect("a folder"),
            start,
            process: None,
            up: watch::Sender::new(false),
            stopping: watch::Sender::new(false),
            front: None,
            trigger: None,
        };
        host.restart_handler().await;
        if options.serves != Serves::Queue {
            let front = forward::Front { routes: options.routes, key: options.key, pool: Arc::clone(&pool) };
            host.front = Some(tokio::spawn(Arc::new(front).serve(listener)));
        }
        if options.serves != Serves::Http {
            let trigger = Arc::new(trigger::Trigger {
                queue: Queue::of(options.queue.as_ref().expect("a queue to serve")),
                rules: options.rules,
                pool,
                log: Arc::clone(&host.log),
                up: host.up.subscribe(),
            });
            let running = tokio::spawn(Arc::clone(&trigger).run(host.stopping.subscribe()));
            host.trigger = Some((trigger, running));
        }
        host
    }

    /// `http://127.0.0.1:<port>`, where callers reach the functions under `/api/`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The host's own port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The port the handler listens on.
    pub fn handler_port(&self) -> u16 {
        self.pool.port()
    }

    /// The handler's process id; `None` while it is down or only attached to.
    pub fn handler_pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// How the handler has ended by itself; `None` while it runs.
    pub fn handler_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Changes an app setting for the next start of a spawned handler.
    pub fn set(&mut self, name: &str, value: &str) {
        let start = self.start.as_mut().expect("a spawned handler");
        start.settings.retain(|(n, _)| n != name);
        start.settings.push((name.into(), value.into()));
    }

    /// SIGKILL to the handler. Until it is restarted, HTTP calls fail and queue calls wait.
    pub async fn kill_handler(&mut self) {
        self.up.send_replace(false);
        if let Some(mut process) = self.process.take() {
            tokio::task::spawn_blocking(move || process.kill()).await.expect("killed");
        }
        self.pool.forget();
    }

    /// Starts the handler (again) on the same port and waits until it listens.
    ///
    /// # Panics
    /// When it does not listen within 30 s, or ends before.
    pub async fn restart_handler(&mut self) {
        self.kill_handler().await;
        self.process = self.start.as_ref().map(|start| Process::spawn(start, self.root.path(), &self.output));
        let begun = Instant::now();
        while self.probe().await.is_none() {
            if let Some(status) = self.handler_ended() {
                panic!("the handler ended before it listened: {status}\n{}", self.handler_output());
            }
            assert!(begun.elapsed() < READY_LIMIT, "not ready within {READY_LIMIT:?}\n{}", self.handler_output());
            pause(Duration::from_millis(25)).await;
        }
        self.up.send_replace(true);
    }

    /// The readiness probe, which comes as a health ping at any time: the status of the answer, if there is one.
    pub async fn probe(&self) -> Option<u16> {
        let request = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.pool.port());
        self.pool.call(request.as_bytes(), true).await.ok().map(|answer| answer.status)
    }

    /// SIGKILL to the host alone: it serves no more, and the handler is an orphan. Needs `own_parent`.
    pub async fn kill_host_only(&mut self) {
        self.cut_off().await;
        self.pool.forget();
        self.process.as_mut().expect("a spawned handler").kill_parent();
    }

    /// Waits until nothing listens on the handler's port.
    ///
    /// # Panics
    /// When something still does after `limit`.
    pub async fn handler_gone(&self, limit: Duration) {
        super::eventually("the handler ends", limit, async || {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.pool.port())).await.is_err()
        })
        .await;
    }

    /// Stops as the host does on SIGTERM: takes no more messages, gives calls in flight 10 s, then kills the handler.
    ///
    /// # Panics
    /// When an answer would have made the real host hang.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        if let Some((_, mut running)) = self.trigger.take() {
            let _ = tokio::time::timeout(STOP_LIMIT, &mut running).await;
            running.abort();
        }
        self.cut_off().await;
        self.kill_handler().await;
    }

    /// Everything the handler has written, both streams.
    pub fn handler_output(&self) -> String {
        self.handler_lines().into_iter().map(|(_, line)| line + "\n").collect()
    }

    /// What the handler has written, line by line.
    pub fn handler_lines(&self) -> Vec<(Stream, String)> {
        self.output.lines()
    }

    /// Queue calls so far, each with its verdict.
    pub fn invocations(&self) -> Vec<Invocation> {
        self.log.invocations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Unexpected answers of the queue service so far.
    pub fn troubles(&self) -> Vec<String> {
        self.log.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the calls so far, hangs included: for tests that provoke them.
    pub fn take_invocations(&self) -> Vec<Invocation> {
        std::mem::take(&mut self.log.invocations.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls the queue function for a text that is in no queue.
    ///
    /// # Panics
    /// When this instance serves no queue.
    pub async fn run_by_hand(&self, text: &str) -> Judgement {
        let (trigger, _) = self.trigger.as_ref().expect("a queue trigger");
        trigger.run_by_hand(text).await
    }

    async fn cut_off(&mut self) {
        let tasks = [self.front.take(), self.trigger.take().map(|(_, running)| running)];
        for task in tasks.into_iter().flatten() {
            task.abort();
            // Waited for, so that the calls in it are cut off too.
            let _ = task.await;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for task in [self.front.take(), self.trigger.take().map(|(_, running)| running)].into_iter().flatten() {
            task.abort();
        }
        let hangs: Vec<Invocation> =
            self.invocations().into_iter().filter(|i| matches!(i.judgement, Judgement::Hang(_))).collect();
        if std::thread::panicking() {
            eprintln!("--- handler output ---\n{}", self.handler_output());
        } else {
            assert!(hangs.is_empty(), "answers that hang the host: {hangs:#?}");
        }
    }
}
