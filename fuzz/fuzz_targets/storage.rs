//! See `storage` in `tests/support/fuzz_checks`.
#![no_main]

use libfuzzer_sys::Corpus;

#[path = "../../tests/support/fuzz_checks/mod.rs"]
mod fuzz_checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| -> Corpus {
    if fuzz_checks::storage(data) { Corpus::Keep } else { Corpus::Reject }
});
