//! What a receiver's answer, or the lack of one, means for the outbox.
//!
//! Guarantee: a reason is short, one line, and names neither URL nor user; a receiver that repeats what is secret here is not
//! quoted at all.

use std::error::Error;
use std::time::Duration;

use chrono::DateTime;
use percent_encoding::percent_decode_str;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::payload::Format;
use super::target::TargetSettings;
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::AttemptResult;

/// A failure for `reason`, without a wish of the receiver.
pub(super) fn failed(reason: impl Into<String>) -> AttemptResult {
    AttemptResult::Failed { reason: reason.into(), retry_after: None }
}

/// What a receiver may repeat of its target's settings and nobody may read in a row: the path and query of its URL, where
/// many have their secret, its password, and the values of its headers.
#[derive(Default)]
pub struct Confidential(Vec<String>);

/// Parts shorter than this are no secrets, in bytes, but words like `hooks` that a receiver may use of itself.
const PART_BYTES_MIN: usize = 8;

impl Confidential {
    /// What is confidential of a target.
    #[must_use]
    pub fn of(settings: &TargetSettings) -> Self {
        let url = &settings.url;
        let whole = [url.path().trim_matches('/'), url.query().unwrap_or_default()].map(str::to_owned);
        let segments = url.path_segments().into_iter().flatten().filter(|s| s.len() >= 2 * PART_BYTES_MIN);
        let values = url.query_pairs().map(|(_, value)| value.into_owned());
        let password = url.password().map(str::to_owned);
        let headers = settings.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let words = headers.flat_map(|value| {
            let words: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
            words.into_iter().chain([value])
        });
        let parts = segments.map(str::to_owned).chain(values).chain(words).chain(password);
        Self(whole.into_iter().chain(parts).filter(|part| part.len() >= PART_BYTES_MIN).collect())
    }

    /// Whether `text` repeats any of it, as it is or escaped as in a URL.
    fn is_repeated_in(&self, text: &str) -> bool {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let decoded = plain(text);
        self.0.iter().any(|part| text.contains(part) || decoded.contains(&plain(part)))
    }
}

/// The result of an answer with `status`; `text` is the beginning of its body.
#[must_use]
pub fn result(
    format: Format,
    status: StatusCode,
    headers: &HeaderMap,
    text: &[u8],
    confidential: &Confidential,
    now: Instant,
) -> AttemptResult {
    let whole = String::from_utf8_lossy(text);
    let text = if confidential.is_repeated_in(&whole) { "(it repeats a secret)".into() } else { one_line(&whole) };
    let said = |what: String| if text.is_empty() { what } else { format!("{what}: {text}") };
    if status.is_success() {
        // Teams' connectors hide their throttling in the text of a 200.
        if format == Format::Teams && whole.contains("returned HTTP error 429") {
            return AttemptResult::Failed { reason: said("throttled".into()), retry_after: retry_after(headers, now) };
        }
        return AttemptResult::Confirmed { status: status.as_u16() };
    }
    if status == StatusCode::GONE {
        return AttemptResult::Refused { reason: said("410 Gone".into()) };
    }
    let reason = if status.is_redirection() {
        format!("{}, a redirect, not followed: configure the final URL", status.as_u16())
    } else {
        said(status.to_string())
    };
    AttemptResult::Failed { reason, retry_after: retry_after(headers, now) }
}

/// The result of an exchange that broke off. What the client itself says of it names the URL, so only the cause is told.
pub(super) fn broken(error: &reqwest::Error, limit: Duration) -> AttemptResult {
    if error.is_timeout() {
        return failed(format!("no complete answer within {} s", limit.as_secs_f32()));
    }
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    let what = if error.is_connect() { "cannot connect" } else { "the exchange broke off" };
    failed(match cause {
        Some(cause) => format!("{what}: {}", one_line(&cause.to_string())),
        None => what.to_owned(),
    })
}

/// The receiver's wish: seconds, or an instant of HTTP.
fn retry_after(headers: &HeaderMap, now: Instant) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?.to_utc();
    Some(clock::until(now, until))
}

/// `text` on one line, without control characters, cut to [`limits::REASON_BYTES_MAX`].
fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > limits::REASON_BYTES_MAX {
        line.truncate(line.floor_char_boundary(limits::REASON_BYTES_MAX - "…".len()));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::config::targets::targets;
    use proptest::prelude::*;

    fn after(value: &str) -> Option<Duration> {
        let now = DateTime::parse_from_rfc3339("2026-11-22T10:00:00Z").unwrap().to_utc();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        let nothing = Confidential::default();
        match result(Format::Acr, StatusCode::SERVICE_UNAVAILABLE, &headers, b"", &nothing, now) {
            AttemptResult::Failed { retry_after, .. } => retry_after,
            AttemptResult::Confirmed { .. } | AttemptResult::NotBegun { .. } | AttemptResult::Refused { .. } => {
                panic!("a failure")
            }
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(after("Sun, 22 Nov 2026 10:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(after("Sun, 22 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        for bad in ["", "-1", "1.5", "soon", "Fri, 99 Nov 2026 10:01:30 GMT"] {
            assert_eq!(after(bad), None, "{bad}");
        }
    }

    #[test]
    fn answers_mean_what_they_should() {
        let told = |status: u16, text: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let (headers, nothing) = (HeaderMap::new(), Confidential::default());
            result(Format::Teams, status, &headers, text.as_bytes(), &nothing, Instant::UNIX_EPOCH)
        };
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(told(status, "ok"), AttemptResult::Confirmed { status });
        }
        assert_eq!(
            told(410, "channel_is_archived"),
            AttemptResult::Refused { reason: "410 Gone: channel_is_archived".into() }
        );
        assert_eq!(told(404, "no\r\n\u{1b}[31m such\thook"), failed("404 Not Found: no [31m such hook"));
        assert_eq!(told(500, ""), failed("500 Internal Server Error"));
        assert_eq!(told(307, "moved"), failed("307, a redirect, not followed: configure the final URL"));
        let throttled = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x";
        assert!(matches!(told(200, throttled), AttemptResult::Failed { .. }));
    }

    #[test]
    fn what_is_secret_here_is_not_quoted() {
        let json = r#"[{"name": "ops", "url": "https://x.example/hooks/T0123/aVeryLongSecretOfThePath?sig=q%2Fsecret%20value&v=1",
            "headers": {"Authorization": "Bearer token-of-ours"}}]"#;
        let source = Source::new([("WebhookTargets".into(), json.into())]);
        let settings = targets(&source, &mut Vec::new()).pop().unwrap();
        let confidential = Confidential::of(&settings);
        let told = |text: &str| {
            let reply = (StatusCode::NOT_FOUND, HeaderMap::new());
            match result(Format::Acr, reply.0, &reply.1, text.as_bytes(), &confidential, Instant::UNIX_EPOCH) {
                AttemptResult::Failed { reason, .. } => reason,
                AttemptResult::Confirmed { .. } | AttemptResult::NotBegun { .. } | AttemptResult::Refused { .. } => {
                    panic!("a failure")
                }
            }
        };
        for text in [
            "Cannot POST /hooks/T0123/aVeryLongSecretOfThePath",
            "no such token: aVeryLongSecretOfThePath",
            "{\"path\":\"\\/hooks\\/T0123\\/aVeryLongSecretOfThePath\"}",
            "sig=q%2Fsecret%20value is wrong",
            "bad signature q/secret value",
            "bad signature q%2fsecret%20value",
            "Authorization: Bearer token-of-ours",
            "unknown token token-of-ours",
        ] {
            assert_eq!(told(text), "404 Not Found: (it repeats a secret)", "{text}");
        }
        assert_eq!(told("no hooks at T0123, v=1"), "404 Not Found: no hooks at T0123, v=1");
    }

    proptest! {
        #[test]
        fn a_line_is_short_and_plain(text in "\\PC*|[\\x00-\\x7f]{0,600}|é{0,400}") {
            let line = one_line(&text);
            prop_assert!(line.len() <= limits::REASON_BYTES_MAX && !line.chars().any(char::is_control));
        }
    }
}
