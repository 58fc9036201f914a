//! What can go wrong in the store.

use std::path::PathBuf;

use corten_oci::digest::{DiffId, Digest, ImageId};
use corten_oci::image::ParseError;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_oci::tar::TarError;
use corten_oci::tree::{PathError, TreePath};
use corten_sys::error::IoError;

/// A failure of the store; the variant tells what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused something.
    #[error("an operation on the file system failed")]
    Io(#[from] IoError),
    /// The operating system refused something, in this store.
    #[error("failed to use the store at `{}`", root.display())]
    Unusable {
        /// The store.
        root: PathBuf,
        /// The operation.
        #[source]
        source: IoError,
    },
    /// The disk or the quota is full.
    #[error("no space is left for the store at `{}`", root.display())]
    NoSpace {
        /// The store.
        root: PathBuf,
        /// The operation.
        #[source]
        source: IoError,
    },
    /// The rights do not suffice.
    #[error("the store at `{}` may not be changed by this user", root.display())]
    PermissionDenied {
        /// The store.
        root: PathBuf,
        /// The operation.
        #[source]
        source: IoError,
    },
    /// The directory belongs to another user.
    #[error("the store at `{}` belongs to user {owner}, and this is user {user}", root.display())]
    Owner {
        /// The store.
        root: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The directory has other things in it.
    #[error("`{}` is no store: it holds `{found}` and no `FORMAT`", root.display())]
    NotAStore {
        /// The directory.
        root: PathBuf,
        /// One of the things.
        found: String,
    },
    /// A later version wrote the store.
    #[error("the store at `{}` has {what}, which this version does not know", root.display())]
    Format {
        /// The store.
        root: PathBuf,
        /// The version or feature.
        what: String,
    },
    /// A later version wrote the store in a way that allows reading only.
    #[error("the store at `{}` can only be read by this version: it has {what}", root.display())]
    ReadOnly {
        /// The store.
        root: PathBuf,
        /// The feature.
        what: String,
    },
    /// Another process holds the lock for too long.
    #[error("the store at `{}` is busy: other processes hold its lock", root.display())]
    Busy {
        /// The store.
        root: PathBuf,
    },
    /// A record is damaged.
    #[error("the record `{}` is damaged", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The place in it.
        #[source]
        source: serde_json::Error,
    },
    /// A configuration or a manifest is damaged.
    #[error("the blob `{digest}` is damaged")]
    Document {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A stored blob does not have its digest.
    #[error("the blob `{expected}` is damaged: its content has the digest `{found}`")]
    BlobDamaged {
        /// The name of the blob.
        expected: Digest,
        /// The digest of its content.
        found: Digest,
    },
    /// What came does not have the digest that was asked for.
    #[error("the content has the digest `{found}`, expected `{expected}`")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// What came is larger than allowed.
    #[error("the content is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Reading the source of content failed.
    #[error("failed to read the content")]
    Source(#[source] std::io::Error),
    /// Writing to the caller's writer failed.
    #[error("failed to write the content")]
    Sink(#[source] std::io::Error),
    /// A layer tar cannot be read or written.
    #[error("failed to process the tar of a layer")]
    Tar(#[from] TarError),
    /// A path is not one.
    #[error("the layer has an invalid path")]
    Path(#[from] PathError),
    /// An entry would land outside of its layer or goes through too many links.
    #[error("the layer has the entry `{path}`, which leads out of the layer")]
    Escape {
        /// The entry.
        path: TreePath,
        /// What the kernel said.
        #[source]
        source: IoError,
    },
    /// An entry is below something that is no directory.
    #[error("the layer has the entry `{path}` below something that is no directory")]
    NotInDirectory {
        /// The entry.
        path: TreePath,
    },
    /// A hard link leads to nothing in the layer.
    #[error("the layer has the hard link `{path}` to `{target}`, which is no file in it")]
    LinkTarget {
        /// The link.
        path: TreePath,
        /// Where it points.
        target: String,
    },
    /// A device node cannot be made in a user namespace.
    #[error("the layer has the device node `{path}`, which cannot be made without root")]
    DeviceNode {
        /// The entry.
        path: TreePath,
    },
    /// A layer is beyond a limit.
    #[error("the layer is beyond a limit: {what}")]
    LayerLimit {
        /// What is too much.
        what: &'static str,
    },
    /// Overlayfs left a mark that says a file is only partly in this layer.
    #[error("`{path}` in the layer has the overlay feature `{feature}`, which would lose content")]
    OverlayFeature {
        /// The file.
        path: TreePath,
        /// The feature.
        feature: String,
    },
    /// A layer is not in the store.
    #[error("the layer `{0}` is not in the store")]
    LayerMissing(DiffId),
    /// An image is not in the store.
    #[error("the image `{0}` is not in the store")]
    ImageMissing(ImageId),
    /// Parts of an image are not in the store.
    #[error("the image `{image}` is incomplete: {missing} is missing")]
    ImageIncomplete {
        /// The image.
        image: ImageId,
        /// What is missing.
        missing: String,
    },
    /// The configuration does not list the layers that the image has.
    #[error("the configuration lists {config} layers, but the image has {layers}, or others")]
    LayersDiffer {
        /// In the configuration.
        config: usize,
        /// In the image.
        layers: usize,
    },
    /// A name cannot be removed or resolved since it does not exist.
    #[error("there is no image named `{0}`")]
    ReferenceMissing(Reference),
    /// The start of an image id fits several images.
    #[error("`{prefix}` is the start of the ids of {count} images")]
    AmbiguousId {
        /// What was given.
        prefix: String,
        /// How many fit.
        count: usize,
    },
    /// An image still has names.
    #[error("the image `{image}` is still named {names}")]
    ImageTagged {
        /// The image.
        image: ImageId,
        /// Its names.
        names: String,
    },
    /// An index still has names.
    #[error("the index `{index}` is still named {names}")]
    IndexTagged {
        /// The index.
        index: Digest,
        /// Its names.
        names: String,
    },
    /// An image is part of an index.
    #[error("the image `{image}` is part of the index `{index}`")]
    ImageInIndex {
        /// The image.
        image: ImageId,
        /// The index.
        index: Digest,
    },
    /// An index is not in the store.
    #[error("the index `{0}` is not in the store")]
    IndexMissing(Digest),
    /// Something that an index needs is not in the store.
    #[error("the index `{index}` lacks {missing}")]
    IndexIncomplete {
        /// The index.
        index: Digest,
        /// What is missing.
        missing: String,
    },
    /// An index has no image for the platform.
    #[error("the image is not there for `{wanted}`, only for {present}")]
    PlatformMissing {
        /// The index.
        index: Digest,
        /// The platform.
        wanted: Box<Platform>,
        /// Those that it has.
        present: String,
    },
    /// A name for a cache or a hold has other characters than letters, digits, `-`, `_` and `.`.
    #[error("`{0}` is no valid name within the store")]
    Name(String),
    /// Another container has the name.
    #[error("the name `{name}` belongs to the container {}", id.get(..12).unwrap_or(id))]
    ContainerName {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// A container's name has other characters than letters, digits, `_`, `.` and `-`.
    #[error("`{name}` cannot be a container's name")]
    ContainerNameForm {
        /// What was given.
        name: String,
    },
    /// A container that runs cannot be removed.
    #[error("the container {} is running", id.get(..12).unwrap_or(id))]
    ContainerRuns {
        /// The container.
        id: String,
    },
    /// A volume cannot have this name.
    #[error("`{name}` cannot be the name of a volume")]
    VolumeNameForm {
        /// The name.
        name: String,
    },
    /// A volume that a container has cannot be removed.
    #[error("the volume `{name}` belongs to the container `{container}`")]
    VolumeInUse {
        /// The volume.
        name: String,
        /// One of its containers.
        container: String,
    },
    /// A network cannot have this name.
    #[error("`{name}` cannot be the name of a network")]
    NetworkNameForm {
        /// The name.
        name: String,
    },
    /// A network that containers are made for cannot be removed.
    #[error("the network `{name}` has containers: {}", .containers.join(", "))]
    NetworkInUse {
        /// The network.
        name: String,
        /// All of its containers.
        containers: Vec<String>,
    },
    /// There is no such container, or not any more.
    #[error("there is no container {}", id.get(..12).unwrap_or(id))]
    ContainerMissing {
        /// The container.
        id: String,
    },
    /// What shall be loaded is no tar.
    #[error("the archive cannot be read as a tar")]
    ArchiveTar(#[source] TarError),
    /// An archive is none of the kinds that can be loaded.
    #[error("the archive is invalid: {reason}")]
    Archive {
        /// Why.
        reason: String,
    },
    /// A document in an archive cannot be parsed.
    #[error("the archive has an invalid `{name}`")]
    ArchiveDocument {
        /// The file in the archive.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest, an index or a configuration in an archive cannot be parsed.
    #[error("the archive has an invalid document `{name}`")]
    ArchiveImage {
        /// The file or digest.
        name: String,
        /// What is wrong.
        #[source]
        source: ParseError,
    },
    /// An archive has no image for the platform.
    #[error("the archive has no image for `{platform}`")]
    ArchivePlatform {
        /// The platform.
        platform: String,
    },
}

impl StoreError {
    /// Gives an I/O error the variant that has a hint of its own.
    pub(crate) fn classify(self, root: &std::path::Path) -> Self {
        match self {
            Self::Io(source) if source.is_no_space() => {
                Self::NoSpace { root: root.to_owned(), source }
            }
            Self::Io(source) if source.is_permission_denied() => {
                Self::PermissionDenied { root: root.to_owned(), source }
            }
            Self::Io(source) => Self::Unusable { root: root.to_owned(), source },
            other => other,
        }
    }

    /// Returns what the user can do, if there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSpace { root, .. } => format!(
                "free space on the disk of `{}`, or run `corten system prune`",
                root.display()
            ),
            Self::PermissionDenied { root, .. } => format!(
                "check who owns `{}`, or choose another store with `--root DIR`",
                root.display()
            ),
            Self::Unusable { .. } => {
                "look at the disk, or choose another directory with `--root DIR`".to_owned()
            }
            Self::Archive { .. } | Self::ArchiveTar(_) => {
                "load what `corten save`, `docker save` or skopeo wrote".to_owned()
            }
            Self::Owner { .. } => {
                "run as the user who owns it, or choose another store with `--root DIR`".to_owned()
            }
            Self::NotAStore { .. } => {
                "choose an empty directory or an existing store with `--root DIR`".to_owned()
            }
            Self::Format { .. } | Self::ReadOnly { .. } => {
                "use the version of Corten that wrote it, or a newer one".to_owned()
            }
            Self::Busy { .. } => "try again when the other `corten` processes are done".to_owned(),
            Self::Record { .. } | Self::Document { .. } | Self::BlobDamaged { .. } => {
                "run `corten system fsck --repair`".to_owned()
            }
            Self::ImageIncomplete { .. } | Self::IndexIncomplete { .. } | Self::LayerMissing(_) => {
                "pull or build the image again".to_owned()
            }
            Self::DeviceNode { .. } => "run as root to use this image".to_owned(),
            Self::AmbiguousId { .. } => "give more digits of the id".to_owned(),
            Self::ContainerName { name, .. } => {
                format!("remove that one with `corten rm {name}`, or choose another name")
            }
            Self::ContainerNameForm { .. } => {
                "use letters, digits, `_`, `.` and `-`, a letter or digit first".to_owned()
            }
            Self::ContainerRuns { .. } => "end its program, or use `corten rm --force`".to_owned(),
            Self::VolumeNameForm { .. } => {
                "use letters, digits, `_`, `.` and `-`; a path begins with `/` or `./`".to_owned()
            }
            Self::VolumeInUse { container, .. } => {
                format!("remove the container first: `corten rm {container}`")
            }
            Self::NetworkNameForm { .. } => "use letters, digits, `_`, `.` and `-`".to_owned(),
            Self::NetworkInUse { name, containers } => {
                let container = containers.first().map(String::as_str).unwrap_or_default();
                format!(
                    "take them off it: `corten network disconnect {name} {container}`, or remove \
                     them: `corten rm {container}`"
                )
            }
            Self::ContainerMissing { .. } => "`corten ps --all` lists them".to_owned(),
            Self::ImageTagged { .. } | Self::IndexTagged { .. } => {
                "remove its names first".to_owned()
            }
            Self::ImageInIndex { .. } => "remove the index: `corten rmi INDEX`".to_owned(),
            Self::PlatformMissing { .. } => {
                "choose one of them with `--platform`, or build or load it for this one".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }
}
