//! The command line: picks the mode and reads the arguments. Without a command, and with the variable the Functions host sets,
//! it is a custom handler.

mod azure;
mod client;
mod doctor;
mod handler;
mod health;
mod key;
mod operators;
mod receiver;
mod screen;
pub mod send;
mod serve;
mod signals;
mod table;
mod webhooks;

use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};
use tracing::debug;

use crate::config::{Fault, Source};
use crate::limits;

/// Port on which the Functions host expects its custom handler.
const PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// The package's version, with the commit where whoever built it named one, as `scripts/package` does. A plain build asks no git:
/// it works from an archive of the source, and a commit that changes no code makes nothing anew.
static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("GLOBAL_WEBHOOK_COMMIT") {
    Some(commit) if !commit.is_empty() => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
    Some(_) | None => env!("CARGO_PKG_VERSION").to_owned(),
});

/// One global webhook for a geo-replicated Azure Container Registry.
#[derive(Parser)]
#[command(name = "global-webhook", version = VERSION.as_str(), after_help = operators::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run alone, without a Functions host
    #[command(after_help = serve::HELP)]
    Serve(serve::Args),
    /// Send ACR-shaped notifications to a running service and follow what becomes of them
    #[command(after_help = send::HELP)]
    Send(send::Args),
    /// Receive global webhooks and print them
    #[command(after_help = receiver::HELP)]
    Receive(receiver::Args),
    #[command(flatten)]
    Operators(operators::Command),
    /// Create and check the registry's webhooks, one for each of its regions
    Webhooks(webhooks::Args),
    /// Say what is wrong with a deployment, what it means and what to do
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Args),
    /// Ask a running service whether it is well; the exit code says so
    #[command(after_help = health::HELP)]
    Health(health::Args),
}

/// Runs the program; the code is 0 for success, 2 for wrong settings or arguments, 1 for anything else, and where what it had to
/// say could not be written. Commands of operators have more, which their help says.
#[must_use]
pub fn main() -> ExitCode {
    let code = run();
    let Some(why) = screen::Output::lost() else { return code };
    complain(&format!(
        "error: Standard output could not be written: {why}. What the command printed is incomplete; make room there, or send it elsewhere."
    ));
    ExitCode::FAILURE
}

fn run() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| key::hide(error).exit());
    let source = Source::from_environment();
    match (cli.command, source.get(PORT).map(str::to_owned)) {
        (Some(Command::Serve(args)), _) => serve::main(args, source),
        (Some(Command::Send(args)), _) => send::main(args, &source),
        (Some(Command::Receive(args)), _) => receiver::main(&args),
        (Some(Command::Operators(command)), _) => operators::main(command, source),
        (Some(Command::Webhooks(args)), _) => webhooks::main(args, &source),
        (Some(Command::Doctor(args)), _) => doctor::main(args, &source),
        (Some(Command::Health(args)), _) => health::main(&args),
        (None, Some(port)) => handler::main(&port, source),
        (None, None) => {
            let help = Cli::command().render_help();
            complain(&format!(
                "{help}\nWithout a command this program is a custom handler, started by the Functions host (`func start`)."
            ));
            ExitCode::from(2)
        }
    }
}

/// The text for settings that cannot be used: all faults, one a line.
fn faults_text(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("- {fault}")).collect();
    format!("The settings cannot be used; correct these and restart:\n{}", lines.join("\n"))
}

/// `text` with `�` for what a terminal obeys rather than shows: escape sequences and other control characters, and those that
/// turn the direction of writing. Much of what is printed was said by strangers. Line ends stay.
fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

#[expect(clippy::print_stderr, reason = "a command's words to the person who ran it")]
fn complain(text: &str) {
    eprintln!("{text}");
}

/// Says why a command ends; with `code`.
fn ended(code: u8, why: &str) -> ExitCode {
    complain(&format!("error: {}", printable(why)));
    ExitCode::from(code)
}

/// Lets this process open as many connections as the system allows it, up to [`limits::DESCRIPTORS_MAX`]. Best effort: with
/// fewer the web server takes fewer connections.
fn raise_descriptor_limit() {
    if let Err(why) = rlimit::increase_nofile_limit(limits::DESCRIPTORS_MAX) {
        debug!(%why, "the limit of open files stays as it was");
    }
}

/// The runtime for storage, outgoing calls and everything else that must not depend on a web worker.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|why| format!("No runtime could be started: {why}."))
}
