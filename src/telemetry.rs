//! Log set-up: JSON lines under the Functions host, plain text in a terminal.
//!
//! Under the host warnings and errors go to stderr, which it shows as such, everything else to stdout, which it shows as
//! information. Everywhere else all lines go to stderr, so that stdout is free for what a command prints.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Installs the log for the whole process. `filter` is the setting `WebhookLog`: a level, or `target=level` pairs.
///
/// # Errors
/// When `filter` cannot be read; the log is then installed with its default.
pub fn install(under_host: bool, filter: Option<&str>) -> Result<(), String> {
    // The storage crates print request headers at debug level, `authorization` included: they never get below info.
    let quiet = [
        "actix_server",
        "azure_core",
        "azure_data_tables",
        "azure_storage",
        "azure_storage_queues",
        "hyper",
        "reqwest",
    ];
    let wanted = filter.map(str::parse::<Targets>);
    let base = match &wanted {
        // A name inside of a quiet one would go before it, being longer.
        Some(Ok(targets)) => Targets::new()
            .with_default(targets.default_level().unwrap_or(LevelFilter::OFF))
            .with_targets(targets.clone().into_iter().filter(|(name, _)| !quiet.iter().any(|q| name.starts_with(q)))),
        Some(Err(_)) | None => Targets::new().with_default(Level::INFO),
    };
    // What strangers send that is not HTTP would be one error line each, which nobody can act on.
    let targets =
        base.with_targets(quiet.map(|name| (name, Level::WARN))).with_target("actix_http::h1", LevelFilter::OFF);
    let registry = tracing_subscriber::registry().with(targets);
    if under_host {
        let writer = std::io::stderr.with_max_level(Level::WARN).or_else(std::io::stdout);
        let lines =
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(writer);
        registry.with(lines).init();
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        registry.with(lines).init();
    }
    match wanted {
        Some(Err(why)) => Err(format!("WebhookLog = {:?} is not a log filter: {why}", filter.unwrap_or_default())),
        Some(Ok(_)) | None => Ok(()),
    }
}
