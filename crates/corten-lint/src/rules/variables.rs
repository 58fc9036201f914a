//! Variables in words of instructions.

use super::Finding;
use crate::model::Model;

pub(super) fn undefined(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &model.steps {
        for (name, near) in &step.unset {
            let mut finding =
                Finding::step(step, format!("the variable `${name}` is used and not defined"));
            if let Some(near) = near {
                finding = finding.hint(format!("did you mean `${near}`?"));
            }
            if let Some(image) = unknown_image(model, step.stage) {
                let note = format!("`{image}` is not here, so what it sets is not known");
                finding = finding.note(note);
            }
            findings.push(finding);
        }
    }
    findings
}

/// The image at the bottom of a stage, if nothing is known of it.
fn unknown_image<'m>(model: &'m Model<'_>, stage: usize) -> Option<&'m str> {
    let mut from = model.froms.get(stage)?;
    // Stages build upon earlier ones only.
    while let Some(base) = from.base {
        from = model.froms.get(base)?;
    }
    model.unknown_bases.get(&from.image.text).map(String::as_str)
}
