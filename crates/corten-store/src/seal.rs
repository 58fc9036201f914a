//! How a directory becomes a layer.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use corten_oci::digest::{DiffId, Hasher};
use corten_oci::tree::TreePath;
use corten_sys::beneath::{Resolve, Root};
use corten_sys::error::IoError;

use crate::emit::{self, Source, Totals};
use crate::error::StoreError;
use crate::layer::{Layer, META_VERSION, Meta};
use crate::lease::Pin;
use crate::recipe::Displaced;
use crate::staging::Staging;
use crate::store::{Inner, Store};
use crate::walk::{self, Fix, Marks};
use crate::write::Durability;

/// What sealing does besides making the layer canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal<'a> {
    /// Later times become this one, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Paths that are removed first, for example what was only mounted.
    pub drop: &'a [&'a str],
}

impl Store {
    /// Makes a staged directory a layer and protects it for the life of this handle.
    ///
    /// If the store already has a layer with that content, that one is returned and the staged
    /// directory is removed. Nothing may change the directory during the call or after it.
    pub fn commit(&self, staging: Staging, seal: &Seal<'_>) -> Result<Layer, StoreError> {
        self.run(|inner| commit(inner, staging, seal))
    }
}

fn commit(inner: &Arc<Inner>, staging: Staging, seal: &Seal<'_>) -> Result<Layer, StoreError> {
    let root = Root::open(staging.tree())?;
    for path in seal.drop {
        remove(inner, &root, path)?;
    }
    let marks = Marks::new(inner.in_user_namespace);
    let fix = Some(Fix { fs: inner.fs(), epoch: seal.epoch });
    let items = walk::list(&root, marks, fix)?;
    let mut hasher = Hasher::new();
    let source = Source { root: &root, marks, fix };
    let (totals, tar_bytes) = emit::write_tar(source, &items, &mut hasher)?;
    let sealed = Sealed {
        diff_id: DiffId(hasher.finish()),
        tar_bytes,
        totals,
        squashed_owners: 0,
        recipe: None,
    };
    place(inner, staging, sealed)
}

/// A layer that is complete but for its name.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) diff_id: DiffId,
    pub(crate) tar_bytes: u64,
    pub(crate) totals: Totals,
    pub(crate) squashed_owners: u64,
    pub(crate) recipe: Option<Vec<Displaced>>,
}

/// Gives a layer its name, or finds that it has it already. Nothing is synced; see the crate.
pub(crate) fn place(
    inner: &Arc<Inner>,
    staging: Staging,
    sealed: Sealed,
) -> Result<Layer, StoreError> {
    debug_assert!(staging.is_of(inner), "a staging directory belongs to the handle that made it");
    let diff_id = sealed.diff_id;
    {
        let _window = inner.window()?;
        if let Some(layer) = inner.layer(&diff_id)? {
            inner.pin_own(Pin::Layer(diff_id))?;
            return Ok(layer);
        }
    }
    let meta = Meta {
        version: META_VERSION,
        diff_id,
        tar_bytes: sealed.tar_bytes,
        content_bytes: sealed.totals.content_bytes,
        entries: sealed.totals.entries,
        squashed_owners: sealed.squashed_owners,
        created: inner.now(),
        synced: false,
        boot_id: inner.host.boot_id.clone(),
        recipe: sealed.recipe,
    };
    inner.fs().remove_tree(staging.work())?;
    inner.put_meta(staging.folder(), &meta, Durability::Volatile)?;
    let target = inner.layout.layer(&diff_id);
    let _window = inner.window()?;
    inner.pin_own(Pin::Layer(diff_id))?;
    match inner.fs().rename(staging.folder(), &target) {
        Ok(()) => {
            staging.done();
        }
        Err(error) if error.is_already_exists() => {
            // Either another process was faster, or what is there is the ruin of an earlier boot.
            if inner.layer(&diff_id)?.is_none() {
                inner.fs().rename(&target, &inner.temporary()?)?;
                inner.fs().rename(staging.folder(), &target)?;
                staging.done();
            }
        }
        Err(error) => return Err(error.into()),
    }
    inner.layer(&diff_id)?.ok_or(StoreError::LayerMissing(diff_id))
}

/// Removes a path in the staged directory; absence is success.
fn remove(inner: &Inner, root: &Root, path: &str) -> Result<(), StoreError> {
    let path = TreePath::clean(path.as_bytes())?;
    if path.is_root() {
        return Ok(());
    }
    let (dir, name) =
        match root.parent(Path::new(OsStr::from_bytes(path.as_bytes())), Resolve::NoLinks) {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
    inner.fs().before("remove", dir.path())?;
    Ok(dir.remove_tree(name)?)
}

/// A path through a link or a file does not exist in the layer itself.
fn is_absent(error: &IoError) -> bool {
    error.is_not_found() || error.is_not_a_directory() || corten_sys::beneath::is_escape(error)
}

/// Writes the canonical tar of a sealed directory.
pub(crate) fn write_canonical(
    tree: &Path,
    in_user_namespace: bool,
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let root = Root::open(tree)?;
    let marks = Marks::new(in_user_namespace);
    let items = walk::list(&root, marks, None)?;
    emit::write_tar(Source { root: &root, marks, fix: None }, &items, out)?;
    Ok(())
}
