//! Lock files are refused or read, never a panic; what is read is written and read back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| corten_build::fuzz::lock(text));
