//! Comments that describe arguments and stages.

use corten_dockerfile::Kind;

use super::Finding;
use crate::model::Model;

pub(super) fn invalid(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for instruction in model.instructions() {
        let names: Vec<String> = match &instruction.kind {
            Kind::From { alias, .. } => {
                alias.iter().map(|alias| alias.text.to_lowercase()).collect()
            }
            Kind::Arg(arguments) => arguments.iter().map(|it| it.name.text.clone()).collect(),
            _ => continue,
        };
        let (Some(comment), Some(first)) = (instruction.comments.last(), names.first()) else {
            continue;
        };
        let described = comment.text.split(' ').next().unwrap_or_default();
        if names.iter().any(|name| name == described) {
            continue;
        }
        let example = if names.len() > 1 { "<arg_key>" } else { first.as_str() };
        let keyword = instruction.keyword.value.as_str();
        let message = format!(
            "the comment before `{keyword}` does not have the form `# {example} <description>`"
        );
        let hint = "if it is no description, put an empty comment line after it";
        findings.push(Finding::of(instruction, message).hint(hint));
    }
    findings
}
