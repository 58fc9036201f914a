//! Challenges, tokens and errors of registries are refused or read, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| corten_registry::fuzz::answer(bytes));
