//! What is found out about the host.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use corten_sys::beneath::{Resolve, Root};
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::command::pipe;
use corten_sys::mount::{self, Attributes, FileSystem, Propagation};
use corten_sys::process::{self, CloneOptions, Cloned, PidFd};
use corten_sys::userns::{self, RootlessIds};
use corten_sys::{file, namespace};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupFacts;
use crate::emulation::Emulation;
use crate::facts::{HostFacts, SEARCH_PATH};
use crate::network::{self, NetworkFacts};
use crate::spec::RlimitKind;

/// Files of the kernel and of the system's configuration have a few lines.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What came of trying something: an error as the kernel words it.
pub type Tried = Result<(), String>;

/// Whose ids containers can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// Those of a range of the system's: we are root.
    Root,
    /// So many of the user's.
    Ranges { users: u64, groups: u64 },
    /// One, for this reason, with what to do about it.
    Single { reason: String, remedy: String },
}

/// Room in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
    pub free_inodes: u64,
    /// Zero where the file system makes them as it needs them.
    pub total_inodes: u64,
}

/// NVIDIA's driver and what describes its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Driver {
    pub nodes: Vec<String>,
    /// The version that the kernel runs; `None` if it runs none.
    pub version: Option<String>,
    /// The devices that descriptions know.
    pub described: Vec<String>,
    /// The versions that descriptions are for, each with its file.
    pub described_versions: BTreeMap<String, String>,
    /// Descriptions that cannot be used.
    pub problems: Vec<String>,
}

/// What a process that has become root of its own user namespace, or is root, finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inside {
    pub(super) ids: Ids,
    pub(super) overlay: Tried,
    pub(super) mapped_mounts: Option<Tried>,
    pub(super) network_obstacles: Vec<(String, String)>,
}

/// Everything that is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub is_root: bool,
    pub release: String,
    pub kernel: (u32, u32),
    /// A new user namespace with everything that belongs to it.
    pub user_namespace: Tried,
    /// Settings that keep ordinary users from one, as far as they exist: name and value.
    pub user_namespace_settings: BTreeMap<String, String>,
    pub ids: Option<Ids>,
    /// An overlay on the store's file system.
    pub overlay: Option<Tried>,
    /// A mount that shows other owners; for root alone.
    pub mapped_mounts: Option<Tried>,
    pub namespaces: Tried,
    pub process_handles: Tried,
    pub beneath: Tried,
    pub has_seccomp: bool,
    /// The names of the security modules, if the kernel tells.
    pub security_modules: Option<Vec<String>>,
    pub cgroups: CgroupFacts,
    /// Version 2 is mounted beside version 1.
    pub is_hybrid: bool,
    /// The network of an ordinary user: what is in the way, and what to do.
    pub network_obstacles: Vec<(String, String)>,
    /// The packet filter, for root alone.
    pub packet_filter: Option<Tried>,
    pub forwarding: bool,
    /// A firewall of somebody else's drops what is passed on.
    pub dropping_chain: Option<String>,
    /// How `/dev/fuse` can be opened; not needed by Corten.
    pub fuse: Tried,
    pub emulated: Vec<String>,
    pub unusable_emulators: Vec<String>,
    pub driver: Driver,
    pub store: PathBuf,
    pub file_system: String,
    pub space: Option<Space>,
    pub name_servers: Vec<String>,
    pub now: i64,
    /// Soft and hard limit of open files.
    pub open_files: (u64, u64),
}

impl Facts {
    /// Looks at the host and tries what containers need, with a store in this directory. Nothing is left
    /// behind. The process must have a single thread.
    pub fn gather(store: &Path, devices: &crate::cdi::Registry) -> std::io::Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let place = nearest(store);
        let (user_namespace, inside) = look_inside(is_root, &place)?;
        let host = HostFacts::gather().map_err(std::io::Error::other)?;
        let emulation = Emulation::gather().ok();
        let statistics = rustix::fs::statvfs(&place).ok();
        Ok(Self {
            is_root,
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            kernel: host.kernel,
            user_namespace,
            user_namespace_settings: settings(),
            ids: inside.as_ref().map(|inside| inside.ids.clone()),
            overlay: inside.as_ref().map(|inside| inside.overlay.clone()),
            mapped_mounts: inside.as_ref().and_then(|inside| inside.mapped_mounts.clone()),
            namespaces: try_namespaces(is_root),
            process_handles: told(PidFd::open(std::process::id())),
            beneath: told(
                Root::open(Path::new("/"))
                    .and_then(|root| root.open_dir(Path::new("proc"), Resolve::InRoot)),
            ),
            has_seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            security_modules: text("/sys/kernel/security/lsm")
                .map(|names| names.trim().split(',').map(str::to_owned).collect()),
            is_hybrid: Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists(),
            network_obstacles: inside.map(|inside| inside.network_obstacles).unwrap_or_default(),
            packet_filter: is_root.then(|| told(network::reach_packet_filter())),
            forwarding: NetworkFacts::gather(network::BRIDGE)
                .is_ok_and(|network| network.forwarding),
            dropping_chain: if is_root { network::foreign_drop() } else { None },
            fuse: openable("/dev/fuse"),
            emulated: emulation.as_ref().map(|found| usable(found, true)).unwrap_or_default(),
            unusable_emulators: emulation.map(|found| usable(&found, false)).unwrap_or_default(),
            driver: driver(devices),
            file_system: file_system(&place),
            space: statistics.map(|space| Space {
                free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
                total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
                free_inodes: space.f_favail,
                total_inodes: space.f_files,
            }),
            store: store.to_owned(),
            name_servers: name_servers(&text("/etc/resolv.conf").unwrap_or_default()),
            now: SystemClock.now().seconds,
            open_files: host
                .rlimits
                .get(&RlimitKind::OpenFiles)
                .copied()
                .unwrap_or((u64::MAX, u64::MAX)),
            cgroups: host.cgroups,
        })
    }
}

fn told<T, E: std::error::Error>(result: Result<T, E>) -> Tried {
    result.map(drop).map_err(|error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    })
}

fn text(path: &str) -> Option<String> {
    let bytes = file::read_limited(Path::new(path), FILE_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The directory that is there, of a path and those above it.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn openable(path: &str) -> Tried {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).map(drop).map_err(|errno| errno.to_string())
}

/// The settings of distributions and of the kernel that concern user namespaces.
fn settings() -> BTreeMap<String, String> {
    let names = [
        ("kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        ),
        ("user.max_user_namespaces", "/proc/sys/user/max_user_namespaces"),
    ];
    let read = |(name, path): (&str, &str)| Some((name.to_owned(), text(path)?.trim().to_owned()));
    names.into_iter().filter_map(read).collect()
}

/// A copy of this process becomes what `corten` becomes and tries there what a container needs.
fn look_inside(is_root: bool, place: &Path) -> std::io::Result<(Tried, Option<Inside>)> {
    let (reader, writer) = pipe()?;
    let Cloned::Parent { pid } = process::clone(CloneOptions::default())? else {
        drop(reader);
        let found = inside(is_root, place);
        let bytes = serde_json::to_vec(&found).unwrap_or_default();
        std::fs::File::from(writer).write_all(&bytes).unwrap_or_default();
        process::exit_now(0);
    };
    drop(writer);
    let mut bytes = Vec::new();
    std::fs::File::from(reader).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    process::wait_pid(pid)?;
    let lost = || Err("the process that tried it ended without a word".to_owned());
    let found: Result<Inside, String> = serde_json::from_slice(&bytes).unwrap_or_else(|_| lost());
    Ok(match found {
        Ok(inside) => (Ok(()), Some(inside)),
        Err(error) => (Err(error), None),
    })
}

fn inside(is_root: bool, place: &Path) -> Result<Inside, String> {
    let in_words = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    let ids = match userns::enter_rootless().map_err(|error| in_words(&error))? {
        None => {
            namespace::unshare(namespace::MOUNT).map_err(|error| error.to_string())?;
            mount::make_all_private().map_err(|error| error.to_string())?;
            Ids::Root
        }
        Some(rootless) => match rootless.ids {
            RootlessIds::Ranges { users, groups } => Ids::Ranges { users, groups },
            RootlessIds::Single(reason) => {
                let remedy = reason.hint().to_owned();
                Ids::Single { reason: reason.to_string(), remedy }
            }
        },
    };
    let obstacles =
        if is_root { Vec::new() } else { network::rootless_obstacles(SEARCH_PATH.as_ref()) };
    let scratch = place.join(format!(".corten-doctor-{}", corten_sys::random::name()));
    let tried = try_overlay(&scratch, is_root);
    let mapped = is_root.then(|| try_mapped(&scratch));
    let removed = file::remove_tree(&scratch);
    Ok(Inside {
        ids,
        overlay: tried.and_then(|()| removed.map_err(|error| in_words(&error))),
        mapped_mounts: mapped,
        network_obstacles: obstacles.iter().map(|one| (one.to_string(), one.remedy())).collect(),
    })
}

/// Mounts an overlay as a container's, and leaves it to the end of the process.
fn try_overlay(scratch: &Path, is_root: bool) -> Tried {
    let make = || -> Result<(), corten_sys::error::IoError> {
        file::create_dir(scratch, 0o700)?;
        ["lower", "upper", "work"]
            .iter()
            .try_for_each(|name| file::create_dir(&scratch.join(name), 0o755))
    };
    told(make())?;
    let mounted = || -> std::io::Result<()> {
        let system = FileSystem::new("overlay")?;
        for (key, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
            system.path(key, scratch.join(name).as_os_str())?;
        }
        if !is_root {
            system.flag("userxattr")?;
        }
        system.mount(Attributes::default()).map(drop)
    };
    mounted().map_err(|error| error.to_string())
}

/// Shows the store's files under other owners.
fn try_mapped(scratch: &Path) -> Tried {
    let attempt = || -> std::io::Result<()> {
        let copy = mount::copy_path(scratch, false)?;
        let (reader, writer) = pipe()?;
        let options = CloneOptions { namespaces: namespace::USER, ..CloneOptions::default() };
        let Cloned::Parent { pid } = process::clone(options)? else {
            drop(writer);
            // Stays until the namespace was used.
            std::fs::File::from(reader).read_to_end(&mut Vec::new()).unwrap_or_default();
            process::exit_now(0);
        };
        drop(reader);
        let mapped = || -> std::io::Result<()> {
            let path = PathBuf::from(format!("/proc/{pid}"));
            for name in ["uid_map", "gid_map"] {
                let map = std::fs::OpenOptions::new().write(true).open(path.join(name))?;
                rustix::io::write(&map, b"0 100000 1000\n")?;
            }
            let users = file::open(&path.join("ns/user")).map_err(|error| error.source)?;
            mount::restrict_and_map(
                copy.as_fd(),
                Attributes::default(),
                Propagation::Private,
                users.as_fd(),
                false,
            )
        };
        let done = mapped();
        drop(writer);
        process::wait_pid(pid)?;
        done
    };
    attempt().map_err(|error| error.to_string())
}

/// All other namespaces at once, as a container gets them.
fn try_namespaces(is_root: bool) -> Tried {
    let mut namespaces = namespace::MOUNT
        | namespace::PID
        | namespace::IPC
        | namespace::UTS
        | namespace::NETWORK
        | namespace::CGROUP;
    if !is_root {
        namespaces |= namespace::USER;
    }
    let options = CloneOptions { namespaces, ..CloneOptions::default() };
    let attempt = || -> std::io::Result<()> {
        let Cloned::Parent { pid } = process::clone(options)? else { process::exit_now(0) };
        process::wait_pid(pid).map(drop)
    };
    attempt().map_err(|error| error.to_string())
}

fn usable(found: &Emulation, wanted: bool) -> Vec<String> {
    let is_usable = |one: &&crate::emulation::Emulator| (one.enabled && one.is_fixed()) == wanted;
    found.emulators.iter().filter(is_usable).map(|one| one.name.clone()).collect()
}

/// The type of the file system that holds a path, as the kernel calls it.
fn file_system(path: &Path) -> String {
    let mounts = text("/proc/self/mountinfo").unwrap_or_default();
    let lines = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then(|| (point.len(), after.split(' ').next()))
    });
    // Of two mounts on one place, the later is the one that is seen.
    let found = lines.max_by_key(|(length, _)| *length).and_then(|(_, kind)| kind);
    found.unwrap_or("unknown").to_owned()
}

pub(super) fn name_servers(text: &str) -> Vec<String> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().map(str::to_owned)).flatten()
    };
    text.lines().filter_map(server).collect()
}

fn driver(devices: &crate::cdi::Registry) -> Driver {
    let nodes = file::list_dir(Path::new("/dev")).unwrap_or_default();
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut described_versions = BTreeMap::new();
    for folder in &devices.directories {
        for name in file::absent_is_none(file::list_dir(folder)).ok().flatten().unwrap_or_default()
        {
            let path = folder.join(name);
            let content = path.to_str().and_then(text).unwrap_or_default();
            described_versions.extend(
                library_version(&content).map(|version| (path.display().to_string(), version)),
            );
        }
    }
    Driver {
        nodes: nodes
            .iter()
            .filter_map(|name| name.to_str())
            .filter(|name| is_gpu(name))
            .map(|name| format!("/dev/{name}"))
            .collect(),
        version: text("/proc/driver/nvidia/version").as_deref().and_then(kernel_version),
        described: devices
            .names()
            .filter(|name| name.starts_with("nvidia.com/gpu="))
            .map(str::to_owned)
            .collect(),
        described_versions,
        problems: devices.problems.clone(),
    }
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu …`: the first word of numbers and dots.
pub(super) fn kernel_version(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// The version in the name of the driver's library, which descriptions mount: `libcuda.so.550.54.14`.
pub(super) fn library_version(text: &str) -> Option<String> {
    let versions = text.split("libcuda.so.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default().trim_end_matches('.').to_owned()
    });
    // `libcuda.so.1` is the name that programs look for.
    versions.into_iter().find(|version| version.contains('.'))
}
