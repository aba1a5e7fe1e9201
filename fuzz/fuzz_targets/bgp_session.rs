//! libFuzzer's door to `fuzz_entry`. Never has logic of its own.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_entry::run("bgp_session", bytes));
