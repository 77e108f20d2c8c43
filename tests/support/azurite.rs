//! Azurite for the tests: one for each test process, started at first use, gone with the process. Every test takes an
//! account of its own, so tests never see each other's tables and queues.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::ports::free_port;

/// Accounts of one emulator.
const ACCOUNTS: usize = 512;

/// Time it may take to come up on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);

/// Time it may take to end.
const STOP_MAX: Duration = Duration::from_secs(15);

/// A running emulator, on disk (in memory its queue service stands still for seconds, every minute).
pub(crate) struct Azurite {
    queues: u16,
    tables: u16,
    blobs: u16,
    folder: PathBuf,
    /// The folder is deleted with this process rather than with this value.
    remove_after: bool,
    taken: AtomicUsize,
    child: Mutex<Option<Child>>,
}

/// The emulator of this test process.
pub(crate) fn azurite() -> &'static Azurite {
    static SHARED: OnceLock<Azurite> = OnceLock::new();
    SHARED.get_or_init(|| Azurite::start(true))
}

impl Azurite {
    /// An emulator of its own, for tests that stop it.
    pub(crate) fn start_own() -> Self {
        Self::start(false)
    }

    fn start(remove_after: bool) -> Self {
        install();
        let folder = std::env::temp_dir().join(format!("azurite-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for Azurite");
        let [queues, tables, blobs] = [(); 3].map(|()| free_port());
        let taken = AtomicUsize::new(0);
        let azurite = Self { queues, tables, blobs, folder, remove_after, taken, child: Mutex::new(None) };
        azurite.restart();
        azurite
    }

    /// Connection string of an account that nobody else has.
    pub(crate) fn account(&self) -> String {
        self.account_at(self.tables, self.queues)
    }

    /// The same, with its services behind other ports of this machine.
    pub(crate) fn account_at(&self, tables: u16, queues: u16) -> String {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        assert!(number < ACCOUNTS, "all {ACCOUNTS} accounts of the emulator are taken");
        let (name, key) = account(number);
        format!(
            "AccountName={name};AccountKey={key};TableEndpoint=http://127.0.0.1:{tables}/{name};\
             QueueEndpoint=http://127.0.0.1:{queues}/{name}"
        )
    }

    /// Where tables are served.
    pub(crate) fn tables(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tables))
    }

    /// Where queues are served.
    pub(crate) fn queues(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.queues))
    }

    /// Lines of the access log that name the account of this connection string: method, path, status. The log is written
    /// behind the answers, so it is read up to requests of our own that are sent now.
    pub(crate) fn requests(&self, connection_string: &str) -> Vec<String> {
        for service in [self.tables(), self.queues()] {
            let mark = uuid::Uuid::new_v4().simple().to_string();
            assert!(answers(service, &mark), "Azurite answers");
            wait(STOP_MAX, "the access log", || {
                std::fs::read_to_string(self.log()).is_ok_and(|log| log.contains(&mark))
            });
        }
        let name = connection_string.split(';').find_map(|p| p.strip_prefix("AccountName=")).expect("an account name");
        let log = std::fs::read_to_string(self.log()).expect("the access log");
        let needle = format!("/{name}");
        let names = |line: &&str| {
            line.match_indices(&needle)
                .any(|(at, _)| !line[at + needle.len()..].starts_with(|c: char| c.is_alphanumeric()))
        };
        log.lines().filter(names).map(str::to_owned).collect()
    }

    fn log(&self) -> PathBuf {
        self.folder.join("access.log")
    }

    /// Ends it in order; nothing that it acknowledged is lost.
    pub(crate) fn stop(&self) {
        let Some(mut child) = self.child().take() else { return };
        drop(child.stdin.take());
        wait(STOP_MAX, "Azurite to end", || child.try_wait().expect("a child to wait for").is_some());
    }

    /// Starts it again on the same ports and files.
    pub(crate) fn restart(&self) {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file for Azurite");
        let errors = log.try_clone().expect("a second handle of the log file");
        let ports = [("--queuePort", self.queues), ("--tablePort", self.tables), ("--blobPort", self.blobs)];
        let accounts: Vec<String> = (0..ACCOUNTS).map(account).map(|(name, key)| format!("{name}:{key}")).collect();
        let child = Command::new("node")
            .arg(home().join("run.js"))
            .args(ports.iter().flat_map(|(name, port)| [(*name).to_owned(), port.to_string()]))
            .args(["--disableTelemetry", "--location"])
            .arg(&self.folder)
            .args(self.remove_after.then_some("--remove-after"))
            .env("AZURITE_ACCOUNTS", accounts.join(";"))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|e| no_node(&e));
        *self.child() = Some(child);
        wait(START_MAX, "Azurite to answer", || {
            if let Some(status) = self.child().as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                panic!("Azurite ended ({status}): {}", std::fs::read_to_string(self.log()).unwrap_or_default());
            }
            answers(self.tables(), "") && answers(self.queues(), "")
        });
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn account(number: usize) -> (String, String) {
    use base64::Engine as _;
    let name = format!("test{number}");
    let key = base64::engine::general_purpose::STANDARD.encode(format!("key of account {number}"));
    (name, key)
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azurite")
}

/// Installs Azurite when it is missing or not what the lock file says. One test process at a time does it.
fn install() {
    let home = home();
    let guard = File::create(home.join(".install.lock")).expect("a lock file beside package.json");
    guard.lock().expect("the lock of the installation");
    let changed = |path: PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    let installed = changed(home.join("node_modules/.package-lock.json"));
    if installed.is_some() && installed >= changed(home.join("package-lock.json")) {
        return;
    }
    let done = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| no_node(&e));
    assert!(done.status.success(), "npm ci in tests/azurite failed: {}", String::from_utf8_lossy(&done.stderr));
}

fn no_node(cause: &std::io::Error) -> ! {
    panic!(
        "these tests run against Azurite, which needs Node 20 or newer with npm on the PATH ({cause}): \
         install it from https://nodejs.org or with your package manager, then run the tests again"
    )
}

/// Whether something speaks HTTP there. `mark` shows up in its log.
fn answers(at: SocketAddr, mark: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /mark?comp=list&mark={mark} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.1 "))
    };
    ask().unwrap_or(false)
}

/// Waits for a condition; a limit, not a guess.
fn wait(limit: Duration, what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
