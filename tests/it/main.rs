//! Integration tests, in one binary.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "test support is a small library of its own, used in part by each test"
)]

#[path = "../support/mod.rs"]
mod support;

mod send;
mod stand_in_host;
