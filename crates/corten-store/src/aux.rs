//! Small caches of the commands, for example of what a file's digest was.
//!
//! A file begins with the digest of the rest, so that it needs no sync: a torn one reads as absent.

use std::path::PathBuf;

use corten_oci::digest::Digest;
use corten_sys::file;

use crate::error::StoreError;
use crate::store::{Inner, Store};
use crate::write::{Durability, parent};

/// The largest cache: the stat cache of a million files.
const AUX_BYTES_MAX: u64 = 512 << 20;

/// The digest in hexadecimal and a line feed.
const HEADER_BYTES: usize = 65;

impl Store {
    /// Returns a cache; `None` if it is not there or damaged.
    pub fn aux(&self, kind: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|inner| {
            let path = path(inner, kind, key)?;
            let Some(mut bytes) = file::read_optional(&path, AUX_BYTES_MAX)? else {
                return Ok(None);
            };
            if body(&bytes).is_none() {
                return Ok(None);
            }
            bytes.drain(..HEADER_BYTES);
            Ok(Some(bytes))
        })
    }

    /// Replaces a cache. It may vanish at any time.
    pub fn put_aux(&self, kind: &str, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.run(|inner| {
            let path = path(inner, kind, key)?;
            let temporary = inner.temporary()?;
            inner.ensure_dir(parent(&path), Durability::Volatile)?;
            let file = inner.fs().create_new(&temporary, 0o600)?;
            inner.fs().write(&file, &temporary, &header(bytes))?;
            inner.fs().write(&file, &temporary, bytes)?;
            Ok(inner.fs().rename(&temporary, &path)?)
        })
    }
}

/// Returns what a file has after its digest; `None` if it is damaged.
pub(crate) fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    (header == self::header(body)).then_some(body)
}

fn header(body: &[u8]) -> Vec<u8> {
    format!("{}\n", Digest::of(body).hex()).into_bytes()
}

fn path(inner: &Inner, kind: &str, key: &str) -> Result<PathBuf, StoreError> {
    check_name(kind)?;
    Ok(inner.layout.folder("aux").join(kind).join(Digest::of(key.as_bytes()).hex()))
}

/// Accepts a word that is safe as a file name.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(good) {
        return Err(StoreError::Name(name.chars().take(128).collect()));
    }
    Ok(())
}
