//! The JSON arrays of strings that instructions may be written in.

use super::logical::{Logical, Part, WordBuilder};
use crate::ast::Word;

/// How deeply a JSON value may be nested; the peers' library sets the same limit.
const DEPTH_MAX: usize = 10_000;

/// What a text is when it is read as JSON.
#[derive(Debug)]
pub(super) enum Json {
    /// An array of strings.
    Strings(Vec<Word>),
    /// An array with something else in it, which is always a mistake.
    Mixed,
    /// No array, or no JSON: it is read in the shell form. For an array that breaks off, the place.
    No(Option<usize>),
}

/// Reads a part of a line as a JSON array.
pub(super) fn array(line: &Logical, part: Part) -> Json {
    let text = line.get(part);
    let skipped = text.len() - text.trim_start().len();
    if !text[skipped..].starts_with('[') {
        return Json::No(None);
    }
    let mut reader = Reader { line, base: part.start, text, at: skipped };
    let mut words = Vec::new();
    match reader.top(&mut words) {
        Some(true) => Json::Strings(words),
        Some(false) => Json::Mixed,
        None => Json::No(Some(part.start + reader.at)),
    }
}

struct Reader<'a> {
    line: &'a Logical,
    base: usize,
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Reads the whole text; whether all elements are strings, or none when it is no JSON.
    fn top(&mut self, words: &mut Vec<Word>) -> Option<bool> {
        self.at += 1;
        let mut strings = true;
        self.blanks();
        if !self.take(b']') {
            loop {
                self.blanks();
                if self.peek() == Some(b'"') {
                    words.push(self.string()?);
                } else {
                    self.skip_value()?;
                    strings = false;
                }
                self.blanks();
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return None;
                }
            }
        }
        self.blanks();
        (self.at == self.text.len()).then_some(strings)
    }

    /// Reads a string with its quotes.
    fn string(&mut self) -> Option<Word> {
        let start = self.base + self.at;
        let mut word = WordBuilder::default();
        self.at += 1;
        loop {
            let at = self.base + self.at;
            let character = self.text[self.at..].chars().next()?;
            match character {
                '"' => {
                    self.at += 1;
                    let part = Part::new(start, self.base + self.at);
                    return Some(word.finish(self.line, part));
                }
                '\\' => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    word.push(self.line, at, escaped);
                }
                control if control < ' ' => return None,
                other => {
                    self.at += other.len_utf8();
                    word.push(self.line, at, other);
                }
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => {
                self.at -= 1;
                return None;
            }
        })
    }

    /// Reads four digits, and four more when they are the first half of a pair.
    ///
    /// A half alone is no character and stands for the replacement character.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        if self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(joined);
            }
            self.at = before;
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let mut value = 0;
        for digit in digits {
            value = value * 16 + char::from(*digit).to_digit(16)?;
        }
        self.at += 4;
        Some(value)
    }

    /// Reads any value that is not a string in the array itself.
    fn skip_value(&mut self) -> Option<()> {
        /// What is open, from the outside in.
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Open {
            Array,
            Object,
        }
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.blanks();
            // A value, or the end of an empty array or object.
            match self.peek()? {
                b'[' => {
                    self.at += 1;
                    self.blanks();
                    if !self.take(b']') {
                        open.push(Open::Array);
                        if open.len() >= DEPTH_MAX {
                            return None;
                        }
                        continue;
                    }
                }
                b'{' => {
                    self.at += 1;
                    self.blanks();
                    if !self.take(b'}') {
                        open.push(Open::Object);
                        if open.len() >= DEPTH_MAX {
                            return None;
                        }
                        self.key()?;
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // What closes or separates.
            loop {
                let Some(innermost) = open.last().copied() else { return Some(()) };
                self.blanks();
                let close = if innermost == Open::Array { b']' } else { b'}' };
                if self.take(close) {
                    open.pop();
                    continue;
                }
                if !self.take(b',') {
                    return None;
                }
                if innermost == Open::Object {
                    self.key()?;
                }
                break;
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.blanks();
        if self.peek() != Some(b'"') {
            return None;
        }
        self.string()?;
        self.blanks();
        self.take(b':').then_some(())
    }

    fn scalar(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        if rest.starts_with('"') {
            return self.string().map(|_| ());
        }
        for literal in ["true", "false", "null"] {
            if rest.starts_with(literal) {
                self.at += literal.len();
                return Some(());
            }
        }
        self.number()
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'-') {
                self.take(b'+');
            }
            self.digits()?;
        }
        // A number that is too large is refused there, and the array with it.
        let value: f64 = self.text[start..self.at].parse().ok()?;
        value.is_finite().then_some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}
