//! Work below a directory that may hold anything: what an image brings never leads out of it.
//!
//! A [`Root`] resolves paths of several components in the kernel (`openat2`), so that neither a
//! `..` nor a symbolic link can leave it, and there is no moment between a check and a use. A
//! [`Dir`] is a directory held open; its operations take one single name and never follow a link.
//!
//! Not here: what to do about an escape. `openat2` answers `EXDEV` or `ELOOP` and the caller
//! decides.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, RawMode, ResolveFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::clock::Timestamp;
use crate::error::IoError;

/// How often a resolution is tried again when the kernel saw a rename at the same time.
const RESOLVE_TRIES_MAX: u32 = 64;

/// How many directories are open at once while a tree is removed.
const REMOVE_DEPTH_MAX: u32 = 32;

/// The largest list of extended attribute names that Linux returns (`XATTR_LIST_MAX`).
const XATTR_LIST_BYTES_MAX: usize = 65536;

/// What happens to links on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// No link is followed and no `..` leaves the root: a path that has one is refused.
    NoLinks,
    /// Links are followed as if the root were `/`: absolute ones start at the root again.
    InRoot,
}

impl Resolve {
    fn flags(self) -> ResolveFlags {
        match self {
            Self::NoLinks => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            Self::InRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        }
    }
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What is known about a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The type.
    pub kind: FileKind,
    /// Permission bits with set-uid, set-gid and sticky (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size of the content in bytes.
    pub size_bytes: u64,
    /// When the content was changed.
    pub modified: Timestamp,
    /// When the inode was changed.
    pub changed: Timestamp,
    /// The number of names.
    pub links: u64,
    /// The inode, with `device` the identity of the file.
    pub inode: u64,
    /// The device that holds the file.
    pub device: u64,
    /// The device that the file stands for, as (major, minor).
    pub represents: (u32, u32),
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// The type, when the file system tells it with the name.
    pub kind: Option<FileKind>,
}

/// A device node to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Extended attributes: names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A directory that no path given to it leaves.
#[derive(Debug)]
pub struct Root {
    dir: Dir,
}

/// A directory held open.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

impl Root {
    /// Opens a directory by a trusted path.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        Ok(Self { dir: Dir::open(path)? })
    }

    /// Takes an open directory as the root.
    pub fn of(dir: Dir) -> Self {
        Self { dir }
    }

    /// Returns the root itself as a directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Opens a directory below; `.` is the root.
    pub fn open_dir(&self, path: &Path, resolve: Resolve) -> Result<Dir, IoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Dir { fd: self.resolve(path, flags, resolve)?, path: self.dir.at(path) })
    }

    /// Opens a file below for reading; pipes and devices do not block.
    pub fn open_file(&self, path: &Path, resolve: Resolve) -> Result<File, IoError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(self.resolve(path, flags, resolve)?.into())
    }

    /// Opens whatever is below as a handle that can only be inspected (`O_PATH`).
    pub fn open_handle(&self, path: &Path, resolve: Resolve) -> Result<OwnedFd, IoError> {
        self.resolve(path, OFlags::PATH, resolve)
    }

    /// Inspects what is below; with [`Resolve::InRoot`] the last link is followed too.
    pub fn stat(&self, path: &Path, resolve: Resolve) -> Result<Stat, IoError> {
        let handle = self.open_handle(path, resolve)?;
        stat_fd(handle.as_fd()).map_err(|errno| self.dir.error("inspect", path, errno))
    }

    /// Opens the directory that holds the last component, and returns that component.
    pub fn parent<'p>(
        &self,
        path: &'p Path,
        resolve: Resolve,
    ) -> Result<(Dir, &'p OsStr), IoError> {
        let (parent, name) =
            split(path).ok_or_else(|| self.dir.error("open", path, Errno::INVAL))?;
        Ok((self.open_dir(parent, resolve)?, name))
    }

    /// Creates a directory and its parents below; what exists stays as it is.
    pub fn create_dirs(&self, path: &Path, mode: u32, resolve: Resolve) -> Result<Dir, IoError> {
        match self.open_dir(path, resolve) {
            Err(error) if error.is_not_found() => {}
            opened => return opened,
        }
        let Some((parent, name)) = split(path) else {
            return Err(self.dir.error("create", path, Errno::INVAL));
        };
        let parent = self.create_dirs(parent, mode, resolve)?;
        match parent.create_dir(name, mode) {
            Err(error) if error.is_already_exists() => {}
            created => created?,
        }
        self.open_dir(path, resolve)
    }

    fn resolve(&self, path: &Path, flags: OFlags, resolve: Resolve) -> Result<OwnedFd, IoError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mut tries = 0;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match rustix::fs::openat2(&self.dir.fd, path, flags, Mode::empty(), resolve.flags()) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN | Errno::INTR) if tries < RESOLVE_TRIES_MAX => tries += 1,
                Err(errno) => return Err(self.dir.error("open", path, errno)),
            }
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.fd.as_fd()
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a directory by a trusted path; links on the way are followed.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| IoError::new("open", path, errno))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Returns the path that messages show.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory another path in messages.
    #[must_use]
    pub fn shown_as(self, path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Opens a directory in this one.
    pub fn open_dir(&self, name: &OsStr) -> Result<Self, IoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.openat("open", name, flags, 0)?;
        Ok(Self { fd, path: self.path.join(name) })
    }

    /// Opens a regular file in this directory for reading.
    pub fn open_file(&self, name: &OsStr) -> Result<File, IoError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(self.openat("open", name, flags | OFlags::CLOEXEC, 0)?.into())
    }

    /// Opens a file of this directory for reading and writing; a link is refused.
    pub fn open_file_to_change(&self, name: &OsStr) -> Result<File, IoError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(self.openat("open", name, flags | OFlags::CLOEXEC, 0)?.into())
    }

    /// Creates a file that must not exist yet.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> Result<File, IoError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        Ok(self.openat("create", name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// Creates a file without a name, which vanishes unless it gets one; `None` where the file system
    /// has no such files.
    pub fn create_unnamed(&self, mode: u32) -> Result<Option<File>, IoError> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, ".", flags, Mode::from_raw_mode(mode)) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.error("create a file in", Path::new(""), errno)),
        }
    }

    /// Gives a file that was created without a name one that is free.
    pub fn name_unnamed(&self, file: &File, name: &OsStr) -> Result<(), IoError> {
        self.single("create", name)?;
        let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, handle, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| self.error("create", name, errno))
    }

    /// Creates a directory.
    pub fn create_dir(&self, name: &OsStr, mode: u32) -> Result<(), IoError> {
        self.single("create", name)?;
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
            .map_err(|errno| self.error("create", name, errno))
    }

    /// Creates a symbolic link with any target.
    pub fn symlink(&self, name: &OsStr, target: &OsStr) -> Result<(), IoError> {
        self.single("link", name)?;
        rustix::fs::symlinkat(target, &self.fd, name)
            .map_err(|errno| self.error("link", name, errno))
    }

    /// Gives a file in `from` a second name here; a link itself gets the name, not its target.
    pub fn hard_link(&self, from: &Dir, old: &OsStr, name: &OsStr) -> Result<(), IoError> {
        self.single("link", name)?;
        from.single("link", old)?;
        rustix::fs::linkat(&from.fd, old, &self.fd, name, AtFlags::empty())
            .map_err(|errno| self.error("link", name, errno))
    }

    /// Moves a name of `from` here and replaces what is there.
    pub fn rename(&self, from: &Dir, old: &OsStr, name: &OsStr) -> Result<(), IoError> {
        self.single("rename to", name)?;
        from.single("rename", old)?;
        rustix::fs::renameat(&from.fd, old, &self.fd, name)
            .map_err(|errno| self.error("rename to", name, errno))
    }

    /// Makes a device node or a named pipe.
    pub fn create_device(&self, name: &OsStr, device: Device, mode: u32) -> Result<(), IoError> {
        self.single("create", name)?;
        let (kind, number) = match device {
            Device::Char(major, minor) => {
                (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            Device::Block(major, minor) => {
                (FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
            Device::Fifo => (FileType::Fifo, 0),
        };
        rustix::fs::mknodat(&self.fd, name, kind, Mode::from_raw_mode(mode), number)
            .map_err(|errno| self.error("create", name, errno))
    }

    /// Removes a name that is not a directory.
    pub fn remove_file(&self, name: &OsStr) -> Result<(), IoError> {
        self.single("remove", name)?;
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(|errno| self.error("remove", name, errno))
    }

    /// Removes a name and all below it, without following links; absence is success.
    ///
    /// Any depth can be removed: what lies too deep is first moved up.
    pub fn remove_tree(&self, name: &OsStr) -> Result<(), IoError> {
        match self.stat(name) {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(stat) if stat.kind != FileKind::Directory => return absent(self.remove_file(name)),
            Ok(_) => {}
        }
        let Some(top) = self.open_to_clear(name)? else { return Ok(()) };
        let mut moved = 0;
        loop {
            let before = moved;
            top.clear(0, &top, &mut moved)?;
            if moved == before {
                break;
            }
        }
        absent(self.remove_dir(name))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, name: &OsStr) -> Result<(), IoError> {
        self.single("remove", name)?;
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .map_err(|errno| self.error("remove", name, errno))
    }

    /// Removes everything in this directory; what is too deep is moved into `top` and counted.
    fn clear(&self, depth: u32, top: &Dir, moved: &mut u64) -> Result<(), IoError> {
        for entry in self.list()? {
            let name = entry.name.as_os_str();
            let kind = match entry.kind {
                Some(kind) => kind,
                None => self.stat(name)?.kind,
            };
            if kind != FileKind::Directory {
                absent(self.remove_file(name))?;
            } else if depth >= REMOVE_DEPTH_MAX {
                let up = OsString::from(format!(".corten-{}-{moved}", crate::random::name()));
                top.rename(self, name, &up)?;
                *moved += 1;
            } else if let Some(inner) = self.open_to_clear(name)? {
                inner.clear(depth + 1, top, moved)?;
                absent(self.remove_dir(name))?;
            }
        }
        Ok(())
    }

    /// Opens a directory whose content is to be removed, and gives us the right to do so where it is
    /// ours. `None` if it is gone.
    fn open_to_clear(&self, name: &OsStr) -> Result<Option<Dir>, IoError> {
        let opened = match self.open_dir(name) {
            Err(error) if error.is_permission_denied() => {
                self.set_mode(name, 0o700)?;
                self.open_dir(name)
            }
            opened => opened,
        };
        let dir = match opened {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        if dir.stat_self()?.mode & 0o300 != 0o300 {
            rustix::fs::fchmod(&dir.fd, Mode::from_raw_mode(0o700))
                .map_err(|errno| self.error("change the mode of", name, errno))?;
        }
        Ok(Some(dir))
    }

    /// Inspects a name; a link is not followed.
    pub fn stat(&self, name: &OsStr) -> Result<Stat, IoError> {
        self.single("inspect", name)?;
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| convert(&stat))
            .map_err(|errno| self.error("inspect", name, errno))
    }

    /// Inspects the directory itself.
    pub fn stat_self(&self) -> Result<Stat, IoError> {
        stat_fd(self.fd.as_fd()).map_err(|errno| self.error("inspect", Path::new(""), errno))
    }

    /// Returns where the directory is now, by the kernel's own record of it.
    pub fn real_path(&self) -> Result<PathBuf, IoError> {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        std::fs::read_link(link).map_err(|error| IoError::new("find", &self.path, error))
    }

    /// Reads where a link points.
    pub fn read_link(&self, name: &OsStr) -> Result<Vec<u8>, IoError> {
        self.single("read the link", name)?;
        rustix::fs::readlinkat(&self.fd, name, Vec::with_capacity(256))
            .map(std::ffi::CString::into_bytes)
            .map_err(|errno| self.error("read the link", name, errno))
    }

    /// Returns the names in this directory, in the order of their bytes.
    pub fn list(&self) -> Result<Vec<Entry>, IoError> {
        // A second descriptor, since reading moves the position of the shared one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
            .map_err(|errno| self.error("list", Path::new(""), errno))?;
        let mut buffer = Vec::with_capacity(16 * 1024);
        let mut raw = RawDir::new(&fd, buffer.spare_capacity_mut());
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(|errno| self.error("list", Path::new(""), errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let name = OsStr::from_bytes(name).to_owned();
                entries.push(Entry { name, kind: kind_of(entry.file_type()) });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes the owner; a link itself is changed, not its target.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> Result<(), IoError> {
        self.single("change the owner of", name)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("change the owner of", name, errno))
    }

    /// Changes the mode; not for links, which have none.
    ///
    /// The kernel follows a link here, so the caller must know that the name is not one.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<(), IoError> {
        self.single("change the mode of", name)?;
        rustix::fs::chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(|errno| self.error("change the mode of", name, errno))
    }

    /// Changes the mode of the directory itself.
    pub fn set_mode_self(&self, mode: u32) -> Result<(), IoError> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode))
            .map_err(|errno| self.error("change the mode of", Path::new(""), errno))
    }

    /// Changes the owner of the directory itself.
    pub fn set_owner_self(&self, uid: u32, gid: u32) -> Result<(), IoError> {
        rustix::fs::fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| self.error("change the owner of", Path::new(""), errno))
    }

    /// Sets both times; a link itself is changed, not its target.
    pub fn set_times(&self, name: &OsStr, modified: Timestamp) -> Result<(), IoError> {
        self.single("change the times of", name)?;
        let times = timestamps(modified);
        rustix::fs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("change the times of", name, errno))
    }

    /// Sets an extended attribute of any kind of file; a link is not followed.
    pub fn set_xattr(&self, name: &OsStr, key: &[u8], value: &[u8]) -> Result<(), IoError> {
        let path = self.proc_path("set an attribute of", name)?;
        rustix::fs::lsetxattr(path, key, value, XattrFlags::empty())
            .map_err(|errno| self.error("set an attribute of", name, errno))
    }

    /// Removes an extended attribute; absence is success.
    pub fn remove_xattr(&self, name: &OsStr, key: &[u8]) -> Result<(), IoError> {
        let path = self.proc_path("remove an attribute of", name)?;
        match rustix::fs::lremovexattr(path, key) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => Err(self.error("remove an attribute of", name, errno)),
        }
    }

    /// Returns the value of an extended attribute, if it is set.
    pub fn xattr(&self, name: &OsStr, key: &[u8]) -> Result<Option<Vec<u8>>, IoError> {
        let path = self.proc_path("read an attribute of", name)?;
        let mut value = vec![0; XATTR_LIST_BYTES_MAX];
        match rustix::fs::lgetxattr(path, key, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.error("read an attribute of", name, errno)),
        }
    }

    /// Returns the names of the extended attributes, sorted.
    pub fn xattr_names(&self, name: &OsStr) -> Result<Vec<Vec<u8>>, IoError> {
        let path = self.proc_path("list the attributes of", name)?;
        let mut list = vec![0; XATTR_LIST_BYTES_MAX];
        match rustix::fs::llistxattr(path, list.as_mut_slice()) {
            Ok(length) => Ok(split_names(list.get(..length).unwrap_or_default())),
            Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            Err(errno) => Err(self.error("list the attributes of", name, errno)),
        }
    }

    /// A path to a name here for the calls that know no directory descriptor.
    fn proc_path(&self, operation: &'static str, name: &OsStr) -> Result<PathBuf, IoError> {
        self.single(operation, name)?;
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        path.push(name);
        Ok(path)
    }

    fn openat(
        &self,
        operation: &'static str,
        name: &OsStr,
        flags: OFlags,
        mode: RawMode,
    ) -> Result<OwnedFd, IoError> {
        self.single(operation, name)?;
        rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .map_err(|errno| self.error(operation, name, errno))
    }

    /// Refuses anything but one plain name: this is what keeps a `Dir` from being left.
    fn single(&self, operation: &'static str, name: &OsStr) -> Result<(), IoError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(self.error(operation, name, Errno::INVAL));
        }
        Ok(())
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn error(&self, operation: &'static str, path: impl AsRef<Path>, errno: Errno) -> IoError {
        IoError::new(operation, self.at(path.as_ref()), errno)
    }
}

/// Inspects an open file.
pub fn stat_file(file: &File, path: &Path) -> Result<Stat, IoError> {
    stat_fd(file.as_fd()).map_err(|errno| IoError::new("inspect", path, errno))
}

/// Sets both times of an open file or directory.
pub fn set_times(file: impl AsFd, path: &Path, modified: Timestamp) -> Result<(), IoError> {
    rustix::fs::futimens(file, &timestamps(modified))
        .map_err(|errno| IoError::new("change the times of", path, errno))
}

/// Returns the extended attributes of an open file or directory.
///
/// `keep` chooses by name before the value is read.
pub fn xattrs(
    file: impl AsFd,
    path: &Path,
    keep: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Xattrs, IoError> {
    let file = file.as_fd();
    let error = |errno| IoError::new("read the attributes of", path, errno);
    let names = match with_buffer(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Ok(list) => split_names(&list),
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(error(errno)),
    };
    let mut found = Vec::new();
    for name in names {
        if !keep(&name) {
            continue;
        }
        match with_buffer(|buffer| rustix::fs::fgetxattr(file, name.as_slice(), buffer)) {
            Ok(value) => found.push((name, value)),
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(error(errno)),
        }
    }
    Ok(found)
}

/// Calls with a small buffer, and again with the largest that can be needed if that was too small.
fn with_buffer(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match call(&mut small) {
        Err(Errno::RANGE) => {}
        length => return Ok(small.get(..length?).unwrap_or_default().to_vec()),
    }
    let mut large = vec![0; XATTR_LIST_BYTES_MAX];
    let length = call(&mut large)?;
    large.truncate(length);
    Ok(large)
}

/// Returns a short extended attribute of an open file or directory, if it is set.
pub fn xattr(file: impl AsFd, path: &Path, key: &[u8]) -> Result<Option<Vec<u8>>, IoError> {
    let mut value = [0; 256];
    match rustix::fs::fgetxattr(file, key, value.as_mut_slice()) {
        Ok(length) => Ok(value.get(..length).map(<[u8]>::to_vec)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(IoError::new("read an attribute of", path, errno)),
    }
}

/// Sets an extended attribute of an open file or directory.
pub fn set_xattr(file: impl AsFd, path: &Path, key: &[u8], value: &[u8]) -> Result<(), IoError> {
    rustix::fs::fsetxattr(file, key, value, XattrFlags::empty())
        .map_err(|errno| IoError::new("set an attribute of", path, errno))
}

/// Removes an extended attribute of an open file or directory; absence is success.
pub fn remove_xattr(file: impl AsFd, path: &Path, key: &[u8]) -> Result<(), IoError> {
    match rustix::fs::fremovexattr(file, key) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(errno) => Err(IoError::new("remove an attribute of", path, errno)),
    }
}

/// Takes "not found" as success: somebody else was faster.
fn absent(result: Result<(), IoError>) -> Result<(), IoError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let trimmed = bytes.strip_suffix(b"/").unwrap_or(bytes);
    let cut = trimmed.iter().rposition(|&byte| byte == b'/');
    let (parent, name) = match cut {
        Some(cut) => (trimmed.get(..cut)?, trimmed.get(cut + 1..)?),
        None => (&b""[..], trimmed),
    };
    if name.is_empty() || name == b"." || name == b".." {
        return None;
    }
    Some((Path::new(OsStr::from_bytes(parent)), OsStr::from_bytes(name)))
}

fn split_names(list: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> =
        list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort_unstable();
    names
}

fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    rustix::fs::fstat(fd).map(|stat| convert(&stat))
}

fn timestamps(time: Timestamp) -> Timestamps {
    let spec = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: spec, last_modification: spec }
}

fn kind_of(kind: FileType) -> Option<FileKind> {
    match kind {
        FileType::RegularFile => Some(FileKind::File),
        FileType::Directory => Some(FileKind::Directory),
        FileType::Symlink => Some(FileKind::Symlink),
        FileType::CharacterDevice => Some(FileKind::CharDevice),
        FileType::BlockDevice => Some(FileKind::BlockDevice),
        FileType::Fifo => Some(FileKind::Fifo),
        FileType::Socket => Some(FileKind::Socket),
        FileType::Unknown => None,
    }
}

#[allow(
    clippy::cast_lossless,
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the widths of the fields differ by architecture"
)]
fn convert(stat: &rustix::fs::Stat) -> Stat {
    let time = |seconds: i64, nanoseconds: u64| Timestamp {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    Stat {
        // The seven kinds are all that Linux has; an unknown one is treated as opaque as a socket.
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)).unwrap_or(FileKind::Socket),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: time(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
        changed: time(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
        links: stat.st_nlink as u64,
        inode: stat.st_ino.into(),
        device: stat.st_dev.into(),
        represents: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
    }
}

/// Returns the error that a path leaves its root or has too many links, as told by the kernel.
pub fn is_escape(error: &IoError) -> bool {
    matches!(error.errno(), Some(libc::EXDEV | libc::ELOOP))
}

/// Returns an error of this family without a system call, for a path that we refuse ourselves.
pub fn refused(operation: &'static str, path: &Path) -> IoError {
    IoError::new(operation, path, io::Error::from_raw_os_error(libc::EXDEV))
}

/// Returns the error that the kernel gives for too many links, for links that we follow ourselves.
pub fn too_many_links(path: &Path) -> IoError {
    IoError::new("follow the link to", path, io::Error::from_raw_os_error(libc::ELOOP))
}
