//! Addresses that a step asks for are recorded the same when they are recorded again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| corten_record::fuzz::address(text));
