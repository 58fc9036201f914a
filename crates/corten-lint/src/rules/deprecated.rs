//! Forms that are there for old files.

use corten_dockerfile::{Keyword, Kind};

use super::Finding;
use crate::model::Model;

pub(super) fn maintainer(model: &Model<'_>) -> Vec<Finding> {
    let old = model.instructions().iter().filter(|it| it.keyword.value == Keyword::Maintainer);
    let hint = "write `LABEL org.opencontainers.image.authors=\"name\"`";
    old.map(|it| Finding::of(it, "`MAINTAINER` is deprecated in favour of a label").hint(hint))
        .collect()
}

pub(super) fn legacy_key_value(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &model.steps {
        let (Kind::Env(pairs) | Kind::Label(pairs)) = &step.instruction.kind else { continue };
        for pair in pairs.iter().filter(|pair| pair.legacy) {
            let name = &step.instruction.name;
            let message = format!("`{name} key value` is the old form of `{name} key=value`");
            let hint = format!("write `{name} {}=…`", pair.key.text);
            findings.push(Finding::step(step, message).hint(hint));
        }
    }
    findings
}
