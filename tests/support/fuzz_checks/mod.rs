//! What must hold for any bytes that come in from outside: one function for each fuzz target. The targets in `fuzz/` and
//! the ordinary test over the committed seeds (`tests/it/seeds.rs`) run these same functions, so a finding, kept as a seed,
//! stays found on the stable toolchain too.
//!
//! Each function takes the raw input and panics when a promise is broken. Inputs with several parts are text in lines, so
//! that seeds can be read and written by hand; one that lacks a part is not looked at, and the function says so.
#![allow(dead_code, reason = "each fuzz target uses one function of this folder")]

mod members;
mod received;
mod reply;
mod samples;
mod secrets;
mod settings;
mod steps;
mod steps_rules;
mod steps_world;
mod stored;
mod texts;
mod told;

pub use received::{envelope, notification, timer};
pub use reply::reply;
pub use settings::{settings, storage, targets};
pub use steps::steps;
pub use stored::record;
pub use texts::{names, query, timespan};
pub use told::payload;

/// Takes an input, panics when it breaks a promise. `false` when the input has not the form of the target's inputs, so that
/// there was nothing to check.
pub type Check = fn(&[u8]) -> bool;

/// Every target by its name; `fuzz/seeds/<name>` holds its seeds.
pub const TARGETS: [(&str, Check); 13] = [
    ("notification", notification),
    ("envelope", envelope),
    ("timer", timer),
    ("timespan", timespan),
    ("settings", settings),
    ("targets", targets),
    ("storage", storage),
    ("query", query),
    ("names", names),
    ("record", record),
    ("payload", payload),
    ("reply", reply),
    ("steps", steps),
];

/// Stands for a secret. Long and odd, so that no input contains it by chance; base64, so that it can be part of a key.
const MARK: &str = "m4rkerOfAS3cretQzX";

/// The input with the mark in it.
fn marked(data: &[u8], at: usize) -> Vec<u8> {
    [&data[..at], MARK.as_bytes(), &data[at..]].concat()
}
