//! A draft becomes a directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{self, Device, Dir, Resolve, Root};
use corten_sys::clock::Timestamp;
use corten_sys::error::at;
use corten_sys::file;

use super::CopyError;
use super::draft::{Data, Node, NodeKind};
use crate::files::as_path;

/// Fewer nodes than this are not worth waking threads for.
const PARALLEL_NODES_MIN: usize = 16;

/// More threads than this wait for each other in the file system.
const THREADS_MAX: usize = 4;

/// How a layer is written.
pub(super) struct Target<'a> {
    /// An empty directory.
    pub(super) tree: &'a Path,
    /// The attribute that makes a directory opaque here.
    pub(super) opaque: &'a [u8],
}

/// Writes all nodes. Directories get what they are given last, since every new name changes them.
pub(super) fn write(
    nodes: &BTreeMap<TreePath, Node>,
    target: &Target<'_>,
) -> Result<(), CopyError> {
    let root = Root::open(target.tree)?;
    let is_root = file::effective_user_id() == 0;
    let mut writer = Writer { root: &root, parent: None, is_root };
    let mut directories = Vec::new();
    let mut links = Vec::new();
    let mut others = Vec::new();
    for (path, node) in nodes {
        match &node.kind {
            NodeKind::Directory { opaque } => {
                writer.make_directory(path)?;
                directories.push((path, node, *opaque));
            }
            NodeKind::Hardlink(first) => links.push((path, first)),
            _ => others.push((path, node)),
        }
    }
    make_all(&root, is_root, &others)?;
    // A hard link may come before the file that it names.
    for (path, first) in links {
        writer.link(path, first)?;
    }
    for (path, node, opaque) in directories.into_iter().rev() {
        if opaque {
            let (parent, name) = writer.parent(path)?;
            parent.set_xattr(name, target.opaque, b"y")?;
        }
        writer.finish_directory(path, &node.meta)?;
    }
    Ok(())
}

/// Makes what is no directory, with several threads where there is much of it: copying is bound by
/// memory and by the file system's work for each file, and both gain from a second processor.
fn make_all(root: &Root, is_root: bool, nodes: &[(&TreePath, &Node)]) -> Result<(), CopyError> {
    let writer = || Writer { root, parent: None, is_root };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    if threads == 1 || nodes.len() < PARALLEL_NODES_MIN {
        let mut writer = writer();
        return nodes.iter().try_for_each(|(path, node)| writer.make(path, node));
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), (usize, CopyError)> {
        let mut writer = writer();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, node)) = nodes.get(index) else { return Ok(()) };
            writer.make(path, node).map_err(|error| {
                // The others have nothing left to take.
                next.store(nodes.len(), Ordering::Relaxed);
                (index, error)
            })?;
        }
    };
    let failures = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let join = |helper: ScopedJoinHandle<'_, Result<(), (usize, CopyError)>>| {
            helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let others = helpers.into_iter().filter_map(|helper| join(helper).err());
        own.err().into_iter().chain(others).collect::<Vec<_>>()
    });
    // The first in the order of paths, so that the message does not depend on chance.
    match failures.into_iter().min_by_key(|(index, _)| *index) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

struct Writer<'a> {
    root: &'a Root,
    /// The directory of the name before, in which most names are too.
    parent: Option<(TreePath, Dir)>,
    is_root: bool,
}

impl Writer<'_> {
    fn parent<'p>(&mut self, path: &'p TreePath) -> Result<(&Dir, &'p OsStr), CopyError> {
        let folder = path.parent().unwrap_or_else(TreePath::root);
        if self.parent.as_ref().is_none_or(|(known, _)| *known != folder) {
            let dir = self.root.open_dir(as_path(&folder), Resolve::NoLinks)?;
            self.parent = Some((folder, dir));
        }
        let (_, dir) = self.parent.as_ref().expect("the directory was opened above");
        Ok((dir, OsStr::from_bytes(path.name())))
    }

    fn make_directory(&mut self, path: &TreePath) -> Result<(), CopyError> {
        let (dir, name) = self.parent(path)?;
        Ok(dir.create_dir(name, 0o700)?)
    }

    fn finish_directory(&mut self, path: &TreePath, meta: &Meta) -> Result<(), CopyError> {
        self.finish(path, meta, true)
    }

    fn make(&mut self, path: &TreePath, node: &Node) -> Result<(), CopyError> {
        let (dir, name) = self.parent(path)?;
        let mut has_mode = true;
        match &node.kind {
            NodeKind::File(data) => write_file(dir, name, data)?,
            NodeKind::Symlink(target) => {
                dir.symlink(name, OsStr::from_bytes(target))?;
                has_mode = false;
            }
            NodeKind::CharDevice(major, minor) => {
                dir.create_device(name, Device::Char(*major, *minor), 0o600)?;
            }
            NodeKind::BlockDevice(major, minor) => {
                dir.create_device(name, Device::Block(*major, *minor), 0o600)?;
            }
            NodeKind::Fifo => dir.create_device(name, Device::Fifo, 0o600)?,
            NodeKind::Directory { .. } | NodeKind::Hardlink(_) => {}
        }
        self.finish(path, &node.meta, has_mode)
    }

    /// Sets owner, mode, attributes and time, in this order: a change of the owner takes set-id bits
    /// and capabilities away.
    fn finish(&mut self, path: &TreePath, meta: &Meta, has_mode: bool) -> Result<(), CopyError> {
        let is_root = self.is_root;
        let (dir, name) = self.parent(path)?;
        if (meta.uid, meta.gid) != (0, 0) || !is_root {
            dir.set_owner(name, meta.uid, meta.gid).map_err(|source| CopyError::SetOwner {
                path: path.clone(),
                uid: meta.uid,
                gid: meta.gid,
                source,
            })?;
        }
        if has_mode {
            dir.set_mode(name, meta.mode & 0o7777)?;
        }
        for (key, value) in &meta.xattrs {
            dir.set_xattr(name, key, value)?;
        }
        Ok(dir.set_times(name, Timestamp::from_seconds(meta.mtime))?)
    }

    fn link(&mut self, path: &TreePath, first: &TreePath) -> Result<(), CopyError> {
        let (from, old) = self.root.parent(as_path(first), Resolve::NoLinks)?;
        let (dir, name) = self.parent(path)?;
        Ok(dir.hard_link(&from, old, name)?)
    }
}

fn write_file(dir: &Dir, name: &OsStr, data: &Data) -> Result<(), CopyError> {
    let path = dir.path().join(name);
    match data {
        Data::Found(found, content) => {
            let to = dir.create_file(name, 0o600)?;
            found.copy_content(content, &to, &path)?;
        }
        Data::Bytes(bytes) => {
            let mut to = dir.create_file(name, 0o600)?;
            to.write_all(bytes).map_err(at("write", &path))?;
        }
        Data::Spooled(from) => {
            let (folder, old) = from
                .parent()
                .zip(from.file_name())
                .ok_or_else(|| beneath::refused("rename", from))?;
            dir.rename(&Dir::open(folder)?, old, name)?;
        }
    }
    Ok(())
}
