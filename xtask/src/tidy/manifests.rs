//! The workspace's manifests: lints, dependencies that nobody uses, reasons for the others.

use std::collections::BTreeSet;

use super::Finding;
use super::rust_source::words;
use super::workspace::{Member, Workspace, section};

const REASONS: &str = "docs/dependencies.md";

/// Every crate obeys the workspace's lints.
pub(super) fn find_missing_lints(workspace: &Workspace) -> Vec<Finding> {
    let manifests =
        workspace.members.iter().map(|member| format!("{}/Cargo.toml", member.directory));
    manifests
        .filter(|path| {
            let text = workspace.text(path).unwrap_or_default();
            !section(text, "lints").any(|(_, line)| line.replace(' ', "") == "workspace=true")
        })
        .map(|path| Finding::new(path, 0, "`[lints] workspace = true` is missing"))
        .collect()
}

/// Dependencies that no crate takes, and those that a crate takes and its code never names.
pub(super) fn find_unused(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let taken: BTreeSet<&str> = workspace
        .members
        .iter()
        .flat_map(|member| member.dependencies.iter().map(|dependency| dependency.name.as_str()))
        .collect();
    for shared in workspace.shared_dependencies() {
        // Crates of our own are listed so that they can be taken; they are members all the same.
        if !taken.contains(shared.name) && !shared.is_own {
            let message = format!("no crate depends on `{}`", shared.name);
            findings.push(Finding::new("Cargo.toml", shared.line, message));
        }
    }
    findings.extend(workspace.members.iter().flat_map(|member| find_unnamed(member, workspace)));
    findings
}

fn find_unnamed(member: &Member, workspace: &Workspace) -> Vec<Finding> {
    let folder = format!("{}/", member.directory);
    let sources = workspace.rust_files().filter(|(path, _)| path.starts_with(&folder));
    let named: BTreeSet<&str> = sources
        .flat_map(|(_, source)| words(&source.code).map(|(start, end)| &source.code[start..end]))
        .collect();
    let manifest = format!("{}/Cargo.toml", member.directory);
    member
        .dependencies
        .iter()
        .filter(|dependency| !named.contains(dependency.code_name.as_str()))
        .map(|dependency| {
            let message = format!("`{}` is never used", dependency.name);
            Finding::new(manifest.clone(), 0, message)
        })
        .collect()
}

/// Every dependency has a row that says why, and every row has a dependency.
pub(super) fn find_missing_reasons(workspace: &Workspace) -> Vec<Finding> {
    let rows = rows(workspace.text(REASONS).unwrap_or_default());
    let shared = workspace.shared_dependencies();
    let mut findings = Vec::new();
    for dependency in shared.iter().filter(|dependency| !dependency.is_own) {
        let name = dependency.name;
        let message = match rows.iter().find(|row| row.name == name) {
            None => format!("`{name}` has no row in {REASONS}"),
            Some(row) if !row.is_complete => {
                format!("the row of `{name}` in {REASONS} has an empty cell")
            }
            Some(_) => continue,
        };
        findings.push(Finding::new("Cargo.toml", dependency.line, message));
    }
    for row in rows {
        if !shared.iter().any(|dependency| dependency.name == row.name) {
            let message = format!("`{}` is no dependency of the workspace", row.name);
            findings.push(Finding::new(REASONS, row.line, message));
        }
    }
    findings
}

struct Row<'t> {
    name: &'t str,
    line: usize,
    is_complete: bool,
}

/// Returns the rows of the tables whose first cell is a name in backticks.
fn rows(text: &str) -> Vec<Row<'_>> {
    let lines = (1..).zip(text.lines());
    lines
        .filter_map(|(line, text)| {
            let cells: Vec<&str> = text.strip_prefix('|')?.split('|').map(str::trim).collect();
            let name = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
            // The text behind the last bar is empty and no cell.
            let is_complete =
                cells.len() >= 4 && cells[..cells.len() - 1].iter().all(|cell| !cell.is_empty());
            Some(Row { name, line, is_complete })
        })
        .collect()
}
