//! From flags and the image's configuration to what the container shall be.

use std::path::{Path, PathBuf};

use corten_runtime::cdi;
use corten_runtime::options::{self, DeviceOption};
use corten_runtime::user::{self, User};
use corten_runtime::{BindMount, ContainerSpec, HostFiles, Rlimit, Rootfs, Stdin};
use corten_store::{ContainerNetwork, Image, Snapshot, Store};

use crate::cli::ContainerArgs;
use crate::commands::{Context, flag};
use crate::error::CliError;

use super::mounts::{Mounts, UsedVolume};
use super::{gpu, isolation, networks};

/// Files of users and groups beyond this are not read.
const ACCOUNTS_BYTES_MAX: u64 = 4 << 20;
/// An environment file or a seccomp profile beyond this is a mistake.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything of a container but its root file system.
#[derive(Debug)]
pub(super) struct Request {
    spec: ContainerSpec,
    volumes: Vec<UsedVolume>,
    networks: Option<Vec<ContainerNetwork>>,
}

impl Request {
    pub(super) fn new(
        context: &Context,
        arguments: &ContainerArgs,
        image: &Image,
        store: &Store,
        id: &str,
    ) -> Result<Self, CliError> {
        let snapshot = &Snapshot::new(&image.layers)?;
        let cwd = std::env::current_dir()
            .map_err(|source| corten_sys::error::IoError::new("find", ".", source))?;
        let user = resolve_user(arguments, image, snapshot)?;
        let rootfs = Rootfs::in_memory(Vec::new());
        let mut spec = ContainerSpec::new(id, rootfs, command(arguments, image));
        spec.uid = user.uid;
        spec.gid = user.gid;
        spec.additional_gids.clone_from(&user.additional_gids);
        spec.env = environment(context, arguments, image, &user)?;
        spec.cwd = working_directory(arguments, image);
        spec.terminal = arguments.tty;
        spec.stdin = if arguments.interactive { Stdin::Inherit } else { Stdin::Null };
        spec.init = arguments.init;
        spec.hostname.clone_from(&arguments.hostname);
        let (mounts, volumes) = Mounts::of(arguments, image, store, &cwd)?;
        spec.mounts = mounts;
        let networks = networks::apply(arguments, image, store, &mut spec)?;
        spec.rlimits = rlimits(arguments)?;
        if let Some(size) = &arguments.shm_size {
            spec.shm_size_bytes = flag("shm-size", options::parse_bytes(size))?;
        }
        spec.resources = isolation::resources(arguments)?;
        spec.cgroup_parent.clone_from(&arguments.limits.cgroup_parent);
        spec.oom_score_adj = arguments.limits.oom_score_adj;
        let groups = read_accounts(snapshot, "/etc/group")?;
        isolation::isolate(context, arguments, store, &groups, &mut spec)?;
        isolation::warn_of_privileges(context, arguments, &spec);
        devices(context, arguments, snapshot, &mut spec)?;
        spec.host_files = HostFiles::for_container(&spec)?;
        Ok(Self { spec, volumes, networks })
    }

    pub(super) fn environment(&self) -> &[String] {
        &self.spec.env
    }

    /// The volumes that must be there before the container is.
    pub(super) fn volumes(&self) -> &[UsedVolume] {
        &self.volumes
    }

    /// The places on networks that are kept with the container.
    pub(super) fn networks(&self) -> Option<Vec<ContainerNetwork>> {
        self.networks.clone()
    }

    /// The whole description, with this root file system.
    pub(super) fn spec(&self, rootfs: Rootfs) -> ContainerSpec {
        ContainerSpec { rootfs, ..self.spec.clone() }
    }
}

/// Docker's rule: a new entrypoint drops the image's command, a new command keeps the entrypoint.
fn command(arguments: &ContainerArgs, image: &Image) -> Vec<String> {
    let config = &image.config.config;
    let mut words = Vec::new();
    match &arguments.entrypoint {
        Some(entrypoint) => words.extend(Some(entrypoint.clone()).filter(|word| !word.is_empty())),
        None => words.extend(config.entrypoint.iter().flatten().cloned()),
    }
    if !arguments.command.is_empty() {
        words.extend(arguments.command.iter().cloned());
    } else if arguments.entrypoint.is_none() {
        words.extend(config.cmd.iter().flatten().cloned());
    }
    words
}

fn resolve_user(
    arguments: &ContainerArgs,
    image: &Image,
    snapshot: &Snapshot,
) -> Result<User, CliError> {
    let wanted =
        arguments.user.as_deref().or(image.config.config.user.as_deref()).unwrap_or_default();
    let read = |path: &str| read_accounts(snapshot, path);
    Ok(user::resolve(&read("/etc/passwd")?, &read("/etc/group")?, wanted)?)
}

fn read_accounts(snapshot: &Snapshot, path: &str) -> Result<Vec<u8>, CliError> {
    Ok(snapshot.read_file(path.as_bytes(), ACCOUNTS_BYTES_MAX)?.unwrap_or_default())
}

/// The files' variables, then the flags'.
pub(in crate::commands) fn given(
    context: &Context,
    files: &[PathBuf],
    flags: &[String],
) -> Result<Vec<String>, CliError> {
    let host = |name: &str| context.settings.environment.get(name).map(str::to_owned);
    let mut variables = Vec::new();
    for path in files {
        let bytes = corten_sys::file::read_limited(path, FILE_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        let parsed = options::parse_file(&text, &host).map_err(|(line, error)| {
            let hint = error.hint();
            CliError::new(format!("{}:{line}: {error}", path.display())).hint(hint)
        })?;
        options::merge(&mut variables, parsed);
    }
    for variable in flags {
        let parsed = flag("env", options::parse_variable(variable, &host))?;
        options::merge(&mut variables, parsed);
    }
    Ok(variables)
}

/// The image's variables, then the files', then the flags'; `HOME` and `PATH` where none set them.
fn environment(
    context: &Context,
    arguments: &ContainerArgs,
    image: &Image,
    user: &User,
) -> Result<Vec<String>, CliError> {
    let mut variables = image.config.config.env.clone();
    options::merge(&mut variables, given(context, &arguments.env_file, &arguments.env)?);
    let has = |variables: &[String], name: &str| {
        variables.iter().any(|variable| variable.split('=').next() == Some(name))
    };
    if !has(&variables, "PATH") {
        variables.insert(
            0,
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        );
    }
    if arguments.tty && !has(&variables, "TERM") {
        variables.push("TERM=xterm".to_owned());
    }
    if !has(&variables, "HOME") {
        variables.push(format!("HOME={}", user.home));
    }
    Ok(variables)
}

fn working_directory(arguments: &ContainerArgs, image: &Image) -> PathBuf {
    let inherited = image.config.config.working_dir.as_deref().unwrap_or("/");
    let base = Path::new(if inherited.is_empty() { "/" } else { inherited });
    arguments.workdir.as_deref().map_or_else(|| base.to_owned(), |given| base.join(given))
}

/// Docker makes a missing directory, owned by root; that hides a typing error, so we do not.
pub(super) fn existing(mut mount: BindMount) -> Result<BindMount, CliError> {
    match mount.source.canonicalize() {
        Ok(path) => {
            mount.source = path;
            Ok(mount)
        }
        Err(source) => {
            let path = mount.source.clone();
            Err(CliError::from(corten_sys::error::IoError::new("mount", &path, source))
                .hint(format!("make it first: `mkdir -p {}`", path.display())))
        }
    }
}

fn rlimits(arguments: &ContainerArgs) -> Result<Vec<Rlimit>, CliError> {
    arguments.ulimits.iter().map(|text| flag("ulimit", options::parse_ulimit(text))).collect()
}

/// Nodes by path, and devices by CDI with all that they need.
fn devices(
    context: &Context,
    arguments: &ContainerArgs,
    snapshot: &Snapshot,
    spec: &mut ContainerSpec,
) -> Result<(), CliError> {
    let mut names = Vec::new();
    for text in &arguments.devices {
        match flag("device", options::parse_device(text))? {
            DeviceOption::Node(device) => {
                cdi::check_device(&device.source)?;
                spec.devices.push(device);
            }
            DeviceOption::Cdi(name) => names.push(name),
        }
    }
    if let Some(text) = &arguments.gpus {
        names.extend(flag("gpus", options::parse_gpus(text))?);
    }
    if names.is_empty() {
        return Ok(());
    }
    let registry = context.settings.devices();
    let mut injection = registry.inject(&names)?;
    injection.check()?;
    if !arguments.quiet {
        for warning in registry.problems.iter().chain(&injection.warnings) {
            context.ui.warning(warning);
        }
    }
    injection.apply(spec);
    if names.iter().any(|name| name.starts_with("nvidia.com/gpu")) {
        gpu::check(context, arguments.quiet, snapshot, &injection, spec)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;
    use corten_oci::digest::{Digest, ImageId};
    use corten_oci::image::ImageConfig;

    use super::*;
    use crate::cli::{Cli, Command};

    fn arguments(line: &str) -> ContainerArgs {
        let words = ["corten", "run"].into_iter().chain(line.split(' '));
        match Cli::parse_from(words).command {
            Command::Run(arguments) => arguments.container,
            other => panic!("{other:?}"),
        }
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> Image {
        let list = |words: &[&str]| {
            (!words.is_empty()).then(|| words.iter().map(|word| (*word).to_owned()).collect())
        };
        let mut config = ImageConfig::default();
        config.config.entrypoint = list(entrypoint);
        config.config.cmd = list(cmd);
        Image {
            id: ImageId(Digest::of(b"config")),
            manifest: Digest::of(b"manifest"),
            config,
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            stored_at: 0,
        }
    }

    #[test]
    fn entrypoint_and_command_go_together_as_in_docker() {
        let image = image(&["entry", "-x"], &["cmd"]);
        let run = |line: &str| command(&arguments(line), &image).join(" ");
        assert_eq!(run("img"), "entry -x cmd");
        assert_eq!(run("img other"), "entry -x other");
        assert_eq!(run("--entrypoint e img"), "e");
        assert_eq!(run("--entrypoint e img a b"), "e a b");
        assert_eq!(run("--entrypoint= img a"), "a");
    }

    #[test]
    fn a_relative_working_directory_is_taken_from_the_images() {
        let mut image = image(&[], &[]);
        image.config.config.working_dir = Some("/srv".to_owned());
        assert_eq!(working_directory(&arguments("img"), &image), Path::new("/srv"));
        assert_eq!(working_directory(&arguments("-w app img"), &image), Path::new("/srv/app"));
        assert_eq!(working_directory(&arguments("-w /x img"), &image), Path::new("/x"));
    }
}
