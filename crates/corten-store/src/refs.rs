//! Names of images.

use std::path::PathBuf;
use std::sync::Arc;

use corten_oci::digest::{Digest, ImageId};
use corten_oci::reference::Reference;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::images::Image;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// The version of a record.
const REF_VERSION: u32 = 1;

/// Longer names are stored under their digest, since a file name has 255 bytes at most.
const ESCAPED_BYTES_MAX: usize = 200;

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The name.
    pub reference: Reference,
    /// The image.
    pub image: ImageId,
    /// When the name was given, in seconds since 1970.
    pub tagged_at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    reference: Reference,
    image: ImageId,
    tagged_at: i64,
}

impl Store {
    /// Gives an image a name and returns the image that had it before.
    pub fn tag(
        &self,
        reference: &Reference,
        image: &ImageId,
    ) -> Result<Option<ImageId>, StoreError> {
        self.run(|inner| {
            inner.with_lease(|_| Ok(()))?;
            let _window = inner.window()?;
            if !file::exists(&inner.layout.image(image))? {
                return Err(StoreError::ImageMissing(*image));
            }
            let path = path(inner, reference);
            let previous = read(&path)?.map(|tagged| tagged.image);
            let record = Record {
                version: REF_VERSION,
                reference: reference.clone(),
                image: *image,
                tagged_at: inner.now(),
            };
            inner.put_json(&path, &record, Durability::Durable)?;
            Ok(previous.filter(|previous| previous != image))
        })
    }

    /// Takes a name away and returns the image that had it.
    pub fn untag(&self, reference: &Reference) -> Result<ImageId, StoreError> {
        self.run(|inner| {
            let _window = inner.window()?;
            let path = path(inner, reference);
            let missing = || StoreError::ReferenceMissing(reference.clone());
            let tagged = read(&path)?.ok_or_else(missing)?;
            inner.remove_record(&path)?;
            inner.fs().sync_dir(crate::write::parent(&path))?;
            Ok(tagged.image)
        })
    }

    /// Returns all names, sorted.
    pub fn references(&self) -> Result<Vec<Tagged>, StoreError> {
        self.run(|inner| inner.references())
    }

    /// Returns the image that a name stands for, whether or not it is complete; `None` if there is no
    /// such name.
    pub fn tagged(&self, reference: &Reference) -> Result<Option<ImageId>, StoreError> {
        self.run(|inner| Ok(read(&path(inner, reference))?.map(|tagged| tagged.image)))
    }

    /// Finds an image by its name or by the start of its id; `None` if there is none.
    ///
    /// A name goes first. A name with a digest fits if the image's manifest has that digest.
    pub fn resolve(&self, text: &str) -> Result<Option<Image>, StoreError> {
        self.run(|inner| {
            if let Ok(reference) = text.parse::<Reference>()
                && let Some(image) = by_reference(inner, &reference)?
            {
                return Ok(Some(image));
            }
            by_id(inner, text)
        })
    }
}

fn by_reference(inner: &Arc<Inner>, reference: &Reference) -> Result<Option<Image>, StoreError> {
    if let Some(tagged) = read(&path(inner, reference))? {
        return inner.image(&tagged.image);
    }
    let Some(digest) = reference.digest() else { return Ok(None) };
    for tagged in inner.references()? {
        if tagged.reference.name() != reference.name() {
            continue;
        }
        if let Some(image) = inner.image(&tagged.image)?
            && image.manifest == digest
        {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

fn by_id(inner: &Arc<Inner>, text: &str) -> Result<Option<Image>, StoreError> {
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_hex) {
        return Ok(None);
    }
    let ids = inner.image_names()?;
    let mut fitting = ids.iter().filter(|id| id.hex().starts_with(prefix));
    match (fitting.next(), fitting.count()) {
        (None, _) => Ok(None),
        (Some(id), 0) => inner.image(id),
        (Some(_), others) => {
            Err(StoreError::AmbiguousId { prefix: prefix.to_owned(), count: others + 1 })
        }
    }
}

impl Inner {
    pub(crate) fn references(&self) -> Result<Vec<Tagged>, StoreError> {
        let folder = self.layout.folder("refs");
        let mut references = Vec::new();
        for name in file::list_dir(&folder)? {
            references.extend(read(&folder.join(name))?);
        }
        references.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(references)
    }
}

/// Reads a record; one of another version is left for the version that wrote it.
pub(crate) fn read(path: &std::path::Path) -> Result<Option<Tagged>, StoreError> {
    let record = read_json::<Record>(path)?.filter(|record| record.version == REF_VERSION);
    Ok(record.map(|Record { reference, image, tagged_at, .. }| Tagged {
        reference,
        image,
        tagged_at,
    }))
}

pub(crate) fn path(inner: &Inner, reference: &Reference) -> PathBuf {
    inner.layout.folder("refs").join(escape(&reference.to_string()))
}

/// Writes a name so that it is a file name: everything but letters, digits, `.`, `_` and `-` becomes
/// `%` and two digits. The record in the file has the name itself.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            for digit in [byte >> 4, byte & 15] {
                escaped
                    .extend(char::from_digit(u32::from(digit), 16).map(|d| d.to_ascii_uppercase()));
            }
        }
    }
    if escaped.len() > ESCAPED_BYTES_MAX {
        return format!("long-{}.json", Digest::of(text.as_bytes()).hex());
    }
    escaped.push_str(".json");
    escaped
}
