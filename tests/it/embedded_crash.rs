//! A process that writes to the embedded store is killed at random instants; whatever it was told is durable must be there.
//!
//! The writer is this test binary, started again with [`FILE`] set. It prints a line after each answer, so that what was on
//! its way when it died is known to be either. A kill proves that nothing waits in the process's memory; that the disk's cache
//! was flushed only a power cut could show.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use global_webhook::clock::{Clock as _, Instant, SystemClock, after};
use global_webhook::push::{Change, Did, PushId, Row};
use global_webhook::store::embedded::EmbeddedStore;
use global_webhook::store::{Store as _, Wakes as _, Which};

use crate::embedded_file::open;
use crate::samples::{asking, decided, id, instant, owing, purged, putting, row, settled};
use crate::support::dice::Dice;

/// Names the file to the writing process, and makes it one.
const FILE: &str = "EMBEDDED_CRASH_FILE";
/// Prefix of the names it uses, different in each round.
const ROUND: &str = "EMBEDDED_CRASH_ROUND";

const ROUNDS: u64 = 20;
const WRITERS: u32 = 16;

/// The steps of a push's life. Each leaves its number in the row.
const STEPS: u32 = 7;

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests beside it"]
async fn writer() {
    let Ok(file) = std::env::var(FILE) else { return };
    let round = std::env::var(ROUND).unwrap();
    let store = Arc::new(open(Path::new(&file)).unwrap());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, round) = (Arc::clone(&store), round.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    live(&store, &format!("{round}/{writer}/{n}")).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// The row after a step, and whether it is due by then: waiting, due, waiting for longer, owing now, owing later, owing
/// nothing, purged.
fn after_step(name: &str, step: u32, now: Instant) -> Row {
    let later = after(now, Duration::from_secs(3600));
    let plain = Row { rule: Some(step.to_string()), ..row(id(name, 1), instant(0), &"x".repeat(700)) };
    match step {
        0 | 2 => Row { deadline: later, ..plain },
        1 => plain,
        3 => owing(plain, instant(0)),
        4 => owing(plain, later),
        5 => settled(plain, Vec::new()),
        _ => purged(plain, now),
    }
}

fn is_due_after(step: u32) -> bool {
    matches!(step, 1 | 3)
}

async fn live(store: &EmbeddedStore, name: &str) {
    let push = id(name, 1);
    for step in 0..STEPS {
        let next = after_step(name, step, SystemClock.now());
        store.apply(&Which::Newest(push.key.clone()), putting(&next)).await.unwrap();
        println!("put {push} {step}");
    }
    // Every third goes altogether.
    if push.key.as_str().as_bytes()[0].is_multiple_of(3) {
        let removing = asking(|_, _| decided(Did::Removed, Change::Remove));
        println!("removing {push}");
        store.apply(&Which::Push(push.clone()), removing).await.unwrap();
        println!("removed {push}");
    }
}

#[derive(Default)]
struct Told {
    /// The last step that was answered.
    steps: BTreeMap<PushId, u32>,
    removing: BTreeSet<PushId>,
    removed: BTreeSet<PushId>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(push) = words.get(1).and_then(|word| word.parse().ok()) else { return };
        match words[0] {
            "removing" => drop(self.removing.insert(push)),
            "removed" => drop(self.removed.insert(push)),
            "put" => {
                if let Some(step) = words.get(2).and_then(|word| word.parse().ok()) {
                    self.steps.insert(push, step);
                }
            }
            _ => {}
        }
    }
}

/// Starts a writer, kills it `wait` after its first answer, and adds what it was told.
fn run_and_kill(file: &Path, round: u64, wait: Duration, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "embedded_crash::writer", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n').map(|line| line.unwrap());
    let first = lines.by_ref().find(|line| line.starts_with(b"put ")).expect("the writer has written nothing");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(wait);
        child.kill().unwrap();
        child.wait().unwrap()
    });
    let mut heard = vec![first];
    heard.extend(lines);
    let status = killer.join().unwrap();
    assert_eq!(status.code(), None, "the writer ended by itself");
    // The last line may be torn: it then says less, never something else.
    for line in heard {
        told.hear(&String::from_utf8(line).unwrap());
    }
}

/// The step that a push has come to, if it is there.
async fn step_of(store: &EmbeddedStore, push: &PushId) -> Option<u32> {
    let seen = Arc::new(std::sync::Mutex::new(None));
    let look = asking({
        let seen = Arc::clone(&seen);
        move |row, _| {
            *seen.lock().unwrap() = row.map(|row| row.rule.as_ref().unwrap().parse().unwrap());
            decided(Did::Idle, Change::None)
        }
    });
    store.apply(&Which::Push(push.clone()), look).await.unwrap();
    seen.lock().unwrap().take()
}

async fn check(file: &Path, told: &Told) {
    let store = open(file).unwrap();
    let mut due = BTreeSet::new();
    for push in store.due(1_000_000).await.unwrap() {
        assert!(due.insert(push), "due twice");
    }
    for (push, answered) in &told.steps {
        let found = step_of(&store, push).await;
        let Some(found) = found else {
            assert!(told.removing.contains(push), "{push} was answered and is gone");
            continue;
        };
        assert!(!told.removed.contains(push), "{push} was removed and is back");
        // One more may have been written without the answer being heard.
        assert!(found == *answered || found == answered + 1, "{push}: {answered} was answered, {found} is stored");
        assert_eq!(due.contains(push), is_due_after(found), "{push}: the row and its wake disagree at {found}");
        let shown = store.get(&Which::Push(push.clone())).await.unwrap().is_some();
        assert_eq!(shown, found + 1 < STEPS, "{push}");
    }
    drop(store);
    let connection = rusqlite::Connection::open(file).unwrap();
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let mut dice = Dice::thrown("kills of the embedded store");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    // Rows stay and are checked again after every later kill.
    let mut told = Told::default();
    for round in 0..ROUNDS {
        let wait = Duration::from_micros(dice.below(120_000));
        run_and_kill(&file, round, wait, &mut told);
        check(&file, &told).await;
    }
    println!("{} pushes, {} of them removed", told.steps.len(), told.removed.len());
    assert!(told.steps.len() > 100, "too little was written to prove anything");
}
