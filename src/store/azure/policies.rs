//! What is changed in the requests that the crates make, before they are signed.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::headers::{CONTENT_LENGTH, CONTENT_TYPE, MS_DATE};
use azure_core::{Body, Context, Policy, PolicyResult, Request};

use super::connection::{FOREVER, status};
use super::transport::HTTP_DATE;
use crate::clock::{Clock as _, StorageClock};

/// Turns a message's life of [`FOREVER`] into the -1 the crates cannot say.
#[derive(Debug)]
pub(super) struct TtlForever;

#[async_trait]
impl Policy for TtlForever {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let forever = FOREVER.as_secs().to_string();
        let pairs: Vec<(String, String)> = request.url().query_pairs().into_owned().collect();
        if pairs.iter().any(|(name, value)| name == "messagettl" && *value == forever) {
            let mut query = request.url_mut().query_pairs_mut();
            query.clear();
            for (name, value) in &pairs {
                query.append_pair(name, if name == "messagettl" { "-1" } else { value });
            }
        }
        pass_on(context, request, next).await
    }
}

/// Dates requests by the time that counts. The crates date them by the machine's clock, and the service refuses what is signed and
/// a quarter of an hour off: a clock that somebody has set would cost every request. A process that starts with a wrong clock
/// learns the time from such a refusal, and asks again; what is refused has not been applied.
pub(super) struct Dated(pub(super) Arc<StorageClock>);

impl std::fmt::Debug for Dated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dated")
    }
}

#[async_trait]
impl Policy for Dated {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let ahead = self.0.ahead().unwrap_or_default();
        request.insert_header(MS_DATE, self.0.now().format(HTTP_DATE).to_string());
        let answered = pass_on(context, request, next).await;
        let refused = answered.as_ref().is_err_and(|error| status(error) == Some(403));
        if !refused || self.0.ahead().unwrap_or_default() == ahead {
            return answered;
        }
        request.insert_header(MS_DATE, self.0.now().format(HTTP_DATE).to_string());
        pass_on(context, request, next).await
    }
}

/// Escapes what is not ASCII in a JSON body. Azurite decodes each piece of a body as it comes off the network, and turns a
/// character that lies across two pieces into replacement characters; the row would be stored broken.
#[derive(Debug)]
pub(super) struct AsciiJson;

#[async_trait]
impl Policy for AsciiJson {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let json = request.headers().get_optional_str(&CONTENT_TYPE).is_some_and(|t| t.starts_with("application/json"));
        if let (true, Body::Bytes(bytes)) = (json, request.body())
            && let Ok(text) = std::str::from_utf8(bytes)
            && !text.is_ascii()
        {
            let escaped = ascii(text);
            request.insert_header(CONTENT_LENGTH, escaped.len().to_string());
            request.set_body(escaped);
        }
        pass_on(context, request, next).await
    }
}

/// The same JSON in ASCII: outside of strings it is ASCII already, and in a string a `\u` escape is the same character.
fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() * 2);
    for c in json.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

async fn pass_on(context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
    match next.split_first() {
        Some((following, rest)) => following.send(context, request, rest).await,
        None => Err(azure_core::Error::message(ErrorKind::Other, "no transport")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaped_json_is_the_same_json_in_ascii(name in ".*", text in ".*") {
            let json = serde_json::json!({ name: text });
            let escaped = ascii(&json.to_string());
            prop_assert!(escaped.is_ascii());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), json);
        }
    }
}
