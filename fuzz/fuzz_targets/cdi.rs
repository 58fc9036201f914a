//! Descriptions of devices are refused or read, never a panic, and what is read can be asked for.
#![no_main]

use std::path::Path;

use corten_runtime::cdi::Registry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for path in ["/etc/cdi/a.json", "/etc/cdi/a.yaml"] {
        let mut registry = Registry::default();
        registry.add(Path::new(path), 0, text);
        let names: Vec<String> = registry.names().map(str::to_owned).collect();
        assert_eq!(names.is_empty(), !registry.problems.is_empty(), "read or refused");
        for name in &names {
            assert_eq!(registry.find(name), Ok(vec![name.clone()]), "a device is found by its name");
            drop(registry.inject(std::slice::from_ref(name)));
        }
    }
});
