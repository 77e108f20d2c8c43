//! Azurite behind relays that let in as Azure Storage does, where Azurite does not. A request must be dated within a quarter of an
//! hour of the time, and in place of a signature it may carry a token of a managed identity, which is handed out here too.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::NaiveDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::raw::Raw;
use crate::support::azurite::Azurite;
use crate::support::http::{Connection, Head, latin1};
use crate::support::{now, pause};

/// What the app proves itself with.
const PROOF: &str = "proof of the app";

/// How far the date of a request may be from the time.
const DATE_MAX: chrono::TimeDelta = chrono::TimeDelta::minutes(15);

/// As the storage writes a date.
const DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// An account that is reached as Azure's are; the relays end with the runtime of the test.
pub(crate) struct Strict {
    account: String,
    identity: Vec<(&'static str, String)>,
    issues: watch::Sender<Option<Instant>>,
}

/// Who is let in.
struct Door {
    token: String,
    /// What Azurite takes in the token's place.
    sas: String,
}

impl Strict {
    /// An account of its own.
    pub(crate) async fn before(azurite: &Azurite) -> Self {
        let listeners = [listen().await, listen().await, listen().await];
        let [tables, queues, tokens] = listeners.each_ref().map(|l| l.local_addr().expect("its address").port());
        let account = azurite.account_at(tables, queues);
        let part = |key: &str| {
            let found = account.split(';').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
            found.expect("a part of the connection string").to_owned()
        };
        let identity = vec![
            ("AzureWebJobsStorage__accountName", part("AccountName")),
            ("AzureWebJobsStorage__tableServiceUri", part("TableEndpoint")),
            ("AzureWebJobsStorage__queueServiceUri", part("QueueEndpoint")),
            ("AzureWebJobsStorage__credential", "managedidentity".to_owned()),
            ("IDENTITY_ENDPOINT", format!("http://127.0.0.1:{tokens}/msi/token")),
            ("IDENTITY_HEADER", PROOF.to_owned()),
        ];
        let token = uuid::Uuid::new_v4().simple().to_string();
        let door = Arc::new(Door { token: token.clone(), sas: Raw::of(&account).sas() });
        let [tables, queues, tokens] = listeners;
        for (listener, server) in [(tables, azurite.tables()), (queues, azurite.queues())] {
            let door = Arc::clone(&door);
            tokio::spawn(serve(listener, move |caller| relay(caller, server, Arc::clone(&door))));
        }
        let issues = watch::Sender::new(None);
        let from = issues.clone();
        tokio::spawn(serve(tokens, move |caller| hand_out(caller, token.clone(), from.subscribe())));
        Self { account, identity, issues }
    }

    /// Its connection string.
    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// The settings of an app that is let in by its managed identity.
    pub(crate) fn identity(&self) -> Vec<(&str, &str)> {
        self.identity.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Hands tokens out once `wait` is over. Before this call whoever asks for one waits.
    pub(crate) fn issue_in(&self, wait: Duration) {
        self.issues.send_replace(Some(Instant::now() + wait));
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// A conversation with each caller. One that breaks off is its own affair.
async fn serve<F: Future<Output = io::Result<()>> + Send + 'static>(
    listener: TcpListener,
    converse: impl Fn(Connection) -> F,
) {
    while let Ok((caller, _)) = listener.accept().await {
        let conversation = converse(Connection::new(caller));
        tokio::spawn(async move { drop(conversation.await) });
    }
}

async fn relay(mut caller: Connection, server: SocketAddr, door: Arc<Door>) -> io::Result<()> {
    let mut server = Connection::new(TcpStream::connect(server).await?);
    while let Some(head) = caller.head().await? {
        let body = caller.body(head.request_framing()?).await?;
        let Some(head) = door.let_in(head) else {
            let date = now().format(DATE);
            let refusal = format!(
                "HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nx-ms-error-code: AuthenticationFailed\r\nContent-Length: 0\r\n\r\n"
            );
            caller.write(refusal.as_bytes()).await?;
            continue;
        };
        server.write(&[text(&head), body].concat()).await?;
        let mut answer = server.answer(false).await?;
        // It has been read whole, whatever it came in.
        let framing = ["content-length", "transfer-encoding"];
        answer.head.headers.retain(|(name, _)| !framing.contains(&name.to_ascii_lowercase().as_str()));
        if answer.status != 204 {
            answer.head.headers.push(("Content-Length".into(), answer.body.len().to_string()));
        }
        caller.write(&[text(&answer.head), answer.body].concat()).await?;
    }
    Ok(())
}

impl Door {
    /// The request as Azurite takes it.
    fn let_in(&self, mut head: Head) -> Option<Head> {
        let date = NaiveDateTime::parse_from_str(head.get("x-ms-date")?, DATE).ok()?.and_utc();
        if (now() - date).abs() > DATE_MAX {
            return None;
        }
        if let Some(token) = head.get("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            if token != self.token {
                return None;
            }
            head.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
            let (target, version) = head.start.rsplit_once(' ')?;
            let mark = if target.contains('?') { '&' } else { '?' };
            head.start = format!("{target}{mark}{} {version}", self.sas);
        }
        Some(head)
    }
}

/// What App Service offers to its apps.
async fn hand_out(mut caller: Connection, token: String, mut from: watch::Receiver<Option<Instant>>) -> io::Result<()> {
    while let Some(head) = caller.head().await? {
        let Ok(Some(from)) = from.wait_for(Option::is_some).await.map(|from| *from) else { break };
        pause(from.saturating_duration_since(Instant::now())).await;
        let asked = head.start.contains("resource=https%3A%2F%2Fstorage.azure.com ");
        let (status, body) = if asked && head.get("X-IDENTITY-HEADER") == Some(PROOF) {
            let ends = (now() + chrono::TimeDelta::days(1)).timestamp();
            (200, serde_json::json!({ "access_token": token, "expires_on": ends.to_string(), "token_type": "Bearer" }))
        } else {
            (400, serde_json::json!({}))
        };
        let (body, kind) = (body.to_string(), "application/json");
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        caller.write((head + &body).as_bytes()).await?;
    }
    Ok(())
}

fn text(head: &Head) -> Vec<u8> {
    let headers: String = head.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    latin1(&format!("{}\r\n{headers}\r\n", head.start))
}
