//! The one shape of an I/O failure: what was tried, on which path, and what the kernel said.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a path that the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} `{}`", path.display())]
pub struct IoError {
    /// The operation as a verb, so that the message reads "failed to open `/x`".
    pub operation: &'static str,
    /// The path as it was given.
    pub path: PathBuf,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

impl IoError {
    /// Builds the error from its parts.
    pub fn new(
        operation: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self { operation, path: path.into(), source: source.into() }
    }

    /// Returns the kind of the underlying error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Returns the error number, when the error came from the kernel.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Returns true if the path did not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Returns true if a part of the path is no directory.
    pub fn is_not_a_directory(&self) -> bool {
        self.kind() == io::ErrorKind::NotADirectory
    }

    /// Returns true if the name was already taken.
    pub fn is_already_exists(&self) -> bool {
        matches!(self.errno(), Some(libc::EEXIST | libc::ENOTEMPTY))
            || self.kind() == io::ErrorKind::AlreadyExists
    }

    /// Returns true if the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOSPC | libc::EDQUOT))
    }

    /// Returns true if the kernel did not accept a value, such as an owner that it does not know.
    pub fn is_invalid(&self) -> bool {
        self.errno() == Some(libc::EINVAL)
    }

    /// Returns true if the process or the host has no free file descriptor.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self.errno(), Some(libc::EMFILE | libc::ENFILE))
    }

    /// Returns true if the kernel refused for lack of rights.
    pub fn is_permission_denied(&self) -> bool {
        self.kind() == io::ErrorKind::PermissionDenied
    }
}

/// Returns a function that puts the operation and the path around an error, for `map_err`.
pub fn at<E: Into<io::Error>>(
    operation: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(E) -> IoError {
    move |source| IoError::new(operation, path.as_ref(), source)
}
