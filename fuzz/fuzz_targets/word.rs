//! Expansion never panics, and its errors point into the word.
//!
//! The input is a word, a zero byte, and the value of every variable.
#![no_main]

use corten_dockerfile::word;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (text, value) = text.split_once('\0').unwrap_or((text, "a.b/c"));
    let set = |_: &str| Some(value.to_owned());
    let unset = |_: &str| None;
    for escape in ['\\', '`'] {
        let errors = [
            word::expand(text, &set, escape).err(),
            word::expand(text, &unset, escape).err(),
            word::expand_list(text, &set, escape).err(),
            word::expand_known(text, &unset, escape).err(),
            word::expand_heredoc(text, &set).err(),
        ];
        for error in errors.into_iter().flatten() {
            assert!(text.is_char_boundary(error.offset), "an error outside of the word");
        }
        assert!(word::variables(text, escape).len() <= text.len());
    }
});
