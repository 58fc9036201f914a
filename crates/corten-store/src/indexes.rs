//! Indexes: one name for the images of several platforms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_oci::digest::{Digest, ImageId};
use corten_oci::image::{Descriptor, Index, Manifest, media_type};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_oci::{json, limits};
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::images::Image;
use crate::lease::Pin;
use crate::refs::TagTarget;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// The version of a record.
const INDEX_VERSION: u32 = 1;

/// The directory of the records; made with the first index, since older stores lack it.
const FOLDER: &str = "indexes";

/// An index in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageIndex {
    /// The digest of the document, which is what identifies it.
    pub digest: Digest,
    /// The size of the document in bytes.
    pub size: u64,
    /// Its images, in the order of the document.
    pub members: Vec<Member>,
    /// The annotations of the document.
    pub annotations: BTreeMap<String, String>,
    /// When the store got it, in seconds since 1970.
    pub stored_at: i64,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its entry in the document: the manifest over uncompressed layers, and the platform.
    pub descriptor: Descriptor,
    /// The image.
    pub image: ImageId,
}

impl Member {
    /// Returns the platform that the entry states.
    pub fn platform(&self) -> Platform {
        let stated = self.descriptor.platform.as_ref().map(Platform::normalised);
        stated.unwrap_or_else(|| Platform::new("unknown", "unknown", None))
    }
}

impl ImageIndex {
    /// Returns the image for a platform: the exact one, else the first that runs there.
    pub fn select(&self, platform: &Platform) -> Option<&Member> {
        let wanted = platform.normalised();
        let exact = self.members.iter().find(|member| member.platform() == wanted);
        exact.or_else(|| self.members.iter().find(|member| wanted.accepts(&member.platform())))
    }

    /// Returns its platforms as text, such as `linux/amd64, linux/arm64`.
    pub fn platforms(&self) -> String {
        let names: Vec<String> = self.members.iter().map(|m| m.platform().to_string()).collect();
        names.join(", ")
    }

    /// Returns the descriptor of the document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(media_type::INDEX, self.digest, self.size)
    }
}

/// An image that shall be in an index.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// The image.
    pub image: Image,
    /// The annotations of its entry.
    pub annotations: BTreeMap<String, String>,
}

/// The content of `indexes/<hex>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) digest: Digest,
    pub(crate) members: Vec<RecordMember>,
    pub(crate) stored_at: i64,
}

/// What of an image must stay as long as the index does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RecordMember {
    pub(crate) manifest: Digest,
    pub(crate) image: ImageId,
}

impl Store {
    /// Stores an index of images that are in the store.
    ///
    /// The same images and annotations give the same index.
    pub fn put_index(
        &self,
        members: &[NewMember],
        annotations: &BTreeMap<String, String>,
    ) -> Result<ImageIndex, StoreError> {
        let mut manifests = Vec::new();
        for NewMember { image, annotations } in members {
            let bytes = self.read_blob(&image.manifest, limits::MANIFEST_BYTES_MAX)?;
            let incomplete = || StoreError::ImageIncomplete {
                image: image.id,
                missing: "its manifest".to_owned(),
            };
            let size = bytes.ok_or_else(incomplete)?.len() as u64;
            manifests.push(Descriptor {
                annotations: annotations.clone(),
                platform: Some(image.config.platform()),
                ..Descriptor::new(media_type::MANIFEST, image.manifest, size)
            });
        }
        let document = Index { annotations: annotations.clone(), ..Index::new(manifests) };
        let digest = self.put_blob(&json::canonical(&document))?;
        self.run(|inner| {
            let _window = inner.window()?;
            let mut listed = Vec::new();
            for NewMember { image, .. } in members {
                if !file::exists(&inner.layout.image(&image.id))? {
                    return Err(StoreError::ImageMissing(image.id));
                }
                inner.pin_own(Pin::Image(image.id))?;
                // The image may get other annotations, and with them another manifest.
                if !file::exists(&inner.layout.blob(&image.manifest))? {
                    let missing = "its manifest".to_owned();
                    return Err(StoreError::ImageIncomplete { image: image.id, missing });
                }
                inner.pin_own(Pin::Blob(image.manifest))?;
                listed.push(RecordMember { manifest: image.manifest, image: image.id });
            }
            let path = inner.layout.index(&digest);
            let is_there = matches!(inner.index_record(&digest), Ok(Some(_)));
            if !is_there {
                match inner.fs().create_dir(&inner.layout.folder(FOLDER), 0o700) {
                    Err(error) if error.is_already_exists() => {}
                    created => {
                        created?;
                        inner.fs().sync_dir(&inner.layout.root)?;
                    }
                }
                let stored_at = inner.now();
                let record = Record { version: INDEX_VERSION, digest, members: listed, stored_at };
                inner.put_json(&path, &record, Durability::Durable)?;
            }
            inner.index(&digest)?.ok_or(StoreError::IndexMissing(digest))
        })
    }

    /// Returns an index; `None` if it is not there. Its images may be incomplete.
    pub fn index(&self, digest: &Digest) -> Result<Option<ImageIndex>, StoreError> {
        self.run(|inner| inner.index(digest))
    }

    /// Returns all indexes that can be read, the newest first.
    pub fn indexes(&self) -> Result<Vec<ImageIndex>, StoreError> {
        self.run(|inner| {
            let mut indexes = Vec::new();
            for digest in inner.index_names()? {
                match inner.index(&digest) {
                    Ok(index) => indexes.extend(index),
                    // What a power failure tore apart is told by fsck and removed by collection.
                    Err(StoreError::IndexIncomplete { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            indexes.sort_by(|a, b| (b.stored_at, a.digest).cmp(&(a.stored_at, b.digest)));
            Ok(indexes)
        })
    }

    /// Returns the image of an index for a platform.
    pub fn index_image(
        &self,
        index: &ImageIndex,
        platform: &Platform,
    ) -> Result<Image, StoreError> {
        self.run(|inner| inner.index_image(index, platform))
    }

    /// Returns true if an index has this image.
    pub fn is_in_index(&self, image: &ImageId) -> Result<bool, StoreError> {
        self.run(|inner| Ok(inner.index_with(image)?.is_some()))
    }

    /// Returns an image of an index as it is there.
    pub fn member_image(&self, member: &Member) -> Result<Image, StoreError> {
        self.run(|inner| inner.member_image(member))
    }

    /// Removes an index that has no name, and those of its images that nothing else names. Returns
    /// these.
    pub fn remove_index(&self, digest: &Digest) -> Result<Vec<ImageId>, StoreError> {
        self.run(|inner| {
            let _window = inner.window()?;
            let names: Vec<String> = inner
                .references()?
                .iter()
                .filter(|tagged| tagged.target == TagTarget::Index(*digest))
                .map(|tagged| format!("`{}`", tagged.reference.familiar()))
                .collect();
            if !names.is_empty() {
                return Err(StoreError::IndexTagged { index: *digest, names: names.join(", ") });
            }
            let members = inner.index_record(digest)?.map(|record| record.members);
            let path = inner.layout.index(digest);
            if inner.remove_record(&path)? {
                inner.fs().sync_dir(crate::write::parent(&path))?;
            }
            let needed = inner.named_images()?;
            let mut removed = Vec::new();
            let ids: BTreeSet<ImageId> =
                members.unwrap_or_default().iter().map(|member| member.image).collect();
            for id in ids {
                if !needed.contains(&id) && inner.remove_record(&inner.layout.image(&id))? {
                    removed.push(id);
                }
            }
            inner.fs().sync_dir(&inner.layout.folder("images"))?;
            Ok(removed)
        })
    }

    /// Gives an image a name beside the images of other platforms that have it.
    ///
    /// A name of one image stands for that image; with a second platform it stands for an index of
    /// both. The image of the same platform is replaced. The order is that of the platforms, so that
    /// it does not matter which came first.
    pub fn tag_platform(
        &self,
        reference: &Reference,
        image: &Image,
    ) -> Result<TagTarget, StoreError> {
        let platform = image.config.platform();
        let mut members: BTreeMap<Platform, NewMember> = BTreeMap::new();
        let mut annotations = BTreeMap::new();
        match self.tagged(reference)? {
            // What is incomplete is not kept: it would have to be made again anyhow.
            Some(TagTarget::Image(id)) => match self.image(&id) {
                Ok(Some(old)) => {
                    let annotations = BTreeMap::new();
                    members.insert(old.config.platform(), NewMember { image: old, annotations });
                }
                Ok(None) | Err(StoreError::ImageIncomplete { .. }) => {}
                Err(error) => return Err(error),
            },
            Some(TagTarget::Index(digest)) => {
                if let Some(index) = self.index(&digest)? {
                    annotations.clone_from(&index.annotations);
                    for member in &index.members {
                        match self.run(|inner| inner.member_image(member)) {
                            Ok(old) => {
                                let annotations = member.descriptor.annotations.clone();
                                let of = old.config.platform();
                                members.insert(of, NewMember { image: old, annotations });
                            }
                            Err(
                                StoreError::ImageIncomplete { .. } | StoreError::ImageMissing(_),
                            ) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
            None => {}
        }
        members.insert(platform, NewMember { image: image.clone(), annotations: BTreeMap::new() });
        let members: Vec<NewMember> = members.into_values().collect();
        let target = if members.len() == 1 {
            TagTarget::Image(image.id)
        } else {
            TagTarget::Index(self.put_index(&members, &annotations)?.digest)
        };
        if self.tagged(reference)? != Some(target) {
            self.tag(reference, target)?;
        }
        Ok(target)
    }
}

impl Inner {
    pub(crate) fn index_record(&self, digest: &Digest) -> Result<Option<Record>, StoreError> {
        let record = read_json::<Record>(&self.layout.index(digest))?;
        Ok(record.filter(|record| record.version == INDEX_VERSION && record.digest == *digest))
    }

    pub(crate) fn index(&self, digest: &Digest) -> Result<Option<ImageIndex>, StoreError> {
        let Some(record) = self.index_record(digest)? else { return Ok(None) };
        let incomplete = |missing: &str| StoreError::IndexIncomplete {
            index: *digest,
            missing: missing.to_owned(),
        };
        let bytes = self.read_blob(digest, limits::MANIFEST_BYTES_MAX)?;
        let bytes = bytes.ok_or_else(|| incomplete("its document"))?;
        let document = Index::parse(&bytes)
            .map_err(|source| StoreError::Document { digest: *digest, source })?;
        if document.manifests.len() != record.members.len() {
            return Err(incomplete("an image"));
        }
        let members = document.manifests.into_iter().zip(&record.members);
        let members = members
            .map(|(descriptor, member)| Member { descriptor, image: member.image })
            .collect();
        Ok(Some(ImageIndex {
            digest: *digest,
            size: bytes.len() as u64,
            members,
            annotations: document.annotations,
            stored_at: record.stored_at,
        }))
    }

    pub(crate) fn index_image(
        self: &Arc<Self>,
        index: &ImageIndex,
        platform: &Platform,
    ) -> Result<Image, StoreError> {
        let missing = || StoreError::PlatformMissing {
            index: index.digest,
            wanted: Box::new(platform.clone()),
            present: index.platforms(),
        };
        self.member_image(index.select(platform).ok_or_else(missing)?)
    }

    /// The image with the manifest and annotations that it has in the index.
    pub(crate) fn member_image(self: &Arc<Self>, member: &Member) -> Result<Image, StoreError> {
        let image = self.image(&member.image)?.ok_or(StoreError::ImageMissing(member.image))?;
        let digest = member.descriptor.digest;
        if image.manifest == digest {
            return Ok(image);
        }
        let bytes = self.read_blob(&digest, limits::MANIFEST_BYTES_MAX)?;
        let missing = "the manifest of its index".to_owned();
        let bytes = bytes.ok_or(StoreError::ImageIncomplete { image: member.image, missing })?;
        let manifest =
            Manifest::parse(&bytes).map_err(|source| StoreError::Document { digest, source })?;
        Ok(Image { manifest: digest, annotations: manifest.annotations, ..image })
    }

    /// Returns the digests of all index records, sorted.
    pub(crate) fn index_names(&self) -> Result<Vec<Digest>, StoreError> {
        let names = file::absent_is_none(file::list_dir(&self.layout.folder(FOLDER)))?;
        let digest = |name: &std::ffi::OsString| {
            Digest::from_hex(name.to_str()?.strip_suffix(".json")?).ok()
        };
        Ok(names.unwrap_or_default().iter().filter_map(digest).collect())
    }

    /// An index that has an image.
    pub(crate) fn index_with(&self, image: &ImageId) -> Result<Option<Digest>, StoreError> {
        for digest in self.index_names()? {
            let record = self.index_record(&digest)?;
            if record.is_some_and(|r| r.members.iter().any(|member| member.image == *image)) {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// The images that a name or an index stands for.
    pub(crate) fn named_images(&self) -> Result<BTreeSet<ImageId>, StoreError> {
        let mut needed = BTreeSet::new();
        for tagged in self.references()? {
            if let TagTarget::Image(id) = tagged.target {
                needed.insert(id);
            }
        }
        for digest in self.index_names()? {
            let members = self.index_record(&digest)?.map(|record| record.members);
            needed.extend(members.unwrap_or_default().iter().map(|member| member.image));
        }
        Ok(needed)
    }
}
