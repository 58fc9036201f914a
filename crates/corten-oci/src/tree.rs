//! A root file system, or one layer of it, as a value.
//!
//! A tree maps paths to nodes, in the order of the paths' bytes, which puts a directory before what
//! is in it. Content is either in memory or elsewhere, under a handle that only its owner
//! understands. A tree that stands for a layer may hold whiteouts and opaque directories;
//! [`Tree::merge_layer`] applies them.
//!
//! Invariant: a hard link points at a regular file, never at another link, as long as that file was
//! there when the link came. When the file goes away, the first of its links becomes the file, as an
//! inode would survive.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};

/// A path within a tree: relative, of plain components, as bytes; empty for the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Vec<u8>);

/// Bytes that are not a path within a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is longer than Linux can use.
    #[error("a path is longer than {PATH_BYTES_MAX} bytes: `{0}…`")]
    TooLong(String),
    /// One component is longer than Linux can use.
    #[error("a name in the path `{0}` is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong(String),
    /// A component is `..`.
    #[error("the path `{0}` has a `..`")]
    ParentComponent(String),
    /// A component is empty or `.`.
    #[error("the path `{0}` has an empty or `.` component")]
    EmptyComponent(String),
    /// A NUL cannot be part of a name.
    #[error("the path `{0}` has a NUL byte")]
    Nul(String),
}

impl TreePath {
    /// Returns the root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks a path that must have the exact form: `usr/bin/python3`; empty for the root.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong(lossy(bytes.get(..60).unwrap_or(bytes))));
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul(lossy(bytes)));
        }
        for component in bytes.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => return Err(PathError::EmptyComponent(lossy(bytes))),
                b".." => return Err(PathError::ParentComponent(lossy(bytes))),
                long if long.len() > NAME_BYTES_MAX => {
                    return Err(PathError::NameTooLong(lossy(bytes)));
                }
                _ => {}
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Checks a foreign path and brings it into form: leading and double slashes and `.` go away;
    /// a `..` is refused.
    pub fn clean(bytes: &[u8]) -> Result<Self, PathError> {
        let mut clean = Vec::with_capacity(bytes.len());
        for component in bytes.split(|&byte| byte == b'/') {
            if component.is_empty() || component == b"." {
                continue;
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(component);
        }
        Self::new(&clean)
    }

    /// Returns the bytes; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns true for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the path of something in this directory.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if self.is_root() {
            return Self::new(name);
        }
        Self::new(&[&self.0, b"/".as_slice(), name].concat())
    }

    /// Returns the directory that this is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(Self(self.0.get(..cut).unwrap_or_default().to_vec()))
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// Returns the components, the outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// Returns true if this is `directory` or below it.
    pub fn is_within(&self, directory: &Self) -> bool {
        directory.is_root()
            || self
                .0
                .strip_prefix(directory.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// What every kind of node has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits with set-uid, set-gid and sticky (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content was changed, in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The content of a regular file.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The bytes themselves.
    Inline(Arc<[u8]>),
    /// Bytes elsewhere, found by whoever gave out the handle.
    External {
        /// The owner's name for the bytes.
        handle: u64,
        /// How many bytes there are.
        size: u64,
    },
}

impl Content {
    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::External { size, .. } => *size,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(formatter, "Inline({} bytes)", bytes.len()),
            Self::External { handle, size } => {
                write!(formatter, "External({handle}, {size} bytes)")
            }
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory {
        /// True if it hides everything of that name in the layers below.
        opaque: bool,
    },
    /// A regular file.
    File(Content),
    /// A symbolic link with its target, which may be anything.
    Symlink(Vec<u8>),
    /// A second name of the file at that path.
    Hardlink(TreePath),
    /// A character device.
    CharDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The mark that hides this name in the layers below.
    Whiteout,
}

/// A name in a tree with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Mode, owner, time, attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

impl Node {
    /// Returns true for a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }
}

/// A root file system, or one layer of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    nodes: BTreeMap<TreePath, Node>,
    /// For each file with further names: those names.
    links: BTreeMap<TreePath, BTreeSet<TreePath>>,
}

impl Tree {
    /// Returns a tree without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns true if there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the node at a path; links are not followed.
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Returns the node that holds the content: for a hard link, the file.
    pub fn file(&self, path: &TreePath) -> Option<&Node> {
        match self.nodes.get(path)? {
            Node { kind: Kind::Hardlink(target), .. } => self.nodes.get(target),
            node => Some(node),
        }
    }

    /// Returns all nodes in the order of their paths' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Node)> {
        self.nodes.iter()
    }

    /// Returns the nodes below a directory, without the directory itself.
    pub fn below(&self, directory: &TreePath) -> impl Iterator<Item = (&TreePath, &Node)> {
        self.nodes
            .range::<[u8], _>(below_bounds(directory).as_range())
            .filter(|(path, _)| !path.is_root())
    }

    /// Puts a node at a path and returns what was there.
    ///
    /// A directory that becomes something else loses what is below it.
    pub fn insert(&mut self, path: TreePath, mut node: Node) -> Option<Node> {
        let stays = node.is_directory() && self.nodes.get(&path).is_some_and(Node::is_directory);
        let old = if stays { self.nodes.remove(&path) } else { self.remove(&path) };
        if let Kind::Hardlink(target) = &mut node.kind {
            if let Some(Node { kind: Kind::Hardlink(file), .. }) = self.nodes.get(target) {
                *target = file.clone();
            }
            self.links.entry(target.clone()).or_default().insert(path.clone());
        }
        self.nodes.insert(path, node);
        old
    }

    /// Removes a node and all below it, and returns the node.
    pub fn remove(&mut self, path: &TreePath) -> Option<Node> {
        let below: Vec<TreePath> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in below.iter().rev() {
            self.remove_one(path);
        }
        self.remove_one(path)
    }

    fn remove_one(&mut self, path: &TreePath) -> Option<Node> {
        let node = self.nodes.remove(path)?;
        match &node.kind {
            Kind::Hardlink(file) => {
                if let Some(names) = self.links.get_mut(file) {
                    names.remove(path);
                    if names.is_empty() {
                        self.links.remove(file);
                    }
                }
            }
            Kind::File(_) => self.promote(path, &node),
            _ => {}
        }
        Some(node)
    }

    /// Makes the first link of a file that goes away the file.
    fn promote(&mut self, file: &TreePath, node: &Node) {
        let Some(mut names) = self.links.remove(file) else { return };
        let Some(heir) = names.pop_first() else { return };
        for name in &names {
            if let Some(link) = self.nodes.get_mut(name) {
                link.kind = Kind::Hardlink(heir.clone());
            }
        }
        self.nodes.insert(heir.clone(), node.clone());
        if !names.is_empty() {
            self.links.insert(heir, names);
        }
    }

    /// Puts a layer on top: whiteouts remove, opaque directories hide, everything else replaces.
    pub fn merge_layer(&mut self, layer: &Self) {
        // First everything that the layer hides, so that what it brings is never hidden by itself.
        for (path, node) in layer.iter() {
            self.remove_blocking(path, layer);
            let keeps = node.is_directory() && self.nodes.get(path).is_some_and(Node::is_directory);
            if !keeps {
                self.remove(path);
            } else if node.kind == (Kind::Directory { opaque: true }) {
                let hidden: Vec<TreePath> =
                    self.below(path).map(|(path, _)| path.clone()).collect();
                for path in hidden.iter().rev() {
                    self.remove_one(path);
                }
            }
        }
        for (path, node) in layer.iter() {
            let mut node = node.clone();
            match &mut node.kind {
                Kind::Whiteout => continue,
                Kind::Directory { opaque } => *opaque = false,
                _ => {}
            }
            self.insert(path.clone(), node);
        }
    }

    /// Removes what is no directory but has a node of the layer below it: a layer need not mention
    /// the directories that it is in.
    fn remove_blocking(&mut self, path: &TreePath, layer: &Self) {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|above| !above.is_root()) {
            let is_directory = |tree: &Self| tree.get(&directory).is_some_and(Node::is_directory);
            if is_directory(self) || layer.get(&directory).is_some() {
                // Everything further up was seen when this directory was.
                return;
            }
            self.remove(&directory);
            above = directory.parent();
        }
    }

    /// Returns the same tree in the one form that a tar gives back: without the root, whiteouts
    /// without properties, and the first name of each hard-linked file being the file.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut tree = self.clone();
        tree.nodes.remove(&TreePath::root());
        for node in tree.nodes.values_mut().filter(|node| node.kind == Kind::Whiteout) {
            node.meta = Meta::default();
        }
        for (file, names) in std::mem::take(&mut tree.links) {
            let mut names = names;
            names.insert(file.clone());
            let node = tree.nodes.get(&file).cloned();
            let (Some(first), Some(node)) = (names.pop_first(), node) else { continue };
            for name in &names {
                let kind = Kind::Hardlink(first.clone());
                tree.nodes.insert(name.clone(), Node { meta: node.meta.clone(), kind });
            }
            tree.nodes.insert(first.clone(), node);
            tree.links.insert(first, names);
        }
        tree
    }
}

/// The keys strictly below a directory lie between `dir/` and `dir0`, since `0` follows `/`.
struct BelowBounds(Option<(Vec<u8>, Vec<u8>)>);

impl BelowBounds {
    fn as_range(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match &self.0 {
            Some((from, to)) => (Bound::Included(from), Bound::Excluded(to)),
            None => (Bound::Unbounded, Bound::Unbounded),
        }
    }
}

fn below_bounds(directory: &TreePath) -> BelowBounds {
    if directory.is_root() {
        return BelowBounds(None);
    }
    let with = |byte: u8| [directory.as_bytes(), &[byte]].concat();
    BelowBounds(Some((with(b'/'), with(b'/' + 1))))
}
