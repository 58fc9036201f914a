//! From a plan to a container that runs in the foreground, and to what became of it.

mod attend;
mod hosts;
mod launch;
mod outcome;
mod relay;
mod session;

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use corten_diag::Stream;
use corten_sys::process::{self, PidFd};

use crate::cgroup::Groups;
use crate::error::RunError;
use crate::notice::Notice;
use crate::plan::Plan;

pub use attend::{Streams, attend};
pub use outcome::{Exit, Oom, Outcome};

pub use relay::standard;

pub(crate) use outcome::step_hint;

/// Takes a socket that listens within a container's network.
pub type TakeListener<'a> = &'a dyn Fn(TcpListener) -> std::io::Result<()>;

/// A program that has begun, for whoever acts on its container from another thread.
#[derive(Debug)]
pub struct Running {
    /// The container's first process, in the caller's process ids.
    pub pid: u32,
    pub process: PidFd,
    /// The terminal that the container was given, our side of it.
    pub terminal: Option<OwnedFd>,
    /// What the program reads, with [`Input::Held`]; it sees the end when all copies are closed.
    pub input: Option<OwnedFd>,
}

/// Is told that the program has begun.
pub type Started<'a> = &'a dyn Fn(Running) -> std::io::Result<()>;

/// Where the container's output goes, and what may end it from outside.
pub struct Io<'a> {
    pub output: Output<'a>,
    pub input: Input,
    /// Passes on signals to this process. The calling thread blocks them meanwhile; threads that
    /// run already should have blocked them.
    pub forward_signals: bool,
    /// The container is killed once it is true.
    pub cancelled: Option<&'a AtomicBool>,
    /// Takes the socket of [`crate::ContainerSpec::listen_port`].
    pub listener: Option<TakeListener<'a>>,
    /// Is told when every step has succeeded and the program runs.
    pub started: Option<Started<'a>>,
    /// Somebody who is looked after while the program runs.
    pub visitor: Option<Visitor<'a>>,
}

/// What is done whenever a descriptor is readable.
#[derive(Clone, Copy)]
pub struct Visitor<'a> {
    pub knocks: BorrowedFd<'a>,
    pub answer: &'a dyn Fn(),
}

impl std::fmt::Debug for Visitor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor").field("knocks", &self.knocks).finish_non_exhaustive()
    }
}

/// What a program reads that has an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// What this process reads.
    Caller,
    /// What those write whom [`Running::input`] or [`Running::terminal`] is handed on to.
    Held,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("output", &self.output).finish_non_exhaustive()
    }
}

/// Where the container's output goes.
pub enum Output<'a> {
    /// To this process's standard output and error.
    Inherit,
    /// To a function.
    Callback(&'a mut dyn FnMut(Stream, &[u8])),
    /// To this process's standard output and error, and to a function that may look at it.
    Shown(&'a mut dyn FnMut(Stream, &[u8])),
    /// Past this process: to these descriptors, or with a terminal to whoever [`Io::started`] tells.
    Elsewhere(Option<Given>),
}

/// Descriptors that become a program's own.
#[derive(Debug)]
pub struct Given {
    /// `None` reads nothing.
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inherit => "Inherit",
            Self::Callback(_) => "Callback",
            Self::Shown(_) => "Shown",
            Self::Elsewhere(_) => "Elsewhere",
        })
    }
}

impl<'a> Io<'a> {
    fn new(output: Output<'a>, forward_signals: bool) -> Self {
        Self {
            output,
            input: Input::Caller,
            forward_signals,
            cancelled: None,
            listener: None,
            started: None,
            visitor: None,
        }
    }

    /// Output and signals go through, as for `corten run`.
    pub fn inherit() -> Self {
        Self::new(Output::Inherit, true)
    }

    /// Output goes to a function and signals stay here, as for a step of a build.
    pub fn callback(function: &'a mut dyn FnMut(Stream, &[u8])) -> Self {
        Self::new(Output::Callback(function), false)
    }

    /// What the program reads and writes is somebody else's, as for `corten exec`.
    pub fn elsewhere(given: Option<Given>) -> Self {
        Self::new(Output::Elsewhere(given), false)
    }
}

/// Runs a container to its end.
///
/// May be called from several threads at once. The container ends when the calling thread or this
/// process ends, however it ends.
pub fn run(plan: &Plan, mut io: Io<'_>) -> Result<Outcome, RunError> {
    process::keep_child_reports()
        .map_err(|source| RunError::Start { attempt: "prepare to wait for processes", source })?;
    let result = run_plan(plan, &mut io);
    if let (Err(RunError::OwnersRefused { .. }), Some(fallback)) = (&result, &plan.fallback) {
        let mut outcome = run_plan(fallback, &mut io)?;
        // The caller has seen the notices of the plan, but not those of its replacement.
        let news = fallback.notices.iter().filter(|notice| !plan.notices.contains(notice));
        outcome.notices.splice(0..0, news.cloned());
        return Ok(outcome);
    }
    result
}

fn run_plan(plan: &Plan, io: &mut Io<'_>) -> Result<Outcome, RunError> {
    let mut groups = Groups::create(&plan.cgroup, &plan.id).map_err(RunError::Cgroup)?;
    let mut notices = Vec::new();
    let ended = launch::launch(plan, &groups, None, io)
        .and_then(|launched| session::Session::new(plan, io, &groups, launched).run(&mut notices));
    groups.add_later(&plan.id);
    // Read before the group is gone, kept even if the container could not be waited for.
    let memory = groups.memory();
    crate::cgroup::forget(&plan.id);
    for error in groups.remove() {
        notices.push(Notice::Cleanup { text: error.to_string() });
    }
    let ended = ended?;
    Ok(Outcome::new(&ended, memory, notices))
}

/// Runs a further program in a container that this process runs, to its end. The plan comes from
/// [`crate::plan_another`].
pub fn run_another(plan: &Plan, container: &PidFd, mut io: Io<'_>) -> Result<Outcome, RunError> {
    let mut groups = Groups::existing(&plan.cgroup, &plan.id).map_err(RunError::Cgroup)?;
    groups.add_later(&plan.id);
    let mut notices = Vec::new();
    let launched = launch::launch(plan, &groups, Some(container), &mut io)?;
    let ended = session::Session::new(plan, &mut io, &groups, launched).run(&mut notices)?;
    Ok(Outcome::new(&ended, None, notices))
}

/// Lets the container's user open given pipes anew, as `/dev/stdout` for example. What else was given
/// belongs to somebody, and stays theirs.
fn give_pipes(given: &Given, owner: (u32, u32)) -> Result<(), RunError> {
    use rustix::fs::{FileType, Gid, Uid};
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    for fd in given.stdin.iter().chain([&given.stdout, &given.stderr]) {
        let attempt = "hand over a pipe to the container";
        let failed = |errno: rustix::io::Errno| RunError::Start { attempt, source: errno.into() };
        let stat = rustix::fs::fstat(fd).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Both ends of a pipe whose owner is the container's user, reading end first.
fn pipe_for(owner: (u32, u32)) -> Result<(OwnedFd, OwnedFd), RunError> {
    use rustix::fs::{Gid, Uid};
    let attempt = "make a pipe for the container";
    let failed = |source| RunError::Start { attempt, source };
    let (reader, writer) = corten_sys::command::pipe().map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    // One inode for both ends.
    rustix::fs::fchown(writer.as_fd(), Some(uid), Some(gid))
        .map_err(|errno| failed(errno.into()))?;
    Ok((reader, writer))
}
