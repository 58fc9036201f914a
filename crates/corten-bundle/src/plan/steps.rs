//! What a plan consists of. Whoever walks the steps decides nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::{Hook, IdMapping};

use super::Namespaces;
use super::options::Options;

/// Everything that was decided about a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub rootfs: PathBuf,
    /// What is done to all mounts of the new namespace: `MS_*`, and whether to those below, too.
    pub propagation: (u64, bool),
    pub namespaces: Namespaces,
    /// The ids of a new user namespace.
    pub maps: Option<Maps>,
    /// Lines for `timens_offsets`.
    pub time_offsets: String,
    /// What is taken from the host, by position.
    pub sources: Vec<Source>,
    /// What the first process does before it waits for `start`.
    pub steps: Vec<Step>,
    /// What it does afterwards.
    pub last: Vec<Step>,
    pub program: Program,
    pub root_change: RootChange,
    pub new_keyring: bool,
    /// It takes id 0 of a user namespace.
    pub become_root: bool,
    pub oom_score_adj: Option<i32>,
    pub warnings: Vec<String>,
}

/// A namespace that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub bit: u64,
    pub path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Maps {
    pub users: Vec<IdMapping>,
    pub groups: Vec<IdMapping>,
}

/// Something of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub path: PathBuf,
    pub recursive: bool,
    pub mapped: Option<Mapping>,
}

/// Whose ids the owners of a mount's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// `None` is the container's.
    pub maps: Option<Maps>,
    pub recursive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootChange {
    Pivot,
    Chroot,
    /// In mounts that others see: the root is mounted on itself.
    ChrootInPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub arguments: Vec<String>,
    pub environment: Vec<String>,
    /// Descriptors behind the standard ones that the program gets.
    pub preserve_fds: u32,
}

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: u32,
    pub major: u32,
    pub minor: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Mounts a source.
    Bind {
        source: usize,
        target: PathBuf,
        options: Options,
    },
    /// Mounts a new file system.
    Mount {
        kind: String,
        source: String,
        target: PathBuf,
        options: Options,
    },
    Device {
        path: PathBuf,
        node: Node,
        mode: u32,
        uid: u32,
        gid: u32,
        must_match: bool,
    },
    Link {
        path: PathBuf,
        target: String,
        replace: bool,
    },
    /// Opens a terminal, sends its other side to the caller, takes it as standard input and output.
    Terminal {
        uid: u32,
        size: Option<(u16, u16)>,
        console: bool,
    },
    Sysctl {
        name: String,
        value: String,
    },
    MakeDirectory {
        path: PathBuf,
    },
    AwaitCaller,
    SeparateCgroups,
    /// Lets the caller run the hooks of its namespaces.
    RuntimeHooks,
    Hooks {
        kind: &'static str,
        hooks: Vec<Hook>,
    },
    ChangeRoot,
    Mask {
        path: PathBuf,
    },
    MakeReadonly {
        path: PathBuf,
    },
    /// The same for what is mounted there, without what is mounted below.
    SealMount {
        path: PathBuf,
    },
    RootPropagation {
        flags: u64,
        recursive: bool,
    },
    MakeRootReadonly,
    Hostname {
        name: String,
    },
    Domainname {
        name: String,
    },
    FindProgram,
    Scheduler {
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        times: [u64; 3],
    },
    IoPriority {
        class: u8,
        level: u8,
    },
    Personality {
        domain: u64,
    },
    /// Raises a hard limit that is below, so that `create` says when nobody may.
    RaiseLimit {
        name: String,
        resource: i32,
        hard: u64,
    },
    Rlimit {
        name: String,
        resource: i32,
        soft: u64,
        hard: u64,
    },
    /// The profile under which the program will be executed.
    Apparmor {
        profile: String,
    },
    Selinux {
        label: String,
    },
    OwnStandard {
        uid: u32,
    },
    Umask {
        mask: u32,
    },
    Bounding {
        keep: u64,
        last: u8,
    },
    User {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    Capabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
        ambient: u64,
    },
    NoNewPrivileges,
    Seccomp {
        filter: Vec<corten_sys::seccomp::Instruction>,
        flags: u64,
    },
    Directory {
        path: PathBuf,
    },
}

impl fmt::Display for Step {
    /// As a verb phrase, to follow "failed to".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |f: &mut fmt::Formatter<'_>, verb: &str, path: &Path| {
            write!(f, "{verb} `{}`", path.display())
        };
        match self {
            Self::Bind { target, .. } => at(f, "mount on", target),
            Self::Mount { kind, target, .. } => write!(f, "mount {kind} on `{}`", target.display()),
            Self::Device { path, .. } => at(f, "make the device", path),
            Self::Link { path, .. } => at(f, "make the link", path),
            Self::Terminal { .. } => f.write_str("make a terminal"),
            Self::Sysctl { name, .. } => write!(f, "set the kernel setting `{name}`"),
            Self::MakeDirectory { path } => at(f, "make the directory", path),
            Self::AwaitCaller => f.write_str("wait for the control groups"),
            Self::SeparateCgroups => f.write_str("make a cgroup namespace"),
            Self::RuntimeHooks => f.write_str("wait for the hooks"),
            Self::Hooks { kind, .. } => write!(f, "run {kind} hooks"),
            Self::ChangeRoot => f.write_str("change to the container's root file system"),
            Self::Mask { path } => at(f, "mask", path),
            Self::MakeReadonly { path } | Self::SealMount { path } => at(f, "make read-only", path),
            Self::RootPropagation { .. } => f.write_str("set the propagation of the root"),
            Self::MakeRootReadonly => f.write_str("make the root file system read-only"),
            Self::Hostname { name } => write!(f, "set the host name `{name}`"),
            Self::Domainname { name } => write!(f, "set the domain name `{name}`"),
            Self::FindProgram => f.write_str("find the program"),
            Self::Scheduler { .. } => f.write_str("set the scheduler"),
            Self::IoPriority { .. } => f.write_str("set the priority at disks"),
            Self::Personality { .. } => f.write_str("set the personality"),
            Self::Rlimit { name, .. } | Self::RaiseLimit { name, .. } => {
                write!(f, "set the limit `{name}`")
            }
            Self::Apparmor { profile } => write!(f, "apply apparmor profile `{profile}`"),
            Self::Selinux { label } => write!(f, "set the label `{label}`"),
            Self::OwnStandard { .. } => f.write_str("hand over the standard descriptors"),
            Self::Umask { .. } => f.write_str("set the file mode mask"),
            Self::Bounding { .. } => f.write_str("drop capabilities"),
            Self::User { uid, gid, .. } => write!(f, "become user {uid} and group {gid}"),
            Self::Capabilities { .. } => f.write_str("set the capabilities"),
            Self::NoNewPrivileges => f.write_str("give up new privileges"),
            Self::Seccomp { .. } => f.write_str("install the system call filter"),
            Self::Directory { path } => at(f, "change to the directory", path),
        }
    }
}
