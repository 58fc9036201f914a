//! The helper: makes the container's first process, gives it its mounts, then guards it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::error::IoError;
use corten_sys::process::{self, CloneOptions, Cloned, PidFd};
use corten_sys::{file, mount, namespace, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{DumpableBehavior, Pid, Rlimit};

use super::{container, layers};
use crate::cgroup;
use crate::report::Report;
use crate::steps::{HelperPlan, IdMaps, JoinStep, RaisedLimit, RootStep};

/// Arguments that say which descriptors follow the first three, in this order.
pub(crate) const WITH_CGROUP: &str = "cgroup";
pub(crate) const WITH_JOINED: &str = "joined";
/// Stands before the group of a container whose processes are among others.
pub(crate) const GATHERED: &str = "gathered=";

/// A plan holds at most 250 mounts, the arguments and the environment.
const PLAN_BYTES_MAX: u64 = 64 << 20;

/// What went wrong, as it is reported.
pub(super) struct Failure(pub Report);

impl Failure {
    /// Returns a function that makes an error into the failure of an attempt, for `map_err`.
    pub(super) fn of<E: Into<io::Error>>(attempt: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self(Report::failed(attempt, None, &error.into()))
    }

    /// The same, about a path.
    pub(super) fn at<E: Into<io::Error>>(
        attempt: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let subject = path.display().to_string();
        move |error| Self(Report::failed(attempt, Some(subject), &error.into()))
    }
}

impl From<IoError> for Failure {
    fn from(error: IoError) -> Self {
        let subject = error.path.display().to_string();
        Self(Report::failed(error.operation, Some(subject), &error.source))
    }
}

/// The descriptors that the caller left for us, by number from 3 on.
struct Inherited {
    control: OwnedFd,
    plan: OwnedFd,
    /// Closed by the caller when the container is over, or by the kernel when the caller dies.
    caller_alive: OwnedFd,
    /// The cgroup v2 directory that the container starts in.
    cgroup: Option<OwnedFd>,
    /// The first process of the container whose namespaces are joined.
    joined: Option<OwnedFd>,
    /// The group whose processes end with the caller.
    gathered: Option<PathBuf>,
}

impl Inherited {
    fn take() -> io::Result<Self> {
        let words: Vec<_> = std::env::args_os().skip(2).collect();
        let has = |name: &str| words.iter().any(|word| word == name);
        let count = 3 + usize::from(has(WITH_CGROUP)) + usize::from(has(WITH_JOINED));
        let mut fds = process::take_inherited(count)?.into_iter();
        let mut next = || fds.next().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
        Ok(Self {
            control: next()?,
            plan: next()?,
            caller_alive: next()?,
            cgroup: if has(WITH_CGROUP) { Some(next()?) } else { None },
            joined: if has(WITH_JOINED) { Some(next()?) } else { None },
            gathered: words.iter().find_map(|word| {
                let path = word.as_bytes().strip_prefix(GATHERED.as_bytes())?;
                Some(PathBuf::from(OsStr::from_bytes(path)))
            }),
        })
    }
}

pub(super) fn main() -> io::Result<()> {
    let Inherited { control, plan, caller_alive, cgroup, joined, gathered } = Inherited::take()?;
    process::close_on_exec_from(3)?;
    let begun = begin(plan);
    let (plan, ours, theirs) = reported(begun, &control)?;
    // In a container's mount namespace, the node would be one that its programs can replace.
    let null = mount::open_null()?;
    reported(join(&plan, joined), &control)?;
    let early = reported(enter(&plan), &control)?;
    let options = CloneOptions {
        namespaces: plan.namespaces,
        sibling: true,
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
    };
    let cloned = process::clone(options).map_err(Failure::of("make the container's namespaces"));
    let Cloned::Parent { pid } = reported(cloned, &control)? else {
        drop((ours, caller_alive, cgroup));
        container::main(plan.container, theirs, control);
    };
    drop((theirs, cgroup));
    let child = PidFd::open(pid).map_err(Failure::of("watch the container's first process"));
    let child = reported(child, &control)?;
    let prepared = prepare(&plan, early, (pid, &child), control.as_fd());
    if prepared.is_err() {
        // The first failure is the one to report; the kill can only fail if there is nobody left.
        child.kill().unwrap_or_default();
    }
    let mounts = reported(prepared, &control)?;
    // The caller takes the end of this socket for the start of the program, which comes at any time from
    // here on.
    drop(control);
    if hand_over(mounts.as_ref(), ours.as_fd()).is_err() {
        // It has failed, and told why itself.
        child.kill().unwrap_or_default();
    }
    drop((ours, mounts));
    guard(pid, &child, caller_alive.as_fd(), &null)?;
    match gathered {
        Some(group) => cgroup::end_all(&group).map_err(io::Error::other),
        None => Ok(()),
    }
}

/// Joins the namespaces of a container that runs; children are in its process namespace from now on.
fn join(plan: &HelperPlan, joined: Option<OwnedFd>) -> Result<(), Failure> {
    let RootStep::Joined { namespaces } = plan.root else { return Ok(()) };
    let attempt = "join the namespaces of the container";
    let missing = || Failure::of(attempt)(io::Error::from_raw_os_error(libc::EBADF));
    let joined = joined.ok_or_else(missing)?;
    namespace::join(joined.as_fd(), namespaces).map_err(Failure::of(attempt))
}

/// The root file system and the sources.
struct Mounts {
    root: OwnedFd,
    sources: Vec<OwnedFd>,
}

/// Enters the namespaces of others that the container will be in, of which the one of process ids is for
/// children only.
///
/// In a user namespace of others, this process has no power any more over what is the caller's. What
/// needs that comes first, and the container inherits it.
fn enter(plan: &HelperPlan) -> Result<Option<Mounts>, Failure> {
    const ATTEMPT: &str = "join the namespace";
    let mut opened: Vec<(&JoinStep, OwnedFd)> = Vec::new();
    for join in &plan.joins {
        opened.push((join, layers::open(&join.path)?));
    }
    let users = opened.iter().find(|(join, _)| join.namespace == namespace::USER);
    let mut early = None;
    if let Some((_, users)) = users {
        early = Some(make_mounts(plan, Some(users.as_fd()))?);
        for limit in &plan.raised_limits {
            raise(None, *limit)?;
        }
        adjust_oom(plan, "self")?;
    }
    let mut refused = Vec::new();
    for (join, fd) in &opened {
        match namespace::enter(fd.as_fd()) {
            // The users' may give the right to it, and comes last.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && users.is_some() => {
                refused.push((join, fd));
            }
            other => other.map_err(Failure::at(ATTEMPT, &join.path))?,
        }
    }
    for (join, fd) in refused {
        namespace::enter(fd.as_fd()).map_err(Failure::at(ATTEMPT, &join.path))?;
    }
    Ok(early)
}

/// Makes the root file system and the sources.
fn make_mounts(
    plan: &HelperPlan,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Mounts, Failure> {
    // Before the layers: those may cover paths in this process's view.
    let sources: Vec<OwnedFd> = plan
        .sources
        .iter()
        .map(|source| layers::source(source, user_namespace))
        .collect::<Result<_, _>>()?;
    Ok(Mounts { root: layers::root(&plan.root, user_namespace)?, sources })
}

/// Tells the caller of a failure.
fn reported<T>(result: Result<T, Failure>, control: &OwnedFd) -> io::Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(Failure(report)) => {
            report.send(control.as_fd(), &[])?;
            Err(io::ErrorKind::Other.into())
        }
    }
}

/// Sets up this process; returns the plan and a pair of sockets for us and the container.
fn begin(plan: OwnedFd) -> Result<(HelperPlan, OwnedFd, OwnedFd), Failure> {
    // Neither the container nor another process of the user looks into this one.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Failure::of("hide the helper process"))?;
    rustix::process::setsid().map_err(Failure::of("start a session"))?;
    let plan = read_plan(plan)?;
    new_keyring()?;
    let (ours, theirs) = socket::pair().map_err(Failure::of("make a socket"))?;
    Ok((plan, ours, theirs))
}

fn read_plan(plan: OwnedFd) -> Result<HelperPlan, Failure> {
    let bytes = file::read_file_limited(&plan.into(), Path::new("plan"), PLAN_BYTES_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::of("read the plan")(io::Error::other(error)))
}

/// Joins an empty keyring, which the container's process inherits.
///
/// It is made here since the kernel allows few keyrings to any user but root.
fn new_keyring() -> Result<(), Failure> {
    match process::new_session_keyring() {
        // A kernel without keyrings has none to hide.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map_err(Failure::of("make a keyring")),
    }
}

/// Makes the mounts; there are none in a mount namespace of others.
fn prepare(
    plan: &HelperPlan,
    early: Option<Mounts>,
    (pid, child): (u32, &PidFd),
    control: BorrowedFd<'_>,
) -> Result<Option<Mounts>, Failure> {
    let started = Report::Started { pid };
    started.send(control, &[child.as_fd()]).map_err(Failure::of("tell of the container"))?;
    if let Some(maps) = &plan.id_maps {
        write_maps(pid, maps)?;
    }
    let mounts = match early {
        _ if matches!(plan.root, RootStep::Joined { .. }) => None,
        Some(mounts) => Some(mounts),
        None => {
            for limit in &plan.raised_limits {
                raise(Some(pid), *limit)?;
            }
            adjust_oom(plan, &pid.to_string())?;
            let user_namespace = layers::user_namespace(plan, pid)?;
            Some(make_mounts(plan, user_namespace.as_ref().map(AsFd::as_fd))?)
        }
    };
    Report::Prepared.send(control, &[]).map_err(Failure::of("tell that all is ready"))?;
    Ok(mounts)
}

/// Gives the container its mounts, or the word that there are none.
fn hand_over(mounts: Option<&Mounts>, container: BorrowedFd<'_>) -> io::Result<()> {
    let mut fds = Vec::new();
    if let Some(Mounts { root, sources }) = mounts {
        fds.push(root.as_fd());
        fds.extend(sources.iter().map(AsFd::as_fd));
    }
    socket::send(container, b"mounts", &fds)
}

fn write_maps(pid: u32, maps: &IdMaps) -> Result<(), Failure> {
    write(Path::new(&format!("/proc/{pid}/gid_map")), &maps.groups)?;
    write(Path::new(&format!("/proc/{pid}/uid_map")), &maps.users)
}

/// Writes a file of the kernel's, in one call.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    use rustix::fs::{Mode, OFlags};
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at("open", path))?;
    rustix::io::write(&fd, text.as_bytes()).map_err(Failure::at("write", path))?;
    Ok(())
}

fn adjust_oom(plan: &HelperPlan, process: &str) -> Result<(), Failure> {
    let Some(adjustment) = plan.oom_score_adj else { return Ok(()) };
    write(Path::new(&format!("/proc/{process}/oom_score_adj")), &adjustment.to_string())
}

/// Raises a limit of a process, or of this one.
fn raise(pid: Option<u32>, limit: RaisedLimit) -> Result<(), Failure> {
    let resource = limit.resource.resource();
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let unlimited = |value: u64| (value != u64::MAX).then_some(value);
    let current = rustix::process::getrlimit(resource).current;
    let raised = Rlimit { current, maximum: unlimited(limit.hard) };
    rustix::process::prlimit(pid, resource, raised).map_err(Failure::of("raise a limit"))?;
    Ok(())
}

/// Waits until the caller is done or dead, and then sees to it that the container is, too.
///
/// The container's process asks for a signal when the caller dies, but a program can take that
/// back; nothing inside can reach this process.
fn guard(pid: u32, child: &PidFd, caller_alive: BorrowedFd<'_>, null: &OwnedFd) -> io::Result<()> {
    // Whoever reads what the container writes must see the end when the container ends.
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(null)?;
    rustix::stdio::dup2_stderr(null)?;
    let mut fds = [PollFd::from_borrowed_fd(caller_alive, PollFlags::IN)];
    while let Err(errno) = poll(&mut fds, None) {
        if errno != rustix::io::Errno::INTR {
            break;
        }
    }
    child.kill()?;
    if !child.wait_end(Some(THAW_AFTER))? {
        thaw(pid);
    }
    Ok(())
}

/// One that has been killed and is still there after this may be frozen.
const THAW_AFTER: Duration = Duration::from_millis(100);

/// Where the freezer of cgroup v1 is.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// Thaws a container whose caller has died while it was paused: in a freezer of cgroup v1 even a killed
/// process waits. What cannot be thawed here is by the next start.
fn thaw(pid: u32) {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let Ok(text) = file::read_limited(&path, PLAN_BYTES_MAX) else { return };
    let text = String::from_utf8_lossy(&text);
    let group = text.lines().find_map(|line| line.split_once(":freezer:")).map(|(_, group)| group);
    if let Some(group) = group.filter(|group| group.contains("/corten/")) {
        let path = Path::new(FREEZER).join(group.trim_start_matches('/')).join("freezer.state");
        drop(write(&path, "THAWED"));
    }
}
