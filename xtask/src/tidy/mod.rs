//! The rules of the workspace that no compiler checks.
//!
//! Each check is a function from the workspace as a value to what is wrong with it. A check that
//! finds nothing anywhere would be worthless, so `tests` has a violation for each of them.

mod code;
mod documents;
mod layers;
mod licences;
mod manifests;
mod rust_source;
mod sizes;
mod text;
mod workspace;

use std::path::Path;

use workspace::Workspace;

use crate::{Failure, shell, ui};

/// Something that is against a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From one; zero means the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

/// A named rule.
struct Check {
    name: &'static str,
    find: fn(&Workspace) -> Vec<Finding>,
}

const CHECKS: [Check; 17] = [
    Check { name: "layers", find: layers::find },
    Check { name: "sizes", find: sizes::find },
    Check { name: "unsafe", find: code::find_unsafe },
    Check { name: "forbid-unsafe", find: code::find_missing_forbid },
    Check { name: "async", find: code::find_async },
    Check { name: "printing", find: code::find_printing },
    Check { name: "environment", find: code::find_environment },
    Check { name: "lints", find: manifests::find_missing_lints },
    Check { name: "unused-dependencies", find: manifests::find_unused },
    Check { name: "dependency-reasons", find: manifests::find_missing_reasons },
    Check { name: "licences", find: licences::find },
    Check { name: "unfinished", find: text::find_unfinished },
    Check { name: "places", find: text::find_places },
    Check { name: "whitespace", find: text::find_whitespace },
    Check { name: "decisions", find: documents::find_decisions },
    Check { name: "changelog", find: documents::find_changelog },
    Check { name: "links", find: documents::find_links },
];

/// Runs every check and prints what is wrong.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let workspace = Workspace::load(root)?;
    let mut count = 0;
    for check in &CHECKS {
        for Finding { path, line, message } in (check.find)(&workspace) {
            let place = if line == 0 { path } else { format!("{path}:{line}") };
            ui::line(&format!("{place}: {message} [{}]", check.name));
            count += 1;
        }
    }
    if count == 0 {
        ui::line(&format!("{} checks of {} files: tidy", CHECKS.len(), workspace.files.len()));
        return Ok(());
    }
    let findings = if count == 1 { "finding" } else { "findings" };
    Err(Failure(format!("tidy has {count} {findings}")))
}

/// Lowers the ratchet to what the code needs by now.
pub(crate) fn shrink(root: &Path) -> Result<(), Failure> {
    let workspace = Workspace::load(root)?;
    let shrunk = sizes::shrink(&workspace);
    shell::write_file(&root.join(sizes::RATCHET), shrunk)?;
    ui::line(&format!("wrote {}", sizes::RATCHET));
    Ok(())
}

#[cfg(test)]
mod tests;
