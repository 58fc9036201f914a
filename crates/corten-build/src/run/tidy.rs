//! What a step leaves behind without having meant to.
//!
//! - Mount points: where something was mounted that the image does not have, an empty file or
//!   directory was made for it. It goes, and so do directories that were only touched for it.
//! - Logs and caches of package managers that differ from run to run and matter to nobody: see
//!   [`SCRUBBED`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use corten_oci::tree::TreePath;
use corten_sys::beneath::{FileKind, Resolve, Root, Stat};
use corten_sys::error::IoError;

use super::step::tree_path;
use crate::copy::CopyError;
use crate::diagnose::StepError;
use crate::files::{Files, as_path};

/// Files that a step's layer does not keep, if the step wrote them. A deletion is kept.
///
/// They hold times, process ids, or caches with inode numbers, and every program that reads them
/// makes them anew:
/// - `ldconfig`'s cache of what it has seen, with inodes and times;
/// - what `dpkg`, `update-alternatives` and `apt` did when, also told by the package database;
/// - `apt`'s binary caches, made from its lists whenever they are missing;
/// - the backup that `debconf` and `dpkg` make of a database before they write it.
pub(crate) const SCRUBBED: [&str; 14] = [
    "var/cache/ldconfig/aux-cache",
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/apt/history.log",
    "var/log/apt/term.log",
    "var/log/apt/eipp.log.xz",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old",
];

/// The files that the runtime mounts into every container. The directories `proc`, `sys` and `dev` stay
/// where an image had none: BuildKit leaves them too, and every container needs them.
const RUNTIME_TARGETS: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];

/// Tidies the directory that a step wrote to.
pub(crate) fn tidy(tree: &Path, below: &dyn Files, targets: &[&Path]) -> Result<(), StepError> {
    let root = Root::open(tree).map_err(CopyError::from)?;
    let mut all: Vec<TreePath> = Vec::new();
    for path in RUNTIME_TARGETS {
        all.push(resolve(below, Path::new(path))?);
    }
    for path in targets {
        all.push(resolve(below, path)?);
    }
    // The deepest first, so that a mount point inside another one does not keep it.
    all.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in all {
        remove_mount_point(&root, below, &path)?;
    }
    for path in SCRUBBED {
        scrub(&root, &TreePath::clean(path.as_bytes()).unwrap_or_else(|_| TreePath::root()))?;
    }
    Ok(())
}

/// Where a mount target is, with the links of the image followed.
fn resolve(below: &dyn Files, path: &Path) -> Result<TreePath, StepError> {
    let draft = crate::copy::Draft::new(below);
    Ok(draft.resolve(&TreePath::root(), tree_path(path).as_bytes())?)
}

fn remove_mount_point(root: &Root, below: &dyn Files, path: &TreePath) -> Result<(), StepError> {
    if path.is_root() {
        return Ok(());
    }
    if below.find(path)?.is_none() {
        let Some(stat) = stat(root, path).map_err(CopyError::from)? else { return Ok(()) };
        let is_empty = match stat.kind {
            FileKind::File => stat.size_bytes == 0,
            FileKind::Directory => is_empty(root, path).map_err(CopyError::from)?,
            _ => false,
        };
        if !is_empty {
            return Ok(());
        }
        remove(root, path).map_err(CopyError::from)?;
    }
    let mut parent = path.parent();
    while let Some(directory) = parent.filter(|directory| !directory.is_root()) {
        let Some(stat) = stat(root, &directory).map_err(CopyError::from)? else { break };
        if stat.kind != FileKind::Directory
            || !is_empty(root, &directory).map_err(CopyError::from)?
        {
            break;
        }
        // A directory that the image has too says nothing new if only its time differs.
        let said = match below.find(&directory)? {
            Some(found) => {
                found.stat.kind != FileKind::Directory
                    || (found.stat.mode, found.stat.uid, found.stat.gid)
                        != (stat.mode, stat.uid, stat.gid)
                    || is_marked(root, &directory).map_err(CopyError::from)?
            }
            None => false,
        };
        if said {
            break;
        }
        remove(root, &directory).map_err(CopyError::from)?;
        parent = directory.parent();
    }
    Ok(())
}

fn scrub(root: &Root, path: &TreePath) -> Result<(), StepError> {
    let stat = stat(root, path).map_err(CopyError::from)?;
    if stat.is_some_and(|stat| stat.kind == FileKind::File) {
        remove(root, path).map_err(CopyError::from)?;
    }
    Ok(())
}

fn stat(root: &Root, path: &TreePath) -> Result<Option<Stat>, IoError> {
    let stat = root.parent(as_path(path), Resolve::NoLinks).and_then(|(dir, name)| dir.stat(name));
    match stat {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path through a link or a file does not exist in the layer itself.
fn is_absent(error: &IoError) -> bool {
    error.is_not_found()
        || error.kind() == std::io::ErrorKind::NotADirectory
        || corten_sys::beneath::is_escape(error)
}

fn is_empty(root: &Root, path: &TreePath) -> Result<bool, IoError> {
    Ok(root.open_dir(as_path(path), Resolve::NoLinks)?.list()?.is_empty())
}

/// Whether overlayfs has marked a directory, for example as opaque.
fn is_marked(root: &Root, path: &TreePath) -> Result<bool, IoError> {
    let (dir, name) = root.parent(as_path(path), Resolve::NoLinks)?;
    let opaque = |name: &Vec<u8>| name.ends_with(b"overlay.opaque");
    Ok(dir.xattr_names(OsStr::from_bytes(name.as_bytes()))?.iter().any(opaque))
}

fn remove(root: &Root, path: &TreePath) -> Result<(), IoError> {
    let (dir, name) = root.parent(as_path(path), Resolve::NoLinks)?;
    dir.remove_tree(name)
}
