//! Decides which groups a container gets and what is written into them. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::facts::CgroupFacts;
use crate::error::PlanError;
use crate::notice::Notice;
use crate::spec::{ContainerSpec, Limit, Resources};

/// The kernel's usual time slice for quotas, in microseconds.
const PERIOD_US: u64 = 100_000;
/// The kernel refuses quotas below one millisecond.
const QUOTA_US_MIN: u64 = 1_000;
/// Docker's minimum: less does not even start a shell.
const MEMORY_BYTES_MIN: u64 = 6 * 1024 * 1024;

/// The groups of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CgroupPlan {
    pub v2: bool,
    pub groups: Vec<GroupPlan>,
    /// The groups below which those of a `corten` that was killed may lie, whichever limits its
    /// container had.
    pub parents: Vec<PathBuf>,
}

/// One group and its settings, in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GroupPlan {
    /// v1: the hierarchy's controller; v2: the controllers that the group needs.
    pub controllers: Vec<String>,
    /// The group below which `corten/<id>.<pid>` goes.
    pub parent: PathBuf,
    pub settings: Vec<Setting>,
}

/// A file of the group and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub file: &'static str,
    pub value: String,
    /// Whether the start fails when it cannot be written; else absence is fine.
    pub required: bool,
}

/// A limit in the form of both versions.
struct Wanted {
    limit: &'static str,
    controller: &'static str,
    required: bool,
    v1: Vec<(&'static str, String, bool)>,
    v2: Vec<(&'static str, String, bool)>,
}

/// Plans the groups; a limit that cannot be set is an error or a notice.
pub(crate) fn plan(
    spec: &ContainerSpec,
    facts: &CgroupFacts,
    notices: &mut Vec<Notice>,
) -> Result<CgroupPlan, PlanError> {
    check(&spec.resources)?;
    let mut groups: BTreeMap<String, GroupPlan> = BTreeMap::new();
    for wanted in wanted(&spec.resources) {
        if let Err((reason, remedy)) = available(facts, wanted.controller) {
            if wanted.required {
                return Err(PlanError::LimitNotEnforceable { limit: wanted.limit, reason, remedy });
            }
            notices.push(Notice::LimitNotSet { limit: wanted.limit, reason });
            continue;
        }
        add(&mut groups, facts, wanted);
    }
    if !spec.namespaces.pid.is_new() && groups.is_empty() {
        gather(&mut groups, facts, notices);
    }
    let v2 = matches!(facts, CgroupFacts::V2 { .. });
    Ok(CgroupPlan { v2, groups: groups.into_values().collect(), parents: parents(facts) })
}

/// Makes a group without a limit, which tells the processes of a container from those of others.
fn gather(
    groups: &mut BTreeMap<String, GroupPlan>,
    facts: &CgroupFacts,
    notices: &mut Vec<Notice>,
) {
    let (controller, limit) = ("pids", "process");
    match available(facts, controller) {
        Err((reason, _)) => notices.push(Notice::ProcessesNotGathered { reason }),
        Ok(()) => {
            let (required, v1, v2) = (false, Vec::new(), Vec::new());
            add(groups, facts, Wanted { limit, controller, required, v1, v2 });
        }
    }
}

/// Returns every group below which ours may be, as far as we may remove them.
fn parents(facts: &CgroupFacts) -> Vec<PathBuf> {
    match facts {
        CgroupFacts::None | CgroupFacts::V2 { writable: false, .. } => Vec::new(),
        CgroupFacts::V2 { parent, .. } => vec![parent.clone()],
        CgroupFacts::V1 { controllers } => {
            let writable = controllers.values().filter(|controller| controller.writable);
            writable.map(|controller| controller.parent.clone()).collect()
        }
    }
}

fn add(groups: &mut BTreeMap<String, GroupPlan>, facts: &CgroupFacts, wanted: Wanted) {
    let (key, parent, settings) = match facts {
        CgroupFacts::None => return,
        CgroupFacts::V1 { controllers } => {
            let Some(controller) = controllers.get(wanted.controller) else { return };
            (wanted.controller.to_owned(), controller.parent.clone(), wanted.v1)
        }
        CgroupFacts::V2 { parent, .. } => (String::new(), parent.clone(), wanted.v2),
    };
    let group = groups.entry(key).or_insert_with(|| GroupPlan {
        controllers: Vec::new(),
        parent,
        settings: Vec::new(),
    });
    if !group.controllers.iter().any(|name| name == wanted.controller) {
        group.controllers.push(wanted.controller.to_owned());
    }
    group.settings.extend(settings.into_iter().map(|(file, value, needed)| Setting {
        file,
        value,
        required: needed && wanted.required,
    }));
}

/// Says why a controller cannot be used, with the remedy.
fn available(facts: &CgroupFacts, controller: &str) -> Result<(), (String, &'static str)> {
    const DELEGATE: &str = "run `systemd-run --user --scope -p Delegate=yes corten run …`, run \
                            `corten` as root, or leave the limit out";
    const AS_ROOT: &str = "run `corten` as root, or leave the limit out";
    const MOUNT: &str = "mount cgroup v2 on `/sys/fs/cgroup`, or leave the limit out";
    match facts {
        CgroupFacts::None => Err(("this host has no control groups mounted".to_owned(), MOUNT)),
        CgroupFacts::V1 { controllers } => match controllers.get(controller) {
            None => Err((format!("this host has no `{controller}` controller"), MOUNT)),
            Some(found) if !found.writable => Err((
                format!("only root may use the `{controller}` controller of cgroup v1"),
                AS_ROOT,
            )),
            Some(_) => Ok(()),
        },
        CgroupFacts::V2 { parent, writable: false, .. } => Err((
            format!("control group `{}` is not delegated to your user", parent.display()),
            DELEGATE,
        )),
        CgroupFacts::V2 { controllers, parent, .. } if !controllers.contains(controller) => Err((
            format!("control group `{}` has no `{controller}` controller", parent.display()),
            DELEGATE,
        )),
        CgroupFacts::V2 { .. } => Ok(()),
    }
}

fn check(resources: &Resources) -> Result<(), PlanError> {
    let refuse = |limit, problem| Err(PlanError::InvalidLimit { limit, problem });
    let memory = resources.memory_bytes.map(|limit| limit.value);
    if memory.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
        return refuse("memory", "below 6 MiB, with which nothing starts");
    }
    if let Some(both) = resources.memory_swap_bytes {
        match memory {
            None => return refuse("memory and swap", "of no use without a memory limit"),
            Some(bytes) if both.value < bytes => {
                return refuse("memory and swap", "below the memory limit, which is part of it");
            }
            Some(_) => {}
        }
    }
    if resources.cpu_millis.is_some_and(|limit| limit.value < 10) {
        return refuse("processor", "below a hundredth of a processor");
    }
    if resources.cpu_shares.is_some_and(|limit| !(2..=262_144).contains(&limit.value)) {
        return refuse("processor weight", "outside 2 to 262144");
    }
    if resources.pids.is_some_and(|limit| limit.value == 0) {
        return refuse("process", "zero, with which nothing starts");
    }
    let is_list = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || b",-".contains(&byte))
    };
    if resources.cpuset.as_ref().is_some_and(|limit| !is_list(&limit.value)) {
        return refuse("processor set", "no list such as `0-3,6`");
    }
    Ok(())
}

fn wanted(resources: &Resources) -> Vec<Wanted> {
    let parts = [
        resources.memory_bytes.map(|limit| memory(limit, resources.memory_swap_bytes)),
        resources.cpu_millis.map(processor_time),
        resources.cpu_shares.map(processor_weight),
        resources.cpuset.as_ref().map(processor_set),
        resources.pids.map(processes),
    ];
    parts.into_iter().flatten().collect()
}

fn memory(limit: Limit<u64>, both: Option<Limit<u64>>) -> Wanted {
    let bytes = limit.value;
    let with_swap = both.map_or(bytes, |both| both.value);
    let swap_asked_for = both.is_some_and(|both| both.required);
    Wanted {
        limit: "memory",
        controller: "memory",
        required: limit.required,
        v1: vec![
            ("memory.limit_in_bytes", bytes.to_string(), true),
            // Only there when the kernel counts swap.
            ("memory.memsw.limit_in_bytes", with_swap.to_string(), swap_asked_for),
        ],
        v2: vec![
            ("memory.max", bytes.to_string(), true),
            ("memory.swap.max", (with_swap - bytes).to_string(), swap_asked_for),
        ],
    }
}

fn processor_time(limit: Limit<u64>) -> Wanted {
    let quota = (limit.value.saturating_mul(PERIOD_US) / 1000).max(QUOTA_US_MIN);
    Wanted {
        limit: "processor",
        controller: "cpu",
        required: limit.required,
        v1: vec![
            ("cpu.cfs_period_us", PERIOD_US.to_string(), true),
            ("cpu.cfs_quota_us", quota.to_string(), true),
        ],
        v2: vec![("cpu.max", format!("{quota} {PERIOD_US}"), true)],
    }
}

fn processor_weight(limit: Limit<u64>) -> Wanted {
    // The conversion of the OCI runtimes: 2..=262144 to 1..=10000.
    let weight = 1 + (limit.value.saturating_sub(2) * 9999) / 262_142;
    Wanted {
        limit: "processor weight",
        controller: "cpu",
        required: limit.required,
        v1: vec![("cpu.shares", limit.value.to_string(), true)],
        v2: vec![("cpu.weight", weight.to_string(), true)],
    }
}

fn processor_set(limit: &Limit<String>) -> Wanted {
    Wanted {
        limit: "processor set",
        controller: "cpuset",
        required: limit.required,
        v1: vec![("cpuset.cpus", limit.value.clone(), true)],
        v2: vec![("cpuset.cpus", limit.value.clone(), true)],
    }
}

fn processes(limit: Limit<u64>) -> Wanted {
    let value = limit.value.to_string();
    Wanted {
        limit: "process",
        controller: "pids",
        required: limit.required,
        v1: vec![("pids.max", value.clone(), true)],
        v2: vec![("pids.max", value, true)],
    }
}
