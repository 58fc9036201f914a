//! Keyword, flags and arguments of a logical line.

use super::logical::{Logical, Part, WordBuilder};
use crate::ast::Word;

/// A line cut into its three parts.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) name: Part,
    pub(super) flags: Vec<(Word, Part)>,
    /// The `--` that ended the flags.
    pub(super) end_of_flags: Option<Part>,
    /// Without blanks at both ends.
    pub(super) rest: Part,
}

/// The blanks that separate keyword and arguments.
pub(super) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

pub(super) fn split(line: &Logical, part: Part, escape: char) -> Split {
    let part = line.trim(part);
    let text = line.get(part);
    let length = text.find(is_blank).unwrap_or(text.len());
    let name = Part::new(part.start, part.start + length);
    let mut flags = Flags { line, escape, end: part.end, at: name.end };
    let (words, end_of_flags) = flags.read();
    let rest = line.trim(Part::new(flags.at, part.end));
    Split { name, flags: words, end_of_flags, rest }
}

struct Flags<'a> {
    line: &'a Logical,
    escape: char,
    at: usize,
    end: usize,
}

impl Flags<'_> {
    fn peek(&self) -> Option<char> {
        self.line.get(Part::new(self.at, self.end)).chars().next()
    }

    /// Reads words while they begin with `--`.
    fn read(&mut self) -> (Vec<(Word, Part)>, Option<Part>) {
        let mut words = Vec::new();
        loop {
            while self.peek().is_some_and(char::is_whitespace) {
                self.at += self.peek().map_or(0, char::len_utf8);
            }
            let rest = self.line.get(Part::new(self.at, self.end));
            if !rest.starts_with("--") {
                return (words, None);
            }
            let start = self.at;
            let word = self.word();
            let part = Part::new(start, self.at);
            let word = word.finish(self.line, part);
            if word.text == "--" {
                return (words, Some(part));
            }
            words.push((word, part));
        }
    }

    /// Reads one word: quotes go, and an escape protects any character, even between quotes.
    fn word(&mut self) -> WordBuilder {
        let mut word = WordBuilder::default();
        let mut quote = None;
        while let Some(mut character) = self.peek() {
            if quote.is_none() && character.is_whitespace() {
                break;
            }
            let mut at = self.at;
            self.at += character.len_utf8();
            match quote {
                Some(open) if character == open => {
                    quote = None;
                    continue;
                }
                None if character == '\'' || character == '"' => {
                    quote = Some(character);
                    continue;
                }
                _ => {}
            }
            if character == self.escape {
                // At the end it escapes nothing.
                let Some(escaped) = self.peek() else { break };
                at = self.at;
                self.at += escaped.len_utf8();
                character = escaped;
            }
            word.push(self.line, at, character);
        }
        word
    }
}
