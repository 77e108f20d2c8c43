//! The one binary: a custom handler when the Functions host starts it, a command line otherwise.

use std::process::ExitCode;

/// Every step makes its next row as a value, on whichever thread the runtime chose: many small allocations, freed elsewhere.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    global_webhook::cli::main()
}
