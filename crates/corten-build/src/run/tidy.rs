//! Mount points that a step leaves behind.
//!
//! Where something was mounted that the image does not have, an empty file or directory was made
//! for it. It goes, and so do directories that were only touched for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use corten_oci::tree::TreePath;
use corten_sys::beneath::{FileKind, Resolve, Root, Stat};
use corten_sys::error::IoError;

use super::step::tree_path;
use crate::copy::CopyError;
use crate::diagnose::StepError;
use crate::files::{Files, Found, as_path};

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
        if stat.kind != FileKind::Directory {
            break;
        }
        let said = match below.find(&directory)? {
            Some(found) => is_said(root, &directory, &stat, &found)?,
            None => !is_empty(root, &directory).map_err(CopyError::from)?,
        };
        if said {
            break;
        }
        remove(root, &directory).map_err(CopyError::from)?;
        parent = directory.parent();
    }
    Ok(())
}

/// Whether a directory of a layer says something new of one that the image has too: a time alone is
/// nothing.
pub(super) fn is_said(
    root: &Root,
    path: &TreePath,
    stat: &Stat,
    found: &Found,
) -> Result<bool, StepError> {
    let is_same = found.stat.kind == FileKind::Directory
        && (found.stat.mode, found.stat.uid, found.stat.gid) == (stat.mode, stat.uid, stat.gid);
    Ok(!is_same
        || !is_empty(root, path).map_err(CopyError::from)?
        || is_marked(root, path).map_err(CopyError::from)?)
}

pub(super) fn stat(root: &Root, path: &TreePath) -> Result<Option<Stat>, IoError> {
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

pub(super) fn remove(root: &Root, path: &TreePath) -> Result<(), IoError> {
    let (dir, name) = root.parent(as_path(path), Resolve::NoLinks)?;
    dir.remove_tree(name)
}
