//! What a description leaves open until a container is started: devices, secrets, and how much power
//! "all of it" is.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use corten_sys::error::{IoError, at};
use corten_sys::{caps, file};

use crate::capability::Capability;
use crate::secret::{self, SecretError};
use crate::spec::{ContainerSpec, Device, DeviceKind, DeviceNumber, Seccomp};

/// Where devices are.
const DEVICES: &str = "/dev";

/// Parts of it that every container has of its own.
const OWN_DIRECTORIES: [&str; 6] = ["pts", "shm", "mqueue", "fd", "corten", "pipes"];

/// Beginnings of the names of devices that every container has of its own, and of consoles.
const OWN_DEVICES: [&str; 10] =
    ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "vcs", "pty"];

/// A machine with more has many disks.
const DEVICES_MAX: usize = 200;

/// Why a container's description cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("failed to look at the host's devices")]
    Devices(#[source] IoError),
    #[error("`{}` is no disk", path.display())]
    NoDisk { path: PathBuf },
    #[error("failed to read the own capabilities")]
    Capabilities(#[source] IoError),
}

impl SettleError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Secret(error) => error.hint(),
            Self::NoDisk { .. } => Some("`lsblk --paths` lists the disks".to_owned()),
            Self::Devices(_) | Self::Capabilities(_) => None,
        }
    }
}

impl ContainerSpec {
    /// Gives the container all capabilities that the caller has in its user namespace, every system
    /// call, the kernel's files without masks and for writing, and the devices of the host.
    ///
    /// Whose root that is depends on the user namespace, which stays as it is.
    pub fn unlock(&mut self) -> Result<(), SettleError> {
        // Even root may lack some, in a container for example; those cannot be given.
        let own = caps::effective().map_err(at("read the capabilities of", "/proc/self"));
        let own = own.map_err(SettleError::Capabilities)?;
        let all = Capability::ALL.iter().copied();
        self.capabilities = all.filter(|one| own & (1 << one.number()) != 0).collect();
        self.no_new_privileges = false;
        self.seccomp = Seccomp::Unconfined;
        self.masked_paths.clear();
        self.readonly_paths.clear();
        self.writable_sys = true;
        self.all_devices = true;
        Ok(())
    }

    /// Finds out what may be otherwise at each start: which devices there are and what their numbers
    /// are, and what its secrets are. To be called before [`crate::plan()`].
    pub fn settle(&mut self) -> Result<(), SettleError> {
        secret::read_all(&mut self.secrets)?;
        if self.all_devices {
            let mut found = Vec::new();
            collect(Path::new(DEVICES), &mut found).map_err(SettleError::Devices)?;
            found.retain(|device| self.devices.iter().all(|given| given.target != device.target));
            self.devices.splice(0..0, found);
        }
        for device in &mut self.devices {
            device.number = number(&device.source).map_err(SettleError::Devices)?;
        }
        Ok(())
    }
}

/// Returns major and minor number of a disk.
pub fn block_device(path: &Path) -> Result<(u32, u32), SettleError> {
    match number(path).map_err(SettleError::Devices)? {
        Some(DeviceNumber { kind: DeviceKind::Block, major, minor }) => Ok((major, minor)),
        _ => Err(SettleError::NoDisk { path: path.to_owned() }),
    }
}

/// Which device is at a path; `None` if there is none, which the mount of it will say.
fn number(path: &Path) -> Result<Option<DeviceNumber>, IoError> {
    let Some(metadata) = file::absent_is_none(file::metadata(path))? else { return Ok(None) };
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return Ok(None),
    };
    let number = metadata.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Ok(Some(DeviceNumber { kind, major, minor }))
}

/// Finds device nodes; not terminals, which a container has of its own.
fn collect(directory: &Path, devices: &mut Vec<Device>) -> Result<(), IoError> {
    let mut names = file::list_dir(directory)?;
    names.sort();
    for name in names {
        let path = directory.join(&name);
        // A node may vanish at any time.
        let Some(metadata) = file::absent_is_none(file::symlink_metadata(&path))? else { continue };
        let kind = metadata.file_type();
        let name = name.to_string_lossy();
        if kind.is_dir() && !OWN_DIRECTORIES.contains(&name.as_ref()) {
            collect(&path, devices)?;
        } else if (kind.is_char_device() || kind.is_block_device())
            && !OWN_DEVICES.iter().any(|own| name.starts_with(own))
            && devices.len() < DEVICES_MAX
        {
            devices.push(Device::new(path));
        }
    }
    Ok(())
}
