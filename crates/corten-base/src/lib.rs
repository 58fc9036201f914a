//! Golden base images from signed Debian packages.
#![forbid(unsafe_code)]

mod ar;
mod build;
mod deb;
mod deb822;
mod effects;
mod error;
mod fetch;
mod filter;
mod keyring;
pub mod lock;
mod packages;
pub mod recipe;
mod relation;
mod release;
mod resolve;
mod rootfs;
mod scripts;
pub mod sources;
mod spool;
mod suites;
#[cfg(test)]
mod tests;
pub mod transport;
mod unpack;
mod version;

pub use build::{BaseOptions, build};
pub use effects::EffectError;
pub use error::BaseError;
pub use fetch::FetchError;
pub use keyring::{Keyring, KeyringError, SignatureError};
pub use lock::{Lock, LockError};
pub use recipe::{Recipe, RecipeError};
pub use release::ReleaseError;
pub use resolve::ResolveError;
pub use scripts::Uncovered;
pub use sources::{Mirrors, SourcesError};
pub use transport::{Answer, HttpTransport, Transport, TransportError};
