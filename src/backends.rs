//! From settings to a running service: picks the hands the engine acts with, and what drives its timers.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clock::{Clock, StorageClock, SystemClock};
use crate::config::Settings;
use crate::config::storage::Account;
use crate::engine::Engine;
use crate::metrics::{Metrics, Requests};
use crate::notify::client::{HttpNotifier, Options};
use crate::otlp::Otlp;
use crate::service::Service;
use crate::store::azure::connection::Connection;
use crate::store::azure::parts::Inbox;
use crate::store::azure::queue::TimerQueue;
use crate::store::azure::table::Table;
use crate::store::azure::{AzureStore, Names};
use crate::store::embedded::EmbeddedStore;
use crate::store::{Failure, Store, Wakes};
use crate::{poll, wakes};

/// Where pushes live, and who knows when one is due.
pub struct Storage {
    /// In words, for people.
    pub described: String,
    clock: Arc<dyn Clock>,
    requests: Requests,
    kind: Kind,
}

enum Kind {
    Azure { store: Arc<AzureStore>, inbox: Arc<dyn Inbox> },
    Own(Arc<dyn Wakes>),
}

/// Table Storage and Storage Queue of `account`, under these names, for the app called `app`. Connects to nothing yet.
///
/// # Errors
/// `Corrupt` when no client can be made from the account's settings.
pub fn azure(account: &Account, names: &Names, app: &str) -> Result<Storage, Failure> {
    let clock = Arc::new(StorageClock::new(Arc::new(SystemClock)));
    let connection = Connection::open(account, Arc::clone(&clock))?;
    let (rows, queue) = (Table::new(&connection, &names.table), TimerQueue::new(&connection, names));
    let queue = Arc::new(queue);
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let store = AzureStore::new(Arc::new(rows), queue.clone(), clock.clone(), app.to_owned(), seed);
    Ok(Storage {
        described: format!("{account}, queue {}, table {}, app {app}", names.queue, names.table),
        clock,
        requests: connection.requests(),
        kind: Kind::Azure { store: Arc::new(store), inbox: queue },
    })
}

/// One file for both; created when missing.
///
/// # Errors
/// `Corrupt` when the file is in use by another process or is not ours.
pub fn embedded(path: &Path) -> Result<Storage, Failure> {
    let store = EmbeddedStore::open(path, Arc::new(SystemClock))?;
    let requests = store.requests();
    Ok(Storage { requests, ..own(Arc::new(store), format!("embedded store {}", path.display())) })
}

/// A store that knows itself what is due.
#[must_use]
pub fn own(store: Arc<dyn Wakes>, described: String) -> Storage {
    Storage { described, clock: Arc::new(SystemClock), requests: Requests::default(), kind: Kind::Own(store) }
}

impl Storage {
    /// The clock that rows and timers go by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Does what is due, for as long as `stop` is false, where no Functions host does.
    pub async fn drive(self: Arc<Self>, service: Service, stop: watch::Receiver<bool>) {
        match &self.kind {
            Kind::Azure { inbox, .. } => poll::run(Arc::clone(inbox), service, self.clock(), stop).await,
            Kind::Own(store) => wakes::run(Arc::clone(store), service, self.clock(), stop).await,
        }
    }

    /// Closes what is on this machine; nothing works after it.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Azure { .. } => {}
            Kind::Own(store) => store.close().await,
        }
    }
}

/// The service on `storage`, running its calls on `runtime`.
#[must_use]
pub fn service(settings: Settings, storage: &Storage, runtime: Handle) -> Service {
    let clock = storage.clock();
    let metrics = Arc::new(Metrics::new(&settings.policy, storage.requests.clone()));
    let (otlp, traces) = settings.otlp.map(|options| Otlp::new(options, Arc::clone(&clock))).unzip();
    let traces = traces.flatten();
    let options = Options { public_url: settings.public_url, traces: traces.clone(), ..Options::default() };
    let receivers = Arc::new(HttpNotifier::new(settings.targets, Arc::clone(&clock), options));
    let (store, azure): (Arc<dyn Store>, _) = match &storage.kind {
        Kind::Azure { store, .. } => (Arc::clone(store) as _, Some(Arc::clone(store))),
        Kind::Own(store) => (Arc::clone(store) as _, None),
    };
    let engine = Engine::new(settings.policy, store, Arc::clone(&receivers) as _, Arc::clone(&clock));
    let engine = Arc::new(engine.observed(metrics, traces).keeping(settings.retention));
    let service = Service::new(engine, azure, settings.registry.map(Into::into), receivers, clock, runtime);
    match otlp {
        Some(otlp) => service.exporting(otlp),
        None => service,
    }
}
