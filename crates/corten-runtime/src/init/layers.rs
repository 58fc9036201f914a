//! Detached mounts of the host's files: the root file system and the sources of volumes.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::mount::{self, Attributes, FileSystem, Propagation};
use corten_sys::{namespace, process};
use rustix::fs::{Mode, OFlags};

use super::helper::Failure;
use crate::report::Report;
use crate::steps::{HelperPlan, Overlay, OverlayMethod, RootStep, SourceFrom, SourceStep, Upper};

const MAKE_OVERLAY: &str = "mount the overlay of";

/// Device nodes of an image mean nothing; those of the container are mounts of their own.
const ROOT: Attributes =
    Attributes { readonly: false, no_setuid: false, no_devices: true, no_exec: false };

/// Opens the container's user namespace, if files are to be shown through it.
pub(super) fn user_namespace(plan: &HelperPlan, pid: u32) -> Result<Option<OwnedFd>, Failure> {
    let root = match &plan.root {
        RootStep::Overlay(overlay) => overlay.map_owners,
        RootStep::Directory { map_owners, .. } => *map_owners,
        RootStep::Joined { .. } => false,
    };
    if !root && !plan.sources.iter().any(|source| source.map_owners) {
        return Ok(None);
    }
    open(Path::new(&format!("/proc/{pid}/ns/user"))).map(Some)
}

/// Opens a file of the caller's for reading.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(Failure::at("open", path))
}

/// Makes a mount of something of the host.
pub(super) fn source(
    step: &SourceStep,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Failure> {
    let namespace = user_namespace.filter(|_| step.map_owners);
    let SourceStep { path, recursive, propagation, .. } = step;
    let attributes = step.attributes.into();
    let copy = match &step.from {
        SourceFrom::Caller => mount::copy_path(path, *recursive),
        SourceFrom::MountNamespace(of) => {
            let of = open(of)?;
            elsewhere(of.as_fd(), || copy_of_others(path, *recursive))
        }
        SourceFrom::FileSystem(kind) => {
            let system = FileSystem::new(kind).map_err(Failure::at("mount", path))?;
            return system.mount(attributes).map_err(Failure::at("mount", path));
        }
    };
    let copy = copy.map_err(Failure::at("mount", path))?;
    let propagation = Propagation::from(*propagation);
    if propagation == Propagation::Shared {
        // The copy would be shared with itself alone otherwise.
        let place = mount::open_place(path).map_err(Failure::at("open", path))?;
        if !mount::is_shared(place.as_fd()).map_err(Failure::at("look at the mount of", path))? {
            let error = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(Failure::at("share, since it is no shared mount of the host,", path)(
                error,
            ));
        }
    }
    restrict(copy, path, (attributes, propagation), namespace, *recursive)
}

/// Copies what others have mounted, in whose mount namespace this process is: their programs may have put
/// links there, and those of `/proc` lead to the host where they see its processes.
fn copy_of_others(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    let root = mount::open_place(Path::new("/"))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)?;
    mount::copy_descriptor(found.as_fd(), recursive)
}

/// Does something in another mount namespace and comes back.
fn elsewhere<T>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own =
        rustix::fs::open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let root = mount::open_place(Path::new("/"))?;
    namespace::enter(namespace)?;
    let result = work();
    namespace::enter(own.as_fd())?;
    // The kernel has set both to the root of the namespace, which need not be ours.
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    result
}

/// Makes a mount of a path with the attributes, and with mapped owners if there is a namespace.
/// Nothing that is mounted on the host later comes into it.
fn copy(
    path: &Path,
    attributes: Attributes,
    user_namespace: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> Result<OwnedFd, Failure> {
    let copy = mount::copy_path(path, recursive).map_err(Failure::at("mount", path))?;
    restrict(copy, path, (attributes, Propagation::Private), user_namespace, recursive)
}

fn restrict(
    copy: OwnedFd,
    path: &Path,
    (attributes, propagation): (Attributes, Propagation),
    user_namespace: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> Result<OwnedFd, Failure> {
    let fd = copy.as_fd();
    match user_namespace {
        None => {
            mount::restrict_and_propagate(fd, attributes, propagation, recursive)
                .map_err(Failure::at("restrict the mount of", path))?;
        }
        Some(namespace) => {
            mount::restrict_and_map(fd, attributes, propagation, namespace, recursive)
                .map_err(|error| owners_refused(path, &error))?;
        }
    }
    Ok(copy)
}

/// The file system cannot map owners (EINVAL), the kernel is too old (ENOSYS).
fn owners_refused(path: &Path, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
            Failure(Report::OwnersRefused { path: path.display().to_string() })
        }
        _ => Failure(Report::failed("map the owners of", Some(path.display().to_string()), error)),
    }
}

/// Makes the mount of the root file system.
pub(super) fn root(
    step: &RootStep,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Failure> {
    match step {
        // The helper never asks for it.
        RootStep::Joined { .. } => {
            Err(Failure::of("make a root file system")(io::Error::from_raw_os_error(libc::EINVAL)))
        }
        RootStep::Directory { path, map_owners } => {
            copy(path, ROOT, user_namespace.filter(|_| *map_owners), false)
        }
        RootStep::Overlay(overlay) => {
            let namespace = user_namespace.filter(|_| overlay.map_owners);
            if namespace.is_some() {
                // Overlayfs keeps the identity of its maker and makes files with it. Through a
                // mapped mount, only ids of the container can.
                process::set_file_identity(overlay.owner, overlay.owner)
                    .map_err(Failure::of("take the identity of the container's root"))?;
            }
            match overlay.method {
                OverlayMethod::Descriptors => by_descriptors(overlay, namespace),
                OverlayMethod::Paths => by_paths(overlay, namespace),
            }
        }
    }
}

fn by_descriptors(
    overlay: &Overlay,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Failure> {
    let first = overlay.lowers.first().map_or(Path::new("/"), PathBuf::as_path);
    let system = FileSystem::new("overlay").map_err(Failure::at(MAKE_OVERLAY, first))?;
    let named = |path: &Path, key: &str, fd: BorrowedFd<'_>| {
        system.descriptor(key, fd).map_err(Failure::at("use as a layer", path))
    };
    // Held until the overlay has its own references.
    let mut layers = Vec::new();
    for path in &overlay.lowers {
        let layer = copy(path, Attributes::default(), user_namespace, false)?;
        named(path, "lowerdir+", layer.as_fd())?;
        layers.push(layer);
    }
    let changes = upper(overlay, user_namespace)?;
    named(first, "upperdir", changes.upper.as_fd())?;
    named(first, "workdir", changes.work.as_fd())?;
    set_options(&system, overlay, first)?;
    system.mount(ROOT).map_err(Failure::at(MAKE_OVERLAY, first))
}

fn set_options(system: &FileSystem, overlay: &Overlay, path: &Path) -> Result<(), Failure> {
    for (key, value) in &overlay.options {
        let set = match value {
            Some(value) => system.text(key, value),
            None => system.flag(key),
        };
        set.map_err(Failure::at(MAKE_OVERLAY, path))?;
    }
    Ok(())
}

/// Where changes go.
struct Changes {
    upper: OwnedFd,
    work: OwnedFd,
    /// The detached mount that both are in: it ends with this descriptor.
    _mount: OwnedFd,
}

/// Opens the upper and the work directory, which must be of one mount.
fn upper(overlay: &Overlay, user_namespace: Option<BorrowedFd<'_>>) -> Result<Changes, Failure> {
    let (base, upper, work) = match &overlay.upper {
        Upper::Directory { upper, work } => {
            let parent = common_parent(upper, work);
            let base = copy(&parent, Attributes::default(), user_namespace, false)?;
            let inside = |path: &Path| path.strip_prefix(&parent).unwrap_or(path).to_owned();
            (base, inside(upper), inside(work))
        }
        Upper::Memory => {
            let base = memory(overlay)?;
            (base, PathBuf::from("upper"), PathBuf::from("work"))
        }
    };
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&base, path, flags, Mode::empty()).map_err(Failure::at("open", path))
    };
    let (upper, work) = (open(&upper)?, open(&work)?);
    if let Upper::Directory { upper: upper_path, work: work_path } = &overlay.upper {
        same_file(upper_path, &upper)?;
        same_file(work_path, &work)?;
    }
    Ok(Changes { upper, work, _mount: base })
}

/// A mount between the common parent and the directory would lead to another file.
fn same_file(path: &Path, opened: &OwnedFd) -> Result<(), Failure> {
    let attempt = "open the directory for changes";
    let expected = rustix::fs::stat(path).map_err(Failure::at(attempt, path))?;
    let found = rustix::fs::fstat(opened).map_err(Failure::at(attempt, path))?;
    if (expected.st_dev, expected.st_ino) == (found.st_dev, found.st_ino) {
        return Ok(());
    }
    Err(Failure::at(attempt, path)(io::Error::from_raw_os_error(libc::EXDEV)))
}

fn common_parent(one: &Path, two: &Path) -> PathBuf {
    let one = one.parent().unwrap_or(one);
    one.ancestors().find(|ancestor| two.starts_with(ancestor)).unwrap_or(Path::new("/")).to_owned()
}

/// Makes a detached tmpfs with an upper directory like the root of the top layer, and a work
/// directory.
fn memory(overlay: &Overlay) -> Result<OwnedFd, Failure> {
    const ATTEMPT: &str = "make the file system for changes";
    let system = FileSystem::new("tmpfs").map_err(Failure::of(ATTEMPT))?;
    system.text("mode", "755").map_err(Failure::of(ATTEMPT))?;
    let base = system.mount(Attributes::default()).map_err(Failure::of(ATTEMPT))?;
    let mode = match overlay.lowers.first() {
        Some(top) => rustix::fs::stat(top).map_err(Failure::at("look at", top))?.st_mode & 0o7777,
        None => 0o755,
    };
    for (name, mode) in [("upper", mode), ("work", 0o700)] {
        rustix::fs::mkdirat(&base, name, Mode::from_raw_mode(0o700))
            .map_err(Failure::of(ATTEMPT))?;
        // The file mode mask does not apply to this.
        rustix::fs::chmodat(&base, name, Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty())
            .map_err(Failure::of(ATTEMPT))?;
        let (user, group) =
            (rustix::fs::Uid::from_raw(overlay.owner), rustix::fs::Gid::from_raw(overlay.owner));
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::chownat(&base, name, Some(user), Some(group), flags)
            .map_err(Failure::of(ATTEMPT))?;
    }
    Ok(base)
}

/// For kernels that know layers by path only: in a mount namespace of our own, the mapped copies
/// are put on top of the very paths that they are copies of.
fn by_paths(overlay: &Overlay, user_namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Failure> {
    let first = overlay.lowers.first().map_or(Path::new("/"), PathBuf::as_path);
    namespace::unshare(namespace::MOUNT).map_err(Failure::of("make a mount namespace"))?;
    mount::make_all_private().map_err(Failure::of("separate the mounts from the host's"))?;
    let cover = |path: &Path| -> Result<(), Failure> {
        if user_namespace.is_none() {
            return Ok(());
        }
        let copy = copy(path, Attributes::default(), user_namespace, false)?;
        mount::attach_at(copy.as_fd(), path).map_err(Failure::at("mount", path))
    };
    for path in &overlay.lowers {
        cover(path)?;
    }
    let (upper, work) = match &overlay.upper {
        Upper::Directory { upper, work } => {
            cover(&common_parent(upper, work))?;
            (upper.clone(), work.clone())
        }
        Upper::Memory => {
            // The work directory of nobody: any directory that the layers do not need.
            let base = memory(overlay)?;
            let place = Path::new("/proc");
            mount::attach_at(base.as_fd(), place).map_err(Failure::at("mount", place))?;
            (place.join("upper"), place.join("work"))
        }
    };
    let shared = overlay.lowers.iter().skip(1).fold(first.to_owned(), |shared, path| {
        shared.ancestors().find(|a| path.starts_with(a)).unwrap_or(Path::new("/")).to_owned()
    });
    let base = if overlay.lowers.len() == 1 { shared.parent().unwrap_or(&shared) } else { &shared };
    rustix::process::chdir(base).map_err(Failure::at("change to", base))?;
    let mut options = OsString::from("lowerdir=");
    for (index, path) in overlay.lowers.iter().enumerate() {
        if index > 0 {
            options.push(":");
        }
        options.push(escaped(path.strip_prefix(base).unwrap_or(path)));
    }
    for (key, path) in [("upperdir", &upper), ("workdir", &work)] {
        options.push(format!(",{key}="));
        options.push(escaped(path));
    }
    for (key, value) in &overlay.options {
        options.push(match value {
            Some(value) => format!(",{key}={value}"),
            None => format!(",{key}"),
        });
    }
    mount::mount_overlay_at(base, &options).map_err(Failure::at(MAKE_OVERLAY, first))?;
    mount::copy_path(base, false).map_err(Failure::at(MAKE_OVERLAY, first))
}

/// Puts a backslash before what separates options and layers.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if b"\\:,".contains(byte) {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_parent_holds_both_directories() {
        let parent = |one: &str, two: &str| common_parent(Path::new(one), Path::new(two));
        assert_eq!(parent("/s/tmp/a/tree", "/s/tmp/a/work"), Path::new("/s/tmp/a"));
        assert_eq!(parent("/s/a/tree", "/s/b/work"), Path::new("/s"));
        assert_eq!(parent("/a", "/b"), Path::new("/"));
        assert_eq!(parent("/a/upper", "/a/upper/work"), Path::new("/a"));
    }

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escaped(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }
}
