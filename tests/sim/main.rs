//! Seeded simulation: the real engine, the real state machine and the real Azure side in several processes, over a table, a
//! queue and receivers that fail in every way their contracts allow; or over the plainest store that does a step in one
//! transaction. One thread, a clock of its own, no runtime: a seed decides everything, so a seed is a bug report.
//!
//! - `cargo test --test sim` runs 200 seeds. `SIM_SEED=n` replays one and prints its trace, `SIM_SEEDS=a..b` runs a range.
//! - `tests/sim/mutants.py` breaks the code on purpose, one patch at a time, and shows that each break is found.

#![expect(clippy::unwrap_used, reason = "a test program: it fails by panicking")]

mod azure;
mod checks;
mod desk;
mod faults;
mod hands;
mod model;
mod naive;
mod one_file;
mod plan;
mod processes;
mod report;
mod stories;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use report::Report;
use world::World;

/// Runs `seed`; what went wrong, if anything did.
fn run(seed: u64, trace: bool) -> (Result<Report, String>, String) {
    let world = World::new(seed, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).into()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    (result, world.take_trace())
}

fn range() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return 0..200 };
    let (from, to) = text.split_once("..").expect("SIM_SEEDS=a..b");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        println!("seed {seed}");
        let (result, trace) = run(seed.parse().unwrap(), true);
        println!("{trace}");
        println!("{result:?}");
        assert!(result.is_ok(), "seed {seed} fails");
        return;
    }
    let seeds = range();
    println!("seeds {}..{}", seeds.start, seeds.end);
    let began = std::time::Instant::now();
    let mut total = Report::default();
    for seed in seeds.clone() {
        match run(seed, false).0 {
            Ok(report) => total.add(&report),
            Err(cause) => {
                let (_, trace) = run(seed, true);
                let lines: Vec<&str> = trace.lines().collect();
                println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
                panic!(
                    "seed {seed} after {}: {cause}\nreplay: SIM_SEED={seed} cargo test --test sim every_seed -- --nocapture",
                    seed - seeds.start
                );
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |n: u64| n as f64 / seconds;
    println!("{total:?}");
    println!("{:.0} seeds/s, {:.0} pushes/s, {seconds:.1} s", rate(seeds.end - seeds.start), rate(total.pushes));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let (first, second) = (run(seed, true).1, run(seed, true).1);
        assert!(!first.is_empty(), "seed {seed} did nothing");
        assert!(first == second, "seed {seed} ran differently the second time");
    }
}
