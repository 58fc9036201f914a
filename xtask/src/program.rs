//! Building the program as it is shipped.

use std::path::{Path, PathBuf};

use crate::{Failure, shell};

/// With its own C library and at a fixed address it starts in two thirds of the time: the dynamic linker
/// has nothing to load, and no page of it is copied to be relocated (docs/adr/0016).
const STATIC: [&str; 4] = ["-C", "target-feature=+crt-static", "-C", "relocation-model=static"];

/// Builds the program and returns its path.
pub(crate) fn build(root: &Path) -> Result<PathBuf, Failure> {
    // The flags are for the last step alone, since cargo would otherwise use them for macros, too, which
    // are libraries that the compiler loads.
    let words = ["rustc", "--release", "--locked", "--package", "corten", "--bin", "corten", "--"];
    shell::run(shell::cargo(root).args(words).args(STATIC))?;
    Ok(shell::target_dir(root).join("release/corten"))
}
