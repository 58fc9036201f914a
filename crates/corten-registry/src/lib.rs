//! A client of the OCI distribution protocol, version 1.1: what pushing and pulling are made of.
//!
//! ```text
//! Client ── repository(&Reference) ──► Repository
//!    │                                   ├─ manifest, put_manifest          by tag or digest
//!    │                                   └─ has_blob, open_blob, put_blob   by digest, streaming
//!    ├─ Endpoint      where a registry is, and how far it is trusted
//!    ├─ Credentials   files and helpers of other programs, read and never written
//!    └─ HTTP          challenges, redirections, retries
//! ```
//!
//! What this crate is not: it keeps nothing, has no policy about images and reads no environment.
//! Calls block; a caller that wants several things at once uses threads, which share connections and
//! tokens.
//!
//! Invariants:
//! - What comes is hashed while it is read and has a limit before it is read.
//! - Passwords and tokens go to the registry that they are for, and to the token server that it names,
//!   over TLS unless the registry was said to be insecure. They are in no error, no debug text and no
//!   argument of a program, and a redirection to another host does not carry them.
//! - Only what can be repeated without harm is tried again.
#![forbid(unsafe_code)]

mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
pub mod fuzz;
mod http;
mod repository;

#[cfg(test)]
mod tests;

pub use client::{Client, ClientOptions};
pub use credentials::{CredentialError, CredentialFiles};
pub use endpoint::Endpoint;
pub use error::RegistryError;
pub use repository::{Document, Open, Repository};

/// The largest manifest or index, as other registries and clients have it.
pub const MANIFEST_BYTES_MAX: u64 = corten_oci::limits::MANIFEST_BYTES_MAX;
