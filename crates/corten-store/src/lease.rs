//! What live processes use, so that collection leaves it alone.
//!
//! A lease is a file that its process holds locked; the kernel lets go when the process dies. It
//! lists one thing a line: `layer <hex>`, `image <hex>` or `blob <hex>`. Lines are only added, in
//! the window in which collection waits, so collection reads whole lists.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use corten_oci::digest::{DiffId, Digest, ImageId};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::fs::Fs;
use corten_sys::lock::FileLock;

use crate::error::StoreError;
use crate::layer::LayerId;
use crate::layout::Layout;
use crate::store::{Inner, Store};

/// Something that a lease can protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pin {
    Layer(DiffId),
    Image(ImageId),
    Blob(Digest),
}

impl Pin {
    fn line(self) -> String {
        match self {
            Self::Layer(diff_id) => format!("layer {}\n", diff_id.hex()),
            Self::Image(id) => format!("image {}\n", id.hex()),
            Self::Blob(digest) => format!("blob {}\n", digest.hex()),
        }
    }

    /// Reads a line; one that was cut off by a kill belongs to a dead process and says nothing.
    fn parse(line: &str) -> Option<Self> {
        let (kind, hex) = line.split_once(' ')?;
        let digest = Digest::from_hex(hex).ok()?;
        match kind {
            "layer" => Some(Self::Layer(DiffId(digest))),
            "image" => Some(Self::Image(ImageId(digest))),
            "blob" => Some(Self::Blob(digest)),
            _ => None,
        }
    }
}

/// Reads what a lease lists.
pub(crate) fn parse(bytes: &[u8]) -> BTreeSet<Pin> {
    String::from_utf8_lossy(bytes).lines().filter_map(Pin::parse).collect()
}

/// The file of a lease, locked.
#[derive(Debug)]
pub(crate) struct LeaseFile {
    id: String,
    lock: FileLock,
    pinned: BTreeSet<Pin>,
}

impl LeaseFile {
    /// Makes a lease and its part of `tmp/`.
    pub(crate) fn create(inner: &Inner) -> Result<Self, StoreError> {
        let _window = inner.window()?;
        let id = corten_sys::random::name();
        let path = inner.layout.lease(&id);
        inner.fs().before("create", &path)?;
        let busy = || StoreError::Busy { root: inner.layout.root.clone() };
        let lock = FileLock::try_exclusive(&path)?.ok_or_else(busy)?;
        // Layers are made here and thrown away here when they turn out to be known: without this, the
        // next build of an ext4 pays for the files that the last one deleted. It is a wish only.
        file::spread_children(&inner.layout.folder("tmp"))?;
        inner.fs().create_dir(&inner.layout.temporary(&id), 0o700)?;
        Ok(Self { id, lock, pinned: BTreeSet::new() })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Adds a line; the caller holds the window and has seen that the thing exists, or makes it.
    pub(crate) fn pin(&mut self, fs: &dyn Fs, pin: Pin) -> Result<(), IoError> {
        if self.pinned.contains(&pin) {
            return Ok(());
        }
        fs.before("append to", self.lock.path())?;
        self.lock.append(pin.line().as_bytes())?;
        self.pinned.insert(pin);
        Ok(())
    }

    /// Removes the lease; what cannot be removed is found dead by the next collection.
    pub(crate) fn close(self, layout: &Layout, fs: &dyn Fs) {
        drop(fs.remove_tree(&layout.temporary(&self.id)));
        drop(fs.remove_file(self.lock.path()));
    }
}

/// Protects what is pinned to it from collection, until it is dropped or its process dies.
#[derive(Debug)]
pub struct Lease {
    inner: Arc<Inner>,
    file: Mutex<Option<LeaseFile>>,
}

impl Lease {
    /// Protects a layer; false if it is not in the store.
    pub fn pin(&self, layer: &LayerId) -> Result<bool, StoreError> {
        let diff_id = layer.diff_id();
        self.pin_existing(Pin::Layer(diff_id), &self.inner.layout.layer(&diff_id).join("meta.json"))
    }

    /// Protects an image with its layers; false if it is not in the store.
    pub fn pin_image(&self, image: &ImageId) -> Result<bool, StoreError> {
        self.pin_existing(Pin::Image(*image), &self.inner.layout.image(image))
    }

    /// Protects a blob; false if it is not in the store.
    pub fn pin_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.pin_existing(Pin::Blob(*digest), &self.inner.layout.blob(digest))
    }

    fn pin_existing(&self, pin: Pin, path: &std::path::Path) -> Result<bool, StoreError> {
        let pinned = || {
            let _window = self.inner.window()?;
            if !file::exists(path)? {
                return Ok(false);
            }
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = file.as_mut() {
                file.pin(self.inner.fs(), pin)?;
            }
            Ok(true)
        };
        pinned().map_err(|error: StoreError| error.classify(&self.inner.layout.root))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = file.take() {
            file.close(&self.inner.layout, self.inner.fs());
        }
    }
}

impl Store {
    /// Makes a lease, for example for a container as long as it runs.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        self.run(|inner| {
            let file = LeaseFile::create(inner)?;
            Ok(Lease { inner: inner.clone(), file: Mutex::new(Some(file)) })
        })
    }

    /// Protects layers under a name until [`Store::release`], beyond the life of any process: for
    /// containers that exist. False if a layer is not in the store; then nothing is protected.
    pub fn hold(&self, name: &str, layers: &[LayerId]) -> Result<bool, StoreError> {
        self.run(|inner| {
            let path = hold_path(inner, name)?;
            inner.with_lease(|_| Ok(()))?;
            let _window = inner.window()?;
            for layer in layers {
                if !file::exists(&inner.layout.layer(&layer.diff_id()).join("meta.json"))? {
                    return Ok(false);
                }
            }
            inner.put_json(&path, &layers, crate::write::Durability::Durable)?;
            Ok(true)
        })
    }

    /// Ends the protection that [`Store::hold`] gave; true if there was one.
    pub fn release(&self, name: &str) -> Result<bool, StoreError> {
        self.run(|inner| {
            inner.check_writable()?;
            inner.remove_record(&hold_path(inner, name)?)
        })
    }
}

fn hold_path(inner: &Inner, name: &str) -> Result<PathBuf, StoreError> {
    crate::aux::check_name(name)?;
    Ok(inner.layout.folder("holds").join(format!("{name}.json")))
}

impl Inner {
    /// Protects something by the lease of this handle. The caller holds the window.
    pub(crate) fn pin_own(self: &Arc<Self>, pin: Pin) -> Result<(), StoreError> {
        self.with_lease(|lease| Ok(lease.pin(self.fs(), pin)?))
    }
}
