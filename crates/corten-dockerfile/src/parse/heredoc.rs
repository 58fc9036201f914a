//! The words that begin here-documents.

use corten_diag::Span;

use super::logical::{Logical, Part};
use crate::ast::Heredoc;
use crate::word::{Lexer, Options, Quotes};

/// Finds the here-documents that a line asks for, in order, with nothing in them yet.
///
/// The backslash escapes here whatever the file's escape character is.
pub(super) fn of_line(line: &str) -> Vec<Heredoc> {
    let options = Options { quotes: Quotes::Keep, raw_escapes: true, ..unset() };
    let Ok(expanded) = Lexer::new(line, &|_| None, options).run() else { return Vec::new() };
    expanded.words.iter().filter_map(|word| of_word(word)).collect()
}

/// Reads a word such as `<<EOF`, `3<<-EOF` or `<<"EOF"`; none when it is something else.
pub(crate) fn of_word(word: &str) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let one = |quotes: Quotes| {
        let words = Lexer::new(rest, &|_| None, Options { quotes, ..unset() }).run().ok()?;
        <[String; 1]>::try_from(words.words).ok().map(|[word]| word)
    };
    let (name, raw) = (one(Quotes::Remove)?, one(Quotes::Keep)?);
    // When quotes are lost, some part of the word was quoted.
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Heredoc {
        expand: quotes(&name) == quotes(&raw),
        name,
        body: String::new(),
        chomp,
        file_descriptor: number.parse().unwrap_or(if number.is_empty() { 0 } else { u64::MAX }),
        span: Span::default(),
    })
}

fn unset() -> Options {
    Options { keep_unset: true, forgetful: true, ..Options::new('\\') }
}

/// The place of the word that begins a here-document.
pub(super) fn place(line: &Logical, name: &str) -> Span {
    let at = line.text.match_indices("<<").map(|(at, _)| at).find(|at| {
        let rest = line.text[at + 2..].trim_start_matches(['-', ' ', '\t', '"', '\'', '\\']);
        rest.starts_with(name)
    });
    let start = at.or_else(|| line.text.find("<<")).unwrap_or_default();
    let length = line.text[start..].find(char::is_whitespace).unwrap_or(line.text.len() - start);
    line.span(Part::new(start, start + length))
}

/// Drops the tabs at the beginning of every line.
pub(crate) fn without_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}
