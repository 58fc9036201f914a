//! A logical line: physical lines joined at continuations, with the way back to the text.

use corten_diag::Span;

use crate::ast::{Segment, Token, TokenKind, Word};

/// The joined text of one instruction and where its parts stand in the file.
#[derive(Debug, Default)]
pub(super) struct Logical {
    pub(super) text: String,
    /// In order; each says where the text from an offset on comes from. Never empty once text is in.
    segments: Vec<Segment>,
    /// What lies between and after the segments, in the order of the file.
    gaps: Vec<Token>,
    /// The place in the file where the text ends.
    end: u32,
}

/// A range of bytes of a logical line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Part {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

impl Logical {
    /// Adds the text of one line that begins at a place of the file.
    pub(super) fn push(&mut self, text: &str, source: usize) {
        if !text.is_empty() || self.segments.is_empty() {
            let segment = Segment { text: offset(self.text.len()), source: offset(source) };
            self.segments.push(segment);
        }
        self.text.push_str(text);
        self.end = self.end.max(offset(source + text.len()));
    }

    /// Adds what is no text: a continuation, a comment or an empty line.
    pub(super) fn push_gap(&mut self, kind: TokenKind, span: Span) {
        self.gaps.push(Token { kind, span });
    }

    pub(super) fn whole(&self) -> Part {
        Part::new(0, self.text.len())
    }

    pub(super) fn get(&self, part: Part) -> &str {
        &self.text[part.start..part.end]
    }

    /// The part without the blanks at both ends.
    pub(super) fn trim(&self, part: Part) -> Part {
        let text = self.get(part);
        let start = part.start + (text.len() - text.trim_start().len());
        Part::new(start, start + text.trim().len())
    }

    /// The place of a character of the text.
    pub(super) fn source(&self, at: usize) -> u32 {
        let index = self.segments.partition_point(|segment| segment.text as usize <= at);
        match self.segments.get(index.saturating_sub(1)) {
            Some(segment) => segment.source + offset(at.saturating_sub(segment.text as usize)),
            None => 0,
        }
    }

    /// The place right after the character that ends before this offset.
    fn source_end(&self, at: usize) -> u32 {
        if at == 0 { self.source(0) } else { self.source(at - 1) + 1 }
    }

    pub(super) fn span(&self, part: Part) -> Span {
        if part.is_empty() {
            return Span::empty(self.source(part.start).min(self.end));
        }
        Span::new(self.source(part.start), self.source_end(part.end))
    }

    /// The part as a word, as it stands.
    pub(super) fn word(&self, part: Part) -> Word {
        let span = self.span(part);
        let text = self.get(part).to_owned();
        if span.len() == text.len() {
            return Word { text, span, segments: Box::default() };
        }
        let start = offset(part.start);
        let first = Segment { text: 0, source: span.start };
        let from = self.segments.partition_point(|segment| segment.text as usize <= part.start);
        let to = self.segments.partition_point(|segment| (segment.text as usize) < part.end);
        let later = self.segments[from..to.max(from)].iter();
        let later =
            later.map(|segment| Segment { text: segment.text - start, source: segment.source });
        Word { text, span, segments: std::iter::once(first).chain(later).collect() }
    }

    /// The tokens of the line, given the parts that are keyword, flags and arguments, in order.
    pub(super) fn tokens(&self, parts: &[(TokenKind, Part)], out: &mut Vec<Token>) {
        let mut gaps = self.gaps.iter().peekable();
        let mut parts = parts.iter().filter(|(_, part)| !part.is_empty()).peekable();
        for (index, segment) in self.segments.iter().enumerate() {
            while let Some(gap) = gaps.next_if(|gap| gap.span.start < segment.source) {
                push_token(out, *gap);
            }
            let next = self.segments.get(index + 1);
            let end = next.map_or(self.text.len(), |next| next.text as usize);
            let mut at = segment.text as usize;
            while at < end {
                while parts.next_if(|(_, part)| part.end <= at).is_some() {}
                let (kind, stop) = match parts.peek() {
                    Some((kind, part)) if part.start <= at => (*kind, part.end.min(end)),
                    Some((_, part)) => (TokenKind::Whitespace, part.start.min(end)),
                    None => (TokenKind::Whitespace, end),
                };
                let start = self.source(at);
                push_token(out, Token { kind, span: Span::new(start, start + offset(stop - at)) });
                at = stop;
            }
        }
        gaps.for_each(|gap| push_token(out, *gap));
    }
}

/// Adds a token; blanks join blanks before them.
pub(super) fn push_token(out: &mut Vec<Token>, token: Token) {
    if token.span.is_empty() {
        return;
    }
    match out.last_mut() {
        Some(last) if last.kind == TokenKind::Whitespace && token.kind == last.kind => {
            last.span.end = token.span.end;
        }
        _ => out.push(token),
    }
}

/// Collects a word of which not every character is taken over as it stands.
#[derive(Debug, Default)]
pub(super) struct WordBuilder {
    text: String,
    segments: Vec<Segment>,
}

impl WordBuilder {
    /// Adds what stands in the line at this offset, or stands for it.
    pub(super) fn push(&mut self, line: &Logical, at: usize, character: char) {
        let (text, source) = (offset(self.text.len()), line.source(at));
        let follows =
            self.segments.last().is_some_and(|last| last.source + (text - last.text) == source);
        if !follows {
            self.segments.push(Segment { text, source });
        }
        self.text.push(character);
    }

    /// Ends the word, which stands in this part of the line.
    pub(super) fn finish(self, line: &Logical, part: Part) -> Word {
        let span = line.span(part);
        let plain = self.segments.len() <= 1
            && self.text.len() == span.len()
            && self.segments.first().is_none_or(|first| first.source == span.start);
        let segments = if plain { Box::default() } else { self.segments.into() };
        Word { text: self.text, span, segments }
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
