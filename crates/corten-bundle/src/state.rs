//! What is known of containers, below `--root`.
//!
//! ```text
//! ROOT/ID/            made by `create`, removed by `delete`
//! ├── state.json      the record: written before anything is made, and again when it is
//! ├── config.json     the configuration that it was made from
//! ├── start.sock      on which the first process waits for `start`; gone afterwards
//! └── lock            held by whoever changes the container
//! ```
//!
//! The status is never written but found out: from the process, its freezer, and whether it waits.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::lock::FileLock;
use corten_sys::process::PidFd;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::cgroup::Groups;
use crate::config::{CONFIG_BYTES_MAX, Config};
use crate::error::BundleError;

const VERSION: u32 = 1;
const RECORD_BYTES_MAX: u64 = 4 << 20;
const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
pub(crate) const SOCKET: &str = "start.sock";

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Stopped,
    Paused,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        })
    }
}

/// What is written of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub version: u32,
    pub id: String,
    pub oci_version: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// Name or number of the user who made it.
    pub owner: String,
    /// The first process here; 0 until it is ready.
    pub pid: u32,
    /// When it began, in ticks since boot: tells it from a later one of the same number.
    pub pid_start: u64,
    /// `CLONE_NEW*` in which it differs from who made it.
    pub namespaces: u64,
    /// It has its root by `chroot`.
    pub no_pivot: bool,
    /// Its root is mounted where others see it, too.
    pub shares_mounts: bool,
    pub groups: Groups,
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl Record {
    pub(crate) const VERSION: u32 = VERSION;

    /// Opens the first process, if it is still there.
    pub(crate) fn process(&self) -> Option<PidFd> {
        if self.pid == 0 {
            return None;
        }
        let handle = PidFd::open(self.pid).ok()?;
        // Looked at after the handle was opened: a number that was given anew in between differs.
        let (state, start) = stat(self.pid)?;
        (start == self.pid_start && !matches!(state, 'Z' | 'X')).then_some(handle)
    }
}

/// State letter and start time of a process, from `/proc/PID/stat`.
pub(crate) fn stat(pid: u32) -> Option<(char, u64)> {
    let text = file::read_limited(Path::new(&format!("/proc/{pid}/stat")), 4096).ok()?;
    parse_stat(&String::from_utf8_lossy(&text))
}

fn parse_stat(text: &str) -> Option<(char, u64)> {
    // The name in parentheses may hold anything.
    let rest = text.get(text.rfind(')')? + 1..)?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start field 22.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// The directory of all containers.
#[derive(Debug, Clone)]
pub struct States {
    root: PathBuf,
}

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct Home {
    pub id: String,
    pub path: PathBuf,
}

impl States {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn home(&self, id: &str) -> Result<Home, BundleError> {
        check_id(id)?;
        Ok(Home { id: id.to_owned(), path: self.root.join(id) })
    }

    /// Makes the directory of a new container, and takes its lock.
    pub(crate) fn make(&self, id: &str) -> Result<(Home, FileLock), BundleError> {
        let home = self.home(id)?;
        file::create_dirs(&self.root, 0o711)?;
        match file::create_dir(&home.path, 0o711) {
            Err(error) if error.is_already_exists() => {
                return Err(BundleError::Exists { id: id.to_owned() });
            }
            other => other?,
        }
        let lock = home.lock()?;
        Ok((home, lock))
    }

    /// Finds a container.
    pub(crate) fn find(&self, id: &str) -> Result<Home, BundleError> {
        let home = self.home(id)?;
        if file::exists(&home.path)? {
            return Ok(home);
        }
        Err(BundleError::Absent { id: id.to_owned() })
    }

    /// All containers, by name. What is no container is passed over.
    pub(crate) fn all(&self) -> Result<Vec<Home>, BundleError> {
        let names = file::absent_is_none(file::list_dir(&self.root))?.unwrap_or_default();
        let mut names: Vec<String> =
            names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        let homes = names.iter().filter_map(|id| self.home(id).ok());
        Ok(homes.filter(|home| home.path.join(RECORD).is_file()).collect())
    }
}

fn check_id(id: &str) -> Result<(), BundleError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(plain) {
        return Err(BundleError::InvalidId { id: id.to_owned() });
    }
    Ok(())
}

impl Home {
    /// Waits for the right to change the container.
    pub(crate) fn lock(&self) -> Result<FileLock, BundleError> {
        Ok(FileLock::exclusive(&self.path.join("lock"))?)
    }

    pub(crate) fn write(&self, record: &Record) -> Result<(), BundleError> {
        let path = self.path.join(RECORD);
        let bytes = serde_json::to_vec(record)
            .map_err(|source| BundleError::Json { path: path.clone(), source })?;
        put(&path, &bytes, 0o600)
    }

    /// Reads the record; a container whose record was never written has none.
    pub(crate) fn record(&self) -> Result<Record, BundleError> {
        let path = self.path.join(RECORD);
        let Some(bytes) = file::read_optional(&path, RECORD_BYTES_MAX)? else {
            return Err(BundleError::Absent { id: self.id.clone() });
        };
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| self.foreign(error.to_string()))?;
        if record.version != VERSION {
            return Err(self.foreign(format!("version {}", record.version)));
        }
        Ok(record)
    }

    fn foreign(&self, problem: String) -> BundleError {
        BundleError::State { id: self.id.clone(), problem }
    }

    pub(crate) fn write_config(&self, text: &[u8]) -> Result<(), BundleError> {
        let path = self.path.join(CONFIG);
        let file = file::create_new(&path, 0o600)?;
        Ok(file::write_all(&file, &path, text)?)
    }

    /// Reads the configuration that the container was made from.
    pub(crate) fn config(&self) -> Result<Config, BundleError> {
        read_config(&self.path.join(CONFIG)).map(|(config, _)| config)
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    pub(crate) fn remove(&self) -> Result<(), BundleError> {
        Ok(file::remove_tree(&self.path)?)
    }

    /// Finds out where the container is in its life.
    pub(crate) fn status(&self, record: &Record) -> Result<Status, BundleError> {
        if record.pid == 0 {
            // Whoever makes it holds the lock; one that was killed does not.
            let held = FileLock::try_exclusive_existing(&self.path.join("lock"))?.is_none();
            return Ok(if held { Status::Creating } else { Status::Stopped });
        }
        if record.process().is_none() {
            return Ok(Status::Stopped);
        }
        if record.groups.is_frozen() {
            return Ok(Status::Paused);
        }
        let waits = self.connect()?.is_some();
        Ok(if waits { Status::Created } else { Status::Running })
    }

    /// Connects to a first process that waits for `start`.
    pub(crate) fn connect(&self) -> Result<Option<OwnedFd>, BundleError> {
        let path = self.socket_path();
        if !file::exists(&path)? {
            return Ok(None);
        }
        let refused = |errno: rustix::io::Errno| IoError::new("connect to", &path, errno);
        let (address, _directory) = address(&path).map_err(refused)?;
        let socket = socket().map_err(refused)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => Ok(Some(socket)),
            // The program was executed, and with that the listener was closed.
            Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(refused(errno).into()),
        }
    }

    /// Makes the socket on which the first process waits.
    pub(crate) fn listen(&self) -> Result<OwnedFd, BundleError> {
        let path = self.socket_path();
        let refused = |errno: rustix::io::Errno| IoError::new("listen on", &path, errno);
        let (address, _directory) = address(&path).map_err(refused)?;
        let socket = socket().map_err(refused)?;
        rustix::net::bind(&socket, &address).map_err(refused)?;
        rustix::net::listen(&socket, 4).map_err(refused)?;
        Ok(socket)
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Names a socket by a descriptor of its directory, which must stay open meanwhile: the kernel takes no
/// path of more than 107 bytes.
pub(crate) fn address(path: &Path) -> rustix::io::Result<(SocketAddrUnix, OwnedFd)> {
    use std::os::fd::AsRawFd as _;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = rustix::fs::open(
        parent.unwrap_or(Path::new(".")),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let name = path.file_name().ok_or(rustix::io::Errno::INVAL)?;
    let short = Path::new("/proc/self/fd").join(directory.as_fd().as_raw_fd().to_string());
    Ok((SocketAddrUnix::new(short.join(name))?, directory))
}

/// Puts a complete file under a name. After a crash of the machine there is no container that it could
/// tell of, so that nothing is synced.
pub(crate) fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), BundleError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", corten_sys::random::name()));
    let temporary = PathBuf::from(temporary);
    let file = file::create_new(&temporary, mode)?;
    let written =
        file::write_all(&file, &temporary, bytes).and_then(|()| file::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report.
        file::remove_file(&temporary).unwrap_or_default();
        return Err(error.into());
    }
    Ok(())
}

/// Reads a configuration and its text.
pub(crate) fn read_config(path: &Path) -> Result<(Config, Vec<u8>), BundleError> {
    let bytes = file::read_limited(path, CONFIG_BYTES_MAX)?;
    let config = serde_json::from_slice(&bytes)
        .map_err(|source| BundleError::Json { path: path.to_owned(), source })?;
    Ok((config, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_and_start_of_a_process_are_found_behind_any_name() {
        let text = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 999 20\n";
        assert_eq!(parse_stat(text), Some(('S', 999)));
        assert_eq!(parse_stat("42 (x"), None);
        let own = stat(std::process::id()).expect("we are there");
        assert!(own.1 > 0);
    }

    #[test]
    fn ids_cannot_leave_the_root() {
        for id in ["", ".", "..", "a/b", "../x", "a b", "a\0", "ä"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        for id in ["a", "A.b-c_d+1", "..."] {
            assert!(check_id(id).is_ok(), "{id:?}");
        }
    }
}
