//! How much the store holds.

use std::collections::BTreeSet;

use corten_oci::digest::DiffId;
use corten_sys::file;

use crate::downloads::{self, Downloads};
use crate::error::StoreError;
use crate::gc::{blob_paths, step_paths};
use crate::store::Store;

/// How much the store holds; bytes are those of file contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images.
    pub images: u64,
    /// Indexes of images for several platforms.
    pub indexes: u64,
    /// Names of images.
    pub references: u64,
    /// Layers.
    pub layers: u64,
    /// The bytes in the layers.
    pub layer_bytes: u64,
    /// The bytes in layers that no image uses: the build cache.
    pub unused_layer_bytes: u64,
    /// Cached steps.
    pub steps: u64,
    /// Blobs.
    pub blobs: u64,
    /// The bytes in the blobs.
    pub blob_bytes: u64,
    /// What was downloaded for steps and kept; its bytes are among those of the blobs.
    pub downloads: Downloads,
}

impl Store {
    /// Sums up what the store holds, without reading contents.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.run(|inner| {
            let mut usage = Usage::default();
            let mut used: BTreeSet<DiffId> = BTreeSet::new();
            for id in inner.image_names()? {
                usage.images += 1;
                used.extend(
                    inner.image_record(&id)?.map(|record| record.layers).unwrap_or_default(),
                );
            }
            usage.indexes = inner.index_names()?.len() as u64;
            usage.references = inner.references()?.len() as u64;
            for diff_id in inner.layer_names()? {
                let bytes = inner.meta(&diff_id)?.map_or(0, |meta| meta.content_bytes);
                usage.layers += 1;
                usage.layer_bytes += bytes;
                if !used.contains(&diff_id) {
                    usage.unused_layer_bytes += bytes;
                }
            }
            usage.downloads = downloads::usage(inner)?;
            usage.steps = step_paths(inner)?.len() as u64;
            for (_, path) in blob_paths(inner)? {
                // Collection may remove one meanwhile.
                if let Some(metadata) = file::absent_is_none(file::metadata(&path))? {
                    usage.blobs += 1;
                    usage.blob_bytes += metadata.len();
                }
            }
            Ok(usage)
        })
    }
}
