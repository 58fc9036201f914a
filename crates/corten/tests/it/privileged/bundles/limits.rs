//! Control groups: where a container's are and what is set there.

use std::path::{Path, PathBuf};

use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::{Value, json};

use super::{Bundles, text};

/// Whether a controller has a hierarchy of its own here.
fn has(controller: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(controller).is_dir()
}

fn group(controller: &str, name: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(controller).join(name.trim_start_matches('/'))
}

/// Makes a container that waits, with these resources, at a path.
fn create(all: &Bundles, name: &str, resources: &Value) -> String {
    let path = format!("/{}", all.id(name));
    let config = json!({"linux": {"cgroupsPath": path, "resources": resources}});
    let bundle = all.bundle(name, &config);
    all.begun(&["create", "--bundle", &bundle.to_string_lossy(), &all.id(name)]);
    path
}

#[test]
fn limits_of_version_1_are_what_was_asked_for() {
    require!(Need::Root, Need::Cgroup);
    if !has("memory") {
        return;
    }
    let all = Bundles::new();
    let path = create(
        &all,
        "limits",
        &json!({
            "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 128 << 20, "swappiness": 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 77},
        }),
    );
    let expected = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.swappiness", "20"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "77"),
    ];
    let pid = all.state(&all.id("limits"))["pid"].to_string();
    for (controller, file, value) in expected {
        let group = group(controller, &path);
        // Without an accounting of swap there is no such file.
        if !group.join(file).exists() && file.contains("memsw") {
            continue;
        }
        assert_eq!(text(&group.join(file)), value, "{file}");
        assert_eq!(text(&group.join("cgroup.procs")), pid, "{controller}");
    }
    let update = r#"{"pids":{"limit":88},"memory":{"limit":33554432},"cpu":{"shares":256}}"#;
    all.command(&["update", "--resources", "-", &all.id("limits")]).stdin(update).run().success();
    all.run(&["update", "--cpu-quota", "25000", &all.id("limits")]).success();
    for (controller, file, value) in [
        ("pids", "pids.max", "88"),
        ("memory", "memory.limit_in_bytes", "33554432"),
        ("cpu", "cpu.shares", "256"),
        ("cpu", "cpu.cfs_quota_us", "25000"),
    ] {
        assert_eq!(text(&group(controller, &path).join(file)), value, "{file}");
    }
    all.run(&["delete", "--force", &all.id("limits")]).success();
    for controller in ["memory", "cpu", "pids"] {
        assert!(!group(controller, &path).exists(), "{controller}");
    }
}

#[test]
fn groups_are_where_the_path_says() {
    require!(Need::Root, Need::Cgroup);
    if !has("pids") {
        return;
    }
    let all = Bundles::new();
    let membership = |name: &str, path: &str| {
        let config = json!({"linux": {"cgroupsPath": path}});
        let output = all.run_line(name, &config, "grep :pids: /proc/self/cgroup").success();
        output.stdout().trim_end().rsplit(':').next().unwrap_or_default().to_owned()
    };
    let tag = all.id("deep");
    assert_eq!(membership("absolute", &format!("/{tag}/a/b")), format!("/{tag}/a/b"));
    let own = text(Path::new("/proc/self/cgroup"));
    let own = own.lines().find_map(|line| line.split_once(":pids:")).map_or("/", |found| found.1);
    let relative = membership("relative", &format!("{tag}/c"));
    assert_eq!(relative, format!("{}/{tag}/c", own.trim_end_matches('/')));
    let without = membership("without", "");
    assert_eq!(without, format!("{}/{}", own.trim_end_matches('/'), all.id("without")));
    all.check_refused(&[("up", json!({"linux": {"cgroupsPath": "/a/../../b"}}), "has a `..`")]);
    let systemd = all.bundle(
        "systemd",
        &json!({"linux": {"cgroupsPath": format!("{tag}.slice:x:y")},
            "process": {"args": ["grep", ":pids:", "/proc/self/cgroup"]}}),
    );
    let output =
        all.run(&["--systemd-cgroup", "run", "-b", &systemd.to_string_lossy(), &all.id("s")]);
    assert!(output.success().stdout().trim_end().ends_with(".slice/x-y.scope"));
}

#[test]
fn in_its_own_namespace_a_container_sees_its_group_as_the_root() {
    require!(Need::Root, Need::Cgroup);
    let all = Bundles::new();
    let config = json!({
        "linux": {"+namespaces": [{"type": "cgroup"}]},
        "+mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}],
    });
    let line = "grep -v -E '^0:' /proc/self/cgroup | sed 's/.*://' | sort -u; \
                mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused; \
                (mkdir /sys/fs/cgroup/pids/x || mkdir /sys/fs/cgroup/x) 2>/dev/null || echo refused";
    let output = all.run_line("own", &config, line).success();
    assert_eq!(output.stdout(), "/\nrefused\nrefused\n");
}

#[test]
fn a_limit_that_cannot_be_set_is_an_error_and_leaves_nothing() {
    require!(Need::Root, Need::Cgroup);
    let all = Bundles::new();
    let resources = |value: Value| json!({"linux": {"resources": value}});
    all.check_refused(&[
        ("cpus", resources(json!({"cpu": {"cpus": "9999"}})), "cpuset.cpus"),
        (
            "pages",
            resources(json!({"hugepageLimits": [{"pageSize": "x", "limit": 1}]})),
            "huge pages",
        ),
        (
            "device",
            resources(json!({"devices": [{"allow": true, "type": "x"}]})),
            "no type of a device rule",
        ),
        ("rdt", json!({"linux": {"intelRdt": {"closID": "x"}}}), "linux.intelRdt is not supported"),
    ]);
}

#[test]
fn what_runs_out_of_memory_is_told() {
    require!(Need::Root, Need::Cgroup);
    if !has("memory") {
        return;
    }
    let all = Bundles::new();
    let config = json!({"linux": {"resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}}});
    let output =
        all.run_line("memory", &config, "x=$(head -c 100000000 /dev/zero | tr '\\0' x); true");
    assert_ne!(output.status.code(), Some(0), "{}", output.snapshot());
}
