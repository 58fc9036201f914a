//! Matching never panics, and pruning never hides a path that is included.
//!
//! The input is an ignore file, a zero byte, and a path.
#![no_main]

use corten_dockerfile::ignore::Ignore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (text, path) = text.split_once('\0').unwrap_or((text, "a/b/c"));
    let ignore = Ignore::parse(text);
    if ignore.excludes(path, false) {
        return;
    }
    for (at, _) in path.match_indices('/') {
        let parent = &path[..at];
        let is_plain = parent.split('/').all(|part| !part.is_empty());
        let is_read = !ignore.excludes(parent, true) || ignore.may_contain_included(parent);
        assert!(is_read || !is_plain, "`{path}` is included, but `{parent}` is not read");
    }
});
