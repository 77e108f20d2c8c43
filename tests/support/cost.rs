//! What one push costs in storage requests: the service as a custom handler, and Azurite's access log. Blocking, and without
//! a Functions host, so that nothing polls and nothing else is in the log.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::azurite::Azurite;

const LIMIT: Duration = Duration::from_secs(60);

/// More pushes than a process must see before it takes itself for the only one (16).
const WARM_UP: usize = 20;

/// Most requests of a push whose arrivals each meet a process that knows nothing.
pub(crate) fn cold_max(regions: usize) -> usize {
    2 * regions + 5
}

/// Most requests of a push in one process that has run for a while.
pub(crate) fn warm_max(regions: usize) -> usize {
    regions + 5
}

/// Requests of a push of which every arrival meets a fresh process.
pub(crate) fn cold(azurite: &Azurite, regions: usize) -> usize {
    let account = azurite.account();
    let receiver = receiver();
    let image = uuid::Uuid::new_v4();
    let mut sum = 0;
    for region in 0..regions {
        let handler = Handler::start(azurite, &account, regions, receiver);
        let before = azurite.requests(&account).len();
        handler.push(region, &image);
        if region + 1 == regions {
            disarmed(azurite, &account, before, 1);
        }
        sum += azurite.requests(&account).len() - before;
    }
    sum
}

/// Requests of a push in a process that has run for a while; the most that any of `pushes` took.
pub(crate) fn warm(azurite: &Azurite, regions: usize, pushes: usize) -> usize {
    let account = azurite.account();
    let handler = Handler::start(azurite, &account, regions, receiver());
    let one = || {
        let before = azurite.requests(&account).len();
        let image = uuid::Uuid::new_v4();
        for region in 0..regions {
            handler.push(region, &image);
        }
        disarmed(azurite, &account, before, 1);
        azurite.requests(&account).len() - before
    };
    for _ in 0..WARM_UP {
        one();
    }
    (0..pushes).map(|_| one()).max().expect("at least one push")
}

/// Waits until `count` timers have been deleted since the log had `before` lines: the last thing done for a push.
fn disarmed(azurite: &Azurite, account: &str, before: usize, count: usize) {
    eventually("the timer of a confirmed push is deleted", || {
        let log = azurite.requests(account);
        log[before..].iter().filter(|line| line.contains("DELETE")).count() >= count
    });
}

/// A receiver that confirms everything, one connection after the other. Its port.
fn receiver() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut some = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut some) {
                    seen.extend_from_slice(&some[..length]);
                    // The notification is the registry's JSON, which ends in two braces.
                    if seen.ends_with(b"}}") {
                        seen.clear();
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    port
}

/// A custom handler without a host. Dropping it kills it.
struct Handler {
    child: Child,
    port: u16,
}

impl Handler {
    /// Starts one and waits until it has made its storage ready, the look into the poison queue included.
    fn start(azurite: &Azurite, account: &str, regions: usize, receiver: u16) -> Self {
        let looks = || azurite.requests(account).iter().filter(|line| line.contains("-poison/messages")).count();
        let before = looks();
        let port = super::free_port();
        let names: Vec<String> = (0..regions).map(|r| format!("region{r}")).collect();
        let child = Command::new(env!("CARGO_BIN_EXE_global-webhook"))
            .env_clear()
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("AzureWebJobsStorage", account)
            .env("WebhookRegions", names.join(","))
            .env("WebhookTimeout", "1:0:0")
            .env("WebhookTargetUrl", format!("http://127.0.0.1:{receiver}/"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the handler starts");
        let handler = Self { child, port };
        eventually("the handler is ready", || looks() > before);
        handler
    }

    fn push(&self, region: usize, image: &uuid::Uuid) {
        let hex = image.simple();
        let body = format!(
            r#"{{"id":"{image}","timestamp":"2026-11-22T08:15:30Z","action":"push","target":{{"digest":"sha256:{hex}{hex}","repository":"team/shop","tag":"1"}},"request":{{"id":"{image}","host":"contoso.azurecr.io"}}}}"#
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the handler listens");
        write!(
            stream,
            "POST /api/ImagePush?region=region{region} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
