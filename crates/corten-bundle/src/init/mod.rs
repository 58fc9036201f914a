//! The container's first process: a copy of whoever makes it, in new namespaces, that walks the steps
//! and becomes the program. It decides nothing. Nothing here starts a thread.

mod files;
mod identity;
mod program;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::mount::{self, Change};
use corten_sys::{namespace, process, scheduling, seccomp, signals, socket};
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketFlags;
use rustix::process::DumpableBehavior;

use crate::error::{Failed, Problem};
use crate::hooks;
use crate::plan::steps::{Plan, Program, RootChange, Step};
use crate::told::{GO, HOOKED, MAPPED, SEALED, START, Told, await_word};

/// What the first process has from its maker.
#[derive(Debug)]
pub(crate) struct Given {
    /// Leads to the maker.
    pub control: OwnedFd,
    /// On which it waits for `start`; an additional process does not wait.
    pub listener: Option<OwnedFd>,
    /// Takes the other side of the terminal.
    pub console: Option<OwnedFd>,
    /// The root file system, then the sources, where the maker could open them.
    pub sources: Vec<OwnedFd>,
    /// Closed here: the maker's lock of the container would be held.
    pub lock: Option<corten_sys::lock::FileLock>,
    /// The state for hooks, without the number of the process.
    pub state: String,
}

/// The code with which it ends when a step failed; its maker knows more.
const FAILED: i32 = 125;

struct Walker<'a> {
    /// To whom a failure is told: the maker, then whoever starts the program.
    answer: OwnedFd,
    console: Option<OwnedFd>,
    sources: Vec<OwnedFd>,
    rootfs: &'a Path,
    plan_sources: &'a [crate::plan::steps::Source],
    propagation: (u64, bool),
    root_change: RootChange,
    program: &'a Program,
    /// The container's root, as a place to look up paths from.
    root: Option<OwnedFd>,
    /// The host's, until it is let go of.
    old_root: Option<OwnedFd>,
    /// The host's `/dev/null`, which covers what is masked.
    null: Option<OwnedFd>,
    /// Where the kernel is told of the label for the next program.
    label: Option<OwnedFd>,
    state: String,
    /// The directory could not be entered with the rights of root.
    directory: Option<PathBuf>,
    uid: u32,
}

/// Is the first process of a container; never returns.
pub(crate) fn main(plan: &Plan, given: Given) -> ! {
    let Given { control, listener, console, sources, lock, state } = given;
    drop(lock);
    let mut walker = Walker {
        answer: control,
        console,
        sources,
        rootfs: &plan.rootfs,
        plan_sources: &plan.sources,
        propagation: plan.propagation,
        root_change: plan.root_change,
        program: &plan.program,
        root: None,
        old_root: None,
        null: None,
        label: None,
        state,
        directory: None,
        uid: 0,
    };
    let failure = match walker.prepare(plan).and_then(|()| walker.await_start(listener)) {
        Ok(()) => walker.finish(&plan.last),
        Err(failure) => failure,
    };
    walker.end(failure)
}

/// Is an additional process of a container, in its namespaces already; never returns.
pub(crate) fn main_additional(
    steps: &[Step],
    program: &Program,
    given: Given,
    become_root: bool,
) -> ! {
    let Given { control, console, state, .. } = given;
    let mut walker = Walker {
        answer: control,
        console,
        sources: Vec::new(),
        rootfs: Path::new("/"),
        plan_sources: &[],
        propagation: (0, false),
        root_change: RootChange::Chroot,
        program,
        root: None,
        old_root: None,
        null: None,
        label: None,
        state,
        directory: None,
        uid: 0,
    };
    let begun = walker.begin(steps, become_root, true).and_then(|()| {
        let word = || -> io::Result<()> {
            await_word(walker.answer.as_fd())?;
            Ok(())
        };
        word().map_err(step_failed("wait for the control groups"))?;
        walker.root =
            Some(mount::open_place(Path::new("/")).map_err(step_failed("open the root"))?);
        walker.find_program()
    });
    let failure = match begun {
        Ok(()) => walker.finish(steps),
        Err(failure) => failure,
    };
    walker.end(failure)
}

/// Returns a function that makes an error the failure of an attempt, for `map_err`.
fn step_failed<E: Into<io::Error>>(attempt: impl std::fmt::Display) -> impl FnOnce(E) -> Failed {
    let attempt = attempt.to_string();
    move |error| Failed::Step { attempt, errno: error.into().raw_os_error().unwrap_or(libc::EIO) }
}

impl Walker<'_> {
    /// Tells why, and ends.
    fn end(&self, failure: Failed) -> ! {
        // If even this fails, whoever waits sees the end of the socket.
        Told::Failed { failure }.send(self.answer.as_fd()).unwrap_or_default();
        process::exit_now(FAILED)
    }

    fn prepare(&mut self, plan: &Plan) -> Result<(), Failed> {
        if plan.maps.is_some() {
            self.expect(MAPPED).map_err(step_failed("wait for the map of ids"))?;
        }
        self.begin(&plan.last, plan.become_root, plan.new_keyring)?;
        self.open_root(plan).map_err(step_failed(format!(
            "prepare the root file system `{}`",
            plan.rootfs.display()
        )))?;
        plan.steps.iter().try_for_each(|step| self.take(step))
    }

    fn begin(&mut self, last: &[Step], become_root: bool, new_keyring: bool) -> Result<(), Failed> {
        if last.iter().any(|step| matches!(step, Step::Apparmor { .. } | Step::Selinux { .. })) {
            let path = "/proc/thread-self/attr/exec";
            let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            self.label = Some(fd.map_err(step_failed("open the attributes of the process"))?);
        }
        if become_root {
            identity::become_user(0, 0, None)
                .map_err(step_failed("become root of the container"))?;
        }
        // Nobody in the container looks into this process.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(step_failed("hide the process"))?;
        rustix::process::setsid().map_err(step_failed("start a session"))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        if new_keyring {
            match process::new_session_keyring() {
                // A kernel without keyrings, or one whose owner may have no more.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EDQUOT)) => {
                }
                other => other.map_err(step_failed("make a keyring"))?,
            }
        }
        Ok(())
    }

    /// Waits until the record is written, then for `start`.
    fn await_start(&mut self, listener: Option<OwnedFd>) -> Result<(), Failed> {
        let waiting = || step_failed("wait for the start");
        Told::Ready.send(self.answer.as_fd()).map_err(waiting())?;
        self.expect(SEALED).map_err(waiting())?;
        let listener = listener.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
        let listener = listener.map_err(waiting())?;
        loop {
            let connection = match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
                Ok(connection) => connection,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
                Err(errno) => return Err(waiting()(errno.into())),
            };
            // Somebody who only wants to know whether we wait says nothing.
            if await_word(connection.as_fd()).is_ok_and(|word| word == START) {
                self.answer = connection;
                return Ok(());
            }
        }
    }

    fn expect(&self, word: &[u8]) -> io::Result<()> {
        if await_word(self.answer.as_fd())? == word {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::EPROTO))
    }

    /// Takes the last steps and becomes the program; returns why it could not.
    fn finish(&mut self, steps: &[Step]) -> Failed {
        let taken = steps.iter().try_for_each(|step| self.take(step));
        match taken.and_then(|()| self.enter_directory()) {
            Ok(()) => self.execute(),
            Err(failure) => failure,
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), Failed> {
        match step {
            Step::Hooks { kind, hooks } => {
                let state = match *kind {
                    // The first process has waited for `start` since.
                    "startContainer" => self.state.replacen("creating", "created", 1),
                    _ => self.state.clone(),
                };
                let ran = hooks::run(kind, hooks, &state);
                ran.map_err(|error| match error {
                    crate::BundleError::Hook { kind, path, problem } => Failed::Hook {
                        kind: kind.to_owned(),
                        path: path.display().to_string(),
                        problem,
                    },
                    _ => step_failed(step)(io::Error::from_raw_os_error(libc::EIO)),
                })
            }
            Step::FindProgram => self.find_program(),
            _ => self.do_step(step).map_err(step_failed(step)),
        }
    }

    fn do_step(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Bind { .. }
            | Step::Mount { .. }
            | Step::Device { .. }
            | Step::Link { .. }
            | Step::MakeDirectory { .. }
            | Step::Mask { .. }
            | Step::MakeReadonly { .. }
            | Step::SealMount { .. }
            | Step::Sysctl { .. } => self.change_files(step),
            Step::Terminal { uid, size, console } => self.make_terminal(*uid, *size, *console),
            Step::AwaitCaller => self.await_caller(),
            Step::SeparateCgroups => namespace::unshare(namespace::CGROUP),
            Step::RuntimeHooks => {
                Told::Hooks.send(self.answer.as_fd())?;
                self.expect(HOOKED)
            }
            Step::ChangeRoot => self.change_root(),
            Step::RootPropagation { flags, recursive } => {
                let change = Change { propagation: *flags, ..Change::default() };
                mount::change(self.root()?, change, *recursive)
            }
            Step::MakeRootReadonly => {
                let change = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
                mount::change(self.root()?, change, false)
            }
            Step::Hostname { name } => Ok(rustix::system::sethostname(name.as_bytes())?),
            Step::Domainname { name } => Ok(rustix::system::setdomainname(name.as_bytes())?),
            Step::Scheduler { policy, flags, nice, priority, times } => {
                let [runtime, deadline, period] = *times;
                scheduling::set_scheduling(scheduling::Scheduling {
                    policy: *policy,
                    flags: *flags,
                    nice: *nice,
                    priority: *priority,
                    runtime,
                    deadline,
                    period,
                })
            }
            Step::IoPriority { class, level } => scheduling::set_io_priority(*class, *level),
            Step::Personality { domain } => scheduling::set_personality(*domain),
            Step::Apparmor { profile } => self.set_label(&format!("exec {profile}")),
            Step::Selinux { label } => self.set_label(label),
            Step::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
            Step::Seccomp { filter, flags } => seccomp::install_with(filter, *flags),
            Step::Directory { path } => self.change_directory(path),
            _ => self.take_identity(step),
        }
    }

    fn await_caller(&mut self) -> io::Result<()> {
        let word = await_word(self.answer.as_fd())?;
        let text = String::from_utf8_lossy(&word);
        let pid =
            text.strip_prefix(GO).ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?;
        // Hooks are told the number out there, which is not known in here.
        let pid = format!(",\"pid\":{}", pid.trim());
        if let Some(at) = self.state.find(",\"bundle\"") {
            self.state.insert_str(at, &pid);
        }
        Ok(())
    }

    fn set_label(&self, text: &str) -> io::Result<()> {
        let label = self.label.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        rustix::io::write(label, text.as_bytes())?;
        Ok(())
    }

    fn root(&self) -> io::Result<BorrowedFd<'_>> {
        let missing = || io::Error::from_raw_os_error(libc::EBADF);
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(missing)
    }

    /// Changes to the directory, and makes sure that it is one of the container's. Where root may not
    /// enter, the container's user may: it is tried again then.
    fn change_directory(&mut self, path: &Path) -> io::Result<()> {
        match rustix::process::chdir(path) {
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)
                if self.directory.is_none() =>
            {
                self.directory = Some(path.to_owned());
                return Ok(());
            }
            other => other?,
        }
        // A directory outside of the root has no path: the kernel says so in different ways.
        let path = rustix::process::getcwd(Vec::new())?;
        if path.as_bytes().first() == Some(&b'/') {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn enter_directory(&mut self) -> Result<(), Failed> {
        match self.directory.clone() {
            Some(path) => {
                let attempt = Step::Directory { path: path.clone() };
                self.change_directory(&path).map_err(step_failed(attempt))
            }
            None => Ok(()),
        }
    }

    /// Sends what the container's terminal is driven by to who asked for it.
    fn hand_over(&mut self, master: &OwnedFd) -> io::Result<()> {
        let console = self.console.take();
        let console = console.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTCONN))?;
        socket::send(console.as_fd(), b"/dev/ptmx", &[master.as_fd()])
    }

    fn execute(&self) -> Failed {
        let program = self.program.arguments.first().cloned().unwrap_or_default();
        let refused = |errno| {
            let problem = Problem::Errno { errno };
            Failed::Program { program: program.clone(), problem }
        };
        let begin = || -> io::Result<()> {
            process::close_on_exec_from(3 + self.program.preserve_fds)?;
            signals::restore_ignored()?;
            signals::unblock_all()
        };
        if let Err(error) = begin() {
            return step_failed("close what the program must not have")(error);
        }
        program::execute(self.program, self.uid).map_or_else(refused, |never| match never {})
    }
}
