//! One request for a token of the app's managed identity, at the endpoint that App Service and Functions offer to the app.
//!
//! Who asks keeps and renews what it got: a storage that is asked all the time does that otherwise than a command that ends.

use std::time::Duration;

use serde::Deserialize;

use crate::clock::Instant;
use crate::config::storage::Identity;
use crate::outgoing::{self, Outgoing};

/// Time of one request for a token.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer that is read, in bytes; a token has about 2 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A token and its end.
pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) ends: Instant,
}

/// Why there is no token. None holds a word of the answer, which may be secret.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No client can be set up on this machine.
    Client(&'static str),
    /// The exchange failed.
    Connection(reqwest::Error),
    /// The answer has more than [`ANSWER_BYTES_MAX`].
    TooLarge,
    /// The endpoint refused.
    Status(u16),
    /// The answer is no token.
    Odd,
}

/// The token in what an issuer says, be it the endpoint or the Azure CLI, and its end where the issuer tells it. What no header
/// can hold is no token.
pub(crate) fn issued(said: &[u8]) -> Option<(String, Option<Instant>)> {
    #[derive(Deserialize)]
    struct Issued {
        #[serde(alias = "accessToken")]
        access_token: String,
        /// Seconds since 1970, as text or as a number. Older CLIs have only `expiresOn`, a local time without its zone, which
        /// says nothing.
        #[serde(default)]
        expires_on: serde_json::Value,
    }
    let Issued { access_token, expires_on } = serde_json::from_slice(said).ok()?;
    if access_token.is_empty() || !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let seconds = expires_on.as_str().map_or_else(|| expires_on.as_i64(), |text| text.parse().ok());
    Some((access_token, seconds.and_then(|seconds| Instant::from_timestamp(seconds, 0))))
}

/// Asks once for a token that `resource` accepts.
pub(crate) async fn ask(client: &Outgoing, identity: &Identity, resource: &str) -> Result<Token, Trouble> {
    let mut query = vec![("api-version", "2019-08-01"), ("resource", resource)];
    if let Some(id) = &identity.client_id {
        query.push(("client_id", id));
    }
    let client = client.client().await.map_err(Trouble::Client)?;
    let request = client.get(&identity.endpoint).query(&query).header("X-IDENTITY-HEADER", &identity.header);
    let mut answer = request.send().await.map_err(Trouble::Connection)?;
    let status = answer.status();
    let body = outgoing::body(&mut answer, ANSWER_BYTES_MAX).await.map_err(Trouble::Connection)?;
    let body = body.ok_or(Trouble::TooLarge)?;
    if !status.is_success() {
        return Err(Trouble::Status(status.as_u16()));
    }
    let (secret, ends) = issued(&body).ok_or(Trouble::Odd)?;
    Ok(Token { secret, ends: ends.ok_or(Trouble::Odd)? })
}

/// A client for [`ask`]. The endpoint is on this machine; a proxy would only lose the request.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(REQUEST_TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build()
}
