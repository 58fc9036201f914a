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
