//! Decides which groups a container gets and what is written into them. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use corten_sys::bpf::Instruction;

use super::devices::{self, DeviceRule};
use super::facts::{CgroupFacts, Manager};
use super::limits::{self, Wanted};
use crate::capability::Capability;
use crate::error::PlanError;
use crate::facts::HostFacts;
use crate::namespaces::UserNamespace;
use crate::notice::Notice;
use crate::spec::ContainerSpec;

/// The groups of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CgroupPlan {
    pub v2: bool,
    pub groups: Vec<GroupPlan>,
    /// The groups below which those of a `corten` that was killed may lie, whichever limits its
    /// container had.
    pub parents: Vec<PathBuf>,
    /// Who is asked for the group below which all goes, in the place of the parents.
    pub manager: Option<Manager>,
}

/// One group and its settings, in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GroupPlan {
    /// v1: the hierarchy's controller; v2: the controllers that the group needs.
    pub controllers: Vec<String>,
    /// The group below which `corten/<id>.<pid>` goes.
    pub parent: PathBuf,
    pub settings: Vec<Setting>,
    /// Judges the opening of devices; v2.
    #[serde(skip)]
    pub device_program: Option<Vec<Instruction>>,
}

/// A file of the group and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub file: &'static str,
    pub value: String,
    /// Whether the start fails when it cannot be written; else absence is fine.
    pub required: bool,
}

/// Plans the groups; a limit that cannot be set is an error or a notice.
pub(crate) fn plan(
    spec: &ContainerSpec,
    host: &HostFacts,
    notices: &mut Vec<Notice>,
) -> Result<CgroupPlan, PlanError> {
    limits::check(&spec.resources)?;
    let facts = &below(&host.cgroups, spec.cgroup_parent.as_deref())?;
    let v2 = matches!(facts, CgroupFacts::V2 { .. });
    let mut groups: BTreeMap<String, GroupPlan> = BTreeMap::new();
    for wanted in limits::wanted(&spec.resources) {
        let controller = if v2 { wanted.controller_v2 } else { wanted.controller };
        let missing = if wanted.only_v1 && v2 {
            Err(("cgroup v2 does not know it".to_owned(), "leave it out"))
        } else {
            available(facts, controller)
        };
        if let Err((reason, remedy)) = missing {
            if wanted.required {
                return Err(PlanError::LimitNotEnforceable { limit: wanted.limit, reason, remedy });
            }
            notices.push(Notice::LimitNotSet { limit: wanted.limit, reason });
            continue;
        }
        add(&mut groups, facts, wanted);
    }
    if let Some(rules) = device_rules(spec, host) {
        match devices_available(facts, host) {
            Ok(()) => limit_devices(&mut groups, facts, &rules),
            Err(reason) => notices.push(Notice::DevicesNotLimited { reason }),
        }
    }
    if (!spec.namespaces.pid.is_new() || spec.cgroup_parent.is_some()) && groups.is_empty() {
        gather(&mut groups, facts, notices);
    }
    let manager = match facts {
        CgroupFacts::V2 { manager, .. } if !groups.is_empty() => manager.clone(),
        _ => None,
    };
    let parents = if manager.is_some() { Vec::new() } else { parents(facts) };
    Ok(CgroupPlan { v2, groups: groups.into_values().collect(), parents, manager })
}

/// Where the hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The groups of the host with another place for ours.
fn below(facts: &CgroupFacts, parent: Option<&str>) -> Result<CgroupFacts, PlanError> {
    let mut facts = facts.clone();
    let Some(parent) = parent else { return Ok(facts) };
    let plain = parent.trim_matches('/').split('/').all(|part| !["", ".", ".."].contains(&part));
    if !plain || parent.contains('\0') {
        return Err(PlanError::CgroupParent { parent: parent.to_owned() });
    }
    let place = |own: &mut PathBuf, mount: PathBuf| match parent.strip_prefix('/') {
        Some(path) => *own = mount.join(path),
        None => own.push(parent),
    };
    match &mut facts {
        CgroupFacts::None => {}
        CgroupFacts::V1 { controllers } => {
            for (name, controller) in controllers {
                place(&mut controller.parent, Path::new(MOUNT).join(name));
            }
        }
        // Whoever names a place does not want the manager's.
        CgroupFacts::V2 { parent, manager, .. } => {
            *manager = None;
            place(parent, PathBuf::from(MOUNT));
        }
    }
    Ok(facts)
}

/// What may be opened, where that is less than the nodes that the container has, or where it could make
/// nodes of its own.
fn device_rules(spec: &ContainerSpec, host: &HostFacts) -> Option<Vec<DeviceRule>> {
    let restricted = spec.devices.iter().any(|device| !device.access.is_whole());
    let makes_nodes = spec.user_namespace == UserNamespace::Host
        && !host.is_rootless()
        && spec.capabilities.contains(&Capability::Mknod);
    if spec.all_devices || !(restricted || makes_nodes || !spec.device_rules.is_empty()) {
        return None;
    }
    let mut rules = vec![DeviceRule::NOTHING];
    rules.extend(&spec.device_rules);
    rules.extend(devices::usual().into_iter().skip(1));
    let mut refused = Vec::new();
    for device in &spec.devices {
        // A pipe has no number and nothing to be refused.
        let Some(number) = device.number else { continue };
        let (major, minor) = (Some(number.major), Some(number.minor));
        let rule =
            DeviceRule { allow: true, kind: number.kind, major, minor, access: device.access };
        rules.push(rule);
        refused.extend(rule.rest());
    }
    rules.extend(refused);
    Some(rules)
}

/// Says why devices cannot be limited.
fn devices_available(facts: &CgroupFacts, host: &HostFacts) -> Result<(), String> {
    match facts {
        CgroupFacts::V2 { .. } if host.is_rootless() => {
            Err("only root may give the kernel a program for that".to_owned())
        }
        CgroupFacts::V2 { writable: true, .. } => Ok(()),
        other => available(other, "devices").map_err(|(reason, _)| reason),
    }
}

fn limit_devices(
    groups: &mut BTreeMap<String, GroupPlan>,
    facts: &CgroupFacts,
    rules: &[DeviceRule],
) {
    let settings = rules.iter().map(|rule| {
        let (file, line) = rule.to_v1();
        (file, line, true)
    });
    add(groups, facts, Wanted { v1: settings.collect(), ..Wanted::without_limit("devices", "") });
    if let (CgroupFacts::V2 { .. }, Some(group)) = (facts, groups.get_mut("")) {
        group.device_program = Some(devices::assemble(rules));
    }
}

/// Makes a group without a limit, which tells the processes of a container from those of others.
fn gather(
    groups: &mut BTreeMap<String, GroupPlan>,
    facts: &CgroupFacts,
    notices: &mut Vec<Notice>,
) {
    match available(facts, "pids") {
        Err((reason, _)) => notices.push(Notice::ProcessesNotGathered { reason }),
        Ok(()) => add(groups, facts, Wanted::without_limit("pids", "pids")),
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
    let (key, parent, controller, settings) = match facts {
        CgroupFacts::None => return,
        CgroupFacts::V1 { controllers } => {
            let Some(controller) = controllers.get(wanted.controller) else { return };
            (wanted.controller.to_owned(), controller.parent.clone(), wanted.controller, wanted.v1)
        }
        CgroupFacts::V2 { parent, .. } => {
            (String::new(), parent.clone(), wanted.controller_v2, wanted.v2)
        }
    };
    let group = groups.entry(key).or_insert_with(|| GroupPlan {
        controllers: Vec::new(),
        parent,
        settings: Vec::new(),
        device_program: None,
    });
    if !controller.is_empty() && !group.controllers.iter().any(|name| name == controller) {
        group.controllers.push(controller.to_owned());
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
