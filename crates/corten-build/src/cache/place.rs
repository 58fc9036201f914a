//! What a cache needs of the place where it lies.

use std::io::{Read, Write};
use std::path::PathBuf;

use corten_oci::digest::Digest;
use corten_registry::RegistryError;
use corten_store::StoreError;
use corten_sys::error::IoError;

use super::record::{Cache, RecordError};

/// A cache that could not be used or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("there is no cache at `{place}`")]
    Absent { place: String },
    #[error("the cache at `{place}` cannot be used")]
    Record {
        place: String,
        #[source]
        source: RecordError,
    },
    #[error("the cache at `{place}` is damaged: {what}")]
    Damaged { place: String, what: String },
    #[error("`{}` is no place for a cache: it holds `{found}` and no `oci-layout`", path.display())]
    Occupied { path: PathBuf, found: String },
    #[error("the cache mount `{id}` of the cache at `{place}` would become {} MiB", bytes >> 20)]
    Expansion { place: String, id: String, bytes: u64 },
    #[error("the cache is too large for one manifest")]
    TooLarge,
    #[error("failed to use the cache at `{place}`")]
    Io {
        place: String,
        #[source]
        source: IoError,
    },
    #[error("failed to use the cache `{place}`")]
    Registry {
        place: String,
        #[source]
        source: Box<RegistryError>,
    },
    #[error("failed to carry the cache between the store and `{place}`")]
    Store {
        place: String,
        #[source]
        source: Box<StoreError>,
    },
}

impl CacheError {
    pub(crate) fn store(place: String, source: StoreError) -> Self {
        Self::Store { place, source: Box::new(source) }
    }

    /// The error with all that caused it, in one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => Some(
                "the first build has none; `--cache-to` with the same place makes it".to_owned(),
            ),
            Self::Record { source: RecordError::Version(_), .. } => {
                Some("use the version of corten that wrote it, or another place".to_owned())
            }
            Self::Record { .. } | Self::Damaged { .. } => {
                Some("export it again with `--cache-to`".to_owned())
            }
            Self::Expansion { .. } => Some(
                "that is more than its blobs can honestly hold: do not use this cache".to_owned(),
            ),
            Self::Occupied { .. } => Some("name an empty directory, or one to be made".to_owned()),
            Self::TooLarge => Some(
                "leave cache mounts out with `mounts=false`, or name those worth it: `mounts=ID`"
                    .to_owned(),
            ),
            Self::Store { source, .. } => source.hint(),
            Self::Registry { source, .. } => source.hint(),
            Self::Io { source, .. } if source.is_no_space() => {
                Some("free space there, or choose another place".to_owned())
            }
            Self::Io { .. } => None,
        }
    }
}

/// Where a cache is read from.
pub(crate) trait Source: Send + Sync {
    /// What people call it.
    fn name(&self) -> String;

    /// Reads the documents, which is done once.
    fn read(&self) -> Result<Cache, CacheError>;

    /// Opens a blob; what comes is checked by the caller.
    fn open(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send>, CacheError>;
}

/// Where a cache is written to.
pub(crate) trait Sink: Sync {
    /// What people call it.
    fn name(&self) -> String;

    /// The cache that is there, if it can be read.
    fn previous(&self) -> Option<&Cache>;

    /// Whether a blob is there already.
    fn has(&self, digest: &Digest, size: u64) -> Result<bool, CacheError>;

    /// Adds a blob; returns its digest and its size.
    fn add(&self, fill: Fill<'_>) -> Result<(Digest, u64), CacheError>;

    /// Makes the blobs that were added a cache.
    fn finish(&self, config: &[u8], manifest: &[u8]) -> Result<(), CacheError>;
}

/// Writes a blob.
pub(crate) type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), CacheError>;
