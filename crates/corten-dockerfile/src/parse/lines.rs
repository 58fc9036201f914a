//! Physical lines, comments and continuations.

/// One line of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Where it begins.
    pub(super) start: usize,
    /// Where its line ending begins: all carriage returns and the newline at its end.
    pub(super) end: usize,
    /// Where the next line begins.
    pub(super) next: usize,
    /// From 1.
    pub(super) number: u32,
}

impl Line {
    pub(super) fn text(self, file: &str) -> &str {
        &file[self.start..self.end]
    }
}

/// Goes through the lines of a file.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    file: &'a str,
    at: usize,
    number: u32,
}

impl<'a> Lines<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, at: 0, number: 0 }
    }

    /// Skips bytes that belong to no line.
    pub(super) fn skip_bytes(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let rest = &self.file[self.at..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let text = rest[..length].trim_end_matches(['\r', '\n']);
        self.number = self.number.saturating_add(1);
        let line = Line {
            start: self.at,
            end: self.at + text.len(),
            next: self.at + length,
            number: self.number,
        };
        self.at = line.next;
        Some(line)
    }
}

/// Whether the line is a comment, blanks before it allowed.
pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The length of the line before the escape that joins it with the next one, if there is one.
///
/// The escape may be followed by blanks and must not follow another escape, even an escaped one.
pub(super) fn continued(line: &str, escape: char) -> Option<usize> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before.len())
}
