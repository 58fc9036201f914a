//! Layers that are in the store.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use corten_oci::digest::{DiffId, DigestError};
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::lease::Pin;
use crate::recipe::{self, Displaced};
use crate::seal;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// The version of `meta.json`.
pub(crate) const META_VERSION: u32 = 1;

/// The identity of a layer in the store, which is its `DiffID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(DiffId);

impl LayerId {
    /// Returns the digest of the layer's uncompressed tar.
    pub fn diff_id(&self) -> DiffId {
        self.0
    }
}

impl From<DiffId> for LayerId {
    fn from(diff_id: DiffId) -> Self {
        Self(diff_id)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl FromStr for LayerId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its identity.
    pub id: LayerId,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The size of that tar.
    pub tar_bytes: u64,
    /// The bytes in its files.
    pub content_bytes: u64,
    /// The number of its files, directories and so on.
    pub entries: u64,
    /// How many entries have root as their owner since the user namespace does not have the real one.
    pub squashed_owners: u64,
    /// The directory, ready as a lower directory of an overlay.
    pub path: PathBuf,
    /// How overlayfs spells its marks in the directory.
    pub(crate) in_user_namespace: bool,
}

/// Returns the lower directories of an overlay, the topmost first, for layers with the bottom first.
///
/// Overlayfs refuses a directory that occurs twice, and images do have equal layers. The upper
/// occurrence stays: it brings all that the lower one has.
pub fn overlay_lowers(layers: &[Layer]) -> Vec<PathBuf> {
    let mut lowers: Vec<PathBuf> = Vec::new();
    for layer in layers.iter().rev() {
        if !lowers.contains(&layer.path) {
            lowers.push(layer.path.clone());
        }
    }
    lowers
}

/// The content of `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) version: u32,
    pub(crate) diff_id: DiffId,
    pub(crate) tar_bytes: u64,
    pub(crate) content_bytes: u64,
    pub(crate) entries: u64,
    #[serde(default)]
    pub(crate) squashed_owners: u64,
    pub(crate) created: i64,
    /// Whether the files were synced.
    pub(crate) synced: bool,
    /// The boot in which the layer was made.
    pub(crate) boot_id: String,
    /// Present if the tar is made again from a recipe: what the tar replaced itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recipe: Option<Vec<Displaced>>,
}

impl Meta {
    fn layer(&self, folder: &Path, in_user_namespace: bool) -> Layer {
        Layer {
            in_user_namespace,
            id: LayerId(self.diff_id),
            diff_id: self.diff_id,
            tar_bytes: self.tar_bytes,
            content_bytes: self.content_bytes,
            entries: self.entries,
            squashed_owners: self.squashed_owners,
            path: folder.join("tree"),
        }
    }
}

impl Store {
    /// Returns a layer; `None` if it is not there.
    pub fn layer(&self, id: &LayerId) -> Result<Option<Layer>, StoreError> {
        self.layer_by_diff_id(&id.diff_id())
    }

    /// Returns a layer by the digest of its tar; `None` if it is not there.
    pub fn layer_by_diff_id(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        self.run(|inner| inner.layer(diff_id))
    }

    /// Returns a layer and protects it for the life of this handle; `None` if it is not there.
    pub fn layer_pinned(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        self.run(|inner| {
            inner.with_lease(|_| Ok(()))?;
            let _window = inner.window()?;
            let layer = inner.layer(diff_id)?;
            if layer.is_some() {
                inner.pin_own(Pin::Layer(*diff_id))?;
            }
            Ok(layer)
        })
    }

    /// Writes the uncompressed tar of a layer: exactly the bytes that its `DiffID` is the digest of.
    pub fn write_layer_tar(&self, layer: &Layer, out: &mut dyn Write) -> Result<(), StoreError> {
        self.run(|inner| {
            let folder = inner.layout.layer(&layer.diff_id);
            let meta = inner.meta(&layer.diff_id)?;
            let meta = meta.ok_or(StoreError::LayerMissing(layer.diff_id))?;
            inner.write_tar(&folder, &meta, out)
        })
    }

    /// Makes all layers durable that are not yet; takes as long as the disk needs.
    ///
    /// Worth calling when a command is done and has told so: the next boot then needs no proof.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.run(|inner| {
            inner.check_writable()?;
            inner.settle()
        })
    }
}

impl Inner {
    /// Returns what is known about a layer; a damaged `meta.json` makes the layer absent.
    pub(crate) fn meta(&self, diff_id: &DiffId) -> Result<Option<Meta>, StoreError> {
        let path = self.layout.layer(diff_id).join("meta.json");
        match read_json::<Meta>(&path) {
            Ok(meta) => {
                Ok(meta.filter(|meta| meta.version == META_VERSION && meta.diff_id == *diff_id))
            }
            Err(StoreError::Record { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn layer(self: &Arc<Self>, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        let Some(meta) = self.meta(diff_id)? else { return Ok(None) };
        let folder = self.layout.layer(diff_id);
        if !self.is_trusted(&meta) && !self.prove(&folder, meta.clone())? {
            return Ok(None);
        }
        Ok(Some(meta.layer(&folder, self.in_user_namespace)))
    }

    /// Returns true if a layer need not be proven: the disk has it, or the page cache of this boot.
    pub(crate) fn is_trusted(&self, meta: &Meta) -> bool {
        meta.synced || meta.boot_id == self.host.boot_id
    }

    /// Hashes a layer that another boot left unsynced, and notes the success.
    fn prove(self: &Arc<Self>, folder: &Path, meta: Meta) -> Result<bool, StoreError> {
        if !self.is_whole(folder, &meta)? {
            return Ok(false);
        }
        if !self.is_read_only() {
            // What this boot could read was on the disk when it started.
            self.put_meta(folder, &Meta { synced: true, ..meta }, Durability::Durable)?;
        }
        Ok(true)
    }

    /// Returns true if a layer still makes the tar that its name is the digest of.
    pub(crate) fn is_whole(&self, folder: &Path, meta: &Meta) -> Result<bool, StoreError> {
        let mut hasher = corten_oci::digest::Hasher::new();
        match self.write_tar(folder, meta, &mut hasher) {
            Ok(()) => Ok(hasher.finish() == meta.diff_id.0),
            // A file that cannot be read as the recipe or the walk expects it is a lost one; a full
            // table of files or missing rights say nothing about the layer.
            Err(StoreError::Io(error)) if is_environment(&error) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    pub(crate) fn write_tar(
        &self,
        folder: &Path,
        meta: &Meta,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        match &meta.recipe {
            Some(displaced) => recipe::replay(folder, displaced, out),
            None => seal::write_canonical(&folder.join("tree"), self.in_user_namespace, out),
        }
    }

    pub(crate) fn put_meta(
        self: &Arc<Self>,
        folder: &Path,
        meta: &Meta,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.put_json(&folder.join("meta.json"), meta, durability)
    }

    /// Returns the names of all layers that have one.
    pub(crate) fn layer_names(&self) -> Result<Vec<DiffId>, StoreError> {
        let names = file::list_dir(&self.layout.folder("layers"))?;
        let digest = |name: &std::ffi::OsString| {
            corten_oci::digest::Digest::from_hex(name.to_str()?).ok().map(DiffId)
        };
        Ok(names.iter().filter_map(digest).collect())
    }

    pub(crate) fn settle(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut unsettled = Vec::new();
        for diff_id in self.layer_names()? {
            if let Some(meta) = self.meta(&diff_id)?
                && !meta.synced
                && meta.boot_id == self.host.boot_id
            {
                unsettled.push(meta);
            }
        }
        if unsettled.is_empty() {
            return Ok(());
        }
        self.fs().sync_file_system(&self.layout.folder("layers"))?;
        for meta in unsettled {
            let _window = self.window()?;
            let folder = self.layout.layer(&meta.diff_id);
            // Collection may have removed it meanwhile.
            if file::exists(&folder)? {
                self.put_meta(&folder, &Meta { synced: true, ..meta }, Durability::Durable)?;
            }
        }
        Ok(())
    }
}

fn is_environment(error: &corten_sys::error::IoError) -> bool {
    error.is_permission_denied()
        || matches!(
            error.source.kind(),
            std::io::ErrorKind::OutOfMemory | std::io::ErrorKind::ResourceBusy
        )
        || error.is_out_of_descriptors()
}
