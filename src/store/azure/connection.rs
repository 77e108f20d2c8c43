//! What rows and timers share of Azure Storage: one pooled, timed HTTP client, the credential, the bounded retry, and the
//! reading of errors.
//!
//! The storage crates shape requests and parse answers; everything else is taken out of their hands:
//! - Their transport opens a connection per request and waits for ever; `transport.rs` pools and gives up in time.
//! - Their retry repeats any request eight times and forgets that an earlier one may have been applied; it is off. Retrying
//!   is `Connection::retry`'s, for reads and for writes that may be repeated; a write that may not is cleared up by its
//!   own caller, who keeps in mind that the outcome of a failed try is unknown (`is_transient`).
//! - They cannot say that a message lives for ever; `TtlForever` does. They send text as it is, which the emulator breaks;
//!   `AsciiJson` escapes it. They date requests by the machine's clock, which may be wrong; `Dated` has the storage's time.
//! - Their errors hold URLs, headers and bodies; `failure` makes the cause from the status alone.
//!
//! Callers must run all of it on one multi-thread runtime: a pooled connection stands still with the runtime that opened it.
//! The crates log the `authorization` header at debug level; whoever sets up logging keeps `azure_core` at `info`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::{ClientOptions, Policy, RetryOptions, TransportOptions};
use azure_storage::{CloudLocation, StorageCredentials};

use super::identity::ManagedIdentity;
use super::policies::{AsciiJson, Dated, TtlForever};
use super::transport::{Http, KINDS};
use crate::clock::{self, Clock, StorageClock};
use crate::config::storage::{Account, Credential, is_loopback};
use crate::metrics::Requests;
use crate::outgoing;
use crate::store::Failure;

/// Tries of one logical call.
pub(crate) const TRIES_MAX: u32 = 3;

/// No further try is begun this long after the first.
const RETRY_WINDOW: Duration = Duration::from_secs(8);

/// The `messagettl` that [`TtlForever`] turns into "never".
pub(crate) const FOREVER: Duration = Duration::from_secs(u64::MAX);

/// An open storage account, shared by [`super::table::Table`] and [`super::queue::TimerQueue`]. Clones share
/// the connections.
#[derive(Clone)]
pub struct Connection {
    account: Account,
    credential: StorageCredentials,
    options: ClientOptions,
    clock: Arc<StorageClock>,
    requests: Requests,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Connection {
    /// Prepares to talk to `account`; sends nothing yet. Waits go through `clock`.
    ///
    /// # Errors
    /// [`Failure::Corrupt`] when the credential cannot be used.
    pub fn open(account: &Account, clock: Arc<StorageClock>) -> Result<Self, Failure> {
        let emulated = account.tables.starts_with("http:") || is_loopback(&account.tables);
        let requests = Requests::new(&KINDS);
        let http = Http::new(emulated, Arc::clone(&clock), account.queues.clone(), requests.clone());
        let credential = match &account.credential {
            Credential::SharedKey(key) => StorageCredentials::access_key(account.name.clone(), key.clone()),
            Credential::Sas(sas) => StorageCredentials::sas_token(sas)
                .map_err(|_| Failure::Corrupt("the shared access signature cannot be read".into()))?,
            Credential::Identity(identity) => {
                let credential = ManagedIdentity::new(identity.clone(), Arc::clone(&clock) as Arc<dyn Clock>);
                StorageCredentials::token_credential(Arc::new(credential))
            }
        };
        let policies: [Arc<dyn Policy>; 3] =
            [Arc::new(TtlForever), Arc::new(AsciiJson), Arc::new(Dated(Arc::clone(&clock)))];
        let options = ClientOptions::default()
            .transport(TransportOptions::new(Arc::new(http)))
            .retry(RetryOptions::none())
            .per_call_policies(policies.to_vec());
        Ok(Self { account: account.clone(), credential, options, clock, requests })
    }

    /// Requests are counted there, each try for itself.
    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    pub(crate) fn tables(&self) -> azure_data_tables::clients::TableServiceClient {
        let location = self.location(&self.account.tables);
        azure_data_tables::clients::TableServiceClientBuilder::with_location(location, self.credential.clone())
            .client_options(self.options.clone())
            .build()
    }

    pub(crate) fn queues(&self) -> azure_storage_queues::QueueServiceClient {
        let location = self.location(&self.account.queues);
        azure_storage_queues::QueueServiceClientBuilder::with_location(location, self.credential.clone())
            .client_options(self.options.clone())
            .build()
    }

    fn location(&self, uri: &str) -> CloudLocation {
        CloudLocation::Custom { account: self.account.name.clone(), uri: uri.to_owned() }
    }

    /// Calls until a call succeeds, fails for good, or the tries are used up. Only for calls that may be repeated although an
    /// earlier try was applied. `seed` spreads the waits of different callers.
    pub(crate) async fn retry<T, F>(&self, seed: &str, mut call: impl FnMut() -> F) -> azure_core::Result<T>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        let mut tries = self.tries(seed);
        loop {
            match call().await {
                Err(error) if is_transient(&error) && tries.again().await => {}
                result => return result,
            }
        }
    }

    /// Makes something of `service` that is called `name`. One that exists, or is still being deleted, is no error: the next
    /// request tells them apart.
    pub(super) async fn create<T, F>(&self, service: &str, name: &str, call: impl FnMut() -> F) -> Result<(), Failure>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        unless(service, self.retry(name, call).await, &[409]).map(drop)
    }

    /// Counts the tries of one logical call.
    pub(crate) fn tries<'a>(&'a self, seed: &'a str) -> Tries<'a> {
        Tries { clock: &*self.clock, seed, made: 1, began: self.clock.now() }
    }
}

/// The tries of one logical call.
pub(crate) struct Tries<'a> {
    clock: &'a dyn Clock,
    seed: &'a str,
    made: u32,
    began: clock::Instant,
}

impl Tries<'_> {
    /// Waits for the next try; `false` when there is none.
    pub(crate) async fn again(&mut self) -> bool {
        if self.made >= TRIES_MAX || clock::until(self.began, self.clock.now()) > RETRY_WINDOW {
            return false;
        }
        self.clock.sleep(pause(self.seed, self.made)).await;
        self.made += 1;
        true
    }
}

/// The wait after the `failed`-th try (from 1): 50 to 150 ms, then up to 400 ms, different for each seed, without chance.
fn pause(seed: &str, failed: u32) -> Duration {
    let (from, span) = if failed <= 1 { (50, 100) } else { (150, 250) };
    let mut hash = DefaultHasher::new();
    (seed, failed).hash(&mut hash);
    Duration::from_millis(from + hash.finish() % (span + 1))
}

/// Status of the service's answer; `None` when there was none, or none that could be understood.
pub(crate) fn status(error: &azure_core::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::HttpResponse { status, .. } => Some(u16::from(*status)),
        ErrorKind::Io
        | ErrorKind::DataConversion
        | ErrorKind::Credential
        | ErrorKind::MockFramework
        | ErrorKind::Other => None,
    }
}

/// Whether the same request may succeed later. Whether this one was applied is then unknown: its answer was lost, garbled
/// (the crates report a missing header of a success as an error), or only says that something took too long.
pub(crate) fn is_transient(error: &azure_core::Error) -> bool {
    match error.kind() {
        ErrorKind::HttpResponse { status, .. } => transient_status(u16::from(*status)),
        ErrorKind::Io | ErrorKind::DataConversion => true,
        ErrorKind::Credential => token_failure(error).is_some_and(is_transient),
        ErrorKind::MockFramework | ErrorKind::Other => false,
    }
}

fn transient_status(status: u16) -> bool {
    matches!(status, 408 | 429) || (status >= 500 && status != 501)
}

/// The failure of the identity endpoint inside of a credential error.
fn token_failure(error: &azure_core::Error) -> Option<&azure_core::Error> {
    error.downcast_ref::<azure_core::Error>()
}

/// What to tell about `error`, which `service` (a name for people) gave. Holds the status, the service's own short code and
/// what went wrong with the connection; never a URL, a header or a body.
pub(crate) fn failure(service: &str, error: &azure_core::Error) -> Failure {
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code } => {
            let (status, code) = (u16::from(*status), code(error_code.as_deref()));
            match status {
                401 | 403 => Failure::Corrupt(format!(
                    "{service} refused us (status {status}{code}): AzureWebJobsStorage has a wrong or expired key or token, \
                     the identity has no data role on the account, or the account's firewall is closed to us"
                )),
                _ if transient_status(status) || matches!(status, 404 | 409 | 412) => {
                    Failure::Unavailable(format!("{service} answered {status}{code}"))
                }
                _ => Failure::Corrupt(format!("{service} does not accept what it was sent (status {status}{code})")),
            }
        }
        // Only `Http` and the identity credential make these, from words without secrets. A client that cannot be made is one.
        ErrorKind::Io => Failure::Unavailable(format!("{service} cannot be reached: {error}")),
        ErrorKind::DataConversion => {
            Failure::Unavailable(format!("{service} gave an answer that cannot be understood"))
        }
        ErrorKind::Credential => match token_failure(error) {
            Some(inner) if is_transient(inner) => failure("the managed identity's endpoint", inner),
            Some(inner) if status(inner).is_some() => Failure::Corrupt(format!(
                "the managed identity's endpoint gives no token (status {}): the app has no such identity; \
                 check AzureWebJobsStorage__clientId",
                status(inner).unwrap_or_default()
            )),
            Some(_) | None => {
                Failure::Corrupt(format!("requests to {service} cannot be signed: the credential is bad"))
            }
        },
        ErrorKind::MockFramework | ErrorKind::Other => Failure::Corrupt(format!(
            "a request to {service} cannot be made: check the endpoint in AzureWebJobsStorage"
        )),
    }
}

/// What came of a call to `service`; `None` when it was answered with one of these.
pub(super) fn unless<T>(service: &str, called: azure_core::Result<T>, these: &[u16]) -> Result<Option<T>, Failure> {
    match called {
        Ok(done) => Ok(Some(done)),
        Err(error) if status(&error).is_some_and(|status| these.contains(&status)) => Ok(None),
        Err(error) => Err(failure(service, &error)),
    }
}

/// Makes a call to `service`, and once more after `create` if what it is about was missing.
pub(super) async fn creating<T, F, C>(
    service: &str,
    call: impl Fn() -> F,
    create: impl FnOnce() -> C,
) -> Result<T, Failure>
where
    F: Future<Output = azure_core::Result<T>>,
    C: Future<Output = Result<(), Failure>>,
{
    let mut made = call().await;
    if made.as_ref().is_err_and(|error| status(error) == Some(404)) {
        create().await?;
        made = call().await;
    }
    made.map_err(|error| failure(service, &error))
}

/// A service's error code, cut to what a code can be.
fn code(code: Option<&str>) -> String {
    match code {
        Some(code) if code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()) => format!(", {code}"),
        Some(_) | None => String::new(),
    }
}

/// What went wrong with a connection, without the URL, whose query may be a secret.
pub(super) fn connection_trouble(error: reqwest::Error) -> azure_core::Error {
    let kind = match (error.is_connect(), error.is_timeout()) {
        (true, true) => "no connection in time",
        (true, false) => "no connection",
        (false, true) => "no answer in time",
        (false, false) => "the connection broke",
    };
    azure_core::Error::message(ErrorKind::Io, format!("{kind} ({})", outgoing::cause(&error)))
}

pub(super) fn io(words: &'static str) -> azure_core::Error {
    azure_core::Error::message(ErrorKind::Io, words)
}

#[cfg(test)]
mod tests {
    use azure_core::StatusCode;
    use azure_core::error::ResultExt;

    use super::*;

    fn http(status: u16, code: &str) -> azure_core::Error {
        ErrorKind::http_response(StatusCode::try_from(status).unwrap(), Some(code.into())).into_error()
    }

    #[test]
    fn errors_are_read_by_status() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient(&http(status, "x")), "{status}");
            assert!(matches!(failure("tables", &http(status, "x")), Failure::Unavailable(_)), "{status}");
        }
        for status in [400, 401, 403, 413, 501] {
            assert!(!is_transient(&http(status, "x")), "{status}");
            assert!(matches!(failure("tables", &http(status, "x")), Failure::Corrupt(_)), "{status}");
        }
        assert_eq!(
            failure("tables", &http(503, "ServerBusy")),
            Failure::Unavailable("tables answered 503, ServerBusy".into())
        );
        assert_eq!(failure("tables", &http(503, "sig=a secret")), Failure::Unavailable("tables answered 503".into()));
    }

    #[test]
    fn a_token_failure_counts_as_what_it_is() {
        let wrapped = |inner: azure_core::Error| {
            Err::<(), _>(inner).context(ErrorKind::Credential, "failed to get bearer token").unwrap_err()
        };
        assert!(is_transient(&wrapped(io("no connection"))));
        assert!(is_transient(&wrapped(http(500, "x"))));
        assert!(!is_transient(&wrapped(http(400, "x"))));
        let Failure::Corrupt(cause) = failure("tables", &wrapped(http(400, "x"))) else {
            panic!("not for an operator")
        };
        assert!(cause.contains("clientId"), "{cause}");
    }

    #[test]
    fn pauses_are_bounded_and_differ() {
        let pauses: Vec<u128> = (0..100).map(|n| pause(&n.to_string(), 1 + n % 2).as_millis()).collect();
        assert!(pauses.iter().all(|ms| (50..=400).contains(ms)), "{pauses:?}");
        assert!(pauses.iter().collect::<std::collections::BTreeSet<_>>().len() > 20);
    }
}
