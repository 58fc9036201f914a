//! A further program in a container, on the monitor's side.
//!
//! Its standard input and output are the asker's: nothing of what it reads and writes passes here.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use corten_runtime::user::{self, User};
use corten_runtime::{
    Capability, ContainerSpec, Given, Io, Outcome, Plan, Running, Seccomp, Stdin, plan_another,
    run_another,
};
use corten_sys::beneath::{Resolve, Root};
use corten_sys::{file, namespace, socket};

use crate::control::{self, Ended, Execute, HANDED_OVER, RUNS, RUNS_NOT, Reply};
use crate::error::Failed;
use crate::shared::{NOTHING_RUNS, Shared, Target};

/// Files of users and groups beyond this are not read.
const ACCOUNTS_BYTES_MAX: u64 = 4 << 20;

/// Answers a request for a program. Who has gone away meanwhile does not want to know.
pub(crate) fn answer(stream: &UnixStream, shared: &Shared, request: &Execute) {
    let target = match shared.running() {
        Ok(Some(target)) => target,
        Ok(None) => return control::send(stream, &Reply::error(NOTHING_RUNS)).unwrap_or_default(),
        Err(error) => {
            return control::send(stream, &Reply::error(error.to_string())).unwrap_or_default();
        }
    };
    if shared.is_paused() {
        let reply = Reply {
            hint: Some("`corten unpause` lets it go on".to_owned()),
            ..Reply::error("the container is paused")
        };
        return control::send(stream, &reply).unwrap_or_default();
    }
    if control::send(stream, &Reply::default()).is_err() {
        return;
    }
    let mut word = [0; HANDED_OVER.len()];
    let fds = match socket::receive(stream.as_fd(), &mut word) {
        Ok(received) if received.length > 0 && word == *HANDED_OVER => received.fds,
        // Whoever asked has changed its mind.
        _ => return,
    };
    let begun = Cell::new(false);
    let id = corten_sys::random::name();
    let told = |action: &str| {
        shared.tell(&format!("{action}: {}", request.args.join(" ")), &[("execID", &id)]);
    };
    told("exec_create");
    let began = || {
        begun.set(true);
        told("exec_start");
    };
    let reply = match execute(stream, &target, request, fds, &began) {
        Ok(outcome) => {
            let code = outcome.code();
            shared.tell("exec_die", &[("execID", &id), ("exitCode", &code.to_string())]);
            let ended = Ended { code, oom_killed: false };
            Reply { ended: Some(ended), ..Reply::default() }
        }
        Err(Failed { message, hint, code }) => {
            if !begun.get() {
                socket::send(stream.as_fd(), RUNS_NOT, &[]).unwrap_or_default();
            }
            Reply { hint, code: Some(code), ..Reply::error(message) }
        }
    };
    control::send(stream, &reply).unwrap_or_default();
}

fn execute(
    stream: &UnixStream,
    target: &Target,
    request: &Execute,
    fds: Vec<OwnedFd>,
    began: &dyn Fn(),
) -> Result<Outcome, Failed> {
    let plan = plan(target, request)?;
    let started = |running: Running| {
        began();
        let terminal = running.terminal.as_ref();
        let fds: Vec<_> = terminal.iter().map(|terminal| terminal.as_fd()).collect();
        match socket::send(stream.as_fd(), RUNS, &fds) {
            // Whoever asked has gone; the program goes on, as in Docker.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent,
        }
    };
    let io = Io { started: Some(&started), ..Io::elsewhere(given(request, fds)?) };
    run_another(&plan, &target.process, io).map_err(|error| Failed::of_run(&error))
}

/// Decides how a further program is run.
pub(crate) fn plan(target: &Target, request: &Execute) -> Result<Plan, Failed> {
    let container = &target.planned;
    let spec = describe(&container.spec, request, target.pid)?;
    let namespaces = namespace::different(target.pid).map_err(Failed::of)?;
    let plan = plan_another(&container.plan, &spec, &container.facts, namespaces);
    plan.map_err(|error| Failed::of_plan(&error))
}

/// The descriptors that came with the request; none where there is a terminal.
fn given(request: &Execute, fds: Vec<OwnedFd>) -> Result<Option<Given>, Failed> {
    let mut fds = fds.into_iter();
    let mut next = || {
        let missing = || Failed::of(io::Error::from_raw_os_error(libc::EBADF));
        fds.next().ok_or_else(missing)
    };
    if request.terminal {
        return Ok(None);
    }
    let stdin = if request.interactive { Some(next()?) } else { None };
    Ok(Some(Given { stdin, stdout: next()?, stderr: next()? }))
}

/// The container with the program in the place of its own.
fn describe(
    container: &ContainerSpec,
    request: &Execute,
    pid: u32,
) -> Result<ContainerSpec, Failed> {
    let mut spec = ContainerSpec {
        args: request.args.clone(),
        terminal: request.terminal,
        stdin: Stdin::Null,
        ..container.clone()
    };
    if let Some(cwd) = &request.cwd {
        spec.cwd = Path::new("/").join(cwd);
    }
    if let Some(name) = &request.user {
        let User { uid, gid, additional_gids, home, .. } = find_user(pid, name)?;
        (spec.uid, spec.gid, spec.additional_gids) = (uid, gid, additional_gids);
        spec.env.retain(|variable| !variable.starts_with("HOME="));
        spec.env.push(format!("HOME={home}"));
    }
    let has = |env: &[String], name: &str| env.iter().any(|known| known.starts_with(name));
    if request.terminal && !has(&spec.env, "TERM=") {
        spec.env.push("TERM=xterm".to_owned());
    }
    corten_runtime::options::merge(&mut spec.env, request.env.clone());
    if request.privileged {
        spec.capabilities = Capability::ALL.iter().copied().collect();
        spec.seccomp = Seccomp::Unconfined;
        spec.no_new_privileges = false;
    }
    Ok(spec)
}

/// Looks a user up in the container as it is now.
fn find_user(pid: u32, name: &str) -> Result<User, Failed> {
    let root = Root::open(&PathBuf::from(format!("/proc/{pid}/root"))).map_err(Failed::of)?;
    let read = |path: &str| -> Result<Vec<u8>, Failed> {
        let opened = root.open_file(Path::new(path), Resolve::InRoot);
        match file::absent_is_none(opened).map_err(Failed::of)? {
            Some(opened) => file::read_file_limited(&opened, Path::new(path), ACCOUNTS_BYTES_MAX)
                .map_err(Failed::of),
            None => Ok(Vec::new()),
        }
    };
    user::resolve(&read("etc/passwd")?, &read("etc/group")?, name).map_err(Failed::of)
}
