//! The root file system in the making: a tree with the content in the spool.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::sync::Arc;

use corten_oci::limits::SYMLINK_DEPTH_MAX;
use corten_oci::tar::TarError;
use corten_oci::tree::{Content, Kind, Meta, Node, Tree, TreePath};

use crate::relation;
use crate::spool::Spool;
use crate::unpack::{Entry, Unpacked};

/// The directories that a merged `/usr` has as links, of all architectures.
const MERGED: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// The largest file that an effect reads into memory.
const READ_BYTES_MAX: u64 = 256 << 20;

/// Packages that cannot be merged, or an effect that does not fit what they brought.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// Two packages have the same file with different content.
    #[error("`{package}` and `{other}` both have `/{path}`, and neither replaces the other")]
    Conflict {
        /// The path.
        path: String,
        /// The later package.
        package: String,
        /// The earlier package.
        other: String,
    },
    /// A path leads through too many links.
    #[error("`/{path}` leads through too many symbolic links")]
    Loop {
        /// The path.
        path: String,
    },
    /// A file is where a directory must be.
    #[error("`/{path}` is needed as a directory, but it is something else")]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// A hard link leads nowhere.
    #[error("`{package}` has the hard link `/{path}` to a file that it does not have")]
    LinkTarget {
        /// The package.
        package: String,
        /// The path.
        path: String,
    },
    /// A path cannot be used.
    #[error("a path is not usable")]
    Path(#[from] corten_oci::tree::PathError),
    /// A file that an effect needs is missing.
    #[error("`/{path}` is missing, which the effect `{effect}` needs")]
    Missing {
        /// The path.
        path: String,
        /// The effect.
        effect: &'static str,
    },
    /// Content could not be read back.
    #[error("failed to read `/{path}`")]
    Read {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A root file system in the making.
#[derive(Debug)]
pub(crate) struct Rootfs<'s> {
    tree: Tree,
    spool: &'s Spool,
    /// The package that each file came from, as a number in the order of merging.
    owners: BTreeMap<TreePath, usize>,
    /// Directories that are made only if something is in them.
    latent: BTreeMap<TreePath, Meta>,
    /// The time of what no package brought.
    epoch: i64,
}

impl<'s> Rootfs<'s> {
    pub(crate) fn new(spool: &'s Spool, epoch: i64) -> Self {
        Self { tree: Tree::new(), spool, owners: BTreeMap::new(), latent: BTreeMap::new(), epoch }
    }

    /// Makes the links of a merged `/usr`; they must be there before any package comes.
    pub(crate) fn merge_usr(&mut self, architecture: &str) -> Result<(), RootfsError> {
        self.mkdir("usr", 0o755)?;
        for name in MERGED {
            // Only amd64 has libraries of other word sizes; arm64's loader is in /lib.
            if matches!(name, "lib32" | "lib64" | "libx32") && architecture != "amd64" {
                continue;
            }
            self.mkdir(&format!("usr/{name}"), 0o755)?;
            self.symlink(name, &format!("usr/{name}"))?;
        }
        Ok(())
    }

    /// Puts the files of packages in, in the order that is given.
    pub(crate) fn merge(&mut self, packages: &[Unpacked]) -> Result<(), RootfsError> {
        for (number, package) in packages.iter().enumerate() {
            let mut folders = BTreeMap::new();
            for entry in &package.entries {
                self.merge_entry(packages, number, entry, &mut folders)?;
            }
        }
        Ok(())
    }

    fn merge_entry(
        &mut self,
        packages: &[Unpacked],
        number: usize,
        entry: &Entry,
        folders: &mut BTreeMap<TreePath, TreePath>,
    ) -> Result<(), RootfsError> {
        let parent = entry.path.parent().unwrap_or(TreePath::root());
        let folder = if let Some(folder) = folders.get(&parent) {
            folder.clone()
        } else {
            let folder = self.resolve_folder(&parent)?;
            folders.insert(parent, folder.clone());
            folder
        };
        let path = folder.join(entry.path.name())?;
        if !entry.included {
            self.latent.entry(path).or_insert_with(|| entry.meta.clone());
            return Ok(());
        }
        let existing = self.tree.get(&path);
        if matches!(entry.kind, Kind::Directory { .. }) && existing.is_some() {
            // What is there stays: a directory of another package, or a link to one.
            return match self.folder_at(&path)? {
                Some(_) => Ok(()),
                None => Err(RootfsError::NotADirectory { path: path.to_string() }),
            };
        }
        let kind = match &entry.kind {
            Kind::Hardlink(target) => {
                let folder = self.resolve_folder(&target.parent().unwrap_or(TreePath::root()))?;
                let target = folder.join(target.name())?;
                if !matches!(self.tree.file(&target), Some(Node { kind: Kind::File(_), .. })) {
                    let package = packages.get(number).map(|package| package.name.clone());
                    let path = path.to_string();
                    return Err(RootfsError::LinkTarget {
                        package: package.unwrap_or_default(),
                        path,
                    });
                }
                Kind::Hardlink(target)
            }
            kind => kind.clone(),
        };
        let node = Node { meta: self.clamp(entry.meta.clone()), kind };
        if existing.is_some() && !self.may_replace(packages, number, &path, &node)? {
            return Ok(());
        }
        if matches!(node.kind, Kind::Symlink(_)) {
            // A link may change where the paths after it lead.
            folders.clear();
        }
        self.ensure_folder(&folder)?;
        self.tree.insert(path.clone(), node);
        self.owners.insert(path, number);
        Ok(())
    }

    /// Decides between two packages that have the same path: equal content is no conflict, and
    /// otherwise the one that says that it replaces the other wins.
    fn may_replace(
        &self,
        packages: &[Unpacked],
        number: usize,
        path: &TreePath,
        node: &Node,
    ) -> Result<bool, RootfsError> {
        let Some(other_number) = self.owners.get(path) else { return Ok(false) };
        let (Some(package), Some(other)) = (packages.get(number), packages.get(*other_number))
        else {
            return Ok(false);
        };
        if *other_number == number || replaces(package, other) {
            return Ok(true);
        }
        let same = match (&node.kind, self.tree.get(path).map(|node| &node.kind)) {
            (Kind::File(new), Some(Kind::File(old))) => {
                new.size() == old.size() && self.bytes(path, new)? == self.bytes(path, old)?
            }
            (new, Some(old)) => new == old,
            (_, None) => true,
        };
        if same || replaces(other, package) {
            return Ok(false);
        }
        let (package, other) = (package.name.clone(), other.name.clone());
        Err(RootfsError::Conflict { path: path.to_string(), package, other })
    }

    fn clamp(&self, mut meta: Meta) -> Meta {
        meta.mtime = meta.mtime.min(self.epoch);
        meta
    }

    /// Follows the links in a path to a directory; what does not exist yet is taken as it is.
    fn resolve_folder(&self, path: &TreePath) -> Result<TreePath, RootfsError> {
        let mut left: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        left.reverse();
        let mut resolved = TreePath::root();
        let mut links = 0;
        while let Some(component) = left.pop() {
            if component == b".." {
                resolved = resolved.parent().unwrap_or(TreePath::root());
                continue;
            }
            let next = resolved.join(&component)?;
            match self.tree.get(&next).map(|node| &node.kind) {
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > SYMLINK_DEPTH_MAX {
                        return Err(RootfsError::Loop { path: path.to_string() });
                    }
                    if target.starts_with(b"/") {
                        resolved = TreePath::root();
                    }
                    let parts = target.split(|byte| *byte == b'/');
                    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
                    left.extend(parts.rev().map(<[u8]>::to_vec));
                }
                Some(Kind::Directory { .. }) | None => resolved = next,
                Some(_) => return Err(RootfsError::NotADirectory { path: next.to_string() }),
            }
        }
        Ok(resolved)
    }

    fn folder_at(&self, path: &TreePath) -> Result<Option<TreePath>, RootfsError> {
        match self.resolve_folder(path) {
            Ok(folder) => {
                Ok(self.tree.get(&folder).filter(|node| node.is_directory()).map(|_| folder))
            }
            Err(RootfsError::NotADirectory { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a directory and its parents where they are missing.
    fn ensure_folder(&mut self, folder: &TreePath) -> Result<(), RootfsError> {
        if folder.is_root() {
            return Ok(());
        }
        match self.tree.get(folder) {
            Some(node) if node.is_directory() => return Ok(()),
            Some(_) => return Err(RootfsError::NotADirectory { path: folder.to_string() }),
            None => {}
        }
        self.ensure_folder(&folder.parent().unwrap_or(TreePath::root()))?;
        let meta = self.latent.get(folder).cloned().map(|meta| self.clamp(meta));
        let meta = meta.unwrap_or(Meta { mode: 0o755, mtime: self.epoch, ..Meta::default() });
        self.tree.insert(folder.clone(), Node { meta, kind: Kind::Directory { opaque: false } });
        Ok(())
    }

    /// Follows the links in a path, the last one too; `None` if nothing is there.
    pub(crate) fn resolve(&self, path: &str) -> Option<TreePath> {
        let mut path = TreePath::clean(path.as_bytes()).ok()?;
        for _ in 0..SYMLINK_DEPTH_MAX {
            let folder = self.resolve_folder(&path.parent()?).ok()?;
            path = folder.join(path.name()).ok()?;
            match &self.tree.get(&path)?.kind {
                Kind::Symlink(target) => {
                    let base = if target.starts_with(b"/") { TreePath::root() } else { folder };
                    let joined = [base.as_bytes(), b"/", target].concat();
                    path = lexical(&joined)?;
                }
                _ => return Some(path),
            }
        }
        None
    }

    /// Returns the node behind a path, links followed.
    pub(crate) fn node(&self, path: &str) -> Option<&Node> {
        self.tree.file(&self.resolve(path)?)
    }

    /// Returns true if something has this name; a dangling link counts.
    pub(crate) fn has_name(&self, path: &str) -> bool {
        self.locate(path).is_ok_and(|path| self.tree.get(&path).is_some())
    }

    /// Returns the content of a file, links followed; `None` if there is no such file.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, RootfsError> {
        let Some(resolved) = self.resolve(path) else { return Ok(None) };
        match self.tree.file(&resolved).map(|node| &node.kind) {
            Some(Kind::File(content)) => self.bytes(&resolved, content).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the content of a file as text; what is not UTF-8 is replaced.
    pub(crate) fn read_text(&self, path: &str) -> Result<Option<String>, RootfsError> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Returns the content of a file that an effect cannot do without.
    pub(crate) fn need(&self, path: &str, effect: &'static str) -> Result<String, RootfsError> {
        self.read_text(path)?.ok_or_else(|| RootfsError::Missing { path: path.to_owned(), effect })
    }

    fn bytes(&self, path: &TreePath, content: &Content) -> Result<Vec<u8>, RootfsError> {
        match content {
            Content::Inline(bytes) => Ok(bytes.to_vec()),
            Content::External { handle, size } => {
                let read = || {
                    if *size > READ_BYTES_MAX {
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                    let mut bytes = Vec::with_capacity(usize::try_from(*size).unwrap_or_default());
                    self.spool.open(*handle, *size)?.read_to_end(&mut bytes)?;
                    Ok(bytes)
                };
                read().map_err(|source| RootfsError::Read { path: path.to_string(), source })
            }
        }
    }

    /// Returns the first bytes of a file's content, by its exact path.
    pub(crate) fn head(&self, path: &TreePath, limit: usize) -> Result<Vec<u8>, RootfsError> {
        let Some(Node { kind: Kind::File(content), .. }) = self.tree.file(path) else {
            return Ok(Vec::new());
        };
        match content {
            Content::Inline(bytes) => Ok(bytes.get(..limit).unwrap_or(bytes).to_vec()),
            Content::External { handle, size } => {
                let read = || {
                    let mut bytes = Vec::new();
                    self.spool.open(*handle, (*size).min(limit as u64))?.read_to_end(&mut bytes)?;
                    Ok(bytes)
                };
                read().map_err(|source| RootfsError::Read { path: path.to_string(), source })
            }
        }
    }

    /// Returns the names in a directory, links followed, in order.
    pub(crate) fn list(&self, path: &str) -> Vec<Vec<u8>> {
        let Some(folder) = self.resolve(path) else { return Vec::new() };
        let depth = folder.components().count() + 1;
        let below = self.tree.below(&folder);
        below
            .filter(|(path, _)| path.components().count() == depth)
            .map(|(path, _)| path.name().to_vec())
            .collect()
    }

    /// Returns the tree as it is now.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the time of what no package brought.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Returns where a name is: links in the directories before it are followed, the last is not.
    pub(crate) fn locate(&self, path: &str) -> Result<TreePath, RootfsError> {
        let path = TreePath::clean(path.as_bytes())?;
        let folder = self.resolve_folder(&path.parent().unwrap_or(TreePath::root()))?;
        Ok(folder.join(path.name())?)
    }

    fn place(&mut self, path: &str, meta: Meta, kind: Kind) -> Result<(), RootfsError> {
        let path = self.locate(path)?;
        self.ensure_folder(&path.parent().unwrap_or(TreePath::root()))?;
        self.owners.remove(&path);
        self.tree.insert(path, Node { meta, kind });
        Ok(())
    }

    fn meta(&self, mode: u32) -> Meta {
        Meta { mode, mtime: self.epoch, ..Meta::default() }
    }

    /// Writes a file of root; what was there is replaced.
    pub(crate) fn write(
        &mut self,
        path: &str,
        bytes: impl AsRef<[u8]>,
        mode: u32,
    ) -> Result<(), RootfsError> {
        let kind = Kind::File(Content::Inline(Arc::from(bytes.as_ref())));
        self.place(path, self.meta(mode), kind)
    }

    /// Writes a file that belongs to a group.
    pub(crate) fn write_for(
        &mut self,
        path: &str,
        bytes: impl AsRef<[u8]>,
        mode: u32,
        gid: u32,
    ) -> Result<(), RootfsError> {
        let kind = Kind::File(Content::Inline(Arc::from(bytes.as_ref())));
        self.place(path, Meta { gid, ..self.meta(mode) }, kind)
    }

    /// Writes a file with a time of its own.
    pub(crate) fn write_dated(
        &mut self,
        path: &str,
        bytes: impl AsRef<[u8]>,
        mode: u32,
        mtime: i64,
    ) -> Result<(), RootfsError> {
        let kind = Kind::File(Content::Inline(Arc::from(bytes.as_ref())));
        let meta = self.clamp(Meta { mtime, ..self.meta(mode) });
        self.place(path, meta, kind)
    }

    /// Makes a directory of root unless there is one.
    pub(crate) fn mkdir(&mut self, path: &str, mode: u32) -> Result<(), RootfsError> {
        self.mkdir_for(path, mode, 0)
    }

    /// Makes a directory of a group unless there is one.
    pub(crate) fn mkdir_for(&mut self, path: &str, mode: u32, gid: u32) -> Result<(), RootfsError> {
        let located = self.locate(path)?;
        if self.folder_at(&located)?.is_some() {
            return Ok(());
        }
        self.place(path, Meta { gid, ..self.meta(mode) }, Kind::Directory { opaque: false })
    }

    /// Makes a symbolic link; what was there is replaced.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<(), RootfsError> {
        self.place(path, self.meta(0o777), Kind::Symlink(target.as_bytes().to_vec()))
    }

    /// Copies a file with its mode and time, as `cp -p` does.
    pub(crate) fn copy(&mut self, from: &str, to: &str) -> Result<(), RootfsError> {
        let node = self.node(from).cloned();
        let Some(Node { meta, kind: kind @ Kind::File(_) }) = node else {
            return Err(RootfsError::Missing { path: from.to_owned(), effect: "copy" });
        };
        self.place(to, meta, kind)
    }

    /// Removes a name and all below it; absence is success.
    pub(crate) fn remove(&mut self, path: &str) -> Result<(), RootfsError> {
        let path = self.locate(path)?;
        self.tree.remove(&path);
        self.owners.remove(&path);
        Ok(())
    }

    /// Writes the canonical tar of everything.
    pub(crate) fn write_tar(&self, out: impl Write) -> Result<u64, TarError> {
        let sizes = |path: &TreePath| match self.tree.file(path).map(|node| &node.kind) {
            Some(Kind::File(content)) => content.size(),
            _ => 0,
        };
        self.tree.write_tar_with(out, &mut |path, handle| {
            Ok(Box::new(self.spool.open(handle, sizes(path))?))
        })
    }
}

/// Applies `..` and `.` by text; for targets of links, whose directories were resolved before.
fn lexical(path: &[u8]) -> Option<TreePath> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    TreePath::new(&parts.join(&b'/')).ok()
}

fn replaces(package: &Unpacked, other: &Unpacked) -> bool {
    let control = crate::deb822::paragraphs(&package.control.control).next().unwrap_or_default();
    relation::parse(control.text("Replaces"), &package.architecture).iter().flatten().any(
        |relation| {
            relation.name == other.name
                && relation.version.is_none_or(|constraint| constraint.allows(&other.version))
        },
    )
}
