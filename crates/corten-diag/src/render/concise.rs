use std::fmt::Write as _;

use super::printable_line;
use crate::{Diagnostic, SourceFile};

/// Renders one line: `file:line:column: severity[code]: message`, and the hint in parentheses.
pub fn concise(diagnostic: &Diagnostic, source: Option<&SourceFile>) -> String {
    let mut out = String::new();
    let name = source.map(SourceFile::name).or(diagnostic.file.as_deref());
    if let Some(name) = name {
        out.push_str(&printable_line(name));
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
    out.push_str(&printable_line(&diagnostic.message));
    if let Some(hint) = &diagnostic.hint {
        out.push_str(" (hint: ");
        out.push_str(&printable_line(hint));
        out.push(')');
    }
    out
}
