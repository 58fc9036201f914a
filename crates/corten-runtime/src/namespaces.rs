//! Which namespaces a container has: its own, the caller's, or those of others.

use std::path::PathBuf;

use corten_sys::userns::IdRange;
use serde::{Deserialize, Serialize};

/// Where a namespace of a container comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// A new one, of the container's own.
    #[default]
    New,
    /// The caller's.
    Host,
    /// The one behind a file such as `/proc/PID/ns/net`.
    Join(PathBuf),
    /// That of the container with this ID. Whoever runs it finds the file first.
    Container(String),
}

impl Namespace {
    /// Returns true if it is made for the container.
    pub fn is_new(&self) -> bool {
        *self == Self::New
    }

    /// Returns true if it is somebody else's, other than the caller's.
    pub fn is_joined(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Container(_))
    }
}

/// The namespaces of a container. Mounts are always its own; users have a type of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    pub pid: Namespace,
    pub ipc: Namespace,
    /// In one of others, the host name is theirs.
    pub uts: Namespace,
    /// In one of others, nothing is attached and nothing is set up.
    pub network: Namespace,
    pub cgroup: Namespace,
}

/// What is at `/dev/shm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedMemory {
    /// A file system of the container's own, which others may share.
    #[default]
    Shareable,
    /// A file system of the container's own, which nobody may share.
    Private,
    /// Nothing.
    None,
    /// The caller's.
    Host,
    /// That of the mount namespace behind a file such as `/proc/PID/ns/mnt`.
    Of(PathBuf),
}

/// Consecutive ids: `count` of them from `inside`, seen by the caller from `outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl From<IdMapping> for IdRange {
    fn from(mapping: IdMapping) -> Self {
        let IdMapping { inside, outside, count } = mapping;
        Self { first: inside, outside, count }
    }
}

impl From<IdRange> for IdMapping {
    fn from(range: IdRange) -> Self {
        Self { inside: range.first, outside: range.outside, count: range.count }
    }
}

/// Whose ids the container's ids are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespace {
    /// A user namespace of the container's own, wherever the host can do it.
    Auto,
    /// The caller's: root in the container is the caller's root, with fewer capabilities.
    Host,
    /// One of the container's own with these ids.
    Maps { users: Vec<IdMapping>, groups: Vec<IdMapping> },
    /// The one behind a file such as `/proc/PID/ns/user`, and the ids that it has.
    Join { path: PathBuf, users: Vec<IdMapping>, groups: Vec<IdMapping> },
    /// That of the container with this ID. Whoever runs it finds the file first.
    Container(String),
}

/// How mounts go back and forth between a mount and its copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// The host's reach the container.
    Slave,
    /// Both ways.
    Shared,
    /// Neither way, and nobody may copy it.
    Unbindable,
}

impl Propagation {
    /// Reads `private`, `rslave` and so on: the kind, and whether it holds for the mounts below.
    pub fn parse(text: &str) -> Option<(Self, bool)> {
        let (name, recursive) = match text.strip_prefix('r') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let kind = match name {
            "private" => Self::Private,
            "slave" => Self::Slave,
            "shared" => Self::Shared,
            "unbindable" => Self::Unbindable,
            _ => return None,
        };
        Some((kind, recursive))
    }
}

impl std::fmt::Display for Propagation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Slave => "slave",
            Self::Shared => "shared",
            Self::Unbindable => "unbindable",
        })
    }
}

impl From<Propagation> for corten_sys::mount::Propagation {
    fn from(propagation: Propagation) -> Self {
        match propagation {
            Propagation::Private => Self::Private,
            Propagation::Slave => Self::Slave,
            Propagation::Shared => Self::Shared,
            Propagation::Unbindable => Self::Unbindable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_propagation_have_a_form_for_all_below() {
        assert_eq!(Propagation::parse("private"), Some((Propagation::Private, false)));
        assert_eq!(Propagation::parse("rslave"), Some((Propagation::Slave, true)));
        assert_eq!(Propagation::parse("rshared"), Some((Propagation::Shared, true)));
        assert_eq!(Propagation::parse("runbindable"), Some((Propagation::Unbindable, true)));
        for text in ["", "r", "rr", "shared,", "rrprivate"] {
            assert_eq!(Propagation::parse(text), None, "{text}");
        }
    }
}
