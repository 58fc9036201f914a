//! Arguments, cut as the instruction asks.

use corten_diag::Diagnostic;

use super::json::{self, Json};
use super::logical::{Logical, Part};
use super::split::is_blank;
use crate::ast::{Keyword, Word};

/// Arguments before they are understood.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) words: Vec<Word>,
    /// For each pair of `ENV` and `LABEL`, whether it was written without `=`.
    pub(super) legacy: bool,
    pub(super) json: bool,
    /// Where an array that was begun turned out to be none.
    pub(super) json_broken_at: Option<usize>,
    /// They break the grammar, and a diagnostic says so.
    pub(super) broken: bool,
}

impl Args {
    fn of(words: Vec<Word>) -> Self {
        Self { words, ..Self::default() }
    }
}

/// Cuts the arguments. `ONBUILD` is not cut here, since its argument is an instruction.
pub(super) fn cut(
    keyword: Keyword,
    line: &Logical,
    rest: Part,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Args {
    match keyword {
        Keyword::Env | Keyword::Label => pairs(keyword, line, rest, escape, diagnostics),
        Keyword::Arg => {
            Args::of(words(line, rest, escape).into_iter().map(|part| line.word(part)).collect())
        }
        Keyword::Expose | Keyword::From => Args::of(by_blanks(line, rest)),
        Keyword::Add | Keyword::Copy | Keyword::Volume => {
            array_or(line, rest, diagnostics, |rest| by_blanks(line, rest))
        }
        Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell => {
            array_or(line, rest, diagnostics, |rest| whole(line, rest))
        }
        Keyword::Healthcheck => healthcheck(line, rest, diagnostics),
        Keyword::Maintainer | Keyword::Stopsignal | Keyword::User | Keyword::Workdir => {
            Args::of(whole(line, rest))
        }
        Keyword::Onbuild | Keyword::Unknown => Args::default(),
    }
}

fn whole(line: &Logical, rest: Part) -> Vec<Word> {
    if rest.is_empty() { Vec::new() } else { vec![line.word(rest)] }
}

fn array_or(
    line: &Logical,
    rest: Part,
    diagnostics: &mut Vec<Diagnostic>,
    otherwise: impl FnOnce(Part) -> Vec<Word>,
) -> Args {
    match json::array(line, rest) {
        Json::Strings(words) => Args { words, json: true, ..Args::default() },
        Json::Mixed => {
            let message = "a JSON array of arguments may hold strings only";
            diagnostics.push(Diagnostic::error(message).at(line.span(rest)));
            Args { broken: true, ..Args::default() }
        }
        Json::No(json_broken_at) => {
            Args { words: otherwise(rest), json_broken_at, ..Args::default() }
        }
    }
}

/// The first word is the type, and what follows is a command.
fn healthcheck(line: &Logical, rest: Part, diagnostics: &mut Vec<Diagnostic>) -> Args {
    let text = line.get(rest);
    let length = text.find(char::is_whitespace).unwrap_or(text.len());
    if length == 0 {
        return Args::default();
    }
    let kind = Part::new(rest.start, rest.start + length);
    let command = line.trim(Part::new(kind.end, rest.end));
    let mut args = array_or(line, command, diagnostics, |rest| whole(line, rest));
    args.words.insert(0, line.word(kind));
    args
}

/// Cuts at every run of blanks; quotes mean nothing.
fn by_blanks(line: &Logical, rest: Part) -> Vec<Word> {
    let text = line.get(rest);
    let mut words = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
        match start {
            None if !is_blank(character) => start = Some(at),
            Some(from) if is_blank(character) => {
                words.push(line.word(Part::new(rest.start + from, rest.start + at)));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// Cuts at blanks that are neither quoted nor escaped; quotes and escapes stay.
fn words(line: &Logical, rest: Part, escape: char) -> Vec<Part> {
    let text = line.get(rest);
    let mut parts = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = text.len();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            if let Some(from) = start.take() {
                parts.push((from, at));
            }
            continue;
        }
        start = start.or(Some(at));
        match quote {
            Some(open) if character == open => quote = None,
            None if character == '\'' || character == '"' => quote = Some(character),
            _ => {}
        }
        // Nothing can be escaped between single quotes; an escape at the end is dropped.
        if character == escape && quote != Some('\'') && characters.next().is_none() {
            end = at;
        }
    }
    parts.extend(start.filter(|from| *from < end).map(|from| (from, end)));
    parts.into_iter().map(|(from, to)| Part::new(rest.start + from, rest.start + to)).collect()
}

/// `key=value …`, or `key value` when the first word has no `=`.
fn pairs(
    keyword: Keyword,
    line: &Logical,
    rest: Part,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Args {
    let parts = words(line, rest, escape);
    let Some(first) = parts.first() else { return Args::default() };
    if !line.get(*first).contains('=') {
        return legacy_pair(keyword, line, rest, diagnostics);
    }
    let mut args = Args::default();
    for part in parts {
        let Some(equals) = line.get(part).find('=') else {
            let message = format!("expected `name=value`, found `{}`", line.get(part));
            let hint = "quote a value that has blanks in it";
            diagnostics.push(Diagnostic::error(message).at(line.span(part)).with_hint(hint));
            return Args { broken: true, ..Args::default() };
        };
        let equals = part.start + equals;
        args.words.push(line.word(Part::new(part.start, equals)));
        args.words.push(line.word(Part::new(equals + 1, part.end)));
    }
    args
}

fn legacy_pair(
    keyword: Keyword,
    line: &Logical,
    rest: Part,
    diagnostics: &mut Vec<Diagnostic>,
) -> Args {
    let text = line.get(rest);
    let Some(length) = text.find(is_blank) else {
        let message = format!("`{}` needs a name and a value", keyword.as_str());
        let hint = format!("write `{} {text}=value`", keyword.as_str());
        diagnostics.push(Diagnostic::error(message).at(line.span(rest)).with_hint(hint));
        return Args { broken: true, ..Args::default() };
    };
    let after = &text[length..];
    let value = rest.end - after.trim_start_matches(is_blank).len();
    let key = line.word(Part::new(rest.start, rest.start + length));
    let value = line.word(Part::new(value, rest.end));
    Args { words: vec![key, value], legacy: true, ..Args::default() }
}
