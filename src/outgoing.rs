//! HTTP clients for what leaves the process, made when they are first used, and what all their users do with an answer.
//!
//! Reason: making one reads the system's root certificates, some 150 files, which takes longer than everything else that
//! happens before a process can answer its first request. So that wait belongs to the first outgoing request, and a client
//! that nothing uses costs neither time nor memory.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use tokio::sync::OnceCell;

type Make = dyn Fn() -> reqwest::Result<reqwest::Client> + Send + Sync;

/// A client that is made at most once, by whoever needs it first. Clones share it.
#[derive(Clone)]
pub(crate) struct Outgoing {
    make: Arc<Make>,
    made: Arc<OnceCell<reqwest::Client>>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("made", &self.made.initialized()).finish_non_exhaustive()
    }
}

impl Outgoing {
    pub(crate) fn new(make: impl Fn() -> reqwest::Result<reqwest::Client> + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), made: Arc::default() }
    }

    /// The client. A failure is not remembered: the next call tries again.
    ///
    /// # Errors
    /// Says, for an operator, that this machine's TLS set-up is broken.
    pub(crate) async fn client(&self) -> Result<&reqwest::Client, &'static str> {
        const BROKEN: &str = "no HTTPS client can be set up on this machine";
        let made = self.made.get_or_try_init(|| async {
            let make = Arc::clone(&self.make);
            // It reads files, which a thread of the runtime should not wait for.
            tokio::task::spawn_blocking(move || make()).await.map_err(|_| BROKEN)?.map_err(|_| BROKEN)
        });
        made.await
    }
}

/// The body of an answer; `None` when it has more than `max` bytes, the rest of which is not read.
///
/// # Errors
/// The exchange broke off.
pub(crate) async fn body(answer: &mut reqwest::Response, max: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The innermost reason of a failed exchange: those around it repeat the address, whose query may be a secret.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(std::error::Error::source) {
        innermost = Some(deeper);
    }
    innermost.map_or_else(|| "no reason given".to_owned(), ToString::to_string)
}
