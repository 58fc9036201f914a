//! One step at a time: a lock for each key, between threads and processes.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use corten_diag::{Event, Reporter};
use corten_store::{CacheKey, Store};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::lock::FileLock;

use crate::graph::Step;

/// The lock of a step, held while the step is carried out.
#[derive(Debug)]
pub(crate) struct StepLock {
    lock: FileLock,
    waited: bool,
}

impl StepLock {
    /// Takes the lock of a key, and says so if that takes waiting.
    pub(crate) fn take(
        store: &Store,
        key: &CacheKey,
        reporter: &dyn Reporter,
        step: &Step,
    ) -> Result<Self, IoError> {
        let path = path(store, key);
        let mut waited = false;
        loop {
            let lock = if let Some(lock) = FileLock::try_exclusive(&path)? {
                lock
            } else {
                if !waited {
                    let message = format!("waiting for another build that does `{}`", step.title);
                    reporter.report(Event::Notice(message));
                }
                waited = true;
                FileLock::exclusive(&path)?
            };
            // The holder before removes the file; then the lock is of a file that nobody else finds.
            let held =
                lock.file().metadata().map_err(|source| IoError::new("inspect", &path, source))?;
            match file::absent_is_none(file::symlink_metadata(&path))? {
                Some(named) if named.ino() == held.ino() && named.dev() == held.dev() => {
                    return Ok(Self { lock, waited });
                }
                _ => waited = true,
            }
        }
    }

    /// Whether someone else may have done the step in the meantime.
    pub(crate) fn waited(&self) -> bool {
        self.waited
    }

    /// Ends the lock after the step was recorded; the file is of no use any more.
    pub(crate) fn release(self) {
        // A file that stays is found free by the next build.
        drop(file::remove_file(self.lock.path()));
    }
}

fn path(store: &Store, key: &CacheKey) -> PathBuf {
    store.root().join("lock").join(format!("step-{}", key.0.hex()))
}
