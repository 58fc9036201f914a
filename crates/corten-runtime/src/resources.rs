//! What a container may use of the machine.

use serde::{Deserialize, Serialize};

/// A limit and whether the container may start without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit<T> {
    pub value: T,
    /// True if a person asked for it: then it is set or the start is refused. Else a notice says
    /// that it could not be set.
    pub required: bool,
}

impl<T> Limit<T> {
    /// A limit that a person asked for.
    pub fn required(value: T) -> Self {
        Self { value, required: true }
    }

    /// A limit that Corten would like.
    pub fn preferred(value: T) -> Self {
        Self { value, required: false }
    }
}

/// What the container may use of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub memory_bytes: Option<Limit<u64>>,
    /// Memory and swap together; `None` with a memory limit allows no swap beyond it, `u64::MAX` any.
    pub memory_swap_bytes: Option<Limit<u64>>,
    /// What is left to the container when memory is short.
    pub memory_reservation_bytes: Option<Limit<u64>>,
    /// How readily its memory is swapped out, 0 to 100; cgroup v1 only.
    pub memory_swappiness: Option<Limit<u64>>,
    /// At the memory limit, the container waits instead of being killed; cgroup v1 only.
    pub oom_kill_disabled: Option<Limit<()>>,
    /// Processor time in thousandths of a processor: 1500 is one and a half.
    pub cpu_millis: Option<Limit<u64>>,
    /// The same as microseconds in each period.
    pub cpu_quota_us: Option<Limit<u64>>,
    /// How long a period is, in microseconds; 100,000 without.
    pub cpu_period_us: Option<Limit<u64>>,
    /// Relative weight against other groups; 1024 is normal.
    pub cpu_shares: Option<Limit<u64>>,
    /// Processors to run on, `0-3,6`.
    pub cpuset: Option<Limit<String>>,
    /// Memory nodes to use, `0-1`.
    pub memory_nodes: Option<Limit<String>>,
    /// Processes and threads at one time.
    pub pids: Option<Limit<u64>>,
    /// Relative weight at disks against other groups, 10 to 1000.
    pub block_weight: Option<Limit<u64>>,
    /// Limits of single disks; a person asked for them.
    pub block_limits: Vec<BlockLimit>,
}

/// How much of a disk may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLimit {
    pub kind: BlockLimitKind,
    pub major: u32,
    pub minor: u32,
    /// Bytes or operations in a second, or a weight.
    pub value: u64,
}

/// What of a disk is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockLimitKind {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
    Weight,
}
