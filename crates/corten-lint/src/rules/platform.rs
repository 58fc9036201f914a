//! Platforms of `FROM`.

use corten_dockerfile::Kind;

use super::Finding;
use crate::model::Model;

pub(super) fn redundant(model: &Model<'_>) -> Vec<Finding> {
    const NAME: &str = "TARGETPLATFORM";
    let mut findings = Vec::new();
    for (stage, from) in model.froms.iter().enumerate() {
        let Some(expansion) = &from.platform else { continue };
        let only = expansion.unmatched.is_empty()
            && expansion.matched.len() == 1
            && expansion.matched.contains(NAME);
        let is_whole = model.globals.variables.get(NAME) == Some(expansion.text.as_str());
        let Kind::From { platform: Some(word), .. } = &model.from(stage).kind else { continue };
        if only && is_whole {
            let message = format!("the platform `{}` is what holds without it", word.text);
            findings.push(Finding::of(model.from(stage), message).hint("leave out `--platform`"));
        }
    }
    findings
}

/// A stage whose name says its platform is meant to have it.
pub(super) fn constant(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (stage, from) in model.froms.iter().enumerate() {
        let (Some(expansion), Some(platform)) = (&from.platform, &from.named) else { continue };
        if !expansion.matched.is_empty() || !expansion.unmatched.is_empty() {
            continue;
        }
        let name = model.stages.stages[stage].name.as_deref().unwrap_or_default();
        if name.contains(&platform.os) || name.contains(&platform.architecture) {
            continue;
        }
        let message = format!("`--platform` has the constant value `{}`", expansion.text);
        let hint = "leave it to `corten build --platform`, or use `$BUILDPLATFORM`";
        findings.push(Finding::of(model.from(stage), message).hint(hint));
    }
    findings
}

/// Comments before the `FROM` are not heeded.
pub(super) fn foreign_base(model: &Model<'_>) -> Vec<Finding> {
    let finding = |foreign: &crate::model::Foreign| {
        let message = format!(
            "the base image `{}` is for `{}`, and this build is for `{}`",
            foreign.image, foreign.actual, foreign.expected
        );
        Finding::of_file(model.from(foreign.stage).span, message)
    };
    model.foreign.iter().map(finding).collect()
}
