//! The documents of a cache.

use std::collections::{BTreeMap, BTreeSet};

use corten_oci::digest::{DiffId, Digest};
use corten_oci::image::{Descriptor, Manifest, media_type};
use corten_oci::json;
use corten_store::CacheKey;
use serde::{Deserialize, Serialize};

/// What kind of artifact the manifest is, and the type of its configuration.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.corten.cache.v1+json";

/// A piece of a cache mount, compressed by zstd.
pub(crate) const PIECE_TYPE: &str = "application/vnd.corten.cache.piece.v1+zstd";

/// The version of [`Document`]; another one is a miss.
pub(crate) const VERSION: u32 = 1;

/// The largest configuration: some 60,000 records or pieces.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// The largest piece of a cache mount, plain.
pub(crate) const PIECE_BYTES_MAX: u64 = 8 << 20;

/// The most pieces of all mounts together, so that the manifest stays below what registries accept.
/// With pieces of 2 MiB on average that is some 30 GiB.
pub(crate) const PIECES_MAX: usize = 16_000;

/// The largest cache mount, plain: twice what all pieces have together on average.
pub(crate) const MOUNT_BYTES_MAX: u64 = 64 << 30;

/// How many bytes a byte of a cache mount's blobs may become, each blob counted once: package
/// managers keep what is compressed already, and sources become a tenth. Without it, one blob of
/// some hundred bytes that is named again and again would fill a disk.
pub(crate) const MOUNT_EXPANSION_MAX: u64 = 100;

/// What a cache mount may have in any case: little enough to be no harm.
pub(crate) const MOUNT_EXPANSION_FLOOR_BYTES: u64 = 1 << 30;

/// The configuration of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) steps: Vec<StepEntry>,
    #[serde(default)]
    pub(crate) layers: Vec<LayerEntry>,
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
}

/// A key and the layer that the step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepEntry {
    pub(crate) key: CacheKey,
    pub(crate) layer: DiffId,
}

/// Where a layer is among the blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerEntry {
    pub(crate) diff_id: DiffId,
    #[serde(flatten)]
    pub(crate) blob: Blob,
}

/// A layer's blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

/// A cache mount: the canonical tar of its directory, in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount {
    /// The name of its directory in a store.
    pub(crate) name: String,
    /// Its id in the Dockerfile, for people.
    pub(crate) id: String,
    pub(crate) pieces: Vec<Piece>,
}

impl Mount {
    /// The bytes that it becomes, if that is more than it may.
    pub(crate) fn excess_bytes(&self) -> Option<u64> {
        let blobs: BTreeMap<Digest, u64> =
            self.pieces.iter().map(|piece| (piece.digest, piece.size)).collect();
        let packed: u64 = blobs.values().sum();
        let plain: u64 = self.pieces.iter().map(|piece| piece.plain_size).sum();
        let limit = packed
            .saturating_mul(MOUNT_EXPANSION_MAX)
            .clamp(MOUNT_EXPANSION_FLOOR_BYTES, MOUNT_BYTES_MAX);
        (plain > limit).then_some(plain)
    }
}

/// A piece of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Piece {
    /// The digest and the size of its bytes.
    pub(crate) plain: Digest,
    pub(crate) plain_size: u64,
    /// The digest and the size of its blob.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A document that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    #[error("it is no cache of this program")]
    Foreign,
    #[error("it has version {0} of the format, and this program knows version {VERSION}")]
    Version(u32),
    #[error("its records are damaged: {0}")]
    Damaged(String),
}

/// A cache whose documents were checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cache {
    pub(crate) steps: BTreeMap<CacheKey, DiffId>,
    pub(crate) layers: BTreeMap<DiffId, Blob>,
    pub(crate) mounts: BTreeMap<String, Mount>,
}

impl Cache {
    /// Reads the configuration of a cache.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |error: serde_json::Error| RecordError::Damaged(error.to_string());
        // A newer document may have anything else in it.
        let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(damaged)?;
        let mut pieces = 0;
        for mount in &document.mounts {
            pieces += mount.pieces.len();
            if !is_mount_name(&mount.name) {
                return Err(RecordError::Damaged("a cache mount has no valid name".to_owned()));
            }
            if mount
                .pieces
                .iter()
                .any(|piece| piece.plain_size > PIECE_BYTES_MAX || piece.size > 2 * PIECE_BYTES_MAX)
            {
                return Err(RecordError::Damaged("a piece is too large".to_owned()));
            }
        }
        if pieces > PIECES_MAX {
            return Err(RecordError::Damaged("it has too many pieces".to_owned()));
        }
        Ok(Self {
            steps: document.steps.into_iter().map(|step| (step.key, step.layer)).collect(),
            layers: document.layers.into_iter().map(|e| (e.diff_id, e.blob)).collect(),
            mounts: document.mounts.into_iter().map(|m| (m.name.clone(), m)).collect(),
        })
    }

    /// Returns the configuration and the manifest.
    pub(crate) fn documents(&self) -> (Vec<u8>, Vec<u8>) {
        let document = Document {
            version: VERSION,
            steps: self.steps.iter().map(|(&key, &layer)| StepEntry { key, layer }).collect(),
            layers: self
                .layers
                .iter()
                .map(|(&diff_id, blob)| LayerEntry { diff_id, blob: blob.clone() })
                .collect(),
            mounts: self.mounts.values().cloned().collect(),
        };
        let config = json::canonical(&document);
        let descriptor = Descriptor::new(ARTIFACT_TYPE, Digest::of(&config), config.len() as u64);
        let mut seen = BTreeSet::new();
        let layers =
            self.layers.values().map(|blob| (blob.media_type.as_str(), blob.digest, blob.size));
        let pieces = self.mounts.values().flat_map(|mount| &mount.pieces);
        let pieces = pieces.map(|piece| (PIECE_TYPE, piece.digest, piece.size));
        let blobs = layers
            .chain(pieces)
            .filter(|(_, digest, _)| seen.insert(*digest))
            .map(|(kind, digest, size)| Descriptor::new(kind, digest, size))
            .collect();
        let manifest = Manifest {
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            ..Manifest::new(descriptor, blobs)
        };
        (config, json::canonical(&manifest))
    }
}

/// The annotation of an image's manifest that has the records of its layers.
pub(crate) const INLINE_ANNOTATION: &str = "dev.corten.cache.v1";

/// The content of the annotation: keys, and which layer of the image each stands for.
#[derive(Debug, Serialize, Deserialize)]
struct Inline {
    version: u32,
    steps: Vec<(CacheKey, usize)>,
}

/// Returns the records of an image's layers, the bottom first, as an annotation.
pub(crate) fn inline(steps: &[(CacheKey, DiffId)], layers: &[DiffId]) -> String {
    let steps: BTreeSet<(CacheKey, usize)> = steps
        .iter()
        .filter_map(|(key, id)| Some((*key, layers.iter().position(|layer| layer == id)?)))
        .collect();
    let inline = Inline { version: VERSION, steps: steps.into_iter().collect() };
    String::from_utf8_lossy(&json::canonical(&inline)).into_owned()
}

/// Reads the records that an image has of its own layers.
pub(crate) fn parse_inline(
    text: &str,
    manifest: &Manifest,
    diff_ids: &[DiffId],
) -> Result<Cache, RecordError> {
    let damaged = |error: serde_json::Error| RecordError::Damaged(error.to_string());
    let inline: Inline = serde_json::from_str(text).map_err(damaged)?;
    if inline.version != VERSION {
        return Err(RecordError::Version(inline.version));
    }
    if diff_ids.len() != manifest.layers.len() {
        return Err(RecordError::Damaged("its layers are not those of its image".to_owned()));
    }
    let mut cache = Cache::default();
    for (diff_id, layer) in diff_ids.iter().zip(&manifest.layers) {
        let blob =
            Blob { digest: layer.digest, size: layer.size, media_type: layer.media_type.clone() };
        cache.layers.insert(*diff_id, blob);
    }
    for (key, index) in inline.steps {
        let layer = diff_ids.get(index);
        let layer = layer.ok_or_else(|| RecordError::Damaged("a step has no layer".to_owned()))?;
        cache.steps.insert(key, *layer);
    }
    Ok(cache)
}

/// A digest in hexadecimal, and for a private cache its number.
fn is_mount_name(name: &str) -> bool {
    let (hex, number) = name.split_once('-').unwrap_or((name, "0"));
    Digest::from_hex(hex).is_ok()
        && !number.is_empty()
        && number.len() <= 3
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The media type of a layer with a compression.
pub(crate) fn layer_type(compression: corten_store::archive::Compression) -> &'static str {
    use corten_store::archive::Compression;
    match compression {
        Compression::Uncompressed => media_type::LAYER,
        Compression::Gzip { .. } => media_type::LAYER_GZIP,
        Compression::Zstd { .. } => media_type::LAYER_ZSTD,
    }
}
