//! Variables and quotes in words.
//!
//! A word is what an instruction gives to be expanded: `$name`, `${name}` and the forms with a
//! modifier are replaced, quotes and escapes are taken away. The rules are the frontend's own, close
//! to those of a shell but not equal to them: there are no bracket expressions in patterns, and `*`
//! in a pattern does not cross a line ending.
//!
//! Which instruction expands how: `ENV`, `LABEL`, `ARG` (values), `WORKDIR`, `USER`, `VOLUME`,
//! `STOPSIGNAL`, `COPY` and `ADD` (sources, destination, `--chown`, `--chmod`, `--checksum`), `FROM`
//! (image and `--platform`) and the values of `RUN --mount` use [`expand`]; `EXPOSE` uses
//! [`expand_list`]; here-documents of `COPY` and `ADD` use [`expand_heredoc`]. All words of one
//! instruction see the variables as they were before it; only the definitions of one `ARG` see each
//! other.

mod lexer;
mod pattern;

use std::collections::BTreeSet;
use std::fmt;

use corten_diag::{Diagnostic, Span};

use crate::ast::Word;
pub(crate) use lexer::{Lexer, Options, Quotes};

/// How deeply `${…}` may be nested in modifiers; the lexer calls itself for each level.
pub const NESTING_MAX: usize = 128;

/// Gives the value of a variable, none when it is not set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordError {
    pub message: String,
    /// Where in the word, in bytes.
    pub offset: usize,
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WordError {}

impl WordError {
    /// The error as a diagnostic about its place in a word of a file.
    pub fn diagnostic(&self, word: &Word) -> Diagnostic {
        let start = word.locate(self.offset).min(word.span.end);
        let span = if start == word.span.end { word.span } else { Span::new(start, word.span.end) };
        Diagnostic::error(self.message.as_str()).at(span)
    }
}

/// Expands to one string: blanks stay, quotes and escapes go.
pub fn expand(word: &str, lookup: &Lookup<'_>, escape: char) -> Result<String, WordError> {
    Lexer::new(word, lookup, Options::new(escape)).run().map(|expanded| expanded.text)
}

/// Expands and then splits at blanks that are not quoted.
pub fn expand_list(
    word: &str,
    lookup: &Lookup<'_>,
    escape: char,
) -> Result<Vec<String>, WordError> {
    Lexer::new(word, lookup, Options::new(escape)).run().map(|expanded| expanded.words)
}

/// Expands the body of a here-document: quotes stay, and the escape is always the backslash.
pub fn expand_heredoc(body: &str, lookup: &Lookup<'_>) -> Result<String, WordError> {
    let options = Options { quotes: Quotes::Ignore, ..Options::new('\\') };
    Lexer::new(body, lookup, options).run().map(|expanded| expanded.text)
}

/// Expands what is set and leaves the rest as it was written, quotes included; for titles of steps.
pub fn expand_known(word: &str, lookup: &Lookup<'_>, escape: char) -> Result<String, WordError> {
    let options = Options { quotes: Quotes::Keep, keep_unset: true, ..Options::new(escape) };
    Lexer::new(word, lookup, options).run().map(|expanded| expanded.text)
}

/// The names of the variables that a word asks for, each once, sorted.
///
/// A word that breaks off with an error names those before it.
pub fn variables(word: &str, escape: char) -> Vec<String> {
    let names = std::cell::RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        None
    };
    let options = Options { keep_unset: true, ..Options::new(escape) };
    // Only the names are wanted: an error says that there are no more of them.
    drop(Lexer::new(word, &lookup, options).run());
    names.into_inner().into_iter().collect()
}
