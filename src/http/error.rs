//! From a class of error to a status code and a text: what the caller may know, as `{"error":{"code","message"}}`.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};

use super::Web;
use crate::api::{Reason, Refusal};
use crate::push::arrival::Fault;
use crate::store::Failure;

/// An answer that is not a success. `code` is stable, `message` says who must do what.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    allow: Option<&'static str>,
    image: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None, image: None }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn method(allow: &'static str) -> Self {
        let message = format!("This method does nothing here; use {allow}.");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message) }
    }

    pub(super) fn unauthorised() -> Self {
        let message =
            "The function key is missing or wrong: send it as the header `x-functions-key` or the query's `code`.";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", message)
    }

    pub(super) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path. See /api/ImagePush.")
    }

    pub(super) fn operators_only() -> Self {
        let message = "This key is the registry's, which opens ImagePush only; operators' calls want the key of the setting WebhookOperatorKey.";
        Self::new(StatusCode::FORBIDDEN, "operators_only", message)
    }

    pub(super) fn foreign() -> Self {
        let message = "Without a key this service answers programs of its own machine only, not pages in a browser and not other host names: call it by 127.0.0.1 or localhost, or set WebhookKey and WebhookOperatorKey.";
        Self::new(StatusCode::FORBIDDEN, "foreign", message)
    }

    pub(super) fn misconfigured(faults: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "misconfigured", faults)
    }

    pub(super) fn unknown_push() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_push", "There is no push of this id; it may have been purged.")
    }

    pub(super) fn unknown_image() -> Self {
        let message = "No push of this image is known: none was reported yet, or it was purged. Registry, repository, tag and digest must be those of the registry's webhooks.";
        Self::new(StatusCode::NOT_FOUND, "unknown_image", message)
    }

    pub(super) fn too_many_calls() -> Self {
        let message = "Too many calls are being worked on; try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_calls", message)
    }

    /// About which image, for the log.
    pub(super) fn about(self, image: Option<String>) -> Self {
        Self { image, ..self }
    }

    /// Whether the caller lacks a key.
    pub(super) fn is_unauthorised(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// What the caller must ask otherwise; itself, where that is not what is wrong.
    pub(super) fn refusal(self) -> Result<String, Self> {
        if self.status == StatusCode::BAD_REQUEST { Ok(self.message) } else { Err(self) }
    }

    /// Leaves a line in the log, and is counted if it is about a webhook: `region` is the one that the caller named.
    pub(super) fn log(&self, region: Option<&str>, is_webhook: bool, web: &Web) {
        if is_webhook {
            web.refused.count(self.code, region);
        }
        web.refused.note(
            self.code,
            &format!("webhook refused: {}", self.message),
            region,
            self.image.as_deref(),
            &web.clock,
        );
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn answer(self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status) {
            answer.insert_header((header::RETRY_AFTER, "5"));
        }
        if let Some(allow) = self.allow {
            answer.insert_header((header::ALLOW, allow));
        }
        answer.json(Refusal { error: Reason { code: self.code.to_owned(), message: self.message } })
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::bad_request(fault.code, fault.message)
    }
}

/// The caller learns the cause, which holds no secret, and whether it is worth trying again.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (code, message) = match failure {
            Failure::Unavailable(cause) => {
                ("storage_unavailable", format!("The storage cannot be used at present; try again. {cause}."))
            }
            Failure::Corrupt(cause) => {
                ("operator_needed", format!("This cannot work before an operator mends it: {cause}."))
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }
}
