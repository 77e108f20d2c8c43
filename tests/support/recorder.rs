//! A handler of a few lines, for tests of what stands around a handler.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;

use super::http::{Connection, Head};

/// A handler that writes down what it gets and answers from a list, then with 200 and `{}`. An empty answer closes the
/// connection instead.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    seen: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
    delay: Duration,
}

/// Head and body of a request.
pub type Received = (Head, Vec<u8>);

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

impl Recorder {
    /// One that answers after `delay`.
    pub fn slow(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Listens on a free port of the loopback.
    pub async fn listen(&self) -> u16 {
        self.listen_on(0).await
    }

    /// Listens on a port of the loopback.
    pub async fn listen_on(&self, port: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let recorder = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let recorder = recorder.clone();
                tokio::spawn(async move { recorder.serve(Connection::new(stream)).await });
            }
        });
        port
    }

    async fn serve(&self, mut connection: Connection) {
        while let Ok(Some(head)) = connection.head().await {
            // A caller that is killed in the middle has sent nothing.
            let Ok(body) = connection.body(head.request_framing().unwrap()).await else { return };
            let is_probe = head.start.starts_with("GET / ");
            let answer = if is_probe { None } else { self.answers.lock().unwrap().pop_front() };
            if !is_probe {
                self.seen.lock().unwrap().push((head, body));
            }
            let answer = answer.unwrap_or(GOOD.to_vec());
            if answer.is_empty() {
                return;
            }
            if !self.delay.is_zero() {
                super::pause(self.delay).await;
            }
            if connection.write(&answer).await.is_err() {
                return;
            }
        }
    }

    /// What has been received since the last time, readiness probes left out.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Appends to the list of answers.
    pub fn script(&self, answers: &[&[u8]]) {
        self.answers.lock().unwrap().extend(answers.iter().map(|a| a.to_vec()));
    }
}
