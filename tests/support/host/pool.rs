//! The host's client: connections to the handler, kept open for about a minute as .NET keeps them.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::support::http::{Answer, Connection};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Tries of a request without a body.
const TRIES_WITHOUT_BODY: u32 = 4;

/// Connections to one handler.
#[derive(Debug)]
pub struct Pool {
    port: u16,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// A pool for the handler on `port`.
    pub fn new(port: u16) -> Self {
        Self { port, idle: Mutex::default() }
    }

    /// The handler's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a request and reads the answer. One without a body is tried up to four times, unchanged; any other once.
    pub async fn call(&self, request: &[u8], has_body: bool) -> io::Result<Answer> {
        let tries = if has_body { 1 } else { TRIES_WITHOUT_BODY };
        let mut result = self.once(request).await;
        for _ in 1..tries {
            if result.is_ok() {
                break;
            }
            result = self.once(request).await;
        }
        result
    }

    /// Closes what is idle.
    pub fn forget(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn once(&self, request: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.take() {
            Some(connection) => connection,
            None => Connection::open(self.port).await?,
        };
        // An early answer may come while a body is still being written; the write's own failure says less than it.
        let written = connection.write(request).await;
        let answer = match (connection.answer(request.starts_with(b"HEAD ")).await, written) {
            (Ok(answer), _) => answer,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        if !answer.head.closes() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(answer)
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut connection) = idle.pop() {
            if connection.used.elapsed() < IDLE && !connection.is_spent() {
                return Some(connection);
            }
        }
        None
    }
}
