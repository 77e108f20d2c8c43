//! A relay between a client and a server of this machine that loses answers: the request goes through, the server acts on
//! it, and the client's connection breaks, or a refusal comes, instead of the answer. It can also make every answer late.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running relay; it ends with the runtime of the test.
pub(crate) struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
}

/// What is still to be done to answers, in this order.
#[derive(Default)]
struct Plan {
    skip: AtomicUsize,
    lose: AtomicUsize,
    refuse: AtomicUsize,
    lost: AtomicUsize,
    /// How many milliseconds every answer is late.
    late: AtomicU64,
    /// Whether the next loss shuts the relay to requests, and whether it is shut.
    shut_then: AtomicBool,
    shut: watch::Sender<bool>,
}

const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

impl Proxy {
    /// Relays to `server`.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let proxy = Self { address, plan: Arc::default() };
        let plan = Arc::clone(&proxy.plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = Arc::clone(&plan);
                tokio::spawn(async move {
                    let _ = relay(client, server, &plan).await;
                });
            }
        });
        proxy
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Loses the next `count` answers after letting `skip` through.
    pub(crate) fn lose(&self, skip: usize, count: usize) {
        self.plan.skip.store(skip, Ordering::SeqCst);
        self.plan.lose.store(count, Ordering::SeqCst);
    }

    /// Puts a refusal in the place of so many answers, those after the lost ones.
    pub(crate) fn refuse(&self, count: usize) {
        self.plan.refuse.store(count, Ordering::SeqCst);
    }

    /// Lets no further request through from the moment the next answer is lost, until [`Proxy::open`].
    pub(crate) fn shut_with_the_next_loss(&self) {
        self.plan.shut_then.store(true, Ordering::SeqCst);
    }

    /// Lets requests through again.
    pub(crate) fn open(&self) {
        self.plan.shut.send_replace(false);
    }

    /// Makes every answer late from now on.
    pub(crate) fn slow(&self, late: Duration) {
        self.plan.late.store(u64::try_from(late.as_millis()).expect("a short time"), Ordering::SeqCst);
    }

    /// How many answers were lost so far.
    pub(crate) fn lost(&self) -> usize {
        self.plan.lost.load(Ordering::SeqCst)
    }
}

fn take(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

async fn relay(mut client: TcpStream, server: SocketAddr, plan: &Plan) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    // Whether the bytes that come from the server begin an answer, rather than continue one.
    let mut fresh = true;
    loop {
        tokio::select! {
            n = client.read(&mut up) => match n? {
                0 => return Ok(()),
                n => {
                    // The plan, and with it the sender, outlives this.
                    let _ = plan.shut.subscribe().wait_for(|shut| !shut).await;
                    fresh = true;
                    server.write_all(&up[..n]).await?
                }
            },
            n = server.read(&mut down) => {
                let n = n?;
                if n == 0 { return Ok(()) }
                if fresh {
                    crate::support::pause(Duration::from_millis(plan.late.load(Ordering::SeqCst))).await;
                }
                if std::mem::take(&mut fresh) && !take(&plan.skip) {
                    if take(&plan.lose) {
                        if plan.shut_then.swap(false, Ordering::SeqCst) {
                            plan.shut.send_replace(true);
                        }
                        plan.lost.fetch_add(1, Ordering::SeqCst);
                        return Ok(());
                    }
                    if take(&plan.refuse) {
                        return client.write_all(REFUSAL).await;
                    }
                }
                client.write_all(&down[..n]).await?;
            }
        }
    }
}
