//! Groups as directories of the kernel's.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::bpf::{Instruction, attach_device_program, load_device_program};
use corten_sys::error::{IoError, at};
use corten_sys::file;
use corten_sys::process::PidFd;
use rustix::fs::{Mode, OFlags};

use super::settings::Setting;
use super::{Group, Groups, Version};
use crate::error::BundleError;

/// A group of a hundred thousand processes.
const PROCESSES_BYTES_MAX: u64 = 1 << 20;
/// Longer than the kernel needs to end processes that do not wait for a disk.
const END_PATIENCE: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

impl Groups {
    /// Finds out which of the groups will be ours. It is written down before they are made, so that they
    /// are removed whoever is killed when.
    pub(crate) fn claim(&mut self) {
        for group in &mut self.groups {
            group.is_own = !group.path.is_dir();
        }
    }

    /// Makes the groups. Without the right to, as for an ordinary user, there are none afterwards.
    pub(crate) fn make(&mut self, required: bool) -> Result<(), BundleError> {
        let mut made = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            match group.make() {
                Ok(()) => made.push(group),
                Err(error)
                    if !required
                        && (error.is_permission_denied() || error.errno() == Some(libc::EROFS)) => {
                }
                Err(error) => {
                    self.groups = made;
                    return Err(error.into());
                }
            }
        }
        self.groups = made;
        Ok(())
    }

    /// Puts a process into all groups.
    pub(crate) fn attach(&self, pid: u32) -> Result<(), BundleError> {
        let text = pid.to_string();
        for group in &self.groups {
            write(&group.path.join("cgroup.procs"), &text)?;
        }
        Ok(())
    }

    /// Opens the group in which a process can be made.
    pub(crate) fn open_v2(&self) -> Result<Option<OwnedFd>, BundleError> {
        let [Group { path, version: Version::V2, .. }] = &self.groups[..] else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Some(rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))?))
    }

    pub(crate) fn apply(&self, settings: &[Setting]) -> Result<(), BundleError> {
        for setting in settings {
            let Some(group) = self.of(&setting.controller) else {
                let why = format!("the host has no control groups for `{}`", setting.controller);
                return Err(BundleError::Unsupported { what: "the limit", why });
            };
            match write(&group.path.join(&setting.file), &setting.value) {
                Ok(()) => {}
                Err(_) if setting.optional => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lets the processes of the group of version 2 open what a program says. Without the right to load
    /// one, as for an ordinary user, the kernel lets nobody make nodes, and those of the host keep their
    /// owners.
    pub(crate) fn allow_devices(
        &self,
        program: Option<&[Instruction]>,
        required: bool,
    ) -> Result<(), BundleError> {
        let (Some(program), Some(group)) = (program, self.unified()) else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(&group.path, flags, Mode::empty()).map_err(at("open", &group.path))?;
        let attached = load_device_program(program)
            .and_then(|program| attach_device_program(program.as_fd(), directory.as_fd()));
        match attached {
            Err(error) if !required && error.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            other => Ok(other.map_err(at("attach the rules of devices to", &group.path))?),
        }
    }

    /// Sets limits of groups with processes. One limit may have to wait for another: that of memory must
    /// not be above that of both, whichever way they go.
    pub(crate) fn update(&self, settings: &[Setting]) -> Result<(), BundleError> {
        let mut waiting: Vec<Setting> = settings.to_vec();
        loop {
            let mut refused = Vec::new();
            let mut first = None;
            for setting in &waiting {
                if let Err(error) = self.apply(std::slice::from_ref(setting)) {
                    first.get_or_insert(error);
                    refused.push(setting.clone());
                }
            }
            match first {
                None => return Ok(()),
                Some(error) if refused.len() == waiting.len() => return Err(error),
                Some(_) => waiting = refused,
            }
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        let Some(group) = self.of("freezer") else { return false };
        let (name, frozen) = match group.version {
            Version::V1 => ("freezer.state", "FROZEN"),
            Version::V2 => ("cgroup.freeze", "1"),
        };
        let text = file::read_limited(&group.path.join(name), 64).unwrap_or_default();
        String::from_utf8_lossy(&text).trim() == frozen
    }

    /// Halts all processes, or lets them go on, and waits until it is so.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), BundleError> {
        let Some(group) = self.of("freezer") else {
            let why = "the host has no freezer among its control groups".to_owned();
            return Err(BundleError::Unsupported { what: "pausing", why });
        };
        let (name, value) = match (group.version, frozen) {
            (Version::V1, true) => ("freezer.state", "FROZEN"),
            (Version::V1, false) => ("freezer.state", "THAWED"),
            (Version::V2, true) => ("cgroup.freeze", "1"),
            (Version::V2, false) => ("cgroup.freeze", "0"),
        };
        for _ in 0..END_PATIENCE {
            write(&group.path.join(name), value)?;
            if self.is_settled(group, frozen) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        if frozen {
            // Half frozen is worse than running.
            self.freeze(false)?;
        }
        Err(IoError::new("freeze", &group.path, std::io::Error::from_raw_os_error(libc::ETIMEDOUT))
            .into())
    }

    fn is_settled(&self, group: &Group, frozen: bool) -> bool {
        if group.version == Version::V1 {
            return self.is_frozen() == frozen;
        }
        let events =
            file::read_limited(&group.path.join("cgroup.events"), 4096).unwrap_or_default();
        let line = if frozen { "frozen 1" } else { "frozen 0" };
        String::from_utf8_lossy(&events).lines().any(|found| found == line)
    }

    /// The processes of the container, those of groups that it made below its own included.
    pub(crate) fn processes(&self) -> Result<Vec<u32>, BundleError> {
        let group = ["freezer", "pids", "memory", "devices"].iter().find_map(|name| self.of(name));
        let Some(group) = group.or_else(|| self.groups.first()) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        collect(&group.path, &mut found)?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Sends a signal to every process.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), BundleError> {
        for pid in self.processes()? {
            let Ok(process) = PidFd::open(pid) else { continue };
            match process.signal(signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    let path = Path::new("/proc").join(pid.to_string());
                    return Err(IoError::new("signal", path, error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends every process and waits until there is none. In a group that others had before there may be
    /// others' processes.
    pub(crate) fn end(&self) -> Result<(), BundleError> {
        if !self.groups.iter().all(|group| group.is_own) {
            return Ok(());
        }
        for round in 0..END_PATIENCE {
            if self.processes()?.is_empty() {
                return Ok(());
            }
            self.signal(libc::SIGKILL)?;
            if round == 0 && self.is_frozen() {
                self.freeze(false)?;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Removes our groups and those below; what is not there is fine.
    pub(crate) fn remove(&self) -> Result<(), BundleError> {
        let mut first = None;
        for group in self.groups.iter().filter(|group| group.is_own) {
            // The kernel frees a group some time after its last process.
            let mut result = remove(&group.path);
            for _ in 0..END_PATIENCE {
                match &result {
                    Err(error) if error.errno() == Some(libc::EBUSY) => {}
                    _ => break,
                }
                std::thread::sleep(PAUSE);
                result = remove(&group.path);
            }
            if let Err(error) = result {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Group {
    fn make(&self) -> Result<(), IoError> {
        let below = self.path.strip_prefix(&self.mount).unwrap_or(&self.path);
        let mut path = self.mount.clone();
        for part in below.components() {
            let parent = path.clone();
            path.push(part);
            if self.version == Version::V2 {
                pass_on(&parent)?;
            }
            match file::create_dir(&path, 0o755) {
                Err(error) if error.is_already_exists() => {}
                other => other?,
            }
            if self.names.iter().any(|name| name == "cpuset") {
                inherit(&parent, &path)?;
            }
        }
        Ok(())
    }
}

/// Lets groups below use what this one may. A group with processes cannot, nor can one without the right
/// to: then the limits that need it say so.
fn pass_on(group: &Path) -> Result<(), IoError> {
    let names = file::read_limited(&group.join("cgroup.controllers"), 4096)?;
    let control = group.join("cgroup.subtree_control");
    let present = file::read_limited(&control, 4096)?;
    let present = String::from_utf8_lossy(&present);
    for name in String::from_utf8_lossy(&names).split_whitespace() {
        if !present.split_whitespace().any(|found| found == name) {
            match write(&control, &format!("+{name}")) {
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                Err(error)
                    if error.is_permission_denied()
                        || matches!(
                            error.errno(),
                            Some(libc::EBUSY | libc::EOPNOTSUPP | libc::EINVAL | libc::EROFS)
                        ) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// A new group of version 1 has no processors at first, and takes no process.
fn inherit(parent: &Path, group: &Path) -> Result<(), IoError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let own = file::read_limited(&group.join(name), 4096)?;
        if own.iter().all(u8::is_ascii_whitespace) {
            let value = file::read_limited(&parent.join(name), 4096)?;
            write(&group.join(name), String::from_utf8_lossy(&value).trim())?;
        }
    }
    Ok(())
}

fn collect(group: &Path, found: &mut Vec<u32>) -> Result<(), BundleError> {
    let Some(text) = file::read_optional(&group.join("cgroup.procs"), PROCESSES_BYTES_MAX)? else {
        return Ok(());
    };
    found
        .extend(String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse::<u32>().ok()));
    for name in file::absent_is_none(file::list_dir(group))?.unwrap_or_default() {
        let path = group.join(name);
        if path.is_dir() {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn remove(group: &Path) -> Result<(), IoError> {
    match file::remove_dir(group) {
        Ok(()) => return Ok(()),
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) if error.errno() != Some(libc::EBUSY) => return Err(error),
        Err(_) => {}
    }
    for name in file::absent_is_none(file::list_dir(group))?.unwrap_or_default() {
        let path = group.join(name);
        if path.is_dir() {
            remove(&path)?;
        }
    }
    match file::remove_dir(group) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Writes a file of the kernel's, in one call.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), IoError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))?;
    rustix::io::write(&fd, text.as_bytes()).map_err(at("write", path))?;
    Ok(())
}
