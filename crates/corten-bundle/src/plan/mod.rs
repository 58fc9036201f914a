//! From a configuration and the host's facts to steps. Pure: decides everything, starts nothing.

mod checks;
mod files;
pub(crate) mod options;
mod process;
pub(crate) mod steps;

use std::path::{Path, PathBuf};

use corten_sys::namespace;

use crate::cgroup::{Groups, Hierarchies, Version};
use crate::config::{Config, IdMapping, Linux, Process};
use crate::error::{BundleError, invalid};
use options::Mapped;
use steps::{Joined, Plan, Program, RootChange, Step};

pub(crate) use process::{Affinity, affinity};

/// What the host can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The highest capability that the kernel knows.
    pub last_capability: u8,
    pub kernel: (u32, u32),
    /// We may mount in our own namespaces.
    pub may_mount: bool,
    /// We have the ids of the machine, or of a user namespace, not just our own.
    pub is_root: bool,
    pub apparmor: bool,
    pub selinux: bool,
    /// Those that we have ourselves, by the kernel's numbers.
    pub capabilities: u64,
    pub hierarchies: Hierarchies,
}

/// What the command line says beside the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Choices {
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    pub listen_fds: u32,
}

/// The kinds of namespaces by the names of the specification and of `/proc/PID/ns`.
pub(crate) const NAMESPACES: &[(&str, &str, u64)] = &[
    ("user", "user", namespace::USER),
    ("ipc", "ipc", namespace::IPC),
    ("uts", "uts", namespace::UTS),
    ("network", "net", namespace::NETWORK),
    ("pid", "pid", namespace::PID),
    ("mount", "mnt", namespace::MOUNT),
    ("cgroup", "cgroup", namespace::CGROUP),
    ("time", "time", namespace::TIME),
];

/// The namespaces of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub new: u64,
    pub joined: Vec<Joined>,
}

impl Namespaces {
    pub(crate) fn of(linux: &Linux) -> Result<Self, BundleError> {
        let mut found = Self::default();
        let mut all = 0;
        for one in &linux.namespaces {
            let known = NAMESPACES.iter().find(|(name, _, _)| *name == one.kind);
            let Some((_, _, bit)) = known else {
                return Err(invalid(format!("`{}` is no kind of namespace", one.kind)));
            };
            if all & bit != 0 {
                return Err(invalid(format!("namespace `{}` is there twice", one.kind)));
            }
            all |= bit;
            if one.path.is_empty() {
                found.new |= bit;
            } else {
                let path = PathBuf::from(&one.path);
                if !path.is_absolute() {
                    return Err(invalid(format!("namespace path `{}` is not absolute", one.path)));
                }
                found.joined.push(Joined { bit: *bit, path });
            }
        }
        Ok(found)
    }

    pub(crate) fn is_new(&self, bit: u64) -> bool {
        self.new & bit != 0
    }

    pub(crate) fn is_joined(&self, bit: u64) -> bool {
        self.joined.iter().any(|joined| joined.bit == bit)
    }

    /// Ours is not the host's.
    pub(crate) fn has(&self, bit: u64) -> bool {
        self.is_new(bit) || self.is_joined(bit)
    }

    pub(crate) fn all(&self) -> u64 {
        self.joined.iter().fold(self.new, |all, joined| all | joined.bit)
    }
}

/// Decides how a container is made from a bundle, of which `bundle` is the absolute directory.
pub(crate) fn plan(
    config: &Config,
    bundle: &Path,
    choices: &Choices,
    facts: &Facts,
    groups: &Groups,
) -> Result<Plan, BundleError> {
    let mut warnings = Vec::new();
    checks::check(config, facts, &mut warnings)?;
    let none = Linux::default();
    let linux = config.linux.as_ref().unwrap_or(&none);
    let process = config.process.as_ref().ok_or_else(|| invalid("there is no process"))?;
    let namespaces = Namespaces::of(linux)?;
    let private_mounts = namespaces.is_new(namespace::MOUNT);
    let mut builder = Builder {
        config,
        linux,
        process,
        bundle,
        facts,
        groups,
        namespaces: &namespaces,
        sources: Vec::new(),
        steps: Vec::new(),
        waited: false,
    };
    builder.steps(choices)?;
    let Builder { steps, sources, .. } = builder;
    let mut last = Vec::new();
    process::last(
        config,
        process,
        facts,
        namespaces.is_new(namespace::USER),
        &mut last,
        &mut warnings,
    )?;
    let mut steps = steps;
    steps.extend(last.iter().filter_map(raise));
    let maps = (namespaces.is_new(namespace::USER)).then(|| steps::Maps {
        users: linux.uid_mappings.clone(),
        groups: linux.gid_mappings.clone(),
    });
    let offset = |(clock, offset): (&String, &crate::config::TimeOffset)| {
        format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
    };
    Ok(Plan {
        rootfs: rootfs(config, bundle),
        propagation: propagation(linux)?,
        maps,
        time_offsets: linux.time_offsets.iter().map(offset).collect(),
        sources,
        steps,
        last,
        program: program(process, choices),
        root_change: match (private_mounts, choices.no_pivot) {
            (true, false) => RootChange::Pivot,
            (true, true) => RootChange::Chroot,
            (false, _) => RootChange::ChrootInPlace,
        },
        new_keyring: !choices.no_new_keyring,
        become_root: namespaces.has(namespace::USER),
        oom_score_adj: process.oom_score_adj,
        namespaces,
        warnings,
    })
}

/// Decides how a further program is run in a container.
pub(crate) fn plan_exec(
    config: &Config,
    process: &Process,
    choices: &Choices,
    facts: &Facts,
    in_user_namespace: bool,
) -> Result<(Vec<Step>, Program, Vec<String>), BundleError> {
    let mut warnings = Vec::new();
    checks::check_process(process, facts, &mut warnings)?;
    let mut last = Vec::new();
    if process.terminal {
        last.push(terminal(process, false));
    }
    process::last(config, process, facts, in_user_namespace, &mut last, &mut warnings)?;
    Ok((last, program(process, choices), warnings))
}

/// What can be known of a limit before it is set.
fn raise(step: &Step) -> Option<Step> {
    let Step::Rlimit { name, resource, hard, .. } = step else { return None };
    Some(Step::RaiseLimit { name: name.clone(), resource: *resource, hard: *hard })
}

fn rootfs(config: &Config, bundle: &Path) -> PathBuf {
    let path = config.root.as_ref().map_or(Path::new("rootfs"), |root| &root.path);
    bundle.join(path)
}

fn program(process: &Process, choices: &Choices) -> Program {
    let mut environment = process.env.clone();
    if choices.listen_fds > 0 {
        // As the program is process 1, and nobody else takes them.
        environment.push(format!("LISTEN_FDS={}", choices.listen_fds));
        environment.push("LISTEN_PID=1".to_owned());
    }
    Program { arguments: process.args.clone(), environment, preserve_fds: choices.preserve_fds }
}

fn terminal(process: &Process, console: bool) -> Step {
    let size = process.console_size.filter(|size| size.height != 0 || size.width != 0);
    Step::Terminal {
        uid: process.user.uid,
        size: size.map(|size| (size.height, size.width)),
        console,
    }
}

/// How mounts of the host and of the container pass from one to the other.
fn propagation(linux: &Linux) -> Result<(u64, bool), BundleError> {
    let text = linux.rootfs_propagation.as_str();
    let found = options::parse(&[if text.is_empty() { "rslave" } else { text }]).propagation;
    found.first().copied().ok_or_else(|| invalid(format!("`{text}` is no propagation of mounts")))
}

struct Builder<'a> {
    config: &'a Config,
    linux: &'a Linux,
    process: &'a Process,
    bundle: &'a Path,
    facts: &'a Facts,
    groups: &'a Groups,
    namespaces: &'a Namespaces,
    sources: Vec<steps::Source>,
    steps: Vec<Step>,
    /// The step that waits for the control groups is there.
    waited: bool,
}

impl Builder<'_> {
    /// The order is that of the lifecycle: mounts and devices, hooks before the change of the root, then
    /// what the container sees.
    fn steps(&mut self, choices: &Choices) -> Result<(), BundleError> {
        if self.any_mapped() {
            // Their owners are mapped from outside, once the user namespace is there.
            self.wait();
        }
        self.mounts()?;
        self.devices()?;
        if self.process.terminal {
            self.steps.push(terminal(self.process, true));
        }
        self.sysctls()?;
        self.steps.push(Step::MakeDirectory { path: self.process.cwd.clone() });
        self.wait();
        let hooks = self.config.hooks.as_ref();
        if hooks.is_some_and(|hooks| !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty())
        {
            self.steps.push(Step::RuntimeHooks);
        }
        if let Some(hooks) = hooks.filter(|hooks| !hooks.create_container.is_empty()) {
            self.steps.push(Step::Hooks {
                kind: "createContainer",
                hooks: hooks.create_container.clone(),
            });
        }
        self.steps.push(Step::ChangeRoot);
        let mask = |path: &PathBuf| Step::Mask { path: path.clone() };
        let readonly = |path: &PathBuf| Step::MakeReadonly { path: path.clone() };
        self.steps.extend(self.linux.readonly_paths.iter().map(readonly));
        self.steps.extend(self.linux.masked_paths.iter().map(mask));
        let propagates = !self.linux.rootfs_propagation.is_empty();
        if self.namespaces.is_new(namespace::MOUNT) && propagates {
            let (flags, recursive) = propagation(self.linux)?;
            self.steps.push(Step::RootPropagation { flags, recursive });
        }
        if self.config.root.as_ref().is_some_and(|root| root.readonly) {
            self.steps.push(Step::MakeRootReadonly);
        }
        if !self.config.hostname.is_empty() {
            self.steps.push(Step::Hostname { name: self.config.hostname.clone() });
        }
        if !self.config.domainname.is_empty() {
            self.steps.push(Step::Domainname { name: self.config.domainname.clone() });
        }
        if choices.no_pivot && !self.namespaces.is_new(namespace::MOUNT) {
            return Err(invalid("`--no-pivot` needs a mount namespace"));
        }
        self.steps.push(Step::FindProgram);
        Ok(())
    }

    fn any_mapped(&self) -> bool {
        self.config.mounts.iter().any(|mount| {
            !mount.uid_mappings.is_empty() || options::parse(&mount.options).mapped.is_some()
        })
    }

    /// Waits until the control groups have the process, and makes them the root of what it sees.
    fn wait(&mut self) {
        if self.waited {
            return;
        }
        self.waited = true;
        self.steps.push(Step::AwaitCaller);
        if self.namespaces.is_new(namespace::CGROUP) {
            self.steps.push(Step::SeparateCgroups);
        }
    }

    fn is_v1(&self) -> bool {
        self.facts.hierarchies.all.iter().any(|one| one.version == Version::V1)
    }

    fn source(&mut self, path: PathBuf, recursive: bool, mapped: Option<steps::Mapping>) -> usize {
        self.sources.push(steps::Source { path, recursive, mapped });
        self.sources.len() - 1
    }
}

/// The id map of a mount: its own, or that of the container.
fn mapping(
    mapped: Option<Mapped>,
    users: &[IdMapping],
    groups: &[IdMapping],
) -> Option<steps::Mapping> {
    if mapped.is_none() && users.is_empty() {
        return None;
    }
    let maps =
        (!users.is_empty()).then(|| steps::Maps { users: users.to_vec(), groups: groups.to_vec() });
    Some(steps::Mapping { maps, recursive: mapped == Some(Mapped::Recursive) })
}

#[cfg(test)]
mod tests;
