//! Names of images are refused or read, never a panic; what is read prints and parses to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| corten_oci::fuzz::reference(text));
