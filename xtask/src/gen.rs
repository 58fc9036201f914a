//! Documentation that the program writes itself.

use std::path::Path;

use crate::process::output;

/// Pages and what `corten __reference` calls them.
const PAGES: [(&str, &str); 1] = [("docs/reference/cli.md", "cli")];

/// Writes the pages, or only says whether one would change.
pub(crate) fn write(root: &Path, check: bool) -> Result<(), String> {
    for (path, page) in PAGES {
        let text = output(
            root,
            "cargo",
            &["run", "--quiet", "--locked", "--package", "corten", "--", "__reference", page],
        )?;
        let file = root.join(path);
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        if known == text {
            continue;
        }
        if check {
            return Err(format!("{path} is not what the program says: run `cargo xtask gen`"));
        }
        std::fs::write(&file, text).map_err(|error| format!("failed to write {path}: {error}"))?;
        println!("wrote {path}");
    }
    Ok(())
}
