//! The processes under measurement: the service as built, and this program in one of its roles.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::load::Client;
use crate::ports::free_port;

/// A child process that listens on a port of the loopback. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
}

impl Process {
    /// The service as a custom handler of this process.
    pub(crate) fn handler(settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_global-webhook"));
        command.env_clear().env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
        Self::spawn(command, settings, port)
    }

    /// `serve`, with its embedded store in `folder` unless the settings name an account.
    pub(crate) fn serve(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_global-webhook"));
        command.env_clear().args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"]);
        command.arg(folder.join("store.db"));
        Self::spawn(command, settings, port)
    }

    /// This program as something else; see the roles.
    pub(crate) fn role(role: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env_clear().args(["--role", role, &port.to_string()]).arg(folder);
        Self::spawn(command, settings, port)
    }

    fn spawn(mut command: Command, settings: &[(&str, &str)], port: u16) -> Self {
        let words = match std::env::var("BENCH_LOG") {
            Ok(path) => std::fs::File::create(path).expect("a log file").into(),
            Err(_) => Stdio::null(),
        };
        let child = command
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(words)
            .stderr(if std::env::var("BENCH_LOG").is_ok() { Stdio::inherit() } else { Stdio::null() })
            .spawn()
            .expect("a process");
        Self { child, port }
    }

    /// Time from `began` until `GET /` was answered with 200, tried as fast as connections are refused.
    pub(crate) async fn answers(&mut self, began: Instant) -> Duration {
        let request = format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n\r\n", self.port);
        loop {
            if let Ok(mut client) = Client::connect(self.port).await
                && let Ok(answer) = client.ask(request.as_bytes()).await
            {
                assert_eq!(answer.status, 200, "{}", answer.body);
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(30), "the process does not listen");
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the process ended: {ended:?}");
            // Finer than what is measured, and no busy loop beside it.
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Starts listening and reaches its storage.
    pub(crate) async fn ready(mut self) -> Self {
        self.answers(Instant::now()).await;
        let began = Instant::now();
        let request = format!("GET /api/ImagePush HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n\r\n", self.port);
        let mut client = Client::connect(self.port).await.expect("a connection");
        loop {
            let answer = client.ask(request.as_bytes()).await.expect("an answer");
            let reached = |what: &str| answer.body.contains(&format!("\"{what}\":{{\"status\":\"ok\"}}"));
            if answer.status == 200 && reached("rows") && reached("queue") {
                return self;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "its storage is not reachable");
            crate::pause(Duration::from_millis(20)).await;
        }
    }

    /// Processor time it has used so far. The clock's ticks are hundredths of a second.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process's times");
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|t| t.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(10 * ticks)
    }

    /// Resident memory now and at its highest, in KiB.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process's status");
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a field of the status");
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
        };
        (field("VmRSS"), field("VmHWM"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
