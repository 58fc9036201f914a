//! From text to tree.
//!
//! Physical lines are joined to logical ones ([`logical`]), a logical line is cut into keyword, flags
//! and arguments ([`split`], [`args`]), and then understood ([`understand`]). No step fails: what is
//! wrong becomes a diagnostic, and the instruction [`Kind::Unknown`].

mod args;
mod directives;
mod flags;
mod healthcheck;
pub(crate) mod heredoc;
mod json;
mod lines;
mod logical;
mod split;
mod understand;

use corten_diag::{Diagnostic, Severity, Span, Spanned};

use crate::ast::{Dockerfile, Heredoc, Instruction, Keyword, Kind, Token, TokenKind, Word};
use args::Args;
use lines::{Line, Lines};
use logical::{Logical, Part, push_token};
use split::Split;
use understand::{Judge, Raw};

/// Reads a Dockerfile.
pub fn parse(text: &str) -> Dockerfile {
    let mut parser = Parser {
        text,
        lines: Lines::new(text),
        out: Dockerfile::default(),
        directives: directives::Reader::default(),
        comments: Vec::new(),
    };
    let bom = '\u{feff}';
    if text.starts_with(bom) {
        let span = Span::from_offsets(0, bom.len_utf8());
        parser.out.tokens.push(Token { kind: TokenKind::Bom, span });
        parser.lines.skip_bytes(bom.len_utf8());
    }
    while let Some(line) = parser.lines.next() {
        parser.line(line);
    }
    if parser.out.instructions.is_empty() {
        let message = "the file holds no instructions";
        let diagnostic = Diagnostic::error(message).at(Span::default());
        parser.out.diagnostics.push(diagnostic.with_hint("begin with `FROM` and an image"));
    }
    directives::after_shebang(text.trim_start_matches(bom), &mut parser.out.directives);
    parser.out
}

struct Parser<'a> {
    text: &'a str,
    lines: Lines<'a>,
    out: Dockerfile,
    directives: directives::Reader,
    comments: Vec<Word>,
}

/// The first and the last line of an instruction, and the end of its last text.
struct Extent {
    first: u32,
    last: u32,
    end: u32,
}

impl Parser<'_> {
    /// Reads what begins on this line.
    fn line(&mut self, line: Line) {
        let text = line.text(self.text);
        let stripped = text.trim_start();
        let start = line.end - stripped.len();
        self.token(TokenKind::Whitespace, line.start, start);
        if stripped.starts_with('#') {
            self.comment(text, line.start);
            self.token(TokenKind::Whitespace, line.end, line.next);
        } else {
            // Whatever stands here, no directive can follow.
            let (directives, diagnostics) = (&mut self.out.directives, &mut self.out.diagnostics);
            self.directives.line(text, line.start, directives, diagnostics);
            if stripped.is_empty() {
                self.token(TokenKind::Whitespace, line.end, line.next);
            } else {
                self.instruction(line, start);
            }
        }
    }

    fn token(&mut self, kind: TokenKind, start: usize, end: usize) {
        let span = Span::from_offsets(start, end);
        push_token(&mut self.out.tokens, Token { kind, span });
    }

    /// Reads a line whose first character that is no blank is `#`.
    fn comment(&mut self, line: &str, line_start: usize) {
        let text = line.trim_start();
        let start = line_start + line.len() - text.len();
        let (directives, diagnostics) = (&mut self.out.directives, &mut self.out.diagnostics);
        if self.directives.line(line, line_start, directives, diagnostics) {
            self.token(TokenKind::Directive, start, start + text.len());
            return;
        }
        self.token(TokenKind::Comment, start, start + text.len());
        let body = text[1..].trim();
        if body.is_empty() {
            self.comments.clear();
        } else {
            let at = start + text.len() - text[1..].trim_start().len();
            self.comments.push(Word::plain(body, Span::from_offsets(at, at + body.len())));
        }
    }

    fn instruction(&mut self, line: Line, start: usize) {
        let mut last = line.number;
        let logical = self.join(line, start, &mut last);
        let escape = self.out.directives.escape_char();
        let mut diagnostics = Vec::new();
        let raw = cut(&logical, logical.whole(), escape, &mut diagnostics);
        let inner = (raw.keyword == Keyword::Onbuild && !raw.split.rest.is_empty())
            .then(|| cut_trigger(&logical, &raw, escape, &mut diagnostics));
        let mut parts = parts(&raw);
        parts.extend(inner.as_ref().map(self::parts).unwrap_or_default());
        parts.sort_by_key(|(_, part)| part.start);
        logical.tokens(&parts, &mut self.out.tokens);

        let carrier = inner.as_ref().unwrap_or(&raw);
        let mut end = logical.span(Part::new(0, logical.text.trim_end().len())).end;
        let heredocs = if may_hold_heredocs(carrier) && logical.text.contains("<<") {
            self.heredocs(&logical, &mut last, &mut end, &mut diagnostics)
        } else {
            Vec::new()
        };
        let extent = Extent { first: line.number, last, end };
        let comments = std::mem::take(&mut self.comments);
        let instruction = match inner {
            Some(inner) => onbuild(&raw, &inner, heredocs, &extent, &mut diagnostics),
            None => build(&raw, heredocs, &extent, &mut diagnostics),
        };
        self.out.instructions.push(Instruction { comments, ..instruction });
        self.out.diagnostics.append(&mut diagnostics);
    }

    /// Joins the lines of one instruction and warns of empty ones between them.
    fn join(&mut self, line: Line, start: usize, last: &mut u32) -> Logical {
        let escape = self.out.directives.escape_char();
        let mut logical = Logical::default();
        let mut empty = None;
        let mut goes_on = self.push_line(&mut logical, line, start, escape);
        while goes_on {
            let Some(next) = self.lines.next() else { break };
            *last = next.number;
            let text = next.text(self.text);
            let body = next.end - text.trim_start().len();
            let whitespace = TokenKind::Whitespace;
            if lines::is_comment(text) {
                logical.push_gap(whitespace, Span::from_offsets(next.start, body));
                logical.push_gap(TokenKind::Comment, Span::from_offsets(body, next.end));
                logical.push_gap(whitespace, Span::from_offsets(next.end, next.next));
            } else if body == next.end {
                let span = Span::from_offsets(next.start, next.next);
                logical.push_gap(whitespace, span);
                empty = empty.or(Some(Span::from_offsets(next.start, next.end)));
            } else {
                goes_on = self.push_line(&mut logical, next, next.start, escape);
            }
        }
        if let Some(span) = empty {
            let message = "an empty line inside an instruction";
            let hint = "remove the line, or make it a comment";
            self.out.diagnostics.push(Diagnostic::warning(message).at(span).with_hint(hint));
        }
        logical
    }

    /// Adds the text of a line; whether the next line belongs to it.
    fn push_line(&self, logical: &mut Logical, line: Line, start: usize, escape: char) -> bool {
        let text = &self.text[start..line.end];
        let kept = lines::continued(text, escape);
        let end = kept.map_or(line.end, |kept| start + kept);
        logical.push(&self.text[start..end], start);
        let kind = match kept {
            Some(_) => TokenKind::Continuation,
            None => TokenKind::Whitespace,
        };
        logical.push_gap(kind, Span::from_offsets(end, line.next));
        kept.is_some()
    }

    /// Reads the bodies of the here-documents that a line asks for.
    fn heredocs(
        &mut self,
        logical: &Logical,
        last: &mut u32,
        end: &mut u32,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<Heredoc> {
        let mut heredocs = heredoc::of_line(&logical.text);
        for heredoc in &mut heredocs {
            let mut body = None;
            let mut terminated = false;
            while let Some(line) = self.lines.next() {
                *last = line.number;
                let text = line.text(self.text);
                let word = if heredoc.chomp { text.trim_start_matches('\t') } else { text };
                let body = body.get_or_insert(Span::from_offsets(line.start, line.start));
                *end = Span::from_offsets(line.start, line.end).end;
                if word == heredoc.name {
                    terminated = true;
                    self.token(TokenKind::HeredocBody, body.range().start, line.start);
                    self.token(TokenKind::HeredocEnd, line.start, line.end);
                    self.token(TokenKind::Whitespace, line.end, line.next);
                    break;
                }
                body.end = Span::from_offsets(line.next, line.next).end;
            }
            heredoc.span = body.unwrap_or(Span::empty(*end));
            heredoc.span.of(self.text).clone_into(&mut heredoc.body);
            if !terminated {
                let range = heredoc.span.range();
                self.token(TokenKind::HeredocBody, range.start, range.end);
                let message = format!("no line ends the here-document `{}`", heredoc.name);
                let hint = format!("add a line that holds `{}` and nothing else", heredoc.name);
                let span = heredoc::place(logical, &heredoc.name);
                diagnostics.push(Diagnostic::error(message).at(span).with_hint(hint));
            }
        }
        heredocs
    }
}

/// Cuts a logical line, or the part of it that is triggered.
fn cut<'a>(
    line: &'a Logical,
    part: Part,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Raw<'a> {
    let split = split::split(line, part, escape);
    let keyword = Keyword::from_name(line.get(split.name));
    let args = args::cut(keyword, line, split.rest, escape, diagnostics);
    Raw { line, keyword, split, args }
}

/// Cuts what `ONBUILD` triggers.
///
/// Whether it can be understood shows only in a later build, so that all but grammar is a warning.
fn cut_trigger<'a>(
    line: &'a Logical,
    outer: &Raw<'a>,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Raw<'a> {
    let split = split::split(line, outer.split.rest, escape);
    let keyword = Keyword::from_name(line.get(split.name));
    let args = match keyword {
        Keyword::From | Keyword::Maintainer => Args::default(),
        _ => args::cut(keyword, line, split.rest, escape, diagnostics),
    };
    Raw { line, keyword, split, args }
}

fn may_hold_heredocs(raw: &Raw<'_>) -> bool {
    matches!(raw.keyword, Keyword::Add | Keyword::Copy | Keyword::Run) && !raw.args.json
}

/// The parts of a line that are not blanks; of `ONBUILD` without what it triggers.
fn parts(raw: &Raw<'_>) -> Vec<(TokenKind, Part)> {
    let Split { name, flags, end_of_flags, rest } = &raw.split;
    let mut parts = vec![(TokenKind::Keyword, *name)];
    parts.extend(flags.iter().map(|(_, part)| (TokenKind::Flag, *part)));
    parts.extend(end_of_flags.map(|part| (TokenKind::Flag, part)));
    if raw.keyword != Keyword::Onbuild {
        parts.push((TokenKind::Argument, *rest));
    }
    parts
}

fn build(
    raw: &Raw<'_>,
    heredocs: Vec<Heredoc>,
    extent: &Extent,
    diagnostics: &mut Vec<Diagnostic>,
) -> Instruction {
    let kind = Judge { raw, heredocs: &heredocs, diagnostics }.kind();
    instruction(raw, heredocs, extent, kind)
}

fn onbuild(
    raw: &Raw<'_>,
    inner: &Raw<'_>,
    heredocs: Vec<Heredoc>,
    extent: &Extent,
    diagnostics: &mut Vec<Diagnostic>,
) -> Instruction {
    let name = inner.line.get(inner.split.name);
    let span = inner.line.span(inner.split.name);
    let refused = match inner.keyword {
        Keyword::Onbuild => Some("`ONBUILD` cannot trigger another `ONBUILD`".to_owned()),
        Keyword::Maintainer | Keyword::From => {
            Some(format!("`ONBUILD` cannot trigger `{}`", inner.keyword.as_str()))
        }
        _ => None,
    };
    if let Some(message) = refused {
        diagnostics.push(Diagnostic::error(message).at(span));
        return instruction(raw, heredocs, extent, Kind::Unknown);
    }
    if flags::read(Keyword::Onbuild, &raw.split.flags, &[], diagnostics).is_none() {
        return instruction(raw, heredocs, extent, Kind::Unknown);
    }
    debug_assert!(!name.is_empty(), "what is not empty has a first word");
    let mut later = Vec::new();
    let kind = Judge { raw: inner, heredocs: &heredocs, diagnostics: &mut later }.kind();
    diagnostics.extend(later.into_iter().map(|mut diagnostic| {
        if diagnostic.severity == Severity::Error {
            diagnostic.severity = Severity::Warning;
            diagnostic.notes.push("a build that is triggered will fail here".to_owned());
        }
        diagnostic
    }));
    let broken = inner.args.broken;
    let mut triggered = instruction(inner, heredocs.clone(), extent, kind);
    inner.line.text[inner.split.name.start..].clone_into(&mut triggered.original);
    let kind = if broken { Kind::Unknown } else { Kind::OnBuild(Box::new(triggered)) };
    instruction(raw, heredocs, extent, kind)
}

fn instruction(raw: &Raw<'_>, heredocs: Vec<Heredoc>, extent: &Extent, kind: Kind) -> Instruction {
    let Split { name, flags, rest, .. } = &raw.split;
    let place = raw.line.span(*name);
    let original = Part::new(name.start, raw.line.text.trim_end().len().max(rest.end));
    Instruction {
        span: Span::new(place.start, extent.end),
        line: extent.first,
        last_line: extent.last,
        keyword: Spanned::new(raw.keyword, place),
        name: raw.line.get(*name).to_owned(),
        original: raw.line.get(original).to_owned(),
        flags: flags.iter().map(|(word, _)| word.clone()).collect(),
        args: raw.args.words.clone(),
        json: raw.args.json,
        heredocs,
        comments: Vec::new(),
        kind,
    }
}
