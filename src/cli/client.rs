//! The service as a caller sees it, for every command. Every failure becomes a sentence that says what to do about it.
//!
//! Guarantee: a key stands in a header of a call to the service's own origin and nowhere else: not in an address, an answer
//! that is shown, or an error.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use reqwest::{Method, StatusCode, Url, header};
use serde::de::DeserializeOwned;

use super::key;
use crate::clock::Instant;
use crate::config::Source;
use crate::notify::guard::is_loopback;
use crate::outgoing;

/// Time for one call. The service promises far less; this only ends what hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer that is read, in bytes: a page of a thousand pushes with all that may be told of each.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Which door a key opens.
const DOORS: &str = "Under Azure Functions a function's own key opens that function alone, and a host key all.";

/// Where `serve` listens when nobody says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:7071";

/// Which service, and who asks.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Service")]
pub struct Connection {
    /// Address of the service, with or without /api/… at its end [default: GLOBAL_WEBHOOK_URL of the environment, else
    /// http://127.0.0.1:7071].
    #[arg(long, value_parser = parse_url)]
    pub url: Option<Url>,

    /// Function key, if the service asks for one, or @FILE to read it from one; sent as the header x-functions-key [default:
    /// GLOBAL_WEBHOOK_KEY, WebhookOperatorKey or WebhookKey of the environment].
    // A key may begin with a hyphen.
    #[arg(long, value_parser = key::parse, allow_hyphen_values = true)]
    pub key: Option<String>,
}

impl Connection {
    /// Takes from the environment what the command line does not say.
    ///
    /// # Errors
    /// Says which variable cannot be used and why, without its value.
    pub(super) fn complete(&mut self, environment: &Source) -> Result<(), String> {
        let fault = |name: &str, why: String| format!("{name} of the environment cannot be used: {why}");
        if self.url.is_none()
            && let Some(url) = environment.get("GLOBAL_WEBHOOK_URL")
        {
            self.url = Some(parse_url(url).map_err(|why| fault("GLOBAL_WEBHOOK_URL", why))?);
        }
        let in_url = self.url.as_ref().is_some_and(|url| url.query_pairs().any(|(name, _)| is_code(&name)));
        if self.key.is_none() && !in_url {
            if let Some(text) = environment.get("GLOBAL_WEBHOOK_KEY") {
                self.key = Some(key::parse(text).map_err(|why| fault("GLOBAL_WEBHOOK_KEY", why))?);
            } else {
                let set = environment.get("WebhookOperatorKey").or_else(|| environment.get("WebhookKey"));
                self.key = set.map(str::to_owned);
            }
        }
        Ok(())
    }
}

/// Reads the address of a service.
fn parse_url(text: &str) -> Result<Url, String> {
    let form = "an address looks like http://127.0.0.1:7071 or https://app.azurewebsites.net";
    let url = Url::parse(text.trim()).map_err(|e| format!("{e}; {form}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(format!("its scheme is neither http nor https; {form}")),
    }
}

/// The service at one address.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
}

/// Status and body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    /// The `Date` of whoever answered, in whole seconds.
    pub(super) date: Option<Instant>,
}

impl Answer {
    /// The document that the answer is.
    pub(super) fn document<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        serde_json::from_str(&self.body).map_err(|_| {
            let text = "The answer is not the document that was expected: is that the address of this service, and are \
                        service and command of about the same age?";
            Trouble { kind: Kind::Final, text: text.to_owned() }
        })
    }
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// A sentence that says what to do.
    pub(super) text: String,
}

/// Whom a [`Trouble`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody: it may pass. No connection, no answer in time, a service that cannot just now.
    Passing,
    /// The caller: what was asked for cannot be asked for.
    Asked,
    /// The caller: there is no such push, target or region.
    Unknown,
    /// Somebody has to act: the address is another service's, or a proxy's whose service is not there just now.
    Elsewhere,
    /// The caller: with another key, or with one.
    Refused,
    /// Somebody has to act: a push that cannot be removed, an answer that is none.
    Final,
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        trouble.text
    }
}

impl Client {
    pub(super) fn new(connection: &Connection) -> Result<Self, String> {
        let given = connection.url.clone().map_or_else(|| Url::parse(DEFAULT_URL), Ok);
        let (base, code) = base(given.map_err(|e| e.to_string())?);
        let mut builder = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| format!("No HTTP client could be made: {e}"))?;
        Ok(Self { http, base, key: connection.key.clone().or(code) })
    }

    /// The address below `/api/` of these segments.
    pub(super) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("api").extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Calls, and takes every answer that is one.
    pub(super) async fn call(&self, method: Method, url: &Url, body: Option<String>) -> Result<Answer, Trouble> {
        let mut request = self.http.request(method, url.clone());
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json; charset=utf-8").body(body);
        }
        self.send(request, url).await
    }

    /// Asks for a document; an answer that is no success is a [`Trouble`].
    pub(super) async fn get(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Answer, Trouble> {
        self.taken(self.call(Method::GET, &self.url(segments, query), None).await?)
    }

    /// The same where the answer may be held for `hold`.
    pub(super) async fn get_held(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        hold: Duration,
    ) -> Result<Answer, Trouble> {
        let url = self.url(segments, query);
        let request = self.http.get(url.clone()).timeout(hold + CALL_TIMEOUT);
        self.taken(self.send(request, &url).await?)
    }

    /// Asks for something to be done; an answer that is no success is a [`Trouble`].
    pub(super) async fn operate(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer, Trouble> {
        self.taken(self.call(method, &self.url(segments, query), None).await?)
    }

    fn taken(&self, answer: Answer) -> Result<Answer, Trouble> {
        if answer.status.is_success() { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, answer: &Answer) -> Trouble {
        let url = self.shown();
        let (code, said) = said(&answer.body);
        let (kind, text) = match (answer.status.as_u16(), code.as_deref()) {
            (400, Some(_)) => (Kind::Asked, said),
            (401, _) if self.key.is_some() => {
                (Kind::Refused, format!("{url} refused the function key of --key or the environment. {DOORS}"))
            }
            (401, _) => (Kind::Refused, format!("{url} asks for a function key; pass it with --key.")),
            (403, _) => (Kind::Final, format!("{url} refused the call (403): {said}")),
            (404, Some("unknown_push" | "unknown_image" | "unknown_target" | "unknown_region")) => {
                (Kind::Unknown, said)
            }
            (404, _) => (
                Kind::Elsewhere,
                format!("{url} is not this service (404); its address is all that stands before /api/."),
            ),
            (409, Some(_)) => (Kind::Final, said),
            (503, _) => (Kind::Passing, format!("{url} cannot do that now (503): {said}")),
            (status @ (408 | 429 | 500..), _) => (Kind::Passing, format!("{url} answered {status}: {said}")),
            (status, _) => (Kind::Final, format!("{url} answered {status}: {said}")),
        };
        Trouble { kind, text }
    }

    /// The service's address, for people.
    pub(super) fn shown(&self) -> String {
        shown(&self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<Answer, Trouble> {
        let request = match &self.key {
            // The key is for the service alone, whatever address its answers name.
            Some(key) if url.origin() == self.base.origin() => request.header("x-functions-key", key),
            Some(_) | None => request,
        };
        let passing = |e: reqwest::Error| Trouble { kind: Kind::Passing, text: unreachable_because(url, &e) };
        let mut answer = request.send().await.map_err(passing)?;
        let Some(body) = outgoing::body(&mut answer, ANSWER_BYTES_MAX).await.map_err(passing)? else {
            let text = format!("{} gave an answer of more than 64 MiB.", shown(url));
            return Err(Trouble { kind: Kind::Final, text });
        };
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: answer.status(), body, date: date.map(Into::into) })
    }
}

/// What stands before `/api/` in an address, and the key in its query. The rest of the query stays.
fn base(mut url: Url) -> (Url, Option<String>) {
    let path = url.path().trim_end_matches('/').to_owned();
    let lower = path.to_ascii_lowercase();
    let ends = ["/api/imagepush", "/api/pushes", "/api/regions", "/api"];
    let kept = ends.iter().find_map(|end| lower.strip_suffix(end)).map_or(path.len(), str::len);
    url.set_path(&path[..kept]);
    let (codes, rest): (Vec<_>, Vec<_>) = url.query_pairs().into_owned().partition(|(name, _)| is_code(name));
    url.set_query(None);
    url.set_fragment(None);
    if !rest.is_empty() {
        url.query_pairs_mut().extend_pairs(rest);
    }
    (url, codes.into_iter().next().map(|(_, code)| code))
}

/// Whether a member of a query is a function key. The host reads names without regard to case.
fn is_code(name: &str) -> bool {
    name.eq_ignore_ascii_case("code")
}

fn unreachable_because(url: &Url, error: &reqwest::Error) -> String {
    let shown = shown(url);
    if error.is_timeout() {
        format!("{shown} did not answer in time.")
    } else if failed_with(error, ErrorKind::InvalidData) {
        format!("No TLS with {shown}: {}. What speaks plain HTTP has an address with http://.", outgoing::cause(error))
    } else if is_loopback(url) && failed_with(error, ErrorKind::ConnectionRefused) {
        format!(
            "Nothing listens at {shown}; start the service with `global-webhook serve`, or pass its address with --url."
        )
    } else if error.is_connect() {
        format!("No connection to {shown}: {}", outgoing::cause(error))
    } else {
        format!("The exchange with {shown} broke off: {}", outgoing::cause(error))
    }
}

/// Whether this is among the reasons of a failed connection.
fn failed_with(error: &reqwest::Error, kind: ErrorKind) -> bool {
    let mut reason = error.source().filter(|_| error.is_connect());
    while let Some(one) = reason {
        let io = one.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == kind) {
            return true;
        }
        // Of an error that it wraps, an `io::Error` names as its source only that one's source.
        reason = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => one.source(),
        };
    }
    false
}

/// An address without its query, where a function key may stand, and without a password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.as_str().trim_end_matches('/').to_owned()
}

/// What an answer says: code and message of a refusal, `ignored` of a document, the beginning of any other text.
pub(super) fn said(body: &str) -> (Option<String>, String) {
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let of = |pointer: &str| document.pointer(pointer)?.as_str();
    let text = of("/error/message").or_else(|| of("/ignored")).unwrap_or(body).trim();
    let end = text.char_indices().nth(1000).map_or(text.len(), |(at, _)| at);
    let text = if text.is_empty() { "no reason given" } else { &text[..end] };
    (of("/error/code").map(str::to_owned), text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_for_their_reason() {
        let of = |body: &str| said(body).1;
        assert_eq!(said(r#"{"error":{"code":"c","message":"m"}}"#), (Some("c".into()), "m".into()));
        assert_eq!(of(r#"{"ignored":"r"}"#), "r");
        assert_eq!(of(" plain "), "plain");
        assert_eq!(of(""), "no reason given");
        assert_eq!(of(&"\u{e9}".repeat(5000)).chars().count(), 1000);
    }

    #[test]
    fn an_address_is_the_same_whatever_of_the_service_it_names() {
        for (text, is) in [
            ("http://127.0.0.1:7071", "http://127.0.0.1:7071/api/pushes/a%2Fb?image=a%2Fb%3Ac"),
            ("https://app.example/api/ImagePush?code=s3cret", "https://app.example/api/pushes/a%2Fb?image=a%2Fb%3Ac"),
            ("https://proxy.example/acr/API/pushes/", "https://proxy.example/acr/api/pushes/a%2Fb?image=a%2Fb%3Ac"),
            ("https://app.example/api/?clientId=x", "https://app.example/api/pushes/a%2Fb?clientId=x&image=a%2Fb%3Ac"),
        ] {
            let client = Client::new(&Connection { url: parse_url(text).ok(), key: None }).unwrap();
            assert_eq!(client.url(&["pushes", "a/b"], &[("image", "a/b:c")]).as_str(), is);
            assert_eq!(client.key.is_some(), text.contains("s3cret"));
            assert!(!client.shown().contains("s3cret"));
        }
        assert!(parse_url("127.0.0.1:7071").is_err() && parse_url("ftp://app.example/").is_err());
    }

    #[test]
    fn what_the_environment_says_counts_after_the_command_line() {
        let all = Source::new([
            ("GLOBAL_WEBHOOK_URL", "https://app.example/"),
            ("GLOBAL_WEBHOOK_KEY", "first"),
            ("WebhookOperatorKey", "second"),
        ]);
        let mut none = Connection { url: None, key: None };
        none.complete(&all).unwrap();
        assert_eq!((none.url.map(String::from), none.key), (Some("https://app.example/".into()), Some("first".into())));
        let mut given = Connection { url: parse_url("http://a/?Code=in-url").ok(), key: None };
        given.complete(&all).unwrap();
        assert_eq!(Client::new(&given).unwrap().key.as_deref(), Some("in-url"));
        let quoted = Source::new([("GLOBAL_WEBHOOK_KEY", "\"s3cret\"")]);
        let why = Connection { url: None, key: None }.complete(&quoted).unwrap_err();
        assert!(why.contains("GLOBAL_WEBHOOK_KEY") && !why.contains("s3cret"), "{why}");
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        let url = Url::parse("https://u:p@app.example/api/ImagePush?code=s3cret").unwrap();
        assert_eq!(shown(&url), "https://app.example/api/ImagePush");
    }
}
