//! Limits, users and capabilities.

use std::io;
use std::os::fd::AsFd;

use corten_sys::caps;
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::Walker;
use crate::plan::steps::Step;

pub(super) fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if let Some(groups) = groups {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

impl Walker<'_> {
    pub(super) fn take_identity(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Rlimit { resource, soft, hard, .. } => set_limit(*resource, *soft, *hard),
            Step::RaiseLimit { resource, hard, .. } => raise_limit(*resource, *hard),
            Step::OwnStandard { uid } => own_standard(*uid),
            Step::Umask { mask } => {
                rustix::process::umask(Mode::from_raw_mode(*mask));
                Ok(())
            }
            Step::Bounding { keep, last } => caps::limit_bounding(*keep, *last),
            Step::User { uid, gid, groups } => {
                self.uid = *uid;
                caps::keep_over_user_change(true)?;
                become_user(*uid, *gid, groups.as_deref())?;
                caps::keep_over_user_change(false)
            }
            Step::Capabilities { effective, permitted, inheritable, ambient } => {
                set_capabilities(*effective, *permitted, *inheritable, *ambient)
            }
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

fn set_limit(resource: i32, soft: u64, hard: u64) -> io::Result<()> {
    let limits = Rlimit { current: limit(soft), maximum: limit(hard) };
    Ok(rustix::process::setrlimit(resource_of(resource)?, limits)?)
}

fn raise_limit(resource: i32, hard: u64) -> io::Result<()> {
    let resource = resource_of(resource)?;
    let present = rustix::process::getrlimit(resource);
    if present.maximum.is_none_or(|present| hard <= present) {
        return Ok(());
    }
    let limits = Rlimit { current: present.current, maximum: limit(hard) };
    Ok(rustix::process::setrlimit(resource, limits)?)
}

fn limit(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

fn resource_of(number: i32) -> io::Result<Resource> {
    const RESOURCES: [(libc::__rlimit_resource_t, Resource); 16] = [
        (libc::RLIMIT_AS, Resource::As),
        (libc::RLIMIT_CORE, Resource::Core),
        (libc::RLIMIT_CPU, Resource::Cpu),
        (libc::RLIMIT_DATA, Resource::Data),
        (libc::RLIMIT_FSIZE, Resource::Fsize),
        (libc::RLIMIT_LOCKS, Resource::Locks),
        (libc::RLIMIT_MEMLOCK, Resource::Memlock),
        (libc::RLIMIT_MSGQUEUE, Resource::Msgqueue),
        (libc::RLIMIT_NICE, Resource::Nice),
        (libc::RLIMIT_NOFILE, Resource::Nofile),
        (libc::RLIMIT_NPROC, Resource::Nproc),
        (libc::RLIMIT_RSS, Resource::Rss),
        (libc::RLIMIT_RTPRIO, Resource::Rtprio),
        (libc::RLIMIT_RTTIME, Resource::Rttime),
        (libc::RLIMIT_SIGPENDING, Resource::Sigpending),
        (libc::RLIMIT_STACK, Resource::Stack),
    ];
    let found = RESOURCES.iter().find(|(known, _)| i32::try_from(*known) == Ok(number));
    found.map(|(_, resource)| *resource).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Lets the container's user open its standard descriptors again, as `/dev/stdout`. What does not belong
/// to anybody in the container, or cannot change, stays as it is.
fn own_standard(uid: u32) -> io::Result<()> {
    let null = rustix::fs::stat("/dev/null").map(|stat| stat.st_rdev).unwrap_or_default();
    for fd in [
        rustix::stdio::stdin().as_fd(),
        rustix::stdio::stdout().as_fd(),
        rustix::stdio::stderr().as_fd(),
    ] {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        if stat.st_rdev == null && null != 0 || stat.st_uid == uid {
            continue;
        }
        match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None) {
            Err(
                rustix::io::Errno::INVAL
                | rustix::io::Errno::PERM
                | rustix::io::Errno::ROFS
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::BADF,
            ) => {}
            other => other?,
        }
    }
    Ok(())
}

fn set_capabilities(
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
) -> io::Result<()> {
    let set = CapabilitySet::from_bits_retain;
    caps::clear_ambient()?;
    let sets = CapabilitySets {
        effective: set(effective),
        permitted: set(permitted),
        inheritable: set(inheritable),
    };
    rustix::thread::set_capabilities(None, sets)?;
    for number in (0..64).filter(|number| ambient & (1 << number) != 0) {
        rustix::thread::configure_capability_in_ambient_set(set(1 << number), true)?;
    }
    Ok(())
}
