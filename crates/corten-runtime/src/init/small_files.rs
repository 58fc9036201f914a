//! Files in memory, each to be mounted somewhere in the container.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use corten_sys::mount::{self, FileSystem};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::steps::MountAttributes;

/// A file system in memory that nobody finds, for files that are mounted one by one.
pub(super) struct SmallFiles<'a> {
    /// The container's root, as an open directory.
    root: BorrowedFd<'a>,
    folder: OwnedFd,
    count: usize,
    /// Whether the folder lies on the root for now.
    is_attached: bool,
}

/// What a file is like.
pub(super) struct SmallFile<'a> {
    pub(super) content: &'a [u8],
    pub(super) mode: u32,
    /// User and group, if not those of the process.
    pub(super) owner: Option<(u32, u32)>,
}

impl<'a> SmallFiles<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> io::Result<Self> {
        let system = FileSystem::new("tmpfs")?;
        system.text("mode", "755")?;
        let folder = system.mount(MountAttributes::NOTHING_SPECIAL.into())?;
        Ok(Self { root, folder, count: 0, is_attached: false })
    }

    /// Makes a file, and returns it as a mount that can be attached.
    pub(super) fn put(&mut self, small: &SmallFile<'_>) -> io::Result<OwnedFd> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let name = self.count.to_string();
        self.count += 1;
        let file = rustix::fs::openat(&self.folder, &name, flags, Mode::from_raw_mode(0o600))?;
        let mut bytes = small.content;
        while !bytes.is_empty() {
            let written = rustix::io::write(&file, bytes)?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        if let Some((user, group)) = small.owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(small.mode))?;
        match mount::copy_descriptor(file.as_fd(), false) {
            // Before Linux 6.15 what is mounted nowhere cannot be copied. The root is opened already,
            // so that nothing which is looked up beneath it sees what lies on top of it.
            Err(error) if is_refusal(&error) && !self.is_attached => {
                mount::attach(self.folder.as_fd(), self.root)?;
                self.is_attached = true;
                mount::copy_descriptor(file.as_fd(), false)
            }
            copied => copied,
        }
    }

    /// Takes the folder away again; what was attached stays.
    pub(super) fn finish(self) -> io::Result<()> {
        if !self.is_attached {
            return Ok(());
        }
        let here = rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        mount::detach(self.folder.as_fd())?;
        Ok(rustix::process::fchdir(here)?)
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}
