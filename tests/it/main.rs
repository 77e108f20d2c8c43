//! Integration tests, in one binary.
#![cfg(test)]

mod notify;
