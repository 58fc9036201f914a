//! Content by digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use corten_oci::digest::{Digest, Hasher};
use corten_sys::file;

use crate::error::StoreError;
use crate::lease::Pin;
use crate::store::{Inner, Store};
use crate::write::{Durability, parent};

/// Content passes through memory in pieces of this size, which is where the cost of a call vanishes
/// beside that of hashing.
const BUFFER_BYTES: usize = 256 * 1024;

/// What content must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// Its digest, if that is known.
    pub digest: Option<Digest>,
    /// The most bytes that it may have.
    pub limit_bytes: u64,
}

impl Store {
    /// Stores bytes and returns their digest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        // What is there already costs no write; a damaged one is replaced.
        let is_there = self.run(|inner| {
            inner.with_lease(|_| Ok(()))?;
            let _window = inner.window()?;
            let found = match inner.read_blob(&digest, bytes.len() as u64) {
                Err(StoreError::BlobDamaged { .. } | StoreError::TooLarge { .. }) => None,
                found => found?,
            };
            if found.is_some() {
                inner.pin_own(Pin::Blob(digest))?;
            }
            Ok(found.is_some())
        })?;
        if is_there {
            return Ok(digest);
        }
        let expect = Expect { digest: None, limit_bytes: bytes.len() as u64 };
        let (digest, _) = self.write_blob(&mut { bytes }, &expect)?;
        Ok(digest)
    }

    /// Stores what a reader gives, and returns its digest and size.
    ///
    /// Nothing is stored if the content is too large or has another digest than expected.
    pub fn write_blob(
        &self,
        content: &mut dyn Read,
        expect: &Expect,
    ) -> Result<(Digest, u64), StoreError> {
        self.run(|inner| {
            let temporary = inner.temporary()?;
            let written = write(inner, &temporary, content, expect);
            let placed = written.and_then(|(digest, size)| {
                place(inner, &temporary, &digest)?;
                Ok((digest, size))
            });
            if placed.is_err() {
                // The first failure is the one that counts; the rest lies in our part of `tmp/`.
                drop(inner.fs().remove_tree(&temporary));
            }
            placed
        })
    }

    /// Returns true if the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.run(|inner| Ok(file::exists(&inner.layout.blob(digest))?))
    }

    /// Returns the content of a blob after checking its digest; `None` if it is not there.
    pub fn read_blob(
        &self,
        digest: &Digest,
        limit_bytes: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|inner| inner.read_blob(digest, limit_bytes))
    }

    /// Opens a blob for reading; its content is not checked. `None` if it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        self.run(|inner| Ok(file::absent_is_none(file::open(&inner.layout.blob(digest)))?))
    }
}

fn write(
    inner: &Inner,
    temporary: &Path,
    content: &mut dyn Read,
    expect: &Expect,
) -> Result<(Digest, u64), StoreError> {
    let file = inner.fs().create_new(temporary, 0o600)?;
    let mut hasher = Hasher::new();
    let mut size: u64 = 0;
    let wanted = usize::try_from(expect.limit_bytes.saturating_add(1)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; BUFFER_BYTES.min(wanted)];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(StoreError::Source(source)),
        };
        size += count as u64;
        if size > expect.limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes: expect.limit_bytes });
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        inner.fs().write(&file, temporary, bytes)?;
    }
    let found = hasher.finish();
    if let Some(expected) = expect.digest
        && expected != found
    {
        return Err(StoreError::DigestMismatch { expected, found });
    }
    inner.fs().sync(&file, temporary)?;
    Ok((found, size))
}

fn place(inner: &Arc<Inner>, temporary: &Path, digest: &Digest) -> Result<(), StoreError> {
    let path = inner.layout.blob(digest);
    let _window = inner.window()?;
    inner.pin_own(Pin::Blob(*digest))?;
    // An older blob of that name is replaced: it has the same content, or it is damaged.
    inner.ensure_dir(parent(&path), Durability::Durable)?;
    inner.fs().rename(temporary, &path)?;
    inner.fs().sync_dir(parent(&path))?;
    Ok(())
}

impl Inner {
    pub(crate) fn read_blob(
        &self,
        digest: &Digest,
        limit_bytes: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.layout.blob(digest);
        let Some(file) = file::absent_is_none(file::open(&path))? else { return Ok(None) };
        if file::metadata(&path)?.len() > limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes });
        }
        let bytes = file::read_file_limited(&file, &path, limit_bytes)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::BlobDamaged { expected: *digest, found });
        }
        Ok(Some(bytes))
    }
}
