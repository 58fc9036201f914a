//! The file system that layers make together, for reading without a mount.
//!
//! The rules are those of overlayfs: the topmost layer that has a name decides, directories are
//! merged, whiteouts and opaque directories hide. Links are resolved within the stack, so no path
//! ever leads to the host.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::limits;
use corten_oci::tree::TreePath;
use corten_sys::beneath::{self, Dir, FileKind, Stat};
use corten_sys::file;

use crate::error::StoreError;
use crate::layer::Layer;
use crate::walk::{Marks, is_kept};

/// What to do when a path ends in a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Go where it points.
    Follow,
    /// Stay at the link; links on the way are followed all the same.
    Keep,
}

/// Layers as one file system.
#[derive(Debug)]
pub struct Snapshot {
    root: Level,
}

/// Something in a snapshot.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Where it is, without links.
    pub path: TreePath,
    /// Which layer it comes from, counted from the bottom; for a directory, the topmost.
    pub layer: usize,
    /// Where it is on the host; for a directory, its part in the topmost layer.
    pub host_path: PathBuf,
    /// What is known about it.
    pub stat: Stat,
    place: Place,
    /// For a directory: its parts.
    level: Option<Level>,
}

/// The directory that holds something, and its name there.
#[derive(Debug, Clone)]
struct Place {
    /// `None` for the root.
    dir: Option<Arc<Dir>>,
    name: Vec<u8>,
}

/// A directory: its parts in the layers, the topmost first.
#[derive(Debug, Clone)]
struct Level {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    layer: usize,
    dir: Arc<Dir>,
    marks: Marks,
}

/// What a name is.
enum Found {
    Directory(Level, Place),
    Other { layer: usize, stat: Stat, place: Place },
}

impl Snapshot {
    /// Opens layers, the bottom first.
    pub fn new(layers: &[Layer]) -> Result<Self, StoreError> {
        let mut parts = Vec::new();
        for (layer, of) in layers.iter().enumerate().rev() {
            let dir = Arc::new(Dir::open(&of.path)?);
            let marks = Marks::new(of.in_user_namespace);
            let opaque = marks.is_opaque(&dir)?;
            parts.push(Part { layer, dir, marks });
            if opaque {
                break;
            }
        }
        Ok(Self { root: Level { parts } })
    }

    /// Finds a path; `None` if it does not exist. A leading slash makes no difference.
    pub fn resolve(&self, path: &[u8], links: Links) -> Result<Option<Resolved>, StoreError> {
        let mut search = Search { stack: vec![(TreePath::root(), self.root.clone())], links: 0 };
        // The components that are still to go, the next one last.
        let mut todo: Vec<Vec<u8>> = split(path);
        while let Some(component) = todo.pop() {
            if component == b".." {
                search.up();
                continue;
            }
            let (at, level) = search.here();
            let path = at.join(&component)?;
            let last = todo.is_empty();
            match level.find(&component)? {
                None => return Ok(None),
                Some(Found::Directory(level, place)) if last => {
                    return Ok(Some(directory(path, level, place)?));
                }
                Some(Found::Directory(level, _)) => search.stack.push((path, level)),
                Some(Found::Other { layer, stat, place }) => {
                    let is_link = stat.kind == FileKind::Symlink;
                    if is_link && (!last || links == Links::Follow) {
                        let target = place.read_link()?;
                        search.follow(&target, &mut todo)?;
                    } else if last {
                        let host_path = place.host_path();
                        return Ok(Some(Resolved {
                            path,
                            layer,
                            host_path,
                            stat,
                            place,
                            level: None,
                        }));
                    } else {
                        return Ok(None);
                    }
                }
            }
        }
        let (path, level) = search.here();
        if level.parts.is_empty() {
            return Ok(None);
        }
        let place = Place { dir: None, name: Vec::new() };
        Ok(Some(directory(path.clone(), level.clone(), place)?))
    }

    /// Reads a file, links followed; `None` if there is no regular file.
    pub fn read_file(&self, path: &[u8], limit_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(found) = self.resolve(path, Links::Follow)? else { return Ok(None) };
        if found.stat.kind != FileKind::File {
            return Ok(None);
        }
        if found.stat.size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes });
        }
        let file = found.open()?;
        Ok(Some(file::read_file_limited(&file, &found.host_path, limit_bytes)?))
    }

    /// Lists a directory, links to it followed, in the order of the names' bytes; `None` if there is
    /// no directory.
    pub fn list_dir(&self, path: &[u8]) -> Result<Option<Vec<SnapshotEntry>>, StoreError> {
        match self.resolve(path, Links::Follow)? {
            Some(Resolved { path, level: Some(level), .. }) => Ok(Some(level.list(&path)?)),
            _ => Ok(None),
        }
    }

    /// Lists everything below a directory, links to it followed but none below it: a directory comes
    /// before what is in it, and the names in one directory are in the order of their bytes. Empty if
    /// there is no directory.
    pub fn walk(&self, path: &[u8]) -> Result<Vec<SnapshotEntry>, StoreError> {
        let mut entries = Vec::new();
        if let Some(Resolved { path, level: Some(level), .. }) =
            self.resolve(path, Links::Follow)?
        {
            walk(&level, &path, 0, &mut entries)?;
        }
        Ok(entries)
    }
}

/// Something found by listing.
pub type SnapshotEntry = Resolved;

impl Resolved {
    /// Returns the name.
    pub fn name(&self) -> &[u8] {
        self.path.name()
    }

    /// Opens a regular file for reading.
    pub fn open(&self) -> Result<File, StoreError> {
        match &self.place.dir {
            Some(dir) => Ok(dir.open_file(OsStr::from_bytes(&self.place.name))?),
            None => Ok(file::open(&self.host_path)?),
        }
    }

    /// Returns where a link points.
    pub fn read_link(&self) -> Result<Vec<u8>, StoreError> {
        self.place.read_link()
    }

    /// Returns the extended attributes that belong to the image, of files and directories.
    pub fn xattrs(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut keep = |name: &[u8]| is_kept(name);
        let found = match (self.stat.kind, self.level.as_ref().and_then(|l| l.parts.first())) {
            (FileKind::File, _) => beneath::xattrs(self.open()?, &self.host_path, &mut keep)?,
            (_, Some(part)) => beneath::xattrs(part.dir.as_ref(), &self.host_path, &mut keep)?,
            _ => Vec::new(),
        };
        Ok(found.into_iter().collect())
    }
}

impl Place {
    fn read_link(&self) -> Result<Vec<u8>, StoreError> {
        match &self.dir {
            Some(dir) => Ok(dir.read_link(OsStr::from_bytes(&self.name))?),
            None => Ok(Vec::new()),
        }
    }

    fn host_path(&self) -> PathBuf {
        let name = Path::new(OsStr::from_bytes(&self.name));
        self.dir.as_ref().map_or_else(PathBuf::new, |dir| dir.path().join(name))
    }
}

/// A search's position: the directories from the root to where it is.
struct Search {
    stack: Vec<(TreePath, Level)>,
    links: u32,
}

impl Search {
    fn here(&self) -> (&TreePath, &Level) {
        let (path, level) = self.stack.last().expect("the root is never taken from the stack");
        (path, level)
    }

    /// Goes to the directory above; the root is above itself.
    fn up(&mut self) {
        if self.stack.len() > 1 {
            self.stack.pop();
        }
    }

    fn follow(&mut self, target: &[u8], todo: &mut Vec<Vec<u8>>) -> Result<(), StoreError> {
        self.links += 1;
        if self.links > limits::SYMLINK_DEPTH_MAX {
            let (at, _) = self.here();
            let source = beneath::too_many_links(Path::new(OsStr::from_bytes(target)));
            return Err(StoreError::Escape { path: at.clone(), source });
        }
        if target.starts_with(b"/") {
            self.stack.truncate(1);
        }
        todo.extend(split(target));
        Ok(())
    }
}

/// Returns the components in reverse, so that the next one is at the end.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let components = path.rsplit(|&byte| byte == b'/');
    let plain = components.filter(|component| !component.is_empty() && *component != b".");
    plain.map(<[u8]>::to_vec).collect()
}

fn directory(path: TreePath, level: Level, place: Place) -> Result<Resolved, StoreError> {
    // A level that was found has at least the part that it was found in.
    let top = level.parts.first().expect("a directory has a part in some layer");
    let (layer, host_path, stat) = (top.layer, top.dir.path().to_owned(), top.dir.stat_self()?);
    Ok(Resolved { path, layer, host_path, stat, place, level: Some(level) })
}

impl Level {
    fn find(&self, name: &[u8]) -> Result<Option<Found>, StoreError> {
        let name = OsStr::from_bytes(name);
        let mut parts = Vec::new();
        let mut place = None;
        for part in &self.parts {
            let found = file::absent_is_none(part.dir.stat(name));
            let Some(stat) = (match found {
                // A name that no file system can have does not exist.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidFilename => None,
                found => found?,
            }) else {
                continue;
            };
            if stat.kind == FileKind::Directory {
                let dir = Arc::new(part.dir.open_dir(name)?);
                let opaque = part.marks.is_opaque(&dir)?;
                place.get_or_insert_with(|| part.place(name));
                parts.push(Part { layer: part.layer, dir, marks: part.marks });
                if opaque {
                    break;
                }
                continue;
            }
            if parts.is_empty() && !is_whiteout(&stat) {
                let place = part.place(name);
                return Ok(Some(Found::Other { layer: part.layer, stat, place }));
            }
            break;
        }
        Ok(place.map(|place| Found::Directory(Level { parts }, place)))
    }

    fn list(&self, at: &TreePath) -> Result<Vec<Resolved>, StoreError> {
        let mut names = std::collections::BTreeSet::new();
        for part in &self.parts {
            names.extend(part.dir.list()?.into_iter().map(|entry| entry.name));
        }
        let mut entries = Vec::new();
        for name in names {
            let path = at.join(name.as_bytes())?;
            match self.find(name.as_bytes())? {
                // A whiteout.
                None => {}
                Some(Found::Directory(level, place)) => {
                    entries.push(directory(path, level, place)?);
                }
                Some(Found::Other { layer, stat, place }) => {
                    let host_path = place.host_path();
                    entries.push(Resolved { path, layer, host_path, stat, place, level: None });
                }
            }
        }
        Ok(entries)
    }
}

impl Part {
    fn place(&self, name: &OsStr) -> Place {
        Place { dir: Some(self.dir.clone()), name: name.as_bytes().to_vec() }
    }
}

fn walk(
    level: &Level,
    at: &TreePath,
    depth: usize,
    entries: &mut Vec<Resolved>,
) -> Result<(), StoreError> {
    if depth > limits::DIRECTORY_DEPTH_MAX {
        return Err(StoreError::LayerLimit { what: "the depth of directories" });
    }
    for mut entry in level.list(at)? {
        // The parts of a directory are open files, of which there are few: not one per entry kept.
        let below = entry.level.take();
        let path = entry.path.clone();
        entries.push(entry);
        if let Some(below) = below {
            walk(&below, &path, depth + 1, entries)?;
        }
    }
    Ok(())
}

fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == FileKind::CharDevice && stat.represents == (0, 0)
}
