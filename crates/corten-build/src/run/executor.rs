//! Steps as containers of the runtime.

use corten_diag::Stream;
use corten_runtime::network::resolv::{self, HostResolver};
use corten_runtime::{
    BindMount, ContainerSpec, Exit, HostFacts, HostFiles, Io, Limit, Mount, Network, Rootfs, Stdin,
    TmpfsMount, network,
};

use super::{ExecError, OutOfMemory, RunOutcome, RunStep, StepMount, StepMountKind};
use crate::traits::Executor;

/// The name that every step has, so that it cannot tell one machine from another.
const HOSTNAME: &str = "build";

/// Where the helper programs of a network without root are.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs steps as containers.
#[derive(Debug, Default)]
pub struct RuntimeExecutor;

impl Executor for RuntimeExecutor {
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<RunOutcome, ExecError> {
        let facts = HostFacts::gather()?;
        let plan = corten_runtime::plan(&spec(step)?, &facts)?;
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
fn spec(step: &RunStep) -> Result<ContainerSpec, ExecError> {
    let rootfs = Rootfs::layered(step.lowers.clone(), step.upper.clone(), step.work.clone());
    let mut spec = ContainerSpec::new(step.id.clone(), rootfs, step.args.clone());
    spec.env = step.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    spec.cwd.clone_from(&step.cwd);
    spec.uid = step.uid;
    spec.gid = step.gid;
    spec.additional_gids.clone_from(&step.additional_gids);
    spec.stdin = Stdin::Null;
    spec.hostname = Some(HOSTNAME.to_owned());
    spec.network = step.network;
    spec.mounts = step.mounts.iter().map(mount).collect();
    spec.resources.memory_bytes = step.limits.memory_bytes.map(Limit::required);
    spec.resources.cpu_millis = step.limits.cpu_millis.map(Limit::required);
    spec.resources.pids = step.limits.pids.map(Limit::required);
    spec.host_files = host_files(step.network)?;
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

/// The name servers of the host, and names for the step itself.
fn host_files(network: Network) -> Result<HostFiles, ExecError> {
    let helper = network::helper_nameserver(SEARCH_PATH.as_ref());
    let resolv_conf = resolv::plan_resolv_conf(network, &HostResolver::read()?, helper);
    Ok(HostFiles {
        resolv_conf: Some(resolv_conf.text),
        hosts: Some(resolv::hosts_file(HOSTNAME, None, &[])),
        hostname: Some(format!("{HOSTNAME}\n")),
    })
}
