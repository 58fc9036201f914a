//! Advisory locks between processes, by `flock`.
//!
//! A lock belongs to the open file, not to the process: it is released when the last copy of the
//! descriptor is closed, and so also when the process is killed. Descriptors are opened with
//! `CLOEXEC`, so that a program started by us never holds a lock of ours.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use crate::error::{IoError, at};

/// A lock on a file, held until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock together with other readers; waits while a writer holds it.
    pub fn shared(path: &Path) -> Result<Self, IoError> {
        Self::lock(path, FlockOperation::LockShared)
    }

    /// Takes the lock alone; waits while anyone else holds it.
    pub fn exclusive(path: &Path) -> Result<Self, IoError> {
        Self::lock(path, FlockOperation::LockExclusive)
    }

    /// Takes the lock together with other readers, or returns `None` at once.
    pub fn try_shared(path: &Path) -> Result<Option<Self>, IoError> {
        Self::try_lock(path, FlockOperation::NonBlockingLockShared)
    }

    /// Takes the lock alone, or returns `None` at once.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, IoError> {
        Self::try_lock(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock alone on a file that must exist already, or returns `None` at once.
    pub fn try_exclusive_existing(path: &Path) -> Result<Option<Self>, IoError> {
        let file = open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .map_err(at("open", path))?;
        Self::try_flock(file.into(), path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes over a lock that another process held alone and has handed to us as a descriptor; `None` if
    /// it is not the lock of this file, or is not held by the descriptor.
    pub fn adopt(fd: OwnedFd, path: &Path) -> Result<Option<Self>, IoError> {
        let given = rustix::fs::fstat(&fd).map_err(at("inspect", path))?;
        let named = rustix::fs::stat(path).map_err(at("inspect", path))?;
        if (given.st_dev, given.st_ino) != (named.st_dev, named.st_ino) {
            return Ok(None);
        }
        // For whoever holds it already, this changes nothing.
        Self::try_flock(fd.into(), path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Returns the path of the locked file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the locked file, for reading its content.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Appends bytes to the locked file.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        use std::io::Seek as _;
        self.file.seek(std::io::SeekFrom::End(0)).map_err(at("seek in", &self.path))?;
        self.file.write_all(bytes).map_err(at("append to", &self.path))
    }

    fn create(path: &Path) -> Result<File, IoError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = open(path, flags, Mode::from_raw_mode(0o600)).map_err(at("open", path))?;
        Ok(file.into())
    }

    fn lock(path: &Path, operation: FlockOperation) -> Result<Self, IoError> {
        let file = Self::create(path)?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { file, path: path.to_owned() }),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(IoError::new("lock", path, errno)),
            }
        }
    }

    fn try_lock(path: &Path, operation: FlockOperation) -> Result<Option<Self>, IoError> {
        Self::try_flock(Self::create(path)?, path, operation)
    }

    fn try_flock(
        file: File,
        path: &Path,
        operation: FlockOperation,
    ) -> Result<Option<Self>, IoError> {
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Self { file, path: path.to_owned() })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(IoError::new("lock", path, errno)),
        }
    }
}
