//! Flags of instructions.

use corten_diag::{Diagnostic, Span, suggest};

use super::logical::Part;
use crate::ast::{Keyword, Word};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or `true` or `false`.
    Switch,
    /// One value.
    Value,
    /// One value, and the flag may be repeated.
    Values,
}

/// The flags that an instruction knows.
pub(super) type Known = [(&'static str, Takes)];

/// Flags that were read.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: Vec<(&'static str, Word)>,
    switches: Vec<(&'static str, bool)>,
}

impl Flags {
    /// Takes the value of a flag; an empty one counts as none.
    pub(super) fn value(&mut self, name: &str) -> Option<Word> {
        self.any_value(name).filter(|value| !value.text.is_empty())
    }

    /// Takes the value of a flag, even an empty one.
    pub(super) fn any_value(&mut self, name: &str) -> Option<Word> {
        let index = self.values.iter().position(|(known, _)| *known == name)?;
        Some(self.values.remove(index).1)
    }

    /// Takes all values of a flag.
    pub(super) fn values(&mut self, name: &str) -> Vec<Word> {
        self.values.extract_if(.., |(known, _)| *known == name).map(|(_, value)| value).collect()
    }

    /// Whether a switch is on; none when it is absent.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.switches.iter().find(|(known, _)| *known == name).map(|(_, on)| *on)
    }
}

/// Reads all flags of an instruction; none when one of them is wrong, which is told.
pub(super) fn read(
    keyword: Keyword,
    flags: &[(Word, Part)],
    known: &Known,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Flags> {
    let mut read = Flags::default();
    let mut seen: Vec<&'static str> = Vec::new();
    let mut fine = true;
    for (word, _) in flags {
        match one(keyword, word, known, &mut seen, &mut read) {
            Ok(()) => {}
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                fine = false;
            }
        }
    }
    fine.then_some(read)
}

fn one(
    keyword: Keyword,
    word: &Word,
    known: &Known,
    seen: &mut Vec<&'static str>,
    read: &mut Flags,
) -> Result<(), Box<Diagnostic>> {
    let wrong = |message: String| Err(Box::new(Diagnostic::error(message).at(word.span)));
    let equals = word.text.find('=');
    let flag = &word.text[..equals.unwrap_or(word.text.len())];
    let Some((name, takes)) = known.iter().find(|(name, _)| Some(*name) == flag.strip_prefix("--"))
    else {
        return Err(Box::new(unknown(keyword, flag, known, word.span)));
    };
    if *takes != Takes::Values {
        if seen.contains(name) {
            return wrong(format!("the flag `{flag}` is given twice"));
        }
        seen.push(name);
    }
    let value = equals.map(|equals| word.slice(equals + 1, word.text.len()));
    let Some(value) = value else {
        if *takes == Takes::Switch {
            read.switches.push((name, true));
            return Ok(());
        }
        return wrong(format!("the flag `{flag}` needs a value"));
    };
    if *takes != Takes::Switch {
        read.values.push((name, value));
        return Ok(());
    }
    if value.text.eq_ignore_ascii_case("true") {
        read.switches.push((name, true));
    } else if value.text.eq_ignore_ascii_case("false") {
        read.switches.push((name, false));
    } else if value.text.is_empty() {
        return wrong(format!("the flag `{flag}` needs a value after `=`"));
    } else {
        return wrong(format!("the flag `{flag}` takes `true` or `false`, not `{}`", value.text));
    }
    Ok(())
}

fn unknown(keyword: Keyword, flag: &str, known: &Known, span: Span) -> Diagnostic {
    let instruction = keyword.as_str();
    let diagnostic = Diagnostic::error(format!("`{instruction}` has no flag `{flag}`")).at(span);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    match suggest::nearest(flag.trim_start_matches('-'), &names) {
        Some(nearest) => diagnostic.with_hint(format!("did you mean `--{nearest}`?")),
        None if names.is_empty() => diagnostic.with_hint(format!("`{instruction}` takes no flags")),
        None => {
            let names: Vec<String> = names.iter().map(|name| format!("`--{name}`")).collect();
            diagnostic.with_hint(format!("`{instruction}` knows {}", names.join(", ")))
        }
    }
}
