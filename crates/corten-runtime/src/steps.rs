//! The steps of a plan: what the helper and the container's first process do, one after the other.
//!
//! A step carries everything that it needs; who walks it decides nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::namespaces::Propagation;
use crate::secret::SecretValue;
use crate::spec::RlimitKind;

/// What the helper process does, in the caller's namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelperPlan {
    /// `CLONE_NEW*` of the container.
    pub namespaces: u64,
    /// The container's ids, as the kernel takes them; `None` shares the caller's or joins others'.
    pub id_maps: Option<IdMaps>,
    /// Namespaces of others that the container is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<JoinStep>,
    /// Directories whose mounts are made while the container's process waits; the root first.
    pub root: RootStep,
    /// Files and directories of the host that the container will see, by position.
    pub sources: Vec<SourceStep>,
    /// Hard limits that only the caller may raise; the container's process lowers them again.
    pub raised_limits: Vec<RaisedLimit>,
    pub oom_score_adj: Option<i32>,
    /// What the container's first process does.
    pub container: Vec<Step>,
}

/// A namespace that is joined, by its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinStep {
    /// `CLONE_NEW*`.
    pub namespace: u64,
    pub path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RaisedLimit {
    pub resource: RlimitKind,
    pub hard: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdMaps {
    pub users: String,
    pub groups: String,
}

/// How the root file system comes about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "root")]
pub(crate) enum RootStep {
    Overlay(Overlay),
    /// One directory as it is.
    Directory {
        path: PathBuf,
        map_owners: bool,
    },
    /// That of a container that runs, whose namespaces (`CLONE_NEW*`) are joined.
    Joined {
        namespaces: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overlay {
    pub lowers: Vec<PathBuf>,
    pub upper: Upper,
    /// Shows the owners of the layers' files through the container's user namespace.
    pub map_owners: bool,
    /// The container's root as the caller sees it: overlayfs makes its files as this user.
    pub owner: u32,
    /// Flags without a value and options with one.
    pub options: Vec<(String, Option<String>)>,
    pub method: OverlayMethod,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "changes")]
pub(crate) enum Upper {
    Directory {
        upper: PathBuf,
        work: PathBuf,
    },
    /// A tmpfs.
    Memory,
}

/// How layers are named to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OverlayMethod {
    /// As descriptors of detached mounts (Linux 6.15).
    Descriptors,
    /// As paths in a mount namespace of the helper's own.
    Paths,
}

/// Something of the host for the container, made detached by the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceStep {
    pub path: PathBuf,
    #[serde(default)]
    pub from: SourceFrom,
    pub recursive: bool,
    pub map_owners: bool,
    pub attributes: MountAttributes,
    #[serde(default)]
    pub propagation: Propagation,
}

/// Where a source comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceFrom {
    /// The caller's files.
    #[default]
    Caller,
    /// The files of the mount namespace behind this file.
    MountNamespace(PathBuf),
    /// A new file system of this type, of the namespaces that the helper is in. The container's
    /// process has no right to make one where they are not its own.
    FileSystem(String),
}

/// Mirrors [`corten_sys::mount::Attributes`] for the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's")]
pub(crate) struct MountAttributes {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_setuid: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_devices: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_exec: bool,
}

impl MountAttributes {
    pub(crate) const NOTHING_SPECIAL: Self =
        Self { readonly: false, no_setuid: true, no_devices: true, no_exec: true };
}

impl From<MountAttributes> for corten_sys::mount::Attributes {
    fn from(attributes: MountAttributes) -> Self {
        let MountAttributes { readonly, no_setuid, no_devices, no_exec } = attributes;
        Self { readonly, no_setuid, no_devices, no_exec }
    }
}

/// A secret as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretFile {
    pub path: PathBuf,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub content: SecretValue,
}

/// One action of the container's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub(crate) enum Step {
    /// Takes id 0 of the new user namespace.
    BecomeRoot,
    /// Cuts the mounts off from the host's.
    SeparateMounts,
    /// Makes the prepared root file system the root; the old one stays on top for now.
    SwapRoot,
    /// Mounts a new file system.
    Mount {
        kind: String,
        target: PathBuf,
        options: Vec<(String, Option<String>)>,
        attributes: MountAttributes,
    },
    /// Attaches a prepared source.
    Attach {
        source: usize,
        target: PathBuf,
    },
    /// Makes a symbolic link.
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    /// Lets go of the host's files for good.
    DropOldRoot,
    /// Puts small files in place, from memory.
    Files {
        files: Vec<(PathBuf, String)>,
    },
    /// Puts secrets in place, from memory, each for its owner alone.
    Secrets {
        files: Vec<SecretFile>,
    },
    /// Switches on the loopback interface of a network of one's own.
    Loopback,
    /// Waits until the caller has attached control groups and network.
    AwaitCaller,
    /// Makes the present control group the root of what the container sees.
    SeparateCgroups,
    /// Writes a kernel setting below `/proc/sys`.
    Sysctl {
        name: String,
        value: String,
    },
    /// Hides a path, if it exists.
    Mask {
        path: PathBuf,
    },
    /// Makes a path read-only, if it exists.
    MakeReadonly {
        path: PathBuf,
    },
    /// Makes the root file system read-only.
    MakeRootReadonly,
    /// Says how mounts go between the root file system and copies of it.
    PropagateRoot {
        propagation: Propagation,
    },
    Hostname {
        name: String,
    },
    /// Sets the NIS domain name.
    Domainname {
        name: String,
    },
    /// Makes a terminal, sends its other side to the caller, takes it as standard input and output;
    /// `console` makes it the container's console too.
    Terminal {
        uid: u32,
        console: bool,
    },
    Rlimit {
        resource: RlimitKind,
        soft: u64,
        hard: u64,
    },
    Directory {
        path: PathBuf,
    },
    /// Drops what is not in the set from the bounding set.
    Bounding {
        capabilities: u64,
        last: u8,
    },
    /// `groups` is `None` where the kernel does not allow to set them.
    User {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    /// The capabilities that are left before the program starts.
    Capabilities {
        effective: u64,
    },
    NoNewPrivileges,
    /// `filter` as code, jump if true, jump if false, value.
    Seccomp {
        filter: Vec<(u16, u8, u8, u32)>,
        log: bool,
    },
    /// Becomes the first of the candidates that exists; `reaper` forks it and stays as process 1.
    Execute {
        candidates: Vec<String>,
        arguments: Vec<String>,
        environment: Vec<String>,
        reaper: bool,
    },
    /// Executes nothing and stays until it is killed.
    Hold,
}

impl Step {
    /// The step as a verb phrase, to follow "failed to".
    pub(crate) fn attempt(&self) -> &'static str {
        match self {
            Self::BecomeRoot => "become root of the container",
            Self::SeparateMounts => "separate the container's mounts from the host's",
            Self::SwapRoot => "change to the container's root file system",
            Self::Mount { .. } => "mount a file system on",
            Self::Attach { .. } => "mount",
            Self::Link { .. } => "make the link",
            Self::DropOldRoot => "let go of the host's file system",
            Self::Files { .. } => "put files of the container in place",
            Self::Secrets { .. } => "put secrets in place",
            Self::Loopback => "switch on the loopback interface",
            Self::AwaitCaller => "wait for the control groups and the network",
            Self::SeparateCgroups => "make a cgroup namespace",
            Self::Sysctl { .. } => "set the kernel setting",
            Self::Mask { .. } => "mask",
            Self::MakeReadonly { .. } => "make read-only",
            Self::MakeRootReadonly => "make the root file system read-only",
            Self::PropagateRoot { .. } => "set the propagation of the root file system",
            Self::Hostname { .. } => "set the host name",
            Self::Domainname { .. } => "set the domain name",
            Self::Terminal { .. } => "make a terminal",
            Self::Rlimit { .. } => "set the limit",
            Self::Directory { .. } => "change to the working directory",
            Self::Bounding { .. } => "drop capabilities",
            Self::User { .. } => "become the container's user",
            Self::Capabilities { .. } => "set the capabilities",
            Self::NoNewPrivileges => "give up new privileges",
            Self::Seccomp { .. } => "install the system call filter",
            Self::Execute { .. } => "execute",
            Self::Hold => "hold the container's files",
        }
    }

    /// What the step is about, for messages.
    pub(crate) fn subject(&self) -> Option<String> {
        let path = |path: &Path| Some(path.display().to_string());
        match self {
            Self::Mount { target, .. } | Self::Attach { target, .. } => path(target),
            Self::Link { path: link, .. } => path(link),
            Self::Mask { path: at }
            | Self::MakeReadonly { path: at }
            | Self::Directory { path: at } => path(at),
            Self::Sysctl { name, .. } | Self::Hostname { name } | Self::Domainname { name } => {
                Some(name.clone())
            }
            Self::Rlimit { resource, .. } => Some(resource.to_string()),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { kind, target, options, attributes } => {
                write!(f, "mount {kind} on {}", target.display())?;
                write_options(f, options)?;
                write_attributes(f, *attributes)
            }
            Self::Attach { source, target } => {
                write!(f, "mount source {source} on {}", target.display())
            }
            Self::Link { path, target } => {
                write!(f, "link {} to {}", path.display(), target.display())
            }
            Self::Files { files } => {
                let names: Vec<String> =
                    files.iter().map(|(path, _)| path.display().to_string()).collect();
                write!(f, "put in place {}", names.join(", "))
            }
            Self::Secrets { files } => {
                let names: Vec<String> =
                    files.iter().map(|file| file.path.display().to_string()).collect();
                write!(f, "put secrets in place: {}", names.join(", "))
            }
            Self::Domainname { name } => write!(f, "set the domain name {name}"),
            Self::Sysctl { name, value } => write!(f, "set {name} = {value}"),
            Self::Mask { path } => write!(f, "mask {}", path.display()),
            Self::MakeReadonly { path } => write!(f, "make read-only {}", path.display()),
            Self::PropagateRoot { propagation } => write!(f, "make the root {propagation}"),
            Self::Hostname { name } => write!(f, "set the host name {name}"),
            Self::Rlimit { resource, soft, hard } => {
                write!(f, "limit {resource} to {}:{}", Limit(*soft), Limit(*hard))
            }
            Self::Directory { path } => write!(f, "change to {}", path.display()),
            Self::Bounding { capabilities, .. } => {
                write!(f, "drop capabilities outside {capabilities:#x}")
            }
            Self::User { uid, gid, groups: Some(groups) } => {
                write!(f, "become user {uid}, group {gid}, groups {groups:?}")
            }
            Self::User { uid, gid, groups: None } => write!(f, "become user {uid}, group {gid}"),
            Self::Capabilities { effective } => write!(f, "keep capabilities {effective:#x}"),
            Self::Seccomp { filter, .. } => {
                write!(f, "install a system call filter of {} instructions", filter.len())
            }
            Self::Execute { arguments, reaper, .. } => {
                let how = if *reaper { "execute as a child" } else { "execute" };
                write!(f, "{how} {arguments:?}")
            }
            plain => f.write_str(plain.attempt()),
        }
    }
}

/// A limit of processes as people read it.
pub(crate) struct Limit(pub u64);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { f.write_str("unlimited") } else { self.0.fmt(f) }
    }
}

fn write_options(f: &mut fmt::Formatter<'_>, options: &[(String, Option<String>)]) -> fmt::Result {
    for (key, value) in options {
        match value {
            Some(value) => write!(f, " {key}={value}")?,
            None => write!(f, " {key}")?,
        }
    }
    Ok(())
}

fn write_attributes(f: &mut fmt::Formatter<'_>, attributes: MountAttributes) -> fmt::Result {
    let names = [
        (attributes.readonly, "ro"),
        (attributes.no_setuid, "nosuid"),
        (attributes.no_devices, "nodev"),
        (attributes.no_exec, "noexec"),
    ];
    for (_, name) in names.iter().filter(|(set, _)| *set) {
        write!(f, " {name}")?;
    }
    Ok(())
}

impl fmt::Display for RootStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owners = |map: bool| if map { ", owners mapped" } else { "" };
        match self {
            Self::Directory { path, map_owners } => {
                write!(f, "take {} as root{}", path.display(), owners(*map_owners))
            }
            Self::Joined { .. } => f.write_str("join the container's namespaces"),
            Self::Overlay(overlay) => {
                let layers = overlay.lowers.len();
                let word = if layers == 1 { "layer" } else { "layers" };
                write!(f, "mount an overlay of {layers} {word}")?;
                match &overlay.upper {
                    Upper::Directory { upper, .. } => {
                        write!(f, ", changes in {}", upper.display())?;
                    }
                    Upper::Memory => f.write_str(", changes in memory")?,
                }
                f.write_str(owners(overlay.map_owners))?;
                write_options(f, &overlay.options)
            }
        }
    }
}

impl fmt::Display for SourceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            SourceFrom::Caller => write!(f, "open {}", self.path.display())?,
            SourceFrom::MountNamespace(of) => {
                write!(f, "open {} in {}", self.path.display(), of.display())?;
            }
            SourceFrom::FileSystem(kind) => write!(f, "make {kind} for {}", self.path.display())?,
        }
        if self.recursive {
            f.write_str(" with the mounts below it")?;
        }
        if self.map_owners {
            f.write_str(", owners mapped")?;
        }
        if self.propagation != Propagation::Private {
            write!(f, ", {}", self.propagation)?;
        }
        write_attributes(f, self.attributes)
    }
}
