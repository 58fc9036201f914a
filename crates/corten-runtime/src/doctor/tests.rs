//! Hosts of every kind, judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use expect_test::{Expect, expect};

use super::facts::{kernel_version, library_version, name_servers};
use super::*;
use crate::cgroup::CgroupFacts;

/// A server of today with everything, as root.
fn good() -> Facts {
    let controllers: BTreeSet<String> = ["memory", "cpu", "pids"].map(str::to_owned).into();
    Facts {
        is_root: true,
        release: "6.18.1-generic".to_owned(),
        kernel: (6, 18),
        user_namespace: Ok(()),
        user_namespace_settings: BTreeMap::new(),
        ids: Some(Ids::Root),
        overlay: Some(Ok(())),
        mapped_mounts: Some(Ok(())),
        namespaces: Ok(()),
        process_handles: Ok(()),
        beneath: Ok(()),
        has_seccomp: true,
        security_modules: Some(vec!["capability".to_owned(), "landlock".to_owned()]),
        cgroups: CgroupFacts::V2 {
            parent: "/sys/fs/cgroup".into(),
            writable: true,
            controllers,
            manager: None,
        },
        is_hybrid: false,
        network_obstacles: Vec::new(),
        packet_filter: Some(Ok(())),
        forwarding: true,
        dropping_chain: None,
        fuse: Ok(()),
        emulated: vec!["qemu-aarch64".to_owned()],
        unusable_emulators: Vec::new(),
        driver: Driver::default(),
        store: PathBuf::from("/var/lib/corten"),
        file_system: "ext4".to_owned(),
        space: Some(Space {
            free_bytes: 50 << 30,
            total_bytes: 100 << 30,
            free_inodes: 1_000_000,
            total_inodes: 2_000_000,
        }),
        name_servers: vec!["192.0.2.1".to_owned()],
        now: 1_800_000_000,
        open_files: (1024, 524_288),
    }
}

/// The checks that are not fine, as lines.
fn check(facts: &Facts, expected: &Expect) {
    let mut text = String::new();
    for Check { name, verdict, found, remedy } in judge(facts) {
        if verdict != Verdict::Ok {
            let remedy = remedy.unwrap_or_default();
            text.push_str(&format!("{verdict:?} {name}: {found}\n  {remedy}\n"));
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn a_good_host_has_nothing_to_be_told() {
    check(&good(), &expect![[""]]);
    let names: Vec<&str> = judge(&good()).iter().map(|check| check.name).collect();
    expect!["kernel user-namespaces ids namespaces pidfd openat2 overlay mapped-mounts seccomp landlock cgroups network fuse emulation store disk inodes names clock limits"].assert_eq(&names.join(" "));
}

#[test]
fn an_ordinary_user_of_a_bare_machine_is_told_everything_at_once() {
    let facts = Facts {
        is_root: false,
        ids: Some(Ids::Single {
            reason: "the program `newuidmap` is not installed".to_owned(),
            remedy: "`sudo apt-get install uidmap`".to_owned(),
        }),
        mapped_mounts: None,
        packet_filter: None,
        cgroups: CgroupFacts::V2 {
            parent: "/sys/fs/cgroup/user.slice".into(),
            writable: false,
            controllers: BTreeSet::new(),
            manager: None,
        },
        network_obstacles: vec![("no program".to_owned(), "install it".to_owned())],
        fuse: Err("Permission denied (os error 13)".to_owned()),
        ..good()
    };
    check(
        &facts,
        &expect![[r#"
        Warning ids: one id only: the program `newuidmap` is not installed; apt and `useradd` do not work in images then
          `sudo apt-get install uidmap`
        Warning cgroups: version 2, not delegated to this user: `--memory`, `--cpus` and `--pids-limit` are refused
          log in by systemd, or run within `systemd-run --user --scope -p Delegate=yes`
        Warning network: containers have no way out: no program
          install it
    "#]],
    );
}

#[test]
fn what_keeps_users_from_namespaces_is_named() {
    let with = |name: &str, value: &str| Facts {
        is_root: false,
        user_namespace: Err("failed to make a user namespace".to_owned()),
        user_namespace_settings: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ids: None,
        overlay: None,
        mapped_mounts: None,
        ..good()
    };
    check(
        &with("kernel.unprivileged_userns_clone", "0"),
        &expect![[r#"
        Error user-namespaces: cannot be made: failed to make a user namespace
          `sudo sysctl -w kernel.unprivileged_userns_clone=1`, and the same line in `/etc/sysctl.d/`
    "#]],
    );
    check(
        &with("kernel.apparmor_restrict_unprivileged_userns", "1"),
        &expect![[r#"
        Error user-namespaces: cannot be made: failed to make a user namespace
          `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, and the same line in `/etc/sysctl.d/`; or an AppArmor profile for `corten` with `userns,`
    "#]],
    );
    check(
        &with("user.max_user_namespaces", "0"),
        &expect![[r#"
        Error user-namespaces: cannot be made: failed to make a user namespace
          `sudo sysctl -w user.max_user_namespaces=15000`, and the same line in `/etc/sysctl.d/`
    "#]],
    );
    check(
        &with("user.max_user_namespaces", "100"),
        &expect![[r#"
        Error user-namespaces: cannot be made: failed to make a user namespace
          a kernel with `CONFIG_USER_NS`; in a container, one that may make namespaces
    "#]],
    );
}

#[test]
fn old_kernels_and_odd_file_systems_are_told() {
    let facts = Facts {
        kernel: (4, 19),
        release: "4.19.0".to_owned(),
        overlay: Some(Err("Invalid argument (os error 22)".to_owned())),
        mapped_mounts: Some(Err("Function not implemented (os error 38)".to_owned())),
        file_system: "nfs4".to_owned(),
        has_seccomp: false,
        security_modules: Some(vec!["apparmor".to_owned()]),
        cgroups: CgroupFacts::None,
        ..good()
    };
    check(
        &facts,
        &expect![[r#"
        Error kernel: Linux 4.19.0 is older than 5.8
          a newer kernel: that of a distribution of 2023 or later
        Error overlay: does not work on /var/lib/corten (nfs4): Invalid argument (os error 22)
          a store on a local file system such as ext4, xfs or btrfs: `--root DIR`, or `root = "DIR"` in the configuration
        Warning mapped-mounts: files cannot be shown under a container's ids (Function not implemented (os error 38)): its root is the host's then
          Linux 5.12 or newer, and a file system such as ext4, xfs, btrfs or tmpfs
        Error seccomp: the kernel cannot filter system calls
          a kernel with `CONFIG_SECCOMP_FILTER`, or `--security-opt seccomp=unconfined` each time
        Warning landlock: the kernel has the security modules apparmor only
          `landlock` in the kernel's `lsm=` parameter; containers run without it as well
        Warning cgroups: none are mounted: `--memory`, `--cpus` and `--pids-limit` are refused
          `sudo mount -t cgroup2 none /sys/fs/cgroup`
    "#]],
    );
    let facts = Facts {
        process_handles: Err("Function not implemented (os error 38)".to_owned()),
        cgroups: CgroupFacts::V1 { controllers: BTreeMap::new() },
        is_hybrid: true,
        file_system: "tmpfs".to_owned(),
        ..good()
    };
    check(
        &facts,
        &expect![[r#"
        Error pidfd: handles of processes cannot be had: Function not implemented (os error 38)
          a newer kernel; in a container, one whose system call filter allows it
        Warning cgroups: version 1, version 2 beside it: no limits of memory, cpu, pids
          mount the controllers, or boot with `systemd.unified_cgroup_hierarchy=1`
        Warning store: /var/lib/corten on tmpfs: it is gone after a boot, and takes memory
          a store on a disk: `--root DIR`, or `root = "DIR"` in the configuration
    "#]],
    );
}

#[test]
fn networks_that_lead_nowhere_are_told() {
    let facts = Facts {
        packet_filter: Some(Err("Operation not permitted (os error 1)".to_owned())),
        dropping_chain: Some("FORWARD of the table filter".to_owned()),
        name_servers: Vec::new(),
        unusable_emulators: vec!["qemu-arm".to_owned()],
        ..good()
    };
    check(
        &facts,
        &expect![[r#"
        Warning network: the packet filter does not answer (Operation not permitted (os error 1)): no bridge, no published ports
          `sudo modprobe nf_tables`, or `--network host` and `none` alone
        Warning firewall: the chain FORWARD of the table filter drops what is passed on, and so what containers send
          let the bridge through: `sudo iptables -I FORWARD -i corten0 -j ACCEPT` and the same with `-o`
        Warning emulation: the emulator `qemu-arm` is switched off, or is looked for in the image
          `sudo corten system emulation --register`
        Warning names: `/etc/resolv.conf` names no server: containers look up no names
          a line such as `nameserver 192.0.2.1` with your network's server
    "#]],
    );
}

#[test]
fn gpus_and_their_descriptions_must_fit() {
    let with =
        |nodes: &[&str], version: Option<&str>, described: &[&str], of: &[(&str, &str)]| Facts {
            driver: Driver {
                nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
                version: version.map(str::to_owned),
                described: described.iter().map(|name| (*name).to_owned()).collect(),
                described_versions: of
                    .iter()
                    .map(|(file, version)| ((*file).to_owned(), (*version).to_owned()))
                    .collect(),
                problems: Vec::new(),
            },
            ..good()
        };
    let (node, device) = (["/dev/nvidia0"].as_slice(), ["nvidia.com/gpu=0"].as_slice());
    let file = "/etc/cdi/nvidia.yaml";
    check(&with(node, Some("550.54.14"), device, &[(file, "550.54.14")]), &expect![[""]]);
    check(
        &with(node, Some("560.35.03"), device, &[(file, "550.54.14")]),
        &expect![[r#"
        Warning cdi: /etc/cdi/nvidia.yaml is for the driver 550.54.14, and 560.35.03 runs
          `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`
    "#]],
    );
    check(
        &with(node, Some("560.35.03"), &[], &[]),
        &expect![[r#"
        Warning gpu: driver 560.35.03, 1 GPUs, and no description of them
          `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`
    "#]],
    );
    check(
        &with(node, None, &[], &[]),
        &expect![[r#"
        Warning gpu: there are nodes of an NVIDIA GPU, and no driver runs
          `sudo modprobe nvidia`, or install the driver
    "#]],
    );
    check(
        &with(&[], Some("560.35.03"), &[], &[]),
        &expect![[r#"
        Warning gpu: NVIDIA's driver 560.35.03 runs, and there is no node of a GPU
          `nvidia-smi` makes them, or says what is wrong
    "#]],
    );
}

#[test]
fn a_full_disk_and_a_wrong_clock_are_told() {
    let facts = Facts {
        space: Some(Space {
            free_bytes: 1 << 30,
            total_bytes: 100 << 30,
            free_inodes: 10,
            total_inodes: 100,
        }),
        now: 5,
        open_files: (256, 512),
        ..good()
    };
    check(
        &facts,
        &expect![[r#"
        Warning disk: 1.0 GiB free of 100.0 GiB
          `corten system prune --all` removes what can be made again
        Warning inodes: 10 free of 100
          `corten system prune --all` removes what can be made again
        Warning clock: it is 1970-01-01T00:00:05Z here: no server's certificate is valid yet
          set the clock: `sudo timedatectl set-ntp true`
        Warning limits: 256 open files, 512 at most
          `nofile` in `/etc/security/limits.conf`, or `LimitNOFILE=` of the unit
    "#]],
    );
    let facts = Facts {
        space: facts.space.map(|space| Space {
            free_bytes: 5 << 30,
            total_inodes: 0,
            free_inodes: 0,
            ..space
        }),
        ..good()
    };
    check(&facts, &expect![[""]]);
}

#[test]
fn versions_and_servers_are_found_in_their_files() {
    let text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC 12.2";
    assert_eq!(kernel_version(text).as_deref(), Some("550.54.14"));
    let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build";
    assert_eq!(kernel_version(open).as_deref(), Some("560.35.03"));
    assert_eq!(kernel_version(""), None);
    let spec =
        "hostPath: /usr/lib/libcuda.so.1\n- hostPath: /usr/lib/x86_64/libcuda.so.550.54.14\n";
    assert_eq!(library_version(spec).as_deref(), Some("550.54.14"));
    assert_eq!(library_version("libcuda.so.1"), None);
    assert_eq!(
        name_servers("# x\nsearch a\nnameserver 192.0.2.1 \n nameserver ::1\nnameserver\n"),
        ["192.0.2.1", "::1"]
    );
}

#[test]
fn this_host_can_be_looked_at_without_leaving_anything() {
    let scratch = corten_testkit::TempDir::new();
    let registry = crate::cdi::Registry::new(Vec::new());
    // Threads of the test harness keep it from trying; what is only read is there all the same.
    let found = Facts::gather(scratch.path(), &registry);
    assert!(found.is_err() || found.is_ok_and(|facts| facts.kernel > (4, 0)));
    assert_eq!(
        corten_sys::file::list_dir(scratch.path()).unwrap(),
        Vec::<std::ffi::OsString>::new()
    );
}
