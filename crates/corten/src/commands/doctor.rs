//! `corten doctor`: whether containers can run here, and what to do about it.

use std::process::ExitCode;

use corten_runtime::doctor::{Facts, Verdict, judge};
use serde_json::json;

use super::Context;
use crate::cli::DoctorArgs;
use crate::error::CliError;

/// `corten doctor`. Ends with 1 where containers cannot run.
pub(super) fn doctor(context: &Context, arguments: &DoctorArgs) -> Result<ExitCode, CliError> {
    let settings = &context.settings;
    let facts = Facts::gather(&settings.root, &settings.devices()).map_err(CliError::new)?;
    let checks = judge(&facts);
    let worst = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    let code = if worst == Verdict::Error { ExitCode::from(1) } else { ExitCode::SUCCESS };
    if arguments.json {
        let document = json!({ "schema": "corten.doctor/1", "checks": checks, "facts": facts });
        context.ui.line(&format!("{document:#}"));
        return Ok(code);
    }
    for check in checks.iter().filter(|check| !arguments.quiet || check.verdict != Verdict::Ok) {
        let word = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
        };
        let remedy = check.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let line = format!("{word:<8} {:<16} {}{remedy}", check.name, check.found);
        context.ui.line(&crate::ui::printable_line(&line));
    }
    Ok(code)
}
