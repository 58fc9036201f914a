use std::fmt::Write as _;

use crate::{Diagnostic, SourceFile};

/// Renders one line: `file:line:column: severity[code]: message`, and the hint in parentheses.
pub fn concise(diagnostic: &Diagnostic, source: Option<&SourceFile>) -> String {
    let mut out = String::new();
    let name = source.map(SourceFile::name).or(diagnostic.file.as_deref());
    if let Some(name) = name {
        out.push_str(name);
        if let (Some(source), Some(span)) = (source, diagnostic.span) {
            let at = source.position(span.start);
            write!(out, ":{}:{}", at.line, at.column).expect("a string takes all that is written");
        }
        out.push_str(": ");
    }
    out.push_str(diagnostic.severity.as_str());
    if let Some(code) = diagnostic.code {
        write!(out, "[{code}]").expect("a string takes all that is written");
    }
    out.push_str(": ");
    push_line(&mut out, &diagnostic.message);
    if let Some(hint) = &diagnostic.hint {
        out.push_str(" (hint: ");
        push_line(&mut out, hint);
        out.push(')');
    }
    out
}

/// Keeps a message on one line, whatever it quotes.
fn push_line(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => out.extend(other.escape_default()),
            other => out.push(other),
        }
    }
}
