//! Layers in the making.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::StoreError;
use crate::store::{Inner, Store};

/// A directory to fill, by hand or as the upper directory of an overlay; removed when dropped.
#[derive(Debug)]
pub struct Staging {
    inner: Arc<Inner>,
    folder: PathBuf,
    tree: PathBuf,
    work: PathBuf,
    /// False once the folder has become a layer.
    remove: bool,
}

impl Staging {
    /// Returns the directory that becomes the layer; it is empty at first.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Returns an empty directory on the same file system, as overlayfs needs it for its work.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Returns the folder that holds both; its name vanishes when the layer gets its own.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns true if the staging directory belongs to this store handle.
    pub(crate) fn is_of(&self, inner: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.inner, inner)
    }

    /// Says that the folder has become a layer.
    pub(crate) fn done(mut self) {
        self.remove = false;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.remove {
            // What stays lies in our part of `tmp/` and is removed with it.
            drop(self.inner.fs().remove_tree(&self.folder));
        }
    }
}

impl Store {
    /// Makes an empty staging directory.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        self.run(stage)
    }
}

pub(crate) fn stage(inner: &Arc<Inner>) -> Result<Staging, StoreError> {
    let folder = inner.temporary()?;
    let (tree, work) = (folder.join("tree"), folder.join("work"));
    inner.fs().create_dir(&folder, 0o700)?;
    let staging = Staging { inner: inner.clone(), folder, tree, work, remove: true };
    inner.fs().create_dir(&staging.tree, 0o755)?;
    inner.fs().create_dir(&staging.work, 0o700)?;
    Ok(staging)
}
