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

/// The storage crates print request headers at debug level, `authorization` included: they never get below warnings.
const QUIET: [&str; 7] =
    ["actix_server", "azure_core", "azure_data_tables", "azure_storage", "azure_storage_queues", "hyper", "reqwest"];

/// `wanted` without what must not be logged.
fn quieted(wanted: &Targets) -> Targets {
    let quiet = |name: &str| QUIET.iter().any(|quiet| name.starts_with(quiet));
    Targets::new()
        .with_default(wanted.default_level().unwrap_or(LevelFilter::OFF))
        // A name inside of a quiet one would go before it, being longer.
        .with_targets(wanted.iter().filter(|(name, _)| !quiet(name)).map(|(name, level)| (name.to_owned(), level)))
        .with_targets(QUIET.map(|name| (name, Level::WARN)))
        // What strangers send that is not HTTP would be one error line each, which nobody can act on.
        .with_target("actix_http::h1", LevelFilter::OFF)
}

/// Installs the log for the whole process. `filter` is the setting `WebhookLog`: a level, or `target=level` pairs.
///
/// # Errors
/// When `filter` cannot be read; the log is then installed with its default.
pub fn install(under_host: bool, filter: Option<&str>) -> Result<(), String> {
    let wanted = filter.map(str::parse::<Targets>);
    let targets = match &wanted {
        Some(Ok(targets)) => quieted(targets),
        Some(Err(_)) | None => quieted(&Targets::new().with_default(Level::INFO)),
    };
    let registry = tracing_subscriber::registry().with(targets);
    if under_host {
        let writer = std::io::stderr.with_max_level(Level::WARN).or_else(std::io::stdout);
        // Without the name of the module: it would be a second member `target`, and hide the receiver's.
        let lines = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_target(false)
            .with_writer(writer);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_brings_out_what_the_storage_crates_say_of_headers() {
        for wanted in ["trace", "azure_core=trace", "azure_core::policies=trace", "azure=trace,hyper::client=debug"] {
            let targets = quieted(&wanted.parse().unwrap());
            for name in ["azure_core::policies::transport", "azure_core", "azure_data_tables::x", "hyper::client::conn"]
            {
                assert!(!targets.would_enable(name, &Level::INFO), "{wanted}: {name}");
                assert!(targets.would_enable(name, &Level::WARN), "{wanted}: {name}");
            }
        }
        let targets = quieted(&"warn,global_webhook=debug".parse().unwrap());
        assert!(targets.would_enable("global_webhook::engine", &Level::DEBUG));
        assert!(!targets.would_enable("other", &Level::INFO));
        assert!(quieted(&"off".parse().unwrap()).default_level() == Some(LevelFilter::OFF));
    }
}
