//! Mounts, devices and small changes below the container's root.
//!
//! An image may hold any link at any place, and other containers may change it meanwhile: each path is
//! resolved by the kernel with the container's root as the only root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_runtime::target::{self, Kind};
use corten_sys::mount::{self, Change, FileSystem};
use corten_sys::tty;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::Walker;
use crate::plan::options::Options;
use crate::plan::steps::{Node, Plan, RootChange, Step};

/// `PROC_SUPER_MAGIC`.
const PROC_MAGIC: u64 = 0x9fa0;
/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS_MAGIC: u64 = 0x1cd1;
/// The kernel takes no longer texts for options of file systems.
const TEXT_BYTES_MAX: usize = 255;
const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

fn missing() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

impl Walker<'_> {
    /// Puts the root file system in place, under the name `/` or where it is.
    pub(super) fn open_root(&mut self, plan: &Plan) -> io::Result<()> {
        let (flags, recursive) = self.propagation;
        let all = mount::open_place(Path::new("/"))?;
        let change = |mount: BorrowedFd<'_>, propagation, recursive| {
            mount::change(mount, Change { propagation, ..Change::default() }, recursive)
        };
        if self.root_change != RootChange::ChrootInPlace {
            change(all.as_fd(), flags, recursive)?;
            // The change of the root needs this, whatever holds for the mounts below.
            change(all.as_fd(), libc::MS_PRIVATE, false)?;
        }
        if plan.steps.iter().any(|step| matches!(step, Step::Mask { .. })) {
            self.null = Some(null()?);
        }
        let root = self.source(None)?;
        // The parent of mounts in there is it, and no change of theirs shall reach the bundle.
        change(root.as_fd(), libc::MS_PRIVATE, false)?;
        match self.root_change {
            RootChange::Pivot | RootChange::Chroot => {
                mount::attach_at(root.as_fd(), Path::new("/"))?;
            }
            RootChange::ChrootInPlace => mount::attach_at(root.as_fd(), self.rootfs)?,
        }
        self.root = Some(root);
        self.old_root = Some(all);
        Ok(())
    }

    /// A detached copy of the root file system's mount, or of a source.
    fn source(&self, index: Option<usize>) -> io::Result<OwnedFd> {
        let given = self.sources.get(index.map_or(0, |index| index + 1));
        if let Some(given) = given {
            return given.try_clone();
        }
        let (path, recursive) = match index {
            None => (self.rootfs, true),
            Some(index) => {
                let source = self.plan_sources.get(index).ok_or_else(missing)?;
                if source.mapped.is_some() {
                    return Err(io::Error::from_raw_os_error(libc::EPERM));
                }
                (source.path.as_path(), source.recursive)
            }
        };
        mount::copy_path(path, recursive)
    }

    pub(super) fn change_root(&mut self) -> io::Result<()> {
        let root = self.root()?;
        rustix::process::fchdir(root)?;
        if self.root_change == RootChange::Pivot {
            mount::swap_root()?;
            let old_root = self.old_root.take().ok_or_else(missing)?;
            // What is taken away here must stay out there.
            let change = Change { propagation: libc::MS_SLAVE, ..Change::default() };
            mount::change(old_root.as_fd(), change, true)?;
            return mount::drop_old_root(old_root.as_fd());
        }
        rustix::process::chroot(".")?;
        self.old_root = None;
        Ok(rustix::process::chdir("/")?)
    }

    pub(super) fn change_files(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Bind { source, target, options } => self.bind(*source, target, options),
            Step::Mount { kind, source, target, options } => {
                self.mount(kind, source, target, options)
            }
            Step::Device { path, node, mode, uid, gid, must_match } => {
                self.make_device(path, *node, *mode, (*uid, *gid), *must_match)
            }
            Step::Link { path, target, replace } => self.link(path, target, *replace),
            Step::MakeDirectory { path } => {
                match target::ensure(self.root()?, path, Kind::Directory) {
                    // It is asked for again when it is entered.
                    Ok(_)
                    | Err(
                        Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::EXIST | Errno::NOTDIR,
                    ) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            }
            Step::Mask { path } => self.mask(path),
            Step::MakeReadonly { path } => self.make_readonly(path),
            Step::SealMount { path } => {
                let readonly = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
                mount::change(target::open(self.root()?, path)?.as_fd(), readonly, false)
            }
            Step::Sysctl { name, value } => self.set_sysctl(name, value),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    fn bind(&self, source: usize, path: &Path, options: &Options) -> io::Result<()> {
        let source = self.source(Some(source))?;
        let target = target::ensure(self.root()?, path, Kind::for_source(source.as_fd())?)?;
        let own = Change { set: options.set, clear: options.clear, propagation: 0 };
        if own != Change::default() {
            mount::change(source.as_fd(), own, false)?;
        }
        mount::attach(source.as_fd(), target.fd.as_fd())?;
        change_more(source.as_fd(), options)
    }

    fn mount(&self, kind: &str, source: &str, path: &Path, options: &Options) -> io::Result<()> {
        let system = FileSystem::new(kind)?;
        if !source.is_empty() && source.len() <= TEXT_BYTES_MAX {
            system.text("source", source)?;
        }
        for (key, value) in &options.data {
            match value {
                None => system.flag(key)?,
                Some(value) if value.len() <= TEXT_BYTES_MAX => system.text(key, value)?,
                // Overlays take their many layers one by one.
                Some(value) if kind == "overlay" && key == "lowerdir" => {
                    value.split(':').try_for_each(|layer| system.text("lowerdir+", layer))?;
                }
                Some(_) => return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
            }
        }
        let target = self.place(kind, path)?;
        let mounted = system.mount_with(options.set)?;
        if options.copy_up && kind == "tmpfs" {
            let old = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            // A new mount's descriptor is good for nothing but naming it.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let new = rustix::fs::openat(&mounted, ".", flags, Mode::empty())?;
            copy_up(old.as_fd(), new.as_fd())?;
        }
        mount::attach(mounted.as_fd(), target.as_fd())?;
        change_more(mounted.as_fd(), options)
    }

    /// Opens the place for a file system. What the kernel shows of itself must not be where a link leads:
    /// what is masked later would be somewhere else.
    fn place(&self, kind: &str, path: &Path) -> io::Result<OwnedFd> {
        if matches!(kind, "proc" | "sysfs") {
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            match rustix::fs::openat2(self.root()?, path, flags, Mode::empty(), how) {
                Err(Errno::NOENT) => {}
                other => return Ok(other?),
            }
        }
        Ok(target::ensure(self.root()?, path, Kind::Directory)?.fd)
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        loop {
            match rustix::fs::openat2(self.root()?, path, flags, Mode::empty(), how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// The directory that a file is in, made when it is missing, and the name in there.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        Ok((target::ensure(self.root()?, parent, Kind::Directory)?.fd, name))
    }

    fn make_device(
        &self,
        path: &Path,
        node: Node,
        mode: u32,
        (uid, gid): (u32, u32),
        must_match: bool,
    ) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        let device = rustix::fs::makedev(node.major, node.minor);
        let kind = FileType::from_raw_mode(node.kind);
        match rustix::fs::mknodat(&folder, name, kind, Mode::from_raw_mode(mode), device) {
            Err(Errno::EXIST) => {
                let found = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let same = FileType::from_raw_mode(found.st_mode) == kind
                    && (node.kind == libc::S_IFIFO || found.st_rdev == device);
                if !same {
                    return Err(io::Error::from_raw_os_error(libc::EEXIST));
                }
                if !must_match {
                    return Ok(());
                }
            }
            other => other?,
        }
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&folder, name, Some(user), Some(group), flags)?;
        // The file mode mask does not apply to this; nothing but this process changes the directory yet.
        Ok(rustix::fs::chmodat(&folder, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
    }

    fn link(&self, path: &Path, to: &str, replace: bool) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::symlinkat(to, &folder, name) {
            Err(Errno::EXIST) if replace => {
                match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                    // What is mounted there was asked for.
                    Err(Errno::BUSY | Errno::ISDIR) => return Ok(()),
                    other => other?,
                }
                Ok(rustix::fs::symlinkat(to, &folder, name)?)
            }
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Covers a file with the host's `/dev/null` and a directory with an empty one.
    fn mask(&self, path: &Path) -> io::Result<()> {
        let Some(target) = target::open_if_present(self.root()?, path)? else { return Ok(()) };
        let readonly = libc::MOUNT_ATTR_RDONLY | PLAIN;
        let cover = match Kind::for_source(target.as_fd())? {
            Kind::Directory => {
                let system = FileSystem::new("tmpfs")?;
                system.text("size", "0k")?;
                system.text("nr_inodes", "1")?;
                system.mount_with(readonly)?
            }
            Kind::File => {
                let null = self.null.as_ref().ok_or_else(missing)?;
                mount::copy_descriptor(null.as_fd(), false)?
            }
        };
        mount::attach(cover.as_fd(), target.as_fd())
    }

    fn make_readonly(&self, path: &Path) -> io::Result<()> {
        let Some(target) = target::open_if_present(self.root()?, path)? else { return Ok(()) };
        let copy = mount::copy_descriptor(target.as_fd(), true)?;
        let readonly = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
        mount::change(copy.as_fd(), readonly, true)?;
        mount::attach(copy.as_fd(), target.as_fd())
    }

    fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let file =
            self.open(&Path::new("/proc/sys").join(path_of_setting(name)), OFlags::WRONLY)?;
        require(file.as_fd(), PROC_MAGIC)?;
        rustix::io::write(&file, value.as_bytes())?;
        Ok(())
    }

    pub(super) fn make_terminal(
        &mut self,
        uid: u32,
        size: Option<(u16, u16)>,
        console: bool,
    ) -> io::Result<()> {
        let master = self.open(Path::new("/dev/pts/ptmx"), OFlags::RDWR)?;
        require(master.as_fd(), DEVPTS_MAGIC)?;
        let slave = tty::open_other_side(master.as_fd())?;
        if let Some(size) = size {
            tty::set_size(master.as_fd(), size)?;
        }
        match rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), None) {
            // An id that the user namespace does not have.
            Err(Errno::INVAL) => {}
            other => other?,
        }
        if console {
            let copy = mount::copy_descriptor(slave.as_fd(), false)?;
            let target = target::ensure(self.root()?, Path::new("/dev/console"), Kind::File)?;
            mount::attach(copy.as_fd(), target.fd.as_fd())?;
        }
        self.hand_over(&master)?;
        tty::make_controlling(slave.as_fd())?;
        rustix::stdio::dup2_stdin(&slave)?;
        rustix::stdio::dup2_stdout(&slave)?;
        Ok(rustix::stdio::dup2_stderr(&slave)?)
    }
}

/// What holds for the mounts below, too, and how changes of mounts pass on.
fn change_more(mount: BorrowedFd<'_>, options: &Options) -> io::Result<()> {
    if options.set_all != 0 || options.clear_all != 0 {
        let all = Change { set: options.set_all, clear: options.clear_all, propagation: 0 };
        mount::change(mount, all, true)?;
    }
    for (propagation, recursive) in &options.propagation {
        let change = Change { propagation: *propagation, ..Change::default() };
        mount::change(mount, change, *recursive)?;
    }
    Ok(())
}

/// The host's `/dev/null`, which is the device and nothing else.
fn null() -> io::Result<OwnedFd> {
    let null = mount::copy_path(Path::new("/dev/null"), false)?;
    let found = rustix::fs::fstat(&null)?;
    let is_null = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(io::Error::from_raw_os_error(libc::ENODEV)) }
}

/// Fails if a file is not of the file system that it must be of.
fn require(file: BorrowedFd<'_>, magic: u64) -> io::Result<()> {
    let found = u64::try_from(rustix::fs::fstatfs(file)?.f_type).unwrap_or_default();
    if found == magic { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EXDEV)) }
}

/// As `sysctl(8)` reads names: the first separator says which of the two is meant as such.
fn path_of_setting(name: &str) -> PathBuf {
    let first = name.find(['.', '/']).and_then(|at| name.get(at..=at));
    if first == Some("/") {
        return PathBuf::from(name);
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    PathBuf::from(name.chars().map(swap).collect::<String>())
}

/// Copies what a mount is about to cover.
fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let own = rustix::fs::fstat(from)?;
    set_like(to, &own)?;
    for entry in rustix::fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let open = |at: BorrowedFd<'_>| {
                    rustix::fs::openat(at, name, flags | OFlags::DIRECTORY, Mode::empty())
                };
                copy_up(open(from)?.as_fd(), open(to)?.as_fd())?;
            }
            FileType::RegularFile => {
                let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                io::copy(
                    &mut std::fs::File::from(source),
                    &mut std::fs::File::from(copy.try_clone()?),
                )?;
                set_like(copy.as_fd(), &found)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
            }
            kind => {
                let mode = Mode::from_raw_mode(found.st_mode & 0o7777);
                rustix::fs::mknodat(to, name, kind, mode, found.st_rdev)?;
            }
        }
    }
    Ok(())
}

fn set_like(file: BorrowedFd<'_>, like: &rustix::fs::Stat) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    rustix::fs::fchown(file, Some(user), Some(group))?;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(like.st_mode & 0o7777))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_of_a_setting_counts() {
        let path = |name| path_of_setting(name).display().to_string();
        assert_eq!(path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.1/x"), "net/ipv4/conf/eth0.1/x");
        assert_eq!(path("net.ipv4.conf.eth0/1.x"), "net/ipv4/conf/eth0.1/x");
    }

    #[test]
    fn what_is_not_of_proc_is_refused() {
        let own = mount::open_place(Path::new("/proc/sys")).expect("opened");
        assert!(require(own.as_fd(), PROC_MAGIC).is_ok());
        let other = mount::open_place(Path::new("/")).expect("opened");
        assert!(require(other.as_fd(), PROC_MAGIC).is_err());
    }
}
