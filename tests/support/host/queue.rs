//! Storage Queue over its REST interface, signed by hand: what the host does must not depend on the crates under test.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use reqwest::Method;
use sha2::Sha256;

use super::envelope::Message;
use crate::support::now;

const API_VERSION: &str = "2022-11-02";

/// A storage account and the name of a queue in it.
#[derive(Debug, Clone)]
pub struct QueueAccess {
    /// Connection string of the account.
    pub connection_string: String,
    /// The queue.
    pub queue: String,
}

/// Why the service did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It answered with this status and text.
    Status(u16, String),
    /// It did not answer.
    Silent(String),
}

/// One queue.
#[derive(Debug, Clone)]
pub struct Queue {
    account: String,
    key: Vec<u8>,
    endpoint: String,
    name: String,
    client: reqwest::Client,
}

impl Queue {
    /// The queue `access` names.
    ///
    /// # Panics
    /// When the connection string lacks what a queue needs.
    pub fn of(access: &QueueAccess) -> Self {
        let members: Vec<(String, &str)> = access
            .connection_string
            .split(';')
            .filter_map(|member| member.split_once('='))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim()))
            .collect();
        let get = |name: &str| members.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let account = get("accountname").expect("AccountName").to_owned();
        let key = STANDARD.decode(get("accountkey").expect("AccountKey")).expect("base64");
        let endpoint = get("queueendpoint").map_or_else(
            || format!("https://{account}.queue.{}", get("endpointsuffix").unwrap_or("core.windows.net")),
            |given| given.trim_end_matches('/').to_owned(),
        );
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            // The emulator closes idle connections after 5 s.
            .pool_idle_timeout(Duration::from_secs(4))
            .build()
            .expect("a client");
        Self { account, key, endpoint, name: access.queue.clone(), client }
    }

    /// The poison queue that belongs to this one.
    pub fn poison(&self) -> Self {
        Self { name: format!("{}-poison", self.name), ..self.clone() }
    }

    /// Creates it; no error when it exists.
    pub async fn create(&self) -> Result<(), Refusal> {
        self.send(Method::PUT, "", &[], None).await.map(drop)
    }

    /// Puts `text` as it is, without base64.
    pub async fn put_raw(&self, text: &str) -> Result<(), Refusal> {
        let body = format!("<QueueMessage><MessageText>{}</MessageText></QueueMessage>", escaped(text));
        self.send(Method::POST, "/messages", &[], Some(body)).await.map(drop)
    }

    /// Puts `text` in base64, as the host reads it.
    pub async fn put(&self, text: &[u8]) -> Result<(), Refusal> {
        self.put_raw(&STANDARD.encode(text)).await
    }

    /// Leases up to `most` (at most 32) messages.
    pub async fn receive(&self, most: usize, lease: Duration) -> Result<Vec<Message>, Refusal> {
        let query = [("numofmessages", most.to_string()), ("visibilitytimeout", lease.as_secs().max(1).to_string())];
        Ok(messages(&self.send(Method::GET, "/messages", &query, None).await?))
    }

    /// Looks at up to 32 visible messages. An absent queue is an empty one.
    pub async fn peek(&self) -> Result<Vec<Message>, Refusal> {
        let query = [("numofmessages", "32".to_owned()), ("peekonly", "true".to_owned())];
        match self.send(Method::GET, "/messages", &query, None).await {
            Ok(text) => Ok(messages(&text)),
            Err(Refusal::Status(404, _)) => Ok(Vec::new()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Number of messages, invisible ones included. An absent queue is an empty one.
    pub async fn count(&self) -> Result<u32, Refusal> {
        let query = [("comp", "metadata".to_owned())];
        match self.request(Method::GET, "", &query, None).await {
            Ok(answer) => {
                let count = answer.headers().get("x-ms-approximate-messages-count");
                Ok(count.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0))
            }
            Err(Refusal::Status(404, _)) => Ok(0),
            Err(refusal) => Err(refusal),
        }
    }

    /// Deletes a received message.
    pub async fn delete(&self, id: &str, receipt: &str) -> Result<(), Refusal> {
        let query = [("popreceipt", receipt.to_owned())];
        self.send(Method::DELETE, &format!("/messages/{id}"), &query, None).await.map(drop)
    }

    /// Sets when a received message shows again, its text unchanged; gives the new receipt.
    pub async fn show_in(&self, id: &str, receipt: &str, delay: Duration) -> Result<String, Refusal> {
        let query = [("popreceipt", receipt.to_owned()), ("visibilitytimeout", delay.as_secs().to_string())];
        let answer = self.request(Method::PUT, &format!("/messages/{id}"), &query, None).await?;
        let receipt = answer.headers().get("x-ms-popreceipt").and_then(|v| v.to_str().ok());
        receipt.map(str::to_owned).ok_or_else(|| Refusal::Silent("no x-ms-popreceipt".into()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<String>,
    ) -> Result<String, Refusal> {
        let answer = self.request(method, path, query, body).await?;
        answer.text().await.map_err(|e| Refusal::Silent(e.to_string()))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<String>,
    ) -> Result<reqwest::Response, Refusal> {
        let mut url = reqwest::Url::parse(&format!("{}/{}{path}", self.endpoint, self.name)).expect("a URL");
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let date = now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let length = body.as_ref().map(|b| b.len().to_string()).unwrap_or_default();
        let kind = if body.is_some() { "application/xml" } else { "" };
        let mut resource = format!("/{}{}", self.account, url.path());
        let mut sorted = query.to_vec();
        sorted.sort();
        for (name, value) in &sorted {
            resource.push_str(&format!("\n{name}:{value}"));
        }
        let signed = format!(
            "{method}\n\n\n{length}\n\n{kind}\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{API_VERSION}\n{resource}"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        mac.update(signed.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let mut request = self
            .client
            .request(method, url)
            .header("x-ms-date", date)
            .header("x-ms-version", API_VERSION)
            .header("Authorization", format!("SharedKey {}:{signature}", self.account));
        request = match body {
            Some(body) => request.header("Content-Type", kind).body(body),
            None => request.header("Content-Length", "0"),
        };
        let answer = request.send().await.map_err(|e| Refusal::Silent(e.to_string()))?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            let status = answer.status().as_u16();
            Err(Refusal::Status(status, answer.text().await.unwrap_or_default()))
        }
    }
}

fn messages(xml: &str) -> Vec<Message> {
    xml.split("<QueueMessage>").skip(1).map(message).collect()
}

fn message(xml: &str) -> Message {
    let instant = |name: &str| {
        let text = element(xml, name).unwrap_or_default();
        DateTime::parse_from_rfc2822(&text).map_or(DateTime::<Utc>::MIN_UTC, |d| d.to_utc())
    };
    Message {
        handle: element(xml, "MessageId").zip(element(xml, "PopReceipt")),
        dequeue_count: element(xml, "DequeueCount").and_then(|n| n.parse().ok()).unwrap_or(0),
        inserted: instant("InsertionTime"),
        expires: instant("ExpirationTime"),
        next_visible: instant("TimeNextVisible"),
        raw: element(xml, "MessageText").unwrap_or_default(),
    }
}

fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
