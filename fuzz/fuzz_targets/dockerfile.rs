//! Parsing never panics, loses no byte, and gives diagnostics that can be shown.
#![no_main]

use corten_diag::{SourceFile, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = corten_dockerfile::parse(text);
    let mut at = 0;
    for token in &file.tokens {
        assert_eq!(token.span.start, at, "a gap between tokens");
        assert!(text.get(token.span.range()).is_some(), "a token that cuts a character");
        at = token.span.end;
    }
    assert_eq!(at as usize, text.len(), "the end is in no token");
    let stages = corten_dockerfile::stages::stages(&file);
    let source = SourceFile::new("Dockerfile", text);
    for diagnostic in file.diagnostics.iter().chain(&stages.diagnostics) {
        assert!(diagnostic.span.is_some(), "a diagnostic without a place");
        assert!(!render::full(diagnostic, Some(&source), false).is_empty());
        assert!(!render::concise(diagnostic, Some(&source)).contains('\n'));
    }
});
