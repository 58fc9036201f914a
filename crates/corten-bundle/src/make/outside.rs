//! What is done to the host and, from outside, to the first process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::command::{Command, find_program};
use corten_sys::error::IoError;
use corten_sys::mount::{self, Change};
use corten_sys::process::{self, CloneOptions, Cloned};
use corten_sys::userns::{is_whole_system, own_map};
use corten_sys::{caps, command, file, namespace};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit};

use crate::cgroup::{self, Hierarchies};
use crate::config::IdMapping;
use crate::error::{BundleError, failed, invalid};
use crate::plan::Facts;
use crate::plan::steps::{Maps, Plan, Source, Step};

/// Where the programs are that may map the ids of other users.
const PROGRAM_DIRECTORIES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SYS_ADMIN: u64 = 1 << 21;
const SETUID: u64 = 1 << 7;

/// Looks at the host; takes well under a millisecond.
pub(crate) fn gather() -> Result<Facts, BundleError> {
    let effective = caps::effective().map_err(failed("read the own capabilities"))?;
    let last = file::read_limited(Path::new("/proc/sys/kernel/cap_last_cap"), 64)?;
    let last = String::from_utf8_lossy(&last).trim().parse().unwrap_or(40);
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let enabled = |path: &str, value: &[u8]| {
        file::read_limited(Path::new(path), 64).is_ok_and(|text| text.starts_with(value))
    };
    Ok(Facts {
        last_capability: last,
        kernel: (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()),
        may_mount: effective & SYS_ADMIN != 0,
        is_root: effective & SETUID != 0,
        apparmor: enabled("/sys/module/apparmor/parameters/enabled", b"Y"),
        selinux: file::exists(Path::new("/sys/fs/selinux/enforce"))?,
        capabilities: effective,
        hierarchies: Hierarchies::gather()?,
    })
}

/// Connects the terminal of a container to who will drive it.
pub(crate) fn console(
    terminal: bool,
    given: Option<OwnedFd>,
    socket: Option<&Path>,
) -> Result<Option<OwnedFd>, BundleError> {
    match (terminal, socket) {
        (true, None) if given.is_none() => Err(invalid(
            "process.terminal needs `--console-socket`, since the terminal's other side goes there",
        )),
        (false, Some(_)) => {
            Err(invalid("`--console-socket` goes with process.terminal, which is not set"))
        }
        (_, Some(path)) => super::connect_console(path).map(Some),
        (_, None) => Ok(given),
    }
}

/// Opens the root file system and what is mounted into it, as mounts that are nowhere yet.
pub(super) fn sources(plan: &Plan) -> Result<Vec<OwnedFd>, BundleError> {
    let root = Source { path: plan.rootfs.clone(), recursive: true, mapped: None };
    [&root].into_iter().chain(&plan.sources).map(|source| open(source, plan.propagation)).collect()
}

fn open(source: &Source, (propagation, _): (u64, bool)) -> Result<OwnedFd, BundleError> {
    let refused = |error| IoError::new("mount", &source.path, error);
    let fd = mount::copy_path(&source.path, source.recursive).map_err(refused)?;
    // A copy of a shared mount is one of its peers, as if it were there.
    if propagation != libc::MS_SHARED {
        let base = if propagation == libc::MS_SLAVE { libc::MS_SLAVE } else { libc::MS_PRIVATE };
        let change = Change { propagation: base, ..Change::default() };
        mount::change(fd.as_fd(), change, true).map_err(refused)?;
    }
    Ok(fd)
}

/// Shows the owners of mounts by their maps; `sources` begins with the root.
pub(super) fn map_owners(pid: u32, plan: &Plan, sources: &[OwnedFd]) -> Result<(), BundleError> {
    for (source, fd) in plan.sources.iter().zip(sources.iter().skip(1)) {
        let Some(mapping) = &source.mapped else { continue };
        let refused = |error| IoError::new("map the owners of", &source.path, error);
        let users = match &mapping.maps {
            Some(maps) => users_of(maps)?,
            None if plan.maps.is_none() => {
                return Err(invalid(format!(
                    "the mount of `{}` has `idmap`, and there is no map of ids",
                    source.path.display()
                )));
            }
            None => open_users(pid)?,
        };
        mount::map_owners(fd.as_fd(), users.as_fd(), mapping.recursive).map_err(refused)?;
    }
    Ok(())
}

fn open_users(pid: u32) -> Result<OwnedFd, BundleError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/user"));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open the user namespace"))
}

/// A user namespace with these ids, kept by a process that does nothing.
fn users_of(maps: &Maps) -> Result<OwnedFd, BundleError> {
    let attempt = "make a user namespace for a mount";
    let (reader, writer) = command::pipe().map_err(failed(attempt))?;
    let options = CloneOptions { namespaces: namespace::USER, ..CloneOptions::default() };
    let Cloned::Parent { pid } = process::clone(options).map_err(failed(attempt))? else {
        drop(writer);
        // It comes to an end when we have closed our side, or are gone.
        rustix::io::read(&reader, &mut [0; 1]).unwrap_or_default();
        process::exit_now(0);
    };
    let opened = map_ids(pid, "uid_map", &maps.users)
        .and_then(|()| map_ids(pid, "gid_map", &maps.groups))
        .and_then(|()| open_users(pid));
    drop((reader, writer));
    process::wait_pid(pid).map_err(failed(attempt))?;
    opened
}

fn map_ids(pid: u32, name: &str, map: &[IdMapping]) -> Result<(), BundleError> {
    let line = |one: &IdMapping| format!("{} {} {}\n", one.container_id, one.host_id, one.size);
    let text: String = map.iter().map(line).collect();
    Ok(cgroup::write(Path::new(&format!("/proc/{pid}/{name}")), &text)?)
}

/// Gives a new user namespace its ids.
pub(super) fn write_maps(pid: u32, maps: &Maps, facts: &Facts) -> Result<(), BundleError> {
    if facts.is_root {
        map_ids(pid, "gid_map", &maps.groups)?;
        return map_ids(pid, "uid_map", &maps.users);
    }
    // Whoever has one id may map it without help, if nobody in there can change groups.
    if matches!(&maps.groups[..], [one] if one.size == 1) {
        cgroup::write(Path::new(&format!("/proc/{pid}/setgroups")), "deny")?;
        map_ids(pid, "gid_map", &maps.groups)?;
    } else {
        map_by_program("newgidmap", pid, &maps.groups)?;
    }
    if matches!(&maps.users[..], [one] if one.size == 1) {
        map_ids(pid, "uid_map", &maps.users)
    } else {
        map_by_program("newuidmap", pid, &maps.users)
    }
}

fn map_by_program(name: &'static str, pid: u32, map: &[IdMapping]) -> Result<(), BundleError> {
    let attempt = format!("map ids with `{name}`");
    let program = find_program(name, PROGRAM_DIRECTORIES.as_ref());
    let program = program.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT));
    let mut command = Command::new(program.map_err(failed(attempt.clone()))?).arg(pid.to_string());
    for one in map {
        let numbers = [one.container_id, one.host_id, one.size];
        command = command.args(numbers.map(|number| number.to_string()));
    }
    let (report, said) = command.output(4096).map_err(failed(attempt.clone()))?;
    if report.ended == process::Ended::Code(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Err(failed(attempt)(io::Error::other(said)))
}

/// Hard limits that only we may raise: root of a user namespace may not.
pub(super) fn raise_limits(pid: u32, plan: &Plan) -> Result<(), BundleError> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    for step in &plan.last {
        let Step::Rlimit { name, hard, .. } = step else { continue };
        let kind = name.strip_prefix("RLIMIT_").unwrap_or_default();
        let Some((_, resource)) = RESOURCES.iter().find(|(known, _)| *known == kind) else {
            continue;
        };
        let present = rustix::process::getrlimit(*resource);
        let wanted = (*hard != u64::MAX).then_some(*hard);
        let is_more = match (wanted, present.maximum) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(present)) => wanted > present,
        };
        if is_more {
            let raised = Rlimit { current: present.current, maximum: wanted };
            rustix::process::prlimit(pid, *resource, raised)
                .map_err(failed(format!("raise the limit `{name}`")))?;
        }
    }
    Ok(())
}

const RESOURCES: &[(&str, Resource)] = &[
    ("AS", Resource::As),
    ("CORE", Resource::Core),
    ("CPU", Resource::Cpu),
    ("DATA", Resource::Data),
    ("FSIZE", Resource::Fsize),
    ("LOCKS", Resource::Locks),
    ("MEMLOCK", Resource::Memlock),
    ("MSGQUEUE", Resource::Msgqueue),
    ("NICE", Resource::Nice),
    ("NOFILE", Resource::Nofile),
    ("NPROC", Resource::Nproc),
    ("RSS", Resource::Rss),
    ("RTPRIO", Resource::Rtprio),
    ("RTTIME", Resource::Rttime),
    ("SIGPENDING", Resource::Sigpending),
    ("STACK", Resource::Stack),
];

/// Sets how soon the kernel ends it when memory runs out. An ordinary user may not lower it, and asks
/// engines to try.
pub(super) fn set_oom_score(pid: u32, score: i32, facts: &Facts) -> Result<(), BundleError> {
    let path = PathBuf::from(format!("/proc/{pid}/oom_score_adj"));
    match cgroup::write(&path, &score.to_string()) {
        Err(error) if error.is_permission_denied() && !is_whole(facts)? => Ok(()),
        other => Ok(other?),
    }
}

/// Whether we are root of the machine, not of a user namespace.
pub(super) fn is_whole(facts: &Facts) -> Result<bool, BundleError> {
    Ok(facts.is_root && is_whole_system(&own_map("uid_map")?))
}

/// Removes the root of a container that was mounted where others see it.
pub(crate) fn unmount(rootfs: &Path) -> io::Result<()> {
    let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    Ok(rustix::mount::unmount(rootfs, flags)?)
}
