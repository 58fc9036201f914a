use super::*;
use crate::cgroup::Hierarchy;
use expect_test::{Expect, expect};

fn facts() -> Facts {
    let one = |name: &str| Hierarchy {
        mount: PathBuf::from("/sys/fs/cgroup").join(name),
        version: Version::V1,
        names: vec![name.to_owned()],
        own: "/".to_owned(),
    };
    Facts {
        last_capability: 40,
        kernel: (6, 1),
        may_mount: true,
        is_root: true,
        capabilities: u64::MAX,
        hierarchies: Hierarchies { all: vec![one("memory"), one("pids")] },
        ..Facts::default()
    }
}

/// A configuration with what every one needs, and this besides.
fn config(more: &serde_json::Value) -> Config {
    let mut json = serde_json::json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "noNewPrivileges": true},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    });
    merge(&mut json, more);
    serde_json::from_value(json).expect("a configuration")
}

fn merge(into: &mut serde_json::Value, more: &serde_json::Value) {
    match (into, more) {
        (serde_json::Value::Object(into), serde_json::Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.as_str()).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn planned(more: &serde_json::Value, facts: &Facts) -> Result<Plan, BundleError> {
    let config = config(more);
    let groups = Groups::plan(&facts.hierarchies, "/g", "id", false)?;
    plan(&config, Path::new("/b"), &Choices::default(), facts, &groups)
}

/// The steps, one a line, or why there are none.
fn check(more: &serde_json::Value, expected: &Expect) {
    let text = match planned(more, &facts()) {
        Ok(plan) => {
            let steps = plan.steps.iter().map(ToString::to_string);
            let last = plan.last.iter().map(|step| format!("then {step}"));
            let warnings = plan.warnings.iter().map(|text| format!("warning: {text}"));
            let all: Vec<String> = steps.chain(last).chain(warnings).collect();
            all.join("\n")
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&format!("{text}\n"));
}

#[test]
fn the_steps_follow_the_lifecycle() {
    check(
        &serde_json::json!({
            "hostname": "h",
            "root": {"readonly": true},
            "process": {
                "terminal": true,
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
                "capabilities": {"bounding": ["CAP_KILL", "CAP_NEW"]},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
            ],
            "hooks": {
                "prestart": [{"path": "/p"}],
                "createContainer": [{"path": "/c"}],
                "startContainer": [{"path": "/s"}],
            },
            "linux": {
                "namespaces": [
                    {"type": "mount"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"},
                ],
                "sysctl": {"net.ipv4.ip_forward": "1"},
                "maskedPaths": ["/proc/keys"],
                "readonlyPaths": ["/proc/sys"],
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
            },
        }),
        &expect![[r#"
            mount proc on `/proc`
            mount on `/data`
            wait for the control groups
            make a cgroup namespace
            mount tmpfs on `/sys/fs/cgroup`
            mount cgroup on `/sys/fs/cgroup/memory`
            mount cgroup on `/sys/fs/cgroup/pids`
            make read-only `/sys/fs/cgroup`
            make the device `/dev/null`
            make the device `/dev/zero`
            make the device `/dev/full`
            make the device `/dev/random`
            make the device `/dev/urandom`
            make the device `/dev/tty`
            make the link `/dev/fd`
            make the link `/dev/stdin`
            make the link `/dev/stdout`
            make the link `/dev/stderr`
            make the link `/dev/core`
            make the link `/dev/ptmx`
            make a terminal
            set the kernel setting `net.ipv4.ip_forward`
            make the directory `/`
            wait for the hooks
            run createContainer hooks
            change to the container's root file system
            make read-only `/proc/sys`
            mask `/proc/keys`
            make the root file system read-only
            set the host name `h`
            find the program
            set the limit `RLIMIT_NOFILE`
            then set the limit `RLIMIT_NOFILE`
            then hand over the standard descriptors
            then change to the directory `/`
            then drop capabilities
            then become user 0 and group 0
            then set the file mode mask
            then set the capabilities
            then give up new privileges
            then run startContainer hooks
            then install the system call filter
            warning: ignoring unknown or unavailable capabilities: CAP_NEW
        "#]],
    );
}

#[test]
fn without_no_new_privileges_the_filter_comes_before_the_user() {
    let more = serde_json::json!({
        "process": {"noNewPrivileges": false},
        "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
    });
    let plan = planned(&more, &facts()).expect("planned");
    let position = |wanted: &str| {
        plan.last.iter().position(|step| step.to_string().starts_with(wanted)).expect(wanted)
    };
    assert!(position("install the system call filter") < position("become user"));
}

#[test]
fn what_cannot_be_carried_out_is_refused() {
    let cases = [
        (serde_json::json!({"process": {"args": []}}), "process.args is empty"),
        (serde_json::json!({"process": {"cwd": "x"}}), "process.cwd is not an absolute path"),
        (serde_json::json!({"process": {"env": ["A"]}}), "is not of the form `name=value`"),
        (serde_json::json!({"hostname": "h"}), "without a private UTS namespace"),
        (serde_json::json!({"ociVersion": "2.0.0"}), "Corten knows version 1"),
        (serde_json::json!({"process": {"apparmorProfile": "p"}}), "AppArmor is not enabled"),
        (serde_json::json!({"process": {"selinuxLabel": "p"}}), "SELinux is not enabled"),
        (serde_json::json!({"process": {"rlimits": [{"type": "X"}]}}), "is no limit of processes"),
        (
            serde_json::json!({"process": {"rlimits": [
                {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1},
            ]}}),
            "is there twice",
        ),
        (
            serde_json::json!({"process": {"rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}}),
            "above the hard one",
        ),
        (
            serde_json::json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}}),
            "is there twice",
        ),
        (serde_json::json!({"linux": {"namespaces": [{"type": "x"}]}}), "is no kind of namespace"),
        (
            serde_json::json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}]}}),
            "needs uidMappings and gidMappings",
        ),
        (
            serde_json::json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}}),
            "is not allowed in the host's network namespace",
        ),
        (
            serde_json::json!({"linux": {"sysctl": {"vm.x": "1"}}}),
            "not in a separate kernel namespace",
        ),
        (serde_json::json!({"linux": {"intelRdt": {}}}), "intelRdt"),
        (serde_json::json!({"linux": {"rootfsPropagation": "x"}}), "is no propagation of mounts"),
        (
            serde_json::json!({"linux": {"timeOffsets": {"monotonic": {}}}}),
            "without a new time namespace",
        ),
        (serde_json::json!({"mounts": [{"destination": "/x"}]}), "has no type"),
        (serde_json::json!({"hooks": {"poststop": [{"path": "x"}]}}), "is not absolute"),
        (
            serde_json::json!({"hooks": {"poststop": [{"path": "/x", "timeout": 0}]}}),
            "not positive",
        ),
        (serde_json::json!({"linux": {"seccomp": {}}}), "no defaultAction"),
        (
            serde_json::json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}}}),
            "SCMP_ACT_NOTIFY is not supported",
        ),
        (
            serde_json::json!({"linux": {"devices": [{"type": "x", "path": "/d"}]}}),
            "a type that is none",
        ),
        (serde_json::json!({"linux": {"personality": {"domain": "X"}}}), "is no domain"),
        (serde_json::json!({"process": {"scheduler": {"policy": "X"}}}), "is no policy"),
        (serde_json::json!({"process": {"ioPriority": {"class": "X"}}}), "is no class"),
    ];
    for (more, expected) in cases {
        let error = planned(&more, &facts()).expect_err(expected).line();
        assert!(error.contains(expected), "{more}: {error}");
    }
}

#[test]
fn an_ordinary_user_needs_a_user_namespace() {
    let facts = Facts { may_mount: false, is_root: false, ..facts() };
    let error = planned(&serde_json::json!({}), &facts).expect_err("refused").line();
    assert!(error.contains("rootless container requires user namespaces"), "{error}");
    let map = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let more = serde_json::json!({
        "process": {"user": {"additionalGids": [7]}},
        "linux": {
            "namespaces": [{"type": "user"}, {"type": "mount"}],
            "uidMappings": map, "gidMappings": map,
        },
    });
    let plan = planned(&more, &facts).expect("planned");
    assert!(plan.last.iter().any(|step| matches!(step, Step::User { groups: None, .. })));
    assert_eq!(plan.warnings.len(), 1);
    // Nobody makes nodes there: the host's are mounted.
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Device { .. })));
}
