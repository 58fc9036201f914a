//! An image goes to a registry.

use std::io::{Read, Write as _};

use corten_oci::digest::Digest;
use corten_oci::image::{Descriptor, Manifest, media_type};
use corten_oci::json;
use corten_oci::reference::Reference;
use corten_registry::{Client, RegistryError, Repository};
use corten_store::archive::write_layer;
use corten_store::{Layer, Staging, Store, StoreError};
use corten_sys::error::IoError;
use corten_sys::file;
use rayon::prelude::*;

use super::annotation::{Annotation, Subject};
use super::spec::{Push, annotations};
use super::write::OutputError;
use crate::Target;
use crate::cache::{Blob, layer_type, remember, remembered};

/// Pushes an image to the repositories of all its names; returns the descriptor of its manifest.
pub(super) fn push(
    store: &Store,
    client: &Client,
    target: &Target,
    push: &Push,
    names: &[Reference],
    lists: [&[Annotation]; 2],
) -> Result<Descriptor, OutputError> {
    let pusher = Pusher { store, push, spool: store.stage()? };
    let platform = target.config.platform();
    let config = target.config_bytes();
    let mut descriptor = None;
    let mut sent: Vec<&Reference> = Vec::new();
    for name in names {
        let repository = client.repository(name, push.insecure);
        // The registry need not be sent what another repository of it has.
        let other = sent.iter().find(|other| other.registry() == name.registry());
        let from = other.map(|other| other.repository());
        let layers: Vec<Descriptor> = target
            .layers
            .par_iter()
            .map(|layer| pusher.layer(&repository, layer, from))
            .collect::<Result<_, OutputError>>()?;
        let digest = Digest::of(&config);
        let open = || -> std::io::Result<Box<dyn Read + '_>> { Ok(Box::new(config.as_slice())) };
        repository.put_blob(&digest, config.len() as u64, from, &open).map_err(failed(name))?;
        let manifest = Manifest {
            annotations: annotations(Subject::Manifest, &platform, lists),
            ..Manifest::new(
                Descriptor::new(media_type::CONFIG, digest, config.len() as u64),
                layers,
            )
        };
        let manifest = json::canonical(&manifest);
        let tag = name.tag().map_or_else(|| Digest::of(&manifest).to_string(), str::to_owned);
        let written = repository.put_manifest(&tag, media_type::MANIFEST, &manifest);
        let digest = written.map_err(failed(name))?;
        descriptor = Some(Descriptor {
            annotations: annotations(Subject::ManifestDescriptor, &platform, lists),
            platform: Some(platform.clone()),
            ..Descriptor::new(media_type::MANIFEST, digest, manifest.len() as u64)
        });
        sent.push(name);
    }
    descriptor.ok_or(OutputError::NoName)
}

fn failed(name: &Reference) -> impl Fn(RegistryError) -> OutputError {
    let name = name.familiar();
    move |source| OutputError::Push { name: name.clone(), source: Box::new(source) }
}

struct Pusher<'a> {
    store: &'a Store,
    push: &'a Push,
    /// Where a layer is until it has been sent.
    spool: Staging,
}

impl Pusher<'_> {
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
