//! The service as a caller sees it. Every failure becomes a sentence that says what to do about it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::limits;

/// Time for one call. The service promises far less; this only ends what hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The service at one address.
pub(super) struct Service {
    client: reqwest::Client,
    url: Url,
    key: Option<String>,
}

/// What `GET` on ImagePush says, as far as it is of use here.
#[derive(Debug, Deserialize)]
pub(super) struct Health {
    pub(super) regions: Vec<String>,
    #[serde(default)]
    pub(super) timeout: Option<String>,
}

/// The answer to one webhook.
#[derive(Debug)]
pub(super) enum Reply {
    /// 202, with the push it belongs to.
    Accepted { id: String, status: Url },
    /// Another success: understood, and nothing comes of it.
    Ignored(String),
    /// An error of this webhook only.
    Refused { status: StatusCode, why: String },
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { id, .. } => write!(f, "202, push {id}"),
            Self::Ignored(why) => write!(f, "200, ignored: {why}"),
            Self::Refused { status, why } => write!(f, "{}: {why}", status.as_u16()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedBody {
    id: String,
    status_query_get_uri: String,
}

impl Service {
    pub(super) fn new(url: &Url, key: Option<&str>) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| format!("No HTTP client could be made: {e}"))?;
        Ok(Self { client, url: url.clone(), key: key.map(str::to_owned) })
    }

    /// Asks for the configured regions.
    pub(super) async fn health(&self) -> Result<Health, String> {
        let (status, body) = self.call(self.client.get(self.url.clone()), &self.url).await?;
        if status != StatusCode::OK {
            return Err(self.refusal(status, &body));
        }
        let health: Health = serde_json::from_str(&body).map_err(|_| {
            format!("{} does not say which regions it waits for; name them with --regions.", shown(&self.url))
        })?;
        if health.regions.is_empty() {
            return Err("The service waits for no region; name some with --regions.".into());
        }
        Ok(health)
    }

    /// Sends one regional webhook. Fails only where every further one would fail too.
    pub(super) async fn post(&self, region: &str, body: String) -> Result<Reply, String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("region", region);
        let request = self.client.post(url.clone()).header("Content-Type", "application/json; charset=utf-8");
        let (status, body) = self.call(request.body(body), &url).await?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
            return Err(self.refusal(status, &body));
        }
        if !status.is_success() {
            return Ok(Reply::Refused { status, why: message(&body) });
        }
        if status != StatusCode::ACCEPTED {
            return Ok(Reply::Ignored(message(&body)));
        }
        let accepted: AcceptedBody = serde_json::from_str(&body)
            .map_err(|_| format!("{} answered 202 without `id` and `statusQueryGetUri`.", shown(&self.url)))?;
        let status = Url::parse(&accepted.status_query_get_uri)
            .map_err(|e| format!("The service gave a status address that is none: {e}."))?;
        Ok(Reply::Accepted { id: accepted.id, status })
    }

    /// Reads a status document: status and body.
    pub(super) async fn status(&self, url: &Url) -> Result<(StatusCode, String), String> {
        self.call(self.client.get(url.clone()), url).await
    }

    /// What is wrong with everything that is sent there.
    pub(super) fn refusal(&self, status: StatusCode, body: &str) -> String {
        let url = shown(&self.url);
        match status.as_u16() {
            401 if self.key.is_some() => format!("{url} refused the function key of --key or the environment."),
            401 => format!("{url} asks for a function key; pass it with --key."),
            403 => format!("{url} refused the call (403): {}", message(body)),
            404 => format!("{url} is not ImagePush (404); its address ends in /api/ImagePush."),
            503 => format!("{url} is not ready for webhooks (503): {}", message(body)),
            other => format!("{url} answered {other}: {}", message(body)),
        }
    }

    async fn call(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<(StatusCode, String), String> {
        let request = match &self.key {
            // The key is for the service alone, whatever address its answers name.
            Some(key) if url.origin() == self.url.origin() => request.header("x-functions-key", key),
            Some(_) | None => request,
        };
        let mut answer = request.send().await.map_err(|e| unreachable_because(url, &e))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable_because(url, &e))? {
            body.extend_from_slice(&chunk);
            if body.len() > limits::ENVELOPE_BYTES_MAX {
                return Err(format!("{} gave an answer of more than 1 MiB.", shown(url)));
            }
        }
        Ok((answer.status(), String::from_utf8_lossy(&body).into_owned()))
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    })
}

fn unreachable_because(url: &Url, error: &reqwest::Error) -> String {
    let shown = shown(url);
    if error.is_timeout() {
        format!("{shown} did not answer in time.")
    } else if error.is_connect() && is_loopback(url) {
        format!(
            "Nothing listens at {shown}; start the service with `global-webhook serve`, or pass its address with --url."
        )
    } else if error.is_connect() {
        format!("No connection to {shown}: {}", cause(error))
    } else {
        format!("The exchange with {shown} broke off: {}", cause(error))
    }
}

/// The innermost reason, without the address that the outer ones repeat, key included.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if std::ptr::addr_eq(innermost, error) { "no reason given".into() } else { innermost.to_string() }
}

/// An address without its query, where the function key may stand, and without a password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

/// What an answer says: `error.message` or `ignored` of a document, the beginning of any other text.
fn message(body: &str) -> String {
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let said = ["/error/message", "/ignored"].iter().find_map(|p| document.pointer(p)?.as_str());
    let text = said.unwrap_or(body).trim();
    if text.is_empty() {
        return "no reason given".into();
    }
    let end = text.char_indices().nth(1000).map_or(text.len(), |(at, _)| at);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_for_their_reason() {
        assert_eq!(message(r#"{"error":{"code":"c","message":"m"}}"#), "m");
        assert_eq!(message(r#"{"ignored":"r"}"#), "r");
        assert_eq!(message(" plain "), "plain");
        assert_eq!(message(""), "no reason given");
        assert_eq!(message(&"\u{e9}".repeat(5000)).chars().count(), 1000);
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        let url = Url::parse("https://u:p@app.example/api/ImagePush?code=s3cret").unwrap();
        assert_eq!(shown(&url), "https://app.example/api/ImagePush");
    }

    #[test]
    fn loopback_has_many_names() {
        for (url, is) in [
            ("http://127.0.0.1:1/", true),
            ("http://[::1]/", true),
            ("http://LOCALHOST/", true),
            ("http://10.0.0.1/", false),
            ("http://127.0.0.1.example/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), is, "{url}");
        }
    }
}
