//! What a receiver's answer, or the lack of one, means for the outbox.
//!
//! Guarantee: a reason is short, one line, and names neither URL nor user.

use std::error::Error;
use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::payload::Format;
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::AttemptResult;

/// A failure for `reason`, without a wish of the receiver.
pub(super) fn failed(reason: impl Into<String>) -> AttemptResult {
    AttemptResult::Failed { reason: reason.into(), retry_after: None }
}

/// The result of an answer with `status`; `text` is the beginning of its body.
#[must_use]
pub fn result(format: Format, status: StatusCode, headers: &HeaderMap, text: &[u8], now: Instant) -> AttemptResult {
    let text = one_line(&String::from_utf8_lossy(text));
    let said = |what: String| if text.is_empty() { what } else { format!("{what}: {text}") };
    if status.is_success() {
        // Teams' connectors hide their throttling in the text of a 200.
        if format == Format::Teams && text.contains("returned HTTP error 429") {
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
    use proptest::prelude::*;

    fn after(value: &str) -> Option<Duration> {
        let now = DateTime::parse_from_rfc3339("2026-11-22T10:00:00Z").unwrap().to_utc();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        match result(Format::Acr, StatusCode::SERVICE_UNAVAILABLE, &headers, b"", now) {
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
            result(Format::Teams, status, &HeaderMap::new(), text.as_bytes(), Instant::UNIX_EPOCH)
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

    proptest! {
        #[test]
        fn a_line_is_short_and_plain(text in "\\PC*|[\\x00-\\x7f]{0,600}|é{0,400}") {
            let line = one_line(&text);
            prop_assert!(line.len() <= limits::REASON_BYTES_MAX && !line.chars().any(char::is_control));
        }
    }
}
