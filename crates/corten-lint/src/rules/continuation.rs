//! Empty lines inside an instruction.

use corten_diag::Span;
use corten_dockerfile::Instruction;

use super::Finding;
use crate::model::Model;

/// Shows the last of the joined lines, where the frontend notices it.
pub(super) fn empty_line(model: &Model<'_>) -> Vec<Finding> {
    model.file.instructions.iter().filter_map(|it| of(model.text, it)).collect()
}

fn of(text: &str, instruction: &Instruction) -> Option<Finding> {
    let start = instruction.span.start as usize;
    // Here-documents follow the joined lines; in them empty lines are content.
    let lines = instruction.last_line.saturating_sub(instruction.line) as usize + 1;
    let end = instruction.heredocs.first().map(|heredoc| heredoc.span.start as usize);
    let joined = text.get(start..end.unwrap_or(text.len()))?;
    let (mut at, mut empty, mut last) = (start, None, Span::default());
    for (index, line) in joined.split_inclusive('\n').take(lines).enumerate() {
        let place = Span::from_offsets(at, at + line.trim_end().len());
        if index > 0 && line.trim().is_empty() {
            empty = empty.or(Some(place));
        }
        last = place;
        at += line.len();
    }
    let empty = empty?;
    let finding = Finding::of_file(last, "an empty line stands inside an instruction");
    let mut finding = finding.hint("remove the empty line, or make it a comment");
    if empty != last {
        finding.diagnostic = finding.diagnostic.with_label(empty, "this line is empty");
    }
    Some(finding)
}
