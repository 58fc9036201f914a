//! A layer in memory, over the files that are below it.
//!
//! Nothing here touches a disk but to look at what is below. Paths are resolved within the files
//! that the layer and the layers below make together, so a link can lead astray only inside the
//! image.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_oci::limits::{DIRECTORY_DEPTH_MAX, SYMLINK_DEPTH_MAX};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{FileKind, Stat};

use super::CopyError;
use crate::files::{Content, Files, FilesError, Found, components, join};

/// A layer that is being made.
pub(crate) struct Draft<'a> {
    below: &'a dyn Files,
    nodes: BTreeMap<TreePath, Node>,
    /// Directories that were looked for below, and whether they are there.
    known: RefCell<BTreeMap<TreePath, bool>>,
}

/// One name in the layer.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) kind: NodeKind,
}

/// What a name is.
#[derive(Debug, Clone)]
pub(crate) enum NodeKind {
    Directory {
        opaque: bool,
    },
    File(Data),
    Symlink(Vec<u8>),
    /// Another name of the file at that path of this layer.
    Hardlink(TreePath),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// Where the content of a file is.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Found(Box<Found>, Content),
    Bytes(Vec<u8>),
    /// A file of our own that is moved into place.
    Spooled(PathBuf),
}

/// What is seen under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Directory,
    Symlink(Vec<u8>),
    Other,
}

impl<'a> Draft<'a> {
    /// Begins an empty layer.
    pub(crate) fn new(below: &'a dyn Files) -> Self {
        Self { below, nodes: BTreeMap::new(), known: RefCell::default() }
    }

    /// What has a name, in this layer or below; nothing is below a link.
    pub(crate) fn look(&self, path: &TreePath) -> Result<Option<Seen>, CopyError> {
        if path.is_root() {
            return Ok(Some(Seen::Directory));
        }
        if let Some(node) = self.nodes.get(path) {
            return Ok(Some(match &node.kind {
                NodeKind::Directory { .. } => Seen::Directory,
                NodeKind::Symlink(target) => Seen::Symlink(target.clone()),
                _ => Seen::Other,
            }));
        }
        let Some(found) = self.find_below(path)? else { return Ok(None) };
        Ok(Some(match found.stat.kind {
            FileKind::Directory => Seen::Directory,
            FileKind::Symlink => Seen::Symlink(found.read_link()?),
            _ => Seen::Other,
        }))
    }

    /// What the layers below have under a name, unless this layer hides it.
    pub(crate) fn find_below(&self, path: &TreePath) -> Result<Option<Found>, CopyError> {
        let mut parent = path.parent();
        while let Some(ancestor) = parent {
            match self.nodes.get(&ancestor).map(|node| &node.kind) {
                None | Some(NodeKind::Directory { opaque: false }) => {}
                Some(_) => return Ok(None),
            }
            parent = ancestor.parent();
        }
        let Some(parent) = path.parent() else { return Ok(self.below.find(path)?) };
        let known = self.known.borrow().get(&parent).copied();
        let parent_is_there = if let Some(known) = known {
            known
        } else {
            let there = self.below.find(&parent)?.is_some_and(|found| found.is_directory());
            self.known.borrow_mut().insert(parent, there);
            there
        };
        if parent_is_there { Ok(self.below.find(path)?) } else { Ok(None) }
    }

    /// Finds where a path really is: links are followed below `root` as if it were `/`, and what
    /// does not exist keeps its name.
    pub(crate) fn resolve(&self, root: &TreePath, path: &[u8]) -> Result<TreePath, CopyError> {
        let mut at = root.clone();
        let mut todo = components(path);
        let mut links = 0;
        while let Some(component) = todo.pop() {
            if component == b".." {
                if at != *root {
                    at = at.parent().unwrap_or_else(TreePath::root);
                }
                continue;
            }
            let next = join(&at, &component)?;
            if next.components().count() > DIRECTORY_DEPTH_MAX {
                return Err(FilesError::Depth { path: next }.into());
            }
            match self.look(&next)? {
                Some(Seen::Symlink(target)) => {
                    links += 1;
                    if links > SYMLINK_DEPTH_MAX {
                        return Err(FilesError::Links { path: next }.into());
                    }
                    if target.first() == Some(&b'/') {
                        at = root.clone();
                    }
                    todo.extend(components(&target));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Makes a directory and those that it is in, as far as they are missing.
    pub(crate) fn make_dirs(&mut self, path: &TreePath, meta: &Meta) -> Result<(), CopyError> {
        match self.look(path)? {
            Some(Seen::Directory) => return Ok(()),
            Some(_) => return Err(CopyError::NotADirectory { path: path.clone() }),
            None => {}
        }
        if let Some(parent) = path.parent() {
            self.make_dirs(&parent, meta)?;
        }
        self.put(
            path.clone(),
            Node { meta: meta.clone(), kind: NodeKind::Directory { opaque: false } },
        )
    }

    /// Puts something under a name, in place of what is there.
    pub(crate) fn put(&mut self, path: TreePath, mut node: Node) -> Result<(), CopyError> {
        check_name(&path)?;
        self.promote_link(&path, None);
        if let NodeKind::Directory { opaque } = &mut node.kind {
            let hides = self.nodes.get(&path).is_some_and(|old| !old.is_directory());
            if hides && self.find_below(&path)?.is_some_and(|found| found.is_directory()) {
                // The directory below was replaced before; it must not come back.
                *opaque = true;
            }
        } else {
            self.remove_inner(&path);
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Changes what is known of a directory that exists.
    pub(crate) fn change_directory(
        &mut self,
        path: &TreePath,
        change: impl FnOnce(&mut Meta),
    ) -> Result<(), CopyError> {
        if path.is_root() {
            // The root of an image has no entry in a layer.
            return Ok(());
        }
        if !self.nodes.contains_key(path) {
            let node = self.copy_up(path)?;
            self.nodes.insert(path.clone(), node);
        }
        if let Some(node) = self.nodes.get_mut(path) {
            change(&mut node.meta);
        }
        Ok(())
    }

    /// A node of this layer.
    pub(crate) fn node(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Takes a regular file from below into this layer, so that it can get a second name.
    pub(crate) fn take_up_file(&mut self, path: &TreePath) -> Result<bool, CopyError> {
        let Some(found) = self.find_below(path)? else { return Ok(false) };
        if found.stat.kind != FileKind::File {
            return Ok(false);
        }
        let content = self.below.digests(&[&found])?.into_iter().next();
        let Some(content) = content else { return Ok(false) };
        let meta = meta_of(&found.stat, found.xattrs()?);
        let kind = NodeKind::File(Data::Found(Box::new(found), content));
        self.put(path.clone(), Node { meta, kind })?;
        Ok(true)
    }

    /// Ends the layer: directories that only hold something are added as they are below.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<TreePath, Node>, CopyError> {
        let mut missing = BTreeMap::new();
        for path in self.nodes.keys() {
            let mut parent = path.parent();
            while let Some(ancestor) = parent.filter(|ancestor| !ancestor.is_root()) {
                if self.nodes.contains_key(&ancestor) || missing.contains_key(&ancestor) {
                    break;
                }
                let node = self.copy_up(&ancestor)?;
                parent = ancestor.parent();
                missing.insert(ancestor, node);
            }
        }
        self.nodes.append(&mut missing);
        Ok(self.nodes)
    }

    fn copy_up(&self, path: &TreePath) -> Result<Node, CopyError> {
        let found = self.find_below(path)?.filter(Found::is_directory);
        let found = found.ok_or_else(|| CopyError::NotADirectory { path: path.clone() })?;
        let meta = meta_of(&found.stat, found.xattrs()?);
        Ok(Node { meta, kind: NodeKind::Directory { opaque: false } })
    }

    /// When a file with further names goes, the first of those names becomes the file; none of
    /// those in `leaving`.
    fn promote_link(&mut self, path: &TreePath, leaving: Option<&TreePath>) {
        let Some(Node { kind: NodeKind::File(data), .. }) = self.nodes.get(path) else { return };
        let data = data.clone();
        let stays = |name: &TreePath| leaving.is_none_or(|leaving| !name.is_within(leaving));
        let links = |node: &Node| matches!(&node.kind, NodeKind::Hardlink(first) if first == path);
        let names = self.nodes.iter().filter(|(name, node)| links(node) && stays(name));
        let names: Vec<TreePath> = names.map(|(name, _)| name.clone()).collect();
        let Some((heir, others)) = names.split_first() else { return };
        if let Some(node) = self.nodes.get_mut(heir) {
            node.kind = NodeKind::File(data);
        }
        for name in others {
            if let Some(node) = self.nodes.get_mut(name) {
                node.kind = NodeKind::Hardlink(heir.clone());
            }
        }
    }

    fn remove_inner(&mut self, path: &TreePath) {
        let was_directory = self.nodes.get(path).is_some_and(Node::is_directory);
        if !was_directory {
            return;
        }
        let inner = self.nodes.keys().filter(|other| *other != path && other.is_within(path));
        let inner: Vec<TreePath> = inner.cloned().collect();
        for name in &inner {
            self.promote_link(name, Some(path));
        }
        for name in &inner {
            self.nodes.remove(name);
        }
    }
}

impl Node {
    fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory { .. })
    }
}

/// What is known of a file, as an image has it: whole seconds.
pub(crate) fn meta_of(stat: &Stat, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Meta {
    Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.modified.seconds, xattrs }
}

/// Names that would mean a deletion in the layer's tar cannot be files.
fn check_name(path: &TreePath) -> Result<(), CopyError> {
    if corten_oci::tar::marker(path.name()).is_some() {
        return Err(CopyError::ReservedName { path: path.clone() });
    }
    Ok(())
}
