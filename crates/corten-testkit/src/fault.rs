//! A file system that fails on request.
//!
//! A failure sweep runs an operation again and again, each time with the next call failing, until no
//! call is left to fail. See [`FaultFs`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::fs::{Fs, RealFs};

/// What happens from the chosen call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Only that call fails, as when a disk is full for a moment.
    Once,
    /// That call and all later ones fail, as when the process was killed there.
    Sticky,
    /// As [`Fault::Sticky`], and [`FaultFs::lose_unsynced`] then takes away what was not synced, as
    /// when power failed there.
    PowerCut,
}

/// The number of the error that is injected: no space left on device.
const ERRNO: i32 = 28;

/// Counts the changes made through it and fails from the n-th on, or only the n-th.
///
/// A failing write leaves half of its bytes, as a full disk does. Syncs are counted and believed but
/// not made, since no power fails in a test and they would take most of its time.
#[derive(Debug)]
pub struct FaultFs {
    state: Mutex<State>,
    fault: Fault,
}

#[derive(Debug)]
struct State {
    /// How many calls succeed before the fault.
    before: Option<u64>,
    calls: u64,
    failed: u64,
    /// Files whose content a power failure would take.
    unsynced: BTreeSet<PathBuf>,
}

impl State {
    fn new(before: Option<u64>) -> Self {
        Self { before, calls: 0, failed: 0, unsynced: BTreeSet::new() }
    }
}

impl FaultFs {
    /// Fails the call with this number; the first call has the number zero.
    pub fn new(call: u64, fault: Fault) -> Self {
        Self { state: Mutex::new(State::new(Some(call))), fault }
    }

    /// Fails nothing and only counts.
    pub fn counting() -> Self {
        Self { state: Mutex::new(State::new(None)), fault: Fault::Once }
    }

    /// Starts counting anew, so that what was done so far is not part of the sweep.
    pub fn arm(&self, call: u64) {
        *self.lock() = State::new(Some(call));
    }

    /// Stops failing.
    pub fn disarm(&self) {
        self.lock().before = None;
    }

    /// Empties the files that were written through this file system and not synced, wherever they
    /// were renamed to: the worst that a power failure does to them.
    pub fn lose_unsynced(&self) -> Result<(), IoError> {
        for path in std::mem::take(&mut self.lock().unsynced) {
            if file::exists(&path)? {
                file::write(&path, b"")?;
            }
        }
        Ok(())
    }

    /// Returns how many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Returns true if the fault was reached.
    pub fn has_failed(&self) -> bool {
        self.lock().failed > 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns true if this call must fail.
    fn fails(&self) -> bool {
        let mut state = self.lock();
        let call = state.calls;
        state.calls += 1;
        let fails = state.before.is_some_and(|before| match self.fault {
            Fault::Once => call == before,
            Fault::Sticky | Fault::PowerCut => call >= before,
        });
        state.failed += u64::from(fails);
        fails
    }

    fn check(&self, operation: &'static str, path: &Path) -> Result<(), IoError> {
        if self.fails() { Err(error(operation, path)) } else { Ok(()) }
    }
}

fn error(operation: &'static str, path: &Path) -> IoError {
    IoError::new(operation, path, io::Error::from_raw_os_error(ERRNO))
}

impl Fs for FaultFs {
    fn create_new(&self, path: &Path, mode: u32) -> Result<File, IoError> {
        self.check("create", path)?;
        let file = RealFs.create_new(path, mode)?;
        self.lock().unsynced.insert(path.to_owned());
        Ok(file)
    }

    fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
        if self.fails() {
            let (half, _) = bytes.split_at(bytes.len() / 2);
            RealFs.write(file, path, half)?;
            return Err(error("write", path));
        }
        RealFs.write(file, path, bytes)
    }

    fn sync(&self, _file: &File, path: &Path) -> Result<(), IoError> {
        self.check("sync", path)?;
        self.lock().unsynced.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.check("rename to", to)?;
        RealFs.rename(from, to)?;
        let mut state = self.lock();
        state.unsynced = std::mem::take(&mut state.unsynced)
            .into_iter()
            .map(|path| match path.strip_prefix(from) {
                Ok(below) if below.as_os_str().is_empty() => to.to_owned(),
                Ok(below) => to.join(below),
                Err(_) => path,
            })
            .collect();
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        self.check("link", to)?;
        RealFs.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        self.check("remove", path)?;
        RealFs.remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> Result<(), IoError> {
        self.check("remove", path)?;
        RealFs.remove_tree(path)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> Result<(), IoError> {
        self.check("create", path)?;
        RealFs.create_dir(path, mode)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        self.check("sync", path)
    }

    fn sync_file_system(&self, path: &Path) -> Result<(), IoError> {
        self.check("sync the file system of", path)?;
        self.lock().unsynced.clear();
        Ok(())
    }

    fn before(&self, operation: &'static str, path: &Path) -> Result<(), IoError> {
        self.check(operation, path)
    }
}
