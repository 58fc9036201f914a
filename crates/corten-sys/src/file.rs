//! Whole-file and whole-directory operations on trusted paths, with errors that name them.
//!
//! Paths that come from an image never come here: see [`crate::beneath`].

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, IFlags, RenameFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use crate::error::{IoError, at};

/// Reads a whole file of any size; for files that we wrote ourselves.
pub fn read(path: &Path) -> Result<Vec<u8>, IoError> {
    std::fs::read(path).map_err(at("read", path))
}

/// Reads a whole file, or fails with `FileTooLarge` when it holds more than `limit_bytes`.
pub fn read_limited(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, IoError> {
    read_file_limited(&open(path)?, path, limit_bytes)
}

/// Reads the rest of an open file; `path` is for the message.
pub fn read_file_limited(file: &File, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, IoError> {
    let too_large = || IoError::new("read", path, io::Error::from_raw_os_error(libc::EFBIG));
    let expected = file.metadata().map_err(at("inspect", path))?.len();
    if expected > limit_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default() + 1);
    let mut limited = file.take(limit_bytes.saturating_add(1));
    limited.read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Reads a file that may be absent.
pub fn read_optional(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, IoError> {
    absent_is_none(read_limited(path, limit_bytes))
}

/// Turns "not found" into `None`.
pub fn absent_is_none<T>(result: Result<T, IoError>) -> Result<Option<T>, IoError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, IoError> {
    File::open(path).map_err(at("open", path))
}

/// Creates a file that must not exist yet and opens it for reading and writing.
pub fn create_new(path: &Path, mode: u32) -> Result<File, IoError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(at("create", path))
}

/// Opens a file for reading and for writing at its end; it is created when it is missing.
pub fn open_to_append(path: &Path, mode: u32) -> Result<File, IoError> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
        .map_err(at("open", path))
}

/// Reads bytes at an offset; fewer at the end of the file.
pub fn read_at(file: &File, path: &Path, offset: u64, count: usize) -> Result<Vec<u8>, IoError> {
    let mut bytes = vec![0; count];
    let read = rustix::io::pread(file, bytes.as_mut_slice(), offset)
        .map_err(|errno| IoError::new("read", path, errno))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes all bytes at the position of the file; `path` is for the message.
pub fn write_all(mut file: &File, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    file.write_all(bytes).map_err(at("write", path))
}

/// Makes the content of a file durable.
pub fn sync(file: &File, path: &Path) -> Result<(), IoError> {
    file.sync_all().map_err(at("sync", path))
}

/// Makes the names of a directory durable.
pub fn sync_dir(path: &Path) -> Result<(), IoError> {
    sync(&open(path)?, path)
}

/// Makes everything on the file system that holds `path` durable.
pub fn sync_file_system(path: &Path) -> Result<(), IoError> {
    rustix::fs::syncfs(open(path)?).map_err(at("sync the file system of", path))
}

/// Puts a complete file under a name: a reader sees the old content or the new, also after a crash.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IoError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".corten-{}", crate::random::name()));
    let written = write_then_rename(&temporary, path, bytes, mode);
    if written.is_err() {
        // The first error is the one to report; a leftover has a name that nothing reads.
        drop(std::fs::remove_file(&temporary));
        return written;
    }
    sync_dir(folder)
}

fn write_then_rename(
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), IoError> {
    let file = create_new(temporary, mode)?;
    write_all(&file, path, bytes)?;
    sync(&file, path)?;
    rename(temporary, path)
}

/// Writes a file without any promise about a crash; for tests and files that are made anew.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may write in place")]
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    std::fs::write(path, bytes).map_err(at("write", path))
}

/// Renames, replacing a file. The caller syncs the folder when the name must last.
#[expect(clippy::disallowed_methods, reason = "callers sync the folder through `sync_dir`")]
pub fn rename(from: &Path, to: &Path) -> Result<(), IoError> {
    std::fs::rename(from, to).map_err(at("rename to", to))
}

/// Renames and fails with `AlreadyExists` when the name is taken.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), IoError> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(at("rename to", to))
}

/// Makes a hard link.
pub fn hard_link(from: &Path, to: &Path) -> Result<(), IoError> {
    std::fs::hard_link(from, to).map_err(at("link", to))
}

/// Makes a symbolic link.
pub fn symlink(target: &Path, link: &Path) -> Result<(), IoError> {
    std::os::unix::fs::symlink(target, link).map_err(at("link", link))
}

/// Removes a file that exists.
pub fn remove_file(path: &Path) -> Result<(), IoError> {
    std::fs::remove_file(path).map_err(at("remove", path))
}

/// Removes an empty directory.
pub fn remove_dir(path: &Path) -> Result<(), IoError> {
    std::fs::remove_dir(path).map_err(at("remove", path))
}

/// Removes a file or a whole tree of any depth; links are removed, not followed; absence is success.
pub fn remove_tree(path: &Path) -> Result<(), IoError> {
    let invalid = || IoError::new("remove", path, io::Error::from_raw_os_error(libc::EINVAL));
    let name = path.file_name().ok_or_else(invalid)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match absent_is_none(crate::beneath::Dir::open(parent.unwrap_or(Path::new("."))))? {
        Some(parent) => parent.remove_tree(name),
        None => Ok(()),
    }
}

/// Creates one directory that must not exist yet.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), IoError> {
    std::fs::DirBuilder::new().mode(mode).create(path).map_err(at("create", path))
}

/// Creates a directory and its parents; existing ones are left as they are.
pub fn create_dirs(path: &Path, mode: u32) -> Result<(), IoError> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(at("create", path))
}

/// Asks the file system to keep what is made in this directory away from what lies around it.
///
/// ext4 puts a new directory and its files near the parent, and looks past every inode there that was
/// deleted within the last minutes: where many files come and go, making one costs many times as much.
/// Below a top directory it starts in an empty group of blocks instead (`FS_TOPDIR_FL`, chattr(1) `T`).
/// Returns false where the file system knows no such wish.
pub fn spread_children(directory: &Path) -> Result<bool, IoError> {
    let descriptor = open(directory)?;
    let set = || {
        let flags = ioctl_getflags(&descriptor)?;
        if flags.contains(IFlags::TOPDIR) {
            return Ok(());
        }
        ioctl_setflags(&descriptor, flags | IFlags::TOPDIR)
    };
    match set() {
        Ok(()) => Ok(true),
        Err(
            Errno::NOTTY
            | Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::INVAL
            | Errno::PERM
            | Errno::ACCESS,
        ) => Ok(false),
        Err(error) => Err(at("set the attributes of", directory)(error)),
    }
}

/// Returns true if something has this name, a dangling link included.
pub fn exists(path: &Path) -> Result<bool, IoError> {
    Ok(absent_is_none(symlink_metadata(path))?.is_some())
}

/// Returns what is known about a file, links followed.
pub fn metadata(path: &Path) -> Result<Metadata, IoError> {
    std::fs::metadata(path).map_err(at("inspect", path))
}

/// Returns what is known about a name, links not followed.
pub fn symlink_metadata(path: &Path) -> Result<Metadata, IoError> {
    std::fs::symlink_metadata(path).map_err(at("inspect", path))
}

/// Returns the names in a directory, sorted.
pub fn list_dir(path: &Path) -> Result<Vec<OsString>, IoError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(at("list", path))? {
        names.push(entry.map_err(at("list", path))?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Gives a file a mode.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), IoError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(at("change the mode of", path))
}

/// Copies the rest of a file: by sharing its blocks where the file system can, else in the kernel,
/// else by reading and writing. Returns the number of bytes.
pub fn copy(from: &File, to: &File, path: &Path) -> Result<u64, IoError> {
    let mut from = from;
    let mut to = to;
    let size = from.metadata().map_err(at("inspect", path))?.len();
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(size);
    }
    // std uses copy_file_range and falls back to read and write by itself.
    io::copy(&mut from, &mut to).map_err(at("copy to", path))
}

/// The same place from every directory, without `.` and `..`, which not everything takes. What does
/// not exist yet is resolved as a text.
pub fn absolute(path: &Path) -> Result<PathBuf, IoError> {
    let path = std::path::absolute(path).map_err(at("resolve", path))?;
    let mut resolved = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            // What a link leads to has another parent than the link.
            if let Some(real) = absent_is_none(real(&resolved))? {
                resolved = real;
            }
            resolved.pop();
        } else {
            resolved.push(component);
        }
    }
    Ok(resolved)
}

fn real(path: &Path) -> Result<PathBuf, IoError> {
    std::fs::canonicalize(path).map_err(at("resolve", path))
}

/// Returns the effective user of this process.
pub fn effective_user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Sets both times of a file, links followed.
pub fn set_times(path: &Path, modified: crate::clock::Timestamp) -> Result<(), IoError> {
    crate::beneath::set_times(&open(path)?, path, modified)
}

/// Writes bytes at a place of an open file, without moving its position.
pub fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<(), IoError> {
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(bytes, offset).map_err(at("write", path))
}

/// Sets the size of an open file; what is new reads as zeros and takes no space.
pub fn set_size(file: &File, path: &Path, size_bytes: u64) -> Result<(), IoError> {
    file.set_len(size_bytes).map_err(at("resize", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_to_spread_is_kept_or_its_absence_told() {
        let directory = std::env::temp_dir().join(format!("corten-{}", crate::random::name()));
        create_dirs(&directory, 0o755).unwrap();
        let granted = spread_children(&directory).unwrap();
        assert_eq!(spread_children(&directory).unwrap(), granted, "asking again is no error");
        let flags = ioctl_getflags(open(&directory).unwrap());
        assert_eq!(granted, flags.is_ok_and(|flags| flags.contains(IFlags::TOPDIR)));
        create_dirs(&directory.join("below"), 0o755).unwrap();
        remove_tree(&directory).unwrap();
        assert!(spread_children(&directory).unwrap_err().is_not_found());
    }

    #[test]
    fn a_parent_in_a_path_is_that_of_what_a_link_leads_to() {
        let directory = std::env::temp_dir().join(format!("corten-{}", crate::random::name()));
        create_dirs(&directory.join("real/inner"), 0o755).unwrap();
        symlink(Path::new("real/inner"), &directory.join("link")).unwrap();
        let given = |path: &str| absolute(&directory.join(path)).unwrap();
        assert_eq!(given("link/../new"), real(&directory).unwrap().join("real/new"));
        assert_eq!(given("absent/../new"), directory.join("new"));
        assert_eq!(given("./a"), directory.join("a"));
        assert_eq!(given("link"), directory.join("link"), "links themselves stay");
        assert_eq!(absolute(Path::new("/../..")).unwrap(), Path::new("/"));
        remove_tree(&directory).unwrap();
    }
}
