//! What steps made, and cache mounts, carried from one machine to another.
//!
//! A cache is an OCI artifact: a manifest whose configuration is a [`record::Document`] and whose
//! layers are the layers of steps and the pieces of cache mounts. It lies in an OCI layout in a
//! directory or in a registry; an image can have the records of its own layers in an annotation.
//!
//! Invariants:
//! - A build never fails because of a cache that it imports. What is missing, torn, foreign or newer
//!   is told once and is then a miss.
//! - A record is only believed with its layer: the layer is hashed while it is unpacked, and appears
//!   in the store under the digest that it really has. So a cache that lies about keys is worth what
//!   its author is, and one that lies about content is refused.
//! - A layer or a mount is fetched when a step asks for it and not before.
//! - Blobs are written before the documents that name them, and removed after them.

mod export;
mod import;
mod layout;
mod mounts;
mod pieces;
mod place;
mod record;
mod registry;
mod spec;

#[cfg(test)]
mod tests;

pub use export::{Export, Exported, export, inline_annotation};
pub use import::Imports;
pub use place::CacheError;
pub use spec::{CacheFrom, CacheSpecError, CacheTo, ExportPlace, ImportPlace, Mode, MountChoice};

pub(crate) use export::{remember, remembered};
pub use mounts::MountUse;
pub(crate) use mounts::{is_vacant, mounts_of};
pub(crate) use record::{Blob, Cache, layer_type, parse_inline};

/// A step that the build did or knew, as a cache records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownStep {
    pub key: corten_store::CacheKey,
    pub layer: corten_oci::digest::DiffId,
    /// Whether the step is one of the target, or of a stage that it is made from.
    pub of_target: bool,
}
