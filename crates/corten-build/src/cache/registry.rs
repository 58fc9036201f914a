//! A cache in a registry.

use std::collections::BTreeSet;
use std::io::{Read, Write as _};

use corten_oci::digest::{Digest, HashingWriter};
use corten_oci::image::{ImageConfig, Index, Manifest, media_type};
use corten_oci::limits;
use corten_oci::platform::Platform;
use corten_registry::{RegistryError, Repository};
use corten_store::{Staging, Store, StoreError};
use corten_sys::error::IoError;
use corten_sys::file;

use super::place::{CacheError, Fill, Sink, Source};
use super::record::{
    ARTIFACT_TYPE, Cache, DOCUMENT_BYTES_MAX, INLINE_ANNOTATION, RecordError, parse_inline,
};

/// A repository that a cache is read from.
pub(crate) struct RegistrySource {
    repository: Repository,
}

impl RegistrySource {
    pub(crate) fn new(repository: Repository) -> Self {
        Self { repository }
    }

    fn failed(&self, error: RegistryError) -> CacheError {
        CacheError::Registry { place: self.name(), source: Box::new(error) }
    }

    fn damaged(&self, what: impl Into<String>) -> CacheError {
        CacheError::Damaged { place: self.name(), what: what.into() }
    }

    /// Reads the manifest; of an index, the one for this machine.
    fn manifest(&self) -> Result<Manifest, CacheError> {
        let absent = || CacheError::Absent { place: self.name() };
        let read = |name: &str| {
            let document = self.repository.manifest(name).map_err(|error| self.failed(error))?;
            document.ok_or_else(absent)
        };
        let mut document = read(&tag(&self.repository))?;
        if media_type::is_index(&document.media_type) {
            let index =
                Index::parse(&document.bytes).map_err(|error| self.damaged(error.to_string()))?;
            let selected = index.select(&Platform::host()).ok_or_else(absent)?;
            document = read(&selected.digest.to_string())?;
        }
        Manifest::parse(&document.bytes).map_err(|error| self.damaged(error.to_string()))
    }

    /// Reads a small blob; the reader checks it.
    fn document(&self, digest: &Digest, size: u64, limit: u64) -> Result<Vec<u8>, CacheError> {
        if size > limit {
            return Err(self.damaged("a document is too large"));
        }
        let mut bytes = Vec::new();
        let read = self.open(digest, size)?.read_to_end(&mut bytes);
        read.map_err(|error| self.damaged(error.to_string()))?;
        Ok(bytes)
    }
}

/// What the cache or the image is called in its repository.
fn tag(repository: &Repository) -> String {
    let reference = repository.reference();
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    }
}

impl Source for RegistrySource {
    fn name(&self) -> String {
        self.repository.reference().familiar()
    }

    fn read(&self) -> Result<Cache, CacheError> {
        let manifest = self.manifest()?;
        let record = |source| CacheError::Record { place: self.name(), source };
        let config = &manifest.config;
        if manifest.artifact_type.as_deref() == Some(ARTIFACT_TYPE) {
            let bytes = self.document(&config.digest, config.size, DOCUMENT_BYTES_MAX)?;
            return Cache::parse(&bytes).map_err(record);
        }
        let Some(text) = manifest.annotations.get(INLINE_ANNOTATION) else {
            return Err(record(RecordError::Foreign));
        };
        let bytes = self.document(&config.digest, config.size, limits::CONFIG_BYTES_MAX)?;
        let config = ImageConfig::parse(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        parse_inline(text, &manifest, &config.rootfs.diff_ids).map_err(record)
    }

    fn open(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send>, CacheError> {
        self.repository.open_blob(digest, size).map_err(|error| self.failed(error))
    }
}

/// A repository that a cache is written to.
pub(crate) struct RegistrySink {
    repository: Repository,
    /// Where a blob is until its digest is known.
    spool: Staging,
    previous: Option<Cache>,
    /// What the registry has for as long as it has the cache that is there.
    present: BTreeSet<Digest>,
}

impl RegistrySink {
    pub(crate) fn open(repository: Repository, store: &Store) -> Result<Self, CacheError> {
        let source = RegistrySource::new(repository.clone());
        let previous = match source.read() {
            Ok(cache) => Some(cache),
            // What cannot be reached is told now, and not after all has been compressed.
            Err(error @ CacheError::Registry { .. }) => return Err(error),
            Err(_) => None,
        };
        let mut present = BTreeSet::new();
        if let Some(cache) = &previous {
            present.extend(cache.layers.values().map(|blob| blob.digest));
            let pieces = cache.mounts.values().flat_map(|mount| &mount.pieces);
            present.extend(pieces.map(|piece| piece.digest));
        }
        let spool = store.stage().map_err(|error| CacheError::store(source.name(), error))?;
        Ok(Self { repository, spool, previous, present })
    }

    fn failed(&self, error: RegistryError) -> CacheError {
        CacheError::Registry { place: self.name(), source: Box::new(error) }
    }

    fn put(&self, bytes: &[u8]) -> Result<(), CacheError> {
        let open = || -> std::io::Result<Box<dyn Read + '_>> { Ok(Box::new(bytes)) };
        let sent = self.repository.put_blob(&Digest::of(bytes), bytes.len() as u64, None, &open);
        sent.map(drop).map_err(|error| self.failed(error))
    }
}

impl Sink for RegistrySink {
    fn name(&self) -> String {
        self.repository.reference().familiar()
    }

    fn previous(&self) -> Option<&Cache> {
        self.previous.as_ref()
    }

    fn has(&self, digest: &Digest, _size: u64) -> Result<bool, CacheError> {
        if self.present.contains(digest) {
            return Ok(true);
        }
        self.repository.has_blob(digest).map_err(|error| self.failed(error))
    }

    fn add(&self, fill: Fill<'_>) -> Result<(Digest, u64), CacheError> {
        let path = self.spool.work().join(corten_sys::random::name());
        let io = |source| CacheError::store(self.name(), StoreError::Io(source));
        let spooled = file::create_new(&path, 0o600).map_err(io)?;
        let mut out = HashingWriter::new(&spooled);
        fill(&mut out)?;
        let (digest, size, mut inner) = out.finish();
        inner.flush().map_err(|error| io(IoError::new("write", &path, error)))?;
        let open =
            || -> std::io::Result<Box<dyn Read + '_>> { Ok(Box::new(std::fs::File::open(&path)?)) };
        let sent = self.repository.put_blob(&digest, size, None, &open);
        let removed = file::remove_file(&path).map_err(io);
        sent.map_err(|error| self.failed(error))?;
        removed?;
        Ok((digest, size))
    }

    fn finish(&self, config: &[u8], manifest: &[u8]) -> Result<(), CacheError> {
        self.put(config)?;
        let name = tag(&self.repository);
        let written = self.repository.put_manifest(&name, media_type::MANIFEST, manifest);
        written.map(drop).map_err(|error| self.failed(error))
    }
}
