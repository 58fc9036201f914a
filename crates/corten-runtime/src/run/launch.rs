//! Starts the helper process with its plan and the container's standard input and output.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use corten_sys::command::{Child, Command, pipe};
use corten_sys::process::PidFd;
use corten_sys::{binary, mount, socket};
use rustix::fs::{MemfdFlags, SeekFrom};

use super::{Given, Io, Output, pipe_for};
use crate::cgroup::Groups;
use crate::error::RunError;
use crate::init::{GATHERED, INIT_ARGUMENT, WITH_CGROUP, WITH_JOINED};
use crate::plan::Plan;
use crate::spec::Stdin;

/// A helper that was started, and our ends of everything.
#[derive(Debug)]
pub(super) struct Launched {
    pub helper: Child,
    pub control: OwnedFd,
    /// Closing it makes the helper end the container, if that is still there, and itself.
    pub alive: OwnedFd,
    /// The container's standard input; `None` if it reads nothing or has a terminal.
    pub stdin: Option<OwnedFd>,
    /// Standard output and error; `None` with a terminal.
    pub output: Option<(OwnedFd, OwnedFd)>,
}

pub(super) fn launch(
    plan: &Plan,
    groups: &Groups,
    joined: Option<&PidFd>,
    io: &mut Io<'_>,
) -> Result<Launched, RunError> {
    let failed = |attempt| move |source: io::Error| RunError::Start { attempt, source };
    let (control, theirs) = socket::pair().map_err(failed("make a socket"))?;
    let (alive_reader, alive) = pipe().map_err(failed("make a pipe"))?;
    let wire = plan_in_memory(plan)?;
    let null = mount::open_null().map_err(failed("open `/dev/null`"))?;
    let owner = plan.stdio.owner;
    let given = match &mut io.output {
        Output::Elsewhere(given) => Some(given.take()),
        Output::Inherit | Output::Callback(_) | Output::Shown(_) => None,
    };
    let is_ours = given.is_none() && !plan.stdio.terminal;
    let input = match plan.stdio.stdin {
        Stdin::Inherit if is_ours => Some(pipe_for(owner)?),
        _ => None,
    };
    let output = if is_ours { Some((pipe_for(owner)?, pipe_for(owner)?)) } else { None };
    let given = given.flatten().filter(|_| !plan.stdio.terminal);
    if let Some(given) = &given {
        super::give_pipes(given, owner)?;
    }
    let cgroup =
        if plan.starts_in_groups() { groups.open_v2().map_err(RunError::Cgroup)? } else { None };

    let program = own_program().map_err(failed("protect the own program"))?;
    let path = format!("/proc/self/fd/{}", raw(program));
    let mut command = Command::new(path).name("corten").arg(INIT_ARGUMENT);
    for (word, fd) in [(WITH_CGROUP, cgroup.is_some()), (WITH_JOINED, joined.is_some())] {
        if fd {
            command = command.arg(word);
        }
    }
    if plan.among_others
        && let Some(group) = groups.gathered()
    {
        let mut word = OsString::from(GATHERED);
        word.push(group);
        command = command.arg(word);
    }
    let given_input = given.as_ref().and_then(|given| given.stdin.as_ref());
    let stdin = input.as_ref().map(|(reader, _)| reader).or(given_input);
    command = command.descriptor(0, stdin.map_or(null.as_fd(), AsFd::as_fd));
    if let Some(Given { stdout, stderr, .. }) = &given {
        command = command.descriptor(1, stdout.as_fd()).descriptor(2, stderr.as_fd());
    }
    if let Some(((_, stdout), (_, stderr))) = &output {
        command = command.descriptor(1, stdout.as_fd()).descriptor(2, stderr.as_fd());
    }
    let mut inherited = vec![theirs.as_fd(), wire.as_fd(), alive_reader.as_fd()];
    inherited.extend(cgroup.as_ref().map(AsFd::as_fd));
    inherited.extend(joined.map(AsFd::as_fd));
    for (number, fd) in (3..).zip(inherited) {
        command = command.descriptor(number, fd);
    }
    let helper = command.spawn().map_err(failed("start the helper process"))?;
    Ok(Launched {
        helper,
        control,
        alive,
        stdin: input.map(|(_, writer)| writer),
        output: output.map(|((stdout, _), (stderr, _))| (stdout, stderr)),
    })
}

fn raw(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd as _;
    fd.as_raw_fd()
}

/// Our program in a form that the container cannot write to, made once.
fn own_program() -> io::Result<&'static OwnedFd> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = binary::read_only_view().or_else(|_| binary::sealed_copy())?;
    Ok(PROGRAM.get_or_init(|| program))
}

fn plan_in_memory(plan: &Plan) -> Result<OwnedFd, RunError> {
    let bytes = serde_json::to_vec(&plan.helper).map_err(RunError::Encode)?;
    let attempt = "hand over the plan";
    let failed = |errno: rustix::io::Errno| RunError::Start { attempt, source: errno.into() };
    let file = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC).map_err(failed)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).map_err(failed)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::seek(&file, SeekFrom::Start(0)).map_err(failed)?;
    Ok(file)
}
