//! Handler mode: the Functions host's custom handler.
//!
//! Guarantees: it listens before anything is read or connected, and stays up whatever is wrong with the settings, so that the
//! operator reads the reason in the browser instead of a host that gives up. It ends itself when its parent is gone: a killed
//! host leaves its handler behind (seen), which would go on holding the port and running calls of nobody.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::{complain, faults_text, runtime};
use crate::backends::{self, Storage};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Described, Fault, Settings, Source};
use crate::http::doors::Doors;
use crate::http::{self, Web};
use crate::service::Service;
use crate::store::azure::Names;
use crate::telemetry;

/// Threads that parse requests; the calls themselves run on the common runtime.
const WORKERS: usize = 2;

pub(super) fn main(port: &str, source: Source) -> ExitCode {
    let parent = parent();
    let listener = match port
        .parse()
        .map_err(|_| "is not a port".to_owned())
        .and_then(|port: u16| http::listen((Ipv4Addr::LOCALHOST, port).into()).map_err(|e| e.to_string()))
    {
        Ok(listener) => listener,
        Err(why) => {
            complain(&format!(
                "cannot listen on the port that the Functions host gave ({} = {port:?}): {why}",
                super::PORT
            ));
            return ExitCode::FAILURE;
        }
    };
    if let Err(why) = telemetry::install(true, source.get("WebhookLog")) {
        warn!(why);
    }
    super::raise_descriptor_limit();
    watch(parent);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => {
            error!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let (service, described, clock) = match prepare(&source, runtime.handle()) {
        Ok((service, described, clock)) => {
            service.start_upkeep();
            (Ok(service), described, clock)
        }
        Err(faults) => {
            let text = faults_text(&faults);
            error!(
                faults = text,
                "the settings cannot be used; every call is answered with 503 until they are corrected"
            );
            (Err(text), Described::default(), Arc::new(SystemClock) as Arc<dyn Clock>)
        }
    };
    let web = Web::new(service, described, clock, Doors::Host);
    let served = runtime.block_on(async { http::serve(listener, Arc::new(web), WORKERS)?.await });
    // The host never asks a handler to end, and does not restart one that ended with success.
    error!(?served, "the server ended by itself");
    ExitCode::FAILURE
}

fn prepare(
    source: &Source,
    runtime: &tokio::runtime::Handle,
) -> Result<(Service, Described, Arc<dyn Clock>), Vec<Fault>> {
    let mut faults = Vec::new();
    let settings = config::load(source).map_err(|all| faults.extend(all)).ok();
    let root = source.get("FUNCTIONS_APP_ROOT_PATH").unwrap_or(".");
    let names = names(Path::new(root), source).map_err(|fault| faults.push(fault)).ok();
    if !config::storage::is_given(source) && !faults.iter().any(|fault| fault.setting == "AzureWebJobsStorage") {
        let missing = "is missing: the Functions host and this handler need a storage account";
        faults.push(Fault::hidden("AzureWebJobsStorage", missing));
    }
    let (Some(settings), Some(names)) = (settings, names) else { return Err(faults) };
    let Some(account) = &settings.account else { return Err(faults) };
    let described = settings.described.clone();
    let broken = |failure: crate::store::Failure| vec![Fault::hidden("AzureWebJobsStorage", failure.to_string())];
    let app = settings.app.clone().unwrap_or_else(|| "handler".to_owned());
    let storage = backends::azure(account, &names, &app).map_err(broken)?;
    let described = Described { storage: storage.described.clone(), app, ..described };
    log(&settings, &storage);
    // When an arrival was received is told by the clock that rows and timers go by.
    Ok((backends::service(settings, &storage, runtime.clone()), described, storage.clock()))
}

/// The names of queue and table for the app in `root`.
pub(super) fn names(root: &Path, source: &Source) -> Result<Names, Fault> {
    Names::read(root, source).map_err(|why| Fault::hidden("TimeoutCheck/function.json", why))
}

/// The effective settings and what is doubtful about them.
pub(super) fn log(settings: &Settings, storage: &Storage) {
    let Described { regions, timeout, correlation, targets, rules, retention, .. } = &settings.described;
    let storage = &storage.described;
    info!(
        regions = regions.join(","),
        timeout,
        correlation,
        targets = targets.join(","),
        rules = rules.join(","),
        retention,
        storage,
        "settings in effect"
    );
    for warning in &settings.warnings {
        warn!("{warning}");
    }
}

#[cfg(unix)]
fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// Where a parent cannot be asked for, it never changes.
#[cfg(not(unix))]
fn parent() -> u32 {
    0
}

/// Ends the process once its parent is no longer `known`. A thread of its own, so that nothing can hold it up.
fn watch(known: u32) {
    std::thread::spawn(move || {
        while parent() == known {
            std::thread::sleep(Duration::from_secs(1));
        }
        error!("the Functions host is gone; this handler ends itself");
        std::process::exit(1);
    });
}
