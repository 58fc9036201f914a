//! The few verbs by which the store changes the disk, as a trait so that tests can fail each one.
//!
//! Nothing but fault injection is the reason for this trait: reads do not go through it, and there
//! is one real implementation.

use std::fmt::Debug;
use std::fs::File;
use std::path::Path;

use crate::error::IoError;
use crate::file;

/// Changes to the file system.
pub trait Fs: Debug + Send + Sync {
    /// Creates a file that must not exist yet and opens it for writing.
    fn create_new(&self, path: &Path, mode: u32) -> Result<File, IoError>;

    /// Writes all bytes at the position of the file.
    fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> Result<(), IoError>;

    /// Makes the content of a file durable.
    fn sync(&self, file: &File, path: &Path) -> Result<(), IoError>;

    /// Renames, replacing a file; a directory is never put over one that is not empty.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Makes a hard link.
    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Removes a file that exists.
    fn remove_file(&self, path: &Path) -> Result<(), IoError>;

    /// Removes a file or a whole directory tree; absence is success.
    fn remove_tree(&self, path: &Path) -> Result<(), IoError>;

    /// Creates one directory that must not exist yet.
    fn create_dir(&self, path: &Path, mode: u32) -> Result<(), IoError>;

    /// Makes the names of a directory durable.
    fn sync_dir(&self, path: &Path) -> Result<(), IoError>;

    /// Makes everything on the file system that holds `path` durable.
    fn sync_file_system(&self, path: &Path) -> Result<(), IoError>;

    /// Is called before each change that is made through a directory descriptor and has no verb
    /// here: what a [`crate::beneath::Root`] does while a layer is unpacked or sealed.
    fn before(&self, operation: &'static str, path: &Path) -> Result<(), IoError>;
}

/// The file system of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn create_new(&self, path: &Path, mode: u32) -> Result<File, IoError> {
        file::create_new(path, mode)
    }

    fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
        file::write_all(file, path, bytes)
    }

    fn sync(&self, file: &File, path: &Path) -> Result<(), IoError> {
        file::sync(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        file::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        file::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        file::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> Result<(), IoError> {
        file::remove_tree(path)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> Result<(), IoError> {
        file::create_dir(path, mode)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        file::sync_dir(path)
    }

    fn sync_file_system(&self, path: &Path) -> Result<(), IoError> {
        file::sync_file_system(path)
    }

    fn before(&self, _operation: &'static str, _path: &Path) -> Result<(), IoError> {
        Ok(())
    }
}
