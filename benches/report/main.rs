//! The benchmarks: one command prints the whole table, each measure beside its floor, taken in the same run and in turns.
//!
//! `cargo bench` runs all of it; `cargo bench -- short` a fast form of it; further words choose measures by the beginning of
//! their names (`cargo bench -- arrivals start`).
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a measurement that cannot be made ends in a panic, and its result is what it prints"
)]

mod arrivals;
mod bare_storage;
mod footprint;
mod images;
mod latency;
mod lists;
mod load;
mod process;
mod receiver;
mod removal;
mod requests;
mod roles;
mod table;

#[path = "../../tests/support/azurite.rs"]
#[allow(dead_code, reason = "shared with the tests, used in part")]
mod azurite;
#[path = "../../tests/support/cost.rs"]
mod cost;
#[path = "../../tests/support/ports.rs"]
mod ports;

use std::path::Path;
use std::time::Duration;

// The shared support asks its parent for one.
use ports::free_port;

/// The allocator of the binary that ships, here for the floors as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Seconds instead of minutes; the figures then only show that everything runs.
    pub(crate) short: bool,
    /// Alternating rounds of floor and service.
    pub(crate) rounds: usize,
}

impl Effort {
    /// `full`, or `short` in the short form.
    pub(crate) fn of(self, full: usize, short: usize) -> usize {
        if self.short { short } else { full }
    }
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "what is measured happens in real time")]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A folder on the disk of the build, for stores.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    if let [role, name, port, folder] = &words[..]
        && role == "--role"
    {
        return roles::run(name, port.parse().expect("a port"), Path::new(folder));
    }
    let short = words.iter().any(|w| w == "short");
    let chosen: Vec<&String> = words.iter().filter(|w| *w != "short").collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|w| name.starts_with(w.as_str()));
    let effort = Effort { short, rounds: if short { 1 } else { 5 } };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    table::print_head();
    runtime.block_on(async {
        if wanted("requests") {
            requests::per_push(effort);
        }
        if wanted("lists") {
            lists::pages(effort).await;
        }
        if wanted("arrivals-embedded") {
            arrivals::embedded(effort).await;
        }
        if wanted("arrivals-azurite") {
            arrivals::azurite(effort).await;
        }
        if wanted("arrivals-memory") {
            arrivals::memory(effort).await;
        }
        if wanted("notified-embedded") {
            latency::notified_embedded(effort).await;
        }
        if wanted("notified-azurite") {
            latency::notified_azurite(effort).await;
        }
        if wanted("deadline-embedded") {
            latency::deadline_embedded(effort).await;
        }
        if wanted("deadline-queue") {
            latency::deadline_queue(effort).await;
        }
        if wanted("removal-requests") {
            removal::requests(effort).await;
        }
        if wanted("removal-embedded") {
            removal::beside_arrivals(effort).await;
        }
        if wanted("removal-room") {
            removal::room(effort).await;
        }
        if wanted("start") {
            footprint::start(effort).await;
        }
        if wanted("memory") {
            footprint::memory(effort).await;
        }
        if wanted("size") {
            footprint::size();
        }
    });
    // The emulator ends with the pipe that this process holds.
}
