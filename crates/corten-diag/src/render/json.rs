use serde::Serialize;

use crate::{Diagnostic, SourceFile, Span};

/// The version of the JSON shape; it grows when a field changes its meaning or goes away.
pub const JSON_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<Range>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<LabelDocument<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

#[derive(Serialize)]
struct LabelDocument<'a> {
    text: &'a str,
    range: Range,
}

#[derive(Serialize)]
struct Range {
    start: Place,
    end: Place,
}

#[derive(Serialize)]
struct Place {
    offset: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
}

/// Renders one JSON object on one line. Lines and columns are there when the source is.
pub fn json(diagnostic: &Diagnostic, source: Option<&SourceFile>) -> String {
    let labels = diagnostic
        .labels
        .iter()
        .map(|label| LabelDocument { text: &label.text, range: range(label.span, source) })
        .collect();
    let document = Document {
        version: JSON_VERSION,
        severity: diagnostic.severity.as_str(),
        code: diagnostic.code,
        message: &diagnostic.message,
        file: source.map(SourceFile::name).or(diagnostic.file.as_deref()),
        range: diagnostic.span.map(|span| range(span, source)),
        labels,
        notes: &diagnostic.notes,
        hint: diagnostic.hint.as_deref(),
    };
    serde_json::to_string(&document).expect("strings and numbers always serialise")
}

fn range(span: Span, source: Option<&SourceFile>) -> Range {
    let place = |offset: u32| {
        let position = source.map(|source| source.position(offset));
        Place { offset, line: position.map(|at| at.line), column: position.map(|at| at.column) }
    };
    Range { start: place(span.start), end: place(span.end) }
}
