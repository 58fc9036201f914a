//! Decides what the container's first process does, in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::rootfs::absolute;
use super::{Limits, Step, sysctls};
use crate::capability;
use crate::cgroup::{CgroupFacts, CgroupPlan};
use crate::error::PlanError;
use crate::facts::{HostFacts, SEARCH_PATH};
use crate::namespaces::{Namespace, Propagation, SharedMemory};
use crate::notice::Notice;
use crate::seccomp::{self, Architecture, ProfileContext};
use crate::secret::{self, SecretTarget};
use crate::spec::{BindMount, ContainerSpec, Mount, Network, Seccomp, TmpfsMount};
use crate::steps::{MountAttributes, SecretFile, SourceFrom, SourceStep};

/// The device nodes that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Docker's size of the tmpfs for device nodes.
const DEV_SIZE: &str = "65536k";
/// The group `tty` of every distribution, which terminals belong to.
const TTY_GROUP: u32 = 5;
/// The kernel's limit of instructions of a filter (`BPF_MAXINSNS`).
const FILTER_MAX: usize = 4096;

pub(super) struct Builder<'a> {
    spec: &'a ContainerSpec,
    facts: &'a HostFacts,
    identity: Identity<'a>,
    cgroup: &'a CgroupPlan,
    sources: &'a mut Vec<SourceStep>,
    notices: &'a mut Vec<Notice>,
    steps: Vec<Step>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        spec: &'a ContainerSpec,
        facts: &'a HostFacts,
        identity: Identity<'a>,
        cgroup: &'a CgroupPlan,
        sources: &'a mut Vec<SourceStep>,
        notices: &'a mut Vec<Notice>,
    ) -> Self {
        Self { spec, facts, identity, cgroup, sources, notices, steps: Vec::new() }
    }

    /// Returns all steps. Their order is the point:
    ///
    /// - `/proc` and `/sys` while the old root is there: in a user namespace the kernel allows new
    ///   ones only where unmasked ones are visible;
    /// - what is the caller's to attach (control group, network) as late as possible, since it
    ///   happens meanwhile;
    /// - kernel settings before `/proc/sys` is read-only;
    /// - capabilities and filter last, since everything above needs more.
    pub(super) fn steps(mut self, limits: &Limits) -> Result<Vec<Step>, PlanError> {
        if self.identity.has_namespace() {
            self.steps.push(Step::BecomeRoot);
        }
        self.steps.extend([Step::SeparateMounts, Step::SwapRoot]);
        self.kernel_file_systems();
        self.steps.push(Step::DropOldRoot);
        self.devices()?;
        self.mounts()?;
        self.host_files();
        self.secrets()?;
        if self.spec.network == Network::None && self.spec.namespaces.network.is_new() {
            self.steps.push(Step::Loopback);
        }
        if self.waits_for_caller() {
            self.steps.push(Step::AwaitCaller);
        }
        self.cgroups();
        self.sysctls()?;
        self.protected_paths()?;
        if self.spec.rootfs.readonly {
            self.steps.push(Step::MakeRootReadonly);
        }
        if let Some(propagation) = self.spec.rootfs.propagation {
            self.steps.push(Step::PropagateRoot { propagation });
        }
        if self.spec.namespaces.uts.is_new() {
            self.steps.push(Step::Hostname { name: self.spec.hostname().to_owned() });
        }
        self.program(limits, true)?;
        Ok(self.steps)
    }

    /// The steps of a further program in a container that runs: everything but the container.
    pub(super) fn steps_of_another(mut self, limits: &Limits) -> Result<Vec<Step>, PlanError> {
        if self.identity.has_namespace() {
            self.steps.push(Step::BecomeRoot);
        }
        if !self.cgroup.groups.is_empty() {
            self.steps.push(Step::AwaitCaller);
        }
        self.program(limits, false)?;
        Ok(self.steps)
    }

    /// From the terminal to the program; the first program of a container has the console, and may
    /// have an init above it.
    fn program(&mut self, limits: &Limits, is_first: bool) -> Result<(), PlanError> {
        if self.spec.terminal {
            self.steps.push(Step::Terminal { uid: self.spec.uid, console: is_first });
        }
        self.steps.extend(limits.steps.iter().cloned());
        absolute("working directory", &self.spec.cwd)?;
        self.steps.push(Step::Directory { path: self.spec.cwd.clone() });
        self.privileges()?;
        self.steps.push(Step::Execute {
            candidates: candidates(self.spec),
            arguments: self.spec.args.clone(),
            environment: self.environment()?,
            reaper: is_first && self.spec.init,
        });
        Ok(())
    }

    /// The old root is let go of, the caller's part or not.
    fn waits_for_caller(&self) -> bool {
        !self.cgroup.groups.is_empty()
            || matches!(self.spec.network, Network::Default | Network::User)
            || !self.spec.ports.is_empty()
            || self.spec.listen_port.is_some()
    }

    fn mount(
        &mut self,
        kind: &str,
        target: &str,
        options: &[(&str, &str)],
        attributes: MountAttributes,
    ) {
        let owned = |(key, value): &(&str, &str)| {
            let value = (!value.is_empty()).then(|| (*value).to_owned());
            ((*key).to_owned(), value)
        };
        self.steps.push(Step::Mount {
            kind: kind.to_owned(),
            target: PathBuf::from(target),
            options: options.iter().map(owned).collect(),
            attributes,
        });
    }

    /// Adds something of the host and a step that puts it in place.
    fn attach(&mut self, source: SourceStep, target: &Path) {
        self.steps.push(Step::Attach { source: self.sources.len(), target: target.to_owned() });
        self.sources.push(source);
    }

    fn kernel_file_systems(&mut self) {
        let plain = MountAttributes::NOTHING_SPECIAL;
        let readonly = MountAttributes { readonly: !self.spec.writable_sys, ..plain };
        self.of_namespace("proc", "/proc", &self.spec.namespaces.pid, plain);
        if *self.spec.network_namespace() == Namespace::Host && !self.owns_host() {
            // A new one belongs to the network namespace, which is not ours.
            self.attach(of_host("/sys", readonly), Path::new("/sys"));
            self.steps.push(Step::Mask { path: PathBuf::from("/sys/fs/cgroup") });
        } else {
            self.of_namespace("sysfs", "/sys", self.spec.network_namespace(), readonly);
        }
    }

    /// Mounts a file system of the kernel's that shows a namespace. Only who administrates that may
    /// make one: the container's process if it is its own, else the helper or, for an ordinary user
    /// and the host's, nobody, so that what is mounted there is taken.
    fn of_namespace(
        &mut self,
        kind: &str,
        path: &'static str,
        namespace: &Namespace,
        attributes: MountAttributes,
    ) {
        let at = Path::new(path);
        if namespace.is_new() || self.owns_host() || self.identity.is_joined() {
            self.mount(kind, path, &[], attributes);
        } else if *namespace == Namespace::Host && self.facts.is_rootless() {
            self.attach(of_host(path, attributes), at);
        } else {
            let from = SourceFrom::FileSystem(kind.to_owned());
            let source = SourceStep { from, recursive: false, ..of_host(path, attributes) };
            self.attach(source, at);
        }
    }

    /// Returns true if the container's process may do what root of the machine may.
    fn owns_host(&self) -> bool {
        self.identity == Identity::Callers
    }

    fn devices(&mut self) -> Result<(), PlanError> {
        let plain = MountAttributes::NOTHING_SPECIAL;
        // Nodes work although the file system below says otherwise: each is a mount of its own.
        let makes_nodes = self.spec.all_devices && self.owns_host();
        let dev = MountAttributes { no_exec: false, no_devices: !makes_nodes, ..plain };
        self.mount("tmpfs", "/dev", &[("mode", "755"), ("size", DEV_SIZE)], dev);
        let group = TTY_GROUP.to_string();
        let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
        if self.identity.has_group(TTY_GROUP) {
            options.push(("gid", &group));
        }
        // The terminals themselves are devices.
        let pts = MountAttributes { no_devices: false, ..plain };
        self.mount("devpts", "/dev/pts", &options, pts);
        self.shared_memory();
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            self.attach(device(&path), &path);
        }
        for given in &self.spec.devices {
            absolute("device", &given.source)?;
            target(&given.target)?;
            self.attach(device(&given.source), &given.target);
        }
        for (path, to) in LINKS {
            let (path, target) = (PathBuf::from(path), PathBuf::from(to));
            self.steps.push(Step::Link { path, target });
        }
        for (path, target) in &self.spec.device_links {
            absolute("device link", path)?;
            if !path.starts_with("/dev") {
                return Err(PlanError::LinkOutsideOfDev { path: path.clone() });
            }
            self.steps.push(Step::Link { path: path.clone(), target: target.clone() });
        }
        Ok(())
    }

    fn shared_memory(&mut self) {
        let plain = MountAttributes::NOTHING_SPECIAL;
        let at = Path::new("/dev/shm");
        let map_owners = self.identity.maps_owners();
        match &self.spec.shared_memory {
            SharedMemory::Shareable | SharedMemory::Private => {
                let size = self.spec.shm_size_bytes.to_string();
                self.mount("tmpfs", "/dev/shm", &[("mode", "1777"), ("size", &size)], plain);
            }
            SharedMemory::None => {}
            SharedMemory::Host => {
                self.attach(SourceStep { map_owners, ..of_host("/dev/shm", plain) }, at);
            }
            SharedMemory::Of(namespace) => {
                let from = SourceFrom::MountNamespace(namespace.clone());
                self.attach(SourceStep { from, ..of_host("/dev/shm", plain) }, at);
            }
        }
        let ipc = &self.spec.namespaces.ipc;
        // Who has no power over the namespace has no queues to look at either.
        if *ipc != Namespace::Host || !self.facts.is_rootless() {
            self.of_namespace("mqueue", "/dev/mqueue", ipc, plain);
        }
    }

    fn mounts(&mut self) -> Result<(), PlanError> {
        for mount in &self.spec.mounts {
            match mount {
                Mount::Bind(bind) => self.bind(bind)?,
                Mount::Tmpfs(tmpfs) => self.tmpfs(tmpfs)?,
            }
        }
        Ok(())
    }

    fn bind(&mut self, bind: &BindMount) -> Result<(), PlanError> {
        absolute("mount source", &bind.source)?;
        target(&bind.target)?;
        let propagation = bind.options.propagation;
        if propagation == Propagation::Shared && !self.owns_host() {
            // What is mounted in such a container belongs to its users, not to those of the host.
            let reason = "the container has users of its own, or is an ordinary user's";
            return Err(PlanError::NotShareable { path: bind.source.clone(), reason });
        }
        let source = SourceStep {
            path: bind.source.clone(),
            from: SourceFrom::Caller,
            recursive: bind.recursive,
            propagation,
            map_owners: self.identity.maps_owners() && !bind.options.keep_owners,
            attributes: MountAttributes {
                readonly: bind.readonly,
                no_devices: true,
                no_setuid: bind.options.no_setuid,
                no_exec: bind.options.no_exec,
            },
        };
        self.attach(source, &bind.target);
        Ok(())
    }

    fn tmpfs(&mut self, tmpfs: &TmpfsMount) -> Result<(), PlanError> {
        target(&tmpfs.target)?;
        let mut options = vec![("mode".to_owned(), Some(format!("{:o}", tmpfs.mode & 0o7777)))];
        let numbers = [
            ("size", tmpfs.size_bytes),
            ("uid", tmpfs.uid.map(u64::from)),
            ("gid", tmpfs.gid.map(u64::from)),
            ("nr_inodes", tmpfs.files_max),
        ];
        for (key, number) in numbers {
            options.extend(number.map(|number| (key.to_owned(), Some(number.to_string()))));
        }
        self.steps.push(Step::Mount {
            kind: "tmpfs".to_owned(),
            target: tmpfs.target.clone(),
            options,
            attributes: MountAttributes {
                readonly: tmpfs.readonly,
                no_exec: tmpfs.noexec,
                no_setuid: true,
                no_devices: true,
            },
        });
        Ok(())
    }

    fn host_files(&mut self) {
        let given = &self.spec.host_files;
        let files = [
            ("/etc/resolv.conf", &given.resolv_conf),
            ("/etc/hosts", &given.hosts),
            ("/etc/hostname", &given.hostname),
        ];
        let present = |(path, content): (&str, &Option<String>)| {
            // Who mounts a file of its own there wants that one.
            let content = content.as_ref().filter(|_| !is_mounted(self.spec, path))?;
            Some((PathBuf::from(path), content.clone()))
        };
        let files: Vec<_> = files.into_iter().filter_map(present).collect();
        if !files.is_empty() {
            self.steps.push(Step::Files { files });
        }
    }

    fn secrets(&mut self) -> Result<(), PlanError> {
        let mut files = Vec::new();
        for secret in &self.spec.secrets {
            if let SecretTarget::File { path, mode, uid, gid } = &secret.target {
                target(path)?;
                if secret.value.bytes().is_none() {
                    return Err(PlanError::SecretNotRead { id: secret.id.clone() });
                }
                files.push(SecretFile {
                    path: path.clone(),
                    mode: mode & 0o777,
                    uid: *uid,
                    gid: *gid,
                    content: secret.value.clone(),
                });
            }
        }
        if !files.is_empty() {
            // The directory is in memory too, and leaves the image's as it is.
            let within = |file: &SecretFile| file.path.starts_with(secret::DIRECTORY);
            if files.iter().any(within) {
                let plain = MountAttributes::NOTHING_SPECIAL;
                self.mount("tmpfs", secret::DIRECTORY, &[("mode", "755"), ("size", "64k")], plain);
            }
            let in_directory = files.iter().any(within);
            self.steps.push(Step::Secrets { files });
            if in_directory {
                self.steps.push(Step::MakeReadonly { path: PathBuf::from(secret::DIRECTORY) });
            }
        }
        Ok(())
    }

    /// The variables of the program, with those that are secrets.
    fn environment(&self) -> Result<Vec<String>, PlanError> {
        let mut environment = self.spec.env.clone();
        for secret in &self.spec.secrets {
            let SecretTarget::Variable(name) = &secret.target else { continue };
            let value = secret.value.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
            let missing = || PlanError::SecretNotRead { id: secret.id.clone() };
            // A file ends with a line break, which is no part of what it holds.
            let value = value.ok_or_else(missing)?.trim_end_matches(['\n', '\r']);
            crate::options::merge(&mut environment, [format!("{name}={value}")]);
        }
        Ok(environment)
    }

    /// Shows the container its own groups, so that programs can read their limits.
    fn cgroups(&mut self) {
        let readonly = MountAttributes {
            readonly: !self.spec.writable_sys,
            ..MountAttributes::NOTHING_SPECIAL
        };
        let path = "/sys/fs/cgroup";
        if !self.spec.namespaces.cgroup.is_new() {
            if self.facts.cgroups != CgroupFacts::None {
                self.attach(of_host(path, readonly), Path::new(path));
            }
            return;
        }
        if self.cgroup.groups.is_empty() {
            return;
        }
        self.steps.push(Step::SeparateCgroups);
        let CgroupFacts::V1 { controllers } = &self.facts.cgroups else {
            return self.mount("cgroup2", "/sys/fs/cgroup", &[], readonly);
        };
        let plain = MountAttributes::NOTHING_SPECIAL;
        self.mount("tmpfs", "/sys/fs/cgroup", &[("mode", "755"), ("size", "64k")], plain);
        for group in &self.cgroup.groups {
            for name in &group.controllers {
                let Some(controller) = controllers.get(name) else { continue };
                let options: Vec<(&str, &str)> =
                    controller.hierarchy.split(',').map(|part| (part, "")).collect();
                let target = format!("/sys/fs/cgroup/{name}");
                self.mount("cgroup", &target, &options, readonly);
            }
        }
        if !self.spec.writable_sys {
            self.steps.push(Step::MakeReadonly { path: PathBuf::from("/sys/fs/cgroup") });
        }
    }

    fn sysctls(&mut self) -> Result<(), PlanError> {
        let mut settings = BTreeMap::new();
        if self.spec.network_namespace().is_new() {
            // As Docker does: ports below 1024 and ping need no capability in a network of one's
            // own.
            settings.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
            let groups = format!("0 {}", self.identity.last_group());
            settings.insert("net.ipv4.ping_group_range".to_owned(), groups);
        }
        for (name, value) in &self.spec.sysctls {
            let checked = sysctls::check(self.spec, name, value);
            let refused = |reason| PlanError::Sysctl { name: name.clone(), reason };
            settings.insert(checked.map_err(refused)?, value.clone());
        }
        // The file of this one belongs to root of the machine in any case.
        let step = |(name, value): (String, String)| match name.as_str() {
            "kernel.domainname" => Step::Domainname { name: value },
            _ => Step::Sysctl { name, value },
        };
        self.steps.extend(settings.into_iter().map(step));
        Ok(())
    }

    fn protected_paths(&mut self) -> Result<(), PlanError> {
        for path in &self.spec.readonly_paths {
            target(path)?;
            self.steps.push(Step::MakeReadonly { path: path.clone() });
        }
        for path in &self.spec.masked_paths {
            target(path)?;
            self.steps.push(Step::Mask { path: path.clone() });
        }
        Ok(())
    }

    fn privileges(&mut self) -> Result<(), PlanError> {
        let spec = self.spec;
        let known = u64::MAX >> (63 - u32::from(self.facts.last_capability).min(63));
        let capabilities = capability::bits(&spec.capabilities) & known;
        let last = self.facts.last_capability;
        self.steps.push(Step::Bounding { capabilities, last });
        let filter = self.filter()?;
        if !spec.no_new_privileges {
            // Without it, only an administrator may install a filter.
            self.steps.extend(filter.clone());
        }
        let groups = self.identity.may_set_groups().then(|| spec.additional_gids.clone());
        let dropped = spec.additional_gids.iter().filter(|gid| **gid != spec.gid).count();
        if groups.is_none() && dropped > 0 {
            self.notices.push(Notice::GroupsDropped { count: dropped });
        }
        self.steps.push(Step::User { uid: spec.uid, gid: spec.gid, groups });
        let effective = if spec.uid == 0 { capabilities } else { 0 };
        self.steps.push(Step::Capabilities { effective });
        if spec.no_new_privileges {
            self.steps.push(Step::NoNewPrivileges);
            self.steps.extend(filter);
        }
        Ok(())
    }

    fn filter(&self) -> Result<Option<Step>, PlanError> {
        let capabilities = &self.spec.capabilities;
        let policy = match &self.spec.seccomp {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::Default => seccomp::default_policy(Architecture::HOST, capabilities),
            Seccomp::Profile(text) => {
                let context = ProfileContext {
                    architecture: Architecture::HOST,
                    capabilities,
                    kernel: self.facts.kernel,
                };
                seccomp::parse_profile(text, &context).map_err(PlanError::Seccomp)?
            }
        };
        let filter = seccomp::compile(&policy);
        if filter.len() > FILTER_MAX {
            return Err(PlanError::Seccomp(seccomp::ProfileError::TooLong));
        }
        Ok(Some(Step::Seccomp { filter: seccomp::to_wire(&filter), log: policy.log }))
    }
}

/// What the caller has at a path, with all that is mounted there, under the owners that it has.
fn of_host(path: &str, attributes: MountAttributes) -> SourceStep {
    SourceStep {
        path: PathBuf::from(path),
        from: SourceFrom::Caller,
        recursive: true,
        map_owners: false,
        attributes,
        propagation: Propagation::Private,
    }
}

fn device(path: &Path) -> SourceStep {
    SourceStep {
        path: path.to_owned(),
        from: SourceFrom::Caller,
        recursive: false,
        map_owners: false,
        propagation: Propagation::Private,
        attributes: MountAttributes { no_devices: false, ..MountAttributes::NOTHING_SPECIAL },
    }
}

/// Returns true if something of the caller's is mounted at this very path.
fn is_mounted(spec: &ContainerSpec, path: &str) -> bool {
    spec.mounts.iter().any(|mount| match mount {
        Mount::Bind(bind) => bind.target == Path::new(path),
        Mount::Tmpfs(tmpfs) => tmpfs.target == Path::new(path),
    })
}

/// Returns true if the container has a file of hosts that is ours to write, and an address to be put
/// into it. A step of a build has no name, and no need to find its own address.
pub(super) fn has_own_hosts(spec: &ContainerSpec) -> bool {
    let path = "/etc/hosts";
    spec.host_files.hosts.is_some()
        && spec.networking.joined.is_none()
        && !spec.networking.name.is_empty()
        && matches!(spec.network, Network::Default | Network::User)
        && !is_mounted(spec, path)
}

fn target(path: &Path) -> Result<(), PlanError> {
    absolute("mount target", path)?;
    if path.components().count() < 2 { Err(PlanError::MountOverRoot) } else { Ok(()) }
}

/// Returns the files to try, in order: the program itself, or its name in each directory of `PATH`.
fn candidates(spec: &ContainerSpec) -> Vec<String> {
    let Some(program) = spec.args.first() else { return Vec::new() };
    if program.contains('/') {
        return vec![program.clone()];
    }
    let path = spec.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let directories = path.filter(|path| !path.is_empty()).unwrap_or(SEARCH_PATH).split(':');
    // An empty part is the working directory, by tradition.
    let full = |directory: &str| match directory {
        "" => format!("./{program}"),
        directory => format!("{}/{program}", directory.trim_end_matches('/')),
    };
    directories.map(full).collect()
}
