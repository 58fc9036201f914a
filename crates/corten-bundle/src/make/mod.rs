//! Makes containers: the side of `create` that stays outside.

mod clone;
mod outside;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::bpf::Instruction;
use corten_sys::file;
use corten_sys::process::PidFd;
use corten_sys::socket;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::cgroup::{Groups, Hierarchies, settings};
use crate::commands::{Engine, MakeOptions};
use crate::config::{CONFIG_BYTES_MAX, Config};
use crate::error::{BundleError, failed, invalid};
use crate::hooks::{self, State};
use crate::init::Given;
use crate::plan::steps::{Plan, RootChange};
use crate::plan::{self, Choices, Facts};
use crate::state::{self, Home, Record, Status};
use crate::told::{GO, HOOKED, MAPPED, SEALED, Told};

pub(crate) use clone::{further, root_of};
pub(crate) use outside::{console, gather, unmount};

/// A container that was made and waits for `start`.
#[derive(Debug)]
pub(crate) struct Made {
    pub home: Home,
    pub record: Record,
    /// Its first process, our own child.
    pub process: PidFd,
    pub warnings: Vec<String>,
}

/// Makes a container up to the point at which its program could start.
pub(crate) fn create(
    engine: &Engine,
    id: &str,
    options: &MakeOptions,
    console: Option<OwnedFd>,
) -> Result<Made, BundleError> {
    let bundle = file::absolute(&options.bundle)?;
    let (config, text) = state::read_config(&bundle.join("config.json"))?;
    let facts = gather()?;
    let linux = config.linux.as_ref();
    let cgroups_path = linux.map_or("", |linux| linux.cgroups_path.as_str());
    let groups = Groups::plan(&facts.hierarchies, cgroups_path, id, engine.systemd_cgroup)?;
    let choices = Choices {
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds,
        listen_fds: options.listen_fds,
    };
    let plan = plan::plan(&config, &bundle, &choices, &facts, &groups)?;
    let limits = limits(&config, &facts.hierarchies)?;
    let terminal = config.process.as_ref().is_some_and(|process| process.terminal);
    let console = outside::console(terminal, console, options.console_socket.as_deref())?;
    if !plan.rootfs.is_dir() {
        return Err(invalid(format!("root.path: `{}` is no directory", plan.rootfs.display())));
    }
    let (home, lock) = engine.states.make(id)?;
    let record = Record {
        version: Record::VERSION,
        id: id.to_owned(),
        oci_version: config.oci_version.clone(),
        rootfs: plan.rootfs.clone(),
        bundle,
        created: engine.now.clone(),
        owner: engine.owner.clone(),
        pid: 0,
        pid_start: 0,
        namespaces: plan.namespaces.all(),
        no_pivot: plan.root_change != RootChange::Pivot,
        shares_mounts: plan.root_change == RootChange::ChrootInPlace,
        groups,
        annotations: config.annotations.clone(),
    };
    let mut maker = Maker {
        home: &home,
        record,
        config: &config,
        facts: &facts,
        plan: &plan,
        limits,
        process: None,
        hooked: false,
        options,
    };
    let made = maker.make(&text, console, lock);
    match made {
        Ok(process) => {
            let (record, warnings) = (maker.record, plan.warnings);
            Ok(Made { home, record, process, warnings })
        }
        Err(error) => {
            maker.undo();
            Err(error)
        }
    }
}

/// What goes to the control groups.
#[derive(Default)]
struct Limits {
    settings: Vec<settings::Setting>,
    devices: Vec<settings::Setting>,
    /// The same for version 2.
    program: Option<Vec<Instruction>>,
    /// Somebody asked for some of it.
    required: bool,
}

fn limits(config: &Config, hierarchies: &Hierarchies) -> Result<Limits, BundleError> {
    let resources = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let Some(resources) = resources else {
        return Ok(Limits::default());
    };
    let settings = settings::plan(resources, hierarchies.is_unified())?;
    let devices = settings::plan_devices(&resources.devices)?;
    let program = if hierarchies.is_unified() {
        settings::plan_device_program(&resources.devices)?
    } else {
        None
    };
    Ok(Limits { required: !settings.is_empty(), settings, devices, program })
}

struct Maker<'a> {
    home: &'a Home,
    record: Record,
    config: &'a Config,
    facts: &'a Facts,
    plan: &'a Plan,
    limits: Limits,
    process: Option<PidFd>,
    /// Hooks have run, so that those of the end must, too.
    hooked: bool,
    options: &'a MakeOptions,
}

impl Maker<'_> {
    fn make(
        &mut self,
        text: &[u8],
        console: Option<OwnedFd>,
        lock: corten_sys::lock::FileLock,
    ) -> Result<PidFd, BundleError> {
        self.record.groups.claim();
        self.home.write_config(text)?;
        self.home.write(&self.record)?;
        // Relative paths of the configuration, and hooks, begin there.
        rustix::process::chdir(&self.record.bundle).map_err(failed("change to the bundle"))?;
        self.groups()?;
        let listener = self.home.listen()?;
        let sources = if self.facts.may_mount { outside::sources(self.plan)? } else { Vec::new() };
        let (ours, theirs) = socket::pair().map_err(failed("make a socket"))?;
        let handles = sources.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>();
        let state = State::of(&self.record, Status::Creating, 0).text();
        let given = Given {
            control: theirs,
            listener: Some(listener),
            console,
            sources: handles.map_err(failed("copy descriptors"))?,
            lock: Some(lock),
            state,
        };
        let cgroup = self.record.groups.open_v2()?;
        let (pid, ours, _lock) = clone::first(self.plan, given, ours, cgroup.as_ref())?;
        let process = PidFd::open(pid).map_err(failed("watch the container's first process"))?;
        self.process = Some(process.try_clone().map_err(failed("copy descriptors"))?);
        self.accompany(pid, &ours, &sources, cgroup.is_some())?;
        self.seal(pid, &ours)?;
        Ok(process)
    }

    fn groups(&mut self) -> Result<(), BundleError> {
        self.record.groups.make(self.limits.required)?;
        if self.record.groups.groups.is_empty() {
            return Ok(());
        }
        self.record.groups.apply(&self.limits.settings)?;
        if self.facts.hierarchies.is_unified() {
            let required = outside::is_whole(self.facts)?;
            return self.record.groups.allow_devices(self.limits.program.as_deref(), required);
        }
        self.record.groups.apply(&self.limits.devices)
    }

    /// Does for the first process what it cannot do itself, until it is ready.
    fn accompany(
        &mut self,
        pid: u32,
        control: &OwnedFd,
        sources: &[OwnedFd],
        in_group: bool,
    ) -> Result<(), BundleError> {
        let say = |word: &[u8]| {
            let attempt = "speak to the container's first process";
            match socket::send(control.as_fd(), word, &[]) {
                // It has failed meanwhile, and its report of that comes next.
                Err(error) if is_gone(&error) => Ok(()),
                other => other.map_err(failed(attempt)),
            }
        };
        if let Some(maps) = &self.plan.maps {
            outside::write_maps(pid, maps, self.facts)?;
            outside::raise_limits(pid, self.plan)?;
        }
        if let Some(score) = self.plan.oom_score_adj {
            outside::set_oom_score(pid, score, self.facts)?;
        }
        outside::map_owners(pid, self.plan, sources)?;
        if self.plan.maps.is_some() {
            say(MAPPED)?;
        }
        if !in_group {
            self.record.groups.attach(pid)?;
        }
        say(format!("{GO} {pid}").as_bytes())?;
        loop {
            match Told::receive(control.as_fd())? {
                Some(Told::Hooks) => {
                    self.hooked = true;
                    self.runtime_hooks(pid)?;
                    say(HOOKED)?;
                }
                Some(Told::Ready) => return Ok(()),
                Some(Told::Failed { failure }) => return Err(BundleError::Init(failure)),
                Some(Told::Pid { .. }) => {}
                None => return Err(BundleError::InitLost),
            }
        }
    }

    fn runtime_hooks(&self, pid: u32) -> Result<(), BundleError> {
        let Some(hooks) = &self.config.hooks else { return Ok(()) };
        let state = State::of(&self.record, Status::Creating, pid).text();
        hooks::run("prestart", &hooks.prestart, &state)?;
        hooks::run("createRuntime", &hooks.create_runtime, &state)
    }

    /// Writes down that it is there; only then it may outlive us.
    fn seal(&mut self, pid: u32, control: &OwnedFd) -> Result<(), BundleError> {
        let (_, start) = state::stat(pid).ok_or(BundleError::InitLost)?;
        (self.record.pid, self.record.pid_start) = (pid, start);
        self.home.write(&self.record)?;
        if let Some(path) = &self.options.pid_file {
            state::put(path, pid.to_string().as_bytes(), 0o644)?;
        }
        socket::send(control.as_fd(), SEALED, &[])
            .map_err(failed("speak to the container's first process"))
    }

    /// Leaves nothing behind. What cannot be removed is passed over: the first error is the one to tell.
    fn undo(&mut self) {
        if let Some(process) = &self.process {
            process.kill().unwrap_or_default();
            process.wait().map(drop).unwrap_or_default();
        }
        if self.hooked
            && let Some(hooks) = &self.config.hooks
        {
            let state = State::of(&self.record, Status::Stopped, 0).text();
            drop(hooks::run_all("poststop", &hooks.poststop, &state));
        }
        self.record.groups.end().unwrap_or_default();
        self.record.groups.remove().unwrap_or_default();
        if self.record.shares_mounts {
            outside::unmount(&self.record.rootfs).unwrap_or_default();
        }
        self.home.remove().unwrap_or_default();
    }
}

/// Whether a message found nobody.
pub(crate) fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset)
}

/// Connects to the socket that takes a terminal's other side.
pub(crate) fn connect_console(path: &Path) -> Result<OwnedFd, BundleError> {
    let connect = || -> rustix::io::Result<OwnedFd> {
        let (address, _directory) = state::address(path)?;
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket)
    };
    connect().map_err(failed(format!("connect to the console socket `{}`", path.display())))
}

/// Reads the description of a process for `exec`.
pub(crate) fn read_process(path: &Path) -> Result<crate::config::Process, BundleError> {
    let bytes = file::read_limited(path, CONFIG_BYTES_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| BundleError::Json { path: PathBuf::from(path), source })
}
