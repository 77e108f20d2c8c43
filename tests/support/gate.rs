//! A relay to a server of this machine that can be dead, or take connections and say nothing, and come back on the same port.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{free_port, pause};

/// Time for the port to be free again: connections that were cut may take a moment.
const BIND_LIMIT: Duration = Duration::from_secs(10);

/// What a caller meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The server.
    Open,
    /// Nothing listens.
    Dead,
    /// Connections are taken, and nothing is ever read or answered.
    Mute,
}

/// A running relay; it ends with the runtime of the test.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    wanted: watch::Sender<Mode>,
    reached: watch::Receiver<Mode>,
}

impl Gate {
    /// A relay to `server`.
    pub async fn to(server: SocketAddr, mode: Mode) -> Self {
        let port = free_port();
        let (wanted, wishes) = watch::channel(mode);
        let (report, reached) = watch::channel(Mode::Dead);
        tokio::spawn(run(port, server, wishes, report));
        let gate = Self { port, wanted, reached };
        gate.set(mode).await;
        gate
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what callers meet, and returns once it is so. Connections made before are cut.
    ///
    /// # Panics
    /// When the gate has lost its port to somebody else.
    pub async fn set(&self, mode: Mode) {
        self.wanted.send_replace(mode);
        let reached = self.reached.clone().wait_for(|reached| *reached == mode).await.is_ok();
        assert!(reached, "the gate at port {} has ended; its own words stand above", self.port);
    }
}

async fn run(port: u16, server: SocketAddr, mut wishes: watch::Receiver<Mode>, report: watch::Sender<Mode>) {
    loop {
        let mode = *wishes.borrow_and_update();
        if mode == Mode::Dead {
            report.send_replace(mode);
            if wishes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let begun = Instant::now();
        let listener = loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                Ok(listener) => break listener,
                Err(why) => assert!(begun.elapsed() < BIND_LIMIT, "port {port} of a gate is taken: {why}"),
            }
            pause(Duration::from_millis(10)).await;
        };
        report.send_replace(mode);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((mut caller, _)) = accepted else { continue };
                    connections.spawn(async move {
                        if mode == Mode::Mute {
                            std::future::pending::<()>().await;
                        }
                        // A connection that breaks is what this is for.
                        if let Ok(mut server) = TcpStream::connect(server).await {
                            let _ = server.set_nodelay(true);
                            let _ = caller.set_nodelay(true);
                            let _ = tokio::io::copy_bidirectional(&mut caller, &mut server).await;
                        }
                    });
                }
                Some(_) = connections.join_next() => {}
                changed = wishes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
    }
}
