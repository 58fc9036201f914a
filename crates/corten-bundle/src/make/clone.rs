//! Makes the first process of a container, and further ones.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::lock::FileLock;
use corten_sys::process::{self, CloneOptions, Cloned, PidFd};
use corten_sys::{mount, namespace};
use rustix::fs::{Mode, OFlags};

use crate::cgroup;
use crate::error::{BundleError, Failed, failed};
use crate::init::{self, Given};
use crate::plan::steps::{Joined, Plan, Program, Step};
use crate::told::Told;

/// Makes the first process; returns its number, our side of the socket, and the lock. It has neither: the
/// end of a socket is seen by who has the other side alone.
pub(super) fn first(
    plan: &Plan,
    given: Given,
    control: OwnedFd,
    cgroup: Option<&OwnedFd>,
) -> Result<(u32, OwnedFd, Option<FileLock>), BundleError> {
    let attempt = "make the container's namespaces";
    let cgroup = cgroup.map(AsFd::as_fd);
    let new = plan.namespaces.new;
    // A cgroup namespace is made when the process is in its groups.
    let later = if cgroup.is_none() { namespace::CGROUP } else { 0 };
    // The offsets of a time namespace are written before anybody is in it.
    let now = new & !later & !namespace::TIME;
    if plan.namespaces.joined.is_empty() && new & namespace::TIME == 0 {
        let options = CloneOptions { namespaces: now, sibling: false, cgroup };
        return match process::clone(options).map_err(failed(attempt))? {
            Cloned::Child => {
                drop(control);
                init::main(plan, given)
            }
            Cloned::Parent { pid } => Ok((pid, control, given.lock)),
        };
    }
    let Cloned::Parent { pid: between } =
        process::clone(CloneOptions::default()).map_err(failed(attempt))?
    else {
        drop(control);
        let joined =
            join_all(&plan.namespaces.joined).and_then(|()| new_times(new, &plan.time_offsets));
        let options = CloneOptions { namespaces: now, sibling: true, cgroup };
        let cloned = joined.and_then(|()| process::clone(options).map_err(step(attempt)));
        in_between(cloned, &given.control.try_clone(), || init::main(plan, given))
    };
    // Its copy is with the process now; ours would hide its end.
    let lock = given.lock;
    drop(given.control);
    let pid = told_pid(between, &control)?;
    Ok((pid, control, lock))
}

/// Makes a further process in the namespaces of a container, of which `container` is the first process.
pub(crate) fn further(
    container: &PidFd,
    namespaces: u64,
    root: Option<&OwnedFd>,
    given: Given,
    control: OwnedFd,
    (steps, program): (&[Step], &Program),
) -> Result<(u32, OwnedFd), BundleError> {
    let attempt = "make a process in the container";
    let Cloned::Parent { pid: between } =
        process::clone(CloneOptions::default()).map_err(failed(attempt))?
    else {
        drop(control);
        let joined = namespace::join(container.as_fd(), namespaces)
            .map_err(step("join the namespaces of the container"));
        let rooted = joined.and_then(|()| match root {
            Some(root) => change_root(root).map_err(step("change to the container's root")),
            None => Ok(()),
        });
        let options = CloneOptions { namespaces: 0, sibling: true, cgroup: None };
        let cloned = rooted.and_then(|()| process::clone(options).map_err(step(attempt)));
        let users = namespaces & namespace::USER != 0;
        in_between(cloned, &given.control.try_clone(), || {
            init::main_additional(steps, program, given, users)
        })
    };
    drop(given);
    Ok((told_pid(between, &control)?, control))
}

fn change_root(root: &OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

fn step<E: Into<io::Error>>(attempt: impl Into<String>) -> impl FnOnce(E) -> Failed {
    let attempt = attempt.into();
    move |error| Failed::Step { attempt, errno: error.into().raw_os_error().unwrap_or(libc::EIO) }
}

/// The one in between tells the number of what it has made, and ends.
fn in_between(
    cloned: Result<Cloned, Failed>,
    control: &io::Result<OwnedFd>,
    child: impl FnOnce() -> std::convert::Infallible,
) -> ! {
    let told = match cloned {
        Ok(Cloned::Child) => match child() {},
        Ok(Cloned::Parent { pid }) => Told::Pid { pid },
        Err(failure) => Told::Failed { failure },
    };
    let sent = match control {
        Ok(control) => told.send(control.as_fd()),
        Err(_) => Err(io::Error::from_raw_os_error(libc::EBADF)),
    };
    // Without the message, whoever waits sees the end of the socket.
    process::exit_now(i32::from(sent.is_err()))
}

fn told_pid(between: u32, control: &OwnedFd) -> Result<u32, BundleError> {
    let attempt = "make a process in the container";
    let told = Told::receive(control.as_fd());
    process::wait_pid(between).map_err(failed(attempt))?;
    match told? {
        Some(Told::Pid { pid }) => Ok(pid),
        Some(Told::Failed { failure }) => Err(BundleError::Init(failure)),
        _ => Err(BundleError::InitLost),
    }
}

/// Joins namespaces by path. Those that belong to a user namespace that is joined, too, can be joined
/// after it, all others only before.
fn join_all(joined: &[Joined]) -> Result<(), Failed> {
    let mut open = Vec::new();
    for one in joined {
        let name = format!("join the namespace `{}`", one.path.display());
        let fd = rustix::fs::open(&one.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(step(name.clone()))?;
        open.push((one.bit, fd, name));
    }
    let (users, others): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|(bit, _, _)| *bit == namespace::USER);
    let mut later = Vec::new();
    // A mount namespace changes what paths mean; nothing is opened afterwards.
    for (bit, fd, name) in others {
        match namespace::join(fd.as_fd(), bit) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && !users.is_empty() => {
                later.push((bit, fd, name));
            }
            other => other.map_err(step(name))?,
        }
    }
    for (bit, fd, name) in users.into_iter().chain(later) {
        namespace::join(fd.as_fd(), bit).map_err(step(name))?;
    }
    Ok(())
}

fn new_times(new: u64, offsets: &str) -> Result<(), Failed> {
    if new & namespace::TIME == 0 {
        return Ok(());
    }
    namespace::unshare(namespace::TIME).map_err(step("make a time namespace"))?;
    if offsets.is_empty() {
        return Ok(());
    }
    let path = Path::new("/proc/self/timens_offsets");
    cgroup::write(path, offsets).map_err(|error| step("set the time offsets")(error.source))
}

/// The container's root, for one that was not put in place by `pivot_root`.
pub(crate) fn root_of(pid: u32) -> Result<OwnedFd, BundleError> {
    let path = format!("/proc/{pid}/root");
    mount::open_place(Path::new(&path)).map_err(failed("open the container's root"))
}
