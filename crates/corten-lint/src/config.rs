//! Which rules count: `# check=skip=A,B;error=true;experimental=C`.

use std::collections::BTreeSet;
use std::fmt;

use corten_dockerfile::{Dockerfile, Word};

use crate::rules::Rule;

/// What was chosen for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub skip: Choice,
    /// Experimental rules that shall count. They do not heed `skip`.
    pub experimental: Choice,
    /// A finding makes the build fail.
    pub error: bool,
}

/// Some rules, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub all: bool,
    pub names: BTreeSet<String>,
}

/// Text that is no list of check options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    option: String,
    is_value: bool,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = &self.option;
        if self.is_value {
            write!(f, "the check option `{option}` needs `true` or `false`")
        } else {
            write!(f, "`{option}` is no check option")
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// What to write.
    pub fn hint(&self) -> Option<String> {
        let form = "the options are `skip=RULE,…`, `experimental=RULE,…` and `error=true`, with `;` between them";
        Some(form.to_owned())
    }
}

impl Choice {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "all" {
            return Self { all: true, names: BTreeSet::new() };
        }
        let names = text.split(',').map(|name| name.trim().to_owned()).collect();
        Self { all: false, names }
    }

    fn has(&self, rule: &Rule) -> bool {
        self.all || self.names.contains(rule.name)
    }
}

impl Config {
    /// Reads the value of a `check` directive or of the build argument that takes its place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        /// The frontend splits no further; what follows belongs to the last option.
        const PARTS_MAX: usize = 3;
        let mut config = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(config);
        }
        for part in text.splitn(PARTS_MAX, ';') {
            let wrong = |is_value| ConfigError { option: part.trim().to_owned(), is_value };
            let (key, value) = part.split_once('=').ok_or_else(|| wrong(false))?;
            match key.trim() {
                "skip" => config.skip = Choice::parse(value),
                "experimental" => config.experimental = Choice::parse(value),
                "error" => config.error = truth(value.trim()).ok_or_else(|| wrong(true))?,
                _ => return Err(wrong(false)),
            }
        }
        Ok(config)
    }

    /// The options for a file: those that were given, else those of its directive.
    pub fn of(file: &Dockerfile, given: Option<&str>) -> Result<Self, ConfigError> {
        let directive = file.directives.check.as_ref().map(|check| check.value.as_str());
        Self::parse(given.or(directive).unwrap_or_default())
    }

    /// Whether the rule counts for what these comments stand before.
    pub(crate) fn counts(&self, rule: &Rule, comments: &[Word]) -> bool {
        let local = comments.iter().find_map(|comment| of_comment(&comment.text));
        let chosen = |of: &dyn Fn(&Self) -> &Choice| {
            of(self).has(rule) || local.as_ref().is_some_and(|local| of(local).has(rule))
        };
        if rule.experimental {
            chosen(&|config| &config.experimental)
        } else {
            !chosen(&|config| &config.skip)
        }
    }
}

/// The options in a comment before an instruction; they end at the first blank, so that a reason may
/// follow. A comment that has the form and cannot be read chooses nothing.
fn of_comment(comment: &str) -> Option<Config> {
    let (name, value) = comment.split_once('=')?;
    let value = value.trim();
    if !name.trim_end().eq_ignore_ascii_case("check") || value.is_empty() {
        return None;
    }
    let options = value.split(' ').next().unwrap_or_default();
    Some(Config::parse(options).unwrap_or_default())
}

/// The words that Go's `strconv.ParseBool` takes.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
