//! Plans as people see them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use expect_test::expect;

use corten_sys::userns::IdRange;

use super::*;
use crate::facts::Ids;
use crate::namespaces::{IdMapping, Propagation};
use crate::spec::{BindMount, BindOptions, Mount, Rlimit, Rootfs, Seccomp};
use crate::steps::{OverlayMethod, RootStep};

/// A machine that is the same wherever the tests run.
fn root() -> HostFacts {
    HostFacts {
        kernel: (6, 18),
        ids: Ids::Shift { first: 0x7000_0000, count: 0x1000_0000 },
        last_capability: 40,
        may_raise_limits: true,
        open_files_max: 20_000,
        rlimits: BTreeMap::from([(RlimitKind::OpenFiles, (1024, 4096))]),
        cgroups: CgroupFacts::None,
        network_obstacles: Vec::new(),
    }
}

/// The same machine for an ordinary user with these many ids.
fn user(count: u32) -> HostFacts {
    let ranges = vec![IdRange { first: 0, outside: 1000, count }];
    let ids = Ids::Given { users: ranges.clone(), groups: ranges, setgroups: count > 1 };
    HostFacts { ids, may_raise_limits: false, ..root() }
}

fn spec() -> ContainerSpec {
    let rootfs = Rootfs::layered(vec!["/l/2".into(), "/l/1".into()], "/u".into(), "/w".into());
    let mut spec = ContainerSpec::new("box", rootfs, vec!["sh".to_owned(), "-c".to_owned()]);
    spec.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    spec
}

/// The lines of a plan that have one of the words.
fn lines(plan: &Plan, words: &[&str]) -> String {
    let text = plan.to_string();
    let kept = text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    kept.map(|line| line.trim_start().to_owned() + "\n").collect::<Vec<_>>().concat()
}

#[test]
fn only_what_goes_away_is_not_synced() {
    let mounted = |spec: &ContainerSpec, facts: &HostFacts| {
        lines(&plan(spec, facts).expect("it is possible"), &["mount an overlay"])
    };
    let mut passing = spec();
    passing.rootfs.volatile = true;
    let old = HostFacts { kernel: (5, 9), ..root() };
    assert!(!mounted(&spec(), &root()).contains("volatile"));
    assert!(mounted(&passing, &root()).contains("volatile"));
    assert!(!mounted(&passing, &old).contains("volatile"), "the kernel does not know it");
}

#[test]
fn a_plan_says_all_that_will_be_done_and_in_which_order() {
    let plan = plan(&spec(), &root()).expect("it is possible");
    expect![[r#"
        container box
          namespaces: user mount pid network ipc uts cgroup
          user ids: 0 1879048192 268435456
          group ids: 0 1879048192 268435456
          from outside:
            mount an overlay of 2 layers, changes in /u, owners mapped redirect_dir=off metacopy=off index=off
            source 0: open /dev/null nosuid noexec
            source 1: open /dev/zero nosuid noexec
            source 2: open /dev/full nosuid noexec
            source 3: open /dev/random nosuid noexec
            source 4: open /dev/urandom nosuid noexec
            source 5: open /dev/tty nosuid noexec
          inside:
            become root of the container
            separate the container's mounts from the host's
            change to the container's root file system
            mount proc on /proc nosuid nodev noexec
            mount sysfs on /sys ro nosuid nodev noexec
            let go of the host's file system
            mount tmpfs on /dev mode=755 size=65536k nosuid nodev
            mount devpts on /dev/pts newinstance ptmxmode=0666 mode=0620 gid=5 nosuid noexec
            mount tmpfs on /dev/shm mode=1777 size=67108864 nosuid nodev noexec
            mount mqueue on /dev/mqueue nosuid nodev noexec
            mount source 0 on /dev/null
            mount source 1 on /dev/zero
            mount source 2 on /dev/full
            mount source 3 on /dev/random
            mount source 4 on /dev/urandom
            mount source 5 on /dev/tty
            link /dev/fd to /proc/self/fd
            link /dev/stdin to /proc/self/fd/0
            link /dev/stdout to /proc/self/fd/1
            link /dev/stderr to /proc/self/fd/2
            link /dev/core to /proc/kcore
            link /dev/ptmx to pts/ptmx
            switch on the loopback interface
            set net.ipv4.ip_unprivileged_port_start = 0
            set net.ipv4.ping_group_range = 0 268435455
            make read-only /proc/bus
            make read-only /proc/fs
            make read-only /proc/irq
            make read-only /proc/sys
            make read-only /proc/sysrq-trigger
            mask /proc/acpi
            mask /proc/asound
            mask /proc/interrupts
            mask /proc/kcore
            mask /proc/keys
            mask /proc/latency_stats
            mask /proc/sched_debug
            mask /proc/scsi
            mask /proc/timer_list
            mask /proc/timer_stats
            mask /sys/devices/virtual/powercap
            mask /sys/firmware
            set the host name box
            change to /
            drop capabilities outside 0xa00405fb
            become user 0, group 0, groups []
            keep capabilities 0xa00405fb
            give up new privileges
            install a system call filter of 209 instructions
            execute ["sh", "-c"]
    "#]].assert_eq(&plan.to_string());
}

#[test]
fn nothing_but_the_program_follows_the_filter() {
    for allow_new_privileges in [false, true] {
        let mut spec = spec();
        spec.no_new_privileges = !allow_new_privileges;
        let plan = plan(&spec, &root()).expect("it is possible");
        let steps = &plan.helper.container;
        let first = steps.iter().position(|step| matches!(step, Step::Bounding { .. }));
        let names: Vec<&str> =
            steps[first.expect("it is there")..].iter().map(Step::attempt).collect();
        let expected: &[&str] = if allow_new_privileges {
            &[
                "drop capabilities",
                "install the system call filter",
                "become the container's user",
                "set the capabilities",
                "execute",
            ]
        } else {
            &[
                "drop capabilities",
                "become the container's user",
                "set the capabilities",
                "give up new privileges",
                "install the system call filter",
                "execute",
            ]
        };
        assert_eq!(names, expected);
    }
}

#[test]
fn a_filter_is_left_out_only_when_asked_for() {
    let has_filter = |spec: &ContainerSpec| {
        let plan = plan(spec, &root()).expect("it is possible");
        plan.helper.container.iter().any(|step| matches!(step, Step::Seccomp { .. }))
    };
    let mut spec = spec();
    assert!(has_filter(&spec));
    spec.seccomp = Seccomp::Unconfined;
    assert!(!has_filter(&spec));
}

#[test]
fn an_ordinary_user_gets_a_namespace_below_the_own() {
    let mut spec = spec();
    spec.additional_gids = vec![5, 6];
    let words = ["notice", "namespaces", "ids", "overlay", "become", "ping"];
    let alone = plan(&spec, &user(1)).expect("it is possible");
    expect![[r#"
        notice: 2 supplementary groups were left out, since your user has no range of ids
        namespaces: user mount pid network ipc uts cgroup
        user ids: 0 0 1
        group ids: 0 0 1
        mount an overlay of 2 layers, changes in /u userxattr
        become root of the container
        set net.ipv4.ping_group_range = 0 0
        become user 0, group 0
    "#]]
    .assert_eq(&lines(&alone, &words));
    let ranged = plan(&spec, &user(65_537)).expect("it is possible");
    expect![[r#"
        namespaces: user mount pid network ipc uts cgroup
        user ids: 0 0 65537
        group ids: 0 0 65537
        mount an overlay of 2 layers, changes in /u userxattr
        become root of the container
        set net.ipv4.ping_group_range = 0 65536
        become user 0, group 0, groups [5, 6]
    "#]]
    .assert_eq(&lines(&ranged, &words));
    assert_eq!(alone.fallback, None, "there is nothing to map");
}

#[test]
fn what_takes_the_place_of_a_refused_user_namespace_says_so() {
    let plan = plan(&spec(), &root()).expect("it is possible");
    let fallback = plan.fallback.expect("whether owners can be mapped shows later");
    expect![[r#"
        notice: the container's root is the host's root, with fewer capabilities, since a file system of its layers or volumes cannot show other owners
        namespaces: mount pid network ipc uts cgroup
        mount an overlay of 2 layers, changes in /u redirect_dir=off metacopy=off index=off
        keep capabilities 0xa00405fb
    "#]].assert_eq(&lines(&fallback, &["notice", "namespaces", "ids", "overlay", "keep"]));
}

#[test]
fn old_kernels_get_layers_by_path_and_counted_processes_by_a_group_only() {
    let mut facts = root();
    let method = |facts: &HostFacts| match plan(&spec(), facts).expect("it is possible").helper.root
    {
        RootStep::Overlay(overlay) => overlay.method,
        RootStep::Joined { .. } | RootStep::Directory { .. } => unreachable!("there are layers"),
    };
    assert_eq!(method(&facts), OverlayMethod::Descriptors);
    facts.kernel = (6, 14);
    assert_eq!(method(&facts), OverlayMethod::Paths);
    let mut spec = spec();
    spec.resources.pids = Some(Limit::required(10));
    let counted = plan(&spec, &facts).expect("the user namespace counts them");
    expect![[r#"
        notice: the limit of 10 processes holds for each user of the container
        limit nproc to 10:10
    "#]]
    .assert_eq(&lines(&counted, &["notice", "nproc"]));
    facts.kernel = (5, 10);
    let error = plan(&spec, &facts).expect_err("it would count all of the host's");
    assert!(matches!(error, PlanError::LimitNotEnforceable { .. }), "{error}");
}

#[test]
fn a_limit_is_set_or_refused_or_told_of() {
    let mut spec = spec();
    spec.resources.memory_bytes = Some(Limit::required(64 << 20));
    let error = plan(&spec, &root()).expect_err("there are no control groups");
    assert!(matches!(error, PlanError::LimitNotEnforceable { limit: "memory", .. }), "{error}");
    assert!(error.hint().is_some());
    spec.resources.memory_bytes = Some(Limit::preferred(64 << 20));
    let plan = plan(&spec, &root()).expect("it was only liked");
    assert!(matches!(plan.notices.as_slice(), [Notice::LimitNotSet { limit: "memory", .. }]));
}

#[test]
fn a_limit_of_processes_is_raised_where_that_is_allowed() {
    let mut spec = spec();
    spec.rlimits = vec![Rlimit { kind: RlimitKind::OpenFiles, soft: 9000, hard: 10_000 }];
    let words = ["notice", "nofile"];
    let raised = plan(&spec, &root()).expect("it is possible");
    expect![[r#"
            raise the limit nofile to 10000
            limit nofile to 9000:10000
    "#]]
    .assert_eq(&lines(&raised, &words));
    let clamped = plan(&spec, &user(1)).expect("it is possible");
    expect![[r#"
        notice: limit `nofile` is 4096 instead of 10000, which this host does not give
        limit nofile to 4096:4096
    "#]]
    .assert_eq(&lines(&clamped, &words));
}

#[test]
fn settings_of_the_host_are_no_settings_of_a_container() {
    let refused = |name: &str, network| {
        let mut spec = spec();
        spec.network = network;
        spec.sysctls = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        matches!(plan(&spec, &root()), Err(PlanError::Sysctl { .. }))
    };
    for name in
        ["kernel.core_pattern", "vm.overcommit_memory", "fs.file-max", "kernel.shmmax/../panic"]
    {
        assert!(refused(name, Network::None), "{name}");
    }
    for name in ["net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max"] {
        assert!(!refused(name, Network::None), "{name}");
    }
    assert!(refused("net.ipv4.ip_forward", Network::Host));
    assert!(refused("net..ipv4", Network::None));
    assert!(refused("net/../kernel/core_pattern", Network::None));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    type Change = fn(&mut ContainerSpec);
    let bind = |source: &str, target: &str| {
        Mount::Bind(BindMount {
            source: PathBuf::from(source),
            target: PathBuf::from(target),
            readonly: false,
            recursive: false,
            options: BindOptions::default(),
        })
    };
    let changes: [Change; 16] = [
        |spec| spec.args.clear(),
        |spec| spec.id = "a/b".to_owned(),
        |spec| spec.id = "..".to_owned(),
        |spec| spec.args.push("a\0b".to_owned()),
        |spec| spec.env.push("=x".to_owned()),
        |spec| spec.cwd = PathBuf::from("relative"),
        |spec| spec.cwd = PathBuf::from("/a/../b"),
        |spec| spec.uid = u32::MAX,
        |spec| spec.additional_gids = vec![u32::MAX],
        |spec| spec.rootfs.work = None,
        |spec| spec.rootfs = Rootfs::in_memory(Vec::new()),
        |spec| spec.hostname = Some(String::new()),
        |spec| spec.oom_score_adj = Some(1001),
        |spec| spec.rlimits = vec![Rlimit { kind: RlimitKind::Core, soft: 2, hard: 1 }],
        |spec| spec.seccomp = Seccomp::Profile("{".to_owned()),
        |spec| spec.masked_paths.push(PathBuf::from("/")),
    ];
    let mut errors = String::new();
    for change in changes {
        let mut spec = spec();
        change(&mut spec);
        errors += &format!("{}\n", plan(&spec, &root()).expect_err("it cannot be"));
    }
    for mount in [bind("relative", "/x"), bind("/x", "/"), bind("/x", "/a/../..")] {
        let mut spec = spec();
        spec.mounts.push(mount);
        errors += &format!("{}\n", plan(&spec, &root()).expect_err("it cannot be"));
    }
    let mut spec = spec();
    spec.mounts = vec![bind("/x", "/y"); 300];
    errors += &format!("{}\n", plan(&spec, &root()).expect_err("it cannot be"));
    expect![[r#"
        no command was given and the image has none
        container id `a/b` has characters other than letters, digits, `_`, `.` and `-`
        container id `..` has characters other than letters, digits, `_`, `.` and `-`
        an argument has a NUL byte in it: "a\0b"
        variable `=x` is not of the form `NAME=value`
        working directory `relative` is not an absolute path
        working directory `/a/../b` has a `..` in it
        user 4294967295 is outside the 268435456 ids that are available here
        group 4294967295 is outside the 268435456 ids that are available here
        an upper directory needs a work directory beside it, and the other way round
        the root file system has no layer
        host name `` is empty or longer than 64 bytes
        the out-of-memory score limit is outside -1000 to 1000
        the soft limit of `core` is above its hard limit
        failed to understand the seccomp profile
        mount target `/` would hide the whole container
        mount source `relative` is not an absolute path
        mount target `/` would hide the whole container
        mount target `/a/../..` has a `..` in it
        306 mounts and devices are more than the 250 that a container can have
    "#]]
    .assert_eq(&errors);
}

#[test]
fn a_plan_survives_the_way_to_the_helper() {
    let mut spec = spec();
    spec.mounts.push(Mount::Bind(BindMount {
        source: PathBuf::from("/source"),
        target: PathBuf::from("/target"),
        readonly: true,
        recursive: true,
        options: BindOptions::default(),
    }));
    let plan = plan(&spec, &root()).expect("it is possible");
    let wire = serde_json::to_vec(&plan.helper).expect("JSON");
    let read: HelperPlan = serde_json::from_slice(&wire).expect("the same JSON");
    assert_eq!(read, plan.helper);
}

#[test]
fn an_id_that_means_no_change_to_the_kernel_is_refused_without_a_user_namespace_too() {
    let shared = ContainerSpec { user_namespace: UserNamespace::Host, ..spec() };
    for spec in [
        ContainerSpec { uid: u32::MAX, ..shared.clone() },
        ContainerSpec { gid: u32::MAX, ..shared.clone() },
        ContainerSpec { additional_gids: vec![u32::MAX], ..shared.clone() },
    ] {
        assert!(matches!(plan(&spec, &root()), Err(PlanError::UnmappedId { .. })));
    }
}

#[test]
fn a_further_program_has_the_same_limits_and_no_mounts() {
    let container = plan(&spec(), &root()).expect("it is possible");
    let mut another = spec();
    another.args = vec!["/bin/id".to_owned()];
    another.terminal = true;
    let namespaces = corten_sys::namespace::USER | corten_sys::namespace::MOUNT;
    let plan = plan_another(&container, &another, &root(), namespaces).expect("it is possible");
    let steps = &plan.helper.container;
    assert_eq!(steps.first(), Some(&Step::BecomeRoot));
    assert!(steps.contains(&Step::Terminal { uid: 0, console: false }));
    let is_of_rights = |step: &&Step| {
        matches!(
            step,
            Step::Bounding { .. }
                | Step::User { .. }
                | Step::Capabilities { .. }
                | Step::NoNewPrivileges
                | Step::Seccomp { .. }
        )
    };
    let rights = |plan: &Plan| -> Vec<Step> {
        plan.helper.container.iter().filter(is_of_rights).cloned().collect()
    };
    assert_eq!(rights(&plan), rights(&container));
    assert!(!steps.iter().any(|step| matches!(step, Step::Attach { .. } | Step::Mount { .. })));
    let of_caller = plan_another(&container, &another, &root(), 0).expect("it is possible");
    assert!(!of_caller.helper.container.contains(&Step::BecomeRoot));
}

#[test]
fn namespaces_of_others_are_joined_and_nothing_in_them_is_set_up() {
    let mut spec = spec();
    let of = |kind: &str| Namespace::Join(format!("/proc/7/ns/{kind}").into());
    spec.namespaces.pid = of("pid");
    spec.namespaces.network = of("net");
    spec.namespaces.ipc = of("ipc");
    spec.namespaces.uts = Namespace::Host;
    spec.shared_memory = SharedMemory::Of("/proc/7/ns/mnt".into());
    let words =
        ["namespaces:", "joins", "user ids", "/proc ", "/sys ", "/dev/mqueue", "/dev/shm", "make "];
    let shown = |spec: &ContainerSpec, facts: &HostFacts| match plan(spec, facts) {
        Ok(plan) => lines(&plan, &words),
        Err(error) => format!("{error}\n"),
    };
    spec.namespaces.pid = Namespace::New;
    expect![[r#"
        namespaces: user mount pid cgroup
        joins ipc: /proc/7/ns/ipc
        joins network: /proc/7/ns/net
        user ids: 0 1879048192 268435456
        source 0: make sysfs for /sys ro nosuid nodev noexec
        source 1: open /dev/shm in /proc/7/ns/mnt with the mounts below it nosuid nodev noexec
        source 2: make mqueue for /dev/mqueue nosuid nodev noexec
        mount proc on /proc nosuid nodev noexec
        mount source 1 on /dev/shm
        mount source 2 on /dev/mqueue
        make read-only /proc/bus
        make read-only /proc/fs
        make read-only /proc/irq
        make read-only /proc/sys
        make read-only /proc/sysrq-trigger
    "#]]
    .assert_eq(&shown(&spec, &root()));
    spec.namespaces.pid = of("pid");
    expect![[r#"
        the processes of others cannot be had together with users of the container's own
    "#]]
    .assert_eq(&shown(&spec, &root()));
    let users = vec![IdMapping { inside: 0, outside: 5000, count: 10 }];
    let path = PathBuf::from("/proc/7/ns/user");
    spec.user_namespace = UserNamespace::Join { path, users: users.clone(), groups: users };
    expect![[r#"
        namespaces: mount cgroup
        joins pid: /proc/7/ns/pid
        joins ipc: /proc/7/ns/ipc
        joins network: /proc/7/ns/net
        joins user: /proc/7/ns/user
        source 0: open /dev/shm in /proc/7/ns/mnt with the mounts below it nosuid nodev noexec
        mount proc on /proc nosuid nodev noexec
        mount sysfs on /sys ro nosuid nodev noexec
        mount source 0 on /dev/shm
        mount mqueue on /dev/mqueue nosuid nodev noexec
        make read-only /proc/bus
        make read-only /proc/fs
        make read-only /proc/irq
        make read-only /proc/sys
        make read-only /proc/sysrq-trigger
    "#]]
    .assert_eq(&shown(&spec, &root()));
    spec.user_namespace = UserNamespace::Container("other".to_owned());
    expect![[r#"
        container `other`, whose namespaces are to be shared, was not looked up
    "#]]
    .assert_eq(&shown(&spec, &root()));
}

#[test]
fn the_hosts_namespaces_are_looked_at_and_not_made() {
    let mut spec = spec();
    spec.network = Network::Host;
    spec.namespaces.pid = Namespace::Host;
    spec.namespaces.ipc = Namespace::Host;
    spec.namespaces.cgroup = Namespace::Host;
    spec.shared_memory = SharedMemory::Host;
    let words = [
        "notice",
        "namespaces:",
        "source",
        "/proc ",
        "/sys ",
        "/dev/mqueue",
        "/dev/shm",
        "set net",
    ];
    for facts in [root(), user(10)] {
        let plan = plan(&spec, &facts).expect("it is possible");
        let shown = lines(&plan, &words);
        let usual = |line: &&str| DEVICES.iter().all(|name| !line.contains(name));
        let shown: Vec<&str> = shown.lines().filter(usual).collect();
        let text = shown.join("\n") + "\n";
        if facts.is_rootless() {
            expect![[r#"
                notice: programs that the container's first one leaves behind go on after its end, since this host has no control groups mounted
                namespaces: user mount uts
                source 0: open /proc with the mounts below it nosuid nodev noexec
                source 1: open /sys with the mounts below it ro nosuid nodev noexec
                source 2: open /dev/shm with the mounts below it nosuid nodev noexec
                mount source 0 on /proc
                mount source 1 on /sys
                mount source 2 on /dev/shm
            "#]]
            .assert_eq(&text);
        } else {
            expect![[r#"
                notice: programs that the container's first one leaves behind go on after its end, since this host has no control groups mounted
                namespaces: user mount uts
                source 0: make proc for /proc nosuid nodev noexec
                source 1: open /sys with the mounts below it ro nosuid nodev noexec
                source 2: open /dev/shm with the mounts below it, owners mapped nosuid nodev noexec
                source 3: make mqueue for /dev/mqueue nosuid nodev noexec
                mount source 0 on /proc
                mount source 1 on /sys
                mount source 2 on /dev/shm
                mount source 3 on /dev/mqueue
            "#]]
            .assert_eq(&text);
        }
    }
}

/// What every container has.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "random", "/dev/tty"];

#[test]
fn ids_may_be_chosen_as_far_as_files_can_be_shown() {
    let maps = |list: &[(u32, u32, u32)]| -> Vec<IdMapping> {
        let map = |&(inside, outside, count)| IdMapping { inside, outside, count };
        list.iter().map(map).collect()
    };
    let shown = |facts: &HostFacts, list: &[(u32, u32, u32)], keep_owners: bool| {
        let mut spec = spec();
        spec.uid = 1;
        spec.rootfs.keep_owners = keep_owners;
        spec.user_namespace = UserNamespace::Maps { users: maps(list), groups: maps(list) };
        match plan(&spec, facts) {
            Ok(plan) => {
                assert!(plan.fallback.is_none(), "who chose ids wants those");
                lines(&plan, &["user ids", "overlay"])
            }
            Err(error) => format!("{error}\n"),
        }
    };
    // As an ordinary user has them: the own id, then those of a range.
    let own = |first, outside, count| IdRange { first, outside, count };
    let two = vec![own(0, 1000, 1), own(1, 100_000, 10)];
    let ids = Ids::Given { users: two.clone(), groups: two, setgroups: true };
    let ranges = HostFacts { ids, ..user(10) };
    let table = [
        shown(&root(), &[(0, 100_000, 1), (1, 300_000, 5)], false),
        shown(&root(), &[(0, 100_000, 1), (1, 300_000, 5)], true),
        shown(&root(), &[(0, 100_000, 1)], false),
        shown(&root(), &[(1, 100_000, 1)], false),
        shown(&user(10), &[(0, 0, 5)], false),
        shown(&user(10), &[(0, 1, 1), (1, 0, 1)], false),
        shown(&user(10), &[(0, 1, 1), (1, 0, 1)], true),
        shown(&user(10), &[(0, 5, 10)], true),
        shown(&ranges, &[(0, 0, 5)], false),
        shown(&ranges, &[(0, 0, 12)], false),
    ];
    expect![[r#"
        user ids: 0 100000 1, 1 300000 5
        mount an overlay of 2 layers, changes in /u, owners mapped redirect_dir=off metacopy=off index=off
        user ids: 0 100000 1, 1 300000 5
        mount an overlay of 2 layers, changes in /u redirect_dir=off metacopy=off index=off
        user 1 is outside the 1 ids that are available here
        the user ids have no 0, which files of the system belong to
        user ids: 0 0 5
        mount an overlay of 2 layers, changes in /u userxattr
        an ordinary user's files cannot be shown under other ids, which these maps need
        user ids: 0 1 1, 1 0 1
        mount an overlay of 2 layers, changes in /u userxattr
        user 14 is outside the 10 ids that are available here
        user ids: 0 0 1, 1 1 4
        mount an overlay of 2 layers, changes in /u userxattr
        user 11 is outside the 11 ids that are available here
    "#]]
    .assert_eq(&table.concat());
}

#[test]
fn what_excludes_each_other_is_refused() {
    let refused = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = spec();
        change(&mut spec);
        let error = plan(&spec, &root()).expect_err("it cannot be had");
        format!("{error}; {}\n", error.hint().unwrap_or_default())
    };
    let join = || Namespace::Join("/x".into());
    let shared = |spec: &mut ContainerSpec| {
        let options = BindOptions { propagation: Propagation::Shared, ..BindOptions::default() };
        spec.mounts = vec![Mount::Bind(BindMount {
            source: "/a".into(),
            target: "/b".into(),
            readonly: false,
            recursive: true,
            options,
        })];
    };
    let table = [
        refused(&|spec| {
            spec.namespaces.uts = Namespace::Host;
            spec.hostname = Some("a".to_owned());
        }),
        refused(&|spec| {
            spec.namespaces.network = join();
            spec.network = Network::Default;
        }),
        refused(&|spec| spec.shared_memory = SharedMemory::Host),
        refused(&shared),
        refused(&|spec| {
            spec.sysctls.insert("vm.swappiness".to_owned(), "1".to_owned());
        }),
        refused(&|spec| {
            spec.network = Network::Host;
            spec.sysctls.insert("net.core.somaxconn".to_owned(), "1".to_owned());
        }),
    ];
    expect![[r#"
        a host name cannot be had together with the host name of others; 
        a network or published ports cannot be had together with the network of others; 
        the shared memory of others cannot be had together with messages of one's own; 
        mounts of `/a` cannot be shared with the host: the container has users of its own, or is an ordinary user's; use `rslave`, with which mounts of the host reach the container
        kernel setting `vm.swappiness` cannot be set for a container: it holds for the whole machine; set it on the host, with `sysctl` as root, if all may have it
        kernel setting `net.core.somaxconn` cannot be set for a container: its networks are the host's; leave out `--network host`
    "#]]
    .assert_eq(&table.concat());
    let mut spec = spec();
    spec.user_namespace = UserNamespace::Host;
    shared(&mut spec);
    let plan = plan(&spec, &root()).expect("root of the host may");
    assert_eq!(
        lines(&plan, &["open /a"]),
        "source 6: open /a with the mounts below it, shared nodev\n"
    );
}

#[test]
fn a_container_with_more_power_is_not_made_root_of_the_host() {
    let mut spec = spec();
    assert!(plan(&spec, &root()).expect("it is possible").fallback.is_some());
    spec.capabilities.insert(crate::capability::Capability::SysAdmin);
    assert!(plan(&spec, &root()).expect("it is possible").fallback.is_none());
}

/// A machine with control groups of either version that may be used.
fn with_groups(is_v2: bool) -> HostFacts {
    let names = ["memory", "cpu", "cpuset", "pids", "devices", "blkio", "io"];
    let cgroups = if is_v2 {
        CgroupFacts::V2 {
            parent: "/sys/fs/cgroup".into(),
            writable: true,
            manager: None,
            controllers: names.map(str::to_owned).into(),
        }
    } else {
        let controller = |name: &str| crate::cgroup::V1Controller {
            parent: format!("/sys/fs/cgroup/{name}").into(),
            hierarchy: name.to_owned(),
            writable: true,
        };
        let controllers = names.map(|name| (name.to_owned(), controller(name)));
        CgroupFacts::V1 { controllers: controllers.into() }
    };
    HostFacts { cgroups, ..root() }
}

#[test]
fn limits_have_the_words_of_each_version() {
    use crate::resources::{BlockLimit, BlockLimitKind};
    let mut spec = spec();
    let limits = &mut spec.resources;
    limits.memory_bytes = Some(Limit::required(64 << 20));
    limits.memory_swap_bytes = Some(Limit::required(u64::MAX));
    limits.memory_reservation_bytes = Some(Limit::required(32 << 20));
    limits.cpu_quota_us = Some(Limit::required(50_000));
    limits.cpu_period_us = Some(Limit::required(200_000));
    limits.cpuset = Some(Limit::required("0-1".to_owned()));
    limits.memory_nodes = Some(Limit::required("0".to_owned()));
    limits.block_weight = Some(Limit::required(1000));
    limits.block_limits = vec![
        BlockLimit { kind: BlockLimitKind::ReadBytes, major: 8, minor: 0, value: 1 << 20 },
        BlockLimit { kind: BlockLimitKind::WriteOperations, major: 8, minor: 0, value: 100 },
    ];
    spec.cgroup_parent = Some("/batch".to_owned());
    let groups = |facts: &HostFacts| {
        let plan = plan(&spec, facts).expect("it is possible");
        let parents: Vec<_> =
            plan.cgroup.groups.iter().map(|group| group.parent.display().to_string()).collect();
        lines(&plan, &["control group"]) + &parents.join(" ") + "\n"
    };
    expect![[r#"
        control group: blkio.weight = 1000, blkio.throttle.read_bps_device = 8:0 1048576, blkio.throttle.write_iops_device = 8:0 100
        control group: cpu.cfs_period_us = 200000, cpu.cfs_quota_us = 50000
        control group: cpuset.cpus = 0-1, cpuset.mems = 0
        control group: memory.limit_in_bytes = 67108864, memory.memsw.limit_in_bytes = -1, memory.soft_limit_in_bytes = 33554432
        wait for the control groups and the network
        /sys/fs/cgroup/blkio/batch /sys/fs/cgroup/cpu/batch /sys/fs/cgroup/cpuset/batch /sys/fs/cgroup/memory/batch
    "#]].assert_eq(&groups(&with_groups(false)));
    expect![[r#"
        control group: memory.max = 67108864, memory.swap.max = max, memory.low = 33554432, cpu.max = 50000 200000, cpuset.cpus = 0-1, cpuset.mems = 0, io.weight = 10000, io.max = 8:0 rbps=1048576, io.max = 8:0 wiops=100
        wait for the control groups and the network
        /sys/fs/cgroup/batch
    "#]].assert_eq(&groups(&with_groups(true)));
}

#[test]
fn what_only_one_version_knows_is_refused_by_the_other() {
    let refused = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = spec();
        change(&mut spec);
        let told = |facts: &HostFacts| match plan(&spec, facts) {
            Ok(plan) => lines(&plan, &["control group"]),
            Err(error) => format!("{error}\n"),
        };
        told(&with_groups(false)) + &told(&with_groups(true))
    };
    let table = [
        refused(&|spec| spec.resources.memory_swappiness = Some(Limit::required(10))),
        refused(&|spec| spec.resources.oom_kill_disabled = Some(Limit::required(()))),
        refused(&|spec| spec.resources.memory_swappiness = Some(Limit::required(101))),
        refused(&|spec| spec.resources.block_weight = Some(Limit::required(5))),
        refused(&|spec| spec.resources.cpu_period_us = Some(Limit::required(5))),
        refused(&|spec| spec.cgroup_parent = Some("/a/../b".to_owned())),
    ];
    expect![[r#"
        control group: memory.swappiness = 10
        wait for the control groups and the network
        the swappiness limit cannot be set here: cgroup v2 does not know it
        control group: memory.oom_control = 1
        wait for the control groups and the network
        the out-of-memory limit cannot be set here: cgroup v2 does not know it
        the swappiness limit is outside 0 to 100
        the swappiness limit is outside 0 to 100
        the disk weight limit is outside 10 to 1000
        the disk weight limit is outside 10 to 1000
        the processor limit is of a period outside 1 ms to 1 s
        the processor limit is of a period outside 1 ms to 1 s
        control group `/a/../b` is no path such as `/batch/night`
        control group `/a/../b` is no path such as `/batch/night`
    "#]]
    .assert_eq(&table.concat());
}

#[test]
fn devices_are_limited_where_somebody_asked_for_less() {
    use crate::cgroup::{DeviceAccess, DeviceKind};
    use crate::spec::{Device, DeviceNumber};
    let mut spec = spec();
    let number = DeviceNumber { kind: DeviceKind::Block, major: 8, minor: 0 };
    let of = |access: &str| Device {
        access: DeviceAccess::parse(access).expect("letters"),
        number: Some(number),
        ..Device::new("/dev/sda")
    };
    let shown = |spec: &ContainerSpec, facts: &HostFacts| {
        let plan = plan(spec, facts).expect("it is possible");
        let program = plan.cgroup.groups.iter().any(|group| group.device_program.is_some());
        (lines(&plan, &["control group", "notice"]), program)
    };
    spec.devices = vec![of("rwm")];
    assert_eq!(shown(&spec, &with_groups(false)), (String::new(), false), "nothing is limited");
    spec.devices = vec![of("r")];
    let (lines, program) = shown(&spec, &with_groups(false));
    assert!(lines.contains("devices.deny = a *:* rwm,"), "{lines}");
    assert!(lines.contains("devices.allow = b 8:0 r, devices.deny = b 8:0 w\n"), "{lines}");
    assert!(!program);
    assert!(shown(&spec, &with_groups(true)).1);
    let rootless = HostFacts { ids: user(10).ids, ..with_groups(true) };
    let (lines, program) = shown(&spec, &rootless);
    assert!(lines.contains("only root may give the kernel a program") && !program, "{lines}");
    spec.all_devices = true;
    assert_eq!(shown(&spec, &with_groups(false)), (String::new(), false));
}
