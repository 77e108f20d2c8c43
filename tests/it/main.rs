//! Integration tests, one binary: each module holds one part of the service against the real thing or a stand-in for it.

mod notify;
