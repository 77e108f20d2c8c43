//! From settings to a running service: picks the hands the engine acts with.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::config::storage::Account;
use crate::engine::Engine;
use crate::notify::client::{HttpNotifier, Options};
use crate::service::Service;
use crate::store::azure::Connection;
use crate::store::embedded::EmbeddedStore;
use crate::store::table::TableStore;
use crate::store::{Failure, Store};
use crate::timers::Inbox;
use crate::timers::queue::QueueTimers;

/// Where rows and timers live.
pub struct Storage {
    /// Rows.
    pub store: Arc<dyn Store>,
    /// Timers.
    pub inbox: Arc<dyn Inbox>,
    /// In words, for people.
    pub described: String,
}

/// Table Storage and Storage Queue of `account`. Connects to nothing yet.
///
/// # Errors
/// `Corrupt` when no client can be made from the account's settings.
pub fn azure(account: &Account) -> Result<Storage, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let connection = Connection::open(account, clock)?;
    Ok(Storage {
        store: Arc::new(TableStore::new(&connection)),
        inbox: Arc::new(QueueTimers::new(&connection)),
        described: account.to_string(),
    })
}

/// One file for both; created when missing.
///
/// # Errors
/// `Corrupt` when the file is in use by another process or is not ours.
pub fn embedded(path: &Path) -> Result<Storage, Failure> {
    let (store, timers) = EmbeddedStore::open(path, Arc::new(SystemClock))?;
    Ok(Storage {
        store: Arc::new(store),
        inbox: Arc::new(timers),
        described: format!("embedded store {}", path.display()),
    })
}

/// The service on `storage`, running its calls on `runtime`.
#[must_use]
pub fn service(settings: Settings, storage: &Storage, runtime: Handle) -> Service {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = Options { public_url: settings.public_url, ..Options::default() };
    let notifier = HttpNotifier::new(settings.targets, Arc::clone(&clock), options);
    let timers: Arc<dyn crate::timers::Timers> = Arc::clone(&storage.inbox) as _;
    let engine = Engine::new(
        settings.policy,
        Arc::clone(&storage.store),
        Arc::clone(&timers),
        Arc::new(notifier),
        Arc::clone(&clock),
    );
    Service::new(Arc::new(engine), timers, clock, runtime)
}
