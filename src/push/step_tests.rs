//! Unit tests of `step`.
