//! Steps as containers of the runtime.

use std::fmt;
use std::sync::Once;

use corten_diag::{Event, Reporter, Stream};
use corten_runtime::{
    BindMount, Capability, ContainerSpec, Exit, HostFacts, HostFiles, Io, Limit, Mount, Network,
    Rootfs, Stdin, TmpfsMount,
};

use super::{ExecError, OutOfMemory, RunOutcome, RunStep, StepMount, StepMountKind};
use crate::traits::Executor;

/// Runs steps as containers.
pub struct RuntimeExecutor<'a> {
    reporter: &'a dyn Reporter,
    told_of_network: Once,
}

impl fmt::Debug for RuntimeExecutor<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RuntimeExecutor").finish_non_exhaustive()
    }
}

impl<'a> RuntimeExecutor<'a> {
    pub fn new(reporter: &'a dyn Reporter) -> Self {
        Self { reporter, told_of_network: Once::new() }
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
        let network = self.network(step.network, &facts);
        let plan = corten_runtime::plan(&spec(step, network)?, &facts)?;
        let mut io = Io::callback(output);
        io.cancelled = Some(&step.cancelled);
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
}

/// The container of a step; its written directory is the layer to be.
fn spec(step: &RunStep, network: Network) -> Result<ContainerSpec, ExecError> {
    let rootfs = Rootfs::layered(step.lowers.clone(), step.upper.clone(), step.work.clone());
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
    spec.mounts = step.mounts.iter().map(mount).collect();
    spec.resources.memory_bytes = step.limits.memory_bytes.map(Limit::required);
    spec.resources.cpu_millis = step.limits.cpu_millis.map(Limit::required);
    spec.resources.pids = step.limits.pids.map(Limit::required);
    spec.host_files = HostFiles::for_container(&spec)?;
    // A step may want to change or remove the image's own.
    spec.host_files.hostname = None;
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
        }),
        StepMountKind::Tmpfs { size_bytes, mode } => Mount::Tmpfs(TmpfsMount {
            target,
            size_bytes: *size_bytes,
            mode: *mode,
            readonly: false,
            noexec: false,
        }),
    }
}
