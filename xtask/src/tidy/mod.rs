//! What clippy cannot see: layers, sizes, and habits that only this workspace has.

mod layers;
mod sizes;
mod text;

use std::path::{Path, PathBuf};

use crate::process::output;

/// A file of the repository.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Checks everything and prints each problem; `ratchet` lowers the sizes that may only shrink.
pub(crate) fn tidy(root: &Path, ratchet: bool) -> Result<(), String> {
    let sources = sources(root)?;
    let metadata = output(
        root,
        "cargo",
        &["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"],
    )
    .or_else(|_| {
        output(root, "cargo", &["metadata", "--no-deps", "--format-version", "1", "--locked"])
    })?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let mut problems = layers::check(&metadata);
    problems.extend(sizes::check(root, &sources, ratchet)?);
    problems.extend(text::check(&sources));
    problems.extend(text::dependencies(&sources));
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if problems.is_empty() {
        println!("tidy: {} files are in order", sources.len());
        Ok(())
    } else {
        Err(format!("{} problems", problems.len()))
    }
}

/// The text files that git knows or would add.
fn sources(root: &Path) -> Result<Vec<Source>, String> {
    let list = output(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut sources = Vec::new();
    for name in list.lines() {
        let path = root.join(name);
        // A file that was removed and is still in the index has nothing to check.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: PathBuf::from(name), text });
        }
    }
    Ok(sources)
}
