//! What receivers answer.

use std::time::Duration;

use global_webhook::clock::Instant;
use global_webhook::limits;
use global_webhook::notify::payload::Format;
use global_webhook::notify::reply::result;
use global_webhook::push::{AttemptResult, Key, PushId, backoff};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

use super::samples::FORMATS;

/// A receiver's answer gives a result that is short, within its bounds, and made of known words only. Input: lines of
/// status and `Retry-After` (an empty one is none), then the text.
pub fn reply(data: &[u8]) -> bool {
    let Some((status, headers, text)) = answer(data) else { return false };
    for format in FORMATS {
        for now in [Instant::UNIX_EPOCH, Instant::MAX_UTC, Instant::MIN_UTC] {
            match result(format, status, &headers, text, now) {
                AttemptResult::Confirmed { status } => assert!((200..300).contains(&status)),
                AttemptResult::Failed { reason, retry_after } => {
                    assert!(!status.is_success() || format == Format::Teams, "{status}: {reason}");
                    short(&reason);
                    let id = PushId { key: Key::of(&["x"], &[]), round: 1 };
                    let delay = backoff::delay(&backoff::SCHEDULE, &id, "t", 1, retry_after).expect("a wait");
                    assert!((Duration::from_secs(4)..=limits::RETRY_AFTER_MAX).contains(&delay), "{delay:?}");
                }
                AttemptResult::NotBegun { reason } => panic!("an answer means that something was sent: {reason}"),
                AttemptResult::Refused { reason } => {
                    assert_eq!(status, StatusCode::GONE);
                    short(&reason);
                }
            }
        }
    }
    true
}

fn answer(data: &[u8]) -> Option<(StatusCode, HeaderMap, &[u8])> {
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let status = std::str::from_utf8(parts.next()?).ok()?.trim().parse().ok()?;
    let headers = match parts.next()? {
        b"" => HeaderMap::new(),
        value => HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(value).ok()?)]),
    };
    Some((StatusCode::from_u16(status).ok()?, headers, parts.next()?))
}

fn short(reason: &str) {
    let known = |c: char| c.is_ascii_alphanumeric() || " :,_-'".contains(c);
    assert!(reason.len() <= 100 && reason.chars().all(known), "{reason:?}");
}
