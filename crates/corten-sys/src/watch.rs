//! Waiting until something in a directory changes.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::error::{IoError, at};

/// Tells of changes of the files in a directory.
#[derive(Debug)]
pub struct FolderWatch {
    fd: OwnedFd,
}

impl FolderWatch {
    /// Watches a directory: files that are written to, made, renamed or removed.
    pub fn new(folder: &Path) -> Result<Self, IoError> {
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(at("watch", folder))?;
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE;
        add_watch(&fd, folder, flags).map_err(at("watch", folder))?;
        Ok(Self { fd })
    }

    /// Waits until something has changed since the last call, or so long.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What has changed is seen by whoever looks; that it was told is enough.
        let mut told = [0; 4096];
        loop {
            match rustix::io::read(&self.fd, &mut told) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
