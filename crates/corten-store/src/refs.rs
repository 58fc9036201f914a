//! Names of images.

use std::path::PathBuf;
use std::sync::Arc;

use corten_oci::digest::{Digest, ImageId};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::images::Image;
use crate::indexes::ImageIndex;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// The version of a record for an image.
const REF_VERSION: u32 = 1;

/// The version of a record for an index.
const INDEX_REF_VERSION: u32 = 2;

/// Longer names are stored under their digest, since a file name has 255 bytes at most.
const ESCAPED_BYTES_MAX: usize = 200;

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The name.
    pub reference: Reference,
    /// What it stands for.
    pub target: TagTarget,
    /// When the name was given, in seconds since 1970.
    pub tagged_at: i64,
}

/// What a name can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TagTarget {
    /// The image of one platform.
    Image(ImageId),
    /// An index: the images of several platforms.
    Index(Digest),
}

impl From<ImageId> for TagTarget {
    fn from(id: ImageId) -> Self {
        Self::Image(id)
    }
}

impl From<&ImageId> for TagTarget {
    fn from(id: &ImageId) -> Self {
        Self::Image(*id)
    }
}

impl TagTarget {
    /// Returns the digest that it is known by: that of the configuration, or that of the index.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Image(id) => id.0,
            Self::Index(digest) => *digest,
        }
    }
}

impl std::fmt::Display for TagTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.digest().fmt(formatter)
    }
}

/// What a name or the start of an id leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The image of one platform.
    Image(Box<Image>),
    /// The images of several platforms.
    Index(ImageIndex),
}

impl Found {
    /// Returns what a name for it stands for.
    pub fn target(&self) -> TagTarget {
        match self {
            Self::Image(image) => TagTarget::Image(image.id),
            Self::Index(index) => TagTarget::Index(index.digest),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    reference: Reference,
    /// In version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<ImageId>,
    /// In version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<Digest>,
    tagged_at: i64,
}

impl Store {
    /// Gives an image or an index a name and returns what had it before.
    pub fn tag(
        &self,
        reference: &Reference,
        target: impl Into<TagTarget>,
    ) -> Result<Option<TagTarget>, StoreError> {
        let target = target.into();
        self.run(|inner| {
            inner.with_lease(|_| Ok(()))?;
            let _window = inner.window()?;
            if !file::exists(&inner.target_path(&target))? {
                return Err(match target {
                    TagTarget::Image(id) => StoreError::ImageMissing(id),
                    TagTarget::Index(digest) => StoreError::IndexMissing(digest),
                });
            }
            let path = path(inner, reference);
            let previous = read(&path)?.map(|tagged| tagged.target);
            let (version, image, index) = match target {
                TagTarget::Image(id) => (REF_VERSION, Some(id), None),
                TagTarget::Index(digest) => (INDEX_REF_VERSION, None, Some(digest)),
            };
            let (reference, tagged_at) = (reference.clone(), inner.now());
            let record = Record { version, reference, image, index, tagged_at };
            inner.put_json(&path, &record, Durability::Durable)?;
            Ok(previous.filter(|previous| *previous != target))
        })
    }

    /// Takes a name away and returns what had it.
    pub fn untag(&self, reference: &Reference) -> Result<TagTarget, StoreError> {
        self.run(|inner| {
            let _window = inner.window()?;
            let path = path(inner, reference);
            let missing = || StoreError::ReferenceMissing(reference.clone());
            let tagged = read(&path)?.ok_or_else(missing)?;
            inner.remove_record(&path)?;
            inner.fs().sync_dir(crate::write::parent(&path))?;
            Ok(tagged.target)
        })
    }

    /// Returns all names, sorted.
    pub fn references(&self) -> Result<Vec<Tagged>, StoreError> {
        self.run(|inner| inner.references())
    }

    /// Returns what a name stands for, whether or not it is complete; `None` if there is no such
    /// name.
    pub fn tagged(&self, reference: &Reference) -> Result<Option<TagTarget>, StoreError> {
        self.run(|inner| Ok(read(&path(inner, reference))?.map(|tagged| tagged.target)))
    }

    /// Finds an image by its name or by the start of its id; `None` if there is none. Of an index it
    /// is the image for this machine; one without is an error that names the platforms there are.
    ///
    /// A name goes first. A name with a digest fits if the image's manifest has that digest.
    pub fn resolve(&self, text: &str) -> Result<Option<Image>, StoreError> {
        self.resolve_for(text, &Platform::host())
    }

    /// The same, but of an index it is the image for a platform. The image of one platform is found
    /// whatever its platform is.
    pub fn resolve_for(
        &self,
        text: &str,
        platform: &Platform,
    ) -> Result<Option<Image>, StoreError> {
        self.run(|inner| match find(inner, text)? {
            Some(Found::Image(image)) => Ok(Some(*image)),
            Some(Found::Index(index)) => inner.index_image(&index, platform).map(Some),
            None => Ok(None),
        })
    }

    /// Finds an image or an index by its name or by the start of its id; `None` if there is none.
    pub fn find(&self, text: &str) -> Result<Option<Found>, StoreError> {
        self.run(|inner| find(inner, text))
    }
}

fn find(inner: &Arc<Inner>, text: &str) -> Result<Option<Found>, StoreError> {
    if let Ok(reference) = text.parse::<Reference>()
        && let Some(found) = by_reference(inner, &reference)?
    {
        return Ok(Some(found));
    }
    by_id(inner, text)
}

fn at_target(inner: &Arc<Inner>, target: &TagTarget) -> Result<Option<Found>, StoreError> {
    Ok(match target {
        TagTarget::Image(id) => inner.image(id)?.map(|image| Found::Image(Box::new(image))),
        TagTarget::Index(digest) => inner.index(digest)?.map(Found::Index),
    })
}

fn by_reference(inner: &Arc<Inner>, reference: &Reference) -> Result<Option<Found>, StoreError> {
    if let Some(tagged) = read(&path(inner, reference))? {
        return at_target(inner, &tagged.target);
    }
    let Some(digest) = reference.digest() else { return Ok(None) };
    for tagged in inner.references()? {
        if tagged.reference.name() != reference.name() {
            continue;
        }
        match at_target(inner, &tagged.target)? {
            Some(Found::Image(image)) if image.manifest == digest => {
                return Ok(Some(Found::Image(image)));
            }
            Some(Found::Index(index)) if index.digest == digest => {
                return Ok(Some(Found::Index(index)));
            }
            Some(Found::Index(index)) => {
                let mut members = index.members.iter();
                if let Some(member) = members.find(|member| member.descriptor.digest == digest) {
                    let image = inner.member_image(member)?;
                    return Ok(Some(Found::Image(Box::new(image))));
                }
            }
            Some(Found::Image(_)) | None => {}
        }
    }
    Ok(None)
}

fn by_id(inner: &Arc<Inner>, text: &str) -> Result<Option<Found>, StoreError> {
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_hex) {
        return Ok(None);
    }
    let images = inner.image_names()?.into_iter().map(TagTarget::Image);
    let indexes = inner.index_names()?.into_iter().map(TagTarget::Index);
    let all: Vec<TagTarget> = images.chain(indexes).collect();
    let mut fitting = all.iter().filter(|target| target.digest().hex().starts_with(prefix));
    match (fitting.next(), fitting.count()) {
        (None, _) => Ok(None),
        (Some(target), 0) => at_target(inner, target),
        (Some(_), others) => {
            Err(StoreError::AmbiguousId { prefix: prefix.to_owned(), count: others + 1 })
        }
    }
}

impl Inner {
    /// The record of what a name stands for.
    pub(crate) fn target_path(&self, target: &TagTarget) -> PathBuf {
        match target {
            TagTarget::Image(id) => self.layout.image(id),
            TagTarget::Index(digest) => self.layout.index(digest),
        }
    }

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
    let Some(record) = read_json::<Record>(path)? else { return Ok(None) };
    let Record { version, reference, image, index, tagged_at } = record;
    let target = match (version, image, index) {
        (REF_VERSION, Some(id), _) => TagTarget::Image(id),
        (INDEX_REF_VERSION, _, Some(digest)) => TagTarget::Index(digest),
        _ => return Ok(None),
    };
    Ok(Some(Tagged { reference, target, tagged_at }))
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
