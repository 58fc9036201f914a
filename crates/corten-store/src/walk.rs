//! The walk over a layer's directory, which sealing, hashing and writing share.
//!
//! What a walk finds is a list of items in the order of the tar; `emit` makes the tar of it. A large
//! directory is walked by several threads.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use corten_oci::limits;
use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{self, Dir, FileKind, Root, Stat};
use corten_sys::clock::Timestamp;
use corten_sys::fs::Fs;
use rayon::prelude::*;

use crate::error::StoreError;

/// From so many directories in one on, they are walked by several threads: below it, waking them
/// costs more than it saves.
const PARALLEL_DIRECTORIES_MIN: usize = 8;

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

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

    /// Returns the attribute of a directory that has changes of one in a cache. Overlayfs shows it to
    /// nobody, and gives no meaning to it.
    pub(crate) fn changes(self) -> Vec<u8> {
        [self.prefix, b"corten"].concat()
    }

    /// Returns true for a directory that has changes of one in a cache.
    pub(crate) fn has_changes(self, dir: &Dir) -> Result<bool, StoreError> {
        Ok(beneath::xattr(dir, dir.path(), &self.changes())?.is_some())
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
#[derive(Debug, Clone, Copy)]
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
    pub(crate) xattrs: Xattrs,
    pub(crate) opaque: bool,
    /// Where a symbolic link points.
    pub(crate) target: Vec<u8>,
    /// For a file with several names, the first of them, unless this is the first.
    pub(crate) link: Option<Vec<u8>>,
}

impl Item {
    fn new(path: &[u8], stat: Stat) -> Self {
        let (xattrs, target) = (Xattrs::new(), Vec::new());
        Self { path: path.to_vec(), stat, xattrs, opaque: false, target, link: None }
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta {
            mode: self.stat.mode,
            uid: self.stat.uid,
            gid: self.stat.gid,
            mtime: self.stat.modified.seconds,
            xattrs: self.xattrs.clone(),
        }
    }
}

/// Lists a layer in the order of the paths' bytes, and fixes what sealing fixes.
pub(crate) fn list(
    root: &Root,
    marks: Marks,
    fix: Option<Fix<'_>>,
) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    let top = Walker { marks, fix }.directory(root.dir(), &[], 0, &mut items)?;
    if top.opaque {
        // The root of a layer hides everything below it: kept as an item without a path.
        items.push(top);
    }
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut first_names: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for item in &mut items {
        if item.stat.kind == FileKind::File && item.stat.links > 1 {
            let identity = (item.stat.device, item.stat.inode);
            match first_names.get(&identity) {
                Some(first) => item.link = Some(first.clone()),
                None => {
                    first_names.insert(identity, item.path.clone());
                }
            }
        }
    }
    Ok(items)
}

#[derive(Debug, Clone, Copy)]
struct Walker<'a> {
    marks: Marks,
    fix: Option<Fix<'a>>,
}

impl Walker<'_> {
    /// Lists what is in a directory and returns the item for the directory itself.
    fn directory(
        self,
        dir: &Dir,
        path: &[u8],
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<Item, StoreError> {
        if depth > limits::DIRECTORY_DEPTH_MAX {
            return Err(StoreError::LayerLimit { what: "the depth of directories" });
        }
        let mut item = Item::new(path, dir.stat_self()?);
        (item.xattrs, item.opaque) = self.directory_xattrs(dir, path)?;
        let mut below = Vec::new();
        for entry in dir.list()? {
            let path = join(path, &entry.name);
            if self.entry(dir, &entry.name, &path, items)? {
                below.push((entry.name, path));
            }
        }
        self.directories(dir, &below, depth + 1, items)?;
        if let Some(fix) = self.fix {
            let time = fix.time(item.stat.modified);
            // Removing a socket changes the time too, so it is looked at again.
            if time != dir.stat_self()?.modified {
                fix.fs.before("change the times of", dir.path())?;
                beneath::set_times(dir, dir.path(), time)?;
            }
            item.stat.modified = time;
        }
        Ok(item)
    }

    fn directories(
        self,
        dir: &Dir,
        below: &[(OsString, Vec<u8>)],
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<(), StoreError> {
        let walk = |(name, path): &(OsString, Vec<u8>), items: &mut Vec<Item>| {
            let item = self.directory(&dir.open_dir(name)?, path, depth, items)?;
            items.push(item);
            Ok(())
        };
        if below.len() < PARALLEL_DIRECTORIES_MIN {
            return below.iter().try_for_each(|directory| walk(directory, items));
        }
        let walked: Result<Vec<Vec<Item>>, StoreError> = below
            .par_iter()
            .map(|directory| {
                let mut items = Vec::new();
                walk(directory, &mut items)?;
                Ok(items)
            })
            .collect();
        items.extend(walked?.into_iter().flatten());
        Ok(())
    }

    /// Lists what is no directory; true for a directory.
    fn entry(
        self,
        dir: &Dir,
        name: &OsStr,
        path: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<bool, StoreError> {
        let mut stat = dir.stat(name)?;
        if stat.kind == FileKind::Directory {
            return Ok(true);
        }
        if stat.kind == FileKind::Socket {
            // A socket means nothing once its process is gone, and tar has no word for it.
            if let Some(fix) = self.fix {
                fix.fs.before("remove", dir.path())?;
                dir.remove_file(name)?;
            }
            return Ok(false);
        }
        if let Some(fix) = self.fix {
            let time = fix.time(stat.modified);
            if time != stat.modified {
                fix.fs.before("change the times of", dir.path())?;
                dir.set_times(name, time)?;
            }
            stat.modified = time;
        }
        let mut item = Item::new(path, stat);
        if stat.kind == FileKind::Symlink {
            item.target = dir.read_link(name)?;
        }
        items.push(item);
        Ok(false)
    }

    fn directory_xattrs(self, dir: &Dir, path: &[u8]) -> Result<(Xattrs, bool), StoreError> {
        let (mut opaque, mut leftovers) = (false, Vec::new());
        let found = beneath::xattrs(dir, dir.path(), &mut |name| match self.marks.feature(name) {
            Some(b"opaque") => true,
            Some(_) => {
                leftovers.push(name.to_vec());
                false
            }
            None => is_kept(name),
        })?;
        let mut xattrs = Xattrs::new();
        for (name, value) in found {
            if self.marks.feature(&name).is_none() {
                xattrs.insert(name, value);
            } else if value == b"y" {
                opaque = true;
            } else {
                // `x` only says that whiteouts may be attributes, which no mount of ours makes.
                leftovers.push(name);
            }
        }
        strip(self.marks, self.fix, dir, path, &leftovers)?;
        Ok((xattrs, opaque))
    }
}

fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, separator, name.as_bytes()].concat()
}

/// Returns the attributes of a file that belong to its layer, and strips those of overlayfs.
pub(crate) fn file_xattrs(
    file: &std::fs::File,
    path: &[u8],
    marks: Marks,
    fix: Option<Fix<'_>>,
) -> Result<Xattrs, StoreError> {
    let mut leftovers = Vec::new();
    let shown = Path::new(OsStr::from_bytes(path));
    let found = beneath::xattrs(file, shown, &mut |name| {
        if marks.feature(name).is_some() {
            leftovers.push(name.to_vec());
        }
        is_kept(name)
    })?;
    strip(marks, fix, file, path, &leftovers)?;
    Ok(found.into_iter().collect())
}

/// Removes the marks that overlayfs leaves and refuses those that stand for missing content.
fn strip(
    marks: Marks,
    fix: Option<Fix<'_>>,
    file: impl AsFd,
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
