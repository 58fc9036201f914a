//! Names of stages, whatever their case. Comments before a `FROM` are not heeded.

use std::collections::BTreeSet;

use corten_dockerfile::stages::Stage;

use super::Finding;
use crate::model::Model;

/// They have a meaning of their own in `FROM` and `--from`.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn duplicate(model: &Model<'_>) -> Vec<Finding> {
    let mut known = BTreeSet::new();
    let is_second = |name: &str| !known.insert(name.to_owned());
    named(model, is_second, |name| format!("there is another stage named `{name}`"))
}

pub(super) fn reserved(model: &Model<'_>) -> Vec<Finding> {
    let is_reserved = |name: &str| RESERVED.contains(&name);
    named(model, is_reserved, |name| format!("`{name}` is reserved and names no stage"))
}

fn named(
    model: &Model<'_>,
    mut is_wrong: impl FnMut(&str) -> bool,
    message: impl Fn(&str) -> String,
) -> Vec<Finding> {
    let finding = |stage: &Stage| {
        let name = stage.name.as_deref().filter(|name| is_wrong(name))?;
        let finding = Finding::of_file(model.from(stage.index).span, message(name));
        Some(finding.hint("give the stage another name"))
    };
    model.stages.stages.iter().filter_map(finding).collect()
}
