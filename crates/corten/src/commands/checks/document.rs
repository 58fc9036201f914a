//! The answers as text and as JSON, the latter with the field names of BuildKit.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use corten_diag::{Diagnostic, SourceFile, Span, render};
use corten_lint::{Outline, Target, Wanted, rule};
use serde::Serialize;

use crate::ui::layout;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckDocument<'a> {
    warnings: Vec<WarningDocument<'a>>,
    sources: Vec<SourceDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<ErrorDocument<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WarningDocument<'a> {
    rule_name: &'a str,
    description: &'a str,
    detail: String,
    location: Location,
}

#[derive(Serialize)]
struct SourceDocument<'a> {
    filename: &'a str,
    language: &'static str,
    data: String,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    message: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct Location {
    ranges: Vec<Lines>,
}

#[derive(Serialize)]
struct Lines {
    start: Line,
    end: Line,
}

#[derive(Serialize)]
struct Line {
    line: u32,
}

#[derive(Serialize)]
struct TargetsDocument<'a> {
    targets: Vec<TargetDocument<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct TargetDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
    location: Location,
}

#[derive(Serialize)]
struct OutlineDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<ArgDocument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<WantedDocument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<WantedDocument<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct ArgDocument<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct WantedDocument<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

/// The warnings of the checks and what keeps the file from being built.
pub(super) fn check(
    source: &SourceFile,
    warnings: &[Diagnostic],
    mistakes: &[Diagnostic],
    as_json: bool,
) -> String {
    if !as_json {
        let all = warnings.iter().chain(mistakes);
        let shown = all.map(|each| format!("{}\n", render::full(each, Some(source), false)));
        let end = match (warnings.len(), mistakes.is_empty()) {
            (0, true) => "no warnings found\n".to_owned(),
            (0, false) => String::new(),
            (found, _) => format!("{}\n", count(found)),
        };
        return shown.chain([end]).collect();
    }
    let warning = |warning: &Diagnostic| {
        let name = warning.code.unwrap_or_default();
        let detail = match &warning.hint {
            Some(hint) => format!("{} ({hint})", warning.message),
            None => warning.message.clone(),
        };
        let description = rule(name).map_or("", |rule| rule.description);
        WarningDocument { rule_name: name, description, detail, location: place(source, warning) }
    };
    let error = mistakes.first().map(|mistake| ErrorDocument {
        message: &mistake.message,
        location: place(source, mistake),
    });
    json(&CheckDocument {
        warnings: warnings.iter().map(warning).collect(),
        sources: vec![SourceDocument {
            filename: source.name(),
            language: "Dockerfile",
            data: BASE64_STANDARD.encode(source.text()),
        }],
        build_error: error,
    })
}

/// How many warnings there are, in words.
pub(super) fn count(warnings: usize) -> String {
    match warnings {
        1 => "1 warning found".to_owned(),
        several => format!("{several} warnings found"),
    }
}

/// One line for each warning.
pub(super) fn short(source: &SourceFile, warnings: &[Diagnostic]) -> String {
    let line = |warning: &Diagnostic| {
        let code = warning.code.unwrap_or_default();
        let line = first_line(&place(source, warning));
        format!(" - {code}: {} (line {line})\n", warning.message)
    };
    warnings.iter().map(line).collect()
}

pub(super) fn targets(source: &SourceFile, targets: &[Target], as_json: bool) -> String {
    if as_json {
        return json(&TargetsDocument {
            targets: targets.iter().map(|target| target_document(source, target)).collect(),
            sources: [BASE64_STANDARD.encode(source.text())],
        });
    }
    let row = |target: &Target| {
        let name = match (target.name.as_deref(), target.is_default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.to_owned(),
            (None, true) => "(default)".to_owned(),
            (None, false) => String::new(),
        };
        vec![name, target.description.clone().unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = targets.iter().map(row).collect();
    table(&["TARGET", "DESCRIPTION"], &rows)
}

pub(super) fn outline(source: &SourceFile, outline: &Outline, as_json: bool) -> String {
    if as_json {
        return outline_json(source, outline);
    }
    let mut out = String::new();
    let (name, description) = (outline.name.as_deref(), outline.description.as_deref());
    if name.is_some() || description.is_some() {
        out.push_str(&format!("TARGET: {}\n", name.unwrap_or("(default)")));
        if let Some(description) = description {
            out.push_str(&format!("DESCRIPTION: {description}\n"));
        }
        out.push('\n');
    }
    if !outline.args.is_empty() {
        let rows: Vec<Vec<String>> = outline
            .args
            .iter()
            .map(|arg| {
                let description = arg.description.clone().unwrap_or_default();
                vec![arg.name.clone(), arg.value.clone(), description]
            })
            .collect();
        out.push_str(&table(&["BUILD ARG", "VALUE", "DESCRIPTION"], &rows));
        out.push('\n');
    }
    for (heading, all) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !all.is_empty() {
            let required = |each: &Wanted| if each.required { "true" } else { "" }.to_owned();
            let rows: Vec<Vec<String>> =
                all.iter().map(|each| vec![each.name.clone(), required(each)]).collect();
            out.push_str(&table(&[heading, "REQUIRED"], &rows));
            out.push('\n');
        }
    }
    out
}

fn target_document<'a>(source: &SourceFile, target: &'a Target) -> TargetDocument<'a> {
    TargetDocument {
        name: target.name.as_deref(),
        default: target.is_default,
        description: target.description.as_deref(),
        base: &target.base,
        platform: target.platform.as_deref(),
        location: lines(source, target.place),
    }
}

fn outline_json(source: &SourceFile, outline: &Outline) -> String {
    let args = outline.args.iter().map(|arg| ArgDocument {
        name: &arg.name,
        description: arg.description.as_deref(),
        value: &arg.value,
        location: lines(source, arg.place),
    });
    json(&OutlineDocument {
        name: outline.name.as_deref(),
        description: outline.description.as_deref(),
        args: args.collect(),
        secrets: wanted(source, &outline.secrets),
        ssh: wanted(source, &outline.ssh),
        sources: [BASE64_STANDARD.encode(source.text())],
    })
}

fn wanted<'a>(source: &SourceFile, all: &'a [Wanted]) -> Vec<WantedDocument<'a>> {
    let document = |each: &'a Wanted| WantedDocument {
        name: &each.name,
        required: each.required,
        location: lines(source, each.place),
    };
    all.iter().map(document).collect()
}

fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    layout(&header, rows)
}

fn place(source: &SourceFile, diagnostic: &Diagnostic) -> Location {
    lines(source, diagnostic.span.unwrap_or_default())
}

/// Every line that a span touches, one by one.
fn lines(source: &SourceFile, span: Span) -> Location {
    let (first, last) = (source.position(span.start).line, source.position(span.end).line);
    let ranges = (first..=last.max(first))
        .map(|line| Lines { start: Line { line }, end: Line { line } })
        .collect();
    Location { ranges }
}

fn first_line(location: &Location) -> u32 {
    location.ranges.first().map_or(0, |range| range.start.line)
}

fn json(document: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(document);
    format!("{}\n", text.expect("strings and numbers always serialise"))
}
