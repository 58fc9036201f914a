//! Mounts by descriptor: made detached, given their attributes, then attached where they belong.
//!
//! A path of a container is never walked by the old mount calls; the target is a descriptor that
//! was resolved beneath the container's root.
#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

/// What holds for a mount, whatever the file system below says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub readonly: bool,
    pub no_setuid: bool,
    pub no_devices: bool,
    pub no_exec: bool,
}

impl Attributes {
    fn bits(self) -> u64 {
        let choose = |set: bool, bit: u64| if set { bit } else { 0 };
        choose(self.readonly, libc::MOUNT_ATTR_RDONLY)
            | choose(self.no_setuid, libc::MOUNT_ATTR_NOSUID)
            | choose(self.no_devices, libc::MOUNT_ATTR_NODEV)
            | choose(self.no_exec, libc::MOUNT_ATTR_NOEXEC)
    }

    fn mount_flags(self) -> MountAttrFlags {
        let bits = u32::try_from(self.bits()).unwrap_or_default();
        MountAttrFlags::from_bits_retain(bits)
    }
}

/// How mounts go back and forth between a mount and its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A file system about to be mounted.
#[derive(Debug)]
pub struct FileSystem(OwnedFd);

impl FileSystem {
    /// Begins with a type: `overlay`, `proc`, `tmpfs`.
    pub fn new(kind: &str) -> io::Result<Self> {
        Ok(Self(rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// Sets an option without a value.
    pub fn flag(&self, key: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_flag(&self.0, key)?)
    }

    /// Sets an option to a text, of at most 255 bytes.
    pub fn text(&self, key: &str, value: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_string(&self.0, key, value)?)
    }

    /// Sets an option to a path as bytes, of at most 255.
    pub fn path(&self, key: &str, value: &OsStr) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_string(&self.0, key, value)?)
    }

    /// Sets an option to an open directory.
    pub fn descriptor(&self, key: &str, value: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_fd(&self.0, key, value)?)
    }

    /// Makes the file system and a detached mount of it, with attributes by the kernel's bits
    /// (`MOUNT_ATTR_*`).
    pub fn mount_with(self, attributes: u64) -> io::Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.0)?;
        let bits = u32::try_from(attributes).unwrap_or_default();
        let attributes = MountAttrFlags::from_bits_retain(bits);
        Ok(rustix::mount::fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }

    /// Makes the file system and a detached mount of it.
    pub fn mount(self, attributes: Attributes) -> io::Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.0)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Ok(rustix::mount::fsmount(&self.0, flags, attributes.mount_flags())?)
    }
}

/// Makes a detached copy of the mount at an absolute path; a link at its end is followed.
pub fn copy_path(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, path, flags | recursion(recursive))?)
}

/// Makes a detached copy of the mount that an open file or directory is in, from there on.
pub fn copy_descriptor(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(fd, "", flags | recursion(recursive))?)
}

fn recursion(recursive: bool) -> OpenTreeFlags {
    if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() }
}

/// Attaches a detached mount at an open file or directory.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Attaches a detached mount at a path.
pub fn attach_at(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", CWD, target, flags)?)
}

/// Adds attributes to a mount, and with `recursive` to the ones below it.
pub fn restrict(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> io::Result<()> {
    set_attributes(mount, attributes.bits(), None, None, recursive)
}

/// Adds attributes to a detached mount and says how mounts go between it and its copies.
pub fn restrict_and_propagate(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    propagation: Propagation,
    recursive: bool,
) -> io::Result<()> {
    set_attributes(mount, attributes.bits(), Some(propagation), None, recursive)
}

/// Says how mounts go between a mount and its copies.
pub fn propagate(mount: BorrowedFd<'_>, propagation: Propagation) -> io::Result<()> {
    set_attributes(mount, 0, Some(propagation), None, false)
}

/// The same, and shows its files' owners through a user namespace.
pub fn restrict_and_map(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    propagation: Propagation,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<()> {
    let bits = attributes.bits() | libc::MOUNT_ATTR_IDMAP;
    set_attributes(mount, bits, Some(propagation), Some(user_namespace), recursive)
}

/// A change of a mount by the kernel's own bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// `MOUNT_ATTR_*` to add.
    pub set: u64,
    /// `MOUNT_ATTR_*` to take away, before `set`.
    pub clear: u64,
    /// One of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` and `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
}

/// Changes a mount, and with `recursive` the ones below it, or none of them if one refuses.
pub fn change(mount: BorrowedFd<'_>, change: Change, recursive: bool) -> io::Result<()> {
    change_with(mount, change, None, recursive)
}

/// Shows the owners of a detached mount's files through a user namespace, and nothing else.
pub fn map_owners(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<()> {
    let change = Change { set: libc::MOUNT_ATTR_IDMAP, ..Change::default() };
    change_with(mount, change, Some(user_namespace), recursive)
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    bits: u64,
    propagation: Option<Propagation>,
    user_namespace: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> io::Result<()> {
    let propagation = propagation.map_or(0, Propagation::bits);
    change_with(mount, Change { set: bits, clear: 0, propagation }, user_namespace, recursive)
}

fn change_with(
    mount: BorrowedFd<'_>,
    change: Change,
    user_namespace: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: user_namespace.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty constant string, and the kernel reads exactly the given size of
    // the structure, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns true if mounts below the mount of an open file go to its copies and come from them.
///
/// The kernel tells only in `/proc/self/mountinfo`, so this is for mounts of the own namespace.
pub fn is_shared(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(fd, "", flags, rustix::fs::StatxFlags::MNT_ID)?;
    let id = stat.stx_mnt_id.to_string();
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    // ID, parent, device, root, mount point, options, then fields of which one is `shared:N`, `-`.
    let is_it = |line: &&str| line.split(' ').next() == Some(id.as_str());
    let line = text.lines().find(is_it).unwrap_or_default();
    let mut tags = line.split(' ').skip(6).take_while(|field| *field != "-");
    Ok(tags.any(|tag| tag.starts_with("shared:")))
}

/// Cuts every mount of this namespace off from the ones that it was copied from.
pub fn make_all_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// Lets mounts of the host arrive here, but none of ours there.
pub fn make_all_downstream() -> io::Result<()> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// Makes the mount that is the working directory the root, with the old root on top of it.
///
/// `/` is the new root for every path from now on; [`drop_old_root`] removes the old one.
pub fn swap_root() -> io::Result<()> {
    Ok(rustix::process::pivot_root(".", ".")?)
}

/// Removes the old root, of which a descriptor was kept, with everything below it.
pub fn drop_old_root(old_root: BorrowedFd<'_>) -> io::Result<()> {
    detach(old_root)?;
    Ok(rustix::process::chdir("/")?)
}

/// Takes away the mount whose root an open directory is, once nobody uses it. The working directory is
/// elsewhere afterwards.
pub fn detach(mount: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(mount)?;
    Ok(rustix::mount::unmount(".", UnmountFlags::DETACH)?)
}

/// Mounts an overlay on a path in the old way, for kernels that cannot take more than 255 bytes of
/// layers otherwise. The options are limited to a page.
pub fn mount_overlay_at(target: &Path, options: &OsStr) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let options = std::ffi::CString::new(options.as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    if options.as_bytes_with_nul().len() > OPTIONS_BYTES_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let flags = rustix::mount::MountFlags::NODEV;
    Ok(rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())?)
}

/// The kernel copies one page of options and cuts off the rest without a word; this is the
/// smallest page there is.
pub const OPTIONS_BYTES_MAX: usize = 4096;

/// Opens the device that swallows everything and gives nothing.
pub fn open_null() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Returns a directory's descriptor that is good for nothing but naming it.
pub fn open_place(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
