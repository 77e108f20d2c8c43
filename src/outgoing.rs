//! HTTP clients for what leaves the process, made when they are first used.
//!
//! Reason: making one reads the system's root certificates, some 150 files, which takes longer than everything else that
//! happens before a process can answer its first request. So that wait belongs to the first outgoing request, and a client
//! that nothing uses costs neither time nor memory.

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
