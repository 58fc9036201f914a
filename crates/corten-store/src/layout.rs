//! Where things lie below the root.

use std::path::{Path, PathBuf};

use corten_oci::digest::{DiffId, Digest, ImageId};

/// All directories of a store, made when it is made. One that was made before there were indexes
/// gets theirs with the first.
pub(crate) const DIRECTORIES: [&str; 13] = [
    "lock",
    "blobs",
    "blobs/sha256",
    "layers",
    "images",
    "indexes",
    "refs",
    "steps",
    "aux",
    "holds",
    "leases",
    "tmp",
    "containers",
];

/// The paths of one store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("FORMAT")
    }

    pub(crate) fn gc_lock(&self) -> PathBuf {
        self.root.join("lock/gc")
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let (head, tail) = hex.split_at(2);
        let mut path = self.root.join("blobs/sha256");
        path.push(head);
        path.push(tail);
        path
    }

    pub(crate) fn layer(&self, diff_id: &DiffId) -> PathBuf {
        let mut path = self.root.join("layers");
        path.push(diff_id.hex());
        path
    }

    pub(crate) fn image(&self, id: &ImageId) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.hex()))
    }

    pub(crate) fn index(&self, digest: &Digest) -> PathBuf {
        self.root.join("indexes").join(format!("{}.json", digest.hex()))
    }

    pub(crate) fn step(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        let mut path = self.root.join("steps");
        path.push(hex.get(..2).unwrap_or_default());
        path.push(format!("{hex}.json"));
        path
    }

    pub(crate) fn lease(&self, id: &str) -> PathBuf {
        self.root.join("leases").join(id)
    }

    pub(crate) fn temporary(&self, lease: &str) -> PathBuf {
        self.root.join("tmp").join(lease)
    }
}
