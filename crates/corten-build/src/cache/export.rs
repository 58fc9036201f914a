//! What a build made becomes a cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;

use corten_diag::{Event, Reporter};
use corten_oci::digest::{DiffId, Digest};
use corten_oci::limits;
use corten_registry::Client;
use corten_store::archive::{Compression, write_layer};
use corten_store::{CacheKey, Store, StoreError};
use rayon::prelude::*;

use super::KnownStep;
use super::import::{Imports, told};
use super::layout::LayoutSink;
use super::mounts::{MountUse, Packed, known_pieces, pack, packed_key, read_blob};
use super::place::{CacheError, Sink, Source};
use super::record::{Blob, Cache, INLINE_ANNOTATION, Mount, PIECES_MAX, Piece, inline, layer_type};
use super::registry::RegistrySink;
use super::spec::{CacheTo, ExportPlace, Mode};
use crate::Target;
use crate::output::{Annotation, Subject};

/// Where the store notes the digests of compressed layers.
pub(crate) const PACKED_KIND: &str = "packed-layer";

/// How many keys of one layer are kept: two, and some of builds that came to the same result.
const KEYS_MAX: usize = 16;

/// What is exported, and from where.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    pub steps: &'a [KnownStep],
    pub mounts: &'a [MountUse],
    /// Where the directories of cache mounts are.
    pub mounts_directory: &'a Path,
    pub store: &'a Store,
    /// What the build took from: what it did not need to fetch is copied from there.
    pub imports: &'a Imports,
    pub client: &'a Client,
    pub reporter: &'a dyn Reporter,
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Export").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// What a cache now has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub place: String,
    pub steps: usize,
    pub layers: usize,
    pub mounts: usize,
    /// The bytes of all its blobs.
    pub bytes: u64,
    /// The bytes of those that were not there before.
    pub new_bytes: u64,
}

/// Exports a cache; `None` for one that is in the image itself.
pub fn export(to: &CacheTo, export: &Export<'_>) -> Result<Option<Exported>, CacheError> {
    let sink: Box<dyn Sink> = match &to.place {
        ExportPlace::Local { path, tag } => Box::new(LayoutSink::open(path, tag)?),
        ExportPlace::Registry { reference, insecure } => {
            let repository = export.client.repository(reference, *insecure);
            Box::new(RegistrySink::open(repository, export.store)?)
        }
        ExportPlace::Inline => return Ok(None),
    };
    write(to, export, sink.as_ref()).map(Some)
}

/// The annotation of an image's manifest from which other machines take the steps of its layers.
pub fn inline_annotation(target: &Target) -> Annotation {
    let steps: Vec<_> =
        target.steps.iter().filter(|step| step.of_target).map(|s| (s.key, s.layer)).collect();
    let layers: Vec<DiffId> = target.layers.iter().map(|layer| layer.diff_id).collect();
    Annotation {
        subject: Subject::Manifest,
        platform: Some(target.config.platform()),
        key: INLINE_ANNOTATION.to_owned(),
        value: inline(&steps, &layers),
    }
}

fn write(to: &CacheTo, export: &Export<'_>, sink: &dyn Sink) -> Result<Exported, CacheError> {
    let exporter = Exporter { to, export, sink };
    let wanted = export.steps.iter().filter(|step| to.mode == Mode::Max || step.of_target);
    let mut steps: BTreeMap<_, _> = wanted.map(|step| (step.key, step.layer)).collect();
    exporter.keep_other_keys(&mut steps);
    let layers: BTreeSet<DiffId> = steps.values().copied().collect();
    let placed: Vec<(DiffId, Option<Blob>)> = layers
        .into_par_iter()
        .map(|diff_id| Ok((diff_id, exporter.layer(&diff_id)?)))
        .collect::<Result<_, CacheError>>()?;
    let layers: BTreeMap<DiffId, Blob> =
        placed.into_iter().filter_map(|(diff_id, blob)| Some((diff_id, blob?))).collect();
    let steps = steps.into_iter().filter(|(_, layer)| layers.contains_key(layer)).collect();
    let cache = Cache { steps, layers, mounts: exporter.mounts()? };
    let (config, manifest) = cache.documents();
    if manifest.len() as u64 > limits::MANIFEST_BYTES_MAX {
        return Err(CacheError::TooLarge);
    }
    let old = sink.previous().map(blobs_of).unwrap_or_default();
    let blobs = blobs_of(&cache);
    let exported = Exported {
        place: sink.name(),
        steps: cache.steps.len(),
        layers: cache.layers.len(),
        mounts: cache.mounts.len(),
        bytes: blobs.values().sum(),
        new_bytes: blobs.iter().filter(|(digest, _)| !old.contains_key(digest)).map(|b| b.1).sum(),
    };
    sink.finish(&config, &manifest)?;
    Ok(exported)
}

/// The blobs of a cache with their sizes.
fn blobs_of(cache: &Cache) -> BTreeMap<Digest, u64> {
    let layers = cache.layers.values().map(|blob| (blob.digest, blob.size));
    let pieces = cache.mounts.values().flat_map(|mount| &mount.pieces);
    layers.chain(pieces.map(|piece| (piece.digest, piece.size))).collect()
}

struct Exporter<'a> {
    to: &'a CacheTo,
    export: &'a Export<'a>,
    sink: &'a dyn Sink,
}

impl Exporter<'_> {
    fn store_error(&self, source: StoreError) -> CacheError {
        CacheError::store(self.sink.name(), source)
    }

    /// Whether a blob is there and not known to be damaged.
    fn has(&self, digest: &Digest, size: u64) -> Result<bool, CacheError> {
        Ok(!self.export.imports.is_damaged(digest) && self.sink.has(digest, size)?)
    }

    /// A step that was found by one key was not asked for the other one, which a cache has. It stays,
    /// as long as its layer does.
    fn keep_other_keys(&self, steps: &mut BTreeMap<CacheKey, DiffId>) {
        let mut keys: BTreeMap<DiffId, usize> = BTreeMap::new();
        for layer in steps.values() {
            *keys.entry(*layer).or_default() += 1;
        }
        let imported = self.export.imports.caches(self.export.reporter).map(|(_, cache)| cache);
        for cache in self.sink.previous().into_iter().chain(imported) {
            for (key, layer) in &cache.steps {
                let Some(count) = keys.get_mut(layer) else { continue };
                if *count < KEYS_MAX && !steps.contains_key(key) {
                    *count += 1;
                    steps.insert(*key, *layer);
                }
            }
        }
    }

    /// Finds the blob of a layer, or adds it: `None` if it is nowhere.
    fn layer(&self, diff_id: &DiffId) -> Result<Option<Blob>, CacheError> {
        let media_type = layer_type(self.to.compression);
        let fits = |blob: &Blob| blob.media_type == media_type;
        let previous = self.sink.previous().and_then(|cache| cache.layers.get(diff_id));
        if let Some(blob) = previous.filter(|blob| fits(blob))
            && self.has(&blob.digest, blob.size)?
        {
            return Ok(Some(blob.clone()));
        }
        let remembered = remembered(self.export.store, diff_id, self.to.compression);
        if let Some(blob) = remembered.filter(fits)
            && self.has(&blob.digest, blob.size)?
        {
            return Ok(Some(blob));
        }
        let store = self.export.store;
        let layer = store.layer_pinned(diff_id).map_err(|error| self.store_error(error))?;
        let imported = self.export.imports.blob(diff_id, self.export.reporter);
        if let Some((source, blob)) = imported
            && (fits(blob) || layer.is_none())
            && self.copy(source, blob)?
        {
            return Ok(Some(blob.clone()));
        }
        let Some(layer) = layer else { return Ok(None) };
        let (digest, size) = self.sink.add(&mut |out| {
            let written = write_layer(store, &layer, self.to.compression, out);
            written.map(drop).map_err(|error| self.store_error(error))
        })?;
        let blob = Blob { digest, size, media_type: media_type.to_owned() };
        remember(store, diff_id, self.to.compression, &blob);
        Ok(Some(blob))
    }

    /// Copies a blob from the cache that the build took from; false, and told, if that cannot be.
    fn copy(&self, source: &dyn Source, blob: &Blob) -> Result<bool, CacheError> {
        if self.has(&blob.digest, blob.size)? {
            return Ok(true);
        }
        let stream = match source.open(&blob.digest, blob.size) {
            Ok(stream) => stream,
            Err(error) => {
                told(self.export.reporter, &error);
                return Ok(false);
            }
        };
        let mut stream = stream.take(blob.size.saturating_add(1));
        let (digest, _) = self.sink.add(&mut |out| {
            let copied = io::copy(&mut stream, out).map(drop);
            copied.map_err(|source| self.store_error(StoreError::Source(source)))
        })?;
        Ok(digest == blob.digest)
    }

    fn mounts(&self) -> Result<BTreeMap<String, Mount>, CacheError> {
        let known = known_pieces(self.sink.previous().into_iter());
        let known: BTreeMap<Digest, Piece> = known
            .into_iter()
            .filter(|(_, piece)| !self.export.imports.is_damaged(&piece.digest))
            .collect();
        let mut mounts = BTreeMap::new();
        let mut pieces = 0;
        for mount in self.export.mounts.iter().filter(|mount| self.to.mounts.wants(&mount.id)) {
            let Some(packed) = self.mount(mount, &known)? else { continue };
            pieces += packed.pieces.len();
            if pieces > PIECES_MAX {
                return Err(CacheError::TooLarge);
            }
            mounts.insert(mount.name.clone(), packed);
        }
        Ok(mounts)
    }

    /// A mount of this store; or of the cache as it is, where the build did not need it.
    fn mount(
        &self,
        mount: &MountUse,
        known: &BTreeMap<Digest, Piece>,
    ) -> Result<Option<Mount>, CacheError> {
        let directory = self.export.mounts_directory;
        match pack(mount, directory, self.export.store, self.sink, known)? {
            Packed::Done(packed) => {
                let Some(bytes) = packed.excess_bytes() else { return Ok(Some(packed)) };
                let (mib, id) = (bytes >> 20, &mount.id);
                self.export.reporter.report(Event::Warning(format!(
                    "the cache mount `{id}` is left out: with {mib} MiB that are nearly empty or more \
                     than 64 GiB, no build would take it"
                )));
                return Ok(None);
            }
            Packed::Absent => {}
            Packed::Busy => self.export.reporter.report(Event::Warning(format!(
                "another build uses the cache mount `{}`: what was exported of it before stays",
                mount.id
            ))),
        }
        if let Some(previous) = self.sink.previous().and_then(|cache| cache.mounts.get(&mount.name))
            && self.has_all(previous)?
        {
            return Ok(Some(previous.clone()));
        }
        let Some((source, mount)) = self.export.imports.mount(&mount.name, self.export.reporter)
        else {
            return Ok(None);
        };
        for piece in &mount.pieces {
            if self.has(&piece.digest, piece.size)? {
                continue;
            }
            let bytes = match read_blob(source, &piece.digest, piece.size) {
                Ok(bytes) => bytes,
                Err(error) => {
                    let source = StoreError::Source(error);
                    told(self.export.reporter, &self.store_error(source));
                    return Ok(None);
                }
            };
            self.sink.add(&mut |out| {
                let written = out.write_all(&bytes);
                written.map_err(|source| self.store_error(StoreError::Sink(source)))
            })?;
        }
        Ok(Some(mount.clone()))
    }

    fn has_all(&self, mount: &Mount) -> Result<bool, CacheError> {
        for piece in &mount.pieces {
            if !self.has(&piece.digest, piece.size)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What the store notes of a layer that was compressed; losing it costs compressing it again.
pub(crate) fn remembered(
    store: &Store,
    diff_id: &DiffId,
    compression: Compression,
) -> Option<Blob> {
    let key = packed_key(diff_id, &format!("{compression:?}"));
    let bytes = store.aux(PACKED_KIND, &key).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// Notes the digest of a compressed layer.
pub(crate) fn remember(store: &Store, diff_id: &DiffId, compression: Compression, blob: &Blob) {
    let key = packed_key(diff_id, &format!("{compression:?}"));
    // A note that cannot be written is one that is not there.
    drop(store.put_aux(PACKED_KIND, &key, &corten_oci::json::canonical(blob)));
}
