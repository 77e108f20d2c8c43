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

/// A level by its name in .NET or in Rust.
fn level(word: &str) -> Option<LevelFilter> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "information" | "info" => LevelFilter::INFO,
        "warning" | "warn" => LevelFilter::WARN,
        "error" | "critical" => LevelFilter::ERROR,
        "none" | "off" => LevelFilter::OFF,
        _ => return None,
    })
}

/// Reads a filter: a level, or `target=level` pairs. A word alone is never a target: left to itself, `tracing` takes a misspelt
/// level for one and logs nothing else.
///
/// # Errors
/// When a part of it is neither; says what would be right.
pub fn filter(text: &str) -> Result<Targets, String> {
    let path = |target: &str| {
        !target.is_empty() && target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
    };
    let read = text.split(',').try_fold(usual(), |targets, part| match part.split_once('=') {
        None => Some(targets.with_default(level(part)?)),
        Some((target, word)) if path(target.trim()) => Some(targets.with_target(target.trim(), level(word)?)),
        Some(_) => None,
    });
    read.ok_or_else(|| {
        format!(
            "WebhookLog = {text:?}: is no log level, so `info` is used; write trace, debug, info (Information), warn (Warning), \
             error (Error, Critical) or off (None), or for parts of the program such as `warn,global_webhook=debug`"
        )
    })
}

/// What is logged unless the settings say otherwise.
fn usual() -> Targets {
    Targets::new().with_default(Level::INFO)
}

/// Installs the log for the whole process. `wanted` is the setting `WebhookLog`.
///
/// # Errors
/// When `wanted` cannot be read; the log is then installed with its default.
pub fn install(under_host: bool, wanted: Option<&str>) -> Result<(), String> {
    let (targets, doubt) = match wanted.map(filter) {
        None => (usual(), Ok(())),
        Some(Ok(targets)) => (targets, Ok(())),
        Some(Err(why)) => (usual(), Err(why)),
    };
    let registry = tracing_subscriber::registry().with(quieted(&targets));
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
    doubt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_brings_out_what_the_storage_crates_say_of_headers() {
        for wanted in ["trace", "azure_core=trace", "azure_core::policies=trace", "azure=trace,hyper::client=debug"] {
            let targets = quieted(&filter(wanted).unwrap());
            for name in ["azure_core::policies::transport", "azure_core", "azure_data_tables::x", "hyper::client::conn"]
            {
                assert!(!targets.would_enable(name, &Level::INFO), "{wanted}: {name}");
                assert!(targets.would_enable(name, &Level::WARN), "{wanted}: {name}");
            }
        }
        let targets = quieted(&filter("Warning, global_webhook=Debug").unwrap());
        assert!(targets.would_enable("global_webhook::engine", &Level::DEBUG));
        assert!(!targets.would_enable("other", &Level::INFO));
    }

    #[test]
    fn case_b1_levels_have_two_names_and_nothing_else_is_one() {
        for (text, level) in [
            ("Trace", LevelFilter::TRACE),
            ("debug", LevelFilter::DEBUG),
            ("Information", LevelFilter::INFO),
            (" WARN ", LevelFilter::WARN),
            ("Warning", LevelFilter::WARN),
            ("Critical", LevelFilter::ERROR),
            ("off", LevelFilter::OFF),
            ("none", LevelFilter::OFF),
        ] {
            assert_eq!(quieted(&filter(text).unwrap()).default_level(), Some(level), "{text}");
        }
        for text in [
            "verbose",
            "\"info\"",
            "info,",
            "",
            "3",
            "global_webhook",
            "global-webhook=debug",
            "a=",
            "=info",
            "a=b=info",
        ] {
            assert!(filter(text).is_err(), "{text}");
        }
        // What nothing is said about stays as it is.
        assert!(filter("other=debug").unwrap().would_enable("global_webhook", &Level::INFO));
    }
}
