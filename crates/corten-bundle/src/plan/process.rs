//! Decides what the process becomes, from `start` to the program.

use std::collections::BTreeSet;

use corten_runtime::{Capability, seccomp};

use super::Facts;
use super::steps::Step;
use crate::config::{Config, IoPriority, Personality, Process, Rlimit, Scheduler, Seccomp};
use crate::error::{BundleError, invalid};

const RLIMITS: &[(&str, libc::__rlimit_resource_t)] = &[
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// Without one in the configuration; the specification leaves it open, and engines expect this.
const UMASK: u32 = 0o022;

/// Adds the steps. Their order is the point: limits before rights are given up; the filter last, but
/// before the user where only an administrator may install one; hooks with the rights of the program,
/// since their programs are the container's.
pub(super) fn last(
    config: &Config,
    process: &Process,
    facts: &Facts,
    new_users: bool,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<(), BundleError> {
    if !process.apparmor_profile.is_empty() {
        steps.push(Step::Apparmor { profile: process.apparmor_profile.clone() });
    }
    if !process.selinux_label.is_empty() {
        steps.push(Step::Selinux { label: process.selinux_label.clone() });
    }
    for limit in &process.rlimits {
        steps.push(rlimit(limit, &process.rlimits)?);
    }
    if let Some(priority) = &process.io_priority {
        steps.push(io_priority(priority)?);
    }
    if let Some(one) = &process.scheduler {
        steps.push(scheduler(one)?);
    }
    let linux = config.linux.as_ref();
    if let Some(one) = linux.and_then(|linux| linux.personality.as_ref()) {
        steps.push(personality(one)?);
    }
    steps.push(Step::OwnStandard { uid: process.user.uid });
    steps.push(Step::Directory { path: process.cwd.clone() });
    let sets = Sets::of(process, facts, new_users, warnings);
    let filter = match linux.and_then(|linux| linux.seccomp.as_ref()) {
        Some(profile) => filter(profile, &sets, facts)?,
        None => None,
    };
    if !process.no_new_privileges {
        steps.extend(filter.clone());
    }
    steps.push(Step::Bounding { keep: sets.bounding, last: facts.last_capability });
    steps.push(Step::User {
        uid: process.user.uid,
        gid: process.user.gid,
        groups: groups(config, process, facts, warnings),
    });
    steps.push(Step::Umask { mask: process.user.umask.unwrap_or(UMASK) & 0o777 });
    steps.push(Step::Capabilities {
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
        ambient: sets.ambient,
    });
    if process.no_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    let hooks = config.hooks.as_ref().filter(|hooks| !hooks.start_container.is_empty());
    if let (Some(hooks), true) = (hooks, config.process.as_ref() == Some(process)) {
        let hooks = hooks.start_container.clone();
        steps.push(Step::Hooks { kind: "startContainer", hooks });
    }
    if process.no_new_privileges {
        steps.extend(filter);
    }
    Ok(())
}

/// Where the caller's user may not set groups, there are none to set.
fn groups(
    config: &Config,
    process: &Process,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Option<Vec<u32>> {
    let maps = config.linux.as_ref().map(|linux| linux.gid_mappings.as_slice()).unwrap_or_default();
    let single = !facts.is_root && matches!(maps, [one] if one.size == 1);
    if !single {
        return Some(process.user.additional_gids.clone());
    }
    if !process.user.additional_gids.is_empty() {
        warnings.push("additionalGids are left out: an ordinary user cannot set groups".to_owned());
    }
    None
}

fn rlimit(limit: &Rlimit, all: &[Rlimit]) -> Result<Step, BundleError> {
    let Rlimit { kind, soft, hard } = limit;
    let found = RLIMITS.iter().find(|(name, _)| name == kind);
    let (_, resource) =
        found.ok_or_else(|| invalid(format!("`{kind}` is no limit of processes")))?;
    if all.iter().filter(|other| other.kind == *kind).count() > 1 {
        return Err(invalid(format!("the limit `{kind}` is there twice")));
    }
    if soft > hard {
        return Err(invalid(format!("the soft limit of `{kind}` is above the hard one")));
    }
    let resource = i32::try_from(*resource).unwrap_or_default();
    Ok(Step::Rlimit { name: kind.clone(), resource, soft: *soft, hard: *hard })
}

fn io_priority(priority: &IoPriority) -> Result<Step, BundleError> {
    let class = match priority.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(invalid(format!("`{other}` is no class of priorities at disks"))),
    };
    let level = u8::try_from(priority.priority).ok().filter(|level| *level < 8);
    let level = level.ok_or_else(|| invalid("process.ioPriority.priority is outside 0 to 7"))?;
    Ok(Step::IoPriority { class, level })
}

fn scheduler(one: &Scheduler) -> Result<Step, BundleError> {
    let policy = match one.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(invalid(format!("`{other}` is no policy of scheduling"))),
    };
    let (realtime, deadline) = (matches!(policy, 1 | 2), policy == 6);
    if !(-20..=19).contains(&one.nice) {
        return Err(invalid("process.scheduler.nice is outside -20 to 19"));
    }
    if one.priority != 0 && !realtime {
        return Err(invalid("process.scheduler.priority is for SCHED_FIFO and SCHED_RR only"));
    }
    if !deadline && (one.runtime, one.deadline, one.period) != (0, 0, 0) {
        return Err(invalid("process.scheduler has times, which are for SCHED_DEADLINE only"));
    }
    let mut flags = 0;
    for flag in &one.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(invalid(format!("`{other}` is no flag of scheduling"))),
        };
    }
    let priority = u32::try_from(one.priority)
        .map_err(|_| invalid("process.scheduler.priority is negative"))?;
    let times = [one.runtime, one.deadline, one.period];
    Ok(Step::Scheduler { policy, flags, nice: one.nice, priority, times })
}

fn personality(one: &Personality) -> Result<Step, BundleError> {
    if let Some(flag) = one.flags.first() {
        return Err(invalid(format!(
            "`{flag}` is no flag of linux.personality: there are none yet"
        )));
    }
    match one.domain.as_str() {
        "LINUX" => Ok(Step::Personality { domain: 0 }),
        // `PER_LINUX32`.
        "LINUX32" => Ok(Step::Personality { domain: 8 }),
        other => Err(invalid(format!("`{other}` is no domain of linux.personality"))),
    }
}

/// The five sets, as bits.
struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    fn of(process: &Process, facts: &Facts, new_users: bool, warnings: &mut Vec<String>) -> Self {
        let given = process.capabilities.clone().unwrap_or_default();
        let known = u64::MAX >> (63 - u32::from(facts.last_capability).min(63));
        let available = if new_users { known } else { known & facts.capabilities };
        let mut unknown = BTreeSet::new();
        let mut bits = |names: &[String]| {
            let mut bits = 0;
            for name in names {
                match name.parse::<Capability>() {
                    Ok(found) if available & (1 << found.number()) != 0 => {
                        bits |= 1 << found.number();
                    }
                    _ => {
                        unknown.insert(name.clone());
                    }
                }
            }
            bits
        };
        let bounding = bits(&given.bounding);
        let permitted = bits(&given.permitted);
        // The kernel would refuse them together with those that it can give.
        let effective = bits(&given.effective) & permitted;
        let inheritable = bits(&given.inheritable);
        let ambient = bits(&given.ambient) & permitted & inheritable;
        if !unknown.is_empty() {
            let names: Vec<String> = unknown.into_iter().collect();
            warnings.push(format!(
                "ignoring unknown or unavailable capabilities: {}",
                names.join(", ")
            ));
        }
        Self { bounding, effective, permitted, inheritable, ambient }
    }
}

fn filter(profile: &Seccomp, sets: &Sets, facts: &Facts) -> Result<Option<Step>, BundleError> {
    if profile.default_action.is_empty() {
        return Err(invalid("linux.seccomp has no defaultAction"));
    }
    let notifies = |action: &str| action == "SCMP_ACT_NOTIFY";
    if notifies(&profile.default_action)
        || profile.syscalls.iter().any(|rule| notifies(&rule.action))
        || !profile.listener_path.is_empty()
    {
        let why = "Corten hands no seccomp notifications to agents".to_owned();
        return Err(BundleError::Unsupported { what: "SCMP_ACT_NOTIFY", why });
    }
    for name in &profile.architectures {
        if !ARCHITECTURES.contains(&name.as_str()) {
            return Err(invalid(format!("`{name}` is no architecture of linux.seccomp")));
        }
    }
    let mut flags = 0;
    for flag in &profile.flags {
        flags |= match flag.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // It is about notifications, of which there are none.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => return Err(invalid(format!("`{other}` is no flag of linux.seccomp"))),
        };
    }
    if let Some(rule) = profile.syscalls.iter().find(|rule| rule.names.is_empty()) {
        return Err(invalid(format!("a rule `{}` of linux.seccomp names no call", rule.action)));
    }
    let text = serde_json::to_string(profile)
        .map_err(|source| BundleError::Json { path: "linux.seccomp".into(), source })?;
    let all = Capability::ALL.iter().copied();
    let capabilities = all.filter(|one| sets.bounding & (1 << one.number()) != 0).collect();
    let filter = seccomp::compile_profile(&text, &capabilities, facts.kernel)
        .map_err(BundleError::Seccomp)?;
    Ok(Some(Step::Seccomp { filter, flags }))
}

/// Those that the specification names. Calls of any but the machine's own end the process.
const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// Reads a list of processors: `0-3,7`.
fn processors(text: &str) -> Result<Vec<usize>, BundleError> {
    let wrong = || invalid(format!("`{text}` is no list of processors such as `0-3,7`"));
    let mut found = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < 1024);
        let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
        if first > last {
            return Err(wrong());
        }
        found.extend(first..=last);
    }
    Ok(found)
}

/// On which processors an additional process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub initial: Option<Vec<usize>>,
    pub last: Option<Vec<usize>>,
}

/// The processors for an additional process: while it is prepared, and from the program on.
pub(crate) fn affinity(process: &Process) -> Result<Affinity, BundleError> {
    let Some(given) = &process.exec_cpu_affinity else { return Ok(Affinity::default()) };
    let read = |text: &str| (!text.is_empty()).then(|| processors(text)).transpose();
    Ok(Affinity { initial: read(&given.initial)?, last: read(&given.last)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(processors("0-2,7").expect("a list"), [0, 1, 2, 7]);
        for text in ["", "a", "3-1", "0-", "99999", "1;2"] {
            assert!(processors(text).is_err(), "{text}");
        }
    }
}
