//! The program's commands, run as people and pipelines run them.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::eventually;
use super::service::LIMIT;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// When that was known.
    pub at: Instant,
}

impl Ended {
    /// Its standard output as the one document it is.
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}

/// A command that runs. Dropping it kills it.
pub struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

/// The program with nothing in its environment but the service's address.
pub fn program(base: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_global-webhook"));
    command.args(args).env_clear().env("GLOBAL_WEBHOOK_URL", base).stdin(Stdio::null());
    command
}

/// Runs a command against the service at `base` to its end.
pub async fn run(base: &str, args: &[&str]) -> Ended {
    Running::start(program(base, args)).ended().await
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name| File::create(folder.path().join(name)).expect("a file");
        let child = command.stdout(file("out")).stderr(file("err")).spawn().expect("the program starts");
        Self { child, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has written to standard output so far.
    pub fn out(&self) -> String {
        std::fs::read_to_string(self.path("out")).expect("its output")
    }

    /// What it has written to standard error so far.
    pub fn err(&self) -> String {
        std::fs::read_to_string(self.path("err")).expect("its words")
    }

    /// Waits until it has said a text, on either stream.
    pub async fn said(&self, text: &str) {
        eventually(&format!("{text:?} is said"), LIMIT, async || (self.out() + &self.err()).contains(text)).await;
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Ended {
        let mut ended = None;
        eventually("the command ends", LIMIT, async || {
            ended = self.child.try_wait().expect("a child").map(|status| (status, Instant::now()));
            ended.is_some()
        })
        .await;
        let (status, at) = ended.expect("an end");
        Ended { code: status.code().unwrap_or(-1), out: self.out(), err: self.err(), at }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command on a terminal of this size and returns all that the terminal was sent until the command ended, or until
/// `enough` held of it.
pub async fn on_a_terminal(mut command: Command, size: (u16, u16), enough: fn(&str) -> bool) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("its other side");
    let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("text");
    let (ws_col, ws_row) = size;
    let winsize = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&ours, winsize).expect("a size");
    let theirs = File::options().read(true).write(true).open(name).expect("the other side");
    let errors = theirs.try_clone().expect("a copy");
    let mut child = command.stdout(theirs).stderr(errors).spawn().expect("the program starts");
    // It holds copies of the other side, which would keep that open after the child's end.
    drop(command);
    let mut ours = File::from(ours);
    let read = tokio::task::spawn_blocking(move || {
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        // Reading fails once nobody has the other side open.
        while let Ok(count @ 1..) = ours.read(&mut piece) {
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
            if enough(&text) {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        text
    });
    tokio::time::timeout(LIMIT, read).await.expect("in time").expect("no panic")
}

/// Time from `since` to the end of a command.
pub fn lateness(ended: &Ended, since: Instant) -> Duration {
    ended.at.saturating_duration_since(since)
}
