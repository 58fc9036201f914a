//! The target's configuration and layers become an image.

use std::collections::BTreeMap;

use corten_oci::image::{History, ImageConfig};
use corten_oci::reference::Reference;
use corten_store::{Image, Store, StoreError, TagTarget};

use crate::solve::Target;

/// Stores the image and gives it its names. What is there already is not written again.
pub(crate) fn export(
    store: &Store,
    target: &Target,
    annotations: &BTreeMap<String, String>,
    names: &[Reference],
) -> Result<Image, StoreError> {
    let image = store.put_image(&target.config, &target.layers, annotations)?;
    self::name(store, image.id, names)?;
    Ok(image)
}

/// Gives an image or an index its names; those that it has already are left alone.
pub(crate) fn name(
    store: &Store,
    target: impl Into<TagTarget>,
    names: &[Reference],
) -> Result<(), StoreError> {
    let target = target.into();
    for name in names {
        // What the name stood for may be incomplete after a power failure; that keeps nobody from
        // moving it.
        if store.tagged(name)? != Some(target) {
            store.tag(name, target)?;
        }
    }
    Ok(())
}

/// Gives layers of a base image that its history does not mention an entry each, at its end: the
/// entries of later steps belong to later layers.
pub fn complete_history(config: &mut ImageConfig, layers: usize) {
    let mentioned = config.history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in mentioned..layers {
        config.history.push(History {
            created: config.created.clone(),
            comment: Some("layer of the base image without history".to_owned()),
            ..History::default()
        });
    }
}
