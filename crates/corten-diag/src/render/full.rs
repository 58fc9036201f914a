use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{printable, printable_line};
use crate::{Diagnostic, Severity, SourceFile};

/// Renders the message, the lines it speaks of with the place marked, the notes, and last the hint.
///
/// Without the source only the file's name is shown. Without colour there is no escape sequence in
/// the text, whatever the diagnostic quotes. The result ends in a newline.
pub fn full(diagnostic: &Diagnostic, source: Option<&SourceFile>, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut title = level.primary_title(printable(&diagnostic.message));
    if let Some(code) = diagnostic.code {
        title = title.id(code);
    }
    let mut group = Group::with_title(title);
    match source {
        Some(source) if diagnostic.span.is_some() || !diagnostic.labels.is_empty() => {
            group = group.element(snippet(diagnostic, source));
        }
        _ => {
            let name = source.map(SourceFile::name).or(diagnostic.file.as_deref());
            if let Some(name) = name {
                group = group.element(Origin::path(printable_line(name)));
            }
        }
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    let mut out = renderer.decor_style(DecorStyle::Ascii).render(&[group]);
    out.push('\n');
    if let Some(hint) = &diagnostic.hint {
        let (on, off) = if color { ("\x1b[1m\x1b[96m", "\x1b[0m") } else { ("", "") };
        out.push_str(&format!("{on}hint{off}: {}\n", printable(hint)));
    }
    out
}

fn snippet<'a>(diagnostic: &'a Diagnostic, source: &'a SourceFile) -> Snippet<'a, Annotation<'a>> {
    let mut snippet = Snippet::source(source.text()).path(printable_line(source.name()));
    if let Some(span) = diagnostic.span {
        let range = source.clamp(span).range();
        snippet = snippet.annotation(AnnotationKind::Primary.span(range));
    }
    for label in &diagnostic.labels {
        let range = source.clamp(label.span).range();
        let annotation = AnnotationKind::Context.span(range).label(printable(&label.text));
        snippet = snippet.annotation(annotation);
    }
    snippet
}
