//! The container's first process: walks the steps, then becomes the program.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::mount::{self, Attributes, FileSystem};
use corten_sys::process::{self, CStrings};
use corten_sys::{caps, namespace, seccomp, signals, socket, tty};
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Rlimit, Signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::reaper;
use super::small_files::{SmallFile, SmallFiles};
use super::target::{self, Kind};
use crate::exec_error::{ExecFailure, FoundFile, HEAD_BYTES};
use crate::network;
use crate::report::{GO, GO_BYTES_MAX, Report};
use crate::seccomp::from_wire;
use crate::steps::{MountAttributes, SecretFile, Step};

/// The exit code when a step failed; the caller knows more from the report.
const FAILED: i32 = 125;

/// Walks the steps and becomes the program; never returns.
pub(super) fn main(steps: Vec<Step>, mounts: OwnedFd, control: OwnedFd) -> ! {
    let control = Some(control);
    let mut walker = Walker {
        control,
        mounts: Vec::new(),
        null: None,
        root: None,
        old_root: None,
        terminal: false,
    };
    let report = match walker.walk(steps, mounts) {
        Ok(Some(program)) => walker.execute(&program),
        Ok(None) => walker.hold(),
        Err(report) => report,
    };
    // If even this fails, the caller sees the end of the socket and the exit code.
    walker.tell(&report, &[]).unwrap_or_default();
    process::exit_now(FAILED);
}

/// The last step.
struct Program {
    candidates: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<String>,
    reaper: bool,
}

/// What the steps share.
struct Walker {
    /// Leads to the caller, who takes its end for the start of the program.
    control: Option<OwnedFd>,
    /// The root file system, then the sources.
    mounts: Vec<OwnedFd>,
    /// Which of them is the host's `/dev/null`.
    null: Option<usize>,
    /// The container's root as a place to look up paths from.
    root: Option<OwnedFd>,
    /// The host's, until it is let go of.
    old_root: Option<OwnedFd>,
    terminal: bool,
}

/// Asks for the kernel's kill when the caller dies. A change of user takes it back.
fn die_with_caller() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

impl Walker {
    /// Takes all steps and returns the program to become, unless nothing is to be executed.
    fn walk(&mut self, steps: Vec<Step>, mounts: OwnedFd) -> Result<Option<Program>, Report> {
        let begin = |error: io::Error| Report::failed("begin", None, &error);
        rustix::process::setsid().map_err(|errno| begin(errno.into()))?;
        die_with_caller().map_err(begin)?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        self.mounts = socket::receive(mounts.as_fd(), &mut [0; 16]).map_err(begin)?.fds;
        drop(mounts);
        for step in steps {
            if let Step::Execute { candidates, arguments, environment, reaper } = step {
                return Ok(Some(Program { candidates, arguments, environment, reaper }));
            }
            if step == Step::Hold {
                return Ok(None);
            }
            self.take(&step)
                .map_err(|error| Report::failed(step.attempt(), step.subject(), &error))?;
        }
        Err(begin(io::Error::from_raw_os_error(libc::ENOEXEC)))
    }

    fn take(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::BecomeRoot => become_user(0, 0, None),
            Step::SeparateMounts => mount::make_all_private(),
            Step::SwapRoot => self.swap_root(),
            Step::Mount { kind, target, options, attributes } => {
                self.mount(kind, target, options, *attributes)
            }
            Step::Attach { source, target } => self.attach(*source, target),
            Step::Link { path, target } => self.link(path, target),
            Step::DropOldRoot => match self.old_root.take() {
                Some(old_root) => mount::drop_old_root(old_root.as_fd()),
                None => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            },
            Step::Files { files } => self.files(files),
            Step::Secrets { files } => self.secrets(files),
            Step::Domainname { name } => Ok(rustix::system::setdomainname(name.as_bytes())?),
            Step::Loopback => network::switch_on_loopback(),
            Step::AwaitCaller => self.await_caller(),
            Step::SeparateCgroups => namespace::unshare(namespace::CGROUP),
            Step::Sysctl { name, value } => self.sysctl(name, value),
            Step::Mask { path } => self.mask(path),
            Step::MakeReadonly { path } => self.make_readonly(path),
            Step::MakeRootReadonly => mount::restrict(
                self.root()?,
                Attributes { readonly: true, ..Attributes::default() },
                false,
            ),
            Step::PropagateRoot { propagation } => {
                mount::propagate(self.root()?, (*propagation).into())
            }
            Step::Hostname { name } => Ok(rustix::system::sethostname(name.as_bytes())?),
            Step::Terminal { uid, console } => self.make_terminal(*uid, *console),
            Step::Rlimit { resource, soft, hard } => {
                let limit = |value: u64| (value != u64::MAX).then_some(value);
                let limits = Rlimit { current: limit(*soft), maximum: limit(*hard) };
                Ok(rustix::process::setrlimit(resource.resource(), limits)?)
            }
            Step::Directory { path } => self.change_directory(path),
            Step::Bounding { capabilities, last } => caps::limit_bounding(*capabilities, *last),
            Step::User { uid, gid, groups } => {
                caps::keep_over_user_change(true)?;
                become_user(*uid, *gid, groups.as_deref())?;
                die_with_caller()
            }
            Step::Capabilities { effective } => {
                caps::clear_ambient()?;
                caps::set(*effective)
            }
            Step::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
            Step::Seccomp { filter, log } => seccomp::install(&from_wire(filter), *log),
            // Handled by the caller of this function, since they do not come back.
            Step::Execute { .. } | Step::Hold => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    fn control(&self) -> io::Result<BorrowedFd<'_>> {
        let missing = || io::Error::from_raw_os_error(libc::EBADF);
        self.control.as_ref().map(AsFd::as_fd).ok_or_else(missing)
    }

    fn tell(&self, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        report.send(self.control()?, fds)
    }

    fn root(&self) -> io::Result<BorrowedFd<'_>> {
        let missing = || io::Error::from_raw_os_error(libc::EBADF);
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(missing)
    }

    fn swap_root(&mut self) -> io::Result<()> {
        let place = mount::open_place(Path::new("/"))?;
        let new_root =
            self.mounts.first().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        mount::attach_at(new_root.as_fd(), Path::new("/"))?;
        rustix::process::fchdir(new_root)?;
        mount::swap_root()?;
        rustix::process::chdir("/")?;
        self.root = Some(mount::open_place(Path::new("/"))?);
        self.old_root = Some(place);
        Ok(())
    }

    /// Opens a mount point, and tells the caller if it had to be made.
    fn target(&self, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
        let target = target::ensure(self.root()?, path, kind)?;
        for path in target.created {
            self.tell(&Report::Created { path: path.display().to_string() }, &[])?;
        }
        Ok(target.fd)
    }

    fn mount(
        &self,
        kind: &str,
        target: &Path,
        options: &[(String, Option<String>)],
        attributes: MountAttributes,
    ) -> io::Result<()> {
        let system = FileSystem::new(kind)?;
        for (key, value) in options {
            match value {
                Some(value) => system.text(key, value)?,
                None => system.flag(key)?,
            }
        }
        let mounted = system.mount(attributes.into())?;
        let target = self.target(target, Kind::Directory)?;
        mount::attach(mounted.as_fd(), target.as_fd())
    }

    fn attach(&mut self, source: usize, path: &Path) -> io::Result<()> {
        // The root comes first.
        let index = source + 1;
        let source = self.mounts.get(index);
        let source = source.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        let target = self.target(path, Kind::for_source(source.as_fd())?)?;
        mount::attach(source.as_fd(), target.as_fd())?;
        if path == Path::new("/dev/null") {
            // The container's own node comes before whatever else is asked for.
            self.null.get_or_insert(index);
        }
        Ok(())
    }

    fn link(&self, path: &Path, to: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let folder = self.target(parent, Kind::Directory)?;
        match rustix::fs::symlinkat(to, &folder, name) {
            // A device of this name was asked for, or the kernel made it.
            Err(rustix::io::Errno::EXIST) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Puts files of one tmpfs over those of the image, so that the image's stay as they are.
    fn files(&self, files: &[(PathBuf, String)]) -> io::Result<()> {
        let mut small_files = SmallFiles::new(self.root()?)?;
        for (path, content) in files {
            let file = SmallFile { content: content.as_bytes(), mode: 0o644, owner: None };
            let copy = small_files.put(&file)?;
            let target = self.target(path, Kind::File)?;
            mount::attach(copy.as_fd(), target.as_fd())?;
        }
        small_files.finish()
    }

    /// Puts files of one tmpfs, which is never written to a disk but by swapping, where they belong.
    fn secrets(&self, files: &[SecretFile]) -> io::Result<()> {
        let mut small_files = SmallFiles::new(self.root()?)?;
        for secret in files {
            let copy = small_files.put(&SmallFile {
                content: secret.content.bytes().unwrap_or_default(),
                mode: secret.mode,
                owner: Some((secret.uid, secret.gid)),
            })?;
            let readonly = Attributes { readonly: true, ..MountAttributes::NOTHING_SPECIAL.into() };
            mount::restrict(copy.as_fd(), readonly, false)?;
            let target = self.target(&secret.path, Kind::File)?;
            mount::attach(copy.as_fd(), target.as_fd())?;
        }
        small_files.finish()
    }

    /// Waits for the caller's word. What comes with it is the file of hosts, now that the addresses are
    /// known.
    fn await_caller(&self) -> io::Result<()> {
        let mut word = vec![0; GO_BYTES_MAX];
        let received = socket::receive(self.control()?, &mut word)?;
        let cancelled = || io::Error::from_raw_os_error(libc::ECANCELED);
        let hosts = word.get(..received.length).and_then(|word| word.strip_prefix(GO));
        match hosts.ok_or_else(cancelled)? {
            [] => Ok(()),
            mut bytes => {
                let file = target::open_own_file(self.root()?, Path::new("/etc/hosts"))?;
                rustix::fs::ftruncate(&file, 0)?;
                while !bytes.is_empty() {
                    let written = rustix::io::write(&file, bytes)?;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Ok(())
            }
        }
    }

    fn sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        // A slash stands for a dot within a part, as in sysctl(8).
        let swapped = name.chars().map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        });
        let setting = swapped.collect::<String>();
        let file = target::open_setting(self.root()?, Path::new(&setting))?;
        rustix::io::write(&file, value.as_bytes())?;
        Ok(())
    }

    /// Covers a file with `/dev/null` and a directory with an empty one.
    ///
    /// The node is the one that came from the host: what the path leads to by now may be a link of
    /// a volume's to the very file that is to be covered.
    fn mask(&self, path: &Path) -> io::Result<()> {
        let Some(target) = target::open_if_present(self.root()?, path)? else { return Ok(()) };
        let readonly = Attributes { readonly: true, ..MountAttributes::NOTHING_SPECIAL.into() };
        let cover = match Kind::for_source(target.as_fd())? {
            Kind::Directory => {
                let system = FileSystem::new("tmpfs")?;
                system.text("size", "0k")?;
                system.text("nr_inodes", "1")?;
                system.mount(readonly)?
            }
            Kind::File => {
                let null = self.null.and_then(|index| self.mounts.get(index));
                let null = null.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
                mount::copy_descriptor(null.as_fd(), false)?
            }
        };
        mount::attach(cover.as_fd(), target.as_fd())
    }

    fn make_readonly(&self, path: &Path) -> io::Result<()> {
        let Some(target) = target::open_if_present(self.root()?, path)? else { return Ok(()) };
        let copy = mount::copy_descriptor(target.as_fd(), true)?;
        let readonly = Attributes { readonly: true, ..Attributes::default() };
        mount::restrict(copy.as_fd(), readonly, true)?;
        mount::attach(copy.as_fd(), target.as_fd())
    }

    fn make_terminal(&mut self, uid: u32, console: bool) -> io::Result<()> {
        let (master, slave) = tty::open_pair(Path::new("/dev/pts/ptmx"))?;
        rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), None)?;
        if console {
            let copy = mount::copy_descriptor(slave.as_fd(), false)?;
            let console = self.target(Path::new("/dev/console"), Kind::File)?;
            mount::attach(copy.as_fd(), console.as_fd())?;
        }
        tty::make_controlling(slave.as_fd())?;
        rustix::stdio::dup2_stdin(&slave)?;
        rustix::stdio::dup2_stdout(&slave)?;
        rustix::stdio::dup2_stderr(&slave)?;
        self.terminal = true;
        self.tell(&Report::Terminal, &[master.as_fd()])
    }

    /// Stays, so that the container's namespaces do, until the helper or the caller kills it.
    fn hold(&mut self) -> ! {
        // Whoever joins the container's namespaces with the right to look into its processes may see its
        // files by this one. There is nothing of the container's in them that could make use of it.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .unwrap_or_default();
        // The caller waits for the end of the socket.
        self.control = None;
        self.mounts.clear();
        loop {
            std::thread::park();
        }
    }

    /// Changes to the directory and makes sure that it is one of the container's. The links of `/proc`
    /// that lead to what this process has open are no way to one.
    fn change_directory(&self, path: &Path) -> io::Result<()> {
        let opened = match &self.root {
            Some(root) => target::open(root.as_fd(), path)?,
            // A further program of a container has its root already.
            None => target::open(mount::open_place(Path::new("/"))?.as_fd(), path)?,
        };
        rustix::process::fchdir(&opened)?;
        // A directory outside of the root has no path: the kernel says so in different ways.
        let path = rustix::process::getcwd(Vec::new())?;
        if path.as_bytes().first() == Some(&b'/') {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Becomes the program; returns why it could not.
    fn execute(&mut self, program: &Program) -> Report {
        let Program { candidates, arguments, environment, reaper } = program;
        let mut begin = || -> io::Result<(CStrings, CStrings)> {
            // Nothing but the standard descriptors reaches the program.
            process::close_on_exec_from(3)?;
            signals::restore_ignored()?;
            if *reaper && let Some(child) = reaper::split(self.terminal)? {
                // The caller waits for the end of the socket, which the child keeps until then.
                self.control = None;
                self.mounts.clear();
                process::exit_now(reaper::reap(child));
            }
            Ok((CStrings::new(arguments)?, CStrings::new(environment)?))
        };
        match begin() {
            Ok((arguments, environment)) => try_all(candidates, program, &arguments, &environment),
            Err(error) => Report::failed("execute", arguments.first().cloned(), &error),
        }
    }
}

/// Executes the first candidate that is there; returns why none could be.
fn try_all(
    candidates: &[String],
    program: &Program,
    arguments: &CStrings,
    environment: &CStrings,
) -> Report {
    let program = program.arguments.first().cloned().unwrap_or_default();
    let mut failure = ExecFailure { program, errno: libc::ENOENT, found: None };
    for candidate in candidates {
        let error = process::exec(OsStr::new(candidate), arguments, environment);
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let Some(found) = find(candidate) else { continue };
        failure = ExecFailure { errno, found: Some(found), ..failure };
        // One that is there but not for us: another directory may have one that is.
        if errno != libc::EACCES {
            break;
        }
    }
    Report::NotExecuted(failure)
}

fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if let Some(groups) = groups {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// Looks at a file that could not be executed.
fn find(path: &str) -> Option<FoundFile> {
    let metadata = std::fs::metadata(path).ok()?;
    let mut head = Vec::new();
    if metadata.is_file()
        && let Ok(file) = std::fs::File::open(path)
    {
        let limit = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
        // Without the beginning, the error number alone is told.
        file.take(limit).read_to_end(&mut head).unwrap_or_default();
    }
    Some(FoundFile { path: path.to_owned(), directory: metadata.is_dir(), head })
}
