//! Answers on their way out to callers that may read slowly, or never.
//!
//! Guarantee: what all callers together have not read yet stays within [`limits::UNSENT_KIB_MAX`] and, for each connection, a
//! buffer of the web server. A caller that reads nothing is dropped by the kernel after [`limits::UNREAD_MAX`]: the web
//! server has no time-out for what it writes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Problem;
use crate::limits;

/// Room for large answers, of the whole process, in KiB.
static UNSENT: Semaphore = Semaphore::const_new(limits::UNSENT_KIB_MAX as usize);

/// The rest of a large answer, handed out as it is read; its room is given back with its last piece.
struct Unsent {
    rest: Bytes,
    _room: SemaphorePermit<'static>,
}

impl MessageBody for Unsent {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let piece = self.rest.len().min(limits::ANSWER_PIECE_BYTES);
        Poll::Ready((piece > 0).then(|| Ok(self.rest.split_to(piece))))
    }
}

/// The same answer, in pieces if it is large; 503 when too much is waiting to be read already.
pub(super) fn bounded(answer: HttpResponse) -> HttpResponse {
    match answer.body().size() {
        BodySize::Sized(bytes) if bytes > limits::ANSWER_PIECE_BYTES as u64 => {}
        BodySize::None | BodySize::Sized(_) | BodySize::Stream => return answer,
    }
    let (head, body) = answer.into_parts();
    let rest = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        Err(body) => return head.set_body(body),
    };
    let kib = u32::try_from(rest.len().div_ceil(1024)).unwrap_or(u32::MAX);
    match UNSENT.try_acquire_many(kib.min(limits::UNSENT_KIB_MAX)) {
        Ok(room) => head.set_body(BoxBody::new(Unsent { rest, _room: room })),
        Err(_) => {
            let message = "Too many large answers are waiting to be read by their callers; try again.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_large_answers", message).answer()
        }
    }
}
