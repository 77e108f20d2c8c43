//! What a receiver's answer, or the lack of one, means for the outbox.
//!
//! Guarantee: a reason is short, one line, and names neither URL nor user. Nothing that a receiver says is kept but the status
//! and words from a list: whatever secret it repeats, in whatever spelling, is not among them.

use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::payload::Format;
use crate::clock::{self, Instant};
use crate::limits;
use crate::outgoing;
use crate::push::AttemptResult;

/// Whole replies that may be repeated: Slack's names of what is wrong with a webhook, which its status alone does not tell.
const KNOWN: [&str; 15] = [
    "action_prohibited",
    "channel_is_archived",
    "channel_not_found",
    "invalid_blocks",
    "invalid_payload",
    "invalid_token",
    "no_active_hooks",
    "no_service",
    "no_team",
    "no_text",
    "posting_to_general_channel_denied",
    "rollup_error",
    "team_disabled",
    "too_many_attachments",
    "user_not_found",
];

/// What Teams' connectors say in the text of a 200 when they have thrown a message away.
const THROTTLED: &[u8] = b"returned HTTP error 429";

/// A failure for `reason`, without a wish of the receiver.
pub(super) fn failed(reason: impl Into<String>) -> AttemptResult {
    AttemptResult::Failed { reason: reason.into(), retry_after: None }
}

/// The result of an answer with `status`; `text` is the beginning of its body.
#[must_use]
pub fn result(format: Format, status: StatusCode, headers: &HeaderMap, text: &[u8], now: Instant) -> AttemptResult {
    if status.is_success() {
        if format == Format::Teams && text.windows(THROTTLED.len()).any(|part| part == THROTTLED) {
            let reason = format!("{}, but throttled", status.as_u16());
            return AttemptResult::Failed { reason, retry_after: retry_after(headers, now) };
        }
        return AttemptResult::Confirmed { status: status.as_u16() };
    }
    let mut reason = status.as_u16().to_string();
    if let Some(words) = status.canonical_reason() {
        reason.push(' ');
        reason.push_str(words);
    }
    if let Some(known) = KNOWN.iter().find(|known| known.as_bytes() == text.trim_ascii()) {
        reason.push_str(": ");
        reason.push_str(known);
    }
    if status == StatusCode::GONE {
        return AttemptResult::Refused { reason };
    }
    if status.is_redirection() {
        reason.push_str(": redirects are not followed, configure the final URL");
    }
    AttemptResult::Failed { reason, retry_after: retry_after(headers, now) }
}

/// The status of the answer that a reason tells of, if it is one of [`result`]'s: of those alone it is the beginning.
pub(crate) fn status_in(reason: &str) -> Option<u16> {
    let digits = reason.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let ends = !reason[3..].starts_with(|c: char| c.is_ascii_alphanumeric());
    if ends { digits.parse().ok() } else { None }
}

/// The result of an exchange that broke off. What the client itself says of it names the URL, so only the cause is told.
pub(super) fn broken(error: &reqwest::Error, limit: Duration) -> AttemptResult {
    if error.is_timeout() {
        return failed(format!("no complete answer within {} s", limit.as_secs_f32()));
    }
    let what = if error.is_connect() { "cannot connect" } else { "the exchange broke off" };
    failed(format!("{what}: {}", one_line(own_words(&outgoing::cause(error)))))
}

/// What the libraries say of a failure themselves: what follows a `;` or `(` may be the other side's, such as the names in its
/// certificate.
fn own_words(cause: &str) -> &str {
    cause.split([';', '(']).next().unwrap_or_default()
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

    fn told(format: Format, status: u16, text: &str) -> AttemptResult {
        let status = StatusCode::from_u16(status).unwrap();
        result(format, status, &HeaderMap::new(), text.as_bytes(), Instant::UNIX_EPOCH)
    }

    #[test]
    fn answers_mean_what_they_should() {
        let told = |status, text| told(Format::Teams, status, text);
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(told(status, "ok"), AttemptResult::Confirmed { status });
        }
        assert_eq!(
            told(410, "channel_is_archived"),
            AttemptResult::Refused { reason: "410 Gone: channel_is_archived".into() }
        );
        assert_eq!(told(500, ""), failed("500 Internal Server Error"));
        assert_eq!(told(599, ""), failed("599"));
        let redirect = "307 Temporary Redirect: redirects are not followed, configure the final URL";
        assert_eq!(told(307, "moved"), failed(redirect));
        let throttled = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x";
        assert_eq!(told(200, throttled), failed("200, but throttled"));
        for status in [307, 404, 410, 500, 599] {
            match told(status, "") {
                AttemptResult::Failed { reason, .. } | AttemptResult::Refused { reason } => {
                    assert_eq!(status_in(&reason), Some(status), "{reason}");
                }
                AttemptResult::Confirmed { .. } | AttemptResult::NotBegun { .. } => panic!("no success"),
            }
        }
        assert_eq!(status_in("200, but throttled"), Some(200));
        for reason in ["cannot connect: Connection refused", "no complete answer within 10 s", "", "1", "12é", "1234"]
        {
            assert_eq!(status_in(reason), None, "{reason}");
        }
    }

    #[test]
    fn case_c9_nothing_that_a_receiver_says_is_kept_but_known_words() {
        let told = |text: &str| told(Format::Slack, 404, text);
        for text in [
            "no such hook: T0123secretOfThePath",
            "t0123SECRETofthepath",
            "T0123secret\\u004fThePath",
            "VDAxMjNzZWNyZXRPZlRoZVBhdGg=",
            "T0123secretOfTh",
            "channel_not_found T0123secretOfThePath",
            "no\r\n\u{1b}[31m such hook",
            "",
        ] {
            assert_eq!(told(text), failed("404 Not Found"), "{text}");
        }
        for known in KNOWN {
            assert_eq!(told(&format!("{known}\n")), failed(format!("404 Not Found: {known}")));
        }
    }

    #[test]
    fn of_a_broken_exchange_only_our_own_libraries_words_are_kept() {
        for (cause, kept) in [
            ("Connection refused (os error 111)", "Connection refused"),
            (
                "certificate not valid for name \"a\"; certificate is only valid for DnsName(\"s3cret\")",
                "certificate not valid for name \"a\"",
            ),
        ] {
            assert_eq!(one_line(own_words(cause)), kept);
        }
    }

    proptest! {
        #[test]
        fn a_line_is_short_and_plain(text in "\\PC*|[\\x00-\\x7f]{0,600}|é{0,400}") {
            let line = one_line(&text);
            prop_assert!(line.len() <= limits::REASON_BYTES_MAX && !line.chars().any(char::is_control));
        }
    }
}
