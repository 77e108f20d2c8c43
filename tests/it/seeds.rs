//! The seeds of the fuzz targets, pushed through the same checks: what the fuzzer once found stays found, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fuzz_checks::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).expect("a folder");
    let name =
        |entry: fs::DirEntry| Path::new(&entry.file_name()).file_stem().expect("a name").to_string_lossy().into_owned();
    entries.map(|entry| name(entry.expect("an entry"))).collect()
}

#[test]
fn every_seed_keeps_the_promises() {
    let mut total = 0;
    for (target, check) in TARGETS {
        let mut seeds: Vec<PathBuf> = fs::read_dir(fuzz().join("seeds").join(target))
            .expect("seeds")
            .map(|e| e.expect("a seed").path())
            .collect();
        seeds.sort();
        assert!(seeds.len() >= 3, "{target} has {} seeds", seeds.len());
        for seed in seeds {
            let data = fs::read(&seed).expect("a seed");
            total += data.len();
            // Shown when the check fails.
            println!("{}", seed.display());
            assert!(check(&data), "a seed of another form than the target's inputs");
        }
        for edge in [&b""[..], b"\n", b"{}", b"\xff\xfe"] {
            let _ = check(edge);
        }
    }
    assert!(total < 200 * 1024, "the seeds have {total} bytes together");
}

#[test]
fn every_target_has_checks_and_seeds() {
    let checked: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), checked);
    assert_eq!(names("seeds"), checked);
}
