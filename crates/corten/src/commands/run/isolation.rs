//! From the flags about isolation and limits to what the container shall be.

use std::collections::BTreeSet;
use std::path::Path;

use corten_runtime::options::{self, SecurityOption, UID_OF_USER, UsersOption};
use corten_runtime::user;
use corten_runtime::{
    BlockLimit, BlockLimitKind, Capability, ContainerSpec, DeviceRule, Limit, Mount, Namespace,
    Resources, Seccomp, Secret, SecretSource, SecretTarget, TmpfsMount, UserNamespace,
    default_capabilities,
};
use corten_store::Store;
use corten_sys::file;

use super::options::FILE_BYTES_MAX;
use crate::cli::{ContainerArgs, IsolationArgs, LimitArgs};
use crate::commands::ps::find_container;
use crate::commands::{Context, flag};
use crate::error::CliError;

/// Processes that a container may have when nobody says otherwise: a fork bomb ends here.
const PIDS_DEFAULT: u64 = 32_768;

/// What stays writable of a read-only container, as in Podman.
const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Everything about rights. Whoever wants to know why something is refused looks here.
pub(super) fn isolate(
    context: &Context,
    arguments: &ContainerArgs,
    store: &Store,
    group_file: &[u8],
    spec: &mut ContainerSpec,
) -> Result<(), CliError> {
    let isolation = &arguments.isolation;
    namespaces(isolation, store, spec)?;
    for name in &isolation.groups {
        let gid = user::resolve_group(group_file, name)?;
        if !spec.additional_gids.contains(&gid) {
            spec.additional_gids.push(gid);
        }
    }
    for text in &isolation.sysctls {
        let (name, value) = flag("sysctl", options::parse_sysctl(text))?;
        spec.sysctls.insert(name, value);
    }
    if let Some(name) = &isolation.domainname {
        spec.sysctls.insert("kernel.domainname".to_owned(), name.clone());
    }
    if isolation.privileged {
        spec.unlock()?;
    }
    security(arguments, spec)?;
    for text in &isolation.device_rules {
        let rule = DeviceRule::parse(text).ok_or_else(|| {
            CliError::new(format!("failed to read `--device-cgroup-rule`: `{text}` is no rule"))
                .hint("for example `--device-cgroup-rule \"c 10:200 rw\"`".to_owned())
        })?;
        spec.device_rules.push(rule);
    }
    secrets(context, isolation, spec)?;
    if arguments.read_only && isolation.read_only_tmpfs {
        writable_parts(spec);
    }
    Ok(())
}

/// Says what a privileged container is, in one line.
pub(super) fn warn_of_privileges(
    context: &Context,
    arguments: &ContainerArgs,
    spec: &ContainerSpec,
) {
    if !arguments.isolation.privileged || arguments.quiet {
        return;
    }
    context.ui.warning(match spec.user_namespace {
        UserNamespace::Host => {
            "`--privileged --userns host`: root of this container is root of this machine"
        }
        _ => {
            "`--privileged`: nothing but its user namespace keeps this container from the machine; \
             hardware that only root may open needs `--userns host` too"
        }
    });
}

fn namespaces(
    arguments: &IsolationArgs,
    store: &Store,
    spec: &mut ContainerSpec,
) -> Result<(), CliError> {
    let parse = |name: &str, text: &Option<String>, example| match text {
        Some(text) => flag(name, options::parse_namespace(text, example)),
        None => Ok(Namespace::New),
    };
    spec.namespaces.pid = parse("pid", &arguments.pid, "--pid host")?;
    spec.namespaces.uts = parse("uts", &arguments.uts, "--uts host")?;
    spec.namespaces.cgroup = parse("cgroupns", &arguments.cgroupns, "--cgroupns host")?;
    if let Some(text) = &arguments.ipc {
        (spec.namespaces.ipc, spec.shared_memory) = flag("ipc", options::parse_ipc(text))?;
    }
    let maps = options::parse_maps(&arguments.user_maps, &arguments.group_maps);
    if let Some(maps) = flag("uidmap", maps)? {
        spec.user_namespace = maps;
    } else if let Some(text) = &arguments.userns {
        spec.user_namespace = users(text)?;
    }
    let namespaces = &mut spec.namespaces;
    let places =
        [&mut namespaces.pid, &mut namespaces.ipc, &mut namespaces.uts, &mut namespaces.cgroup];
    for place in places {
        if let Namespace::Container(name) = place {
            *name = id_of(store, name)?;
        }
    }
    if let UserNamespace::Container(name) = &mut spec.user_namespace {
        *name = id_of(store, name)?;
    }
    share_users(arguments, spec);
    Ok(())
}

/// Who shares processes or messages of a container is one of its users, unless told otherwise: what
/// belongs to a namespace belongs to its users.
pub(super) fn share_users(arguments: &IsolationArgs, spec: &mut ContainerSpec) {
    if arguments.userns.is_some() || spec.user_namespace != UserNamespace::Auto {
        return;
    }
    let namespaces = &spec.namespaces;
    let shared = [&namespaces.pid, &namespaces.ipc, &namespaces.network];
    let container = shared.into_iter().find_map(|namespace| match namespace {
        Namespace::Container(id) => Some(id.clone()),
        _ => None,
    });
    if let Some(id) = container {
        spec.user_namespace = UserNamespace::Container(id);
    }
}

/// Finds a container by name or ID.
pub(super) fn id_of(store: &Store, name: &str) -> Result<String, CliError> {
    match find_container(store, name)? {
        Some(found) => Ok(found.record.id),
        None => Err(CliError::new(format!("there is no container `{name}`"))
            .hint("`corten ps --all` lists all containers".to_owned())),
    }
}

fn users(text: &str) -> Result<UserNamespace, CliError> {
    let (uid, gid) = match flag("userns", options::parse_users(text))? {
        UsersOption::Namespace(namespace) => return Ok(namespace),
        UsersOption::KeepId { uid, gid } => (uid, gid),
    };
    let caller = corten_sys::userns::own_map("uid_map")?;
    let rootless = !corten_sys::userns::is_whole_system(&caller);
    if !rootless && uid.unwrap_or(0) == 0 && gid.unwrap_or(0) == 0 {
        // Root of the container is the caller to mounted directories anyway.
        return Ok(UserNamespace::Auto);
    }
    let reason = if rootless {
        "an ordinary user cannot show the image's files under other ids"
    } else {
        "root keeps its id already: files in mounted directories have the ids that they have inside"
    };
    Err(CliError::new(format!("`--userns {text}` cannot be had: {reason}")).hint(
        "root of an ordinary user's container is that user: with `-u 0`, files in `-v` directories are yours"
            .to_owned(),
    ))
}

fn security(arguments: &ContainerArgs, spec: &mut ContainerSpec) -> Result<(), CliError> {
    let defaults: BTreeSet<Capability> = if arguments.isolation.privileged {
        spec.capabilities.clone()
    } else {
        default_capabilities()
    };
    spec.capabilities = flag(
        "cap-add",
        options::adjust_capabilities(&defaults, &arguments.cap_add, &arguments.cap_drop),
    )?;
    for text in &arguments.security_opt {
        match flag("security-opt", options::parse_security_option(text))? {
            SecurityOption::NoNewPrivileges(value) => spec.no_new_privileges = value,
            SecurityOption::SeccompUnconfined => spec.seccomp = Seccomp::Unconfined,
            SecurityOption::SeccompFile(path) => {
                let bytes = file::read_limited(&path, FILE_BYTES_MAX)?;
                spec.seccomp = Seccomp::Profile(String::from_utf8_lossy(&bytes).into_owned());
            }
            SecurityOption::Mask(paths) => spec.masked_paths.extend(paths),
            SecurityOption::Unmask(patterns) => {
                let hidden = |path: &std::path::PathBuf| {
                    !patterns.iter().any(|pattern| options::is_unmasked(pattern, path))
                };
                spec.masked_paths.retain(hidden);
                spec.readonly_paths.retain(hidden);
            }
            SecurityOption::UnmaskAll => {
                spec.masked_paths.clear();
                spec.readonly_paths.clear();
            }
            SecurityOption::AsItIs => {}
        }
    }
    Ok(())
}

fn secrets(
    context: &Context,
    arguments: &IsolationArgs,
    spec: &mut ContainerSpec,
) -> Result<(), CliError> {
    let cwd = std::env::current_dir()
        .map_err(|source| corten_sys::error::IoError::new("find", ".", source))?;
    let host = |name: &str| context.settings.environment.get(name).map(str::to_owned);
    for text in &arguments.secrets {
        let parsed = options::parse_secret(text, &cwd, &host).map_err(|error| {
            let hint = error.hint();
            // The text has no value in it, but the name of one.
            CliError::new(format!("failed to read `--secret`: {error}")).hint(hint)
        })?;
        let mut secret = parsed;
        if let SecretTarget::File { uid, gid, .. } = &mut secret.target {
            for (given, own) in [(uid, spec.uid), (gid, spec.gid)] {
                if *given == UID_OF_USER {
                    *given = own;
                }
            }
        }
        if spec.secrets.iter().any(|known| known.id == secret.id) {
            return Err(CliError::new(format!("secret `{}` is given twice", secret.id)));
        }
        spec.secrets.push(secret);
    }
    Ok(())
}

fn is_passing(secret: &Secret) -> bool {
    matches!(secret.source, SecretSource::Variable(_))
}

/// True if a secret is there as long as this command only.
pub(super) fn has_passing_secrets(spec: &ContainerSpec) -> bool {
    spec.secrets.iter().any(is_passing)
}

/// A container that is started again has no variables of whoever made it.
pub(super) fn refuse_passing_secrets(spec: &ContainerSpec) -> Result<(), CliError> {
    match spec.secrets.iter().find(|secret| is_passing(secret)) {
        None => Ok(()),
        Some(secret) => Err(CliError::new(format!(
            "secret `{}` comes from a variable, which would have to be written down for a container in \
             the background",
            secret.id
        ))
        .hint(format!("put it into a file, which is read at each start: `--secret id={},src=FILE`", secret.id))),
    }
}

fn writable_parts(spec: &mut ContainerSpec) {
    let at = |mount: &Mount| match mount {
        Mount::Bind(bind) => bind.target.clone(),
        Mount::Tmpfs(tmpfs) => tmpfs.target.clone(),
    };
    let taken: Vec<_> = spec.mounts.iter().map(at).collect();
    let free = WRITABLE.iter().filter(|path| !taken.iter().any(|taken| taken == Path::new(path)));
    let mounts: Vec<Mount> = free
        .map(|path| {
            let mode = if *path == "/run" { 0o755 } else { 0o1777 };
            Mount::Tmpfs(TmpfsMount { mode, ..TmpfsMount::new(*path) })
        })
        .collect();
    // What lies within comes after.
    spec.mounts.splice(0..0, mounts);
}

/// What the container may use.
pub(super) fn resources(arguments: &ContainerArgs) -> Result<Resources, CliError> {
    let limits = &arguments.limits;
    let bytes = |name: &str, text: &Option<String>| -> Result<Option<Limit<u64>>, CliError> {
        let text = text.as_ref().map(|text| flag(name, options::parse_bytes(text)));
        Ok(text.transpose()?.map(Limit::required))
    };
    let swap = limits.memory_swap.as_ref();
    let swap = swap.map(|text| flag("memory-swap", options::parse_swap(text))).transpose()?;
    let cpus = arguments.cpus.as_ref();
    let cpus = cpus.map(|text| flag("cpus", options::parse_cpus(text))).transpose()?;
    // Docker's -1 is the kernel's own.
    let swappiness = limits.memory_swappiness.filter(|number| *number != -1);
    let swappiness = swappiness.map(|number| u64::try_from(number).unwrap_or(u64::MAX));
    Ok(Resources {
        memory_bytes: bytes("memory", &arguments.memory)?,
        memory_swap_bytes: swap.map(Limit::required),
        memory_reservation_bytes: bytes("memory-reservation", &limits.memory_reservation)?,
        memory_swappiness: swappiness.map(Limit::required),
        oom_kill_disabled: limits.oom_kill_disable.then_some(Limit::required(())),
        cpu_millis: cpus.map(Limit::required),
        cpu_quota_us: limits.cpu_quota.map(Limit::required),
        cpu_period_us: limits.cpu_period.map(Limit::required),
        // Docker's 0 is the kernel's own.
        cpu_shares: limits.cpu_shares.filter(|shares| *shares != 0).map(Limit::required),
        cpuset: limits.cpuset_cpus.clone().map(Limit::required),
        memory_nodes: limits.cpuset_mems.clone().map(Limit::required),
        pids: pids(arguments)?,
        block_weight: limits.blkio_weight.filter(|weight| *weight != 0).map(Limit::required),
        block_limits: block_limits(limits)?,
    })
}

fn pids(arguments: &ContainerArgs) -> Result<Option<Limit<u64>>, CliError> {
    match arguments.pids_limit {
        None => Ok(Some(Limit::preferred(PIDS_DEFAULT))),
        // Docker's spelling of "no limit".
        Some(0 | -1) => Ok(None),
        Some(count) => match u64::try_from(count) {
            Ok(count) => Ok(Some(Limit::required(count))),
            Err(_) => {
                Err(CliError::new(format!("`--pids-limit {count}` is no number of processes"))
                    .hint("write a number, or -1 for no limit".to_owned()))
            }
        },
    }
}

fn block_limits(limits: &LimitArgs) -> Result<Vec<BlockLimit>, CliError> {
    use BlockLimitKind::{ReadBytes, ReadOperations, Weight, WriteBytes, WriteOperations};
    let lists = [
        ("blkio-weight-device", &limits.blkio_weight_device, Weight),
        ("device-read-bps", &limits.device_read_bps, ReadBytes),
        ("device-write-bps", &limits.device_write_bps, WriteBytes),
        ("device-read-iops", &limits.device_read_iops, ReadOperations),
        ("device-write-iops", &limits.device_write_iops, WriteOperations),
    ];
    let mut found = Vec::new();
    for (name, texts, kind) in lists {
        for text in texts {
            let is_size = matches!(kind, ReadBytes | WriteBytes);
            let (path, value) = flag(name, options::parse_block_limit(text, is_size))?;
            let (major, minor) = corten_runtime::block_device(&path)?;
            found.push(BlockLimit { kind, major, minor, value });
        }
    }
    Ok(found)
}
