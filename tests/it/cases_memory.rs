//! D6: what large pushes and large answers take of the memory, in bytes, beside neighbours that hang. `NEIGHBOURS_LONG=1` for
//! the long form, whose 2100 pushes once took 600 MB, as 300 readers took 984 MB.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::neighbours::{Street, choose};
use crate::support::gate::{Gate, Mode};
use crate::support::service::{Image, LIMIT};
use crate::support::{eventually, pause};

/// Padding that makes a notification 250 KB large.
fn large(image: &Image) -> String {
    let notification = image.notification();
    let members = notification.strip_suffix('}').expect("an object");
    format!(r#"{members},"padding":"{}"}}"#, "x".repeat(250_000 - members.len()))
}

/// Pushes of 250 KB that are taken, and settle where `a` and `b` report.
async fn push_large(street: &Street, count: usize, regions: &[&str]) {
    let caller = street.serve.caller();
    let sent = futures_util::stream::iter(0..count).for_each_concurrent(8, |n| {
        let caller = caller.clone();
        async move {
            let image = Image::new("team/large", &format!("l{n}"));
            for region in regions {
                let answer = caller.post(region, large(&image)).await;
                assert_eq!(answer.expect("an answer").0, 202);
            }
        }
    });
    sent.await;
}

/// What is owed to a receiver that takes connections and says nothing is on record, not in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d6_large_pushes_owed_to_a_receiver_that_hangs() {
    let gate = Gate::to(([127, 0, 0, 1], 1).into(), Mode::Mute).await;
    let url = format!("http://127.0.0.1:{}/", gate.port());
    let street = Street::with(&[("WebhookTargetUrl", &url), ("WebhookTargetFormat", "standard")]).await;
    let count = choose(300, 2100);
    push_large(&street, count, &["a", "b"]).await;
    let caller = street.serve.caller();
    eventually("all are listed", LIMIT, async || caller.pushes().await.is_some_and(|all| all.len() >= count)).await;
    street.leave(&format!("{count} pushes of 250 KB owed to a receiver that hangs")).await;
}

/// Callers that ask for large answers and read none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d6_readers_that_never_read() {
    const READERS: usize = 300;
    let mut street = Street::new().await;
    push_large(&street, 60, &["a"]).await;
    let large = street.serve.caller().pushes().await.expect("a list");
    let closed = Arc::new(AtomicUsize::new(0));
    let paths: Arc<[String]> =
        large.iter().take(60).map(|id| format!("/api/pushes/{id}")).chain(["/api/pushes?limit=1000".into()]).collect();
    street
        .crowd(READERS, Duration::from_secs(choose(16, 40)), |n, door| {
            let (paths, closed) = (Arc::clone(&paths), Arc::clone(&closed));
            async move {
                loop {
                    let mut stream = door.enter().await;
                    for m in 0..24 {
                        let path = &paths[(n + m) % paths.len()];
                        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                        if stream.write_all(head.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                    // The beginning of another, until it is closed for us.
                    while stream.write_all(b"G").await.is_ok() {
                        pause(Duration::from_millis(200)).await;
                    }
                    closed.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await;
    let closed = closed.load(Ordering::Relaxed);
    assert!(closed > 0, "no reader was dropped");
    street.leave(&format!("{READERS} readers that never read ({closed} dropped)")).await;
}
