//! From a spec and the host's facts to a plan. Pure: decides everything, starts nothing.

mod container;
mod identity;
mod rootfs;
mod sysctls;

use std::fmt;

use corten_sys::namespace;
use serde::Serialize;

use crate::capability::default_capabilities;
use crate::cgroup::{self, CgroupFacts, CgroupPlan};
use crate::error::PlanError;
use crate::facts::HostFacts;
use crate::namespaces::{Namespace, SharedMemory, UserNamespace};
use crate::network::Networking;
use crate::network::ports::PortMapping;
use crate::notice::Notice;
use crate::spec::{ContainerSpec, Limit, Network, RlimitKind, Stdin};
use crate::steps::{HelperPlan, JoinStep, RaisedLimit, RootStep, Step};

pub use sysctls::SysctlRefusal;

use identity::Identity;

/// The descriptors of sources travel in one message, which holds 253; the root is one.
const SOURCES_MAX: usize = 250;

/// Everything that was decided about a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What is otherwise than one might expect.
    pub notices: Vec<Notice>,
    pub(crate) id: String,
    pub(crate) cgroup: CgroupPlan,
    pub(crate) network: NetworkPlan,
    pub(crate) stdio: StdioPlan,
    pub(crate) helper: HelperPlan,
    /// The container's processes are among others, and do not end with its first one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) among_others: bool,
    /// Carried out instead when the host turns out to be unable to show files under the
    /// container's ids.
    #[serde(skip)]
    pub(crate) fallback: Option<Box<Plan>>,
}

/// What the network module is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NetworkPlan {
    pub network: Network,
    pub ports: Vec<PortMapping>,
    pub rootless: bool,
    /// Networks that somebody has made, and names.
    #[serde(skip_serializing_if = "Networking::is_empty")]
    pub networking: Networking,
    /// The host name that the file of hosts begins with, once the container has an address; `None`
    /// leaves the file as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Where the caller listens within the container's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
}

impl NetworkPlan {
    /// Returns true if there is something to do from outside of the container.
    pub(crate) fn is_attached(&self) -> bool {
        matches!(self.network, Network::Default | Network::User)
            || !self.ports.is_empty()
            || self.listen_port.is_some()
    }
}

/// What the container's standard input and output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct StdioPlan {
    pub terminal: bool,
    pub stdin: Stdin,
    /// The container's user as we see it; the pipes belong to it so that `/dev/stdout` can be
    /// opened.
    pub owner: (u32, u32),
}

impl Plan {
    /// Returns true if the first process can begin its life in the container's control groups: from within
    /// a namespace of users or of control groups of others, it could not be started there.
    pub(crate) fn starts_in_groups(&self) -> bool {
        let of_others = [namespace::USER, namespace::CGROUP];
        let joins = self.helper.joins.iter().any(|join| of_others.contains(&join.namespace));
        !joins && !matches!(self.helper.root, RootStep::Joined { .. })
    }

    /// Returns the plan of the same container with nothing running in it: its files and volumes are
    /// mounted in namespaces of its own, and that is all.
    #[must_use]
    pub fn holding(mut self) -> Self {
        self.cgroup = CgroupPlan::default();
        self.network = NetworkPlan {
            network: Network::None,
            ports: Vec::new(),
            listen_port: None,
            ..self.network
        };
        self.stdio = StdioPlan { terminal: false, stdin: Stdin::Null, ..self.stdio };
        let helper = &mut self.helper;
        helper.raised_limits = Vec::new();
        // Those of others may be gone, and are not needed; only the ids are.
        let (users, others): (Vec<_>, Vec<_>) = std::mem::take(&mut helper.joins)
            .into_iter()
            .partition(|join| join.namespace == namespace::USER);
        helper.joins = users;
        helper.namespaces |= others.iter().fold(0, |bits, join| bits | join.namespace);
        helper.container.retain(|step| match step {
            // Without groups of its own there is nothing to be seen of them.
            Step::Mount { target, .. } => !target.starts_with("/sys/fs/cgroup"),
            Step::BecomeRoot
            | Step::SeparateMounts
            | Step::SwapRoot
            | Step::Attach { .. }
            | Step::Link { .. }
            | Step::DropOldRoot
            | Step::MakeRootReadonly => true,
            _ => false,
        });
        helper.container.push(Step::Hold);
        self.fallback = self.fallback.map(|fallback| Box::new(fallback.holding()));
        self
    }
}

/// Decides how a container will be run on a host.
pub fn plan(spec: &ContainerSpec, facts: &HostFacts) -> Result<Plan, PlanError> {
    check(spec)?;
    let identity = Identity::of(spec, facts);
    let mut plan = plan_as(spec, facts, identity)?;
    // Who was given more than usual is not made root of the host for that.
    let is_modest = spec.capabilities.is_subset(&default_capabilities());
    if identity.may_fall_back() && is_modest {
        // Whether owners can be mapped depends on the file systems of the layers and volumes, and
        // only trying shows it. What cannot be had without a user namespace has no replacement.
        let shared = ContainerSpec { user_namespace: UserNamespace::Host, ..spec.clone() };
        plan.fallback = plan_as(&shared, facts, Identity::Callers).ok().map(|mut fallback| {
            let reason = "a file system of its layers or volumes cannot show other owners";
            let notice = Notice::NoUserNamespace { reason: reason.to_owned() };
            fallback.notices.insert(0, notice);
            Box::new(fallback)
        });
    }
    Ok(plan)
}

/// Decides how a further program is run in a container that runs by this plan.
///
/// `spec` is the container's, with the program, its user, directory, environment and terminal replaced;
/// `namespaces` are those (`CLONE_NEW*`) in which the container differs from the caller.
pub fn plan_another(
    container: &Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    namespaces: u64,
) -> Result<Plan, PlanError> {
    check(spec)?;
    let has_users = namespaces & namespace::USER != 0;
    let identity = if has_users { Identity::of(spec, facts) } else { Identity::Callers };
    let mut notices = Vec::new();
    // Limits are those of the container; from within, none can be raised.
    let facts = HostFacts { may_raise_limits: false, ..facts.clone() };
    let limits = rlimits(spec, &facts, None, &mut notices)?;
    let mut sources = Vec::new();
    let cgroup = container.cgroup.clone();
    let steps =
        container::Builder::new(spec, &facts, identity, &cgroup, &mut sources, &mut notices)
            .steps_of_another(&limits)?;
    Ok(Plan {
        notices,
        id: container.id.clone(),
        network: NetworkPlan {
            network: Network::None,
            ports: Vec::new(),
            rootless: container.network.rootless,
            networking: Networking::default(),
            hostname: None,
            listen_port: None,
        },
        stdio: StdioPlan {
            terminal: spec.terminal,
            stdin: spec.stdin,
            owner: identity.outside(spec.uid, spec.gid),
        },
        helper: HelperPlan {
            namespaces: 0,
            id_maps: None,
            joins: Vec::new(),
            root: RootStep::Joined { namespaces },
            sources,
            raised_limits: Vec::new(),
            oom_score_adj: None,
            container: steps,
        },
        cgroup,
        among_others: false,
        fallback: None,
    })
}

fn plan_as(
    spec: &ContainerSpec,
    facts: &HostFacts,
    identity: Identity<'_>,
) -> Result<Plan, PlanError> {
    let mut notices = Vec::new();
    identity.check_maps(spec)?;
    identity.check(spec)?;
    let (spec, per_user) = limit_processes(spec, facts, identity, &mut notices);
    let cgroup = cgroup::plan(&spec, facts, &mut notices)?;
    let limits = rlimits(&spec, facts, per_user, &mut notices)?;
    let mut sources = Vec::new();
    let root = rootfs::plan(&spec, facts, identity)?;
    let container =
        container::Builder::new(&spec, facts, identity, &cgroup, &mut sources, &mut notices)
            .steps(&limits)?;
    if sources.len() > SOURCES_MAX {
        return Err(PlanError::TooManyMounts { count: sources.len(), limit: SOURCES_MAX });
    }
    Ok(Plan {
        notices,
        id: spec.id.clone(),
        network: NetworkPlan {
            network: spec.network,
            ports: spec.ports.clone(),
            rootless: facts.is_rootless(),
            networking: spec.networking.clone(),
            hostname: container::has_own_hosts(&spec).then(|| spec.hostname().to_owned()),
            listen_port: spec.listen_port,
        },
        stdio: StdioPlan {
            terminal: spec.terminal,
            stdin: spec.stdin,
            owner: identity.outside(spec.uid, spec.gid),
        },
        helper: HelperPlan {
            namespaces: namespaces(&spec, identity, &cgroup),
            id_maps: identity.maps(),
            joins: joins(&spec)?,
            root,
            sources,
            raised_limits: limits.raised,
            oom_score_adj: spec.oom_score_adj,
            container,
        },
        cgroup,
        among_others: !spec.namespaces.pid.is_new(),
        fallback: None,
    })
}

fn namespaces(spec: &ContainerSpec, identity: Identity<'_>, cgroup: &CgroupPlan) -> u64 {
    let mut wanted = namespace::MOUNT;
    for (bit, namespace) in of_kinds(spec) {
        // The one of control groups is made later, when the process is in its group.
        if namespace.is_new() && (bit != namespace::CGROUP || cgroup.groups.is_empty()) {
            wanted |= bit;
        }
    }
    if identity.has_namespace() && !identity.is_joined() {
        wanted |= namespace::USER;
    }
    wanted
}

fn of_kinds(spec: &ContainerSpec) -> [(u64, &Namespace); 5] {
    [
        (namespace::PID, &spec.namespaces.pid),
        (namespace::IPC, &spec.namespaces.ipc),
        (namespace::UTS, &spec.namespaces.uts),
        (namespace::NETWORK, spec.network_namespace()),
        (namespace::CGROUP, &spec.namespaces.cgroup),
    ]
}

/// The namespaces of others, the users' last: it may be what gives the right to the others.
fn joins(spec: &ContainerSpec) -> Result<Vec<JoinStep>, PlanError> {
    let not_looked_up = |id: &String| Err(PlanError::NotLookedUp { id: id.clone() });
    let mut joins = Vec::new();
    for (namespace, from) in of_kinds(spec) {
        match from {
            Namespace::New | Namespace::Host => {}
            Namespace::Join(path) => joins.push(JoinStep { namespace, path: path.clone() }),
            Namespace::Container(id) => return not_looked_up(id),
        }
    }
    match &spec.user_namespace {
        UserNamespace::Auto | UserNamespace::Host | UserNamespace::Maps { .. } => {}
        UserNamespace::Join { path, .. } => {
            joins.push(JoinStep { namespace: namespace::USER, path: path.clone() });
        }
        UserNamespace::Container(id) => return not_looked_up(id),
    }
    Ok(joins)
}

/// Leaves a process limit to the kernel's count per user where that is as good.
///
/// A control group is exact but costs a wait for the kernel at each start. In a user namespace of
/// its own (Linux 5.14) a container's processes are counted apart from all others, so that a limit
/// which only stops a fork bomb needs no group; nor does one that cannot have a group.
fn limit_processes(
    spec: &ContainerSpec,
    facts: &HostFacts,
    identity: Identity<'_>,
    notices: &mut Vec<Notice>,
) -> (ContainerSpec, Option<u64>) {
    let mut spec = spec.clone();
    let Some(Limit { value, required }) = spec.resources.pids else { return (spec, None) };
    let counted = identity.has_namespace() && facts.kernel_at_least(5, 14);
    let grouped = match &facts.cgroups {
        CgroupFacts::None => false,
        CgroupFacts::V1 { controllers } => controllers.get("pids").is_some_and(|c| c.writable),
        CgroupFacts::V2 { writable, controllers, .. } => *writable && controllers.contains("pids"),
    };
    if !counted || (required && grouped) || value == 0 {
        return (spec, None);
    }
    if required {
        notices.push(Notice::ProcessesCountedPerUser { limit: value });
    }
    spec.resources.pids = None;
    (spec, Some(value))
}

/// Per-process limits, as steps of the container and as what must be raised from outside.
struct Limits {
    steps: Vec<Step>,
    raised: Vec<RaisedLimit>,
}

fn rlimits(
    spec: &ContainerSpec,
    facts: &HostFacts,
    processes: Option<u64>,
    notices: &mut Vec<Notice>,
) -> Result<Limits, PlanError> {
    let mut limits = Limits { steps: Vec::new(), raised: Vec::new() };
    let own_processes = spec.rlimits.iter().any(|limit| limit.kind == RlimitKind::Processes);
    for limit in &spec.rlimits {
        if limit.soft > limit.hard {
            return Err(PlanError::SoftAboveHard { kind: limit.kind });
        }
        let (_, present) = facts.rlimits.get(&limit.kind).copied().unwrap_or((0, u64::MAX));
        // Of open files the kernel has a limit for everybody.
        let most = match (facts.may_raise_limits, limit.kind) {
            (true, RlimitKind::OpenFiles) => facts.open_files_max.max(present),
            (true, _) => u64::MAX,
            (false, _) => present,
        };
        let hard = limit.hard.min(most);
        if hard < limit.hard {
            let (kind, asked) = (limit.kind, limit.hard);
            notices.push(Notice::RlimitClamped { kind, asked, given: hard });
        }
        if hard > present {
            limits.raised.push(RaisedLimit { resource: limit.kind, hard });
        }
        let soft = limit.soft.min(hard);
        limits.steps.push(Step::Rlimit { resource: limit.kind, soft, hard });
    }
    if let (Some(count), false) = (processes, own_processes) {
        let present = facts.rlimits.get(&RlimitKind::Processes).map_or(u64::MAX, |(_, hard)| *hard);
        let count = count.min(present);
        limits.steps.push(Step::Rlimit {
            resource: RlimitKind::Processes,
            soft: count,
            hard: count,
        });
    }
    Ok(limits)
}

fn check(spec: &ContainerSpec) -> Result<(), PlanError> {
    if spec.args.first().is_none_or(String::is_empty) {
        return Err(PlanError::NoProgram);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let id = &spec.id;
    if id.is_empty() || id.starts_with('.') || id.len() > 200 || !id.bytes().all(plain) {
        return Err(PlanError::InvalidId { id: id.clone() });
    }
    for (what, texts) in [("an argument", &spec.args), ("a variable", &spec.env)] {
        if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
            return Err(PlanError::NulByte { what, text: text.clone() });
        }
    }
    if let Some(variable) = spec.env.iter().find(|v| v.find('=').is_none_or(|at| at == 0)) {
        return Err(PlanError::Variable { text: variable.clone() });
    }
    // The kernel's `__NEW_UTS_LEN`.
    if let Some(name) = &spec.hostname
        && (name.is_empty() || name.len() > 64 || name.contains('\0'))
    {
        return Err(PlanError::Hostname { name: name.clone() });
    }
    if spec.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return Err(PlanError::InvalidLimit {
            limit: "out-of-memory score",
            problem: "outside -1000 to 1000",
        });
    }
    if spec.network == Network::Host && !spec.ports.is_empty() {
        return Err(PlanError::PortsWithoutNetwork { network: "host" });
    }
    check_namespaces(spec)
}

fn check_namespaces(spec: &ContainerSpec) -> Result<(), PlanError> {
    let conflict = |what, other| Err(PlanError::Conflict { what, other });
    let namespaces = &spec.namespaces;
    if !namespaces.uts.is_new() && spec.hostname.is_some() {
        return conflict("a host name", "the host name of others");
    }
    if namespaces.network.is_joined() && (spec.network != Network::None || !spec.ports.is_empty()) {
        return conflict("a network or published ports", "the network of others");
    }
    let has_own = matches!(spec.network, Network::Default | Network::User);
    if has_own && namespaces.network == Namespace::Host {
        return conflict("a network of the container's own", "the host's");
    }
    let own_users = matches!(spec.user_namespace, UserNamespace::Auto | UserNamespace::Maps { .. });
    if namespaces.pid.is_joined() && own_users {
        // `/proc` of them belongs to their users; who shares the one shares the other.
        return conflict("the processes of others", "users of the container's own");
    }
    let shares = matches!(spec.shared_memory, SharedMemory::Host | SharedMemory::Of(_));
    if shares && namespaces.ipc.is_new() {
        return conflict("the shared memory of others", "messages of one's own");
    }
    Ok(())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "container {}", self.id)?;
        for notice in &self.notices {
            writeln!(f, "  notice: {notice}")?;
        }
        writeln!(f, "  namespaces: {}", namespace_names(self.helper.namespaces))?;
        for JoinStep { namespace, path } in &self.helper.joins {
            writeln!(f, "  joins {}: {}", namespace_names(*namespace), path.display())?;
        }
        if let Some(maps) = &self.helper.id_maps {
            let line = |map: &str| map.trim_end().replace('\n', ", ");
            writeln!(f, "  user ids: {}", line(&maps.users))?;
            writeln!(f, "  group ids: {}", line(&maps.groups))?;
        }
        for group in &self.cgroup.groups {
            let settings: Vec<String> = group
                .settings
                .iter()
                .map(|setting| format!("{} = {}", setting.file, setting.value))
                .collect();
            writeln!(f, "  control group: {}", settings.join(", "))?;
        }
        writeln!(f, "  from outside:")?;
        writeln!(f, "    {}", self.helper.root)?;
        for (index, source) in self.helper.sources.iter().enumerate() {
            writeln!(f, "    source {index}: {source}")?;
        }
        for RaisedLimit { resource, hard } in &self.helper.raised_limits {
            writeln!(f, "    raise the limit {resource} to {hard}")?;
        }
        for port in &self.network.ports {
            writeln!(f, "    publish {port}")?;
        }
        writeln!(f, "  inside:")?;
        for step in &self.helper.container {
            writeln!(f, "    {step}")?;
        }
        Ok(())
    }
}

fn namespace_names(bits: u64) -> String {
    let names = [
        (namespace::USER, "user"),
        (namespace::MOUNT, "mount"),
        (namespace::PID, "pid"),
        (namespace::NETWORK, "network"),
        (namespace::IPC, "ipc"),
        (namespace::UTS, "uts"),
        (namespace::CGROUP, "cgroup"),
    ];
    let present: Vec<&str> =
        names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    present.join(" ")
}

#[cfg(test)]
mod tests;
