//! The one integration test binary: contracts of stores and timers, and what only one of them promises.
#![cfg(test)]

#[path = "../support/azurite.rs"]
mod azurite;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/raw.rs"]
mod raw;

mod azure_faults;
mod azure_queue;
mod azure_table;
