//! The directories of `RUN --mount=type=cache`.
//!
//! Each is `caches/<name>` with `caches/<name>.lock` beside it. Whoever uses a directory holds the
//! lock, shared or alone; a lock file is never removed, so that all its users mean the same one. One
//! that steps have as a part of their root is `caches/<name>.linked` meanwhile: see `linked`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use corten_oci::digest::Digest;
use corten_sys::file;
use corten_sys::lock::FileLock;

use crate::error::StoreError;
use crate::gc::Bin;
use crate::linked;
use crate::seal;
use crate::staging::{self, Staging};
use crate::store::{Inner, Store};
use crate::unpack::{Kind, unpack};

/// The folder below the store.
pub(crate) const FOLDER: &str = "caches";

/// Deeper trees than this are no package manager's.
const DEPTH_MAX: usize = 256;

/// How much there is in cache directories, or was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheMounts {
    /// How many directories.
    pub count: u64,
    /// The bytes of their files.
    pub bytes: u64,
    /// How many were left alone, since a build uses them.
    pub in_use: u64,
}

impl Store {
    /// Returns the directory in which cache directories are; it may not be there yet.
    pub fn cache_mounts_dir(&self) -> PathBuf {
        self.root().join(FOLDER)
    }

    /// Sums up the cache directories.
    pub fn cache_mounts(&self) -> Result<CacheMounts, StoreError> {
        self.run(|inner| {
            let mut found = CacheMounts::default();
            for path in directories(inner)? {
                found.count += 1;
                found.bytes += bytes_of(&path)?;
            }
            Ok(found)
        })
    }

    /// Removes every cache directory that no build uses.
    pub fn remove_cache_mounts(&self) -> Result<CacheMounts, StoreError> {
        self.run(|inner| {
            inner.check_writable()?;
            let mut bin = Bin::new(inner)?;
            let mut removed = CacheMounts::default();
            for path in directories(inner)? {
                let Some(_lock) = FileLock::try_exclusive(&path.with_extension("lock"))? else {
                    removed.in_use += 1;
                    continue;
                };
                let bytes = bytes_of(&path)?;
                let linked = bin.take(inner, &linked::folder(&path))?;
                if bin.take(inner, &path)? || linked {
                    removed.count += 1;
                    removed.bytes += bytes;
                }
            }
            bin.empty(inner)?;
            Ok(removed)
        })
    }
}

impl Store {
    /// Writes the canonical tar of a directory that belongs to no layer: names, modes, owners,
    /// attributes, links and times to the second. Who calls it sees to it that nobody changes it.
    pub fn write_directory_tar(
        &self,
        directory: &Path,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        self.run(|inner| seal::write_canonical(directory, inner.in_user_namespace, out))
    }

    /// Unpacks a tar from anywhere into a staging directory: nothing of it is written outside, and
    /// a device node in it is refused. A limit on its length is up to the caller.
    pub fn unpack_directory(&self, tar: &mut dyn Read) -> Result<Staging, StoreError> {
        self.run(|inner| {
            let staging = staging::stage(inner)?;
            unpack(inner, &staging, tar, Kind::Directory)?;
            Ok(staging)
        })
    }
}

/// Returns the directories whose names we gave, by their ordinary paths.
fn directories(inner: &Inner) -> Result<Vec<PathBuf>, StoreError> {
    let folder = inner.layout.root.join(FOLDER);
    let Some(names) = file::absent_is_none(file::list_dir(&folder))? else {
        return Ok(Vec::new());
    };
    let own = |name: &std::ffi::OsString| {
        let name = name.to_str()?;
        let name =
            name.strip_suffix(linked::SUFFIX).and_then(|n| n.strip_suffix('.')).unwrap_or(name);
        let (hex, number) = name.split_once('-').unwrap_or((name, "0"));
        let is_ours =
            Digest::from_hex(hex).is_ok() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_ours.then(|| folder.join(name))
    };
    let paths: BTreeSet<PathBuf> = names.iter().filter_map(own).collect();
    Ok(paths.into_iter().collect())
}

/// Sums up the bytes of a cache, whichever form it has.
fn bytes_of(path: &Path) -> Result<u64, StoreError> {
    Ok(bytes_in(path, 0)? + bytes_in(&linked::folder(path), 0)?)
}

/// Sums up the bytes of the files below a directory; what vanishes meanwhile counts nothing.
fn bytes_in(directory: &Path, depth: usize) -> Result<u64, StoreError> {
    let Some(names) = file::absent_is_none(file::list_dir(directory))? else { return Ok(0) };
    let mut bytes = 0;
    for name in names {
        let path = directory.join(name);
        let Some(found) = file::absent_is_none(file::symlink_metadata(&path))? else { continue };
        if found.is_file() {
            bytes += found.len();
        } else if found.is_dir() && depth < DEPTH_MAX {
            bytes += bytes_in(&path, depth + 1)?;
        }
    }
    Ok(bytes)
}
