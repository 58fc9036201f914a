//! What an image runs: `CMD`, `ENTRYPOINT`, `HEALTHCHECK`.

use std::collections::BTreeMap;

use corten_dockerfile::{CommandLine, Keyword, Kind};

use super::Finding;
use crate::model::Model;

pub(super) fn json_recommended(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &model.steps {
        let (Kind::Cmd(CommandLine::Shell(_)) | Kind::Entrypoint(CommandLine::Shell(_))) =
            &step.instruction.kind
        else {
            continue;
        };
        // Who sets a shell wants it.
        if !step.details.has_shell {
            let name = &step.instruction.name;
            let message = format!(
                "`{name}` is not a JSON array: a shell is started, which does not pass signals on"
            );
            let finding = Finding::step(step, message);
            findings.push(finding.hint(format!("write `{name} [\"program\", \"argument\"]`")));
        }
    }
    findings
}

/// Shows the one without effect. The comments that count are those before the later one.
pub(super) fn multiple(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut last = BTreeMap::new();
    for step in &model.steps {
        let keyword = step.instruction.keyword.value;
        if !matches!(keyword, Keyword::Cmd | Keyword::Entrypoint | Keyword::Healthcheck) {
            continue;
        }
        if let Some(before) = last.insert((step.stage, keyword), step.place) {
            let name = &step.instruction.name;
            let message = format!("the stage has several `{name}`: only the last one is of effect");
            findings.push(Finding::at(before, &step.instruction, message));
        }
    }
    findings
}
