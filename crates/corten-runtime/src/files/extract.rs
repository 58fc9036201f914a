//! A tar that was made of files, put in place beneath a directory.
//!
//! What is there is replaced, but no directory by a file and no file by a directory. A path that leads
//! out, by itself or by a link, is refused by the kernel.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use corten_oci::limits;
use corten_oci::tar::{EntryKind, Header, Reader};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{Device, Dir, FileKind, Resolve, Root};
use corten_sys::clock::Timestamp;
use corten_sys::error::IoError;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use super::archive::is_kept;
use super::error::FilesError;
use super::place::{CopyPath, Found};

/// The stream is read in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// The mode of directories that a tar does not mention.
const IMPLICIT_DIRECTORY_MODE: u32 = 0o755;

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// As in the tar; ids that are not there become root.
    Kept,
    /// Whoever copies. Programs do not gain rights by that.
    Callers,
}

/// What could not be copied as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Files, links and directories that are there now.
    pub entries: u64,
    /// Those whose owner has no number here, and that belong to root.
    pub squashed_owners: u64,
    /// Device nodes, which only root of the machine may make.
    pub skipped_devices: u64,
}

/// What the first word of each entry becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum First {
    Kept,
    /// What is in it is at the top.
    Dropped,
    Renamed(Vec<u8>),
}

/// Where a tar goes.
#[derive(Debug)]
pub(super) struct Extraction<'a> {
    pub(super) root: &'a Root,
    /// The directory beneath the root.
    pub(super) below: PathBuf,
    pub(super) resolve: Resolve,
    pub(super) first: First,
    pub(super) owners: Owners,
}

impl Extraction<'_> {
    /// Unpacks a stream to its end.
    pub(super) fn run(&self, tar: &mut dyn Read) -> Result<Copied, FilesError> {
        let mut extractor = Extractor {
            to: self,
            copied: Copied::default(),
            times: BTreeMap::new(),
            parent: None,
            buffer: vec![0; BUFFER_BYTES],
        };
        let mut reader = Reader::new(BufReader::with_capacity(BUFFER_BYTES, tar));
        while let Some(header) = reader.next_entry()? {
            extractor.entry(header, &mut reader)?;
        }
        // Padding after the end is of the tar as well; whoever writes it shall not fail.
        let mut rest = reader.into_inner();
        let drained = std::io::copy(&mut rest, &mut std::io::sink());
        drained.map_err(FilesError::step("read the end of the tar"))?;
        extractor.set_times()?;
        Ok(extractor.copied)
    }

    /// Opens a directory of the tar.
    fn open(&self, path: &TreePath) -> Result<Dir, FilesError> {
        let path = self.below.join(OsStr::from_bytes(path.as_bytes()));
        match self.root.open_dir(&path, self.resolve) {
            Err(error) if error.is_not_found() => {
                Ok(self.root.create_dirs(&path, IMPLICIT_DIRECTORY_MODE, self.resolve)?)
            }
            opened => Ok(opened?),
        }
    }
}

type Stream<'a> = Reader<BufReader<&'a mut dyn Read>>;

struct Extractor<'a> {
    to: &'a Extraction<'a>,
    copied: Copied,
    /// The times of directories, set at the end since every new entry changes them.
    times: BTreeMap<TreePath, Timestamp>,
    /// The directory of the entry before, in which most entries are too.
    parent: Option<(TreePath, Dir)>,
    buffer: Vec<u8>,
}

impl Extractor<'_> {
    fn entry(&mut self, header: Header, reader: &mut Stream<'_>) -> Result<(), FilesError> {
        let path = self.renamed(&header.path)?;
        if path.components().count() > limits::DIRECTORY_DEPTH_MAX {
            return Err(FilesError::Depth { path: path.to_string() });
        }
        let Some(above) = path.parent() else {
            // The directory itself, which is there.
            return Ok(());
        };
        let (known, dir) = match self.parent.take() {
            Some((known, dir)) if known == above => (known, dir),
            _ => {
                let dir = self.to.open(&above)?;
                (above, dir)
            }
        };
        let name = path.name().to_vec();
        self.put(&dir, OsStr::from_bytes(&name), &path, header, reader)?;
        self.parent = Some((known, dir));
        Ok(())
    }

    fn renamed(&self, path: &[u8]) -> Result<TreePath, FilesError> {
        let path = TreePath::clean(path)?;
        let mut renamed = match &self.to.first {
            First::Kept => return Ok(path),
            First::Dropped => TreePath::root(),
            First::Renamed(name) => TreePath::new(name)?,
        };
        for word in path.components().skip(1) {
            renamed = renamed.join(word)?;
        }
        Ok(renamed)
    }

    fn put(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        path: &TreePath,
        header: Header,
        reader: &mut Stream<'_>,
    ) -> Result<(), FilesError> {
        let Header { kind, meta, mtime_nanoseconds, .. } = header;
        let modified = Timestamp { seconds: meta.mtime, nanoseconds: mtime_nanoseconds };
        let is_directory = matches!(kind, EntryKind::Directory { .. });
        let is_there = make_way(dir, name, path, &kind)?;
        match kind {
            EntryKind::Directory { .. } => {
                if !is_there {
                    dir.create_dir(name, 0o700)?;
                }
                self.times.insert(path.clone(), modified);
            }
            EntryKind::File { size } => self.file(dir, name, is_there, size, reader)?,
            EntryKind::Symlink(target) => {
                if target.len() > limits::SYMLINK_BYTES_MAX {
                    return Err(FilesError::Links { path: path.to_string() });
                }
                dir.symlink(name, OsStr::from_bytes(&target))?;
            }
            EntryKind::Hardlink(target) => {
                self.copied.entries += 1;
                return self.link(dir, name, &target);
            }
            EntryKind::Fifo => dir.create_device(name, Device::Fifo, 0o600)?,
            EntryKind::CharDevice { major, minor } => {
                if !self.device(dir, name, Device::Char(major, minor))? {
                    return Ok(());
                }
            }
            EntryKind::BlockDevice { major, minor } => {
                if !self.device(dir, name, Device::Block(major, minor))? {
                    return Ok(());
                }
            }
            // The reader tells of none.
            EntryKind::Whiteout => return Ok(()),
        }
        self.copied.entries += 1;
        self.apply(dir, name, &meta)?;
        if !is_directory {
            dir.set_times(name, modified)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        is_there: bool,
        size: u64,
        reader: &mut Stream<'_>,
    ) -> Result<(), FilesError> {
        let shown = dir.path().join(name);
        let opened: File = if is_there {
            let opened = dir.open_file_to_change(name)?;
            file::set_size(&opened, &shown, 0)?;
            opened
        } else {
            dir.create_file(name, 0o600)?
        };
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let piece = self.buffer.get_mut(..want).unwrap_or_default();
            let count = reader.read(piece).map_err(FilesError::step("read the tar"))?;
            if count == 0 {
                let offset = size - left;
                return Err(corten_oci::tar::TarError::Truncated { offset }.into());
            }
            file::write_all(&opened, &shown, piece.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Gives a file that came before another name.
    fn link(&self, dir: &Dir, name: &OsStr, target: &[u8]) -> Result<(), FilesError> {
        let target = self.renamed(target)?;
        let above = target.parent().unwrap_or(TreePath::root());
        let from = self.to.open(&above)?;
        Ok(dir.hard_link(&from, OsStr::from_bytes(target.name()), name)?)
    }

    /// Makes a device node; false where that is not allowed.
    fn device(&mut self, dir: &Dir, name: &OsStr, device: Device) -> Result<bool, FilesError> {
        match dir.create_device(name, device, 0o600) {
            Err(error) if error.errno() == Some(libc::EPERM) => {
                self.copied.skipped_devices += 1;
                Ok(false)
            }
            created => Ok(created.map(|()| true)?),
        }
    }

    /// Gives an entry owner, mode and attributes, in the order in which the kernel keeps them.
    fn apply(&mut self, dir: &Dir, name: &OsStr, meta: &Meta) -> Result<(), FilesError> {
        let owner = match self.to.owners {
            Owners::Kept => Some((meta.uid, meta.gid)),
            Owners::Callers => None,
        };
        if let Some((uid, gid)) = owner {
            match dir.set_owner(name, uid, gid) {
                Err(error) if error.is_invalid() => {
                    self.copied.squashed_owners += 1;
                    dir.set_owner(name, 0, 0)?;
                }
                changed => changed?,
            }
        }
        if dir.stat(name)?.kind == FileKind::Symlink {
            return Ok(());
        }
        // A file that becomes the caller's must not lend the caller's rights to whoever executes it.
        let mode = if owner.is_some() { meta.mode } else { meta.mode & 0o1777 };
        dir.set_mode(name, mode)?;
        let kept = |key: &[u8]| is_kept(key) && (owner.is_some() || key.starts_with(b"user."));
        for (key, value) in meta.xattrs.iter().filter(|(key, _)| kept(key)) {
            match dir.set_xattr(name, key, value) {
                // Not every file system has them, and not everybody may give a program capabilities.
                Err(error) if is_refused(&error) => {}
                set => set?,
            }
        }
        Ok(())
    }

    fn set_times(&self) -> Result<(), FilesError> {
        for (path, modified) in self.times.iter().rev() {
            let dir = self.to.open(path)?;
            corten_sys::beneath::set_times(&dir, dir.path(), *modified)?;
        }
        Ok(())
    }
}

/// Removes what is in the way. True if what is there is to be used: a directory for a directory, and
/// a file that cannot be removed since something is mounted on it.
fn make_way(
    dir: &Dir,
    name: &OsStr,
    path: &TreePath,
    kind: &EntryKind,
) -> Result<bool, FilesError> {
    let Some(existing) = file::absent_is_none(dir.stat(name))? else { return Ok(false) };
    let is_directory = matches!(kind, EntryKind::Directory { .. });
    match (existing.kind == FileKind::Directory, is_directory) {
        (true, true) => return Ok(true),
        (true, false) => return Err(FilesError::OverDirectory { path: path.to_string() }),
        (false, true) => return Err(FilesError::OverFile { path: path.to_string() }),
        (false, false) => {}
    }
    match dir.remove_file(name) {
        Err(error)
            if error.errno() == Some(libc::EBUSY)
                && existing.kind == FileKind::File
                && matches!(kind, EntryKind::File { .. }) =>
        {
            Ok(true)
        }
        removed => Ok(removed.map(|()| false)?),
    }
}

fn is_refused(error: &IoError) -> bool {
    matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EPERM))
}

/// What is at the end of a path, links followed, and where.
#[derive(Debug)]
pub(super) struct Destination {
    /// The directory itself, or the one that holds the name.
    pub(super) dir: Dir,
    /// The name in that directory.
    pub(super) name: Vec<u8>,
    pub(super) found: Found,
}

impl Destination {
    /// Finds a destination, which need not be there; the directory that it is in must.
    pub(super) fn find(root: &Root, path: &CopyPath) -> Result<Self, FilesError> {
        Self::follow(root, path, 0)
    }

    fn follow(root: &Root, path: &CopyPath, depth: u32) -> Result<Self, FilesError> {
        let whole = path.whole();
        let shown = Path::new(OsStr::from_bytes(&whole));
        if depth > limits::SYMLINK_DEPTH_MAX {
            return Err(FilesError::Links { path: shown.display().to_string() });
        }
        match root.open_dir(shown, Resolve::InRoot) {
            Ok(dir) => {
                let name = path.name().to_vec();
                return Ok(Self { dir, name, found: Found::Directory });
            }
            Err(error) if error.is_not_found() || error.is_not_a_directory() => {}
            Err(error) => return Err(error.into()),
        }
        let missing = || {
            let source = std::io::Error::from_raw_os_error(libc::ENOENT);
            FilesError::from(IoError::new("open", shown, source))
        };
        let split = path.split().filter(|_| !path.ends_above());
        let (above, last) = split.ok_or_else(missing)?;
        let dir = root.open_dir(Path::new(OsStr::from_bytes(&above)), Resolve::InRoot)?;
        let name = OsStr::from_bytes(last);
        let found = match file::absent_is_none(dir.stat(name))?.map(|stat| stat.kind) {
            None => Found::Nothing,
            Some(FileKind::Symlink) => {
                return Self::follow(root, &path.linked(&dir.read_link(name)?), depth + 1);
            }
            Some(FileKind::File) => Found::Other,
            Some(FileKind::Directory) => Found::Directory,
            Some(_) => return Err(FilesError::Irregular { path: shown.display().to_string() }),
        };
        Ok(Self { dir, name: last.to_vec(), found })
    }
}
