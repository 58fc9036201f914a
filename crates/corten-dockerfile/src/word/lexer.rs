use super::{Lookup, NESTING_MAX, WordError, pattern};

/// How a word is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) escape: char,
    pub(crate) quotes: Quotes,
    /// Escapes protect characters and stay in the result.
    pub(crate) raw_escapes: bool,
    /// A variable that is not set stays as it was written.
    pub(crate) keep_unset: bool,
    /// What a word began with is forgotten at a `${…}` with a modifier.
    ///
    /// The frontend does so by mistake. Where here-documents are looked for it has to be done as
    /// well, since the mistake keeps `$((1 << ${n:-3}))` from being one.
    pub(crate) forgetful: bool,
}

/// What becomes of quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// They group words and go.
    Remove,
    /// They group words and stay.
    Keep,
    /// They mean nothing.
    Ignore,
}

impl Options {
    pub(crate) fn new(escape: char) -> Self {
        Self {
            escape,
            quotes: Quotes::Remove,
            raw_escapes: false,
            keep_unset: false,
            forgetful: false,
        }
    }
}

/// What a word became.
#[derive(Debug, Default)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    pub(crate) words: Vec<String>,
}

/// Reads one word from its beginning to its end.
pub(crate) struct Lexer<'a> {
    word: &'a str,
    at: usize,
    lookup: &'a Lookup<'a>,
    options: Options,
    depth: usize,
    /// A modifier was read since this was last asked.
    modifier_read: bool,
}

/// Collects words while characters come in.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// A character that may separate words.
    fn push(&mut self, character: char) {
        if !character.is_whitespace() {
            self.current.push(character);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(word: &'a str, lookup: &'a Lookup<'a>, options: Options) -> Self {
        // A byte order mark at the very beginning does not count.
        let at = if word.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { word, at, lookup, options, depth: 0, modifier_read: false }
    }

    pub(crate) fn run(mut self) -> Result<Expanded, WordError> {
        self.until(None, self.options.raw_escapes)
    }

    fn peek(&self) -> Option<char> {
        self.word[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn error<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, WordError> {
        Err(WordError { message: message.into(), offset: offset.min(self.word.len()) })
    }

    /// Reads up to the stop character, which is taken too, or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Expanded, WordError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(character) = self.peek() {
            if stop == Some(character) {
                self.next();
                self.modifier_read = true;
                return Ok(Expanded { text, words: words.finish() });
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    self.forget(&mut words);
                    value.chars().for_each(|character| words.push(character));
                    text.push_str(&value);
                }
                '<' => {
                    let value = self.possible_heredoc();
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                '\'' | '"' if self.options.quotes != Quotes::Ignore => {
                    let value = match character {
                        '"' => self.double_quoted(raw_escapes)?,
                        _ => self.single_quoted()?,
                    };
                    self.forget(&mut words);
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                _ => self.plain(&mut text, &mut words, raw_escapes),
            }
        }
        match stop {
            None => Ok(Expanded { text, words: words.finish() }),
            Some(stop) => {
                let place = if stop == '}' { "`}`" } else { "`/` in `${…}`" };
                self.error(self.at, format!("syntax error: missing {place}"))
            }
        }
    }

    fn forget(&mut self, words: &mut Words) {
        if std::mem::take(&mut self.modifier_read) && self.options.forgetful {
            words.current.clear();
        }
    }

    fn plain(&mut self, text: &mut String, words: &mut Words, raw_escapes: bool) {
        let Some(character) = self.next() else { return };
        if character != self.options.escape {
            words.push(character);
            text.push(character);
            return;
        }
        if raw_escapes {
            words.current.push(character);
            text.push(character);
        }
        // At the end of the word it escapes nothing.
        if let Some(escaped) = self.next() {
            words.current.push(escaped);
            text.push(escaped);
        }
    }

    /// Nothing is special between single quotes.
    fn single_quoted(&mut self) -> Result<String, WordError> {
        let opened = self.at;
        self.next();
        let Some(length) = self.word[self.at..].find('\'') else {
            return self.error(opened, "a single quote is not closed");
        };
        let inner = &self.word[self.at..self.at + length];
        self.at += length + 1;
        Ok(if self.options.quotes == Quotes::Keep {
            format!("'{inner}'")
        } else {
            inner.to_owned()
        })
    }

    /// Between double quotes variables count, and the escape counts before `"`, `$` and itself.
    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String, WordError> {
        let opened = self.at;
        self.next();
        let mut text = String::new();
        if self.options.quotes == Quotes::Keep {
            text.push('"');
        }
        loop {
            let Some(character) = self.peek() else {
                return self.error(opened, "a double quote is not closed");
            };
            match character {
                '"' => {
                    self.next();
                    if self.options.quotes == Quotes::Keep {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                _ => self.quoted_character(&mut text, raw_escapes),
            }
        }
    }

    fn quoted_character(&mut self, text: &mut String, raw_escapes: bool) {
        let escape = self.options.escape;
        let Some(mut character) = self.next() else { return };
        if character == escape {
            if raw_escapes {
                text.push(character);
            }
            match self.peek() {
                None => return,
                Some(escaped) if escaped == '"' || escaped == '$' || escaped == escape => {
                    self.next();
                    character = escaped;
                }
                Some(_) => {}
            }
        }
        text.push(character);
    }

    /// Two `<` take the blanks after them along, so that `<< EOF` is one word.
    fn possible_heredoc(&mut self) -> String {
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.next();
            }
        }
        self.word[start..self.at].to_owned()
    }

    fn dollar(&mut self) -> Result<String, WordError> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = (self.lookup)(name);
            return Ok(match value {
                None if self.options.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        if self.depth == NESTING_MAX {
            return self.error(start, format!("variables are nested more than {NESTING_MAX} deep"));
        }
        self.depth += 1;
        let value = self.braced(start);
        self.depth -= 1;
        value
    }

    /// Reads from the opening brace on.
    fn braced(&mut self, start: usize) -> Result<String, WordError> {
        self.next();
        match self.peek() {
            None => return self.error(start, "syntax error: missing `}`"),
            Some('{' | '}' | ':') => return self.error(start, "syntax error: bad substitution"),
            Some(_) => {}
        }
        let name = self.name();
        let modifier_at = self.at;
        match self.next() {
            None => self.error(start, "syntax error: missing `}`"),
            Some('}') => {
                let value = (self.lookup)(name);
                Ok(match value {
                    None if self.options.keep_unset => format!("${{{name}}}"),
                    value => value.unwrap_or_default(),
                })
            }
            Some(':') => match self.next() {
                Some(modifier @ ('#' | '%')) => {
                    self.unsupported(modifier_at, &format!(":{modifier}"))
                }
                Some(modifier) => self.conditional(name, modifier, true, modifier_at),
                None => self.error(start, "syntax error: missing `}`"),
            },
            Some(modifier @ ('-' | '+' | '?')) => {
                self.conditional(name, modifier, false, modifier_at)
            }
            Some(modifier @ ('#' | '%')) => self.trim(name, modifier, modifier_at),
            Some('/') => self.replace(name, modifier_at),
            Some(modifier) => self.unsupported(modifier_at, &modifier.to_string()),
        }
    }

    fn unsupported<T>(&self, at: usize, modifier: &str) -> Result<T, WordError> {
        self.error(at, format!("unsupported modifier `{modifier}` in a substitution"))
    }

    /// `-`, `+` and `?`, with or without the colon that makes empty count as not set.
    ///
    /// After a colon any modifier comes here, since an unknown one is only an error once the
    /// variable's value is wanted.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
        modifier_at: usize,
    ) -> Result<String, WordError> {
        let word_at = self.at;
        let word = self.until(Some('}'), false)?.text;
        let value = (self.lookup)(name);
        if value.is_none() && self.options.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let present = value.as_ref().is_some_and(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            '-' | '?' if present => Ok(value.unwrap_or_default()),
            '-' => Ok(word),
            '+' if present => Ok(word),
            '+' => Ok(String::new()),
            '?' => {
                let state = if value.is_none() { "unset" } else { "empty" };
                self.error(word_at, required(name, &word, state))
            }
            _ => self.unsupported(modifier_at, &format!(":{modifier}")),
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trim(&mut self, name: &str, modifier: char, at: usize) -> Result<String, WordError> {
        let word = self.until(Some('}'), true)?.text;
        let value = (self.lookup)(name);
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let (greedy, pattern) = match word.strip_prefix(modifier) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let trimmed = match modifier {
            '#' => pattern::trim_prefix(pattern, &value, greedy),
            _ => pattern::trim_suffix(pattern, &value, greedy),
        };
        trimmed.or_else(|error| self.error(at, invalid_pattern(pattern, &error)))
    }

    /// `/pattern/replacement` for the first match and `//pattern/replacement` for all.
    fn replace(&mut self, name: &str, at: usize) -> Result<String, WordError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        let value = (self.lookup)(name);
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        pattern::replace(&pattern, &value, &replacement, all)
            .or_else(|error| self.error(at, invalid_pattern(&pattern, &error)))
    }

    /// Letters, digits and `_`; only digits when it begins with one; or one special parameter.
    fn name(&mut self) -> &'a str {
        let rest = &self.word[self.at..];
        let length = match rest.chars().next() {
            Some(first) if first.is_ascii_digit() => {
                rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => {
                let in_name = |c: char| c.is_alphabetic() || c.is_ascii_digit() || c == '_';
                rest.find(|c: char| !in_name(c)).unwrap_or(rest.len())
            }
        };
        self.at += length;
        &rest[..length]
    }
}

fn required(name: &str, word: &str, state: &str) -> String {
    if word.is_empty() {
        format!("`{name}` is not allowed to be {state}")
    } else {
        format!("`{name}`: {word}")
    }
}

fn invalid_pattern(pattern: &str, error: &pattern::InvalidEscape) -> String {
    match error.0 {
        Some(character) => format!("invalid escape `\\{character}` in the pattern `{pattern}`"),
        None => format!("the pattern `{pattern}` ends in an escape"),
    }
}
