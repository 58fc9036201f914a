//! How images are read.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use corten_oci::digest::{DiffId, Digest};
use corten_oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use corten_oci::limits;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_sys::file;

use super::files::{Files, Limited, Opened, decompress};
use super::layer::{PackedLayer, read_layer};
use super::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, DOCKER_MANIFEST, DockerImage, OCI_INDEX,
    OCI_LAYOUT, OciLayout, blob_path,
};
use crate::error::StoreError;
use crate::images::Image;
use crate::indexes::NewMember;
use crate::layer::Layer;
use crate::refs::{Found, TagTarget};
use crate::store::{Inner, Store};

/// Indexes in indexes: one for the layout and one per image that has several platforms.
const INDEX_DEPTH_MAX: u32 = 4;

/// Images of one index: there are some thirty platforms.
const IMAGES_MAX: usize = 256;

/// All manifests and configurations of an archive: a small list may name one large document as often
/// as it likes. Real ones have some kilobytes for each image.
const DOCUMENTS_BYTES_MAX: u64 = 256 << 20;

/// What to take from an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Which image of an index; all of them when absent.
    pub platform: Option<Platform>,
    /// The most bytes that the archive may have, uncompressed.
    pub limit_bytes: u64,
}

impl LoadOptions {
    /// Takes images for a platform, with the largest archive that images could need.
    pub fn new(platform: Platform) -> Self {
        Self { platform: Some(platform), limit_bytes: limits::LAYER_BYTES_MAX }
    }

    /// Takes everything.
    pub fn all() -> Self {
        Self { platform: None, limit_bytes: limits::LAYER_BYTES_MAX }
    }
}

/// An image or an index that was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What was loaded.
    pub content: Found,
    /// The names that the archive gave it, and that it now has.
    pub references: Vec<Reference>,
}

/// Loads all images of a tar: an OCI layout or a Docker archive, as it is or compressed by gzip or
/// zstd. The tar is copied into the store's `tmp/` first, since its parts come in any order.
pub fn load(
    store: &Store,
    archive: &mut dyn Read,
    options: &LoadOptions,
) -> Result<Vec<Loaded>, StoreError> {
    let path = store.run(Inner::temporary)?;
    let loaded = store.run(|inner| {
        let file = spool(inner, &path, archive, options.limit_bytes)?;
        Loader::new(store, Files::in_tar(file)?, options).all()
    });
    let removed = store.run(|inner| Ok(inner.fs().remove_tree(&path)?));
    let loaded = loaded?;
    removed?;
    Ok(loaded)
}

/// Loads all images of an OCI layout in a directory.
pub fn load_directory(
    store: &Store,
    path: &Path,
    options: &LoadOptions,
) -> Result<Vec<Loaded>, StoreError> {
    let files = Files::in_directory(path)?;
    store.run(|_| Loader::new(store, files, options).all())
}

/// Loads one image of an OCI layout in a directory, and gives it no name.
///
/// It is chosen by the name or the digest that the index gives it; without a choice, by the name
/// `latest`, or as the only image.
pub fn load_one(
    store: &Store,
    path: &Path,
    options: &LoadOptions,
    chosen: Option<&str>,
) -> Result<Image, StoreError> {
    let files = Files::in_directory(path)?;
    store.run(|_| Loader::new(store, files, options).one(chosen))
}

/// Copies the archive, decompressed, into a file that can be read in any order.
fn spool(
    inner: &Arc<Inner>,
    path: &Path,
    archive: &mut dyn Read,
    limit_bytes: u64,
) -> Result<File, StoreError> {
    let plain = decompress(archive).map_err(StoreError::Source)?;
    let mut limited = Limited::new(plain, limit_bytes);
    let spooled = inner.fs().create_new(path, 0o600)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match limited.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                inner.fs().write(&spooled, path, buffer.get(..count).unwrap_or_default())?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if limited.exceeded => return Err(StoreError::TooLarge { limit_bytes }),
            Err(source) => return Err(StoreError::Source(source)),
        }
    }
    Ok(file::open(path)?)
}

struct Loader<'a> {
    store: &'a Store,
    files: Files,
    options: &'a LoadOptions,
    /// How much of [`DOCUMENTS_BYTES_MAX`] is left.
    documents_left: Cell<u64>,
}

/// An image of the archive whose documents have been checked.
struct Pending {
    config: Vec<u8>,
    parsed: ImageConfig,
    /// The files of the layers, with the digest that they must have, if it is known.
    layers: Vec<(String, Option<Digest>)>,
    annotations: BTreeMap<String, String>,
    /// The annotations of its entry in an index.
    entry: BTreeMap<String, String>,
}

/// What one entry of the archive stands for: an image, or those of several platforms.
struct Group {
    images: Vec<Pending>,
    /// The annotations of the index.
    annotations: BTreeMap<String, String>,
    references: Vec<Reference>,
}

impl<'a> Loader<'a> {
    fn new(store: &'a Store, files: Files, options: &'a LoadOptions) -> Self {
        Self { store, files, options, documents_left: Cell::new(DOCUMENTS_BYTES_MAX) }
    }

    fn all(&self) -> Result<Vec<Loaded>, StoreError> {
        let groups = if self.files.open(OCI_LAYOUT)?.is_some() {
            self.oci()?
        } else if self.files.open(DOCKER_MANIFEST)?.is_some() {
            self.docker()?
        } else {
            let reason = format!("it has neither `{OCI_LAYOUT}` nor `{DOCKER_MANIFEST}`");
            return Err(StoreError::Archive { reason });
        };
        let mut loaded = Vec::new();
        for group in groups {
            loaded.push(self.group(group)?);
        }
        Ok(loaded)
    }

    /// Stores the images, then their index if there are several, then the names.
    fn group(&self, group: Group) -> Result<Loaded, StoreError> {
        let mut members = Vec::new();
        for pending in &group.images {
            let image = self.image(pending)?;
            members.push(NewMember { image, annotations: pending.entry.clone() });
        }
        let content = match members.as_slice() {
            [only] => Found::Image(Box::new(only.image.clone())),
            _ => Found::Index(self.store.put_index(&members, &group.annotations)?),
        };
        let target = match &content {
            Found::Image(image) => TagTarget::Image(image.id),
            Found::Index(index) => TagTarget::Index(index.digest),
        };
        for reference in &group.references {
            self.store.tag(reference, target)?;
        }
        Ok(Loaded { content, references: group.references })
    }

    /// Stores an image: first all layers, then the image.
    fn image(&self, pending: &Pending) -> Result<Image, StoreError> {
        let diff_ids = &pending.parsed.rootfs.diff_ids;
        if diff_ids.len() != pending.layers.len() {
            let (config, layers) = (diff_ids.len(), pending.layers.len());
            return Err(StoreError::LayersDiffer { config, layers });
        }
        if diff_ids.len() > limits::LAYERS_MAX {
            return Err(StoreError::Archive { reason: "an image has too many layers".to_owned() });
        }
        let mut layers = Vec::new();
        for (diff_id, (name, digest)) in diff_ids.iter().zip(&pending.layers) {
            layers.push(self.layer(diff_id, name, *digest)?);
        }
        self.store.put_image_bytes(&pending.config, &layers, &pending.annotations)
    }

    fn layer(
        &self,
        diff_id: &DiffId,
        name: &str,
        digest: Option<Digest>,
    ) -> Result<Layer, StoreError> {
        if let Some(layer) = self.store.layer_pinned(diff_id)? {
            return Ok(layer);
        }
        let Opened { mut content, size } = self.open(name)?;
        read_layer(self.store, &mut content, &PackedLayer { diff_id: *diff_id, digest, size })
    }

    fn open(&self, name: &str) -> Result<Opened, StoreError> {
        let missing = || StoreError::Archive { reason: format!("`{name}` is missing") };
        self.files.open(name)?.ok_or_else(missing)
    }

    fn oci(&self) -> Result<Vec<Group>, StoreError> {
        let layout = self.document(OCI_LAYOUT, limits::CONFIG_BYTES_MAX)?;
        let layout: OciLayout = serde_json::from_slice(&layout).map_err(|source| {
            StoreError::ArchiveDocument { name: OCI_LAYOUT.to_owned(), source }
        })?;
        if !layout.image_layout_version.starts_with("1.") {
            let reason = format!("its layout version is `{}`", layout.image_layout_version);
            return Err(StoreError::Archive { reason });
        }
        let index = self.document(OCI_INDEX, limits::MANIFEST_BYTES_MAX)?;
        let index = Index::parse(&index).map_err(|source| invalid(OCI_INDEX, source))?;
        let mut groups: BTreeMap<Digest, Group> = BTreeMap::new();
        let mut skipped = false;
        for descriptor in &index.manifests {
            let mut references = names(&descriptor.annotations);
            // An image is listed once for each of its names.
            if let Some(group) = groups.get_mut(&descriptor.digest) {
                group.references.append(&mut references);
                continue;
            }
            let (images, annotations) = self.images(descriptor)?;
            if images.is_empty() {
                skipped = true;
            } else {
                groups.insert(descriptor.digest, Group { images, annotations, references });
            }
        }
        if groups.is_empty() && skipped {
            return Err(self.no_platform());
        }
        Ok(groups.into_values().collect())
    }

    fn no_platform(&self) -> StoreError {
        let platform = self.options.platform.as_ref();
        let platform = platform.map_or_else(|| "any platform".to_owned(), ToString::to_string);
        StoreError::ArchivePlatform { platform }
    }

    /// The images that an entry of the archive leads to, and the annotations of their index.
    fn images(
        &self,
        descriptor: &Descriptor,
    ) -> Result<(Vec<Pending>, BTreeMap<String, String>), StoreError> {
        if let Some(platform) = &self.options.platform {
            let image = self.manifest(descriptor, platform, 0)?;
            return Ok((image.into_iter().collect(), BTreeMap::new()));
        }
        let mut images = Vec::new();
        let annotations = self.every(descriptor, &mut images, 0)?;
        // The same image for two platforms is one.
        let mut seen = BTreeSet::new();
        images.retain(|image| seen.insert(Digest::of(&image.config)));
        Ok((images, annotations))
    }

    /// Collects all images below a descriptor; returns the annotations of its index.
    fn every(
        &self,
        descriptor: &Descriptor,
        images: &mut Vec<Pending>,
        depth: u32,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        if depth > INDEX_DEPTH_MAX {
            return Err(StoreError::Archive { reason: "its indexes are too deep".to_owned() });
        }
        if images.len() > IMAGES_MAX {
            let reason = "an index has too many images".to_owned();
            return Err(StoreError::Archive { reason });
        }
        if !media_type::is_index(&descriptor.media_type) {
            images.extend(self.one_manifest(descriptor)?);
            return Ok(BTreeMap::new());
        }
        let index = self.index(descriptor)?;
        for entry in &index.manifests {
            // Docker saves the whole index with the images that it happens to have.
            if self.files.open(&blob_path(&entry.digest))?.is_some() {
                self.every(entry, images, depth + 1)?;
            }
        }
        Ok(index.annotations)
    }

    fn index(&self, descriptor: &Descriptor) -> Result<Index, StoreError> {
        let bytes = self.blob(&descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
        Index::parse(&bytes).map_err(|source| invalid(&descriptor.digest.to_string(), source))
    }

    /// Goes from a descriptor to the manifest for the platform; `None` if there is none for it.
    fn manifest(
        &self,
        descriptor: &Descriptor,
        platform: &Platform,
        depth: u32,
    ) -> Result<Option<Pending>, StoreError> {
        if depth > INDEX_DEPTH_MAX {
            return Err(StoreError::Archive { reason: "its indexes are too deep".to_owned() });
        }
        if media_type::is_index(&descriptor.media_type) {
            let index = self.index(descriptor)?;
            return match index.select(platform) {
                Some(selected) => self.manifest(selected, platform, depth + 1),
                // An index of one image may leave its platform to the configuration.
                None => match index.manifests.as_slice() {
                    [only] if only.platform.is_none() => self.manifest(only, platform, depth + 1),
                    _ => Ok(None),
                },
            };
        }
        self.one_manifest(descriptor)
    }

    /// Reads the manifest of an image; `None` if it is something else.
    fn one_manifest(&self, descriptor: &Descriptor) -> Result<Option<Pending>, StoreError> {
        if !media_type::is_manifest(&descriptor.media_type) || is_attestation(descriptor) {
            return Ok(None);
        }
        let bytes = self.blob(&descriptor.digest, limits::MANIFEST_BYTES_MAX)?;
        let name = descriptor.digest.to_string();
        let manifest = Manifest::parse(&bytes).map_err(|source| invalid(&name, source))?;
        let is_image = matches!(
            manifest.config.media_type.as_str(),
            media_type::CONFIG | media_type::DOCKER_CONFIG
        );
        if !is_image {
            return Ok(None);
        }
        let config = self.blob(&manifest.config.digest, limits::CONFIG_BYTES_MAX)?;
        let name = manifest.config.digest.to_string();
        let parsed = ImageConfig::parse(&config).map_err(|source| invalid(&name, source))?;
        let layers = manifest.layers.iter();
        let layers = layers.map(|l| (blob_path(&l.digest), Some(l.digest))).collect();
        let annotations = manifest.annotations;
        let entry = descriptor.annotations.clone();
        Ok(Some(Pending { config, parsed, layers, annotations, entry }))
    }

    fn one(&self, chosen: Option<&str>) -> Result<Image, StoreError> {
        let index = self.document(OCI_INDEX, limits::MANIFEST_BYTES_MAX)?;
        let index = Index::parse(&index).map_err(|source| invalid(OCI_INDEX, source))?;
        let wanted = chosen.unwrap_or("latest");
        let is_chosen = |descriptor: &&Descriptor| {
            descriptor.digest.to_string() == wanted
                || descriptor.annotations.get(ANNOTATION_REF_NAME).is_some_and(|n| n == wanted)
        };
        let found = match (index.manifests.iter().find(is_chosen), index.manifests.as_slice()) {
            (None, [only]) if chosen.is_none() => only,
            (Some(found), _) => found,
            (None, _) => {
                return Err(StoreError::Archive { reason: format!("it has no image `{wanted}`") });
            }
        };
        let (images, _) = self.images(found)?;
        self.image(images.first().ok_or_else(|| self.no_platform())?)
    }

    fn docker(&self) -> Result<Vec<Group>, StoreError> {
        let bytes = self.document(DOCKER_MANIFEST, limits::MANIFEST_BYTES_MAX)?;
        let list: Vec<DockerImage> = serde_json::from_slice(&bytes).map_err(|source| {
            StoreError::ArchiveDocument { name: DOCKER_MANIFEST.to_owned(), source }
        })?;
        let mut groups = Vec::new();
        for DockerImage { config: name, repo_tags, layers } in list {
            let config = self.document(&name, limits::CONFIG_BYTES_MAX)?;
            let parsed = ImageConfig::parse(&config).map_err(|source| invalid(&name, source))?;
            let layers = layers.unwrap_or_default().into_iter().map(|name| (name, None)).collect();
            let tags = repo_tags.unwrap_or_default();
            let references = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
            let annotations = BTreeMap::new();
            let entry = BTreeMap::new();
            let images = vec![Pending { config, parsed, layers, annotations, entry }];
            groups.push(Group { images, annotations: BTreeMap::new(), references });
        }
        Ok(groups)
    }

    fn document(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Archive { reason: format!("`{name}` is missing") };
        let bytes = self.files.read(name, limit_bytes)?.ok_or_else(missing)?;
        let left = self.documents_left.get().checked_sub(bytes.len() as u64);
        let left = left.ok_or(StoreError::TooLarge { limit_bytes: DOCUMENTS_BYTES_MAX })?;
        self.documents_left.set(left);
        Ok(bytes)
    }

    fn blob(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.document(&blob_path(digest), limit_bytes)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::DigestMismatch { expected: *digest, found });
        }
        Ok(bytes)
    }
}

fn invalid(name: &str, source: corten_oci::image::ParseError) -> StoreError {
    StoreError::ArchiveImage { name: name.to_owned(), source }
}

/// BuildKit lists its attestations beside the images, for a platform that nobody has.
fn is_attestation(descriptor: &Descriptor) -> bool {
    let unknown = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
    unknown || descriptor.annotations.contains_key("vnd.docker.reference.type")
}

/// Returns the names in annotations. The OCI one has only the tag with some tools and the whole name
/// with others; a tag alone names nothing.
fn names(annotations: &BTreeMap<String, String>) -> Vec<Reference> {
    let full = annotations.get(ANNOTATION_IMAGE_NAME);
    let short = annotations.get(ANNOTATION_REF_NAME).filter(|name| name.contains([':', '/']));
    full.or(short).and_then(|name| name.parse().ok()).into_iter().collect()
}
