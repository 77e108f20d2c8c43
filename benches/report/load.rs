//! The load generator: keep-alive HTTP/1.1 over plain sockets, on one thread, so that it takes as little as possible of the
//! cores that it shares with what it measures. The floor and the service are driven by the same code.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// One connection that is kept.
pub(crate) struct Client {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self { read, write, buffer: Vec::with_capacity(4096) })
    }

    /// Sends a whole request and reads its answer whole: status, head and body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> std::io::Result<Answer<'_>> {
        self.write.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(Framed { head, whole, status }) = framed(&self.buffer)
                && self.buffer.len() >= whole
            {
                return Ok(Answer { status, head: text(&self.buffer[..head]), body: text(&self.buffer[head..whole]) });
            }
        }
    }
}

/// An answer, as long as the next one is not asked for.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a str,
    pub(crate) body: &'a str,
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("")
}

/// Where a message's head and body end, and its status.
struct Framed {
    head: usize,
    whole: usize,
    status: u16,
}

fn framed(bytes: &[u8]) -> Option<Framed> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let status = text(bytes.get(9..12)?).parse().unwrap_or(0);
    Some(Framed { head, whole: head + body_length(&bytes[..head])?, status })
}

/// The length that a head announces; `None` for a chunked body that has not ended yet, which nobody here waits for.
pub(crate) fn body_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head.split(|b| *b == b'\n').find(|l| l.len() > NAME.len() && l[..NAME.len()].eq_ignore_ascii_case(NAME));
    line.map_or(Some(0), |line| text(&line[NAME.len()..]).trim().parse().ok())
}

/// What one round of load came to.
pub(crate) struct Round {
    /// From the first request until the last answer.
    pub(crate) elapsed: Duration,
    /// Time from request to answer, ascending.
    pub(crate) waits: Vec<Duration>,
}

impl Round {
    pub(crate) fn p99(&self) -> Duration {
        percentile(&self.waits, 99)
    }
}

/// The value below which `percent` of an ascending list lie.
pub(crate) fn percentile<T: Copy>(ascending: &[T], percent: usize) -> T {
    ascending[(ascending.len() * percent / 100).min(ascending.len() - 1)]
}

/// Sends each connection's requests one after the other, all connections at the same time.
///
/// # Panics
/// When an answer is no success: what is measured then is not the job.
pub(crate) async fn drive(port: u16, connections: Vec<Vec<Vec<u8>>>) -> Round {
    let mut clients = Vec::new();
    for requests in connections {
        clients.push((Client::connect(port).await.expect("a connection"), requests));
    }
    let began = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|(mut client, requests)| {
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(requests.len());
                for request in requests {
                    let sent = Instant::now();
                    let answer = client.ask(&request).await.expect("an answer");
                    assert!((200..300).contains(&answer.status), "status {}: {}", answer.status, answer.body);
                    waits.push(sent.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("a connection's task"));
    }
    let elapsed = began.elapsed();
    waits.sort_unstable();
    Round { elapsed, waits }
}
