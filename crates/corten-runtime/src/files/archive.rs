//! A file or a directory as a tar, read from a tree that others may change meanwhile.
//!
//! The tree is walked by open directories, and no link in it is followed. What vanishes between being
//! listed and being read is left out, as if it had gone before.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use corten_oci::limits;
use corten_oci::tar::{EntryKind, Writer};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{self, Dir, FileKind, Resolve, Root, Stat};
use corten_sys::error::IoError;

use super::error::FilesError;
use super::place::{CopyPath, End};

/// What goes to the stream at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file or a directory to be copied.
#[derive(Debug)]
pub(super) struct Source {
    /// The directory that it is in, or itself if it is a directory.
    dir: Dir,
    /// Its name in that directory; `None` for a directory, which is open itself.
    file: Option<Vec<u8>>,
    /// What it is called where it is copied into a directory; `.` for what is in one.
    pub(super) name: Vec<u8>,
}

impl Source {
    /// Finds what a path names. A link at its end is followed only if that is asked for, or if a slash
    /// follows it.
    pub(super) fn find(
        root: &Root,
        path: &CopyPath,
        follow: bool,
        whose: &'static str,
    ) -> Result<Self, FilesError> {
        Self::open(root, path, follow).map_err(|error| match error {
            FilesError::Io(error) if error.is_not_found() => {
                let path = String::from_utf8_lossy(&path.whole()).into_owned();
                FilesError::Missing { path: format!("/{path}"), whose }
            }
            other => other,
        })
    }

    fn open(root: &Root, path: &CopyPath, follow: bool) -> Result<Self, FilesError> {
        let name = path.name().to_vec();
        let whole = path.whole();
        let shown = Path::new(OsStr::from_bytes(&whole));
        let split = path.split().filter(|_| path.end == End::Plain);
        let Some((above, last)) = split else {
            return Ok(Self { dir: root.open_dir(shown, Resolve::InRoot)?, file: None, name });
        };
        let above = root.open_dir(Path::new(OsStr::from_bytes(&above)), Resolve::InRoot)?;
        let last_name = OsStr::from_bytes(last);
        let stat = above.stat(last_name)?;
        match stat.kind {
            FileKind::Directory => Ok(Self { dir: above.open_dir(last_name)?, file: None, name }),
            FileKind::Symlink if follow => Self::followed(root, path, name, 0),
            _ => Ok(Self { dir: above, file: Some(last.to_vec()), name }),
        }
    }

    /// What the link at a path leads to, under the link's name.
    fn followed(
        root: &Root,
        path: &CopyPath,
        name: Vec<u8>,
        depth: u32,
    ) -> Result<Self, FilesError> {
        let whole = path.whole();
        let shown = Path::new(OsStr::from_bytes(&whole));
        if depth > limits::SYMLINK_DEPTH_MAX {
            return Err(FilesError::Links { path: shown.display().to_string() });
        }
        let split = path.split().filter(|_| !path.ends_above());
        let Some((above, last)) = split else {
            return Ok(Self { dir: root.open_dir(shown, Resolve::InRoot)?, file: None, name });
        };
        let dir = root.open_dir(Path::new(OsStr::from_bytes(&above)), Resolve::InRoot)?;
        let last_name = OsStr::from_bytes(last);
        match dir.stat(last_name)?.kind {
            FileKind::Directory => Ok(Self { dir: dir.open_dir(last_name)?, file: None, name }),
            FileKind::Symlink => {
                Self::followed(root, &path.linked(&dir.read_link(last_name)?), name, depth + 1)
            }
            _ => Ok(Self { dir, file: Some(last.to_vec()), name }),
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.file.is_none()
    }

    /// Writes the tar with the source under a name; without one, what is in a directory is at the top.
    pub(super) fn write(self, top: &[u8], out: &mut dyn Write) -> Result<(), FilesError> {
        let mut items = Vec::new();
        match &self.file {
            Some(file) => {
                let stat = self.dir.stat(OsStr::from_bytes(file))?;
                items.push(Item { inside: file.clone(), path: top.to_vec(), stat });
            }
            None => walk(&self.dir, &[], top, 0, &mut items)?,
        }
        items.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let mut emitter = Emitter {
            root: Root::of(self.dir),
            writer: Writer::new(BufWriter::with_capacity(BUFFER_BYTES, out)),
            buffer: vec![0; BUFFER_BYTES],
            first_names: BTreeMap::new(),
        };
        for item in &items {
            emitter.item(item)?;
        }
        emitter.writer.finish()?;
        Ok(())
    }
}

/// Something to be written.
struct Item {
    /// Where it is, beneath the open directory.
    inside: Vec<u8>,
    /// What it is called in the tar.
    path: Vec<u8>,
    stat: Stat,
}

fn joined(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

/// Lists a directory and all below it.
fn walk(
    dir: &Dir,
    inside: &[u8],
    path: &[u8],
    depth: usize,
    items: &mut Vec<Item>,
) -> Result<(), FilesError> {
    if depth > limits::DIRECTORY_DEPTH_MAX {
        return Err(FilesError::Depth { path: dir.path().display().to_string() });
    }
    items.push(Item { inside: inside.to_vec(), path: path.to_vec(), stat: dir.stat_self()? });
    for entry in dir.list()? {
        let Some(stat) = present(dir.stat(&entry.name))? else { continue };
        let name = entry.name.as_bytes();
        let (below, called) = (joined(inside, name), joined(path, name));
        match stat.kind {
            FileKind::Directory => {
                let Some(dir) = present(dir.open_dir(&entry.name))? else { continue };
                walk(&dir, &below, &called, depth + 1, items)?;
            }
            // It means nothing without its process, and tar has no word for it.
            FileKind::Socket => {}
            _ => items.push(Item { inside: below, path: called, stat }),
        }
    }
    Ok(())
}

/// What has vanished, or has become something else, is absent.
fn present<T>(result: Result<T, IoError>) -> Result<Option<T>, IoError> {
    match result {
        Err(error) if error.is_not_found() || error.is_not_a_directory() => Ok(None),
        Err(error) if error.errno() == Some(libc::ELOOP) => Ok(None),
        result => result.map(Some),
    }
}

struct Emitter<'a> {
    root: Root,
    writer: Writer<BufWriter<&'a mut dyn Write>>,
    buffer: Vec<u8>,
    /// Of files with several names, the first one that was written.
    first_names: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Emitter<'_> {
    fn item(&mut self, item: &Item) -> Result<(), FilesError> {
        let path = TreePath::new(&item.path)?;
        let inside = Path::new(OsStr::from_bytes(&item.inside));
        let (major, minor) = item.stat.represents;
        let kind = match item.stat.kind {
            FileKind::File => return self.file(item, &path, inside),
            FileKind::Socket => return Ok(()),
            FileKind::Directory => EntryKind::Directory { opaque: false },
            FileKind::Symlink => {
                let Some((dir, name)) = present(self.root.parent(inside, Resolve::NoLinks))? else {
                    return Ok(());
                };
                match present(dir.read_link(name))? {
                    Some(target) => EntryKind::Symlink(target),
                    None => return Ok(()),
                }
            }
            FileKind::CharDevice => EntryKind::CharDevice { major, minor },
            FileKind::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileKind::Fifo => EntryKind::Fifo,
        };
        let mut meta = meta(&item.stat);
        if item.stat.kind == FileKind::Directory
            && let Some(dir) = present(self.root.open_dir(inside, Resolve::NoLinks))?
        {
            meta.xattrs = attributes(&dir, inside)?;
        }
        Ok(self.writer.entry(&path, &meta, &kind)?)
    }

    fn file(&mut self, item: &Item, path: &TreePath, inside: &Path) -> Result<(), FilesError> {
        let Some(file) = present(self.root.open_file(inside, Resolve::NoLinks))? else {
            return Ok(());
        };
        // What was opened is what counts: it may be another one by now.
        let stat = beneath::stat_file(&file, inside)?;
        if stat.kind != FileKind::File {
            return Ok(());
        }
        let mut meta = meta(&stat);
        if stat.links > 1 {
            let identity = (stat.device, stat.inode);
            if let Some(first) = self.first_names.get(&identity) {
                let kind = EntryKind::Hardlink(first.clone());
                return Ok(self.writer.entry(path, &meta, &kind)?);
            }
            self.first_names.insert(identity, item.path.clone());
        }
        meta.xattrs = attributes(&file, inside)?;
        self.writer.entry(path, &meta, &EntryKind::File { size: stat.size_bytes })?;
        self.content(&file, inside, stat.size_bytes)
    }

    fn content(&mut self, mut file: &File, path: &Path, size: u64) -> Result<(), FilesError> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let piece = self.buffer.get_mut(..want).unwrap_or_default();
            let count = file.read(piece).map_err(|source| IoError::new("read", path, source))?;
            if count == 0 {
                // It is shorter by now. The tar's own error says so.
                break;
            }
            self.writer.content(piece.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
        Ok(())
    }
}

fn meta(stat: &Stat) -> Meta {
    let Stat { mode, uid, gid, modified, .. } = *stat;
    Meta { mode, uid, gid, mtime: modified.seconds, xattrs: BTreeMap::new() }
}

/// Attributes of users and the capabilities of programs; none of those that overlayfs keeps.
fn attributes(
    file: impl std::os::fd::AsFd,
    path: &Path,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, IoError> {
    Ok(beneath::xattrs(file, path, &mut |name| is_kept(name))?.into_iter().collect())
}

/// Returns true for the extended attributes that are copied.
pub(super) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}
