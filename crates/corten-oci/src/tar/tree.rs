//! From a tree to a tar and back.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::{EntryKind, Header, Marker, Reader, TarError, Writer, marker};
use crate::tree::{Content, Kind, Meta, Node, Tree, TreePath};

/// Where the content of a file is kept; called with the path, the content and its size.
pub type KeepContent<'a> = dyn FnMut(&TreePath, &mut dyn Read, u64) -> io::Result<Content> + 'a;

/// Where the content of a file comes from; called with the path and the handle.
pub type OpenContent<'a> = dyn FnMut(&TreePath, u64) -> io::Result<Box<dyn Read>> + 'a;

/// The most that a tar read into memory may hold.
const INLINE_BYTES_MAX: u64 = 256 << 20;

impl Tree {
    /// Reads a layer tar with all content in memory.
    pub fn from_tar(tar: impl Read) -> Result<Self, TarError> {
        let mut left = INLINE_BYTES_MAX;
        Self::read_tar(tar, &mut |_, content, size| {
            left = left.checked_sub(size).ok_or_else(|| {
                io::Error::new(io::ErrorKind::FileTooLarge, "the tar is too large for memory")
            })?;
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            Ok(Content::Inline(Arc::from(bytes)))
        })
    }

    /// Reads a layer tar; whiteouts and opaque directories become nodes of their own.
    pub fn read_tar(tar: impl Read, keep: &mut KeepContent<'_>) -> Result<Self, TarError> {
        let mut reader = Reader::new(tar);
        let mut tree = Self::new();
        while let Some(header) = reader.next_entry()? {
            let path = TreePath::clean(&header.path)?;
            if path.is_root() {
                continue;
            }
            tree.check_parents(&path)?;
            match marker(path.name()) {
                None => tree.add_entry(path, header, &mut reader, keep)?,
                Some(Marker::Reserved) => {}
                Some(Marker::Whiteout(name)) => {
                    let hidden = path.parent().unwrap_or(TreePath::root()).join(name)?;
                    tree.add_whiteout(hidden);
                }
                Some(Marker::Opaque) => {
                    tree.make_opaque(&path.parent().unwrap_or(TreePath::root()));
                }
            }
        }
        Ok(tree)
    }

    fn check_parents(&self, path: &TreePath) -> Result<(), TarError> {
        let mut parent = path.parent();
        while let Some(directory) = parent.filter(|directory| !directory.is_root()) {
            if self.get(&directory).is_some_and(|node| !node.is_directory()) {
                return Err(TarError::NotInDirectory { path: path.clone() });
            }
            parent = directory.parent();
        }
        Ok(())
    }

    fn add_entry(
        &mut self,
        path: TreePath,
        header: Header,
        reader: &mut Reader<impl Read>,
        keep: &mut KeepContent<'_>,
    ) -> Result<(), TarError> {
        let Header { kind, mut meta, offset, .. } = header;
        let was_hidden = matches!(
            self.get(&path).map(|node| &node.kind),
            Some(Kind::Whiteout | Kind::Directory { opaque: true })
        );
        let kind = match kind {
            // A whiteout beside the directory that replaces it hides what was in it below.
            EntryKind::Directory { .. } => Kind::Directory { opaque: was_hidden },
            EntryKind::File { size } => {
                let content = keep(&path, reader, size);
                Kind::File(content.map_err(|source| TarError::Read { offset, source })?)
            }
            EntryKind::Symlink(target) => Kind::Symlink(target),
            EntryKind::Hardlink(target) => {
                let Some(node) = self.linked(&path, &target)? else { return Ok(()) };
                meta = node.meta;
                node.kind
            }
            EntryKind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Whiteout => Kind::Whiteout,
        };
        // A character device 0:0 is how overlayfs spells a whiteout.
        if kind == (Kind::CharDevice { major: 0, minor: 0 }) {
            self.add_whiteout(path);
            return Ok(());
        }
        self.insert(path, Node { meta, kind });
        Ok(())
    }

    /// Returns the node of a hard link; `None` if it is a link to itself.
    ///
    /// What is no regular file has no content to share, so a second name of it is a copy.
    fn linked(&self, path: &TreePath, target: &[u8]) -> Result<Option<Node>, TarError> {
        let invalid = || TarError::LinkTarget {
            path: path.clone(),
            target: String::from_utf8_lossy(target).chars().take(200).collect(),
        };
        let target = TreePath::clean(target)?;
        let node = self.file(&target).ok_or_else(invalid)?;
        let file = match self.get(&target).map(|node| &node.kind) {
            Some(Kind::Hardlink(file)) => file.clone(),
            Some(Kind::File(_)) => target,
            Some(Kind::Directory { .. } | Kind::Whiteout) | None => return Err(invalid()),
            Some(_) => return Ok(if target == *path { None } else { Some(node.clone()) }),
        };
        let own = match self.get(path).map(|node| &node.kind) {
            Some(Kind::Hardlink(own)) => own,
            _ => path,
        };
        let kind = Kind::Hardlink(file.clone());
        Ok(if *own == file { None } else { Some(Node { meta: node.meta.clone(), kind }) })
    }

    /// A whiteout hides only what is below this layer, so a node of this layer stays.
    fn add_whiteout(&mut self, hidden: TreePath) {
        match self.get(&hidden) {
            Some(node) if node.is_directory() => self.make_opaque(&hidden),
            Some(_) => {}
            None => {
                self.insert(hidden, Node { meta: Meta::default(), kind: Kind::Whiteout });
            }
        }
    }

    fn make_opaque(&mut self, directory: &TreePath) {
        let kind = Kind::Directory { opaque: true };
        let meta = self.get(directory).filter(|node| node.is_directory()).map(|n| n.meta.clone());
        let meta = meta.unwrap_or(Meta { mode: 0o755, ..Meta::default() });
        self.insert(directory.clone(), Node { meta, kind });
    }

    /// Writes the canonical tar of a tree whose content is all in memory; returns its size.
    pub fn write_tar(&self, out: impl Write) -> Result<u64, TarError> {
        let mut external = None;
        let written = self.write_tar_with(out, &mut |path, _| {
            external = Some(path.clone());
            Err(io::Error::from(io::ErrorKind::NotFound))
        });
        match external {
            Some(path) => Err(TarError::ExternalContent { path }),
            None => written,
        }
    }

    /// Writes the canonical tar of a tree; returns its size.
    pub fn write_tar_with(
        &self,
        out: impl Write,
        open: &mut OpenContent<'_>,
    ) -> Result<u64, TarError> {
        let tree = self.canonical();
        let mut writer = Writer::new(out);
        for (path, node) in tree.iter() {
            tree.check_parents(path)?;
            match &node.kind {
                Kind::File(Content::Inline(bytes)) => {
                    writer.file(path, &node.meta, bytes.len() as u64, &mut bytes.as_ref())?;
                }
                Kind::File(Content::External { handle, size }) => {
                    let mut content = open(path, *handle)
                        .map_err(|source| TarError::Read { offset: 0, source })?;
                    writer.file(path, &node.meta, *size, &mut content)?;
                }
                kind => {
                    if let Kind::Hardlink(target) = kind
                        && !matches!(tree.get(target), Some(Node { kind: Kind::File(_), .. }))
                    {
                        let target = target.to_string();
                        return Err(TarError::LinkTarget { path: path.clone(), target });
                    }
                    writer.entry(path, &node.meta, &entry_kind(kind))?;
                }
            }
        }
        let (_, size) = writer.finish()?;
        Ok(size)
    }
}

fn entry_kind(kind: &Kind) -> EntryKind {
    match kind {
        Kind::Directory { opaque } => EntryKind::Directory { opaque: *opaque },
        Kind::File(content) => EntryKind::File { size: content.size() },
        Kind::Symlink(target) => EntryKind::Symlink(target.clone()),
        Kind::Hardlink(target) => EntryKind::Hardlink(target.as_bytes().to_vec()),
        Kind::CharDevice { major, minor } => EntryKind::CharDevice { major: *major, minor: *minor },
        Kind::BlockDevice { major, minor } => {
            EntryKind::BlockDevice { major: *major, minor: *minor }
        }
        Kind::Fifo => EntryKind::Fifo,
        Kind::Whiteout => EntryKind::Whiteout,
    }
}
