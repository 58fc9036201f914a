//! What a step changed in a cache that was a lower directory of its root.
//!
//! It lies in the directory that becomes the layer, below the cache's path, and is taken out of it
//! before that is sealed. A file that the step linked from the cache has names in both. None of them may
//! stay one inode: sealing changes times, a layer's files never change afterwards, and a cache's files
//! may. So the layer keeps the inode, and
//!
//! - where the cache has the file already, it keeps its own, which the kernel copied when it was linked;
//! - where it is new to the cache, the cache gets a copy, which shares blocks where the file system can;
//! - where the layer has several names for it, each becomes a file of its own, as if the tool had copied.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use corten_sys::beneath::{self, Device, Dir, FileKind, Stat};
use corten_sys::clock::Timestamp;
use corten_sys::file;
use rayon::prelude::*;

use crate::error::StoreError;
use crate::linked::{
    LinkedCache, PARALLEL_DIRECTORIES_MIN, aside_name, check_depth, fresh, is_whiteout,
    mark_changes, stat, unmark,
};
use crate::staging::Staging;
use crate::store::{Inner, Store};
use crate::walk::{Marks, is_kept};

/// Device and inode: the identity of a file.
type Identity = (u64, u64);

impl Store {
    /// Takes what a step changed in a cache out of its staging directory and puts it aside, where it
    /// waits until it is merged. Its overlay is not mounted any more. The caller holds the lock of the
    /// cache since before the step began.
    pub fn put_cache_aside(
        &self,
        cache: &LinkedCache,
        staging: &Staging,
        epoch: i64,
    ) -> Result<(), StoreError> {
        self.run(|inner| put_aside(inner, cache, staging, epoch))
    }
}

/// What a step left of a cache.
enum Left {
    /// All of it.
    Unchanged,
    /// Nothing.
    Removed,
    /// Its changes are under a name; it may have replaced the cache by another directory.
    Changed { parent: Dir, name: OsString, replaced: bool },
}

fn put_aside(
    inner: &Arc<Inner>,
    cache: &LinkedCache,
    staging: &Staging,
    epoch: i64,
) -> Result<(), StoreError> {
    inner.check_writable()?;
    let marks = Marks::new(inner.in_user_namespace);
    match find(inner, marks, cache, staging)? {
        Left::Unchanged => Ok(()),
        Left::Removed => {
            let folder = inner.temporary()?;
            inner.fs().create_dir(&folder, 0o700)?;
            let emptied = Dir::open(&folder)?;
            let lower = Dir::open(&cache.directory)?;
            let was = lower.stat_self()?;
            emptied.set_owner_self(was.uid, was.gid)?;
            emptied.set_mode_self(was.mode)?;
            hide(inner, &emptied, &lower)?;
            let name = aside_name(cache, i64::MAX)?;
            Ok(inner.fs().rename(&folder, &cache.aside.join(name))?)
        }
        Left::Changed { parent, name, replaced } => {
            let changes = parent.open_dir(&name)?;
            let outside = outside(&changes)?;
            let several = outside.iter().filter(|(_, count)| **count > 1);
            let several: BTreeSet<Identity> = several.map(|(identity, _)| *identity).collect();
            let distilling = Distilling { inner, marks, outside: &outside, epoch };
            let lower = Dir::open(&cache.directory)?;
            let found = distilling.known(&changes, &lower, replaced, 0)?;
            inner.fs().before("rename", parent.path())?;
            if found.changed {
                let aside = Dir::open(&cache.aside)?;
                aside.rename(&parent, &name, OsStr::new(&aside_name(cache, found.floor)?))?;
            } else {
                parent.remove_tree(&name)?;
            }
            if !several.is_empty() {
                part(inner, &Dir::open(staging.tree())?, &several, &mut BTreeSet::new(), 0)?;
            }
            Ok(())
        }
    }
}

/// Finds what is left of a cache, without following a link.
fn find(
    inner: &Inner,
    marks: Marks,
    cache: &LinkedCache,
    staging: &Staging,
) -> Result<Left, StoreError> {
    let mut replaced = false;
    let mut parent = Dir::open(staging.tree())?;
    let mut components = cache.target.components().map(OsStr::from_bytes).peekable();
    while let Some(name) = components.next() {
        let is_last = components.peek().is_none();
        match stat(&parent, name)? {
            None if replaced => return Ok(Left::Removed),
            None => return Ok(Left::Unchanged),
            Some(stat) if stat.kind != FileKind::Directory => {
                if is_last {
                    inner.fs().before("remove", parent.path())?;
                    parent.remove_file(name)?;
                }
                return Ok(Left::Removed);
            }
            Some(_) => {}
        }
        let directory = parent.open_dir(name)?;
        replaced |= marks.is_opaque(&directory)?;
        if is_last {
            return Ok(Left::Changed { parent, name: name.to_owned(), replaced });
        }
        parent = directory;
    }
    Ok(Left::Unchanged)
}

fn identity(stat: &Stat) -> Identity {
    (stat.device, stat.inode)
}

fn metadata(stat: &Stat) -> (u32, u32, u32) {
    (stat.mode, stat.uid, stat.gid)
}

/// Finds the files below a directory that have names outside of it, and how many.
fn outside(directory: &Dir) -> Result<BTreeMap<Identity, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    count(directory, &mut counts, 0)?;
    let outside = |(links, inside): (u64, u64)| links.saturating_sub(inside);
    let counts = counts.into_iter().map(|(identity, count)| (identity, outside(count)));
    Ok(counts.filter(|(_, outside)| *outside > 0).collect())
}

/// Counts all names and those below a directory, for files with several.
fn count(
    directory: &Dir,
    counts: &mut BTreeMap<Identity, (u64, u64)>,
    depth: usize,
) -> Result<(), StoreError> {
    check_depth(depth)?;
    for entry in directory.list()? {
        let stat = directory.stat(&entry.name)?;
        match stat.kind {
            FileKind::Directory => count(&directory.open_dir(&entry.name)?, counts, depth + 1)?,
            FileKind::File if stat.links > 1 => {
                counts.entry(identity(&stat)).or_insert((stat.links, 0)).1 += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Leaves of a step's directory what is a change of the cache.
#[derive(Clone, Copy)]
struct Distilling<'a> {
    inner: &'a Inner,
    marks: Marks,
    /// How many names files of the cache have elsewhere.
    outside: &'a BTreeMap<Identity, u64>,
    epoch: i64,
}

/// What was found below a directory.
#[derive(Debug, Clone, Copy)]
struct Distilled {
    changed: bool,
    /// The oldest time of a regular file.
    floor: i64,
}

impl Distilling<'_> {
    /// A directory that the cache has; `replaced` says that the step sees nothing of that one.
    fn known(
        self,
        directory: &Dir,
        lower: &Dir,
        replaced: bool,
        depth: usize,
    ) -> Result<Distilled, StoreError> {
        let mut found = self.directory(directory, Some((lower, replaced)), depth)?;
        if replaced {
            unmark(self.inner, directory)?;
            found.changed |= hide(self.inner, directory, lower)?;
        }
        found.changed |= metadata(&directory.stat_self()?) != metadata(&lower.stat_self()?);
        Ok(found)
    }

    fn directory(
        self,
        directory: &Dir,
        lower: Option<(&Dir, bool)>,
        depth: usize,
    ) -> Result<Distilled, StoreError> {
        check_depth(depth)?;
        let mut all = Distilled { changed: false, floor: i64::MAX };
        let mut below = Vec::new();
        for entry in directory.list()? {
            let found = directory.stat(&entry.name)?;
            if found.kind == FileKind::Directory {
                below.push(entry.name);
                continue;
            }
            let known = match lower {
                Some((lower, _)) => stat(lower, &entry.name)?,
                None => None,
            };
            let known = known.map(|stat| stat.kind);
            if is_whiteout(&found) && known.is_none() {
                self.inner.fs().before("remove", directory.path())?;
                directory.remove_file(&entry.name)?;
            } else if found.kind == FileKind::File {
                let is_known = known == Some(FileKind::File);
                if let Some(seconds) = self.file(directory, &entry.name, &found, is_known)? {
                    all.changed = true;
                    all.floor = all.floor.min(seconds);
                }
            } else {
                all.changed = true;
            }
        }
        let walk = |name: &OsString| self.below(directory, name, lower, depth + 1);
        let walked: Vec<Distilled> = if below.len() < PARALLEL_DIRECTORIES_MIN {
            below.iter().map(walk).collect::<Result<_, _>>()?
        } else {
            below.par_iter().map(walk).collect::<Result<_, _>>()?
        };
        for one in walked {
            all.changed |= one.changed;
            all.floor = all.floor.min(one.floor);
        }
        Ok(all)
    }

    /// A directory in one; it goes if it has no change.
    fn below(
        self,
        parent: &Dir,
        name: &OsStr,
        lower: Option<(&Dir, bool)>,
        depth: usize,
    ) -> Result<Distilled, StoreError> {
        let directory = parent.open_dir(name)?;
        let is_opaque = self.marks.is_opaque(&directory)?;
        if let Some((lower, replaced)) = lower
            && stat(lower, name)?.is_some_and(|known| known.kind == FileKind::Directory)
        {
            let lower = lower.open_dir(name)?;
            let found = self.known(&directory, &lower, replaced || is_opaque, depth)?;
            if found.changed {
                mark_changes(self.inner, &directory)?;
            } else {
                self.inner.fs().before("remove", parent.path())?;
                parent.remove_dir(name)?;
            }
            return Ok(found);
        }
        let found = self.directory(&directory, None, depth)?;
        if is_opaque {
            unmark(self.inner, &directory)?;
        }
        Ok(Distilled { changed: true, ..found })
    }

    /// Sees to it that a regular file is the cache's own; returns its time unless it goes.
    fn file(
        self,
        directory: &Dir,
        name: &OsStr,
        found: &Stat,
        is_known: bool,
    ) -> Result<Option<i64>, StoreError> {
        let fs = self.inner.fs();
        let time = fresh(self.inner, self.epoch);
        if self.outside.contains_key(&identity(found)) {
            if is_known {
                fs.before("remove", directory.path())?;
                directory.remove_file(name)?;
                return Ok(None);
            }
            copy(self.inner, directory, name, found, time)?;
            return Ok(Some(time.seconds));
        }
        if found.modified.seconds < self.epoch {
            fs.before("change the times of", directory.path())?;
            directory.set_times(name, time)?;
            return Ok(Some(time.seconds));
        }
        Ok(Some(found.modified.seconds))
    }
}

/// Says of each name that a directory of a cache has and a step's does not that it is gone; true if
/// there is any. No directory that was put aside hides another by a mark: so what steps make under the
/// same name at the same time comes together, and merging may begin anew at any point.
fn hide(inner: &Inner, directory: &Dir, lower: &Dir) -> Result<bool, StoreError> {
    let mut is_any = false;
    for entry in lower.list()? {
        if stat(directory, &entry.name)?.is_none() {
            inner.fs().before("create", directory.path())?;
            directory.create_device(&entry.name, Device::Char(0, 0), 0)?;
            is_any = true;
        }
    }
    Ok(is_any)
}

/// Makes each name but the first of some files a file of its own.
fn part(
    inner: &Inner,
    directory: &Dir,
    files: &BTreeSet<Identity>,
    seen: &mut BTreeSet<Identity>,
    depth: usize,
) -> Result<(), StoreError> {
    check_depth(depth)?;
    for entry in directory.list()? {
        let stat = directory.stat(&entry.name)?;
        match stat.kind {
            FileKind::Directory => {
                part(inner, &directory.open_dir(&entry.name)?, files, seen, depth + 1)?;
            }
            FileKind::File if files.contains(&identity(&stat)) && !seen.insert(identity(&stat)) => {
                copy(inner, directory, &entry.name, &stat, stat.modified)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Replaces a name of a file by a copy of it.
fn copy(
    inner: &Inner,
    directory: &Dir,
    name: &OsStr,
    stat: &Stat,
    modified: Timestamp,
) -> Result<(), StoreError> {
    let path = directory.path().join(name);
    let from = directory.open_file(name)?;
    let xattrs = beneath::xattrs(&from, &path, &mut is_kept)?;
    inner.fs().before("copy", &path)?;
    directory.remove_file(name)?;
    let to = directory.create_file(name, 0o600)?;
    file::copy(&from, &to, &path)?;
    directory.set_owner(name, stat.uid, stat.gid)?;
    directory.set_mode(name, stat.mode)?;
    for (key, value) in xattrs {
        directory.set_xattr(name, &key, &value)?;
    }
    Ok(directory.set_times(name, modified)?)
}
