//! How much the embedded store adds to a bare group-committed insert. By hand: `cargo test --release --test it speed -- --ignored --nocapture`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Stopwatch};

use global_webhook::store::{Expected, Put, Store};
use global_webhook::timers::Timers;
use tokio::sync::{mpsc, oneshot};

use crate::embedded_file::open;
use crate::store_contract::{id, instant, row};
use crate::timers_contract::timer;

const CALLERS: usize = 64;
const MEASURED: Duration = Duration::from_secs(4);

/// Calls `one` from [`CALLERS`] tasks for [`MEASURED`]; calls per second.
async fn rate<F: Future<Output = ()> + Send>(one: impl Fn(u64) -> F + Send + Sync + 'static) -> f64 {
    let (one, stop, done, next) =
        (Arc::new(one), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (one, stop, done, next) = (Arc::clone(&one), Arc::clone(&stop), Arc::clone(&done), Arc::clone(&next));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    one(next.fetch_add(1, Ordering::Relaxed)).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let began = Stopwatch::now();
    std::thread::sleep(MEASURED);
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    rate
}

type Insert = (String, String, oneshot::Sender<()>);

fn bare(path: &Path) -> mpsc::Sender<Insert> {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (id TEXT PRIMARY KEY, body TEXT)",
        )
        .unwrap();
    let (send, mut receive) = mpsc::channel::<Insert>(1024);
    std::thread::spawn(move || {
        let mut batch = Vec::new();
        while receive.blocking_recv_many(&mut batch, 512) > 0 {
            connection.execute_batch("BEGIN").unwrap();
            for (id, body, _) in &batch {
                connection.prepare_cached("INSERT INTO t VALUES (?1, ?2)").unwrap().execute([id, body]).unwrap();
            }
            connection.execute_batch("COMMIT").unwrap();
            batch.drain(..).for_each(|(.., reply)| reply.send(()).unwrap());
        }
    });
    send
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    let folder = tempfile::tempdir_in(std::env::var("SPEED_FOLDER").unwrap_or_else(|_| ".".into())).unwrap();
    for round in 0..3 {
        let send = bare(&folder.path().join(format!("bare{round}.db")));
        let insert = rate(move |n| {
            let send = send.clone();
            async move {
                let push = id(&n.to_string(), 1);
                let body =
                    global_webhook::push::record::encode(&row(push.clone(), instant(n as i64), &"x".repeat(600)));
                let (reply, answer) = oneshot::channel();
                send.send((push.to_string(), body, reply)).await.unwrap();
                answer.await.unwrap();
            }
        })
        .await;

        let (store, timers) = open(&folder.path().join(format!("ours{round}.db"))).unwrap();
        let (store, timers) = (Arc::new(store), Arc::new(timers));
        let s = Arc::clone(&store);
        let put = rate(move |n| {
            let store = Arc::clone(&s);
            async move {
                let row = row(id(&n.to_string(), 1), instant(n as i64 / 10), &"x".repeat(600));
                let end = store.put(&row, &Expected::Absent).await.unwrap();
                assert!(matches!(end, Put::Written(_)));
            }
        })
        .await;
        let t = Arc::clone(&timers);
        let arm = rate(move |n| {
            let timers = Arc::clone(&t);
            async move { drop(timers.arm(&timer(&n.to_string()), Duration::from_secs(120)).await.unwrap()) }
        })
        .await;
        let (s, t) = (Arc::clone(&store), Arc::clone(&timers));
        let both = rate(move |n| {
            let (store, timers) = (Arc::clone(&s), Arc::clone(&t));
            async move {
                let row = row(id(&format!("b{n}"), 1), instant(n as i64 / 10), &"x".repeat(600));
                timers.arm(&timer(&n.to_string()), Duration::from_secs(120)).await.unwrap();
                store.put(&row, &Expected::Absent).await.unwrap();
            }
        })
        .await;
        let s = Arc::clone(&store);
        let get = rate(move |n| {
            let store = Arc::clone(&s);
            async move { assert!(store.get(&id(&(n % 4096).to_string(), 1)).await.unwrap().is_some()) }
        })
        .await;
        println!(
            "bare insert {insert:.0}/s, put {put:.0}/s ({:.2}), arm {arm:.0}/s, arm and put {both:.0}/s ({:.2}), get {get:.0}/s",
            insert / put,
            insert / both
        );
    }
}
