//! What removes things.
//!
//! Mark and sweep under the exclusive lock: what names, images, holds, live leases and, by policy,
//! cached steps reach stays. Removal from sight is a rename into our part of `tmp/`, which is quick;
//! the bytes are removed after the lock is free again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_oci::digest::{DiffId, Digest, ImageId};
use corten_sys::file;
use corten_sys::lock::FileLock;

use crate::downloads;
use crate::error::StoreError;
use crate::layer::LayerId;
use crate::lease::{self, Pin};
use crate::refs::TagTarget;
use crate::steps;
use crate::store::{Inner, Store};
use crate::write::read_json;

/// How long to wait for the windows of other processes: these take milliseconds, so that this much
/// means that a process hangs.
const LOCK_WAIT_MS_MAX: u64 = 30_000;

/// How often to look.
const LOCK_POLL_MS: u64 = 5;

/// What collection keeps beyond what names, holds and live processes need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcPolicy {
    /// Keeps cached steps whose layers nothing else needs.
    pub keep_unused_steps: bool,
    /// Keeps images without a name.
    pub keep_untagged_images: bool,
    /// Keeps both if they were made or used within so many seconds.
    pub keep_younger_seconds: Option<i64>,
    /// Keeps the most recently used steps only as far as their layers have so many bytes.
    pub keep_bytes: Option<u64>,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Images without a name.
    pub images: u64,
    /// Indexes without a name.
    pub indexes: u64,
    /// Names without an image.
    pub references: u64,
    /// Layers.
    pub layers: u64,
    /// Cached steps.
    pub steps: u64,
    /// Blobs.
    pub blobs: u64,
    /// Caches.
    pub caches: u64,
    /// Leavings of dead processes.
    pub leases: u64,
    /// The bytes of the layers and blobs.
    pub freed_bytes: u64,
}

impl Store {
    /// Removes what is no longer needed.
    pub fn gc(&self, policy: &GcPolicy) -> Result<GcReport, StoreError> {
        self.run(|inner| {
            let mut bin = Bin::new(inner)?;
            let mut report = GcReport::default();
            {
                let _lock = inner.lock_exclusive()?;
                let pins = clear_leases(inner, &mut bin, &mut report)?;
                let mut live = Live::mark(inner, policy, &pins, &mut report)?;
                let budget = live.mark_steps(inner, policy, &mut report)?;
                live.mark_downloads(inner, policy, budget, &mut report)?;
                live.sweep(inner, &mut bin, &mut report)?;
                sweep_caches(inner, policy, &mut report)?;
            }
            bin.empty(inner)?;
            Ok(report)
        })
    }
}

impl Inner {
    /// Takes the lock alone; the lease of this handle must exist already.
    pub(crate) fn lock_exclusive(&self) -> Result<FileLock, StoreError> {
        self.check_writable()?;
        let path = self.layout.gc_lock();
        for _ in 0..LOCK_WAIT_MS_MAX / LOCK_POLL_MS {
            if let Some(lock) = FileLock::try_exclusive(&path)? {
                return Ok(lock);
            }
            std::thread::sleep(Duration::from_millis(LOCK_POLL_MS));
        }
        Err(StoreError::Busy { root: self.layout.root.clone() })
    }
}

/// Where things go that are out of sight and not yet gone.
pub(crate) struct Bin {
    folder: PathBuf,
    count: u64,
}

impl Bin {
    /// Makes a bin in the part of `tmp/` of this handle.
    pub(crate) fn new(inner: &Arc<Inner>) -> Result<Self, StoreError> {
        let folder = inner.temporary()?;
        inner.fs().create_dir(&folder, 0o700)?;
        Ok(Self { folder, count: 0 })
    }

    /// Moves something into the bin; false if it was not there.
    pub(crate) fn take(&mut self, inner: &Inner, path: &Path) -> Result<bool, StoreError> {
        let target = self.folder.join(self.count.to_string());
        self.count += 1;
        Ok(file::absent_is_none(inner.fs().rename(path, &target))?.is_some())
    }

    /// Removes everything in the bin and the bin.
    pub(crate) fn empty(self, inner: &Inner) -> Result<(), StoreError> {
        Ok(inner.fs().remove_tree(&self.folder)?)
    }
}

/// Removes what dead processes left, if nobody else is at work. Called when a lease is made, so that
/// the next start cleans up.
pub(crate) fn reap(inner: &Inner, own: &str) -> Result<(), StoreError> {
    let others = |names: Vec<OsString>| names.iter().any(|name| name != own);
    let leases = file::list_dir(&inner.layout.folder("leases"))?;
    let temporaries = file::list_dir(&inner.layout.folder("tmp"))?;
    if !others(leases) && !others(temporaries) {
        return Ok(());
    }
    let Some(lock) = FileLock::try_exclusive(&inner.layout.gc_lock())? else { return Ok(()) };
    let folder = inner.layout.temporary(own).join("dead");
    inner.fs().create_dir(&folder, 0o700)?;
    let mut bin = Bin { folder, count: 0 };
    clear_leases(inner, &mut bin, &mut GcReport::default())?;
    drop(lock);
    bin.empty(inner)
}

/// Returns what live processes use, and clears away the leavings of dead ones.
fn clear_leases(
    inner: &Inner,
    bin: &mut Bin,
    report: &mut GcReport,
) -> Result<BTreeSet<Pin>, StoreError> {
    let mut pins = BTreeSet::new();
    let mut live = BTreeSet::new();
    for name in file::list_dir(&inner.layout.folder("leases"))? {
        let path = inner.layout.folder("leases").join(&name);
        let Some(attempt) = file::absent_is_none(FileLock::try_exclusive_existing(&path))? else {
            continue;
        };
        if attempt.is_some() {
            inner.remove_record(&path)?;
            report.leases += 1;
        } else {
            let listed = file::read_optional(&path, crate::write::RECORD_BYTES_MAX)?;
            pins.extend(lease::parse(&listed.unwrap_or_default()));
            live.insert(name);
        }
    }
    for name in file::list_dir(&inner.layout.folder("tmp"))? {
        if !live.contains(&name) {
            bin.take(inner, &inner.layout.folder("tmp").join(&name))?;
        }
    }
    Ok(pins)
}

/// What stays.
#[derive(Debug, Default)]
struct Live {
    layers: BTreeSet<DiffId>,
    blobs: BTreeSet<Digest>,
}

impl Live {
    fn mark(
        inner: &Inner,
        policy: &GcPolicy,
        pins: &BTreeSet<Pin>,
        report: &mut GcReport,
    ) -> Result<Self, StoreError> {
        let mut live = Self::default();
        let mut pinned_images = BTreeSet::new();
        for pin in pins {
            match pin {
                Pin::Layer(diff_id) => {
                    live.layers.insert(*diff_id);
                }
                Pin::Blob(digest) => {
                    live.blobs.insert(*digest);
                }
                Pin::Image(id) => {
                    pinned_images.insert(*id);
                }
            }
        }
        let holds = inner.layout.folder("holds");
        for name in file::list_dir(&holds)? {
            let held = read_json::<Vec<LayerId>>(&holds.join(name))?.unwrap_or_default();
            live.layers.extend(held.iter().map(LayerId::diff_id));
        }
        live.mark_images(inner, policy, &pinned_images, report)?;
        Ok(live)
    }

    fn mark_images(
        &mut self,
        inner: &Inner,
        policy: &GcPolicy,
        pinned: &BTreeSet<ImageId>,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        let mut named = BTreeSet::new();
        let mut named_indexes = BTreeSet::new();
        for tagged in inner.references()? {
            if file::exists(&inner.target_path(&tagged.target))? {
                match tagged.target {
                    TagTarget::Image(id) => named.insert(id),
                    TagTarget::Index(digest) => named_indexes.insert(digest),
                };
            } else {
                inner.remove_record(&crate::refs::path(inner, &tagged.reference))?;
                report.references += 1;
            }
        }
        named.extend(self.mark_indexes(inner, policy, &named_indexes, report)?);
        for id in inner.image_names()? {
            let Some(record) = inner.image_record(&id)? else { continue };
            let stays = named.contains(&id)
                || pinned.contains(&id)
                || policy.keep_untagged_images
                || is_young(policy, inner.now(), record.stored_at);
            if stays {
                self.layers.extend(&record.layers);
                self.blobs.extend([id.0, record.manifest]);
            } else {
                inner.remove_record(&inner.layout.image(&id))?;
                report.images += 1;
            }
        }
        Ok(())
    }

    /// Decides on the indexes; what stays keeps its images, which are returned.
    fn mark_indexes(
        &mut self,
        inner: &Inner,
        policy: &GcPolicy,
        named: &BTreeSet<Digest>,
        report: &mut GcReport,
    ) -> Result<BTreeSet<ImageId>, StoreError> {
        let mut kept = BTreeSet::new();
        for digest in inner.index_names()? {
            let Some(record) = inner.index_record(&digest)? else { continue };
            // An index that a live process has just made is among the blobs that it holds.
            let stays = named.contains(&digest)
                || self.blobs.contains(&digest)
                || policy.keep_untagged_images
                || is_young(policy, inner.now(), record.stored_at);
            if stays {
                self.blobs.insert(digest);
                self.blobs.extend(record.members.iter().map(|member| member.manifest));
                kept.extend(record.members.iter().map(|member| member.image));
            } else {
                inner.remove_record(&inner.layout.index(&digest))?;
                report.indexes += 1;
            }
        }
        Ok(kept)
    }

    /// Decides on the cached steps, the most recently used first; returns what is left of the limit
    /// on bytes.
    fn mark_steps(
        &mut self,
        inner: &Inner,
        policy: &GcPolicy,
        report: &mut GcReport,
    ) -> Result<Option<u64>, StoreError> {
        let mut candidates: BTreeMap<(i64, PathBuf), (Option<DiffId>, Vec<Digest>)> =
            BTreeMap::new();
        for path in step_paths(inner)? {
            let used = steps::last_used(&path)?.unwrap_or_default();
            let Some(stored) = steps::read_step(&path)? else {
                // A record that nobody can read is of no use.
                report.steps += u64::from(inner.remove_record(&path)?);
                continue;
            };
            let layer = stored.record.layer.map(|layer| layer.diff_id());
            candidates.insert((used, path), (layer, stored.record.blobs));
        }
        let mut budget = policy.keep_bytes;
        for ((used, path), (layer, blobs)) in candidates.iter().rev() {
            let needed = layer.filter(|layer| !self.layers.contains(layer));
            let wanted = policy.keep_unused_steps || is_young(policy, inner.now(), *used);
            let stays = match needed {
                // The layer stays anyhow, or there is none.
                None => layer.is_some() || wanted,
                Some(diff_id) => match inner.meta(&diff_id)? {
                    Some(meta) if wanted => within(&mut budget, meta.content_bytes),
                    _ => false,
                },
            };
            if stays {
                self.layers.extend(needed);
                self.blobs.extend(blobs);
            } else {
                report.steps += u64::from(inner.remove_record(path)?);
            }
        }
        Ok(budget)
    }

    /// Decides on downloads, with what steps have left of the limit on bytes.
    fn mark_downloads(
        &mut self,
        inner: &Inner,
        policy: &GcPolicy,
        mut budget: Option<u64>,
        report: &mut GcReport,
    ) -> Result<(), StoreError> {
        for entry in downloads::entries(inner)? {
            let is_wanted = entry.is_wanted(policy, inner.now());
            if is_wanted && within(&mut budget, entry.download.size_bytes) {
                self.blobs.insert(entry.download.digest);
            } else {
                report.caches += u64::from(inner.remove_record(&entry.path)?);
            }
        }
        Ok(())
    }

    fn sweep(&self, inner: &Inner, bin: &mut Bin, report: &mut GcReport) -> Result<(), StoreError> {
        for diff_id in inner.layer_names()? {
            if self.layers.contains(&diff_id) {
                continue;
            }
            let bytes = inner.meta(&diff_id)?.map_or(0, |meta| meta.content_bytes);
            if bin.take(inner, &inner.layout.layer(&diff_id))? {
                report.layers += 1;
                report.freed_bytes += bytes;
            }
        }
        for (digest, path) in blob_paths(inner)? {
            if self.blobs.contains(&digest) {
                continue;
            }
            let bytes = file::absent_is_none(file::metadata(&path))?.map_or(0, |found| found.len());
            if inner.remove_record(&path)? {
                report.blobs += 1;
                report.freed_bytes += bytes;
            }
        }
        Ok(())
    }
}

fn is_young(policy: &GcPolicy, now: i64, used: i64) -> bool {
    policy.keep_younger_seconds.is_some_and(|limit| now.saturating_sub(used) < limit)
}

/// Takes bytes from a budget, if there is one and it has them.
fn within(budget: &mut Option<u64>, bytes: u64) -> bool {
    match budget {
        None => true,
        Some(left) => match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        },
    }
}

fn sweep_caches(inner: &Inner, policy: &GcPolicy, report: &mut GcReport) -> Result<(), StoreError> {
    if policy.keep_younger_seconds.is_none() {
        return Ok(());
    }
    let folder = inner.layout.folder("aux");
    for kind in file::list_dir(&folder)? {
        // These were decided on with their contents.
        if kind == downloads::KIND {
            continue;
        }
        for name in file::list_dir(&folder.join(&kind))? {
            let path = folder.join(&kind).join(name);
            let used = steps::last_used(&path)?.unwrap_or_default();
            if !is_young(policy, inner.now(), used) {
                report.caches += u64::from(inner.remove_record(&path)?);
            }
        }
    }
    Ok(())
}

/// Returns the files of all cached steps.
pub(crate) fn step_paths(inner: &Inner) -> Result<Vec<PathBuf>, StoreError> {
    let folder = inner.layout.folder("steps");
    let mut paths = Vec::new();
    for head in file::list_dir(&folder)? {
        let folder = folder.join(head);
        for name in file::list_dir(&folder)? {
            paths.push(folder.join(name));
        }
    }
    Ok(paths)
}

/// Returns all blobs.
pub(crate) fn blob_paths(inner: &Inner) -> Result<Vec<(Digest, PathBuf)>, StoreError> {
    let folder = inner.layout.folder("blobs/sha256");
    let mut paths = Vec::new();
    for head in file::list_dir(&folder)? {
        let folder = folder.join(&head);
        for tail in file::list_dir(&folder)? {
            let hex = format!("{}{}", head.to_string_lossy(), tail.to_string_lossy());
            if let Ok(digest) = Digest::from_hex(&hex) {
                paths.push((digest, folder.join(tail)));
            }
        }
    }
    Ok(paths)
}
