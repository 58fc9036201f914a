//! What was downloaded, by its address: packages that are the same for everybody who asks.
//!
//! A record is an aux file of its own kind, which names a blob. Collection keeps the blob as long as
//! the record, and decides on records as on cached steps: the most recently used first.

use corten_oci::digest::Digest;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::StoreError;
use crate::gc::GcPolicy;
use crate::lease::Pin;
use crate::steps;
use crate::store::{Inner, Store};

/// The kind of the aux files.
pub(crate) const KIND: &str = "downloads";

/// The largest record: a few headers.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// What an address had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The content, which is a blob.
    pub digest: Digest,
    pub size_bytes: u64,
    /// Whatever the caller wants to know again.
    pub payload: serde_json::Value,
}

/// How much was downloaded and kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Downloads {
    /// How many addresses.
    pub count: u64,
    /// The bytes of their contents, each once.
    pub bytes: u64,
}

impl Store {
    /// Returns what is kept of an address, and protects its content for the life of this handle;
    /// `None` if there is nothing, or if it is damaged or gone.
    pub fn download(&self, address: &str) -> Result<Option<Download>, StoreError> {
        let Some(bytes) = self.aux(KIND, address)? else { return Ok(None) };
        let Ok(download) = serde_json::from_slice::<Download>(&bytes) else { return Ok(None) };
        self.run(|inner| {
            inner.with_lease(|_| Ok(()))?;
            let _window = inner.window()?;
            if !file::exists(&inner.layout.blob(&download.digest))? {
                return Ok(None);
            }
            inner.pin_own(Pin::Blob(download.digest))?;
            steps::touch(inner, &path(inner, address))?;
            Ok(Some(download))
        })
    }

    /// Keeps what an address had; its content must have been stored by this handle.
    pub fn put_download(&self, address: &str, download: &Download) -> Result<(), StoreError> {
        // Digests, numbers and JSON are always JSON.
        let bytes = serde_json::to_vec(download).unwrap_or_default();
        self.put_aux(KIND, address, &bytes)
    }

    /// Forgets the downloads that were used last the longest ago, until the rest has at most so many
    /// bytes. Their contents go with the next collection.
    pub fn trim_downloads(&self, limit_bytes: u64) -> Result<(), StoreError> {
        self.run(|inner| {
            let mut left = limit_bytes;
            for entry in entries(inner)? {
                match left.checked_sub(entry.download.size_bytes) {
                    Some(rest) => left = rest,
                    None => {
                        inner.remove_record(&entry.path)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// A record that can be read.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// In seconds since 1970, to a day.
    pub(crate) used: i64,
    pub(crate) download: Download,
}

impl Entry {
    /// Whether a policy keeps it, but for a limit on bytes.
    pub(crate) fn is_wanted(&self, policy: &GcPolicy, now: i64) -> bool {
        let young = policy.keep_younger_seconds;
        policy.keep_unused_steps || young.is_some_and(|limit| now.saturating_sub(self.used) < limit)
    }
}

fn path(inner: &Inner, address: &str) -> PathBuf {
    inner.layout.folder("aux").join(KIND).join(Digest::of(address.as_bytes()).hex())
}

/// Returns all records, the most recently used first; one that nobody can read is removed.
pub(crate) fn entries(inner: &Inner) -> Result<Vec<Entry>, StoreError> {
    let folder = inner.layout.folder("aux").join(KIND);
    let names = file::absent_is_none(file::list_dir(&folder))?.unwrap_or_default();
    let mut entries = Vec::new();
    for name in names {
        let path = folder.join(name);
        let Some(used) = steps::last_used(&path)? else { continue };
        let Some(bytes) = file::read_optional(&path, RECORD_BYTES_MAX)? else { continue };
        let body = crate::aux::body(&bytes);
        match body.and_then(|body| serde_json::from_slice(body).ok()) {
            Some(download) => entries.push(Entry { path, used, download }),
            None if inner.is_read_only() => {}
            None => {
                inner.remove_record(&path)?;
            }
        }
    }
    entries.sort_by(|one, other| (other.used, &other.path).cmp(&(one.used, &one.path)));
    Ok(entries)
}

/// Sums them up.
pub(crate) fn usage(inner: &Inner) -> Result<Downloads, StoreError> {
    let mut seen = BTreeSet::new();
    let mut found = Downloads::default();
    for entry in entries(inner)? {
        found.count += 1;
        if seen.insert(entry.download.digest) {
            found.bytes += entry.download.size_bytes;
        }
    }
    Ok(found)
}
