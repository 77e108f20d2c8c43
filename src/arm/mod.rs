//! The registry's management by Azure Resource Manager (ARM): its regions and its webhooks.
//!
//! Guarantees:
//! - A token goes to the one address of [`Client`] only: over https, or to this machine. Where an answer points elsewhere
//!   (next page, operation), the call fails. Redirects are not followed.
//! - Every call, wait, page and answer is bounded; a command as a whole is bounded by its caller.
//! - What may be secret (URLs and headers of webhooks, tokens) stands in no error and in no `Debug` text.
//! - Nothing is told of a registry from half an answer: a failed call is an error, never "no replicas" or "no webhooks".
//!
//! Accepted races: ARM has no versions for webhooks, so whoever writes last wins; a plan is as old as its reading.
//!
//! In reading order: [`plan`] decides, `set` says whose a webhook is, [`webhooks`] and [`registry`] are ARM's words for it,
//! `operation` waits for what takes long, `client` calls. [`deliveries`] tells what the registry sent and what it was answered,
//! [`app`] on what the service runs.

pub mod plan;

pub mod app;
mod client;
mod credential;
pub mod deliveries;
mod error;
mod operation;
pub mod registry;
mod secret;
mod set;
pub mod webhooks;

pub use client::{Client, Place};
pub use credential::Credential;
pub use error::Error;
pub use secret::Secret;
