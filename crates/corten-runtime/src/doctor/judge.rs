//! From facts to advice. Pure.

use serde::Serialize;

use super::facts::{Facts, Ids, Tried};
use crate::cgroup::CgroupFacts;

/// Descriptors of a monitor, and of programs that do not expect less.
const OPEN_FILES_MIN: u64 = 1024;

/// Below this an image of some size does not fit any more.
const FREE_BYTES_MIN: u64 = 2 << 30;

/// A small Debian has so many files.
const FREE_INODES_MIN: u64 = 20_000;

/// 2025: certificates of today are not valid yet before it.
const TIME_MIN: i64 = 1_735_689_600;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Something does not work, or worse than it could; containers run.
    Warning,
    /// Containers cannot run.
    Error,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable name.
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (found, remedy) = (found.into(), Some(remedy.into()));
        Self { name, verdict: Verdict::Warning, found, remedy }
    }

    fn error(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Error, ..Self::warning(name, found, remedy) }
    }
}

/// Judges a host.
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![kernel(facts), user_namespaces(facts)];
    checks.extend(ids(facts));
    checks.push(needed(
        "namespaces",
        "process, mount, network and other namespaces",
        &facts.namespaces,
    ));
    checks.push(needed("pidfd", "handles of processes", &facts.process_handles));
    checks.push(needed("openat2", "paths resolved beneath a directory", &facts.beneath));
    checks.extend(overlay(facts));
    checks.extend(mapped_mounts(facts));
    checks.push(seccomp(facts));
    checks.extend(landlock(facts));
    checks.push(cgroups(facts));
    checks.extend(network(facts));
    checks.push(fuse(facts));
    checks.push(emulators(facts));
    checks.extend(gpu(facts));
    checks.push(store(facts));
    checks.extend(space(facts));
    checks.push(names(facts));
    checks.push(clock(facts));
    checks.push(open_files(facts));
    checks
}

fn kernel(facts: &Facts) -> Check {
    let release = format!("Linux {}", facts.release);
    let newer = "a newer kernel: that of a distribution of 2023 or later";
    match facts.kernel {
        (5, minor) if minor < 8 => {
            Check::error("kernel", format!("{release} is older than 5.8"), newer)
        }
        (major, _) if major < 5 => {
            Check::error("kernel", format!("{release} is older than 5.8"), newer)
        }
        found if found < (5, 12) => Check::warning(
            "kernel",
            format!(
                "{release} is older than 5.12: no mapped mounts, no overlay for ordinary users before 5.11"
            ),
            newer,
        ),
        found if found < (6, 15) => Check::ok(
            "kernel",
            format!("{release}; layers are named by path, by descriptor from 6.15 on"),
        ),
        _ => Check::ok("kernel", release),
    }
}

fn user_namespaces(facts: &Facts) -> Check {
    const NAME: &str = "user-namespaces";
    let Err(error) = &facts.user_namespace else {
        return Check::ok(NAME, "can be made");
    };
    let is = |name: &str, value: &str| {
        facts.user_namespace_settings.get(name).is_some_and(|found| found == value)
    };
    let remedy = if is("kernel.unprivileged_userns_clone", "0") {
        "`sudo sysctl -w kernel.unprivileged_userns_clone=1`, and the same line in `/etc/sysctl.d/`"
    } else if is("kernel.apparmor_restrict_unprivileged_userns", "1") {
        "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, and the same line in \
         `/etc/sysctl.d/`; or an AppArmor profile for `corten` with `userns,`"
    } else if is("user.max_user_namespaces", "0") {
        "`sudo sysctl -w user.max_user_namespaces=15000`, and the same line in `/etc/sysctl.d/`"
    } else {
        "a kernel with `CONFIG_USER_NS`; in a container, one that may make namespaces"
    };
    Check::error(NAME, format!("cannot be made: {error}"), remedy)
}

fn ids(facts: &Facts) -> Option<Check> {
    const NAME: &str = "ids";
    match facts.ids.as_ref()? {
        Ids::Root => Some(Check::ok(NAME, "containers have a range of their own")),
        Ids::Ranges { users, groups } => {
            let found = format!("{users} user ids and {groups} group ids besides the own one");
            // Debian's range for one user: what images expect.
            Some(if *users.min(groups) < 65_535 {
                let remedy = "a range of 65536 in `/etc/subuid` and `/etc/subgid`: `sudo usermod \
                              --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"`";
                Check::warning(NAME, format!("only {found}"), remedy)
            } else {
                Check::ok(NAME, found)
            })
        }
        Ids::Single { reason, remedy } => {
            let found =
                format!("one id only: {reason}; apt and `useradd` do not work in images then");
            Some(Check::warning(NAME, found, remedy.clone()))
        }
    }
}

fn needed(name: &'static str, what: &str, tried: &Tried) -> Check {
    match tried {
        Ok(()) => Check::ok(name, what),
        Err(error) => Check::error(
            name,
            format!("{what} cannot be had: {error}"),
            "a newer kernel; in a container, one whose system call filter allows it",
        ),
    }
}

fn overlay(facts: &Facts) -> Option<Check> {
    const NAME: &str = "overlay";
    let on = format!("{} ({})", facts.store.display(), facts.file_system);
    Some(match facts.overlay.as_ref()? {
        Ok(()) => Check::ok(NAME, format!("works on {on}")),
        Err(error) => {
            let remedy = match facts.file_system.as_str() {
                "nfs" | "nfs4" | "cifs" | "overlay" | "fuse" | "vfat" | "ecryptfs" => {
                    "a store on a local file system such as ext4, xfs or btrfs: `--root DIR`, or \
                     `root = \"DIR\"` in the configuration"
                }
                "xfs" => "an xfs that was made with `ftype=1`, or a store elsewhere: `--root DIR`",
                _ if facts.kernel < (5, 11) && !facts.is_root => "Linux 5.11 or newer",
                _ => {
                    "`sudo modprobe overlay`; and a store in a directory that you may write: `--root DIR`"
                }
            };
            Check::error(NAME, format!("does not work on {on}: {error}"), remedy)
        }
    })
}

fn mapped_mounts(facts: &Facts) -> Option<Check> {
    const NAME: &str = "mapped-mounts";
    Some(match facts.mapped_mounts.as_ref()? {
        Ok(()) => Check::ok(NAME, "files can be shown under a container's ids"),
        Err(error) => Check::warning(
            NAME,
            format!(
                "files cannot be shown under a container's ids ({error}): its root is the host's then"
            ),
            "Linux 5.12 or newer, and a file system such as ext4, xfs, btrfs or tmpfs",
        ),
    })
}

fn seccomp(facts: &Facts) -> Check {
    if facts.has_seccomp {
        return Check::ok("seccomp", "system calls can be filtered");
    }
    let remedy =
        "a kernel with `CONFIG_SECCOMP_FILTER`, or `--security-opt seccomp=unconfined` each time";
    Check::error("seccomp", "the kernel cannot filter system calls", remedy)
}

/// Not needed: what it would add is told where the kernel tells.
fn landlock(facts: &Facts) -> Option<Check> {
    let modules = facts.security_modules.as_ref()?;
    Some(if modules.iter().any(|name| name == "landlock") {
        Check::ok("landlock", "programs can be kept to their files")
    } else {
        Check::warning(
            "landlock",
            format!("the kernel has the security modules {} only", modules.join(", ")),
            "`landlock` in the kernel's `lsm=` parameter; containers run without it as well",
        )
    })
}

fn cgroups(facts: &Facts) -> Check {
    const NAME: &str = "cgroups";
    let limits = "`--memory`, `--cpus` and `--pids-limit`";
    let hybrid = if facts.is_hybrid { ", version 2 beside it" } else { "" };
    match &facts.cgroups {
        CgroupFacts::None => Check::warning(
            NAME,
            format!("none are mounted: {limits} are refused"),
            "`sudo mount -t cgroup2 none /sys/fs/cgroup`",
        ),
        CgroupFacts::V1 { controllers } => {
            let wanted = ["memory", "cpu", "pids"];
            let missing: Vec<&str> = wanted
                .into_iter()
                .filter(|name| !controllers.get(*name).is_some_and(|found| found.writable))
                .collect();
            if missing.is_empty() {
                return Check::ok(NAME, format!("version 1{hybrid}: limits work"));
            }
            Check::warning(
                NAME,
                format!("version 1{hybrid}: no limits of {}", missing.join(", ")),
                if facts.is_root {
                    "mount the controllers, or boot with `systemd.unified_cgroup_hierarchy=1`"
                } else {
                    "version 2, for ordinary users: boot with `systemd.unified_cgroup_hierarchy=1`"
                },
            )
        }
        CgroupFacts::V2 { writable: false, .. } => Check::warning(
            NAME,
            format!("version 2, not delegated to this user: {limits} are refused"),
            "log in by systemd, or run within `systemd-run --user --scope -p Delegate=yes`",
        ),
        CgroupFacts::V2 { controllers, .. } => {
            let wanted = ["memory", "cpu", "pids"];
            let missing: Vec<&str> =
                wanted.into_iter().filter(|name| !controllers.contains(*name)).collect();
            if missing.is_empty() {
                return Check::ok(NAME, "version 2: limits work");
            }
            Check::warning(
                NAME,
                format!("version 2: no limits of {}", missing.join(", ")),
                "`Delegate=cpu cpuset io memory pids` in `/etc/systemd/system/user@.service.d/delegate.conf`",
            )
        }
    }
}

fn network(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "network";
    if !facts.is_root {
        if facts.network_obstacles.is_empty() {
            return vec![Check::ok(NAME, "containers have a way out by pasta or slirp4netns")];
        }
        let told = |(found, remedy): &(String, String)| {
            Check::warning(NAME, format!("containers have no way out: {found}"), remedy.clone())
        };
        return facts.network_obstacles.iter().map(told).collect();
    }
    let mut checks = Vec::new();
    match &facts.packet_filter {
        Some(Err(error)) => checks.push(Check::warning(
            NAME,
            format!("the packet filter does not answer ({error}): no bridge, no published ports"),
            "`sudo modprobe nf_tables`, or `--network host` and `none` alone",
        )),
        _ => checks.push(Check::ok(
            NAME,
            if facts.forwarding {
                "bridge and packet filter; packets are passed on"
            } else {
                "bridge and packet filter; `net.ipv4.ip_forward` is switched on with the first container"
            },
        )),
    }
    if let Some(chain) = &facts.dropping_chain {
        checks.push(Check::warning(
            "firewall",
            format!("the chain {chain} drops what is passed on, and so what containers send"),
            "let the bridge through: `sudo iptables -I FORWARD -i corten0 -j ACCEPT` and the same with `-o`",
        ));
    }
    checks
}

fn fuse(facts: &Facts) -> Check {
    match &facts.fuse {
        Ok(()) => Check::ok("fuse", "`--device /dev/fuse` works"),
        Err(error) => Check::ok(
            "fuse",
            format!("`/dev/fuse` cannot be opened ({error}); nothing here needs it"),
        ),
    }
}

fn emulators(facts: &Facts) -> Check {
    const NAME: &str = "emulation";
    if let Some(name) = facts.unusable_emulators.first() {
        return Check::warning(
            NAME,
            format!("the emulator `{name}` is switched off, or is looked for in the image"),
            "`sudo corten system emulation --register`",
        );
    }
    if facts.emulated.is_empty() {
        return Check::ok(NAME, "none: images of this machine's processor only");
    }
    Check::ok(NAME, facts.emulated.join(", "))
}

fn gpu(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "gpu";
    let generate = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`";
    let driver = &facts.driver;
    let mut checks: Vec<Check> = Vec::new();
    match (&driver.version, driver.nodes.is_empty()) {
        (None, true) => {}
        (None, false) => checks.push(Check::warning(
            NAME,
            "there are nodes of an NVIDIA GPU, and no driver runs",
            "`sudo modprobe nvidia`, or install the driver",
        )),
        (Some(version), true) => checks.push(Check::warning(
            NAME,
            format!("NVIDIA's driver {version} runs, and there is no node of a GPU"),
            "`nvidia-smi` makes them, or says what is wrong",
        )),
        (Some(version), false) => {
            let count = driver.nodes.len();
            if driver.described.is_empty() {
                let found = format!("driver {version}, {count} GPUs, and no description of them");
                checks.push(Check::warning(NAME, found, generate));
            } else {
                checks.push(Check::ok(NAME, format!("driver {version}, {count} GPUs, described")));
            }
        }
    }
    if let Some(version) = &driver.version {
        let stale = driver.described_versions.iter().filter(|(_, described)| *described != version);
        checks.extend(stale.map(|(file, described)| {
            let found = format!("{file} is for the driver {described}, and {version} runs");
            Check::warning("cdi", found, generate)
        }));
    }
    let wrong = driver
        .problems
        .iter()
        .map(|problem| Check::warning("cdi", problem.clone(), "mend the file, or remove it"));
    checks.extend(wrong);
    checks
}

fn store(facts: &Facts) -> Check {
    let found = format!("{} on {}", facts.store.display(), facts.file_system);
    if facts.file_system == "tmpfs" {
        return Check::warning(
            "store",
            format!("{found}: it is gone after a boot, and takes memory"),
            "a store on a disk: `--root DIR`, or `root = \"DIR\"` in the configuration",
        );
    }
    Check::ok("store", found)
}

fn space(facts: &Facts) -> Vec<Check> {
    let Some(space) = facts.space else { return Vec::new() };
    let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30);
    let prune = "`corten system prune --all` removes what can be made again";
    let found = format!("{} free of {}", gib(space.free_bytes), gib(space.total_bytes));
    let mut checks = vec![if space.free_bytes < FREE_BYTES_MIN {
        Check::warning("disk", found, prune)
    } else {
        Check::ok("disk", found)
    }];
    // Some file systems have no fixed number of them.
    if space.total_inodes > 0 {
        let found = format!("{} free of {}", space.free_inodes, space.total_inodes);
        checks.push(if space.free_inodes < FREE_INODES_MIN {
            Check::warning("inodes", found, prune)
        } else {
            Check::ok("inodes", found)
        });
    }
    checks
}

fn names(facts: &Facts) -> Check {
    if facts.name_servers.is_empty() {
        return Check::warning(
            "names",
            "`/etc/resolv.conf` names no server: containers look up no names",
            "a line such as `nameserver 192.0.2.1` with your network's server",
        );
    }
    Check::ok("names", facts.name_servers.join(", "))
}

fn clock(facts: &Facts) -> Check {
    let now = corten_oci::time::rfc3339(facts.now);
    if facts.now < TIME_MIN {
        return Check::warning(
            "clock",
            format!("it is {now} here: no server's certificate is valid yet"),
            "set the clock: `sudo timedatectl set-ntp true`",
        );
    }
    Check::ok("clock", now)
}

fn open_files(facts: &Facts) -> Check {
    let (soft, hard) = facts.open_files;
    let shown =
        |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let found = format!("{} open files, {} at most", shown(soft), shown(hard));
    if hard < OPEN_FILES_MIN {
        let remedy = "`nofile` in `/etc/security/limits.conf`, or `LimitNOFILE=` of the unit";
        return Check::warning("limits", found, remedy);
    }
    Check::ok("limits", found)
}
