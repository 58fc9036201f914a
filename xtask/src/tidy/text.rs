//! What no text of the repository may contain.
//!
//! The words that are looked for are put together from pieces here, so that this file passes.

use super::Finding;
use super::rust_source::words;
use super::workspace::Workspace;

/// Written by cargo.
const LOCK: &str = "Cargo.lock";

/// Folders of data that tests compare byte by byte; what is in them is not ours to tidy.
const DATA_FOLDERS: [&str; 5] = ["corpus", "formats", "seeds", "testdata", "fixtures"];

/// Files of our own, without data and what tools write.
fn own_files(workspace: &Workspace) -> impl Iterator<Item = (&str, &str)> {
    let files = workspace.files.iter().filter(|(path, _)| {
        *path != LOCK && !path.split('/').any(|folder| DATA_FOLDERS.contains(&folder))
    });
    files.map(|(path, file)| (path.as_str(), file.text.as_str()))
}

/// Returns what a function finds in each line of our files.
fn find_in_lines(workspace: &Workspace, find: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in own_files(workspace) {
        for (line, text) in (1..).zip(text.lines()) {
            if let Some(message) = find(text) {
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    findings
}

/// Marks of unfinished work; the first may stay with the number of an issue.
pub(super) fn find_unfinished(workspace: &Workspace) -> Vec<Finding> {
    const NUMBERED: &str = concat!("TO", "DO");
    const NEVER: [&str; 3] = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    find_in_lines(workspace, |line| {
        words(line).find_map(|(start, end)| {
            let word = &line[start..end];
            let has_number = line[end..]
                .strip_prefix("(#")
                .and_then(|rest| rest.split_once(')'))
                .is_some_and(|(number, _)| number.parse::<u32>().is_ok());
            match word {
                NUMBERED if !has_number => Some(format!("`{word}` needs an issue: `{word}(#123)`")),
                _ if NEVER.contains(&word) => {
                    Some(format!("`{word}`: finish it, or open an issue"))
                }
                _ => None,
            }
        })
    })
}

/// Places of one machine, and hosts that only a person's settings may name.
pub(super) fn find_places(workspace: &Workspace) -> Vec<Finding> {
    let folders = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    let hosts = [
        ["deb", ".debian", ".org"].concat(),
        ["security", ".debian", ".org"].concat(),
        ["snapshot", ".debian", ".org"].concat(),
        ["ftp", ".debian", ".org"].concat(),
        ["archive", ".ubuntu", ".com"].concat(),
        ["pypi", ".org"].concat(),
        ["python", "hosted", ".org"].concat(),
        ["registry", ".npmjs", ".org"].concat(),
        ["index", ".crates", ".io"].concat(),
        ["static", ".crates", ".io"].concat(),
        ["proxy", ".golang", ".org"].concat(),
    ];
    find_in_lines(workspace, |line| {
        if let Some(folder) = folders.iter().find(|folder| has_absolute(line, folder)) {
            return Some(format!("`{folder}` is a place of one machine"));
        }
        let host = hosts.iter().find(|host| line.contains(host.as_str()))?;
        Some(format!("`{host}` must come from the host's settings, not from us"))
    })
}

/// Returns true if a path begins with this folder; one that merely contains it is another path.
/// Below the cache of root, packages are kept in images all over the world.
fn has_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(position, _)| {
        let before = line[..position].chars().next_back();
        let is_start =
            before.is_none_or(|before| !before.is_alphanumeric() && !"/._-})]$*>".contains(before));
        is_start && !line[position + folder.len()..].starts_with(".cache")
    })
}

/// Line ends as git and editors want them.
pub(super) fn find_whitespace(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in own_files(workspace) {
        if !text.is_empty() && !text.ends_with('\n') {
            findings.push(Finding::new(path, 0, "the last line has no line break"));
        }
        let rust = workspace.files.get(path).and_then(|file| file.rust.as_ref());
        for (number, line) in (1..).zip(text.split('\n')) {
            // Inside a string it is part of a value, such as a snapshot.
            let is_value = rust.is_some_and(|rust| rust.ends_in_string(number));
            if !is_value && line.ends_with(|end: char| end.is_whitespace()) {
                findings.push(Finding::new(path, number, "white space at the end of the line"));
            }
        }
    }
    findings
}
