//! Wildcards of `COPY` and `ADD`, with the semantics of Go's `filepath.Match` on Linux.
//!
//! `*` stands for any characters but `/`, `?` for one of them, `[a-z]` and `[^a-z]` for one character
//! of a set, and a backslash takes the meaning from the next character.

use std::fmt;

/// A pattern that was found to be well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The pieces between stars.
    chunks: Vec<Chunk>,
}

/// A star, or none, and what has to follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chunk {
    star: bool,
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(char),
    /// Any character but `/`.
    One,
    /// One of a set of ranges, or none of them; `/` may be among them.
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// The pattern is malformed: a set is empty or not closed, or it ends in a backslash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    pub pattern: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed pattern `{}`", self.pattern)
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        match chunks(pattern) {
            (chunks, true) => Ok(Self { chunks }),
            (_, false) => Err(PatternError { pattern: pattern.to_owned() }),
        }
    }

    /// Whether the pattern matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        walk(&self.chunks, name, true).is_some_and(str::is_empty)
    }
}

/// Whether a malformed pattern is refused by matching it against `.`, as `.dockerignore` does.
///
/// Go does not look behind the first piece that does not match.
pub(crate) fn is_refused_for_a_dot(pattern: &str) -> bool {
    let (chunks, whole) = chunks(pattern);
    !whole && walk(&chunks, ".", false).is_some()
}

/// What is left of a name behind all chunks; none when one of them does not match.
fn walk<'n>(chunks: &[Chunk], name: &'n str, to_the_end: bool) -> Option<&'n str> {
    let mut rest = name;
    for (index, chunk) in chunks.iter().enumerate() {
        let last = to_the_end && index + 1 == chunks.len();
        if last && chunk.star && chunk.items.is_empty() {
            return (!rest.contains('/')).then_some("");
        }
        rest = chunk.after(rest, last)?;
    }
    Some(rest)
}

/// Whether a text has characters that mean something in a pattern.
pub fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

impl Chunk {
    /// What is left of a name behind the first place where the chunk fits.
    ///
    /// The first place is the only one looked at, but for the last chunk, which must reach the end.
    fn after<'n>(&self, name: &'n str, last: bool) -> Option<&'n str> {
        let mut start = name;
        loop {
            if let Some(rest) = self.fits(start)
                && (rest.is_empty() || !last)
            {
                return Some(rest);
            }
            let mut characters = start.chars();
            match characters.next() {
                Some(skipped) if self.star && skipped != '/' => start = characters.as_str(),
                _ => return None,
            }
        }
    }

    fn fits<'n>(&self, name: &'n str) -> Option<&'n str> {
        let mut characters = name.chars();
        for item in &self.items {
            let character = characters.next()?;
            let fits = match item {
                Item::Literal(literal) => *literal == character,
                Item::One => character != '/',
                Item::Set { negated, ranges } => {
                    let inside =
                        ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                    inside != *negated
                }
            };
            if !fits {
                return None;
            }
        }
        Some(characters.as_str())
    }
}

/// Cuts a pattern into chunks; those before the malformed one, and whether there was none.
fn chunks(pattern: &str) -> (Vec<Chunk>, bool) {
    let mut chunks = Vec::new();
    let mut chunk = Chunk::default();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let item = match character {
            '*' => {
                if !chunk.items.is_empty() {
                    chunks.push(std::mem::take(&mut chunk));
                }
                chunk.star = true;
                continue;
            }
            '?' => Some(Item::One),
            '[' => set(&mut characters),
            '\\' => characters.next().map(Item::Literal),
            other => Some(Item::Literal(other)),
        };
        let Some(item) = item else { return (chunks, false) };
        chunk.items.push(item);
    }
    if chunk.star || !chunk.items.is_empty() {
        chunks.push(chunk);
    }
    (chunks, true)
}

/// Reads a set from behind its opening bracket.
fn set(characters: &mut std::str::Chars<'_>) -> Option<Item> {
    let negated = take(characters, '^');
    let mut ranges = Vec::new();
    while ranges.is_empty() || !take(characters, ']') {
        let low = bound(characters)?;
        let high = if take(characters, '-') { bound(characters)? } else { low };
        ranges.push((low, high));
    }
    Some(Item::Set { negated, ranges })
}

fn take(characters: &mut std::str::Chars<'_>, wanted: char) -> bool {
    let there = characters.as_str().starts_with(wanted);
    if there {
        characters.next();
    }
    there
}

/// Reads one end of a range; something must follow it, if only the closing bracket.
fn bound(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let bound = match characters.next()? {
        '-' | ']' => return None,
        '\\' => characters.next()?,
        other => other,
    };
    (!characters.as_str().is_empty()).then_some(bound)
}
