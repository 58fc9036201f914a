//! What is done with the groups of a container while it runs: other limits, and the freezer.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::error::IoError;

use super::facts::{CgroupFacts, Manager};
use super::live::{Group, directory, make, read, write};
use super::plan::{CgroupPlan, GroupPlan, Setting};
use super::scope;
use crate::live::LiveError;

/// Processes that wait for a disk are frozen once that answers.
const FREEZE_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// New processes may come while the known ones are moved; so many rounds are more than any needs whose
/// number of processes is limited.
const ROUNDS_MAX: usize = 1000;

/// Groups that this process has made for containers that ran already, with the containers' ids. They go
/// with the others.
static LATER: Mutex<Vec<(String, Group)>> = Mutex::new(Vec::new());

fn later() -> MutexGuard<'static, Vec<(String, Group)>> {
    LATER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The groups that were made for a container while it ran.
pub(super) fn made_later(id: &str) -> Vec<Group> {
    later().iter().filter(|(of, _)| of == id).map(|(_, group)| group.clone()).collect()
}

/// They are gone with the container.
pub(crate) fn forget(id: &str) {
    later().retain(|(of, _)| of != id);
}

/// Finds the processes of a container.
type Find<'a> = &'a dyn Fn() -> Result<Vec<u32>, IoError>;

/// Makes a group for a container that runs, and moves its processes there.
fn add(plan: &GroupPlan, v2: bool, id: &str, find: Find<'_>) -> Result<PathBuf, IoError> {
    let group = Group { plan: plan.clone(), directory: directory(plan, id) };
    let place = group.directory.clone();
    make(&group, v2)?;
    later().push((id.to_owned(), group));
    let members = place.join("cgroup.procs");
    let mut moved = Vec::new();
    for _ in 0..ROUNDS_MAX {
        // The children of those that were moved are born there.
        let there = read(&place, "cgroup.procs").unwrap_or_default();
        let is_there = |pid: u32| there.lines().any(|line| line.parse() == Ok(pid));
        let found = find()?;
        let outside: Vec<u32> =
            found.into_iter().filter(|pid| !is_there(*pid) && !moved.contains(pid)).collect();
        if outside.is_empty() {
            break;
        }
        for pid in outside {
            moved.push(pid);
            match write(&members, &pid.to_string()) {
                // It has ended.
                Err(error) if error.errno() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
    }
    Ok(place)
}

/// The group where it is, or will be.
fn placed(group: GroupPlan, manager: Option<&Manager>, id: &str) -> Result<GroupPlan, IoError> {
    Ok(match manager {
        Some(manager) => GroupPlan { parent: scope::enter(manager, id)?, ..group },
        None => group,
    })
}

/// The group that can be frozen: in version 2 the container's, in version 1 one for that alone. The
/// second is whom to ask for the place of it.
fn freezer<'a>(
    facts: &'a CgroupFacts,
    plan: &'a CgroupPlan,
) -> Result<(GroupPlan, Option<&'a Manager>), LiveError> {
    let refuse = |reason| Err(LiveError::NoFreezer { reason });
    let of = |parent: &Path, controllers: Vec<String>| GroupPlan {
        controllers,
        parent: parent.to_owned(),
        settings: Vec::new(),
        device_program: None,
    };
    match facts {
        CgroupFacts::None => refuse("this host has no control groups mounted"),
        CgroupFacts::V1 { controllers } => match controllers.get("freezer") {
            None => refuse("this host has no `freezer` controller"),
            Some(found) if !found.writable => {
                refuse("only root may use the `freezer` controller of cgroup v1")
            }
            Some(found) => Ok((of(&found.parent, vec!["freezer".to_owned()]), None)),
        },
        CgroupFacts::V2 { writable: false, .. } => {
            refuse("no control group is delegated to your user")
        }
        CgroupFacts::V2 { parent, manager, .. } => Ok(match plan.groups.first() {
            Some(group) => (group.clone(), plan.manager.as_ref()),
            None => (of(parent, Vec::new()), manager.as_ref()),
        }),
    }
}

/// Freezes a container and waits until nothing of it runs.
pub(crate) fn freeze(
    facts: &CgroupFacts,
    plan: &CgroupPlan,
    id: &str,
    find: Find<'_>,
) -> Result<(), LiveError> {
    let (group, manager) = freezer(facts, plan)?;
    let group = placed(group, manager, id)?;
    let v2 = matches!(facts, CgroupFacts::V2 { .. });
    let mut place = directory(&group, id);
    if !place.is_dir() {
        place = add(&group, v2, id, find)?;
    }
    let began = SystemClock.monotonic();
    loop {
        // A freezer of version 1 must be asked again for processes that came meanwhile.
        let is_frozen = if v2 {
            write(&place.join("cgroup.freeze"), "1")?;
            read(&place, "cgroup.events").is_some_and(|text| text.contains("frozen 1"))
        } else {
            write(&place.join("freezer.state"), "FROZEN")?;
            read(&place, "freezer.state").is_some_and(|text| text.trim() == "FROZEN")
        };
        if is_frozen {
            return Ok(());
        }
        if SystemClock.monotonic().saturating_sub(began) > FREEZE_MAX {
            thaw(facts, plan, id)?;
            return Err(LiveError::NotFrozen { seconds: FREEZE_MAX.as_secs() });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Lets a container go on; one that was never frozen does already.
pub(crate) fn thaw(facts: &CgroupFacts, plan: &CgroupPlan, id: &str) -> Result<(), IoError> {
    let Ok((group, manager)) = freezer(facts, plan) else { return Ok(()) };
    if manager.is_some() && scope::current()?.is_none() {
        return Ok(());
    }
    let place = directory(&placed(group, manager, id)?, id);
    let (file, word) = match facts {
        CgroupFacts::V2 { .. } => ("cgroup.freeze", "0"),
        _ => ("freezer.state", "THAWED"),
    };
    match write(&place.join(file), word) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Gives a container that runs other limits: groups that it has not got are made, and a limit of
/// processes that is no longer wanted is lifted.
pub(crate) fn limit(
    now: &CgroupPlan,
    wanted: &CgroupPlan,
    id: &str,
    find: Find<'_>,
) -> Result<(), IoError> {
    let wanted = &wanted.placed(id)?;
    for group in &wanted.groups {
        let place = directory(group, id);
        if place.is_dir() {
            // What devices may be opened was settled at the start and stays.
            let plan = GroupPlan { device_program: None, ..group.clone() };
            if !group.controllers.iter().any(|name| name == "devices") || wanted.v2 {
                settle(&Group { plan, directory: place }, wanted.v2)?;
            }
        } else {
            add(group, wanted.v2, id, find)?;
        }
    }
    if !wanted.groups.iter().any(limits_processes) {
        let later = made_later(id).into_iter().map(|group| group.plan);
        let now = now.placed(id)?;
        for group in now.groups.iter().cloned().chain(later).filter(limits_processes) {
            write(&directory(&group, id).join(PIDS), "max")?;
        }
    }
    Ok(())
}

/// The file of the limit of processes, in both versions.
const PIDS: &str = "pids.max";

fn limits_processes(group: &GroupPlan) -> bool {
    group.settings.iter().any(|setting| setting.file == PIDS)
}

/// Writes the settings of a group. Of memory alone and memory with swap, which one goes first depends on
/// whether they become more or less: what was refused is tried again at the end.
fn settle(group: &Group, v2: bool) -> Result<(), IoError> {
    let Err(first) = make(group, v2) else { return Ok(()) };
    let settings: Vec<Setting> = group.plan.settings.iter().rev().cloned().collect();
    let reversed = GroupPlan { settings, ..group.plan.clone() };
    // What was refused the first time, not what comes of trying it otherwise, is the reason.
    make(&Group { plan: reversed, directory: group.directory.clone() }, v2).map_err(|_| first)?;
    make(group, v2)
}
