//! `serve`: runs alone, with its own listener and its own look at the timers, on the embedded store or on Azure Storage.
//!
//! Guarantees: it listens on anything but loopback only with a function key. At SIGTERM it says that it is not ready and goes
//! on accepting for `--drain`, since load balancers are slower than signals and the registry never tries again; then, and at
//! Ctrl-C at once, it lets what runs finish within [`REST_MAX`] and closes its file, which is complete in itself. What is cut
//! off is made good by timers at the next start. A second signal ends it at once.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::signals::{Ending, Signals};
use super::{complain, faults_text, handler, key, receiver, runtime};
use crate::backends::{self, Storage};
use crate::config::timespan::with_unit;
use crate::config::{self, Fault, Settings, Source};
use crate::http::doors::Doors;
use crate::http::{self, Web};
use crate::limits;
use crate::service::Service;
use crate::store::Failure;
use crate::telemetry;

/// Longest time for what runs, once nothing new is accepted. With the default of `--drain` the end comes within the 10 s after
/// which container engines kill.
const REST_MAX: Duration = Duration::from_secs(6);
const _: () = assert!(http::STOP_MAX.as_secs() < REST_MAX.as_secs());

/// The end of the command's help.
pub(super) const HELP: &str = "\
Examples:
  global-webhook serve --print --regions northeurope,westus
  WebhookKey=… WebhookOperatorKey=… global-webhook serve --listen 0.0.0.0:8080 --data /var/lib/global-webhook/store.db

Exit codes:
  0  ended by a signal, in order
  1  it did not work
  2  wrong arguments or settings, all of which are named";

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
    /// Key of the registry, or @FILE to read it from one; it opens ImagePush only [setting: WebhookKey]
    #[arg(long, value_parser = key::parse, allow_hyphen_values = true)]
    key: Option<String>,
    /// Key of operators, or @FILE; it opens everything [setting: WebhookOperatorKey]
    #[arg(long, value_parser = key::parse, allow_hyphen_values = true)]
    operator_key: Option<String>,
    /// How long to go on accepting after SIGTERM, not ready meanwhile, for load balancers to notice
    #[arg(long, default_value = "3s", value_parser = parse_drain)]
    drain: Duration,
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
    for (name, value) in [
        ("WebhookRegions", &args.regions),
        ("WebhookTimeout", &args.timeout),
        ("WebhookKey", &args.key),
        ("WebhookOperatorKey", &args.operator_key),
    ] {
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

/// A key of fewer characters is warned about: with letters and digits, this many are some 95 bits.
const KEY_BYTES_MIN: usize = 16;

fn parse_drain(text: &str) -> Result<Duration, String> {
    let drain = with_unit(text)?;
    if drain > limits::DRAIN_MAX {
        return Err(format!("the longest is {} s", limits::DRAIN_MAX.as_secs()));
    }
    Ok(drain)
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
    let [key, operator] = ["WebhookKey", "WebhookOperatorKey"].map(|name| source.get(name).map(str::to_owned));
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
    for (name, key) in [("WebhookKey", &key), ("WebhookOperatorKey", &operator)] {
        if let Some(Err(why)) = key.as_deref().map(key::check) {
            faults.push(Fault::hidden(name, why));
        }
    }
    if key.is_some() && key == operator {
        let why = "is the same as WebhookKey, so that whoever has the registry's key is an operator: give them different ones";
        faults.push(Fault::hidden("WebhookOperatorKey", why));
    }
    let Some(mut settings) = settings.filter(|_| faults.is_empty()) else { return Err(End::Settings(faults)) };
    if [&key, &operator].into_iter().flatten().any(|key| key.len() < KEY_BYTES_MIN) {
        warn!(
            "a key is shorter than {KEY_BYTES_MIN} characters and might be guessed; `openssl rand -hex 32` makes one"
        );
    }
    let cannot = |what: &str, why: std::io::Error| End::Other(format!("cannot {what}: {why}"));
    let listener = http::listen(args.listen).map_err(|why| cannot(&format!("listen on {}", args.listen), why))?;
    let address = listener.local_addr().map_err(|why| cannot("read the listener's address", why))?;
    let runtime = runtime().map_err(End::Other)?;
    // Before the store is opened, which may meet the limit of a file's size.
    let signals = runtime.block_on(async { Signals::take() }).map_err(|why| cannot("watch signals", why))?;
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
    let end = runtime.block_on(async {
        if let Some(receiver) = receiver {
            tokio::spawn(receiver.serve().map_err(|why| cannot("serve the receiver of --print", why))?);
        }
        let doors = Doors::of(key.as_deref(), operator.as_deref());
        let serving = Serving::start(settings, Arc::new(storage), listener, doors)?;
        info!(
            "listening on http://{address}: give http://{address}/{}/ImagePush?region=<name> to the registry's webhooks",
            http::PREFIX
        );
        serving.until_signal(signals, args.drain).await;
        Ok(())
    });
    // What still runs by now is a look-up of a name that is not answered: dropping the runtime would wait for it.
    runtime.shutdown_background();
    end
}

/// Everything that runs.
struct Serving {
    storage: Arc<Storage>,
    service: Service,
    web: Arc<Web>,
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
    handle: ServerHandle,
    server: JoinHandle<std::io::Result<()>>,
}

impl Serving {
    fn start(settings: Settings, storage: Arc<Storage>, listener: TcpListener, doors: Doors) -> Result<Self, End> {
        let clock = storage.clock();
        let described = settings.described.clone();
        let service = backends::service(settings, &storage, tokio::runtime::Handle::current());
        service.start_upkeep();
        let (stop, stopped) = watch::channel(false);
        let driver = tokio::spawn(Arc::clone(&storage).drive(service.clone(), stopped));
        let web = Arc::new(Web::new(Ok(service.clone()), described, clock, doors));
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let server = http::serve(listener, Arc::clone(&web), workers).map_err(|why| End::Other(why.to_string()))?;
        let handle = server.handle();
        Ok(Self { storage, service, web, stop, driver, handle, server: tokio::spawn(server) })
    }

    /// Serves until a signal, then ends as the module says.
    async fn until_signal(self, mut signals: Signals, drain: Duration) {
        let drain = match signals.ending().await {
            Ending::Supervisor => drain,
            Ending::Person => Duration::ZERO,
        };
        tokio::select! {
            () = self.end(drain) => {}
            _ = signals.ending() => {
                warn!("ended at once by a second signal; what was cut off is made good at the next start");
                std::process::exit(1);
            }
        }
    }

    async fn end(self, drain: Duration) {
        self.web.end();
        if !drain.is_zero() {
            info!(drain_s = drain.as_secs_f64(), "ending soon: still accepting, no longer ready");
            self.web.clock().sleep(drain).await;
        }
        info!("ending: no new calls, waiting for what runs");
        let _ = self.stop.send(true);
        let rest = async {
            self.handle.stop(true).await;
            for ended in [self.server.await.map(drop), self.driver.await] {
                if let Err(panic) = ended {
                    warn!(%panic, "a part of the service ended in a panic");
                }
            }
            self.service.drain().await;
        };
        if tokio::time::timeout(REST_MAX, rest).await.is_err() {
            warn!("some calls did not end in time; their timers make good for them at the next start");
        }
        self.storage.close().await;
    }
}
