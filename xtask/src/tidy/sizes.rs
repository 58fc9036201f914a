//! How long files and functions may be. What is longer today may only become shorter.

use std::collections::BTreeMap;
use std::path::Path;

use super::Source;

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Where the sizes of known offenders are kept.
const RATCHET: &str = "xtask/ratchet.toml";

pub(super) fn check(root: &Path, sources: &[Source], write: bool) -> Result<Vec<String>, String> {
    let found = measure(sources);
    let path = root.join(RATCHET);
    if write {
        let mut text = String::from(
            "# Files and functions longer than the limits, with their lines. A number may only\n\
             # become smaller: `cargo xtask tidy --ratchet` writes this file anew.\n",
        );
        for (what, lines) in &found {
            text.push_str(&format!("\"{what}\" = {lines}\n"));
        }
        std::fs::write(&path, text)
            .map_err(|error| format!("failed to write {RATCHET}: {error}"))?;
        return Ok(Vec::new());
    }
    let known: BTreeMap<String, usize> = match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| format!("{RATCHET}: {error}"))?,
        Err(_) => BTreeMap::new(),
    };
    Ok(compare(&found, &known))
}

fn compare(found: &BTreeMap<String, usize>, known: &BTreeMap<String, usize>) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, lines) in found {
        match known.get(what) {
            None => problems.push(format!("{what} has {lines} lines: split it by meaning")),
            Some(before) if lines > before => {
                problems.push(format!("{what} has grown from {before} to {lines} lines"));
            }
            Some(_) => {}
        }
    }
    problems
}

/// Everything beyond the limits.
fn measure(sources: &[Source]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for source in sources {
        let name = source.path.display().to_string();
        if source.path.extension().is_none_or(|extension| extension != "rs")
            || name.split('/').any(|part| part.contains("tests"))
        {
            continue;
        }
        let code = without_tests(&source.text);
        let lines = code.lines().count();
        if lines > FILE_LINES_MAX {
            found.insert(name.clone(), lines);
        }
        for (function, lines) in functions(code) {
            if lines > FUNCTION_LINES_MAX {
                found.insert(format!("{name}::{function}"), lines);
            }
        }
    }
    found
}

/// The text before the tests, which are last in a file.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ").map_or(text, |end| &text[..end])
}

/// Functions with their lines: rustfmt puts the closing brace under the first letter.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let end = lines[start..].iter().position(|line| {
            line.len() > indent && line.starts_with(&" ".repeat(indent)) && &line[indent..] == "}"
        });
        if let Some(length) = end {
            found.push((name, length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.trim_start().split(' ');
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "unsafe", "extern", "\"C\""];
    let word = words.find(|word| !qualifiers.contains(word))?;
    if word != "fn" {
        return None;
    }
    let name = words.next()?;
    Some(name.split(['(', '<']).next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: String) -> [Source; 1] {
        [Source { path: "crates/x/src/a.rs".into(), text }]
    }

    #[test]
    fn a_long_function_is_found() {
        let body = "    x();\n".repeat(80);
        let found = measure(&source(format!("pub(crate) fn long<T>(a: T) {{\n{body}}}\n")));
        assert_eq!(found.get("crates/x/src/a.rs::long"), Some(&82));
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let found = measure(&source("// x\n".repeat(801)));
        assert_eq!(found.get("crates/x/src/a.rs"), Some(&801));
        let tests = format!(
            "{}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "//\n".repeat(10),
            "//\n".repeat(900)
        );
        assert!(measure(&source(tests)).is_empty());
    }

    #[test]
    fn what_is_known_may_only_shrink() {
        let found = BTreeMap::from([("a".to_owned(), 900), ("b".to_owned(), 900)]);
        let known = BTreeMap::from([("a".to_owned(), 950), ("b".to_owned(), 899)]);
        assert_eq!(compare(&found, &known), ["b has grown from 899 to 900 lines"]);
    }
}
