//! Mount points, found and made beneath the container's root.
//!
//! An image may hold any link at any place. Each path is resolved by the kernel with the
//! container's root as the only root and without the links of `/proc` that lead to other files.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

/// The kernel's own limit of links in one path.
const LINKS_MAX: usize = 40;

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

impl Kind {
    /// A mount point for a directory is a directory; for anything else it is a file.
    pub fn for_source(source: BorrowedFd<'_>) -> io::Result<Self> {
        let mode = rustix::fs::fstat(source)?.st_mode;
        let directory = FileType::from_raw_mode(mode) == FileType::Directory;
        Ok(if directory { Self::Directory } else { Self::File })
    }
}

/// A mount point, and what had to be made for it.
#[derive(Debug)]
pub struct Target {
    pub fd: OwnedFd,
    /// The directories and files that were missing and are now in the file system of the root, as
    /// opposed to one that is mounted in it.
    pub created: Vec<PathBuf>,
}

/// Opens a path that exists, links followed.
pub fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    open_with(root, path, OFlags::PATH)
}

/// The kernel's `PROC_SUPER_MAGIC`.
const PROC_MAGIC: u64 = 0x9fa0;

/// Opens a kernel setting for writing, by its path below `/proc/sys`.
///
/// It is the kernel's own file or none: what a volume has been mounted over, or a link, would be written
/// to with the rights of whoever sets up the container.
pub fn open_setting(root: BorrowedFd<'_>, setting: &Path) -> Result<OwnedFd, Errno> {
    let proc = open(root, Path::new("/proc"))?;
    if u64::try_from(rustix::fs::fstatfs(&proc)?.f_type) != Ok(PROC_MAGIC) {
        return Err(Errno::XDEV);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let (path, flags) = (Path::new("sys").join(setting), OFlags::WRONLY | OFlags::CLOEXEC);
    rustix::fs::openat2(&proc, path, flags, Mode::empty(), resolve)
}

/// The kernel's `TMPFS_MAGIC`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Opens one of the small files that a container has in memory, to be written anew. A path that leads
/// anywhere else by now is refused.
pub fn open_own_file(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let file = open_with(root, path, OFlags::WRONLY)?;
    if u64::try_from(rustix::fs::fstatfs(&file)?.f_type) != Ok(TMPFS_MAGIC) {
        return Err(Errno::XDEV);
    }
    Ok(file)
}

fn open_with(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel could not rule out that a concurrent rename led it astray.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens a path that may be absent.
pub fn open_if_present(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match open(root, path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a mount point, made when it is missing, together with missing parents. A link that leads
/// nowhere is followed to where its target should be.
pub fn ensure(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<Target, Errno> {
    let mut created = Vec::new();
    let fd = ensure_counted(root, path, kind, &mut created, LINKS_MAX)?;
    Ok(Target { fd, created })
}

fn ensure_counted(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: Kind,
    created: &mut Vec<PathBuf>,
    links_left: usize,
) -> Result<OwnedFd, Errno> {
    match open(root, path) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let links_left = links_left.checked_sub(1).ok_or(Errno::LOOP)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        // A path that ends in `..`: its directory does not exist.
        return Err(Errno::NOENT);
    };
    let folder = ensure_counted(root, parent, Kind::Directory, created, links_left)?;
    if let Some(link) = read_link(&folder, name)? {
        let next = if link.is_absolute() { link } else { parent.join(link) };
        return ensure_counted(root, &next, kind, created, links_left);
    }
    // A path descriptor cannot be created in, so that the directory is opened for real.
    let folder = open_with(root, parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
    match kind {
        Kind::Directory => {
            rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755))?;
        }
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
        }
    }
    if is_same_mount(root, folder.as_fd())? {
        created.push(path.to_owned());
    }
    open(root, path)
}

fn is_same_mount(one: BorrowedFd<'_>, two: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mount = |fd| rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    Ok(mount(one)?.stx_mnt_id == mount(two)?.stx_mnt_id)
}

fn read_link(folder: &impl AsFd, name: &OsStr) -> Result<Option<PathBuf>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
            Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes()))))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_sys::file;

    fn root(name: &str) -> (PathBuf, OwnedFd) {
        let path =
            std::env::temp_dir().join(format!("corten-target-{name}-{}", std::process::id()));
        file::remove_tree(&path).expect("removed");
        file::create_dirs(&path, 0o755).expect("created");
        let fd = corten_sys::mount::open_place(&path).expect("opened");
        (path, fd)
    }

    #[test]
    fn missing_parents_are_made_and_told() {
        let (path, root) = root("parents");
        let target = ensure(root.as_fd(), Path::new("/a/b/file"), Kind::File).expect("made");
        assert!(path.join("a/b/file").is_file());
        let names: Vec<_> = target.created.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["/a", "/a/b", "/a/b/file"]);
        let again = ensure(root.as_fd(), Path::new("/a/b/file"), Kind::File).expect("there");
        assert!(again.created.is_empty());
        file::remove_tree(&path).expect("removed");
    }

    #[test]
    fn links_lead_nowhere_but_into_the_root() {
        let (path, root) = root("links");
        let outside = path.with_extension("outside");
        file::remove_tree(&outside).expect("removed");
        file::symlink(Path::new("/etc/target"), &path.join("absolute")).expect("linked");
        file::symlink(Path::new("../../../../../../x/y"), &path.join("up")).expect("linked");
        file::symlink(&outside, &path.join("host")).expect("linked");
        for (link, made) in [("/absolute", "etc/target"), ("/up", "x/y")] {
            ensure(root.as_fd(), Path::new(link), Kind::Directory).expect("made");
            assert!(path.join(made).is_dir(), "{link}");
        }
        ensure(root.as_fd(), Path::new("/host/deep"), Kind::File).expect("made");
        assert!(!outside.exists());
        file::remove_tree(&path).expect("removed");
    }

    #[test]
    fn a_circle_of_links_ends() {
        let (path, root) = root("circle");
        file::symlink(Path::new("b"), &path.join("a")).expect("linked");
        file::symlink(Path::new("a"), &path.join("b")).expect("linked");
        assert!(ensure(root.as_fd(), Path::new("/a"), Kind::File).is_err());
        file::remove_tree(&path).expect("removed");
    }
}
