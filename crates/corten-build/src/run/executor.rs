//! Steps as containers of the runtime.

use std::fmt;
use std::sync::Once;

use corten_diag::{Event, Reporter, Stream};
use corten_record::LISTEN_PORT;
use corten_runtime::{
    BindMount, BindOptions, Capability, ContainerSpec, Exit, HostFacts, HostFiles, Io, Limit,
    Mount, Network, Notice, Plan, Rootfs, Stdin, TmpfsMount, UserNamespace,
};

use super::{Downloads, ExecError, OutOfMemory, RunOutcome, RunStep, StepMount, StepMountKind};
use crate::traits::Executor;

/// Runs steps as containers.
pub struct RuntimeExecutor<'a> {
    reporter: &'a dyn Reporter,
    told_of_network: Once,
    told_of_limits: Once,
    terminal: Option<Terminal<'a>>,
}

/// What a shell in a failed step needs of the program.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a function has no text")]
pub struct Terminal<'a> {
    /// `TERM` of the caller.
    pub name: &'a str,
    /// Takes away what moves on the screen, and says what is about to be seen.
    pub prepare: &'a (dyn Fn(&RunStep) + Sync),
}

impl fmt::Debug for RuntimeExecutor<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RuntimeExecutor").finish_non_exhaustive()
    }
}

impl<'a> RuntimeExecutor<'a> {
    pub fn new(reporter: &'a dyn Reporter) -> Self {
        Self { reporter, told_of_network: Once::new(), told_of_limits: Once::new(), terminal: None }
    }

    /// Lets shells be opened in failed steps. The caller's standard input and output must be a
    /// terminal.
    #[must_use]
    pub fn with_terminal(mut self, terminal: Option<Terminal<'a>>) -> Self {
        self.terminal = terminal;
        self
    }

    /// Says once what a limit that was asked for became.
    fn tell(&self, plan: &Plan) {
        let clamped = |notice: &&Notice| matches!(notice, Notice::RlimitClamped { .. });
        let mut notices = plan.notices.iter().filter(clamped).peekable();
        if notices.peek().is_some() {
            self.told_of_limits.call_once(|| {
                for notice in notices {
                    self.reporter.report(Event::Warning(notice.to_string()));
                }
            });
        }
    }

    /// Where an ordinary user cannot have a network of their own, steps use the host's: a build
    /// without any network would be of no use. It is always said.
    fn network(&self, wanted: Network, facts: &HostFacts) -> Network {
        if wanted != Network::Default {
            return wanted;
        }
        let Err(reason) = facts.default_network() else { return wanted };
        self.told_of_network.call_once(|| {
            self.reporter.report(Event::Warning(format!(
                "RUN steps use the host's network, since they cannot have their own: {reason}"
            )));
        });
        Network::Host
    }
}

impl Executor for RuntimeExecutor<'_> {
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<RunOutcome, ExecError> {
        let facts = HostFacts::gather()?;
        let network = match step.recorder {
            Some(_) => Network::None,
            None => self.network(step.network, &facts),
        };
        // With the network of the host, the proxy would be open to every program of the machine.
        let downloads = step.downloads.as_ref().filter(|_| network == Network::Default);
        let mut spec = spec(step, network)?;
        if let Some(downloads) = downloads {
            lead(&mut spec, downloads);
        }
        let plan = corten_runtime::plan(&spec, &facts)?;
        self.tell(&plan);
        let recorder = step.recorder.as_ref().or(downloads.map(|downloads| &downloads.recorder));
        let serve = |listener| match recorder {
            Some(recorder) => recorder.serve(listener),
            None => Ok(()),
        };
        let mut io = Io::callback(output);
        io.cancelled = Some(&step.cancelled);
        io.listener = Some(&serve);
        let outcome = corten_runtime::run(&plan, io)?;
        Ok(RunOutcome {
            code: outcome.code(),
            signal: match outcome.exit {
                Exit::Signal(signal) => Some(signal),
                Exit::Code(_) => None,
            },
            out_of_memory: outcome.oom.map(|oom| OutOfMemory {
                limit_bytes: oom.limit_bytes,
                peak_bytes: oom.peak_bytes,
            }),
        })
    }

    fn shell(&self, step: &RunStep) -> Result<(), ExecError> {
        let Some(terminal) = self.terminal else {
            return Err(ExecError::Unavailable { reason: "there is no terminal".to_owned() });
        };
        let facts = HostFacts::gather()?;
        let network = self.network(step.network, &facts);
        let mut spec = spec(step, network)?;
        spec.terminal = true;
        spec.stdin = Stdin::Inherit;
        if !step.env.iter().any(|(name, _)| name == TERM) {
            spec.env.push(format!("{TERM}={}", terminal.name));
        }
        let plan = corten_runtime::plan(&spec, &facts)?;
        (terminal.prepare)(step);
        // How the shell ends says nothing of the step.
        corten_runtime::run(&plan, Io::inherit())?;
        Ok(())
    }
}

/// Leads the tools of a step to the cache of downloads.
fn lead(spec: &mut ContainerSpec, downloads: &Downloads) {
    spec.listen_port = Some(LISTEN_PORT);
    for (name, value) in &downloads.env {
        let is_same = |pair: &String| pair.split('=').next() == Some(name);
        spec.env.retain(|pair| !is_same(pair));
        spec.env.push(format!("{name}={value}"));
    }
    for added in &downloads.mounts {
        let is_same = |known: &Mount| match known {
            Mount::Bind(bind) => bind.target == added.target,
            Mount::Tmpfs(_) => false,
        };
        spec.mounts.retain(|known| !is_same(known));
        spec.mounts.push(mount(added));
    }
}

/// The variable that names the kind of a terminal.
const TERM: &str = "TERM";

/// The container of a step; its written directory is the layer to be.
fn spec(step: &RunStep, network: Network) -> Result<ContainerSpec, ExecError> {
    let mut rootfs = Rootfs::layered(step.lowers.clone(), step.upper.clone(), step.work.clone());
    // A step that did not end is done anew, and what it made is synced when it is a layer.
    rootfs.volatile = true;
    let mut spec = ContainerSpec::new(step.id.clone(), rootfs, step.args.clone());
    spec.env = step.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    spec.cwd.clone_from(&step.cwd);
    spec.uid = step.uid;
    spec.gid = step.gid;
    spec.additional_gids.clone_from(&step.additional_gids);
    spec.stdin = Stdin::Null;
    spec.hostname = Some(step.hostname.clone());
    // Steps that install software call `sudo` and `su`, and have the capabilities of the container
    // at most. What is built runs without this later.
    spec.no_new_privileges = false;
    if network != Network::Host {
        // `ping` has it as a file capability, and would not even start.
        spec.capabilities.insert(Capability::NetRaw);
    }
    spec.network = network;
    spec.listen_port = step.recorder.as_ref().map(|_| LISTEN_PORT);
    spec.mounts = step.mounts.iter().map(mount).collect();
    spec.resources.memory_bytes = step.limits.memory_bytes.map(Limit::required);
    spec.resources.cpu_millis = step.limits.cpu_millis.map(Limit::required);
    spec.resources.pids = step.limits.pids.map(Limit::required);
    let tuning = &step.tuning;
    spec.resources.memory_swap_bytes = tuning.memory_swap_bytes.map(Limit::required);
    spec.resources.cpu_shares = tuning.cpu_shares.map(Limit::required);
    spec.resources.cpuset = tuning.cpuset.clone().map(Limit::required);
    spec.shm_size_bytes = tuning.shm_size_bytes.unwrap_or(spec.shm_size_bytes);
    spec.rlimits.clone_from(&tuning.rlimits);
    spec.host_files = HostFiles::for_container(&spec)?;
    if let Some(hosts) = &mut spec.host_files.hosts {
        for (name, address) in &step.hosts {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
    }
    // A step may want to change or remove the image's own.
    spec.host_files.hostname = None;
    if step.insecure {
        // For root that is root of the machine. For an ordinary user it is root of the user namespace
        // that Corten made, and the host still refuses what the user may not do.
        spec.unlock()?;
        spec.user_namespace = UserNamespace::Host;
    }
    step.devices.apply(&mut spec);
    spec.settle()?;
    Ok(spec)
}

fn mount(mount: &StepMount) -> Mount {
    let target = mount.target.clone();
    match &mount.kind {
        StepMountKind::Bind { source, readonly } => Mount::Bind(BindMount {
            source: source.clone(),
            target,
            readonly: *readonly,
            recursive: false,
            options: BindOptions::default(),
        }),
        StepMountKind::Tmpfs { size_bytes, mode } => Mount::Tmpfs(TmpfsMount {
            size_bytes: *size_bytes,
            mode: *mode,
            ..TmpfsMount::new(target)
        }),
    }
}
