//! HTTP/1.1 messages as the bytes they are. A client library would join, order and repair what the tests want to see.
//!
//! Text is kept as ISO 8859-1, one `char` for each byte, so that any byte survives.

use std::io;
use std::net::Ipv4Addr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 104_857_600;

/// Start line and headers of a message.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Request line or status line, without its line end.
    pub start: String,
    /// Headers as they came: order, case and repeats kept.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header; its name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// How the body of a request with this head is delimited.
    pub fn request_framing(&self) -> io::Result<Framing> {
        Ok(self.stated_framing()?.unwrap_or(Framing::Length(0)))
    }

    /// How the body of an answer with this head is delimited, to a request that is HEAD or not.
    pub fn answer_framing(&self, to_head: bool) -> io::Result<Framing> {
        if to_head || matches!(self.status()?, 100..=199 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        Ok(self.stated_framing()?.unwrap_or(Framing::UntilClose))
    }

    /// The status of an answer.
    pub fn status(&self) -> io::Result<u16> {
        let status = self.start.strip_prefix("HTTP/1.").and_then(|s| s.split(' ').nth(1)).and_then(|s| s.parse().ok());
        status.ok_or_else(|| invalid(format!("no status line: {:?}", self.start)))
    }

    /// Whether the sender closes the connection after this message.
    pub fn closes(&self) -> bool {
        self.get("Connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) || self.start.contains("HTTP/1.0")
    }

    fn stated_framing(&self) -> io::Result<Option<Framing>> {
        if self.get("Transfer-Encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
            return Ok(Some(Framing::Chunked));
        }
        match self.get("Content-Length").map(str::parse::<usize>) {
            None => Ok(None),
            Some(Ok(length)) if length <= BODY_BYTES_MAX => Ok(Some(Framing::Length(length))),
            Some(_) => Err(invalid("a Content-Length that is none, or beyond the host's limit".into())),
        }
    }
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length.
    Length(usize),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Words after it.
    pub reason: String,
    /// Its head.
    pub head: Head,
    /// Its body, chunks put together.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header; its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {:?}", self.status, self.text()))
    }
}

/// One connection, either end.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// When it was last used.
    pub used: Instant,
}

impl Connection {
    /// Takes over a stream.
    pub fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::new(), used: Instant::now() }
    }

    /// Connects to a port of the IPv4 loopback.
    pub async fn open(port: u16) -> io::Result<Self> {
        Ok(Self::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?))
    }

    /// Sends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.used = Instant::now();
        Ok(())
    }

    /// Whether the other end has closed, or has sent something unasked: either way no use for another request.
    pub fn is_spent(&mut self) -> bool {
        let mut byte = [0];
        let read = self.stream.try_read(&mut byte);
        !self.buffer.is_empty() || !matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads the next head; `None` when the other end closed before its first byte.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let text: String = self.buffer.drain(..end + 4).map(char::from).collect();
                return parse_head(text.trim_end_matches("\r\n")).map(Some);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("a head without an end".into()));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads a body.
    pub async fn body(&mut self, framing: Framing) -> io::Result<Vec<u8>> {
        match framing {
            Framing::Length(length) => self.exactly(length).await,
            Framing::UntilClose => {
                while self.fill().await? > 0 {}
                Ok(std::mem::take(&mut self.buffer))
            }
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    let line = self.line().await?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(size, 16).map_err(|_| invalid(format!("chunk size {line:?}")))?;
                    if size == 0 {
                        while !self.line().await?.is_empty() {}
                        return Ok(body);
                    }
                    body.extend(self.exactly(size).await?);
                    if body.len() > BODY_BYTES_MAX || !self.line().await?.is_empty() {
                        return Err(invalid("a chunk longer than it says".into()));
                    }
                }
            }
        }
    }

    /// Reads an answer whole, after any number of interim ones.
    pub async fn answer(&mut self, to_head: bool) -> io::Result<Answer> {
        loop {
            let head = self.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.status()?;
            if (100..200).contains(&status) {
                continue;
            }
            let body = self.body(head.answer_framing(to_head)?).await?;
            let reason = head.start.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
            return Ok(Answer { status, reason, head, body });
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: String = self.buffer.drain(..end + 2).map(char::from).collect();
                return Ok(line.trim_end_matches("\r\n").to_owned());
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// Text as the bytes it was read from.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// Reads start line and headers from their text.
pub fn parse_head(text: &str) -> io::Result<Head> {
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())))
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("a header without a colon".into()))?;
    Ok(Head { start, headers })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
