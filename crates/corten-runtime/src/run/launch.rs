//! Starts the helper process with its plan and the container's standard input and output.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use corten_sys::command::{Child, Command, pipe};
use corten_sys::{binary, mount, socket};
use rustix::fs::{MemfdFlags, SeekFrom};

use super::pipe_for;
use crate::cgroup::Groups;
use crate::error::RunError;
use crate::init::INIT_ARGUMENT;
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

pub(super) fn launch(plan: &Plan, groups: &Groups) -> Result<Launched, RunError> {
    let failed = |attempt| move |source: io::Error| RunError::Start { attempt, source };
    let (control, theirs) = socket::pair().map_err(failed("make a socket"))?;
    let (alive_reader, alive) = pipe().map_err(failed("make a pipe"))?;
    let wire = plan_in_memory(plan)?;
    let null = mount::open_null().map_err(failed("open `/dev/null`"))?;
    let owner = plan.stdio.owner;
    let input = match plan.stdio.stdin {
        Stdin::Inherit if !plan.stdio.terminal => Some(pipe_for(owner)?),
        _ => None,
    };
    let output =
        if plan.stdio.terminal { None } else { Some((pipe_for(owner)?, pipe_for(owner)?)) };
    let cgroup = groups.open_v2().map_err(RunError::Cgroup)?;

    let program = own_program().map_err(failed("protect the own program"))?;
    let path = format!("/proc/self/fd/{}", raw(program));
    let mut command = Command::new(path).name("corten").arg(INIT_ARGUMENT);
    if cgroup.is_some() {
        command = command.arg("cgroup");
    }
    let stdin = input.as_ref().map_or(null.as_fd(), |(reader, _)| reader.as_fd());
    command = command.descriptor(0, stdin);
    if let Some(((_, stdout), (_, stderr))) = &output {
        command = command.descriptor(1, stdout.as_fd()).descriptor(2, stderr.as_fd());
    }
    let inherited = [Some(&theirs), Some(&wire), Some(&alive_reader), cgroup.as_ref()];
    for (number, fd) in (3..).zip(inherited.into_iter().flatten()) {
        command = command.descriptor(number, fd.as_fd());
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
