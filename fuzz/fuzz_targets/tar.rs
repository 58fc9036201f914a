//! Layer tars are refused or read, never a panic; the tree that is read survives being written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| corten_oci::fuzz::tar(bytes));
