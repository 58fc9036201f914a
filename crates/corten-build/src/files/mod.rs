//! Where `COPY` takes files from: a context directory, or the layers of a stage.
//!
//! Both are read without a mount and without leaving them: a link is resolved as if the root of the
//! files were `/`.

mod context;
mod ignore;
mod layers;
mod stat_cache;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use corten_oci::digest::{Digest, Hasher};
use corten_oci::limits;
use corten_oci::tree::{PathError, TreePath};
use corten_store::{Resolved, StoreError};
use corten_sys::beneath::{self, FileKind, Stat};
use corten_sys::error::{IoError, at};
use corten_sys::file;

pub(crate) use context::ContextFiles;
pub(crate) use ignore::{IgnoreFile, Rule};
pub(crate) use layers::LayerFiles;
pub(crate) use stat_cache::StatCache;

/// Files of up to this size are read whole when they are copied, and so hashed once more for free.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// The buffer for hashing.
const BUFFER_BYTES: usize = 256 * 1024;

/// How often a file that changes while it is read is read again.
const READS_MAX: u32 = 3;

/// Below this many bytes the threads cost more than they save.
const PARALLEL_BYTES_MIN: u64 = 2 << 20;

/// Files that can be looked up, listed and read.
pub(crate) trait Files: Sync {
    /// What has this name; a link is not followed, and nothing is below a link.
    fn find(&self, path: &TreePath) -> Result<Option<Found>, FilesError>;

    /// What is in a directory, in the order of the names' bytes.
    fn list(&self, directory: &Found) -> Result<Vec<Found>, FilesError>;

    /// The digests of regular files.
    fn digests(&self, files: &[&Found]) -> Result<Vec<Content>, FilesError>;

    /// Whether owners, times, attributes and hard links count. In a context they do not: they differ
    /// from one check-out to the next.
    fn keeps_metadata(&self) -> bool;
}

/// A name near a missing path, in the directory where it would be; for messages.
pub(crate) fn near(files: &dyn Files, path: &[u8]) -> Option<String> {
    let path = TreePath::clean(path).ok()?;
    let parent = path.parent()?;
    let directory = files.find(&parent).ok().flatten()?;
    let siblings = files.list(&directory).ok()?;
    let names: Vec<String> = siblings
        .iter()
        .map(|found| String::from_utf8_lossy(found.path.name()).into_owned())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wanted = String::from_utf8_lossy(path.name());
    let nearest = corten_diag::suggest::nearest(&wanted, &names)?;
    Some(join(&parent, nearest.as_bytes()).ok()?.to_string())
}

/// No files at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoFiles;

impl Files for NoFiles {
    fn find(&self, _path: &TreePath) -> Result<Option<Found>, FilesError> {
        Ok(None)
    }

    fn list(&self, _directory: &Found) -> Result<Vec<Found>, FilesError> {
        Ok(Vec::new())
    }

    fn digests(&self, _files: &[&Found]) -> Result<Vec<Content>, FilesError> {
        Ok(Vec::new())
    }

    fn keeps_metadata(&self) -> bool {
        false
    }
}

/// The directories of other files and nothing else, with a note of each that was found.
///
/// It is what a linked copy sees of the layers below it: it depends on nothing else of them.
pub(crate) struct Directories<'a> {
    files: &'a dyn Files,
    seen: Mutex<BTreeMap<TreePath, Found>>,
}

impl<'a> Directories<'a> {
    pub(crate) fn new(files: &'a dyn Files) -> Self {
        Self { files, seen: Mutex::default() }
    }

    /// Returns all directories that were found, by their paths.
    pub(crate) fn into_seen(self) -> BTreeMap<TreePath, Found> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for Directories<'_> {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, FilesError> {
        let found = self.files.find(path)?.filter(Found::is_directory);
        if let Some(found) = &found {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(path.clone(), found.clone());
        }
        Ok(found)
    }

    fn list(&self, directory: &Found) -> Result<Vec<Found>, FilesError> {
        let mut found = self.files.list(directory)?;
        found.retain(Found::is_directory);
        Ok(found)
    }

    fn digests(&self, files: &[&Found]) -> Result<Vec<Content>, FilesError> {
        self.files.digests(files)
    }

    fn keeps_metadata(&self) -> bool {
        self.files.keeps_metadata()
    }
}

/// What was found under a name.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Below the root of the files, without links.
    pub(crate) path: TreePath,
    pub(crate) stat: Stat,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Context(std::sync::Arc<beneath::Root>),
    Layer(Box<Resolved>),
}

/// The content of a file as it was when it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) stat: Stat,
    /// Whether a later change would be seen in the time stamps. A file that was changed a moment
    /// before it was hashed could change again within the same tick.
    pub(crate) settled: bool,
}

/// Why files cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{path}` goes through too many symbolic links")]
    Links { path: TreePath },
    #[error("`{path}` lies in too many directories")]
    Depth { path: TreePath },
    #[error("`{path}` changed while it was read")]
    Changed { path: TreePath },
    #[error("the path `{text}` cannot be used")]
    Path {
        text: String,
        #[source]
        source: PathError,
    },
}

impl FilesError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Io(error) if error.is_permission_denied() => Some(
                "make the file readable, or leave it out of the context with `.dockerignore`"
                    .to_owned(),
            ),
            Self::Changed { .. } => Some(
                "stop what writes to it, or leave it out of the context with `.dockerignore`"
                    .to_owned(),
            ),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

impl Found {
    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.stat.kind == FileKind::Directory
    }

    /// Where a link points.
    pub(crate) fn read_link(&self) -> Result<Vec<u8>, FilesError> {
        match &self.place {
            Place::Context(root) => {
                let path = as_path(&self.path);
                let (parent, name) = root.parent(path, beneath::Resolve::NoLinks)?;
                Ok(parent.read_link(name)?)
            }
            Place::Layer(resolved) => Ok(resolved.read_link()?),
        }
    }

    /// The extended attributes that go into images.
    pub(crate) fn xattrs(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, FilesError> {
        match &self.place {
            Place::Context(_) => Ok(BTreeMap::new()),
            Place::Layer(resolved) => Ok(resolved.xattrs()?),
        }
    }

    /// Where it is on the host, for mounts and messages.
    pub(crate) fn host_path(&self) -> PathBuf {
        match &self.place {
            Place::Context(root) => root.dir().path().join(as_path(&self.path)),
            Place::Layer(resolved) => resolved.host_path.clone(),
        }
    }

    fn open(&self) -> Result<File, FilesError> {
        match &self.place {
            Place::Context(root) => {
                Ok(root.open_file(as_path(&self.path), beneath::Resolve::NoLinks)?)
            }
            Place::Layer(resolved) => Ok(resolved.open()?),
        }
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self) -> Result<File, FilesError> {
        let file = self.open()?;
        let stat = beneath::stat_file(&file, &self.host_path())?;
        if stat.kind == FileKind::File { Ok(file) } else { Err(self.changed()) }
    }

    /// Hashes the content; the returned stat is that of the content.
    fn hash(&self, buffer: &mut Vec<u8>) -> Result<(Digest, Stat), FilesError> {
        let path = self.host_path();
        for _ in 0..READS_MAX {
            let mut file = self.open()?;
            let before = beneath::stat_file(&file, &path)?;
            if before.kind != FileKind::File {
                return Err(self.changed());
            }
            let digest = hash_file(&mut file, buffer).map_err(at("read", &path))?;
            if same_content(&before, &beneath::stat_file(&file, &path)?) {
                return Ok((digest, before));
            }
        }
        Err(self.changed())
    }

    /// Copies the content that was hashed to a new file, or fails if it is not there any more.
    pub(crate) fn copy_content(
        &self,
        content: &Content,
        to: &File,
        to_path: &std::path::Path,
    ) -> Result<(), FilesError> {
        let path = self.host_path();
        let mut from = self.open()?;
        if !same_content(&content.stat, &beneath::stat_file(&from, &path)?) {
            return Err(self.changed());
        }
        if content.stat.size_bytes <= WHOLE_BYTES_MAX || !content.settled {
            return self.copy_checked(content, &mut from, to, to_path);
        }
        let copied = file::copy(&from, to, to_path)?;
        let after = beneath::stat_file(&from, &path)?;
        if copied == content.stat.size_bytes && same_content(&content.stat, &after) {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn copy_checked(
        &self,
        content: &Content,
        from: &mut File,
        mut to: &File,
        to_path: &std::path::Path,
    ) -> Result<(), FilesError> {
        let path = self.host_path();
        let mut hasher = Hasher::new();
        let wanted = usize::try_from(content.stat.size_bytes).unwrap_or(BUFFER_BYTES);
        let mut buffer = vec![0; wanted.clamp(1, BUFFER_BYTES)];
        loop {
            let length = from.read(&mut buffer).map_err(at("read", &path))?;
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            to.write_all(bytes).map_err(at("write", to_path))?;
        }
        if hasher.finish() == content.digest { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> FilesError {
        FilesError::Changed { path: self.path.clone() }
    }
}

/// Finds a path as if the files were a root file system: links are followed, the last one too when
/// `follow` says so, and `..` does not leave the root.
pub(crate) fn resolve(
    files: &dyn Files,
    path: &[u8],
    follow: bool,
) -> Result<Option<Found>, FilesError> {
    let mut at = TreePath::root();
    // The components that are still to go, the next one last.
    let mut todo = components(path);
    let mut links = 0;
    let mut found = files.find(&at)?;
    while let Some(component) = todo.pop() {
        if component == b".." {
            at = at.parent().unwrap_or_else(TreePath::root);
            found = files.find(&at)?;
            continue;
        }
        if !found.as_ref().is_some_and(Found::is_directory) {
            return Ok(None);
        }
        let next = join(&at, &component)?;
        let Some(entry) = files.find(&next)? else { return Ok(None) };
        if entry.stat.kind == FileKind::Symlink && (follow || !todo.is_empty()) {
            links += 1;
            if links > limits::SYMLINK_DEPTH_MAX {
                return Err(FilesError::Links { path: next });
            }
            let target = entry.read_link()?;
            if target.first() == Some(&b'/') {
                at = TreePath::root();
                found = files.find(&at)?;
            }
            todo.extend(components(&target));
            continue;
        }
        at = next;
        found = Some(entry);
    }
    Ok(found)
}

/// The components of a path, the last one first; `.` and empty ones are left out.
pub(crate) fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}

/// Adds a name to a path.
pub(crate) fn join(path: &TreePath, name: &[u8]) -> Result<TreePath, FilesError> {
    path.join(name).map_err(|source| FilesError::Path {
        text: String::from_utf8_lossy(name).into_owned(),
        source,
    })
}

/// A tree path as a path below an open directory; the root is empty.
pub(crate) fn as_path(path: &TreePath) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt as _;
    std::path::Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

/// Whether two looks at a file saw the same content, as far as the time stamps can tell.
pub(crate) fn same_content(left: &Stat, right: &Stat) -> bool {
    left.kind == right.kind
        && left.device == right.device
        && left.inode == right.inode
        && left.size_bytes == right.size_bytes
        && left.modified == right.modified
        && left.changed == right.changed
}

fn hash_file(file: &mut File, buffer: &mut Vec<u8>) -> std::io::Result<Digest> {
    buffer.resize(BUFFER_BYTES, 0);
    let mut hasher = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(buffer.get(..length).unwrap_or_default());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes files, by several threads when there is much to read. `settled` judges each.
fn hash_all(
    files: &[&Found],
    settled: &(dyn Fn(&Stat) -> bool + Sync),
) -> Result<Vec<Content>, FilesError> {
    use rayon::prelude::*;
    let hash = |buffer: &mut Vec<u8>, found: &&Found| {
        let (digest, stat) = found.hash(buffer)?;
        Ok(Content { digest, stat, settled: settled(&stat) })
    };
    let bytes: u64 = files.iter().map(|found| found.stat.size_bytes).sum();
    if files.len() > 1 && bytes >= PARALLEL_BYTES_MIN {
        files.par_iter().map_init(Vec::new, hash).collect()
    } else {
        let mut buffer = Vec::new();
        files.iter().map(|found| hash(&mut buffer, found)).collect()
    }
}
