//! `/TimeoutCheck`: the Functions host hands over a message of the timer queue.
//!
//! Guarantee: a message is reported as done only after it was applied, set aside or put back. Everything else is a failure, so that the
//! host gives the message back and it comes again.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use tracing::error;

use super::envelope;
use super::error::Problem;
use super::{Body, Web, read};
use crate::limits;
use crate::store::azure::fired::FOREIGN;

pub(super) async fn handle(request: &HttpRequest, body: web::Payload, web: &Web) -> Result<HttpResponse, Problem> {
    if *request.method() != Method::POST {
        return Err(Problem::method("POST"));
    }
    let service = web.service()?;
    let Body { bytes, place: _place } = read(body, limits::ENVELOPE_BYTES_MAX).await?;
    let text = envelope::read(&bytes).map_err(|why| {
        error!(why, "a queue-trigger call could not be read; the host will try it again");
        Problem::bad_request("envelope", why)
    })?;
    match service.fired(text).await {
        Ok(FOREIGN) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "not_ours",
            "The timer is another app's; it must fire again, for that one.",
        )),
        Ok(word) => Ok(HttpResponse::Ok().json(envelope::success(&format!("timer: {word}")))),
        // The host logs neither status nor text of a failed call.
        Err(cause) => {
            error!(%cause, "a timer could not be handled; the host gives it back and it fires again");
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "not_handled",
                "The timer could not be handled; it must fire again.",
            ))
        }
    }
}
