//! What was fetched, as a value.

use std::collections::BTreeMap;
use std::fmt;

use corten_oci::digest::Digest;
use serde::{Deserialize, Serialize};

/// What a request is known by. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// As [`crate::recorded_url`] writes it.
    pub url: String,
    /// `GET`, `HEAD`, `POST` and so on.
    pub method: String,
    /// The digest of the request's body, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Digest>,
    /// The forms that were asked for, if the server says that its answer depends on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
}

/// An answer that a step got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    #[serde(flatten)]
    pub key: RequestKey,
    /// The status of HTTP.
    pub status: u16,
    /// Those headers that matter for who gets the answer, by their name in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The digest of the body as it was transferred.
    pub sha256: Digest,
    pub size_bytes: u64,
    #[serde(flatten)]
    pub class: Class,
}

/// What an answer is to a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "lowercase")]
pub enum Class {
    /// Something whose content becomes part of what is built: it must be as the lock says.
    Artifact(Artifact),
    /// Something that tells what there is, such as a list of packages; also redirections and the
    /// answer that there is nothing.
    Index {
        /// The program that asked, if it is known.
        tool: String,
    },
}

/// A package, a file, the objects of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The program that asked: `apt`, `pip`, `curl`; `unknown` if it does not say.
    pub tool: String,
    pub kind: Kind,
    /// The name of the package, of the repository, of the file.
    pub name: String,
    /// The version, or the commits that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The kinds of artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Deb,
    Wheel,
    Sdist,
    Npm,
    Conda,
    Crate,
    Go,
    Git,
    File,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Deb,
        Self::Wheel,
        Self::Sdist,
        Self::Npm,
        Self::Conda,
        Self::Crate,
        Self::Go,
        Self::Git,
        Self::File,
    ];

    /// The word for it in a lock file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Wheel => "wheel",
            Self::Sdist => "sdist",
            Self::Npm => "npm",
            Self::Conda => "conda",
            Self::Crate => "crate",
            Self::Go => "go",
            Self::Git => "git",
            Self::File => "file",
        }
    }

    /// Whether it is a package, which has a name and versions, and not just a file.
    pub const fn is_package(self) -> bool {
        !matches!(self, Self::File | Self::Git)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Fetched {
    /// The artifact that it is, if it is one.
    pub const fn artifact(&self) -> Option<&Artifact> {
        match &self.class {
            Class::Artifact(artifact) => Some(artifact),
            Class::Index { .. } => None,
        }
    }

    /// The program that asked.
    pub fn tool(&self) -> &str {
        match &self.class {
            Class::Artifact(artifact) => &artifact.tool,
            Class::Index { tool } => tool,
        }
    }

    /// Whether another answer may stand for this one. The objects of a repository come packed as the
    /// server likes; the commits that were asked for are digests of what is in them.
    pub fn is_as_good_as(&self, locked: &Self) -> bool {
        match (self.artifact(), locked.artifact()) {
            (None, _) => true,
            (Some(own), Some(other)) if own.kind == Kind::Git && other.kind == Kind::Git => {
                own.version == other.version
            }
            (Some(_), _) => self.sha256 == locked.sha256 && self.status == locked.status,
        }
    }
}
