//! Caches that a build takes from.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use corten_diag::{Event, Reporter};
use corten_oci::digest::{DiffId, Digest};
use corten_registry::Client;
use corten_store::archive::{PackedLayer, read_layer};
use corten_store::{CacheKey, Layer, Store};

use super::layout::LayoutSource;
use super::mounts::PieceReader;
use super::place::{CacheError, Source};
use super::record::{Blob, Cache, Mount};
use super::registry::RegistrySource;
use super::spec::{CacheFrom, ImportPlace};

/// All caches that a build may take from, in the order in which they are asked.
#[derive(Default)]
pub struct Imports {
    sources: Vec<Imported>,
    /// Blobs that were not what their digest says.
    damaged: Mutex<BTreeSet<Digest>>,
}

impl std::fmt::Debug for Imports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Imports")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

struct Imported {
    source: Box<dyn Source>,
    /// Read when a step is first looked for.
    cache: OnceLock<Option<Cache>>,
}

impl Imports {
    /// No caches.
    pub fn none() -> Self {
        Self::default()
    }

    /// Names caches; nothing is opened yet.
    pub fn new(from: &[CacheFrom], client: &Client) -> Self {
        let mut imports = Self::default();
        for from in from {
            match &from.place {
                ImportPlace::Local { path, tag } => {
                    imports.push(Box::new(LayoutSource::new(path, tag)));
                }
                ImportPlace::Registry { reference, insecure } => {
                    let repository = client.repository(reference, *insecure);
                    imports.push(Box::new(RegistrySource::new(repository)));
                }
            }
        }
        imports
    }

    fn push(&mut self, source: Box<dyn Source>) {
        self.sources.push(Imported { source, cache: OnceLock::new() });
    }

    /// Whether there is any cache to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    pub(crate) fn caches<'a>(
        &'a self,
        reporter: &'a dyn Reporter,
    ) -> impl Iterator<Item = (&'a dyn Source, &'a Cache)> {
        self.sources.iter().filter_map(move |imported| {
            let read = || match imported.source.read() {
                Ok(cache) => Some(cache),
                Err(error) => {
                    told(reporter, &error);
                    None
                }
            };
            let cache = imported.cache.get_or_init(read).as_ref()?;
            Some((imported.source.as_ref(), cache))
        })
    }

    /// The layer that a cache says a step made, without fetching it.
    pub(crate) fn step(&self, key: &CacheKey, reporter: &dyn Reporter) -> Option<DiffId> {
        self.caches(reporter).find_map(|(_, cache)| cache.steps.get(key).copied())
    }

    /// Fetches the layer of a step; a failure is told and is a miss.
    pub(crate) fn layer(
        &self,
        key: &CacheKey,
        store: &Store,
        reporter: &dyn Reporter,
    ) -> Option<Layer> {
        self.caches(reporter).find_map(|(source, cache)| {
            let diff_id = cache.steps.get(key)?;
            let blob = cache.layers.get(diff_id);
            match self.fetch(source, diff_id, blob, store) {
                Ok(layer) => layer,
                Err(error) => {
                    told(reporter, &error);
                    None
                }
            }
        })
    }

    /// Fetches a layer that a cache has, whichever step made it.
    pub(crate) fn layer_by_diff_id(
        &self,
        diff_id: &DiffId,
        store: &Store,
        reporter: &dyn Reporter,
    ) -> Option<Layer> {
        self.caches(reporter).find_map(|(source, cache)| {
            let blob = Some(cache.layers.get(diff_id)?);
            self.fetch(source, diff_id, blob, store).ok().flatten()
        })
    }

    fn fetch(
        &self,
        source: &dyn Source,
        diff_id: &DiffId,
        blob: Option<&Blob>,
        store: &Store,
    ) -> Result<Option<Layer>, CacheError> {
        let carry = |error| CacheError::store(source.name(), error);
        if let Some(layer) = store.layer_pinned(diff_id).map_err(carry)? {
            return Ok(Some(layer));
        }
        let Some(blob) = blob else { return Ok(None) };
        let packed = PackedLayer { diff_id: *diff_id, digest: Some(blob.digest), size: blob.size };
        let fetched = source
            .open(&blob.digest, blob.size)
            .and_then(|mut stream| read_layer(store, &mut stream, &packed).map_err(carry));
        if fetched.is_err() {
            self.distrust(blob.digest);
        }
        fetched.map(Some)
    }

    /// Notes that a blob is not to be taken for what its name says.
    pub(crate) fn distrust(&self, digest: Digest) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    /// Whether a blob was found to be damaged.
    pub(crate) fn is_damaged(&self, digest: &Digest) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Where the blob of a layer is.
    pub(crate) fn blob<'a>(
        &'a self,
        diff_id: &DiffId,
        reporter: &'a dyn Reporter,
    ) -> Option<(&'a dyn Source, &'a Blob)> {
        self.caches(reporter).find_map(|(source, cache)| Some((source, cache.layers.get(diff_id)?)))
    }

    /// Where a cache mount is.
    pub(crate) fn mount<'a>(
        &'a self,
        name: &str,
        reporter: &'a dyn Reporter,
    ) -> Option<(&'a dyn Source, &'a Mount)> {
        self.caches(reporter).find_map(|(source, cache)| Some((source, cache.mounts.get(name)?)))
    }

    /// Makes the directory of a cache mount from a cache; false if no cache has it, or if it could
    /// not be made, which is told. The directory is absent or empty, and nobody uses it.
    pub(crate) fn fill_mount(
        &self,
        name: &str,
        directory: &Path,
        store: &Store,
        reporter: &dyn Reporter,
    ) -> bool {
        let Some((source, mount)) = self.mount(name, reporter) else { return false };
        if let Some(bytes) = mount.excess_bytes() {
            let (place, id) = (source.name(), mount.id.clone());
            told(reporter, &CacheError::Expansion { place, id, bytes });
            return false;
        }
        let mut reader = PieceReader::new(source, &mount.pieces);
        let filled = store.unpack_directory(&mut reader);
        if filled.is_err()
            && let Some(piece) = reader.failed()
        {
            self.distrust(piece);
        }
        let place = source.name();
        let placed = match filled {
            Ok(staging) => corten_sys::file::rename(staging.tree(), directory)
                .map_err(|source| CacheError::Io { place, source }),
            Err(error) => Err(CacheError::store(place, error)),
        };
        if let Err(error) = &placed {
            told(reporter, error);
        }
        placed.is_ok()
    }
}

/// Says that a cache is not used, with all reasons.
pub(crate) fn told(reporter: &dyn Reporter, error: &CacheError) {
    reporter.report(Event::Warning(error.with_causes()));
}
