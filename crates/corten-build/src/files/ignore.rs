//! The ignore file of a context.

use std::sync::Arc;

use corten_diag::{Diagnostic, SourceFile, Span};
use corten_dockerfile::ignore::{Ignore, IgnoreError};

use crate::error::Diagnosed;

/// An ignore file without mistakes.
pub(crate) struct IgnoreFile {
    name: String,
    text: String,
    rules: Ignore,
}

/// The line that hides a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The ignore file, as it is shown.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) pattern: String,
}

impl IgnoreFile {
    /// Reads an ignore file. A malformed pattern is an error: what it was to hide would be copied.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Diagnosed> {
        let rules = Ignore::parse(text);
        if rules.malformed().is_empty() {
            return Ok(Self { name: name.to_owned(), text: text.to_owned(), rules });
        }
        let diagnostics = rules.malformed().iter().map(|error| malformed(error, text)).collect();
        Err(Diagnosed::new(diagnostics, Arc::new(SourceFile::new(name, text))))
    }

    /// The rules; none if the file has no patterns.
    pub(super) fn rules(&self) -> Option<&Ignore> {
        Some(&self.rules).filter(|rules| !rules.is_empty())
    }

    /// The line that hides a path that is hidden: the last one that matches it, since every line
    /// that takes paths out again comes before that.
    pub(super) fn rule(&self, path: &str, is_directory: bool) -> Option<Rule> {
        let hiding = |line: &str| Ignore::parse(line).excludes(path, is_directory);
        let (index, line) =
            self.text.lines().enumerate().filter(|(_, line)| hiding(line)).last()?;
        Some(Rule {
            file: self.name.clone(),
            line: index + 1,
            pattern: line.trim_start_matches('\u{feff}').trim().to_owned(),
        })
    }
}

fn malformed(error: &IgnoreError, text: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error(error.to_string())
        .with_hint("write `\\` before a `[`, `]` or `\\` that stands for itself");
    let index = error.line.and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
    match index.and_then(|index| span_of_line(text, index)) {
        Some(span) => diagnostic.at(span),
        None => diagnostic,
    }
}

fn span_of_line(text: &str, index: usize) -> Option<Span> {
    let mut start = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if number == index {
            let text = line.trim();
            let start = start + line.find(text).unwrap_or_default();
            return Some(Span::from_offsets(start, start + text.len()));
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str, path: &str) -> String {
        let file = IgnoreFile::parse(".dockerignore", text).unwrap();
        let rule = file.rule(path, false).unwrap();
        format!("{}:{} {}", rule.file, rule.line, rule.pattern)
    }

    #[test]
    fn the_line_that_hides_is_the_last_that_matches() {
        let text = "\u{feff}*.key\n# not this: secret\n!a.key\n\nsecret \n!secret/b\na*\n";
        assert_eq!(rule(text, "x.key"), ".dockerignore:1 *.key");
        assert_eq!(rule(text, "secret/c"), ".dockerignore:5 secret");
        assert_eq!(rule(text, "a.key"), ".dockerignore:7 a*");
    }

    #[test]
    fn a_malformed_pattern_is_an_error_at_its_line() {
        let error = IgnoreFile::parse(".dockerignore", "ok\n  [a-  \n!\\\n").err().unwrap();
        let shown: String = error
            .diagnostics
            .iter()
            .map(|diagnostic| corten_diag::render::full(diagnostic, Some(&error.source), false))
            .collect();
        expect_test::expect![[r#"
            error: malformed pattern `[a-`
             --> .dockerignore:2:3
              |
            2 |   [a-  
              |   ^^^
            hint: write `\` before a `[`, `]` or `\` that stands for itself
            error: malformed pattern `!\`
             --> .dockerignore:3:1
              |
            3 | !\
              | ^^
            hint: write `\` before a `[`, `]` or `\` that stands for itself
        "#]]
        .assert_eq(&shown);
    }
}
