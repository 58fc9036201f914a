//! Namespaces: new ones, other ones, and their identity.
#![expect(unsafe_code, reason = "unshare and setns have no safe wrapper")]

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::thread::UnshareFlags;

use crate::error::{IoError, at};

/// The `CLONE_NEW*` bits.
pub const USER: u64 = libc::CLONE_NEWUSER as u64;
pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
pub const PID: u64 = libc::CLONE_NEWPID as u64;
pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// Not in the `libc` crate for every target.
pub const TIME: u64 = 0x80;

/// Moves the calling thread into new namespaces.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    let all = USER | MOUNT | PID | NETWORK | IPC | UTS | CGROUP | TIME;
    let bits = u32::try_from(namespaces & all).unwrap_or_default();
    // SAFETY: only namespace bits are left, so the table of descriptors stays shared between the
    // threads, which is what the caller of `unshare_unsafe` has to see to.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::from_bits_retain(bits)) }?;
    Ok(())
}

/// Moves the calling thread into a namespace that is open as a file.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(namespace, None)?)
}

/// Moves the calling thread into namespaces of a process, all at once: a user namespace first gives the
/// rights that the others need. A process namespace is that of later children (setns(2), Linux 5.8).
pub fn join(process: BorrowedFd<'_>, namespaces: u64) -> io::Result<()> {
    let bits = i32::try_from(namespaces).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the descriptor is open for the call, and only namespace bits have a meaning here.
    let result = unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&process), bits) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The namespaces, of those that containers have, in which a process differs from this one.
pub fn different(pid: u32) -> Result<u64, IoError> {
    const KINDS: [(&str, u64); 7] = [
        ("user", USER),
        ("mnt", MOUNT),
        ("pid", PID),
        ("net", NETWORK),
        ("ipc", IPC),
        ("uts", UTS),
        ("cgroup", CGROUP),
    ];
    let own = std::process::id();
    let mut found = 0;
    for (kind, bit) in KINDS {
        if identity(pid, kind)? != identity(own, kind)? {
            found |= bit;
        }
    }
    Ok(found)
}

/// Returns what tells a process's namespace from others: `net:[4026531840]`.
pub fn identity(pid: u32, kind: &str) -> Result<String, IoError> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let target = std::fs::read_link(&path).map_err(at("read", Path::new(&path)))?;
    Ok(target.to_string_lossy().into_owned())
}
