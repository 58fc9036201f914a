//! `corten debug`: a shell with tools in the namespaces of a container that has none.
//!
//! The tools' container shares processes, network, messages, host name and ids with the other one, and has its
//! own files, which go away with it. The other one's files are at `/proc/1/root`, and by the link `/target`.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use corten_runtime::{
    ContainerSpec, HostFacts, IdMapping, Namespace, Rootfs, UserNamespace, files,
};
use corten_store::{Image, Store};
use corten_sys::userns::parse_map;
use corten_sys::{file, namespace};

use super::Context;
use super::container_files::reach;
use super::ps::find_container;
use super::run::{self, not_started};
use crate::cli::{Cli, Command, DebugArgs, RunArgs};
use crate::error::CliError;

/// Puts the link in place, which the tools' image does not have, and becomes a shell.
const SHELL: &str = "ln -sfn /proc/1/root /target; exec bash 2>/dev/null || exec sh";

/// The same, and becomes a command.
const COMMAND: &str = "ln -sfn /proc/1/root /target; exec \"$0\" \"$@\"";

/// The kernel takes 340 lines of at most 32 bytes.
const MAP_BYTES_MAX: u64 = 16 << 10;

pub(super) fn debug(context: &Context, arguments: &DebugArgs) -> Result<ExitCode, CliError> {
    look(context, arguments).map_err(not_started)
}

fn look(context: &Context, arguments: &DebugArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let tools = tools(context, arguments)?;
    if let Some(container) = find_container(&store, &arguments.target)? {
        return reach(&store, &container, |pid| beside(context, &tools, pid));
    }
    let image = super::images::find(&store, &arguments.target, None)?;
    hold_image(context, &tools, &image, &store)
}

/// The tools' container as a command line.
fn tools(context: &Context, arguments: &DebugArgs) -> Result<RunArgs, CliError> {
    let mut words: Vec<String> =
        ["corten", "run", "--rm", "--quiet", "--cap-add=SYS_PTRACE", "--network=none"]
            .map(str::to_owned)
            .to_vec();
    words.push("--interactive".to_owned());
    if rustix::termios::isatty(std::io::stdin()) && context.ui.data_is_terminal() {
        words.push("--tty".to_owned());
    }
    let user = arguments.user.as_deref().unwrap_or("0");
    words.extend(
        ["--user", user, "--entrypoint=sh", "--", &arguments.image, "-c"].map(str::to_owned),
    );
    if arguments.command.is_empty() {
        words.push(SHELL.to_owned());
    } else {
        words.push(COMMAND.to_owned());
        words.extend(arguments.command.iter().cloned());
    }
    match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Command::Run(run)) => Ok(*run),
        _ => Err(CliError::new("the tools' image cannot be asked for like this")),
    }
}

/// Runs the tools beside an image that has no container: nothing of it runs, and its files are there.
fn hold_image(
    context: &Context,
    tools: &RunArgs,
    image: &Image,
    store: &Store,
) -> Result<ExitCode, CliError> {
    // Held until the end, so that nobody collects them.
    let _store = store.clone();
    let lowers = image.layers.iter().rev().map(|layer| layer.path.clone()).collect();
    let id = run::new_id();
    let spec = ContainerSpec::new(&id, Rootfs::in_memory(lowers), vec!["held".to_owned()]);
    let plan = corten_runtime::plan(&spec, &HostFacts::gather()?)?;
    files::hold(&plan, |pid| beside(context, tools, pid))?
}

/// Runs the tools in the namespaces of a process.
fn beside(context: &Context, tools: &RunArgs, pid: u32) -> Result<ExitCode, CliError> {
    let different = namespace::different(pid)?;
    let join = |kind: &str, bit: u64| {
        if different & bit == 0 {
            Namespace::Host
        } else {
            Namespace::Join(Path::new("/proc").join(pid.to_string()).join("ns").join(kind))
        }
    };
    let maps = |name: &str| -> Result<Vec<IdMapping>, CliError> {
        let path = Path::new("/proc").join(pid.to_string()).join(name);
        let text = file::read_limited(&path, MAP_BYTES_MAX)?;
        let ranges = parse_map(&String::from_utf8_lossy(&text));
        Ok(ranges.into_iter().map(IdMapping::from).collect())
    };
    let (users, groups) = (maps("uid_map")?, maps("gid_map")?);
    run::beside(context, tools, |spec| {
        spec.namespaces.pid = join("pid", namespace::PID);
        spec.namespaces.ipc = join("ipc", namespace::IPC);
        spec.namespaces.uts = join("uts", namespace::UTS);
        spec.namespaces.network = join("net", namespace::NETWORK);
        spec.user_namespace = match join("user", namespace::USER) {
            Namespace::Join(path) => UserNamespace::Join { path, users, groups },
            _ => UserNamespace::Host,
        };
    })
}
