//! How a foreign tar becomes a layer.
//!
//! Everything happens beneath the staging directory's descriptor. An absolute path is taken from
//! there, a `..` is refused, and a link that leads out is followed as if the directory were `/`, as
//! Docker does, so nothing is ever written outside. What a tar says twice, the later entry wins.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use corten_oci::digest::{DiffId, HashingReader};
use corten_oci::limits;
use corten_oci::tar::{EntryKind, Header, Marker, Reader, Region, TarError, marker};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{Device, Dir, FileKind, Resolve, Root, Stat};
use corten_sys::clock::Timestamp;
use corten_sys::error::IoError;
use corten_sys::file;

use crate::emit::Totals;
use crate::error::StoreError;
use crate::layer::Layer;
use crate::recipe::{Displaced, Recorder};
use crate::seal::{self, Sealed};
use crate::staging::{self, Staging};
use crate::store::{Inner, Store};
use crate::walk::{Marks, is_kept};

/// The stream is read and hashed in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// How often a tar may replace its own content: each time costs a look-up for every file later.
const DISPLACED_MAX: usize = 4096;

/// The mode of directories that the tar does not mention.
const IMPLICIT_DIRECTORY_MODE: u32 = 0o755;

type Stream<'a> = BufReader<HashingReader<&'a mut dyn Read>>;

impl Store {
    /// Unpacks an uncompressed layer tar and protects the layer for the life of this handle.
    ///
    /// The digest is computed on the way and compared with the expected one before the layer
    /// appears. The stream is read to its end; a limit on its length is up to the caller.
    pub fn import_layer(
        &self,
        tar: &mut dyn Read,
        expect: Option<DiffId>,
    ) -> Result<Layer, StoreError> {
        self.run(|inner| import(inner, tar, expect))
    }
}

fn import(
    inner: &Arc<Inner>,
    tar: &mut dyn Read,
    expect: Option<DiffId>,
) -> Result<Layer, StoreError> {
    let staging = staging::stage(inner)?;
    let sealed = unpack(inner, &staging, tar, Kind::Layer)?;
    if let Some(expected) = expect
        && expected != sealed.diff_id
    {
        let found = sealed.diff_id.0;
        return Err(StoreError::DigestMismatch { expected: expected.0, found });
    }
    seal::place(inner, staging, sealed)
}

/// What a tar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes to the layers below, with marks for what they hide.
    Layer,
    /// A directory of its own: no name means anything, and there are no devices.
    Directory,
}

/// Unpacks a tar into a staging directory, hashing it on the way.
pub(crate) fn unpack(
    inner: &Arc<Inner>,
    staging: &Staging,
    tar: &mut dyn Read,
    kind: Kind,
) -> Result<Sealed, StoreError> {
    let root = Root::open(staging.tree())?;
    let mut unpacker = Unpacker {
        inner,
        kind,
        folder: staging.folder(),
        root: &root,
        marks: Marks::new(inner.in_user_namespace),
        recipe: Recorder::create(inner, staging.folder())?,
        displaced: Vec::new(),
        directories: BTreeMap::new(),
        parent: None,
        totals: Totals::default(),
        squashed_owners: 0,
        buffer: vec![0; BUFFER_BYTES],
    };
    let stream = BufReader::with_capacity(BUFFER_BYTES, HashingReader::new(tar));
    let mut reader = Reader::new(stream);
    while let Some(header) = reader.next_entry()? {
        unpacker.recipe.raw(reader.raw())?;
        unpacker.entry(header, &mut reader)?;
    }
    unpacker.recipe.raw(reader.raw())?;
    let mut stream = reader.into_inner();
    unpacker.trailer(&mut stream)?;
    let (digest, tar_bytes) = stream.into_inner().finish();
    let diff_id = DiffId(digest);
    unpacker.set_directory_times()?;
    let Unpacker { recipe, displaced, totals, squashed_owners, .. } = unpacker;
    recipe.finish()?;
    Ok(Sealed { diff_id, tar_bytes, totals, squashed_owners, recipe: Some(displaced) })
}

/// A directory that is open, with the path that it really has.
struct Parent {
    /// As the tar names it.
    path: TreePath,
    /// Without links.
    real: TreePath,
    dir: Dir,
}

struct Unpacker<'a> {
    inner: &'a Arc<Inner>,
    kind: Kind,
    folder: &'a Path,
    root: &'a Root,
    marks: Marks,
    recipe: Recorder,
    displaced: Vec<Displaced>,
    /// The times of directories, set at the end since every new entry changes them.
    directories: BTreeMap<TreePath, Timestamp>,
    /// The directory of the entry before, in which most entries are too.
    parent: Option<Parent>,
    totals: Totals,
    squashed_owners: u64,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn entry(&mut self, header: Header, reader: &mut Reader<Stream<'_>>) -> Result<(), StoreError> {
        let path = TreePath::clean(&header.path)?;
        if path.components().count() > limits::DIRECTORY_DEPTH_MAX {
            return Err(StoreError::LayerLimit { what: "the depth of directories" });
        }
        self.totals.content_bytes += header.stored_bytes;
        let size = if let EntryKind::File { size } = header.kind { size } else { 0 };
        if self.totals.content_bytes > limits::LAYER_BYTES_MAX || size > limits::LAYER_BYTES_MAX {
            return Err(StoreError::LayerLimit { what: "the size of its files" });
        }
        if path.is_root() {
            // What a layer says about `/` itself is what the bottom directory of every image has.
            return self.content_to_recipe(reader);
        }
        let name = path.name().to_vec();
        let Some(parent_path) = path.parent() else { return Ok(()) };
        let parent = self.open_parent(parent_path, &path)?;
        let done = self.entry_in(&parent, &name, header, reader);
        if self.parent.is_none() {
            self.parent = Some(parent);
        }
        done.map_err(|error| escape(error, &path))
    }

    fn entry_in(
        &mut self,
        parent: &Parent,
        name: &[u8],
        header: Header,
        reader: &mut Reader<Stream<'_>>,
    ) -> Result<(), StoreError> {
        let marker = marker(name).filter(|_| self.kind == Kind::Layer);
        match marker {
            None => self.ordinary(parent, name, header, reader),
            Some(marker) => {
                match marker {
                    Marker::Opaque => self.make_opaque(parent)?,
                    Marker::Whiteout(hidden) => self.whiteout(parent, hidden)?,
                    Marker::Reserved => {}
                }
                self.content_to_recipe(reader)
            }
        }
    }

    fn ordinary(
        &mut self,
        parent: &Parent,
        name: &[u8],
        header: Header,
        reader: &mut Reader<Stream<'_>>,
    ) -> Result<(), StoreError> {
        let path = parent.real.join(name)?;
        let name = OsStr::from_bytes(name);
        let existing = stat(&parent.dir, name)?;
        self.totals.entries += 1;
        let Header { kind, meta, mtime_nanoseconds, sparse, .. } = header;
        let modified = Timestamp { seconds: meta.mtime, nanoseconds: mtime_nanoseconds };
        let is_device =
            matches!(kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. });
        if is_device && self.kind == Kind::Directory {
            return Err(StoreError::Archive { reason: format!("it has the device node `{path}`") });
        }
        match kind {
            EntryKind::Directory { .. } => {
                self.directory(parent, name, &path, existing)?;
                self.directories.insert(path, modified);
                return self.apply(&parent.dir, name, &meta, FileKind::Directory);
            }
            EntryKind::Hardlink(target) => {
                return self.hard_link(parent, name, &path, existing, &target);
            }
            EntryKind::CharDevice { major: 0, minor: 0 } | EntryKind::Whiteout => {
                return self.whiteout(parent, name.as_bytes());
            }
            EntryKind::File { size } => {
                self.displace(parent, name, &path, existing)?;
                self.before("create")?;
                let opened = parent.dir.create_file(name, 0o600)?;
                self.totals.files += 1;
                self.content(&opened, &path, size, sparse.as_deref(), reader)?;
                self.apply(&parent.dir, name, &meta, FileKind::File)?;
            }
            EntryKind::Symlink(target) => {
                if target.len() > limits::SYMLINK_BYTES_MAX {
                    return Err(StoreError::LayerLimit { what: "the length of a link" });
                }
                self.displace(parent, name, &path, existing)?;
                self.before("link")?;
                parent.dir.symlink(name, OsStr::from_bytes(&target))?;
                self.apply(&parent.dir, name, &meta, FileKind::Symlink)?;
            }
            EntryKind::Fifo => self.device(parent, name, &path, existing, Device::Fifo, &meta)?,
            EntryKind::CharDevice { major, minor } => {
                let device = Device::Char(major, minor);
                if !self.can_make_device(&path)? {
                    return Ok(());
                }
                self.device(parent, name, &path, existing, device, &meta)?;
            }
            EntryKind::BlockDevice { major, minor } => {
                let device = Device::Block(major, minor);
                if !self.can_make_device(&path)? {
                    return Ok(());
                }
                self.device(parent, name, &path, existing, device, &meta)?;
            }
        }
        Ok(parent.dir.set_times(name, modified)?)
    }

    /// A user namespace cannot make device nodes. Those in `/dev` are left out, since every
    /// container gets a `/dev` of its own; others are refused.
    fn can_make_device(&self, path: &TreePath) -> Result<bool, StoreError> {
        if !self.inner.in_user_namespace {
            return Ok(true);
        }
        if path.components().next() == Some(b"dev") {
            return Ok(false);
        }
        Err(StoreError::DeviceNode { path: path.clone() })
    }

    fn device(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &TreePath,
        existing: Option<Stat>,
        device: Device,
        meta: &Meta,
    ) -> Result<(), StoreError> {
        self.displace(parent, name, path, existing)?;
        self.before("create")?;
        parent.dir.create_device(name, device, 0o600)?;
        self.apply(&parent.dir, name, meta, FileKind::Fifo)
    }

    fn directory(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &TreePath,
        existing: Option<Stat>,
    ) -> Result<(), StoreError> {
        if existing.is_some_and(|stat| stat.kind == FileKind::Directory) {
            return Ok(());
        }
        // A whiteout beside the directory that replaces it hides what was in it below.
        let was_whiteout = existing.as_ref().is_some_and(is_whiteout);
        self.displace(parent, name, path, existing)?;
        self.before("create")?;
        parent.dir.create_dir(name, 0o700)?;
        if was_whiteout {
            parent.dir.set_xattr(name, &self.marks.opaque(), b"y")?;
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &TreePath,
        existing: Option<Stat>,
        target: &[u8],
    ) -> Result<(), StoreError> {
        let missing = || StoreError::LinkTarget {
            path: path.clone(),
            target: String::from_utf8_lossy(target).chars().take(200).collect(),
        };
        let clean = TreePath::clean(target)?;
        let (Some(folder), last) = (clean.parent(), OsStr::from_bytes(clean.name())) else {
            return Err(missing());
        };
        let folder =
            self.root.open_dir(Path::new(OsStr::from_bytes(folder.as_bytes())), Resolve::InRoot);
        let folder = match folder {
            Err(error) if error.is_not_found() => return Err(missing()),
            folder => folder?,
        };
        let found = stat(&folder, last)?.filter(|stat| stat.kind != FileKind::Directory);
        let found = found.filter(|stat| !is_whiteout(stat)).ok_or_else(missing)?;
        if existing.is_some_and(|own| (own.device, own.inode) == (found.device, found.inode)) {
            return Ok(());
        }
        self.displace(parent, name, path, existing)?;
        self.before("link")?;
        match parent.dir.hard_link(&folder, last, name) {
            // The link was to something in the directory that it replaces.
            Err(error) if error.is_not_found() => Err(missing()),
            linked => Ok(linked?),
        }
    }

    /// Hides a name of the layers below; what this layer has itself stays.
    fn whiteout(&mut self, parent: &Parent, hidden: &[u8]) -> Result<(), StoreError> {
        let name = OsStr::from_bytes(hidden);
        parent.real.join(hidden)?;
        match stat(&parent.dir, name)? {
            Some(stat) if stat.kind == FileKind::Directory => {
                self.before("set an attribute of")?;
                Ok(parent.dir.set_xattr(name, &self.marks.opaque(), b"y")?)
            }
            Some(_) => Ok(()),
            None => {
                self.before("create")?;
                parent.dir.create_device(name, Device::Char(0, 0), 0)?;
                Ok(parent.dir.set_times(name, Timestamp::from_seconds(0))?)
            }
        }
    }

    fn make_opaque(&mut self, parent: &Parent) -> Result<(), StoreError> {
        self.before("set an attribute of")?;
        let marks = self.marks.opaque();
        Ok(corten_sys::beneath::set_xattr(&parent.dir, parent.dir.path(), &marks, b"y")?)
    }

    /// Makes way for an entry: content that the recipe needs moves aside, the rest is removed.
    fn displace(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        path: &TreePath,
        existing: Option<Stat>,
    ) -> Result<(), StoreError> {
        let Some(stat) = existing else { return Ok(()) };
        self.parent = None;
        let needed = stat.kind == FileKind::Directory
            || (stat.kind == FileKind::File && stat.size_bytes > 0);
        if !needed {
            self.before("remove")?;
            return Ok(parent.dir.remove_file(name)?);
        }
        if self.displaced.len() >= DISPLACED_MAX {
            return Err(StoreError::LayerLimit { what: "the paths that occur twice" });
        }
        let aside = self.folder.join("aside");
        if self.displaced.is_empty() {
            self.inner.fs().create_dir(&aside, 0o700)?;
        }
        let number = self.displaced.len() as u64;
        self.before("rename to")?;
        Dir::open(&aside)?.rename(&parent.dir, name, OsStr::new(&number.to_string()))?;
        self.displaced.push(Displaced::new(path.as_bytes(), self.recipe.parts(), number));
        self.directories.retain(|directory, _| !directory.is_within(path));
        Ok(())
    }

    /// Gives an entry owner, mode and attributes, in the order in which the kernel keeps them.
    fn apply(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        meta: &Meta,
        kind: FileKind,
    ) -> Result<(), StoreError> {
        self.before("change the owner of")?;
        match dir.set_owner(name, meta.uid, meta.gid) {
            // The user namespace does not have this owner.
            Err(error) if self.inner.in_user_namespace && error.is_invalid() => {
                self.squashed_owners += 1;
                dir.set_owner(name, 0, 0)?;
            }
            changed => changed?,
        }
        if kind == FileKind::Symlink {
            return Ok(());
        }
        // A change of owner takes set-uid bits and capabilities away, so they come after it.
        dir.set_mode(name, meta.mode)?;
        for (key, value) in meta.xattrs.iter().filter(|(key, _)| is_kept(key)) {
            dir.set_xattr(name, key, value)?;
        }
        Ok(())
    }

    fn content(
        &mut self,
        opened: &std::fs::File,
        path: &TreePath,
        size: u64,
        sparse: Option<&[Region]>,
        reader: &mut Reader<Stream<'_>>,
    ) -> Result<(), StoreError> {
        let shown = Path::new(OsStr::from_bytes(path.as_bytes()));
        let whole = [Region { offset: 0, size }];
        let regions = match sparse {
            Some(regions) => {
                file::set_size(opened, shown, size)?;
                regions
            }
            None => &whole,
        };
        for region in regions.iter().filter(|region| region.size > 0) {
            self.recipe.part(path.as_bytes(), region.offset, region.size)?;
            let mut at = region.offset;
            let end = region.offset + region.size;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
                let buffer = self.buffer.get_mut(..want).unwrap_or_default();
                let count = reader.read_stored(buffer)?;
                if count == 0 {
                    return Err(TarError::Truncated { offset: reader.offset() }.into());
                }
                self.inner.fs().before("write", shown)?;
                file::write_at(opened, shown, buffer.get(..count).unwrap_or_default(), at)?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// Keeps content that has no place in the layer.
    fn content_to_recipe(&mut self, reader: &mut Reader<Stream<'_>>) -> Result<(), StoreError> {
        loop {
            let count = reader.read_stored(&mut self.buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.recipe.raw(self.buffer.get(..count).unwrap_or_default())?;
        }
    }

    /// Keeps what follows the end of the tar, since it counts for the digest.
    fn trailer(&mut self, stream: &mut Stream<'_>) -> Result<(), StoreError> {
        loop {
            match stream.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.recipe.raw(self.buffer.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::Source(source)),
            }
        }
    }

    fn open_parent(&mut self, path: TreePath, entry: &TreePath) -> Result<Parent, StoreError> {
        if let Some(parent) = self.parent.take_if(|parent| parent.path == path) {
            return Ok(parent);
        }
        self.parent = None;
        let shown = Path::new(OsStr::from_bytes(path.as_bytes()));
        match self.root.open_dir(shown, Resolve::NoLinks) {
            Ok(dir) => Ok(Parent { real: path.clone(), path, dir }),
            // A part is missing, a link, or no directory: go step by step.
            Err(_) => self.walk_to(path, entry),
        }
    }

    /// Goes down to a directory, following links within the layer and making what is missing.
    fn walk_to(&mut self, path: TreePath, entry: &TreePath) -> Result<Parent, StoreError> {
        let top = self.root.open_dir(Path::new(""), Resolve::NoLinks)?;
        let mut at = Parent { path: TreePath::root(), real: TreePath::root(), dir: top };
        let not_in_directory = || StoreError::NotInDirectory { path: entry.clone() };
        for component in path.components() {
            let name = OsStr::from_bytes(component);
            let real = at.real.join(component)?;
            let found = stat(&at.dir, name)?;
            match found.map(|stat| (stat.kind, is_whiteout(&stat))) {
                Some((FileKind::Directory, _)) => {
                    at = Parent { dir: at.dir.open_dir(name)?, real, path: at.path };
                }
                None | Some((_, true)) => {
                    self.directory(&at, name, &real, found)?;
                    let meta = Meta { mode: IMPLICIT_DIRECTORY_MODE, ..Meta::default() };
                    self.apply(&at.dir, name, &meta, FileKind::Directory)?;
                    self.directories.insert(real.clone(), Timestamp::from_seconds(0));
                    at = Parent { dir: at.dir.open_dir(name)?, real, path: at.path };
                }
                Some((FileKind::Symlink, _)) => {
                    let link = Path::new(OsStr::from_bytes(real.as_bytes()));
                    let dir = self.root.open_dir(link, Resolve::InRoot);
                    let dir = dir.map_err(|error| {
                        if error.is_not_found() || error.is_not_a_directory() {
                            not_in_directory()
                        } else {
                            escape(error.into(), entry)
                        }
                    })?;
                    let real = self.real_path(&dir)?;
                    at = Parent { dir, real, path: at.path };
                }
                Some(_) => return Err(not_in_directory()),
            }
        }
        Ok(Parent { path, ..at })
    }

    /// Returns where a directory that was reached through a link lies within the layer.
    fn real_path(&self, dir: &Dir) -> Result<TreePath, StoreError> {
        let (top, path) = (self.root.dir().real_path()?, dir.real_path()?);
        let below =
            path.strip_prefix(&top).map_err(|_| corten_sys::beneath::refused("open", &path))?;
        Ok(TreePath::new(below.as_os_str().as_bytes())?)
    }

    fn set_directory_times(&mut self) -> Result<(), StoreError> {
        // From the inside out, although setting a time does not change that of the directory above.
        for (path, modified) in std::mem::take(&mut self.directories).iter().rev() {
            let shown = Path::new(OsStr::from_bytes(path.as_bytes()));
            let (dir, name) = self.root.parent(shown, Resolve::NoLinks)?;
            self.before("change the times of")?;
            dir.set_times(name, *modified)?;
        }
        Ok(())
    }

    fn before(&self, operation: &'static str) -> Result<(), IoError> {
        self.inner.fs().before(operation, self.folder)
    }
}

fn stat(dir: &Dir, name: &OsStr) -> Result<Option<Stat>, IoError> {
    file::absent_is_none(dir.stat(name))
}

fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == FileKind::CharDevice && stat.represents == (0, 0)
}

/// Names the entry when the kernel refused to leave the layer.
fn escape(error: StoreError, path: &TreePath) -> StoreError {
    match error {
        StoreError::Io(source) if corten_sys::beneath::is_escape(&source) => {
            StoreError::Escape { path: path.clone(), source }
        }
        other => other,
    }
}
