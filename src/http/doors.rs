//! Who may come in: callers with a key, programs of this machine, or the Functions host itself.
//!
//! Guarantees
//! - *Two keys.* The registry's opens ImagePush and nothing else, the operators' opens everything. A door without a key of its
//!   own is shut once there is any key.
//! - *No page of a browser* comes in where there is no key. The listener is on loopback then, but every page that this
//!   machine's browser shows can reach it, if need be under a name that resolves to it: foreign `Host`, `Origin` and
//!   `Sec-Fetch-Site` are refused.
//! - *`/TimeoutCheck` is the Functions host's own.* The host resolves dots and backslashes of a route that it forwards, so a
//!   caller can make it ask for any path. What it asks for itself has no query, no key, and nothing of a caller or a front end.
//! - *Guessing is slow.* After a wrong key, every verdict on that sender waits, a right one too, since one that came at once
//!   would tell; never for more than half a second, which the registry's patience has room for.
//!
//! Knowingly accepted: who guesses over many connections waits on all of them at once. What a guess cannot find is a long key.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use lru::LruCache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::Problem;
use super::query;
use crate::clock::{Clock, Instant};
use crate::limits;

/// Longest wait for a verdict. With an arrival's budget it stays below the registry's 5 s.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Wait after the first wrong key; doubled with each.
const PAUSE_MIN: Duration = Duration::from_millis(25);

/// After this long, one wrong key of a sender is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Who may come in.
pub enum Doors {
    /// Everybody: the Functions host has checked the key.
    Host,
    /// Programs of this machine.
    Local,
    /// Callers with a key.
    Keys(Keys),
}

/// The keys, and who had a wrong one.
pub struct Keys {
    registry: Option<[u8; 32]>,
    operator: Option<[u8; 32]>,
    wrong: Mutex<LruCache<IpAddr, Wrong>>,
}

/// The wrong keys of a sender.
struct Wrong {
    count: u32,
    last: Instant,
}

/// What a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The registry's.
    ImagePush,
    /// Lists, what is done to a push, and metrics.
    Pushes,
}

impl Doors {
    /// Doors that ask for these keys; [`Doors::Local`] when there is none.
    #[must_use]
    pub fn of(registry: Option<&str>, operator: Option<&str>) -> Self {
        if registry.is_none() && operator.is_none() {
            return Self::Local;
        }
        let size = NonZeroUsize::new(limits::WRONG_SENDERS_MAX).unwrap_or(NonZeroUsize::MIN);
        let [registry, operator] = [registry, operator].map(|key| key.map(digest));
        Self::Keys(Keys { registry, operator, wrong: Mutex::new(LruCache::new(size)) })
    }

    /// Lets the request in.
    pub(super) async fn enter(&self, request: &HttpRequest, door: Door, clock: &dyn Clock) -> Result<(), Problem> {
        match self {
            Self::Host => Ok(()),
            Self::Local if is_of_this_machine(request.headers()) => Ok(()),
            Self::Local => Err(Problem::foreign()),
            Self::Keys(keys) => keys.enter(request, door, clock).await,
        }
    }

    /// Whether this is behind the Functions host, which alone calls `/TimeoutCheck`.
    pub(super) fn are_the_hosts(&self) -> bool {
        matches!(self, Self::Host)
    }

    /// Whether the key that opens ImagePush may open the links of its answers too.
    pub(super) fn key_follows_links(&self) -> bool {
        !matches!(self, Self::Keys(_))
    }
}

impl Keys {
    async fn enter(&self, request: &HttpRequest, door: Door, clock: &dyn Clock) -> Result<(), Problem> {
        // As the Functions host does: the header counts before the query. What scrapes metrics has a header of its own.
        let given = match request.headers().get("x-functions-key") {
            Some(value) => digest(value.as_bytes()),
            None => match query::values(request.query_string(), "code").into_iter().next() {
                Some(code) => digest(code),
                None => digest(bearer(request.headers()).unwrap_or_default()),
            },
        };
        let sender = request.peer_addr().map(|peer| network(peer.ip()));
        let pause = sender.map_or(Duration::ZERO, |sender| self.pause(sender, clock.now()));
        if !pause.is_zero() {
            clock.sleep(pause).await;
        }
        let is = |key: &Option<[u8; 32]>| key.is_some_and(|key| bool::from(key.ct_eq(&given)));
        let (registry, operator) = (is(&self.registry), is(&self.operator));
        match door {
            Door::ImagePush if registry || operator => Ok(()),
            Door::Pushes if operator => Ok(()),
            // A key that is right elsewhere is no guess.
            Door::Pushes if registry => Err(Problem::operators_only()),
            Door::ImagePush | Door::Pushes => {
                if let Some(sender) = sender {
                    self.note(sender, clock.now());
                }
                Err(Problem::unauthorised())
            }
        }
    }

    /// How long the verdict on a sender waits.
    fn pause(&self, sender: IpAddr, now: Instant) -> Duration {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let count = wrong.get(&sender).map_or(0, |wrong| wrong.left(now));
        match count {
            0 => Duration::ZERO,
            _ => PAUSE_MIN.saturating_mul(1 << (count - 1).min(10)).min(PAUSE_MAX),
        }
    }

    /// A sender had a wrong key.
    fn note(&self, sender: IpAddr, now: Instant) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let count = wrong.get(&sender).map_or(0, |wrong| wrong.left(now));
        wrong.put(sender, Wrong { count: count.saturating_add(1).min(10), last: now });
    }
}

impl Wrong {
    /// Wrong keys that are not forgotten yet.
    fn left(&self, now: Instant) -> u32 {
        let since = crate::clock::until(self.last, now).as_secs() / FORGOTTEN.as_secs();
        self.count.saturating_sub(u32::try_from(since).unwrap_or(u32::MAX))
    }
}

/// Keys are compared by their hashes, which are of one length.
fn digest(key: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whom an address stands for: whoever has one IPv6 address has its whole network.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// All values of a header, as text; what is no text is empty.
fn all<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Vec<&'r str> {
    headers.get_all(name).map(|value| value.to_str().unwrap_or_default()).collect()
}

/// Whether a request comes from a program of this machine, as far as a browser would tell.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let host = match all(headers, &header::HOST)[..] {
        [] => return true,
        [host] if is_loopback(host) => host,
        _ => return false,
    };
    let own = |origin: &str| origin.strip_prefix("http://").is_some_and(|from| from.eq_ignore_ascii_case(host));
    let direct = |site: &str| matches!(site, "same-origin" | "none");
    all(headers, &header::ORIGIN).into_iter().all(own)
        && all(headers, &HeaderName::from_static("sec-fetch-site")).into_iter().all(direct)
}

/// Whether an authority, with or without a port, is this machine by its very name.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        Some(_) | None => (authority, ""),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    port.bytes().all(|b| b.is_ascii_digit())
        && (host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// Beginnings of headers that the host's own calls never have: of callers, of their keys, and of front ends.
const OF_CALLERS: [&str; 16] = [
    "x-functions-",
    "x-forwarded",
    "x-arr-",
    "x-original-",
    "x-waws-",
    "x-appservice-",
    "x-site-",
    "x-client-",
    "client-ip",
    "disguised-host",
    "forwarded",
    "authorization",
    "cookie",
    "origin",
    "referer",
    "sec-",
];

/// Whether a call is the Functions host's own, and not one that it forwards.
pub(super) fn is_of_the_host(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let host = all(headers, &header::HOST);
    let agent = all(headers, &header::USER_AGENT);
    let invocation = all(headers, &HeaderName::from_static("x-azure-functions-invocationid"));
    // What it forwards has the caller's host; its own words come behind the caller's, if there are any.
    matches!(host[..], [host] if host == "127.0.0.1" || host.starts_with("127.0.0.1:"))
        && matches!(agent[..], [agent] if agent.starts_with("Azure-Functions-Host/") && !agent.contains([' ', ',']))
        && matches!(invocation[..], [id] if !id.contains(','))
        && request.query_string().is_empty()
        && !headers.contains_key(header::ACCEPT)
        && !headers.keys().any(|name| OF_CALLERS.iter().any(|start| name.as_str().starts_with(start)))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> HttpRequest {
        headers
            .iter()
            .fold(TestRequest::with_uri(uri), |request, (name, value)| request.append_header((*name, *value)))
            .to_http_request()
    }

    #[test]
    fn pages_and_names_of_others_are_told_from_programs_of_this_machine() {
        for headers in [
            &[][..],
            &[("Host", "localhost:7071")],
            &[("Host", "LOCALHOST")],
            &[("Host", "127.0.0.1:1")],
            &[("Host", "[::1]:7071")],
            &[("Host", "[::1]")],
            &[("Host", "localhost:7071"), ("Origin", "http://localhost:7071"), ("Sec-Fetch-Site", "same-origin")],
            &[("Host", "localhost:7071"), ("Sec-Fetch-Site", "none")],
        ] {
            assert!(is_of_this_machine(request("/", headers).headers()), "{headers:?}");
        }
        for headers in [
            &[("Host", "evil.example")][..],
            &[("Host", "127.0.0.1.evil.example")],
            &[("Host", "localhost:evil")],
            &[("Host", "")],
            &[("Host", "localhost"), ("Host", "evil.example")],
            &[("Host", "localhost"), ("Origin", "https://evil.example")],
            &[("Host", "localhost"), ("Origin", "null")],
            &[("Host", "localhost:7071"), ("Origin", "http://localhost:3000")],
            &[("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")],
            &[("Host", "localhost"), ("Sec-Fetch-Site", "same-site")],
        ] {
            assert!(!is_of_this_machine(request("/", headers).headers()), "{headers:?}");
        }
    }

    #[test]
    fn a_call_of_the_host_has_nothing_of_a_caller() {
        let own = [
            ("Host", "127.0.0.1:46205"),
            ("X-Azure-Functions-HostVersion", "4.1037.0.0"),
            ("X-Azure-Functions-InvocationId", "85a1b04c-8edc-499b-a343-ae164dad5b1b"),
            ("User-Agent", "Azure-Functions-Host/4.1037.0.0"),
            ("Content-Type", "application/json; charset=utf-8"),
        ];
        assert!(is_of_the_host(&request("/TimeoutCheck", &own)));
        assert!(!is_of_the_host(&request("/TimeoutCheck?code=k", &own)));
        for (name, value) in own.into_iter().take(4).filter(|(name, _)| !name.ends_with("HostVersion")) {
            let without: Vec<_> = own.into_iter().filter(|(n, _)| *n != name).collect();
            assert!(!is_of_the_host(&request("/TimeoutCheck", &without)), "{name}");
            let forged = format!("a, {value}");
            let forged: Vec<_> = without.iter().copied().chain([(name, forged.as_str())]).collect();
            assert!(!is_of_the_host(&request("/TimeoutCheck", &forged)), "{name}");
        }
        for more in ["x-functions-key", "X-Forwarded-For", "Accept", "Cookie", "Sec-Fetch-Site"] {
            let with: Vec<_> = own.into_iter().chain([(more, "x")]).collect();
            assert!(!is_of_the_host(&request("/TimeoutCheck", &with)), "{more}");
        }
    }

    #[test]
    fn a_sender_of_wrong_keys_waits_and_is_forgiven() {
        let Doors::Keys(keys) = Doors::of(Some("right"), None) else { panic!("keys") };
        let at = |seconds: i64| Instant::UNIX_EPOCH + chrono::Duration::seconds(seconds);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let mut pauses = Vec::new();
        for _ in 0..100 {
            pauses.push(keys.pause(one, at(0)).as_millis());
            keys.note(one, at(0));
        }
        assert_eq!(pauses[..7], [0, 25, 50, 100, 200, 400, 500]);
        assert_eq!((pauses[99], keys.pause(other, at(0))), (500, Duration::ZERO));
        assert_eq!(keys.pause(one, at(99)), PAUSE_MIN);
        assert_eq!(keys.pause(one, at(100)), Duration::ZERO);
        for n in 0..5000_u32 {
            keys.note(std::net::Ipv4Addr::from_bits(n).into(), at(0));
        }
        assert_eq!(keys.wrong.lock().unwrap().len(), limits::WRONG_SENDERS_MAX);
        assert_eq!(network("2001:db8::1:2:3:4".parse().unwrap()), "2001:db8::".parse::<IpAddr>().unwrap());
    }
}
