//! `health`: asks a running service whether it is well. It is the health check of a container whose image has no other program.
//!
//! Guarantees: it ends within `--timeout`, says nothing where all is well, and goes through no proxy.

use std::process::ExitCode;
use std::time::Duration;

use reqwest::{Client, Url, redirect};

use super::{complain, runtime};

/// The end of the command's help.
pub(super) const HELP: &str = "\
Examples:
  global-webhook health
  global-webhook health --url http://127.0.0.1:8080/readyz --timeout 1s

Exit codes:
  0  well
  1  not well, or no answer
  2  wrong arguments";

/// Arguments of `health`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Address to ask: /livez says that the process works, /readyz that it has reached its storage and is not about to end
    #[arg(long, default_value = "http://127.0.0.1:7071/livez")]
    url: Url,
    /// Longest time to wait for the answer, such as 500ms or 3s
    #[arg(long, default_value = "3s", value_parser = crate::config::timespan::with_unit)]
    timeout: Duration,
}

/// 0 when the answer is a success, 1 otherwise.
pub(super) fn main(args: &Args) -> ExitCode {
    match ask(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

fn ask(args: &Args) -> Result<(), String> {
    // The certificates of the system are some 150 files, and it is asked every few seconds in the clear.
    let plain = args.url.scheme() == "http";
    let client = Client::builder()
        .tls_built_in_root_certs(!plain)
        .timeout(args.timeout)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|_| "No HTTP client can be set up on this machine.".to_owned())?;
    match runtime()?.block_on(async { client.get(args.url.clone()).send().await }) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("Not well: the answer is {}.", answer.status().as_u16())),
        Err(e) if e.is_timeout() => Err(format!("Not well: no answer within {:?}.", args.timeout)),
        Err(e) if e.is_connect() => Err("Not well: nothing listens at that address.".into()),
        // The address may have a password in it.
        Err(e) => Err(format!("Not well: {}.", e.without_url())),
    }
}
