//! Ceilings for files and functions; tests do not count, tables may be long. What was above them when the rule came is in the ratchet and
//! may only shrink.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Finding;
use super::workspace::{Workspace, is_beside_program, section};

/// Lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 800;

/// Lines of a function from its name to its closing brace: a screen.
const FUNCTION_LINES_MAX: usize = 70;

pub(super) const RATCHET: &str = "xtask/ratchet.toml";

/// What is too long, by its key in the ratchet.
#[derive(Debug, Default)]
struct Sizes {
    files: BTreeMap<String, usize>,
    functions: BTreeMap<String, usize>,
}

pub(super) fn find(workspace: &Workspace) -> Vec<Finding> {
    let (sizes, allowed) = (too_long(workspace), read_ratchet(workspace));
    let mut findings = compare(&sizes.files, &allowed.files, FILE_LINES_MAX);
    findings.extend(compare(&sizes.functions, &allowed.functions, FUNCTION_LINES_MAX));
    findings
}

/// Returns the text of a ratchet that allows no more than is needed, and no more than before.
pub(super) fn shrink(workspace: &Workspace) -> String {
    let (sizes, allowed) = (too_long(workspace), read_ratchet(workspace));
    let mut text = "# What was above the ceilings of `cargo xtask tidy` when they came, and how many \
                    lines it may have.\n# Entries may only shrink and go: `cargo xtask tidy --shrink`.\n"
        .to_owned();
    let tables = [
        ("files", &sizes.files, &allowed.files),
        ("functions", &sizes.functions, &allowed.functions),
    ];
    for (name, sizes, allowed) in tables {
        writeln!(text, "\n[{name}]").expect("writing to a string cannot fail");
        for (key, allowed) in allowed {
            if let Some(size) = sizes.get(key) {
                let lines = size.min(allowed);
                writeln!(text, "\"{key}\" = {lines}").expect("writing to a string cannot fail");
            }
        }
    }
    text
}

fn compare(
    sizes: &BTreeMap<String, usize>,
    allowed: &BTreeMap<String, usize>,
    ceiling: usize,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, lines) in sizes {
        match allowed.get(key) {
            None => findings.push(Finding::new(
                key,
                0,
                format!("{lines} lines; the ceiling is {ceiling}"),
            )),
            Some(allowed) if lines > allowed => {
                let message = format!("{lines} lines; it had {allowed} and may only shrink");
                findings.push(Finding::new(key, 0, message));
            }
            Some(_) => {}
        }
    }
    let stale =
        allowed.iter().filter(|(key, allowed)| sizes.get(*key).is_none_or(|size| size < allowed));
    findings.extend(stale.map(|(key, _)| {
        let message = format!("`{key}` is shorter by now: run `cargo xtask tidy --shrink`");
        Finding::new(RATCHET, 0, message)
    }));
    findings
}

fn too_long(workspace: &Workspace) -> Sizes {
    let mut sizes = Sizes::default();
    for (path, source) in workspace.rust_files() {
        if is_beside_program(path) {
            continue;
        }
        let lines = source.line_count();
        if lines > FILE_LINES_MAX {
            sizes.files.insert(path.to_owned(), lines);
        }
        for function in source.functions() {
            if function.line_count > FUNCTION_LINES_MAX && !source.is_test(function.line) {
                let size = sizes.functions.entry(format!("{path}:{}", function.name)).or_default();
                *size = function.line_count.max(*size);
            }
        }
    }
    sizes
}

fn read_ratchet(workspace: &Workspace) -> Sizes {
    let text = workspace.text(RATCHET).unwrap_or_default();
    let read = |name| -> BTreeMap<String, usize> {
        let lines = section(text, name);
        lines
            .filter_map(|(_, line)| {
                let (key, lines) = line.split_once('=')?;
                Some((key.trim().trim_matches('"').to_owned(), lines.trim().parse().ok()?))
            })
            .collect()
    };
    Sizes { files: read("files"), functions: read("functions") }
}
