//! Rules of the house that a reader relies on, held against the source itself.

use std::path::{Path, PathBuf};

/// Every source file under a folder, with its text up to its tests.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.contains("_tests") && !name.starts_with("step_") {
                let text = std::fs::read_to_string(&path).unwrap();
                let own = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                found.push((path, own));
            }
        }
    }
    assert!(!found.is_empty(), "nothing under {folders:?}");
    found
}

/// What stands after `crate::` wherever a file uses something of ours.
fn uses(text: &str) -> impl Iterator<Item = &str> {
    text.split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

#[test]
fn what_decides_is_pure() {
    for (path, text) in sources("src/push") {
        let foreign: Vec<&str> = uses(&text).filter(|used| !["push", "clock", "limits"].contains(used)).collect();
        assert!(foreign.is_empty(), "{} uses {foreign:?}", path.display());
        for word in ["async ", "tokio", "std::fs", "std::env", "Utc::now", "SystemTime", "rand", "uuid", "tracing"] {
            assert!(!text.contains(word), "{} holds `{word}`", path.display());
        }
        assert!(!text.contains("Clock,") && !text.contains("dyn Clock"), "{} asks for the time", path.display());
    }
}

#[test]
fn what_judges_a_deployment_asks_nobody() {
    for (path, text) in sources("src/doctor") {
        for word in
            ["async ", "tokio", "std::fs", "std::env", "Utc::now", "SystemClock", "dyn Clock", "reqwest::Client"]
        {
            assert!(!text.contains(word), "{} holds `{word}`", path.display());
        }
    }
}

#[test]
fn settings_and_receivers_do_not_import_each_other() {
    for (path, text) in sources("src/notify") {
        assert!(!uses(&text).any(|used| used == "config"), "{}", path.display());
    }
}

#[test]
fn the_core_knows_no_timer_and_no_version() {
    for (path, text) in sources("src/push").into_iter().chain(sources("src/engine")) {
        for word in ["Ticket", "TimerRef", "PopReceipt", "pop_receipt", "Expected::", "etag", "ETag"] {
            assert!(!text.contains(word), "{} holds `{word}`", path.display());
        }
    }
}

#[test]
fn one_word_for_each_thing() {
    // The glossary's other names, and those that differ by a letter or say nothing.
    let banned = [
        "enum What",
        "enum Of",
        "struct Held",
        "enum Arrive ",
        "struct Arrived",
        "enum Notification",
        "struct Notification",
        "mod journal",
        "janitor",
        "dead letter",
        "dead_letter",
        "correlation_id",
        "struct Job_",
        "sweep",
    ];
    for (path, text) in sources("src") {
        // The documents tell of outgoing ones, which is what the word means.
        let outgoing = path.ends_with("src/api/push.rs");
        for word in banned.into_iter().filter(|word| !(outgoing && word.ends_with("Notification"))) {
            assert!(!text.contains(word), "{} holds `{word}`", path.display());
        }
    }
    for name in ["utils", "helpers", "types", "common", "misc"] {
        let named = |path: &Path| path.file_stem().is_some_and(|stem| stem == name);
        assert!(!sources("src").iter().any(|(path, _)| named(path)), "a file is called {name}");
    }
}
