//! From a file to what is to be said about it.

use corten_diag::Diagnostic;

use crate::config::{Config, ConfigError};
use crate::model::Model;
use crate::rules::RULES;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Warnings, by their line and then in the order of the rules. Each has a rule as code and the
    /// whole instruction as span.
    pub warnings: Vec<Diagnostic>,
    /// The options that were in force.
    pub config: Config,
}

impl Report {
    /// Whether a build must not begin.
    pub fn refuses(&self) -> bool {
        self.config.error && !self.warnings.is_empty()
    }
}

/// Joins what was found for each of several platforms: each warning once, and with a note where it
/// does not hold for all of them. None for no platform.
pub fn join(reports: Vec<(String, Report)>) -> Option<Report> {
    let count = reports.len();
    let mut config = None;
    let mut found: Vec<(Diagnostic, Vec<String>)> = Vec::new();
    for (platform, report) in reports {
        config.get_or_insert(report.config);
        for warning in report.warnings {
            match found.iter_mut().find(|(known, _)| *known == warning) {
                Some((_, platforms)) => platforms.push(platform.clone()),
                None => found.push((warning, vec![platform.clone()])),
            }
        }
    }
    let noted = |(warning, platforms): (Diagnostic, Vec<String>)| match platforms.len() {
        held if held == count => warning,
        _ => warning.with_note(format!("for {}", platforms.join(", "))),
    };
    let mut warnings: Vec<Diagnostic> = found.into_iter().map(noted).collect();
    warnings.sort_by_key(|warning| warning.span.map_or(0, |span| span.start));
    config.map(|config| Report { warnings, config })
}

/// Runs all rules that count.
pub fn check(model: &Model<'_>) -> Result<Report, ConfigError> {
    let config = Config::of(model.file, model.request.options.as_deref())?;
    let mut warnings = Vec::new();
    for rule in RULES {
        let findings = (rule.find)(model).into_iter();
        let counted = findings.filter(|finding| config.counts(rule, &finding.comments));
        warnings.extend(counted.map(|finding| finding.diagnostic.with_code(rule.name)));
    }
    // The order is stable: on one line the table of rules decides.
    warnings.sort_by_key(|warning| warning.span.map_or(0, |span| span.start));
    Ok(Report { warnings, config })
}
