//! A container that runs: its processes, what it uses, and what can be changed while it runs.
//!
//! All of it is for the process that runs the container: the groups bear its number.

mod processes;
mod usage;

use corten_sys::error::IoError;

use crate::cgroup::{self, CgroupFacts, Groups};
use crate::error::PlanError;
use crate::facts::HostFacts;
use crate::notice::Notice;
use crate::plan::Plan;
use crate::spec::ContainerSpec;

pub use usage::Usage;

/// A container that this process runs.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    plan: &'a Plan,
    /// The first process.
    pid: u32,
}

/// What could not be done with a container that runs.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("the container's processes cannot be frozen here: {reason}")]
    NoFreezer { reason: &'static str },
    #[error("the container's processes were not frozen within {seconds} seconds")]
    NotFrozen { seconds: u64 },
}

impl LiveError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => error.hint(),
            Self::NoFreezer { .. } => Some(
                "run `corten` as root, or with delegated control groups of version 2: \
                 `systemd-run --user --scope -p Delegate=yes corten run …`"
                    .to_owned(),
            ),
            Self::NotFrozen { .. } => {
                Some("a process waits for a disk or a device: try again".to_owned())
            }
            Self::Io(_) => None,
        }
    }
}

impl<'a> Live<'a> {
    pub fn new(plan: &'a Plan, pid: u32) -> Self {
        Self { plan, pid }
    }

    /// Finds the container's processes, in this process's numbers, the first one first.
    pub fn processes(&self) -> Result<Vec<u32>, IoError> {
        if let Some(found) = self.groups()?.processes() {
            return Ok(found);
        }
        processes::find(self.pid, !self.plan.among_others)
    }

    /// Says what the container uses of the machine.
    pub fn usage(&self) -> Result<Usage, IoError> {
        usage::of(&self.groups()?, &self.processes()?, self.pid, self.plan.network.network)
    }

    /// Stops every process of the container where it is.
    pub fn freeze(&self, facts: &CgroupFacts) -> Result<(), LiveError> {
        let find = || self.processes();
        cgroup::freeze(facts, &self.plan.cgroup, &self.plan.id, &find)
    }

    /// Lets the processes go on.
    pub fn thaw(&self, facts: &CgroupFacts) -> Result<(), LiveError> {
        Ok(cgroup::thaw(facts, &self.plan.cgroup, &self.plan.id)?)
    }

    /// Gives the container other limits. Returns what could not be had of those that were only preferred.
    pub fn limit(&self, spec: &ContainerSpec, facts: &HostFacts) -> Result<Vec<Notice>, LiveError> {
        let mut notices = Vec::new();
        let wanted = cgroup::plan(spec, facts, &mut notices)?;
        let find = || self.processes();
        cgroup::limit(&self.plan.cgroup, &wanted, &self.plan.id, &find)?;
        Ok(notices)
    }

    fn groups(&self) -> Result<Groups, IoError> {
        let mut groups = Groups::existing(&self.plan.cgroup, &self.plan.id)?;
        groups.add_later(&self.plan.id);
        Ok(groups)
    }
}
