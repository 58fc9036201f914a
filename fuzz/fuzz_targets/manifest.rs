//! Documents of images are refused or read, never a panic; what is read is written back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| corten_oci::fuzz::manifest(bytes));
