//! The walk over a layer's directory, which sealing, hashing and writing share.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use corten_oci::limits;
use corten_oci::tar::{EntryKind, TarError, Writer};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{self, Dir, FileKind, Resolve, Root, Stat};
use corten_sys::clock::Timestamp;
use corten_sys::fs::Fs;

use crate::error::StoreError;

/// Files pass through memory in pieces of this size; smaller files take one read.
const BUFFER_BYTES: usize = 256 * 1024;

/// Extended attributes by name.
type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// How overlayfs spells its marks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    prefix: &'static [u8],
}

impl Marks {
    pub(crate) fn new(in_user_namespace: bool) -> Self {
        Self { prefix: if in_user_namespace { b"user.overlay." } else { b"trusted.overlay." } }
    }

    /// Returns the attribute that makes a directory opaque.
    pub(crate) fn opaque(self) -> Vec<u8> {
        [self.prefix, b"opaque"].concat()
    }

    /// Returns true for a directory that hides the layers below.
    pub(crate) fn is_opaque(self, dir: &Dir) -> Result<bool, StoreError> {
        let opaque = self.opaque();
        let value = beneath::xattr(dir, dir.path(), &opaque)?;
        Ok(value.as_deref() == Some(b"y"))
    }

    /// Returns what overlayfs means by an attribute, if it is one of its own.
    fn feature(self, name: &[u8]) -> Option<&[u8]> {
        name.strip_prefix(self.prefix)
    }
}

/// Returns true for the attributes that belong to a layer: capabilities, and those of users except
/// the ones that overlayfs would take for its own.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// What sealing changes on the way.
#[derive(Clone, Copy)]
pub(crate) struct Fix<'a> {
    pub(crate) fs: &'a dyn Fs,
    /// No time may be later.
    pub(crate) epoch: Option<i64>,
}

impl Fix<'_> {
    /// Returns the time that a file gets: whole seconds, and not after the epoch.
    fn time(&self, modified: Timestamp) -> Timestamp {
        let seconds = self.epoch.map_or(modified.seconds, |epoch| modified.seconds.min(epoch));
        Timestamp::from_seconds(seconds)
    }
}

/// One entry of a layer.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) path: Vec<u8>,
    pub(crate) stat: Stat,
    /// For directories; those of files are read when the file is open.
    xattrs: Xattrs,
    opaque: bool,
    target: Vec<u8>,
}

impl Item {
    fn meta(&self) -> Meta {
        Meta {
            mode: self.stat.mode,
            uid: self.stat.uid,
            gid: self.stat.gid,
            mtime: self.stat.modified.seconds,
            xattrs: self.xattrs.clone(),
        }
    }
}

/// What a walk found, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    pub(crate) files: u64,
    pub(crate) content_bytes: u64,
}

/// Lists a layer in the order of the paths' bytes, and fixes what sealing fixes.
pub(crate) fn list(
    root: &Root,
    marks: Marks,
    fix: Option<Fix<'_>>,
) -> Result<Vec<Item>, StoreError> {
    let mut walker = Walker { marks, fix, items: Vec::new(), buffer: Vec::new() };
    let opaque = walker.directory(root.dir(), &mut Vec::new(), 0)?;
    if opaque.opaque {
        // The root of a layer hides everything below it: kept as an item without a path.
        walker.items.push(opaque);
    }
    let mut items = walker.items;
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(items)
}

struct Walker<'a> {
    marks: Marks,
    fix: Option<Fix<'a>>,
    items: Vec<Item>,
    buffer: Vec<u8>,
}

impl Walker<'_> {
    /// Lists what is in a directory and returns the item for the directory itself.
    fn directory(
        &mut self,
        dir: &Dir,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<Item, StoreError> {
        if depth > limits::DIRECTORY_DEPTH_MAX {
            return Err(StoreError::LayerLimit { what: "the depth of directories" });
        }
        let mut stat = dir.stat_self()?;
        let (xattrs, opaque) = self.directory_xattrs(dir, path)?;
        let length = path.len();
        for entry in dir.list()? {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(entry.name.as_bytes());
            self.entry(dir, &entry.name, path, depth)?;
            path.truncate(length);
        }
        if let Some(fix) = self.fix {
            let time = fix.time(stat.modified);
            // Removing a socket changes the time too, so it is set in any case that may need it.
            if time != dir.stat_self()?.modified {
                fix.fs.before("change the times of", dir.path())?;
                beneath::set_times(dir, dir.path(), time)?;
            }
            stat.modified = time;
        }
        Ok(Item { path: path.clone(), stat, xattrs, opaque, target: Vec::new() })
    }

    fn entry(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), StoreError> {
        let mut stat = dir.stat(name)?;
        if stat.kind == FileKind::Directory {
            let item = self.directory(&dir.open_dir(name)?, path, depth + 1)?;
            self.items.push(item);
            return Ok(());
        }
        if stat.kind == FileKind::Socket {
            // A socket means nothing once its process is gone, and tar has no word for it.
            if let Some(fix) = self.fix {
                fix.fs.before("remove", dir.path())?;
                dir.remove_file(name)?;
            }
            return Ok(());
        }
        if let Some(fix) = self.fix {
            let time = fix.time(stat.modified);
            if time != stat.modified {
                fix.fs.before("change the times of", dir.path())?;
                dir.set_times(name, time)?;
            }
            stat.modified = time;
        }
        let target = match stat.kind {
            FileKind::Symlink => dir.read_link(name)?,
            _ => Vec::new(),
        };
        let path = path.clone();
        self.items.push(Item { path, stat, xattrs: BTreeMap::new(), opaque: false, target });
        Ok(())
    }

    fn directory_xattrs(&mut self, dir: &Dir, path: &[u8]) -> Result<(Xattrs, bool), StoreError> {
        let (marks, mut opaque, mut leftovers) = (self.marks, false, Vec::new());
        let found = beneath::xattrs(dir, dir.path(), &mut self.buffer, &mut |name| match marks
            .feature(name)
        {
            Some(b"opaque") => true,
            Some(_) => {
                leftovers.push(name.to_vec());
                false
            }
            None => is_kept(name),
        })?;
        let mut xattrs = BTreeMap::new();
        for (name, value) in found {
            if marks.feature(&name).is_none() {
                xattrs.insert(name, value);
            } else if value == b"y" {
                opaque = true;
            } else {
                // `x` only says that whiteouts may be attributes, which no mount of ours makes.
                leftovers.push(name);
            }
        }
        strip(marks, self.fix, dir, path, &leftovers)?;
        Ok((xattrs, opaque))
    }
}

/// Removes the marks that overlayfs leaves and refuses those that stand for missing content.
fn strip(
    marks: Marks,
    fix: Option<Fix<'_>>,
    file: impl std::os::fd::AsFd,
    path: &[u8],
    leftovers: &[Vec<u8>],
) -> Result<(), StoreError> {
    for name in leftovers {
        let feature = marks.feature(name).unwrap_or_default();
        if matches!(feature, b"redirect" | b"metacopy" | b"whiteout") {
            return Err(StoreError::OverlayFeature {
                path: TreePath::new(path)?,
                feature: String::from_utf8_lossy(feature).into_owned(),
            });
        }
        if let Some(fix) = fix {
            let shown = Path::new(OsStr::from_bytes(path));
            fix.fs.before("remove an attribute of", shown)?;
            beneath::remove_xattr(&file, shown, name)?;
        }
    }
    Ok(())
}

/// Writes the canonical tar of listed items.
pub(crate) fn write_tar(
    root: &Root,
    items: &[Item],
    marks: Marks,
    fix: Option<Fix<'_>>,
    out: &mut dyn Write,
) -> Result<(Totals, u64), StoreError> {
    let mut state = Emitter {
        root,
        marks,
        fix,
        writer: Writer::new(out),
        links: BTreeMap::new(),
        buffer: vec![0; BUFFER_BYTES],
        xattr_buffer: Vec::new(),
        totals: Totals::default(),
    };
    for item in items {
        state.item(item)?;
    }
    let (_, bytes) = state.writer.finish()?;
    Ok((state.totals, bytes))
}

struct Emitter<'a> {
    root: &'a Root,
    marks: Marks,
    fix: Option<Fix<'a>>,
    writer: Writer<&'a mut dyn Write>,
    /// The first name of each file that has several.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    xattr_buffer: Vec<u8>,
    totals: Totals,
}

impl Emitter<'_> {
    fn item(&mut self, item: &Item) -> Result<(), StoreError> {
        self.totals.entries += 1;
        let path = TreePath::new(&item.path)?;
        let (major, minor) = item.stat.represents;
        let kind = match item.stat.kind {
            FileKind::File => return self.file(item, &path),
            FileKind::Directory => EntryKind::Directory { opaque: item.opaque },
            FileKind::Symlink => EntryKind::Symlink(item.target.clone()),
            FileKind::CharDevice if (major, minor) == (0, 0) => EntryKind::Whiteout,
            FileKind::CharDevice => EntryKind::CharDevice { major, minor },
            FileKind::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileKind::Fifo => EntryKind::Fifo,
            // The walk leaves sockets out.
            FileKind::Socket => return Ok(()),
        };
        Ok(self.writer.entry(&path, &item.meta(), &kind)?)
    }

    fn file(&mut self, item: &Item, path: &TreePath) -> Result<(), StoreError> {
        let shown = Path::new(OsStr::from_bytes(&item.path));
        let mut file = self.root.open_file(shown, Resolve::NoLinks)?;
        let mut meta = item.meta();
        meta.xattrs = self.file_xattrs(&file, &item.path)?;
        if item.stat.links > 1 {
            let identity = (item.stat.device, item.stat.inode);
            if let Some(first) = self.links.get(&identity) {
                let kind = EntryKind::Hardlink(first.clone());
                return Ok(self.writer.entry(path, &meta, &kind)?);
            }
            self.links.insert(identity, item.path.clone());
        }
        self.totals.files += 1;
        self.totals.content_bytes += item.stat.size_bytes;
        let size = item.stat.size_bytes;
        self.writer.entry(path, &meta, &EntryKind::File { size })?;
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match file.read(self.buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) => return Err(TarError::ContentSize { path: path.clone() }.into()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(corten_sys::error::IoError::new("read", shown, source).into());
                }
            };
            self.writer.content(self.buffer.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
        Ok(())
    }

    fn file_xattrs(&mut self, file: &std::fs::File, path: &[u8]) -> Result<Xattrs, StoreError> {
        let (marks, mut leftovers) = (self.marks, Vec::new());
        let shown = Path::new(OsStr::from_bytes(path));
        let found = beneath::xattrs(file, shown, &mut self.xattr_buffer, &mut |name| {
            if marks.feature(name).is_some() {
                leftovers.push(name.to_vec());
            }
            is_kept(name)
        })?;
        strip(marks, self.fix, file, path, &leftovers)?;
        Ok(found.into_iter().collect())
    }
}
