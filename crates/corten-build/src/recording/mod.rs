//! What a build was made of: recorded, written to a lock, compared with it.
//!
//! [`Materials`] is the one form of it: what `corten lock` writes, what a build with
//! [`Recording`] returns in [`crate::Target::materials`], and what provenance can list.

mod lockfile;
mod session;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_diag::Diagnostic;
use corten_oci::digest::Digest;
use corten_record::{Fetched, Kind, RequestKey};
use corten_runtime::Network;
use corten_store::Image;

use crate::error::{BuildError, Diagnosed};
use crate::graph::{Base, Graph, Op, RunMountKind, RunOp};

pub use lockfile::{LOCK_BYTES_MAX, LOCK_VERSION, LockError};
pub(crate) use session::{Session, payload, refused, sentence};

/// Whether what a build fetches is recorded.
#[derive(Debug, Clone, Default)]
pub enum Recording {
    /// `RUN` steps have a network as they wish; nothing of it is known.
    #[default]
    Off,
    /// Everything that is fetched is recorded.
    Record,
    /// What is fetched must be what the lock has; lists of packages may be newer.
    Locked(Arc<Lock>),
    /// Everything comes from the store, as the lock has it.
    Offline(Arc<Lock>),
}

impl Recording {
    /// The lock that holds, if there is one.
    pub fn lock(&self) -> Option<&Lock> {
        match self {
            Self::Locked(lock) | Self::Offline(lock) => Some(lock),
            Self::Off | Self::Record => None,
        }
    }

    /// Whether requests of steps are answered by us.
    pub const fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// A lock file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// As it is shown.
    pub name: String,
    pub materials: Materials,
}

/// Everything from elsewhere that a build was made of. The same build has the same list, in the same
/// order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Materials {
    /// What was built for: `linux/amd64`.
    pub platform: String,
    /// Base images, and images that files were taken from.
    pub bases: Vec<BaseMaterial>,
    /// What `ADD` and further contexts took from elsewhere.
    pub sources: Vec<SourceMaterial>,
    /// What `RUN` steps fetched.
    pub fetched: Vec<Fetched>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseMaterial {
    /// The full name, as the Dockerfile means it.
    pub reference: String,
    pub platform: String,
    /// The image's ID: the digest of its configuration, which names its layers.
    pub digest: Digest,
}

/// What an instruction took from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceMaterial {
    Http {
        url: String,
        sha256: Digest,
    },
    Git {
        url: String,
        /// The branch or tag as written.
        reference: Option<String>,
        commit: String,
    },
}

/// What materials come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub bases: usize,
    pub packages: usize,
    pub files: usize,
    pub indices: usize,
    /// Of packages and files.
    pub artifact_bytes: u64,
}

impl Materials {
    /// Puts everything into its order.
    pub(crate) fn sorted(mut self) -> Self {
        self.bases.sort();
        self.bases.dedup();
        self.sources.sort();
        self.sources.dedup();
        self.fetched.sort_by(|one, other| place_of(one).cmp(&place_of(other)));
        self
    }

    /// Counts.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { bases: self.bases.len(), ..Summary::default() };
        summary.files = self.sources.len();
        for fetched in &self.fetched {
            match fetched.artifact() {
                Some(artifact) => {
                    let is_package = artifact.kind.is_package();
                    summary.packages += usize::from(is_package);
                    summary.files += usize::from(!is_package);
                    summary.artifact_bytes += fetched.size_bytes;
                }
                None => summary.indices += 1,
            }
        }
        summary
    }
}

/// What materials are sorted by: artifacts by kind, name and version; then the rest by address.
type PlaceOf<'f> = (bool, Option<(Kind, &'f str, Option<&'f str>)>, &'f RequestKey);

fn place_of(fetched: &Fetched) -> PlaceOf<'_> {
    let artifact = fetched.artifact();
    let named = artifact
        .map(|artifact| (artifact.kind, artifact.name.as_str(), artifact.version.as_deref()));
    (artifact.is_none(), named, &fetched.key)
}

/// The images of a graph.
pub(crate) fn bases(graph: &Graph) -> Vec<BaseMaterial> {
    let bases = graph.stages.iter().filter_map(|stage| match &stage.base {
        Base::Image { reference, image: Some(image) } => Some(BaseMaterial {
            reference: reference.to_string(),
            platform: base_platform(image),
            digest: image.id.0,
        }),
        _ => None,
    });
    bases.collect()
}

/// The platform of a base as a lock has it.
fn base_platform(image: &Image) -> String {
    format!("{}/{}", image.config.os, image.config.architecture)
}

/// Refuses steps that can fetch something past the recorder, whether or not a cache has them: what
/// they take from elsewhere would be in the image and not in the list.
pub(crate) fn check_steps(graph: &Graph) -> Result<(), BuildError> {
    let mut failures = Vec::new();
    for step in graph.stages.iter().flat_map(|stage| &stage.steps) {
        let Op::Run(run) = &step.op else { continue };
        if let Some(diagnostic) = unrecorded(run) {
            let diagnostic = diagnostic.at(step.place.span);
            let diagnostic = crate::diagnose::in_place(diagnostic, &step.place);
            // Each platform has the step once.
            if !failures.contains(&diagnostic) {
                failures.push(diagnostic);
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Diagnosed::new(failures, Arc::clone(&graph.source)).into())
}

/// Why a step cannot be in a recorded build.
fn unrecorded(run: &RunOp) -> Option<Diagnostic> {
    if run.insecure {
        // It may join other network namespaces and open the host's devices.
        let message = "a step with all rights cannot be recorded: it can pass by the recorder";
        let hint = "leave out `--security=insecure`, or build without a lock";
        return Some(Diagnostic::error(message).with_hint(hint));
    }
    if run.network == Network::Host {
        let message = "the host's network cannot be recorded: it passes by the recorder";
        let hint = "leave out `--network=host`, or build without a lock; `--network=none` needs \
                    no record";
        return Some(Diagnostic::error(message).with_hint(hint));
    }
    let is_agent = |mount: &&crate::graph::RunMount| matches!(mount.kind, RunMountKind::Ssh { .. });
    run.mounts.iter().find(is_agent)?;
    let message = "a step with an ssh agent cannot be recorded: its answers are in no lock";
    let hint = "fetch over HTTPS, or with `ADD` from a git repository, or build without a lock";
    Some(Diagnostic::error(message).with_hint(hint))
}

/// Refuses images that a lock does not have, at the place where they are named.
pub(crate) fn check_bases(graph: &Graph, lock: &Lock) -> Result<(), BuildError> {
    // A name may stand for an image of each platform.
    let of = |base: &BaseMaterial| (base.reference.clone(), base.platform.clone());
    let wanted: BTreeMap<(String, String), &BaseMaterial> =
        lock.materials.bases.iter().map(|base| (of(base), base)).collect();
    let (mut failures, mut told) = (Vec::new(), BTreeSet::new());
    for stage in &graph.stages {
        let Base::Image { reference, image: Some(image) } = &stage.base else { continue };
        let found = image.id.0;
        let key = (reference.to_string(), base_platform(image));
        if !told.insert(key.clone()) {
            continue;
        }
        let diagnostic = match wanted.get(&key) {
            Some(locked) if locked.digest == found => continue,
            Some(locked) => Diagnostic::error(format!(
                "the base image `{}` is not the one that `{}` has",
                reference.familiar(),
                lock.name
            ))
            .with_note(format!("locked: {}", locked.digest))
            .with_note(format!("in the store: {found}"))
            .with_hint(
                "load or make the image that was locked, or accept the new one with `corten lock`",
            ),
            None => Diagnostic::error(format!(
                "the base image `{}` is not in `{}`",
                reference.familiar(),
                lock.name
            ))
            .with_hint("`corten lock` records it"),
        };
        failures.push(crate::diagnose::in_place(diagnostic.at(stage.place.span), &stage.place));
    }
    let platform = graph.platforms();
    if platform != lock.materials.platform {
        failures.push(
            Diagnostic::error(format!(
                "the build is for `{platform}`, and `{}` is for `{}`",
                lock.name, lock.materials.platform
            ))
            .with_hint("lock each platform with a file of its own: `corten lock --lock-file FILE`"),
        );
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Diagnosed::new(failures, Arc::clone(&graph.source)).into())
}
