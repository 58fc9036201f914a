//! As much of Rust's grammar as the checks need: where comments, strings, tests and functions are.

/// A Rust file, seen without its comments and strings.
#[derive(Debug, Clone)]
pub(crate) struct RustSource {
    /// The text with comments and the insides of literals replaced by spaces; lines stay in place.
    pub code: String,
    /// For each line, whether it ends inside a string.
    ends_in_string: Vec<bool>,
    /// For each line, whether it belongs to an item that is only compiled for tests.
    is_test: Vec<bool>,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub name: String,
    /// The line of its name, from one.
    pub line: usize,
    pub line_count: usize,
}

impl RustSource {
    /// Looks at a file; anything that is no Rust gives some answer and no panic.
    pub(crate) fn parse(text: &str) -> Self {
        let (code, ends_in_string) = Blanker::new(text).run();
        let is_test = test_lines(&code);
        Self { code, ends_in_string, is_test }
    }

    /// Returns true if this line (from one) ends inside a string.
    pub(crate) fn ends_in_string(&self, line: usize) -> bool {
        line.checked_sub(1).and_then(|line| self.ends_in_string.get(line)).copied().unwrap_or(false)
    }

    /// Returns true if this line (from one) is only compiled for tests.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        line.checked_sub(1).and_then(|line| self.is_test.get(line)).copied().unwrap_or(false)
    }

    /// Returns how many lines are not only for tests.
    pub(crate) fn line_count(&self) -> usize {
        self.is_test.iter().filter(|is_test| !**is_test).count()
    }

    /// Returns the words of the code with their lines, each with the text that follows it.
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        (1..).zip(self.code.lines()).flat_map(|(line, text)| {
            words(text).map(move |(start, end)| (line, &text[start..end], &text[end..]))
        })
    }

    /// Returns the functions with a body, tests included, in the order of the text.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = words(&self.code).filter(|(start, end)| &self.code[*start..*end] == "fn");
        starts.filter_map(|(start, end)| self.function(start, end)).collect()
    }

    fn function(&self, start: usize, end: usize) -> Option<Function> {
        let rest = &self.code[end..];
        let (name_start, name_end) = words(rest).next()?;
        // `fn(` is a type, not a function.
        if !rest[..name_start].trim().is_empty() {
            return None;
        }
        let body = item_end(rest)?;
        let line = 1 + line_breaks(&self.code[..start]);
        Some(Function {
            name: rest[name_start..name_end].to_owned(),
            line,
            line_count: 1 + line_breaks(&rest[..body]),
        })
    }
}

fn line_breaks(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Returns where the words of a text begin and end.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let start = position + text[position..].find(is_word)?;
        let length = text[start..].find(|next| !is_word(next)).unwrap_or(text.len() - start);
        position = start + length;
        Some((start, position))
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Returns where an item with a body ends: behind the brace that closes it. One that ends with a
/// semicolon has no body.
fn item_end(code: &str) -> Option<usize> {
    let mut round = 0_i32;
    let mut curly = 0_i32;
    for (position, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => curly += 1,
            b'}' => {
                curly -= 1;
                if curly <= 0 {
                    return (curly == 0).then_some(position + 1);
                }
            }
            b';' if round == 0 && curly == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Marks the lines of items behind `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut is_test = vec![false; code.lines().count()];
    for (start, _) in code.match_indices(ATTRIBUTE) {
        let rest = &code[start + ATTRIBUTE.len()..];
        let end = item_end(rest).or_else(|| rest.find(';')).unwrap_or(0);
        let first = line_breaks(&code[..start]);
        let last = first + line_breaks(&rest[..end]);
        for line in is_test.iter_mut().take(last + 1).skip(first) {
            *line = true;
        }
    }
    is_test
}

/// Replaces comments and the insides of literals by spaces.
struct Blanker<'t> {
    text: &'t str,
    code: String,
    ends_in_string: Vec<bool>,
}

impl<'t> Blanker<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, code: String::with_capacity(text.len()), ends_in_string: Vec::new() }
    }

    fn run(mut self) -> (String, Vec<bool>) {
        while let Some(next) = self.rest().chars().next() {
            let rest = self.rest();
            if rest.starts_with("//") {
                self.blank(rest.find('\n').unwrap_or(rest.len()), false);
            } else if rest.starts_with("/*") {
                self.blank(block_comment(rest), false);
            } else if let Some(length) = raw_string(rest).filter(|_| !self.is_after_word()) {
                self.blank(length, true);
            } else if next == '"' {
                self.blank(quoted(rest, '"'), true);
            } else if let Some(length) = character(rest) {
                self.blank(length, true);
            } else {
                self.keep(next);
            }
        }
        // The last line may have no line break.
        self.ends_in_string.push(false);
        (self.code, self.ends_in_string)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.code.len()..]
    }

    fn is_after_word(&self) -> bool {
        self.code.chars().next_back().is_some_and(is_word)
    }

    fn keep(&mut self, character: char) {
        if character == '\n' {
            self.ends_in_string.push(false);
        }
        self.code.push(character);
    }

    /// Blanks this many bytes; the blanked text has as many bytes as the text.
    fn blank(&mut self, length: usize, is_string: bool) {
        for character in self.rest()[..length].chars() {
            if character == '\n' {
                self.ends_in_string.push(is_string);
                self.code.push('\n');
            } else {
                self.code.extend(std::iter::repeat_n(' ', character.len_utf8()));
            }
        }
    }
}

/// Returns the length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut position = 0;
    while position < text.len() {
        let rest = &text.as_bytes()[position..];
        if rest.starts_with(b"/*") {
            depth += 1;
            position += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            position += 2;
            if depth == 0 {
                return position;
            }
        } else {
            position += 1;
        }
    }
    text.len()
}

/// Returns the length of a raw string, with its prefix.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].iter().find(|prefix| text.starts_with(**prefix))?;
    let rest = &text[prefix.len()..];
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    let inside = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = prefix.len() + hashes + 1;
    Some(inside.find(&end).map_or(text.len(), |length| opening + length + end.len()))
}

/// Returns the length of a quoted literal that starts here, both quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return position + quote.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return Some(quoted(text, '\''));
    }
    inside[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(String, usize, usize)> {
        let functions = RustSource::parse(text).functions();
        functions.into_iter().map(|one| (one.name, one.line, one.line_count)).collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("/* a /* b */ c */d", "                 d"),
            (r#"f("a\"b")"#, "f(      )"),
            (r###"x = r#"a"b"#;"###, "x =         ;"),
            ("'a' '\\'' 'é' &'a str", "              &'a str"),
            ("b\"x\" br\"y\"", "b         "),
            ("for r in 0..1", "for r in 0..1"),
            ("unterminated \"a", "unterminated   "),
        ];
        for (text, expected) in cases {
            assert_eq!(RustSource::parse(text).code, expected, "{text}");
        }
    }

    #[test]
    fn functions_are_found_with_their_length() {
        let text = "\
fn one() {}
trait T { fn declared(&self) -> [u8; 2]; }
type F = fn(u8) -> u8;
pub(crate) async fn two<'a>(
    text: &'a str,
) -> &'a str
where
    (): Sized,
{
    // }
    if text == \"}\" { text } else { fn inner() {
    } \"\" }
}
";
        let expected = [("one", 1, 1), ("two", 4, 10), ("inner", 11, 2)];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, line, count)| ((*name).to_owned(), *line, *count))
            .collect();
        assert_eq!(names(text), expected);
    }

    #[test]
    fn items_for_tests_do_not_count() {
        let text = "\
fn a() {
}
#[cfg(test)]
mod declared;
#[cfg(test)]
#[expect(x)]
mod tests {
    fn b() {}
}
fn c() {}
";
        let source = RustSource::parse(text);
        assert_eq!(source.line_count(), 3);
    }

    #[test]
    fn lines_inside_strings_are_known() {
        let source = RustSource::parse("let a = r\"x \n y\"; \n// \"\n");
        let inside: Vec<bool> = (1..=3).map(|line| source.ends_in_string(line)).collect();
        assert_eq!(inside, [true, false, false]);
    }

    #[test]
    fn words_come_with_their_line_and_what_follows() {
        let source = RustSource::parse("a::b!\nunsafe_code");
        let found: Vec<_> = source.words().collect();
        assert_eq!(found, [(1, "a", "::b!"), (1, "b", "!"), (2, "unsafe_code", "")]);
    }

    #[test]
    fn anything_gives_an_answer() {
        for text in
            ["", "fn", "fn a", "fn a(", "}{", "#[cfg(test)]", "'", "'\\", "r#", "/*", "\"\\"]
        {
            let source = RustSource::parse(text);
            assert_eq!(source.code.len(), text.len());
            assert!(source.functions().is_empty());
        }
    }
}
