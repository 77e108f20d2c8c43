//! What a push is, and the rules it lives by. Pure: no I/O, no clock to read, no chance; nothing else of this crate but
//! `limits` and the arithmetic of instants.
//!
//! The public face is [`step()`]: a row, one [`Input`], the instant and, where it asked for one, an [`Answer`] go in; a
//! [`Decision`] comes out. Everything that decides anything about a push is reachable from there and testable without a
//! runtime. In reading order:

pub mod names;

pub mod arrival;
pub mod image;
pub mod policy;

pub mod state;

mod decision;
mod outbox;
mod step;

pub mod backoff;
pub mod record;

pub use arrival::{Arrival, Webhook};
pub use decision::{Answer, AttemptResult, Attempted, Change, Claim, Decision, Did, Input, Question, Step};
pub use image::{Image, Sought};
pub use names::{Key, PushId, Region, Subject};
pub use policy::{Plan, Policy};
pub use state::{Delivery, Entry, Failed, Notice, Outcome, Phase, Row, Seen, Settled};
pub use step::step;
