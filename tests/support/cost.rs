//! What one push costs in storage requests: the service as a custom handler, and Azurite's access log. Blocking, and without
//! a Functions host, so that nothing polls and nothing else is in the log.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::azurite::Azurite;

const LIMIT: Duration = Duration::from_secs(60);

/// Pushes before a process counts as warm: by then its connections are open.
const WARM_UP: usize = 5;

/// Most requests of a push whose arrivals each meet a process that knows nothing.
pub(crate) fn cold_max(regions: usize) -> usize {
    2 * regions + 5
}

/// Most requests of a push in one process that has run for a while, whether its webhooks come one after the other or all at
/// the same instant.
pub(crate) fn warm_max(regions: usize) -> usize {
    regions + 6
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
            disarmed(azurite, &account, before);
        }
        sum += azurite.requests(&account).len() - before;
    }
    sum
}

/// When the webhooks of a push come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each after the answer to the one before.
    Apart,
    /// All at the same instant.
    AtOnce,
}

/// Requests of a push in a process that has run for a while; the most that any of `pushes` took.
pub(crate) fn warm(azurite: &Azurite, regions: usize, order: Order, pushes: usize) -> usize {
    let account = azurite.account();
    let handler = Handler::start(azurite, &account, regions, receiver());
    let one = || {
        let before = azurite.requests(&account).len();
        let image = uuid::Uuid::new_v4();
        match order {
            Order::Apart => (0..regions).for_each(|region| handler.push(region, &image)),
            Order::AtOnce => {
                let together = Barrier::new(regions);
                std::thread::scope(|scope| {
                    for region in 0..regions {
                        let (handler, together, image) = (&handler, &together, &image);
                        scope.spawn(move || {
                            let request = handler.connect(region, image);
                            together.wait();
                            request.send();
                        });
                    }
                });
            }
        }
        disarmed(azurite, &account, before);
        azurite.requests(&account).len() - before
    };
    for _ in 0..WARM_UP {
        one();
    }
    (0..pushes).map(|_| one()).max().expect("at least one push")
}

/// Waits until a timer has been deleted since the log had `before` lines: the last thing done for a push.
fn disarmed(azurite: &Azurite, account: &str, before: usize) {
    eventually("the timer of a confirmed push is deleted", || {
        azurite.requests(account)[before..].iter().any(|line| line.contains("DELETE"))
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
    /// Starts one and waits until it has begun to look after upkeep, which is the last that it does unasked: the note of it is
    /// written after its message, which nobody takes, since there is no host.
    fn start(azurite: &Azurite, account: &str, regions: usize, receiver: u16) -> Self {
        let notes = || azurite.requests(account).iter().filter(|line| is_note_of_upkeep(line)).count();
        let before = notes();
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
        eventually("the handler has armed upkeep", || notes() > before);
        handler
    }

    fn push(&self, region: usize, image: &uuid::Uuid) {
        self.connect(region, image).send();
    }

    /// A webhook that is about to be sent.
    fn connect(&self, region: usize, image: &uuid::Uuid) -> Request {
        let hex = image.simple();
        let body = format!(
            r#"{{"id":"{image}","timestamp":"2026-11-22T08:15:30Z","action":"push","target":{{"digest":"sha256:{hex}{hex}","repository":"team/shop","tag":"1"}},"request":{{"id":"{image}","host":"contoso.azurecr.io"}}}}"#
        );
        let text = format!(
            "POST /api/ImagePush?region=region{region} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Request { stream: TcpStream::connect(("127.0.0.1", self.port)).expect("the handler listens"), text }
    }
}

/// A webhook on a connection of its own.
struct Request {
    stream: TcpStream,
    text: String,
}

impl Request {
    fn send(mut self) {
        self.stream.write_all(self.text.as_bytes()).expect("a request");
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
}

/// The write of upkeep's own note. The first one inserts it, and an insert names no key; nothing else is inserted before the
/// first push.
fn is_note_of_upkeep(line: &str) -> bool {
    let inserted = line.contains("\"POST ") && line.contains("/GlobalWebhook HTTP");
    let replaced = line.contains("\"PUT ") && line.contains("RowKey='upkeep'");
    inserted || replaced
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
