//! Processes: handles that cannot mean another process, waiting, and small settings of our own.
#![expect(unsafe_code, reason = "clone3, waitid and exec have no safe wrapper")]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

/// A handle of a process; it never comes to mean another one.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// How a process ended and what it used, with its ended children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub ended: Ended,
    pub cpu: Duration,
    pub peak_resident_bytes: u64,
}

impl PidFd {
    /// Opens a handle of a process that is running or not waited for yet.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Takes a descriptor that is known to be such a handle.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Makes another handle for the same process.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Sends a signal by its number.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // By the kernel's own call, since realtime signals have no names.
        // SAFETY: the descriptor is open for the call, no structure is given, and the kernel refuses
        // numbers that are no signals.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Ends the process at once; one that has ended is fine.
    pub fn kill(&self) -> io::Result<()> {
        match self.signal(libc::SIGKILL) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Ends our own child, which leads a process group and was not waited for, and the whole group.
    pub fn kill_with_group(&self, pid: u32) -> io::Result<()> {
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let group = group.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        match rustix::process::kill_process_group(group, rustix::process::Signal::KILL) {
            // It has not become a leader yet, or the group has ended: then there is only itself.
            Ok(()) | Err(rustix::io::Errno::SRCH) => self.kill(),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until the process has ended, whoever its parent is. Returns false when time ran out.
    pub fn wait_end(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        loop {
            match poll(&mut fds, timeout.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits for our own child and takes its report, which can be taken once.
    pub fn wait(&self) -> io::Result<Report> {
        wait_id(libc::P_PIDFD, self.0.as_raw_fd().cast_unsigned())
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits for a child by its number.
pub fn wait_pid(pid: u32) -> io::Result<Report> {
    wait_id(libc::P_PID, pid)
}

fn wait_id(kind: libc::idtype_t, id: u32) -> io::Result<Report> {
    loop {
        // SAFETY: all-zero bytes are a valid `siginfo_t` and a valid `rusage`: both are plain
        // integers and unions of them.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `siginfo_t` and one `rusage` through pointers to locals of
        // these types that outlive the call, and nothing else; the id is passed by value.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                kind,
                id,
                &raw mut info,
                libc::WEXITED | libc::__WALL,
                &raw mut usage,
            )
        };
        if result == 0 {
            return Ok(report(&info, &usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn report(info: &libc::siginfo_t, usage: &libc::rusage) -> Report {
    // SAFETY: `waitid` succeeded, so the kernel has filled in the fields of SIGCHLD, of which
    // `si_status` is one; reading it is reading an integer.
    let status = unsafe { info.si_status() };
    let ended =
        if info.si_code == libc::CLD_EXITED { Ended::Code(status) } else { Ended::Signal(status) };
    let time = |value: libc::timeval| {
        let micros = value.tv_sec.saturating_mul(1_000_000).saturating_add(value.tv_usec);
        Duration::from_micros(u64::try_from(micros).unwrap_or_default())
    };
    Report {
        ended,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_resident_bytes: u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024,
    }
}

/// Lets the kernel keep the reports of our ended children.
///
/// A caller may have started us with SIGCHLD ignored; then `waitid` would find nothing.
pub fn keep_child_reports() -> io::Result<()> {
    // SAFETY: SIG_DFL as a handler runs no code of ours, and the number is a valid signal.
    let previous = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Replaces this process by a program. Returns only when it could not.
///
/// `environment` is complete: nothing of ours is added.
pub fn exec(path: &OsStr, arguments: &CStrings, environment: &CStrings) -> io::Error {
    let Ok(path) = CString::new(path.as_bytes()) else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    // SAFETY: the path is a NUL-terminated string and both lists are NULL-terminated arrays of
    // pointers to such strings, all owned by values that outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// A list of strings in the form that the kernel takes: `argv`, `envp`.
#[derive(Debug)]
pub struct CStrings {
    /// Points into `strings`, then NULL.
    pointers: Vec<*const libc::c_char>,
    /// Owns what `pointers` points to; the heap blocks do not move with the vector.
    strings: Vec<CString>,
}

impl CStrings {
    /// Copies the strings; one with a NUL byte inside is refused.
    pub fn new<S: AsRef<OsStr>>(items: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let strings: Result<Vec<CString>, _> =
            items.into_iter().map(|item| CString::new(item.as_ref().as_bytes())).collect();
        let strings = strings.map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let pointers = strings.iter().map(|string| string.as_ptr());
        let pointers = pointers.chain([std::ptr::null()]).collect();
        Ok(Self { pointers, strings })
    }

    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.strings.len()
    }

    /// Returns true if there is no string.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    pub(crate) fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

/// What [`clone`] returns, once in each process.
#[derive(Debug)]
pub enum Cloned {
    /// We are the new process.
    Child,
    /// We are the old one; this is the new one's number here.
    Parent { pid: u32 },
}

/// What the new process shares and what is new for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneOptions<'a> {
    /// `CLONE_NEW*` of the namespaces.
    pub namespaces: u64,
    /// Makes the new process a child of our parent instead of ours.
    pub sibling: bool,
    /// The cgroup v2 directory that it starts in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Copies this process, which must have a single thread, into new namespaces.
pub fn clone(options: CloneOptions<'_>) -> io::Result<Cloned> {
    require_single_thread()?;
    if options.is_plain() {
        return fork();
    }
    let mut flags = options.namespaces;
    // The kernel refuses a signal together with CLONE_PARENT: the child takes ours.
    let mut exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if options.sibling {
        flags |= u64::from(libc::CLONE_PARENT.cast_unsigned());
        exit_signal = 0;
    }
    let mut cgroup = 0;
    if let Some(directory) = options.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = u64::from(directory.as_raw_fd().cast_unsigned());
    }
    let arguments = CloneArguments { flags, exit_signal, cgroup, ..CloneArguments::default() };
    // SAFETY: without CLONE_VM the child gets its own copy of our memory, and without a stack of
    // its own it goes on with the copy of ours, as after `fork`. We have checked that there is no
    // other thread, so no lock in that copy is held by someone who is not there. The kernel reads
    // exactly the given size of the structure.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, std::mem::size_of::<CloneArguments>())
    };
    match u32::try_from(result) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(Cloned::Child),
        Ok(pid) => Ok(Cloned::Parent { pid }),
    }
}

impl CloneOptions<'_> {
    fn is_plain(&self) -> bool {
        self.namespaces == 0 && !self.sibling && self.cgroup.is_none()
    }
}

/// What needs no option goes by the call that a filter lets through: it cannot look at the
/// arguments of `clone3`.
fn fork() -> io::Result<Cloned> {
    // SAFETY: our only caller has checked that there is no other thread, so that the copy may go
    // on as a whole program may.
    let pid = unsafe { libc::fork() };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(Cloned::Child),
        Ok(pid) => Ok(Cloned::Parent { pid }),
    }
}

/// The `libc` crate's constant is of a type that it does not fit in.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`, all versions up to `cgroup` (Linux 5.7).
#[derive(Debug, Default)]
#[repr(C, align(8))]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Fails with EINVAL when this process has more than one thread.
pub fn require_single_thread() -> io::Result<()> {
    // SAFETY: for CLONE_THREAD the kernel only checks that the caller is the single thread; there
    // is nothing that it would unshare.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EINVAL) {
        return Err(error);
    }
    // A filter of ours is installed and refuses the question: the threads are counted.
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// Ends this process without running destructors or handlers; for a copy of a process.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes its argument by value, touches no memory of ours and cannot fail; the
    // type `!` is sound because it never returns.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` on to be closed when a program is executed.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed, so no owner of one is betrayed;
    // the arguments are passed by value.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes ownership of the descriptors 3, 4, … that the program which started us left open.
///
/// Works once in the life of a process, so that no descriptor gets two owners; it is meant for the
/// first statement of a program, when nothing else can have opened one. Fails with EBADF when one
/// is not open, and the second time.
pub fn take_inherited(count: usize) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let mut taken = Vec::with_capacity(count);
    for number in (3..).take(count) {
        // SAFETY: F_GETFD reads a flag of the descriptor and touches no memory.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is open and, by the contract of the program that started us, left
        // for us; `TAKEN` sees to it that only one owner is made.
        taken.push(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(taken)
}

/// Makes and looks up files as this user and group from now on, with all capabilities kept.
pub fn set_file_identity(uid: u32, gid: u32) -> io::Result<()> {
    use rustix::thread::CapabilitiesSecureBits;
    // Without this bit, a change from user 0 gives up the capabilities that concern files.
    let keep = CapabilitiesSecureBits::NO_SETUID_FIXUP;
    rustix::thread::set_capabilities_secure_bits(keep)?;
    // SAFETY: the ids are passed by value; the calls change the thread's own credentials.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
    // The calls do not fail but change nothing; an impossible id tells what there is now.
    // SAFETY: as above; -1 is no id, so that nothing is changed.
    let found = unsafe { libc::setfsuid(u32::MAX) };
    let expected = i32::from_ne_bytes(uid.to_ne_bytes());
    if found == expected { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

/// Becomes user and group 0 of the user namespace that this process is in, without further groups where
/// they can be given up.
pub fn become_root_here() -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    match set_thread_groups(&[]) {
        // A namespace of one id does not let anybody change them.
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

/// Asks for the kernel's kill when the parent dies. A change of user takes it back.
pub fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// Returns the first process of the container that a process of ours runs. `None` if there is none now.
///
/// It is the child that is process 1 of a namespace below; where the container has no such namespace of
/// its own, a child that has other mounts and has become its program.
pub fn first_of_container(runner: u32) -> io::Result<Option<u32>> {
    let children = children(runner)?;
    let is_first = |child: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let numbers: Vec<&str> = numbers.unwrap_or_default().split_whitespace().collect();
        numbers.len() > 1 && numbers.last() == Some(&"1")
    };
    if let Some(first) = children.iter().copied().find(|child| is_first(child)) {
        return Ok(Some(first));
    }
    let mounts = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let is_helper = |child: u32| {
        let words = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(b"__init")
    };
    let ours = mounts(runner);
    let is_program =
        |child: &u32| mounts(*child).is_some_and(|its| Some(its) != ours) && !is_helper(*child);
    Ok(children.into_iter().find(is_program))
}

/// Returns the children of all threads of a process; none if it is gone.
fn children(process: u32) -> io::Result<Vec<u32>> {
    let tasks = match std::fs::read_dir(format!("/proc/{process}/task")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        tasks => tasks?,
    };
    let mut found = Vec::new();
    for task in tasks {
        // A thread that has ended meanwhile has none.
        let children = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(found)
}

/// Gives the process a new, empty keyring that it shares with nobody.
pub fn new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory of ours is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
            0,
            0,
            0,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the processor time of this process and of its ended children.
pub fn cpu_time() -> (Duration, Duration) {
    (usage_of(libc::RUSAGE_SELF), usage_of(libc::RUSAGE_CHILDREN))
}

fn usage_of(who: libc::c_int) -> Duration {
    // SAFETY: all-zero bytes are a valid `rusage`, which is integers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `rusage` to a local of that type. It fails only for an unknown
    // `who`, which the two callers do not pass; zero would be the answer then.
    unsafe { libc::getrusage(who, &raw mut usage) };
    let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    let total = micros(usage.ru_utime) + micros(usage.ru_stime);
    Duration::from_micros(u64::try_from(total).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_for_the_kernel_end_with_null() {
        let strings = CStrings::new(["a", "bc"]).expect("no NUL byte inside");
        assert_eq!((strings.len(), strings.pointers.len()), (2, 3));
        assert!(strings.pointers[2].is_null());
        assert!(CStrings::new(["a\0b"]).is_err());
    }

    #[test]
    fn inherited_descriptors_are_taken_once() {
        assert!(take_inherited(0).is_ok_and(|taken| taken.is_empty()));
        assert!(take_inherited(0).is_err());
    }

    #[test]
    fn a_process_of_an_impossible_number_is_not_found() {
        assert!(PidFd::open(u32::MAX).is_err());
        assert!(PidFd::open(0).is_err());
    }
}
