//! Parser directives: `# name=value` in the first lines of a file.

use corten_diag::{Diagnostic, Span, Spanned};

use crate::ast::Directives;

/// Reads directives until the first line that is none.
#[derive(Debug, Default)]
pub(super) struct Reader {
    done: bool,
    /// A directive had blanks before it. It counts, but no `syntax` or `check` from there on does,
    /// since those two are looked for in a stricter way.
    indented: bool,
    seen: Vec<&'static str>,
}

/// A line that has the form of a directive with a known name.
struct Found<'a> {
    name: &'static str,
    value: &'a str,
    /// Where the value begins in the line.
    value_at: usize,
}

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

impl Reader {
    /// Reads a line; whether it is a directive.
    pub(super) fn line(
        &mut self,
        line: &str,
        start: usize,
        directives: &mut Directives,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> bool {
        if self.done {
            return false;
        }
        let stripped = line.trim_start();
        self.indented |= stripped.len() < line.len();
        let (start, line) = (start + line.len() - stripped.len(), stripped);
        let Some(found) = find(line) else {
            self.done = true;
            return false;
        };
        let whole = Span::from_offsets(start, start + line.trim_end().len());
        if self.seen.contains(&found.name) {
            let message = format!("the directive `{}` is given twice", found.name);
            diagnostics.push(Diagnostic::error(message).at(whole));
            return true;
        }
        self.seen.push(found.name);
        let value_start = start + found.value_at;
        let span = Span::from_offsets(value_start, value_start + found.value.len());
        match found.name {
            "escape" => match found.value {
                "\\" => directives.escape = Some(Spanned::new('\\', span)),
                "`" => directives.escape = Some(Spanned::new('`', span)),
                other => {
                    let message = format!("invalid escape character `{other}`");
                    let hint = "use a backslash or a backtick";
                    diagnostics.push(Diagnostic::error(message).at(span).with_hint(hint));
                }
            },
            _ if self.indented => {}
            "syntax" => directives.syntax = Some(Spanned::new(found.value.to_owned(), span)),
            _ => directives.check = Some(Spanned::new(found.value.to_owned(), span)),
        }
        true
    }
}

/// Finds `syntax` and `check` behind a first line `#!…`, where `escape` is not looked for.
pub(super) fn after_shebang(text: &str, directives: &mut Directives) {
    let Some((shebang, rest)) = text.split_once('\n').filter(|(line, _)| line.starts_with("#!"))
    else {
        return;
    };
    let mut at = text.len() - rest.len();
    debug_assert!(shebang.len() < at, "the rest begins behind the newline");
    let mut reader = Reader::default();
    let mut found = Directives::default();
    for line in rest.split_inclusive('\n') {
        let body = line.trim_end_matches(['\r', '\n']);
        if !reader.line(body, at, &mut found, &mut Vec::new()) {
            break;
        }
        at += line.len();
    }
    directives.syntax = directives.syntax.take().or(found.syntax);
    directives.check = directives.check.take().or(found.check);
}

fn find(line: &str) -> Option<Found<'_>> {
    let (name, value) = split(line)?;
    let name = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
    let value_at = value.as_ptr() as usize - line.as_ptr() as usize;
    Some(Found { name, value, value_at })
}

/// Splits `# name = value`: a letter, then letters and digits, and a value that is not empty.
fn split(line: &str) -> Option<(&str, &str)> {
    let body = line.strip_prefix('#')?.trim_start();
    let length = body.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(body.len());
    let (name, rest) = body.split_at(length);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
    let value = rest.trim_start_matches(blank).strip_prefix('=')?;
    let value = value.trim_start_matches(blank).trim_end_matches(blank);
    (!value.is_empty()).then_some((name, value))
}
