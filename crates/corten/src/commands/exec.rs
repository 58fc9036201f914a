//! `corten exec`: a further program in a running container.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use corten_monitor::{Control, Ended, Execute};
use corten_runtime::{Streams, attend};
use corten_sys::command::pipe;

use super::Context;
use super::life::{existing, reach};
use super::run::options::given;
use super::run::{not_started, require_terminal};
use crate::cli::ExecArgs;
use crate::error::CliError;

pub(super) fn exec(context: &Context, arguments: &ExecArgs) -> Result<ExitCode, CliError> {
    execute(context, arguments).map_err(not_started)
}

fn execute(context: &Context, arguments: &ExecArgs) -> Result<ExitCode, CliError> {
    if arguments.tty {
        require_terminal()?;
    }
    let store = context.store()?;
    let container = existing(&store, &arguments.container)?;
    let name = &arguments.container;
    if !container.running {
        return Err(not_running(name));
    }
    let control = reach(&store, &container)?.ok_or_else(|| not_running(name))?;
    let request = Execute {
        args: arguments.command.clone(),
        env: given(context, &arguments.env_file, &arguments.env)?,
        cwd: arguments.workdir.clone(),
        user: arguments.user.clone(),
        terminal: arguments.tty,
        interactive: arguments.interactive,
        privileged: arguments.privileged,
    };
    let ended = if arguments.detach {
        in_background(control, &request)?;
        return Ok(ExitCode::SUCCESS);
    } else if arguments.tty {
        on_terminal(control, &request)?
    } else {
        with_pipes(control, &request)?
    };
    Ok(ExitCode::from(u8::try_from(ended.code).unwrap_or(u8::MAX)))
}

pub(super) fn not_running(name: &str) -> CliError {
    CliError::new(format!("container `{name}` is not running"))
        .hint(format!("`corten start {name}` starts it, `corten ps` lists those that run"))
}

fn in_background(control: Control, request: &Execute) -> Result<(), CliError> {
    let null = corten_sys::mount::open_null().map_err(CliError::new)?;
    control.execute(request, &[null.as_fd(), null.as_fd()])?;
    Ok(())
}

fn on_terminal(control: Control, request: &Execute) -> Result<Ended, CliError> {
    let mut executed = control.execute(request, &[])?;
    if let Some(terminal) = executed.terminal.take() {
        let streams = Streams::Terminal { terminal, interactive: request.interactive };
        attend(streams, executed.ended()).map_err(CliError::new)?;
    }
    Ok(executed.wait()?)
}

fn with_pipes(control: Control, request: &Execute) -> Result<Ended, CliError> {
    let make = || pipe().map_err(CliError::new);
    let (stdout, theirs_out) = make()?;
    let (stderr, theirs_err) = make()?;
    let (theirs_in, stdin) = match request.interactive.then(make).transpose()? {
        Some((reader, writer)) => (Some(reader), Some(writer)),
        None => (None, None),
    };
    let theirs: Vec<OwnedFd> = theirs_in.into_iter().chain([theirs_out, theirs_err]).collect();
    let descriptors: Vec<_> = theirs.iter().map(|fd| fd.as_fd()).collect();
    let executed = control.execute(request, &descriptors)?;
    // Ours would keep the pipes open after the program's end.
    drop(theirs);
    attend(Streams::Pipes { stdin, stdout, stderr }, executed.ended()).map_err(CliError::new)?;
    Ok(executed.wait()?)
}
