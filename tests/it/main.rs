//! The one integration test binary: contracts of stores and timers, and what only one of them promises.
#![cfg(test)]

mod embedded_crash;
mod embedded_file;
mod embedded_speed;
mod store_contract;
mod timers_contract;
