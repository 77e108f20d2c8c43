//! Bare requests to Azurite: the very mix that a push of two regions needs, over kept connections, with nothing around them.
//! Authorised by a shared access signature made once, so that not even the signing counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

use crate::load::Client;

/// Requests of one push of two regions: read, index, arm, insert; shift, update; confirm, disarm.
pub(crate) const REQUESTS_PER_PUSH: usize = 8;

/// Bytes of a row beside its keys, as the service's own.
const ROW_BYTES: usize = 1300;

const TABLE: &str = "Bare";
const QUEUE: &str = "bare";

/// A push whose last region has its answer.
struct Settled {
    key: String,
    etag: String,
    /// The path of its timer, and the receipt that allows to delete it.
    timer: String,
    receipt: String,
}

/// An account of Azurite.
#[derive(Clone)]
pub(crate) struct Account {
    name: String,
    signature: String,
    tables: u16,
    queues: u16,
}

impl Account {
    /// Reads a connection string and makes the table and the queue.
    pub(crate) async fn open(connection_string: &str, tables: u16, queues: u16) -> Self {
        let part = |name: &str| {
            connection_string.split(';').find_map(|p| p.strip_prefix(name)).expect("a connection string").to_owned()
        };
        let (name, key) = (part("AccountName="), part("AccountKey="));
        let account = Self { signature: signature(&name, &key), name, tables, queues };
        let (mut tables, mut queues) = account.connect().await;
        let body = format!(r#"{{"TableName":"{TABLE}"}}"#);
        account.send(&mut tables, "POST", "/Tables", "", "", &body).await;
        account.send(&mut queues, "PUT", &format!("/{QUEUE}"), "", "", "").await;
        account
    }

    async fn connect(&self) -> (Client, Client) {
        let tables = Client::connect(self.tables).await.expect("tables");
        (tables, Client::connect(self.queues).await.expect("queues"))
    }

    /// Sends one request; head and body of its answer.
    async fn send(
        &self,
        client: &mut Client,
        verb: &str,
        path: &str,
        query: &str,
        headers: &str,
        body: &str,
    ) -> (String, String) {
        let Self { name, signature, .. } = self;
        let kind = if body.starts_with('<') { "application/xml" } else { "application/json" };
        let request = format!(
            "{verb} /{name}{path}?{signature}{query} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-ms-version: 2022-11-02\r\naccept: application/json\r\ncontent-type: {kind}\r\nprefer: return-no-content\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = client.ask(request.as_bytes()).await.expect("an answer");
        assert!((200..300).contains(&answer.status), "{verb} {path}: {} {}", answer.status, answer.body);
        (answer.head.to_owned(), answer.body.to_owned())
    }

    /// Time of one small write, alone.
    pub(crate) async fn request_times(&self, count: usize) -> Vec<Duration> {
        let (mut tables, _) = self.connect().await;
        let mut times = Vec::new();
        for _ in 0..count {
            let key = uuid::Uuid::new_v4().simple().to_string();
            let began = Instant::now();
            self.insert(&mut tables, &key).await;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        times
    }

    async fn insert(&self, tables: &mut Client, key: &str) -> String {
        let (head, _) = self.send(tables, "POST", &format!("/{TABLE}"), "", "", &row(key)).await;
        header(&head, "etag")
    }

    /// `pushes` pushes for each of `callers`, one after the other; what comes after a push's last answer is done beside the
    /// next push, as the service does it. The time until all is done.
    pub(crate) async fn pushes(&self, callers: usize, pushes: usize) -> Duration {
        let mut connections = Vec::new();
        for _ in 0..callers {
            connections.push((self.connect().await, self.connect().await));
        }
        let began = Instant::now();
        let mut tasks = Vec::new();
        for ((mut tables, mut queues), (mut later_tables, mut later_queues)) in connections {
            let (answered, mut rest) = mpsc::unbounded_channel();
            let account = self.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..pushes {
                    let settled = account.until_answered(&mut tables, &mut queues).await;
                    answered.send(settled).expect("the task below");
                }
            }));
            let account = self.clone();
            tasks.push(tokio::spawn(async move {
                while let Some(settled) = rest.recv().await {
                    account.after_the_answer(settled, &mut later_tables, &mut later_queues).await;
                }
            }));
        }
        for task in tasks {
            task.await.expect("a caller");
        }
        began.elapsed()
    }

    /// What both regions wait for: read, index, arm, insert; shift, update.
    async fn until_answered(&self, tables: &mut Client, queues: &mut Client) -> Settled {
        let key = uuid::Uuid::new_v4().simple().to_string();
        // Whether the push is known: the first of a range, as the newest round of a key.
        let filter = format!("PartitionKey eq '{key}' and RowKey ge '1' and RowKey lt '2'");
        let filter: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let first = format!("&$top=1&$filter={}", filter.replace('+', "%20"));
        self.send(tables, "GET", &format!("/{TABLE}()"), &first, "", "").await;
        let index = format!("/{TABLE}(PartitionKey='index',RowKey='{key}')");
        let small = format!(r#"{{"PartitionKey":"index","RowKey":"{key}"}}"#);
        self.send(tables, "MERGE", &index, "", "", &small).await;
        let message = format!(
            "<QueueMessage><MessageText>{}</MessageText></QueueMessage>",
            STANDARD.encode(format!(
                r#"{{"v":1,"push":"{key}12345678-1","due":"2026-11-22T10:00:00Z","reason":"deadline"}}"#
            ))
        );
        let put = "&visibilitytimeout=3600&messagettl=-1";
        let (_, put) = self.send(queues, "POST", &format!("/{QUEUE}/messages"), put, "", &message).await;
        let etag = self.insert(tables, &key).await;
        let place = format!("/{QUEUE}/messages/{}", member(&put, "MessageId"));
        let receipt = |receipt: &str| form_urlencoded::byte_serialize(receipt.as_bytes()).collect::<String>();
        let shift = format!("&popreceipt={}&visibilitytimeout=45", receipt(&member(&put, "PopReceipt")));
        let (head, _) = self.send(queues, "PUT", &place, &shift, "", &message).await;
        let receipt = receipt(&header(&head, "x-ms-popreceipt"));
        let etag = self.update(tables, &key, &etag).await;
        Settled { key, etag, timer: place, receipt }
    }

    /// What nobody waits for: confirm, disarm.
    async fn after_the_answer(&self, settled: Settled, tables: &mut Client, queues: &mut Client) {
        let Settled { key, etag, timer, receipt } = settled;
        self.update(tables, &key, &etag).await;
        self.send(queues, "DELETE", &timer, &format!("&popreceipt={receipt}"), "", "").await;
    }

    async fn update(&self, tables: &mut Client, key: &str, etag: &str) -> String {
        let place = format!("/{TABLE}(PartitionKey='{key}',RowKey='1')");
        let (head, _) = self.send(tables, "PUT", &place, "", &format!("if-match: {etag}\r\n"), &row(key)).await;
        header(&head, "etag")
    }
}

fn row(key: &str) -> String {
    format!(r#"{{"PartitionKey":"{key}","RowKey":"1","Body":"{}"}}"#, "x".repeat(ROW_BYTES))
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find(|l| l.len() > name.len() && l[..name.len()].eq_ignore_ascii_case(name));
    line.expect("a header")[name.len() + 1..].trim().to_owned()
}

fn member(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).expect("a member");
    rest.split('<').next().unwrap_or_default().to_owned()
}

/// The query of an account's shared access signature for everything in tables and queues.
fn signature(account: &str, key: &str) -> String {
    const END: &str = "2099-01-01T00:00:00Z";
    let text = format!("{account}\nrwdlacup\nqt\nsco\n\n{END}\n\n\n2019-07-07\n");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(key).expect("a key")).expect("any length");
    mac.update(text.as_bytes());
    let mut query = String::new();
    let signed = STANDARD.encode(mac.finalize().into_bytes());
    let members =
        [("sv", "2019-07-07"), ("ss", "qt"), ("srt", "sco"), ("sp", "rwdlacup"), ("se", END), ("sig", &signed)];
    for (n, (name, value)) in members.into_iter().enumerate() {
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let _ = write!(query, "{}{name}={value}", if n == 0 { "" } else { "&" });
    }
    query
}
