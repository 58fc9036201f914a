//! What a caller wants: one container, described without any fact about the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};

use corten_sys::error::IoError;
use corten_sys::userns::{is_whole_system, own_map};

pub(crate) use crate::capability::{Capability, default_capabilities};
pub(crate) use crate::cgroup::{DeviceAccess, DeviceKind, DeviceRule};
use crate::facts::SEARCH_PATH;
use crate::namespaces::{Namespace, Namespaces, Propagation, SharedMemory, UserNamespace};
use crate::network::ports::PortMapping;
use crate::network::{self, HostAddress, Networking, resolv};
pub(crate) use crate::resources::{Limit, Resources};
use crate::secret::Secret;

/// One container to run.
///
/// [`ContainerSpec::new`] gives the secure defaults; a caller changes what it must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Names the control groups; letters, digits, `_`, `.` and `-` only.
    pub id: String,
    pub rootfs: Rootfs,
    /// Program and arguments; the program is looked up in the container's own `PATH`.
    pub args: Vec<String>,
    /// `NAME=value` each; nothing of the host's environment is added.
    pub env: Vec<String>,
    /// Absolute directory to start in. It must exist in the root file system.
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    /// Gives the container a terminal of its own; the caller's goes to raw mode meanwhile.
    pub terminal: bool,
    pub stdin: Stdin,
    /// The host name inside; `None` takes the first 12 characters of the id.
    pub hostname: Option<String>,
    /// Mounted in this order, after `/proc`, `/sys` and `/dev`.
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    /// Links below `/dev`, which is in memory: the path and what it leads to.
    #[serde(default)]
    pub device_links: Vec<(PathBuf, PathBuf)>,
    /// What else may be opened, before what its devices say.
    #[serde(default)]
    pub device_rules: Vec<DeviceRule>,
    /// Every device may be opened, as far as the permissions of its node go.
    #[serde(default)]
    pub all_devices: bool,
    /// Files and variables that are read anew at each start and kept nowhere.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    pub host_files: HostFiles,
    pub network: Network,
    pub ports: Vec<PortMapping>,
    /// Networks that somebody has made, names, and what else most containers have no wishes for.
    #[serde(default)]
    pub networking: Networking,
    /// A port of the container's own loopback address on which the caller listens: the socket goes
    /// to [`crate::Io::listener`] before the program starts.
    pub listen_port: Option<u16>,
    pub capabilities: BTreeSet<Capability>,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    pub resources: Resources,
    /// The control group below which those of the container go: from the root of the hierarchy if it
    /// begins with a slash, else from the caller's own.
    #[serde(default)]
    pub cgroup_parent: Option<String>,
    /// Hidden from the container; those that do not exist are passed over.
    pub masked_paths: Vec<PathBuf>,
    /// Read-only in the container; those that do not exist are passed over.
    pub readonly_paths: Vec<PathBuf>,
    /// Kernel settings of the container's namespaces, `net.ipv4.ip_forward` → `1`.
    pub sysctls: BTreeMap<String, String>,
    /// Lets the container write to `/sys` and to its control groups.
    pub writable_sys: bool,
    pub rlimits: Vec<Rlimit>,
    pub user_namespace: UserNamespace,
    #[serde(default)]
    pub namespaces: Namespaces,
    /// Runs a tiny process 1 that reaps orphans and passes signals on.
    pub init: bool,
    pub shm_size_bytes: u64,
    #[serde(default)]
    pub shared_memory: SharedMemory,
    /// From -1000 to 1000; larger is killed sooner when the host runs out of memory.
    pub oom_score_adj: Option<i32>,
}

impl ContainerSpec {
    /// Builds a spec with the secure defaults: own namespaces, no network, a small capability set,
    /// no new privileges, the default system call filter, masked paths.
    pub fn new(id: impl Into<String>, rootfs: Rootfs, args: Vec<String>) -> Self {
        Self {
            id: id.into(),
            rootfs,
            args,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            uid: 0,
            gid: 0,
            additional_gids: Vec::new(),
            terminal: false,
            stdin: Stdin::Null,
            hostname: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            device_links: Vec::new(),
            device_rules: Vec::new(),
            all_devices: false,
            secrets: Vec::new(),
            host_files: HostFiles::default(),
            network: Network::None,
            ports: Vec::new(),
            networking: Networking::default(),
            listen_port: None,
            capabilities: default_capabilities(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            resources: Resources::default(),
            cgroup_parent: None,
            masked_paths: MASKED_PATHS.iter().map(PathBuf::from).collect(),
            readonly_paths: READONLY_PATHS.iter().map(PathBuf::from).collect(),
            sysctls: BTreeMap::new(),
            writable_sys: false,
            rlimits: Vec::new(),
            user_namespace: UserNamespace::Auto,
            namespaces: Namespaces::default(),
            init: false,
            shm_size_bytes: DEFAULT_SHM_BYTES,
            shared_memory: SharedMemory::default(),
            oom_score_adj: None,
        }
    }

    /// Returns the host name inside: the chosen one, else the beginning of the id, as in Docker.
    pub fn hostname(&self) -> &str {
        let short = self.id.get(..12).unwrap_or(&self.id);
        let joined = self.networking.joined.as_ref().map(|joined| joined.hostname.as_str());
        let joined = joined.filter(|name| !name.is_empty());
        self.hostname.as_deref().or(joined).unwrap_or(short)
    }

    /// Returns where the network namespace comes from, whichever part of the spec says so.
    pub fn network_namespace(&self) -> &Namespace {
        match self.network {
            Network::Host => &Namespace::Host,
            Network::None | Network::Default | Network::User => &self.namespaces.network,
        }
    }
}

/// Docker's size of `/dev/shm`.
pub(crate) const DEFAULT_SHM_BYTES: u64 = 64 * 1024 * 1024;

/// Docker's list of 2025: each tells of the host or reaches its hardware.
pub(crate) const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's list: each changes the host when written.
pub(crate) const READONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where the container's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Read-only layers as directories, top first. Whiteouts in overlayfs' form.
    pub lowers: Vec<PathBuf>,
    /// Takes what the container writes; `None` keeps it in memory.
    pub upper: Option<PathBuf>,
    /// Overlayfs' work directory, on the same file system as `upper` and empty.
    pub work: Option<PathBuf>,
    /// Refuses writes by the container. Mount points are still created in `upper`.
    pub readonly: bool,
    /// Skips syncing `upper`; right wherever a crash means starting over.
    pub volatile: bool,
    /// Files have on disk the ids that they have outside of the container, not those inside.
    #[serde(default)]
    pub keep_owners: bool,
    /// How mounts go between the root and copies of it; all of its mounts are private without.
    #[serde(default)]
    pub propagation: Option<Propagation>,
}

impl Rootfs {
    /// Builds a root file system of layers, top first, whose changes stay in memory.
    pub fn in_memory(lowers: Vec<PathBuf>) -> Self {
        let (upper, work) = (None, None);
        Self {
            lowers,
            upper,
            work,
            readonly: false,
            volatile: true,
            keep_owners: false,
            propagation: None,
        }
    }

    /// Builds a root file system of layers, top first, whose changes go to `upper` and are kept there:
    /// what a program syncs is on the disk.
    pub fn layered(lowers: Vec<PathBuf>, upper: PathBuf, work: PathBuf) -> Self {
        Self { upper: Some(upper), work: Some(work), volatile: false, ..Self::in_memory(lowers) }
    }
}

/// What the container reads as its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Null,
    /// The caller's standard input.
    Inherit,
}

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Mount {
    Bind(BindMount),
    Tmpfs(TmpfsMount),
}

/// A file or directory of the host, seen in the container under the same owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// An absolute path of the host that exists.
    pub source: PathBuf,
    /// An absolute path in the container; created when it is missing.
    pub target: PathBuf,
    pub readonly: bool,
    /// Takes the mounts below `source` too.
    pub recursive: bool,
    pub options: BindOptions,
}

/// What is seldom asked of a mount of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindOptions {
    /// Programs in it get no rights by their set-user-ID bits.
    pub no_setuid: bool,
    /// Nothing in it can be executed.
    pub no_exec: bool,
    /// Owners are not translated to the container's: those that it does not have look like nobody.
    pub keep_owners: bool,
    #[serde(default)]
    pub propagation: Propagation,
}

/// An empty file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    pub target: PathBuf,
    /// `None` is half of the memory, as the kernel chooses.
    pub size_bytes: Option<u64>,
    /// Permissions of its top directory, such as `0o1777`.
    pub mode: u32,
    pub readonly: bool,
    pub noexec: bool,
    /// Who has its top directory, instead of root.
    #[serde(default)]
    pub uid: Option<u32>,
    #[serde(default)]
    pub gid: Option<u32>,
    /// How many files it takes.
    #[serde(default)]
    pub files_max: Option<u64>,
}

impl TmpfsMount {
    /// Describes one that everybody may write to.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            size_bytes: None,
            mode: 0o1777,
            readonly: false,
            noexec: false,
            uid: None,
            gid: None,
            files_max: None,
        }
    }
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub source: PathBuf,
    pub target: PathBuf,
    /// What may be done with it, as far as control groups can see to that.
    #[serde(default)]
    pub access: DeviceAccess,
    /// What it is, as far as it was looked at: numbers change from boot to boot.
    #[serde(skip)]
    pub number: Option<DeviceNumber>,
}

impl Device {
    /// Gives a node under the same name and for everything.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let source = path.into();
        Self { target: source.clone(), source, access: DeviceAccess::ALL, number: None }
    }
}

/// Which device a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
}

/// Small files that every container has for itself; `None` leaves the image's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFiles {
    /// Content of `/etc/resolv.conf`.
    pub resolv_conf: Option<String>,
    /// Content of `/etc/hosts`.
    pub hosts: Option<String>,
    /// Content of `/etc/hostname`.
    pub hostname: Option<String>,
}

impl HostFiles {
    /// Writes the files that a container with this network and host name needs, from those of the
    /// host.
    pub fn for_container(spec: &ContainerSpec) -> Result<Self, IoError> {
        let host = resolv::HostResolver::read()?;
        // Only an ordinary user's containers have a helper program.
        let rootless = !is_whole_system(&own_map("uid_map")?);
        let helper = if rootless && spec.network == Network::Default {
            network::helper_nameserver(SEARCH_PATH.as_ref())
        } else {
            None
        };
        let hostname = spec.hostname();
        let names = &spec.networking.names;
        let own = resolv::plan_resolv_conf(spec.network, &host, helper, names).text;
        let joined = spec.networking.joined.as_ref();
        let hosts = joined.and_then(|joined| joined.hosts.clone());
        let resolv_conf = joined.and_then(|joined| joined.resolv_conf.clone());
        Ok(Self {
            resolv_conf: Some(resolv_conf.unwrap_or(own)),
            hosts: Some(hosts.unwrap_or_else(|| {
                // What is not known yet comes when the network is there.
                let gateway = (spec.network == Network::Host).then(|| [127, 0, 0, 1].into());
                resolv::hosts_file(hostname, &[], &hosts_of(&spec.networking.hosts, gateway))
            })),
            hostname: Some(format!("{hostname}\n")),
        })
    }
}

/// The lines of `/etc/hosts` that can be written, `gateway` being how the container reaches the host.
pub(crate) fn hosts_of(
    wanted: &[(String, HostAddress)],
    gateway: Option<IpAddr>,
) -> Vec<(String, IpAddr)> {
    let known = wanted.iter().filter_map(|(name, address)| {
        let address = match address {
            HostAddress::Gateway => gateway?,
            HostAddress::Address(address) => *address,
        };
        Some((name.clone(), address))
    });
    known.collect()
}

/// What the container sees of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Only a loopback interface of its own.
    None,
    /// The host's, without isolation.
    Host,
    /// Its own, with a way out.
    Default,
    /// Its own, with a place on each network of [`ContainerSpec::networking`].
    User,
}

/// The system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// Corten's own list.
    Default,
    /// None at all.
    Unconfined,
    /// A profile in Docker's JSON format.
    Profile(String),
}

/// What a per-process limit is about; the names are those of `--ulimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RlimitKind {
    #[serde(rename = "as")]
    AddressSpace,
    #[serde(rename = "core")]
    Core,
    #[serde(rename = "cpu")]
    Cpu,
    #[serde(rename = "data")]
    Data,
    #[serde(rename = "fsize")]
    FileSize,
    #[serde(rename = "locks")]
    Locks,
    #[serde(rename = "memlock")]
    LockedMemory,
    #[serde(rename = "msgqueue")]
    MessageQueue,
    #[serde(rename = "nice")]
    Nice,
    #[serde(rename = "nofile")]
    OpenFiles,
    #[serde(rename = "nproc")]
    Processes,
    #[serde(rename = "rss")]
    ResidentSet,
    #[serde(rename = "rtprio")]
    RealtimePriority,
    #[serde(rename = "rttime")]
    RealtimeTime,
    #[serde(rename = "sigpending")]
    PendingSignals,
    #[serde(rename = "stack")]
    Stack,
}

impl RlimitKind {
    /// Every kind under its name.
    pub const NAMES: &[(&str, RlimitKind)] = &[
        ("as", Self::AddressSpace),
        ("core", Self::Core),
        ("cpu", Self::Cpu),
        ("data", Self::Data),
        ("fsize", Self::FileSize),
        ("locks", Self::Locks),
        ("memlock", Self::LockedMemory),
        ("msgqueue", Self::MessageQueue),
        ("nice", Self::Nice),
        ("nofile", Self::OpenFiles),
        ("nproc", Self::Processes),
        ("rss", Self::ResidentSet),
        ("rtprio", Self::RealtimePriority),
        ("rttime", Self::RealtimeTime),
        ("sigpending", Self::PendingSignals),
        ("stack", Self::Stack),
    ];

    pub(crate) fn resource(self) -> Resource {
        match self {
            Self::AddressSpace => Resource::As,
            Self::Core => Resource::Core,
            Self::Cpu => Resource::Cpu,
            Self::Data => Resource::Data,
            Self::FileSize => Resource::Fsize,
            Self::Locks => Resource::Locks,
            Self::LockedMemory => Resource::Memlock,
            Self::MessageQueue => Resource::Msgqueue,
            Self::Nice => Resource::Nice,
            Self::OpenFiles => Resource::Nofile,
            Self::Processes => Resource::Nproc,
            Self::ResidentSet => Resource::Rss,
            Self::RealtimePriority => Resource::Rtprio,
            Self::RealtimeTime => Resource::Rttime,
            Self::PendingSignals => Resource::Sigpending,
            Self::Stack => Resource::Stack,
        }
    }
}

impl std::str::FromStr for RlimitKind {
    type Err = UnknownRlimit;

    fn from_str(text: &str) -> Result<Self, UnknownRlimit> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| *kind).ok_or_else(|| UnknownRlimit { name: text.to_owned() })
    }
}

impl std::fmt::Display for RlimitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found = Self::NAMES.iter().find(|(_, kind)| kind == self);
        f.write_str(found.map_or("unknown", |(name, _)| name))
    }
}

/// A name that is no per-process limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no limit of processes")]
pub struct UnknownRlimit {
    pub name: String,
}

/// A per-process limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    pub kind: RlimitKind,
    /// `u64::MAX` is no limit.
    pub soft: u64,
    pub hard: u64,
}
