//! Volumes: directories that outlive containers.
//!
//! ```text
//! volumes/lock                 held alone while volumes are made, filled or removed
//! volumes/<name>/volume.json   what it is
//! volumes/<name>/data          what containers see
//! ```
//!
//! A volume appears by rename with all that it begins with. One that was made empty and not used yet is
//! filled when a container mounts it where its image has files, as in Docker.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::lock::FileLock;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::gc::Bin;
use crate::images::Image;
use crate::merged::Merged;
use crate::snapshot::{Links, Snapshot};
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// The folder below the store.
const FOLDER: &str = "volumes";

/// The file that says what a volume is.
const RECORD: &str = "volume.json";

/// The directory that containers see.
const DATA: &str = "data";

/// The owner of an empty volume may do everything, everybody else may look, as in Docker.
const DATA_MODE: u32 = 0o755;

/// What is written down about a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    /// Seconds since 1970.
    pub created: i64,
    pub labels: BTreeMap<String, String>,
    /// It was made for one container, without a name.
    pub anonymous: bool,
    /// A container has mounted it, so that it is never filled again.
    pub used: bool,
}

/// What is to be in a volume at first.
#[derive(Debug, Clone, Copy)]
pub struct Filling<'a> {
    pub image: &'a Image,
    /// Where the container has it.
    pub target: &'a Path,
}

impl Store {
    /// Returns the directory that containers see of a volume, which need not exist.
    pub fn volume_data(&self, name: &str) -> Result<PathBuf, StoreError> {
        self.run(|inner| Ok(folder(inner, name)?.join(DATA)))
    }

    /// Makes a volume; false if there is one of that name already.
    pub fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<bool, StoreError> {
        self.run(|inner| {
            let _lock = lock(inner)?;
            if read(inner, name)?.is_some() {
                return Ok(false);
            }
            let volume = Volume {
                name: name.to_owned(),
                created: inner.now(),
                labels: labels.clone(),
                anonymous: false,
                used: false,
            };
            place(inner, &volume, None)?;
            Ok(true)
        })
    }

    /// Makes a volume ready for a container: it is made if it is missing, and filled if nobody has used
    /// it yet and it is empty.
    pub fn use_volume(
        &self,
        name: &str,
        anonymous: bool,
        filling: Option<Filling<'_>>,
    ) -> Result<(), StoreError> {
        self.run(|inner| {
            let _lock = lock(inner)?;
            let known = read(inner, name)?;
            if let Some(known) = &known {
                let data = folder(inner, name)?.join(DATA);
                if known.used || !file::list_dir(&data)?.is_empty() {
                    return Ok(());
                }
            }
            let volume = Volume {
                name: name.to_owned(),
                created: known.as_ref().map_or_else(|| inner.now(), |known| known.created),
                labels: known.map(|known| known.labels).unwrap_or_default(),
                anonymous,
                used: true,
            };
            place(inner, &volume, filling.map(|filling| (self, filling)))
        })
    }

    /// Finds all volumes, in the order of their names.
    pub fn volumes(&self) -> Result<Vec<Volume>, StoreError> {
        self.run(|inner| {
            let root = inner.layout.root.join(FOLDER);
            let names = file::absent_is_none(file::list_dir(&root))?.unwrap_or_default();
            let mut volumes = Vec::new();
            for name in names {
                volumes.extend(read(inner, &name.to_string_lossy())?);
            }
            Ok(volumes)
        })
    }

    /// Returns a volume; `None` if there is none of that name.
    pub fn volume(&self, name: &str) -> Result<Option<Volume>, StoreError> {
        self.run(|inner| read(inner, name))
    }

    /// Removes a volume that no container has; false if there is none of that name.
    pub fn remove_volume(&self, name: &str) -> Result<bool, StoreError> {
        let users = self.containers()?;
        if let Some(user) = users.iter().find(|user| user.record.has_volume(name)) {
            let (name, container) = (name.to_owned(), user.record.name.clone());
            return Err(StoreError::VolumeInUse { name, container });
        }
        self.run(|inner| remove(inner, name))
    }
}

/// Removes a volume, whoever has it.
pub(crate) fn remove(inner: &Arc<Inner>, name: &str) -> Result<bool, StoreError> {
    inner.check_writable()?;
    let _lock = lock(inner)?;
    let mut bin = Bin::new(inner)?;
    let removed = bin.take(inner, &folder(inner, name)?)?;
    bin.empty(inner)?;
    Ok(removed)
}

fn folder(inner: &Inner, name: &str) -> Result<PathBuf, StoreError> {
    let form = crate::containers::check_name(name);
    form.map_err(|_| StoreError::VolumeNameForm { name: name.to_owned() })?;
    Ok(inner.layout.root.join(FOLDER).join(name))
}

/// Keeps others from making and removing volumes.
fn lock(inner: &Inner) -> Result<FileLock, StoreError> {
    let root = inner.layout.root.join(FOLDER);
    // A store that was made before there were volumes gets its folder with the first.
    file::create_dirs(&root, 0o711)?;
    Ok(FileLock::exclusive(&root.join("lock"))?)
}

fn read(inner: &Inner, name: &str) -> Result<Option<Volume>, StoreError> {
    let path = folder(inner, name)?.join(RECORD);
    match read_json(&path) {
        // The lock file lies beside the volumes.
        Err(StoreError::Io(error)) if error.is_not_a_directory() => Ok(None),
        read => read,
    }
}

/// Makes a volume beside its place and moves it there; an unused one that is there goes.
fn place(
    inner: &Arc<Inner>,
    volume: &Volume,
    filling: Option<(&Store, Filling<'_>)>,
) -> Result<(), StoreError> {
    inner.check_writable()?;
    let folder = folder(inner, &volume.name)?;
    let staging = inner.temporary()?;
    let fs = inner.fs();
    fs.create_dir(&staging, 0o711)?;
    let data = staging.join(DATA);
    let is_filled = match filling {
        Some((store, filling)) => fill(store, inner, filling, &data)?,
        None => false,
    };
    if !is_filled {
        fs.create_dir(&data, DATA_MODE)?;
    }
    inner.put_json(&staging.join(RECORD), volume, Durability::Durable)?;
    let mut bin = Bin::new(inner)?;
    bin.take(inner, &folder)?;
    fs.rename(&staging, &folder)?;
    fs.sync_dir(&inner.layout.root.join(FOLDER))?;
    bin.empty(inner)
}

/// Puts what the image has at the target in the place of a volume's data; false if it has no directory.
fn fill(
    store: &Store,
    inner: &Arc<Inner>,
    filling: Filling<'_>,
    data: &Path,
) -> Result<bool, StoreError> {
    let layers = &filling.image.layers;
    let snapshot = Snapshot::new(layers)?;
    let target = filling.target.as_os_str().as_bytes();
    let Some(found) = snapshot.resolve(target, Links::Follow)? else { return Ok(false) };
    if found.stat.kind != corten_sys::beneath::FileKind::Directory || found.path.is_root() {
        return Ok(false);
    }
    let mut merged = Merged::new(layers)?;
    merged.keep_below(found.path.as_bytes());
    let failed = |source| IoError::new("make", "a pipe", source);
    let (mut reader, mut writer) = std::io::pipe().map_err(failed)?;
    let unpacked = std::thread::scope(|scope| {
        let writing = scope.spawn(move || merged.write_tar(&mut writer));
        let unpacked = store.unpack_directory(&mut reader);
        // What is left is read, so that only a failure of its own ends the writing early.
        let drained = std::io::copy(&mut reader, &mut std::io::sink());
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A tar that could not be written is the cause of one that could not be unpacked.
        written?;
        drained.map_err(|source| IoError::new("read", "a pipe", source))?;
        unpacked
    })?;
    let made = unpacked.tree().join(OsStr::from_bytes(found.path.as_bytes()));
    inner.fs().rename(&made, data)?;
    Ok(true)
}
