//! Cache directories that are part of the root file system of a step.
//!
//! An ordinary cache is the directory `caches/<name>`, which a step has as a mount. No hard link leads
//! from one mount into another, so a tool that links files out of its cache has to copy them. It need
//! not where the cache is a lower directory of the very overlay that is the root. For that its content
//! must lie at the path at which the step sees it:
//!
//! ```text
//! caches/<name>.linked/state.json      the path, and the oldest time of a file
//! caches/<name>.linked/tree/<path>/    the content
//! caches/<name>.linked/aside/<n>/      what a step changed in it, not merged yet
//! ```
//!
//! The content moves from one place to the other by one rename, by who holds `caches/<name>.lock`
//! alone, and is only ever in one of them. A step that has it as a lower directory holds the lock
//! shared; what it changed is put aside at its end, by one rename too, and merged by the next who holds
//! the lock alone. So the content never changes below a mounted overlay, and a process that is killed
//! at any moment leaves a whole cache behind: merging goes on where it ended.
//!
//! No file of a cache is ever an inode of a layer: see `aside`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::limits;
use corten_oci::tree::TreePath;
use corten_sys::beneath::{self, Dir, FileKind, Stat};
use corten_sys::clock::Timestamp;
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::fs::Fs;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::gc::Bin;
use crate::store::{Inner, Store};
use crate::walk::Marks;
use crate::write::{Durability, read_json};

/// The version of `state.json`.
const STATE_VERSION: u32 = 1;

/// What the folder of such a cache has behind the name of the cache.
pub(crate) const SUFFIX: &str = "linked";

/// From so many directories in one on, they are walked by several threads.
pub(crate) const PARALLEL_DIRECTORIES_MIN: usize = 2;

/// A cache that can be a lower directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedCache {
    /// The directory for the overlay; of it, only the cache and its parents are there.
    pub lower: PathBuf,
    /// Where the cache is in it.
    pub target: TreePath,
    /// No regular file is older, in seconds since 1970.
    pub floor: i64,
    /// The cache itself.
    pub(crate) directory: PathBuf,
    /// Where changes are put.
    pub(crate) aside: PathBuf,
}

/// The content of `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    version: u32,
    target: String,
    floor: i64,
}

/// The paths of a cache.
struct Place {
    plain: PathBuf,
    folder: PathBuf,
}

impl Store {
    /// Merges what steps put aside and makes a cache the ordinary directory `caches/<name>`, if there
    /// is one. The caller holds its lock alone.
    pub fn settle_cache_mount(&self, name: &str) -> Result<(), StoreError> {
        self.run(|inner| settle(inner, name))
    }

    /// Makes a cache one that can be a lower directory, at a path, with no regular file older than the
    /// epoch. The caller holds its lock alone. False if it stays an ordinary one, since it is not there
    /// or the file system has no marks for overlays.
    ///
    /// What a tool links from a cache has the time at which it came into the cache, and what it copies
    /// has the time of the copy. Sealing makes both the epoch, unless the former is before it: then an
    /// image would depend on how old the cache is.
    pub fn link_cache_mount(
        &self,
        name: &str,
        target: &TreePath,
        epoch: i64,
    ) -> Result<bool, StoreError> {
        self.run(|inner| link(inner, name, target, epoch))
    }

    /// Returns a cache that can be a lower directory; `None` if it is an ordinary one or absent. The
    /// caller holds its lock, shared or alone.
    pub fn linked_cache_mount(&self, name: &str) -> Result<Option<LinkedCache>, StoreError> {
        self.run(|inner| linked(&Place::new(inner, name)))
    }
}

impl Place {
    fn new(inner: &Inner, name: &str) -> Self {
        let plain = inner.layout.folder(crate::cache_mounts::FOLDER).join(name);
        let folder = plain.with_extension(SUFFIX);
        Self { plain, folder }
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn aside(&self) -> PathBuf {
        self.folder.join("aside")
    }

    fn content(&self, target: &TreePath) -> PathBuf {
        self.tree().join(OsStr::from_bytes(target.as_bytes()))
    }
}

fn linked(place: &Place) -> Result<Option<LinkedCache>, StoreError> {
    if file::exists(&place.plain)? {
        return Ok(None);
    }
    let state = match read_json::<State>(&place.state()) {
        Ok(Some(state)) if state.version == STATE_VERSION => state,
        // Nobody knows where the content of such a cache is, so there is none.
        Ok(_) | Err(StoreError::Record { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(target) = TreePath::new(state.target.as_bytes()) else { return Ok(None) };
    let directory = place.content(&target);
    if !file::exists(&directory)? {
        return Ok(None);
    }
    let (lower, aside) = (place.tree(), place.aside());
    Ok(Some(LinkedCache { lower, target, floor: state.floor, directory, aside }))
}

fn settle(inner: &Arc<Inner>, name: &str) -> Result<(), StoreError> {
    let place = Place::new(inner, name);
    if !file::exists(&place.folder)? {
        return Ok(());
    }
    inner.check_writable()?;
    if let Some(cache) = linked(&place)? {
        merge_all(inner, &cache)?;
        unmark(inner, &Dir::open(&cache.directory)?)?;
        inner.fs().rename(&cache.directory, &place.plain)?;
    }
    let mut bin = Bin::new(inner)?;
    bin.take(inner, &place.folder)?;
    bin.empty(inner)
}

fn link(inner: &Arc<Inner>, name: &str, target: &TreePath, epoch: i64) -> Result<bool, StoreError> {
    inner.check_writable()?;
    let Ok(text) = String::from_utf8(target.as_bytes().to_vec()) else { return Ok(false) };
    let place = Place::new(inner, name);
    if let Some(cache) = linked(&place)?.filter(|cache| cache.target == *target) {
        let floor = put_floor(inner, &place, &text, &cache)?;
        merge_all(inner, &cache)?;
        if floor < epoch {
            let floor = raise(inner, &Dir::open(&cache.directory)?, epoch, 0)?;
            put_state(inner, &place, text, floor)?;
        }
        return Ok(true);
    }
    settle(inner, name)?;
    if target.is_root() || !file::exists(&place.plain)? {
        return Ok(false);
    }
    let directory = Dir::open(&place.plain)?;
    if !mark(inner, &directory)? {
        return Ok(false);
    }
    let floor = raise(inner, &directory, epoch, 0)?;
    let content = place.content(target);
    inner.fs().create_dir(&place.folder, 0o700)?;
    inner.fs().create_dir(&place.aside(), 0o700)?;
    file::create_dirs(crate::write::parent(&content), 0o755)?;
    put_state(inner, &place, text, floor)?;
    inner.fs().rename(&place.plain, &content)?;
    Ok(true)
}

fn put_state(
    inner: &Arc<Inner>,
    place: &Place,
    target: String,
    floor: i64,
) -> Result<(), StoreError> {
    let state = State { version: STATE_VERSION, target, floor };
    inner.put_json(&place.state(), &state, Durability::Volatile)
}

/// Notes how old the files are that are about to be merged, before they are.
fn put_floor(
    inner: &Arc<Inner>,
    place: &Place,
    target: &str,
    cache: &LinkedCache,
) -> Result<i64, StoreError> {
    let mut floor = cache.floor;
    for name in file::list_dir(&cache.aside)? {
        floor = floor.min(floor_of(&name));
    }
    if floor != cache.floor {
        put_state(inner, place, target.to_owned(), floor)?;
    }
    Ok(floor)
}

/// The name of what is put aside: a number that orders, the oldest time, and chance.
pub(crate) fn aside_name(cache: &LinkedCache, floor: i64) -> Result<String, StoreError> {
    let names = file::list_dir(&cache.aside)?;
    let number = |name: &std::ffi::OsString| {
        name.to_str().and_then(|name| name.split('_').next()?.parse::<u64>().ok())
    };
    let number = names.iter().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
    Ok(format!("{number:020}_{floor}_{}", corten_sys::random::name()))
}

fn floor_of(name: &OsStr) -> i64 {
    let floor = name.to_str().and_then(|name| name.split('_').nth(1)?.parse().ok());
    // With a name that is not ours, nothing is known.
    floor.unwrap_or(i64::MIN)
}

/// Makes a directory hide what is below it; false where that cannot be said.
fn mark(inner: &Inner, directory: &Dir) -> Result<bool, StoreError> {
    inner.fs().before("set an attribute of", directory.path())?;
    let opaque = Marks::new(inner.in_user_namespace).opaque();
    match beneath::set_xattr(directory, directory.path(), &opaque, b"y") {
        Ok(()) => Ok(true),
        Err(error)
            if error.is_permission_denied() || error.kind() == std::io::ErrorKind::Unsupported =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says of a directory that was put aside that it has changes of one, and is no new one.
pub(crate) fn mark_changes(inner: &Inner, directory: &Dir) -> Result<(), StoreError> {
    inner.fs().before("set an attribute of", directory.path())?;
    let changes = Marks::new(inner.in_user_namespace).changes();
    Ok(beneath::set_xattr(directory, directory.path(), &changes, b"y")?)
}

pub(crate) fn unmark(inner: &Inner, directory: &Dir) -> Result<(), StoreError> {
    inner.fs().before("remove an attribute of", directory.path())?;
    let opaque = Marks::new(inner.in_user_namespace).opaque();
    Ok(beneath::remove_xattr(directory, directory.path(), &opaque)?)
}

/// What has a name, if anything has.
pub(crate) fn stat(directory: &Dir, name: &OsStr) -> Result<Option<Stat>, IoError> {
    file::absent_is_none(directory.stat(name))
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == FileKind::CharDevice && stat.represents == (0, 0)
}

pub(crate) fn check_depth(depth: usize) -> Result<(), StoreError> {
    if depth > limits::DIRECTORY_DEPTH_MAX {
        return Err(StoreError::LayerLimit { what: "the depth of directories" });
    }
    Ok(())
}

/// The time that a file without an old one gets: now, and not before the epoch.
pub(crate) fn fresh(inner: &Inner, epoch: i64) -> Timestamp {
    Timestamp::from_seconds(inner.now().max(epoch))
}

/// Gives every regular file that is older than the epoch the time of now; returns the oldest time.
fn raise(inner: &Inner, directory: &Dir, epoch: i64, depth: usize) -> Result<i64, StoreError> {
    check_depth(depth)?;
    let mut floor = i64::MAX;
    let mut below = Vec::new();
    for entry in directory.list()? {
        let stat = directory.stat(&entry.name)?;
        match stat.kind {
            FileKind::Directory => below.push(entry.name),
            FileKind::File => {
                let mut seconds = stat.modified.seconds;
                if seconds < epoch {
                    let time = fresh(inner, epoch);
                    inner.fs().before("change the times of", directory.path())?;
                    directory.set_times(&entry.name, time)?;
                    seconds = time.seconds;
                }
                floor = floor.min(seconds);
            }
            _ => {}
        }
    }
    let walk = |name| raise(inner, &directory.open_dir(name)?, epoch, depth + 1);
    let floors: Vec<i64> = if below.len() < PARALLEL_DIRECTORIES_MIN {
        below.iter().map(|name| walk(name)).collect::<Result<_, _>>()?
    } else {
        below.par_iter().map(|name| walk(name)).collect::<Result<_, _>>()?
    };
    Ok(floors.into_iter().fold(floor, i64::min))
}

/// Merges everything that was put aside, in its order.
fn merge_all(inner: &Inner, cache: &LinkedCache) -> Result<(), StoreError> {
    let mut names = file::list_dir(&cache.aside)?;
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    let fs = inner.fs();
    let marks = Marks::new(inner.in_user_namespace);
    let to = Dir::open(&cache.directory)?;
    for name in names {
        let path = cache.aside.join(&name);
        let from = Dir::open(&path)?;
        merge(inner, marks, &from, &to, 0)?;
        fs.remove_tree(&path)?;
    }
    Ok(())
}

/// Moves what is in one directory into another. Whatever of it was done before is not there to be done
/// again.
fn merge(
    inner: &Inner,
    marks: Marks,
    from: &Dir,
    to: &Dir,
    depth: usize,
) -> Result<(), StoreError> {
    check_depth(depth)?;
    let fs = inner.fs();
    for entry in from.list()? {
        let name = entry.name.as_os_str();
        let what = from.stat(name)?;
        let there = stat(to, name)?.map(|stat| stat.kind);
        if is_whiteout(&what) {
            fs.before("remove", to.path())?;
            to.remove_tree(name)?;
            from.remove_file(name)?;
        } else if what.kind == FileKind::Directory {
            let inner_from = from.open_dir(name)?;
            if there == Some(FileKind::Directory) {
                merge(inner, marks, &inner_from, &to.open_dir(name)?, depth + 1)?;
            } else if !marks.has_changes(&inner_from)? {
                replace(fs, from, to, name, there.is_some())?;
            }
            // Else another step removed it meanwhile: a part of it must not come back without the rest.
        } else {
            replace(fs, from, to, name, there == Some(FileKind::Directory))?;
        }
    }
    let wanted = from.stat_self()?;
    let found = to.stat_self()?;
    if (wanted.uid, wanted.gid) != (found.uid, found.gid) {
        fs.before("change the owner of", to.path())?;
        to.set_owner_self(wanted.uid, wanted.gid)?;
    }
    if (wanted.mode, wanted.uid, wanted.gid) != (found.mode, found.uid, found.gid) {
        fs.before("change the mode of", to.path())?;
        to.set_mode_self(wanted.mode)?;
    }
    Ok(())
}

fn replace(fs: &dyn Fs, from: &Dir, to: &Dir, name: &OsStr, clear: bool) -> Result<(), StoreError> {
    if clear {
        fs.before("remove", to.path())?;
        to.remove_tree(name)?;
    }
    fs.before("rename", from.path())?;
    Ok(to.rename(from, name, name)?)
}

/// Returns the folder of a cache by its ordinary path.
pub(crate) fn folder(plain: &Path) -> PathBuf {
    plain.with_extension(SUFFIX)
}
