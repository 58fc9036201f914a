//! The tree that layers make together, as a whole.
//!
//! [`Snapshot`](crate::Snapshot) looks things up; this lists everything, in the order of a tar, with
//! one open directory for each layer however large the tree is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use corten_sys::beneath::{FileKind, Resolve, Root, Stat};

use crate::emit::{self, Source};
use crate::error::StoreError;
use crate::layer::Layer;
use crate::walk::{self, Item, Marks};

/// What goes to the caller's writer at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Layers as one tree.
#[derive(Debug)]
pub struct Merged {
    layers: Vec<(Root, Marks)>,
    items: BTreeMap<Vec<u8>, (usize, Item)>,
}

/// Something in a merged tree.
#[derive(Debug, Clone, Copy)]
pub struct MergedEntry<'a> {
    /// Where it is, without a slash at either end; `a` comes before `a/b`.
    pub path: &'a [u8],
    /// What is known about it.
    pub stat: &'a Stat,
    /// Where a symbolic link points; empty for others.
    pub target: &'a [u8],
    /// The entry before, whose second name this is.
    pub link: Option<&'a [u8]>,
    root: &'a Root,
}

impl MergedEntry<'_> {
    /// Opens a regular file for reading.
    pub fn open(&self) -> Result<File, StoreError> {
        let path = Path::new(OsStr::from_bytes(self.path));
        Ok(self.root.open_file(path, Resolve::NoLinks)?)
    }
}

impl Merged {
    /// Lists layers, the bottom first.
    pub fn new(layers: &[Layer]) -> Result<Self, StoreError> {
        let mut merged = Self { layers: Vec::new(), items: BTreeMap::new() };
        for (index, layer) in layers.iter().enumerate() {
            let root = Root::open(&layer.path)?;
            let marks = Marks::new(layer.in_user_namespace);
            for item in walk::list(&root, marks, None)? {
                merged.add(index, item);
            }
            merged.layers.push((root, marks));
        }
        merged.link();
        Ok(merged)
    }

    /// Puts the changes in a directory of overlayfs over the layers.
    pub(crate) fn put_over(&mut self, changes: &Path, marks: Marks) -> Result<(), StoreError> {
        let (index, root) = (self.layers.len(), Root::open(changes)?);
        for item in walk::list(&root, marks, None)? {
            self.add(index, item);
        }
        self.layers.push((root, marks));
        self.link();
        Ok(())
    }

    /// Forgets everything but a directory, what is in it, and the directories above it.
    pub fn keep_below(&mut self, directory: &[u8]) {
        let is_within = |outer: &[u8], path: &[u8]| {
            path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.items.retain(|path, _| is_within(directory, path) || is_within(path, directory));
        self.link();
    }

    /// Returns everything but the root, a directory before what is in it.
    pub fn entries(&self) -> impl Iterator<Item = MergedEntry<'_>> {
        self.items.iter().filter_map(|(path, (layer, item))| {
            let (root, _) = self.layers.get(*layer)?;
            let (stat, target, link) = (&item.stat, &item.target, item.link.as_deref());
            Some(MergedEntry { path, stat, target, link, root })
        })
    }

    /// Writes the canonical tar; returns its size.
    pub fn write_tar(&self, out: &mut dyn Write) -> Result<u64, StoreError> {
        Self::write_trees(&[(None, self)], out)
    }

    /// Writes several trees as one tar: each below a directory, or all of them at the top, where no
    /// two may have the same file. Returns the size of the tar.
    pub fn write_trees(
        trees: &[(Option<String>, &Self)],
        out: &mut dyn Write,
    ) -> Result<u64, StoreError> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        let trees = trees.iter().map(|(below, tree)| (below.as_deref(), tree.sources()));
        emit::write_merged_tar(trees, &mut out)
    }

    fn sources(&self) -> impl Iterator<Item = (Source<'_>, &Item)> {
        self.items.values().filter_map(|(layer, item)| {
            let (root, marks) = self.layers.get(*layer)?;
            Some((Source { root, marks: *marks, fix: None }, item))
        })
    }

    /// Puts an entry of the next layer over what is there.
    fn add(&mut self, layer: usize, mut item: Item) {
        let is_directory = item.stat.kind == FileKind::Directory;
        if !is_directory || item.opaque {
            self.clear(&item.path, layer);
        }
        item.opaque = false;
        let is_whiteout = item.stat.kind == FileKind::CharDevice && item.stat.represents == (0, 0);
        if is_whiteout {
            self.items.remove(&item.path);
        } else if !item.path.is_empty() {
            self.items.insert(item.path.clone(), (layer, item));
        }
    }

    /// Removes what layers below `layer` have under a directory.
    fn clear(&mut self, path: &[u8], layer: usize) {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let below = self.items.range(prefix.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(&prefix));
        let gone: Vec<Vec<u8>> =
            below.filter(|(_, (from, _))| *from < layer).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.items.remove(&path);
        }
    }

    /// Finds the first name of each file again: another layer may have replaced it.
    fn link(&mut self) {
        let mut first_names: BTreeMap<(usize, u64, u64), Vec<u8>> = BTreeMap::new();
        for (path, (layer, item)) in &mut self.items {
            if item.stat.kind == FileKind::File && item.stat.links > 1 {
                let identity = (*layer, item.stat.device, item.stat.inode);
                item.link = first_names.get(&identity).cloned();
                first_names.entry(identity).or_insert_with(|| path.clone());
            }
        }
    }
}
