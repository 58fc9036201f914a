//! A tree is copied out into a directory that may hold anything.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use corten_store::{Merged, MergedEntry};
use corten_sys::beneath::{self, Device, Dir, FileKind, Resolve, Root};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::pending::PendingFile;

use super::write::OutputError;

/// What a directory keeps of its mode; set-group-id would be that of another group.
const DIRECTORY_MODE: u32 = 0o1777;

/// What a file keeps of its mode: with another owner, set-user-id would be another program.
const FILE_MODE: u32 = 0o777;

/// Copies a tree into a directory; returns how many devices were left out.
///
/// What is there and not in the tree stays. A name that both have is replaced, a link too, and none
/// is followed; only a directory in the place of a file is refused.
pub(super) fn copy_out(tree: &Merged, destination: &Path) -> Result<u64, OutputError> {
    file::create_dirs(destination, 0o755)?;
    let root = Root::open(destination)?;
    let mut writer = LocalWriter { root: &root, at: None, left_out: 0 };
    for entry in tree.entries() {
        writer.entry(&entry)?;
    }
    let directories: Vec<MergedEntry<'_>> =
        tree.entries().filter(|entry| entry.stat.kind == FileKind::Directory).collect();
    // From the inside, since what is written in a directory changes its time, and a mode may forbid
    // going into it.
    for entry in directories.into_iter().rev() {
        let path = Path::new(OsStr::from_bytes(entry.path));
        let dir = root.open_dir(path, Resolve::NoLinks)?;
        beneath::set_times(&dir, dir.path(), entry.stat.modified)?;
        dir.set_mode_self(entry.stat.mode & DIRECTORY_MODE)?;
    }
    Ok(writer.left_out)
}

struct LocalWriter<'a> {
    root: &'a Root,
    /// The directory of the last entry, which is mostly that of the next.
    at: Option<(Vec<u8>, Dir)>,
    left_out: u64,
}

impl LocalWriter<'_> {
    fn entry(&mut self, entry: &MergedEntry<'_>) -> Result<(), OutputError> {
        let (parent, name) = split(entry.path);
        let at = match self.at.take() {
            Some(at) if at.0 == parent => at,
            _ => {
                let path = Path::new(OsStr::from_bytes(parent));
                (parent.to_vec(), self.root.open_dir(path, Resolve::NoLinks)?)
            }
        };
        let name = OsStr::from_bytes(name);
        let dir = &at.1;
        match entry.stat.kind {
            FileKind::Directory => directory(dir, name)?,
            FileKind::File => self.file(dir, name, entry)?,
            FileKind::Symlink => {
                free(dir, name)?;
                dir.symlink(name, OsStr::from_bytes(entry.target))?;
                dir.set_times(name, entry.stat.modified)?;
            }
            FileKind::Fifo => {
                free(dir, name)?;
                dir.create_device(name, Device::Fifo, entry.stat.mode & FILE_MODE)?;
                dir.set_times(name, entry.stat.modified)?;
            }
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Socket => self.left_out += 1,
        }
        self.at = Some(at);
        Ok(())
    }

    fn file(&self, dir: &Dir, name: &OsStr, entry: &MergedEntry<'_>) -> Result<(), OutputError> {
        if let Some(first) = entry.link {
            free(dir, name)?;
            let path = Path::new(OsStr::from_bytes(first));
            let (from, first) = self.root.parent(path, Resolve::NoLinks)?;
            return Ok(dir.hard_link(&from, first, name)?);
        }
        refuse_directory(dir, name)?;
        let pending = PendingFile::create(dir, name, 0o600)?;
        let shown = pending.path();
        file::copy(&entry.open()?, pending.file(), &shown)?;
        set_mode(pending.file(), &shown, entry.stat.mode & FILE_MODE)?;
        beneath::set_times(pending.file(), &shown, entry.stat.modified)?;
        Ok(pending.publish()?)
    }
}

fn set_mode(file: &File, path: &Path, mode: u32) -> Result<(), IoError> {
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(|source| IoError::new("change the mode of", path, source))
}

/// Makes a directory, or takes the one that is there, with the right to write in it.
fn directory(dir: &Dir, name: &OsStr) -> Result<(), OutputError> {
    match dir.create_dir(name, 0o700) {
        Err(error) if error.is_already_exists() => {}
        created => return Ok(created?),
    }
    let stat = dir.stat(name)?;
    if stat.kind != FileKind::Directory {
        dir.remove_file(name)?;
        return Ok(dir.create_dir(name, 0o700)?);
    }
    if stat.mode & 0o700 != 0o700 {
        dir.open_dir(name)?.set_mode_self(stat.mode | 0o700)?;
    }
    Ok(())
}

/// Removes what has a name, unless it is a directory.
fn free(dir: &Dir, name: &OsStr) -> Result<(), OutputError> {
    refuse_directory(dir, name)?;
    match dir.remove_file(name) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => Ok(removed?),
    }
}

fn refuse_directory(dir: &Dir, name: &OsStr) -> Result<(), OutputError> {
    match file::absent_is_none(dir.stat(name))? {
        Some(stat) if stat.kind == FileKind::Directory => {
            Err(OutputError::Occupied { path: dir.path().join(name) })
        }
        _ => Ok(()),
    }
}

/// The directory and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}
