//! Images: a configuration, a manifest and layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_oci::digest::{DiffId, Digest, ImageId};
use corten_oci::image::{Descriptor, ImageConfig, Manifest, media_type};
use corten_oci::{json, limits};
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::layer::Layer;
use crate::lease::Pin;
use crate::refs::TagTarget;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// The version of a record.
const IMAGE_VERSION: u32 = 1;

/// An image in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: ImageId,
    /// The digest of its manifest over uncompressed layers.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, the bottom first.
    pub layers: Vec<Layer>,
    /// The annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// When the store got it, in seconds since 1970.
    pub stored_at: i64,
}

/// The content of `images/<hex>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: ImageId,
    pub(crate) manifest: Digest,
    pub(crate) layers: Vec<DiffId>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) stored_at: i64,
}

impl Store {
    /// Stores an image: its configuration and an OCI manifest over the uncompressed layers.
    ///
    /// The same image stored again is the same; its annotations are those of the last time.
    pub fn put_image(
        &self,
        config: &ImageConfig,
        layers: &[Layer],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Image, StoreError> {
        self.put_image_bytes(&json::canonical(config), layers, annotations)
    }

    /// Stores an image whose configuration came from elsewhere, so that its bytes, and with them the
    /// identity of the image, stay as they are.
    pub fn put_image_bytes(
        &self,
        config: &[u8],
        layers: &[Layer],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Image, StoreError> {
        let digest = Digest::of(config);
        let document = |source| StoreError::Document { digest, source };
        let parsed = ImageConfig::parse(config).map_err(document)?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if !diff_ids.iter().eq(layers.iter().map(|layer| &layer.diff_id)) {
            let (config, layers) = (diff_ids.len(), layers.len());
            return Err(StoreError::LayersDiffer { config, layers });
        }
        let manifest = manifest(digest, config.len() as u64, layers, annotations);
        self.put_blob(config)?;
        let manifest = self.put_blob(&json::canonical(&manifest))?;
        self.run(|inner| {
            let record = Record {
                version: IMAGE_VERSION,
                id: ImageId(digest),
                manifest,
                layers: diff_ids.clone(),
                annotations: annotations.clone(),
                stored_at: inner.now(),
            };
            let _window = inner.window()?;
            for layer in layers {
                if inner.meta(&layer.diff_id)?.is_none() {
                    return Err(StoreError::LayerMissing(layer.diff_id));
                }
            }
            inner.pin_own(Pin::Image(record.id))?;
            let path = inner.layout.image(&record.id);
            // A warm build stores the image that is there already, and then nothing is written.
            let same =
                |old: &Record| old.manifest == record.manifest && old.layers == record.layers;
            match read_json::<Record>(&path) {
                Ok(Some(old)) if same(&old) => {}
                _ => inner.put_json(&path, &record, Durability::Durable)?,
            }
            inner.image(&record.id)?.ok_or(StoreError::ImageMissing(record.id))
        })
    }

    /// Returns an image; `None` if it is not there.
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>, StoreError> {
        self.run(|inner| inner.image(id))
    }

    /// Returns all images that are complete, the newest first.
    pub fn images(&self) -> Result<Vec<Image>, StoreError> {
        self.run(|inner| {
            let mut images = Vec::new();
            for id in inner.image_names()? {
                match inner.image(&id) {
                    Ok(image) => images.extend(image),
                    // What a power failure tore apart is told by fsck and removed by collection.
                    Err(StoreError::ImageIncomplete { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            images.sort_by(|a, b| (b.stored_at, a.id).cmp(&(a.stored_at, b.id)));
            Ok(images)
        })
    }

    /// Removes an image that has no name and is in no index; its layers stay until they are collected. False if it was
    /// not there.
    pub fn remove_image(&self, id: &ImageId) -> Result<bool, StoreError> {
        self.run(|inner| {
            let _window = inner.window()?;
            let tagged = inner.references()?;
            let names: Vec<String> = tagged
                .iter()
                .filter(|tagged| tagged.target == TagTarget::Image(*id))
                .map(|tagged| format!("`{}`", tagged.reference.familiar()))
                .collect();
            if !names.is_empty() {
                return Err(StoreError::ImageTagged { image: *id, names: names.join(", ") });
            }
            if let Some(index) = inner.index_with(id)? {
                return Err(StoreError::ImageInIndex { image: *id, index });
            }
            let path = inner.layout.image(id);
            let removed = inner.remove_record(&path)?;
            inner.fs().sync_dir(crate::write::parent(&path))?;
            Ok(removed)
        })
    }
}

fn manifest(
    config: Digest,
    config_bytes: u64,
    layers: &[Layer],
    annotations: &BTreeMap<String, String>,
) -> Manifest {
    let config = Descriptor::new(media_type::CONFIG, config, config_bytes);
    let layers = layers
        .iter()
        .map(|layer| Descriptor::new(media_type::LAYER, layer.diff_id.0, layer.tar_bytes))
        .collect();
    Manifest { annotations: annotations.clone(), ..Manifest::new(config, layers) }
}

impl Inner {
    pub(crate) fn image_record(&self, id: &ImageId) -> Result<Option<Record>, StoreError> {
        let record = read_json::<Record>(&self.layout.image(id))?;
        Ok(record.filter(|record| record.version == IMAGE_VERSION && record.id == *id))
    }

    pub(crate) fn image(self: &Arc<Self>, id: &ImageId) -> Result<Option<Image>, StoreError> {
        let Some(record) = self.image_record(id)? else { return Ok(None) };
        let incomplete = |missing: String| StoreError::ImageIncomplete { image: *id, missing };
        let config = self.read_blob(&id.0, limits::CONFIG_BYTES_MAX)?;
        let config = config.ok_or_else(|| incomplete("its configuration".to_owned()))?;
        let config = ImageConfig::parse(&config)
            .map_err(|source| StoreError::Document { digest: id.0, source })?;
        let mut layers = Vec::new();
        for diff_id in &record.layers {
            let layer = self.layer(diff_id)?;
            layers.push(layer.ok_or_else(|| incomplete(format!("the layer `{diff_id}`")))?);
        }
        let Record { manifest, annotations, stored_at, .. } = record;
        Ok(Some(Image { id: *id, manifest, config, layers, annotations, stored_at }))
    }

    /// Returns the ids of all image records, sorted.
    pub(crate) fn image_names(&self) -> Result<Vec<ImageId>, StoreError> {
        let names = file::list_dir(&self.layout.folder("images"))?;
        let id = |name: &std::ffi::OsString| {
            let hex = name.to_str()?.strip_suffix(".json")?;
            Digest::from_hex(hex).ok().map(ImageId)
        };
        Ok(names.iter().filter_map(id).collect())
    }
}
