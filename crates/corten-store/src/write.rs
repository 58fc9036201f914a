//! How a record gets its name.

use std::path::Path;
use std::sync::Arc;

use corten_sys::file;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::store::Inner;

/// The largest record that we write ourselves: an image of 500 layers with annotations.
pub(crate) const RECORD_BYTES_MAX: u64 = 16 << 20;

/// What a record promises after a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is whole and there.
    Durable,
    /// It is whole, torn or absent. For what can be made again and has a reader that takes a torn
    /// one for an absent one; nothing that is durable may rely on it.
    Volatile,
}

impl Inner {
    /// Writes a record under a temporary name and moves it into place.
    pub(crate) fn put_record(
        self: &Arc<Self>,
        path: &Path,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let temporary = self.temporary()?;
        let placed = self.write_and_rename(&temporary, path, bytes, durability);
        if let Err(error) = placed {
            // The first failure is the one that counts; the leftover lies in our part of `tmp/`.
            drop(self.fs().remove_tree(&temporary));
            return Err(error);
        }
        if durability == Durability::Durable {
            self.fs().sync_dir(parent(path))?;
        }
        Ok(())
    }

    fn write_and_rename(
        &self,
        temporary: &Path,
        path: &Path,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let file = self.fs().create_new(temporary, 0o600)?;
        self.fs().write(&file, temporary, bytes)?;
        if durability == Durability::Durable {
            self.fs().sync(&file, temporary)?;
        }
        Ok(self.fs().rename(temporary, path)?)
    }

    /// Writes a value as JSON.
    pub(crate) fn put_json(
        self: &Arc<Self>,
        path: &Path,
        value: &impl Serialize,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.put_record(path, &corten_oci::json::canonical(value), durability)
    }

    /// Makes a directory that fans out names, if it is not there.
    pub(crate) fn ensure_dir(&self, path: &Path, durability: Durability) -> Result<(), StoreError> {
        if file::exists(path)? {
            return Ok(());
        }
        match self.fs().create_dir(path, 0o700) {
            Err(error) if error.is_already_exists() => return Ok(()),
            created => created?,
        }
        if durability == Durability::Durable {
            self.fs().sync_dir(parent(path))?;
        }
        Ok(())
    }

    /// Removes a record; absence is success.
    pub(crate) fn remove_record(&self, path: &Path) -> Result<bool, StoreError> {
        Ok(file::absent_is_none(self.fs().remove_file(path))?.is_some())
    }
}

/// Reads a record that may be absent.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(bytes) = file::read_optional(path, RECORD_BYTES_MAX)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(source) => Err(StoreError::Record { path: path.to_owned(), source }),
    }
}

pub(crate) fn parent(path: &Path) -> &Path {
    // Every path below the root has a parent.
    path.parent().unwrap_or(path)
}
