//! A trivial local receiver: answers every notification with an empty 200 and notes when it came.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use crate::load::body_length;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A notification: when it was read whole, and its body where bodies are kept.
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) wall: chrono::DateTime<chrono::Utc>,
    pub(crate) body: Vec<u8>,
}

/// See the module.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    count: Arc<AtomicUsize>,
    came: Arc<Notify>,
    kept: mpsc::UnboundedReceiver<Received>,
}

impl Receiver {
    /// Listens. With `keep` every notification can be taken by [`Receiver::next`]; otherwise they are only counted.
    pub(crate) async fn start(keep: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (count, came) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (send, kept) = mpsc::unbounded_channel();
        let (counted, told) = (Arc::clone(&count), Arc::clone(&came));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counted, told, send) = (Arc::clone(&counted), Arc::clone(&told), keep.then(|| send.clone()));
                tokio::spawn(async move {
                    // A sender that goes away is no concern of a receiver.
                    let _ = serve(stream, &counted, &told, send).await;
                });
            }
        });
        Self { port, count, came, kept }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `count` notifications have come.
    pub(crate) async fn until(&self, count: usize) {
        let all = async {
            while self.count() < count {
                self.came.notified().await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(60), all).await;
        assert!(came.is_ok(), "{} of {count} notifications came within a minute", self.count());
    }

    /// The next notification that was kept.
    pub(crate) async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(Duration::from_secs(60), self.kept.recv()).await;
        next.expect("a notification within a minute").expect("a receiver")
    }
}

#[expect(clippy::disallowed_methods, reason = "what is measured happens in real time")]
async fn serve(
    mut stream: TcpStream,
    count: &AtomicUsize,
    came: &Notify,
    keep: Option<mpsc::UnboundedSender<Received>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8192);
    loop {
        let whole = loop {
            let head = buffer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
            if let Some(head) = head {
                let whole = head + body_length(&buffer[..head]).unwrap_or(0);
                if buffer.len() >= whole {
                    break head..whole;
                }
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        if let Some(keep) = &keep {
            let body = buffer[whole.clone()].to_vec();
            let _ = keep.send(Received { at: Instant::now(), wall: chrono::Utc::now(), body });
        }
        buffer.drain(..whole.end);
        stream.write_all(ANSWER).await?;
        count.fetch_add(1, Ordering::Relaxed);
        came.notify_one();
    }
}
