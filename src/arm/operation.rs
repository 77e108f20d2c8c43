//! Waiting for what ARM does not do at once.
//!
//! The operation's address is asked as it was given, since it is signed, and each answer may name another one. In the end the
//! resource itself is looked at: it alone says what is there. Where the operation may not be asked about (a role without
//! `operationStatuses/read`) or is forgotten, the resource is all that is looked at.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde_json::Value;

use super::client::{Answer, Client};
use super::error::{Error, code_and_message};
use crate::clock;

/// Time between two looks, unless ARM says how long.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Shortest time between two looks, whatever ARM says.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(200);

/// Longest time between two looks, whatever ARM says.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);

/// Longest time that one operation may take. Webhooks take seconds.
pub(super) const OPERATION_MAX: Duration = Duration::from_secs(10 * 60);

/// What there should be in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The resource, complete.
    There,
    /// Nothing.
    Gone,
}

/// Waits until the operation that `answer` began has ended, and the resource is as it should be.
///
/// # Errors
/// It failed, or was not done within [`OPERATION_MAX`].
pub(super) async fn wait(client: &Client, call: &str, answer: Answer, resource: &Url, end: End) -> Result<(), Error> {
    let begun = client.clock().now();
    let accepted = answer.status == StatusCode::ACCEPTED;
    let mut asked = match (&answer.operation, &answer.location) {
        (Some(operation), _) => Some(client.link(operation, call)?),
        (None, Some(location)) if accepted => Some(client.link(location, call)?),
        (None, _) => None,
    };
    let by_location = answer.operation.is_none();
    if asked.is_none() && end == End::There && state(&answer.body).is_some_and(is_done) {
        return Ok(());
    }
    let mut pace = answer.retry_after;
    let mut first = asked.is_none();
    loop {
        // The resource is looked at without a wait; an operation that has only begun is given one.
        if !first {
            client.clock().sleep(pace.unwrap_or(LOOK_EVERY).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)).await;
        }
        first = false;
        if clock::until(begun, client.clock().now()) > OPERATION_MAX {
            let minutes = OPERATION_MAX.as_secs() / 60;
            return Err(Error::Slow(format!(
                "To {call} was accepted by Azure and is not done after {minutes} minutes; run the command again later."
            )));
        }
        if let Some(url) = &asked {
            let got = match client.get(call, url.clone()).await {
                Ok(got) => got,
                Err(error) if matches!(error.status(), Some(403 | 404)) => {
                    (asked, first) = (None, true);
                    continue;
                }
                Err(error) => return Err(error),
            };
            pace = got.retry_after;
            let ended = if by_location {
                got.status != StatusCode::ACCEPTED
            } else {
                let status = got.body.get("status").and_then(Value::as_str).unwrap_or_default();
                if is_failed(status) {
                    return Err(failed(client, call, &got.body));
                }
                is_done(status)
            };
            if ended {
                (asked, first) = (None, true);
            } else if let Some(moved) = if by_location { &got.location } else { &got.operation } {
                asked = Some(client.link(moved, call)?);
            }
            continue;
        }
        match client.get(call, resource.clone()).await {
            Ok(got) => {
                pace = got.retry_after;
                match state(&got.body).unwrap_or_default() {
                    _ if end == End::Gone => {}
                    text if is_failed(text) => return Err(failed(client, call, &got.body)),
                    text if is_passing(text) => {}
                    _ => return Ok(()),
                }
            }
            Err(error) if error.status() == Some(404) && end == End::Gone => return Ok(()),
            // Accepted, and not to be seen yet.
            Err(error) if error.status() == Some(404) => pace = None,
            Err(error) => return Err(error),
        }
    }
}

/// What ARM says of how far a resource is.
pub(super) fn state(body: &Value) -> Option<&str> {
    body.pointer("/properties/provisioningState").and_then(Value::as_str)
}

/// Whether something is being done with a resource that is in this state.
#[must_use]
pub(super) fn is_passing(state: &str) -> bool {
    ["Creating", "Updating", "Deleting", "Accepted", "Running", "Pending"].iter().any(|s| s.eq_ignore_ascii_case(state))
}

/// Whether what is in this state is complete.
#[must_use]
pub(super) fn is_done(state: &str) -> bool {
    state.eq_ignore_ascii_case("Succeeded")
}

/// Whether what is in this state will not go on by itself.
#[must_use]
pub(super) fn is_failed(state: &str) -> bool {
    ["Failed", "Canceled", "Cancelled"].iter().any(|s| s.eq_ignore_ascii_case(state))
}

fn failed(client: &Client, call: &str, body: &Value) -> Error {
    let (code, message) = code_and_message(body, |text| client.without_secrets(text));
    let why = format!("{code} {message}");
    let why = if why.trim().is_empty() { "Azure does not say why" } else { why.trim() };
    Error::Failed(format!("To {call} was accepted by Azure and failed: {why}"))
}
