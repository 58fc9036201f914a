//! Arguments in `FROM`.

use corten_dockerfile::Kind;

use super::Finding;
use crate::expand::meant;
use crate::model::Model;

pub(super) fn undefined_arg(model: &Model<'_>) -> Vec<Finding> {
    let globals = &model.globals;
    let mut known: Vec<&str> =
        globals.variables.names().chain(globals.declared.keys().map(String::as_str)).collect();
    known.sort_unstable();
    let mut findings = Vec::new();
    for (stage, from) in model.froms.iter().enumerate() {
        let platform = from.platform.iter().flat_map(|platform| &platform.unmatched);
        for name in from.image.unmatched.iter().chain(platform) {
            if known.binary_search(&name.as_str()).is_ok() {
                continue;
            }
            let message = format!("the argument `{name}` is not declared before the first `FROM`");
            let hint = match meant(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it with `ARG {name}`"),
            };
            findings.push(Finding::of(model.from(stage), message).hint(hint));
        }
    }
    findings
}

/// Comments before the `FROM` are not heeded.
pub(super) fn invalid_default(model: &Model<'_>) -> Vec<Finding> {
    let finding = |stage: &usize| {
        let from = model.from(*stage);
        let Kind::From { image, .. } = &from.kind else { return None };
        let text = &image.text;
        let message = format!("without build arguments `{text}` is no name of an image");
        let finding = Finding::of_file(from.span, message);
        Some(finding.hint("give the `ARG` a default value with which it is one"))
    };
    model.invalid_by_default.iter().filter_map(finding).collect()
}
