//! A redirection to another host is never taken for one to the same registry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| corten_registry::fuzz::location(text));
