//! Namespaces: new ones, other ones, and their identity.
#![expect(unsafe_code, reason = "unshare has no safe wrapper")]

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

/// Moves the calling thread into new namespaces.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    let all = USER | MOUNT | PID | NETWORK | IPC | UTS | CGROUP;
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

/// Returns what tells a process's namespace from others: `net:[4026531840]`.
pub fn identity(pid: u32, kind: &str) -> Result<String, IoError> {
    let path = format!("/proc/{pid}/ns/{kind}");
    let target = std::fs::read_link(&path).map_err(at("read", Path::new(&path)))?;
    Ok(target.to_string_lossy().into_owned())
}
