//! Directories for secrets, in memory.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::lock::FileLock;

/// Memory that is a file system, where secrets do not reach a disk.
const MEMORY_DIRECTORY: &str = "/dev/shm";

const PREFIX: &str = "corten-";

/// The file that is locked as long as somebody needs the directory.
const LOCK_FILE: &str = ".lock";

/// Removes a directory that was made for a step, at the end of its life. Of a process that was
/// killed, the next one removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: FileLock,
}

impl Scratch {
    /// Makes a directory that only its owner may enter: in memory where there is such a file
    /// system, else in a directory of the store.
    pub(crate) fn in_memory(otherwise: &Path) -> Result<Self, IoError> {
        let memory = Path::new(MEMORY_DIRECTORY);
        let is_there = file::metadata(memory).is_ok_and(|metadata| metadata.is_dir());
        let root = if is_there { memory } else { otherwise };
        file::create_dirs(root, 0o700)?;
        sweep(root)?;
        loop {
            let path = root.join(format!("{PREFIX}{}", corten_sys::random::name()));
            file::create_dir(&path, 0o700)?;
            let lock_path = path.join(LOCK_FILE);
            // Another process may take a directory for abandoned before its lock is held.
            let lock = file::absent_is_none(FileLock::exclusive(&lock_path))?;
            if let Some(lock) = lock
                && file::exists(&lock_path)?
            {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is tried again by the next build.
        drop(file::remove_tree(&self.path));
    }
}

/// Removes what killed processes of this user have left.
fn sweep(root: &Path) -> Result<(), IoError> {
    let is_ours = |name: &OsString| name.to_string_lossy().starts_with(PREFIX);
    for name in file::list_dir(root)?.into_iter().filter(is_ours) {
        let path = root.join(name);
        // The directory is everybody's; nobody else can put something of ours there.
        let found = file::symlink_metadata(&path);
        let is_own = |uid: u32| uid == file::effective_user_id();
        if !found.is_ok_and(|found| found.is_dir() && is_own(found.uid())) {
            continue;
        }
        // Without the file it is not one of these, or it has nothing in it yet.
        if let Ok(Some(_lock)) = FileLock::try_exclusive_existing(&path.join(LOCK_FILE)) {
            file::absent_is_none(file::remove_tree(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use corten_testkit::TempDir;

    use super::*;

    #[test]
    fn what_a_killed_process_has_left_is_removed_and_nothing_else_is() {
        let temp = TempDir::new();
        let root = temp.path();
        for name in ["corten-left", "corten-used", "corten-other", "else"] {
            file::create_dir(&root.join(name), 0o700).unwrap();
        }
        for name in ["corten-left", "corten-used", "else"] {
            file::write(&root.join(name).join(LOCK_FILE), b"").unwrap();
        }
        file::symlink(&root.join("else"), &root.join("corten-link")).unwrap();
        file::write(&root.join("corten-left/secret"), b"secret").unwrap();
        let _used = FileLock::exclusive(&root.join("corten-used").join(LOCK_FILE)).unwrap();
        sweep(root).unwrap();
        let mut names = file::list_dir(root).unwrap();
        names.sort();
        assert_eq!(names, ["corten-link", "corten-other", "corten-used", "else"]);
    }
}
