//! Outgoing notifications: the seam between the engine and whatever tells a receiver.

pub mod client;
pub mod guard;
pub mod payload;
pub mod reply;
pub mod signature;
pub mod target;
pub mod test_message;

mod chat;

use async_trait::async_trait;

use crate::push::state::Row;
use crate::push::{AttemptResult, Claim};

/// Makes one attempt at a notification.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Tells `claim.target` what `claim.notice` says of `row`, once, within [`crate::limits::ATTEMPT_TIMEOUT`]. Every
    /// attempt at the same notification carries the same idempotency key. Never fails: what went wrong is the result.
    async fn attempt(&self, row: &Row, claim: &Claim) -> AttemptResult;
}
