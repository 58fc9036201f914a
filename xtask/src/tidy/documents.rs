//! The documents that people rely on: decisions, the changelog, links between pages.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::Finding;
use super::workspace::Workspace;

const DECISIONS: &str = "docs/adr/";
const CHANGELOG: &str = "CHANGELOG.md";

/// Decisions are numbered without a gap, and each says its number in its title.
pub(super) fn find_decisions(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_number: BTreeMap<u32, &str> = BTreeMap::new();
    let pages =
        workspace.files.keys().filter_map(|path| Some((path, path.strip_prefix(DECISIONS)?)));
    for (path, name) in pages {
        let Some((digits, number)) = number_of(name) else {
            let message = "the name of a decision is NNNN-some-words.md";
            findings.push(Finding::new(path, 0, message));
            continue;
        };
        if let Some(other) = by_number.insert(number, path) {
            findings.push(Finding::new(path, 0, format!("{digits} is also the number of {other}")));
        }
        let title = workspace.text(path).and_then(|text| text.lines().next()).unwrap_or_default();
        if !title.starts_with(&format!("# {number}. ")) {
            let message = format!("the first line is not a title with its number: `# {number}. …`");
            findings.push(Finding::new(path, 1, message));
        }
    }
    for (expected, (number, path)) in (0..).zip(&by_number) {
        if *number != expected {
            findings.push(Finding::new(*path, 0, format!("there is no decision {expected:04}")));
            break;
        }
    }
    findings
}

fn number_of(name: &str) -> Option<(&str, u32)> {
    let (digits, title) = name.strip_suffix(".md")?.split_once('-')?;
    let is_kebab = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
    };
    let is_right = digits.len() == 4 && !title.is_empty() && title.chars().all(is_kebab);
    Some((digits, digits.parse().ok().filter(|_| is_right)?))
}

/// There is always a place for the next change.
pub(super) fn find_changelog(workspace: &Workspace) -> Vec<Finding> {
    const HEADING: &str = "## Unreleased";
    let text = workspace.text(CHANGELOG).unwrap_or_default();
    if text.lines().any(|line| line == HEADING) {
        return Vec::new();
    }
    vec![Finding::new(CHANGELOG, 0, format!("the section `{HEADING}` is missing"))]
}

/// Links between pages lead somewhere.
pub(super) fn find_links(workspace: &Workspace) -> Vec<Finding> {
    let is_page =
        |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "md");
    let mut findings = Vec::new();
    for (path, file) in workspace.files.iter().filter(|(path, _)| is_page(path)) {
        let mut is_example = false;
        for (number, line) in (1..).zip(file.text.lines()) {
            is_example ^= line.trim_start().starts_with("```");
            if is_example {
                continue;
            }
            let broken = targets(line).filter(|target| !leads_somewhere(path, target, workspace));
            findings.extend(broken.map(|target| {
                Finding::new(path, number, format!("the link to `{target}` leads nowhere"))
            }));
        }
    }
    findings
}

/// Returns what the links of a line point to.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

fn leads_somewhere(page: &str, target: &str, workspace: &Workspace) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains(':') {
        return true;
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir if parts.pop().is_none() => return false,
            Component::ParentDir | Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().unwrap_or_default()),
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    let path = parts.join("/");
    let folder = format!("{path}/");
    workspace.files.keys().any(|file| *file == path || file.starts_with(&folder))
}
