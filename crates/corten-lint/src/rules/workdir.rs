//! Directories of `WORKDIR`.

use super::Finding;
use crate::model::Model;

/// Only the first one in a file counts: later relative ones are right as soon as that is.
pub(super) fn relative(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &model.steps {
        let Some(directory) = &step.details.first_workdir else { continue };
        if !directory.starts_with('/') {
            let message = format!(
                "the relative directory `{directory}` depends on what the base image has set"
            );
            let hint = "begin with an absolute path";
            findings.push(Finding::step(step, message).hint(hint));
        }
    }
    findings
}
