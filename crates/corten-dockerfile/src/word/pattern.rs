//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and escapes.

/// An escape before a character that needs none; none when nothing follows it.
#[derive(Debug)]
pub(super) struct InvalidEscape(pub(super) Option<char>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// Any number of characters that are no line ending.
    Any,
    /// One character that is no line ending.
    One,
    Literal(char),
}

/// Takes the shortest or longest match off the beginning.
pub(super) fn trim_prefix(
    pattern: &str,
    value: &str,
    greedy: bool,
) -> Result<String, InvalidEscape> {
    let value: Vec<char> = value.chars().collect();
    let mut matcher = Matcher::new(tokens(pattern)?, &value, greedy);
    let end = matcher.match_at(0).unwrap_or(0);
    Ok(value[end..].iter().collect())
}

/// Takes the shortest or longest match off the end.
///
/// Pattern and value are turned round, since leftmost matching cannot find a shortest match that
/// ends at the end.
pub(super) fn trim_suffix(
    pattern: &str,
    value: &str,
    greedy: bool,
) -> Result<String, InvalidEscape> {
    let value: Vec<char> = value.chars().rev().collect();
    let mut matcher = Matcher::new(tokens(&reversed(pattern))?, &value, greedy);
    let end = matcher.match_at(0).unwrap_or(0);
    Ok(value[end..].iter().rev().collect())
}

/// Replaces the first match, or all of them, each as long as can be.
pub(super) fn replace(
    pattern: &str,
    value: &str,
    replacement: &str,
    all: bool,
) -> Result<String, InvalidEscape> {
    let value: Vec<char> = value.chars().collect();
    let mut matcher = Matcher::new(tokens(pattern)?, &value, true);
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some((start, end)) = matcher.find(from) {
        out.extend(&value[copied..start]);
        // An empty match right after a match is none.
        let counts = end > copied || start == 0;
        if !all {
            out.push_str(replacement);
        } else if counts {
            let matched: String = value[start..end].iter().collect();
            push_template(&mut out, replacement, &matched);
        }
        copied = end;
        from = end.max(from + 1);
        if !all || from > value.len() {
            break;
        }
    }
    out.extend(&value[copied..]);
    Ok(out)
}

/// Writes the replacement of all matches, in which `$0` is the match and `$$` a dollar.
///
/// Other names and numbers stand for groups, which these patterns do not have, and so for nothing.
/// It is a by-product of how the frontend replaces, and files may lean on it.
fn push_template(out: &mut String, template: &str, matched: &str) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let in_name = |c: char| c.is_alphanumeric() || c == '_';
        let braced = rest.starts_with('{');
        let body = if braced { &rest[1..] } else { rest };
        let length = body.find(|c: char| !in_name(c)).unwrap_or(body.len());
        let closed = !braced || body[length..].starts_with('}');
        if length == 0 || !closed {
            out.push('$');
            continue;
        }
        if &body[..length] == "0" {
            out.push_str(matched);
        }
        rest = &body[length + usize::from(braced)..];
    }
    out.push_str(rest);
}

fn tokens(pattern: &str) -> Result<Vec<Token>, InvalidEscape> {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => match characters.peek() {
                // The escape belongs to `${}`, not to the pattern: the next turn takes it.
                Some('}' | '/') => continue,
                Some('*' | '?' | '\\') => Token::Literal(characters.next().unwrap_or('\\')),
                other => return Err(InvalidEscape(other.copied())),
            },
            other => Token::Literal(other),
        });
    }
    Ok(tokens)
}

/// Turns a pattern round without parting escapes from what they escape.
fn reversed(pattern: &str) -> String {
    let mut pieces: Vec<(Option<char>, char)> = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match (character, characters.clone().next()) {
            ('\\', Some(escaped)) => {
                characters.next();
                pieces.push((Some('\\'), escaped));
            }
            _ => pieces.push((None, character)),
        }
    }
    let mut out = String::with_capacity(pattern.len());
    for (escape, character) in pieces.into_iter().rev() {
        out.extend(escape);
        out.push(character);
    }
    out
}

/// Matches a pattern against a value in time proportional to their product.
struct Matcher<'a> {
    tokens: Vec<Token>,
    value: &'a [char],
    greedy: bool,
    /// Pairs of token and place that need not be tried again, for any start: no match was found
    /// from them, or only the one that was given already, which ends where the next search begins.
    failed: Vec<u64>,
}

impl<'a> Matcher<'a> {
    fn new(tokens: Vec<Token>, value: &'a [char], greedy: bool) -> Self {
        let pairs = (tokens.len() + 1) * (value.len() + 1);
        Self { tokens, value, greedy, failed: vec![0; pairs.div_ceil(64)] }
    }

    /// The leftmost match at or after a place.
    fn find(&mut self, from: usize) -> Option<(usize, usize)> {
        (from..=self.value.len()).find_map(|start| self.match_at(start).map(|end| (start, end)))
    }

    /// The end of the match that begins here.
    fn match_at(&mut self, start: usize) -> Option<usize> {
        let mut pending = vec![(0, start)];
        while let Some((token, at)) = pending.pop() {
            let bit = token * (self.value.len() + 1) + at;
            if self.failed[bit / 64] & (1 << (bit % 64)) != 0 {
                continue;
            }
            let Some(kind) = self.tokens.get(token) else { return Some(at) };
            self.failed[bit / 64] |= 1 << (bit % 64);
            let crossable = self.value.get(at).is_some_and(|next| *next != '\n');
            match kind {
                Token::Literal(literal) if self.value.get(at) == Some(literal) => {
                    pending.push((token + 1, at + 1));
                }
                Token::One if crossable => pending.push((token + 1, at + 1)),
                Token::Any if !crossable => pending.push((token + 1, at)),
                Token::Any if self.greedy => pending.extend([(token + 1, at), (token, at + 1)]),
                Token::Any => pending.extend([(token, at + 1), (token + 1, at)]),
                Token::Literal(_) | Token::One => {}
            }
        }
        None
    }
}
