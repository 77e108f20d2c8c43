//! Subcommands, one file each. They talk to the service or to its stores, and print for people.

pub mod send;
