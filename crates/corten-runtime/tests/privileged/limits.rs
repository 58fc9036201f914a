//! What a container may use.

use std::path::{Path, PathBuf};

use corten_runtime::{CgroupFacts, HostFacts, Limit, Notice, Rlimit, RlimitKind};
use corten_sys::file;
use corten_testkit::{Need, require};

use crate::common::{World, done, perl, planned, run_plan};

pub(crate) const IN_FIRST_THREAD: bool = false;

/// Directories of ours in every hierarchy that we may use.
pub(crate) fn group_folders() -> Vec<PathBuf> {
    let facts = HostFacts::gather().expect("the host can be looked at");
    match facts.cgroups {
        CgroupFacts::None => Vec::new(),
        CgroupFacts::V1 { controllers } => {
            controllers.values().map(|controller| controller.parent.join("corten")).collect()
        }
        CgroupFacts::V2 { parent, .. } => vec![parent.join("corten")],
    }
}

/// Groups that exist for an id.
pub(crate) fn groups_of(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in group_folders() {
        for name in file::list_dir(&folder).unwrap_or_default() {
            if name.to_string_lossy().starts_with(id) {
                found.push(folder.join(name));
            }
        }
    }
    found
}

const EAT: &str = "$x = \"x\" x (200 << 20); print length $x";

pub(crate) fn memory_is_limited_and_the_kill_is_told() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let mut spec = world.spec("");
    spec.args = vec!["perl".to_owned(), "-e".to_owned(), EAT.to_owned()];
    spec.resources.memory_bytes = Some(Limit::required(64 << 20));
    let killed = done(&spec);
    assert_eq!(killed.code(), 137, "{killed:?}");
    let oom = killed.outcome.oom.expect("it is told");
    assert_eq!((oom.limit_bytes, oom.kills), (Some(64 << 20), 1));
    assert!(oom.peak_bytes.is_some_and(|peak| peak > 60 << 20), "{oom:?}");
    assert!(groups_of(&spec.id).is_empty(), "the groups are gone");
    spec.args[2] = String::from("$x = \"x\" x (20 << 20); print length $x");
    let fits = done(&spec);
    assert_eq!((fits.out.as_str(), fits.outcome.oom), ("20971520", None));
    assert!(fits.outcome.peak_memory_bytes > 20 << 20);
}

pub(crate) fn a_killed_child_is_told_although_the_program_goes_on() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let mut spec = world.spec(&format!("{}; echo went on", perl(EAT)));
    spec.resources.memory_bytes = Some(Limit::required(64 << 20));
    let done = done(&spec);
    assert_eq!((done.out.as_str(), done.code()), ("went on\n", 0), "{done:?}");
    assert_eq!(done.outcome.oom.map(|oom| oom.kills), Some(1));
}

const FORKS: &str = "$n = 0; for (1..100) { $p = fork; last unless defined $p; \
    if (!$p) { sleep 5; exit } $n++ } print $n; kill 9, -1";

pub(crate) fn processes_are_limited_with_a_group() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let mut spec = world.spec(&perl(FORKS));
    spec.resources.pids = Some(Limit::required(20));
    let plan = planned(&spec);
    assert!(plan.to_string().contains("control group: pids.max = 20"), "{plan}");
    let done = run_plan(&plan).expect("it runs");
    let count: u32 = done.out.parse().expect("a number");
    assert!((15..20).contains(&count), "{done:?}");
    assert!(groups_of(&spec.id).is_empty(), "the groups are gone");
}

pub(crate) fn processes_are_limited_without_a_group() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec(&perl(FORKS));
    spec.resources.pids = Some(Limit::preferred(20));
    let plan = planned(&spec);
    assert!(!plan.to_string().contains("control group"), "{plan}");
    let done = run_plan(&plan).expect("it runs");
    let count: u32 = done.out.parse().expect("a number");
    assert!((15..20).contains(&count), "{done:?}");
}

pub(crate) fn processor_limits_are_visible_inside() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let facts = HostFacts::gather().expect("the host can be looked at");
    let v1 = matches!(facts.cgroups, CgroupFacts::V1 { .. });
    let mut spec = world.spec(if v1 {
        "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.shares memory/memory.limit_in_bytes; \
         cat cpuset/cpuset.cpus; cat /proc/self/cgroup | grep -c corten; echo 1 > cpu/cpu.shares"
    } else {
        "cd /sys/fs/cgroup; cat cpu.max memory.max cpuset.cpus; echo 1 > cpu.weight"
    });
    spec.resources.cpu_millis = Some(Limit::required(500));
    spec.resources.cpu_shares = Some(Limit::required(512));
    spec.resources.cpuset = Some(Limit::required("0".to_owned()));
    spec.resources.memory_bytes = Some(Limit::required(128 << 20));
    let done = done(&spec);
    let expected =
        if v1 { "50000\n512\n134217728\n0\n0\n" } else { "50000 100000\n134217728\n0\n" };
    assert_eq!(done.out, expected, "{done:?}");
    assert!(done.err.contains("Read-only file system"), "{done:?}");
    assert!(groups_of(&spec.id).is_empty(), "the groups are gone");
}

pub(crate) fn limits_of_processes_are_set() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("ulimit -Sn; ulimit -Hn; ulimit -c");
    spec.rlimits = vec![
        Rlimit { kind: RlimitKind::OpenFiles, soft: 100, hard: 200 },
        Rlimit { kind: RlimitKind::Core, soft: 0, hard: 0 },
    ];
    assert_eq!(done(&spec).out, "100\n200\n0\n");
    // More than there is: set where we may, else less and told.
    spec.rlimits =
        vec![Rlimit { kind: RlimitKind::OpenFiles, soft: 2_000_000_000, hard: 2_000_000_000 }];
    let plan = planned(&spec);
    let clamped = plan.notices.iter().any(|notice| matches!(notice, Notice::RlimitClamped { .. }));
    let facts = HostFacts::gather().expect("the host can be looked at");
    assert_eq!(clamped, !facts.may_raise_limits);
    if clamped {
        let (_, hard) = facts.rlimits[&RlimitKind::OpenFiles];
        let done = run_plan(&plan).expect("it runs");
        assert!(done.out.starts_with(&format!("{hard}\n{hard}\n")), "{done:?}");
    }
}

pub(crate) fn a_group_of_a_dead_caller_is_removed() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    // No process has this number: it is above the kernel's limit.
    let stale: Vec<PathBuf> = group_folders()
        .iter()
        .filter(|folder| folder.components().any(|part| part.as_os_str() == "memory") || !is_v1())
        .map(|folder| folder.join("test-stale.4194305"))
        .collect();
    for directory in &stale {
        file::create_dirs(directory, 0o755).expect("a group");
    }
    let mut spec = world.spec("true");
    spec.resources.memory_bytes = Some(Limit::required(64 << 20));
    assert_eq!(done(&spec).code(), 0);
    for directory in stale {
        assert!(!Path::new(&directory).exists(), "{}", directory.display());
    }
}

fn is_v1() -> bool {
    let facts = HostFacts::gather().expect("the host can be looked at");
    matches!(facts.cgroups, CgroupFacts::V1 { .. })
}

pub(crate) fn groups_of_the_dead_go_at_the_next_start_whatever_its_limits() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let id = crate::common::unique_id();
    let maker =
        corten_sys::command::Command::new("/bin/true").spawn().expect("every system has it");
    let dead = maker.pid;
    maker.handle.wait().expect("our child");
    let mut left = Vec::new();
    for folder in group_folders() {
        let parent = folder.parent().expect("it is below one").to_owned();
        if rustix::fs::access(&parent, rustix::fs::Access::WRITE_OK).is_ok() {
            file::create_dirs(&folder, 0o755).expect("groups are directories");
            let group = folder.join(format!("{id}.{dead}"));
            file::create_dir(&group, 0o755).expect("groups are directories");
            left.push(group);
        }
    }
    assert!(!left.is_empty(), "control groups are required");
    // No limit of its own needs a group.
    let outcome = world.run("echo end");
    assert_eq!(outcome.out, "end\n", "{outcome:?}");
    assert_eq!(groups_of(&id), Vec::<PathBuf>::new());
}
