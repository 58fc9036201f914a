//! Why a golden base could not be built, and what to do about it.

use std::io;

use corten_oci::digest::{DiffId, Digest};
use corten_oci::tar::TarError;
use corten_store::StoreError;

use crate::effects::EffectError;
use crate::fetch::FetchError;
use crate::lock::LockError;
use crate::release::ReleaseError;
use crate::resolve::ResolveError;
use crate::rootfs::RootfsError;
use crate::scripts::Uncovered;
use crate::transport::TransportError;
use crate::unpack::UnpackError;

/// A golden base that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// It is not known where Debian packages can be fetched from.
    #[error("no Debian mirror is known")]
    NoMirror,
    /// It is not known where security updates can be fetched from.
    #[error("no mirror is known for the security updates in `{suite}`")]
    NoSecurityMirror {
        /// The suite.
        suite: String,
    },
    /// The recipe is not for this architecture.
    #[error("the golden base `{recipe}` cannot be built for `{architecture}`")]
    Architecture {
        /// The recipe.
        recipe: String,
        /// What was asked for.
        architecture: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A signed index must not be used.
    #[error("`{url}` cannot be trusted")]
    Release {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: ReleaseError,
    },
    /// A suite has no packages for the architecture.
    #[error("`{suite}` has no index of `{component}` for `{architecture}`")]
    NoIndex {
        /// The suite.
        suite: String,
        /// The component.
        component: String,
        /// The architecture.
        architecture: String,
    },
    /// An index is damaged.
    #[error("failed to read the package index `{path}`")]
    Index {
        /// The path below the suite.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A package in an index is not described as it must be.
    #[error("the index describes `{package}` without a usable `{field}`")]
    Description {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
    },
    /// The packages do not fit together.
    #[error("failed to choose the packages of `{recipe}`")]
    Resolve {
        /// The recipe.
        recipe: String,
        /// Why.
        #[source]
        source: Box<ResolveError>,
    },
    /// A package could not be unpacked.
    #[error("failed to unpack the package `{package}`")]
    Unpack {
        /// The package with its version.
        package: String,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// A package in the store is not what it was.
    #[error("the package `{package}` in the store is damaged: its digest is {found}")]
    Damaged {
        /// The package with its version.
        package: String,
        /// What it is now.
        found: Digest,
    },
    /// The packages could not be merged.
    #[error("failed to merge the packages")]
    Merge(#[from] RootfsError),
    /// An effect could not be had.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// Scripts are not covered, and that was asked to be an error.
    #[error("{} not covered by the effects: {}", count(scripts), list(scripts))]
    Uncovered {
        /// The scripts.
        scripts: Vec<Uncovered>,
    },
    /// The layer could not be written.
    #[error("failed to write the layer")]
    Layer(#[source] TarError),
    /// The store did not take or give something.
    #[error("failed to keep {what} in the store")]
    Store {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The lock cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The same pins gave other bits.
    #[error("the lock gives the layer {found}, but it says {expected}")]
    NotReproduced {
        /// What the lock says.
        expected: DiffId,
        /// What was built.
        found: DiffId,
    },
}

fn count(scripts: &[Uncovered]) -> String {
    if scripts.len() == 1 {
        "1 maintainer script is".to_owned()
    } else {
        format!("{} maintainer scripts are", scripts.len())
    }
}

fn list(scripts: &[Uncovered]) -> String {
    let names: Vec<String> =
        scripts.iter().map(|script| format!("`{}` of {}", script.script, script.package)).collect();
    names.join(", ")
}

impl BaseError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoMirror => {
                "this host has no Debian sources: pass `--mirror URL`, or set `mirror` under `[base]` in corten.toml"
            }
            Self::NoSecurityMirror { .. } => {
                "pass `--security-mirror URL` as well, or set `security-mirror` under `[base]` in corten.toml"
            }
            Self::Architecture { known, .. } => {
                return Some(format!("it can be built for {}", known.join(" and ")));
            }
            Self::Fetch(error) => return fetch_hint(error),
            Self::Release { source, .. } => return Some(release_hint(source)),
            Self::NoIndex { .. } => {
                "choose another architecture, or a mirror that carries this one"
            }
            Self::Resolve { .. } => {
                "check the names in the recipe; if the mirror is being updated, try again in some minutes"
            }
            Self::Damaged { .. } => "run `corten system fsck --repair` and build again",
            Self::Uncovered { .. } => {
                "leave these packages out of the recipe, or do not ask for a strict build: the scripts are then named in warnings"
            }
            Self::Store { source, .. } => return source.hint(),
            Self::NotReproduced { .. } => {
                "the packages are the same, so this version of corten assembles them in another way; build without the lock to make a new one"
            }
            Self::Lock(LockError::Mismatch { .. }) => "build without the lock to make a new one",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

fn fetch_hint(error: &FetchError) -> Option<String> {
    let text = match error {
        FetchError::Offline { .. } => "build once with network; after that the store has it",
        FetchError::NoMirror { .. } => return BaseError::NoMirror.hint(),
        FetchError::Transport { source: TransportError::NotFound { url }, .. }
            if url.ends_with("/InRelease") =>
        {
            "check the address of the mirror: it must be the root of a Debian archive, the folder that `dists` is in"
        }
        FetchError::Transport { source: TransportError::NotFound { .. }, .. } => {
            "mirrors keep only the newest versions: try again if this one is being updated, or build without the lock if there is one"
        }
        FetchError::Transport { .. } => {
            "check the mirror's address and the proxy; a proxy that re-signs TLS needs its CA in the host's certificates or in SSL_CERT_FILE"
        }
        FetchError::Content { .. } => {
            "the mirror or a cache on the way is out of step: try again in some minutes"
        }
        FetchError::TooLarge { .. } => "check the address of the mirror",
        FetchError::Store { source, .. } => return source.hint(),
    };
    Some(text.to_owned())
}

fn release_hint(error: &ReleaseError) -> String {
    let text = match error {
        ReleaseError::Signature(_) => {
            "the mirror is not Debian's, something on the way answered in its place, or its keys are newer than this program: pass `--keyring FILE` with the keys to trust"
        }
        ReleaseError::Expired { .. } => {
            "the mirror is not updated any more: choose another, or pass `--allow-expired-index`, which the lock will record"
        }
        ReleaseError::FromTheFuture { .. } => "set the clock of this host",
        ReleaseError::WrongSuite { .. } | ReleaseError::Field(_) => {
            "check the address of the mirror"
        }
    };
    text.to_owned()
}
