//! What the system tells `serve` by signals.
//!
//! Guarantee: SIGXFSZ ends nothing. A file that must not grow further is an error of the write that met it, as a full disk is.

/// Who wants the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A person: Ctrl-C.
    Person,
    /// A supervisor: SIGTERM.
    Supervisor,
}

/// Signals since this was made.
#[cfg(unix)]
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    _file_size: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes the signals; must be called within a runtime.
    pub(super) fn take() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// The next signal to end.
    pub(super) async fn ending(&mut self) -> Ending {
        tokio::select! {
            _ = self.interrupt.recv() => Ending::Person,
            _ = self.terminate.recv() => Ending::Supervisor,
        }
    }
}

/// Where there are no signals, there is Ctrl-C.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn take() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn ending(&mut self) -> Ending {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Ending::Person
    }
}
