//! Storage as others use it, without our code: signed requests, answers as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// An account, reached by hand.
pub(crate) struct Raw {
    name: String,
    key: Vec<u8>,
    tables: String,
    queues: String,
    client: reqwest::Client,
}

impl Raw {
    /// Reads a connection string of `azurite`.
    pub(crate) fn of(connection_string: &str) -> Self {
        let part = |key: &str| {
            let found = connection_string.split(';').find_map(|p| p.strip_prefix(key)?.strip_prefix('='));
            found.expect("a part of the connection string").to_owned()
        };
        Self {
            name: part("AccountName"),
            key: STANDARD.decode(part("AccountKey")).expect("base64"),
            tables: part("TableEndpoint"),
            queues: part("QueueEndpoint"),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
        }
    }

    /// Sends to the queue service: status and body.
    pub(crate) async fn queue(&self, method: &str, path: &str, query: &str, body: &str) -> (u16, String) {
        let date = date();
        let version = "2022-11-02";
        let resource = format!("/{0}/{0}/{path}", self.name);
        let to_sign = format!("{method}\n\ntext/xml\n\nx-ms-date:{date}\nx-ms-version:{version}\n{resource}");
        self.send(&self.queues, method, path, query, body, ("text/xml", &date, version, &to_sign)).await
    }

    /// Sends to the table service: status and body.
    pub(crate) async fn table(&self, method: &str, path: &str, query: &str, body: &str) -> (u16, String) {
        let date = date();
        let to_sign = format!("{date}\n/{0}/{0}/{path}", self.name);
        self.send(&self.tables, method, path, query, body, ("application/json", &date, "2022-11-02", &to_sign)).await
    }

    /// Puts a message's raw text into a queue.
    pub(crate) async fn put(&self, queue: &str, raw: &str) {
        let body = format!("<QueueMessage><MessageText>{raw}</MessageText></QueueMessage>");
        let (status, answer) = self.queue("POST", &format!("{queue}/messages"), "messagettl=-1", &body).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Looks at up to 32 visible messages of a queue.
    pub(crate) async fn peek(&self, queue: &str) -> String {
        self.queue("GET", &format!("{queue}/messages"), "peekonly=true&numofmessages=32", "").await.1
    }

    /// Messages of a queue, hidden ones included.
    pub(crate) async fn count(&self, queue: &str) -> usize {
        let date = date();
        let version = "2022-11-02";
        let resource = format!("/{0}/{0}/{queue}?comp=metadata", self.name);
        let to_sign = format!("GET\n\ntext/xml\n\nx-ms-date:{date}\nx-ms-version:{version}\n{resource}");
        let answer =
            self.ask(&self.queues, "GET", queue, "comp=metadata", "", ("text/xml", &date, version, &to_sign)).await;
        let count = answer.headers().get("x-ms-approximate-messages-count").expect("a queue's length");
        count.to_str().expect("text").parse().expect("a number")
    }

    /// A shared access signature that opens all of it, as a query string.
    pub(crate) fn sas(&self) -> String {
        let (may, services, kinds, ends, version) = ("rwdlacup", "qt", "sco", "2100-01-01T00:00:00Z", "2019-02-02");
        let signature = self.sign(&format!("{}\n{may}\n{services}\n{kinds}\n\n{ends}\n\n\n{version}\n", self.name));
        let pairs = [("sp", may), ("ss", services), ("srt", kinds), ("se", ends), ("sv", version), ("sig", &signature)];
        let url = reqwest::Url::parse_with_params("http://x/", pairs).expect("a URL");
        url.query().expect("a query").to_owned()
    }

    fn sign(&self, text: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        mac.update(text.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }

    async fn send(
        &self,
        endpoint: &str,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
        signed: (&str, &str, &str, &str),
    ) -> (u16, String) {
        let answer = self.ask(endpoint, method, path, query, body, signed).await;
        (answer.status().as_u16(), answer.text().await.expect("its text"))
    }

    async fn ask(
        &self,
        endpoint: &str,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
        (kind, date, version, to_sign): (&str, &str, &str, &str),
    ) -> reqwest::Response {
        let signature = self.sign(to_sign);
        self.client
            .request(method.parse().expect("a method"), format!("{endpoint}/{path}?{query}"))
            .header("authorization", format!("SharedKeyLite {}:{signature}", self.name))
            .header("x-ms-date", date)
            .header("x-ms-version", version)
            .header("content-type", kind)
            .header("accept", "application/json;odata=nometadata")
            .header("if-match", "*")
            .body(body.to_owned())
            .send()
            .await
            .expect("an answer")
    }
}

#[expect(clippy::disallowed_methods, reason = "a signature needs the real time")]
fn date() -> String {
    chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
