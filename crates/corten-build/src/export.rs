//! The target's configuration and layers become an image.

use corten_oci::image::{History, ImageConfig};
use corten_store::{Image, Layer, Store, StoreError};

use crate::options::BuildOptions;

/// Stores the image and gives it its names. What is there already is not written again.
pub(crate) fn export(
    store: &Store,
    config: &ImageConfig,
    layers: &[Layer],
    options: &BuildOptions,
) -> Result<Image, StoreError> {
    let mut config = config.clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let image = store.put_image(&config, layers, &options.annotations)?;
    for tag in &options.tags {
        // What the name stood for may be incomplete after a power failure; that keeps nobody from
        // moving it.
        if store.tagged(tag)? != Some(image.id) {
            store.tag(tag, &image.id)?;
        }
    }
    Ok(image)
}

/// Gives layers of a base image that its history does not mention an entry each, at its end: the
/// entries of later steps belong to later layers.
pub(crate) fn complete_history(config: &mut ImageConfig, layers: usize) {
    let mentioned = config.history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in mentioned..layers {
        config.history.push(History {
            created: config.created.clone(),
            comment: Some("layer of the base image without history".to_owned()),
            ..History::default()
        });
    }
}
