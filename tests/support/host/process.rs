//! The handler's process: started with the documented environment, listened to, killed without warning.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Lines of both output streams, in the order they were read.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Mutex<Vec<(Stream, String)>>>);

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; Information to the host.
    Out,
    /// Standard error; Error to the host, Warning when the line contains `warn`.
    Err,
}

impl Output {
    /// The lines so far.
    pub fn lines(&self) -> Vec<(Stream, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn follow(&self, stream: Stream, source: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                lines.lock().unwrap_or_else(PoisonError::into_inner).push((stream, line));
            }
        });
    }
}

/// How the handler is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The program; it gets no arguments.
    pub exe: PathBuf,
    /// App settings: plain environment variables.
    pub settings: Vec<(String, String)>,
    /// The port it has to listen on.
    pub port: u16,
    /// A process of its own as its parent, which can be killed in the host's stead.
    pub own_parent: bool,
}

/// A running handler. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    /// The handler, or its own parent.
    child: Child,
    pid: u32,
    worker_id: String,
    own_parent: bool,
}

impl Process {
    /// Starts the handler in `root`, its app root.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(start: &Start, root: &Path, output: &Output) -> Self {
        let mut command = if start.own_parent {
            let mut shell = Command::new("/bin/sh");
            // The inner shell says its id before it becomes the handler, so that the id is the first line for certain.
            shell.args(["-c", r#"/bin/sh -c 'echo "$$"; exec "$0"' "$0" & wait"#]).arg(&start.exe);
            shell
        } else {
            Command::new(&start.exe)
        };
        let id = uuid::Uuid::new_v4().to_string();
        let port = start.port.to_string();
        command.env_clear().current_dir(root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(start.settings.iter().map(|(name, value)| (name, value)));
        command.envs([("FUNCTIONS_CUSTOMHANDLER_PORT", &port), ("FUNCTIONS_HTTPWORKER_PORT", &port)]);
        command.envs([("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", &id), ("FUNCTIONS_HTTPWORKER_ID", &id)]);
        command.env("FUNCTIONS_APP_ROOT_PATH", root);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{} does not start: {e}", start.exe.display()));
        let mut stdout = child.stdout.take().expect("piped");
        output.follow(Stream::Err, child.stderr.take().expect("piped"));
        let pid = if start.own_parent { first_line(&mut stdout) } else { child.id() };
        output.follow(Stream::Out, stdout);
        Self { child, pid, worker_id: id, own_parent: start.own_parent }
    }

    /// The handler's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How the handler has ended; `None` while it runs, and always when it has a parent of its own.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        if self.own_parent { None } else { self.child.try_wait().ok().flatten() }
    }

    /// SIGKILL to the handler.
    pub fn kill(&mut self) {
        if self.own_parent {
            signal(self.pid);
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }

    /// SIGKILL to the handler's own parent only.
    ///
    /// # Panics
    /// When it has none.
    pub fn kill_parent(&mut self) {
        assert!(self.own_parent, "start the handler with `own_parent`");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let parent_gone = self.own_parent && self.child.try_wait().is_ok_and(|s| s.is_some());
        if parent_gone {
            // Only if the number still belongs to our orphan: it may be anybody's by now.
            let environment = std::fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
            if String::from_utf8_lossy(&environment).contains(&self.worker_id) {
                signal(self.pid);
            }
        } else {
            self.kill();
        }
    }
}

fn signal(pid: u32) {
    let _ = Command::new("/bin/sh").args(["-c", r#"kill -9 "$0""#, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Reads one line byte by byte, so that nothing after it is lost in a buffer.
fn first_line(source: &mut (impl Read + Send)) -> u32 {
    let mut line = String::new();
    let mut byte = [0];
    while source.read(&mut byte).is_ok_and(|n| n == 1) && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line.trim().parse().unwrap_or_else(|_| panic!("no process id: {line:?}"))
}
