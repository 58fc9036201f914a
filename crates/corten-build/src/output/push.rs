//! An image goes to a registry.

use std::io::{Read, Write as _};

use corten_oci::attestation::attest;
use corten_oci::digest::Digest;
use corten_oci::image::{Descriptor, Index, Manifest, media_type};
use corten_oci::json;
use corten_oci::reference::Reference;
use corten_registry::{Client, RegistryError, Repository};
use corten_store::archive::write_layer;
use corten_store::{Layer, Staging, Store, StoreError};
use corten_sys::error::IoError;
use corten_sys::file;
use rayon::prelude::*;

use super::annotation::{Annotation, Subject};
use super::spec::{Push, annotations, index_annotations};
use super::write::OutputError;
use crate::Target;
use crate::cache::{Blob, layer_type, remember, remembered};

/// Pushes an image, or the images of several platforms and their index, to the repositories of all
/// its names; returns the descriptor of the manifest or the index.
pub(super) fn push(
    store: &Store,
    client: &Client,
    targets: &[Target],
    push: &Push,
    names: &[Reference],
    lists: [&[Annotation]; 2],
) -> Result<Descriptor, OutputError> {
    let pusher = Pusher { store, push, lists, spool: store.stage()? };
    let mut pushed = None;
    let mut sent: Vec<&Reference> = Vec::new();
    for name in names {
        let repository = client.repository(name, push.insecure);
        // The registry need not be sent what another repository of it has.
        let other = sent.iter().find(|other| other.registry() == name.registry());
        let from = other.map(|other| other.repository());
        let mut entries = Vec::new();
        for target in targets {
            let manifest = pusher.image(&repository, target, from)?;
            // The images of an index are found by their digest.
            let is_alone = targets.len() == 1 && target.attestations.is_empty();
            let tag = name.tag().filter(|_| is_alone);
            let digest = put(&repository, tag, media_type::MANIFEST, &manifest)?;
            let platform = target.config.platform();
            entries.push(Descriptor {
                annotations: annotations(Subject::ManifestDescriptor, &platform, lists),
                platform: Some(platform),
                ..Descriptor::new(media_type::MANIFEST, digest, manifest.len() as u64)
            });
        }
        for (target, at) in targets.iter().zip(0..) {
            let Some(image) = entries.get(at).filter(|_| !target.attestations.is_empty()) else {
                continue;
            };
            entries.push(attest_image(&repository, target, image, names, from)?);
        }
        pushed = match entries.len() {
            0 | 1 => entries.pop(),
            _ => Some(pusher.index(&repository, name.tag(), entries)?),
        };
        sent.push(name);
    }
    pushed.ok_or(OutputError::NoName)
}

/// Puts a document under a tag, or under its digest.
fn put(
    repository: &Repository,
    tag: Option<&str>,
    media_type: &str,
    document: &[u8],
) -> Result<Digest, OutputError> {
    let name = tag.map_or_else(|| Digest::of(document).to_string(), str::to_owned);
    repository.put_manifest(&name, media_type, document).map_err(failed(repository.reference()))
}

/// Puts what is stated of an image beside it; returns the entry for the index.
fn attest_image(
    repository: &Repository,
    target: &Target,
    image: &Descriptor,
    names: &[Reference],
    from: Option<&str>,
) -> Result<Descriptor, OutputError> {
    let name = repository.reference();
    let made = attest(image, &target.config.platform(), names, &target.attestations);
    for (digest, bytes) in &made.blobs {
        let open = || -> std::io::Result<Box<dyn Read + '_>> { Ok(Box::new(bytes.as_slice())) };
        let sent = repository.put_blob(digest, bytes.len() as u64, from, &open);
        sent.map_err(failed(name))?;
    }
    put(repository, None, media_type::MANIFEST, &made.manifest)?;
    Ok(made.descriptor)
}

fn failed(name: &Reference) -> impl Fn(RegistryError) -> OutputError {
    let name = name.familiar();
    move |source| OutputError::Push { name: name.clone(), source: Box::new(source) }
}

struct Pusher<'a> {
    store: &'a Store,
    push: &'a Push,
    lists: [&'a [Annotation]; 2],
    /// Where a layer is until it has been sent.
    spool: Staging,
}

impl Pusher<'_> {
    /// Sends the layers and the configuration of an image; returns its manifest.
    fn image(
        &self,
        repository: &Repository,
        target: &Target,
        from: Option<&str>,
    ) -> Result<Vec<u8>, OutputError> {
        let layers: Vec<Descriptor> = target
            .layers
            .par_iter()
            .map(|layer| self.layer(repository, layer, from))
            .collect::<Result<_, OutputError>>()?;
        let config = target.config_bytes();
        let (digest, size) = (Digest::of(&config), config.len() as u64);
        let open = || -> std::io::Result<Box<dyn Read + '_>> { Ok(Box::new(config.as_slice())) };
        let sent = repository.put_blob(&digest, size, from, &open);
        sent.map_err(failed(repository.reference()))?;
        let platform = target.config.platform();
        Ok(json::canonical(&Manifest {
            annotations: annotations(Subject::Manifest, &platform, self.lists),
            ..Manifest::new(Descriptor::new(media_type::CONFIG, digest, size), layers)
        }))
    }

    /// Puts the index of several images, or of an image and what is stated of it.
    fn index(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        entries: Vec<Descriptor>,
    ) -> Result<Descriptor, OutputError> {
        let annotations = index_annotations(Subject::Index, self.lists);
        let index = json::canonical(&Index { annotations, ..Index::new(entries) });
        let digest = put(repository, tag, media_type::INDEX, &index)?;
        Ok(Descriptor {
            annotations: index_annotations(Subject::IndexDescriptor, self.lists),
            ..Descriptor::new(media_type::INDEX, digest, index.len() as u64)
        })
    }

    /// Sends a layer, unless the registry has it; then it is not even compressed, if it was before.
    fn layer(
        &self,
        repository: &Repository,
        layer: &Layer,
        from: Option<&str>,
    ) -> Result<Descriptor, OutputError> {
        let name = repository.reference();
        let compression = self.push.compression;
        let media_type = layer_type(compression);
        if let Some(blob) = remembered(self.store, &layer.diff_id, compression)
            && repository.has_blob(&blob.digest).map_err(failed(name))?
        {
            return Ok(Descriptor::new(media_type, blob.digest, blob.size));
        }
        let path = self.spool.work().join(corten_sys::random::name());
        let io = |source| OutputError::Store(StoreError::Io(source));
        let spooled = file::create_new(&path, 0o600).map_err(io)?;
        let (digest, size) = write_layer(self.store, layer, compression, &mut &spooled)?;
        (&spooled).flush().map_err(|error| io(IoError::new("write", &path, error)))?;
        let blob = Blob { digest, size, media_type: media_type.to_owned() };
        remember(self.store, &layer.diff_id, compression, &blob);
        let open =
            || -> std::io::Result<Box<dyn Read + '_>> { Ok(Box::new(std::fs::File::open(&path)?)) };
        let sent = repository.put_blob(&digest, size, from, &open);
        let removed = file::remove_file(&path).map_err(io);
        sent.map_err(failed(name))?;
        removed?;
        Ok(Descriptor::new(media_type, digest, size))
    }
}
