//! A directory of the host as a build context.
//!
//! Directories are listed when they are asked for and then remembered: one build sees one state of
//! them. What the ignore file hides does not exist here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use corten_dockerfile::ignore::Ignore;
use corten_oci::limits::DIRECTORY_DEPTH_MAX;
use corten_oci::tree::TreePath;
use corten_sys::beneath::{Dir, FileKind, Resolve, Root, Stat};
use corten_sys::clock::Clock;
use corten_sys::error::IoError;

use super::ignore::{IgnoreFile, Rule};
use super::stat_cache::{StatCache, is_settled};
use super::{Content, Files, FilesError, Found, Place, as_path, hash_all, join};

/// A context directory.
pub(crate) struct ContextFiles {
    root: Arc<Root>,
    root_stat: Stat,
    ignore: Option<IgnoreFile>,
    listings: Mutex<BTreeMap<TreePath, Arc<Vec<Found>>>>,
    cache: Mutex<StatCache>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ContextFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContextFiles").field("root", &self.root).finish_non_exhaustive()
    }
}

impl ContextFiles {
    /// Opens a directory. `cache` gives what is known of it from earlier builds by its identity.
    pub(crate) fn open(
        directory: &Path,
        ignore: Option<IgnoreFile>,
        clock: Arc<dyn Clock>,
        cache: impl FnOnce(&str) -> StatCache,
    ) -> Result<Self, IoError> {
        let root = Arc::new(Root::open(directory)?);
        let root_stat = root.dir().stat_self()?;
        let cache = Mutex::new(cache(&identity(&root_stat)));
        let listings = Mutex::new(BTreeMap::new());
        Ok(Self { root, root_stat, ignore, listings, cache, clock })
    }

    /// What the stat cache is kept under, and its bytes if they changed.
    pub(crate) fn cache_to_save(&self) -> Option<(String, Vec<u8>)> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.changed().then(|| (identity(&self.root_stat), cache.to_bytes()))
    }

    /// The line of the ignore file that hides a path that exists; for messages.
    pub(crate) fn hidden_by(&self, path: &TreePath) -> Option<Rule> {
        let ignore = self.ignore.as_ref()?;
        let stat = self.stat(path).ok().flatten()?;
        if self.visible(path, &stat).unwrap_or(true) {
            return None;
        }
        let text = String::from_utf8_lossy(path.as_bytes());
        ignore.rule(&text, stat.kind == FileKind::Directory)
    }

    /// Whether the ignore file hides anything at or below something found.
    pub(crate) fn hides_below(&self, found: &Found) -> Result<bool, FilesError> {
        if self.rules().is_none() || !found.is_directory() {
            return Ok(false);
        }
        let shown = self.listing(&found.path)?;
        if self.open_dir(&found.path)?.list()?.len() != shown.len() {
            return Ok(true);
        }
        for child in shown.iter() {
            if self.hides_below(child)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rules(&self) -> Option<&Ignore> {
        self.ignore.as_ref()?.rules()
    }

    fn found(&self, path: TreePath, stat: Stat) -> Found {
        Found { path, stat, place: Place::Context(Arc::clone(&self.root)) }
    }

    fn open_dir(&self, path: &TreePath) -> Result<Dir, IoError> {
        self.root.open_dir(as_path(path), Resolve::NoLinks)
    }

    /// Looks at a name, whether it is visible or not.
    fn stat(&self, path: &TreePath) -> Result<Option<Stat>, FilesError> {
        let Some(parent) = path.parent() else { return Ok(Some(self.root_stat)) };
        let stat = self.open_dir(&parent).and_then(|dir| dir.stat(OsStr::from_bytes(path.name())));
        match stat {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a name is part of the context: it is not hidden, or it is a directory that holds
    /// something that is not hidden.
    fn visible(&self, path: &TreePath, stat: &Stat) -> Result<bool, FilesError> {
        // A socket is of no use to anyone but the process that made it.
        if stat.kind == FileKind::Socket {
            return Ok(false);
        }
        let Some(ignore) = self.rules() else { return Ok(true) };
        if path.is_root() {
            return Ok(true);
        }
        let text = String::from_utf8_lossy(path.as_bytes());
        let is_directory = stat.kind == FileKind::Directory;
        if !ignore.excludes(&text, is_directory) {
            return Ok(true);
        }
        if !is_directory || !ignore.may_contain_included(&text) {
            return Ok(false);
        }
        Ok(!self.listing(path)?.is_empty())
    }

    fn listing(&self, path: &TreePath) -> Result<Arc<Vec<Found>>, FilesError> {
        let known = self.listings.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(listing) = known {
            return Ok(listing);
        }
        if path.components().count() > DIRECTORY_DEPTH_MAX {
            return Err(FilesError::Depth { path: path.clone() });
        }
        let listing = Arc::new(self.read_listing(path)?);
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(listings.entry(path.clone()).or_insert(listing)))
    }

    fn read_listing(&self, path: &TreePath) -> Result<Vec<Found>, FilesError> {
        let dir = self.open_dir(path)?;
        let mut listing = Vec::new();
        for entry in dir.list()? {
            let stat = match dir.stat(&entry.name) {
                Ok(stat) => stat,
                // It was removed since it was listed.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let child = join(path, entry.name.as_bytes())?;
            if self.visible(&child, &stat)? {
                listing.push(self.found(child, stat));
            }
        }
        Ok(listing)
    }
}

impl Files for ContextFiles {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, FilesError> {
        let Some(parent) = path.parent() else {
            return Ok(Some(self.found(TreePath::root(), self.root_stat)));
        };
        let known =
            self.listings.lock().unwrap_or_else(PoisonError::into_inner).get(&parent).cloned();
        if let Some(listing) = known {
            let at = listing.binary_search_by(|found| found.path.name().cmp(path.name()));
            return Ok(at.ok().and_then(|at| listing.get(at).cloned()));
        }
        let Some(stat) = self.stat(path)? else { return Ok(None) };
        Ok(self.visible(path, &stat)?.then(|| self.found(path.clone(), stat)))
    }

    fn list(&self, directory: &Found) -> Result<Vec<Found>, FilesError> {
        Ok(self.listing(&directory.path)?.to_vec())
    }

    fn digests(&self, files: &[&Found]) -> Result<Vec<Content>, FilesError> {
        let mut contents: Vec<Option<Content>> = Vec::with_capacity(files.len());
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            contents.extend(files.iter().map(|found| cache.get(&found.stat)));
        }
        let cold: Vec<&Found> =
            files.iter().zip(&contents).filter(|(_, c)| c.is_none()).map(|(f, _)| *f).collect();
        if !cold.is_empty() {
            let now = self.clock.now();
            let mut hashed = hash_all(&cold, &|stat| is_settled(stat, now))?.into_iter();
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            for slot in contents.iter_mut().filter(|slot| slot.is_none()) {
                *slot = hashed.next().inspect(|content| cache.put(content));
            }
        }
        Ok(contents.into_iter().flatten().collect())
    }

    fn keeps_metadata(&self) -> bool {
        false
    }
}

/// A path through a file or a link does not exist as it stands.
fn is_absent(error: &IoError) -> bool {
    error.is_not_found()
        || error.kind() == std::io::ErrorKind::NotADirectory
        || corten_sys::beneath::is_escape(error)
}

/// The directory's identity on this host; it stays when the directory is renamed.
fn identity(stat: &Stat) -> String {
    format!("{}:{}", stat.device, stat.inode)
}
