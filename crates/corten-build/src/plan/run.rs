//! `RUN`.

use corten_diag::{Diagnostic, Span};
use corten_dockerfile::mount::{self, MountSpec, MountType, Security, Sharing};
use corten_dockerfile::{CommandLine, Heredoc, Instruction, Run};
use corten_runtime::Network;

use super::instruction::Dispatcher;
use super::{PlanResult, Planned, Scope, error};
use crate::config::{LayerMade, absolute};
use crate::graph::{CacheSharing, InlineFile, Input, Op, RunDevice, RunMount, RunMountKind, RunOp};

/// The mode of a cache that says none.
const CACHE_MODE: u32 = 0o755;

/// The mode of a secret that says none.
const SECRET_MODE: u32 = 0o400;

/// The id of an agent that has none.
const AGENT: &str = "default";

/// The mode of an agent's socket that says none.
const AGENT_MODE: u32 = 0o600;

/// Where agents are when they say no target: this and `.0`, `.1` and so on.
const AGENT_TARGET: &str = "/run/buildkit/ssh_agent";
/// The name of the machine, so that a step cannot tell one from another; BuildKit's name, since steps
/// have been written that look for it.
const HOSTNAME: &str = "buildkitsandbox";

/// The build argument that gives it another one.
const HOSTNAME_ARGUMENT: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Where secrets are when they say no target.
const SECRET_DIRECTORY: &str = "/run/secrets";

pub(super) fn plan_run(
    dispatcher: &mut Dispatcher<'_, '_>,
    planned: &mut Planned,
    each: &Instruction,
    run: &Run,
) -> PlanResult<()> {
    dispatcher.planner.check_can_run(&planned.platform, each.span)?;
    let (args, script) = command(planned, each, run);
    if args.is_empty() {
        return error("`RUN` needs a command", each.span);
    }
    let insecure = insecure(dispatcher, run)?;
    let devices = devices(dispatcher, run)?;
    let network = network(dispatcher, run)?;
    let mut mounts: Vec<RunMount> = Vec::new();
    for spec in &run.mounts {
        let is_agent = |mount: &&RunMount| matches!(mount.kind, RunMountKind::Ssh { .. });
        let agents = mounts.iter().filter(is_agent).count();
        mounts.extend(plan_mount(dispatcher, planned, spec, agents)?);
    }
    let created_by = format!("RUN {} # buildkit", command_text(planned, &args));
    let hostname = dispatcher.planner.options.build_args.get(HOSTNAME_ARGUMENT);
    let hostname = hostname.filter(|name| !name.is_empty()).map_or(HOSTNAME, String::as_str);
    let hostname = hostname.to_owned();
    let op = RunOp {
        args,
        shell: planned.config.with_shell("").swap_remove(0),
        script,
        env: planned.variables.pairs().to_vec(),
        cwd: absolute("/", planned.config.working_dir()),
        user: planned.config.user().to_owned(),
        network,
        hosts: dispatcher.planner.options.run.hosts.clone(),
        insecure,
        hostname,
        mounts,
        devices,
        normalise: dispatcher.planner.options.run.normalise,
    };
    planned.config.add_history(created_by, LayerMade::Yes);
    dispatcher.push(planned, each, Op::Run(op));
    Ok(())
}

/// Whether the step has all rights, if that is allowed.
fn insecure(dispatcher: &Dispatcher<'_, '_>, run: &Run) -> PlanResult<bool> {
    let Some(security) = &run.security else { return Ok(false) };
    match security.value {
        Security::Sandbox => Ok(false),
        Security::Insecure if dispatcher.planner.options.run.allow.insecure => Ok(true),
        Security::Insecure => {
            refused("`RUN --security=insecure`", "security.insecure", security.span)
        }
    }
}

/// The network of the step, if it is allowed.
fn network(dispatcher: &Dispatcher<'_, '_>, run: &Run) -> PlanResult<Network> {
    let options = &dispatcher.planner.options.run;
    let Some(network) = &run.network else { return Ok(options.network) };
    match network.value {
        mount::Network::Default => Ok(options.network),
        mount::Network::None => Ok(Network::None),
        mount::Network::Host if options.allow.host_network || options.network == Network::Host => {
            Ok(Network::Host)
        }
        mount::Network::Host => refused("`RUN --network=host`", "network.host", network.span),
    }
}

/// The devices of the step, if they are allowed. As in BuildKit, one that may be missing and is
/// missing needs no permission.
fn devices(dispatcher: &Dispatcher<'_, '_>, run: &Run) -> PlanResult<Vec<RunDevice>> {
    let options = &dispatcher.planner.options.run;
    let mut devices: Vec<RunDevice> = Vec::new();
    for given in &run.devices {
        let (name, required) = (given.value.name.clone(), given.value.required);
        if name.is_empty() {
            return error("the device has no name", given.span);
        }
        let meant = options.allow.devices.meant(&name);
        let is_missing = !required && options.devices.find(meant).is_err();
        if !is_missing && !options.allow.devices.allows(&name, &options.devices) {
            let entitlement = format!("device={name}");
            return refused(&format!("the device `{name}`"), &entitlement, given.span);
        }
        devices.push(RunDevice { name, required, span: given.span });
    }
    Ok(devices)
}

fn refused<T>(what: &str, entitlement: &str, span: Span) -> PlanResult<T> {
    let diagnostic = Diagnostic::error(format!("{what} is not allowed")).at(span);
    let hint = format!("if you trust this Dockerfile, add `--allow {entitlement}`");
    Err(Box::new(diagnostic.with_hint(hint)))
}

/// The program with its arguments, and the here-document that is a program of its own.
fn command(planned: &Planned, each: &Instruction, run: &Run) -> (Vec<String>, Option<InlineFile>) {
    let word = match &run.command {
        CommandLine::Exec(words) => {
            return (words.iter().map(|word| word.text.clone()).collect(), None);
        }
        CommandLine::Shell(word) => word,
    };
    let Some(first) = each.heredocs.first() else {
        return (planned.config.with_shell(&word.text), None);
    };
    if is_only_heredoc(&word.text, first) {
        let body = if first.chomp { chomp(&first.body) } else { first.body.clone() };
        if body.starts_with("#!") {
            let script = InlineFile { name: first.name.clone(), content: body };
            // Started by the shell, as BuildKit does.
            let path = format!("{}/{}", crate::run::SCRIPT_DIRECTORY, first.name);
            return (planned.config.with_shell(&path), Some(script));
        }
        return (planned.config.with_shell(&body), None);
    }
    // The shell reads its own here-documents.
    let mut text = word.text.clone();
    for heredoc in &each.heredocs {
        text.push('\n');
        text.push_str(&heredoc.body);
        text.push_str(&heredoc.name);
    }
    (planned.config.with_shell(&text), None)
}

/// Whether a command is nothing but the word that begins a here-document.
fn is_only_heredoc(text: &str, heredoc: &Heredoc) -> bool {
    let rest = text.trim().trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else { return false };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    let plain: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    plain == heredoc.name
}

fn chomp(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// The command as the history shows it, with the build arguments that it saw.
fn command_text(planned: &Planned, args: &[String]) -> String {
    let mut shown: Vec<(&str, String)> = Vec::new();
    for (name, value) in &planned.args {
        let value = planned.variables.get(name).or_else(|| value.clone()).unwrap_or_default();
        match shown.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => shown.push((name, value)),
        }
    }
    let mut parts = Vec::new();
    if !shown.is_empty() {
        parts.push(format!("|{}", shown.len()));
        parts.extend(shown.iter().map(|(name, value)| format!("{name}={value}")));
    }
    parts.extend(args.iter().cloned());
    parts.join(" ")
}

fn plan_mount(
    dispatcher: &mut Dispatcher<'_, '_>,
    planned: &Planned,
    spec: &MountSpec,
    agents_before: usize,
) -> PlanResult<Option<RunMount>> {
    let span = spec.word.span;
    let scope = Scope::new(&planned.variables, dispatcher.planner.escape);
    let mut expand = |text: &str| {
        corten_dockerfile::word::expand(text, &|name| scope.lookup(name), scope.escape)
    };
    let mount = spec.resolve(&mut expand).map_err(|error| Box::new(error.diagnostic(span)))?;
    if mount.kind == MountType::Ssh {
        return agent(planned, &mount, span, agents_before).map(Some);
    }
    if mount.kind == MountType::Secret {
        return secret(planned, &mount, span).map(Some);
    }
    let Some(target) = &mount.target else {
        let diagnostic = Diagnostic::error("the mount has no target").at(span);
        return Err(Box::new(diagnostic.with_hint("add `target=/path`")));
    };
    let default_id = cleaned(target);
    let target = target_path(planned, target, span)?;
    let source = absolute("/", mount.source.as_deref().unwrap_or("/"));
    if mount.kind == MountType::Tmpfs && source != "/" {
        return error("a memory file system has no source", span);
    }
    let kind = match mount.kind {
        MountType::Tmpfs => RunMountKind::Tmpfs { size_bytes: mount.size_bytes },
        MountType::Bind => {
            let input = match &mount.from {
                Some(from) => dispatcher.input(from, span)?,
                None => Input::Context,
            };
            RunMountKind::Bind { input, source, writable: !mount.read_only }
        }
        MountType::Cache => {
            let seed = match &mount.from {
                Some(from) => match dispatcher.input(from, span)? {
                    Input::Empty => None,
                    input => Some((input, source)),
                },
                None => None,
            };
            RunMountKind::Cache {
                id: mount.id.clone().unwrap_or(default_id),
                sharing: match mount.sharing {
                    None | Some(Sharing::Shared) => CacheSharing::Shared,
                    Some(Sharing::Private) => CacheSharing::Private,
                    Some(Sharing::Locked) => CacheSharing::Locked,
                },
                seed,
                mode: mount.mode.unwrap_or(CACHE_MODE),
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
                readonly: mount.read_only,
            }
        }
        MountType::Secret | MountType::Ssh => return Ok(None),
    };
    Ok(Some(RunMount { target, span, kind }))
}

fn secret(planned: &Planned, mount: &mount::Mount, span: Span) -> PlanResult<RunMount> {
    let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or("").to_owned();
    let id = mount.source.clone().or_else(|| mount.id.clone());
    let id = match (id, &mount.target) {
        (Some(id), _) => id,
        (None, Some(target)) => last(target),
        (None, None) => return error("the secret has neither an id nor a target", span),
    };
    let target = match &mount.target {
        Some(target) => target_path(planned, target, span)?,
        None => format!("{SECRET_DIRECTORY}/{}", last(&id)),
    };
    let variable = mount.env.as_ref().map(|name| if name.is_empty() { &id } else { name }.clone());
    Ok(RunMount {
        target,
        span,
        kind: RunMountKind::Secret {
            file: variable.is_none() || mount.target.is_some(),
            id,
            variable,
            required: mount.required,
            mode: mount.mode.unwrap_or(SECRET_MODE),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
        },
    })
}

/// The first agent of a step is the one that programs find.
fn agent(
    planned: &Planned,
    mount: &mount::Mount,
    span: Span,
    agents_before: usize,
) -> PlanResult<RunMount> {
    let target = match &mount.target {
        Some(target) => target_path(planned, target, span)?,
        None => format!("{AGENT_TARGET}.{agents_before}"),
    };
    let kind = RunMountKind::Ssh {
        id: mount.id.clone().unwrap_or_else(|| AGENT.to_owned()),
        variable: agents_before == 0,
        required: mount.required,
        mode: mount.mode.unwrap_or(AGENT_MODE),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
    };
    Ok(RunMount { target, span, kind })
}

/// The name of a cache that has only a target: the target as it was written, without its detours.
fn cleaned(target: &str) -> String {
    let clean = absolute("/", target);
    if target.starts_with('/') { clean } else { clean.trim_start_matches('/').to_owned() }
}

fn target_path(planned: &Planned, target: &str, span: Span) -> PlanResult<String> {
    let target = absolute(planned.config.working_dir(), target);
    if target == "/" {
        return error("a mount cannot hide the whole file system: its target is `/`", span);
    }
    Ok(target)
}
