//! The one binary: a custom handler when the Functions host starts it, a command line otherwise.

use std::process::ExitCode;

fn main() -> ExitCode {
    global_webhook::cli::main()
}
