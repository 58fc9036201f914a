//! Upper and lower case of keywords and names.

use corten_dockerfile::{Instruction, Keyword};

use super::Finding;
use crate::model::Model;

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

/// The majority of the names that are in one case decides; upper case if there is none.
pub(super) fn consistent_instructions(model: &Model<'_>) -> Vec<Finding> {
    // Arguments before the first stage are not counted.
    let Some(first) = model.stages.stages.first() else { return Vec::new() };
    let instructions = &model.file.instructions[first.from..];
    let lower = instructions.iter().filter(|it| is_lower(&it.name)).count();
    let upper = instructions.iter().filter(|it| is_upper(&it.name)).count();
    let (is_right, wanted): (fn(&str) -> bool, _) =
        if lower > upper { (is_lower, "lower case") } else { (is_upper, "upper case") };
    let wrong = instructions.iter().filter(|instruction| !is_right(&instruction.name));
    let finding = |instruction: &Instruction| {
        let message = format!(
            "`{}` is not in {wanted}, as most instructions of the file are",
            instruction.name
        );
        Finding::of_file(instruction.span, message)
    };
    wrong.map(finding).collect()
}

/// The `FROM`s, right or wrong.
fn froms<'m>(model: &'m Model<'_>) -> impl Iterator<Item = &'m Instruction> {
    model.instructions().iter().filter(|it| it.keyword.value == Keyword::From)
}

pub(super) fn stage_names(model: &Model<'_>) -> Vec<Finding> {
    let finding = |from: &Instruction| {
        let [_, _, name] = from.args.as_slice() else { return None };
        let name = &name.text;
        (!is_lower(name)).then(|| {
            Finding::of(from, format!("the name of the stage `{name}` is not in lower case"))
                .hint(format!("write `{}`", name.to_lowercase()))
        })
    };
    froms(model).filter_map(finding).collect()
}

pub(super) fn from_as(model: &Model<'_>) -> Vec<Finding> {
    let finding = |from: &Instruction| {
        let [_, keyword, _, ..] = from.args.as_slice() else { return None };
        let (name, keyword) = (&from.name, &keyword.text);
        // A `From` is wrong itself, and what is to match it is open.
        let (matches, wanted) = match (is_lower(name), is_upper(name)) {
            (true, _) => (is_lower(keyword), keyword.to_lowercase()),
            (_, true) => (is_upper(keyword), keyword.to_uppercase()),
            (false, false) => return None,
        };
        (!matches).then(|| {
            Finding::of(from, format!("`{keyword}` and `{name}` are not in the same case"))
                .hint(format!("write `{wanted}`"))
        })
    };
    froms(model).filter_map(finding).collect()
}
