//! Requests to the proxy of a step are refused or read, never a panic, however their bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| corten_record::fuzz::request(bytes));
