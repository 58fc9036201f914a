//! Limits in the words of both versions of control groups. Pure.

use crate::error::PlanError;
use crate::resources::{BlockLimit, BlockLimitKind, Limit, Resources};

/// The kernel's usual time slice for quotas, in microseconds.
const PERIOD_US: u64 = 100_000;
/// The kernel refuses quotas below one millisecond.
const QUOTA_US_MIN: u64 = 1_000;
/// Docker's minimum: less does not even start a shell.
const MEMORY_BYTES_MIN: u64 = 6 * 1024 * 1024;

/// A file of a group, what is written to it, and whether it has to be there.
pub(super) type Line = (&'static str, String, bool);

/// A limit in the form of both versions.
pub(super) struct Wanted {
    pub limit: &'static str,
    pub controller: &'static str,
    /// Empty where no controller is needed.
    pub controller_v2: &'static str,
    pub only_v1: bool,
    pub required: bool,
    pub v1: Vec<Line>,
    pub v2: Vec<Line>,
}

impl Wanted {
    /// Wants no more than a group.
    pub(super) fn without_limit(controller: &'static str, controller_v2: &'static str) -> Self {
        Self {
            limit: "process",
            controller,
            controller_v2,
            only_v1: false,
            required: false,
            v1: Vec::new(),
            v2: Vec::new(),
        }
    }

    fn new(limit: &'static str, controller: &'static str, required: bool) -> Self {
        Self { limit, required, ..Self::without_limit(controller, controller) }
    }
}

pub(super) fn check(resources: &Resources) -> Result<(), PlanError> {
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
    if resources.memory_swappiness.is_some_and(|limit| limit.value > 100) {
        return refuse("swappiness", "outside 0 to 100");
    }
    if resources.cpu_millis.is_some() && resources.cpu_quota_us.is_some() {
        return refuse("processor", "given in two ways");
    }
    if resources.cpu_period_us.is_some_and(|limit| !(1_000..=1_000_000).contains(&limit.value)) {
        return refuse("processor", "of a period outside 1 ms to 1 s");
    }
    if resources.cpu_quota_us.is_some_and(|limit| limit.value < QUOTA_US_MIN) {
        return refuse("processor", "below a millisecond in a period");
    }
    let weights =
        resources.block_limits.iter().filter(|limit| limit.kind == BlockLimitKind::Weight);
    let weights = weights.map(|limit| limit.value);
    let mut weights = weights.chain(resources.block_weight.map(|limit| limit.value));
    if weights.any(|weight| !(10..=1000).contains(&weight)) {
        return refuse("disk weight", "outside 10 to 1000");
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
    if resources.memory_nodes.as_ref().is_some_and(|limit| !is_list(&limit.value)) {
        return refuse("memory node", "no list such as `0-1`");
    }
    Ok(())
}

pub(super) fn wanted(resources: &Resources) -> Vec<Wanted> {
    let quota = processor_time(resources);
    let parts = [
        resources.memory_bytes.map(|limit| memory(limit, resources.memory_swap_bytes)),
        resources.memory_reservation_bytes.map(reservation),
        resources.memory_swappiness.map(swappiness),
        resources.oom_kill_disabled.map(waiting_for_memory),
        quota,
        resources.cpu_shares.map(processor_weight),
        resources.cpuset.as_ref().map(|limit| set("processor set", "cpuset.cpus", limit)),
        resources.memory_nodes.as_ref().map(|limit| set("memory node", "cpuset.mems", limit)),
        resources.pids.map(processes),
        resources.block_weight.map(block_weight),
    ];
    parts.into_iter().flatten().chain(resources.block_limits.iter().map(block_limit)).collect()
}

fn memory(limit: Limit<u64>, both: Option<Limit<u64>>) -> Wanted {
    let bytes = limit.value;
    let with_swap = both.map_or(bytes, |both| both.value);
    let swap_asked_for = both.is_some_and(|both| both.required);
    let (v1_swap, v2_swap) = match with_swap {
        u64::MAX => ("-1".to_owned(), "max".to_owned()),
        with_swap => (with_swap.to_string(), with_swap.saturating_sub(bytes).to_string()),
    };
    Wanted {
        v1: vec![
            ("memory.limit_in_bytes", bytes.to_string(), true),
            // Only there when the kernel counts swap.
            ("memory.memsw.limit_in_bytes", v1_swap, swap_asked_for),
        ],
        v2: vec![
            ("memory.max", bytes.to_string(), true),
            ("memory.swap.max", v2_swap, swap_asked_for),
        ],
        ..Wanted::new("memory", "memory", limit.required)
    }
}

fn reservation(limit: Limit<u64>) -> Wanted {
    let bytes = limit.value.to_string();
    Wanted {
        v1: vec![("memory.soft_limit_in_bytes", bytes.clone(), true)],
        v2: vec![("memory.low", bytes, true)],
        ..Wanted::new("memory reservation", "memory", limit.required)
    }
}

fn swappiness(limit: Limit<u64>) -> Wanted {
    Wanted {
        v1: vec![("memory.swappiness", limit.value.to_string(), true)],
        only_v1: true,
        ..Wanted::new("swappiness", "memory", limit.required)
    }
}

fn waiting_for_memory(limit: Limit<()>) -> Wanted {
    Wanted {
        v1: vec![("memory.oom_control", "1".to_owned(), true)],
        only_v1: true,
        ..Wanted::new("out-of-memory", "memory", limit.required)
    }
}

/// Processor time from what was said in whichever way.
fn processor_time(resources: &Resources) -> Option<Wanted> {
    let Resources { cpu_millis, cpu_quota_us, cpu_period_us, .. } = resources;
    let period = cpu_period_us.map_or(PERIOD_US, |limit| limit.value);
    let of_millis = |limit: Limit<u64>| {
        let value = (limit.value.saturating_mul(period) / 1000).max(QUOTA_US_MIN);
        Limit { value, ..limit }
    };
    let quota = cpu_quota_us.or(cpu_millis.map(of_millis));
    let required = quota.map(|limit| limit.required).or(cpu_period_us.map(|l| l.required))?;
    let v1_quota = quota.map(|limit| ("cpu.cfs_quota_us", limit.value.to_string(), true));
    let v2_quota = quota.map_or("max".to_owned(), |limit| limit.value.to_string());
    let period_line = ("cpu.cfs_period_us", period.to_string(), true);
    Some(Wanted {
        v1: std::iter::once(period_line).chain(v1_quota).collect(),
        v2: vec![("cpu.max", format!("{v2_quota} {period}"), true)],
        ..Wanted::new("processor", "cpu", required)
    })
}

fn processor_weight(limit: Limit<u64>) -> Wanted {
    // The conversion of the OCI runtimes: 2..=262144 to 1..=10000.
    let weight = 1 + (limit.value.saturating_sub(2) * 9999) / 262_142;
    Wanted {
        v1: vec![("cpu.shares", limit.value.to_string(), true)],
        v2: vec![("cpu.weight", weight.to_string(), true)],
        ..Wanted::new("processor weight", "cpu", limit.required)
    }
}

fn set(name: &'static str, file: &'static str, limit: &Limit<String>) -> Wanted {
    let line = (file, limit.value.clone(), true);
    Wanted { v1: vec![line.clone()], v2: vec![line], ..Wanted::new(name, "cpuset", limit.required) }
}

fn processes(limit: Limit<u64>) -> Wanted {
    let line = ("pids.max", limit.value.to_string(), true);
    Wanted {
        v1: vec![line.clone()],
        v2: vec![line],
        ..Wanted::new("process", "pids", limit.required)
    }
}

fn block_weight(limit: Limit<u64>) -> Wanted {
    // The conversion of the OCI runtimes: 10..=1000 to 1..=10000.
    let weight = 1 + (limit.value.saturating_sub(10) * 9999) / 990;
    Wanted {
        v1: vec![("blkio.weight", limit.value.to_string(), true)],
        v2: vec![("io.weight", weight.to_string(), true)],
        controller_v2: "io",
        ..Wanted::new("disk weight", "blkio", limit.required)
    }
}

fn block_limit(limit: &BlockLimit) -> Wanted {
    let BlockLimit { kind, major, minor, value } = *limit;
    let (v1, v2, key) = match kind {
        BlockLimitKind::ReadBytes => ("blkio.throttle.read_bps_device", "io.max", "rbps="),
        BlockLimitKind::WriteBytes => ("blkio.throttle.write_bps_device", "io.max", "wbps="),
        BlockLimitKind::ReadOperations => ("blkio.throttle.read_iops_device", "io.max", "riops="),
        BlockLimitKind::WriteOperations => ("blkio.throttle.write_iops_device", "io.max", "wiops="),
        BlockLimitKind::Weight => ("blkio.weight_device", "io.weight", ""),
    };
    let v2_value = match kind {
        BlockLimitKind::Weight => 1 + (value.saturating_sub(10) * 9999) / 990,
        _ => value,
    };
    Wanted {
        v1: vec![(v1, format!("{major}:{minor} {value}"), true)],
        v2: vec![(v2, format!("{major}:{minor} {key}{v2_value}"), true)],
        controller_v2: "io",
        ..Wanted::new("disk", "blkio", true)
    }
}
