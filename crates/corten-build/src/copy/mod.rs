//! `COPY` and `ADD` as a function: from the files of an input and the files below to a layer.
//!
//! The rules are those of Docker's builder (the `copy` package of fsutil), down to its oddities:
//! - A source that is a directory gives its content; its own owner and mode are not copied.
//! - A source that is a link is followed, links below it are copied as links.
//! - A destination is a directory if it ends in `/` or is one; links in it are followed.
//! - A link at the place of a file is replaced, one at the place of a directory is an error.
//!
//! Files of a context get the epoch as time and, without `--chown`, root as owner.

mod archive;
mod draft;
mod matcher;
pub(crate) mod mode;
pub(crate) mod owner;
pub(crate) mod select;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use corten_oci::tree::{Meta, TreePath};
use corten_runtime::user::UserError;
use corten_sys::beneath::FileKind;
use corten_sys::error::IoError;

pub(crate) use archive::ArchiveError;
pub(crate) use draft::Draft;
use draft::{Data, Node, NodeKind, Seen, meta_of};
use select::{Entry, Item, Part, Selection, clean};

use crate::files::{Directories, Files, FilesError, Found, NoFiles, join};
use crate::graph::{CopyOp, WorkdirOp};

/// The mode of directories that are made on the way.
const MADE_DIRECTORY_MODE: u32 = 0o755;

/// The mode of files that stand in the Dockerfile.
const INLINE_FILE_MODE: u32 = 0o644;

/// Why a `COPY` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("failed to find `{path}`")]
    NotFound {
        /// Which source of the instruction.
        word: usize,
        path: String,
        /// What may have been meant.
        near: Option<String>,
    },
    #[error("`{text}` is no valid pattern")]
    Pattern { text: String },
    #[error("`/{path}` is no directory, so nothing can be copied into it")]
    NotADirectory { path: TreePath },
    #[error("cannot replace the directory `/{path}` with a file")]
    IsADirectory { path: TreePath },
    #[error("cannot make a file named `/{path}`: the name is a deletion mark in images")]
    ReservedName { path: TreePath },
    #[error("failed to give `/{path}` the owner {uid}:{gid}")]
    SetOwner {
        path: TreePath,
        uid: u32,
        gid: u32,
        #[source]
        source: IoError,
    },
    #[error("failed to unpack the archive")]
    Archive(#[source] Box<ArchiveError>),
    #[error(transparent)]
    Owner(#[from] UserError),
    #[error(transparent)]
    Write(IoError),
}

impl CopyError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Files(error) => error.hint(),
            Self::Owner(error) => error.hint(),
            Self::NotADirectory { .. } => {
                Some("copy the parts one by one, or remove what is there first".to_owned())
            }
            Self::IsADirectory { path } => {
                Some(format!("end the destination with `/` to copy into `/{path}/`"))
            }
            Self::SetOwner { .. } => Some(
                "an ordinary user has only the ids of `/etc/subuid` and `/etc/subgid`".to_owned(),
            ),
            _ => None,
        }
    }
}

/// What a layer is written with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// An empty directory that becomes the layer.
    pub(crate) tree: &'a Path,
    /// An empty directory on the same file system; it is empty again afterwards.
    pub(crate) spool: &'a Path,
    /// The attribute that makes a directory opaque.
    pub(crate) opaque: &'a [u8],
    pub(crate) epoch: i64,
}

/// What is copied to what, and how.
#[derive(Clone, Copy)]
pub(crate) struct Copying<'a> {
    pub(crate) op: &'a CopyOp,
    pub(crate) selection: &'a Selection,
    /// Whether owners and times of the source count.
    pub(crate) keeps_metadata: bool,
    pub(crate) below: &'a dyn Files,
    /// `--chown`, resolved.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Writes the layer of a `COPY` or `ADD`.
pub(crate) fn copy(copying: &Copying<'_>, place: &Place<'_>) -> Result<(), CopyError> {
    let nodes = draft(copying, place.epoch, &mut archive::Spool::new(place.spool))?;
    write::write(&nodes, &write::Target { tree: place.tree, opaque: place.opaque })?;
    clear(place.spool)
}

/// The directories below that a linked copy goes to or through; `None` if it unpacks an archive,
/// whose names nobody knows before. Nothing is written.
pub(crate) fn directories_below(
    op: &CopyOp,
    selection: &Selection,
    below: &dyn Files,
) -> Result<Option<BTreeMap<TreePath, Found>>, CopyError> {
    for item in &selection.items {
        if unpacks(op, item)? {
            return Ok(None);
        }
    }
    let directories = Directories::new(below);
    let keeps_metadata = false;
    let copying = Copying { op, selection, keeps_metadata, below: &directories, owner: None };
    draft(&copying, 0, &mut archive::Spool::new(Path::new("")))?;
    Ok(Some(directories.into_seen()))
}

/// Whether a source is an archive that is to be unpacked.
fn unpacks(op: &CopyOp, item: &Item) -> Result<bool, CopyError> {
    let Some(root) = item.entries.first() else { return Ok(false) };
    let remote = op.sources.get(item.word).is_some_and(|word| word.remote.is_some());
    let wanted = if remote { op.unpack_remote } else { op.unpack };
    Ok(wanted && root.found.stat.kind == FileKind::File && archive::is_archive(&root.found)?)
}

/// Computes the layer. Only the content of large files in archives touches the disk, in the spool.
fn draft(
    copying: &Copying<'_>,
    epoch: i64,
    spool: &mut archive::Spool,
) -> Result<BTreeMap<TreePath, Node>, CopyError> {
    let Copying { op, owner, .. } = *copying;
    let mode = op.mode.as_ref().and_then(mode::ModeChange::for_made_directory);
    let made = Meta {
        mode: mode.unwrap_or(MADE_DIRECTORY_MODE),
        uid: owner.map_or(0, |owner| owner.0),
        gid: owner.map_or(0, |owner| owner.1),
        mtime: epoch,
        ..Meta::default()
    };
    let keeps_metadata = copying.keeps_metadata;
    let draft = Draft::new(copying.below);
    let mut copier = Copier { op, owner, made, epoch, keeps_metadata, draft };
    for item in &copying.selection.items {
        copier.item(item, spool)?;
    }
    for file in &op.inline {
        copier.inline(&file.name, file.content.as_bytes())?;
    }
    copier.draft.finish()
}

/// Writes the layer of a `WORKDIR`: the directories that are missing.
pub(crate) fn workdir(
    op: &WorkdirOp,
    below: &dyn Files,
    owner: Option<(u32, u32)>,
    place: &Place<'_>,
) -> Result<(), CopyError> {
    let (uid, gid) = owner.unwrap_or_default();
    let meta = Meta { mode: MADE_DIRECTORY_MODE, uid, gid, mtime: place.epoch, ..Meta::default() };
    let mut draft = Draft::new(below);
    let path = draft.resolve(&TreePath::root(), op.path.as_bytes())?;
    draft.make_dirs(&path, &meta)?;
    let nodes = draft.finish()?;
    write::write(&nodes, &write::Target { tree: place.tree, opaque: place.opaque })
}

/// Whether a file is an archive that is a build context.
pub(crate) fn is_context_archive(file: &File) -> Result<bool, CopyError> {
    let own = file.try_clone().map_err(ArchiveError::Read)?;
    archive::is_context(own)
}

/// Unpacks a foreign archive into an empty directory, as files of root. `spool` is an empty
/// directory on the same file system.
pub(crate) fn unpack_context(file: File, tree: &Path, spool: &Path) -> Result<(), CopyError> {
    let size = file.metadata().map_err(ArchiveError::Read)?.len();
    let none = NoFiles;
    let mut draft = Draft::new(&none);
    let made = Meta { mode: MADE_DIRECTORY_MODE, ..Meta::default() };
    let rules =
        archive::Rules { owner: Some((0, 0)), special: archive::Special::Refuse, made: &made };
    let mut spooled = archive::Spool::new(spool);
    let root = TreePath::root();
    archive::unpack_file((file, size), &mut draft, &root, &rules, &mut spooled)?;
    let nodes = draft.finish()?;
    // No directory gets opaque here, so the attribute does not matter.
    write::write(&nodes, &write::Target { tree, opaque: b"user.overlay.opaque" })?;
    clear(spool)
}

/// Removes contents that were unpacked and then replaced by the archive itself.
fn clear(spool: &Path) -> Result<(), CopyError> {
    for name in corten_sys::file::list_dir(spool)? {
        corten_sys::file::remove_tree(&spool.join(name))?;
    }
    Ok(())
}

struct Copier<'a> {
    op: &'a CopyOp,
    owner: Option<(u32, u32)>,
    /// For directories that are made on the way.
    made: Meta,
    epoch: i64,
    keeps_metadata: bool,
    draft: Draft<'a>,
}

impl Copier<'_> {
    fn item(&mut self, item: &Item, spool: &mut archive::Spool) -> Result<(), CopyError> {
        let Some(root) = item.entries.first() else { return Ok(()) };
        if unpacks(self.op, item)? {
            let dest = self.draft.resolve(&TreePath::root(), self.op.dest.as_bytes())?;
            let made = Meta { mode: MADE_DIRECTORY_MODE, ..self.made.clone() };
            self.draft.make_dirs(&dest, &made)?;
            // Directories that the archive only implies belong to root whatever `--chown` says.
            let implied = Meta { uid: 0, gid: 0, ..made };
            let rules = archive::Rules {
                owner: self.owner,
                special: archive::Special::Make,
                made: &implied,
            };
            return archive::unpack(&root.found, &mut self.draft, &dest, &rules, spool);
        }
        let dest = self.destination(&item.name, root.found.is_directory())?;
        for entry in &item.entries {
            self.entry(item, entry, &dest)?;
        }
        Ok(())
    }

    fn inline(&mut self, name: &str, content: &[u8]) -> Result<(), CopyError> {
        let dest = self.destination(name.as_bytes(), false)?;
        let mode = self.mode(INLINE_FILE_MODE, false);
        let meta = Meta { mode, ..self.made.clone() };
        self.put_file(dest, Node { meta, kind: NodeKind::File(Data::Bytes(content.to_vec())) })
    }

    /// Finds where a source goes, and makes the directories above it.
    fn destination(&mut self, name: &[u8], is_directory: bool) -> Result<TreePath, CopyError> {
        let root = TreePath::root();
        let dest = self.op.dest.as_bytes();
        let cut = dest.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (folder, last) = dest.split_at(cut);
        let ensured = if last.is_empty() || last == b"." { dest } else { folder };
        let ensured = self.draft.resolve(&root, ensured)?;
        self.draft.make_dirs(&ensured, &self.made)?;
        let mut path = self.draft.resolve(&root, &clean(&self.op.dest))?;
        let seen = self.draft.look(&path)?;
        if !is_directory && seen == Some(Seen::Directory) {
            path = join(&path, name)?;
        }
        let parent = if is_directory && seen.is_none() {
            path.clone()
        } else {
            path.parent().unwrap_or_else(TreePath::root)
        };
        self.draft.make_dirs(&parent, &self.made)?;
        Ok(path)
    }

    fn entry(&mut self, item: &Item, entry: &Entry, dest: &TreePath) -> Result<(), CopyError> {
        let path = below(dest, &entry.below)?;
        let kind = match entry.found.stat.kind {
            FileKind::Directory => return self.directory(item, entry, path),
            FileKind::File => match (entry.same_as, entry.content) {
                (Some(first), _) => {
                    let first = item.entries.get(first).map(|first| &first.below);
                    let first = below(dest, first.unwrap_or(&entry.below))?;
                    NodeKind::Hardlink(first)
                }
                (None, Some(content)) => {
                    NodeKind::File(Data::Found(Box::new(entry.found.clone()), content))
                }
                (None, None) => {
                    return Err(FilesError::Changed { path: entry.found.path.clone() }.into());
                }
            },
            FileKind::Symlink => NodeKind::Symlink(entry.target.clone()),
            FileKind::CharDevice if entry.found.stat.represents == (0, 0) => {
                return Err(CopyError::ReservedName { path });
            }
            FileKind::CharDevice => {
                NodeKind::CharDevice(entry.found.stat.represents.0, entry.found.stat.represents.1)
            }
            FileKind::BlockDevice => {
                NodeKind::BlockDevice(entry.found.stat.represents.0, entry.found.stat.represents.1)
            }
            FileKind::Fifo => NodeKind::Fifo,
            // Contexts do not show sockets and layers have none.
            FileKind::Socket => return Ok(()),
        };
        let meta = self.meta(item, entry)?;
        self.put_file(path, Node { meta, kind })
    }

    fn directory(&mut self, item: &Item, entry: &Entry, path: TreePath) -> Result<(), CopyError> {
        let is_source = entry.below.is_root();
        match self.draft.look(&path)? {
            None => {
                let meta = self.meta(item, entry)?;
                self.draft.put(path, Node { meta, kind: NodeKind::Directory { opaque: false } })
            }
            Some(Seen::Directory) if is_source => Ok(()),
            Some(Seen::Directory) if entry.part == Part::Passage => {
                let mode = entry.found.stat.mode;
                self.draft.change_directory(&path, |meta| meta.mode = mode)
            }
            Some(Seen::Directory) => {
                let new = self.meta(item, entry)?;
                self.draft.change_directory(&path, |meta| *meta = new)
            }
            Some(_) => Err(CopyError::NotADirectory { path }),
        }
    }

    fn put_file(&mut self, path: TreePath, node: Node) -> Result<(), CopyError> {
        if self.draft.look(&path)? == Some(Seen::Directory) {
            return Err(CopyError::IsADirectory { path });
        }
        self.draft.put(path, node)
    }

    fn meta(&self, item: &Item, entry: &Entry) -> Result<Meta, CopyError> {
        let stat = &entry.found.stat;
        let xattrs = match stat.kind {
            FileKind::File | FileKind::Directory => entry.found.xattrs()?,
            _ => BTreeMap::new(),
        };
        let mut meta = meta_of(stat, xattrs);
        if !self.keeps_metadata {
            (meta.uid, meta.gid, meta.mtime) = (0, 0, self.epoch);
        }
        if let Some(time) = item.time {
            meta.mtime = time.min(self.epoch);
        }
        if let Some((uid, gid)) = self.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        meta.mode = self.mode(stat.mode, entry.found.is_directory());
        Ok(meta)
    }

    fn mode(&self, mode: u32, is_directory: bool) -> u32 {
        self.op.mode.as_ref().map_or(mode, |change| change.apply(mode, is_directory))
    }
}

fn below(dest: &TreePath, below: &TreePath) -> Result<TreePath, CopyError> {
    let mut path = dest.clone();
    for component in below.components() {
        path = join(&path, component)?;
    }
    Ok(path)
}
