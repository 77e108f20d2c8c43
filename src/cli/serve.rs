//! `serve`: runs alone, with its own listener and its own look at the timers, on the embedded store or on Azure Storage.
//!
//! Guarantees: it listens on anything but loopback only with a function key; SIGTERM and Ctrl-C stop it from accepting, let
//! what runs finish, and end it within [`DRAIN_MAX`]. What is cut off then is made good by timers at the next start.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::{complain, faults_text, handler, receiver, runtime};
use crate::backends::{self, Storage};
use crate::config::{self, Fault, Settings, Source};
use crate::http::{self, Refused, Web};
use crate::service::Service;
use crate::store::Failure;
use crate::telemetry;

/// Longest time between the signal to end and the end.
const DRAIN_MAX: Duration = Duration::from_secs(9);

/// Arguments of `serve`. Everything else is a setting: an environment variable, as under the Functions host.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on; anything but loopback needs a key
    #[arg(long, default_value = "127.0.0.1:7071")]
    listen: SocketAddr,
    /// Regions to wait for, comma-separated [setting: WebhookRegions]
    #[arg(long)]
    regions: Option<String>,
    /// How long to wait for them, such as 0:2:0 or PT2M [setting: WebhookTimeout]
    #[arg(long)]
    timeout: Option<String>,
    /// Function key that callers must send [setting: WebhookKey]
    #[arg(long)]
    key: Option<String>,
    /// File of the embedded store, used when AzureWebJobsStorage is not set
    #[arg(long, default_value = "global-webhook.db")]
    data: PathBuf,
    /// Receive the global webhooks in this process too and print them
    #[arg(long)]
    print: bool,
}

pub(super) fn main(args: Args, mut source: Source) -> ExitCode {
    if let Err(why) = telemetry::install(false, source.get("WebhookLog")) {
        warn!("{why}");
    }
    super::raise_descriptor_limit();
    for (name, value) in
        [("WebhookRegions", &args.regions), ("WebhookTimeout", &args.timeout), ("WebhookKey", &args.key)]
    {
        if let Some(value) = value {
            source.set(name, value.clone());
        }
    }
    match run(&args, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Settings(faults)) => {
            complain(&faults_text(&faults));
            ExitCode::from(2)
        }
        Err(End::Other(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

enum End {
    Settings(Vec<Fault>),
    Other(String),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Other(failure.to_string())
    }
}

fn run(args: &Args, mut source: Source) -> Result<(), End> {
    let receiver = if args.print { Some(receiver::listen(&mut source).map_err(End::Other)?) } else { None };
    let (settings, mut faults) = match config::load(&source) {
        Ok(settings) => (Some(settings), Vec::new()),
        Err(faults) => (None, faults),
    };
    let key = source.get("WebhookKey").map(str::to_owned);
    if key.is_none() && !args.listen.ip().is_loopback() {
        faults.push(Fault::of(
            "--listen",
            &args.listen.to_string(),
            "is not a loopback address: set a function key with --key or WebhookKey, or listen on 127.0.0.1",
        ));
    }
    let names = config::storage::is_given(&source).then(|| handler::names(Path::new("."), &source)).transpose();
    let names = names.unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let Some(mut settings) = settings.filter(|_| faults.is_empty()) else { return Err(End::Settings(faults)) };
    let cannot = |what: &str, why: std::io::Error| End::Other(format!("cannot {what}: {why}"));
    let listener = http::listen(args.listen).map_err(|why| cannot(&format!("listen on {}", args.listen), why))?;
    let address = listener.local_addr().map_err(|why| cannot("read the listener's address", why))?;
    let storage = match settings.account.as_ref().zip(names) {
        Some((account, names)) => {
            // Two of them on one machine differ in this, and one that is started again does not.
            let app = settings.app.clone().unwrap_or_else(|| format!("serve {}", args.listen));
            settings.described.app.clone_from(&app);
            backends::azure(account, &names, &app)?
        }
        None => backends::embedded(&args.data)?,
    };
    settings.described.storage.clone_from(&storage.described);
    handler::log(&settings, &storage);
    let runtime = runtime().map_err(|why| cannot("start a runtime", why))?;
    let end = runtime.block_on(async {
        if let Some(receiver) = receiver {
            tokio::spawn(receiver.serve().map_err(|why| cannot("serve the receiver of --print", why))?);
        }
        until_signal(settings, Arc::new(storage), listener, address, key).await
    });
    // What still runs by now is a look-up of a name that is not answered: dropping the runtime would wait for it.
    runtime.shutdown_background();
    end
}

async fn until_signal(
    settings: Settings,
    storage: Arc<Storage>,
    listener: TcpListener,
    address: SocketAddr,
    key: Option<String>,
) -> Result<(), End> {
    let clock = storage.clock();
    let described = settings.described.clone();
    let service = backends::service(settings, &storage, tokio::runtime::Handle::current());
    service.start_upkeep();
    let (stop, stopped) = watch::channel(false);
    let driver = tokio::spawn(Arc::clone(&storage).drive(service.clone(), stopped));
    let web =
        Web { service: Ok(service.clone()), described, clock, key, queue_trigger: false, refused: Refused::default() };
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let server = http::serve(listener, Arc::new(web), workers).map_err(|why| End::Other(why.to_string()))?;
    let handle = server.handle();
    let server = tokio::spawn(server);
    info!(
        "listening on http://{address}: give http://{address}/{}/ImagePush?region=<name> to the registry's webhooks",
        http::PREFIX
    );
    signal().await;
    info!("ending: no new calls, waiting for what runs");
    let _ = stop.send(true);
    if tokio::time::timeout(DRAIN_MAX, drain(handle, server, driver, &service)).await.is_err() {
        warn!("some calls did not end in time; their timers make good for them at the next start");
    }
    Ok(())
}

async fn drain(
    handle: actix_web::dev::ServerHandle,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    driver: tokio::task::JoinHandle<()>,
    service: &Service,
) {
    handle.stop(true).await;
    for ended in [server.await.map(drop), driver.await] {
        if let Err(panic) = ended {
            warn!(%panic, "a part of the service ended in a panic");
        }
    }
    service.drain().await;
}

/// Returns at Ctrl-C, and where there are signals at SIGTERM too.
async fn signal() {
    let interrupt = async {
        if let Err(why) = tokio::signal::ctrl_c().await {
            warn!(%why, "Ctrl-C cannot be watched");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(why) => {
                warn!(%why, "SIGTERM cannot be watched");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
