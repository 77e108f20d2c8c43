//! A process that writes to the embedded store is killed at random instants; whatever it was told is durable must be there.
//!
//! The writer is this test binary, started again with [`FILE`] set. It prints a line before it asks for something that
//! cannot be taken back and after each answer, so that what was on its way when it died is known to be either.
//! A kill proves that nothing waits in the process's memory; that the disk's cache was flushed only a power cut could show.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use global_webhook::push::PushId;
use global_webhook::store::{Expected, Put, Store};
use global_webhook::timers::{Inbox, Message, Timers};

use crate::embedded_file::open;
use crate::store_contract::{id, instant, row};
use crate::support::dice::Dice;
use crate::timers_contract::timer;

/// Names the file to the writing process, and makes it one.
const FILE: &str = "EMBEDDED_CRASH_FILE";
/// Prefix of the names it uses, different in each round.
const ROUND: &str = "EMBEDDED_CRASH_ROUND";

const ROUNDS: u64 = 20;
const WRITERS: u32 = 16;

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests beside it"]
async fn writer() {
    let Ok(file) = std::env::var(FILE) else { return };
    let round = std::env::var(ROUND).unwrap();
    let (store, timers) = open(Path::new(&file)).unwrap();
    let (store, timers) = (Arc::new(store), Arc::new(timers));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, timers, round) = (Arc::clone(&store), Arc::clone(&timers), round.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    write(&*store, &*timers, &format!("{round}/{writer}/{n}")).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// The life of one push: armed, inserted, replaced thrice, its timer shifted; every third is disarmed again.
async fn write(store: &dyn Store, timers: &dyn Timers, name: &str) {
    let push = id(name, 1);
    let armed = timers.arm(&timer(name), Duration::from_secs(3600)).await.unwrap();
    println!("armed {push}");
    let mut expected = Expected::Absent;
    for n in 0..4u32 {
        let payload = format!("{n} {}", "x".repeat(700 * (n as usize % 3)));
        let Put::Written(version) = store.put(&row(push.clone(), instant(0), &payload), &expected).await.unwrap()
        else {
            panic!("{name} conflicts");
        };
        println!("put {push} {n}");
        expected = Expected::Version(version);
    }
    let shifted = timers.shift(&armed, &timer(name), Duration::ZERO).await.unwrap().unwrap();
    println!("shifted {push}");
    if push.key.as_str().as_bytes()[0].is_multiple_of(3) {
        println!("disarming {push}");
        timers.disarm(&shifted).await.unwrap();
        println!("disarmed {push}");
    }
}

#[derive(Default)]
struct Told {
    rows: BTreeMap<PushId, u32>,
    armed: BTreeSet<PushId>,
    shifted: BTreeSet<PushId>,
    disarming: BTreeSet<PushId>,
    disarmed: BTreeSet<PushId>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(push) = words.get(1).and_then(|word| word.parse().ok()) else { return };
        match words[0] {
            "armed" => drop(self.armed.insert(push)),
            "shifted" => drop(self.shifted.insert(push)),
            "disarming" => drop(self.disarming.insert(push)),
            "disarmed" => drop(self.disarmed.insert(push)),
            "put" => {
                if let Some(n) = words.get(2).and_then(|word| word.parse().ok()) {
                    self.rows.insert(push, n);
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
    let first = lines.by_ref().find(|line| line.starts_with(b"armed ")).expect("the writer has written nothing");
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

async fn check(file: &Path, told: &mut Told) {
    let (store, timers) = open(file).unwrap();
    for (push, n) in &told.rows {
        let stored = store.get(push).await.unwrap().unwrap_or_else(|| panic!("{push} was answered and is gone"));
        let (found, _) = stored.row.payload.split_once(' ').unwrap();
        let found: u32 = found.parse().unwrap();
        // One more may have been written without the answer being heard.
        assert!(found == *n || found == n + 1, "{push}: {n} was answered, {found} is stored");
    }
    let mut live = BTreeSet::new();
    loop {
        let received = timers.receive(32, Duration::from_secs(3600)).await.unwrap();
        if received.is_empty() {
            break;
        }
        for received in received {
            let Some(Message::Timer(timer)) = Message::parse(received.text.as_deref().unwrap()) else {
                panic!("not a timer: {received:?}");
            };
            assert!(live.insert(timer.push), "two timers for one push");
        }
    }
    for push in &told.shifted {
        let disarming = told.disarming.contains(push);
        assert!(live.contains(push) || disarming, "{push}: its shifted timer is gone");
        assert!(!(live.contains(push) && told.disarmed.contains(push)), "{push}: its disarmed timer is back");
    }
    drop((store, timers));
    let connection = rusqlite::Connection::open(file).unwrap();
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
    // Those that were armed and not yet shifted are due in an hour: counted by their texts.
    let texts: Vec<String> = connection
        .prepare("SELECT text FROM timers")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let texts: BTreeSet<String> = texts.into_iter().collect();
    for push in told.armed.iter().filter(|push| !told.disarming.contains(push)) {
        assert!(texts.iter().any(|text| text.contains(&push.to_string())), "{push}: its timer is gone");
    }
    connection.execute_batch("DELETE FROM timers").unwrap();
    // Rows stay and are checked again after every later kill.
    *told = Told { rows: std::mem::take(&mut told.rows), ..Told::default() };
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let mut dice = Dice::thrown("kills of the embedded store");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let mut told = Told::default();
    let mut answers = 0;
    for round in 0..ROUNDS {
        let wait = Duration::from_micros(dice.below(120_000));
        run_and_kill(&file, round, wait, &mut told);
        answers += told.armed.len() + told.shifted.len();
        check(&file, &mut told).await;
    }
    println!("{} rows, {answers} timers", told.rows.len());
    assert!(told.rows.len() > 100, "too little was written to prove anything");
}
