//! That a container is paused, for those who only look: a file in its directory.
//!
//! It means something only while the container runs.

use std::path::Path;

use corten_sys::error::IoError;
use corten_sys::file;

/// The file in a container's directory.
const FILE: &str = "paused";

/// Returns true for a container that is paused, if it runs.
pub fn is_paused(container: &Path) -> bool {
    file::exists(&container.join(FILE)).unwrap_or_default()
}

pub(crate) fn mark(container: &Path) -> Result<(), IoError> {
    file::write(&container.join(FILE), b"")
}

/// One that cannot be removed is looked at by nobody once the container has ended.
pub(crate) fn unmark(container: &Path) {
    drop(file::remove_file(&container.join(FILE)));
}
