//! Images that need not be in the store, as files: their layers are, and may be compressed.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use corten_oci::attestation::{Attestation, attest};
use corten_oci::digest::{DiffId, Digest};
use corten_oci::image::{Descriptor, Index, Manifest, media_type};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_oci::tar::TarError;
use corten_oci::{json, limits};
use corten_sys::beneath::{Dir, Resolve, Root};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::pending::PendingFile;
use rayon::prelude::*;

use super::layer::write_layer;
use super::save::{self, Content};
use super::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, DOCKER_MANIFEST, DockerImage, OCI_INDEX,
    OCI_LAYOUT, OciLayout, blob_path,
};
use crate::error::StoreError;
use crate::layer::Layer;
use crate::staging::Staging;
use crate::store::Store;

/// What is written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// How layers are compressed; the same layer and level give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the digest of a layer is its `DiffID`.
    Uncompressed,
    /// By gzip, level 0 to 9.
    Gzip {
        /// How hard it tries.
        level: u32,
    },
    /// By zstd, level 1 to 22.
    Zstd {
        /// How hard it tries.
        level: i32,
    },
}

/// What kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An OCI layout.
    Oci,
    /// An OCI layout whose manifest has Docker's media types.
    OciWithDockerTypes,
    /// What `docker load` of any age reads; its layers are not compressed.
    Docker,
}

/// What is to be written: the image of one platform, or those of several in an index.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The kind of archive; Docker's has no index.
    pub form: Form,
    /// The images. Without an index only the first one counts.
    pub images: Vec<BundleImage>,
    /// The index, if there is one.
    pub index: Option<BundleIndex>,
    /// The names in the archive.
    pub references: Vec<Reference>,
    /// How layers are compressed.
    pub compression: Compression,
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct BundleImage {
    /// The bytes of the configuration, whose digest is the image's ID.
    pub config: Vec<u8>,
    /// The layers, the bottom first.
    pub layers: Vec<Layer>,
    /// What the image is for.
    pub platform: Platform,
    /// The annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The annotations of the manifest's descriptor.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// What is stated of the image; it has a place only in an index.
    pub attestations: Vec<Attestation>,
}

/// An index to be written.
#[derive(Debug, Clone, Default)]
pub struct BundleIndex {
    /// The annotations of the index.
    pub annotations: BTreeMap<String, String>,
    /// The annotations of its descriptor.
    pub descriptor_annotations: BTreeMap<String, String>,
}

/// An archive that is ready to be written.
#[expect(missing_debug_implementations, reason = "what it holds is as large as an image")]
pub struct Prepared<'a> {
    store: &'a Store,
    files: BTreeMap<String, Content>,
    descriptor: Descriptor,
    /// The entries of the index: the descriptor once for each name.
    entries: Vec<Descriptor>,
    /// Holds the compressed layers.
    _spool: Option<Staging>,
}

/// A layer as it lies in the archive.
#[derive(Clone)]
struct Packed {
    digest: Digest,
    size: u64,
    content: Content,
}

/// Compresses the layers and makes the documents.
pub fn prepare<'a>(store: &'a Store, bundle: &Bundle) -> Result<Prepared<'a>, StoreError> {
    store.run(|_| {
        let spool = match bundle.compression {
            Compression::Uncompressed => None,
            Compression::Gzip { .. } | Compression::Zstd { .. } => Some(store.stage()?),
        };
        // Platforms may share layers.
        let layers: BTreeMap<DiffId, &Layer> = bundle
            .images
            .iter()
            .flat_map(|image| &image.layers)
            .map(|layer| (layer.diff_id, layer))
            .collect();
        let packed: Result<BTreeMap<DiffId, Packed>, StoreError> = layers
            .into_par_iter()
            .map(|(diff_id, layer)| match &spool {
                None => Ok((diff_id, plain(layer))),
                Some(spool) => {
                    let path = spool.work().join(diff_id.hex());
                    Ok((diff_id, compress(store, layer, bundle.compression, &path)?))
                }
            })
            .collect();
        let (descriptor, mut files) = documents(bundle, &packed?)?;
        let entries = entries(bundle, &descriptor);
        if bundle.form == Form::Docker {
            files = docker_files(bundle);
        } else {
            let layout = OciLayout { image_layout_version: "1.0.0".to_owned() };
            files.insert(OCI_LAYOUT.to_owned(), Content::Bytes(json::canonical(&layout)));
        }
        Ok(Prepared { store, files, descriptor, entries, _spool: spool })
    })
}

impl Prepared<'_> {
    /// Returns the descriptor of the manifest or of the index.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Writes the archive as a tar.
    pub fn write(mut self, out: &mut dyn Write) -> Result<(), StoreError> {
        if self.files.contains_key(OCI_LAYOUT) {
            let index = json::canonical(&Index::new(std::mem::take(&mut self.entries)));
            self.files.insert(OCI_INDEX.to_owned(), Content::Bytes(index));
        }
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        save::write(self.store, &self.files, &mut out)
    }

    /// Writes the archive into a directory that exists. An OCI layout that is there already keeps
    /// its other images.
    pub fn write_directory(self, path: &Path) -> Result<(), StoreError> {
        let root = Root::open(path)?;
        let mut index =
            match file::absent_is_none(root.open_file(Path::new(OCI_INDEX), Resolve::NoLinks))? {
                None => Index::new(Vec::new()),
                Some(found) => {
                    let shown = path.join(OCI_INDEX);
                    let limit = limits::MANIFEST_BYTES_MAX;
                    let bytes = file::read_file_limited(&found, &shown, limit)?;
                    Index::parse(&bytes).map_err(|source| StoreError::ArchiveImage {
                        name: shown.display().to_string(),
                        source,
                    })?
                }
            };
        for (name, content) in &self.files {
            let name = Path::new(name);
            if let Some(parent) = name.parent() {
                root.create_dirs(parent, 0o755, Resolve::NoLinks)?;
            }
            let (dir, name) = root.parent(name, Resolve::NoLinks)?;
            self.write_file(&dir, name, content)?;
        }
        let name = |entry: &Descriptor| {
            entry
                .annotations
                .get(ANNOTATION_IMAGE_NAME)
                .or(entry.annotations.get(ANNOTATION_REF_NAME))
                .cloned()
        };
        index.manifests.retain(|old| {
            !self.entries.iter().any(|new| {
                name(old) == name(new) && (name(new).is_some() || old.digest == new.digest)
            })
        });
        index.manifests.extend(self.entries.iter().cloned());
        // The last: who reads meanwhile sees the old images or all of the new ones.
        let index = Content::Bytes(json::canonical(&index));
        self.write_file(root.dir(), OCI_INDEX.as_ref(), &index)
    }

    fn write_file(
        &self,
        dir: &Dir,
        name: &std::ffi::OsStr,
        content: &Content,
    ) -> Result<(), StoreError> {
        let pending = PendingFile::create(dir, name, 0o644)?;
        match content {
            Content::Bytes(bytes) => file::write_all(pending.file(), &pending.path(), bytes)?,
            Content::Layer(layer) => {
                let mut out = BufWriter::with_capacity(BUFFER_BYTES, pending.file());
                let written = self.store.write_layer_tar(layer, &mut out);
                written.map_err(|error| located(error, &pending.path()))?;
                out.flush().map_err(|source| IoError::new("write", pending.path(), source))?;
            }
            Content::Spooled { path, .. } => {
                file::copy(&file::open(path)?, pending.file(), &pending.path())?;
            }
        }
        Ok(pending.publish()?)
    }
}

fn plain(layer: &Layer) -> Packed {
    let content = Content::Layer(layer.clone());
    Packed { digest: layer.diff_id.0, size: layer.tar_bytes, content }
}

/// Writes a compressed layer to a file, since its digest and its size come before it.
fn compress(
    store: &Store,
    layer: &Layer,
    compression: Compression,
    path: &Path,
) -> Result<Packed, StoreError> {
    if compression == Compression::Uncompressed {
        return Ok(plain(layer));
    }
    let file = file::create_new(path, 0o600)?;
    let (digest, size) =
        write_layer(store, layer, compression, &mut &file).map_err(|error| located(error, path))?;
    Ok(Packed { digest, size, content: Content::Spooled { path: path.to_owned(), size } })
}

/// Gives a failure to write the path that was written to.
fn located(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Tar(TarError::Write(source)) | StoreError::Sink(source) => {
            StoreError::Io(IoError::new("write", path, source))
        }
        other => other,
    }
}

/// The descriptor of the manifest or of the index, and the blobs below it.
fn documents(
    bundle: &Bundle,
    packed: &BTreeMap<DiffId, Packed>,
) -> Result<(Descriptor, BTreeMap<String, Content>), StoreError> {
    let mut files = BTreeMap::new();
    let mut manifests = Vec::new();
    for image in &bundle.images {
        manifests.push(image_documents(bundle, image, packed, &mut files));
    }
    if bundle.index.is_some() {
        // After the images, as readers take the first entry that fits.
        for (image, at) in bundle.images.iter().zip(0..) {
            let Some(descriptor) = manifests.get(at).filter(|_| !image.attestations.is_empty())
            else {
                continue;
            };
            let names = &bundle.references;
            let made = attest(descriptor, &image.platform, names, &image.attestations);
            for (digest, bytes) in made.blobs {
                files.insert(blob_path(&digest), Content::Bytes(bytes));
            }
            files.insert(blob_path(&made.descriptor.digest), Content::Bytes(made.manifest));
            manifests.push(made.descriptor);
        }
    }
    let Some(notes) = &bundle.index else {
        let reason = "there is nothing to write".to_owned();
        let first = manifests.into_iter().next().ok_or(StoreError::Archive { reason })?;
        return Ok((first, files));
    };
    let media_type = match bundle.form {
        Form::OciWithDockerTypes => media_type::DOCKER_INDEX,
        Form::Oci | Form::Docker => media_type::INDEX,
    };
    let index = Index {
        media_type: Some(media_type.to_owned()),
        annotations: notes.annotations.clone(),
        ..Index::new(manifests)
    };
    let index = json::canonical(&index);
    let descriptor = Descriptor {
        annotations: notes.descriptor_annotations.clone(),
        ..Descriptor::new(media_type, Digest::of(&index), index.len() as u64)
    };
    files.insert(blob_path(&descriptor.digest), Content::Bytes(index));
    Ok((descriptor, files))
}

/// The descriptor of an image's manifest; the manifest and the blobs that it names become files.
fn image_documents(
    bundle: &Bundle,
    image: &BundleImage,
    packed: &BTreeMap<DiffId, Packed>,
    files: &mut BTreeMap<String, Content>,
) -> Descriptor {
    let is_docker = bundle.form == Form::OciWithDockerTypes;
    let layer_type = match (bundle.compression, is_docker) {
        (Compression::Uncompressed, false) => media_type::LAYER,
        (Compression::Uncompressed, true) => media_type::DOCKER_LAYER,
        (Compression::Gzip { .. }, false) => media_type::LAYER_GZIP,
        (Compression::Gzip { .. }, true) => media_type::DOCKER_LAYER_GZIP,
        (Compression::Zstd { .. }, _) => media_type::LAYER_ZSTD,
    };
    let config = Digest::of(&image.config);
    files.insert(blob_path(&config), Content::Bytes(image.config.clone()));
    let mut layers = Vec::new();
    for Packed { digest, size, content } in
        image.layers.iter().filter_map(|layer| packed.get(&layer.diff_id))
    {
        layers.push(Descriptor::new(layer_type, *digest, *size));
        files.insert(blob_path(digest), content.clone());
    }
    let (config_type, manifest_type) = if is_docker {
        (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST)
    } else {
        (media_type::CONFIG, media_type::MANIFEST)
    };
    let config = Descriptor::new(config_type, config, image.config.len() as u64);
    let manifest = Manifest {
        media_type: Some(manifest_type.to_owned()),
        annotations: image.annotations.clone(),
        ..Manifest::new(config, layers)
    };
    let manifest = json::canonical(&manifest);
    let digest = Digest::of(&manifest);
    let descriptor = Descriptor {
        annotations: image.descriptor_annotations.clone(),
        platform: Some(image.platform.clone()),
        ..Descriptor::new(manifest_type, digest, manifest.len() as u64)
    };
    files.insert(blob_path(&digest), Content::Bytes(manifest));
    descriptor
}

fn entries(bundle: &Bundle, descriptor: &Descriptor) -> Vec<Descriptor> {
    let mut entries = Vec::new();
    for reference in &bundle.references {
        let mut entry = descriptor.clone();
        let tag = reference.tag().unwrap_or_default().to_owned();
        entry.annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), reference.to_string());
        entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag);
        entries.push(entry);
    }
    if entries.is_empty() {
        entries.push(descriptor.clone());
    }
    entries
}

fn docker_files(bundle: &Bundle) -> BTreeMap<String, Content> {
    let mut files = BTreeMap::new();
    let mut list = Vec::new();
    if let Some(image) = bundle.images.first() {
        let config = format!("{}.json", Digest::of(&image.config).hex());
        files.insert(config.clone(), Content::Bytes(image.config.clone()));
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", layer.diff_id.hex());
            files.insert(name.clone(), Content::Layer(layer.clone()));
            layers.push(name);
        }
        let repo_tags = Some(save::repo_tags(&bundle.references));
        list.push(DockerImage { config, repo_tags, layers: Some(layers) });
    }
    files.insert(DOCKER_MANIFEST.to_owned(), Content::Bytes(json::canonical(&list)));
    files
}
