//! One global webhook for a geo-replicated Azure Container Registry.
//!
//! What always holds, whatever is repeated, reordered, delayed, raced or killed:
//! 1. A push settles exactly once, as replicated, timed out or superseded.
//! 2. A 2xx to the registry means that the arrival is durable.
//! 3. A push that owes anything is looked at when its time has come.
//! 4. Arm, commit, answer, deliver: in that order.
//! 5. Every attempt at one notification carries the same id.
//! 6. Nothing is unbounded: see [`limits`].
//!
//! In reading order:

pub mod push;

pub mod engine;

pub mod clock;
mod identity;
pub mod limits;
pub mod metrics;
mod outgoing;
pub mod traces;

pub mod notify;
pub mod store;

pub mod service;

pub mod api;
pub mod http;
pub mod otlp;
pub mod page;
pub mod poll;
pub mod wakes;

pub mod arm;
pub mod doctor;

pub mod backends;
pub mod cli;
pub mod config;
pub mod telemetry;
