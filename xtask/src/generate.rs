//! Pages of docs/reference that come from the program itself, so that they cannot be wrong.

use std::path::Path;
use std::process::Command;

use crate::{Failure, shell, ui};

/// A page's name for `corten __reference`, and its file.
const PAGES: [(&str, &str); 1] = [("cli", "docs/reference/cli.md")];

/// Writes every page.
pub(crate) fn write(root: &Path) -> Result<(), Failure> {
    let program = build(root)?;
    for (page, path) in PAGES {
        shell::write_file(&root.join(path), generate(&program, page)?)?;
        ui::line(&format!("wrote {path}"));
    }
    Ok(())
}

/// Fails if a page is not what the program says.
pub(crate) fn check(root: &Path) -> Result<(), Failure> {
    let program = build(root)?;
    for (page, path) in PAGES {
        let expected = generate(&program, page)?;
        let found = shell::read_file(&root.join(path)).unwrap_or_default();
        if found != expected {
            let place = first_difference(&found, &expected);
            return Err(Failure(format!("{path}:{place} is out of date: run `cargo xtask gen`")));
        }
    }
    Ok(())
}

/// Builds the program and returns where it is.
fn build(root: &Path) -> Result<std::path::PathBuf, Failure> {
    shell::run(shell::cargo(root).args(["build", "--quiet", "--locked", "--package", "corten"]))?;
    Ok(shell::target_dir(root).join("debug/corten"))
}

fn generate(program: &Path, page: &str) -> Result<String, Failure> {
    let mut command = Command::new(program);
    // The page must not depend on the terminal or the settings of the person who writes it.
    command.args(["__reference", page]).env_clear().env("COLUMNS", "100");
    let text = shell::read(&mut command)?;
    if text.trim().is_empty() {
        return Err(Failure(format!("`corten __reference {page}` says nothing")));
    }
    Ok(text.trim_end().to_owned() + "\n")
}

/// Returns the first line that differs, from one.
fn first_difference(found: &str, expected: &str) -> usize {
    let same =
        found.lines().zip(expected.lines()).take_while(|(found, expected)| found == expected);
    1 + same.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), 2);
        assert_eq!(first_difference("", "a\n"), 1);
        assert_eq!(first_difference("a\n", "a\nb\n"), 2);
    }

    #[test]
    fn a_page_ends_with_one_line_break_and_is_not_empty() {
        assert_eq!(generate(Path::new("/bin/echo"), "cli").unwrap(), "__reference cli\n");
        assert!(generate(Path::new("/bin/true"), "cli").unwrap_err().0.contains("says nothing"));
    }
}
