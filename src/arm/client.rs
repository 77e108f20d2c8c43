//! Calls to ARM: the address, the token, what is tried again, and the reading of answers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode, Url, header};
use serde_json::Value;

use super::credential::{Credential, Tokens};
use super::error::{Error, code_and_message};
use super::secret;
use crate::clock::Clock;
use crate::notify::guard::is_loopback;
use crate::outgoing::{self, Outgoing};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time of one request, its answer included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Tries of one call, where it is throttled, not answered, or answered by a 5xx.
const TRIES_MAX: u32 = 5;

/// Wait before the second try, doubled before each further one, unless ARM says how long.
const WAIT: Duration = Duration::from_secs(1);

/// Wait of a throttled call, unless ARM says how long.
const THROTTLED_WAIT: Duration = Duration::from_secs(10);

/// Longest wait that ARM may ask for; a call that should wait longer fails.
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// Largest answer that is read, in bytes, and all pages of a list together; a page is far below 1 MiB.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most pages of a list. A registry has at most 500 webhooks.
const PAGES_MAX: usize = 100;

/// See [`Client::hide`].
const HIDDEN_BYTES_MIN: usize = 4;

/// An Azure, of which there are several that know nothing of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// The one that most people mean.
    Public,
    /// Azure operated by 21Vianet.
    China,
    /// Azure Government of the United States.
    UsGov,
}

impl Place {
    /// ARM's address there, which is also the resource that its tokens are for.
    #[must_use]
    pub fn address(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com/",
            Self::China => "https://management.chinacloudapi.cn/",
            Self::UsGov => "https://management.usgovcloudapi.net/",
        }
    }
}

/// ARM at one address, for one identity. See the module's guarantees.
pub struct Client {
    base: Url,
    tokens: Tokens,
    http: Outgoing,
    clock: Arc<dyn Clock>,
    notice: Box<dyn Fn(&str) + Send + Sync>,
    /// See [`secret::core`].
    hidden: Mutex<BTreeSet<Vec<u8>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// What ARM answered to a call that it did not refuse.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `null` for an empty one.
    pub(super) body: Value,
    /// Length of the body as it came.
    bytes: usize,
    /// Where to ask how the operation goes on; may have changed since the last answer.
    pub(super) operation: Option<String>,
    pub(super) location: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

impl Client {
    /// Prepares calls to the ARM at `address`, or at that of `place`; sends nothing yet. Waits go through `clock`, and what a
    /// waiting person should know goes to `notice`, one sentence at a time.
    ///
    /// # Errors
    /// The address is none that a token may be sent to.
    pub fn new(
        place: Place,
        address: Option<&Url>,
        credential: Credential,
        clock: Arc<dyn Clock>,
        notice: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let base = match address {
            Some(given) => given.clone(),
            None => Url::parse(place.address()).map_err(|e| e.to_string())?,
        };
        let here = is_loopback(&base);
        if base.scheme() != "https" && !(base.scheme() == "http" && here) {
            return Err("the address of ARM must begin with https://: a token sent in the clear can be stolen".into());
        }
        let bare = base.query().is_none() && base.fragment().is_none() && base.path() == "/";
        if !bare || !base.username().is_empty() || base.password().is_some() {
            return Err("the address of ARM is a scheme and a host only, such as https://management.azure.com".into());
        }
        Ok(Self {
            base,
            tokens: Tokens::new(credential, place.address().to_owned()),
            http: Outgoing::new(move || client(here)),
            clock,
            notice: Box::new(notice),
            hidden: Mutex::default(),
        })
    }

    /// Keeps `secret` out of every error: ARM repeats in some what it was sent, in a spelling of its own. What has fewer than
    /// 4 letters and digits is no key, and would stand in every sentence.
    pub fn hide(&self, secret: &str) {
        let core = secret::core(secret);
        if core.len() >= HIDDEN_BYTES_MIN {
            self.hidden.lock().unwrap_or_else(PoisonError::into_inner).insert(core);
        }
    }

    /// The address of a resource, or of an action on it.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>, version: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url.query_pairs_mut().append_pair("api-version", version);
        url
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// A sentence for a person who waits.
    pub(super) fn notice(&self, text: &str) {
        (self.notice)(text);
    }

    /// A link of an answer, if it leads to this ARM.
    pub(super) fn link(&self, text: &str, call: &str) -> Result<Url, Error> {
        let url = Url::parse(text).ok().filter(|url| url.origin() == self.base.origin());
        url.filter(|url| url.username().is_empty() && url.password().is_none()).ok_or_else(|| {
            let host = self.base.host_str().unwrap_or_default();
            Error::Odd(format!(
                "To {call}, Azure's answer points away from {host}; no token is sent there. Check --cloud and proxies."
            ))
        })
    }

    pub(super) async fn get(&self, call: &str, url: Url) -> Result<Answer, Error> {
        self.call(call, Method::GET, url, None).await
    }

    /// All entries of a list, over all its pages.
    pub(super) async fn list(&self, call: &str, mut url: Url) -> Result<Vec<Value>, Error> {
        let (mut all, mut bytes) = (Vec::new(), 0);
        for _ in 0..PAGES_MAX {
            let mut answer = self.get(call, url).await?;
            bytes += answer.bytes;
            let page = answer.body.get_mut("value").map(Value::take);
            let (Some(Value::Array(page)), true) = (page, bytes <= ANSWER_BYTES_MAX) else {
                return Err(Error::Odd(format!(
                    "To {call}, Azure answered with something that is no list, or too long."
                )));
            };
            all.extend(page);
            match answer.body.get("nextLink") {
                None | Some(Value::Null) => return Ok(all),
                Some(Value::String(none)) if none.is_empty() => return Ok(all),
                Some(next) => url = self.link(next.as_str().unwrap_or_default(), call)?,
            }
        }
        Err(Error::Odd(format!("To {call}, Azure answered with more than {PAGES_MAX} pages.")))
    }

    /// A call that may be made again when its outcome is not known. `call` says in a few words what it is for.
    ///
    /// A token that is refused is renewed once. A throttled call waits as long as ARM says. No answer, or a 5xx, is tried again.
    pub(super) async fn call(
        &self,
        call: &str,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<Answer, Error> {
        let (mut tries, mut refused, mut wait) = (0, None::<String>, WAIT);
        loop {
            let token = self.tokens.get(refused.as_deref(), self.clock()).await?;
            let got = self.once(call, &method, &url, body, &token).await;
            if refused.is_none() && matches!(&got, Err((error, _)) if error.status() == Some(401)) {
                refused = Some(token);
                continue;
            }
            tries += 1;
            let (error, asked) = match got {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let throttled = error.status() == Some(429);
            let passing = throttled
                || error.status().is_some_and(|status| status >= 500)
                || matches!(error, Error::Unreachable(_));
            let pause = asked.unwrap_or(if throttled { THROTTLED_WAIT } else { wait });
            if !passing || tries >= TRIES_MAX || pause > WAIT_MAX {
                return Err(error);
            }
            if throttled {
                self.notice(&format!("Azure limits the calls: waiting {} s.", pause.as_secs()));
            }
            self.clock.sleep(pause).await;
            wait *= 2;
        }
    }

    /// One try. With an error comes how long ARM wants to be left alone.
    async fn once(
        &self,
        call: &str,
        method: &Method,
        url: &Url,
        body: Option<&Value>,
        token: &str,
    ) -> Result<Answer, (Error, Option<Duration>)> {
        let at_once = |error| (error, None);
        let client = self
            .http
            .client()
            .await
            .map_err(|why| at_once(Error::Odd(format!("To {call} is not possible: {why}."))))?;
        let mut request = client.request(method.clone(), url.clone()).bearer_auth(token);
        request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(body.to_string()),
            // ARM refuses a POST that does not say that it has no body.
            None if *method == Method::POST => request.header(header::CONTENT_LENGTH, 0),
            None => request,
        };
        let lost = |error: reqwest::Error| at_once(self.lost(call, &error));
        let mut answer = request.send().await.map_err(lost)?;
        let Some(bytes) = outgoing::body(&mut answer, ANSWER_BYTES_MAX).await.map_err(lost)? else {
            return Err(at_once(Error::Odd(format!("To {call}, Azure gave an answer without an end."))));
        };
        let said = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = answer.status();
        let retry_after = said("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let parsed: Option<Value> = if bytes.iter().all(u8::is_ascii_whitespace) {
            Some(Value::Null)
        } else {
            serde_json::from_slice(&bytes).ok()
        };
        if status.is_success() {
            let body = parsed.ok_or_else(|| {
                at_once(Error::Odd(format!(
                    "To {call}, Azure answered with something that is no JSON. Is a proxy in between?"
                )))
            })?;
            let (operation, location) = (said("azure-asyncoperation"), said("location"));
            return Ok(Answer { status, body, bytes: bytes.len(), operation, location, retry_after });
        }
        if status.is_redirection() {
            let words =
                format!("To {call}, Azure answered with a redirect, which is not followed. Is a proxy in between?");
            return Err(at_once(Error::Odd(words)));
        }
        let (code, message) = code_and_message(&parsed.unwrap_or_default(), |text| self.without_secrets(text));
        let refused = Error::Refused {
            status: status.as_u16(),
            code,
            message,
            call: call.to_owned(),
            correlation: said("x-ms-correlation-request-id").unwrap_or_default().chars().take(64).collect(),
        };
        Err((refused, retry_after))
    }

    /// `text` of ARM, or that it was left out: where something that must not be shown stands in it, in whatever spelling, the
    /// place of its last byte is not known.
    pub(super) fn without_secrets(&self, text: String) -> String {
        let core = secret::core(&text);
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        let shows = |hidden: &Vec<u8>| core.windows(hidden.len()).any(|part| part == hidden);
        if hidden.iter().any(shows) { "(left out, since it repeats a key)".to_owned() } else { text }
    }

    fn lost(&self, call: &str, error: &reqwest::Error) -> Error {
        let host = self.base.host_str().unwrap_or_default();
        let why = match (error.is_connect(), error.is_timeout()) {
            (true, true) => "no connection in time".to_owned(),
            (true, false) => format!("no connection ({})", outgoing::cause(error)),
            (false, true) => "no answer in time".to_owned(),
            (false, false) => format!("the connection broke ({})", outgoing::cause(error)),
        };
        Error::Unreachable(format!(
            "To {call}, Azure ({host}) could not be reached: {why}. Check the network and its proxy."
        ))
    }
}

/// Redirects would take the token along.
fn client(here: bool) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("global-webhook/", env!("CARGO_PKG_VERSION")));
    if here { builder.no_proxy() } else { builder }.build()
}
