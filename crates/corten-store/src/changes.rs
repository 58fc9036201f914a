//! What a container has changed of its image's files: listed, and taken as a layer.
//!
//! The container's directory is read while it may be running; what vanishes meanwhile is left out. Empty
//! mount points that the runtime has made for what every container has are no changes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use corten_oci::limits;
use corten_sys::beneath::{self, Device, Dir, FileKind, Resolve, Root, Stat};
use corten_sys::error::IoError;
use corten_sys::file;

use crate::error::StoreError;
use crate::images::Image;
use crate::merged::Merged;
use crate::snapshot::{Links, Resolved, Snapshot};
use crate::staging::Staging;
use crate::store::{Inner, Store};
use crate::walk::{Marks, is_kept};

/// Where the runtime mounts something in every container; what it had to make for that is empty.
const MOUNT_POINTS: [&[u8]; 6] =
    [b"dev", b"proc", b"sys", b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"];

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Added,
    Changed,
    Deleted,
}

impl ChangeKind {
    /// Docker's letter for it.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// One file that is not as in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// Where it is, without a slash at either end.
    pub path: Vec<u8>,
}

impl Store {
    /// Lists what a container has changed: directories before what is in them, names in the order of
    /// their bytes.
    pub fn container_changes(&self, id: &str, image: &Image) -> Result<Vec<Change>, StoreError> {
        self.run(|inner| {
            let walk = Comparison {
                snapshot: Snapshot::new(&image.layers)?,
                marks: Marks::new(inner.in_user_namespace),
            };
            let mut changes = Vec::new();
            let upper = Dir::open(&upper(inner, id)?)?;
            walk.directory(&upper, &[], Below::Shown, 0, &mut changes)?;
            Ok(changes)
        })
    }

    /// Copies what a container has changed to where it can become a layer; `None` if that is nothing.
    pub fn stage_container(&self, id: &str, image: &Image) -> Result<Option<Staging>, StoreError> {
        self.run(|inner| {
            let staging = crate::staging::stage(inner)?;
            let upper = Dir::open(&upper(inner, id)?)?;
            let mut copy = Copy {
                inner,
                snapshot: Snapshot::new(&image.layers)?,
                marks: Marks::new(inner.in_user_namespace),
                root: Root::open(staging.tree())?,
                first_names: BTreeMap::new(),
                entries: 0,
            };
            let to = Dir::open(staging.tree())?;
            copy.directory(&upper, &to, &[], 0)?;
            Ok(if copy.entries == 0 { None } else { Some(staging) })
        })
    }

    /// All files of a container as one tree. Nothing may change them meanwhile, else what is read of it
    /// fails.
    pub fn container_tree(&self, id: &str, image: &Image) -> Result<Merged, StoreError> {
        self.run(|inner| {
            let mut merged = Merged::new(&image.layers)?;
            merged.put_over(&upper(inner, id)?, Marks::new(inner.in_user_namespace))?;
            Ok(merged)
        })
    }
}

fn upper(inner: &Inner, id: &str) -> Result<std::path::PathBuf, StoreError> {
    crate::containers::check_name(id)?;
    Ok(inner.layout.folder("containers").join(id).join("upper"))
}

fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == FileKind::CharDevice && stat.represents == (0, 0)
}

fn joined(above: &[u8], name: &OsStr) -> Vec<u8> {
    let separator: &[u8] = if above.is_empty() { b"" } else { b"/" };
    [above, separator, name.as_bytes()].concat()
}

/// `ELOOP`: what was a file is a link by now.
const TOO_MANY_LINKS: i32 = 40;

/// What has vanished is absent.
fn present<T>(result: Result<T, IoError>) -> Result<Option<T>, IoError> {
    match result {
        Err(error) if error.is_not_found() || error.is_not_a_directory() => Ok(None),
        Err(error) if error.errno() == Some(TOO_MANY_LINKS) => Ok(None),
        result => result.map(Some),
    }
}

/// Returns true for an empty mount point that the image does not have, and for a directory that has
/// nothing else in it.
fn is_made_by_us(
    snapshot: &Snapshot,
    dir: &Dir,
    name: &OsStr,
    path: &[u8],
    stat: &Stat,
) -> Result<bool, StoreError> {
    let inside = [path, b"/"].concat();
    let holds_some = MOUNT_POINTS.iter().any(|point| point.starts_with(&inside));
    if !(MOUNT_POINTS.contains(&path) || holds_some)
        || snapshot.resolve(path, Links::Keep)?.is_some()
    {
        return Ok(false);
    }
    match stat.kind {
        FileKind::File => Ok(stat.size_bytes == 0 && !holds_some),
        FileKind::Directory => {
            let Some(dir) = present(dir.open_dir(name))? else { return Ok(true) };
            for entry in dir.list()? {
                let Some(stat) = present(dir.stat(&entry.name))? else { continue };
                let path = joined(path, &entry.name);
                if !is_made_by_us(snapshot, &dir, &entry.name, &path, &stat)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn check_depth(depth: usize) -> Result<(), StoreError> {
    if depth > limits::DIRECTORY_DEPTH_MAX {
        return Err(StoreError::LayerLimit { what: "the depth of directories" });
    }
    Ok(())
}

/// The container's directory beside the image.
struct Comparison {
    snapshot: Snapshot,
    marks: Marks,
}

/// What of the image is at the place of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    /// A directory that shows through it.
    Shown,
    /// A directory that does not.
    Hidden,
    Nothing,
}

/// One entry of a container's directory.
struct Entry<'a> {
    dir: &'a Dir,
    name: &'a OsStr,
    path: Vec<u8>,
    stat: Stat,
    depth: usize,
}

impl Comparison {
    fn directory(
        &self,
        dir: &Dir,
        path: &[u8],
        below: Below,
        depth: usize,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        check_depth(depth)?;
        let mut names: BTreeMap<Vec<u8>, Option<Stat>> = BTreeMap::new();
        for entry in dir.list()? {
            if let Some(stat) = present(dir.stat(&entry.name))? {
                names.insert(entry.name.as_bytes().to_vec(), Some(stat));
            }
        }
        if below == Below::Hidden {
            for old in self.snapshot.list_dir(path)?.unwrap_or_default() {
                names.entry(old.name().to_vec()).or_insert(None);
            }
        }
        for (name, stat) in names {
            let name = OsStr::from_bytes(&name);
            let path = joined(path, name);
            match stat {
                Some(stat) if !is_whiteout(&stat) => {
                    let entry = Entry { dir, name, path, stat, depth };
                    self.entry(entry, below, changes)?;
                }
                _ => {
                    if self.old(&path, below)?.is_some() {
                        changes.push(Change { kind: ChangeKind::Deleted, path });
                    }
                }
            }
        }
        Ok(())
    }

    /// What the image has at a path in a directory.
    fn old(&self, path: &[u8], below: Below) -> Result<Option<Resolved>, StoreError> {
        match below {
            Below::Nothing => Ok(None),
            Below::Shown | Below::Hidden => self.snapshot.resolve(path, Links::Keep),
        }
    }

    fn entry(
        &self,
        entry: Entry<'_>,
        below: Below,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let Entry { dir, name, path, stat, depth } = entry;
        let old = self.old(&path, below)?;
        if stat.kind == FileKind::Socket || is_made_by_us(&self.snapshot, dir, name, &path, &stat)?
        {
            return Ok(());
        }
        let mut inside = Vec::new();
        if stat.kind == FileKind::Directory
            && let Some(inner) = present(dir.open_dir(name))?
        {
            let was_directory =
                old.as_ref().is_some_and(|old| old.stat.kind == FileKind::Directory);
            let is_hidden = below == Below::Hidden || self.marks.is_opaque(&inner)?;
            let below = match (was_directory, is_hidden) {
                (false, _) => Below::Nothing,
                (true, true) => Below::Hidden,
                (true, false) => Below::Shown,
            };
            self.directory(&inner, &path, below, depth + 1, &mut inside)?;
        }
        let kind = match &old {
            None => Some(ChangeKind::Added),
            Some(old) if is_same(&old.stat, &stat) && inside.is_empty() => None,
            Some(_) => Some(ChangeKind::Changed),
        };
        changes.extend(kind.map(|kind| Change { kind, path }));
        changes.append(&mut inside);
        Ok(())
    }
}

/// True if nobody can see a difference without reading the content. The times of directories change with
/// what is in them.
fn is_same(old: &Stat, new: &Stat) -> bool {
    let plain = |stat: &Stat| (stat.kind, stat.mode, stat.uid, stat.gid, stat.represents);
    let content = |stat: &Stat| (stat.size_bytes, stat.modified.seconds);
    plain(old) == plain(new) && (new.kind == FileKind::Directory || content(old) == content(new))
}

/// Copies a container's directory to a staged layer.
struct Copy<'a> {
    inner: &'a Inner,
    snapshot: Snapshot,
    marks: Marks,
    root: Root,
    /// Of files with several names, where the first one was copied to.
    first_names: BTreeMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

impl Copy<'_> {
    fn directory(
        &mut self,
        from: &Dir,
        to: &Dir,
        path: &[u8],
        depth: usize,
    ) -> Result<(), StoreError> {
        check_depth(depth)?;
        for entry in from.list()? {
            let name = entry.name.as_os_str();
            let Some(stat) = present(from.stat(name))? else { continue };
            let path = joined(path, name);
            if stat.kind == FileKind::Socket
                || is_made_by_us(&self.snapshot, from, name, &path, &stat)?
            {
                continue;
            }
            // A whiteout of nothing would only make the layer another one.
            if is_whiteout(&stat) && self.snapshot.resolve(&path, Links::Keep)?.is_none() {
                continue;
            }
            self.inner.fs().before("copy", &from.path().join(name))?;
            if self.entry(from, to, name, &path, &stat, depth)? {
                self.entries += 1;
            }
        }
        Ok(())
    }

    /// Copies one entry; false if it has vanished.
    fn entry(
        &mut self,
        from: &Dir,
        to: &Dir,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> Result<bool, StoreError> {
        let mut xattrs = Vec::new();
        match stat.kind {
            FileKind::Directory => {
                let Some(dir) = present(from.open_dir(name))? else { return Ok(false) };
                to.create_dir(name, 0o700)?;
                self.directory(&dir, &to.open_dir(name)?, path, depth + 1)?;
                let opaque = self.marks.opaque();
                let mut keep = |key: &[u8]| is_kept(key) || key == opaque;
                xattrs = beneath::xattrs(&dir, dir.path(), &mut keep)?;
            }
            FileKind::File => {
                if stat.links > 1 && self.link(to, name, path, stat)? {
                    return Ok(true);
                }
                let Some(file) = present(from.open_file(name))? else { return Ok(false) };
                let shown = from.path().join(name);
                let made = to.create_file(name, 0o600)?;
                file::copy(&file, &made, &shown)?;
                xattrs = beneath::xattrs(&file, &shown, &mut is_kept)?;
            }
            FileKind::Symlink => {
                let Some(target) = present(from.read_link(name))? else { return Ok(false) };
                to.symlink(name, OsStr::from_bytes(&target))?;
            }
            FileKind::CharDevice => {
                let (major, minor) = stat.represents;
                to.create_device(name, Device::Char(major, minor), 0)?;
            }
            FileKind::BlockDevice => {
                let (major, minor) = stat.represents;
                to.create_device(name, Device::Block(major, minor), 0)?;
            }
            FileKind::Fifo => to.create_device(name, Device::Fifo, 0o600)?,
            FileKind::Socket => return Ok(false),
        }
        to.set_owner(name, stat.uid, stat.gid)?;
        if stat.kind != FileKind::Symlink {
            to.set_mode(name, stat.mode)?;
        }
        for (key, value) in xattrs {
            to.set_xattr(name, &key, &value)?;
        }
        to.set_times(name, stat.modified)?;
        Ok(true)
    }

    /// Gives a file that was copied already another name; false if this is its first.
    fn link(
        &mut self,
        to: &Dir,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
    ) -> Result<bool, StoreError> {
        let identity = (stat.device, stat.inode);
        let Some(first) = self.first_names.get(&identity) else {
            self.first_names.insert(identity, path.to_vec());
            return Ok(false);
        };
        let first = Path::new(OsStr::from_bytes(first));
        let (dir, old) = self.root.parent(first, Resolve::NoLinks)?;
        to.hard_link(&dir, old, name)?;
        Ok(true)
    }
}
