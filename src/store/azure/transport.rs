//! How a request of the storage crates gets there and back: pooled, timed, to a bound, and counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::headers::{self, Headers};
use azure_core::{Body, HttpClient, Request, Response, StatusCode};

use super::connection::{connection_trouble, io};
use crate::clock::{Instant, StorageClock};
use crate::metrics::{Answered, Requests};
use crate::outgoing::{self, Outgoing};

/// Time to connect. A replica of the service answers within milliseconds or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time of one request, its answer included. The callers' budgets are shorter where somebody waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept; below the minutes after which load balancers drop it without a word.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The same for the emulator, which closes idle connections after 5 s.
const EMULATOR_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// An HTTP date, whose only form in use is that of RFC 9110's preferred one.
pub(super) const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// Largest answer that is read, in bytes; the service's own pages end at 4 MiB.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The crates' transport: pooled and timed, redirects not followed.
pub(super) struct Http {
    client: Outgoing,
    clock: Arc<StorageClock>,
    /// Where the queue service is; everything else is the table service's.
    queues: String,
    requests: Requests,
}

/// Kinds of requests: the service, and what is asked of it.
pub(super) const KINDS: [&str; 8] = [
    "table_read",
    "table_insert",
    "table_write",
    "table_delete",
    "queue_read",
    "queue_insert",
    "queue_write",
    "queue_delete",
];

impl Http {
    pub(super) fn new(emulated: bool, clock: Arc<StorageClock>, queues: String, requests: Requests) -> Self {
        Self { client: Outgoing::new(move || client(emulated)), clock, queues, requests }
    }

    /// The kind of a request: `POST` inserts, and `PUT` and `MERGE` write.
    fn kind(&self, request: &Request) -> &'static str {
        let of_queue = if request.url().as_str().starts_with(&self.queues) { 4 } else { 0 };
        let verb = match request.method().as_ref() {
            "GET" | "HEAD" => 0,
            "POST" => 1,
            "DELETE" => 3,
            _ => 2,
        };
        KINDS[of_queue + verb]
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let answered = self.send(request).await;
        let came =
            answered.as_ref().map_or(Answered::Unreachable, |answer| Answered::of_status(answer.status().into()));
        self.requests.count(self.kind(request), came);
        answered
    }
}

impl Http {
    async fn send(&self, request: &Request) -> azure_core::Result<Response> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|_| azure_core::Error::message(ErrorKind::Other, "no such method"))?;
        let client = self.client.client().await.map_err(io)?;
        let sent = self.clock.base_now();
        let mut sending = client.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            sending = sending.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            sending = sending.body(bytes.clone());
        }
        let mut answer = sending.send().await.map_err(connection_trouble)?;
        let status = StatusCode::try_from(answer.status().as_u16()).map_err(|_| io("a status that does not exist"))?;
        let mut received = Headers::new();
        for (name, value) in answer.headers() {
            if let Ok(value) = value.to_str() {
                received.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        if let Some(date) = received.get_optional_str(&headers::DATE).and_then(http_date) {
            self.clock.observe(date, sent);
        }
        fill_in(&mut received, request.headers());
        // Read here, so that a connection that breaks half-way is an I/O error like any other.
        let body = outgoing::body(&mut answer, ANSWER_BYTES_MAX).await.map_err(connection_trouble)?;
        let body = body.ok_or_else(|| io("the answer is too large"))?;
        let body = futures_util::stream::once(std::future::ready(Ok(body.into())));
        Ok(Response::new(status, received, Box::pin(body)))
    }
}

/// The instant of an HTTP date.
fn http_date(text: &str) -> Option<Instant> {
    Some(chrono::NaiveDateTime::parse_from_str(text, HTTP_DATE).ok()?.and_utc())
}

/// Adds what the crates demand of every answer and nobody reads. A proxy that drops one of these would otherwise turn each
/// success into an error.
fn fill_in(received: &mut Headers, sent: &Headers) {
    let has = |received: &Headers, name: &headers::HeaderName| received.get_optional_str(name).is_some();
    for (name, value) in
        [(headers::SERVER, "unknown"), (headers::VERSION, "unknown"), (headers::DATE, "Thu, 01 Jan 1970 00:00:00 GMT")]
    {
        if !has(received, &name) {
            received.insert(name, value);
        }
    }
    let id = received.get_optional_str(&headers::REQUEST_ID).and_then(|id| id.parse::<uuid::Uuid>().ok());
    if id.is_none() {
        received.insert(headers::REQUEST_ID, uuid::Uuid::nil().to_string());
    }
    let applied = headers::HeaderName::from_static("preference-applied");
    if let Some(preference) = sent.get_optional_str(&headers::PREFER).filter(|_| !has(received, &applied)) {
        received.insert(applied, preference.to_owned());
    }
}

fn client(emulated: bool) -> reqwest::Result<reqwest::Client> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .pool_idle_timeout(if emulated { EMULATOR_IDLE_TIMEOUT } else { IDLE_TIMEOUT })
        .redirect(reqwest::redirect::Policy::none());
    if emulated {
        client = client.no_proxy();
    }
    client.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demanded_headers_are_filled_in() {
        let (mut received, mut sent) = (Headers::new(), Headers::new());
        received.insert(headers::REQUEST_ID, "not-a-uuid");
        received.insert(headers::VERSION, "2022-11-02");
        sent.insert(headers::PREFER, "return-no-content");
        fill_in(&mut received, &sent);
        assert!(azure_storage::headers::CommonStorageResponseHeaders::try_from(&received).is_ok());
        assert_eq!(received.get_optional_str(&headers::VERSION), Some("2022-11-02"));
        assert_eq!(
            received.get_optional_str(&headers::HeaderName::from_static("preference-applied")),
            Some("return-no-content")
        );
    }
}
