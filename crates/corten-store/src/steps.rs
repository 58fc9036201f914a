//! The build cache: what a step made.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use corten_oci::digest::{Digest, DigestError};
use corten_sys::clock::Timestamp;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::layer::LayerId;
use crate::lease::Pin;
use crate::store::{Inner, Store};
use crate::write::{Durability, parent, read_json};

/// The version of a record; records of another version are misses.
const STEP_VERSION: u32 = 1;

/// A hit notes its time once a day at most, so that a warm build writes nothing.
const TOUCH_AFTER_SECONDS: i64 = 24 * 60 * 60;

/// The key of a step; what goes into it is the builder's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(pub Digest);

impl fmt::Display for CacheKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl FromStr for CacheKey {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The layer, if it made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerId>,
    /// Whatever the builder wants to know again.
    #[serde(default)]
    pub payload: serde_json::Value,
    /// Content that stays as long as the record does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredStep {
    pub(crate) version: u32,
    pub(crate) key: CacheKey,
    pub(crate) created: i64,
    #[serde(flatten)]
    pub(crate) record: StepRecord,
}

impl Store {
    /// Returns what a step made and protects its layer for the life of this handle; `None` if the
    /// step is unknown or its layer is gone.
    pub fn step(&self, key: &CacheKey) -> Result<Option<StepRecord>, StoreError> {
        self.run(|inner| {
            let path = inner.layout.step(&key.0);
            let Some(stored) = read_step(&path)?.filter(|stored| stored.key == *key) else {
                return Ok(None);
            };
            if let Some(layer) = &stored.record.layer {
                if inner.is_read_only() {
                    return Ok(inner.layer(&layer.diff_id())?.map(|_| stored.record));
                }
                inner.with_lease(|_| Ok(()))?;
                let _window = inner.window()?;
                if inner.layer(&layer.diff_id())?.is_none() {
                    return Ok(None);
                }
                inner.pin_own(Pin::Layer(layer.diff_id()))?;
            }
            touch(inner, &path)?;
            Ok(Some(stored.record))
        })
    }

    /// Records what a step made; a record of the same key is replaced.
    pub fn put_step(&self, key: &CacheKey, record: &StepRecord) -> Result<(), StoreError> {
        self.run(|inner| {
            let path = inner.layout.step(&key.0);
            let stored = StoredStep {
                version: STEP_VERSION,
                key: *key,
                created: inner.now(),
                record: record.clone(),
            };
            inner.with_lease(|_| Ok(()))?;
            let _window = inner.window()?;
            // A record that a power failure takes is a step that is done again.
            inner.ensure_dir(parent(&path), Durability::Volatile)?;
            inner.put_json(&path, &stored, Durability::Volatile)
        })
    }
}

/// Reads a record; one that is damaged or of another version is a miss.
pub(crate) fn read_step(path: &Path) -> Result<Option<StoredStep>, StoreError> {
    match read_json::<StoredStep>(path) {
        Ok(stored) => Ok(stored.filter(|stored| stored.version == STEP_VERSION)),
        Err(StoreError::Record { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Notes that a record was used; collection by age asks for it.
pub(crate) fn touch(inner: &Inner, path: &Path) -> Result<(), StoreError> {
    let Some(last) = last_used(path)? else { return Ok(()) };
    let now = inner.now();
    if inner.is_read_only() || now.saturating_sub(last) < TOUCH_AFTER_SECONDS {
        return Ok(());
    }
    let touched = file::set_times(path, Timestamp::from_seconds(now));
    // A collection at the same time may have removed it.
    file::absent_is_none(touched)?;
    Ok(())
}

/// Returns when a record was last used, to a day; `None` if it is gone.
pub(crate) fn last_used(path: &Path) -> Result<Option<i64>, StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file::absent_is_none(file::metadata(path))?.map(|metadata| metadata.mtime()))
}
