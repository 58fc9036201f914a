//! Our own program file, in a form that a container cannot change.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::mount::{self, Attributes};

const OWN_PROGRAM: &str = "/proc/self/exe";

/// Opens our program through a read-only mount of its own that is attached nowhere.
///
/// Whoever runs it and opens `/proc/self/exe` for writing is refused, even as root and even when
/// the file belongs to the same user. Costs two system calls; the pages are those of the file.
pub fn read_only_view() -> io::Result<OwnedFd> {
    let view = match mount::copy_path(Path::new(OWN_PROGRAM), false) {
        // The link leads to a mount of the namespace in which we were started. In a namespace of our
        // own, its name leads to the copy of that mount.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => by_name()?,
        other => other?,
    };
    let attributes = Attributes { readonly: true, no_setuid: true, ..Attributes::default() };
    mount::restrict(view.as_fd(), attributes, false)?;
    Ok(view)
}

/// Opens our program by its name, if that still names the file that we were started from.
fn by_name() -> io::Result<OwnedFd> {
    let view = mount::copy_path(&std::fs::read_link(OWN_PROGRAM)?, false)?;
    let (found, own) = (rustix::fs::fstat(&view)?, rustix::fs::stat(OWN_PROGRAM)?);
    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(view)
}

/// Returns true if we run from such a view or copy already, or from a mount that is read-only.
pub fn is_protected() -> io::Result<bool> {
    let statistics = rustix::fs::statvfs(OWN_PROGRAM)?;
    if statistics.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    let program = rustix::fs::open(OWN_PROGRAM, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // Only files in memory have seals.
    Ok(rustix::fs::fcntl_get_seals(&program).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// Copies our program into memory that can never change again.
///
/// For kernels and file systems that cannot do [`read_only_view`]; costs a copy of the program.
pub fn sealed_copy() -> io::Result<OwnedFd> {
    let program = rustix::fs::open(OWN_PROGRAM, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let size = rustix::fs::fstat(&program)?.st_size;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels from 6.3 on want to be told that it will be executed; older ones refuse the flag.
    let copy = rustix::fs::memfd_create("corten", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("corten", flags))?;
    let mut left = usize::try_from(size).unwrap_or(usize::MAX);
    while left > 0 {
        let copied = rustix::fs::sendfile(&copy, &program, None, left)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= copied;
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_is_the_program_and_cannot_be_written() {
        let copy = sealed_copy().expect("memory");
        let own = std::fs::metadata(OWN_PROGRAM).expect("our program");
        let size = rustix::fs::fstat(&copy).expect("the copy").st_size;
        assert_eq!(u64::try_from(size).ok(), Some(own.len()));
        let error = rustix::io::write(&copy, b"x").expect_err("sealed");
        assert_eq!(error, rustix::io::Errno::PERM);
    }
}
