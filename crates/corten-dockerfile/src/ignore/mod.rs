//! `.dockerignore` files and `--exclude` patterns, with the semantics of moby's patternmatcher.
//!
//! A pattern stands for the paths that it matches and for all that lies beneath them. The last
//! pattern that has something to say about a path decides, and one that begins with `!` takes paths
//! out again. `**` stands for any number of directories.
//!
//! One thing is not as there: `|`, `{` and `}` stand for themselves. The original forgets to escape
//! them, so that there `a|b*` matches all that begins with `a`.

mod regex;

use std::fmt;

use crate::glob;
use regex::Regex;

/// A list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    malformed: Vec<IgnoreError>,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// It takes paths out of what is ignored.
    exception: bool,
    /// It is written as one of the patterns that stand for everything in the context.
    everything: bool,
    matcher: Matcher,
    /// The directories and names that the pattern begins with before its first wildcard.
    literal: Vec<String>,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact(String),
    Prefix(String),
    /// The end of a path. One that begins with `/` matches the path without it, too.
    Suffix(String),
    Regex(Regex),
}

/// A pattern that is malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreError {
    pub pattern: String,
    /// The line of the ignore file, from 1; none for patterns that come from elsewhere.
    pub line: Option<u32>,
}

impl fmt::Display for IgnoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed pattern `{}`", self.pattern)
    }
}

impl std::error::Error for IgnoreError {}

impl Ignore {
    /// Reads an ignore file; malformed patterns are left out and kept for [`Ignore::malformed`].
    pub fn parse(text: &str) -> Self {
        let mut ignore = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1_u32..).zip(text.lines()) {
            let Some(pattern) = normalised(line) else { continue };
            match Pattern::new(&pattern) {
                Ok(pattern) => ignore.patterns.extend(pattern),
                Err(Malformed) => {
                    ignore.malformed.push(IgnoreError { pattern, line: Some(number) });
                }
            }
        }
        ignore
    }

    /// Takes patterns that come from elsewhere; there are no comments among them.
    pub fn from_patterns<'p>(
        patterns: impl IntoIterator<Item = &'p str>,
    ) -> Result<Self, IgnoreError> {
        let mut ignore = Self::default();
        for text in patterns {
            let malformed = |Malformed| IgnoreError { pattern: text.to_owned(), line: None };
            ignore.patterns.extend(Pattern::new(text).map_err(malformed)?);
        }
        Ok(ignore)
    }

    /// The patterns that were left out; a build must not go on with one.
    pub fn malformed(&self) -> &[IgnoreError] {
        &self.malformed
    }

    /// Whether nothing can be ignored.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path is ignored, or lies in a directory that is.
    ///
    /// The path is relative, with `/` between its parts and no `.` or `..`. Patterns do not tell
    /// files from directories.
    pub fn excludes(&self, path: &str, _is_directory: bool) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            // Only a pattern that would change the answer needs to be looked at.
            if pattern.exception == ignored && pattern.matches_path_or_parent(path) {
                ignored = !pattern.exception;
            }
        }
        ignored
    }

    /// Whether some pattern takes paths out again.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Whether one of the patterns says in so many words that everything is ignored.
    pub fn names_everything(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.everything && !pattern.exception)
    }

    /// Whether something in an ignored directory may be taken out again.
    ///
    /// When not, the directory need not be read. The answer errs on the side of reading.
    pub fn may_contain_included(&self, directory: &str) -> bool {
        let exceptions = self.patterns.iter().filter(|pattern| pattern.exception);
        exceptions.into_iter().any(|pattern| {
            let parts = directory.split('/').filter(|part| !part.is_empty());
            parts.zip(&pattern.literal).all(|(part, literal)| part == literal)
        })
    }
}

/// Turns a line of an ignore file into a pattern; none for comments and empty lines.
fn normalised(line: &str) -> Option<String> {
    // A hash counts at the very beginning only.
    if line.starts_with('#') {
        return None;
    }
    let pattern = line.trim();
    if pattern.is_empty() {
        return None;
    }
    let (mark, pattern) = match pattern.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", pattern),
    };
    if pattern.is_empty() {
        return Some(mark.to_owned());
    }
    let clean = cleaned(pattern);
    let relative = match clean.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => clean.as_str(),
    };
    Some(format!("{mark}{relative}"))
}

/// The shortest equal path, by the rules of Go's `filepath.Clean`.
fn cleaned(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

struct Malformed;

impl Pattern {
    /// Reads a pattern; none when it is empty.
    fn new(text: &str) -> Result<Option<Self>, Malformed> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let clean = cleaned(text);
        let (exception, clean) = match clean.strip_prefix('!') {
            Some("") => return Err(Malformed),
            Some(rest) => (true, rest),
            None => (false, clean.as_str()),
        };
        if glob::is_refused_for_a_dot(clean) {
            return Err(Malformed);
        }
        let matcher = Matcher::new(clean)?;
        let literal = clean.split('/').take_while(|part| !glob::has_wildcards(part));
        let literal = literal.map(ToOwned::to_owned).collect();
        let everything = matches!(clean, "*" | "**" | "**/*");
        Ok(Some(Self { exception, everything, matcher, literal }))
    }

    fn matches_path_or_parent(&self, path: &str) -> bool {
        self.matcher.matches(path)
            || path.match_indices('/').any(|(at, _)| self.matcher.matches(&path[..at]))
    }
}

impl Matcher {
    /// Decides how to match, by the same turns as the original, since its shortcuts can be seen in
    /// its answers.
    fn new(pattern: &str) -> Result<Self, Malformed> {
        #[derive(PartialEq, Eq)]
        enum Form {
            Exact,
            Prefix,
            Suffix,
            Regex,
        }
        let mut form = Form::Exact;
        let mut regex = String::from("^");
        let mut characters = pattern.chars().peekable();
        let mut first = true;
        while let Some(character) = characters.next() {
            let begins = std::mem::take(&mut first);
            match character {
                '*' if characters.next_if_eq(&'*').is_some() => {
                    // The slash belongs to the stars, since they may stand for no directory.
                    characters.next_if_eq(&'/');
                    if characters.peek().is_some() {
                        regex.push_str("(.*/)?");
                        form = Form::Regex;
                    } else if form == Form::Exact {
                        form = Form::Prefix;
                    } else {
                        regex.push_str(".*");
                        form = Form::Regex;
                    }
                    if begins {
                        form = Form::Suffix;
                    }
                }
                '*' => {
                    regex.push_str("[^/]*");
                    form = Form::Regex;
                }
                '?' => {
                    regex.push_str("[^/]");
                    form = Form::Regex;
                }
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    regex.push('\\');
                    regex.push(character);
                }
                '\\' => {
                    regex.push('\\');
                    if let Some(escaped) = characters.next() {
                        regex.push(escaped);
                        form = Form::Regex;
                    }
                }
                '[' | ']' => {
                    regex.push(character);
                    form = Form::Regex;
                }
                other => regex.push(other),
            }
        }
        Ok(match form {
            Form::Exact => Self::Exact(pattern.to_owned()),
            Form::Prefix => Self::Prefix(pattern[..pattern.len() - 2].to_owned()),
            Form::Suffix => Self::Suffix(pattern[2..].to_owned()),
            Form::Regex => {
                regex.push('$');
                Self::Regex(Regex::new(&regex).ok_or(Malformed)?)
            }
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}
