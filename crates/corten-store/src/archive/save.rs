//! How images are written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use corten_oci::digest::Digest;
use corten_oci::image::{Descriptor, Index, media_type};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_oci::tar::{EntryKind, Writer};
use corten_oci::tree::{Meta, TreePath};
use corten_oci::{json, limits};
use corten_sys::file;

use super::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, DOCKER_MANIFEST, DockerImage, OCI_INDEX,
    OCI_LAYOUT, OciLayout, blob_path,
};
use crate::error::StoreError;
use crate::images::Image;
use crate::layer::Layer;
use crate::refs::Found;
use crate::store::Store;

/// An image or an index and the names that it has in an archive.
#[derive(Debug, Clone)]
pub struct Named {
    /// What is saved.
    pub content: Found,
    /// Its names; without any, it can be loaded by its id.
    pub references: Vec<Reference>,
}

/// What a file in the archive has in it.
#[derive(Clone)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    Layer(Layer),
    /// A layer that was compressed beforehand, since its size comes before it.
    Spooled {
        path: PathBuf,
        size: u64,
    },
}

/// Writes images as a tar of an OCI layout.
pub fn save_oci(store: &Store, images: &[Named], out: &mut dyn Write) -> Result<(), StoreError> {
    let mut files = BTreeMap::new();
    let mut manifests = Vec::new();
    for Named { content, references } in images {
        let descriptor = match content {
            Found::Image(image) => add_image(store, image, &mut files)?,
            Found::Index(index) => {
                for member in &index.members {
                    let image = store.run(|inner| inner.member_image(member))?;
                    add_image(store, &image, &mut files)?;
                }
                let limit = limits::MANIFEST_BYTES_MAX;
                let missing = || StoreError::IndexMissing(index.digest);
                let bytes = store.read_blob(&index.digest, limit)?.ok_or_else(missing)?;
                files.insert(blob_path(&index.digest), Content::Bytes(bytes));
                index.descriptor()
            }
        };
        for reference in references {
            let tag = reference.tag().unwrap_or_default().to_owned();
            let annotations = BTreeMap::from([
                (ANNOTATION_IMAGE_NAME.to_owned(), reference.to_string()),
                (ANNOTATION_REF_NAME.to_owned(), tag),
            ]);
            manifests.push(Descriptor { annotations, ..descriptor.clone() });
        }
        if references.is_empty() {
            manifests.push(descriptor);
        }
    }
    let layout = OciLayout { image_layout_version: "1.0.0".to_owned() };
    files.insert(OCI_LAYOUT.to_owned(), Content::Bytes(json::canonical(&layout)));
    let index = json::canonical(&Index::new(manifests));
    files.insert(OCI_INDEX.to_owned(), Content::Bytes(index));
    write(store, &files, out)
}

/// Adds the blobs of an image and returns the descriptor of its manifest.
fn add_image(
    store: &Store,
    image: &Image,
    files: &mut BTreeMap<String, Content>,
) -> Result<Descriptor, StoreError> {
    let config = blob(store, image, &image.id.0)?;
    let manifest = blob(store, image, &image.manifest)?;
    let mut descriptor =
        Descriptor::new(media_type::MANIFEST, image.manifest, manifest.len() as u64);
    descriptor.platform = Some(image.config.platform());
    files.insert(blob_path(&image.id.0), Content::Bytes(config));
    files.insert(blob_path(&image.manifest), Content::Bytes(manifest));
    for layer in &image.layers {
        files.insert(blob_path(&layer.diff_id.0), Content::Layer(layer.clone()));
    }
    Ok(descriptor)
}

/// Writes images in the form that `docker save` had before it had OCI layouts, and that everything
/// can read. It has no indexes: of each, the image of one platform is written.
pub fn save_docker(
    store: &Store,
    images: &[Named],
    platform: &Platform,
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let mut files = BTreeMap::new();
    let mut list = Vec::new();
    for Named { content, references } in images {
        let image = &match content {
            Found::Image(image) => image.as_ref().clone(),
            Found::Index(index) => store.index_image(index, platform)?,
        };
        let config = format!("{}.json", image.id.hex());
        files.insert(config.clone(), Content::Bytes(blob(store, image, &image.id.0)?));
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", layer.diff_id.hex());
            files.insert(name.clone(), Content::Layer(layer.clone()));
            layers.push(name);
        }
        let repo_tags = Some(repo_tags(references));
        list.push(DockerImage { config, repo_tags, layers: Some(layers) });
    }
    files.insert(DOCKER_MANIFEST.to_owned(), Content::Bytes(json::canonical(&list)));
    write(store, &files, out)
}

/// The names of an image in a Docker archive; Docker refuses those with a digest there.
pub(super) fn repo_tags(references: &[Reference]) -> Vec<String> {
    let tags = references.iter().filter(|reference| reference.digest().is_none());
    let tags: BTreeSet<String> = tags.map(Reference::familiar).collect();
    tags.into_iter().collect()
}

fn blob(store: &Store, image: &Image, digest: &Digest) -> Result<Vec<u8>, StoreError> {
    let limit = limits::CONFIG_BYTES_MAX.max(limits::MANIFEST_BYTES_MAX);
    let missing =
        || StoreError::ImageIncomplete { image: image.id, missing: format!("the blob `{digest}`") };
    store.read_blob(digest, limit)?.ok_or_else(missing)
}

pub(super) fn write(
    store: &Store,
    files: &BTreeMap<String, Content>,
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let mut writer = Writer::new(out);
    let file_meta = Meta { mode: 0o644, ..Meta::default() };
    let directory_meta = Meta { mode: 0o755, ..Meta::default() };
    let directories: BTreeSet<&str> = files
        .keys()
        .flat_map(|path| path.match_indices('/').filter_map(|(at, _)| path.get(..at)))
        .collect();
    let names: BTreeSet<&str> = files.keys().map(String::as_str).chain(directories).collect();
    for name in names {
        let path = TreePath::new(name.as_bytes())?;
        match files.get(name) {
            None => {
                writer.entry(&path, &directory_meta, &EntryKind::Directory { opaque: false })?;
            }
            Some(Content::Bytes(bytes)) => {
                writer.file(&path, &file_meta, bytes.len() as u64, &mut bytes.as_slice())?;
            }
            Some(Content::Layer(layer)) => {
                writer.entry(&path, &file_meta, &EntryKind::File { size: layer.tar_bytes })?;
                store.write_layer_tar(layer, &mut Body(&mut writer))?;
            }
            Some(Content::Spooled { path: spool, size }) => {
                writer.file(&path, &file_meta, *size, &mut file::open(spool)?)?;
            }
        }
    }
    writer.finish()?;
    Ok(())
}

/// The content of the current entry as a writer.
struct Body<'a, 'w>(&'a mut Writer<&'w mut dyn Write>);

impl Write for Body<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.content(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(corten_oci::tar::TarError::Write(error)) => Err(error),
            Err(error) => Err(std::io::Error::other(error)),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
