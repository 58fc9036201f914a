//! Images in files: OCI layouts and Docker archives, written and read.
//!
//! What is written is deterministic: the same images give the same bytes. What is read may come from
//! anyone: every document and blob is checked against its digest and its limit, a layer must have
//! the `DiffID` that the configuration states, and nothing is stored for an image until all of it
//! was good.

mod bundle;
mod files;
mod layer;
mod load;
mod save;

pub use bundle::{Bundle, BundleImage, BundleIndex, Compression, Form, Prepared, prepare};
pub use files::decompress;
pub use layer::{PackedLayer, import_layer, read_layer, write_layer};
pub use load::{LoadOptions, Loaded, load, load_directory, load_one};
pub use save::{Named, save_docker, save_oci};

use corten_oci::digest::Digest;
use serde::{Deserialize, Serialize};

/// The annotation with the tag, in an index.
const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation with the full name, in an index; containerd's and Docker's.
const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";

/// The file that says that a directory is an OCI layout.
const OCI_LAYOUT: &str = "oci-layout";

/// The list of images of an OCI layout.
const OCI_INDEX: &str = "index.json";

/// The list of images of a Docker archive.
const DOCKER_MANIFEST: &str = "manifest.json";

/// The content of `oci-layout`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciLayout {
    image_layout_version: String,
}

/// One image of a Docker archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// Where a blob lies in an OCI layout.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
