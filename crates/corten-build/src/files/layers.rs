//! The files of a stage or an image.

use std::path::PathBuf;

use corten_oci::tree::TreePath;
use corten_store::{Layer, Links, Snapshot};
use corten_sys::file;

use super::{Content, Files, FilesError, Found, Place, hash_all};

/// The layers of a stage as files. Layers never change once they have their name.
#[derive(Debug)]
pub(crate) struct LayerFiles {
    snapshot: Snapshot,
}

impl LayerFiles {
    /// Opens layers, the bottom first.
    pub(crate) fn open(layers: &[Layer]) -> Result<Self, FilesError> {
        Ok(Self { snapshot: Snapshot::new(layers)? })
    }

    /// The path on the host of something that one layer alone has, with all that is below it and
    /// nothing else, such as marks of deletions.
    pub(crate) fn alone(&self, found: &Found) -> Result<Option<PathBuf>, FilesError> {
        let Place::Layer(resolved) = &found.place else { return Ok(None) };
        let alone = !found.is_directory() || self.is_alone(found, resolved.layer)?;
        Ok(alone.then(|| resolved.host_path.clone()))
    }

    fn is_alone(&self, directory: &Found, layer: usize) -> Result<bool, FilesError> {
        let shown = self.list(directory)?;
        if file::list_dir(&directory.host_path())?.len() != shown.len() {
            return Ok(false);
        }
        for child in &shown {
            let of_layer =
                matches!(&child.place, Place::Layer(resolved) if resolved.layer == layer);
            if !of_layer || (child.is_directory() && !self.is_alone(child, layer)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The layers.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Files for LayerFiles {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, FilesError> {
        let found = self.snapshot.resolve(path.as_bytes(), Links::Keep)?;
        // A path through a link is another name for something else.
        Ok(found.filter(|found| found.path == *path).map(convert))
    }

    fn list(&self, directory: &Found) -> Result<Vec<Found>, FilesError> {
        let entries = self.snapshot.list_dir(directory.path.as_bytes())?;
        Ok(entries.unwrap_or_default().into_iter().map(convert).collect())
    }

    fn digests(&self, files: &[&Found]) -> Result<Vec<Content>, FilesError> {
        hash_all(files, &|_| true)
    }

    fn keeps_metadata(&self) -> bool {
        true
    }
}

fn convert(resolved: corten_store::Resolved) -> Found {
    Found {
        path: resolved.path.clone(),
        stat: resolved.stat,
        place: Place::Layer(Box::new(resolved)),
    }
}
