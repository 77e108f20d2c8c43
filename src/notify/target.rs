//! One receiver, as the settings describe it.
//!
//! Guarantee: nothing that opens a door is shown by `Debug` or `Display`: secrets and header values never, of a URL only scheme,
//! host and port.

use std::fmt;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName};

use super::payload::Format;
use super::signature::Secret;
use crate::push::policy::Target;

/// One receiver: whom to tell of what, where, and how.
#[derive(Clone)]
pub struct TargetSettings {
    /// Whom to tell of what: the part that the engine sees.
    pub policy: Target,
    /// Where notifications are posted; `http` or `https`.
    pub url: Url,
    /// Shape of the body.
    pub format: Format,
    /// At most two, each signs: the old and the new one while they are rotated. Empty means unsigned.
    pub secrets: Vec<Secret>,
    /// Sent as they are; none of the reserved ones. Values are marked sensitive.
    pub headers: HeaderMap,
    /// Plain `http` to a host other than loopback is accepted.
    pub allow_http: bool,
    /// Loopback and private addresses are accepted. Link-local ones never are.
    pub allow_private: bool,
}

impl fmt::Debug for TargetSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetSettings")
            .field("policy", &self.policy)
            .field("url", &shown(&self.url))
            .field("format", &self.format)
            .field("secrets", &self.secrets)
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .field("allow_http", &self.allow_http)
            .field("allow_private", &self.allow_private)
            .finish()
    }
}

/// One line for people: `deploy: acr to https://flux.example/…, signed, of replicated, recovered`.
impl fmt::Display for TargetSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = if self.secrets.is_empty() { "unsigned" } else { "signed" };
        let notices: Vec<&str> = self.policy.notices.iter().map(|n| n.word()).collect();
        let (name, format, url) = (&self.policy.name, self.format.word(), shown(&self.url));
        write!(f, "{name}: {format} to {url}, {signed}, of {}", notices.join(", "))?;
        if self.policy.companions { f.write_str(", companions too") } else { Ok(()) }
    }
}

/// What may be shown of a URL: scheme, host and port, and whether there is more.
#[must_use]
pub fn shown(url: &Url) -> String {
    let more = if url.path().len() > 1 || url.query().is_some() { "…" } else { "" };
    format!("{}/{more}", url.origin().ascii_serialization())
}
