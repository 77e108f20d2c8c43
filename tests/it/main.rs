//! Integration tests, in one binary: contracts of stores and timers, what only one of them promises, and the whole service.
#![cfg(test)]
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "test support is a small library of its own, used in part by each test"
)]

#[path = "../support/fuzz_checks/mod.rs"]
mod fuzz_checks;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/strict.rs"]
mod strict;
#[path = "../support/mod.rs"]
mod support;

mod arm;
mod arm_deliveries;
mod arm_troubles;
mod arm_waits;
mod azure_faults;
mod azure_fired;
mod azure_queue;
mod azure_table;
mod bad_input;
mod cases;
mod cases_clock;
mod cases_doors;
mod cases_ending;
mod cases_heard;
mod cases_memory;
mod cases_receivers;
mod cases_settings;
mod cases_storage;
mod census;
mod cli;
mod cli_docs;
mod cli_wait;
mod deliveries;
mod doctor;
mod doctor_here;
mod embedded_crash;
mod embedded_file;
mod function_app;
mod health;
mod house_rules;
mod infra;
mod kills;
mod metrics;
mod metrics_docs;
mod neighbours;
mod notify;
mod operate;
mod outage;
mod own_receivers;
mod package;
mod page;
mod page_acts;
mod page_states;
mod query_members;
mod queue_contract;
mod receive;
mod receivers;
mod requests;
mod retention;
mod rows_contract;
mod samples;
mod scenarios;
mod seeds;
mod send;
mod service;
mod stand_in_arm;
mod stand_in_host;
mod stand_in_queue;
mod store_contract;
mod store_lists;
mod store_removal;
mod storm;
mod traces;
mod wakes_contract;
mod wire_replay;
